package access

import (
	"encoding/hex"
	"time"

	"github.com/octroi/octroi/pseudonymize"
)

// record is one event of the person at one destination, as package.json has it.
type record struct {
	EventID    string            `json:"event_id"`
	Time       time.Time         `json:"time"`
	ReceivedAt time.Time         `json:"received_at"` // rounded to the destination's grid
	Device     string            `json:"device,omitempty"`
	Person     string            `json:"person,omitempty"`
	Type       string            `json:"type"`
	Channel    string            `json:"channel"`
	Stage      string            `json:"stage"`
	Site       string            `json:"site"`
	Grants     []recordGrant     `json:"grants"`
	Policy     string            `json:"policy_sha256"`
	Campaign   string            `json:"campaign,omitempty"`
	Source     string            `json:"source,omitempty"`
	Medium     string            `json:"medium,omitempty"`
	Value      *recordValue      `json:"value,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
}

// recordGrant is what one purpose rested on. Ref is left out of a row that also carries another subject: it may be that one's.
type recordGrant struct {
	Purpose string `json:"purpose"`
	Version int    `json:"version"`
	Basis   string `json:"legal_basis"`
	Ref     string `json:"ref,omitempty"`
}

// recordValue is an amount as the wire has it.
type recordValue struct {
	Amount   string `json:"amount"` // decimal
	Currency string `json:"currency"`

	money pseudonymize.Money
}

// newRecord leaves out of row the pseudonym of anybody but the person: own are the person's (GDPR Art. 15(4)).
func newRecord(row *pseudonymize.Row, own map[[16]byte]bool) record {
	device, person := row.Device, row.Person
	if device != nil && !own[*device] {
		device = nil
	}
	if person != nil && !own[*person] {
		person = nil
	}
	alone := device == row.Device && person == row.Person
	r := record{
		EventID: hex.EncodeToString(row.EventID[:]), Time: row.Time.UTC(), ReceivedAt: row.ReceivedAt.UTC(),
		Device: pseudonym(device), Person: pseudonym(person),
		Type: row.Type, Channel: row.Channel, Stage: row.Stage, Site: row.Site, Policy: hex.EncodeToString(row.Policy[:]),
		Campaign: row.Campaign, Source: row.Source, Medium: row.Medium, Properties: row.Properties,
		Grants: make([]recordGrant, len(row.Grants)),
	}
	for i := range row.Grants {
		g := &row.Grants[i]
		r.Grants[i] = recordGrant{Purpose: g.Purpose, Version: g.Version, Basis: string(g.Basis)}
		if alone && g.Ref != [16]byte{} {
			r.Grants[i].Ref = hex.EncodeToString(g.Ref[:])
		}
	}
	if row.Value.Currency != "" {
		r.Value = &recordValue{decimal(row.Value), row.Value.Currency, row.Value}
	}
	return r
}

func pseudonym(p *[16]byte) string {
	if p == nil {
		return ""
	}
	return hex.EncodeToString(p[:])
}

// decimal is the amount with a point, such as -12.30.
func decimal(m pseudonymize.Money) string {
	sign, whole, fraction := m.Parts()
	if fraction != "" {
		fraction = "." + fraction
	}
	return sign + whole + fraction
}
