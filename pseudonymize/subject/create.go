package subject

import (
	"errors"
	"fmt"

	"github.com/octroi/octroi/consent/state"
)

// MintDevice creates a device-level subject inside t: its tag row is committed with t. The slot's key is durable before it returns.
// A change that fails afterwards costs a slot, nothing else.
func (r *Registry) MintDevice(t *state.Txn) (Credential, Subject, error) {
	c := mintCredential()
	s, err := r.create(t, Device, []claim{{device, r.TagOf(c)}})
	if err != nil {
		return Credential{}, Subject{}, fmt.Errorf("minting a device: %w", err)
	}
	return c, s, nil
}

// EnsurePerson finds or creates, inside t, the person that ids name, and adds the tags that are new to it. Changes run one after another,
// so two calls with one identifier make one person. It writes nothing where all of ids are the person's already.
//
// A person has at most one value in a namespace: a second one, in ids or beside a known one, is ErrNamespaceTaken, and the first stays.
// Identifiers of two persons are ErrTwoPersons. After an error nothing was written. Identifiers by which nobody can be named (none,
// the zero one) are ErrIdentifier.
func (r *Registry) EnsurePerson(t *state.Txn, ids ...Identifier) (s Subject, created bool, err error) {
	claims, err := r.claim(ids)
	if err != nil {
		return Subject{}, false, fmt.Errorf("naming a person: %w", err)
	}
	var person Subject
	var fresh []claim
	for _, c := range claims {
		// The rows, not the table in memory: this change must see what earlier changes of its group deleted.
		s, err := r.readTag(t, c.tag)
		switch {
		case errors.Is(err, ErrUnknown):
			fresh = append(fresh, c)
			continue
		case err != nil:
			return Subject{}, false, fmt.Errorf("naming a person: %w", err)
		case person.Exists() && person.slot != s.slot:
			return Subject{}, false, fmt.Errorf("naming a person: %w", ErrTwoPersons)
		}
		person = s
	}
	switch {
	case !person.Exists():
		person, err = r.create(t, Person, fresh)
		created = true
	case len(fresh) > 0:
		err = r.extend(t, person, fresh)
	}
	if err != nil {
		return Subject{}, false, fmt.Errorf("naming a person: %w", err)
	}
	return person, created, nil
}

// claim computes the tags of ids, each once.
func (r *Registry) claim(ids []Identifier) ([]claim, error) {
	if len(ids) == 0 {
		return nil, fmt.Errorf("no identifier: %w", ErrIdentifier)
	}
	claims := make([]claim, 0, len(ids))
	for _, id := range ids {
		if id.namespace == 0 {
			return nil, fmt.Errorf("the zero identifier: %w", ErrIdentifier)
		}
		c := claim{id.namespace, r.Tag(id)}
		switch other, taken := inNamespace(claims, c.namespace); {
		case !taken:
			claims = append(claims, c)
		case other != c:
			return nil, fmt.Errorf("two values in namespace %s: %w", id.Namespace(), ErrNamespaceTaken)
		}
	}
	return claims, nil
}

func inNamespace(claims []claim, ns namespace) (claim, bool) {
	for _, c := range claims {
		if c.namespace == ns {
			return c, true
		}
	}
	return claim{}, false
}

// MintRequest gives out, inside t, a slot for a rights request: it has no tag. What the request freezes is sealed under it, and Shred ends it.
func (r *Registry) MintRequest(t *state.Txn) (Subject, error) {
	s, row, err := r.slots.give(Request)
	if err != nil {
		return Subject{}, fmt.Errorf("giving a request its slot: %w", err)
	}
	row.set(t)
	return s, nil
}

// create gives a slot out and writes the subject's rows.
func (r *Registry) create(t *state.Txn, kind Kind, claims []claim) (Subject, error) {
	s, row, err := r.slots.give(kind)
	if err != nil {
		return Subject{}, err
	}
	row.set(t)
	r.write(t, s, claims, claims)
	return s, nil
}

// extend adds claims to a person who has others.
func (r *Registry) extend(t *state.Txn, person Subject, fresh []claim) error {
	claims, err := readClaims(t, person)
	if err != nil {
		return err
	}
	for _, c := range fresh {
		if _, taken := inNamespace(claims, c.namespace); taken {
			return fmt.Errorf("namespace %s: %w", namespaces[c.namespace], ErrNamespaceTaken)
		}
	}
	r.write(t, person, append(claims, fresh...), fresh)
	return nil
}

// write sets the list of all of a subject's tags and the rows of the fresh ones, which lookups find once t is durable.
func (r *Registry) write(t *state.Txn, s Subject, all, fresh []claim) {
	writeClaims(t, s, all)
	row := encodeTagRow(s)
	for _, c := range fresh {
		t.Set(tagKey(c.tag), row)
	}
	t.OnCommit(func() {
		for _, c := range fresh {
			r.tags.put(c.tag, s.slot)
		}
	})
}
