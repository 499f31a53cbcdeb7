package consent

import (
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/octroi/octroi/pseudonymize/subject"
)

// The cache holds at most its bound, and what it holds is what was put last.
func TestWarmIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWarm(4 << pageBits)
		last := map[subject.Slot]*verdict{}
		for _, slot := range rapid.SliceOfN(rapid.Uint32Range(1, 40<<pageBits), 1, 200).Draw(t, "slots") {
			v := &verdict{record: slot}
			w.put(subject.Slot(slot), v)
			last[subject.Slot(slot)] = v
			if x := w.at(subject.Slot(slot)); x == nil || x.Load() != v {
				t.Fatal("what was put is not there")
			}
		}
		pages := map[uint32]bool{}
		for slot, v := range last {
			if x := w.at(slot); x != nil {
				pages[uint32(slot>>pageBits)] = true
				if got := x.Load(); got != nil && got != v {
					t.Fatalf("slot %d holds an older standing", slot)
				}
			}
		}
		if len(w.pages) > 4 || len(pages) > 4 {
			t.Fatalf("%d pages, bound 4", len(pages))
		}
	})
}

// A page that is read stays when others are not.
func TestWarmKeepsWhatIsRead(t *testing.T) {
	w := newWarm(4 << pageBits)
	for n := range 100 {
		w.put(subject.Slot(n<<pageBits), &verdict{})
		if w.at(0) == nil {
			t.Fatalf("the page that is read was dropped after %d", n)
		}
	}
}

func TestWarmRace(t *testing.T) {
	w := newWarm(2 << pageBits)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20_000 {
				slot := subject.Slot(rand.Uint32N(5 << pageBits))
				if x := w.at(slot); x != nil {
					if v := x.Load(); v != nil && v.record != uint32(slot) {
						t.Errorf("slot %d answers for %d", slot, v.record)
						return
					}
				}
			}
		})
	}
	for range 20_000 {
		slot := rand.Uint32N(5 << pageBits)
		w.put(subject.Slot(slot), &verdict{record: slot})
	}
	wg.Wait()
}

// The set answers as a list of all revocations would.
func TestRevocationSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type row struct {
			x        revocation
			sequence uint64
		}
		var r revocations
		var all []row
		kept := uint64(0)
		slots := rapid.SampledFrom([]subject.Slot{1, 2, 1 + 1<<14, 2 + 1<<14})
		purposes := rapid.SampledFrom([]string{"", "a", "b"})
		for n := range rapid.IntRange(0, 40).Draw(t, "n") {
			x := row{revocation{slots.Draw(t, "slot"), purposes.Draw(t, "purpose")}, uint64(n + 1)}
			r.add(x.x, x.sequence)
			all = append(all, x)
		}
		if rapid.Bool().Draw(t, "forget") {
			kept = rapid.Uint64Range(0, 45).Draw(t, "up to")
			r.forget(kept)
		}
		for range 20 {
			slot, purpose := slots.Draw(t, "slot?"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "purpose?")
			after := rapid.Uint64Range(kept, 45).Draw(t, "after") // the shipper asks about nothing older than what it let go
			want := false
			for _, y := range all {
				want = want || y.sequence > after && y.x.slot == slot && (y.x.purpose == purpose || y.x.purpose == "")
			}
			if got := r.after(slot, purpose, after); got != want {
				t.Fatalf("slot %d %q after %d: %v", slot, purpose, after, got)
			}
		}
	})
}
