package pseudonymize

import (
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/policies"
)

// amountField is the name by which a policy allows the amount of money.
const amountField = "value"

// Apply makes the Event that g allows of t: the union of the fields its purposes allow, each after its treatment; fields that no
// purpose names are dropped. ErrNoGrants where g did not come from a successful Check. Strings of t are kept, not copied.
func Apply(g *consent.Grants, t *Touchpoint) (Event, error) {
	if g == nil || !g.Valid() {
		return Event{}, ErrNoGrants
	}
	typ := g.EventType()
	e := Event{
		id: t.ID, site: t.Site, typ: typ.Name, channel: t.Channel, stage: typ.Stage,
		received: t.Received.UTC(), policy: g.Policy().Hash(), sequence: g.Sequence(),
		device: g.Device(), person: g.Person(),
	}
	if e.channel == "" {
		e.channel = typ.Channel
	}
	list := g.List()
	e.live = 1<<len(list) - 1
	e.grants = make([]grant, len(list))
	finest := time.Duration(-1)
	for i, x := range list {
		p := x.Purpose
		e.grants[i] = grant{p.ID, p.Version, p.Basis, x.Slot, x.Record, p.TimePrecision}
		if p.Fields[amountField] == policies.Keep && t.Value.Currency != "" {
			e.money, e.moneyFor = t.Value, e.moneyFor|1<<i
		}
		if finest < 0 || p.TimePrecision < finest {
			finest = p.TimePrecision
		}
	}
	e.time = t.Time.UTC().Truncate(finest)
	e.values = treat(t.Fields, list)
	return e, nil
}

// treat applies to each field every treatment that a purpose names for it.
func treat(fields []Field, list []consent.Grant) []value {
	values := make([]value, 0, len(fields))
	for _, f := range fields {
		if f.Name == amountField {
			continue
		}
		first := len(values)
	grants:
		for i, x := range list {
			treatment := x.Purpose.Fields[f.Name]
			for j := first; j < len(values); j++ {
				if values[j].treatment == treatment {
					values[j].grants |= 1 << i
					continue grants
				}
			}
			if text := Treat(treatment, f.Text); text != "" {
				values = append(values, value{f.Name, text, treatment, 1 << i})
			}
		}
	}
	return values
}
