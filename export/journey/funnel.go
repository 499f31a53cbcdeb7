package journey

import (
	"math/bits"
	"time"
)

const (
	funnelWindow   = 14 * 24 * time.Hour // W: from the first step to the last
	cartWindow     = 7 * 24 * time.Hour  // a purchase within it follows the cart
	recoveryWindow = 30 * 24 * time.Hour // a purchase within it recovers an abandoned cart
)

// funnelStep is a step with the event types that take it. No type is of two steps: so one event takes one step.
type funnelStep struct {
	name  string
	types []string
}

// funnelSteps are the steps from a product to its purchase.
func funnelSteps() []funnelStep {
	return []funnelStep{
		{typeProductView, []string{typeProductView}},
		{typeCartAdd, []string{typeCartAdd}},
		{typeCheckout, []string{typeCheckout}},
		{typePurchase, []string{typePurchase, typeStorePurchase}},
	}
}

// stepOf is the number of the step that an event type takes, from 0; -1: none.
func stepOf(steps []funnelStep, typ string) int {
	for i := range steps {
		for _, t := range steps[i].types {
			if t == typ {
				return i
			}
		}
	}
	return -1
}

// moment is an event that takes a step of a funnel.
type moment struct {
	at   int64 // Unix ms
	step int
}

// windowFunnel is the highest level that an event in the period reaches: the i of the longest chain t₁ ≤ … ≤ tᵢ ≤ t₁+W that ends in it, with one event
// for each of the steps 1 … i in order, and any others between them; and, of the chain to the last of n steps, how long it took (-1: not reached).
// Chains may begin before the period. moments are in order of time, and, of one time, of steps.
func windowFunnel(moments []moment, n int, p *period) (level int, took int64) {
	const never = -1
	began := make([]int64, n) // began[i]: the latest t₁ of a chain that has reached step i
	for i := range began {
		began[i] = never
	}
	took = never
	for _, m := range moments {
		switch {
		case m.step == 0:
			began[0] = m.at
		case began[m.step-1] == never || m.at-began[m.step-1] > funnelWindow.Milliseconds():
			continue
		default:
			began[m.step] = began[m.step-1] // the latest beginning leaves the most time
		}
		if !p.holds(m.at) {
			continue
		}
		level = max(level, m.step+1)
		if d := m.at - began[m.step]; m.step == n-1 && (took == never || d < took) {
			took = d
		}
	}
	return level, took
}

// minutesOctave is the bucket of a time to convert: it is below 1 << octave minutes.
func minutesOctave(ms int64) int { return bits.Len64(uint64(ms / time.Minute.Milliseconds())) }

// What became of a cart. A cart is open from the first addition after the last purchase; no event of a period later than the one that is counted is
// looked at, so a cart's purchase in the next period is carried there: 1 − (bought + carried)/(bought + left) is the share of abandoned carts.
const (
	cartBought    = "bought"    // opened in the period and followed by a purchase in it, within W
	cartLeft      = "left"      // opened in the period, and not followed by a purchase in it within W
	cartCarried   = "carried"   // opened before the period, and followed by a purchase in it within W
	cartRecovered = "recovered" // a purchase in the period, later than W and within 30 days
)

// cart is one outcome, with the channel by which whoever had abandoned it came back.
type cart struct{ outcome, channel string }

// carts are the outcomes of a subject's carts in the period.
func carts(touches []touch, s *rules) []cart {
	var all []cart
	open, back := int64(-1), ""
	for i := range touches {
		t := &touches[i]
		late := open >= 0 && t.At-open > cartWindow.Milliseconds()
		if late && t.At-open > recoveryWindow.Milliseconds() {
			all = settle(all, open, s)
			open, back, late = -1, "", false
		}
		if late && back == "" {
			back = t.Channel
		}
		switch {
		case t.Type == typeCartAdd && open < 0:
			open = t.At
		case t.converts && open >= 0:
			all = buy(all, cartOf{open, t.At, late, back}, s)
			open, back = -1, ""
		}
	}
	if open >= 0 {
		all = settle(all, open, s)
	}
	return all
}

type cartOf struct {
	open, bought int64
	late         bool
	back         string
}

// settle is the outcome of a cart that no purchase followed.
func settle(all []cart, open int64, s *rules) []cart {
	if s.period.holds(open) {
		all = append(all, cart{outcome: cartLeft})
	}
	return all
}

// buy is the outcome of a cart that a purchase followed, soon or late.
func buy(all []cart, c cartOf, s *rules) []cart {
	opened, bought := s.period.holds(c.open), s.period.holds(c.bought)
	switch {
	case !bought: // before the period: touches after it are not given
	case c.late:
		all = append(all, cart{cartRecovered, c.back})
	case opened:
		all = append(all, cart{outcome: cartBought})
	default:
		all = append(all, cart{outcome: cartCarried})
	}
	if c.late && opened {
		all = append(all, cart{outcome: cartLeft})
	}
	return all
}
