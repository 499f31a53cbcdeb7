package spool

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// Many clients send overlapping ids at once: each id is stored once, and exactly one client is told so.
func TestConcurrent(t *testing.T) {
	o := options(t.TempDir())
	o.SegmentBytes = 16 << 10
	s := mustOpen(t, o)
	const clients, each = 16, 120
	var fresh atomic.Int64
	var sending, reading sync.WaitGroup
	for c := range clients {
		sending.Go(func() {
			for i := range each {
				duplicates, err := s.put(t.Context(), samples(fmt.Sprintf("shared-%d", i), fmt.Sprintf("own-%d-%d", c, i))...)
				if err != nil {
					t.Error(err)
					return
				}
				if !duplicates[0] {
					fresh.Add(1)
				}
				if duplicates[1] {
					t.Error("an id of one's own is no duplicate")
				}
			}
		})
	}
	seen := make(map[string]int)
	reading.Go(func() { follow(t, s, each*(clients+1), seen) })
	sending.Wait()
	reading.Wait()
	equal(t, "first copies", fresh.Load(), each)
	equal(t, "events", len(seen), each*(clients+1))
	for payload, n := range seen {
		if n != 1 {
			t.Errorf("%q was read %d times", payload, n)
		}
	}
	if st := s.Stats(); st.Groups >= clients*each {
		t.Errorf("no two appends shared an fsync: %+v", st)
	}
}

// follow reads and releases as a shipper does, up to end, and counts the payloads.
func follow(t *testing.T, s *Spool, end uint64, seen map[string]int) {
	for position := uint64(0); position < end; {
		err := s.Wait(t.Context(), position)
		var records []Record
		if err == nil {
			records, err = s.Peek(t.Context(), position, 50)
		}
		for _, r := range records {
			if r.Position != position {
				t.Errorf("position %d, want %d", r.Position, position)
			}
			seen[string(r.Event.Payload)]++
			position++
		}
		if err == nil {
			err = s.Release(position)
		}
		if err != nil {
			t.Error(err)
			return
		}
		s.Stats()
		s.LeastSequence()
	}
}
