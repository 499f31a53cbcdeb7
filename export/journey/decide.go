package journey

import (
	"maps"
	"slices"
)

// decision says what of one sheet is shown, in all reports.
type decision struct {
	*sheet
	sessions bool               // how many there are is said
	stages   []string           // whose events are said
	web      *web               // nil: no flow, and no attribution
	opens    bool               // first-touch credits are said
	credits  bool               // linear and position credits are said
	breadth  []class            // numbers of channels
	buyers   bool               // of each class of breadth, what it bought is said
	levels   []class            // of the funnel
	times    []class            // from first to last step
	money    []string           // currencies of which the whole is said
	models   map[[2]string]bool // model, currency: of which amounts are said
	baskets  map[string]bool    // currencies of which amounts by breadth are said
}

// class is a run of neighbouring keys of an ordered kind, counted together.
type class []string

// decide decides on one sheet; of the sheet of a segment, on no more than outer, that of everybody, shows. nil: too few to say anything of.
func decide(s *sheet, outer *decision) *decision {
	s.hidden = map[spot]bool{}
	d := &decision{
		sheet: s, models: map[[2]string]bool{}, baskets: map[string]bool{},
	}
	for _, f := range s.parts {
		if f.everybody() < s.k {
			return nil
		}
	}
	if outer != nil {
		maps.Copy(d.hidden, outer.hidden)
		for _, f := range outer.parts { // what too few of everybody are in, too few of a segment are in: nothing else needs to be said
			for at := range f {
				if !outer.shown(at) {
					d.hide(at)
				}
			}
		}
	}
	d.decideSubjects()
	d.sessions = d.close(d.of(kindSession)) && (outer == nil || outer.sessions)
	d.decideStages(outer)
	d.decideCarts()
	if d.web = d.newWebWithin(outer); d.web != nil {
		d.decideCredits(outer)
		d.decideAmounts(outer)
	}
	d.decideClasses(outer)
	return d
}

// newWebWithin also drops what is dropped of everybody.
func (d *decision) newWebWithin(outer *decision) *web {
	var dropped []string
	if outer != nil {
		if outer.web == nil {
			return nil
		}
		dropped = slices.Sorted(maps.Keys(outer.web.dropped))
	}
	return d.newWeb(dropped)
}

// everybody is the number of subjects.
func (f figures) everybody() (n int64) {
	for _, at := range f.of(kindSubject) {
		n += f[at].Subjects
	}
	return n
}

// customers are the subjects with a purchase.
func (f figures) customers() int64 {
	return f[spot{kindSubject, "one"}].Subjects + f[spot{kindSubject, "more"}].Subjects
}

// What may be said of sums of the cells of kindSubject is kept under names of their own.
func spotCustomers() spot { return spot{kindSubject, "customers"} }
func spotLoyal() spot     { return spot{kindSubject, "loyal"} }

// loyal are the customers with two purchases or more.
func (f figures) loyal() int64 { return f[spot{kindSubject, "more"}].Subjects }

// of are the spots of a kind in any part, sorted by key.
func (s *sheet) of(kind string) []spot {
	all := map[string]bool{}
	for _, f := range s.parts {
		for at := range f {
			if at.kind == kind {
				all[at.key] = true
			}
		}
	}
	var spots []spot
	for _, key := range slices.Sorted(maps.Keys(all)) {
		spots = append(spots, spot{kind, key})
	}
	return spots
}

// having are the spots of a kind whose i-th dimension is name.
func (s *sheet) having(kind string, i int, name string) (line []spot) {
	for _, at := range s.of(kind) {
		if at.dimensions()[i] == name {
			line = append(line, at)
		}
	}
	return line
}

// decideSubjects decides on customers, those among them who came back, and who had a touch by a channel: parts of a whole that is said.
func (d *decision) decideSubjects() {
	if !d.parted(figures.customers, figures.everybody) {
		d.hide(spotCustomers())
	}
	if !d.parted(figures.loyal, figures.customers) {
		d.hide(spotLoyal())
	}
	for _, at := range d.of(kindReach) {
		if !d.parted(func(f figures) int64 { return f[at].Subjects }, figures.everybody) {
			d.hide(at)
		}
	}
	for _, at := range d.of(kindAssist) {
		conversions := func(f figures) int64 { return f[spot{kindJourney, nodeConversion}].Count }
		if !d.parted(func(f figures) int64 { return f[at].Count }, conversions) {
			d.hide(at)
		}
	}
}

// decideStages decides on the map: the channels of each stage, and before a stage is hidden, its sum without the channels. A stage all of whose events came by one
// channel is said without it (100 % of a margin), unless there is one channel only or the policy says so of all that the stage holds.
func (d *decision) decideStages(outer *decision) {
	stages, channels := map[string]bool{}, map[string]bool{}
	for _, at := range d.of(kindEvent) {
		x := at.dimensions()
		stages[x[0]], channels[x[1]] = true, true
	}
	var out []spot
	for _, stage := range slices.Sorted(maps.Keys(stages)) {
		line := d.having(kindEvent, 0, stage)
		if len(line) == 1 && len(channels) > 1 && !d.defined[line[0]] {
			d.hide(line...)
		}
		closed := d.close(line) || len(line) == 1 && d.enough(line)
		if closed && (outer == nil || slices.Contains(outer.stages, stage)) {
			d.stages = append(d.stages, stage)
		} else {
			d.hide(line...)
			out = append(out, line...)
		}
	}
	for len(out) > 0 && len(d.stages) > 0 && (len(stages)-len(d.stages) < 2 || !d.enough(out)) {
		fewest := slices.MinFunc(d.stages, func(a, b string) int { return int(d.mostOf(a) - d.mostOf(b)) })
		line := d.having(kindEvent, 0, fewest)
		d.hide(line...)
		out = append(out, line...)
		d.stages = slices.DeleteFunc(d.stages, func(s string) bool { return s == fewest })
	}
}

// mostOf is the number of subjects of a stage's largest channel.
func (d *decision) mostOf(stage string) (most int64) {
	for _, at := range d.having(kindEvent, 0, stage) {
		most = max(most, d.subjects(at))
	}
	return most
}

// decideCarts hides what the sums of carts would leave to be subtracted.
func (d *decision) decideCarts() {
	bought, left := spot{kindCart, cartBought}, spot{kindCart, cartLeft}
	if !d.shown(bought) || !d.shown(left) {
		d.hide(bought, left)
	}
	if back := d.of(kindReturn); !d.shown(spot{kindCart, cartRecovered}) || !d.close(back) {
		d.hide(back...)
	}
}

// decideCredits decides on the channels of each model of attribution. The last touches are the edges to conversion; Markov follows from what is shown of edges.
func (d *decision) decideCredits(outer *decision) {
	d.opens = d.closeOpens() && (outer == nil || outer.opens)
	linear := d.having(kindCredit, 0, modelLinear)
	d.credits = d.close(linear) && (outer == nil || outer.credits)
	for _, at := range linear {
		if !d.shown(at) {
			d.hide(spot{kindCredit, Join(modelPosition, at.dimensions()[1])})
		}
	}
	for _, at := range d.having(kindEdge, 1, nodeConversion) {
		if !d.shown(at) {
			d.hide(spot{kindCredit, Join(modelLast, at.dimensions()[0])})
		}
	}
}

// closeOpens decides on the channels by which journeys begin, converting or not: their sum by channel is the edge from the start.
func (d *decision) closeOpens() bool {
	starts := d.having(kindEdge, 0, nodeStart)
	converting := func(at spot) spot { return spot{kindOpen, Join(at.dimensions()[1], nodeConversion)} }
	null := func(at spot) spot { return spot{kindOpen, Join(at.dimensions()[1], nodeNull)} }
	for {
		var shown, yes, no []spot
		for _, at := range starts {
			if y, n := converting(at), null(at); d.shown(at) && d.shown(y) && d.shown(n) {
				shown = append(shown, y)
			} else {
				yes, no = append(yes, y), append(no, n)
			}
		}
		if len(yes) == 0 || d.covers(yes) && d.covers(no) {
			for _, at := range yes {
				d.hide(at, spot{kindCredit, Join(modelFirst, at.dimensions()[0])})
			}
			return true
		}
		if len(shown) == 0 {
			return false
		}
		d.hide(d.smallest(shown))
	}
}

// decideAmounts decides on the currencies, and on the channels of each model in each.
func (d *decision) decideAmounts(outer *decision) {
	for _, at := range d.of(kindOrder) {
		if !d.shown(at) || !d.fair([]spot{at}) {
			d.hide(at)
			continue
		}
		d.money = append(d.money, at.key)
		for _, model := range counted() {
			var line []spot
			for _, x := range d.having(kindWorth, 0, model) {
				if c := x.dimensions(); c[2] == at.key {
					line = append(line, x)
					if !d.shown(spot{kindCredit, Join(model, c[1])}) {
						d.hide(x)
					}
				}
			}
			key := [2]string{model, at.key}
			d.models[key] = d.closeAmounts(line) && d.said(model) && (outer == nil || outer.models[key])
		}
	}
	for _, at := range d.of(kindRefund) {
		if !d.fair([]spot{at}) {
			d.hide(at)
		}
	}
}

// said tells whether a model's credits are said at all.
func (d *decision) said(model string) bool {
	switch model {
	case modelFirst:
		return d.opens
	case modelLinear, modelPosition:
		return d.credits
	}
	return true
}

// decideClasses decides on what is in classes of an order: neighbours are counted together before any is hidden.
func (d *decision) decideClasses(outer *decision) {
	o := decision{}
	if outer != nil {
		o = *outer
	}
	d.breadth = d.classes(kindBreadth, o.breadth)
	d.levels = d.classes(kindFunnel, o.levels)
	d.times = d.classes(kindTime, o.times)
	d.buyers = outer == nil || outer.buyers
	for _, c := range d.breadth {
		d.buyers = d.buyers && d.parted(c.subjects(kindSpan), c.subjects(kindBreadth))
	}
	for _, currency := range d.money {
		d.baskets[currency] = d.buyers && (outer == nil || outer.baskets[currency])
		for _, c := range d.breadth {
			var cells []spot
			for _, n := range c {
				cells = append(cells, spot{kindBasket, Join(n, currency)})
			}
			d.baskets[currency] = d.baskets[currency] && d.fair(cells) && d.enough(cells)
		}
	}
}

// subjects counts the subjects of a class, of whom each is in one of its keys.
func (c class) subjects(kind string) func(figures) int64 {
	return func(f figures) (n int64) {
		for _, key := range c {
			n += f[spot{kind, key}].Subjects
		}
		return n
	}
}

// classes are the keys of a kind that parts subjects, joined with their neighbours until each class has k subjects in every part. Classes within those of
// everybody would, summed over segments, divide these: so a segment's are joined from them.
func (d *decision) classes(kind string, outer []class) (all []class) {
	if outer == nil {
		for _, at := range d.of(kind) {
			outer = append(outer, class{at.key})
		}
	}
	var open class
	for _, c := range slices.Backward(outer) {
		open = append(slices.Clone(c), open...)
		if d.least(open.subjects(kind)) >= d.k {
			all, open = append(all, open), nil
		}
	}
	switch {
	case len(open) == 0:
	case len(all) == 0:
		return nil
	default:
		last := &all[len(all)-1]
		*last = append(open, *last...)
	}
	slices.Reverse(all)
	return all
}
