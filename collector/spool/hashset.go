package spool

import "encoding/binary"

// hashSet is a set of hashes. They are random to everyone without the key, so their own first bytes say where they stand: a look costs
// one cache line, where a map hashes again. The zero value is an empty set; the zero hash is in none.
type hashSet struct {
	places []hash // a power of two; the zero hash: free
	count  int
}

const leastPlaces = 64

// place is where h stands, or would.
func (s *hashSet) place(h hash) int {
	mask := len(s.places) - 1
	for i := int(binary.LittleEndian.Uint64(h[:8])) & mask; ; i = (i + 1) & mask {
		if s.places[i] == h || s.places[i] == (hash{}) {
			return i
		}
	}
}

func (s *hashSet) has(h hash) bool {
	return s.count > 0 && h != (hash{}) && s.places[s.place(h)] == h
}

// add says whether h is new to the set.
func (s *hashSet) add(h hash) bool {
	if 3*(s.count+1) > 2*len(s.places) {
		s.grow()
	}
	i := s.place(h)
	if s.places[i] == h {
		return false
	}
	s.places[i] = h
	s.count++
	return true
}

func (s *hashSet) grow() {
	old := s.places
	s.places = make([]hash, max(leastPlaces, 2*len(old)))
	for _, h := range old {
		if h != (hash{}) {
			s.places[s.place(h)] = h
		}
	}
}

// clear empties the set and keeps its memory, unless that is much.
func (s *hashSet) clear() {
	if len(s.places) > 1<<16 {
		s.places = nil
	}
	clear(s.places)
	s.count = 0
}
