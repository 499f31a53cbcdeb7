package journey

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Bounds of the window. What is beyond falls out oldest first, so that what is kept does not depend on the order in which it came.
const (
	lookback   = 30 * 24 * time.Hour // before the oldest open period (journeys.md "Journey")
	maxTouches = 2000                // of one device under one person, or of one subject alone
	maxWith    = 32                  // persons of a device and devices of a person: a device of more is nobody's
	maxLabel   = 64                  // bytes of a campaign, source or medium
)

// touchOf is what the window keeps of a row: declared segments of the fields, and no other.
func (j *Journeys) touchOf(row *pseudonymize.Row) Touch {
	t := Touch{
		At: row.Time.UnixMilli(), received: row.ReceivedAt.UnixMilli(), ID: row.EventID,
		Site: row.Site, Type: row.Type, Channel: row.Channel, Stage: row.Stage,
		Campaign: label(row.Campaign), Source: label(row.Source), Medium: label(row.Medium),
		Value: row.Value, Device: row.DeviceSlot, policy: row.Policy, grants: row.Grants,
	}
	for name := range j.o.Settings.Segments {
		if s := name + "=" + row.Properties[name]; j.segments[s] {
			t.Segments = append(t.Segments, s)
		}
	}
	slices.Sort(t.Segments)
	return t
}

// label is a text that may stand in a cell's name.
func label(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	if len(s) <= maxLabel {
		return s
	}
	return strings.ToValidUTF8(s[:maxLabel], "")
}

// rowOf is the row that a touch was of, as far as the window keeps it.
func (j *Journeys) rowOf(t *Touch, p place) (pseudonymize.Row, error) {
	row := pseudonymize.Row{
		EventID: t.ID, Time: unixMilli(t.At), ReceivedAt: unixMilli(t.received), Site: t.Site, Type: t.Type, Channel: t.Channel, Stage: t.Stage,
		Campaign: t.Campaign, Source: t.Source, Medium: t.Medium, Value: t.Value, Policy: t.policy, Grants: slices.Clone(t.grants),
	}
	for _, x := range t.Segments {
		name, value, _ := strings.Cut(x, "=")
		if row.Properties == nil {
			row.Properties = map[string]string{}
		}
		row.Properties[name] = value
	}
	for _, x := range []struct {
		slot, to  subject.Slot
		pseudonym **[16]byte
		of        *subject.Slot
	}{{slot: p.device, pseudonym: &row.Device, of: &row.DeviceSlot}, {slot: p.person, pseudonym: &row.Person, of: &row.PersonSlot}} {
		if x.slot == 0 {
			continue
		}
		s, err := j.o.Subjects.BySlot(x.slot)
		if err != nil {
			return row, fmt.Errorf("reading the subject of a touch: %w", err)
		}
		pseudonym := j.o.Destination.Pseudonym(s)
		*x.pseudonym, *x.of = &pseudonym, x.slot
	}
	return row, nil
}

// place is where touches lie: of a device's own (person 0), of a person without a device (device 0), or of a device while it was a person's.
type place struct{ person, device subject.Slot }

// owner is whose journey the touches of a place belong to: the person's, else the device's.
func (p place) owner() subject.Slot { return cmp.Or(p.person, p.device) }

func (p place) both() bool { return p.person != 0 && p.device != 0 }

// compareTouches is the order of a journey. Two of one instant are ordered by what nobody chose.
func compareTouches(a, b Touch) int {
	return cmp.Or(cmp.Compare(a.At, b.At), bytes.Compare(a.ID[:], b.ID[:]))
}

const touchesVersion = 1

// encodeTouches is a list of touches, sorted:
//
//	version ‖ texts: n (length ‖ bytes)* ‖ grounds: n (policy[32] ‖ n (purpose ‖ version ‖ basis ‖ reference[16] ‖ slot)*)*
//	‖ touches: n (At − the one before ‖ received − At ‖ id[16] ‖ site ‖ type ‖ channel ‖ stage ‖ campaign ‖ source ‖ medium ‖ currency ‖ minor ‖
//	ground ‖ n segments*)*
//
// Numbers are varints; a text is its place in the list of texts, where 0 is "". Equal lists have equal bytes. The device is the row's.
func encodeTouches(list []Touch) []byte {
	w := &touchWriter{texts: map[string]uint64{"": 0}}
	for i := range list {
		w.touch(&list[i])
	}
	out := make([]byte, 0, len(w.touches)+len(w.grounds)+256)
	out = binary.AppendUvarint(append(out, touchesVersion), uint64(len(w.order)))
	for _, text := range w.order {
		out = append(binary.AppendUvarint(out, uint64(len(text))), text...)
	}
	out = append(binary.AppendUvarint(out, uint64(len(w.sets))), w.grounds...)
	return append(binary.AppendUvarint(out, uint64(len(list))), w.touches...)
}

type touchWriter struct {
	texts            map[string]uint64
	order            []string
	sets             []*Touch // one for each ground that differs
	grounds, touches []byte
	at               int64
}

func (w *touchWriter) text(b []byte, s string) []byte {
	n, ok := w.texts[s]
	if !ok {
		w.order = append(w.order, s)
		n = uint64(len(w.order))
		w.texts[s] = n
	}
	return binary.AppendUvarint(b, n)
}

func (w *touchWriter) touch(t *Touch) {
	ground := w.ground(t)
	b := binary.AppendVarint(binary.AppendVarint(w.touches, t.At-w.at), t.received-t.At)
	w.at = t.At
	b = append(b, t.ID[:]...)
	for _, s := range [...]string{t.Site, t.Type, t.Channel, t.Stage, t.Campaign, t.Source, t.Medium, t.Value.Currency} {
		b = w.text(b, s)
	}
	b = binary.AppendVarint(b, t.Value.Minor)
	b = binary.AppendUvarint(b, ground)
	b = binary.AppendUvarint(b, uint64(len(t.Segments)))
	for _, s := range t.Segments {
		b = w.text(b, s)
	}
	w.touches = b
}

// ground is the place of the touch's grants among those that differ.
func (w *touchWriter) ground(t *Touch) uint64 {
	for i, other := range w.sets {
		if other.policy == t.policy && slices.Equal(other.grants, t.grants) {
			return uint64(i)
		}
	}
	w.sets = append(w.sets, t)
	b := binary.AppendUvarint(append(w.grounds, t.policy[:]...), uint64(len(t.grants)))
	for i := range t.grants {
		g := &t.grants[i]
		b = binary.AppendUvarint(w.text(b, g.Purpose), uint64(g.Version))
		b = append(w.text(b, string(g.Basis)), g.Ref[:]...)
		b = binary.AppendUvarint(b, uint64(g.Slot))
	}
	w.grounds = b
	return uint64(len(w.sets) - 1)
}

// decodeTouches reverses encodeTouches for a row of a device (0: none).
func decodeTouches(b []byte, device subject.Slot) ([]Touch, error) {
	r := touchReader{rest: string(b)}
	if r.take(1) != string(rune(touchesVersion)) {
		return nil, fmt.Errorf("%w: version of touches", errStored)
	}
	r.texts = append(make([]string, 0, 32), "")
	for range r.count() {
		r.texts = append(r.texts, r.take(r.uvarint()))
	}
	sets := make([]Touch, r.count())
	for i := range sets {
		copy(sets[i].policy[:], r.take(32))
		sets[i].grants = make([]pseudonymize.RowGrant, r.count())
		for k := range sets[i].grants {
			g := &sets[i].grants[k]
			g.Purpose, g.Version, g.Basis = r.text(), int(r.uvarint()), policies.Basis(r.text())
			copy(g.Ref[:], r.take(16))
			g.Slot = subject.Slot(r.uvarint())
		}
	}
	list := make([]Touch, r.count())
	at := int64(0)
	for i := range list {
		t := &list[i]
		at += r.varint()
		t.At, t.received, t.Device = at, at+r.varint(), device
		copy(t.ID[:], r.take(16))
		for _, s := range [...]*string{&t.Site, &t.Type, &t.Channel, &t.Stage, &t.Campaign, &t.Source, &t.Medium, &t.Value.Currency} {
			*s = r.text()
		}
		t.Value.Minor = r.varint()
		if n := r.uvarint(); n < uint64(len(sets)) {
			t.policy, t.grants = sets[n].policy, sets[n].grants
		} else {
			r.failed = true
		}
		for range r.count() {
			t.Segments = append(t.Segments, r.text())
		}
	}
	if r.failed || r.rest != "" {
		return nil, fmt.Errorf("%w: touches", errStored)
	}
	return list, nil
}

// touchReader reads what encodeTouches wrote; after a failure all reads give zero.
type touchReader struct {
	rest   string
	texts  []string
	failed bool
}

func (r *touchReader) take(n uint64) string {
	if n > uint64(len(r.rest)) {
		r.failed, r.rest = true, ""
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *touchReader) uvarint() uint64 {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		b := r.take(1)
		if b == "" {
			return 0
		}
		v |= uint64(b[0]&0x7f) << shift
		if b[0] < 0x80 {
			return v
		}
	}
	r.failed = true
	return 0
}

func (r *touchReader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// count is a number of things of at least one byte each.
func (r *touchReader) count() uint64 {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.failed = true
		return 0
	}
	return n
}

func (r *touchReader) text() string {
	n := r.uvarint()
	if n >= uint64(len(r.texts)) {
		r.failed = true
		return ""
	}
	return r.texts[n]
}
