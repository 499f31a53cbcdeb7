package subject

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
)

// BenchmarkTag compares ways to compute a tag. "subject" is what this package does.
func BenchmarkTag(b *testing.B) {
	id, err := Normalise("email", "jane.doe@shop.example", "")
	if err != nil {
		b.Fatal(err)
	}
	c := mintCredential()
	key := freshKey()
	r := &Registry{tagger: newTagger(&key)}
	b.Run("subject/email", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = r.Tag(id)
		}
	})
	b.Run("subject/credential", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = r.TagOf(c)
		}
	})
	message := "email\x00" + id.value
	b.Run("written out", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			sum := authenticate(&key, message, "")
			_ = Tag(sum[:16])
		}
	})
	b.Run("fresh crypto∕hmac", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			mac := hmac.New(sha256.New, key[:])
			mac.Write([]byte(message))
			_ = Tag(mac.Sum(nil))
		}
	})
}

func BenchmarkNormalise(b *testing.B) {
	for _, c := range [][2]string{{"email", "Jane.Doe@Shop.Example"}, {"email", "JOSÉ@bücher.example"}, {"phone", "06 12 34 56 78"}, {"loyalty", "0001234567"}} {
		b.Run(c[0]+" "+c[1], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Normalise(c[0], c[1], "FR")
			}
		})
	}
}

const million = 1_000_000

// populated is a registry that knows n devices, all in memory, in a file without a disk.
func populated(tb testing.TB, n int) (*Registry, []Tag) {
	tb.Helper()
	key := freshKey()
	r := &Registry{tagger: newTagger(&key), tags: newTagTable(defaultCacheSize), slots: &slotFile{file: nowhere{}}}
	tags := make([]Tag, n)
	for i := range tags {
		s, _, err := r.slots.give(Device)
		if err != nil {
			tb.Fatal(err)
		}
		tags[i] = r.TagOf(mintCredential())
		r.tags.put(tags[i], s.slot)
	}
	return r, tags
}

// nowhere is a file that keeps nothing.
type nowhere struct{ blockFile }

func (nowhere) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
func (nowhere) Sync() error                            { return nil }

// BenchmarkLookup compares tag → subject, warm, with 1 million subjects, to bare maps of the same keys, in random order.
func BenchmarkLookup(b *testing.B) {
	r, tags := populated(b, million)
	slots := make(map[Tag]Slot, million)
	subjects := make(map[Tag]Subject, million)
	for _, tag := range tags {
		s, err := r.find(tag)
		if err != nil {
			b.Fatal(err)
		}
		slots[tag], subjects[tag] = s.slot, s
	}
	random := rand.New(rand.NewPCG(1, 2))
	order := make([]Tag, 1<<20)
	for i := range order {
		order[i] = tags[random.IntN(million)]
	}
	var n int
	next := func() Tag { n++; return order[n&(1<<20-1)] }
	var got Slot
	b.Run("bare map[Tag]Slot", func(b *testing.B) {
		for b.Loop() {
			got += slots[next()]
		}
	})
	b.Run("bare map[Tag]Subject", func(b *testing.B) {
		for b.Loop() {
			got += subjects[next()].slot
		}
	})
	b.Run("subject", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s, err := r.find(next())
			if err != nil {
				b.Fatal(err)
			}
			got += s.slot
		}
	})
	b.Run("table only", func(b *testing.B) {
		for b.Loop() {
			slot, _ := r.tags.get(next())
			got += slot
		}
	})
	b.Run("subject/parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			i := rand.IntN(1 << 20)
			for pb.Next() {
				i++
				if _, err := r.find(order[i&(1<<20-1)]); err != nil {
					b.Error(err)
				}
			}
		})
	})
	runtime.KeepAlive(got)
}

// BenchmarkMemory reports what a known subject takes in memory: key, and tag with its slot.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{million, 2 * million} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				r, _ := populated(b, n)
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapInuse-before.HeapInuse)/float64(n), "B/subject")
				runtime.KeepAlive(r)
			}
		})
	}
}

// BenchmarkOpen reads the slots of 1 million subjects.
func BenchmarkOpen(b *testing.B) {
	path, _, known := filled(b, million/2)
	b.SetBytes(million * slotSize)
	for b.Loop() {
		s, err := readSlotFile(path, known)
		if err != nil {
			b.Fatal(err)
		}
		_ = s.file.Close()
	}
}

// BenchmarkFind looks for a thousand marks, a few of which are there, among a million subjects.
func BenchmarkFind(b *testing.B) {
	r, _ := populated(b, million)
	key := freshKey()
	r.suppression = &key
	marks := map[Remnant]bool{}
	for i := range 1000 {
		marks[Remnant{byte(i), byte(i >> 8)}] = true
	}
	for slot := Slot(1); slot <= million; slot += million / 10 {
		s, err := r.BySlot(slot)
		if err != nil {
			b.Fatal(err)
		}
		marks[r.remnantOf(&s)] = true
	}
	for b.Loop() {
		if found, err := r.Find(marks); err != nil || len(found) != 10 {
			b.Fatal(len(found), err)
		}
	}
}
