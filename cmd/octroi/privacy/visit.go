package privacy

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/export/rights"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// visit is one request for a page, or one post of a form. It holds copies of what the browser sent.
type visit struct {
	p      *Pages
	f      *fiber.Ctx
	site   *collector.Site
	words  *words
	person collector.Person
	follow follow
	carry  url.Values // what every address of these pages keeps: site, language, the way back
	form   url.Values // of a post
}

// fault is why a page cannot be shown or an act not be done: its status, and the words that say so.
type fault struct {
	status int
	key    string
}

func (e *fault) Error() string { return "showing a page of rights: " + e.key }

// The faults of these pages themselves.
var (
	errNoPage  = &fault{http.StatusNotFound, "no_page"}
	errNoSite  = &fault{http.StatusNotFound, "no_site"}
	errForeign = &fault{http.StatusForbidden, "foreign"}
	errStale   = &fault{http.StatusForbidden, "stale"}
	errForm    = &fault{http.StatusBadRequest, "form"}
	errLarge   = &fault{http.StatusRequestEntityTooLarge, "form"}
	errNobody  = &fault{http.StatusNotFound, "nobody"}
)

// maxForm bounds the body of a form, in bytes (G12).
const maxForm = 16 << 10

// Routes adds the pages to the public listener.
func (p *Pages) Routes(app fiber.Router) {
	app.Get("/privacy", p.page((*visit).showHome))
	app.Get("/privacy/erasure", p.page((*visit).showErasure))
	app.Get("/privacy/follow", p.page((*visit).showFollow))
	app.Get("/privacy/records/:number", p.page((*visit).showRecord))
	app.Get("/privacy/records/:number/:file", p.page((*visit).sendRecord))
	app.Get("/privacy/requests/:id", p.page((*visit).showRequest))
	app.Get("/privacy/requests/:id/certificate", p.page((*visit).sendCertificate))
	app.Get("/privacy/keys/:name", p.page((*visit).sendKey))

	app.Post("/privacy/choices", p.post((*visit).choose))
	app.Post("/privacy/withdrawal", p.post((*visit).withdraw))
	app.Post("/privacy/objection", p.post((*visit).object))
	app.Post("/privacy/link", p.post((*visit).unlink))
	app.Post("/privacy/requests", p.post((*visit).ask))
	app.Post("/privacy/requests/:id/package", p.post((*visit).open))
	app.Post("/privacy/requests/:id/cancel", p.post((*visit).cancel))
	app.Post("/privacy/requests/:id/forget", p.post((*visit).forget))
	app.Post("/privacy/follow", p.post((*visit).followCode))
	app.Use("/privacy", p.page(func(*visit) error { return errNoPage }))
}

// page serves what shows something.
func (p *Pages) page(do func(*visit) error) fiber.Handler {
	return p.o.Edge.Guard(func(f *fiber.Ctx) error {
		p.head(f)
		v, err := p.visit(f)
		if err == nil && !v.person.Device.Exists() { // a known cookie is never kept from the button that withdraws (G3)
			err = v.person.Throttle()
		}
		if err == nil {
			err = do(v)
		}
		return v.end(err)
	})
}

// post serves a form: of this origin, with the token of this cookie. Each decides itself whether it is throttled.
func (p *Pages) post(do func(*visit) error) fiber.Handler {
	return p.o.Edge.Guard(func(f *fiber.Ctx) error {
		p.head(f)
		v, err := p.visit(f)
		if err == nil && !sameOrigin(string(f.Request().Host()), f.Get(fiber.HeaderOrigin), f.Get("Sec-Fetch-Site")) {
			err = errForeign
		}
		if err == nil {
			err = v.readForm()
		}
		if err == nil {
			err = v.checkToken()
		}
		if err == nil {
			err = do(v)
		}
		return v.end(err)
	})
}

// head sets what every answer of these pages has. A browser that does not say where a request comes from (Sec-Fetch-Site) says it by Origin, which
// no-referrer would make null on a form: it is told no more than to name itself to itself.
func (p *Pages) head(f *fiber.Ctx) {
	f.Set(fiber.HeaderCacheControl, "no-store")
	f.Set(fiber.HeaderContentSecurityPolicy, p.policy)
	f.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	f.Set(fiber.HeaderXFrameOptions, "DENY")
	f.Set("Cross-Origin-Opener-Policy", "same-origin")
	f.Set("Cross-Origin-Resource-Policy", "same-origin")
	f.Set("X-Robots-Tag", "noindex")
	f.Vary("Accept-Language", fiber.HeaderCookie, "Sec-Fetch-Site")
	if f.Get("Sec-Fetch-Site") != "" {
		f.Set(fiber.HeaderReferrerPolicy, "no-referrer")
	} else {
		f.Set(fiber.HeaderReferrerPolicy, "same-origin")
	}
}

// visit reads who asks, of which site, in which language. It is never nil: what fails is said in a language too.
func (p *Pages) visit(f *fiber.Ctx) (*visit, error) {
	v := &visit{p: p, f: f, carry: url.Values{}, follow: parseFollow(strings.Clone(f.Cookies(followName)))}
	var err error
	key := strings.Clone(f.Query("k"))
	switch v.site = p.keys[key]; {
	case v.site != nil:
		if len(p.o.Sites) > 1 {
			v.carry.Set("k", key)
		}
	case key != "":
		err = errNoSite
	case len(p.o.Sites) == 1:
		v.site = &p.o.Sites[0]
	}
	wanted := strings.Clone(f.Query("language"))
	if p.words[wanted] != nil {
		v.carry.Set("language", wanted)
	}
	def := p.o.Sites[0].Language
	if v.site != nil {
		def = v.site.Language
	}
	v.words = p.words[chooseLanguage(wanted, f.Get(fiber.HeaderAcceptLanguage), def)]
	if back := strings.Clone(f.Query("return")); v.mayReturn(back) {
		v.carry.Set("return", back)
	}
	site := v.site
	if site == nil { // the list of sites is shown to the same cookie
		site = &p.o.Sites[0]
	}
	var err2 error
	v.person, err2 = p.o.Edge.Person(f, site.Name)
	return v, errors.Join(err, err2)
}

// mayReturn says whether a way back leads to the site: to one of its origins, and nowhere else (CWE-601).
func (v *visit) mayReturn(back string) bool {
	if v.site == nil || len(back) > 1000 || strings.ContainsFunc(back, func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }) {
		return false
	}
	u, err := url.Parse(back)
	return err == nil && u.User == nil && slices.Contains(v.site.Origins, u.Scheme+"://"+u.Host)
}

// readForm reads the fields of a post.
func (v *visit) readForm() error {
	body := v.f.Request().Body()
	media, _, err := mime.ParseMediaType(v.f.Get(fiber.HeaderContentType))
	switch {
	case len(body) > maxForm:
		return errLarge
	case err != nil || media != fiber.MIMEApplicationForm || v.f.Get(fiber.HeaderContentEncoding) != "":
		return errForm
	}
	if v.form, err = url.ParseQuery(string(body)); err != nil {
		return errForm
	}
	if v.site == nil {
		return errNoSite
	}
	return nil
}

// url is the address of a page, as seen from this visit.
func (v *visit) url(path string) string {
	if len(v.carry) == 0 {
		return path
	}
	return path + "?" + v.carry.Encode()
}

// self is the person as the desk of rights knows it: by the cookie, or by the code of the request that is followed.
func (v *visit) self(id string) rights.Self {
	secret := ""
	if v.follow.id == id && id != "" {
		secret = v.follow.secret
	}
	return v.p.o.Rights.Self(rights.Visitor{Subject: v.person.Device, Language: v.words.Language}, secret)
}

// param is a part of the path.
func (v *visit) param(name string) string { return strings.Clone(v.f.Params(name)) }

// next answers a post: the browser gets the page anew, which says what was done (RFC 9110 section 15.4.4).
func (v *visit) next(path, done string) error {
	to := url.Values{}
	for name, list := range v.carry {
		to[name] = list
	}
	if done != "" {
		to.Set("done", v.doneText(done))
	}
	if len(to) > 0 {
		path += "?" + to.Encode()
	}
	v.f.Set(fiber.HeaderLocation, path)
	v.f.Status(http.StatusSeeOther)
	return nil
}

// end answers what failed.
func (v *visit) end(err error) error {
	if err == nil {
		return nil
	}
	x := v.explain(err)
	v.f.Status(x.status)
	if x.wait > 0 {
		v.f.Set(fiber.HeaderRetryAfter, strconv.Itoa(x.wait))
	}
	return v.show("fault", &faultPage{Key: x.key, Incident: x.incident})
}

// faulty is what is said of an error.
type faulty struct {
	status   int
	key      string
	incident string
	wait     int // seconds
}

// causes are the errors of others that these pages have words for. Everything else is the edge's to explain.
var causes = [...]struct {
	err    error
	status int
	key    string
}{
	{rights.ErrNoRequest, http.StatusNotFound, "no_request"},
	{rights.ErrNoMatch, http.StatusNotFound, "nobody"},
	{subject.ErrShredded, http.StatusNotFound, "nobody"}, // erased meanwhile
	{rights.ErrTransition, http.StatusConflict, "too_late"},
	{rights.ErrSignedOut, http.StatusConflict, "signed_out"},
	{rights.ErrOpened, http.StatusGone, "opened"},
	{rights.ErrNotReady, http.StatusNotFound, "not_ready"},
	{rights.ErrTooMany, http.StatusServiceUnavailable, "many"},
	{rights.ErrInput, http.StatusBadRequest, "form"},
	{consent.ErrSnapshotOld, http.StatusConflict, "old_text"},
	{consent.ErrSnapshot, http.StatusConflict, "old_text"},
	{consent.ErrProof, http.StatusConflict, "old_text"},
	{consent.ErrUnknownNotice, http.StatusConflict, "old_text"},
	{consent.ErrUnknownPurpose, http.StatusConflict, "old_text"},
	{consent.ErrNoRecord, http.StatusNotFound, "no_record"},
}

func (v *visit) explain(err error) faulty {
	var own *fault
	if errors.As(err, &own) {
		return faulty{status: own.status, key: own.key}
	}
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return faulty{status: c.status, key: c.key}
		}
	}
	x := v.p.o.Edge.Explain("/privacy", err)
	key := "trouble"
	switch {
	case x.Status == http.StatusTooManyRequests:
		key = "too_fast"
	case x.Code == "no_record":
		key = "nobody"
	case x.Status < http.StatusInternalServerError:
		key = "form"
	}
	return faulty{x.Status, key, x.Incident, int((x.Wait + 999_999_999) / 1_000_000_000)}
}

// show writes a page.
func (v *visit) show(name string, body any) error {
	var b bytes.Buffer
	if err := v.p.layout.ExecuteTemplate(&b, name, &frame{v: v, Body: body}); err != nil {
		return fmt.Errorf("making page: %w", err)
	}
	v.f.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	v.f.Set(fiber.HeaderContentLanguage, v.words.Language)
	return v.f.Send(b.Bytes())
}

// send answers a file for download.
func (v *visit) send(name, media string, text []byte) error {
	v.f.Set(fiber.HeaderContentType, media)
	v.f.Set(fiber.HeaderContentDisposition, `attachment; filename="`+name+`"`)
	return v.f.Send(text)
}
