package pseudonymize

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"time"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// ReceiptGrid is the grid to which a row's receipt time is rounded down. Each destination's grid has an origin of its own, so that
// two destinations share no receipt time that could join their rows (EDPB 01/2025).
const ReceiptGrid = 15 * time.Minute

// Destination makes the rows of one destination. Two destinations share no pseudonym, event id, reference or receipt time.
//
//	pseudonym = HMAC(subject key, "pseudonym:" ‖ destination)[:16]
//	event id  = HMAC(subject key, "event:" ‖ destination ‖ 0x00 ‖ site ‖ 0x00 ‖ id)[:16], of the device where a grant of the
//	            row rests on it, else of the person; without a subject HMAC(HMAC(export key, "event:" ‖ destination), site ‖ 0x00 ‖ id)[:16]
//	pseudonymised field = "p1:" ‖ hex of HMAC(HMAC(export key, "value:" ‖ destination), field of the spool)[:16]: see Pseudonymised
//	reference = AES-256(HMAC(export key, "reference:" ‖ destination), slot ‖ record (4 each, big endian) ‖ "octroi-1")
type Destination struct {
	name            string
	purposes        map[string]bool
	eventKey        [32]byte // of events without a subject
	valueKey        [32]byte // of pseudonymised fields
	reference       cipher.Block
	clock           int64 // ms: origin of the receipt grid
	pseudonymUse    string
	eventUse        string
	referenceSuffix [8]byte
}

// NewDestination takes the ids of the purposes it is a recipient of, and the gateway's export key (32 bytes).
func NewDestination(name string, purposes []string, key []byte) (*Destination, error) {
	if name == "" || len(key) != 32 {
		return nil, errors.New("a destination needs a name and a key of 32 bytes")
	}
	ref := derive(key, "reference:"+name)
	block, err := aes.NewCipher(ref[:])
	if err != nil {
		return nil, err
	}
	clock := derive(key, "clock:"+name)
	d := &Destination{
		name: name, purposes: make(map[string]bool, len(purposes)), eventKey: derive(key, "event:"+name), valueKey: derive(key, "value:"+name), reference: block,
		clock:        int64(binary.BigEndian.Uint64(clock[:8]) % uint64(ReceiptGrid.Milliseconds())),
		pseudonymUse: "pseudonym:" + name, eventUse: "event:" + name + "\x00", referenceSuffix: [8]byte([]byte("octroi-1")),
	}
	for _, p := range purposes {
		d.purposes[p] = true
	}
	return d, nil
}

func derive(key []byte, use string) (out [32]byte) {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(use))
	h.Sum(out[:0])
	return out
}

// Name is the destination's name.
func (d *Destination) Name() string { return d.name }

// Row is one event as one destination gets it.
type Row struct {
	EventID                    [16]byte
	Time                       time.Time // truncated to the finest precision that one of its grants allows
	ReceivedAt                 time.Time // rounded down to the destination's own grid of ReceiptGrid
	Device, Person             *[16]byte // pseudonyms; nil: none
	Type, Channel, Stage, Site string
	Grants                     []RowGrant
	Policy                     [32]byte
	Campaign, Source, Medium   string
	Value                      Money
	Properties                 map[string]string

	DeviceSlot, PersonSlot subject.Slot // for the index; never encoded
}

// RowGrant is one purpose of a row, with the reference to the record it rests on.
type RowGrant struct {
	Purpose string
	Version int
	Basis   policies.Basis
	Ref     [16]byte     // zero where it rests on nobody's record (`subject: none`)
	Slot    subject.Slot // for the intent; never encoded
}

// Linked says whether the row's person is the one whom its device was linked to, under policies.Linking.
func (row *Row) Linked() bool {
	return slices.ContainsFunc(row.Grants, func(g RowGrant) bool { return g.Purpose == policies.Linking })
}

// Project is the row that the destination sees of e; ok is false where it receives none of the event's purposes. Fields and
// amounts that only other purposes allow are left out.
func (d *Destination) Project(e *Event) (row Row, ok bool) {
	mask := d.receives(e)
	if mask == 0 {
		return Row{}, false
	}
	row = Row{
		ReceivedAt: d.receipt(e.received), Type: e.typ, Channel: e.channel, Stage: e.stage, Site: e.site, Policy: e.policy,
		Grants: make([]RowGrant, 0, bits.OnesCount64(mask)),
	}
	var on rests
	finest := time.Duration(-1)
	for i := range e.grants {
		g := &e.grants[i]
		if mask&(1<<i) == 0 {
			continue
		}
		on.device = on.device || g.slot != 0 && g.slot == e.device.Slot()
		on.person = on.person || g.slot != 0 && g.slot == e.person.Slot() || g.purpose == policies.Linking
		if g.purpose != policies.Linking && (finest < 0 || g.precision < finest) { // linking allows nothing but the person
			finest = g.precision
		}
		row.Grants = append(row.Grants, RowGrant{g.purpose, g.version, g.basis, d.refer(g.slot, g.record), g.slot})
	}
	row.Time = e.time.Truncate(finest)
	if e.moneyFor&mask != 0 {
		row.Value = e.money
	}
	d.name16(&row, e, on)
	d.fill(&row, e, mask)
	return row, true
}

// receives is the set of e's grants that still hold and that the destination is a recipient of; linking only beside a consent of the device.
func (d *Destination) receives(e *Event) (mask uint64) {
	for i := range e.grants {
		if e.live&(1<<i) != 0 && d.purposes[e.grants[i].purpose] {
			mask |= 1 << i
		}
	}
	return e.grounded(mask)
}

// rests says whose records the grants of a row are.
type rests struct{ device, person bool }

// name16 sets the row's event id and the pseudonym of each subject that one of its grants rests on. A destination that only the device's consent
// opens does not learn whose device it is: that is a link, and needs the purpose of its own.
func (d *Destination) name16(row *Row, e *Event, on rests) {
	if !on.device && !on.person {
		id := derive(d.eventKey[:], e.site+"\x00"+e.id)
		row.EventID = [16]byte(id[:16])
		return
	}
	owner := e.device
	if !on.device {
		owner = e.person
	}
	row.EventID = d.EventID(owner, e.site, e.id)
	if on.device {
		p := d.Pseudonym(e.device)
		row.Device, row.DeviceSlot = &p, e.device.Slot()
	}
	if on.person {
		p := d.Pseudonym(e.person)
		row.Person, row.PersonSlot = &p, e.person.Slot()
	}
}

// EventID is how the destination's rows name an event that rests on owner: of the site, which calls it id.
func (d *Destination) EventID(owner subject.Subject, site, id string) [16]byte {
	sum := owner.Derive(d.eventUse + site + "\x00" + id)
	return [16]byte(sum[:16])
}

// fill sets the fields that mask allows; of two treatments of one field the more revealing one, which both purposes' recipient may see.
func (d *Destination) fill(row *Row, e *Event, mask uint64) {
	for i := range e.values {
		v := &e.values[i]
		if v.grants&mask == 0 || e.outranked(i, mask) {
			continue
		}
		switch v.name {
		case "campaign":
			row.Campaign = v.text
		case "source":
			row.Source = v.text
		case "medium":
			row.Medium = v.text
		default:
			if row.Properties == nil {
				row.Properties = make(map[string]string, len(e.values))
			}
			row.Properties[v.name] = v.text
			if v.treatment == policies.Pseudonymise {
				row.Properties[v.name] = d.pseudonymised(v.text)
			}
		}
	}
}

// outranked reports whether another value of the same field goes before e.values[i]. Two of one treatment are a device's and a person's pseudonymised
// value: as for the event id, the device's goes first.
func (e *Event) outranked(i int, mask uint64) bool {
	v := &e.values[i]
	for j := range e.values {
		o := &e.values[j]
		if j == i || o.name != v.name || o.grants&mask == 0 {
			continue
		}
		if a, b := o.treatment.Reveals(), v.treatment.Reveals(); a > b || a == b && e.restsOn(o) == e.device.Slot() {
			return true
		}
	}
	return false
}

// Pseudonym is the subject's pseudonym at the destination.
func (d *Destination) Pseudonym(s subject.Subject) [16]byte {
	p := s.Derive(d.pseudonymUse)
	return [16]byte(p[:16])
}

func (d *Destination) receipt(t time.Time) time.Time {
	ms, grid := t.UnixMilli()-d.clock, ReceiptGrid.Milliseconds()
	ms -= ((ms % grid) + grid) % grid
	return time.UnixMilli(ms + d.clock).UTC()
}

// refer is zero for a purpose that rests on no record: so a row shows which of its grants rest on the person, when one of them goes.
func (d *Destination) refer(slot subject.Slot, record uint32) (ref [16]byte) {
	if slot == 0 {
		return ref
	}
	binary.BigEndian.PutUint32(ref[:4], uint32(slot))
	binary.BigEndian.PutUint32(ref[4:8], record)
	copy(ref[8:], d.referenceSuffix[:])
	d.reference.Encrypt(ref[:], ref[:])
	return ref
}

// Resolve reverses a row's reference (consent.md G4); ErrReference where it is not one of this destination's.
func (d *Destination) Resolve(ref [16]byte) (slot subject.Slot, record uint32, err error) {
	d.reference.Decrypt(ref[:], ref[:])
	if [8]byte(ref[8:]) != d.referenceSuffix {
		return 0, 0, ErrReference
	}
	return subject.Slot(binary.BigEndian.Uint32(ref[:4])), binary.BigEndian.Uint32(ref[4:8]), nil
}
