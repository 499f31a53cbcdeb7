// Package pseudonymize turns what a site sent into an Event: only the fields that the grants allow, each after its treatment, and no
// identifier. It also makes, per destination, the pseudonyms, event ids and references of the rows that are shipped.
package pseudonymize

import (
	"errors"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The errors of this package.
var (
	ErrNoGrants = errors.New("no grants: nothing may be stored")
	ErrSealed   = errors.New("sealed event is damaged")
	ErrMoney    = errors.New("amount is not a decimal number of its currency")
)

// Field is one field of a touchpoint as the site sent it.
type Field struct{ Name, Text string }

// Money is an amount in the currency's minor unit.
type Money struct {
	Minor    int64
	Currency string // ISO 4217; empty: no amount
}

// ParseMoney reads a decimal amount such as "12.30" of an ISO 4217 currency.
func ParseMoney(amount, currency string) (Money, error) { panic("skeleton") }

// Touchpoint is one event as it came, before anything was removed.
type Touchpoint struct {
	ID       string // the site's own event id
	Site     string
	Channel  string
	Time     time.Time
	Received time.Time
	Fields   []Field
	Value    Money
}

// Event is an admitted, pseudonymous event. Only Apply and Sealed.Open make one; the zero value is refused by the spool.
type Event struct {
	ok                            bool
	id, site, typ, channel, stage string
	time, received                time.Time
	policy                        [32]byte
	sequence                      uint64
	device, person                subject.Subject
	grants                        []grant
	values                        []value
	money                         Money
	moneyFor                      uint64 // bit i: grants[i] allows the amount
}

// grant is a Grant as it is stored: purposes by id, since indexes change with the policy.
type grant struct {
	purpose string
	version int
	basis   policies.Basis
	slot    subject.Slot
	record  uint32
	precise time.Duration
}

// value is one field after one treatment, and the grants (by position) that allow it so.
type value struct {
	name, text string
	treatment  policies.Treatment
	grants     uint64
}

// Apply makes the Event that g allows of t: the union of the fields its purposes allow. ErrNoGrants where g is not valid.
func Apply(g *consent.Grants, t *Touchpoint) (Event, error) { panic("skeleton") }

func (e *Event) Valid() bool          { return e.ok }
func (e *Event) ID() string           { return e.id }
func (e *Event) Site() string         { return e.site }
func (e *Event) Received() time.Time  { return e.received }
func (e *Event) Sequence() uint64     { return e.sequence } // revocation sequence of its grants
func (e *Event) Device() subject.Slot { return e.device.Slot() }
func (e *Event) Person() subject.Slot { return e.person.Slot() }

// Sealed is an Event as the spool stores it: payload encrypted under keys derived from the device's and the person's.
type Sealed struct {
	Sequence       uint64 // revocation sequence
	ReceivedMillis int64  // Unix milliseconds
	Device, Person subject.Slot
	Payload        []byte // version byte ‖ nonce ‖ AES-256-GCM; destroyed with either subject's key
}

// Keys opens sealed events.
type Keys interface {
	BySlot(subject.Slot) (subject.Subject, error)
}

// Seal encrypts the event. none is the gateway's key for events without a subject (32 bytes).
func (e *Event) Seal(none []byte) (Sealed, error) { panic("skeleton") }

// Open reverses Seal: subject.ErrShredded where a subject in it was destroyed, ErrSealed where the bytes were changed.
func (s *Sealed) Open(k Keys, none []byte) (Event, error) { panic("skeleton") }

// Without strips the grants that revoked reports; ok is false where none is left.
func (e Event) Without(revoked func(slot subject.Slot, purpose string, sequence uint64) bool) (kept Event, ok bool) {
	panic("skeleton")
}

// Destination makes the rows of one destination. Two destinations share no pseudonym, event id, reference or receipt time.
type Destination struct{}

// NewDestination: purposes are the ids it is a recipient of; key is the gateway's export key (32 bytes).
func NewDestination(name string, purposes []string, key []byte) (*Destination, error) {
	panic("skeleton")
}

// Project is the row that the destination sees of e; ok is false where it receives none of the event's purposes.
func (d *Destination) Project(e *Event) (row Row, ok bool) { panic("skeleton") }

// Resolve reverses a Row's reference (G4).
func (d *Destination) Resolve(ref [16]byte) (slot subject.Slot, record uint32, err error) {
	panic("skeleton")
}

// Pseudonym is the subject's pseudonym at the destination.
func (d *Destination) Pseudonym(s subject.Subject) [16]byte { panic("skeleton") }

// Row is one event as one destination gets it.
type Row struct {
	EventID                    [16]byte
	Time                       time.Time // truncated to the coarsest precision of its grants' purposes
	ReceivedAt                 time.Time // rounded down to the destination's own grid of 15 minutes
	Device                     *[16]byte
	Person                     *[16]byte
	Type, Channel, Stage, Site string
	Grants                     []RowGrant
	Policy                     [32]byte
	Campaign, Source, Medium   string
	Value                      Money
	Properties                 map[string]string

	DeviceSlot, PersonSlot subject.Slot // for the index; never encoded
}

// RowGrant is one purpose of a row, with the reference to its consent record.
type RowGrant struct {
	Purpose string
	Version int
	Basis   policies.Basis
	Ref     [16]byte
	Slot    subject.Slot // for the intent; never encoded
}
