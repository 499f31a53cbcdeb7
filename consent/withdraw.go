package consent

import (
	"context"
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
// intent commits with what was withdrawn (G3). Without linking a device's link ends; where a person withdraws it, or all, all links to him do.
//
// A purpose that does not stand is withdrawn all the same; where all are meant and none stands, there is nothing to record and the answer
// has no RecordID. ErrUnknownPurpose and ErrBasis: what was named is not a consent of this policy or of this subject.
func (l *Ledger) Withdraw(ctx context.Context, s subject.Subject, w Withdrawal) (Recorded, error) {
	a := w.act()
	var done *written
	err := l.state.Update(ctx, func(t *state.Txn) (err error) {
		done, err = l.withdraw(t, s, &a, w.Purposes)
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

// WithdrawIn is Withdraw as a part of the caller's change: what the caller reads inside t is what was before anything that is granted anew.
func (l *Ledger) WithdrawIn(t *state.Txn, s subject.Subject, w Withdrawal) error {
	a := w.act()
	if _, err := l.withdraw(t, s, &a, w.Purposes); err != nil {
		return fmt.Errorf("recording withdrawal: %w", err)
	}
	return nil
}

func (w *Withdrawal) act() act {
	return act{
		event: eventWithdrawal, site: w.Site, proof: policies.Asserted, method: w.Method, entity: w.Entity,
		evidence: w.Evidence.orNil(), clientTime: w.ClientTime,
	}
}

// withdraw appends the record inside the writer; nil where there is nothing to record.
func (l *Ledger) withdraw(t *state.Txn, s subject.Subject, a *act, purposes []string) (*written, error) {
	if err := l.alive(t, s.Slot()); err != nil {
		return nil, err
	}
	row, err := standingIn(t, s)
	if err != nil {
		return nil, err
	}
	if a.purposes, err = l.withdrawn(row, purposes); err != nil {
		return nil, err
	}
	if len(purposes) == 0 {
		if err := l.withdrawLinks(t, s, row, a); err != nil {
			return nil, err
		}
	}
	if len(a.purposes) == 0 {
		return nil, nil
	}
	return l.append(t, s, a)
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
