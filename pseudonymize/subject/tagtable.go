package subject

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// tagTable is the bounded memory of tags and their slots. Reading takes no lock and allocates nothing; a hit costs one or two cache
// lines (24 bytes an entry, open addressing, the tag is its own hash because it is the output of a keyed one).
//
// What it says may be late, never wrong for long: a slot is never reused, so an entry that a slow reader adds after its subject was shredded points to
// a wiped key, which the caller takes for unknown. Absence is not remembered.
type tagTable struct {
	shards [64]tagShard
	limit  int // tags a shard keeps
}

type tagShard struct {
	entries atomic.Pointer[[]tagEntry] // length is a power of two, at most 3/4 of it used; replaced when it grows or is thinned out
	mu      sync.Mutex                 // guards used and everything that is written
	used    int
	_       [40]byte // one cache line a shard
}

// tagEntry is written once, before slot is stored; then only slot and touched change.
type tagEntry struct {
	hi, lo  uint64
	slot    atomic.Uint32 // 0: free, ends a probe; forgotten: the tag was deleted
	touched atomic.Uint32 // 1 when found or added since the last thinning
}

const forgotten = ^uint32(0)

const minShard = 16

func newTagTable(size int) *tagTable {
	t := &tagTable{}
	t.limit = max(size/len(t.shards), minShard)
	for i := range t.shards {
		entries := make([]tagEntry, 2*minShard)
		t.shards[i].entries.Store(&entries)
	}
	return t
}

func (tag Tag) words() (hi, lo uint64) {
	return binary.BigEndian.Uint64(tag[:8]), binary.BigEndian.Uint64(tag[8:])
}

func (t *tagTable) shard(hi uint64) *tagShard { return &t.shards[hi>>58] }

// probe finds the entry of a tag, or the free one where it would stand.
func probe(entries []tagEntry, hi, lo uint64) *tagEntry {
	mask := uint64(len(entries) - 1)
	for i := lo & mask; ; i = (i + 1) & mask {
		e := &entries[i]
		if e.slot.Load() == 0 || (e.hi == hi && e.lo == lo) {
			return e
		}
	}
}

// get is the slot of a tag.
func (t *tagTable) get(tag Tag) (Slot, bool) {
	hi, lo := tag.words()
	e := probe(*t.shard(hi).entries.Load(), hi, lo)
	slot := e.slot.Load()
	if slot == 0 || slot == forgotten || e.hi != hi || e.lo != lo {
		return 0, false
	}
	if e.touched.Load() == 0 {
		e.touched.Store(1)
	}
	return Slot(slot), true
}

// put remembers what a commit made.
func (t *tagTable) put(tag Tag, slot Slot) { t.write(tag, uint32(slot), true) }

// fill remembers what was read from state, unless a commit has spoken in between.
func (t *tagTable) fill(tag Tag, slot Slot) { t.write(tag, uint32(slot), false) }

// forget drops a tag.
func (t *tagTable) forget(tag Tag) {
	hi, lo := tag.words()
	s := t.shard(hi)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := probe(*s.entries.Load(), hi, lo); e.slot.Load() != 0 {
		e.slot.Store(forgotten)
	}
}

func (t *tagTable) write(tag Tag, slot uint32, replace bool) {
	hi, lo := tag.words()
	s := t.shard(hi)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := probe(*s.entries.Load(), hi, lo)
	switch old := e.slot.Load(); {
	case old == 0:
		s.makeRoom(t.limit)
		e = probe(*s.entries.Load(), hi, lo)
		e.hi, e.lo = hi, lo
		s.used++
	case old != forgotten && !replace:
		return
	}
	e.touched.Store(1)
	e.slot.Store(slot)
}

// makeRoom makes sure that one more entry fits: at the limit it keeps what was used lately, below it doubles the entries.
func (s *tagShard) makeRoom(limit int) {
	old := *s.entries.Load()
	switch {
	case s.used >= limit:
		s.thinOut(old, limit)
	case (s.used+1)*4 > len(old)*3:
		entries := make([]tagEntry, 2*len(old))
		s.used = 0
		for i := range old {
			s.used += carry(entries, &old[i], old[i].touched.Load())
		}
		s.entries.Store(&entries)
	}
}

// thinOut keeps up to three quarters of the limit, touched entries before others (second chance).
func (s *tagShard) thinOut(old []tagEntry, limit int) {
	entries := make([]tagEntry, len(old))
	keep := limit * 3 / 4
	s.used = 0
	for _, touched := range []uint32{1, 0} {
		for i := range old {
			if s.used < keep && old[i].touched.Load() == touched {
				s.used += carry(entries, &old[i], 0)
			}
		}
	}
	s.entries.Store(&entries)
}

// carry copies a live entry into a new table and counts it.
func carry(to []tagEntry, e *tagEntry, touched uint32) int {
	slot := e.slot.Load()
	if slot == 0 || slot == forgotten {
		return 0
	}
	free := probe(to, e.hi, e.lo)
	free.hi, free.lo = e.hi, e.lo
	free.touched.Store(touched)
	free.slot.Store(slot)
	return 1
}
