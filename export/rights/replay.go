package rights

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// ReplayOptions configure Replay: those of Open. Approval, Custodian and what concerns packages and notices may be missing.
type ReplayOptions = Options

// Replay does again, on a gateway that was restored from a backup and does not serve yet, what the journal in the store says was done since: it
// erases whoever came back, and withdraws what was withdrawn. What had to be rewritten in shipped objects is asked for once more, since nobody
// knows how far the custodian came. It answers how many it erased. It lists the journal, a right that the gateway's credentials need for this.
func Replay(ctx context.Context, o ReplayOptions) (erased int, err error) {
	r, err := newRequests(o)
	if err != nil {
		return 0, fmt.Errorf("replaying suppressions: %w", err)
	}
	entries, err := r.readJournal(ctx)
	if err != nil {
		return 0, fmt.Errorf("replaying suppressions: %w", err)
	}
	marks := make(map[subject.Remnant]bool, len(entries))
	for _, x := range entries {
		marks[x.Mark.Subject] = true
	}
	back, err := r.o.Subjects.Find(marks)
	if err != nil {
		return 0, fmt.Errorf("replaying suppressions: %w", err)
	}
	bySubject := map[subject.Remnant]subject.Subject{}
	for _, s := range back {
		m, err := r.o.Subjects.Mark(s)
		if err != nil {
			return 0, fmt.Errorf("replaying suppressions: %w", err)
		}
		bySubject[m.Subject] = s
	}
	type act struct {
		of       subject.Remnant
		purposes string
	}
	once := map[act]bool{} // what was replayed before stands in the journal twice
	for _, x := range entries {
		same := act{x.Mark.Subject, strings.Join(x.Purposes, " ")}
		if once[same] {
			continue
		}
		again, err := r.replay(ctx, x, bySubject[x.Mark.Subject])
		if err != nil {
			return erased, fmt.Errorf("replaying suppression of request %s: %w", x.Request, err)
		}
		once[same] = again || len(x.Purposes) > 0
		if again && len(x.Purposes) == 0 {
			erased++
			delete(bySubject, x.Mark.Subject)
		}
	}
	return erased, r.resume(ctx)
}

func (r *Requests) readJournal(ctx context.Context) (entries []suppression, err error) {
	var keys []string
	if err := r.o.Objects.List(ctx, r.journal.prefix, "", func(key string, _ int64) error { keys = append(keys, key); return nil }); err != nil {
		return nil, fmt.Errorf("listing journal: %w", err)
	}
	for _, key := range keys {
		x, err := r.journal.read(ctx, r.o.Objects, key)
		if errors.Is(err, export.ErrNoObject) {
			continue // its time was over, and the custodian deleted it meanwhile
		}
		if err != nil {
			return nil, err // fail closed: nobody knows whom it names
		}
		entries = append(entries, x)
	}
	return entries, nil
}

// replay does one suppression again; again is false where the subject did not come back.
func (r *Requests) replay(ctx context.Context, x suppression, s subject.Subject) (again bool, err error) {
	if len(x.Purposes) > 0 {
		return r.replayWithdrawal(ctx, x, s)
	}
	known, err := r.resubmitted(x)
	if err != nil {
		return false, err
	}
	done := false // the request is closed, and only the slot file was older
	err = r.o.State.Update(ctx, func(t *state.Txn) error {
		if err := r.o.Subjects.Suppress(t, x.Mark, x.At); err != nil {
			return err
		}
		q, err := readRequest(t, x.Request)
		switch {
		case errors.Is(err, ErrNoRequest) && known:
			return nil // a replay that was cut off made it, and it goes on from there
		case errors.Is(err, ErrNoRequest) && !s.Exists():
			r.o.Log.Error("an erasure is not known to this state, and the key is gone already: what the custodian has not rewritten of it stays",
				"alarm", true, "request", x.Request)
			return nil
		case errors.Is(err, ErrNoRequest):
			return r.resubmit(t, x, s)
		case err != nil || !s.Exists():
			return err
		case q.State.Final():
			done = true
			return r.o.Ledger.Suppress(t, s)
		case q.Step != "":
			return nil // it goes on from there
		}
		q.State, q.Before = Approved, "" // as it was when the suppression was made
		if !q.Clock.Stopped.IsZero() {
			q.Clock.resume(x.At)
		}
		if err := r.note(t, q, proof.Leaf{Event: proof.EventApproved, Actor: gateway}); err != nil {
			return err
		}
		if err := r.suppress(t, q, s); err != nil {
			return err
		}
		return q.set(t)
	})
	if err == nil && done {
		_, err = r.o.Ledger.Sever(ctx, s)
	}
	return s.Exists(), err
}

// replayWithdrawal withdraws again what a backup from before the withdrawal brought back. What it knows of was withdrawn there too, and may have been
// granted anew since.
func (r *Requests) replayWithdrawal(ctx context.Context, x suppression, s subject.Subject) (again bool, err error) {
	if _, err = r.request(x.Request); err == nil || !errors.Is(err, ErrNoRequest) || !s.Exists() {
		return false, ignore(err, ErrNoRequest)
	}
	if known, err := r.resubmitted(x); known || err != nil {
		return false, err
	}
	_, err = r.o.Ledger.Withdraw(ctx, s, consent.Withdrawal{Purposes: x.Purposes, Method: "replay", Entity: gateway})
	if err != nil && !errors.Is(err, consent.ErrUnknownPurpose) && !errors.Is(err, consent.ErrBasis) {
		return false, fmt.Errorf("withdrawing again: %w", err)
	}
	// Crash here: withdrawn, and no request of it; the replay is done again as a whole.
	err = r.o.State.Update(ctx, func(t *state.Txn) error {
		if err := dropWithdrawn(t, s.Slot(), x.Purposes); err != nil { // of the withdrawal just made
			return err
		}
		return r.resubmit(t, x, s)
	})
	return err == nil, err
}

// resubmit makes, inside t, a request of a suppression that this state does not know. It has an id of its own: the custodian may have completed the
// former one, which it never carries out again, and nobody here knows. An officer's has to be approved again.
func (r *Requests) resubmit(t *state.Txn, x suppression, s subject.Subject) error {
	in := submission{
		right: proof.Erasure, origin: x.Origin, actor: gateway, subject: s, purposes: x.Purposes, received: x.Received, proven: true,
	}
	q, err := r.enter(t, &in, uuid.NewString())
	if err != nil {
		return err
	}
	t.Set(idKey(replayedPrefix, x.Request), []byte(q.ID))
	return nil
}

// resubmitted says whether a replay before this one made the request.
func (r *Requests) resubmitted(x suppression) (known bool, err error) {
	err = r.o.State.View(func(v reader) error {
		_, err := v.Get(idKey(replayedPrefix, x.Request))
		known = err == nil
		return ignore(err, state.ErrNotFound)
	})
	return known, err
}

func ignore(err, of error) error {
	if errors.Is(err, of) {
		return nil
	}
	return err
}
