package journey

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

var (
	errRevoked = errors.New("a subject was revoked, or taken out, since the events were read")
	errMoved   = errors.New("the cursor is not where the events begin")
)

const (
	changeBytes = state.MaxChangeBytes * 3 / 4 // of a change of ours: the rest is for what the estimate leaves out
	readEvents  = 1 << 12                      // spooled events that are read under one revocation sequence, and folded without a rest
)

// foldUpTo folds what is spooled below upTo.
func (j *Journeys) foldUpTo(ctx context.Context, upTo uint64) error {
	for j.cursor.Load() < upTo {
		if moved, err := j.foldSome(ctx, upTo); err != nil || !moved {
			return err
		}
	}
	return nil
}

// foldSome folds some of what is spooled below upTo, or does a piece of a recount, which comes first. moved is false where what lies between the cursor
// and the tail is not durable yet.
func (j *Journeys) foldSome(ctx context.Context, upTo uint64) (moved bool, err error) {
	if more, err := j.recount(ctx); err != nil || more {
		return more, err
	}
	from := j.cursor.Load()
	// The sequence comes before the first look at RevokedAfter: a revocation in between is seen twice rather than never.
	sequence := j.o.Revocations.Sequence()
	err = j.gate.Read(ctx, from, min(upTo, from+readEvents), func(r *export.Regated) (bool, error) {
		return true, j.foldRun(ctx, r, sequence)
	})
	if errors.Is(err, errRevoked) {
		return true, nil // what is folded stays folded; the rest is read again, without what was revoked
	}
	if err != nil {
		return false, fmt.Errorf("folding: %w", err)
	}
	return j.cursor.Load() > from, nil
}

// foldRun folds one run of events, in as many changes as it takes.
func (j *Journeys) foldRun(ctx context.Context, r *export.Regated, sequence uint64) error {
	rows, positions := r.Rows, r.Positions
	dropped := Stats{Dropped: uint64(r.Dropped), Shredded: uint64(r.Shredded)}
	for n := len(rows); ; {
		next := r.Next
		if n < len(rows) {
			next = positions[n]
		}
		f, err := j.fold(rows[:n])
		if err != nil {
			return err
		}
		if f.writes.weight() > changeBytes && n > 1 {
			n = (n + 1) / 2
			continue
		}
		f.next, f.sequence = next, sequence
		if next == r.Next {
			f.stats.Dropped, f.stats.Shredded = dropped.Dropped, dropped.Shredded
		}
		if err := j.commit(ctx, f); err != nil {
			return err
		}
		if rows, positions = rows[n:], positions[n:]; len(rows) == 0 {
			return nil
		}
		n = min(2*n, len(rows))
	}
}

// folded is what some rows change, and what it was computed from.
type folded struct {
	rows           []pseudonymize.Row
	writes         *writes
	generation     uint64
	from, next     uint64 // cursor
	sequence       uint64 // of revocations
	stats          Stats
	recountPending bool
}

// fold computes what rows change. It does so beside the writer, which then has little to do.
func (j *Journeys) fold(rows []pseudonymize.Row) (*folded, error) {
	f := &folded{rows: rows, from: j.cursor.Load()}
	err := j.o.State.View(func(r state.Reader) (err error) {
		if f.generation, err = readNumber(r, generationKey); err != nil {
			return err
		}
		v, err := j.revise(r)
		if err != nil {
			return err
		}
		f.recountPending = v.progress.phase != settled
		for i := range rows {
			row := &rows[i]
			p := placeOf(row)
			if p.owner() == 0 {
				f.stats.Nobody++
				continue
			}
			fate, err := v.put(p, j.touchOf(row))
			if errors.Is(err, subject.ErrShredded) {
				f.stats.Shredded++ // destroyed since the gate
				continue
			}
			if err != nil {
				return err
			}
			f.stats.count(fate)
		}
		f.writes, err = v.settle()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("computing what events change: %w", err)
	}
	return f, nil
}

// commit writes cells, touches and cursor in one change.
func (j *Journeys) commit(ctx context.Context, f *folded) error {
	if f.recountPending {
		return errRevoked
	}
	concerned := export.Concern(f.rows)
	// Crash here: nothing is written, and the next start folds from the cursor.
	//
	// Not ctx: a change whose outcome nobody waits for would leave the cursor in doubt.
	err := j.o.State.Update(context.WithoutCancel(ctx), func(t *state.Txn) error {
		// The writer, which every withdrawal passes as well: one of the two is first, and the other sees it (consent.md G3).
		err := j.o.Revocations.RevokedSince(t, f.sequence, func(slot subject.Slot, purpose string) error {
			if concerned(slot, purpose) {
				return errRevoked
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := j.unchanged(t, f); err != nil {
			return err
		}
		if err := j.apply(t, f.writes); err != nil {
			return err
		}
		t.Set(cursorKey, encodeNumber(f.next))
		t.OnCommit(func() {
			j.cursor.Store(f.next)
			j.note(func(s *Stats) { s.add(&f.stats) })
		})
		return nil
	})
	// Crash here, or anywhere later: the events are folded, and the next start goes on behind them.
	return err
}

// unchanged: the change was computed from what stands now.
func (j *Journeys) unchanged(t *state.Txn, f *folded) error {
	cursor, err := readNumber(t, cursorKey)
	if err != nil {
		return err
	}
	if cursor != f.from {
		return errMoved
	}
	generation, err := readNumber(t, generationKey)
	if err != nil {
		return err
	}
	if generation != f.generation {
		return errRevoked
	}
	return nil
}

// fallOut takes what is older than the window out of the journeys of some more subjects; more says that it is not done.
func (j *Journeys) fallOut(ctx context.Context) (more bool, err error) {
	var from subject.Slot
	var w *writes
	var generation uint64
	err = j.o.State.View(func(r state.Reader) error {
		b, err := r.Get(fallingKey)
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		if err != nil || len(b) != 8 {
			return errors.Join(err, errStored)
		}
		n, err := readNumber(r, fallingKey)
		if err != nil {
			return err
		}
		from = subject.Slot(n)
		if generation, err = readNumber(r, generationKey); err != nil {
			return err
		}
		from, w, more, err = j.fallen(r, from)
		return err
	})
	if err != nil || w == nil {
		return false, err
	}
	err = j.o.State.Update(context.WithoutCancel(ctx), func(t *state.Txn) error {
		now, err := readNumber(t, generationKey)
		if err != nil {
			return err
		}
		if now != generation {
			more = true
			return nil
		}
		t.Set(fallingKey, encodeNumber(uint64(from)))
		if !more {
			t.Delete(fallingKey)
		}
		return j.apply(t, w)
	})
	return more, err
}

// fallen is what is written when old touches of the next subjects fall out.
func (j *Journeys) fallen(r state.Reader, from subject.Slot) (last subject.Slot, w *writes, more bool, err error) {
	v, err := j.revise(r)
	if err != nil {
		return 0, nil, false, err
	}
	weight := 0
	last, more, err = j.walk(from, func(s subject.Subject) (bool, error) {
		places, err := v.places(s)
		if err != nil {
			return false, ignore(err, subject.ErrShredded)
		}
		for _, p := range slices.Clone(places) {
			l, err := v.list(p)
			if err != nil {
				return false, ignore(err, subject.ErrShredded)
			}
			if !slices.ContainsFunc(l.touches, func(t Touch) bool { return v.fallen(&t) }) {
				continue
			}
			weight += 64 * len(l.touches)
			if err := v.keep(p, func(t *Touch) bool { return !v.fallen(t) }); err != nil {
				return false, err
			}
		}
		return weight < changeBytes/4, nil
	})
	if err != nil {
		return 0, nil, false, fmt.Errorf("letting old touches fall out: %w", err)
	}
	w, err = v.settle()
	return last, w, more, err
}

// fallen: no open period looks back at the touch any more, or journeys receive none of its purposes any more (GDPR Art. 5(1)(b)).
func (v *revision) fallen(t *Touch) bool {
	begin, configured := v.begins[t.Site]
	return !configured || t.At < begin-lookback.Milliseconds() ||
		!slices.ContainsFunc(t.grants, func(g pseudonymize.RowGrant) bool { return g.Purpose != policies.Linking && v.j.receives(g.Purpose) })
}

// receives tells whether the policy names journeys as a recipient of a purpose.
func (j *Journeys) receives(purpose string) bool {
	p, ok := j.o.Policy.Purpose(purpose)
	return ok && j.o.Policy.RecipientOf(Destination)&p.Bit() != 0
}
