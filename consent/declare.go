package consent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Declaration of a declared basis by a back-end's token.
type Declaration struct {
	Site     Site
	Persons  []subject.Identifier
	Purposes []string
	Entity   string
	Language string
	Since    time.Time // zero: now; a back-end's history may begin earlier
	Until    time.Time // of the newest event that it is for; zero: now
}

// Declare records that persons stand under purposes with a declared basis (contract, legal obligation, or a legitimate interest with its
// assessment and notice), creating the person. It writes nothing, and does not go through the writer, where the standing record already
// says so. The answer carries the person. ErrUnknownPurpose, ErrBasis (a consent cannot be declared), ErrUnknownNotice (no
// information notice), ErrGivenAt, and subject's errors about identifiers.
//
// Where one of the persons was erased at Since or later, the declaration counts from the millisecond after; ErrErased, and nothing is written, where
// Until is not later either.
func (l *Ledger) Declare(ctx context.Context, d Declaration) (subject.Subject, error) {
	if len(d.Purposes) == 0 {
		return subject.Subject{}, ErrNoChoice
	}
	if !d.Since.IsZero() && (d.Since.After(l.now()) || !writable(d.Since)) {
		return subject.Subject{}, ErrGivenAt
	}
	purposes := make([]*policies.Purpose, len(d.Purposes))
	for i, id := range d.Purposes {
		p, ok := l.policy.Purpose(id)
		if !ok {
			return subject.Subject{}, fmt.Errorf("purpose %q: %w", id, ErrUnknownPurpose)
		}
		if !p.Basis.Declared() {
			return subject.Subject{}, fmt.Errorf("purpose %q: %w", id, ErrBasis)
		}
		purposes[i] = p
	}
	s, ok, err := l.declared(&d, purposes)
	if ok || err != nil {
		return s, err
	}
	err = l.state.Update(ctx, func(t *state.Txn) (err error) {
		own := d
		if own.Since, err = l.sinceErasure(t, &d); err != nil {
			return err
		}
		if s, err = l.ensurePerson(t, d.Persons); err != nil {
			return err
		}
		return l.declare(t, s, &own, purposes)
	})
	if err != nil {
		return subject.Subject{}, fmt.Errorf("recording declaration: %w", err)
	}
	return s, nil
}

// declared finds the person and says whether all that d says is so already.
func (l *Ledger) declared(d *Declaration, purposes []*policies.Purpose) (subject.Subject, bool, error) {
	var s subject.Subject
	for i, id := range d.Persons {
		x, err := l.subjects.Person(id)
		if errors.Is(err, subject.ErrUnknown) || i > 0 && x.Slot() != s.Slot() {
			return subject.Subject{}, false, nil // the writer adds the identifier, or finds that they are two persons
		}
		if err != nil {
			return subject.Subject{}, false, fmt.Errorf("finding person: %w", err)
		}
		s = x
	}
	v, err := l.standingOf(&s)
	if err != nil {
		return subject.Subject{}, false, err
	}
	at := moment{event: d.since(l.now()), imported: true}
	for _, p := range purposes {
		if _, reason := v.judge(p.Index, at); reason != "" {
			return subject.Subject{}, false, nil
		}
	}
	return s, true, nil
}

// sinceErasure is from when the declaration counts; ErrErased where all that it is for happened before one of the persons was erased.
func (l *Ledger) sinceErasure(t *state.Txn, d *Declaration) (time.Time, error) {
	erased, ok, err := l.subjects.ErasedAt(t, d.Persons...)
	switch {
	case err != nil:
		return time.Time{}, err
	case !ok || d.since(l.now()) > erased.UnixMilli():
		return d.Since, nil
	case !d.Until.IsZero() && d.Until.UnixMilli() <= erased.UnixMilli():
		return time.Time{}, ErrErased
	}
	return erased.Add(time.Millisecond), nil
}

func (d *Declaration) since(now time.Time) int64 {
	if d.Since.IsZero() {
		return now.UnixMilli()
	}
	return d.Since.UnixMilli()
}

// declare appends, inside the writer, one record for each purpose that does not stand yet: each has its own information notice.
func (l *Ledger) declare(t *state.Txn, s subject.Subject, d *Declaration, purposes []*policies.Purpose) error {
	row, err := standingIn(t, s)
	if err != nil {
		return err
	}
	v, at := verdicts(l.policy, row), moment{event: d.since(l.now()), imported: true}
	for _, p := range purposes {
		if _, reason := v.judge(p.Index, at); reason == "" {
			continue
		}
		n, ok := l.policy.InformationNotice(p.ID, d.Language)
		if !ok || n.Text == "" {
			return fmt.Errorf("purpose %q: %w", p.ID, ErrUnknownNotice)
		}
		notice := l.noticeOf(n)
		ref := notice.ref(n.SHA256())
		a := act{
			event: eventDeclaration, site: d.Site, notice: &ref, proof: policies.Asserted, entity: d.Entity, language: n.Language,
			givenAt:  d.Since,
			purposes: []chosen{{purpose: p.ID, version: p.Version, basis: p.Basis, granted: true}},
		}
		if _, err := l.append(t, s, &a); err != nil {
			return err
		}
	}
	return nil
}
