package rights

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The pace of the machine, and its limits.
const (
	passPause  = time.Second
	houseEvery = time.Hour // what is over by the calendar is looked for this often

	answerLimit = 90 * 24 * time.Hour // a question, or a missing identification, that nobody answers
	hardLimit   = 90 * 24 * time.Hour // an erasure that does not come to an end: its slot is overwritten all the same
	alarmBefore = 30 * 24 * time.Hour // of the hard limit
)

// resume brings what a crash cut short to where nothing of a suppressed subject can be read any more.
func (r *Requests) resume(ctx context.Context) error {
	var ids []string
	err := r.o.State.View(func(v reader) (err error) {
		ids, err = openRequests(v)
		return err
	})
	if err != nil {
		return err
	}
	r.open.Store(int64(len(ids)))
	for _, id := range ids {
		q, err := r.request(id)
		if err != nil {
			return err
		}
		if q.Right != proof.Erasure || len(q.Purposes) > 0 {
			continue
		}
		for q.Step == suppressed || q.Step == frozen {
			if err := r.advance(ctx, q); err != nil {
				return fmt.Errorf("request %s: %w", id, err)
			}
			if q, err = r.request(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// Run is the machine: it takes every open request as far as it goes, again and again, until ctx ends (nil). What fails is logged, counted and
// tried again. It returns an error only when state is closed under it, or has failed.
func (r *Requests) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sealing := make(chan struct{})
	go func() {
		defer close(sealing)
		r.hasten(ctx)
	}()
	defer func() { cancel(); <-sealing }()
	var house time.Time
	for {
		began := time.Now()
		r.pass(ctx)
		if now := r.now(); !now.Before(house.Add(houseEvery)) || now.Before(house) {
			house = now
			r.keepHouse(ctx)
		}
		if err := r.o.State.Err(); err != nil {
			return noCancel(ctx, err)
		}
		took := time.Since(began)
		if !rest(ctx, min(4*took, passPause), nil) || !rest(ctx, max(passPause, 10*took), r.wake) {
			return nil
		}
	}
}

// rest waits until wake holds something, at most d: many open requests must not keep the machine, and the writer behind it, busy all the time. It
// is false when ctx has ended.
func rest(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-pause.C:
	}
	return true
}

func noCancel(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// hasten has everything sealed that an open request waits for: a quiet destination's interval must not hold up an answer.
func (r *Requests) hasten(ctx context.Context) {
	for {
		position := r.awaited.Load()
		for _, x := range r.exits {
			if x.Shipper.Cursor() >= position {
				continue
			}
			attempt, cancel := context.WithTimeout(ctx, passPause)
			if err := x.Shipper.SealThrough(attempt, position); err == nil {
				r.stir()
			} // else the shipper logs and counts what fails, and the next round tries again
			cancel()
		}
		if j := r.o.Journeys; j != nil && j.Cursor() < position {
			attempt, cancel := context.WithTimeout(ctx, passPause)
			if err := j.FoldThrough(attempt, position); err == nil {
				r.stir()
			} // else as above
			cancel()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(passPause):
		}
	}
}

// pass takes every open request one turn further.
func (r *Requests) pass(ctx context.Context) {
	r.working.Lock()
	defer r.working.Unlock()
	f := newFigures(r.now())
	var ids []string
	err := r.o.State.View(func(v reader) (err error) {
		ids, err = openRequests(v)
		return err
	})
	if err != nil {
		r.trouble(ctx, &f, "", "listing requests", err)
	}
	for _, id := range ids {
		if ctx.Err() != nil {
			return
		}
		q, err := r.settle(ctx, id)
		if err != nil {
			r.trouble(ctx, &f, id, "working on a request", err)
		}
		if q != nil {
			f.add(q)
		}
	}
	for _, x := range []struct {
		what string
		do   func(context.Context) error
	}{
		// After the requests: one that has just withdrawn its own purposes takes the job that this left.
		{"making requests of withdrawals", r.convertWithdrawals},
		{"telling destinations", r.tell},
		{"forgetting closed requests", r.forgetClosed},
	} {
		if err := x.do(ctx); err != nil {
			r.trouble(ctx, &f, "", x.what, err)
		}
	}
	r.publish(f)
}

// trouble logs what fails, and counts it. Texts of errors hold nothing of a person.
func (r *Requests) trouble(ctx context.Context, f *Figures, id, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	f.Troubles++
	r.o.Log.ErrorContext(ctx, what, "request", id, "error", err)
}

// maxTurns bounds the steps of one request in one pass.
const maxTurns = 12

// settle advances a request until it waits for somebody. The row is as it was last seen.
func (r *Requests) settle(ctx context.Context, id string) (q *requestRow, err error) {
	for range maxTurns {
		before := q
		if q, err = r.request(id); err != nil {
			return q, err
		}
		if q.State.Final() || before != nil && before.State == q.State && before.Step == q.Step {
			return q, r.journalise(ctx, q)
		}
		if err := r.advance(ctx, q); err != nil {
			return q, err
		}
	}
	return q, nil
}

// advance does what is next of a request, if it can be done now.
func (r *Requests) advance(ctx context.Context, q *requestRow) (err error) {
	if over, err := r.overtime(ctx, q); over || err != nil {
		return err
	}
	if _, err := r.own(q); errors.Is(err, subject.ErrShredded) {
		r.o.Log.ErrorContext(ctx, "a request had ended after the backup that was restored: its certificate is with the custodian", "alarm", true, "request", q.ID)
		return r.supersede(ctx, q, outlived)
	}
	switch {
	case q.State == Approved:
		err = r.begin(ctx, q)
	case q.State != InProgress:
	case q.Right == proof.Access:
		err = r.advanceAccess(ctx, q)
	default:
		err = r.advanceErasure(ctx, q)
	}
	if errors.Is(err, subject.ErrShredded) {
		return r.supersede(ctx, q, superseded)
	}
	return err
}

// begin starts an approved request.
func (r *Requests) begin(ctx context.Context, q *requestRow) error {
	switch {
	case q.Right == proof.Access:
		return r.beginAccess(ctx, q)
	case q.Origin == proof.ByRetention:
		return r.beginRetention(ctx, q)
	}
	s, err := r.whose(q)
	if err != nil {
		return err
	}
	_, err = r.change(ctx, q.ID, func(t *state.Txn, q *requestRow) error {
		if q.State != Approved {
			return nil
		}
		return r.suppress(t, q, s)
	})
	return err
}

func (r *Requests) advanceErasure(ctx context.Context, q *requestRow) error {
	switch q.Step {
	case suppressed:
		return r.freezeSubject(ctx, q)
	case frozen:
		return r.sever(ctx, q)
	case severed:
		return r.enlist(ctx, q)
	case rewriting:
		return r.endRewriting(ctx, q)
	case purged:
		return r.endNotices(ctx, q)
	}
	return nil // certifying: the custodian's turn
}

// endRewriting notes what became true while the custodian works, and goes on when all of it did.
func (r *Requests) endRewriting(ctx context.Context, q *requestRow) error {
	gone := q.awaitsSpool() && q.Tail <= r.o.LowWater()
	if q.awaitsSpool() && !gone {
		r.await(q.Tail)
	}
	if !gone && !q.allPurged() {
		return r.endNotices(ctx, q) // confirmations arrive meanwhile
	}
	_, err := r.change(ctx, q.ID, func(t *state.Txn, q *requestRow) error {
		if q.Step != rewriting {
			return nil
		}
		if gone && q.awaitsSpool() {
			q.SpoolGone = r.now()
			if err := r.note(t, q, proof.Leaf{Event: proof.EventSpoolGone, Actor: gateway, Time: q.SpoolGone}); err != nil {
				return err
			}
		}
		if !q.allPurged() {
			return nil
		}
		q.Step, q.Purged = purged, r.now()
		return r.note(t, q, proof.Leaf{
			Event: proof.EventPurged, Actor: custodian, Time: q.Purged, Counts: map[string]int{"batches": q.Batches},
		})
	})
	return err
}

// awaitsSpool says whether something spooled before the freeze may still be there. What is over by its retention left the spool long ago.
func (q *requestRow) awaitsSpool() bool { return q.Origin != proof.ByRetention && q.SpoolGone.IsZero() }

// allPurged says whether nothing of what was erased is left in spool and store (rights.md step 5), and a restored gateway would be told.
func (q *requestRow) allPurged() bool {
	return q.Done >= q.Batches && !q.awaitsSpool() && (q.Journaled || q.Origin == proof.ByRetention)
}

// await asks hasten for everything below a position.
func (r *Requests) await(position uint64) {
	for seen := r.awaited.Load(); seen < position && !r.awaited.CompareAndSwap(seen, position); seen = r.awaited.Load() {
	}
}

// overtime ends what nobody answers, and an erasure that does not come to an end: rather than keep for ever what leads to the person, the
// request forgets it, and an operator learns of it long before.
func (r *Requests) overtime(ctx context.Context, q *requestRow) (over bool, err error) {
	now := r.now()
	switch {
	case q.can(expire) && now.Sub(q.waitingSince()) > answerLimit:
		return true, r.end(ctx, q.ID, expire, proof.Leaf{Event: proof.EventExpired, Actor: gateway})
	case q.can(fail) && now.Sub(q.Opened) > hardLimit:
		r.o.Log.ErrorContext(ctx, "a request did not end in time and is given up", "alarm", true, "request", q.ID, "step", q.Step)
		return true, r.end(ctx, q.ID, fail, proof.Leaf{Event: proof.EventFailed, Actor: gateway, Reason: "hard_limit"})
	}
	return false, nil
}

func (q *requestRow) waitingSince() time.Time {
	if !q.Clock.Stopped.IsZero() {
		return q.Clock.Stopped
	}
	return q.Opened
}

// end takes a request to a final state of the machine's own.
func (r *Requests) end(ctx context.Context, id string, a Action, leaf proof.Leaf) error {
	if err := r.unwant(ctx, id); err != nil {
		return err
	}
	// Crash here: nobody works for the request any more, and the next pass ends it.
	_, err := r.change(ctx, id, func(t *state.Txn, q *requestRow) error {
		if err := q.move(a); err != nil {
			return err
		}
		q.Reason = leaf.Reason
		r.close(t, q)
		return r.note(t, q, leaf)
	})
	return err
}

// forgetClosed overwrites the slots of closed requests whose time has come.
func (r *Requests) forgetClosed(ctx context.Context) error {
	due, err := r.timed(forgetPrefix, r.now())
	if err != nil {
		return err
	}
	for _, key := range due {
		id, err := idOf(key)
		if err != nil {
			return err
		}
		if err := r.forget(ctx, id, key); err != nil {
			return fmt.Errorf("request %s: %w", id, err)
		}
	}
	return nil
}

// timed lists the keys under prefix whose time has come, at most a thousand.
func (r *Requests) timed(prefix string, now time.Time) (keys [][]byte, err error) {
	end := string(timedKey(prefix, now.Add(time.Millisecond), "00000000-0000-0000-0000-000000000000"))
	err = r.o.State.View(func(v reader) error {
		return v.Scan([]byte(prefix), func(key, _ []byte) error {
			if string(key) >= end || len(keys) == 1000 {
				return state.ErrStop
			}
			keys = append(keys, key)
			return nil
		})
	})
	return keys, err
}

// disown deletes what leads from a subject who is still there to the request.
func (r *Requests) disown(ctx context.Context, q *requestRow) error {
	s, err := r.whose(q)
	if errors.Is(err, subject.ErrShredded) {
		return nil
	}
	if err != nil {
		return err
	}
	with, err := r.beside(q)
	if err != nil {
		return err
	}
	return r.o.State.Update(ctx, func(t *state.Txn) error {
		t.Delete(s.RowKey(ownTable, idKey("", q.ID)))
		if with.Exists() {
			t.Delete(with.RowKey(besideTable, idKey("", q.ID)))
		}
		return nil
	})
}

func (r *Requests) forget(ctx context.Context, id string, key []byte) error {
	q, err := r.request(id)
	if err != nil {
		return err
	}
	if err := errors.Join(r.dropPackage(q), r.disown(ctx, q)); err != nil {
		return err
	}
	// Crash here: its subject no longer knows of it, and it still knows whose it was: all of this is done again.
	own, err := r.own(q)
	if err == nil {
		err = r.melt(ctx, own)
	}
	if err != nil && !errors.Is(err, subject.ErrShredded) {
		return err
	}
	// Crash here: the slot is overwritten, and the row under "q/forget/" leads here again.
	_, err = r.change(ctx, id, func(t *state.Txn, q *requestRow) error {
		t.Delete(key)
		if q.Slot == 0 {
			return nil
		}
		q.Slot = 0
		if q.Package != nil {
			q.Package.Gone = true
		}
		return r.note(t, q, proof.Leaf{Event: proof.EventForgotten, Actor: gateway})
	})
	return err
}

// keepHouse does what the calendar asks for.
func (r *Requests) keepHouse(ctx context.Context) {
	for _, x := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"looking for rows beyond their retention", r.retire},
		{"forgetting erasures", func(ctx context.Context) error {
			_, err := r.o.Subjects.ForgetErased(ctx, r.now().Add(-suppressionKept))
			return err
		}},
		{"looking for old notices", r.forgetNotices},
		{"looking for old suppressions", r.forgetJournal},
		{"deleting old packages", r.sweepPackages},
	} {
		if err := x.do(ctx); err != nil && ctx.Err() == nil {
			r.o.Log.ErrorContext(ctx, x.what, "error", err)
		}
	}
}

// vanished says whether an object is no longer in the store, as far as the gateway can see: S3 refuses to tell who may not list.
func (r *Requests) vanished(ctx context.Context, key, version string) (bool, error) {
	body, err := r.o.Objects.Get(ctx, key, version)
	switch {
	case errors.Is(err, export.ErrNoObject):
		return true, nil
	case errors.Is(err, export.ErrRefused):
		return r.admitted(ctx)
	case err != nil:
		return false, err
	}
	return false, body.Close()
}

// admitted says whether the store lets the gateway read what is there: if not, a refusal says nothing.
func (r *Requests) admitted(ctx context.Context) (bool, error) {
	for name, x := range r.exits {
		number := x.Shipper.Published()
		if number == 0 {
			continue
		}
		body, err := r.o.Objects.Get(ctx, export.EntryKey(name, r.o.Node, number), "")
		if err != nil {
			return false, err
		}
		return true, body.Close()
	}
	return false, nil
}
