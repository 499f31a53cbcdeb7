package subject

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func randomTag(r *rand.Rand) (tag Tag) {
	binary.BigEndian.PutUint64(tag[:], r.Uint64())
	binary.BigEndian.PutUint64(tag[8:], r.Uint64())
	return tag
}

// Against a map: the table may not know what the map knows, and never says anything else than the map.
func TestTagTableAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]int{0, 64 * 20, 64 * 500}).Draw(t, "limit")
		table := newTagTable(limit)
		model := map[Tag]Slot{}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var tags []Tag
		for range 200 {
			tag := randomTag(random)
			tag[0] &= 0x04 // two shards, so that they fill
			tags = append(tags, tag)
		}
		for n := range rapid.IntRange(1, 1000).Draw(t, "steps") {
			tag := tags[random.IntN(len(tags))]
			switch random.IntN(4) {
			case 0:
				table.put(tag, Slot(n+1))
				model[tag] = Slot(n + 1)
			case 1:
				table.forget(tag)
				delete(model, tag)
			case 2:
				if known, ok := model[tag]; ok {
					table.fill(tag, known)
				}
			case 3:
				if got, ok := table.get(tag); ok && got != model[tag] {
					t.Fatalf("slot %d, want %d", got, model[tag])
				}
			}
		}
		if limit == 64*500 { // nothing was thinned out
			for _, tag := range tags {
				if got, ok := table.get(tag); got != model[tag] || ok != (model[tag] != 0) {
					t.Fatalf("slot %d, want %d", got, model[tag])
				}
			}
		}
	})
}

// What a slow reader read before a commit does not undo the commit.
func TestTagTableFillYieldsToPut(t *testing.T) {
	table := newTagTable(0)
	tag := Tag{1}
	table.put(tag, 2)
	table.fill(tag, 1)
	if slot, _ := table.get(tag); slot != 2 {
		t.Fatalf("slot %d, want 2", slot)
	}
}

func TestTagTableIsBounded(t *testing.T) {
	const limit = 64 * 100
	table := newTagTable(limit)
	random := rand.New(rand.NewPCG(1, 2))
	hot := randomTag(random)
	table.put(hot, 1)
	for n := range 6 * limit {
		table.put(randomTag(random), Slot(n+2))
		if slot, ok := table.get(hot); !ok || slot != 1 {
			t.Fatalf("a tag in use was dropped after %d others", n)
		}
	}
	used, size := 0, 0
	for i := range table.shards {
		used += table.shards[i].used
		size += len(*table.shards[i].entries.Load())
	}
	if used > limit || used < limit/2 || size > 4*limit {
		t.Fatalf("%d used of %d, %d entries", used, limit, size)
	}
}

func TestTagTableForgottenPlacesAreUsedAgain(t *testing.T) {
	table := newTagTable(0)
	random := rand.New(rand.NewPCG(3, 4))
	for n := range 20_000 {
		tag := randomTag(random)
		table.put(tag, Slot(n+1))
		table.forget(tag)
	}
	for i := range table.shards {
		if used := table.shards[i].used; used > minShard {
			t.Fatalf("%d used", used)
		}
	}
}

// Readers beside writers: found or not, never another tag's slot. Slots here are a function of the tag.
func TestTagTableConcurrently(t *testing.T) {
	table := newTagTable(64 * 40)
	random := rand.New(rand.NewPCG(5, 6))
	tags := make([]Tag, 5000)
	for i := range tags {
		tags[i] = randomTag(random)
	}
	slotOf := func(tag Tag) Slot { return Slot(tag[0])<<8 + Slot(tag[1]) + 1 }
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(worker)))
			for range 20_000 {
				tag := tags[random.IntN(len(tags))]
				switch random.IntN(8) {
				case 0:
					table.put(tag, slotOf(tag))
				case 1:
					table.fill(tag, slotOf(tag))
				case 2:
					table.forget(tag)
				default:
					if slot, ok := table.get(tag); ok && slot != slotOf(tag) {
						t.Error("another tag's slot")
						return
					}
				}
			}
		})
	}
	wg.Wait()
}
