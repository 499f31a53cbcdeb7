package consent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Identification joins a device to a person from now on.
type Identification struct {
	Site    Site
	Device  subject.Subject
	Persons []subject.Identifier // of the person, who is created where nobody has them
	Method  string               // login_claim | token
	Entity  string               // who says so
	Said    time.Time            // when; zero: now
}

// Link is one time during which a device was joined to a person.
type Link struct {
	Device, Person subject.Subject
	Since          time.Time
	Until          time.Time // zero: nobody has ended it
	Method         string
}

// joint is the link of a device that nobody has ended, as its standing has it.
type joint struct {
	Person subject.Slot `json:"person"`
	Since  int64        `json:"since"`  // Unix milliseconds
	Record uint32       `json:"record"` // of the device: the one that says so
}

// Identify joins a device to a person from now on (architecture.md "Link, not merge"): events of the device that one of its consents lets in carry the
// person, for as long as the device consents to policies.Linking too. Nothing from before is joined. A link to another person ends; one to
// the same goes on, and nothing but identifiers that are new of him is written. The person is created where nobody has the identifiers.
//
// ErrNoLinking where the device does not consent to it now; subject's errors about identifiers, of which ErrTwoPersons and ErrNamespaceTaken say that
// they are not one person's; subject.ErrShredded where the erasure of either has begun; ErrErased where the person was erased after Said, so that nothing
// said before brings anybody back. After an error nothing was written.
func (l *Ledger) Identify(ctx context.Context, i Identification) (link Link, err error) {
	err = l.state.Update(ctx, func(t *state.Txn) (err error) {
		link, err = l.identify(t, &i)
		return err
	})
	if err != nil {
		return Link{}, fmt.Errorf("linking a device: %w", err)
	}
	return link, nil
}

func (l *Ledger) identify(t *state.Txn, i *Identification) (Link, error) {
	if i.Device.Kind() != subject.Device { // nobody consents for another: persons are linked to nobody
		return Link{}, ErrNoLinking
	}
	if err := l.alive(t, i.Device.Slot()); err != nil {
		return Link{}, err
	}
	row, err := standingIn(t, i.Device)
	if err != nil {
		return Link{}, err
	}
	now := utcMillis(l.now())
	if !l.consentsToLinking(row, now) {
		return Link{}, ErrNoLinking
	}
	if err := l.unerased(t, i.Persons, i.Said); err != nil {
		return Link{}, err
	}
	person, err := l.ensurePerson(t, i.Persons)
	if err != nil {
		return Link{}, err
	}
	his, err := standingIn(t, person)
	if err != nil {
		return Link{}, err
	}
	if j := row.Link; j != nil {
		if j.Person == person.Slot() && j.Since > his.Parted {
			return l.goesOn(t, i.Device, person, j)
		}
		if _, err := l.UnlinkIn(t, i.Site, i.Device, i.Entity); err != nil {
			return Link{}, err
		}
	}
	// To the gate a link of the very millisecond in which the person ended all is one of those.
	j := &joint{Person: person.Slot(), Since: max(now.UnixMilli(), his.Parted+1)}
	return l.link(t, i, person, j)
}

// link writes a link that begins.
func (l *Ledger) link(t *state.Txn, i *Identification, person subject.Subject, j *joint) (Link, error) {
	a := act{event: eventLink, site: i.Site, proof: policies.Asserted, method: i.Method, entity: i.Entity, link: j}
	if _, err := l.append(t, i.Device, &a); err != nil {
		return Link{}, err
	}
	x := linkTime{Other: person.Slot(), Record: j.Record, Since: j.Since, Method: i.Method}
	if err := l.addLink(t, i.Device, x); err != nil {
		return Link{}, err
	}
	x.Other = i.Device.Slot()
	if err := l.addLink(t, person, x); err != nil {
		return Link{}, err
	}
	return x.link(person, i.Device), nil
}

// goesOn is the link that stands already.
func (l *Ledger) goesOn(t *state.Txn, device, person subject.Subject, j *joint) (Link, error) {
	list, err := readLinks(t, device)
	if err != nil {
		return Link{}, err
	}
	at := slices.IndexFunc(list, func(x linkTime) bool { return x.Other == j.Person && x.Record == j.Record })
	if at < 0 {
		return Link{}, fmt.Errorf("finding a link: %w", ErrStored)
	}
	return list[at].link(device, person), nil
}

// Unlink ends the device's link, if it has one. When it has returned, no event is admitted with the person. What was received while the link stood
// keeps him: to take that back is to withdraw policies.Linking.
func (l *Ledger) Unlink(ctx context.Context, site Site, device subject.Subject, entity string) (ended bool, err error) {
	err = l.state.Update(ctx, func(t *state.Txn) (err error) {
		ended, err = l.UnlinkIn(t, site, device, entity)
		return err
	})
	return ended, err
}

// UnlinkIn is Unlink as a part of the caller's change.
func (l *Ledger) UnlinkIn(t *state.Txn, site Site, device subject.Subject, entity string) (ended bool, err error) {
	if err := l.alive(t, device.Slot()); err != nil {
		return false, fmt.Errorf("unlinking a device: %w", err)
	}
	row, err := standingIn(t, device)
	if err == nil && row.Link != nil {
		ended = true
		_, err = l.append(t, device, &act{event: eventUnlink, site: site, proof: policies.Asserted, entity: entity})
	}
	if err != nil {
		return false, fmt.Errorf("unlinking a device: %w", err)
	}
	return ended, nil
}

// Links are the times of a device or of a person, oldest first: of each the last maxLinks. Whoever was erased has none, also where a restored state that
// is older than the slot file still names them.
func (l *Ledger) Links(s subject.Subject) (out []Link, err error) {
	if !s.Exists() {
		return nil, nil
	}
	err = l.state.View(func(r state.Reader) error {
		list, err := readLinks(r, s)
		if err != nil {
			return err
		}
		for _, x := range list {
			other, err := l.subjects.BySlot(x.Other)
			if errors.Is(err, subject.ErrShredded) {
				continue
			}
			if err != nil {
				return err
			}
			link := x.link(s, other)
			if err := l.endsWithPerson(r, &link); err != nil {
				return err
			}
			out = append(out, link)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading links: %w", err)
	}
	return out, nil
}

// endsWithPerson gives a link its end where the person has ended all at once.
func (l *Ledger) endsWithPerson(r state.Reader, x *Link) error {
	if !x.Until.IsZero() {
		return nil
	}
	row, err := readStandingRow(r, x.Person)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err == nil && x.Since.UnixMilli() <= row.Parted {
		x.Until = time.UnixMilli(row.Parted).UTC()
	}
	return err
}

// Linked is the person to whom a device is joined now; the zero subject where it is joined to nobody, or consents to it no more.
func (l *Ledger) Linked(device subject.Subject) (person subject.Subject, err error) {
	v, err := l.standingOf(&device)
	if err != nil || v.code != joined {
		return subject.Subject{}, err
	}
	now := l.now().UnixMilli()
	person, _, err = l.joinedTo(v, moment{event: now, received: now})
	return person, err
}

// joinedTo is to whom a device's link joins what happened at a moment, and the record of the consent that it rests on; the zero subject: nobody.
func (l *Ledger) joinedTo(device *verdict, at moment) (person subject.Subject, record uint32, err error) {
	// Nothing is joined backwards: not what happened before the link, nor what came before it. No clock skew is tolerated here.
	if l.linking == nil || at.event < device.given || at.received < device.given {
		return subject.Subject{}, 0, nil
	}
	record, reason := device.next.judge(l.linking.Index, at)
	if reason != "" {
		return subject.Subject{}, 0, nil
	}
	if person, err = l.subjects.BySlot(subject.Slot(device.record)); err != nil {
		return subject.Subject{}, 0, nil // destroyed
	}
	his, err := l.standingOf(&person)
	if err != nil || his.code == parted && device.given <= his.given {
		return subject.Subject{}, 0, err
	}
	return person, record, nil
}

// consentsToLinking says whether the standing covers linking now.
func (l *Ledger) consentsToLinking(row *standing, now time.Time) bool {
	if l.linking == nil {
		return false
	}
	at := now.UnixMilli()
	_, reason := verdicts(l.policy, row).judge(l.linking.Index, moment{event: at, received: at})
	return reason == ""
}

// linkedUntil is until when the consent counts that a device's link rests on: the past where it lapsed, the present where it is another version's.
func (l *Ledger) linkedUntil(row *standing, now time.Time) int64 {
	if row.Link == nil || l.consentsToLinking(row, now) {
		return math.MaxInt64
	}
	until := now.UnixMilli()
	for i := range row.Holds {
		if h := &row.Holds[i]; h.Purpose == policies.Linking && len(h.Spans) > 0 {
			until = min(until, h.Spans[len(h.Spans)-1].until)
		}
	}
	return max(until, row.Link.Since)
}

// settleLink brings a device's link up to date with an act, and returns the one that ends. A link ends with the consent that it rests on, and a
// later consent does not revive it; nor one that lapsed since, or was given for another version.
func (l *Ledger) settleLink(row *standing, a *act, now time.Time, until int64) (over *joint) {
	switch {
	case a.event == eventLink:
		a.link.Record = row.Records + 1
		row.Link = a.link
		return nil
	case row.Link == nil, a.event != eventUnlink && until > now.UnixMilli() && l.consentsToLinking(row, now):
		return nil
	}
	over, row.Link = row.Link, nil
	return over
}

// unlinked writes that a device's link is over: a record, but for an act that is its own, and the end on both sides.
func (l *Ledger) unlinked(t *state.Txn, device subject.Subject, j *joint, a *act, until int64) error {
	if a.event != eventUnlink {
		_, err := l.append(t, device, &act{event: eventUnlink, site: a.site, proof: policies.Asserted, entity: a.entity})
		if err != nil {
			return err
		}
	}
	x := linkTime{Other: j.Person, Record: j.Record}
	person, err := l.subjects.BySlot(j.Person)
	switch {
	case errors.Is(err, subject.ErrShredded): // his side went with him
		return l.endLink(t, device, x, until)
	case err != nil:
		return fmt.Errorf("finding whom a device is linked to: %w", err)
	}
	his, err := standingIn(t, person)
	if err != nil {
		return err
	}
	if j.Since <= his.Parted {
		until = min(until, his.Parted)
	}
	if err := l.endLink(t, device, x, until); err != nil {
		return err
	}
	x.Other = device.Slot()
	return l.endLink(t, person, x, until)
}

// part makes what a person refuses or withdraws hold of what carries him over a link too: it lists the purposes, for spooled events to lose them, and
// without linking all links to him end, by a time in his own standing, however many they are. The consents of the devices stay: nothing
// travels over a link.
func (l *Ledger) part(t *state.Txn, s subject.Subject, row *standing, a *act, now time.Time) (purposes []string, err error) {
	if s.Kind() != subject.Person {
		return nil, nil
	}
	for i := range a.purposes {
		if c := &a.purposes[i]; !c.granted && c.basis == policies.Consent {
			purposes = append(purposes, c.purpose)
		}
	}
	if len(purposes) == 0 {
		return nil, nil
	}
	list, err := readLinks(t, s)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if slices.Contains(purposes, policies.Linking) {
		row.Parted = now.UnixMilli()
	}
	return purposes, nil
}

// withdrawLinks adds linking to what a person withdraws who withdraws all, where a device is linked to him.
func (l *Ledger) withdrawLinks(t *state.Txn, s subject.Subject, row *standing, a *act) error {
	if s.Kind() != subject.Person || l.linking == nil || slices.ContainsFunc(a.purposes, func(c chosen) bool { return c.purpose == policies.Linking }) {
		return nil
	}
	list, err := readLinks(t, s)
	if err == nil && slices.ContainsFunc(list, func(x linkTime) bool { return x.Until == 0 && x.Since > row.Parted }) {
		a.purposes = append(a.purposes, chosen{purpose: policies.Linking, version: l.linking.Version, basis: policies.Consent, withdraw: true})
	}
	return err
}
