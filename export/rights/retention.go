package rights

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/policies"
)

// The bounds of retention: batches of one job, and stream entries that are looked at for one purpose in one pass.
const (
	retiredBatches = 200
	retiredLook    = 20_000
)

// retire makes a job of the batches whose newest row is beyond the retention of a purpose (GDPR Art. 5(1)(e)), for each destination and purpose
// one at a time. The custodian cuts by its own clock, under a schedule that the officer approved for the policy of the batch; without it batches wait,
// and the schedule of a former policy can still be approved.
func (r *Requests) retire(ctx context.Context) error {
	busy, err := r.retiring()
	if err != nil {
		return err
	}
	waiting, without := 0, []string{}
	for _, destination := range r.destinations {
		for _, p := range r.o.Policy.Purposes() {
			if r.o.Policy.RecipientOf(destination)&p.Bit() == 0 || busy[destination+"/"+p.ID] {
				continue
			}
			blocked, err := r.retireOf(ctx, destination, p)
			if err != nil {
				return fmt.Errorf("%s of %s: %w", p.ID, destination, err)
			}
			if blocked != "" {
				waiting, without = waiting+1, append(without, blocked)
			}
		}
	}
	r.mu.Lock()
	slices.Sort(without)
	r.unscheduled, r.without = waiting, slices.Compact(without)
	r.mu.Unlock()
	return nil
}

// retiring are the destinations and purposes that have an open job.
func (r *Requests) retiring() (busy map[string]bool, err error) {
	busy = map[string]bool{}
	err = r.o.State.View(func(v reader) error {
		ids, err := openRequests(v)
		if err != nil {
			return err
		}
		for _, id := range ids {
			q, err := readRequest(v, id)
			if err != nil {
				return err
			}
			if q.Origin == proof.ByRetention {
				busy[q.Destination+"/"+q.Purposes[0]] = true
			}
		}
		return nil
	})
	return busy, err
}

// retired are the batches of one job in the making.
type retired struct {
	policy  string // hash, of all of them
	batches []string
	next    uint64 // stream number of the first entry that was not taken
	blocked string // hash of the policy whose schedule is missing
}

func (r *Requests) retireOf(ctx context.Context, destination string, p *policies.Purpose) (blocked string, err error) {
	key := retiredKey(destination, p.ID)
	after, err := r.retiredUpTo(key)
	if err != nil {
		return "", err
	}
	rows, last, err := r.o.Index.Sealed(destination, after, retiredLook)
	if err != nil {
		return "", err
	}
	x := retired{next: last}
	if err := r.gather(&x, rows, p); err != nil {
		return "", err
	}
	if x.next == after {
		return x.blocked, nil
	}
	err = r.o.State.Update(ctx, func(t *state.Txn) error {
		t.Set(key, binary.BigEndian.AppendUint64(nil, x.next))
		if len(x.batches) == 0 {
			return nil
		}
		return r.enterRetention(t, destination, p.ID, &x)
	})
	// Crash here: the job is there and the cursor behind it, or neither.
	r.stir()
	return x.blocked, err
}

func retiredKey(destination, purpose string) []byte {
	return []byte(retentionPrefix + destination + "/" + purpose)
}

func (r *Requests) retiredUpTo(key []byte) (number uint64, err error) {
	err = r.o.State.View(func(v reader) error {
		b, err := v.Get(key)
		switch {
		case errors.Is(err, state.ErrNotFound):
			return nil
		case err == nil && len(b) != 8:
			return ErrStored
		case err == nil:
			number = binary.BigEndian.Uint64(b)
		}
		return err
	})
	return number, err
}

// gather takes batches in the order of receipt, up to the first that is not over, is of another policy, or has no schedule.
func (r *Requests) gather(x *retired, rows []export.BatchRow, p *policies.Purpose) error {
	for i := range rows {
		b := &rows[i]
		if b.Empty || !slices.Contains(b.Batch.Purposes, p.ID) {
			continue
		}
		period, scheduled, err := r.periodOf(b.Batch.PolicyHash, p)
		if err != nil {
			return err
		}
		over := !period.AddTo(b.Batch.To).After(r.now())
		if !over || !scheduled || len(x.batches) == retiredBatches || x.policy != "" && x.policy != b.Batch.PolicyHash {
			if over && !scheduled {
				x.blocked = b.Batch.PolicyHash
			}
			x.next = b.Number - 1
			return nil
		}
		x.policy = b.Batch.PolicyHash
		x.batches = append(x.batches, b.Batch.ID)
	}
	return nil
}

// periodOf is the retention of a purpose as the schedule of a batch's policy has it. Without a schedule it is what the policy in force says.
func (r *Requests) periodOf(policy string, p *policies.Purpose) (period policies.Period, scheduled bool, err error) {
	s, err := r.schedule(policy)
	if err != nil || s == nil {
		return p.Retention, false, err
	}
	text, ok := s.Retention[p.ID]
	if !ok {
		return p.Retention, false, nil
	}
	period, err = policies.ParsePeriod(text)
	return period, true, err
}

// enterRetention makes the request inside t. It is nobody's: its job names no pseudonym.
func (r *Requests) enterRetention(t *state.Txn, destination, purpose string, x *retired) error {
	in := submission{
		right: proof.Erasure, origin: proof.ByRetention, actor: gateway, purposes: []string{purpose}, received: r.now().Truncate(time.Second),
		proven: true,
	}
	q, err := r.enter(t, &in, uuid.NewString())
	if err != nil {
		return err
	}
	own, err := r.o.Subjects.BySlot(q.Slot)
	if err != nil {
		return err
	}
	q.Destination, q.Policy, q.Batches = destination, x.policy, len(x.batches)
	if err := freezeIn(t, own, frozenBatches, map[string][]string{destination: x.batches}); err != nil {
		return err
	}
	return q.set(t)
}

// beginRetention: nobody is to be suppressed, severed or told; the batches are known.
func (r *Requests) beginRetention(ctx context.Context, q *requestRow) error {
	_, err := r.change(ctx, q.ID, func(_ *state.Txn, q *requestRow) error {
		if err := q.move(begin); err != nil {
			return err
		}
		q.Step = severed
		return nil
	})
	return err
}

// keepSchedule takes the officer's signature of a policy's retention. That of the policy in force must say what it says; that of a former one, under
// which batches were shipped, is the officer's word.
func (r *Requests) keepSchedule(ctx context.Context, text string) error {
	s, err := proof.VerifySchedule(text, r.o.Approval)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSchedule, err)
	}
	want := proof.NewSchedule(r.o.Node, r.o.Policy, s.IssuedAt)
	if s.Node != want.Node {
		return fmt.Errorf("%w: it is of another node", ErrSchedule)
	}
	one, err1 := json.Marshal(s)
	two, err2 := json.Marshal(want)
	if s.Policy == want.Policy && (err1 != nil || err2 != nil || string(one) != string(two)) {
		return fmt.Errorf("%w: it says something else than the policy", ErrSchedule)
	}
	err = r.o.State.Update(ctx, func(t *state.Txn) error { t.Set([]byte(schedulePrefix+s.Policy), []byte(text)); return nil })
	if err != nil {
		return fmt.Errorf("keeping schedule: %w", err)
	}
	return r.retire(ctx)
}

// scheduleText is the approved schedule of a policy, empty where there is none.
func (r *Requests) scheduleText(policy string) (text string, err error) {
	err = r.o.State.View(func(v reader) error {
		b, err := v.Get([]byte(schedulePrefix + policy))
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		text = string(b)
		return err
	})
	return text, err
}

// schedule is the approved schedule of a policy, nil where there is none. It was kept by keepSchedule; the signature is looked at again, since
// the officer's key may have changed.
func (r *Requests) schedule(policy string) (*proof.Schedule, error) {
	text, err := r.scheduleText(policy)
	if err != nil || text == "" {
		return nil, err
	}
	s, err := proof.VerifySchedule(text, r.o.Approval)
	if err != nil || s.Policy != policy {
		return nil, nil // of a former key: it is in force no more
	}
	return &s, nil
}
