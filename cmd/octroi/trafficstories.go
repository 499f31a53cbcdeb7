package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"time"

	"github.com/google/uuid"
	"github.com/octroi/octroi/cmd/octroi/shop"
	"github.com/octroi/octroi/collector"
)

// customers is how many loyalty cards the simulated shop has given out.
const customers = 1000

func cardNumber(i int) string { return fmt.Sprintf("card-%04d", i) }

// visit is one visitor's story.
func (s *traffic) visit(ctx context.Context) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return
	}
	browser := &http.Client{Jar: jar, Timeout: 10 * time.Second}
	agreed := s.choose(ctx, browser)
	s.arrive(ctx, browser)
	if s.login != nil && agreed["linking"] && chance(40) {
		s.logIn(ctx, browser)
	}
	s.browse(ctx, browser)
	if chance(5) {
		s.post(ctx, browser, "/v1/consents/withdraw", map[string]any{"k": s.key})
		s.browse(ctx, browser) // refused from now on
	}
	switch rand.IntN(100) {
	case 0, 1:
		s.post(ctx, browser, "/v1/me/requests?k="+s.key, map[string]any{"right": "access"})
	case 2, 3:
		s.post(ctx, browser, "/v1/me/requests?k="+s.key, map[string]any{"right": "erasure"})
		s.browse(ctx, browser) // refused: the cookie is gone, and so is who it was
	}
}

// choose reads the notice and answers it, or leaves it; it says what was agreed to.
func (s *traffic) choose(ctx context.Context, browser *http.Client) map[string]bool {
	mood := rand.IntN(100)
	if mood >= 85 {
		return nil
	}
	language := anyOf("fr", "en")
	n, ok := s.notice(ctx, browser, language)
	if !ok {
		return nil
	}
	answer := n.choice(func(purpose string) bool {
		switch {
		case mood < 50:
			return true
		case mood < 65:
			return purpose == "audience" || chance(40)
		}
		return false
	})
	if !s.post(ctx, browser, "/v1/consents", map[string]any{"k": s.key, "snapshot": n.Snapshot, "purposes": answer, "method": "banner", "language": language}) {
		return nil
	}
	return answer
}

// arrive is how a visitor comes to the shop.
func (s *traffic) arrive(ctx context.Context, browser *http.Client) {
	campaign := map[string]any{"url": s.url + "/", "campaign": anyOf("spring", "new-teas"), "source": "octroi-demo"}
	switch p := rand.IntN(100); {
	case p < 18:
		s.send(ctx, browser, event{"type": "ad_click", "fields": campaign})
	case p < 34:
		message := uuid.NewString()
		s.send(ctx, browser, event{"type": "email_open", "fields": map[string]any{"message": message, "campaign": campaign["campaign"]}})
		s.send(ctx, browser, event{"type": "email_click", "fields": map[string]any{"message": message, "campaign": campaign["campaign"]}})
	case p < 44:
		s.send(ctx, browser, event{"type": "social_click", "fields": campaign})
	case p < 50:
		s.send(ctx, browser, event{"type": "sms_click", "fields": campaign})
	case p < 58:
		s.send(ctx, browser, event{"type": "app_open", "fields": map[string]any{}})
	case p < 72:
		s.send(ctx, browser, event{"type": "page_view", "channel": "organic_search", "fields": map[string]any{"url": s.url + "/", "referrer": "https://search.example/?q=tea"}})
	}
}

// logIn joins the visitor's browser to a card, as the shop's page does.
func (s *traffic) logIn(ctx context.Context, browser *http.Client) {
	now := time.Now()
	claim, err := collector.MakeClaim(collector.LoginClaim{
		Site: s.site, Node: s.node, Identifiers: map[string]string{"loyalty": cardNumber(rand.IntN(customers))}, ID: uuid.NewString(),
		Issued: now, Expires: now.Add(time.Minute),
	}, s.login)
	if err != nil {
		return
	}
	s.post(ctx, browser, "/v1/identify", map[string]any{"k": s.key, "claim": claim})
	s.send(ctx, browser, event{"type": "login"})
}

// browse is a walk through the shop that ends anywhere between the door and the till.
func (s *traffic) browse(ctx context.Context, browser *http.Client) {
	piece := anyOf(shop.Names()...)
	page := "https://shop.example/fr/p/" + piece + "?gclid=" + uuid.NewString()
	fields := map[string]any{"url": page, "product": piece, "quantity": 1, "value": amount()}
	steps := []event{
		{"type": "page_view", "fields": map[string]any{"url": "https://shop.example/"}},
		{"type": "search", "fields": map[string]any{"search_terms": "something private"}},
		{"type": "product_view", "fields": fields},
		{"type": "cart_add", "fields": fields},
		{"type": "checkout_start", "fields": map[string]any{"url": "https://shop.example/checkout"}},
		{"type": "purchase", "fields": map[string]any{"product": piece, "quantity": 1, "value": fields["value"], "order": uuid.NewString()}},
	}
	for _, e := range steps[:1+rand.IntN(len(steps))] {
		if e["type"] == "search" && chance(50) {
			continue
		}
		s.send(ctx, browser, e)
		if e["type"] == "cart_add" && chance(15) {
			s.send(ctx, browser, event{"type": "cart_remove", "fields": fields})
			return
		}
		if chance(2) {
			s.send(ctx, browser, event{"type": "mind_reading"})
		}
		if !pause(ctx) {
			return
		}
	}
	if chance(25) {
		s.send(ctx, browser, event{"type": anyOf("order_tracking", "survey", "chat", "coupon_use"), "fields": map[string]any{"score": rand.IntN(11), "coupon": "SPRING"}})
	}
}

// customer is somebody who shows a loyalty card in the store, or calls: the back-end names the card. Half of them have agreed to be measured, on the
// form at the till; of the others only the sale itself is recorded.
func (s *traffic) customer(ctx context.Context) {
	i := rand.IntN(customers)
	if i%2 == 0 && !s.form(ctx, i, time.Time{}) {
		return
	}
	for _, e := range s.errands() {
		e["subject"] = map[string]string{"loyalty": cardNumber(i)}
		s.send(ctx, http.DefaultClient, e)
		if !pause(ctx) {
			return
		}
	}
}

// form hands in the choice that a customer made on the till's form: now, or, where given says when, out of the shop's older records.
func (s *traffic) form(ctx context.Context, card int, given time.Time) bool {
	n, ok := s.notice(ctx, http.DefaultClient, "fr")
	if !ok {
		return false
	}
	body := map[string]any{
		"k": s.key, "notice": n.Notice, "purposes": n.choice(func(string) bool { return true }), "method": "form", "language": "fr",
		"subject": map[string]string{"loyalty": cardNumber(card)},
	}
	if !given.IsZero() {
		body["given_at"], body["source"] = given.UTC().Format(time.RFC3339), "loyalty_desk"
	}
	return s.post(ctx, http.DefaultClient, "/v1/consents", body)
}

// errands are what one customer does, by the channels that no browser sees.
func (s *traffic) errands() []event {
	sale := map[string]any{"value": amount(), "product": anyOf(shop.Names()...), "quantity": 1 + rand.IntN(3)}
	switch rand.IntN(6) {
	case 0:
		return []event{{"type": "store_visit", "channel": "store"}}
	case 1:
		return []event{{"type": "store_visit", "channel": "store"}, {"type": "store_purchase", "channel": "store", "fields": sale}}
	case 2:
		return []event{{"type": "email_open"}, {"type": "email_click", "fields": map[string]any{"campaign": "loyalty"}}, {"type": "store_purchase", "channel": "store", "fields": sale}}
	case 3:
		return []event{{"type": "call", "channel": "call_centre"}, {"type": "survey", "fields": map[string]any{"score": 4 + rand.IntN(7)}}}
	case 4:
		return []event{{"type": "sms_click"}, {"type": "store_visit", "channel": "store"}, {"type": "store_purchase", "channel": "store", "fields": sale}, {"type": "delivery_update", "channel": "delivery"}}
	}
	return []event{{"type": "store_purchase", "channel": "store", "fields": sale}, {"type": "return", "channel": "store", "fields": map[string]any{"value": sale["value"]}}}
}

// remember imports the last six days of some customers, each after a consent of a week ago that the shop's own records hold: a report of journeys has
// something to show on the first day.
func (s *traffic) remember(ctx context.Context) {
	const days = 6
	now := time.Now()
	for i := range min(s.history, customers) {
		if ctx.Err() != nil || !s.form(ctx, i, now.AddDate(0, 0, -days).Add(-time.Hour)) {
			return
		}
		at := now.AddDate(0, 0, -days).Add(time.Duration(rand.IntN(24)) * time.Hour)
		for range 1 + rand.IntN(3) {
			for _, e := range s.errands() {
				if at.After(now) {
					break
				}
				e["subject"], e["time"] = map[string]string{"loyalty": cardNumber(i)}, at.UTC().Format(time.RFC3339Nano)
				s.send(ctx, http.DefaultClient, e)
				at = at.Add(time.Duration(10+rand.IntN(600)) * time.Minute)
			}
			at = at.Add(time.Duration(rand.IntN(24)) * time.Hour)
		}
	}
}
