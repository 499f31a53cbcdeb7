package export

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

var errUnreadable = errors.New("spooled event cannot be read")

// chunkEvents is how many spooled events are opened at a time: some memory, few hand-overs.
const chunkEvents = 1024

// chunk is a run of spooled events, and what is left of them after regate and project.
type chunk struct {
	records []Spooled
	marks   []mark             // one for each record, in order
	rows    []pseudonymize.Row // of the records that are kept, in order
	err     error              // of Peek, or of the record after the last mark
	done    chan struct{}      // closed when marks and rows are complete
}

// mark is what became of one spooled event.
type mark struct {
	position uint64
	hour     int64 // of receipt, hours since 1970
	fate     fate
}

type fate uint8

const (
	kept     fate = iota
	foreign       // this destination is no recipient of its purposes
	revoked       // it was this destination's until its purposes were revoked
	shredded      // a subject in it was destroyed: it opens to nobody
)

// regate reads the spool in [from, upTo) and gives take, in order, what may still leave. take says whether it wants more. Chunks are
// opened on several cores, since opening costs as much as encoding; at most so many chunks are in memory.
func (s *Shipper) regate(ctx context.Context, from, upTo uint64, take func(*chunk) (more bool, err error)) error {
	ahead, cancel := context.WithCancel(ctx)
	queue := make(chan *chunk, runtime.GOMAXPROCS(0))
	var workers sync.WaitGroup
	workers.Go(func() {
		defer close(queue)
		for from < upTo {
			c := &chunk{done: make(chan struct{})}
			c.records, c.err = s.o.Spool.Peek(ahead, from, chunkEvents)
			for n := len(c.records); n > 0 && c.records[n-1].Position >= upTo; n-- {
				c.records = c.records[:n-1]
			}
			if len(c.records) == 0 && c.err == nil {
				return
			}
			select {
			case queue <- c:
			case <-ahead.Done():
				return
			}
			if c.err != nil {
				close(c.done)
				return
			}
			from = c.records[len(c.records)-1].Position + 1
			workers.Go(func() {
				defer close(c.done)
				s.open(c)
			})
		}
	})
	defer workers.Wait()
	defer cancel()
	for c := range queue {
		<-c.done
		if len(c.marks) > 0 {
			if more, err := take(c); err != nil || !more {
				return err
			}
		}
		if c.err != nil {
			return fmt.Errorf("%w: %w", errUnreadable, c.err)
		}
	}
	return ctx.Err()
}

// open opens, regates and projects the records of c. It stops at one that does not open: that is an alarm, never a drop.
func (s *Shipper) open(c *chunk) {
	c.marks = make([]mark, 0, len(c.records))
	c.rows = make([]pseudonymize.Row, 0, len(c.records))
	stripped := false
	revokedSince := func(slot subject.Slot, purpose string, sequence uint64) bool {
		yes := s.o.Revocations.RevokedAfter(slot, purpose, sequence)
		stripped = stripped || yes
		return yes
	}
	for i := range c.records {
		r := &c.records[i]
		m := mark{position: r.Position, hour: floorHour(r.Event.ReceivedMillis)}
		e, err := r.Event.Open(s.o.Subjects, s.o.SpoolKey)
		switch {
		case errors.Is(err, subject.ErrShredded):
			m.fate = shredded
		case err != nil:
			c.err = fmt.Errorf("event at position %d: %w", r.Position, err)
			return
		default:
			stripped = false
			row, ok := s.project(&e, revokedSince)
			m.fate = s.fate(&e, ok, stripped)
			if ok {
				c.rows = append(c.rows, row)
			}
		}
		c.marks = append(c.marks, m)
	}
	c.records = nil
}

// project strips what was revoked since the event's grants were made, and only then makes the row: a field or pseudonym that a revoked
// purpose alone allowed is not in it (architecture.md "regate").
func (s *Shipper) project(e *pseudonymize.Event, revoked func(subject.Slot, string, uint64) bool) (pseudonymize.Row, bool) {
	// A subject that was erased since takes the whole event along, also where the grants are another's.
	for _, slot := range [2]subject.Slot{e.Device(), e.Person()} {
		if slot != 0 && revoked(slot, "", e.Sequence()) {
			return pseudonymize.Row{}, false
		}
	}
	left, ok := e.Without(revoked)
	if !ok {
		return pseudonymize.Row{}, false
	}
	return s.o.Destination.Project(&left)
}

func (s *Shipper) fate(e *pseudonymize.Event, ok, stripped bool) fate {
	if ok {
		return kept
	}
	if stripped {
		if _, was := s.o.Destination.Project(e); was {
			return revoked
		}
	}
	return foreign
}

const hourMillis = 3_600_000

// floorHour is the hour since 1970 in which a Unix time in milliseconds lies.
func floorHour(ms int64) int64 {
	h := ms / hourMillis
	if ms%hourMillis < 0 {
		h--
	}
	return h
}
