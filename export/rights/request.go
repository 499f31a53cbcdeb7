package rights

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The bounds of requests that are open at one time, since each is looked at in every pass of the machine: withdrawals, which come by themselves,
// leave room for persons, and persons for the officer. maxOpenOf are those of one subject that are open or came within a day: each may take one of
// the custodian's daily jobs.
const (
	maxWithdrawals = 8_000
	maxOpen        = 10_000
	maxEntered     = 11_000
	maxOpenOf      = 8
)

// maxBackdated is how long before it reached the gateway a request may have arrived elsewhere.
const maxBackdated = 365 * 24 * time.Hour

// submission is a request as it arrives.
type submission struct {
	right     proof.Right
	origin    proof.Origin
	actor     string
	subject   subject.Subject
	with      subject.Subject // of an access of a device: who is signed in there
	purposes  []string        // of an erasure; none: everything
	received  time.Time       // zero: now
	language  string
	recipient string // age recipient of an access package
	secret    []byte // SHA-256; nil: none
	proven    bool   // the cookie that the gateway minted came with it (rights.md D5)
}

// check refuses what no job could be made of.
func (r *Requests) check(in *submission) error {
	in.purposes = slices.Compact(slices.Sorted(slices.Values(in.purposes)))
	now := r.now()
	if in.received.IsZero() {
		in.received = now
	}
	// Whole seconds: a job that is approved names the time. Down, so that it is never ahead of the clock.
	in.received = in.received.UTC().Truncate(time.Second)
	switch {
	case in.right != proof.Access && in.right != proof.Erasure:
		return fmt.Errorf("%w: right is access or erasure", ErrInput)
	case in.right == proof.Access && len(in.purposes) > 0:
		return fmt.Errorf("%w: purposes belong to an erasure", ErrInput)
	case in.right == proof.Erasure && in.recipient != "":
		return fmt.Errorf("%w: recipient belongs to an access", ErrInput)
	case in.received.After(now) || in.received.Before(now.Add(-maxBackdated)):
		return fmt.Errorf("%w: received_at is a time of the last year", ErrInput)
	}
	for _, id := range in.purposes {
		p, ok := r.o.Policy.Purpose(id)
		if !ok || p.Basis != policies.Consent {
			// What rests on a contract or a duty ends with it, or with the whole subject.
			return fmt.Errorf("%w: purposes are those that rest on consent", ErrInput)
		}
	}
	return nil
}

// submit makes the request, or finds the open one of that right and subject (created is false).
func (r *Requests) submit(ctx context.Context, in submission) (q *requestRow, created bool, err error) {
	if err := r.check(&in); err != nil {
		return nil, false, err
	}
	if err := r.signedIn(&in); err != nil {
		return nil, false, err
	}
	err = r.o.State.Update(ctx, func(t *state.Txn) error {
		if q, err = r.standing(t, &in); err != nil || q != nil {
			created = false
			return err
		}
		if err := r.o.Ledger.Alive(t, in.subject); err != nil {
			return err
		}
		if n := r.open.Load(); n >= maxEntered || n >= maxOpen && in.origin != proof.ByDPO {
			return ErrTooMany
		}
		created = true
		if q, err = r.enter(t, &in, uuid.NewString()); err != nil || q.State != Approved || q.Right != proof.Erasure {
			return err
		}
		if err := r.suppress(t, q, in.subject); err != nil { // of purposes: what is agreed to from now on stays
			return err
		}
		return q.set(t)
	})
	if err != nil {
		return nil, false, fmt.Errorf("recording request: %w", err)
	}
	r.stir()
	return q, created, nil
}

// standing is the open request that in would repeat, or nil. One that is not verified never stands in the way of one that is (D5), nor one that
// still needs leave in that of one that needs none; nor does the erasure of some purposes in that of others, or of everything.
func (r *Requests) standing(t *state.Txn, in *submission) (*requestRow, error) {
	rows, err := requestsOf(t, in.subject)
	if err != nil {
		return nil, err
	}
	several := 0
	for _, q := range rows {
		switch {
		case q.Origin == proof.ByWithdrawal:
		case q.State.Final():
			if q.Origin == proof.ByPerson && in.proven && r.now().Sub(q.Opened) < 24*time.Hour {
				several++
			}
		case in.proven && q.State != Approved && q.State != InProgress:
		case q.Right == in.right && slices.Equal(q.Purposes, in.purposes):
			id, err := r.identity(q)
			if err != nil {
				return nil, err
			}
			if id.With != in.with.Slot() { // somebody else's, who was signed in on the same device
				several++
				continue
			}
			if in.recipient != "" && !q.Sealed {
				return nil, fmt.Errorf("%w: the open request makes a package for no recipient: cancel it first", ErrTransition)
			}
			return q, nil
		default:
			several++
		}
	}
	if whole := in.right == proof.Erasure && len(in.purposes) == 0; several >= maxOpenOf && !whole { // which ends all the others
		return nil, ErrTooMany
	}
	return nil, nil
}

// requestsOf lists the requests of a subject, oldest first.
func requestsOf(v reader, s subject.Subject) (rows []*requestRow, err error) {
	prefix := s.RowKey(ownTable, nil)
	var ids []string
	err = v.Scan(prefix, func(key, _ []byte) error {
		id, err := idOf(key[len(prefix):])
		ids = append(ids, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		q, err := readRequest(v, id)
		if err != nil {
			return nil, err
		}
		rows = append(rows, q)
	}
	slices.SortFunc(rows, func(a, b *requestRow) int { return a.Opened.Compare(b.Opened) })
	return rows, nil
}

// enter writes a new request inside t.
func (r *Requests) enter(t *state.Txn, in *submission, id string) (*requestRow, error) {
	own, err := r.o.Subjects.MintRequest(t)
	if err != nil {
		return nil, err
	}
	q := &requestRow{
		Format: rowFormat, ID: id, Right: in.right, Origin: in.origin, State: IdentityUnverified, Slot: own.Slot(), Opened: r.now(),
		Clock: clock{Received: in.received}, Purposes: in.purposes, Language: in.language, Sealed: in.recipient != "", Secret: in.secret,
	}
	if in.subject.Exists() {
		if err := freezeIn(t, own, frozenIdentity, identityRow{in.subject.Slot(), in.subject.Kind(), in.with.Slot()}); err != nil {
			return nil, err
		}
		t.Set(in.subject.RowKey(ownTable, idKey("", id)), nil)
	}
	if in.with.Exists() {
		t.Set(in.with.RowKey(besideTable, idKey("", id)), nil)
	}
	job := r.job(q, in)
	if err := job.Check(); err != nil { // what the custodian would not take
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	if err := freezeIn(t, own, frozenJob, job); err != nil {
		return nil, err
	}
	t.Set(idKey(openPrefix, id), nil)
	t.OnCommit(func() { r.open.Add(1) })
	err = r.note(t, q, proof.Leaf{Event: proof.EventReceived, Actor: in.actor, Time: in.received, Due: q.Clock.due(q.Opened)})
	if err != nil {
		return nil, err
	}
	if in.proven {
		err = r.admit(t, q, in)
	}
	if err == nil {
		err = q.set(t)
	}
	return q, err
}

// admit is verification and approval at once: by the cookie (D5), or because a withdrawal or the end of a retention asks nobody's leave. An
// erasure of everything begins in the same change.
func (r *Requests) admit(t *state.Txn, q *requestRow, in *submission) error {
	for _, x := range []struct {
		action Action
		event  string
	}{{Verify, proof.EventVerified}, {Approve, proof.EventApproved}} {
		if err := q.move(x.action); err != nil {
			return err
		}
		if err := r.note(t, q, proof.Leaf{Event: x.event, Actor: in.actor}); err != nil {
			return err
		}
	}
	if q.Right == proof.Erasure && len(q.Purposes) == 0 {
		return r.suppress(t, q, in.subject)
	}
	return nil
}

// job is what is asked of the custodian. It never changes: an approval is of these very bytes.
func (r *Requests) job(q *requestRow, in *submission) *proof.Job {
	j := &proof.Job{
		Version: 1, Node: r.o.Node, Request: q.ID, Right: q.Right, Origin: q.Origin, Received: q.Clock.Received, Purposes: q.Purposes,
		Recipient: in.recipient,
	}
	switch {
	case q.Right == proof.Access:
		j.Language = q.Language
	case len(q.Purposes) > 0 && q.Origin != proof.ByRetention:
		j.Rules = r.o.Policy.Rules()
	}
	if !in.subject.Exists() {
		return j
	}
	for _, name := range r.destinations {
		at := func(s subject.Subject) []string {
			p := r.exits[name].Destination.Pseudonym(s)
			return []string{hex.EncodeToString(p[:])}
		}
		w := proof.Whose{Destination: name}
		if in.subject.Kind() == subject.Device {
			w.Devices = at(in.subject)
		} else {
			w.Persons = at(in.subject)
		}
		if in.with.Exists() {
			w.With = at(in.with)
		}
		j.Destinations = append(j.Destinations, w)
	}
	return j
}

// Job is the job of a request, for the officer to approve: ErrNotReady once the request's identity is gone.
func (r *Requests) jobOf(q *requestRow) (*proof.Job, error) {
	own, err := r.own(q)
	if errors.Is(err, subject.ErrShredded) {
		return nil, ErrNotReady
	}
	if err != nil {
		return nil, err
	}
	j := new(proof.Job)
	found, err := r.thaw(own, frozenJob, j)
	if err == nil && !found {
		err = ErrStored
	}
	return j, err
}

// close ends a request inside t, in a final state that it has reached already. Of an erasure that was carried out nobody needs to know any
// more whose it was; of the others, for as long as the person may come back to it (rights.md D13).
func (r *Requests) close(t *state.Txn, q *requestRow) {
	q.Closed, q.Step, q.Refused = r.now(), "", nil
	kept := r.o.IdentityKept
	if q.Right == proof.Erasure && (q.State == Completed || q.State == Failed) || q.Reason == superseded || q.Reason == outlived {
		kept = 0
	}
	if q.Origin == proof.ByRetention && q.State != Completed {
		t.Delete(retiredKey(q.Destination, q.Purposes[0])) // its batches are looked for again
	}
	t.Set(timedKey(forgetPrefix, q.Closed.Add(kept), q.ID), nil)
	t.Delete(idKey(openPrefix, q.ID))
	ended := Standing{Right: q.Right, Origin: q.Origin, State: q.State}
	t.OnCommit(func() { r.open.Add(-1); r.closing(ended) })
}

// change reads a request inside the writer, lets fn change it, and writes it.
func (r *Requests) change(ctx context.Context, id string, fn func(t *state.Txn, q *requestRow) error) (q *requestRow, err error) {
	err = r.o.State.Update(ctx, func(t *state.Txn) error {
		if q, err = readRequest(t, id); err != nil {
			return err
		}
		if err := fn(t, q); err != nil {
			return err
		}
		return q.set(t)
	})
	if err != nil {
		return nil, err
	}
	return q, nil
}
