package pseudonymize

import (
	"encoding/binary"
	"time"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Codec v1, the plaintext of a sealed event. u is an unsigned varint, i a signed one, s a string (u length ‖ bytes):
//
//	id s ‖ site s ‖ type s ‖ channel s ‖ stage s ‖ time i (Unix ms) ‖ received i (Unix ms) ‖ policy (32) ‖ sequence u
//	‖ grants u × { purpose s ‖ version u ‖ basis s ‖ slot u ‖ record u ‖ precision u (ns) }
//	‖ values u × { name s ‖ text s ‖ treatment s ‖ grants u (bits) }
//	‖ currency s ‖ minor i ‖ grants that allow the amount u (bits)
//
// Grants that a regate stripped are not stored again: an event is encoded once, at its admission.
func (e *Event) encode(b []byte) []byte {
	for _, s := range []string{e.id, e.site, e.typ, e.channel, e.stage} {
		b = appendString(b, s)
	}
	b = binary.AppendVarint(b, e.time.UnixMilli())
	b = binary.AppendVarint(b, e.received.UnixMilli())
	b = append(b, e.policy[:]...)
	b = binary.AppendUvarint(b, e.sequence)
	b = binary.AppendUvarint(b, uint64(len(e.grants)))
	for i := range e.grants {
		g := &e.grants[i]
		b = appendString(b, g.purpose)
		b = binary.AppendUvarint(b, uint64(g.version))
		b = appendString(b, string(g.basis))
		b = binary.AppendUvarint(b, uint64(g.slot))
		b = binary.AppendUvarint(b, uint64(g.record))
		b = binary.AppendUvarint(b, uint64(g.precision))
	}
	b = binary.AppendUvarint(b, uint64(len(e.values)))
	for i := range e.values {
		v := &e.values[i]
		b = appendString(b, v.name)
		b = appendString(b, v.text)
		b = appendString(b, string(v.treatment))
		b = binary.AppendUvarint(b, v.grants)
	}
	b = appendString(b, e.money.Currency)
	b = binary.AppendVarint(b, e.money.Minor)
	return binary.AppendUvarint(b, e.moneyFor)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decode reads codec v1; what is left over, cut short or out of range is ErrSealed.
func decode(b []byte) (Event, error) {
	r := reader{text: string(b)}
	e := Event{id: r.str(), site: r.str(), typ: r.str(), channel: r.str(), stage: r.str()}
	e.time, e.received = time.UnixMilli(r.varint()).UTC(), time.UnixMilli(r.varint()).UTC()
	copy(e.policy[:], r.take(uint64(len(e.policy))))
	e.sequence = r.uvarint()
	e.grants = make([]grant, r.count(64))
	for i := range e.grants {
		e.grants[i] = grant{
			purpose: r.str(), version: int(r.uvarint()), basis: policies.Basis(r.str()),
			slot: subject.Slot(r.uvarint()), record: uint32(r.uvarint()), precision: time.Duration(r.uvarint()),
		}
	}
	e.live = 1<<len(e.grants) - 1
	e.values = make([]value, r.count(len(r.text)))
	for i := range e.values {
		e.values[i] = value{name: r.str(), text: r.str(), treatment: policies.Treatment(r.str()), grants: r.uvarint()}
	}
	e.money = Money{Currency: r.str(), Minor: r.varint()}
	e.moneyFor = r.uvarint()
	if r.failed || r.text != "" || e.live == 0 {
		return Event{}, ErrSealed
	}
	return e, nil
}

// reader reads codec v1 from a string, so that decoded strings share one allocation. After a failure all reads give zero.
type reader struct {
	text   string
	failed bool
}

func (r *reader) take(n uint64) string {
	if r.failed || n > uint64(len(r.text)) {
		r.failed, r.text = true, ""
		return ""
	}
	s := r.text[:n]
	r.text = r.text[n:]
	return s
}

func (r *reader) uvarint() uint64 {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		s := r.take(1)
		if s == "" {
			return 0
		}
		v |= uint64(s[0]&0x7f) << shift
		if s[0] < 0x80 {
			return v
		}
	}
	r.failed = true
	return 0
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *reader) str() string { return r.take(r.uvarint()) }

func (r *reader) count(limit int) int {
	n := r.uvarint()
	if n > uint64(limit) {
		r.failed = true
		return 0
	}
	return int(n)
}
