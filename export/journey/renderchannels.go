package journey

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strconv"
)

func (p *page) channels() *Channels {
	c := &Channels{Channels: []Role{}, Transitions: []Shift{}, Breadth: []Breadth{}}
	conversions := p.f[spot{kindJourney, nodeConversion}].Count
	for _, at := range p.of(kindReach) {
		r := Role{Channel: at.key}
		if p.shown(at) {
			n := p.f[at].Subjects
			r.Subjects = &n
		}
		part := func(said bool, x spot, unit int64) *float64 {
			if p.web == nil || !said || !p.shown(x) {
				return nil
			}
			return ratio(p.f[x].Count/unit, conversions)
		}
		r.Opener = part(p.opens, spot{kindCredit, Join(modelFirst, at.key)}, creditUnit)
		r.Assist = part(true, spot{kindAssist, at.key}, 1)
		r.Closer = part(true, spot{kindCredit, Join(modelLast, at.key)}, creditUnit)
		if r.Subjects != nil || r.Opener != nil || r.Assist != nil || r.Closer != nil {
			c.Channels = append(c.Channels, r)
		}
	}
	c.Transitions = p.transitions()
	for _, x := range p.breadth {
		c.Breadth = append(c.Breadth, p.breadthOf(x))
	}
	c.Omnichannel = p.omnichannel()
	return c
}

// transitions are the edges between channels, with their share of all that lead from one channel to another.
func (p *page) transitions() []Shift {
	shifts := []Shift{}
	if p.web == nil {
		return shifts
	}
	from := map[string]int64{}
	for e, n := range p.web.graph(p.f, "").edges {
		if e.from != nodeStart && e.to != nodeConversion && e.to != nodeNull {
			shifts = append(shifts, Shift{From: e.from, To: e.to, Count: n})
			from[e.from] += n
		}
	}
	for i := range shifts {
		shifts[i].Share = *ratio(shifts[i].Count, from[shifts[i].From])
	}
	slices.SortFunc(shifts, func(a, b Shift) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return shifts
}

// name says which numbers of channels a class holds: "1", "2-3", "4+".
func (c class) name() string {
	first, last := c[0], c[len(c)-1]
	switch {
	case last == digit(mostChannels):
		return first + "+"
	case first == last:
		return first
	}
	return first + "-" + last
}

func (p *page) breadthOf(c class) Breadth {
	b := Breadth{Channels: c.name(), Subjects: c.subjects(kindBreadth)(p.f), Amounts: []Basket{}}
	if !p.buyers {
		return b
	}
	var purchases, journeys, seconds int64
	for _, n := range c {
		purchases += p.f[spot{kindBreadth, n}].Count
		journeys += p.f[spot{kindSpan, n}].Count
		seconds += p.f[spot{kindSpan, n}].Value
	}
	mean := seconds / journeys
	b.Purchases, b.Seconds = &purchases, &mean
	b.Frequency = to(float64(purchases)/float64(b.Subjects), 4)
	for _, currency := range p.money {
		if !p.baskets[currency] {
			continue
		}
		x := Basket{Currency: currency}
		var orders int64
		for _, n := range c {
			t := p.f[spot{kindBasket, Join(n, currency)}]
			x.Minor, orders = x.Minor+t.Value, orders+t.Count
		}
		x.Mean = x.Minor / orders
		b.Amounts = append(b.Amounts, x)
	}
	return b
}

// omnichannel is the share of subjects with three channels or more, where a class begins at three and another before it.
func (p *page) omnichannel() *float64 {
	var wide int64
	begins := false
	for i, c := range p.breadth {
		begins = begins || c[0] == digit(3) && i > 0
		if begins {
			wide += c.subjects(kindBreadth)(p.f)
		}
	}
	if !begins {
		return nil
	}
	return ratio(wide, p.f.everybody())
}

// earlier is the funnel of the period before; nil where there is none.
func (p *page) earlier() *Funnel {
	if p.before == nil {
		return nil
	}
	body := p.before(ReportFunnel, p.all.Segment)
	if body == nil {
		return nil
	}
	var a Answer
	if json.Unmarshal(body, &a) != nil {
		return nil // of an earlier program: nothing is compared
	}
	return a.Funnel
}

// mark marks the steps at which more are lost than in the period before: Wilson's 95 % lower bound of the one above the upper bound of the other.
func (f *Funnel) mark(earlier *Funnel) {
	if earlier == nil || len(earlier.Steps) != len(f.Steps) {
		return
	}
	for i := range f.Steps {
		now, then := &f.Steps[i], &earlier.Steps[i]
		if now.Dropped == nil || then.Dropped == nil || now.Name != then.Name {
			continue
		}
		low, _ := wilson(*now.Dropped, *now.Subjects)
		_, high := wilson(*then.Dropped, *then.Subjects)
		now.Drop = low > high
	}
}

// wilson are the bounds of a proportion of a in n at 95 % (Wilson 1927).
func wilson(a, n int64) (low, high float64) {
	const z = 1.959963984540054
	p, m := float64(a)/float64(n), float64(n)
	middle := p + z*z/(2*m)
	spread := z * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return (middle - spread) / (1 + z*z/m), (middle + spread) / (1 + z*z/m)
}

// roundTo is what counts of the door are rounded to. They are of events, and nobody is in them.
const roundTo = 10

func rounded(n int64) int64 { return (n + roundTo/2) / roundTo * roundTo }

// covered reads the cells of coverage.
func covered(c counts) (rows []Covering, all *Consented) {
	type key struct{ channel, purpose string }
	found := map[key]*Consented{}
	var sum Consented
	for cell, t := range c {
		d := cell.Dimensions()
		if cell.Kind != coverageKind || len(d) != 3 {
			continue
		}
		k := key{d[0], d[1]}
		if found[k] == nil {
			found[k] = &Consented{}
		}
		if d[2] == acceptedKey {
			found[k].Accepted += t.Count
			sum.Accepted += t.Count
		} else {
			found[k].Refused += t.Count
			sum.Refused += t.Count
		}
	}
	rows = []Covering{}
	for k, x := range found {
		if x.round(); x.Accepted+x.Refused > 0 {
			rows = append(rows, Covering{k.channel, k.purpose, *x})
		}
	}
	slices.SortFunc(rows, func(a, b Covering) int {
		return cmp.Or(cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.Purpose, b.Purpose))
	})
	if sum.round(); sum.Accepted+sum.Refused == 0 {
		return rows, nil
	}
	return rows, &sum
}

// round leaves of exact counts what may be said.
func (x *Consented) round() {
	x.Accepted, x.Refused = rounded(x.Accepted), rounded(x.Refused)
	if all := x.Accepted + x.Refused; all > 0 {
		x.Share = *to(float64(x.Accepted)/float64(all), 2)
	}
}

// levelOf is the number of a key of a level or of an octave.
func levelOf(key string) int {
	n, _ := strconv.Atoi(key) // contribute writes digits only
	return n
}
