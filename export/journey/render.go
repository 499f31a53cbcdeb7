package journey

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"
)

// page makes the answers of one part of a decision. It shows nothing that the decision does not, and sums of what it shows.
type page struct {
	*decision
	f      figures
	stages []string // of the policy, in order
	all    Answer   // what every answer of the page says
	before published
}

// unitOf is what a report counts first.
func unitOf(report string) string {
	switch report {
	case ReportMap, ReportCoverage:
		return UnitEvents
	case ReportFlow, ReportAttribution:
		return UnitJourneys
	}
	return UnitSubjects
}

// answer makes one report.
func (p *page) answer(report string) Answer {
	a := p.all
	a.Report, a.Unit = report, unitOf(report)
	a.Suppressed.Unit = a.Unit
	switch report {
	case ReportKPIs:
		a.KPIs = p.kpis()
	case ReportMap:
		a.Map = p.stageMap()
		a.Suppressed = mass(a.Map.hidden(), a.Map.Events, UnitEvents)
	case ReportFunnel:
		a.Funnel = p.funnel()
	case ReportChannels:
		a.Channels = p.channels()
		p.ofJourneys(&a)
	case ReportFlow, ReportAttribution:
		a.Withheld = p.web == nil
		p.ofJourneys(&a)
	}
	return a
}

// ofJourneys fills in what is made of edges; without them, there is nothing to say.
func (p *page) ofJourneys(a *Answer) {
	if p.web == nil {
		return
	}
	g := p.web.graph(p.f, "")
	var hidden, edges int64
	for e, n := range g.edges {
		if e.from != allOther { // what enters allOther leaves it
			edges += n
		}
		if e.to == allOther {
			hidden += n
		}
	}
	a.Suppressed = mass(hidden, edges, UnitEdges)
	switch a.Report {
	case ReportFlow:
		a.Flow = p.flow(g)
	case ReportAttribution:
		a.Attribution = p.attribution(g)
	}
}

func mass(hidden, all int64, unit string) Mass { return Mass{hidden, unit, ratio(hidden, all)} }

// ratio is a/b to four digits; nil of nothing.
func ratio(a, b int64) *float64 {
	if b == 0 {
		return nil
	}
	return to(float64(a)/float64(b), 4)
}

// to rounds to so many digits after the point.
func to(v float64, digits int) *float64 {
	scale := math.Pow10(digits)
	v = math.Round(v*scale) / scale
	return &v
}

func (p *page) kpis() []Figure {
	var figures []Figure
	count := func(name, unit string, n int64, said bool) *int64 {
		x := Figure{Name: name, Unit: unit}
		if said {
			x.Count = &n
		}
		figures = append(figures, x)
		return x.Count
	}
	share := func(name string, a, b *int64) {
		x := Figure{Name: name, Unit: UnitShare}
		if a != nil && b != nil {
			x.Share = ratio(*a, *b)
		}
		figures = append(figures, x)
	}
	subjects := count("subjects", UnitSubjects, p.f.everybody(), true)
	customers := count("customers", UnitSubjects, p.f.customers(), !p.hidden[spotCustomers()])
	loyal := count("repeat_customers", UnitSubjects, p.f.loyal(), !p.hidden[spotLoyal()])
	count("events", UnitEvents, p.sum(kindEvent), true)
	sessions := count("sessions", UnitSessions, p.sum(kindSession), p.sessions)
	of := func(name string, outcomes ...outcome) *int64 {
		var n int64
		said := p.sessions
		for _, o := range outcomes {
			at := spot{kindSession, string(o)}
			n, said = n+p.f[at].Count, said && p.shown(at)
		}
		return count(name, UnitSessions, n, said)
	}
	bounces, active, buying := of("bounced_sessions", bounced), of("engaged_sessions", engaged, converted), of("converted_sessions", converted)
	count("journeys", UnitJourneys, p.sum(kindJourney), p.web != nil)
	count("conversions", UnitJourneys, p.f[spot{kindJourney, nodeConversion}].Count, p.web != nil)
	share("conversion_of_subjects", customers, subjects)
	share("conversion_of_sessions", buying, sessions)
	share("bounce_rate", bounces, sessions)
	share("engagement_rate", active, sessions)
	share("loyalty", loyal, customers)
	return append(figures, p.amounts(customers)...)
}

// amounts are orders, returns and what customers are worth, of each currency.
func (p *page) amounts(customers *int64) (figures []Figure) {
	for _, at := range p.of(kindOrder) {
		add := func(name string, said bool, n func() int64) {
			x := Figure{Name: name, Unit: UnitMinor, Currency: at.key}
			if said {
				v := n()
				x.Count = &v
			}
			figures = append(figures, x)
		}
		orders, refunds := p.f[at], p.f[spot{kindRefund, at.key}]
		said, returned := p.shown(at) && p.web != nil, p.shown(spot{kindRefund, at.key})
		add("revenue", said, func() int64 { return orders.Value })
		add("returns", returned, func() int64 { return refunds.Value })
		add("net_revenue", said && returned, func() int64 { return orders.Value - refunds.Value })
		add("order_value", said, func() int64 { return orders.Value / orders.Count })
		add("customer_value", said && returned && customers != nil, func() int64 { return (orders.Value - refunds.Value) / *customers })
	}
	return figures
}

// sum is the count of all cells of a kind.
func (p *page) sum(kind string) (n int64) {
	for _, at := range p.f.of(kind) {
		n += p.f[at].Count
	}
	return n
}

func (p *page) stageMap() *Map {
	m := &Map{Events: p.sum(kindEvent), Stages: []Column{}}
	m.Other = m.Events
	for _, stage := range p.ordered() {
		c := Column{Stage: stage, Channels: []Channel{}}
		for _, at := range p.having(kindEvent, 0, stage) {
			n := p.f[at].Count
			c.Events += n
			if p.shown(at) {
				c.Channels = append(c.Channels, Channel{at.dimensions()[1], n})
			} else {
				c.Other += n
			}
		}
		slices.SortStableFunc(c.Channels, func(a, b Channel) int { return cmp.Compare(b.Count, a.Count) })
		m.Other -= c.Events
		m.Stages = append(m.Stages, c)
	}
	return m
}

// ordered are the stages that are said, in the policy's order, and after them those of an earlier policy.
func (p *page) ordered() []string {
	stages := slices.Clone(p.decision.stages)
	slices.SortStableFunc(stages, func(a, b string) int {
		return cmp.Compare(uint(slices.Index(p.stages, a)), uint(slices.Index(p.stages, b)))
	})
	return stages
}

func (m *Map) hidden() int64 {
	n := m.Other
	for i := range m.Stages {
		n += m.Stages[i].Other
	}
	return n
}

func (p *page) flow(g *graph) *Flow {
	f := &Flow{
		Conversions: p.f[spot{kindJourney, nodeConversion}].Count, NoFurther: p.f[spot{kindJourney, nodeNull}].Count, Edges: []Arc{},
	}
	f.Journeys = f.Conversions + f.NoFurther
	for e, n := range g.edges {
		f.Edges = append(f.Edges, Arc{e.from, e.to, n})
	}
	slices.SortFunc(f.Edges, func(a, b Arc) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	if channel, weight := g.momentOfTruth(); channel != "" {
		f.Truth = &Decisive{channel, *to(weight, 4)}
	}
	return f
}

func (p *page) attribution(g *graph) *Attribution {
	a := &Attribution{Conversions: p.f[spot{kindJourney, nodeConversion}].Count}
	for _, model := range counted() {
		m := Model{Name: model}
		if p.said(model) {
			m.Credits = p.credited(model, a.Conversions)
		}
		for _, currency := range p.money {
			if p.models[[2]string{model, currency}] {
				m.Amounts = append(m.Amounts, p.worth(model, currency)...)
			}
		}
		a.Models = append(a.Models, m)
	}
	a.Models = append(a.Models, p.markov(g, a.Conversions))
	return a
}

// credited are a model's credits in whole conversions: fractions of what few journeys hold would tell their lengths. They sum to all.
func (p *page) credited(model string, conversions int64) []Credit {
	parts := map[string]float64{}
	for _, at := range p.having(kindCredit, 0, model) {
		channel := at.dimensions()[1]
		if !p.shown(at) {
			channel = allOther
		}
		parts[channel] += float64(p.f[at].Count) / creditUnit
	}
	whole := apportion(parts, conversions)
	list := make([]Credit, 0, len(whole))
	for channel, n := range whole {
		list = append(list, Credit{Channel: channel, Conversions: float64(n), Share: *ratio(n, conversions)})
	}
	sortCredits(list)
	return list
}

func sortCredits(list []Credit) {
	slices.SortFunc(list, func(a, b Credit) int {
		return cmp.Or(cmp.Compare(b.Conversions, a.Conversions), cmp.Compare(a.Channel, b.Channel))
	})
}

// apportion rounds parts so that they sum to the whole: down, and the largest remainders up.
func apportion(parts map[string]float64, whole int64) map[string]int64 {
	names := slices.Sorted(maps.Keys(parts))
	out := make(map[string]int64, len(parts))
	left := whole
	for _, name := range names {
		out[name] = int64(math.Floor(parts[name] + 1e-9))
		left -= out[name]
	}
	remainder := func(name string) float64 { return parts[name] - float64(out[name]) }
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(remainder(b), remainder(a)) })
	for i := 0; left > 0 && len(names) > 0; i, left = i+1, left-1 {
		out[names[i%len(names)]]++
	}
	return out
}

func (p *page) worth(model, currency string) []Amount {
	parts := map[string]int64{}
	for _, at := range p.having(kindWorth, 0, model) {
		d := at.dimensions()
		switch {
		case d[2] != currency:
		case p.shown(at):
			parts[d[1]] += p.f[at].Value
		default:
			parts[allOther] += p.f[at].Value
		}
	}
	return amountList(parts, currency)
}

func amountList(parts map[string]int64, currency string) []Amount {
	list := make([]Amount, 0, len(parts))
	for channel, v := range parts {
		list = append(list, Amount{channel, currency, v})
	}
	slices.SortFunc(list, func(a, b Amount) int { return cmp.Or(cmp.Compare(b.Minor, a.Minor), cmp.Compare(a.Channel, b.Channel)) })
	return list
}

// markov is worked out from what is shown of the flow, and so tells nothing more.
func (p *page) markov(g *graph, conversions int64) Model {
	m := Model{Name: modelMarkov}
	effects := g.chain(false).removals()
	hundredths := apportion(credits(effects, float64(100*conversions)), 100*conversions)
	for channel, n := range hundredths {
		m.Credits = append(m.Credits, Credit{channel, float64(n) / 100, *ratio(n, 100*conversions), to(effects[channel], 4)})
	}
	sortCredits(m.Credits)
	for _, currency := range p.money {
		if !p.models[[2]string{modelLast, currency}] {
			continue
		}
		v := p.web.graph(p.f, currency)
		whole := p.f[spot{kindOrder, currency}].Value
		parts := apportion(credits(v.chain(true).removals(), float64(whole)), whole)
		m.Amounts = append(m.Amounts, amountList(parts, currency)...)
	}
	return m
}

func (p *page) funnel() *Funnel {
	f := &Funnel{WindowDays: int(funnelWindow / (24 * time.Hour)), Times: []Duration{}}
	reached := map[int]int64{}
	var n int64
	for _, c := range slices.Backward(p.levels) {
		n += c.subjects(kindFunnel)(p.f)
		level := levelOf(c[0])
		reached[level] = n
	}
	var first, previous *int64
	for i, s := range funnelSteps() {
		x := Step{Name: s.name}
		if n, ok := reached[i+1]; ok {
			x.Subjects = &n
		}
		if i == 0 {
			first = x.Subjects
		}
		if x.Subjects != nil && first != nil {
			x.OfFirst = ratio(*x.Subjects, *first)
		}
		if x.Subjects != nil && previous != nil {
			x.OfPrevious = ratio(*x.Subjects, *previous)
			lost := *previous - *x.Subjects
			f.Steps[i-1].Dropped = &lost
		}
		previous = x.Subjects
		f.Steps = append(f.Steps, x)
	}
	for _, c := range p.times {
		low := levelOf(c[0])
		high := levelOf(c[len(c)-1])
		f.Times = append(f.Times, Duration{1 << low >> 1, 1 << high, c.subjects(kindTime)(p.f)})
	}
	f.Carts = p.carts()
	f.mark(p.earlier())
	return f
}

func (p *page) carts() (c Carts) {
	n := func(outcome string) int64 { return p.f[spot{kindCart, outcome}].Count }
	if p.shown(spot{kindCart, cartBought}) {
		opened, followed := n(cartBought)+n(cartLeft), n(cartBought)+n(cartCarried)
		c.Opened, c.Followed = &opened, &followed
		if lost := opened - followed; lost >= 0 {
			c.Abandonment = ratio(lost, opened)
		}
	}
	if !p.shown(spot{kindCart, cartRecovered}) {
		return c
	}
	recovered := n(cartRecovered)
	c.Recovered = &recovered
	back := map[string]int64{}
	for _, at := range p.of(kindReturn) {
		if p.shown(at) {
			back[at.key] += p.f[at].Count
		} else {
			back[allOther] += p.f[at].Count
		}
	}
	for _, channel := range slices.Sorted(maps.Keys(back)) {
		c.Back = append(c.Back, Channel{channel, back[channel]})
	}
	return c
}
