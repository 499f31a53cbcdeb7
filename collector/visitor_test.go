package collector_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/collector/spool"
)

// openRights is an edge with routes that answer what Visitor, Actor, ForgetCookie and Fail say, on a listener of their own.
func openRights(t *testing.T, change ...func(*collector.Options, *spool.Options)) *edge {
	e := open(t, change...)
	app := e.edge.App()
	visit := func(f *fiber.Ctx) error {
		v, err := e.edge.Visitor(f, f.Get("X-Key"))
		if err != nil {
			return err
		}
		if f.Query("fail") != "" {
			return e.edge.Fail(f, f.QueryInt("fail"), "closed", "the request is closed")
		}
		if f.Query("forget") != "" {
			e.edge.ForgetCookie(f)
		}
		return f.SendString(fmt.Sprintf("%d %s %s", v.Device.Slot(), v.Site.Name, v.Language))
	}
	app.Get("/v1/me/requests", visit)
	app.Post("/v1/me/requests", visit)
	app.Post("/v1/rights/requests", func(f *fiber.Ctx) error {
		name, err := e.edge.Actor(f, collector.ScopeManage)
		if err != nil {
			return err
		}
		return f.SendString(name)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- app.Listener(l) }()
	e.url = "http://" + l.Addr().String()
	t.Cleanup(func() {
		e.client.CloseIdleConnections()
		if err := app.Shutdown(); err != nil {
			t.Error(err)
		}
		_ = l.Close()
		<-done
	})
	return e
}

// D5, D6, G12: the cookie alone says who asks; a site key, another origin, a token or a stranger's cookie leads to nobody.
func TestVisitor(t *testing.T) {
	e := openRights(t)
	cookie, _ := e.agree("audience")
	credential := strings.TrimPrefix(cookie, "octroi-dev=")
	token := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeManage, collector.ScopeConsent, collector.ScopeRights}})
	own := e.post("/v1/me/requests?k=demo", "", "Cookie", cookie, "Origin", origin)
	if own.status != 200 || strings.HasPrefix(own.body, "0 ") || !strings.HasSuffix(own.body, " shop en") {
		t.Fatalf("%d %s", own.status, own.body)
	}
	if own.header.Get("Access-Control-Allow-Origin") != origin || len(own.header.Values("Vary")) != 1 {
		t.Errorf("headers %v", own.header)
	}
	for name, x := range map[string]struct {
		header []string
		key    string
		status int
		want   string // the body, or the code of the problem
	}{
		"of an app":                       {[]string{"Authorization", "Bearer " + credential}, "demo", 200, own.body},
		"the same origin sends none":      {[]string{"Cookie", cookie, "Sec-Fetch-Site", "same-origin"}, "demo", 200, own.body},
		"a site key alone":                {nil, "demo", 200, "0 shop en"},
		"an unknown cookie":               {[]string{"Cookie", "octroi-dev=AAAAAAAAAAAAAAAAAAAAAA"}, "demo", 200, "0 shop en"},
		"a malformed cookie":              {[]string{"Cookie", "octroi-dev=canary"}, "demo", 200, "0 shop en"},
		"another's name of the cookie":    {[]string{"Cookie", "__Host-octroi=" + credential}, "demo", 200, "0 shop en"},
		"a visitor id in a header":        {[]string{"X-Visitor", credential}, "demo", 200, "0 shop en"},
		"the key of the body":             {[]string{"Cookie", cookie, "Origin", origin, "X-Key", "demo"}, "", 200, own.body},
		"the same in query and body":      {[]string{"Cookie", cookie, "Origin", origin, "X-Key", "demo"}, "demo", 200, own.body},
		"another key in the body":         {[]string{"Cookie", cookie, "Origin", origin, "X-Key", "other"}, "demo", 400, "field"},
		"an unknown key in the body":      {[]string{"Cookie", cookie, "Origin", origin, "X-Key", "canary"}, "", 401, "site_key"},
		"an unlisted origin":              {[]string{"Cookie", cookie, "Origin", "https://evil.example"}, "demo", 403, "origin"},
		"no origin at all":                {[]string{"Cookie", cookie, "Origin", "null"}, "demo", 403, "origin"},
		"another site's origin":           {[]string{"Cookie", cookie, "Origin", "https://other.example"}, "demo", 403, "origin"},
		"a form of another site":          {[]string{"Cookie", cookie, "Sec-Fetch-Site", "cross-site"}, "demo", 403, "origin"},
		"no site key":                     {[]string{"Cookie", cookie, "Origin", origin}, "", 401, "site_key"},
		"an unknown site key":             {[]string{"Cookie", cookie, "Origin", origin}, "canary", 401, "site_key"},
		"a token":                         {[]string{"Authorization", token}, "demo", 403, "scope"},
		"a token beside the cookie":       {[]string{"Authorization", token, "Cookie", cookie}, "demo", 403, "scope"},
		"a token in place of the cookie":  {[]string{"Cookie", "octroi-dev=" + strings.TrimPrefix(token, "Bearer ")}, "demo", 200, "0 shop en"},
		"something else as authorization": {[]string{"Authorization", "Basic YTpi", "Cookie", cookie}, "demo", 401, "authorization"},
	} {
		path := "/v1/me/requests"
		if x.key != "" {
			path += "?k=" + x.key
		}
		a := e.post(path, "", x.header...)
		if x.status != 200 {
			a.want(t, name, x.status, x.want)
		} else if a.status != 200 || a.body != x.want {
			t.Errorf("%s: %d %s, want %s", name, a.status, a.body, x.want)
		}
		if strings.Contains(a.body, "canary") {
			t.Errorf("%s: the answer repeats what was sent", name)
		}
	}
	// A link in a letter is opened from anywhere: it is a GET, and changes nothing.
	if a := e.get("/v1/me/requests?k=demo", "Cookie", cookie, "Sec-Fetch-Site", "cross-site"); a.status != 200 || a.body != own.body {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// Where there is one site, its key need not be given; its origins count all the same.
func TestVisitorOfTheOnlySite(t *testing.T) {
	e := openRights(t, func(o *collector.Options, _ *spool.Options) { o.Sites = o.Sites[:1] })
	cookie, _ := e.agree("audience")
	if a := e.post("/v1/me/requests", "", "Cookie", cookie, "Origin", origin); a.status != 200 || strings.HasPrefix(a.body, "0 ") {
		t.Errorf("%d %s", a.status, a.body)
	}
	e.post("/v1/me/requests", "", "Cookie", cookie, "Origin", "https://other.example").want(t, "origin", 403, "origin")
	e.post("/v1/me/requests?k=x", "", "Cookie", cookie, "Origin", origin).want(t, "key", 401, "site_key")
}

// G12: requests take the rate of consent posts, also those with a cookie: each makes rows.
func TestVisitorsAreThrottled(t *testing.T) {
	e := openRights(t, func(o *collector.Options, _ *spool.Options) { o.ConsentRate = 1 })
	cookie, _ := e.agree("audience") // takes one of the burst
	for range 19 {
		if a := e.post("/v1/me/requests?k=demo", "", "Cookie", cookie, "Origin", origin); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	e.post("/v1/me/requests?k=demo", "", "Cookie", cookie, "Origin", origin).want(t, "the next", 429, "rate")
}

func TestVisitorPreflight(t *testing.T) {
	e := openRights(t)
	for _, path := range []string{"/v1/me/requests", "/v1/me/requests/1", "/v1/me/requests/1/package"} {
		a := e.send(http.MethodOptions, path, "", "Origin", origin, "Access-Control-Request-Method", "POST")
		if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != origin || a.header.Get("Access-Control-Allow-Credentials") != "true" {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
		if a = e.send(http.MethodOptions, path, "", "Origin", "https://evil.example"); a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", path, a.header)
		}
	}
}

func TestForgetCookie(t *testing.T) {
	for _, loopback := range []bool{true, false} {
		e := openRights(t, func(o *collector.Options, _ *spool.Options) { o.Loopback = loopback })
		want := "octroi-dev=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
		if !loopback {
			want = "__Host-octroi=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax"
		}
		a := e.post("/v1/me/requests?k=demo&forget=1", "", "Origin", origin)
		if got := a.header.Values("Set-Cookie"); a.status != 200 || len(got) != 1 || got[0] != want {
			t.Errorf("%d %q, want %q", a.status, got, want)
		}
	}
}

// The problem document is the caller's words and nothing of the request; a 5xx has an id and no words.
func TestFail(t *testing.T) {
	e := openRights(t)
	a := e.post("/v1/me/requests?k=demo&fail=409&x=canary", "", "Origin", origin)
	a.want(t, "conflict", 409, "closed")
	if !strings.Contains(a.body, `"detail":"the request is closed"`) || strings.Contains(a.body, "canary") ||
		a.header.Get("Access-Control-Allow-Origin") != origin || len(a.header.Values("Vary")) != 1 || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s %v", a.body, a.header)
	}
	if a = e.post("/v1/me/requests?k=demo&fail=503", ""); strings.Contains(a.body, "the request") {
		t.Errorf("a 5xx says %s", a.body)
	}
	a.want(t, "unavailable", 503, "closed")
}

func TestActor(t *testing.T) {
	e := openRights(t)
	cookie, _ := e.agree("audience")
	nameless, err := collector.MakeToken(collector.TokenClaims{Issuer: "node", Scopes: []string{collector.ScopeManage}, Expires: e.clock.now().AddDate(0, 0, 1)}, e.tokens)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		header []string
		status int
		want   string
	}{
		"with the scope": {[]string{"Authorization", e.token(collector.TokenClaims{Scopes: []string{collector.ScopeManage}})}, 200, "back-end"},
		"another scope":  {[]string{"Authorization", e.token(collector.TokenClaims{Scopes: []string{collector.ScopeRights, collector.ScopeCustody}})}, 403, "scope"},
		"of nobody":      {[]string{"Authorization", "Bearer " + nameless}, 403, "actor"},
		"a cookie":       {[]string{"Cookie", cookie, "Origin", origin}, 401, "token"},
		"a credential":   {[]string{"Authorization", "Bearer " + strings.TrimPrefix(cookie, "octroi-dev=")}, 401, "token"},
		"a forgery":      {[]string{"Authorization", "Bearer a.b.c"}, 401, "token"},
	} {
		a := e.post("/v1/rights/requests?k=demo", "", x.header...)
		if x.status != 200 {
			a.want(t, name, x.status, x.want)
		} else if a.status != 200 || a.body != x.want {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}
