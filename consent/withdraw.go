package consent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Withdrawal says what is withdrawn, where and how.
type Withdrawal struct {
	Site       Site
	Purposes   []string // none: all
	Method     string
	Evidence   Circumstances
	Entity     string
	ClientTime time.Time
}

// Withdraw appends a withdrawal of the purposes (none: all that stand). When it has returned, no later event is admitted and no
// intent commits with what was withdrawn (G3).
//
// A purpose that does not stand is withdrawn all the same; where all are meant and none stands, there is nothing to record and the answer
// has no RecordID. ErrUnknownPurpose and ErrBasis: what was named is not a consent of this policy or of this subject.
func (l *Ledger) Withdraw(ctx context.Context, s subject.Subject, w Withdrawal) (Recorded, error) {
	a := act{
		event: eventWithdrawal, site: w.Site, proof: policies.Asserted, method: w.Method, entity: w.Entity,
		evidence: w.Evidence.orNil(), clientTime: w.ClientTime,
	}
	var done *written
	err := l.state.Update(ctx, func(t *state.Txn) (err error) {
		done = nil
		if err := l.alive(t, s.Slot()); err != nil {
			return err
		}
		row, err := readStandingRow(t, s)
		if errors.Is(err, state.ErrNotFound) {
			row, err = new(standing), nil
		}
		if err != nil {
			return fmt.Errorf("reading standing: %w", err)
		}
		if a.purposes, err = l.withdrawn(row, w.Purposes); err != nil || len(a.purposes) == 0 {
			return err
		}
		done, err = l.append(t, s, &a)
		return err
	})
	if err != nil {
		return Recorded{}, fmt.Errorf("recording withdrawal: %w", err)
	}
	if done == nil {
		return Recorded{State: ConsentWithdrawn, Purposes: map[string]bool{}}, nil
	}
	r := l.answer(&done.core, done.id, time.Time{})
	if r.Receipt, err = l.receipt(done, &a); err != nil {
		return Recorded{}, fmt.Errorf("making receipt: %w", err)
	}
	return r, nil
}

// withdrawn lists what a withdrawal takes away. A purpose that the policy no longer has can still be withdrawn.
func (l *Ledger) withdrawn(row *standing, named []string) ([]chosen, error) {
	var out []chosen
	if len(named) == 0 {
		for i := range row.Holds {
			if h := &row.Holds[i]; h.Basis == policies.Consent && h.stands() {
				out = append(out, chosen{purpose: h.Purpose, version: h.Version, basis: h.Basis, withdraw: true})
			}
		}
		return out, nil
	}
	named = distinct(slices.Clone(named))
	for _, id := range named {
		c := chosen{purpose: id, basis: policies.Consent, withdraw: true}
		if i := slices.IndexFunc(row.Holds, func(h hold) bool { return h.Purpose == id }); i >= 0 {
			c.version, c.basis = row.Holds[i].Version, row.Holds[i].Basis
		} else if p, ok := l.policy.Purpose(id); ok {
			c.version, c.basis = p.Version, p.Basis
		} else {
			return nil, fmt.Errorf("purpose %q: %w", id, ErrUnknownPurpose)
		}
		if c.basis != policies.Consent {
			return nil, fmt.Errorf("purpose %q: %w", id, ErrBasis)
		}
		out = append(out, c)
	}
	return out, nil
}
