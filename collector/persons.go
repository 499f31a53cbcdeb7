package collector

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/pseudonymize/subject"
	"golang.org/x/sync/errgroup"
)

// declarers is how many persons of one request are declared at once, so that they share the writer's group commits.
const declarers = 32

// named is one person whom events of a back-end's request name.
type named struct {
	ids      []subject.Identifier
	site     *source
	purposes []string  // to declare
	since    time.Time // the earliest of the person's events
	until    time.Time // the newest
	items    []int
	person   subject.Subject
	flaw     wire.Flaw
	erasure  *erasure // nil: nobody has asked yet
}

// erasure is when a person with one of the identifiers was erased, if one was.
type erasure struct {
	at time.Time
	ok bool
}

// lookErased finds whether a refused event is from before its person was erased: a back-end that sends its history again must learn that this will
// never be taken, and that it holds what the person had erased. Only who is refused is looked up.
func (a *admission) lookErased(it *item, at time.Time) error {
	p := it.named
	if p == nil {
		return nil
	}
	if p.erasure == nil {
		when, ok, err := a.c.o.Ledger.ErasedAt(p.ids...)
		if err != nil {
			return fmt.Errorf("looking for an erasure: %w", err)
		}
		p.erasure = &erasure{when, ok}
	}
	if p.erasure.ok && at.UnixMilli() <= p.erasure.at.UnixMilli() {
		it.reason, it.purpose = Erased, ""
	}
	return nil
}

// findPersons finds whom a token's events are of, and declares the bases that the token may declare; only this creates a person.
// An identifier that cannot be read refuses its events alone.
func (a *admission) findPersons(submissions []wire.Submission) error {
	people, err := a.group(submissions)
	if err != nil {
		return err
	}
	var crew errgroup.Group
	crew.SetLimit(declarers)
	for _, p := range people {
		crew.Go(func() error { return a.find(p) })
	}
	if err := crew.Wait(); err != nil {
		return err
	}
	for _, p := range people {
		for _, i := range p.items {
			if a.items[i].person, a.items[i].named = p.person, p; p.flaw != "" {
				a.items[i].refuse(Invalid, p.flaw)
			}
		}
	}
	return nil
}

// group gathers the events of one person, so that each is looked up and declared once.
func (a *admission) group(submissions []wire.Submission) ([]*named, error) {
	var people []*named
	known := map[string]*named{}
	for i := range submissions {
		s, it := &submissions[i], &a.items[i]
		if it.reason != "" {
			continue
		}
		if s.Device != "" {
			credential, ok := subject.ParseCredential(s.Device)
			if !ok {
				it.refuse(Invalid, wire.BadDevice)
				continue
			}
			device, err := a.c.device(credential, true)
			if err != nil {
				return nil, err
			}
			it.device = device
		}
		if len(s.Subject) == 0 {
			continue
		}
		key := groupKey(it.site, s.Subject)
		p := known[key]
		if p == nil {
			ids, err := persons(s.Subject, it.site.Region)
			if err != nil {
				it.refuse(Invalid, wire.BadSubject)
				continue
			}
			p = &named{ids: ids, site: it.site, since: a.received} // an event may be ahead of the clock, a declaration not
			known[key], people = p, append(people, p)
		}
		p.add(i, it.kind, s.Touchpoint.Time, a.who.token.Declare)
	}
	return people, nil
}

// add takes in one more event of the person.
func (p *named) add(i int, k *kind, at time.Time, declare []string) {
	p.items = append(p.items, i)
	if at.Before(p.since) {
		p.since = at
	}
	if at.After(p.until) {
		p.until = at
	}
	for _, purpose := range k.declared {
		if slices.Contains(declare, purpose.ID) && !slices.Contains(p.purposes, purpose.ID) {
			p.purposes = append(p.purposes, purpose.ID)
		}
	}
}

func groupKey(s *source, list []wire.Identity) string {
	b := strings.Builder{}
	b.WriteString(s.Name)
	for _, id := range list {
		namespace, value := id.Raw()
		b.WriteByte(0)
		b.WriteString(namespace)
		b.WriteByte(0)
		b.WriteString(value)
	}
	return b.String()
}

// find looks a person up, or declares it where the token may.
func (a *admission) find(p *named) (err error) {
	if len(p.purposes) > 0 {
		p.person, err = a.c.o.Ledger.Declare(a.ctx, consent.Declaration{
			Site: p.site.ledger, Persons: p.ids, Purposes: p.purposes, Entity: a.who.token.Subject, Language: p.site.Language,
			Since: p.since, Until: p.until,
		})
	} else {
		p.person, err = a.c.o.Subjects.Person(p.ids...)
	}
	switch {
	case err == nil, errors.Is(err, subject.ErrUnknown), errors.Is(err, subject.ErrShredded), errors.Is(err, consent.ErrErased):
		return nil
	case errors.Is(err, subject.ErrTwoPersons):
		p.flaw = wire.TwoPersons
		return nil
	case errors.Is(err, subject.ErrNamespaceTaken): // in vain however often it comes: it must not hold up the others
		p.flaw = wire.OtherValue
		return nil
	}
	return fmt.Errorf("finding person: %w", err)
}
