package subject

import (
	"encoding/binary"
	"sync/atomic"
)

// keyring holds the keys of all slots that were given out, 32 bytes a slot. Reading takes no lock, allocates nothing, and costs one
// cache line that is far away; add and give are called under the slot file's lock, wipe from anywhere.
type keyring struct {
	segments atomic.Pointer[[]*segment] // grown by appending: an older list stays right for as long as it is looked at
	chunks   uint32                     // under the slot file's lock
}

// segment is 64 chunks of the slot file: 2 MiB of keys, of which the system gives memory as they are given out.
type segment struct {
	keys  [segmentChunks * chunkSlots]slotKey
	kinds [segmentChunks]Kind          // of each chunk; written before its first key
	given [segmentChunks]atomic.Uint32 // slots of each chunk that were given out, from its first; grows
}

const segmentChunks = 64

// slotKey is a key as four little-endian words. All zero: wiped, or never there. A key's first word is never zero.
type slotKey [4]atomic.Uint64

func (k *slotKey) store(key *[32]byte) {
	for i := len(k) - 1; i >= 0; i-- {
		k[i].Store(binary.LittleEndian.Uint64(key[8*i:]))
	}
}

// load copies the key; false where it was wiped. wipe clears the first word first, so a first word that is still there after
// the others were read says that all four were.
func (k *slotKey) load(key *[32]byte) bool {
	for i := range k {
		binary.LittleEndian.PutUint64(key[8*i:], k[i].Load())
	}
	if k[0].Load() == 0 {
		clear(key[:])
		return false
	}
	return true
}

func (k *slotKey) wipe() {
	for i := range k {
		k[i].Store(0)
	}
}

// add appends a chunk of which given slots were given out.
func (r *keyring) add(given givenSlots) {
	var list []*segment
	if p := r.segments.Load(); p != nil {
		list = *p
	}
	if r.chunks%segmentChunks == 0 {
		list = append(list, new(segment))
		r.segments.Store(&list)
	}
	seg, i := list[r.chunks/segmentChunks], r.chunks%segmentChunks
	seg.kinds[i] = given.kind
	seg.given[i].Store(given.n)
	r.chunks++
}

// segment is the one that holds a slot, nil where the file does not reach it.
func (r *keyring) segment(slot Slot) (seg *segment, i uint32) {
	p := r.segments.Load()
	if slot == 0 || p == nil {
		return nil, 0
	}
	number, i := uint32(slot-1)/(segmentChunks*chunkSlots), uint32(slot-1)%(segmentChunks*chunkSlots)
	if int(number) >= len(*p) {
		return nil, 0
	}
	return (*p)[number], i
}

// get is the subject of a slot: ErrUnknown where it was never given out, ErrShredded where its key was wiped.
func (r *keyring) get(slot Slot) (Subject, error) {
	seg, i := r.segment(slot)
	if seg == nil {
		return Subject{}, ErrUnknown
	}
	s := Subject{slot: slot}
	if seg.keys[i].load(&s.key) {
		s.kind = seg.kinds[i/chunkSlots]
		return s, nil
	}
	if i%chunkSlots >= seg.given[i/chunkSlots].Load() {
		return Subject{}, ErrUnknown
	}
	return Subject{}, ErrShredded
}

// give puts a key in its place; slots of a chunk are given out in order.
func (r *keyring) give(slot Slot, key *[32]byte) {
	seg, i := r.segment(slot)
	seg.keys[i].store(key)
	seg.given[i/chunkSlots].Store(i%chunkSlots + 1)
}

// restore puts back the key of a slot that was given out by an earlier run.
func (r *keyring) restore(slot Slot, key *[32]byte) {
	seg, i := r.segment(slot)
	seg.keys[i].store(key)
}

// wipe clears a slot's key; false where the slot was never given out.
func (r *keyring) wipe(slot Slot) bool {
	seg, i := r.segment(slot)
	if seg == nil || i%chunkSlots >= seg.given[i/chunkSlots].Load() {
		return false
	}
	seg.keys[i].wipe()
	return true
}

// each calls fn for every slot whose key is there, by number.
func (r *keyring) each(fn func(Subject)) {
	p := r.segments.Load()
	if p == nil {
		return
	}
	for n, seg := range *p {
		for i := range seg.keys {
			s := Subject{slot: Slot(n*len(seg.keys) + i + 1)}
			if seg.keys[i].load(&s.key) {
				s.kind = seg.kinds[i/chunkSlots]
				fn(s)
			}
		}
	}
}

// given is the number of slots ever given out.
func (r *keyring) given() (n int) {
	p := r.segments.Load()
	if p == nil {
		return 0
	}
	for _, seg := range *p {
		for i := range seg.given {
			n += int(seg.given[i].Load())
		}
	}
	return n
}
