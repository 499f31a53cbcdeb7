package rights

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export/rights/letter"
	"github.com/octroi/octroi/export/rights/proof"
)

// Decision is what an officer decides of a request, or what is asked of the person.
type Decision struct {
	Reason   string            `json:"reason,omitempty"`   // of a denial (rights.md D4) or an extension
	Months   int               `json:"months,omitempty"`   // of an extension: 1 or 2, the default
	Approval string            `json:"approval,omitempty"` // of `octroi-custodian approve`
	Asked    map[string]string `json:"asked,omitempty"`    // language → question; not kept
}

// decided is a request after a decision, with the letter that tells the person.
type decided struct {
	request *requestRow
	letter  letter.Texts // nil: none
}

// decide carries out an action of a person. ErrTransition where the state does not allow it.
func (r *Requests) decide(ctx context.Context, id string, a Action, actor string, d Decision) (out decided, err error) {
	act := map[Action]func(*state.Txn, *requestRow, *Decision) (proof.Leaf, letter.Texts, error){
		Verify:  r.verify,
		Approve: r.approve,
		Deny:    r.deny,
		Extend:  r.extend,
		Ask:     r.ask,
		Answer:  r.answer,
		Cancel:  r.cancel,
	}[a]
	if act == nil {
		return decided{}, ErrNoRequest
	}
	out.request, err = r.change(ctx, id, func(t *state.Txn, q *requestRow) error {
		leaf, text, err := act(t, q, &d)
		if err != nil {
			return err
		}
		leaf.Actor, out.letter = actor, text
		if err := r.note(t, q, leaf); err != nil {
			return err
		}
		if q.State.Final() {
			r.close(t, q)
		}
		return nil
	})
	if err != nil {
		return decided{}, fmt.Errorf("deciding: %w", err)
	}
	r.stir()
	return out, nil
}

func (r *Requests) verify(_ *state.Txn, q *requestRow, _ *Decision) (proof.Leaf, letter.Texts, error) {
	return proof.Leaf{Event: proof.EventVerified}, nil, q.move(Verify)
}

// approve takes the officer's signature of this very job. Of a request that asks nobody's leave it lifts the custodian's daily cap.
func (r *Requests) approve(t *state.Txn, q *requestRow, d *Decision) (proof.Leaf, letter.Texts, error) {
	if !q.waives() {
		if err := q.move(Approve); err != nil {
			return proof.Leaf{}, nil, err
		}
	}
	approved, err := proof.VerifyApproval(d.Approval, r.o.Approval)
	if err != nil {
		return proof.Leaf{}, nil, fmt.Errorf("%w: %w", ErrApproval, err)
	}
	job, err := r.jobOf(q)
	if err != nil {
		return proof.Leaf{}, nil, err
	}
	if !job.Same(&approved) {
		return proof.Leaf{}, nil, fmt.Errorf("%w: it is of another job", ErrApproval)
	}
	own, err := r.own(q)
	if err == nil {
		err = freezeIn(t, own, frozenApproval, d.Approval)
	}
	if err != nil {
		return proof.Leaf{}, nil, err
	}
	q.Approved, q.Refused = proof.Digest(d.Approval), nil
	return proof.Leaf{Event: proof.EventApproved, SHA256: q.Approved}, nil, nil
}

// deny refuses the request, for a reason of D4; the letter names complaint and judicial remedy (GDPR Art. 12(4)).
func (r *Requests) deny(_ *state.Txn, q *requestRow, d *Decision) (proof.Leaf, letter.Texts, error) {
	if err := q.move(Deny); err != nil {
		return proof.Leaf{}, nil, err
	}
	f := r.letterFacts(q)
	f.Reason = d.Reason
	text, err := write(f, letter.Denial)
	if errors.Is(err, letter.ErrReason) {
		return proof.Leaf{}, nil, fmt.Errorf("%w: reason is one of %s", ErrInput, strings.Join(letter.Denials(string(q.Right)), ", "))
	}
	q.Reason = d.Reason
	return proof.Leaf{Event: proof.EventDenied, Reason: d.Reason}, text, err
}

func (r *Requests) extend(_ *state.Txn, q *requestRow, d *Decision) (proof.Leaf, letter.Texts, error) {
	if err := q.move(Extend); err != nil {
		return proof.Leaf{}, nil, err
	}
	if !slices.Contains(letter.Extensions(), d.Reason) {
		return proof.Leaf{}, nil, fmt.Errorf("%w: reason is one of %s", ErrInput, strings.Join(letter.Extensions(), ", "))
	}
	months := d.Months
	if months == 0 {
		months = maxExtension - q.Clock.Months
	}
	if err := q.Clock.extend(months, d.Reason, r.now()); err != nil {
		return proof.Leaf{}, nil, err
	}
	f := r.letterFacts(q)
	f.Reason = d.Reason
	text, err := write(f, letter.Extension)
	return proof.Leaf{Event: proof.EventExtended, Reason: d.Reason, Due: f.Due}, text, err
}

// ask stops the clock: who the person is cannot be told without an answer (GDPR Art. 12(6)).
func (r *Requests) ask(_ *state.Txn, q *requestRow, d *Decision) (proof.Leaf, letter.Texts, error) {
	if err := q.move(Ask); err != nil {
		return proof.Leaf{}, nil, err
	}
	if err := q.Clock.stop(r.now()); err != nil {
		return proof.Leaf{}, nil, err
	}
	if len(d.Asked) == 0 {
		return proof.Leaf{Event: proof.EventAsked}, nil, nil
	}
	f := r.letterFacts(q)
	f.Asked = d.Asked
	text, err := write(f, letter.Question)
	if errors.Is(err, letter.ErrFacts) {
		err = fmt.Errorf("%w: asked has a text in fr and in en", ErrInput)
	}
	return proof.Leaf{Event: proof.EventAsked}, text, err
}

func (r *Requests) answer(_ *state.Txn, q *requestRow, _ *Decision) (proof.Leaf, letter.Texts, error) {
	if err := q.move(Answer); err != nil {
		return proof.Leaf{}, nil, err
	}
	now := r.now()
	q.Clock.resume(now)
	return proof.Leaf{Event: proof.EventAnswered, Due: q.Clock.due(now)}, nil, nil
}

func (r *Requests) cancel(_ *state.Txn, q *requestRow, _ *Decision) (proof.Leaf, letter.Texts, error) {
	return proof.Leaf{Event: proof.EventCancelled}, nil, q.move(Cancel)
}

// letterFacts are what every letter about a request says.
func (r *Requests) letterFacts(q *requestRow) letter.Facts {
	now, c := r.now(), &r.o.Controller
	f := letter.Facts{
		Request: q.ID, Right: string(q.Right),
		Controller: letter.Controller{Name: c.Name, Address: c.Address, DPO: cmp.Or(c.DPO, c.Email, c.Contact)},
		Received:   q.Clock.Received, At: now, Due: q.Clock.due(now), Partial: len(q.Purposes) > 0,
	}
	if q.Package != nil {
		f.Until = q.Package.Until
	}
	return f
}

// letterOf is the letter that tells of the present state, nil where there is none.
func (r *Requests) letterOf(q *requestRow) (letter.Texts, error) {
	f := r.letterFacts(q)
	switch {
	case q.State == Denied:
		f.Reason = q.Reason
		return write(f, letter.Denial)
	case q.State == Completed && q.Right == proof.Access && q.Package.Opened.IsZero() && r.now().Before(f.Until):
		return write(f, letter.Ready)
	case q.State == Completed && q.Right == proof.Erasure:
		for _, x := range r.remains(q) {
			f.Remains = append(f.Remains, letter.Remainder{What: x.What, Until: x.Until})
		}
		return write(f, letter.Erased)
	case !q.State.Final() && q.Clock.Months > 0:
		f.Reason = q.Clock.Why
		return write(f, letter.Extension)
	case !q.State.Final():
		return write(f, letter.Acknowledgement)
	}
	return nil, nil
}

// write writes a letter, unless the configuration does not say who writes: then the officer writes it without help.
func write(f letter.Facts, text func(letter.Facts) (letter.Texts, error)) (letter.Texts, error) {
	t, err := text(f)
	if errors.Is(err, letter.ErrFacts) && (f.Controller.Name == "" || f.Controller.DPO == "") {
		return nil, nil
	}
	return t, err
}
