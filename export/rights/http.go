package rights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
)

// RouteOptions are what Routes needs of the gateway. All are needed but Region.
type RouteOptions struct {
	// Actor is the name of the access token that came with the request, if it has the scope; the error is its answer.
	Actor func(c *fiber.Ctx, scope string) (name string, err error)
	// Visitor is who the credential of the request speaks for; nobody where it has none, or an unknown one. key is the site key of the body, if it
	// names one. It refuses what a page of a foreign origin sent.
	Visitor func(c *fiber.Ctx, key string) (Visitor, error)
	// Fail answers a problem document. Of a 5xx it says nothing but an id.
	Fail func(c *fiber.Ctx, status int, code, detail string) error
	// ForgetCookie makes the browser forget its credential.
	ForgetCookie func(c *fiber.Ctx)
	Region       string // ISO 3166, of phone numbers without a country code
}

// The scopes of the private routes: the officer's, a reader's, the custodian's.
const (
	scopeManage  = "rights:manage"
	scopeRead    = "rights:read"
	scopeCustody = "custody"
)

// Routes adds the public routes of persons, and the private ones of officer and custodian. A private app that sets StreamRequestBody lets
// packages through that are longer than its BodyLimit; every other body is bounded here. Its other routes need BoundBodies.
func Routes(public, private fiber.Router, r *Requests, o RouteOptions) {
	d := desk{r, o}
	public.Post("/v1/me/requests", d.visitor(r.postMine))
	public.Get("/v1/me/requests", d.visitor(r.listMine))
	public.Get("/v1/me/requests/:id", d.visitor(r.getMine))
	public.Add(fiber.MethodGet, "/v1/me/requests/:id/package", d.once(d.visitor(r.openMine))) // Get would also answer HEAD, and open it
	public.Get("/v1/me/requests/:id/certificate", d.visitor(r.certificateOfMine))
	public.Post("/v1/me/requests/:id/cancel", d.visitor(r.cancelMine))

	private.Post("/v1/rights/requests", d.officer(scopeManage, r.post))
	private.Get("/v1/rights/requests", d.officer(scopeRead, r.getList))
	private.Get("/v1/rights/requests/:id", d.officer(scopeRead, r.getOne))
	private.Get("/v1/rights/requests/:id/job", d.officer(scopeManage, r.getJob))
	private.Add(fiber.MethodGet, "/v1/rights/requests/:id/package", d.once(d.officer(scopeManage, r.getPackage)))
	private.Get("/v1/rights/requests/:id/certificate", d.officer(scopeRead, r.getCertificate))
	private.Post("/v1/rights/requests/:id/:action", d.officer(scopeManage, r.postDecision))
	private.Get("/v1/rights/schedule", d.officer(scopeRead, r.getSchedule))
	private.Post("/v1/rights/schedule", d.officer(scopeManage, r.postSchedule))

	private.Get("/v1/custody/work", d.officer(scopeCustody, r.getWork))
	private.Post("/v1/custody/batches/:id/claim", d.officer(scopeCustody, r.postClaim))
	private.Post("/v1/custody/batches/:id/rewritten", d.officer(scopeCustody, r.postRewritten))
	private.Post("/v1/custody/batches/:id/purged", d.officer(scopeCustody, r.postPurged))
	private.Post("/v1/custody/batches/:id/failed", d.officer(scopeCustody, r.postFailed))
	private.Put("/v1/custody/requests/:id/package", d.slow(scopeCustody, d.officer(scopeCustody, r.putPackage)))
	private.Post("/v1/custody/requests/:id/certificate", d.officer(scopeCustody, r.postCertificate))
	private.Post("/v1/custody/requests/:id/refused", d.officer(scopeCustody, r.postRefused))
}

// desk turns HTTP requests into calls, and replies into answers.
type desk struct {
	r *Requests
	o RouteOptions
}

// visitor serves a person. A secret comes in the same header as an app's credential and looks like one: it is the credential of nobody.
func (d desk) visitor(do func(*call) (reply, error)) fiber.Handler {
	return func(f *fiber.Ctx) error {
		v, err := d.o.Visitor(f, keyIn(f.Request().Body()))
		if err != nil {
			return err
		}
		return d.serve(f, &call{visitor: v}, do)
	}
}

// keyIn is the site key that a body names, as those of consents do.
func keyIn(body []byte) string {
	var in struct {
		Key string `json:"k"`
	}
	if json.Unmarshal(body, &in) != nil {
		return "" // what is wrong with it is told to who may ask
	}
	return in.Key
}

// officer serves the holder of an access token with the scope.
func (d desk) officer(scope string, do func(*call) (reply, error)) fiber.Handler {
	return func(f *fiber.Ctx) error {
		name, err := d.o.Actor(f, scope)
		if err != nil {
			return err
		}
		return d.serve(f, &call{actor: actorName(name)}, do)
	}
}

// actorName is a token's name as leaves have it, which must not pass for one of the gateway's own actors.
func actorName(name string) string {
	name = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return -1
		}
		return c
	}, strings.ToValidUTF8(name[:min(len(name), 150)], ""))
	return "token:" + name
}

// once keeps a browser's guesses from opening what opens once.
func (d desk) once(next fiber.Handler) fiber.Handler {
	return func(f *fiber.Ctx) error {
		if f.Get("Sec-Purpose") != "" || f.Get("Purpose") != "" || f.Get("X-Moz") != "" {
			return d.o.Fail(f, http.StatusForbidden, "prefetch", "it opens once: not for a guess of the browser's")
		}
		return next(f)
	}
}

// uploadTimeout is what a package may take over a slow line.
const uploadTimeout = 30 * time.Minute

// slow gives a body more time than the app does, to the holder of the scope: nobody else may hold a connection for so long. The next request on the
// connection has the app's again.
func (d desk) slow(scope string, next fiber.Handler) fiber.Handler {
	return func(f *fiber.Ctx) error {
		if _, err := d.o.Actor(f, scope); err != nil {
			return err
		}
		if conn := f.Context().Conn(); conn != nil {
			if err := conn.SetReadDeadline(time.Now().Add(uploadTimeout)); err != nil {
				return fmt.Errorf("waiting for a package: %w", err)
			}
		}
		return next(f)
	}
}

var errTooLarge = errors.New("body is too large")

func (d desk) serve(f *fiber.Ctx, c *call, do func(*call) (reply, error)) error {
	// Fiber's texts end with the request: what is kept is copied.
	c.ctx, c.region = f.UserContext(), d.o.Region
	c.id, c.action, c.report = strings.Clone(f.Params("id")), strings.Clone(f.Params("action")), strings.Clone(f.Get("X-Octroi-Report"))
	c.query = func(name string) string { return strings.Clone(f.Query(name)) }
	if scheme, text, ok := strings.Cut(f.Get(fiber.HeaderAuthorization), " "); ok && strings.EqualFold(scheme, "bearer") {
		c.bearer = strings.Clone(text)
	}
	defer drain(f)
	c.stream = bodyOf(f)
	c.body = func(most int) ([]byte, error) {
		b, err := io.ReadAll(io.LimitReader(c.stream, int64(most)+1))
		if err == nil && len(b) > most {
			err = errTooLarge
		}
		return bytes.Clone(b), err
	}
	f.Set(fiber.HeaderCacheControl, "no-store")
	f.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	f.Set(fiber.HeaderReferrerPolicy, "no-referrer")
	out, err := do(c)
	if err != nil {
		return d.fail(f, err)
	}
	return d.write(f, &out)
}

// bodyOf is the body as it came, also of an app that streams it. Fiber's Body would unpack what a header calls packed, without a bound (CWE-409).
func bodyOf(f *fiber.Ctx) io.Reader {
	if s := f.Context().RequestBodyStream(); s != nil {
		return s
	}
	return bytes.NewReader(f.Request().Body())
}

// drain reads what a handler left of a streamed body, or ends the connection: fasthttp would take the rest for the next request.
func drain(f *fiber.Ctx) {
	s := f.Context().RequestBodyStream()
	if s == nil {
		return
	}
	if n, err := io.CopyN(io.Discard, s, maxBody); n == maxBody || !errors.Is(err, io.EOF) {
		f.Context().SetConnectionClose()
	}
}

// BoundBodies is for an app that sets StreamRequestBody, before all of its routes: it reads the bodies of requests that are not of this package, at
// most `most` bytes, so that handlers may call Body, which has no bound there; and it lets none leave a part of a body for the next request.
func BoundBodies(most int, fail func(c *fiber.Ctx, status int, code, detail string) error) fiber.Handler {
	return func(f *fiber.Ctx) error {
		defer drain(f)
		s := f.Context().RequestBodyStream()
		if s == nil || strings.HasPrefix(f.Path(), "/v1/custody/") || strings.HasPrefix(f.Path(), "/v1/rights/") {
			return f.Next()
		}
		body, err := io.ReadAll(io.LimitReader(s, int64(most)+1))
		if err != nil {
			f.Context().SetConnectionClose()
			return fail(f, http.StatusBadRequest, "body", "the body is cut short")
		}
		if len(body) > most {
			f.Context().SetConnectionClose()
			return fail(f, http.StatusRequestEntityTooLarge, "size", "")
		}
		f.Request().SetBodyRaw(body)
		return f.Next()
	}
}

func (d desk) fail(f *fiber.Ctx, err error) error {
	var held leased
	switch {
	case errors.As(err, &held):
		return f.Status(http.StatusConflict).JSON(heldUntil{"claimed", held.until})
	case errors.Is(err, errTooLarge):
		return d.o.Fail(f, http.StatusRequestEntityTooLarge, "size", "")
	}
	status, code, detail := problemOf(err)
	if status >= http.StatusInternalServerError {
		d.r.o.Log.Error("a request about rights failed", slog.String("route", f.Route().Path), slog.String("reason", code), slog.Any("error", err))
	}
	return d.o.Fail(f, status, code, detail)
}

func (d desk) write(f *fiber.Ctx, out *reply) error {
	if out.forget {
		d.o.ForgetCookie(f)
	}
	f.Status(out.status)
	switch {
	case out.file != nil:
		return SendPackage(f, out.file)
	case out.text != "":
		f.Set(fiber.HeaderContentType, "application/jwt")
		return f.SendString(out.text)
	case out.status == http.StatusNoContent:
		return nil
	}
	return f.JSON(out.value)
}

// packagePolicy lets a page show itself and offer the files that it carries: no script, nothing fetched, nowhere to send a form.
const packagePolicy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; " +
	"sandbox allow-downloads"

// SendPackage answers what Self.Open opened, as the routes do.
func SendPackage(f *fiber.Ctx, p *Package) error {
	f.Set(fiber.HeaderContentType, p.media)
	f.Set(fiber.HeaderContentSecurityPolicy, packagePolicy)
	f.Set(fiber.HeaderXFrameOptions, "DENY")
	f.Set("Cross-Origin-Resource-Policy", "same-origin")
	if p.name != "" {
		f.Set(fiber.HeaderContentDisposition, fmt.Sprintf("attachment; filename=%q", p.name))
	}
	return f.SendStream(p, int(p.size)) // fasthttp closes it
}
