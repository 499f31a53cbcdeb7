package rights

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Withdrawals make an erasure of each withdrawal of a purpose that says `on_withdrawal: erase` (GDPR Art. 17(1)(b)). It is made before the ledger
// opens, whose changes it joins (consent.Options.Revoked). Safe for concurrent use.
type Withdrawals struct {
	policy       *policies.Policy
	destinations []string
	now          func() time.Time
	journeys     Journeys // nil: there are none
}

// Subtract has what is withdrawn subtracted from journeys in the same change. It is called before anybody can withdraw.
func (w *Withdrawals) Subtract(j Journeys) { w.journeys = j }

// NewWithdrawals takes the policy and the names of the destinations.
func NewWithdrawals(policy *policies.Policy, destinations []string) *Withdrawals {
	return &Withdrawals{policy: policy, destinations: slices.Sorted(slices.Values(destinations)), now: time.Now}
}

// withdrawnRow is a withdrawal of which the machine makes a request: it stands in the change of the withdrawal itself, so that there is exactly
// one for each. Purposes and slot are what the revocation's own row says as well.
type withdrawnRow struct {
	Format   int               `json:"v"` // 1
	Purposes []string          `json:"purposes"`
	Heads    map[string]uint64 `json:"heads"`
	At       time.Time         `json:"at"`
}

func withdrawnKey(slot subject.Slot) []byte {
	return binary.BigEndian.AppendUint32([]byte(withdrawnPrefix), uint32(slot))
}

// Revoked leaves, inside t, the job of what was revoked.
func (w *Withdrawals) Revoked(t *state.Txn, s subject.Subject, purposes []string) error {
	var erased []string
	for _, id := range purposes {
		if p, ok := w.policy.Purpose(id); ok && p.OnWithdrawal == policies.Erase {
			erased = append(erased, id)
		}
	}
	if len(erased) == 0 {
		return nil
	}
	slices.Sort(erased)
	if w.journeys != nil {
		if err := w.journeys.Erase(t, s, erased); err != nil {
			return fmt.Errorf("subtracting journeys: %w", err)
		}
	}
	heads, err := export.Heads(t, w.destinations...)
	if err != nil {
		return err
	}
	id := uuid.New() // of the request
	row := withdrawnRow{Format: rowFormat, Purposes: slices.Compact(erased), Heads: heads, At: w.now().UTC().Truncate(time.Millisecond)}
	return setRow(t, append(withdrawnKey(s.Slot()), id[:]...), row)
}

// dropWithdrawn deletes, inside t, the jobs that withdrawals by a subject left and that an erasure of these purposes covers.
func dropWithdrawn(t *state.Txn, slot subject.Slot, purposes []string) error {
	var covered [][]byte
	err := t.Scan(withdrawnKey(slot), func(key, _ []byte) error {
		var row withdrawnRow
		if _, err := readRow(t, key, &row); err != nil {
			return err
		}
		if !slices.ContainsFunc(row.Purposes, func(p string) bool { return !slices.Contains(purposes, p) }) {
			covered = append(covered, key)
		}
		return nil
	})
	for _, key := range covered {
		t.Delete(key)
	}
	return err
}

// convertWithdrawals makes the requests of withdrawals, some at a time.
func (r *Requests) convertWithdrawals(ctx context.Context) error {
	const most = 500 // a pass
	type withdrawal struct {
		key []byte
		row withdrawnRow
	}
	var list []withdrawal
	err := r.o.State.View(func(v reader) error {
		return v.Scan([]byte(withdrawnPrefix), func(key, _ []byte) error {
			if len(list) == most {
				return state.ErrStop
			}
			x := withdrawal{key: key}
			_, err := readRow(v, key, &x.row)
			list = append(list, x)
			return err
		})
	})
	if err != nil {
		return err
	}
	for _, x := range list {
		if r.open.Load() >= maxWithdrawals {
			return fmt.Errorf("%w: withdrawals wait for their erasure: does the custodian work, and is its daily cap what you need", ErrTooMany)
		}
		if err := r.convert(ctx, x.key, &x.row); err != nil {
			return fmt.Errorf("withdrawal: %w", err)
		}
	}
	if len(list) > 0 {
		r.stir()
	}
	return nil
}

// convert makes one request, in one change with the end of what it is made of.
func (r *Requests) convert(ctx context.Context, key []byte, row *withdrawnRow) error {
	if len(key) != len(withdrawnPrefix)+4+16 || row.Format != rowFormat {
		return fmt.Errorf("%w: withdrawal", ErrStored)
	}
	id, err := idOf(key)
	if err != nil {
		return err
	}
	s, err := r.o.Subjects.BySlot(subject.Slot(binary.BigEndian.Uint32(key[len(withdrawnPrefix):])))
	gone := errors.Is(err, subject.ErrShredded) // erased as a whole since
	if err != nil && !gone {
		return err
	}
	return r.o.State.Update(ctx, func(t *state.Txn) error {
		if _, err := t.Get(key); errors.Is(err, state.ErrNotFound) {
			return nil
		}
		t.Delete(key)
		if gone {
			return nil
		}
		in := submission{
			right: proof.Erasure, origin: proof.ByWithdrawal, actor: person, subject: s, purposes: row.Purposes,
			received: row.At.Truncate(time.Second), proven: true,
		}
		q, err := r.enter(t, &in, id)
		if err != nil {
			return err
		}
		if err := q.move(begin); err != nil {
			return err
		}
		// What was sealed since has no row of what was withdrawn, but may have rows of what was given anew.
		q.Step, q.Heads, q.Suppressed = suppressed, row.Heads, r.now()
		if err := r.note(t, q, proof.Leaf{Event: proof.EventSuppressed, Actor: gateway, Time: q.Suppressed}); err != nil {
			return err
		}
		return q.set(t)
	})
}
