package journey

import (
	"slices"
	"time"

	"github.com/octroi/octroi/pseudonymize"
)

// The event types that journeys know by name. A policy may have any others: they are touchpoints like all.
const (
	typePageView      = "page_view"
	typeProductView   = "product_view"
	typeCartAdd       = "cart_add"
	typeCheckout      = "checkout_start"
	typePurchase      = "purchase"
	typeStorePurchase = "store_purchase"
	typeReturn        = "return"
)

const (
	sessionGap = 30 * time.Minute // a longer silence ends a session
	engagedFor = 10 * time.Second // a session that lasts longer is engaged
)

// outcome is the class of a session: each is in exactly one.
type outcome string

const (
	bounced   outcome = "bounce"    // exactly one page view and no interaction
	passive   outcome = "passive"   // neither bounced nor engaged
	engaged   outcome = "engaged"   // longer than 10 s, a key event, or two page views; no purchase
	converted outcome = "converted" // engaged, with a purchase
)

// purchases tells the touch that ends a journey as a conversion.
func purchases(t *Touch) bool { return t.Type == typePurchase || t.Type == typeStorePurchase }

// visits tells the touches that sessions are made of: what a person does on site or app, or by following a message there. A sale in a store, a
// call or a parcel is a touchpoint of the journey, and of no session; neither is a message that was only received.
func visits(t *Touch) bool {
	switch t.Channel {
	case "store", "call_centre", "delivery":
		return false
	}
	return t.Type != "email_open" && t.Type != "delivery_update"
}

// session is what is known of one, while it goes on.
type session struct {
	first, last      int64 // Unix ms
	pages, products  int
	key, interaction bool
	bought           bool
}

func (x *session) take(t *Touch) {
	x.last = t.At
	switch t.Type {
	case typePageView:
		x.pages++
	case typeProductView:
		x.products++ // beside the page view of the product's page: a view of its own only where there is none
	case typeCartAdd, typeCheckout:
		x.key, x.interaction = true, true
	case typePurchase, typeStorePurchase:
		x.key, x.interaction, x.bought = true, true, true
	default:
		x.interaction = true
	}
}

func (x *session) outcome() outcome {
	views := max(x.pages, x.products)
	switch {
	case x.bought:
		return converted
	case x.key || views >= 2 || x.last-x.first > engagedFor.Milliseconds():
		return engaged
	case views == 1 && !x.interaction:
		return bounced
	}
	return passive
}

// sessions counts the sessions that began in the period, by outcome. A session that began before belongs to the period before; what it did here
// is not counted twice.
func sessions(touches []Touch, s *rules) map[outcome]int64 {
	counted := map[outcome]int64{}
	var x session
	open := false
	end := func() {
		if open && s.period.holds(x.first) {
			counted[x.outcome()]++
		}
	}
	for i := range touches {
		t := &touches[i]
		if !visits(t) {
			continue
		}
		if !open || t.At-x.last >= sessionGap.Milliseconds() {
			end()
			x, open = session{first: t.At}, true
		}
		x.take(t)
	}
	end()
	return counted
}

// bounds on what one subject adds in one day (journeys.md "Release"), so that no single one can weigh much on any number.
const (
	touchesPerDay  = 200
	journeysPerDay = 3 // further purchases of the day are touchpoints and no conversions
	edgesPerDay    = 8
)

// touch is a Touch within the bounds.
type touch struct {
	*Touch
	day      int64 // the day it is of, by the first moment after it; Unix ms
	converts bool
	value    pseudonymize.Money // of a conversion or return, clipped by day
}

// bound leaves what counts of a subject's days: the first touches of a day, its first conversions, and amounts up to the clip.
func bound(touches []Touch, s *rules) []touch {
	kept := make([]touch, 0, len(touches))
	var until, n, conversions int64
	spent := map[string]int64{}
	for i := range touches {
		t := &touches[i]
		if i == 0 || t.At >= until { // once a day, not once a touch: calendars are slow
			until, n, conversions = s.dayEnd(t.At), 0, 0
			clear(spent)
		}
		if n++; n > touchesPerDay {
			continue
		}
		k := touch{Touch: t, day: until}
		if purchases(t) && conversions < journeysPerDay {
			conversions++
			k.converts = true
		}
		if m := t.Value; m.Currency != "" && (k.converts || t.Type == typeReturn) {
			amount := min(max(m.Minor, -m.Minor), s.clip()-spent[m.Currency])
			if k.converts && m.Minor < 0 {
				amount = 0
			}
			spent[m.Currency] += amount
			k.value = pseudonymize.Money{Minor: amount, Currency: m.Currency}
		}
		kept = append(kept, k)
	}
	return slices.Clip(kept)
}

// dayEnd is the first moment of the day after the one of at.
func (s *rules) dayEnd(at int64) int64 {
	y, m, d := time.UnixMilli(at).In(s.zone).Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, s.zone).UnixMilli()
}

// clip is what a subject's purchases and returns of one day count at most, in minor units of each currency.
func (s *rules) clip() int64 { return clipDefault }

// clipDefault is ten thousand euros or dollars.
const clipDefault = 1_000_000
