package collector_test

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/collector/spool"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/pseudonymize"
)

func TestPrivate(t *testing.T) {
	var resolve func(destination, ref string) (consent.Proven, error)
	e := open(t, func(o *collector.Options, _ *spool.Options) {
		o.Resolve = func(destination, ref string) (consent.Proven, error) { return resolve(destination, ref) }
	})
	rights := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeRights}})
	write := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeConsent}, Sites: []string{"shop"}})
	e.post("/v1/consents", `{"purposes":{"audience":false},"subject":{"email":"Ann@Mail.example"}}`, "Authorization", write).want(t, "refusal", 201, "")

	var history []consent.Proven
	a := e.post("/private/v1/consents/history", `{"subject":{"email":"ann@mail.example"}}`, "Authorization", rights)
	a.into(t, &history)
	if a.status != 200 || len(history) != 1 || !strings.Contains(string(history[0].Record), "ConsentRefused") {
		t.Errorf("history: %d %s", a.status, a.body)
	}
	var current struct{ Purposes []consent.Standing }
	e.post("/private/v1/consents/current", `{"subject":{"email":"ann@mail.example"}}`, "Authorization", rights).into(t, &current)
	if len(current.Purposes) != 1 || current.Purposes[0].Granted {
		t.Errorf("current state %+v", current)
	}
	cookie, _ := e.agree("audience")
	e.post("/private/v1/consents/history", `{"device":"`+strings.TrimPrefix(cookie, "octroi-dev=")+`"}`, "Authorization", rights).want(t, "of a device", 200, "")
	for name, test := range map[string]struct {
		body, auth string
		status     int
		code       string
	}{
		"without a token":      {`{"subject":{"email":"ann@mail.example"}}`, "", 401, "token"},
		"with a credential":    {`{"subject":{"email":"ann@mail.example"}}`, "Bearer " + strings.TrimPrefix(cookie, "octroi-dev="), 401, "token"},
		"with another scope":   {`{"subject":{"email":"ann@mail.example"}}`, write, 403, "scope"},
		"of nobody":            {`{}`, rights, 400, "field"},
		"of a stranger":        {`{"subject":{"email":"bob@mail.example"}}`, rights, 404, "no_record"},
		"of a bad address":     {`{"subject":{"email":"canary"}}`, rights, 400, "identifier"},
		"of an unknown device": {`{"device":"AAAAAAAAAAAAAAAAAAAAAA"}`, rights, 404, "no_record"},
	} {
		for _, path := range []string{"/private/v1/consents/history", "/private/v1/consents/current"} {
			header := []string{}
			if test.auth != "" {
				header = append(header, "Authorization", test.auth)
			}
			e.post(path, test.body, header...).want(t, path+" "+name, test.status, test.code)
		}
	}
	resolve = func(destination, ref string) (consent.Proven, error) {
		if destination != "warehouse" || ref != "ab" {
			return consent.Proven{}, pseudonymize.ErrReference
		}
		return history[0], nil
	}
	e.get("/private/v1/consents/proof?destination=warehouse&ref=ab").want(t, "proof without a token", 401, "token")
	e.get("/private/v1/consents/proof?destination=warehouse&ref=canary", "Authorization", rights).want(t, "proof of nothing", 404, "reference")
	if p := e.get("/private/v1/consents/proof?destination=warehouse&ref=ab", "Authorization", rights); p.status != 200 || !strings.Contains(p.body, "ConsentRefused") {
		t.Errorf("proof: %d %s", p.status, p.body)
	}
}

// TestPanic: a panic on the way is a 500 with an id, and its value is not logged.
func TestPanic(t *testing.T) {
	e := open(t, func(o *collector.Options, _ *spool.Options) {
		o.Resolve = func(string, string) (consent.Proven, error) { panic("canary@mail.example") }
	})
	rights := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeRights}})
	a := e.get("/private/v1/consents/proof?destination=x&ref=y", "Authorization", rights)
	a.want(t, "panic", 500, "internal")
	if strings.Contains(e.logs.String()+a.body, "canary") {
		t.Error("the value of a panic went out")
	}
	if !strings.Contains(e.logs.String(), "a request panicked") || !strings.Contains(e.logs.String(), "getProof") {
		t.Errorf("the log does not say where: %s", e.logs)
	}
}

func TestUnknownErrorIsA503(t *testing.T) {
	e := open(t, func(o *collector.Options, _ *spool.Options) {
		o.Resolve = func(string, string) (consent.Proven, error) {
			return consent.Proven{}, errors.New("the disk is on fire")
		}
	})
	rights := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeRights}})
	a := e.get("/private/v1/consents/proof?destination=x&ref=y", "Authorization", rights)
	a.want(t, "unknown error", 503, "unavailable")
	if strings.Contains(a.body, "fire") || !strings.Contains(e.logs.String(), "on fire") {
		t.Errorf("answer %s, log %s", a.body, e.logs)
	}
}

func TestNewRefuses(t *testing.T) {
	e := open(t)
	for name, change := range map[string]func(*collector.Options){
		"no policy":               func(o *collector.Options) { o.Policy = nil },
		"no token key":            func(o *collector.Options) { o.Tokens = nil },
		"no issuer":               func(o *collector.Options) { o.Issuer = "" },
		"site without a key":      func(o *collector.Options) { o.Sites[0].Key = "" },
		"two sites of one name":   func(o *collector.Options) { o.Sites[1].Name = "shop" },
		"two sites of one key":    func(o *collector.Options) { o.Sites[1].Key = "demo" },
		"origin with a path":      func(o *collector.Options) { o.Sites[0].Origins = []string{"https://shop.example/"} },
		"origin without a scheme": func(o *collector.Options) { o.Sites[0].Origins = []string{"shop.example"} },
		"origin that is a star":   func(o *collector.Options) { o.Sites[0].Origins = []string{"*"} },
		"origin null":             func(o *collector.Options) { o.Sites[0].Origins = []string{"null"} },
		"origin with a wildcard":  func(o *collector.Options) { o.Sites[0].Origins = []string{"https://*.shop.example"} },
		"origin with usual port":  func(o *collector.Options) { o.Sites[0].Origins = []string{"https://shop.example:443"} },
		"origin with no port":     func(o *collector.Options) { o.Sites[0].Origins = []string{"https://shop.example:"} },
		"origin of another kind":  func(o *collector.Options) { o.Sites[0].Origins = []string{"file://shop.example"} },
		"origin not in ASCII":     func(o *collector.Options) { o.Sites[0].Origins = []string{"https://boutique-été.example"} },
		"origin of upper case":    func(o *collector.Options) { o.Sites[0].Origins = []string{"https://Shop.example"} },
	} {
		o := collector.Options{
			Sites:  []collector.Site{{Key: "demo", Name: "shop", Origins: []string{origin}}, {Key: "b", Name: "b"}},
			Policy: e.policy, Subjects: e.subjects, Ledger: e.ledger, Spool: e.spool, Issuer: "node",
			Tokens: e.tokens.Public().(ed25519.PublicKey), Receipts: e.receipts.Public().(ed25519.PublicKey),
		}
		change(&o)
		if _, err := collector.New(o); err == nil {
			t.Errorf("%s: New takes it", name)
		}
	}
}

// TestNamedUnknown: a site may have any name, also one that looks like a label of the metrics.
func TestNamedUnknown(t *testing.T) {
	e := open(t, func(o *collector.Options, _ *spool.Options) { o.Sites[0].Name = "unknown" })
	e.post("/v1/events?k=demo", `{"id":"1","type":"page_view"}`).want(t, "known site", 202, "")
	e.post("/v1/events?k=demo", `{"id":"2","type":"page_view","site":"elsewhere"}`).want(t, "unknown site", 202, "")
	if text := e.metricsText(); !strings.Contains(text, `site="unknown"`) || !strings.Contains(text, `site="(unknown)"`) {
		t.Errorf("the metrics do not tell the site from what is none:\n%s", text)
	}
}
