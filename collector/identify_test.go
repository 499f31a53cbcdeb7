package collector_test

import (
	"crypto/ed25519"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/collector/spool"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// shopKey is the key with which the site signs who has signed in.
var shopKey = ed25519.NewKeyFromSeed([]byte("the key of the shop's login page"))

// openLogin is an edge whose first site signs login claims.
func openLogin(t testing.TB, change ...func(*collector.Options, *spool.Options)) *edge {
	return open(t, append(change, func(o *collector.Options, _ *spool.Options) { o.Sites[0].Login = shopKey.Public() })...)
}

// claim is one of the shop's, for whoever has the identifiers: namespace, value, ….
func (e *edge) claim(id string, identifiers ...string) string {
	e.t.Helper()
	c := collector.LoginClaim{
		Site: "shop", Node: "node", ID: id, Issued: e.clock.now(), Expires: e.clock.now().Add(5 * time.Minute), Identifiers: map[string]string{},
	}
	for i := 0; i < len(identifiers); i += 2 {
		c.Identifiers[identifiers[i]] = identifiers[i+1]
	}
	text, err := collector.MakeClaim(c, shopKey)
	if err != nil {
		e.t.Fatal(err)
	}
	return text
}

// identify posts a claim as the shop's page does.
func (e *edge) identify(claim, cookie string, header ...string) answer {
	e.t.Helper()
	return e.post("/v1/identify?k=demo", fmt.Sprintf(`{"claim":%q}`, claim), append(header, "Cookie", cookie, "Origin", origin)...)
}

func (e *edge) signOut(cookie string, header ...string) answer {
	e.t.Helper()
	return e.send(http.MethodDelete, "/v1/identify?k=demo", "", append(header, "Cookie", cookie, "Origin", origin)...)
}

// want200 checks the answer about a link.
func (a answer) want200(t testing.TB, name, body string) {
	t.Helper()
	if a.status != http.StatusOK || a.body != body {
		t.Errorf("%s: %d %s, want %s", name, a.status, a.body, body)
	}
}

func (e *edge) linkedSince(at time.Time) string {
	return `{"linked":true,"since":"` + at.UTC().Format(time.RFC3339Nano) + `"}`
}

// view sends a page view, and answers the row that the warehouse gets of it.
func (e *edge) view(id, cookie string) pseudonymize.Row {
	e.t.Helper()
	if n, refused := e.events(`{"id":"`+id+`","type":"page_view"}`, "Cookie", cookie, "Origin", origin); n != 1 {
		e.t.Fatalf("%s: %v", id, refused)
	}
	d, err := pseudonymize.NewDestination("warehouse", []string{"audience", policies.Linking}, exportKey)
	if err != nil {
		e.t.Fatal(err)
	}
	records, err := e.spool.Peek(e.t.Context(), e.spool.Tail()-1, 1)
	if err != nil || len(records) != 1 {
		e.t.Fatal(len(records), err)
	}
	event, err := records[0].Event.Open(e.subjects, spoolKey)
	if err != nil {
		e.t.Fatal(err)
	}
	row, ok := d.Project(&event)
	if !ok {
		e.t.Fatalf("%s: no row", id)
	}
	return row
}

// From the login on, and until the logout, rows of the device carry the person; nothing before, nothing after, and another login ends it.
func TestIdentify(t *testing.T) {
	e := openLogin(t)
	cookie, _ := e.agree("audience", policies.Linking)
	if row := e.view("before", cookie); row.Person != nil {
		t.Error("joined before the login")
	}
	e.clock.forward(time.Second)
	since := e.clock.now()
	claim := e.claim("1", "user", "anna", "loyalty", "A-1")
	e.identify(claim, cookie).want200(t, "login", e.linkedSince(since))
	e.clock.forward(time.Second)
	anna := e.view("anna", cookie).Person
	if anna == nil {
		t.Fatal("not joined after the login")
	}
	e.identify(claim, cookie).want200(t, "retry", e.linkedSince(since))
	e.identify(e.claim("2", "loyalty", "A-1"), cookie).want200(t, "login again", e.linkedSince(since))
	if row := e.view("again", cookie); row.Person == nil || *row.Person != *anna {
		t.Error("another person")
	}
	e.clock.forward(time.Second)
	e.identify(e.claim("3", "user", "bert"), cookie).want200(t, "another", e.linkedSince(e.clock.now()))
	e.clock.forward(time.Second)
	if row := e.view("bert", cookie); row.Person == nil || *row.Person == *anna {
		t.Error("Bert is not told from Anna")
	}
	e.identify(claim, cookie).want(t, "Anna's claim, while Bert is signed in", 403, "claim")
	e.signOut(cookie).want200(t, "logout", `{"linked":false}`)
	e.signOut(cookie).want200(t, "logout again", `{"linked":false}`)
	e.clock.forward(time.Second)
	if row := e.view("after", cookie); row.Person != nil {
		t.Error("joined after the logout")
	}
	e.identify(e.claim("3", "user", "bert"), cookie).want(t, "Bert's claim, after he has signed out", 403, "claim")
}

// An app does the same by its credential, and a back-end by a token.
func TestIdentifyByAppAndToken(t *testing.T) {
	e := openLogin(t)
	cookie, _ := e.agree("audience", policies.Linking)
	credential := strings.TrimPrefix(cookie, "octroi-dev=")
	app := []string{"Authorization", "Bearer " + credential, "Content-Type", "application/json"}
	e.post("/v1/identify", `{"k":"demo","claim":"`+e.claim("1", "user", "anna")+`"}`, app...).want200(t, "app", e.linkedSince(e.clock.now()))
	e.send(http.MethodDelete, "/v1/identify", `{"k":"demo"}`, app...).want200(t, "app's logout", `{"linked":false}`)

	token := []string{"Authorization", e.token(collector.TokenClaims{Scopes: []string{collector.ScopeIdentify}, Sites: []string{"shop"}}), "Content-Type", "application/json"}
	e.clock.forward(time.Second)
	e.post("/v1/identify", `{"device":"`+credential+`","subject":{"user":"anna"}}`, token...).want200(t, "token", e.linkedSince(e.clock.now()))
	e.clock.forward(time.Second)
	if row := e.view("joined", cookie); row.Person == nil {
		t.Error("not joined by the token")
	}
	e.send(http.MethodDelete, "/v1/identify", `{"device":"`+credential+`","site":"shop"}`, token...).want200(t, "token's logout", `{"linked":false}`)
	if row := e.view("parted", cookie); row.Person != nil {
		t.Error("joined after the token's logout")
	}
}

// G15: to a site key every reason that is the person's reads the same; nobody is created for it.
func TestIdentifyWithoutConsent(t *testing.T) {
	e := openLogin(t)
	refused, _ := e.agree("audience")
	withdrawn, _ := e.agree("audience", policies.Linking)
	e.post("/v1/consents/withdraw?k=demo", `{"purposes":["linking"]}`, "Cookie", withdrawn, "Origin", origin)
	subjects := e.subjects.Count()
	var body string
	for name, cookie := range map[string]string{
		"linking refused": refused, "linking withdrawn": withdrawn, "an unknown cookie": "octroi-dev=AAAAAAAAAAAAAAAAAAAAAA",
		"a malformed cookie": "octroi-dev=x", "no cookie": "other=1",
	} {
		a := e.identify(e.claim("of "+strings.ReplaceAll(name, " ", "-"), "user", "nobody"), cookie)
		a.want(t, name, 409, "no_consent")
		if body == "" {
			body = a.body
		}
		if a.body != body {
			t.Errorf("%s: %s differs from %s", name, a.body, body)
		}
	}
	if n := e.subjects.Count(); n != subjects {
		t.Errorf("%d subjects were created", n-subjects)
	}
	token := []string{"Authorization", e.token(collector.TokenClaims{Scopes: []string{collector.ScopeIdentify}})}
	device := strings.TrimPrefix(refused, "octroi-dev=")
	e.post("/v1/identify?k=demo", `{"device":"`+device+`","subject":{"user":"nobody"}}`, token...).want(t, "to a token", 409, "no_linking")
	e.post("/v1/identify?k=demo", `{"device":"AAAAAAAAAAAAAAAAAAAAAA","subject":{"user":"nobody"}}`, token...).want(t, "to a token", 404, "no_record")
	e.signOut("octroi-dev=AAAAAAAAAAAAAAAAAAAAAA").want200(t, "nobody signs out", `{"linked":false}`)
}

// Who may not, and what may not be said. Nothing of it is repeated or logged.
func TestIdentifyRefused(t *testing.T) {
	e := openLogin(t)
	cookie, _ := e.agree("audience", policies.Linking)
	device := strings.TrimPrefix(cookie, "octroi-dev=")
	good := func(id string) string { return `{"claim":"` + e.claim("canary-"+id, "user", "canary-user") + `"}` }
	own := []string{"Cookie", cookie, "Origin", origin, "Content-Type", "application/json"}
	bearer := func(c collector.TokenClaims) []string {
		return []string{"Authorization", e.token(c), "Content-Type", "application/json"}
	}
	named := `{"device":"` + device + `","subject":{"user":"canary-user"}}`
	for name, x := range map[string]struct {
		method, path, body string
		header             []string
		status             int
		code               string
	}{
		"a forged claim":          {"POST", "/v1/identify?k=demo", `{"claim":"canary.canary.canary"}`, own, 403, "claim"},
		"another site's":          {"POST", "/v1/identify?k=other-key", good("a"), []string{"Cookie", cookie, "Origin", "https://other.example"}, 403, "login_key"},
		"no site key":             {"POST", "/v1/identify", good("b"), own, 401, "site_key"},
		"another origin":          {"POST", "/v1/identify?k=demo", good("c"), []string{"Cookie", cookie, "Origin", "https://evil.example"}, 403, "origin"},
		"a form of another site":  {"POST", "/v1/identify?k=demo", good("d"), []string{"Cookie", cookie, "Sec-Fetch-Site", "cross-site"}, 403, "origin"},
		"a key names a person":    {"POST", "/v1/identify?k=demo", `{"subject":{"user":"canary-user"}}`, own, 403, "subject"},
		"beside a claim":          {"POST", "/v1/identify?k=demo", strings.Replace(good("e"), "{", `{"subject":{"user":"canary-user"},`, 1), own, 403, "subject"},
		"a key names a device":    {"POST", "/v1/identify?k=demo", strings.Replace(good("f"), "{", `{"device":"`+device+`",`, 1), own, 403, "subject"},
		"a key names a site":      {"POST", "/v1/identify?k=demo", strings.Replace(good("g"), "{", `{"site":"other",`, 1), own, 403, "subject"},
		"no claim":                {"POST", "/v1/identify?k=demo", `{}`, own, 400, "field"},
		"no body":                 {"POST", "/v1/identify?k=demo", ``, own, 400, "field"},
		"an unknown member":       {"POST", "/v1/identify?k=demo", `{"canary":1}`, own, 400, "field"},
		"a member twice":          {"POST", "/v1/identify?k=demo", `{"claim":"a","claim":"b"}`, own, 400, "duplicate_name"},
		"not JSON":                {"POST", "/v1/identify?k=demo", `{`, own, 400, "json"},
		"too long":                {"POST", "/v1/identify?k=demo", `{"claim":"` + strings.Repeat("x", 17<<10) + `"}`, own, 413, "size"},
		"an unknown namespace":    {"POST", "/v1/identify?k=demo", `{"claim":"` + e.claim("ns", "passport", "canary-user") + `"}`, own, 400, "namespace"},
		"no address":              {"POST", "/v1/identify?k=demo", `{"claim":"` + e.claim("mail", "email", "canary-user") + `"}`, own, 400, "identifier"},
		"a token without scope":   {"POST", "/v1/identify?k=demo", named, bearer(collector.TokenClaims{Scopes: []string{collector.ScopeConsent, collector.ScopeEvents}}), 403, "scope"},
		"a token of another site": {"POST", "/v1/identify?k=demo", named, bearer(collector.TokenClaims{Scopes: []string{collector.ScopeIdentify}, Sites: []string{"other"}}), 403, "site"},
		"a token with a claim":    {"POST", "/v1/identify?k=demo", good("h"), bearer(collector.TokenClaims{Scopes: []string{collector.ScopeIdentify}}), 400, "field"},
		"a token names nobody":    {"POST", "/v1/identify?k=demo", `{"device":"` + device + `"}`, bearer(collector.TokenClaims{Scopes: []string{collector.ScopeIdentify}}), 400, "field"},
		"a token names no device": {"POST", "/v1/identify?k=demo", `{"subject":{"user":"canary-user"}}`, bearer(collector.TokenClaims{Scopes: []string{collector.ScopeIdentify}}), 400, "field"},
		"a token's bad device":    {"POST", "/v1/identify?k=demo", `{"device":"canary","subject":{"user":"u"}}`, bearer(collector.TokenClaims{Scopes: []string{collector.ScopeIdentify}}), 400, "field"},
		"a logout with a claim":   {"DELETE", "/v1/identify?k=demo", good("i"), own, 400, "field"},
		"a logout by a device":    {"DELETE", "/v1/identify?k=demo", `{"device":"` + device + `"}`, own, 403, "subject"},
		"a logout from elsewhere": {"DELETE", "/v1/identify?k=demo", ``, []string{"Cookie", cookie, "Origin", "https://evil.example"}, 403, "origin"},
		"a logout without scope":  {"DELETE", "/v1/identify?k=demo", `{"device":"` + device + `"}`, bearer(collector.TokenClaims{Scopes: []string{collector.ScopeEvents}}), 403, "scope"},
	} {
		a := e.send(x.method, x.path, x.body, x.header...)
		a.want(t, name, x.status, x.code)
		if strings.Contains(a.body, "canary") || strings.Contains(a.body, "eyJ") {
			t.Errorf("%s: the answer repeats what was sent: %s", name, a.body)
		}
	}
	if text := e.logs.String(); strings.Contains(text, "canary") || strings.Contains(text, "eyJ") || strings.Contains(text, device) {
		t.Error("the log holds something of a claim")
	}
	if row := e.view("after", cookie); row.Person != nil {
		t.Error("one of them has linked")
	}
}

// A claim that is seen in passing is of no use on another device: not before its own has used it twice, nor after.
func TestClaimOfAnotherDevice(t *testing.T) {
	e := openLogin(t)
	mine, _ := e.agree("audience", policies.Linking)
	thief, _ := e.agree("audience", policies.Linking)
	claim := e.claim("1", "user", "anna")
	e.identify(claim, mine).want200(t, "its own", e.linkedSince(e.clock.now()))
	e.identify(claim, thief).want(t, "another's", 403, "claim")
	if row := e.view("thief", thief); row.Person != nil {
		t.Error("the thief is joined to the person")
	}
	e.clock.forward(5*time.Minute + time.Minute) // as long as its own may still say it, with the clock's tolerance
	e.identify(claim, mine).want(t, "when it is over", 403, "claim")
}

// Identifiers of two persons are never joined, nor a person given a second value in a namespace.
func TestClaimOfTwoPersons(t *testing.T) {
	e := openLogin(t)
	cookie, _ := e.agree("audience", policies.Linking)
	e.identify(e.claim("1", "user", "anna"), cookie)
	e.identify(e.claim("2", "loyalty", "B-1"), cookie)
	e.identify(e.claim("3", "user", "anna", "loyalty", "B-1"), cookie).want(t, "two persons", 422, "two_persons")
	e.identify(e.claim("4", "loyalty", "B-1", "user", "bert"), cookie).want200(t, "a new identifier", e.linkedSince(e.clock.now()))
	e.identify(e.claim("5", "loyalty", "B-2", "user", "bert"), cookie).want(t, "a second card", 422, "namespace_taken")
}

// A login after the erasure of a person is of a new one.
func TestLoginAfterErasure(t *testing.T) {
	e := openLogin(t)
	cookie, _ := e.agree("audience", policies.Linking)
	old, unused := e.claim("1", "loyalty", "77"), e.claim("unused", "loyalty", "77")
	e.identify(old, cookie)
	e.clock.forward(time.Second)
	before := e.view("before", cookie)
	e.erase("77")
	slots := e.subjects.Count()
	for name, claim := range map[string]string{"a retry": old, "a claim that waited": unused} {
		e.identify(claim, cookie).want(t, name+" from before", 409, "no_consent")
	}
	if e.subjects.Count() != slots {
		t.Error("a claim from before brought the erased back")
	}
	if row := e.view("erased", cookie); row.Person != nil {
		t.Error("rows still carry the erased")
	}
	e.clock.forward(time.Second)
	e.identify(e.claim("2", "loyalty", "77"), cookie).want200(t, "a login after", e.linkedSince(e.clock.now()))
	e.clock.forward(time.Second)
	after := e.view("after", cookie)
	if after.Person == nil || *after.Person == *before.Person || after.PersonSlot == before.PersonSlot {
		t.Error("it is not a new person")
	}
	if *after.Device != *before.Device {
		t.Error("the device is another")
	}
}

// G12: links take the rate of consent posts; a known device is never kept from signing out.
func TestIdentifyIsThrottled(t *testing.T) {
	e := openLogin(t, func(o *collector.Options, _ *spool.Options) { o.ConsentRate = 1 })
	cookie, _ := e.agree("audience", policies.Linking) // takes one of the burst
	for i := range 19 {
		if a := e.identify(e.claim(fmt.Sprint(i), "user", "anna"), cookie); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	e.identify(e.claim("next", "user", "anna"), cookie).want(t, "the next", 429, "rate")
	e.signOut("octroi-dev=AAAAAAAAAAAAAAAAAAAAAA").want(t, "nobody's logout", 429, "rate")
	e.signOut(cookie).want200(t, "logout", `{"linked":false}`)
}

// A page signs out with DELETE, which browsers ask about first; no other path allows it.
func TestIdentifyPreflight(t *testing.T) {
	e := openLogin(t)
	for path, want := range map[string]string{"/v1/identify": "GET, POST, DELETE", "/v1/consents": "GET, POST", "/v1/events": "GET, POST"} {
		a := e.send(http.MethodOptions, path, "", "Origin", origin, "Access-Control-Request-Method", "DELETE")
		if a.status != 204 || a.header.Get("Access-Control-Allow-Methods") != want || a.header.Get("Access-Control-Allow-Origin") != origin {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
	}
	a := e.send(http.MethodOptions, "/v1/identify", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "DELETE")
	if a.header.Get("Access-Control-Allow-Methods") != "" || a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("an unlisted origin: %v", a.header)
	}
}

// G2: what the ledger cannot write is a 503.
func TestIdentifyFailsClosed(t *testing.T) {
	e := openLogin(t)
	cookie, _ := e.agree("audience", policies.Linking)
	claim := e.claim("1", "user", "anna")
	if err := e.state.Close(); err != nil {
		t.Fatal(err)
	}
	if a := e.identify(claim, cookie); a.status != 503 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := e.signOut(cookie); a.status != 503 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// A login key that nothing can be checked with stops the gateway, not the login.
func TestLoginKeyOfSite(t *testing.T) {
	o := collector.Options{
		Sites: []collector.Site{{Key: "demo", Name: "shop", Login: []byte("a key")}}, Policy: testPolicy(t), Issuer: "node",
		Tokens: shopKey.Public().(ed25519.PublicKey), Receipts: shopKey.Public().(ed25519.PublicKey),
	}
	e := open(t)
	o.Subjects, o.Ledger, o.Spool = e.subjects, e.ledger, e.spool
	if _, err := collector.New(o); err == nil || !strings.Contains(err.Error(), `site "shop": login key`) {
		t.Error(err)
	}
}
