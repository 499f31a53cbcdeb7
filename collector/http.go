package collector

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/collector/wire"
)

// Limits of a connection. Sizes in bytes.
const (
	maxHeader    = 16 << 10 // request line and all header fields
	readTimeout  = 15 * time.Second
	writeTimeout = 15 * time.Second
	idleTimeout  = 75 * time.Second
)

// action answers one request.
type action func(*request) (reply, error)

// App is the public listener's Fiber app, ready for Listener(net.Listener).
func (c *Collector) App() *fiber.App {
	app := fiber.New(fiber.Config{
		DisableStartupMessage: true, DisablePreParseMultipartForm: true, StrictRouting: true, CaseSensitive: true,
		BodyLimit: wire.MaxBody, ReadBufferSize: maxHeader, Concurrency: c.o.Connections,
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		ErrorHandler: c.Problem,
	})
	app.Post("/v1/events", c.serve(routeEvents, c.postEvents))
	app.Post("/v1/consents", c.serve(routeConsents, c.postConsents))
	app.Post("/v1/consents/withdraw", c.serve(routeWithdraw, c.postWithdraw))
	app.Get("/v1/consents/current", c.serve(routeCurrent, c.getCurrent))
	app.Get("/v1/choice", c.serve(routeChoice, c.getChoice))
	app.Post("/v1/identify", c.serve(routeIdentify, c.postIdentify))
	app.Delete("/v1/identify", c.serve(routeUnlink, c.deleteIdentify))
	app.Get("/v1/notice", c.serve(routeNotice, c.getNotice))
	app.Get("/v1/notices/:sha256", c.serve(routeNoticeText, c.getNoticeText))
	app.Get("/.well-known/jwks.json", c.serve(routeKeys, c.getKeys))
	for _, path := range []string{
		"/v1/events", "/v1/consents", "/v1/consents/withdraw", "/v1/consents/current", "/v1/notice", "/v1/notices/:sha256",
		"/v1/choice", "/v1/identify", "/v1/me/requests", "/v1/me/requests/*", // whoever serves them asks Visitor
	} {
		app.Options(path, c.preflight)
	}
	return app
}

// Private adds the private routes of consent: history, resolution of references, current state by identifier. All need a token with rights:read.
func (c *Collector) Private(r fiber.Router) {
	r.Get("/v1/consents/proof", c.serve(routeProof, c.getProof))
	r.Post("/v1/consents/history", c.serve(routeHistory, c.postHistory))
	r.Post("/v1/consents/current", c.serve(routeStanding, c.postStanding))
}

// Authorise fails unless the request has an access token with the scope. Problem makes the answer of what it fails with.
func (c *Collector) Authorise(f *fiber.Ctx, scope string) error {
	_, err := c.authorise(&request{authorization: f.Get(fiber.HeaderAuthorization)}, scope)
	return err
}

// Actor is the name of who holds the request's access token, which must have the scope: whoever acts on others' data is named in the evidence.
func (c *Collector) Actor(f *fiber.Ctx, scope string) (name string, err error) {
	token, err := c.authorise(&request{authorization: f.Get(fiber.HeaderAuthorization)}, scope)
	if err != nil {
		return "", err
	}
	if token.Subject == "" {
		return "", errActor
	}
	return token.Subject, nil
}

// Visitor is who asks for a right of theirs by the cookie or the app's credential that the gateway minted. It applies the rules of consent posts:
// site key, origin (G12), rate. The site key stands in the query, or is the one that the body names. Problem makes the answer of what it fails with.
// It lets pages of the site's origins read the answer.
func (c *Collector) Visitor(f *fiber.Ctx, key string) (Visitor, error) {
	r := c.read(f, routeOther)
	c.allowOrigin(f, r.origin)
	return c.visitor(r, key)
}

// Person is the browser on a page of the gateway's own, about the site of that name. It must not be used after the answer.
func (c *Collector) Person(f *fiber.Ctx, site string) (Person, error) {
	src := c.names[site]
	if src == nil {
		return Person{}, errKey
	}
	p, err := c.onPage(c.read(f, routeOther), src)
	p.give = func(k cookie) { f.Response().Header.Add(fiber.HeaderSetCookie, k.text(c.o.Loopback)) }
	return p, err
}

// Guard answers a panic in do as one in the routes here is: a 500 that says nothing, and a log line that says where.
func (c *Collector) Guard(do fiber.Handler) fiber.Handler {
	return func(f *fiber.Ctx) (err error) {
		defer func() {
			if p := recover(); p != nil {
				c.panicked(f, routes[routeOther])
				err = nil
			}
		}()
		return do(f)
	}
}

// ForgetCookie makes the browser drop the credential: its subject is being erased.
func (c *Collector) ForgetCookie(f *fiber.Ctx) {
	f.Response().Header.Add(fiber.HeaderSetCookie, cookie{name: c.cookieName()}.text(c.o.Loopback))
}

// Fail answers a problem document (RFC 9457). code and detail are the caller's own words, never the request's; a 5xx says neither.
func (c *Collector) Fail(f *fiber.Ctx, status int, code, detail string) error {
	p := blank(status, code, detail, "")
	if status >= http.StatusInternalServerError {
		p = failure(status, code)
	}
	out := p.reply()
	c.allowOrigin(f, f.Get(fiber.HeaderOrigin))
	c.write(f, &out)
	return nil
}

// serve runs an action: a panic becomes a 500, an error a problem document, and what is logged is pattern, status and time.
func (c *Collector) serve(route route, do action) fiber.Handler {
	return func(f *fiber.Ctx) (err error) {
		start := time.Now()
		status := http.StatusInternalServerError
		defer func() {
			if p := recover(); p != nil {
				status = c.panicked(f, routes[route])
				err = nil
			}
			took := time.Since(start)
			c.tally.request(route, status, took)
			if c.o.Log.Enabled(context.Background(), slog.LevelDebug) {
				c.o.Log.Debug("answered", "route", routes[route], "status", status, "duration", took)
			}
		}()
		r := c.read(f, route)
		c.allowOrigin(f, r.origin)
		out, err := do(r)
		if err != nil {
			out = c.explain(routes[route], err)
		}
		status = out.status
		c.write(f, &out)
		return nil
	}
}

// panicked answers after a panic and logs where it was. Its value is not logged: it may hold what came in.
func (c *Collector) panicked(f *fiber.Ctx, route string) int {
	var frames []string
	pcs := make([]uintptr, 32)
	trace := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		frame, more := trace.Next()
		frames = append(frames, frame.Function+":"+strconv.Itoa(frame.Line))
		if !more || len(frames) == 12 {
			break
		}
	}
	p := failure(http.StatusInternalServerError, "internal")
	c.o.Log.Error("a request panicked", "route", route, "incident", p.Instance, "step", strings.Join(frames, " < "))
	f.Response().Reset()
	out := p.reply()
	c.write(f, &out)
	return p.Status
}

// explain makes the answer of an error, and logs what is the gateway's own fault.
func (c *Collector) explain(route string, err error) reply { return c.explained(route, err).reply() }

func (c *Collector) explained(route string, err error) problem {
	p := problemOf(err)
	if p.Status >= http.StatusInternalServerError {
		c.o.Log.Error("a request failed", "route", route, "incident", p.Instance, "reason", p.Code, "error", err)
	}
	return p
}

// Problem answers an error as a problem document; it is the Fiber error handler of both listeners.
func (c *Collector) Problem(f *fiber.Ctx, err error) error {
	var server *fiber.Error
	if !errors.As(err, &server) {
		server = fiber.ErrInternalServerError // told apart by explain
	}
	var out reply
	switch {
	case server.Code == http.StatusRequestEntityTooLarge:
		out = c.explain(routes[routeOther], errSize)
	case server.Code < http.StatusInternalServerError:
		out = blank(server.Code, strings.ReplaceAll(strings.ToLower(http.StatusText(server.Code)), " ", "_"), "", "").reply()
	default:
		out = c.explain(routes[routeOther], err)
	}
	c.allowOrigin(f, f.Get(fiber.HeaderOrigin))
	c.tally.request(routeOther, out.status, 0)
	c.write(f, &out)
	return nil
}

// read takes from an HTTP request what the edge looks at, without copying.
func (c *Collector) read(f *fiber.Ctx, route route) *request {
	h := &f.Request().Header
	r := &request{
		route: route, post: h.IsPost(), query: func(name string) string { return f.Query(name) },
		key: f.Query("k"), origin: f.Get(fiber.HeaderOrigin), fetchSite: f.Get("Sec-Fetch-Site"),
		cookie: f.Cookies(c.cookieName()), authorization: f.Get(fiber.HeaderAuthorization),
		contentType: f.Get(fiber.HeaderContentType), encoding: f.Get(fiber.HeaderContentEncoding),
		agent: f.Get(fiber.HeaderUserAgent), address: c.clientAddress(f), body: f.Request().Body(),
	}
	r.objected = f.Cookies(objectedName) != ""
	if route == routeEvents {
		return r
	}
	r.refused, r.referer = f.Cookies(refusedName), f.Get(fiber.HeaderReferer)
	for _, value := range h.PeekAll("Sec-GPC") { // G5: all values, exactly "1"
		r.gpc = r.gpc || string(value) == "1"
	}
	if route == routeNoticeText {
		r.parameter = f.Params("sha256")
	}
	return r
}

// clientAddress is the client's address, behind the proxies that are trusted.
func (c *Collector) clientAddress(f *fiber.Ctx) netip.Addr {
	var remote netip.Addr
	if tcp, ok := f.Context().RemoteAddr().(*net.TCPAddr); ok {
		remote = tcp.AddrPort().Addr().Unmap()
	}
	if len(c.o.TrustedProxies) == 0 {
		return remote
	}
	var forwarded []string
	for _, value := range f.Request().Header.PeekAll(fiber.HeaderXForwardedFor) {
		forwarded = append(forwarded, string(value))
	}
	return clientAddress(remote, forwarded, c.o.TrustedProxies)
}

// allowOrigin lets the page that asked read the answer (G12): the exact origin, only where a site lists it. An action refuses what the
// site in question does not list, so that all a page of another site can read is that it was refused.
func (c *Collector) allowOrigin(f *fiber.Ctx, origin string) bool {
	if h := &f.Response().Header; !strings.Contains(string(h.Peek(fiber.HeaderVary)), fiber.HeaderOrigin) { // Visitor and Fail answer one request
		h.Add(fiber.HeaderVary, fiber.HeaderOrigin)
	}
	if origin == "" || !c.origins[origin] {
		return false
	}
	f.Set(fiber.HeaderAccessControlAllowOrigin, origin)
	f.Set(fiber.HeaderAccessControlAllowCredentials, "true")
	f.Set(fiber.HeaderAccessControlExposeHeaders, fiber.HeaderRetryAfter)
	return true
}

// preflight answers a browser's question before a request that is not simple.
func (c *Collector) preflight(f *fiber.Ctx) error {
	defer c.tally.request(routePreflight, http.StatusNoContent, 0)
	if c.allowOrigin(f, f.Get(fiber.HeaderOrigin)) {
		methods := "GET, POST"
		if f.Path() == "/v1/identify" {
			methods += ", DELETE"
		}
		f.Set(fiber.HeaderAccessControlAllowMethods, methods)
		f.Set(fiber.HeaderAccessControlAllowHeaders, "Content-Type, Content-Encoding, Authorization")
		f.Set(fiber.HeaderAccessControlMaxAge, "600")
	}
	return f.SendStatus(http.StatusNoContent)
}

// write sends an answer.
func (c *Collector) write(f *fiber.Ctx, out *reply) {
	f.Status(out.status)
	h := &f.Response().Header
	h.SetContentType(out.media)
	h.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	if out.public {
		h.Set(fiber.HeaderCacheControl, "public, max-age=31536000, immutable")
	} else {
		h.Set(fiber.HeaderCacheControl, "no-store")
	}
	for _, k := range out.cookies {
		h.Add(fiber.HeaderSetCookie, k.text(c.o.Loopback))
	}
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	set(fiber.HeaderRetryAfter, out.retryAfter)
	set(fiber.HeaderWWWAuthenticate, out.authenticate)
	set(fiber.HeaderContentLanguage, out.language)
	set(fiber.HeaderETag, out.etag)
	f.Response().SetBodyRaw(out.body)
}
