package consent

import (
	"fmt"
	"maps"
	"slices"

	"github.com/octroi/octroi/policies"
)

// weighed is a choice after its proof was looked at (C4).
type weighed struct {
	granted []chosen
	refused []chosen
	notice  *NoticeRef
	proof   policies.Proof
	// problem is why nothing of what was to be granted is recorded. What was refused is recorded all the same: a signal may always
	// lower permission.
	problem error
}

// shown is what the post proves of what the person saw.
type shown struct {
	proof    policies.Proof
	notice   *NoticeRef
	versions map[string]int // of the purposes in the notice
	weak     error          // why the snapshot that came is none
	unknown  bool           // a notice was named that was never published
}

// weigh sorts a choice into what is granted and what is refused, and finds whether the proof carries what is granted.
func (l *Ledger) weigh(c *Choice) weighed {
	seen := l.seen(c)
	w := weighed{notice: seen.notice, proof: seen.proof}
	for _, id := range slices.Sorted(maps.Keys(c.Purposes)) {
		p, ok := l.policy.Purpose(id)
		if !ok {
			w.fail(fmt.Errorf("purpose %q: %w", id, ErrUnknownPurpose))
			continue
		}
		if p.Basis != policies.Consent {
			w.fail(fmt.Errorf("purpose %q: %w", id, ErrBasis))
			continue
		}
		proof, version := seen.of(p)
		x := chosen{purpose: id, version: version, basis: p.Basis, granted: c.Purposes[id], validity: p.Validity}
		switch {
		case !x.granted:
			w.refused = append(w.refused, x)
			continue
		case seen.unknown:
			w.fail(fmt.Errorf("purpose %q: %w", id, ErrUnknownNotice)) // C3
		case proof < p.MinimumProof && seen.weak != nil:
			w.fail(&ProofError{id, seen.weak})
		case proof < p.MinimumProof:
			w.fail(&ProofError{id, ErrProof})
		}
		w.granted = append(w.granted, x)
		w.proof = min(w.proof, proof) // the record says what holds for all that it grants
	}
	if w.problem != nil {
		w.granted, w.proof = nil, seen.proof
	}
	return w
}

// fail keeps the first problem.
func (w *weighed) fail(err error) {
	if w.problem == nil {
		w.problem = err
	}
}

// seen finds the best proof that came with the choice.
func (l *Ledger) seen(c *Choice) shown {
	s := shown{proof: policies.Asserted}
	if c.Snapshot != "" {
		claims, err := l.readSnapshot(c.Site.Name, c.Snapshot)
		if err == nil {
			if _, err = l.resolve(&claims.Notice); err == nil {
				return shown{proof: policies.Snapshot, notice: &claims.Notice, versions: claims.Purposes}
			}
		}
		s.weak = err
	}
	if c.Notice == nil {
		return s
	}
	n, err := l.resolve(c.Notice)
	if err != nil {
		s.unknown = true
		return s
	}
	ref := n.ref(c.Notice.SHA256)
	return shown{proof: policies.RegisteredBanner, notice: &ref, versions: n.Versions, weak: s.weak}
}

// of is the proof for one purpose, and the version that was shown: a notice proves nothing of a purpose it does not name.
func (s *shown) of(p *policies.Purpose) (policies.Proof, int) {
	if version, ok := s.versions[p.ID]; ok {
		return s.proof, version
	}
	return policies.Asserted, p.Version
}
