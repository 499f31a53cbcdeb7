package spool

// floor keeps events out whose grants were checked too long ago: revocations since then may have been forgotten, and the shipper
// could not see them any more.
type floor struct {
	sequence uint64 // events below it are refused
	group    uint64 // what it was when the writer took the group it is busy with
	busy     bool
}

// Bar refuses, from now on, events whose revocation sequence is below sequence (ErrStale), and answers the least sequence that what is
// spooled, or is being written, can have: revocations up to there can be forgotten. A lower sequence than before bars nothing more.
func (s *Spool) Bar(sequence uint64) (least uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor.sequence = max(s.floor.sequence, sequence)
	least = s.floor.sequence
	if s.floor.busy {
		least = min(least, s.floor.group)
	}
	if spooled, ok := s.spooledLeast(); ok {
		least = min(least, spooled)
	}
	return least
}

// spooledLeast is a lower bound of the revocation sequences of what is spooled; ok is false when nothing is. The caller holds mu.
func (s *Spool) spooledLeast() (sequence uint64, ok bool) {
	head := s.head()
	for _, g := range s.segments {
		if g.length > 0 && g.end > head && (!ok || g.least < sequence) {
			sequence, ok = g.least, true
		}
	}
	return sequence, ok
}

// letIn is the floor for the group that the writer begins, until letInDone.
func (s *Spool) letIn() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor.busy, s.floor.group = true, s.floor.sequence
	return s.floor.group
}

func (s *Spool) letInDone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor.busy = false
}
