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
func Apply(g *consent.Grants, t *Touchpoint) (Event, error) { return new(Applier).Apply(g, t) }

// Applier is Apply with the memory of its events kept together, for a request of many. Reset makes that memory free again, and with it
// the events that were made. It is not safe for concurrent use.
type Applier struct {
	grants []grant
	values []value
}

// Reset forgets the events that were made; none of them may be used any more.
func (a *Applier) Reset() {
	clear(a.grants)
	clear(a.values)
	a.grants, a.values = a.grants[:0], a.values[:0]
}

// Apply is the package's Apply.
func (a *Applier) Apply(g *consent.Grants, t *Touchpoint) (Event, error) {
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
	list, from, finest := g.List(), len(a.grants), time.Duration(-1)
	e.live = 1<<len(list) - 1
	for i, x := range list {
		p := x.Purpose
		a.grants = append(a.grants, grant{p.ID, p.Version, p.Basis, x.Slot, x.Record, p.TimePrecision})
		if t.Value.Currency != "" && p.Fields[amountField] == policies.Keep {
			e.money, e.moneyFor = t.Value, e.moneyFor|1<<i
		}
		if p.ID != policies.Linking && (finest < 0 || p.TimePrecision < finest) {
			finest = p.TimePrecision
		}
	}
	e.grants = a.grants[from:len(a.grants):len(a.grants)]
	e.time = t.Time.UTC().Truncate(finest)
	e.values = a.treat(&e, t.Fields, list)
	return e, nil
}

// treat applies to each field every treatment that a purpose names for it. What is pseudonymised is made once for each subject that a purpose rests
// on; every other treatment asks nobody's key.
func (a *Applier) treat(e *Event, fields []Field, list []consent.Grant) []value {
	from := len(a.values)
	for _, f := range fields {
		if f.Name == amountField {
			continue
		}
		first := len(a.values)
	grants:
		for i, x := range list {
			treatment := x.Purpose.Fields[f.Name]
			if treatment == "" {
				continue // nearly every field that sites send
			}
			for j := first; j < len(a.values); j++ {
				if a.values[j].treatment == treatment && (treatment != policies.Pseudonymise || e.restsOn(&a.values[j]) == x.Slot) {
					a.values[j].grants |= 1 << i
					continue grants
				}
			}
			text := ""
			if treatment == policies.Pseudonymise {
				text = e.blind(x.Slot, f)
			} else {
				text = Treat(treatment, f.Text)
			}
			if text != "" {
				a.values = append(a.values, value{f.Name, text, treatment, 1 << i})
			}
		}
	}
	return a.values[from:len(a.values):len(a.values)]
}
