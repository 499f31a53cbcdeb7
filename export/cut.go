package export

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// Cut says what is taken out of rows: by custodian and loader alike, so that both end with the same rows. It is read only, and safe for
// concurrent use. The zero Cut takes nothing but rows without a grant.
//
// Several cuts of a row are made one after another: first those of whole rows, since a row that has lost a pseudonym is no longer that
// person's; then the others, in any order but for those of policies.Linking, which come last: they take the person off, and with him his say in the row.
type Cut struct {
	Devices, Persons map[[16]byte]bool    // pseudonyms at the destination
	Purposes         map[string]bool      // what goes of their rows; nil: the whole row
	Rules            PurposeRules         // what the purposes that stay allow
	Expired          map[string]time.Time // retention: of every row received before the time the purpose goes; beside pseudonyms
}

// CutOf is the cut of a notice; ErrEntry where it names nobody, or not as a notice must.
func CutOf(n Notice) (Cut, error) {
	if n.Version != 1 {
		return Cut{}, fmt.Errorf("reading notice: %w: its version is %d", ErrEntry, n.Version)
	}
	c := Cut{Rules: n.Rules}
	for _, list := range []struct {
		from []string
		to   *map[[16]byte]bool
	}{{n.Devices, &c.Devices}, {n.Persons, &c.Persons}} {
		*list.to = make(map[[16]byte]bool, len(list.from))
		for _, text := range list.from {
			p, ok := parsePseudonym(text)
			if !ok {
				return Cut{}, fmt.Errorf("reading notice: %w: a pseudonym is not 32 lower-case hex digits", ErrEntry)
			}
			(*list.to)[p] = true
		}
	}
	if len(c.Devices)+len(c.Persons) == 0 {
		return Cut{}, fmt.Errorf("reading notice: %w: it names nobody", ErrEntry)
	}
	for _, id := range n.Purposes {
		if id == "" {
			return Cut{}, fmt.Errorf("reading notice: %w: a purpose has no name", ErrEntry)
		}
		if c.Purposes == nil {
			c.Purposes = map[string]bool{}
		}
		c.Purposes[id] = true
	}
	return c, nil
}

func parsePseudonym(text string) (p [16]byte, ok bool) {
	_, err := hex.Decode(p[:], []byte(text[:min(len(text), 32)]))
	return p, err == nil && hex.EncodeToString(p[:]) == text
}

// Row applies the cut to row in place. keep is false where no purpose is left; changed says whether anything of it differs.
//
// A row that loses a purpose loses what only that purpose allowed: its grant, fields (treated again as the strongest purpose that stays
// allows), amount, and the pseudonym that no grant rests on any more. A consent's grant rests on the device where the row has one, else on the
// person; a declared basis on the person, or on nobody where it has no reference. A purpose without rules allows no field.
//
// A row with policies.Linking carries whom its device was linked to: it is a row of both, and what either of them takes from it goes, though each
// grant rests on the device. Without linking the person goes; and linking goes, it being no ground of its own, with the last other grant that
// rests on the device.
//
// What is left is the row that pseudonymize.Destination would have made of the event without that purpose, but for two columns. The event id
// stays, which is what the loader knows the row by. And so does the time: what stays may ask for a coarser one, which rules do not tell. A field that
// the lost purpose kept as it was and the others pseudonymise is not left at all: that would need a key.
func (c *Cut) Row(row *pseudonymize.Row) (keep, changed bool) {
	device, person := row.Device != nil && c.Devices[*row.Device], row.Person != nil && c.Persons[*row.Person]
	if len(row.Grants) == 0 || (device || person) && c.Purposes == nil {
		return false, true
	}
	if !device && !person && len(c.Expired) == 0 { // nearly every row
		return true, false
	}
	ofDevice := device || person && row.Linked()
	goes := func(g pseudonymize.RowGrant) bool {
		if until, ok := c.Expired[g.Purpose]; ok && row.ReceivedAt.Before(until) {
			return true
		}
		switch restsOn(row, &g) {
		case onDevice:
			return ofDevice && c.Purposes[g.Purpose]
		case onPerson:
			return person && c.Purposes[g.Purpose]
		}
		return false
	}
	if !slices.ContainsFunc(row.Grants, goes) {
		return true, false
	}
	// Whom each grant rests on is a question to the row as it was: pseudonyms go after the grants.
	row.Grants = slices.DeleteFunc(row.Grants, goes)
	dropLinking(row)
	if len(row.Grants) == 0 {
		return false, true
	}
	dropPseudonyms(row)
	c.Rules.retreat(row)
	return true, true
}

// holder is whom a grant rests on.
type holder int

const (
	onNobody holder = iota
	onDevice
	onPerson
)

// restsOn is consent.Ledger.Check read backwards. Of a linked row linking rests on the device like all consents there, and nothing on the person: what he
// agreed to, or stands under, does not travel over a link.
func restsOn(row *pseudonymize.Row, g *pseudonymize.RowGrant) holder {
	switch {
	case g.Basis == policies.Consent && row.Device != nil:
		return onDevice
	case row.Person == nil, g.Basis != policies.Consent && g.Ref == [16]byte{}:
		return onNobody
	}
	return onPerson
}

// dropLinking takes linking off a row where no other grant rests on the device: it lets nothing in by itself.
func dropLinking(row *pseudonymize.Row) {
	linking := func(g pseudonymize.RowGrant) bool { return g.Purpose == policies.Linking }
	if !slices.ContainsFunc(row.Grants, func(g pseudonymize.RowGrant) bool { return !linking(g) && restsOn(row, &g) == onDevice }) {
		row.Grants = slices.DeleteFunc(row.Grants, linking)
	}
}

// dropPseudonyms takes off the pseudonyms that no grant rests on, of a person also without linking.
func dropPseudonyms(row *pseudonymize.Row) {
	var rests [onPerson + 1]bool
	for i := range row.Grants {
		rests[restsOn(row, &row.Grants[i])] = true
	}
	if !rests[onDevice] {
		row.Device, row.DeviceSlot = nil, 0
	}
	if !rests[onPerson] && !row.Linked() {
		row.Person, row.PersonSlot = nil, 0
	}
}

// retreat treats a row's fields as its grants allow.
func (r PurposeRules) retreat(row *pseudonymize.Row) {
	row.Campaign = pseudonymize.Treat(r.strongest(row, "campaign"), row.Campaign)
	row.Source = pseudonymize.Treat(r.strongest(row, "source"), row.Source)
	row.Medium = pseudonymize.Treat(r.strongest(row, "medium"), row.Medium)
	if r.strongest(row, "value") != policies.Keep {
		row.Value = pseudonymize.Money{}
	}
	for name, text := range row.Properties {
		if text = pseudonymize.Treat(r.strongest(row, name), text); text != "" {
			row.Properties[name] = text
		} else {
			delete(row.Properties, name)
		}
	}
	if len(row.Properties) == 0 {
		row.Properties = nil
	}
}

// strongest is the most revealing treatment of a field that the row's purposes allow.
func (r PurposeRules) strongest(row *pseudonymize.Row, field string) policies.Treatment {
	best := policies.Drop
	for i := range row.Grants {
		if t := r[row.Grants[i].Purpose][field]; t.Reveals() > best.Reveals() {
			best = t
		}
	}
	return best
}
