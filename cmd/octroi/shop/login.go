package shop

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/octroi/octroi/collector"
)

// claimLife is how long a page's claim can be used: as long as somebody reads the banner.
const claimLife = 5 * time.Minute

// Card is a loyalty card, and whose it is.
type Card struct {
	Number string
	Code   string
	Name   string
	User   string
}

// Cards are the demo's accounts, which its pages list.
func Cards() []Card {
	return []Card{
		{"2026-0001", "1234", "Camille", "camille"},
		{"2026-0002", "5678", "Alex", "alex"},
	}
}

func findCard(number string) (Card, bool) {
	all := Cards()
	i := slices.IndexFunc(all, func(c Card) bool { return c.Number == number })
	if i < 0 {
		return Card{}, false
	}
	return all[i], true
}

// identifiers are how the shop names the person to the gateway.
func (c Card) identifiers() map[string]string {
	return map[string]string{"user": c.User, "loyalty": c.Number}
}

// claim says to the gateway, by way of the browser, who has logged in. It is used once.
func (s *Shop) claim(c Card) (string, error) {
	now := s.o.Now()
	text, err := collector.MakeClaim(collector.LoginClaim{
		Site: s.o.Site, Node: s.o.Node, Identifiers: c.identifiers(), ID: rand.Text(), Issued: now, Expires: now.Add(claimLife),
	}, s.o.Login)
	if err != nil {
		return "", fmt.Errorf("signing in: %w", err)
	}
	return text, nil
}

// cardPage is the login.
type cardPage struct {
	Wrong string
	Cards []Card
}

func (v *visit) card() { v.show("card", "card_title", cardPage{Cards: Cards()}) }

func (v *visit) logIn() {
	card, ok := findCard(strings.TrimSpace(cut(v.r.PostFormValue("number"), 32)))
	if !ok || v.r.PostFormValue("code") != card.Code {
		v.status = http.StatusUnprocessableEntity
		v.show("card", "card_title", cardPage{"card_wrong", Cards()})
		return
	}
	v.shop.sessions.renew(v.w, v.r, func(s *session) {
		s.card, s.identify = card.Number, loggedIn
		s.tell(announced{Type: "login"})
	})
	v.lead("/card")
}

// logOut ends the login. The basket stays: it is the browser's.
func (v *visit) logOut() {
	v.shop.sessions.renew(v.w, v.r, func(s *session) {
		s.card, s.orders, s.identify = "", nil, loggedOut
	})
	v.lead("/card")
}
