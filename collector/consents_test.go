package collector_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/collector/spool"
	"github.com/octroi/octroi/consent"
)

func TestConsentLife(t *testing.T) {
	e := open(t)
	e.get("/v1/consents/current?k=demo").want(t, "before a choice", http.StatusNotFound, "no_record")

	a := e.post("/v1/consents", `{"k":"demo","snapshot":"`+e.snapshot()+`","purposes":{"audience":true,"marketing":false},"method":"banner","language":"en","time":"2026-11-21T18:00:00Z"}`,
		"Origin", origin, "Referer", "https://shop.example/p/1?mail=canary", "User-Agent", "Mozilla/5.0 Firefox/140.0")
	a.want(t, "grant", http.StatusCreated, "")
	var given choice
	a.into(t, &given)
	if given.State != "ConsentGiven" || !given.Purposes["audience"] || given.Purposes["marketing"] || given.RecordID == "" || given.Credential != "" {
		t.Errorf("a grant is answered %s", a.body)
	}
	if want := e.clock.now().AddDate(0, 6, 0); !given.ValidUntil.Equal(want) {
		t.Errorf("valid until %v, want %v", given.ValidUntil, want)
	}
	set := a.header.Values("Set-Cookie")
	if len(set) != 1 || !strings.HasPrefix(set[0], "octroi-dev=") || !strings.HasSuffix(set[0], "; Path=/; Max-Age=15638400; HttpOnly; SameSite=Lax") {
		t.Errorf("cookies %q", set)
	}
	cookie, _, _ := strings.Cut(set[0], ";")

	var current struct{ Purposes []consent.Standing }
	e.get("/v1/consents/current?k=demo", "Cookie", cookie).into(t, &current)
	if len(current.Purposes) != 2 || !current.Purposes[0].Granted || current.Purposes[1].Granted {
		t.Errorf("current state %+v", current)
	}
	e.clock.forward(time.Hour)
	b := e.post("/v1/consents?k=demo", `{"snapshot":"`+e.snapshot()+`","purposes":{"audience":true}}`, "Cookie", cookie)
	b.want(t, "renewal", http.StatusCreated, "")
	if !strings.Contains(b.body, "RenewedConsentGiven") || !strings.HasPrefix(b.header.Get("Set-Cookie"), cookie+"; ") {
		t.Errorf("a renewal is answered %s with cookie %q", b.body, b.header.Get("Set-Cookie"))
	}
	w := e.post("/v1/consents/withdraw", `{"k":"demo","purposes":["audience"]}`, "Cookie", cookie, "Origin", origin)
	w.want(t, "withdrawal", http.StatusOK, "")
	if !strings.Contains(w.body, "ConsentWithdrawn") || len(w.header.Values("Set-Cookie")) != 0 {
		t.Errorf("a withdrawal is answered %s with cookies %v", w.body, w.header.Values("Set-Cookie"))
	}
	e.post("/v1/consents/withdraw?k=demo", ``, "Cookie", cookie, "Content-Type", "").want(t, "second withdrawal without a body", http.StatusOK, "")
	if e.subjects.Count() != 1 {
		t.Errorf("%d subjects, want 1", e.subjects.Count())
	}
}

// TestCircumstances is C9 and G5: what a record keeps of how a choice came is minimised, and every Sec-GPC header is read.
func TestCircumstances(t *testing.T) {
	e := open(t, func(o *collector.Options, _ *spool.Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	rights := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeRights}})
	for name, test := range map[string]struct {
		signals []string
		gpc     bool
	}{
		"none":           {nil, false},
		"one":            {[]string{"1"}, true},
		"second of two":  {[]string{"0", "1"}, true},
		"zero":           {[]string{"0"}, false},
		"true":           {[]string{"true"}, false},
		"joined":         {[]string{"1, 1"}, false},
		"one and a half": {[]string{"1.5"}, false},
	} {
		header := []string{"X-Forwarded-For", "192.0.2.66, 203.0.113.77", "User-Agent", "Mozilla/5.0 (X11) Firefox/140.0", "Referer", "https://shop.example/p/1?q=x#y"}
		for _, s := range test.signals {
			header = append(header, "Sec-GPC", s)
		}
		a := e.post("/v1/consents?k=demo", `{"snapshot":"`+e.snapshot()+`","purposes":{"audience":true},"credential":true}`, header...)
		var given choice
		a.into(t, &given)
		record := e.post("/private/v1/consents/history", `{"device":"`+given.Credential+`"}`, "Authorization", rights).body
		for _, want := range []string{`"ip_prefix":"203.0.113.0/24"`, `"ua_family":"Firefox"`, `"url_path":"https://shop.example/p/1"`} {
			if !strings.Contains(record, want) {
				t.Errorf("%s: no %s in %s", name, want, record)
			}
		}
		if strings.Contains(record, "203.0.113.77") || strings.Contains(record, "192.0.2") || strings.Contains(record, "q=x") || strings.Contains(record, "140.0") {
			t.Errorf("%s: the record holds too much: %s", name, record)
		}
		if strings.Contains(record, `"gpc":true`) != test.gpc {
			t.Errorf("%s: the record says %s, want gpc %v", name, record, test.gpc)
		}
	}
}

// TestRefusal is C8: a browser's refusal is a record without a subject; the browser gets the version of the notice, the same for everybody.
func TestRefusal(t *testing.T) {
	e := open(t)
	size, _, _ := e.state.Tree()
	a := e.post("/v1/consents?k=demo", `{"snapshot":"`+e.snapshot()+`","purposes":{"audience":false,"marketing":false}}`, "Origin", origin)
	a.want(t, "refusal", http.StatusCreated, "")
	version := e.policy.ChoiceNotice("en").Version
	set := a.header.Values("Set-Cookie")
	if want := "octroi-refused=" + version + "; Path=/; Max-Age=15638400; SameSite=Lax"; len(set) != 1 || set[0] != want {
		t.Errorf("cookies %q, want %q", set, want)
	}
	if after, _, _ := e.state.Tree(); e.subjects.Count() != 0 || after != size+1 {
		t.Errorf("%d subjects and %d leaves after a refusal, want none and one", e.subjects.Count(), after-size)
	}
	current := e.get("/v1/consents/current?k=demo", "Cookie", "octroi-refused="+version)
	if current.status != 200 || !strings.Contains(current.body, `"state":"ConsentRefused"`) {
		t.Errorf("current state after a refusal: %d %s", current.status, current.body)
	}
	e.get("/v1/consents/current?k=demo", "Cookie", "octroi-refused=audience.0").want(t, "after purposes changed", http.StatusNotFound, "no_record")

	b := e.post("/v1/consents?k=demo", `{"snapshot":"`+e.snapshot()+`","purposes":{"audience":true}}`, "Cookie", "octroi-refused="+version)
	if got := b.header.Values("Set-Cookie"); len(got) != 2 || !strings.HasPrefix(got[1], "octroi-refused=; Path=/; Max-Age=0") {
		t.Errorf("a consent after a refusal sets %q", got)
	}
}

// TestProof is C3 and C4: what a purpose asks of a grant, and that a refusal is taken whatever it came with.
func TestProof(t *testing.T) {
	e := open(t)
	old := e.snapshot()
	var foreign consent.ServedNotice
	e.get("/v1/notice?k=other-key").into(t, &foreign)
	var served consent.ServedNotice
	e.get("/v1/notice?k=demo&language=fr").into(t, &served)
	notice, err := json.Marshal(served.Notice)
	if err != nil {
		t.Fatal(err)
	}
	e.clock.forward(61 * time.Minute)
	dot := strings.LastIndexByte(old, '.')
	forged := old[:dot] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	tests := []struct {
		name, body string
		status     int
		code       string
	}{
		{"nothing", `{"purposes":{"audience":true}}`, 409, "proof"},
		{"expired", `{"snapshot":"` + old + `","purposes":{"audience":true}}`, 409, "snapshot_expired"},
		{"forged", `{"snapshot":"` + forged + `","purposes":{"audience":true}}`, 409, "snapshot"},
		{"of another site", `{"snapshot":"` + foreign.Snapshot + `","purposes":{"audience":true}}`, 409, "snapshot"},
		{"no snapshot", `{"snapshot":"eyJ","purposes":{"audience":true}}`, 409, "snapshot"},
		{"registered text where it is enough", `{"notice":` + string(notice) + `,"purposes":{"audience":true}}`, 201, ""},
		{"registered text where it is not", `{"notice":` + string(notice) + `,"purposes":{"marketing":true}}`, 409, "proof"},
		{"unknown text", `{"notice":{"id":"choice","version":"1","language":"fr","text_sha256":"` + strings.Repeat("0", 64) + `"},"purposes":{"audience":true}}`, 422, "notice"},
		{"unknown purpose", `{"snapshot":"` + e.snapshot() + `","purposes":{"canary":true}}`, 422, "purpose"},
		{"declared purpose", `{"snapshot":"` + e.snapshot() + `","purposes":{"service":true}}`, 422, "basis"},
		{"refusal with nothing", `{"purposes":{"audience":false}}`, 201, ""},
		{"refusal with an expired snapshot", `{"snapshot":"` + old + `","purposes":{"audience":false}}`, 201, ""},
		{"refusal with a forged snapshot", `{"snapshot":"` + forged + `","purposes":{"audience":false}}`, 201, ""},
	}
	for _, test := range tests {
		a := e.post("/v1/consents?k=demo", test.body)
		a.want(t, test.name, test.status, test.code)
		if strings.Contains(a.body, "canary") {
			t.Errorf("%s: the answer repeats what came in: %s", test.name, a.body)
		}
	}
	both := e.post("/v1/consents?k=demo", `{"snapshot":"`+old+`","purposes":{"audience":true,"marketing":false}}`)
	both.want(t, "half a refusal", http.StatusConflict, "snapshot_expired")
	if !strings.Contains(both.body, `"recorded":{"record_id":`) || !strings.Contains(both.body, "ConsentRefused") {
		t.Errorf("the refused half is not reported as recorded: %s", both.body)
	}
}

func TestRefusedConsents(t *testing.T) {
	e := open(t)
	cookie, _ := e.agree("audience")
	good := `{"purposes":{"audience":false}}`
	scoped := func(scopes ...string) string {
		return e.token(collector.TokenClaims{Scopes: scopes, Sites: []string{"shop"}})
	}
	write := scoped(collector.ScopeConsent)
	for _, subject := range []string{`{"loyalty":"card","user":"first"}`, `{"user":"third"}`} {
		e.post("/v1/consents?k=demo", `{"purposes":{"audience":false},"subject":`+subject+`}`, "Authorization", write).want(t, "a person", 201, "")
	}
	tests := []struct {
		name, path, body string
		header           []string
		status           int
		code             string
	}{
		{"not JSON", "?k=demo", "{", nil, 400, "json"},
		{"duplicate", "?k=demo", `{"purposes":{"audience":true,"audience":false}}`, nil, 400, "duplicate_name"},
		{"deep", "?k=demo", `{"purposes":{"audience":[[[[1]]]]}}`, nil, 400, "depth"},
		{"one boolean for everything", "?k=demo", `{"purposes":true}`, nil, 400, "field"},
		{"stranger", "?k=demo", `{"purposes":{"audience":true},"canary":1}`, nil, 400, "field"},
		{"no key", "", good, nil, 401, "site_key"},
		{"unlisted origin", "?k=demo", good, []string{"Origin", "https://evil.example", "Cookie", cookie}, 403, "origin"},
		{"unlisted origin without a cookie", "?k=demo", good, []string{"Origin", "https://evil.example"}, 403, "origin"},
		{"null origin", "?k=demo", good, []string{"Origin", "null"}, 403, "origin"},
		{"another's id with a site key", "?k=demo", `{"purposes":{"audience":false},"subject":{"email":"v@mail.example"}}`, []string{"Cookie", cookie}, 403, "subject"},
		{"given_at with a site key", "?k=demo", `{"purposes":{"audience":false},"given_at":"2020-01-01T00:00:00Z"}`, []string{"Cookie", cookie}, 403, "subject"},
		{"source with a site key", "?k=demo", `{"purposes":{"audience":false},"source":"crm"}`, nil, 403, "subject"},
		{"large", "?k=demo", `{"purposes":{"audience":false},"snapshot":"` + strings.Repeat("x", 16<<10) + `"}`, nil, 413, "size"},
		{"large once decompressed", "?k=demo", squeeze(t, strings.Repeat(" ", 17<<10)+good), []string{"Content-Encoding", "gzip"}, 413, "size"},
		{"media type", "?k=demo", good, []string{"Content-Type", "application/x-ndjson"}, 415, "media_type"},
		{"scope", "?k=demo", good, []string{"Authorization", scoped(collector.ScopeEvents)}, 403, "scope"},
		{"scope of an import", "?k=demo", `{"purposes":{"audience":false},"subject":{"loyalty":"1"},"given_at":"2020-01-01T00:00:00Z"}`, []string{"Authorization", write}, 403, "scope"},
		{"import from the future", "?k=demo", `{"purposes":{"audience":false},"subject":{"loyalty":"1"},"given_at":"2027-01-01T00:00:00Z"}`, []string{"Authorization", scoped(collector.ScopeConsent, collector.ScopeImport)}, 400, "field"},
		{"site of another token", "?k=other-key", `{"purposes":{"audience":false},"subject":{"loyalty":"1"}}`, []string{"Authorization", write}, 403, "site"},
		{"site in the body of another token", "", `{"site":"other","purposes":{"audience":false},"subject":{"loyalty":"1"}}`, []string{"Authorization", write}, 403, "site"},
		{"nobody named", "?k=demo", good, []string{"Authorization", write}, 400, "field"},
		{"no site", "", `{"purposes":{"audience":false},"subject":{"loyalty":"1"}}`, []string{"Authorization", e.token(collector.TokenClaims{Scopes: []string{collector.ScopeConsent}})}, 400, "field"},
		{"bad identifier", "?k=demo", `{"purposes":{"audience":false},"subject":{"email":"canary"}}`, []string{"Authorization", write}, 400, "identifier"},
		{"bad namespace", "?k=demo", `{"purposes":{"audience":false},"subject":{"passport":"canary"}}`, []string{"Authorization", write}, 400, "namespace"},
		{"another user of the same card", "?k=demo", `{"purposes":{"audience":false},"subject":{"loyalty":"card","user":"second"}}`, []string{"Authorization", write}, 422, "namespace_taken"},
		{"two persons", "?k=demo", `{"purposes":{"audience":false},"subject":{"loyalty":"card","user":"third"}}`, []string{"Authorization", write}, 422, "two_persons"},
		{"unknown device", "?k=demo", `{"purposes":{"audience":false},"device":"AAAAAAAAAAAAAAAAAAAAAA"}`, []string{"Authorization", write}, 404, "no_record"},
	}
	for _, test := range tests {
		a := e.post("/v1/consents"+test.path, test.body, test.header...)
		a.want(t, test.name, test.status, test.code)
		if len(a.header.Values("Set-Cookie")) != 0 || strings.Contains(a.body, "canary") {
			t.Errorf("%s: cookies %v, body %s", test.name, a.header.Values("Set-Cookie"), a.body)
		}
	}
	withdraw := func(name string, status int, code string, body string, header ...string) {
		e.post("/v1/consents/withdraw?k=demo", body, header...).want(t, "withdrawal: "+name, status, code)
	}
	withdraw("nobody", 404, "no_record", "")
	withdraw("another's id", 403, "subject", `{"subject":{"email":"v@mail.example"}}`, "Cookie", cookie)
	withdraw("unlisted origin", 403, "origin", "", "Cookie", cookie, "Origin", "https://evil.example")
	withdraw("purposes are a text", 400, "field", `{"purposes":"audience"}`, "Cookie", cookie)
	withdraw("unknown purpose", 422, "purpose", `{"purposes":["canary"]}`, "Cookie", cookie)
	withdraw("unknown person", 404, "no_record", `{"subject":{"loyalty":"nobody"}}`, "Authorization", write)
	withdraw("scope", 403, "scope", `{"subject":{"loyalty":"nobody"}}`, "Authorization", scoped(collector.ScopeEvents))
	e.get("/v1/consents/current?k=demo", "Cookie", cookie, "Origin", "https://evil.example").want(t, "current from an unlisted origin", 403, "origin")
	e.get("/v1/consents/current?k=demo", "Authorization", write).want(t, "current with a token", 403, "scope")
	e.get("/v1/notice?k=x").want(t, "notice of an unknown key", 401, "site_key")
	e.get("/v1/notices/"+strings.Repeat("0", 64)).want(t, "unknown text", 404, "not_found")
	e.get("/v1/notices/..%2f..%2fetc").want(t, "no hash", 404, "not_found")
	e.get("/v1/notices/"+strings.Repeat("A", 64)).want(t, "upper case", 404, "not_found")
}

func TestBackEndConsents(t *testing.T) {
	e := open(t)
	token := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeConsent, collector.ScopeImport, collector.ScopeEvents}, Sites: []string{"shop"}})
	notice, err := json.Marshal(map[string]string{"id": "choice", "version": e.policy.ChoiceNotice("fr").Version, "language": "fr", "text_sha256": e.policy.ChoiceNotice("fr").SHA256()})
	if err != nil {
		t.Fatal(err)
	}
	given := e.clock.now().AddDate(0, 0, -30)
	a := e.post("/v1/consents", `{"purposes":{"audience":true},"subject":{"loyalty":"4711"},"notice":`+string(notice)+`,"given_at":"`+given.Format(time.RFC3339)+`","source":"crm","method":"import"}`, "Authorization", token)
	a.want(t, "import", http.StatusCreated, "")
	if len(a.header.Values("Set-Cookie")) != 0 {
		t.Error("a back-end got a cookie")
	}
	event := func(id string, at time.Time) string {
		return `{"id":"` + id + `","type":"store_purchase","time":"` + at.Format(time.RFC3339) + `","subject":{"loyalty":"4711"}}`
	}
	body := "[" + event("before", given.Add(-time.Hour)) + "," + event("after", given.Add(time.Hour)) + "]"
	accepted, refused := e.events(body, "Authorization", token)
	if accepted != 1 || len(refused) != 1 || refused[0].ID != "before" || refused[0].Reason != "before_consent" {
		t.Errorf("history: %d accepted, %v", accepted, refused)
	}
	e.post("/v1/consents/withdraw", `{"subject":{"loyalty":"4711"}}`, "Authorization", token).want(t, "withdrawal", http.StatusOK, "")
	if accepted, refused := e.events(event("late", given.Add(2*time.Hour)), "Authorization", token); accepted != 0 || refused[0].Reason != "consent_withdrawn" {
		t.Errorf("after the withdrawal: %d accepted, %v", accepted, refused)
	}
	r := e.post("/v1/consents", `{"purposes":{"audience":false},"subject":{"loyalty":"4799"}}`, "Authorization", token)
	r.want(t, "a back-end's refusal", http.StatusCreated, "")
	if e.subjects.Count() != 2 {
		t.Errorf("%d subjects, want 2: a back-end's refusal that names a person is stored with it (C8)", e.subjects.Count())
	}
}

func TestAppCredential(t *testing.T) {
	e := open(t)
	a := e.post("/v1/consents?k=demo", `{"snapshot":"`+e.snapshot()+`","purposes":{"audience":true},"credential":true}`)
	var got choice
	a.into(t, &got)
	if a.status != 201 || len(got.Credential) != 22 || len(a.header.Values("Set-Cookie")) != 0 {
		t.Fatalf("%d %s with cookies %v", a.status, a.body, a.header.Values("Set-Cookie"))
	}
	auth := "Bearer " + got.Credential
	if accepted, refused := e.events(fmt.Sprintf(view, "1"), "Authorization", auth); accepted != 1 {
		t.Error(refused)
	}
	again := e.post("/v1/consents?k=demo", `{"snapshot":"`+e.snapshot()+`","purposes":{"audience":true},"credential":true}`, "Authorization", auth)
	if again.status != 201 || strings.Contains(again.body, got.Credential) || len(again.header.Values("Set-Cookie")) != 0 {
		t.Errorf("a repeated consent repeats the credential: %d %v", again.status, again.header)
	}
	e.post("/v1/consents/withdraw?k=demo", "", "Authorization", auth).want(t, "withdrawal", 200, "")
	if accepted, _ := e.events(fmt.Sprintf(view, "2"), "Authorization", auth); accepted != 0 {
		t.Error("an event was accepted after the withdrawal")
	}
}

func TestSecureCookie(t *testing.T) {
	e := open(t, func(o *collector.Options, _ *spool.Options) { o.Loopback = false })
	a := e.post("/v1/consents?k=demo", `{"snapshot":"`+e.snapshot()+`","purposes":{"audience":true}}`, "Origin", origin)
	set := a.header.Get("Set-Cookie")
	if !strings.HasPrefix(set, "__Host-octroi=") || !strings.Contains(set, "; Path=/;") || !strings.HasSuffix(set, "; HttpOnly; Secure; SameSite=Lax") || strings.Contains(set, "Domain") {
		t.Errorf("the cookie is %q", set)
	}
	cookie, _, _ := strings.Cut(set, ";")
	if accepted, refused := e.events(fmt.Sprintf(view, "1"), "Cookie", cookie); accepted != 1 {
		t.Error(refused)
	}
	if accepted, _ := e.events(fmt.Sprintf(view, "2"), "Cookie", strings.Replace(cookie, "__Host-octroi", "octroi-dev", 1)); accepted != 0 {
		t.Error("the loopback's cookie is taken elsewhere")
	}
}

func TestNoticeAndKeys(t *testing.T) {
	e := open(t)
	a := e.get("/v1/notice?k=demo&language=fr", "Origin", origin)
	var served consent.ServedNotice
	a.into(t, &served)
	if a.header.Get("Cache-Control") != "no-store" || served.Notice.Language != "fr" || len(served.Purposes) != 4 {
		t.Errorf("a notice is served as %v, %s", a.header, a.body)
	}
	text := e.get("/v1/notices/" + served.Notice.SHA256)
	if text.body != served.Text || text.header.Get("Content-Type") != "text/plain; charset=utf-8" || text.header.Get("Content-Language") != "fr" ||
		text.header.Get("ETag") != `"`+served.Notice.SHA256+`"` || text.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("the text is served as %v", text.header)
	}
	var set struct {
		Keys []struct{ X, Kid string }
	}
	e.get("/.well-known/jwks.json").into(t, &set)
	x, err := base64.RawURLEncoding.DecodeString(set.Keys[0].X)
	if err != nil || !ed25519.PublicKey(x).Equal(e.receipts.Public()) {
		t.Error("the key set is not the receipts' key")
	}
	_, given := e.agree("audience")
	header, err := base64.RawURLEncoding.DecodeString(strings.Split(given.Receipt, ".")[0])
	if err != nil || !strings.Contains(string(header), `"kid":"`+set.Keys[0].Kid+`"`) {
		t.Errorf("a receipt's header %s does not name the published key %s", header, set.Keys[0].Kid)
	}
}

func TestCrossOrigin(t *testing.T) {
	e := open(t)
	for _, o := range []string{origin, "http://localhost:8080", "https://other.example"} {
		a := e.send(http.MethodOptions, "/v1/events", "", "Origin", o, "Access-Control-Request-Method", "POST")
		if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != o || a.header.Get("Access-Control-Allow-Credentials") != "true" || a.header.Get("Vary") != "Origin" {
			t.Errorf("preflight of %s: %d %v", o, a.status, a.header)
		}
	}
	for _, o := range []string{"https://evil.example", "null", "https://shop.example.evil.example", "http://shop.example"} {
		a := e.send(http.MethodOptions, "/v1/events", "", "Origin", o, "Access-Control-Request-Method", "POST")
		if a.header.Get("Access-Control-Allow-Origin") != "" || a.header.Get("Vary") != "Origin" {
			t.Errorf("preflight of %s: %v", o, a.header)
		}
	}
	a := e.post("/v1/events?k=demo", fmt.Sprintf(view, "1"), "Origin", origin)
	if a.header.Get("Access-Control-Allow-Origin") != origin || a.header.Get("Access-Control-Allow-Credentials") != "true" || a.header.Get("Vary") != "Origin" {
		t.Errorf("an answer has %v", a.header)
	}
	if b := e.post("/v1/events?k=demo", "{", "Origin", origin); b.header.Get("Access-Control-Allow-Origin") != origin {
		t.Error("a page cannot read why it was refused")
	}
	if b := e.post("/v1/events?k=demo", fmt.Sprintf(view, "1")); b.header.Get("Access-Control-Allow-Origin") != "" || b.header.Get("Vary") != "Origin" {
		t.Errorf("an answer without an origin has %v", b.header)
	}
}

func TestRateLimit(t *testing.T) {
	e := open(t, func(o *collector.Options, _ *spool.Options) { o.ConsentRate = 5 })
	cookie, _ := e.agree("audience")
	for range 19 {
		e.post("/v1/consents?k=demo", `{"purposes":{"audience":false}}`).want(t, "burst", 201, "")
	}
	a := e.post("/v1/consents?k=demo", `{"purposes":{"audience":false}}`)
	a.want(t, "after the burst", http.StatusTooManyRequests, "rate")
	if a.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
	}
	e.post("/v1/consents/withdraw?k=demo", "").want(t, "a withdrawal of nobody", http.StatusTooManyRequests, "rate")
	token := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeConsent}, Sites: []string{"shop"}})
	e.post("/v1/consents", `{"purposes":{"audience":false},"subject":{"loyalty":"1"}}`, "Authorization", token).want(t, "a back-end", 201, "")
	e.post("/v1/consents/withdraw?k=demo", "", "Cookie", cookie).want(t, "a withdrawal with its credential", 200, "")
	e.clock.forward(time.Second)
	e.post("/v1/consents?k=demo", `{"purposes":{"audience":false}}`).want(t, "a second later", 201, "")
}

// TestWithdrawalRace is G3: 1,000 events race one withdrawal. None that is sent after its answer is accepted, and each that was
// accepted before carries a sequence by which the seal strips it.
func TestWithdrawalRace(t *testing.T) {
	e := open(t)
	cookie, _ := e.agree("audience")
	var sent, late atomic.Int64
	var withdrawn atomic.Bool
	var crew sync.WaitGroup
	for range 8 {
		crew.Go(func() {
			for {
				i := sent.Add(1)
				if i > 1000 {
					return
				}
				after := withdrawn.Load()
				a := e.post("/v1/events?k=demo", fmt.Sprintf(view, fmt.Sprint(i)), "Cookie", cookie)
				if a.status != 202 {
					t.Errorf("event %d: %d %s", i, a.status, a.body)
				}
				if after && strings.Contains(a.body, `"accepted":1`) {
					late.Add(1)
				}
			}
		})
	}
	for sent.Load() < 300 {
		time.Sleep(100 * time.Microsecond)
	}
	e.post("/v1/consents/withdraw?k=demo", "", "Cookie", cookie).want(t, "withdrawal", 200, "")
	withdrawn.Store(true)
	crew.Wait()
	if late.Load() != 0 {
		t.Errorf("%d events sent after the withdrawal's answer were accepted", late.Load())
	}
	if sent.Load() < 1000 || e.spooled() == 0 || e.spooled() >= 1000 {
		t.Errorf("%d of %d events were accepted: that was no race", e.spooled(), sent.Load())
	}
	records, err := e.spool.Peek(t.Context(), 0, 2000)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		event, err := r.Event.Open(e.subjects, spoolKey)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := event.Without(e.ledger.RevokedAfter); ok {
			t.Fatalf("the event at %d, accepted before the withdrawal, would still be sealed", r.Position)
		}
	}
}
