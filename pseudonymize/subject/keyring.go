package subject

import (
	"encoding/binary"
	"sync/atomic"
)

// keyring holds the keys of all slots in memory, 32 bytes a slot. Reading takes no lock and allocates nothing; add is called under the
// slot file's lock, wipe from anywhere.
type keyring struct {
	chunks atomic.Pointer[[]*chunk] // grown by appending: an older list stays right for as long as it is looked at
}

// chunk is 1024 slots of one kind.
type chunk struct {
	number uint32
	kind   Kind
	given  atomic.Uint32 // slots given out, from the first; grows
	keys   *chunkKeys    // nil where none was given out before this run
}

type chunkKeys [chunkSlots]slotKey

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

func (r *keyring) list() []*chunk {
	if p := r.chunks.Load(); p != nil {
		return *p
	}
	return nil
}

func (r *keyring) len() int { return len(r.list()) }

func (r *keyring) add(c *chunk) {
	list := append(r.list(), c)
	r.chunks.Store(&list)
}

// find is the place of a slot's key, nil where the slot was never given out.
func (r *keyring) find(slot Slot) (*chunk, *slotKey) {
	if slot == 0 {
		return nil, nil
	}
	number, i := position(slot)
	list := r.list()
	if int(number) >= len(list) {
		return nil, nil
	}
	c := list[number]
	if i >= c.given.Load() {
		return nil, nil
	}
	return c, &c.keys[i]
}

// get is the subject of a slot: ErrUnknown where it was never given out, ErrShredded where its key was wiped.
func (r *keyring) get(slot Slot) (Subject, error) {
	c, k := r.find(slot)
	if k == nil {
		return Subject{}, ErrUnknown
	}
	s := Subject{slot: slot, kind: c.kind}
	if !k.load(&s.key) {
		return Subject{}, ErrShredded
	}
	return s, nil
}

// wipe clears a slot's key; false where the slot was never given out.
func (r *keyring) wipe(slot Slot) bool {
	_, k := r.find(slot)
	if k != nil {
		k.wipe()
	}
	return k != nil
}

// given is the number of slots ever given out.
func (r *keyring) given() int {
	n := 0
	for _, c := range r.list() {
		n += int(c.given.Load())
	}
	return n
}
