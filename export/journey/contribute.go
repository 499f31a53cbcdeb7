package journey

import (
	"slices"
	"strings"
)

// The kinds of cells, with their keys. A subject is in a cell once, whatever it adds to Count and Value; cells of amounts are one a currency. Every
// number of a report follows from them.
const (
	kindSubject = "subject"  // none|one|more: purchases of the subject in the period
	kindSession = "session"  // outcome; Count: sessions
	kindEvent   = "event"    // stage, channel; Count: events
	kindReach   = "reach"    // channel: who has a touch by it
	kindJourney = "journey"  // conversion|null; Count: journeys
	kindEdge    = "edge"     // from, to; Count: journeys' edges, immediate repeats collapsed
	kindOpen    = "open"     // channel, conversion|null; Count: journeys that begin with it
	kindAssist  = "assist"   // channel; Count: converting journeys in which it is neither first nor last only
	kindCredit  = "credit"   // model, channel; Count: credits in units of creditUnit
	kindBreadth = "breadth"  // channels 1…5; Count: purchases
	kindSpan    = "span"     // channels 1…5; Count: converting journeys; Value: their seconds
	kindFunnel  = "funnel"   // level 0…n
	kindTime    = "time"     // octave of minutes from first to last step
	kindCart    = "cart"     // outcome; Count: carts
	kindReturn  = "comeback" // channel; Count: recovered carts

	kindOrder  = "order"  // currency; Count: purchases; Value: their amounts
	kindRefund = "refund" // currency; Count: returns; Value: their amounts, positive
	kindWorth  = "worth"  // model, channel, currency; Value: credited
	kindBasket = "basket" // channels 1…5, currency; Count: purchases; Value: their amounts
)

// amounts tells the kinds of cells whose Value is money.
func amounts(kind string) bool {
	switch kind {
	case kindOrder, kindRefund, kindWorth, kindBasket:
		return true
	}
	return false
}

// The ends of a way, as nodes of edges. They are no channels.
const (
	nodeStart      = "(start)"
	nodeConversion = "(conversion)"
	nodeNull       = "(no_further_action)"
)

// mostChannels is the class of subjects with so many channels or more.
const mostChannels = 5

// spot is a cell without its period, site and segment.
type spot struct{ kind, key string }

// sum is what a subject adds to a spot.
type sum struct{ count, value int64 }

type sums map[spot]sum

func (a sums) add(kind, key string, x sum) {
	at := spot{kind, key}
	was := a[at]
	a[at] = sum{was.count + x.count, was.value + x.value}
}

// contribute is what one subject adds to one period at one site (cells.go). It is a pure function of the touches as a set.
func contribute(touches []Touch, s *rules) map[Cell]Tally {
	kept := bound(touches, s)
	a := make(sums, 64)
	orders := a.addEvents(kept, s)
	for _, w := range ways(kept, s) {
		w.addTo(a, 1)
	}
	a.addBreadth(kept, orders, s)
	for o, n := range sessions(touches, s) {
		a.add(kindSession, string(o), sum{count: n})
	}
	a.addFunnel(kept, s)
	for _, c := range carts(kept, s) {
		a.add(kindCart, c.outcome, sum{count: 1})
		if c.outcome == cartRecovered {
			a.add(kindReturn, c.channel, sum{count: 1})
		}
	}
	return a.cells(segmentsOf(touches, s), s)
}

// addEvents counts what is of single events, and answers the purchases.
func (a sums) addEvents(kept []touch, s *rules) (orders int64) {
	for i := range kept {
		t := &kept[i]
		if !s.period.holds(t.At) {
			continue
		}
		a.add(kindEvent, Join(t.Stage, t.Channel), sum{count: 1})
		switch {
		case t.converts:
			orders++
			if t.value.Currency != "" {
				a.add(kindOrder, t.value.Currency, sum{1, t.value.Minor})
			}
		case t.value.Currency != "":
			a.add(kindRefund, t.value.Currency, sum{1, t.value.Minor})
		}
	}
	bought := "none"
	switch {
	case orders == 1:
		bought = "one"
	case orders > 1:
		bought = "more"
	}
	a.add(kindSubject, bought, sum{count: 1})
	return orders
}

// addBreadth counts by the number of channels that the subject used in the period. It reads the ways and amounts that were added before.
func (a sums) addBreadth(kept []touch, orders int64, s *rules) {
	var channels []string
	for i := range kept {
		if t := &kept[i]; s.period.holds(t.At) && !slices.Contains(channels, t.Channel) {
			channels = append(channels, t.Channel)
			a.add(kindReach, t.Channel, sum{count: 1})
		}
	}
	n := digit(min(len(channels), mostChannels))
	a.add(kindBreadth, n, sum{count: orders})
	if x := a[spot{kindSpan, ""}]; x.count > 0 {
		delete(a, spot{kindSpan, ""})
		a.add(kindSpan, n, x)
	}
	for at, x := range a {
		if at.kind == kindOrder {
			a[spot{kindBasket, Join(n, at.key)}] = x
		}
	}
}

func digit(n int) string { return "0123456789"[n : n+1] }

func (a sums) addFunnel(kept []touch, s *rules) {
	steps := funnelSteps()
	var moments []moment
	for i := range kept {
		if n := stepOf(steps, kept[i].Type); n >= 0 {
			moments = append(moments, moment{kept[i].At, n})
		}
	}
	slices.SortStableFunc(moments, func(x, y moment) int {
		if x.at != y.at {
			return int(max(-1, min(1, x.at-y.at)))
		}
		return x.step - y.step
	})
	level, took := windowFunnel(moments, len(steps), &s.period)
	a.add(kindFunnel, digit(level), sum{count: 1})
	if took >= 0 {
		a.add(kindTime, twoDigits(minutesOctave(took)), sum{count: 1})
	}
}

// twoDigits keeps keys in the order of their numbers.
func twoDigits(n int) string { return digit(n/10) + digit(n%10) }

// addTo adds n journeys of the same way, whose amounts together are the way's value.
func (w *way) addTo(a sums, n int64) {
	channels := w.collapsed()
	last := len(channels) - 1
	end := nodeNull
	if w.converted {
		end = nodeConversion
	}
	a.add(kindJourney, end, sum{count: n})
	a.add(kindOpen, Join(channels[0], end), sum{count: n})
	a.add(kindEdge, Join(nodeStart, channels[0]), sum{count: n})
	for i, c := range channels[:last] {
		a.add(kindEdge, Join(c, channels[i+1]), sum{count: n})
	}
	a.add(kindEdge, Join(channels[last], end), sum{count: n})
	if !w.converted {
		return
	}
	a.add(kindSpan, "", sum{n, n * w.seconds()})
	for i := 1; i < last; i++ {
		if c := channels[i]; c != channels[0] && c != channels[last] && !slices.Contains(channels[1:i], c) {
			a.add(kindAssist, c, sum{count: n})
		}
	}
	w.addCredits(a, n)
}

// cells makes cells of sums: of everybody, and of each segment that the subject is in. Where that is more than a subject may have, of everybody only.
func (a sums) cells(segments []string, s *rules) map[Cell]Tally {
	if len(a)*(1+len(segments)) > maxContribution {
		segments = nil
	}
	all := make(map[Cell]Tally, len(a)*(1+len(segments)))
	for at, x := range a {
		t := Tally{Subjects: 1, Count: x.count}
		if amounts(at.kind) {
			t.spend(x.value)
		} else {
			t.Value = x.value
		}
		cell := Cell{Period: s.period.name, Site: s.site, Kind: at.kind, Key: at.key}
		all[cell] = t
		for _, g := range segments {
			cell.Segment = g
			all[cell] = t
		}
	}
	return all
}

// segmentsOf are the segments of the subject in the period: of each declared name the value of its first touch that has one. So a subject is in one
// segment of a name at most, and the segments of a name and the unlabelled are together everybody.
func segmentsOf(touches []Touch, s *rules) []string {
	var segments []string
	for i := range touches {
		if !s.period.holds(touches[i].At) {
			continue
		}
		for _, label := range touches[i].Segments {
			name, _, _ := strings.Cut(label, "=")
			if !slices.ContainsFunc(segments, func(g string) bool { return segmentName(g) == name }) {
				segments = append(segments, label)
			}
		}
	}
	return segments
}

func segmentName(segment string) string {
	name, _, _ := strings.Cut(segment, "=")
	return name
}
