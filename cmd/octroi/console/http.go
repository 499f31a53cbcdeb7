package console

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/export/journey"
	"github.com/octroi/octroi/export/rights"
)

// Routes adds the console to the private listener, under /console.
func (c *Console) Routes(app fiber.Router) {
	app.Get("/console", c.open("", c.home))
	app.Get("/console/sign-in", c.signInPage)
	app.Post("/console/sign-in", c.signIn)
	app.Post("/console/sign-out", c.signOut)
	app.Get("/console/requests", c.open(scopeRights, c.requests))
	app.Get("/console/requests/:id", c.open(scopeRights, c.request))
	app.Get("/console/requests/:id/certificate", c.open(scopeRights, c.certificate))
	if c.o.Journeys != nil {
		app.Get("/console/consents", c.open(scopeJourneys, c.consents))
		app.Get("/console/journeys", c.open(scopeJourneys, c.journeys))
	}
	app.Get("/console/policies", c.open("", c.policies))
	app.Get("/console/assets/:name", c.asset)
}

// The names of the session's cookie: the prefix is refused by browsers where the cookie is not Secure.
const (
	cookieName    = "__Host-octroi-console"
	cookieDevName = "octroi-console-dev"
)

func (c *Console) cookieName() string {
	if c.o.Loopback {
		return cookieDevName
	}
	return cookieName
}

// setCookie names a session in the browser; an empty secret takes it away. Strict: no link of another site opens the console signed in.
func (c *Console) setCookie(f *fiber.Ctx, secret string) {
	k := &fiber.Cookie{
		Name: c.cookieName(), Value: secret, Path: "/", HTTPOnly: true, Secure: !c.o.Loopback, SameSite: fiber.CookieSameSiteStrictMode,
	}
	if secret == "" {
		k.MaxAge = -1
	} else {
		k.SessionOnly = true
	}
	f.Cookie(k)
}

// visit is one request for a page.
type visit struct {
	f       *fiber.Ctx
	words   *words
	session *session // nil: nobody has signed in
}

// contentPolicy: everything is the console's own, nothing frames it, and forms go nowhere else (CWE-1021, CWE-79).
const contentPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func protect(f *fiber.Ctx) {
	f.Set(fiber.HeaderContentSecurityPolicy, contentPolicy)
	f.Set(fiber.HeaderXFrameOptions, "DENY")
	f.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	f.Set(fiber.HeaderReferrerPolicy, "same-origin") // with no-referrer a browser would hide the Origin of the console's own forms
	f.Set("Cross-Origin-Opener-Policy", "same-origin")
	f.Set("Cross-Origin-Resource-Policy", "same-origin")
	f.Set(fiber.HeaderCacheControl, "no-store")
}

// begin reads who asks, and in what language.
func (c *Console) begin(f *fiber.Ctx) *visit {
	protect(f)
	v := &visit{f: f, words: speak(f)}
	if secret := f.Cookies(c.cookieName()); secret != "" {
		v.session = c.sessions.find(secret)
	}
	return v
}

// languageCookie remembers the language that somebody chose; it says nothing else of them.
const languageCookie = "octroi-console-language"

func speak(f *fiber.Ctx) *words {
	all, _ := vocabulary() // New has read it
	for _, l := range []string{f.Query("language"), f.Cookies(languageCookie)} {
		if w := all[l]; w != nil {
			if f.Query("language") == l {
				f.Cookie(&fiber.Cookie{Name: languageCookie, Value: w.Language, Path: "/console", HTTPOnly: true, SessionOnly: true, SameSite: fiber.CookieSameSiteStrictMode})
			}
			return w
		}
	}
	return all[f.AcceptsLanguages(languages[:]...)]
}

// open serves a page to who has signed in with a token of the scope; nobody else sees that it is there.
func (c *Console) open(scope string, page func(*visit) error) fiber.Handler {
	return func(f *fiber.Ctx) error {
		v := c.begin(f)
		switch {
		case v.session == nil:
			return f.Redirect("/console/sign-in?to="+url.QueryEscape(f.Path()), http.StatusSeeOther)
		case scope != "" && !v.session.can(scope):
			return c.apologise(v, http.StatusForbidden, "no_scope", scope)
		}
		err := page(v)
		switch {
		case errors.Is(err, rights.ErrNoRequest), errors.Is(err, rights.ErrNotReady), errors.Is(err, errNoPage):
			return c.apologise(v, http.StatusNotFound, "not_found")
		case errors.Is(err, journey.ErrCounting):
			f.Set(fiber.HeaderRetryAfter, "5")
			return c.apologise(v, http.StatusServiceUnavailable, "counting")
		case err != nil:
			return fmt.Errorf("making a page of the console: %w", err)
		}
		return nil
	}
}

var errNoPage = errors.New("no such page")

// foreign says whether a page of another origin sent a form. Browsers say so of every POST: in Sec-Fetch-Site where the console is reached by https or on
// this machine, else in Origin.
func foreign(f *fiber.Ctx) bool {
	if site := f.Get("Sec-Fetch-Site"); site != "" {
		return site != "same-origin"
	}
	origin := f.Get(fiber.HeaderOrigin)
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host == "" || u.Host != string(f.Request().Host())
}

func (c *Console) signInPage(f *fiber.Ctx) error {
	return c.render(c.begin(f), http.StatusOK, "sign-in", signIn{To: within(f.Query("to"))})
}

// signIn is what the page of that name shows.
type signIn struct {
	To     string
	Failed bool
}

// within is a path of the console, or its first page: a link must not lead from here to elsewhere (CWE-601).
func within(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/console/") || strings.HasPrefix(u.Path, "/console/sign") ||
		to != u.EscapedPath() || u.Path != path.Clean(u.Path) || strings.Contains(u.Path, `\`) {
		return "/console"
	}
	return to
}

// signIn makes a session of an access token.
func (c *Console) signIn(f *fiber.Ctx) error {
	v := c.begin(f)
	if foreign(f) {
		return c.apologise(v, http.StatusForbidden, "foreign")
	}
	to := within(f.FormValue("to"))
	t, err := c.o.Token(strings.TrimSpace(strings.Clone(f.FormValue("token"))))
	if err != nil || t.Subject == "" {
		v.session = nil
		return c.render(v, http.StatusUnauthorized, "sign-in", signIn{To: to, Failed: true})
	}
	c.sessions.end(f.Cookies(c.cookieName()))
	secret, _ := c.sessions.begin(t)
	c.setCookie(f, secret)
	return f.Redirect(to, http.StatusSeeOther)
}

func (c *Console) signOut(f *fiber.Ctx) error {
	v := c.begin(f)
	if v.session != nil {
		if foreign(f) || !v.session.sent(f.FormValue("csrf")) {
			return c.apologise(v, http.StatusForbidden, "foreign")
		}
		c.sessions.end(f.Cookies(c.cookieName()))
	}
	c.setCookie(f, "")
	return f.Redirect("/console/sign-in", http.StatusSeeOther)
}

// assets are the files that pages fetch, with their media types.
var assets = [...]struct{ name, file, media string }{
	{"console.css", "pages/console.css", "text/css; charset=utf-8"},
	{"sankey.js", "pages/sankey.js", "text/javascript; charset=utf-8"},
	{"d3-array.min.js", "pages/d3/d3-array.min.js", "text/javascript; charset=utf-8"},
	{"d3-path.min.js", "pages/d3/d3-path.min.js", "text/javascript; charset=utf-8"},
	{"d3-shape.min.js", "pages/d3/d3-shape.min.js", "text/javascript; charset=utf-8"},
	{"d3-sankey.min.js", "pages/d3/d3-sankey.min.js", "text/javascript; charset=utf-8"},
}

func (c *Console) asset(f *fiber.Ctx) error {
	protect(f)
	for _, a := range assets {
		if a.name != f.Params("name") {
			continue
		}
		b, err := pageFiles.ReadFile(a.file)
		if err != nil {
			return fmt.Errorf("reading asset: %w", err)
		}
		f.Set(fiber.HeaderContentType, a.media)
		f.Set(fiber.HeaderCacheControl, "no-cache")
		return f.Send(b)
	}
	return fiber.ErrNotFound
}

// apology is what a page that cannot be shown says instead.
type apology struct{ Text string }

func (c *Console) apologise(v *visit, status int, name string, values ...any) error {
	text, err := v.words.Say(name, values...)
	if err != nil {
		return err
	}
	return c.render(v, status, "apology", apology{text})
}

// frame is what every page has around its own.
type frame struct {
	W          *words
	Name       string
	Controller string
	Node       string
	Who        string // empty: nobody
	CSRF       string
	Can        map[string]bool
	Page       any
}

// render shows a page whole or not at all.
func (c *Console) render(v *visit, status int, name string, page any) error {
	x := frame{W: v.words, Name: name, Controller: c.o.Controller, Node: c.o.Node, Page: page, Can: map[string]bool{}}
	if v.session != nil {
		x.Who, x.CSRF = v.session.name, v.session.csrf
		x.Can["requests"], x.Can["journeys"] = v.session.can(scopeRights), v.session.can(scopeJourneys) && c.o.Journeys != nil
	}
	var b bytes.Buffer
	if err := c.pages[name].Execute(&b, x); err != nil {
		return fmt.Errorf("page %q: %w", name, err)
	}
	v.f.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	v.f.Set(fiber.HeaderContentLanguage, v.words.Language)
	return v.f.Status(status).Send(b.Bytes())
}
