package collector

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// route is a route by its pattern: what logs and metrics may say of a request.
type route int

// The routes.
const (
	routeEvents route = iota
	routeConsents
	routeWithdraw
	routeCurrent
	routeNotice
	routeNoticeText
	routeKeys
	routePreflight
	routeProof
	routeHistory
	routeStanding
	routeIdentify
	routeUnlink
	routeChoice
	routeOther
	routeCount
)

var routes = [routeCount]string{
	"POST /v1/events", "POST /v1/consents", "POST /v1/consents/withdraw", "GET /v1/consents/current", "GET /v1/notice",
	"GET /v1/notices/{sha256}", "GET /.well-known/jwks.json", "OPTIONS", "GET /v1/consents/proof", "POST /v1/consents/history",
	"POST /v1/consents/current", "POST /v1/identify", "DELETE /v1/identify", "GET /v1/choice", "other",
}

// request is what the edge reads of an HTTP request. Its texts are the server's buffers and end with the answer: what is kept longer is
// copied where it is kept.
type request struct {
	route         route
	post          bool
	key           string // ?k=
	parameter     string // of the path
	query         func(name string) string
	origin        string
	fetchSite     string // Sec-Fetch-Site
	cookie        string // credential
	refused       string // notice version that the browser remembers to have refused
	objected      bool   // the browser remembers an objection to what needs no choice (G11)
	authorization string
	contentType   string
	encoding      string
	agent         string
	referer       string
	gpc           bool // some Sec-GPC header is exactly "1"
	address       netip.Addr
	body          []byte
}

// reply is an answer.
type reply struct {
	status       int
	media        string // content type
	body         []byte
	cookies      []cookie
	retryAfter   string // seconds
	authenticate string // WWW-Authenticate
	language     string // Content-Language
	etag         string
	public       bool // may be cached by anyone, for ever
}

// The names of the cookies. The prefix makes a browser refuse one that is not Secure, has a Domain, or comes from a neighbour
// (draft-ietf-httpbis-rfc6265bis section 4.1.3.2); on loopback http there is no Secure, so the name is another.
const (
	cookieName    = "__Host-octroi"
	cookieDevName = "octroi-dev"
	refusedName   = "octroi-refused"
	objectedName  = "octroi-objected"
)

// maxCookieAge is the longest that browsers keep a cookie.
const maxCookieAge = 400 * 24 * time.Hour

// cookie is a cookie to set: the credential's, which no script may read, or the memory of a refusal, which the tag reads.
type cookie struct {
	name, value string
	age         time.Duration // 0: delete it
	script      bool          // scripts may read it
}

// text is the Set-Cookie header.
func (k cookie) text(loopback bool) string {
	b := strings.Builder{}
	b.WriteString(k.name + "=" + k.value + "; Path=/; Max-Age=" + strconv.Itoa(int(min(k.age, maxCookieAge).Seconds())))
	if !k.script {
		b.WriteString("; HttpOnly")
	}
	if !loopback {
		b.WriteString("; Secure")
	}
	b.WriteString("; SameSite=Lax")
	return b.String()
}

func (c *Collector) cookieName() string {
	if c.o.Loopback {
		return cookieDevName
	}
	return cookieName
}

// caller is who speaks: the holder of a token, or a device by its credential, or nobody.
type caller struct {
	token      *TokenClaims // nil: a site key speaks
	credential subject.Credential
	has        bool // a credential
}

// caller reads what came to prove who speaks. A token has two dots and a credential none. With a token the cookie says nothing.
func (c *Collector) caller(r *request) (caller, error) {
	if r.authorization == "" {
		credential, ok := subject.ParseCredential(r.cookie)
		return caller{credential: credential, has: ok}, nil
	}
	scheme, text, ok := strings.Cut(r.authorization, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return caller{}, errAuth
	}
	if strings.Count(text, ".") == 2 {
		token, err := c.tokens.check(text)
		return caller{token: token}, err
	}
	credential, ok := subject.ParseCredential(text)
	if !ok {
		return caller{}, errAuth
	}
	return caller{credential: credential, has: true}, nil
}

// device is the subject of a credential; none for one that the gateway does not know or has destroyed.
func (c *Collector) device(credential subject.Credential, has bool) (subject.Subject, error) {
	if !has {
		return subject.Subject{}, nil
	}
	s, err := c.o.Subjects.Device(credential)
	if errors.Is(err, subject.ErrUnknown) || errors.Is(err, subject.ErrShredded) {
		return subject.Subject{}, nil
	}
	if err != nil {
		return subject.Subject{}, fmt.Errorf("finding device: %w", err)
	}
	return s, nil
}

// site is the site that speaks: by its key, or by the only name that a token has. It may be nil for a token, whose events name theirs.
func (c *Collector) site(r *request, who caller, bodyKey string) (*source, error) {
	key := r.key
	if bodyKey != "" {
		if key != "" && key != bodyKey {
			return nil, &wire.FieldError{Field: "k", Right: "the key of the query, or left out"}
		}
		key = bodyKey
	}
	if who.token != nil {
		return c.tokenSite(who.token, key)
	}
	s := c.keys[key]
	if s == nil {
		return nil, errKey
	}
	return s, c.sameOrigin(r, s)
}

func (c *Collector) tokenSite(token *TokenClaims, key string) (*source, error) {
	if key == "" {
		if len(token.Sites) == 1 {
			return c.names[token.Sites[0]], nil
		}
		return nil, nil
	}
	s := c.keys[key]
	if s == nil {
		return nil, errKey
	}
	if !token.For(s.Name) {
		return nil, errSite
	}
	return s, nil
}

// siteOf is the site that a token's request names in its body, or else by.
func (c *Collector) siteOf(token *TokenClaims, by *source, name string) (*source, error) {
	if name == "" {
		if by == nil {
			return nil, &wire.FieldError{Field: "site", Right: "the name of a site, since neither key nor token names one"}
		}
		return by, nil
	}
	s := c.names[name]
	if s == nil {
		return nil, &wire.FieldError{Field: "site", Right: "the name of a configured site"}
	}
	if !token.For(name) || by != nil && by != s {
		return nil, errSite
	}
	return s, nil
}

// sameOrigin refuses what a page of another origin sent with this browser's cookie, or to get it one (G12). A browser names the origin of
// every cross-origin request and of every POST; what has no Origin is same-origin, or no browser. "null" is no origin.
func (c *Collector) sameOrigin(r *request, s *source) error {
	if r.origin != "" && !s.origins[r.origin] {
		return errOrigin
	}
	if r.origin == "" && r.post && r.fetchSite == "cross-site" {
		return errOrigin
	}
	return nil
}

// circumstances are what a consent record keeps of how the choice came, minimised before anything else sees it (C9).
func (r *request) circumstances() consent.Circumstances {
	return consent.Circumstances{
		URLPath:  pseudonymize.URLPath(strings.Clone(cut(r.referer, wire.MaxTextBytes))),
		UAFamily: pseudonymize.UAFamily(cut(r.agent, wire.MaxTextBytes)),
		IPPrefix: pseudonymize.TruncateIP(r.address.String()),
	}
}

// cut is at most n bytes of s, which is ASCII or is cut where it does not matter.
func cut(s string, n int) string { return s[:min(len(s), n)] }

// persons normalises the identifiers that a token names.
func persons(list []wire.Identity, region string) ([]subject.Identifier, error) {
	ids := make([]subject.Identifier, len(list))
	for i, raw := range list {
		namespace, value := raw.Raw()
		id, err := subject.Normalise(namespace, value, region)
		if err != nil {
			return nil, fmt.Errorf("normalising identifier: %w", err)
		}
		ids[i] = id
	}
	return ids, nil
}
