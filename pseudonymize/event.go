// Package pseudonymize turns what a site sent into an Event: only the fields that the grants allow, each after its treatment, and no
// identifier. It also makes, per destination, the pseudonyms, event ids and references of the rows that are shipped.
//
// Apply takes consent.Grants, which only the ledger makes, so nothing is stored without a ground; the spool takes only Events, so
// nothing is spooled without Apply. Events, Sealed and Rows are values; a Destination is immutable and safe for concurrent use.
package pseudonymize

import (
	"errors"
	"time"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The errors of this package.
var (
	ErrNoGrants  = errors.New("no grants: nothing may be stored")
	ErrSealed    = errors.New("sealed event is damaged")
	ErrMoney     = errors.New("amount is not a decimal number of its currency")
	ErrReference = errors.New("not a reference of this destination")
)

// Field is one field of a touchpoint as the site sent it.
type Field struct{ Name, Text string }

// Touchpoint is one event as it came, before anything was removed.
type Touchpoint struct {
	ID       string // the site's own event id
	Site     string
	Channel  string // empty: the event type's own
	Time     time.Time
	Received time.Time
	Fields   []Field
	Value    Money
}

// Event is an admitted, pseudonymous event. Only Apply and Sealed.Open make one; the zero value is refused by the spool.
type Event struct {
	id, site, typ, channel, stage string
	time, received                time.Time
	policy                        [32]byte
	sequence                      uint64
	device, person                subject.Subject
	grants                        []grant
	live                          uint64 // bit i: grants[i] still holds; 0 only in the zero value
	values                        []value
	money                         Money
	moneyFor                      uint64 // bit i: grants[i] allows the amount
}

// grant is a consent.Grant as it is stored: purposes by id, since indexes change with the policy.
type grant struct {
	purpose   string
	version   int
	basis     policies.Basis
	slot      subject.Slot // 0: the purpose declares `subject: none`
	record    uint32
	precision time.Duration
}

// value is one field after one treatment, and the grants (by position) that allow it so. What is pseudonymised is 16 bytes here, made with the key
// of the one subject on which all its grants rest, and gets its form at each destination.
type value struct {
	name, text string
	treatment  policies.Treatment
	grants     uint64
}

// Valid is false for the zero value, and for nothing else.
func (e *Event) Valid() bool { return e.live != 0 }

// ID is the site's own event id; with Site it is what duplicates are known by.
func (e *Event) ID() string { return e.id }

// Site is the name of the site that sent the event.
func (e *Event) Site() string { return e.site }

// Received is when the gateway received the event.
func (e *Event) Received() time.Time { return e.received }

// Sequence is the ledger's revocation sequence, read before the grants were checked.
func (e *Event) Sequence() uint64 { return e.sequence }

// Device is the slot of the device-level subject; 0: none.
func (e *Event) Device() subject.Slot { return e.device.Slot() }

// Person is the slot of the person-level subject; 0: none.
func (e *Event) Person() subject.Slot { return e.person.Slot() }

// Without strips the grants that revoked reports; ok is false where none is left. It is the regate of the data path. Of an event that carries a person
// over a link a grant goes as well with what the person revoked.
func (e Event) Without(revoked func(slot subject.Slot, purpose string, sequence uint64) bool) (kept Event, ok bool) {
	person := subject.Slot(0)
	if e.linked(e.live) {
		person = e.person.Slot()
	}
	for i := range e.grants {
		g := &e.grants[i]
		if g.slot != 0 && (revoked(g.slot, g.purpose, e.sequence) || person != 0 && revoked(person, g.purpose, e.sequence)) {
			e.live &^= 1 << i
		}
	}
	e.live = e.grounded(e.live)
	return e, e.live != 0
}

// linked says whether linking is one of some grants: then the event carries the person whom its device is linked to.
func (e *Event) linked(grants uint64) bool {
	for i := range e.grants {
		if grants&(1<<i) != 0 && e.grants[i].purpose == policies.Linking {
			return true
		}
	}
	return false
}

// grounded is some of the grants without linking, where no other of them rests on the device: linking lets nothing in by itself.
func (e *Event) grounded(grants uint64) uint64 {
	linking := uint64(0)
	for i := range e.grants {
		switch g := &e.grants[i]; {
		case grants&(1<<i) == 0:
		case g.purpose == policies.Linking:
			linking |= 1 << i
		case g.slot != 0 && g.slot == e.device.Slot():
			return grants
		}
	}
	return grants &^ linking
}
