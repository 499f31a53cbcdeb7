// Package shop is the demo's shop: a small real one that installs Octroi as any site does, and the panel beside it that shows what the gateway made
// of each click.
//
// New answers an http.Handler. What it guarantees:
//
//   - A page sets no cookie. One cookie of the shop's own, CookieName, is set by a post that needs it: a basket, a login. It holds a random number
//     and nothing else, ends with the browser's session, and changes when somebody logs in or out.
//   - Every page and every post works without JavaScript; what is missing then is the measurement, which nobody needs to buy tea.
//   - What a browser sends of another page's will is refused: each post is checked against its origin, each request against its host.
//   - The shop holds no consent of its own and asks nobody twice: it hands everything to the gateway and looks at no answer.
//
// Backstage is what no site has: the demo's showman may ask the gateway what became of an event, and look into the folders of the data teams. A real
// site, gateway and data team are three, on three machines.
package shop

import (
	"crypto"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Options configure New.
type Options struct {
	Origin  string        // of the shop: http://host:port
	Gateway string        // origin of the gateway's public listener
	Console string        // where the demo's console is, for who plays the officer
	Key     string        // site key
	Site    string        // name of the site, as claims and traces name it
	Node    string        // name of the gateway, for which claims are meant
	Login   crypto.Signer // of login claims
	Orders  Orders        // told of each order; nil: nobody
	Stage   *Backstage    // nil: no panel
	Log     *slog.Logger
	Now     func() time.Time
}

// Orders takes what the shop's own system knows of an order. It must return at once: a customer waits.
type Orders interface{ Placed(Order) }

// Shop is the shop. Safe for concurrent use.
type Shop struct {
	o        Options
	sessions *sessions
	pages    *template.Template
	words    map[string]map[string]string // by language and key
	policy   string                       // Content-Security-Policy
	handler  http.Handler
}

//go:embed pages assets drawings words
var files embed.FS

// New builds the shop.
func New(o Options) (*Shop, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Login == nil || o.Key == "" || o.Site == "" || o.Node == "" {
		return nil, errors.New("building the shop: login key, site key, site and node are needed")
	}
	for _, origin := range []string{o.Origin, o.Gateway} {
		if u, err := url.Parse(origin); err != nil || u.Host == "" || u.Scheme+"://"+u.Host != origin {
			return nil, errors.New("building the shop: its own origin and the gateway's are http://host:port")
		}
	}
	s := &Shop{o: o, sessions: newSessions(o.Now)}
	var err error
	if s.words, err = readWords(); err != nil {
		return nil, fmt.Errorf("building the shop: %w", err)
	}
	if s.pages, err = template.New("").Funcs(template.FuncMap{"drawing": drawing}).ParseFS(files, "pages/*.html"); err != nil {
		return nil, fmt.Errorf("building the shop: %w", err)
	}
	s.policy = s.contentPolicy()
	s.handler = s.guard(s.routes())
	return s, nil
}

// ServeHTTP answers one request.
func (s *Shop) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Languages the shop speaks; the first is shown to who reads none of them.
var languages = [...]string{"fr", "en"}

func (s *Shop) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.choose)
	mux.HandleFunc("GET /assets/{file}", s.asset)
	for _, l := range languages {
		page := func(pattern string, serve func(*visit)) {
			method, path, _ := strings.Cut(pattern, " ")
			mux.HandleFunc(method+" /"+l+path, func(w http.ResponseWriter, r *http.Request) { serve(s.visit(w, r, l)) })
		}
		page("GET /{$}", (*visit).home)
		page("GET /c/{category}", (*visit).category)
		page("GET /p/{product}", (*visit).product)
		page("GET /search", (*visit).search)
		page("GET /basket", (*visit).basket)
		page("POST /basket", (*visit).changeBasket)
		page("GET /checkout", (*visit).checkout)
		page("POST /checkout", (*visit).buy)
		page("GET /order/{order}", (*visit).order)
		page("GET /card", (*visit).card)
		page("POST /card", (*visit).logIn)
		page("POST /leave", (*visit).logOut)
		page("GET /cookies", (*visit).cookies)
		page("GET /", (*visit).missing)
	}
	if s.o.Stage != nil {
		mux.HandleFunc("POST /panel/trace", s.servePanelTrace)
		mux.HandleFunc("POST /panel/rows", s.servePanelRows)
	}
	return mux
}

// maxBody bounds what a post may hold; the longest is a checkout form, or the panel's list of rows.
const maxBody = 16 << 10

// guard is before every route.
func (s *Shop) guard(next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	next = origins.Handler(next)
	own, _ := url.Parse(s.o.Origin) // checked by New
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", s.policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "strict-origin-when-cross-origin")
		h.Set("Cache-Control", "no-store") // a page holds a basket, and a claim that is used once
		if r.Host != own.Host {
			s.elsewhere(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// elsewhere answers a request by another name. The gateway's cookie goes by host name, so the shop has one; a name that somebody else's DNS leads
// here (DNS rebinding) gets nothing.
func (s *Shop) elsewhere(w http.ResponseWriter, r *http.Request) {
	if name, _, _ := strings.Cut(r.Host, ":"); name == "localhost" && r.Method == http.MethodGet {
		http.Redirect(w, r, s.o.Origin+r.URL.RequestURI(), http.StatusFound)
		return
	}
	http.Error(w, "this shop is at "+s.o.Origin, http.StatusMisdirectedRequest)
}

// stub is the part of the snippet that stands in the page: calls made before the tag is there wait in its queue.
const stub = `window.octroi=window.octroi||function(){(octroi.q=octroi.q||[]).push(arguments)}`

// contentPolicy lets in the shop's own files and the gateway's, the stub by its hash, and nothing else.
func (s *Shop) contentPolicy() string {
	sum := sha256.Sum256([]byte(stub))
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self' " + s.o.Gateway + " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
		"style-src 'self' " + s.o.Gateway,
		"img-src 'self'",
		"connect-src 'self' " + s.o.Gateway,
		"form-action 'self'",
		"base-uri 'none'",
		"frame-ancestors 'none'",
	}, "; ")
}

// choose sends a visitor to the language that the browser asks for.
func (s *Shop) choose(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept-Language")
	to := url.URL{Path: "/" + preferred(r.Header.Get("Accept-Language")) + "/", RawQuery: r.URL.RawQuery} // a campaign's parameters go along
	http.Redirect(w, r, to.String(), http.StatusFound)
}

// preferred is the first language of ours that the header names; its weights are in that order in every browser (RFC 9110 section 12.5.4).
func preferred(header string) string {
	for part := range strings.SplitSeq(header[:min(len(header), 256)], ",") {
		tag, _, _ := strings.Cut(strings.TrimSpace(part), ";")
		primary, _, _ := strings.Cut(strings.ToLower(tag), "-")
		for _, l := range languages {
			if primary == l {
				return l
			}
		}
	}
	return languages[0]
}

// asset serves an embedded file.
func (s *Shop) asset(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache") // the same program may be built anew
	http.ServeFileFS(w, r, files, "assets/"+r.PathValue("file"))
}
