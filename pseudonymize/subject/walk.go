package subject

// Next is the living subject with the lowest slot above after; ok is false where there is none. Whoever must come by every subject, and be able to go
// on where a crash stopped, remembers the slot. It takes no lock; subjects made meanwhile may be among them or not.
func (r *Registry) Next(after Slot) (s Subject, ok bool) { return r.slots.keys.next(after) }

// next is the first slot above after whose key is there.
func (r *keyring) next(after Slot) (Subject, bool) {
	for slot := after + 1; slot > after; slot++ {
		seg, i := r.segment(slot)
		if seg == nil {
			return Subject{}, false
		}
		if i%chunkSlots >= seg.given[i/chunkSlots].Load() { // the rest of this chunk was never given out
			slot += chunkSlots - 1 - Slot(i%chunkSlots)
			continue
		}
		if s, err := r.get(slot); err == nil {
			return s, true
		}
	}
	return Subject{}, false
}
