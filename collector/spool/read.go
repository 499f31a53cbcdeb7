package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sort"

	"github.com/octroi/octroi/pseudonymize"
)

// Record is one spooled event and its position. Positions grow by one and are never reused; the first is 0.
type Record struct {
	Position uint64
	Event    pseudonymize.Sealed
}

// peekBytes bounds what one Peek holds in memory, give or take a block.
const peekBytes = 16 << 20

// Peek reads durable records from position on, at most max, in order; fewer at the end, or where they hold more than 16 MiB; none only
// at the end. Records already released are gone: it begins at the first that is left. It opens no payload: a record whose
// subject was destroyed is still there, and its Open says so. ErrDamaged names the segment and the offset; ErrClosed.
func (s *Spool) Peek(ctx context.Context, position uint64, max int) ([]Record, error) {
	var records []Record
	for bytes := 0; len(records) < max && bytes < peekBytes; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		from, first, c, err := s.find(position)
		if err != nil {
			return nil, err
		}
		if c.length == 0 {
			break
		}
		n := len(records)
		if records, err = s.read(records, first, c, from, max); errors.Is(err, fs.ErrNotExist) && s.Head() > from {
			continue // it was released meanwhile
		}
		if err == nil && len(records) == n {
			err = damaged(fileName(first, segmentSuffix), c.length, "records are missing")
		}
		if err != nil {
			return nil, s.orClosed(err)
		}
		position = records[len(records)-1].Position + 1
		for _, r := range records[n:] {
			bytes += len(r.Event.Payload) + recordHeader
		}
	}
	return records, nil
}

// orClosed is ErrClosed if err may come from closing the spool meanwhile.
func (s *Spool) orClosed(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return err
}

// find gives the content of the segment with the first record at or above position that is left; an empty one at the end.
func (s *Spool) find(position uint64) (from, first uint64, c content, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, 0, content{}, ErrClosed
	}
	from = max(position, s.head())
	i := sort.Search(len(s.segments), func(i int) bool { return s.segments[i].end > from })
	if i == len(s.segments) {
		return from, 0, content{}, nil
	}
	return from, s.segments[i].first, s.segments[i].content, nil
}

// read appends the records of one segment from position from on, until there are max or peekBytes are read.
func (s *Spool) read(records []Record, first uint64, c content, from uint64, max int) ([]Record, error) {
	name := fileName(first, segmentSuffix)
	f, err := s.disk.Open(name, false)
	if err != nil {
		return nil, fmt.Errorf("opening segment: %w", err)
	}
	defer f.Close()
	m := sort.Search(len(c.marks), func(i int) bool { return c.marks[i].position > from }) - 1
	b, begun, next := readBlocks(f, name, c.marks[m].offset, c.length), int64(-1), c.marks[m].position
	for b.left > 0 && len(records) < max && (begun < 0 || b.offset-begun < peekBytes) {
		h, err := b.header()
		if err == nil && h.first != next {
			err = errTorn
		}
		if err == nil && h.end() <= from {
			err, next = b.skip(h), h.end()
			if err == nil {
				continue
			}
		}
		at := b.offset
		var raw []byte
		if err == nil {
			raw, err = b.take(h, true)
		}
		if err == nil {
			err = h.each(raw, func(position uint64, r record) {
				if position >= from && len(records) < max {
					records = append(records, Record{position, r.sealed()})
				}
			})
		}
		if errors.Is(err, errTorn) || errors.Is(err, errVersion) {
			return nil, damaged(name, at, err.Error())
		}
		if err != nil {
			return nil, err
		}
		next = h.end()
		if begun < 0 {
			begun = at
		}
	}
	return records, nil
}

// Tail is the position that the next appended event will get; Head the first that is left.
func (s *Spool) Tail() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tail()
}

// Head is the position of the first record that is not released; the tail's if there is none.
func (s *Spool) Head() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head()
}

// Least is the position of the first record whose bytes are still on disk, released or not; the tail's where there is none. What an
// erasure froze is gone from the spool when Least has passed it.
func (s *Spool) Least() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.segments[0].first
}

func (s *Spool) tail() uint64 { return s.segments[len(s.segments)-1].end }
func (s *Spool) head() uint64 { return max(s.segments[0].first, s.released) }

// Wait returns when there is a record at position or above: Tail is above position. It fails when ctx ends, or with ErrClosed.
func (s *Spool) Wait(ctx context.Context, position uint64) error {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return ErrClosed
		}
		if s.tail() > position {
			s.mu.Unlock()
			return nil
		}
		if s.grown == nil {
			s.grown = make(chan struct{})
		}
		grown := s.grown
		s.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
