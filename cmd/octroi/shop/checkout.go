package shop

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Order is what the shop's own system knows of a purchase.
type Order struct {
	ID       string // of the order, and of the event that tells of it
	Number   string // as the customer reads it
	Time     time.Time
	Subject  map[string]string // who bought, as the shop knows it: the card, or else the e-mail address
	Lines    []line
	Pieces   int
	Cents    int64
	Delivery string // post or collect
}

// fields are what the shop's back-end tells of the order.
func (o *Order) fields() map[string]any {
	fields := map[string]any{"order": o.Number, "quantity": o.Pieces, "value": amount(o.Cents), "delivery": o.Delivery}
	if len(o.Lines) == 1 {
		fields["product"] = o.Lines[0].Product
	}
	return fields
}

// The bounds of the checkout form, in bytes.
const (
	maxName  = 80
	maxEmail = 120
)

func (v *visit) checkout() {
	if len(v.has.basket) == 0 {
		v.lead("/basket")
		return
	}
	v.events = append(v.events, announced{"checkout_start", basketFields(v.has.basket)})
	p := v.basketPage()
	if card, ok := findCard(v.has.card); ok {
		p.Name = card.Name
	}
	v.show("checkout", "checkout_title", p)
}

func basketFields(b basket) map[string]any {
	return map[string]any{"quantity": b.pieces(), "value": amount(b.cents())}
}

// buy places the order. No payment is made: the page says so.
func (v *visit) buy() {
	name, email := strings.TrimSpace(v.r.PostFormValue("name")), strings.TrimSpace(v.r.PostFormValue("email"))
	delivery := v.r.PostFormValue("delivery")
	if wrong := wrongForm(name, email, delivery); wrong != "" {
		p := v.basketPage()
		p.Wrong, p.Name, p.Email, p.ByPost = wrong, cut(name, maxName), cut(email, maxEmail), delivery != "collect"
		v.status = http.StatusUnprocessableEntity
		v.show("checkout", "checkout_title", p)
		return
	}
	var placed *Order
	v.shop.sessions.look(v.r, func(s *session) {
		if s == nil || len(s.basket) == 0 { // bought already: the form was sent twice
			return
		}
		placed = v.shop.place(s, email, delivery)
	})
	if placed == nil {
		v.lead("/basket")
		return
	}
	if v.shop.o.Orders != nil {
		v.shop.o.Orders.Placed(*placed)
	}
	v.lead("/order/" + placed.ID)
}

// place makes an order of the basket. Who is logged in is named by the card; the address is for the letter only, which the demo does not send.
func (s *Shop) place(has *session, email, delivery string) *Order {
	o := Order{
		ID: uuid.NewString(), Time: s.o.Now().UTC(), Subject: map[string]string{"email": email},
		Lines: has.basket, Pieces: has.basket.pieces(), Cents: has.basket.cents(), Delivery: delivery,
	}
	o.Number = fmt.Sprintf("B-%s", strings.ToUpper(o.ID[:8]))
	if card, ok := findCard(has.card); ok {
		o.Subject = map[string]string{"loyalty": card.Number}
	}
	has.tell(announced{"purchase", map[string]any{"order": o.Number, "quantity": o.Pieces, "value": amount(o.Cents)}})
	if len(has.orders) == maxOrders {
		has.orders = has.orders[1:]
	}
	has.orders, has.basket = append(has.orders, o), nil
	return &o
}

func wrongForm(name, email, delivery string) (wrong string) {
	a, err := mail.ParseAddress(email)
	switch {
	case name == "" || len(name) > maxName:
		return "wrong_name"
	case err != nil || a.Address != email || len(email) > maxEmail || !strings.Contains(email, "."):
		return "wrong_email"
	case delivery != "post" && delivery != "collect":
		return "wrong_form"
	}
	return ""
}

// orderPage is an order after it was placed.
type orderPage struct {
	Order
	Lines []basketLine
	Total string
}

// OrderTold is what the back-end told of the page's order, for the panel: who bought by kind of identifier only.
func (p *page) OrderTold() (string, error) {
	o, ok := p.Body.(orderPage)
	if !ok {
		return "", nil
	}
	b, err := json.Marshal(map[string]any{
		"id": o.ID, "time": o.Time, "fields": o.fields(), "subject": slices.Collect(maps.Keys(o.Subject))[0],
	})
	return string(b), err
}

// order shows an order to the session that placed it.
func (v *visit) order() {
	o, ok := v.has.order(v.r.PathValue("order"))
	if !ok {
		v.missing()
		return
	}
	v.show("order", "order_title", orderPage{o, basket(o.Lines).lines(v.language), price(o.Cents, v.language)})
}

func (s *session) order(id string) (Order, bool) {
	for _, o := range s.orders {
		if o.ID == id {
			return o, true
		}
	}
	return Order{}, false
}
