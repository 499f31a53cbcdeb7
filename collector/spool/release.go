package spool

import (
	"errors"
	"fmt"
	"time"
)

// remembered is a deleted segment whose index still serves the duplicate window.
type remembered struct {
	first, end  uint64
	lastWritten int64 // Unix milliseconds
}

// Release gives up the records below position. The caller gives the lowest cursor of all destinations. Peek no longer shows them;
// whole segments of them are deleted at once, the active one when it is older than SegmentAge or holds much. After a restart, Head may
// lie lower again, down to the beginning of a segment.
func (s *Spool) Release(position uint64) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.released = max(s.released, min(position, s.tail()))
	s.mu.Unlock()
	return s.tidy()
}

// sweeper tidies after each roll, and when a segment may have become too old. What fails is tried again, and fails again, at the
// next Release, which reports it.
func (s *Spool) sweeper() {
	defer s.running.Done()
	tick := time.NewTicker(max(s.o.SegmentAge, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-s.sweep:
		case <-tick.C:
		}
		_ = s.tidy()
	}
}

// tidy closes an active segment that is too old, makes missing indexes, deletes released segments and indexes that the window has left behind.
func (s *Spool) tidy() error {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	var errs []error
	if err := s.writeLate(); err != nil {
		errs = append(errs, err)
	}
	if s.rollDue() {
		if err := s.rollNow(); err != nil {
			errs = append(errs, err)
		}
	}
	s.mu.Lock()
	sealed := append([]*segment(nil), s.segments[:len(s.segments)-1]...)
	released := s.released
	s.mu.Unlock()
	for _, g := range sealed {
		var err error
		if g.end <= released {
			err = s.drop(g)
		} else {
			err = s.index(g)
		}
		if err != nil {
			errs = append(errs, err)
			released = 0 // a segment is deleted only after those before it
		}
	}
	if err := s.forget(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// rollDue says whether the active segment should be closed: because of its age, or because all in it is released and that is worth a file.
func (s *Spool) rollDue() bool {
	now := s.o.Now().UnixMilli()
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.segments[len(s.segments)-1]
	return a.length > 0 && (now-a.opened >= s.o.SegmentAge.Milliseconds() ||
		s.released >= a.end && a.length >= s.o.SegmentBytes/16)
}

// index makes the index of a sealed segment durable.
func (s *Spool) index(g *segment) error {
	if g.indexed {
		return nil
	}
	x, err := makeIndex(s.disk, g.first, g.end)
	if err != nil {
		return fmt.Errorf("indexing segment: %w", err)
	}
	if err := writeIndex(s.disk, x); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.indexed = true
	return nil
}

// drop deletes the oldest segment, once its index is durable: its hashes must outlive it.
func (s *Spool) drop(g *segment) error {
	if err := s.index(g); full(err) && (s.late == nil || s.late.first == g.first) {
		// No room for the index. The segment makes some: the hashes are kept in memory for that long. Crash point: a restart here
		// forgets them, and the window lacks one segment; the loader's uniqueness by (site, event id) still holds.
		if s.late, err = makeIndex(s.disk, g.first, g.end); err != nil {
			s.late = nil
			return fmt.Errorf("indexing segment: %w", err)
		}
	} else if err != nil {
		return err
	}
	name := fileName(g.first, segmentSuffix)
	if err := remove(s.disk, name); err != nil {
		return fmt.Errorf("deleting %s: %w", name, err)
	}
	// Durable one by one: a gap between segments would be damage.
	if err := s.disk.Sync(); err != nil {
		return fmt.Errorf("deleting %s: %w", name, err)
	}
	s.live.Add(-g.length)
	s.mu.Lock()
	s.segments = s.segments[1:]
	s.mu.Unlock()
	s.remembered = append(s.remembered, remembered{g.first, g.end, g.lastWritten})
	return s.writeLate()
}

// writeLate writes the index for which there was no room.
func (s *Spool) writeLate() error {
	if s.late == nil {
		return nil
	}
	if err := writeIndex(s.disk, s.late); err != nil {
		return err
	}
	s.late = nil
	return nil
}

// forget deletes the indexes of deleted segments that the window no longer needs.
func (s *Spool) forget() error {
	now, tail := s.o.Now().UnixMilli(), s.Tail()
	for len(s.remembered) > 0 {
		r := s.remembered[0]
		if r.lastWritten+s.o.Window.Milliseconds() > now && tail-r.end < uint64(s.o.WindowCount) {
			return nil
		}
		name := fileName(r.first, indexSuffix)
		if err := remove(s.disk, name); err != nil {
			return fmt.Errorf("deleting %s: %w", name, err)
		}
		s.remembered = s.remembered[1:]
	}
	return nil
}
