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

// Gate is what every spooled event passes again on its way to a destination: where a subject or a purpose was revoked since the event was admitted, that much
// of it is not there any more. Read only, and safe for concurrent use.
type Gate struct {
	Spool       Spool
	SpoolKey    []byte
	Revocations Revocations
	Subjects    Subjects
	Destination *pseudonymize.Destination
}

// Regated is a run of spooled events after the gate.
type Regated struct {
	Rows      []pseudonymize.Row // what is left for the destination, in order
	Positions []uint64           // of each row, in the spool
	Next      uint64             // the position after the last event of the run, whatever became of it
	Dropped   int                // events that were the destination's until their purposes were revoked
	Shredded  int                // events that open to nobody any more
}

// Read gives take, in order, what is left of the events in [from, upTo), until take wants no more. An event that cannot be read is an error, after
// what is before it was given.
func (g Gate) Read(ctx context.Context, from, upTo uint64, take func(*Regated) (more bool, err error)) error {
	return g.regate(ctx, from, upTo, func(c *chunk) (bool, error) {
		r := Regated{Rows: c.rows, Positions: make([]uint64, 0, len(c.rows)), Next: c.marks[len(c.marks)-1].position + 1}
		for _, m := range c.marks {
			switch m.fate {
			case kept:
				r.Positions = append(r.Positions, m.position)
			case revoked:
				r.Dropped++
			case shredded:
				r.Shredded++
			}
		}
		return take(&r)
	})
}

// Concern says whether a revocation of purpose ("": of all) by the subject in slot would change one of the rows: whoever asks it in a change of state, of
// every revocation since the rows passed the gate, stores nothing that was revoked (consent.md G3).
func Concern(rows []pseudonymize.Row) func(slot subject.Slot, purpose string) bool {
	var h holds
	for i := range rows {
		h.add(&rows[i])
	}
	h.compact()
	return h.concerns
}

func (s *Shipper) gate() Gate {
	return Gate{s.o.Spool, s.o.SpoolKey, s.o.Revocations, s.o.Subjects, s.o.Destination}
}

// regate reads the spool in [from, upTo) and gives take, in order, what may still leave. take says whether it wants more. Chunks are
// opened on several cores, since opening costs as much as encoding; at most so many chunks are in memory.
func (g Gate) regate(ctx context.Context, from, upTo uint64, take func(*chunk) (more bool, err error)) error {
	ahead, cancel := context.WithCancel(ctx)
	queue := make(chan *chunk, runtime.GOMAXPROCS(0))
	var workers sync.WaitGroup
	workers.Go(func() {
		defer close(queue)
		for from < upTo {
			c := &chunk{done: make(chan struct{})}
			c.records, c.err = g.Spool.Peek(ahead, from, chunkEvents)
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
				g.open(c)
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
func (g Gate) open(c *chunk) {
	c.marks = make([]mark, 0, len(c.records))
	c.rows = make([]pseudonymize.Row, 0, len(c.records))
	stripped := false
	revokedSince := func(slot subject.Slot, purpose string, sequence uint64) bool {
		yes := g.Revocations.RevokedAfter(slot, purpose, sequence)
		stripped = stripped || yes
		return yes
	}
	for i := range c.records {
		r := &c.records[i]
		m := mark{position: r.Position, hour: floorHour(r.Event.ReceivedMillis)}
		e, err := r.Event.Open(g.Subjects, g.SpoolKey)
		switch {
		case errors.Is(err, subject.ErrShredded):
			m.fate = shredded
		case err != nil:
			c.err = fmt.Errorf("event at position %d: %w", r.Position, err)
			return
		default:
			stripped = false
			row, ok := g.project(&e, revokedSince)
			m.fate = g.fate(&e, ok, stripped)
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
func (g Gate) project(e *pseudonymize.Event, revoked func(subject.Slot, string, uint64) bool) (pseudonymize.Row, bool) {
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
	return g.Destination.Project(&left)
}

func (g Gate) fate(e *pseudonymize.Event, ok, stripped bool) fate {
	if ok {
		return kept
	}
	if stripped {
		if _, was := g.Destination.Project(e); was {
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
