package journey

import (
	"bytes"
	"encoding/csv"
	"strconv"
	"strings"
)

// CSV is the answer as RFC 4180 in UTF-8, in long form: one number a line, with its unit and currency. A number that may not be said is left empty.
// Spreadsheets take a cell for a formula that begins like one: before such a text stands an apostrophe (CWE-1236).
//
//	report,period,open,site,segment,table,of,to,measure,value,unit,currency
func (a *Answer) CSV() ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.UseCRLF = true
	if err := w.Write([]string{"report", "period", "open", "site", "segment", "table", "of", "to", "measure", "value", "unit", "currency"}); err != nil {
		return nil, err
	}
	for _, l := range a.lines() {
		record := []string{
			a.Report, a.Period.Name, strconv.FormatBool(a.Period.Open), a.Site, a.Segment, l.table, l.of, l.to, l.measure, l.value, l.unit, l.currency,
		}
		for i, text := range record {
			if i != valueColumn {
				record[i] = guarded(text)
			}
		}
		if err := w.Write(record); err != nil {
			return nil, err
		}
	}
	w.Flush()
	return b.Bytes(), w.Error()
}

// valueColumn holds numbers of our own: a minus before one is no formula.
const valueColumn = 9

// guarded is a text that no spreadsheet takes for a formula.
func guarded(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r\n", rune(text[0])) {
		return "'" + text
	}
	return text
}

// line is one number of an answer.
type line struct{ table, of, to, measure, value, unit, currency string }

// lines are the numbers of an answer, in the order of its JSON.
type lines []line

func (a *Answer) lines() lines {
	var l lines
	l.add("answer", "", "k", &a.K, UnitSubjects)
	l.share("answer", "", "epsilon", &a.Epsilon)
	l.add("answer", "", "withheld", truth(a.Withheld), "")
	l.add("answer", "", "suppressed", &a.Suppressed.Count, a.Suppressed.Unit)
	l.share("answer", "", "suppressed_share", a.Suppressed.Share)
	if c := a.Coverage; c != nil {
		l.consented("answer", "", "", c)
	}
	for i := range a.KPIs {
		f := &a.KPIs[i]
		if f.Unit == UnitShare {
			l.share("kpis", "", f.Name, f.Share)
		} else {
			l.add("kpis", "", f.Name, f.Count, f.Unit)
			l[len(l)-1].currency = f.Currency
		}
	}
	l.addMap(a.Map)
	l.addFlow(a.Flow)
	l.addFunnel(a.Funnel)
	l.addAttribution(a.Attribution)
	l.addChannels(a.Channels)
	for i := range a.ByPurpose {
		c := &a.ByPurpose[i]
		l.consented("coverage", c.Channel, c.Purpose, &c.Consented)
	}
	return l
}

func truth(b bool) *int64 {
	var n int64
	if b {
		n = 1
	}
	return &n
}

// add adds a whole number; nil is one that may not be said.
func (l *lines) add(table, of, measure string, n *int64, unit string) {
	x := line{table: table, of: of, measure: measure, unit: unit}
	if n != nil {
		x.value = strconv.FormatInt(*n, 10)
	}
	*l = append(*l, x)
}

// share adds a number with a fraction, which is a share unless the measure says otherwise.
func (l *lines) share(table, of, measure string, v *float64) {
	x := line{table: table, of: of, measure: measure, unit: UnitShare}
	if v != nil {
		x.value = strconv.FormatFloat(*v, 'f', -1, 64)
	}
	*l = append(*l, x)
}

// to names the second dimension of the line that was added last.
func (l lines) to(name string) { l[len(l)-1].to = name }

func (l *lines) consented(table, channel, purpose string, c *Consented) {
	l.add(table, channel, "accepted", &c.Accepted, UnitEvents)
	l.to(purpose)
	l.add(table, channel, "refused", &c.Refused, UnitEvents)
	l.to(purpose)
	l.share(table, channel, "consent_coverage", &c.Share)
	l.to(purpose)
}

func (l *lines) addMap(m *Map) {
	if m == nil {
		return
	}
	l.add("map", "", "events", &m.Events, UnitEvents)
	for i := range m.Stages {
		c := &m.Stages[i]
		for j := range c.Channels {
			l.add("map", c.Stage, "events", &c.Channels[j].Count, UnitEvents)
			l.to(c.Channels[j].Channel)
		}
		l.add("map", c.Stage, "events", &c.Other, UnitEvents)
		l.to(AllOther)
	}
	l.add("map", AllOther, "events", &m.Other, UnitEvents)
}

func (l *lines) addFlow(f *Flow) {
	if f == nil {
		return
	}
	l.add("flow", "", "journeys", &f.Journeys, UnitJourneys)
	l.add("flow", "", "conversions", &f.Conversions, UnitJourneys)
	l.add("flow", "", "no_further_action", &f.NoFurther, UnitJourneys)
	for i := range f.Edges {
		l.add("flow", f.Edges[i].From, "edges", &f.Edges[i].Count, UnitEdges)
		l.to(f.Edges[i].To)
	}
	if f.Truth != nil {
		l.share("flow", f.Truth.Channel, "moment_of_truth", &f.Truth.Weight)
	}
}

func (l *lines) addFunnel(f *Funnel) {
	if f == nil {
		return
	}
	for i := range f.Steps {
		s := &f.Steps[i]
		l.add("funnel", s.Name, "subjects", s.Subjects, UnitSubjects)
		l.share("funnel", s.Name, "of_first", s.OfFirst)
		l.share("funnel", s.Name, "of_previous", s.OfPrevious)
		l.add("funnel", s.Name, "dropped", s.Dropped, UnitSubjects)
		l.add("funnel", s.Name, "drop_off", truth(s.Drop), "")
	}
	for i := range f.Times {
		d := &f.Times[i]
		l.add("time_to_convert", strconv.FormatInt(d.From, 10)+" min", "subjects", &d.Subjects, UnitSubjects)
		l.to(strconv.FormatInt(d.To, 10) + " min")
	}
	c := &f.Carts
	l.add("carts", "", "opened", c.Opened, UnitCarts)
	l.add("carts", "", "followed", c.Followed, UnitCarts)
	l.share("carts", "", "abandonment", c.Abandonment)
	l.add("carts", "", "recovered", c.Recovered, UnitCarts)
	for i := range c.Back {
		l.add("carts", c.Back[i].Channel, "recovered", &c.Back[i].Count, UnitCarts)
	}
}

func (l *lines) addAttribution(a *Attribution) {
	if a == nil {
		return
	}
	l.add("attribution", "", "conversions", &a.Conversions, UnitJourneys)
	for i := range a.Models {
		m := &a.Models[i]
		for j := range m.Credits {
			c := &m.Credits[j]
			l.share(m.Name, c.Channel, "conversions", &c.Conversions)
			(*l)[len(*l)-1].unit = UnitJourneys
			l.share(m.Name, c.Channel, "share", &c.Share)
			if c.Removal != nil {
				l.share(m.Name, c.Channel, "removal_effect", c.Removal)
			}
		}
		for j := range m.Amounts {
			l.add(m.Name, m.Amounts[j].Channel, "revenue", &m.Amounts[j].Minor, UnitMinor)
			(*l)[len(*l)-1].currency = m.Amounts[j].Currency
		}
	}
}

func (l *lines) addChannels(c *Channels) {
	if c == nil {
		return
	}
	for i := range c.Channels {
		r := &c.Channels[i]
		l.add("channels", r.Channel, "subjects", r.Subjects, UnitSubjects)
		l.share("channels", r.Channel, "opener", r.Opener)
		l.share("channels", r.Channel, "assist", r.Assist)
		l.share("channels", r.Channel, "closer", r.Closer)
	}
	for i := range c.Transitions {
		s := &c.Transitions[i]
		l.add("transitions", s.From, "edges", &s.Count, UnitEdges)
		l.to(s.To)
		l.share("transitions", s.From, "share", &s.Share)
		l.to(s.To)
	}
	for i := range c.Breadth {
		l.addBreadth(&c.Breadth[i])
	}
	l.share("breadth", "", "omnichannel", c.Omnichannel)
}

func (l *lines) addBreadth(b *Breadth) {
	l.add("breadth", b.Channels, "subjects", &b.Subjects, UnitSubjects)
	l.add("breadth", b.Channels, "purchases", b.Purchases, UnitJourneys)
	l.share("breadth", b.Channels, "frequency", b.Frequency)
	(*l)[len(*l)-1].unit = UnitPerSubject
	l.add("breadth", b.Channels, "mean_duration", b.Seconds, UnitSeconds)
	for i := range b.Amounts {
		x := &b.Amounts[i]
		l.add("breadth", b.Channels, "revenue", &x.Minor, UnitMinor)
		(*l)[len(*l)-1].currency = x.Currency
		l.add("breadth", b.Channels, "order_value", &x.Mean, UnitMinor)
		(*l)[len(*l)-1].currency = x.Currency
	}
}
