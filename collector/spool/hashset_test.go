package spool

import (
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"
)

// A hashSet is a set, also when hashes share their first bytes and so fight for one place.
func TestHashSetIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s hashSet
		model := map[hash]bool{}
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			var h hash
			binary.LittleEndian.PutUint64(h[:8], uint64(rapid.IntRange(0, 5).Draw(t, "place")))
			h[15] = byte(rapid.IntRange(1, 40).Draw(t, "hash"))
			if rapid.IntRange(0, 99).Draw(t, "clear") == 0 {
				s.clear()
				clear(model)
			}
			if s.has(h) != model[h] {
				t.Fatalf("has %x: %v", h, s.has(h))
			}
			if s.add(h) == model[h] {
				t.Fatalf("adding %x, which is in it: %v", h, model[h])
			}
			model[h] = true
			if s.count != len(model) {
				t.Fatalf("%d hashes, want %d", s.count, len(model))
			}
		}
		for h := range model {
			if !s.has(h) {
				t.Fatalf("lost %x", h)
			}
		}
	})
	if (&hashSet{}).has(hash{}) {
		t.Error("the zero hash is in an empty set")
	}
}
