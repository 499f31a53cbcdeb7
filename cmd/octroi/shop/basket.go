package shop

import (
	"net/http"
	"slices"
	"strconv"
)

// maxPieces bounds the pieces of one product.
const maxPieces = 9

// line is a product of a basket.
type line struct {
	Product string
	Pieces  int
}

// basket is in the order in which things were put into it. A product stands there once, so that it is no longer than the catalogue.
type basket []line

// add puts more pieces of a product in, as many as fit, and says how many did.
func (b *basket) add(name string, pieces int) int {
	i := slices.IndexFunc(*b, func(l line) bool { return l.Product == name })
	if i < 0 {
		pieces = min(pieces, maxPieces)
		*b = append(*b, line{name, pieces})
		return pieces
	}
	pieces = min(pieces, maxPieces-(*b)[i].Pieces)
	(*b)[i].Pieces += pieces
	return pieces
}

// set makes it that many pieces, and says how many there were.
func (b *basket) set(name string, pieces int) (before int) {
	i := slices.IndexFunc(*b, func(l line) bool { return l.Product == name })
	switch {
	case i < 0:
		return 0
	case pieces == 0:
		before = (*b)[i].Pieces
		*b = slices.Delete(*b, i, i+1)
	default:
		before = (*b)[i].Pieces
		(*b)[i].Pieces = min(pieces, maxPieces)
	}
	return before
}

func (b basket) pieces() (n int) {
	for _, l := range b {
		n += l.Pieces
	}
	return n
}

func (b basket) cents() (sum int64) {
	for _, l := range b {
		p, _ := findProduct(l.Product)
		sum += p.Cents * int64(l.Pieces)
	}
	return sum
}

// basketLine is a line as its page shows it.
type basketLine struct {
	Product product
	Pieces  int
	Sum     string
}

func (b basket) lines(language string) []basketLine {
	out := make([]basketLine, len(b))
	for i, l := range b {
		p, _ := findProduct(l.Product)
		out[i] = basketLine{p, l.Pieces, price(p.Cents*int64(l.Pieces), language)}
	}
	return out
}

// basketPage is the basket and the checkout.
type basketPage struct {
	Lines  []basketLine
	Total  string
	Most   int
	Wrong  string // key of what is wrong with the form
	Name   string
	Email  string
	ByPost bool
}

func (v *visit) basketPage() basketPage {
	return basketPage{Lines: v.has.basket.lines(v.language), Total: price(v.has.basket.cents(), v.language), Most: maxPieces, ByPost: true}
}

func (v *visit) basket() { v.show("basket", "basket_title", v.basketPage()) }

// changeBasket adds to the basket, or sets a number of pieces, and leads to the basket.
func (v *visit) changeBasket() {
	p, ok := findProduct(v.r.PostFormValue("product"))
	pieces, err := strconv.Atoi(v.r.PostFormValue("pieces"))
	set := v.r.PostFormValue("do") == "set"
	if !ok || err != nil || pieces < 0 || pieces > maxPieces || pieces == 0 && !set {
		v.fail(http.StatusBadRequest, "wrong_form")
		return
	}
	v.shop.sessions.change(v.w, v.r, func(s *session) {
		added := 0
		if set {
			added = -s.basket.set(p.Name, pieces)
			if now := s.basket.piecesOf(p.Name); added != 0 {
				added += now
			}
		} else {
			added = s.basket.add(p.Name, pieces)
		}
		if added > 0 {
			s.tell(announced{"cart_add", p.fields(added)})
		}
		if added < 0 {
			s.tell(announced{"cart_remove", p.fields(-added)})
		}
	})
	v.lead("/basket")
}

func (b basket) piecesOf(name string) int {
	for _, l := range b {
		if l.Product == name {
			return l.Pieces
		}
	}
	return 0
}

// fields are what the shop's events say of a product.
func (p product) fields(pieces int) map[string]any {
	return map[string]any{"product": p.Name, "category": p.Category, "quantity": pieces, "value": amount(p.Cents * int64(pieces))}
}
