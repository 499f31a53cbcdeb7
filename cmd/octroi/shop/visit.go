package shop

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

// visit is one request for a page.
type visit struct {
	shop     *Shop
	w        http.ResponseWriter
	r        *http.Request
	language string
	status   int
	has      session // as it was when the request came
	events   []announced
	identify identifying
}

func (s *Shop) visit(w http.ResponseWriter, r *http.Request, language string) *visit {
	v := &visit{shop: s, w: w, r: r, language: language, status: http.StatusOK}
	s.sessions.look(r, func(x *session) {
		if x == nil {
			return
		}
		v.has = *x
		v.has.basket = append(basket(nil), x.basket...) // a post may change it meanwhile
		if r.Method == http.MethodGet {
			v.events, v.identify = x.announce, x.identify
			x.announce, x.identify = nil, nothing // a page that is loaded again says nothing twice
		}
	})
	return v
}

// page is what every template is given.
type page struct {
	shop     *Shop
	Language string
	Other    string // the other language
	Path     string // without language
	Query    string // with ?
	Title    string
	Pieces   int
	Card     *Card
	Claim    string // for the gateway: who is logged in
	Identify identifying
	Events   string // JSON, for the page to track
	Body     any
}

// T is what the shop says under a key, %s filled with args.
func (p *page) T(key string, args ...any) (string, error) {
	text, ok := p.shop.words[p.Language][key]
	if !ok {
		return "", fmt.Errorf("no words for %q in %s", key, p.Language)
	}
	if len(args) > 0 {
		text = fmt.Sprintf(text, args...)
	}
	return text, nil
}

// In is a text of the catalogue in the page's language.
func (p *page) In(t text) string { return t.In(p.Language) }

// Price is a sum in the page's language.
func (p *page) Price(cents int64) string { return price(cents, p.Language) }

// Categories are the shelves.
func (p *page) Categories() []category { return categories() }

// Origin, Gateway, Console and Key are where things are.
func (p *page) Origin() string  { return p.shop.o.Origin }
func (p *page) Gateway() string { return p.shop.o.Gateway }
func (p *page) Console() string { return p.shop.o.Console }
func (p *page) Key() string     { return p.shop.o.Key }

// Stub is the part of the snippet that stands in the page.
func (p *page) Stub() template.JS { return stub }

// Panel says whether the demo's showman is here.
func (p *page) Panel() bool { return p.shop.o.Stage != nil }

// CookieName is the shop's own cookie.
func (p *page) CookieName() string { return CookieName }

// Privacy is the gateway's page of a person's rights, with the way back: its part for choices, access or erasure.
func (p *page) Privacy(part string) string {
	to := map[string]string{"choices": "/privacy?%s#choices", "access": "/privacy?%s#rights", "erasure": "/privacy/erasure?%s"}[part]
	q := url.Values{"k": {p.shop.o.Key}, "language": {p.Language}, "return": {p.shop.o.Origin + "/" + p.Language + "/?back=1"}}
	return p.shop.o.Gateway + fmt.Sprintf(to, q.Encode())
}

// PanelWords is what the panel says, for its script.
func (p *page) PanelWords() (string, error) {
	words := map[string]string{}
	for key, text := range p.shop.words[p.Language] {
		if name, ok := strings.CutPrefix(key, "panel_"); ok {
			words[name] = text
		}
	}
	b, err := json.Marshal(words)
	return string(b), err
}

// show answers a page. It is made whole before a byte is sent, so that a fault is a 500 and not half a page.
func (v *visit) show(name, title string, body any) {
	p := &page{
		shop: v.shop, Language: v.language, Other: languages[0], Path: strings.TrimPrefix(v.r.URL.Path, "/"+v.language), Pieces: v.has.basket.pieces(),
		Identify: v.identify, Body: body,
	}
	if v.language == languages[0] {
		p.Other = languages[1]
	}
	if s, ok := body.(searchPage); ok && s.Query != "" {
		p.Query = "?" + url.Values{"q": {s.Query}}.Encode()
	}
	out, err := v.render(p, name, title)
	if err != nil {
		v.shop.o.Log.Error("a page could not be made", "step", name, "error", err)
		http.Error(v.w, "the shop is broken: see shop.log", http.StatusInternalServerError)
		return
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.Header().Set("Content-Language", v.language)
	v.w.WriteHeader(v.status)
	_, _ = v.w.Write(out)
}

func (v *visit) render(p *page, name, title string) ([]byte, error) {
	var wrong []error
	keep := func(err error) { wrong = append(wrong, err) }
	text, err := p.T(title)
	keep(err)
	if b, ok := p.Body.(productPage); ok {
		text = p.In(b.Product.Title)
	}
	p.Title = text
	if card, ok := findCard(v.has.card); ok {
		p.Card = &card
		p.Claim, err = v.shop.claim(card)
		keep(err)
	}
	if len(v.events) > 0 {
		b, err := json.Marshal(v.events)
		keep(err)
		p.Events = string(b)
	}
	var out bytes.Buffer
	keep(v.shop.pages.ExecuteTemplate(&out, name+".html", p))
	return out.Bytes(), errors.Join(wrong...)
}

// lead sends the browser to another page of the same language.
func (v *visit) lead(path string) {
	http.Redirect(v.w, v.r, "/"+v.language+path, http.StatusSeeOther)
}

// fail answers a page that says what is wrong, by a key of the shop's words.
func (v *visit) fail(status int, what string) {
	v.status = status
	v.show("wrong", what, nil)
}

func (v *visit) missing() { v.fail(http.StatusNotFound, "wrong_page") }

// shelfPage is the home page and a category.
type shelfPage struct {
	Category *category
	Products []product
}

func (v *visit) home() { v.show("shelf", "home_title", shelfPage{nil, products()}) }

func (v *visit) category() {
	c, ok := findCategory(v.r.PathValue("category"))
	if !ok {
		v.missing()
		return
	}
	v.show("shelf", "shelf_"+c.Name, shelfPage{&c, inCategory(c.Name)})
}

// productPage is one product.
type productPage struct {
	Product  product
	Category category
	Most     int
}

func (v *visit) product() {
	p, ok := findProduct(v.r.PathValue("product"))
	if !ok {
		v.missing()
		return
	}
	c, _ := findCategory(p.Category)
	v.events = append(v.events, announced{"product_view", p.fields(1)})
	v.show("product", "home_title", productPage{p, c, maxPieces})
}

// searchPage is a search and what it found.
type searchPage struct {
	Query    string
	Products []product
}

// search tells the gateway of the words too. The default policy drops them at the door: they can say of a person what is nobody's business.
func (v *visit) search() {
	q := strings.TrimSpace(cut(v.r.URL.Query().Get("q"), maxQuery))
	found := find(q)
	if q != "" {
		v.events = append(v.events, announced{"search", map[string]any{"search_terms": q}})
	}
	v.show("search", "search_title", searchPage{q, found})
}

func (v *visit) cookies() { v.show("cookies", "cookies_title", nil) }
