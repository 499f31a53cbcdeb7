package rights

import (
	"context"
	"errors"
	"fmt"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The reasons of requests that end because what they know is gone: their subject was erased; or they had ended already, after the backup that this
// state was restored from, and only the slot file says so.
const (
	superseded = "erased"
	outlived   = "restored"
)

// endOthers ends every other request of a subject that is about to be destroyed, and forgets it: whose it is, what it froze, a package that nobody
// opened. What remains of an erased person is what the certificate names, and nothing else. No request is made of a suppressed subject, so none
// comes after this.
func (r *Requests) endOthers(ctx context.Context, q *requestRow) error {
	s, err := r.whose(q)
	if errors.Is(err, subject.ErrShredded) {
		return nil // destroyed before a crash: this was done
	}
	if err != nil {
		return err
	}
	var rows []*requestRow
	err = r.o.State.View(func(v reader) error {
		if rows, err = requestsOf(v, s); err != nil {
			return err
		}
		shown, err := besides(v, s) // packages of devices that show the person's rows
		rows = append(rows, shown...)
		return err
	})
	if err != nil {
		return err
	}
	for _, x := range rows {
		if x.ID == q.ID {
			continue
		}
		if err := r.endOther(ctx, x); err != nil {
			return fmt.Errorf("ending request %s: %w", x.ID, err)
		}
		// Crash here: the others are still found by their subject, which is destroyed after the last of them.
	}
	return r.disown(ctx, q)
}

func (r *Requests) endOther(ctx context.Context, x *requestRow) error {
	if !x.State.Final() {
		if err := r.supersede(ctx, x, superseded); err != nil {
			return err
		}
	}
	x, err := r.request(x.ID)
	if err != nil {
		return err
	}
	return r.forget(ctx, x.ID, timedKey(forgetPrefix, x.Closed, x.ID)) // one that was to be forgotten later has a row of that time: it is passed over
}

// supersede ends a request of which nothing can be carried out any more.
func (r *Requests) supersede(ctx context.Context, q *requestRow, reason string) error {
	if err := r.unwant(ctx, q.ID); err != nil {
		return err
	}
	// Crash here: nobody works for the request any more, and it is ended by the next pass.
	_, err := r.change(ctx, q.ID, func(t *state.Txn, q *requestRow) error {
		if q.State.Final() {
			return nil
		}
		q.State, q.Reason = Cancelled, reason
		r.close(t, q)
		return r.note(t, q, proof.Leaf{Event: proof.EventCancelled, Actor: gateway, Reason: q.Reason})
	})
	return err
}
