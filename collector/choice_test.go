package collector_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/collector/spool"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// chosen is an answer of GET /v1/choice.
type chosen struct {
	State      string
	Purposes   map[string]bool
	ValidUntil time.Time `json:"valid_until"`
	Ask        bool
	Exempt     []string
	Objected   bool
	Linked     bool
	Time       time.Time
}

func (e *edge) chosen(header ...string) (c chosen) {
	e.t.Helper()
	a := e.get("/v1/choice?k=demo", header...)
	if a.status != http.StatusOK || a.header.Get("Cache-Control") != "no-store" || len(a.header.Values("Set-Cookie")) != 0 {
		e.t.Fatalf("choice: %d %s %v", a.status, a.body, a.header)
	}
	a.into(e.t, &c)
	return c
}

func (c chosen) want(t *testing.T, when, state string, ask bool, purposes map[string]bool) {
	t.Helper()
	if c.State != state || c.Ask != ask || !maps.Equal(c.Purposes, purposes) {
		t.Errorf("%s: %+v, want %s, ask %v, %v", when, c, state, ask, purposes)
	}
}

// all are all purposes of the policy that rest on consent, each with the same answer.
func (e *edge) all(granted bool) map[string]bool {
	m := map[string]bool{}
	for _, id := range e.policy.ChoiceNotice("en").Purposes {
		m[id] = granted
	}
	return m
}

func (e *edge) choose(purposes map[string]bool, header ...string) (cookies []string) {
	e.t.Helper()
	b, err := json.Marshal(map[string]any{"snapshot": e.snapshot(), "purposes": purposes})
	if err != nil {
		e.t.Fatal(err)
	}
	a := e.post("/v1/consents?k=demo", string(b), header...)
	a.want(e.t, "choosing", http.StatusCreated, "")
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	return cookies
}

// What a page is told through the life of a choice; that nobody is known is no error.
func TestChoice(t *testing.T) {
	e := open(t)
	nobody := e.chosen()
	nobody.want(t, "before a choice", "none", true, map[string]bool{})
	if !nobody.Time.Equal(e.clock.now()) || nobody.Exempt == nil || !nobody.ValidUntil.IsZero() || e.subjects.Count() != 0 {
		t.Errorf("before a choice: %+v, %d subjects", nobody, e.subjects.Count())
	}

	cookie := e.choose(e.all(true))[0]
	given := e.chosen("Cookie", cookie)
	given.want(t, "agreed to all", "given", false, e.all(true))
	if want := e.clock.now().AddDate(0, 6, 0); !given.ValidUntil.Equal(want) {
		t.Errorf("valid until %v, want %v", given.ValidUntil, want)
	}

	e.post("/v1/consents/withdraw", `{"k":"demo","purposes":["audience"]}`, "Cookie", cookie).want(t, "withdrawing one", 200, "")
	one := e.all(true)
	one["audience"] = false
	e.chosen("Cookie", cookie).want(t, "withdrew one", "given", false, one)

	e.post("/v1/consents/withdraw", `{"k":"demo"}`, "Cookie", cookie).want(t, "withdrawing the rest", 200, "")
	e.chosen("Cookie", cookie).want(t, "withdrew all", "withdrawn", false, e.all(false))

	e.clock.forward(200 * 24 * time.Hour) // longer than a consent would last: it may be asked again (C8)
	e.chosen("Cookie", cookie).want(t, "long after", "none", true, map[string]bool{})
}

func TestChoicePartly(t *testing.T) {
	e := open(t)
	cookie := e.choose(map[string]bool{"audience": true})[0]
	e.chosen("Cookie", cookie).want(t, "asked for one purpose of several", "given", true, map[string]bool{"audience": true})
	e.choose(map[string]bool{"audience": false}, "Cookie", cookie)
	e.chosen("Cookie", cookie).want(t, "refused what stood", "withdrawn", true, map[string]bool{"audience": false})
}

// C6: after its validity a consent is as none.
func TestChoiceExpires(t *testing.T) {
	e := open(t)
	cookie := e.choose(e.all(true))[0]
	e.clock.forward(185 * 24 * time.Hour)
	e.chosen("Cookie", cookie).want(t, "after six months", "none", true, map[string]bool{})
}

// C8: a refusal is remembered without an id; with no proof at all it is of what is asked now; of other purposes it says nothing.
func TestChoiceRefused(t *testing.T) {
	e := open(t)
	cookies := e.choose(e.all(false))
	if len(cookies) != 1 || e.subjects.Count() != 0 {
		t.Fatalf("%q, %d subjects", cookies, e.subjects.Count())
	}
	e.chosen("Cookie", cookies[0]).want(t, "refused", "refused", false, e.all(false))
	bare := e.post("/v1/consents?k=demo", `{"purposes":{"audience":false}}`, "Origin", origin)
	if got := bare.header.Get("Set-Cookie"); !strings.HasPrefix(got, cookies[0]+"; ") {
		t.Errorf("a refusal without a notice sets %q, want %q", got, cookies[0])
	}
	e.chosen("Cookie", "octroi-refused=audience.0").want(t, "refused other purposes", "none", true, map[string]bool{})
	e.chosen("Cookie", "octroi-refused=").want(t, "no memory", "none", true, map[string]bool{})
}

// A person who was erased is nobody.
func TestChoiceOfTheErased(t *testing.T) {
	e := open(t)
	cookie := e.choose(e.all(true))[0]
	credential, _ := subject.ParseCredential(strings.TrimPrefix(cookie, "octroi-dev="))
	device, err := e.subjects.Device(credential)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.state.Update(t.Context(), func(tx *state.Txn) error { return e.ledger.Suppress(tx, device) }); err != nil {
		t.Fatal(err)
	}
	if _, err := e.ledger.Sever(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	e.chosen("Cookie", cookie).want(t, "erased", "none", true, map[string]bool{})
}

// G12, G15: who may ask, and that what is public leads to nobody.
func TestChoiceOfWhom(t *testing.T) {
	e := open(t)
	cookie, given := e.agree("audience")
	credential := strings.TrimPrefix(cookie, "octroi-dev=")
	token := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeConsent, collector.ScopeRights}})
	for name, x := range map[string]struct {
		key    string
		header []string
		status int
		want   string // the state, or the code of the problem
	}{
		"the browser's own":          {"demo", []string{"Cookie", cookie, "Origin", origin}, 200, "given"},
		"the same origin sends none": {"demo", []string{"Cookie", cookie}, 200, "given"},
		"an app":                     {"demo", []string{"Authorization", "Bearer " + credential}, 200, "given"},
		"a site key alone":           {"demo", []string{"Origin", origin}, 200, "none"},
		"a record id as credential":  {"demo", []string{"Cookie", "octroi-dev=" + given.RecordID, "Origin", origin}, 200, "none"},
		"a receipt as credential":    {"demo", []string{"Cookie", "octroi-dev=" + given.Receipt, "Origin", origin}, 200, "none"},
		"a guessed credential":       {"demo", []string{"Cookie", "octroi-dev=AAAAAAAAAAAAAAAAAAAAAA", "Origin", origin}, 200, "none"},
		"the refusal beside it":      {"demo", []string{"Cookie", "octroi-refused=x; " + cookie, "Origin", origin}, 200, "given"},
		"an unlisted origin":         {"demo", []string{"Cookie", cookie, "Origin", "https://evil.example"}, 403, "origin"},
		"another site's origin":      {"demo", []string{"Cookie", cookie, "Origin", "https://other.example"}, 403, "origin"},
		"a sandboxed frame":          {"demo", []string{"Cookie", cookie, "Origin", "null"}, 403, "origin"},
		"an unknown key":             {"canary", []string{"Cookie", cookie, "Origin", origin}, 401, "site_key"},
		"no key":                     {"", []string{"Cookie", cookie, "Origin", origin}, 401, "site_key"},
		"a token":                    {"demo", []string{"Authorization", token}, 403, "scope"},
		"a forged token":             {"demo", []string{"Authorization", "Bearer a.b.c"}, 401, "token"},
		"something else":             {"demo", []string{"Authorization", "Basic YTpi"}, 401, "authorization"},
	} {
		a := e.get("/v1/choice?k="+x.key, x.header...)
		a.want(t, name, x.status, x.want)
		if x.status == 200 {
			var c chosen
			if a.into(t, &c); c.State != x.want {
				t.Errorf("%s: %+v, want %s", name, c, x.want)
			}
		}
		if strings.Contains(a.body, "canary") || x.want == "origin" && a.header.Get("Access-Control-Allow-Origin") == "https://evil.example" {
			t.Errorf("%s: %s %v", name, a.body, a.header)
		}
	}
}

func TestChoicesAreBounded(t *testing.T) {
	e := open(t, func(o *collector.Options, _ *spool.Options) { o.ConsentRate = 1 })
	for i := range 400 {
		if a := e.get("/v1/choice?k=demo"); a.status != 200 {
			t.Fatalf("number %d: %d %s", i+1, a.status, a.body)
		}
	}
	e.get("/v1/choice?k=demo", "Origin", origin).want(t, "one too many", http.StatusTooManyRequests, "rate")
	e.post("/v1/consents?k=demo", `{"purposes":{"audience":false}}`).want(t, "a choice all the same", http.StatusCreated, "")
}
