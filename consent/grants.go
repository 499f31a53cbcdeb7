package consent

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Grant is one purpose that holds, and the record it rests on.
type Grant struct {
	Purpose *policies.Purpose
	Slot    subject.Slot // of the subject whose record it is; 0 where the purpose declares `subject: none`
	Record  uint32       // number of the record among the subject's
}

// Grants is the ledger's answer for one event: every purpose that holds. Only Check makes a valid one; the zero value is
// refused by pseudonymize.Apply. It is a value and allocates nothing.
type Grants struct {
	policy   *policies.Policy
	typ      *policies.EventType
	device   subject.Subject
	person   subject.Subject
	sequence uint64
	n        int
	list     [MaxPurposes]Grant
}

// MaxPurposes bounds the grants of one event: of the purposes that its type may serve, and of linking beside them.
const MaxPurposes = policies.MaxPurposesPerType + 1

func (g *Grants) Valid() bool                    { return g.n > 0 }
func (g *Grants) List() []Grant                  { return g.list[:g.n] }
func (g *Grants) Sequence() uint64               { return g.sequence } // the ledger's revocation sequence, read before the check
func (g *Grants) Policy() *policies.Policy       { return g.policy }
func (g *Grants) EventType() *policies.EventType { return g.typ }

// Device and Person are the subjects that some grant rests on; a subject that none rests on is not carried, so that an event
// does not tie a device to a person who stands under nothing. Where policies.Linking is granted, Person is whom the device is linked to.
func (g *Grants) Device() subject.Subject { return g.device }
func (g *Grants) Person() subject.Subject { return g.person }

// Query is what Check is asked.
type Query struct {
	Type     *policies.EventType // of the ledger's own policy
	Device   subject.Subject     // zero: none
	Person   subject.Subject     // zero: none
	Time     time.Time           // the event's own time (C6, G14)
	Received time.Time           // zero: now
	Imported bool                // a back-end's history: the consent is judged at the event's own time and must not be revoked now (C6)
	Objected policies.Mask       // purposes without a subject to which whoever asks objected (G11): they let nothing in
}

// Check answers which purposes of q.Type hold. It fails closed: an unreadable row is an error (503), never a grant, and so is a state that takes no
// more changes: who cannot withdraw must not be followed either (G2).
//
// A consent counts when it is the device's or, without a device, the person's; a declared basis when it is the person's. Beside a consent of
// the device that holds, its link adds policies.Linking and the person, where the query names none; nothing else travels over a link: neither the
// person's consents nor declared bases. On what is in memory it takes no lock and allocates nothing.
func (l *Ledger) Check(q *Query) (g Grants, refused Refusal, err error) {
	if err := l.state.Err(); err != nil {
		return Grants{}, Refusal{}, fmt.Errorf("checking consent: %w", err)
	}
	g = Grants{policy: l.policy, typ: q.Type, sequence: l.sequence.Load()} // before any standing: see Ledger.sequence
	at := moment{event: q.Time.UnixMilli(), received: q.Received.UnixMilli(), skew: l.skew, imported: q.Imported}
	if q.Received.IsZero() {
		at.received = l.now().UnixMilli()
	}
	device, err := l.standingOf(&q.Device)
	if err != nil {
		return Grants{}, Refusal{}, err
	}
	person, err := l.standingOf(&q.Person)
	if err != nil {
		return Grants{}, Refusal{}, err
	}
	refused.Reason = NoConsent // G1: also for a type that no purpose names
	if m := uint64(q.Type.Purposes & q.Objected); m != 0 {
		refused = Refusal{Objected, l.purposes[bits.TrailingZeros64(m)].ID}
	}
	for m := uint64(q.Type.Purposes &^ q.Objected &^ l.linkingBit); m != 0 && g.n < policies.MaxPurposesPerType; m &= m - 1 { // linking lets nothing in
		p := l.purposes[bits.TrailingZeros64(m)]
		if p.SubjectNone && p.Basis != policies.Consent {
			g.add(Grant{Purpose: p})
			continue
		}
		s, acts := person, &q.Person
		if p.Basis == policies.Consent && q.Device.Exists() {
			s, acts = device, &q.Device
		}
		record, reason := s.judge(p.Index, at)
		if reason != "" {
			if refused.Purpose == "" {
				refused = Refusal{reason, p.ID}
			}
			continue
		}
		g.add(Grant{p, acts.Slot(), record})
		if acts == &q.Device {
			g.device = q.Device
		} else {
			g.person = q.Person
		}
	}
	if g.n == 0 {
		return Grants{}, refused, nil
	}
	if g.device.Exists() && device.code == joined && !q.Person.Exists() {
		if err := l.join(&g, device, at); err != nil {
			return Grants{}, Refusal{}, err
		}
	}
	return g, Refusal{}, nil
}

// join adds what the device's link does to an event that a consent of the device lets in.
func (l *Ledger) join(g *Grants, device *verdict, at moment) error {
	person, record, err := l.joinedTo(device, at)
	if err == nil && person.Exists() {
		g.add(Grant{l.linking, g.device.Slot(), record})
		g.person = person
	}
	return err
}

func (g *Grants) add(x Grant) { g.list[g.n], g.n = x, g.n+1 }
