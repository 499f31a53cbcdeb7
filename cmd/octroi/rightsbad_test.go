package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/export/rights/letter"
	"github.com/octroi/octroi/export/rights/proof"
)

// guichet is an estate as strangers, persons and officers meet it over HTTP. It keeps every refusal, to be searched for what none may hold.
type guichet struct {
	*estate
	refusals bytes.Buffer
	secrets  []string // what no refusal and no log may hold
}

func newGuichet(t *testing.T) *guichet {
	t.Helper()
	c := &guichet{estate: newEstate(t), secrets: []string{"CANARY", "canary"}}
	c.edit("listen:", "listen:\n  consent_rate: 1000000")
	c.start()
	for _, name := range []string{"till", "officer", "custody"} {
		token, err := os.ReadFile(c.tokenFile(name))
		if err != nil {
			t.Fatal(err)
		}
		c.secrets = append(c.secrets, strings.TrimSpace(string(token)))
	}
	return c
}

// newcomer is a browser that has consented.
func (c *guichet) newcomer() *http.Cookie {
	c.t.Helper()
	c.cookie = nil
	c.consent()
	c.secrets = append(c.secrets, c.cookie.Value)
	return c.cookie
}

// answered is what came back.
type answered struct {
	status int
	code   string // of a problem document
	detail string
	text   []byte
	header http.Header
}

// send sends a request; header holds names and values in turn.
func (c *guichet) send(method, address, body string, header ...string) answered {
	c.t.Helper()
	req, err := http.NewRequest(method, "http://"+address, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil && len(body) > 1<<20 {
		return answered{status: http.StatusRequestEntityTooLarge} // the connection was cut before all of it was sent
	}
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	a := answered{status: resp.StatusCode, text: text, header: resp.Header}
	if a.status >= http.StatusBadRequest {
		c.refusals.Write(text)
		var p struct{ Code, Detail string }
		if json.Unmarshal(text, &p) == nil {
			a.code, a.detail = p.Code, p.Detail
		}
	}
	return a
}

// want fails unless the answer has the status.
func (c *guichet) want(name string, a answered, status int) {
	c.t.Helper()
	if a.status != status {
		c.t.Errorf("%s: %d, want %d: %.300s", name, a.status, status, a.text)
	}
}

// own are the headers of a page of the site in a browser with the cookie.
func (c *guichet) own(cookie *http.Cookie) []string {
	return []string{"Cookie", cookie.Name + "=" + cookie.Value, "Origin", "http://" + c.public}
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// silent fails where a refusal or the gateway's log holds what it must not.
func (c *guichet) silent() {
	c.t.Helper()
	log, err := os.ReadFile(filepath.Join(c.dir, "gateway.log"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, secret := range c.secrets {
		for where, text := range map[string][]byte{"a refusal": c.refusals.Bytes(), "the gateway's log": log} {
			if bytes.Contains(text, []byte(secret)) {
				c.t.Errorf("%s holds %q", where, secret)
			}
		}
	}
	if len(c.secrets) < 5 || c.refusals.Len() < 1000 {
		c.t.Errorf("%d secrets were looked for in %d bytes of refusals", len(c.secrets), c.refusals.Len())
	}
}

// Rights.md D5, D6, D14: what is public, or another's, proves nothing; who asks with it learns nothing, not even whether there is a request.
func TestRightsRefuseStrangers(t *testing.T) {
	t.Parallel()
	c := newGuichet(t)
	other := c.newcomer()
	mine := c.newcomer()
	c.visit(1, "campaign")
	id := c.mine("access").ID
	nobody := "AAAAAAAAAAAAAAAAAAAAAA"
	strangers := map[string][]string{
		"the site key alone": nil,
		"an unknown cookie":  {"Cookie", mine.Name + "=" + nobody},
		"no cookie at all":   {"Cookie", mine.Name + "=CANARY"},
		"another visitor":    c.own(other),
		"a wrong secret":     bearer(nobody),
		"the id as secret":   {"Authorization", "Basic " + id, "Cookie", mine.Name + "=" + nobody},
	}
	for name, header := range strangers {
		for _, route := range []string{"GET /v1/me/requests/" + id, "GET /v1/me/requests/" + id + "/package", "GET /v1/me/requests/" + id + "/certificate", "POST /v1/me/requests/" + id + "/cancel"} {
			method, path, _ := strings.Cut(route, " ")
			theirs := c.send(method, c.public+path+"?k=demo", "", header...)
			absent := c.send(method, c.public+strings.Replace(path, id, uuid.NewString(), 1)+"?k=demo", "", header...)
			if theirs.status != http.StatusNotFound && theirs.status != http.StatusUnauthorized || !bytes.Equal(theirs.text, absent.text) {
				t.Errorf("%s, %s: %d %s; of a request that is not there: %s", name, route, theirs.status, theirs.text, absent.text)
			}
		}
	}
	for _, name := range []string{"the site key alone", "an unknown cookie", "no cookie at all"} {
		a := c.send(http.MethodPost, c.public+"/v1/me/requests?k=demo", `{"right":"erasure"}`, strangers[name]...)
		if a.status != http.StatusOK || c.asked(a.text).Result != "no_match" || !bytes.Contains(a.text, []byte("cookie")) {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
		a = c.send(http.MethodGet, c.public+"/v1/me/requests?k=demo", "", strangers[name]...)
		if string(a.text) != `{"requests":[]}` {
			t.Errorf("%s lists %s", name, a.text)
		}
	}
	c.foreignPages(mine)
	c.bodies(mine, other)
	c.cookie = mine
	c.opensOnce(id, mine)
	c.silent()
}

// foreignPages: a page of another site cannot ask in the name of who looks at it.
func (c *guichet) foreignPages(mine *http.Cookie) {
	c.t.Helper()
	cookie := []string{"Cookie", mine.Name + "=" + mine.Value}
	post := func(header ...string) answered {
		return c.send(http.MethodPost, c.public+"/v1/me/requests?k=demo", `{"right":"erasure"}`, append(cookie, header...)...)
	}
	c.want("another origin", post("Origin", "https://evil.example"), http.StatusForbidden)
	c.want("no origin", post("Origin", "null"), http.StatusForbidden)
	c.want("a form elsewhere", post("Sec-Fetch-Site", "cross-site", "Content-Type", "text/plain"), http.StatusForbidden)
	c.want("an access token beside the cookie", post(bearer(c.officer)...), http.StatusForbidden)
	if a := post("Origin", "https://evil.example"); a.header.Get("Access-Control-Allow-Origin") != "" {
		c.t.Error("a foreign page can read the answer")
	}
}

// bodies: the site key stands where it stands in consents; everything that is not asked for is refused.
func (c *guichet) bodies(mine, other *http.Cookie) {
	c.t.Helper()
	post := func(query, body string) answered {
		return c.send(http.MethodPost, c.public+"/v1/me/requests"+query, body, c.own(mine)...)
	}
	c.want("the key in the body", post("", `{"k":"demo","right":"access"}`), http.StatusOK) // the same request again
	c.want("an unknown key in the body", post("", `{"k":"CANARY","right":"access"}`), http.StatusUnauthorized)
	c.want("two keys", post("?k=demo", `{"k":"CANARY","right":"access"}`), http.StatusBadRequest)
	for name, body := range map[string]string{
		"nothing":            ``,
		"an unknown right":   `{"right":"CANARY"}`,
		"an unknown member":  `{"right":"access","CANARY":1}`,
		"a member twice":     `{"right":"access","right":"erasure"}`,
		"in another case":    `{"right":"access","Right":"erasure"}`,
		"another's e-mail":   `{"right":"access","subject":{"email":"canary.anna@example.org"}}`,
		"another's device":   `{"right":"access","device":"AAAAAAAAAAAAAAAAAAAAAA"}`,
		"an earlier arrival": `{"right":"access","received_at":"2020-01-01T00:00:00Z"}`,
		"unknown purposes":   `{"right":"erasure","purposes":["CANARY"]}`,
		"two values":         `{"right":"access"}{"right":"erasure"}`,
		"another type":       `{"right":["access"]}`,
		"no JSON":            `right=access&canary=1`,
		"not UTF-8":          "{\"right\":\"\xff\"}",
		"a bomb":             strings.Repeat("[", 60_000),
		"a bomb of members":  strings.Repeat(`{"subject":`, 5_000) + "1" + strings.Repeat("}", 5_000),
	} {
		c.want(name, post("?k=demo", body), http.StatusUnprocessableEntity)
	}
	c.want("no recipient", c.send(http.MethodPost, c.public+"/v1/me/requests?k=demo", `{"right":"access","recipient":"CANARY"}`, c.own(other)...),
		http.StatusUnprocessableEntity)
	c.want("too much", post("?k=demo", `{"right":"`+strings.Repeat("CANARY", 200_000)+`"}`), http.StatusRequestEntityTooLarge)
	list := c.send(http.MethodGet, c.public+"/v1/me/requests?k=demo", "", c.own(mine)...)
	if n := bytes.Count(list.text, []byte(`"id"`)); n != 1 {
		c.t.Errorf("%d requests were made of what was refused: %s", n-1, list.text)
	}
}

// opensOnce: neither a browser's guess nor a HEAD opens a package.
func (c *guichet) opensOnce(id string, mine *http.Cookie) {
	c.t.Helper()
	c.carryOut(id)
	path := c.public + "/v1/me/requests/" + id + "/package?k=demo"
	for _, header := range [][]string{{"Sec-Purpose", "prefetch;prerender"}, {"Purpose", "prefetch"}, {"X-Moz", "prefetch"}} {
		c.want(header[0], c.send(http.MethodGet, path, "", append(c.own(mine), header...)...), http.StatusForbidden)
	}
	if a := c.send(http.MethodHead, path, "", c.own(mine)...); a.status < 400 {
		c.t.Errorf("HEAD: %d", a.status)
	}
	c.want("an unknown format", c.send(http.MethodGet, path+"&format=CANARY", "", c.own(mine)...), http.StatusUnprocessableEntity)
	a := c.send(http.MethodGet, path, "", c.own(mine)...)
	c.want("opening", a, http.StatusOK)
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Referrer-Policy") != "no-referrer" {
		c.t.Errorf("headers %v", a.header)
	}
	c.want("opening again", c.send(http.MethodGet, path, "", c.own(mine)...), http.StatusGone)
}

// Every private route of rights has one scope, and no other one opens it.
func TestRightsNeedTheirScope(t *testing.T) {
	t.Parallel()
	c := newGuichet(t)
	tokens := map[string]string{}
	for _, scope := range []string{"rights:manage", "rights:read", "custody", "admin", "events:write", "stream:warehouse", "backup"} {
		tokens[scope] = c.token(strings.ReplaceAll(scope, ":", "-"), collector.TokenClaims{Scopes: []string{scope}})
		c.secrets = append(c.secrets, tokens[scope])
	}
	tokens["expired"] = c.tokenUntil("expired", collector.TokenClaims{Scopes: []string{"rights:manage", "rights:read", "custody"}}, time.Now().Add(-time.Hour))
	request, batch := "/v1/rights/requests/"+uuid.NewString(), "/v1/custody/batches/"+strings.Repeat("0", 32)
	custody := "/v1/custody/requests/" + uuid.NewString()
	for route, scope := range map[string]string{
		"POST /v1/rights/requests": "rights:manage", "GET /v1/rights/requests": "rights:read", "GET " + request: "rights:read",
		"GET " + request + "/job": "rights:manage", "GET " + request + "/package": "rights:manage", "GET " + request + "/certificate": "rights:read",
		"POST " + request + "/verify": "rights:manage", "POST " + request + "/approve": "rights:manage", "POST " + request + "/deny": "rights:manage",
		"POST " + request + "/extend": "rights:manage", "POST " + request + "/ask": "rights:manage", "POST " + request + "/answer": "rights:manage",
		"POST " + request + "/cancel": "rights:manage", "POST " + request + "/CANARY": "rights:manage",
		"GET /v1/rights/schedule": "rights:read", "POST /v1/rights/schedule": "rights:manage",
		"GET /v1/custody/work": "custody", "POST " + batch + "/claim": "custody", "POST " + batch + "/rewritten": "custody",
		"POST " + batch + "/purged": "custody", "POST " + batch + "/failed": "custody",
		"PUT " + custody + "/package": "custody", "POST " + custody + "/certificate": "custody", "POST " + custody + "/refused": "custody",
	} {
		method, path, _ := strings.Cut(route, " ")
		c.want(route+" without a token", c.send(method, c.private+path, "{}"), http.StatusUnauthorized)
		for name, token := range tokens {
			a := c.send(method, c.private+path, "{}", bearer(token)...)
			switch {
			case name == "expired":
				c.want(route+" with an expired token", a, http.StatusUnauthorized)
			case name != scope:
				c.want(route+" with "+name, a, http.StatusForbidden)
			case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden || a.status >= 500:
				t.Errorf("%s with its scope: %d %s", route, a.status, a.text)
			}
			c.want(route+" at the public listener", c.send(method, c.public+path, "{}", bearer(token)...), http.StatusNotFound)
		}
	}
	c.silent()
}

// open enters a request for a customer, and answers its id.
func (c *guichet) open(right, card string) string {
	c.t.Helper()
	a := c.send(http.MethodPost, c.private+"/v1/rights/requests", fmt.Sprintf(`{"right":%q,"subject":{"loyalty":%q}}`, right, card), bearer(c.officer)...)
	if a.status != http.StatusCreated {
		c.t.Fatalf("entering a request: %d %s", a.status, a.text)
	}
	return c.asked(a.text).ID
}

func (c *guichet) decide(id, action, body string) answered {
	c.t.Helper()
	return c.send(http.MethodPost, c.private+"/v1/rights/requests/"+id+"/"+action, body, bearer(c.officer)...)
}

// possible fails unless the action is refused as not possible, and the answer says what is.
func (c *guichet) possible(id, action, body, possible string) {
	c.t.Helper()
	if a := c.decide(id, action, body); a.status != http.StatusConflict || !strings.HasSuffix(a.detail, "possible: "+possible) {
		c.t.Errorf("%s: %d %s, want 409 and what is possible: %s", action, a.status, a.text, possible)
	}
}

// Rights.md D2 to D4 and the custodian's rule: states, deadlines, reasons, and signatures of this very job.
func TestDecisionsAreChecked(t *testing.T) {
	t.Parallel()
	c := newGuichet(t)
	for i := range 12 {
		c.sell(fmt.Sprintf("sale-%d", i), "product", map[string]string{"loyalty": fmt.Sprintf("CANARY-CARD-%d", i)}, time.Now())
	}
	c.approvals()
	c.denials()
	c.extensions()
	c.unsigned()
	for _, id := range []string{uuid.NewString(), "CANARY", strings.Repeat("a", 500), "%2e%2e"} {
		for _, action := range []string{"verify", "approve", "deny", "extend", "cancel"} {
			c.want("of no request", c.decide(id, action, "{}"), http.StatusNotFound)
		}
	}
	c.silent()
}

// job is the job of a request; its pseudonyms must not be seen elsewhere.
func (c *guichet) job(id string) proof.Job {
	c.t.Helper()
	var j proof.Job
	if err := json.Unmarshal(c.ask(http.MethodGet, c.private+"/v1/rights/requests/"+id+"/job", c.officer, nil, http.StatusOK), &j); err != nil {
		c.t.Fatal(err)
	}
	for _, d := range j.Destinations {
		c.secrets = append(append(c.secrets, d.Devices...), d.Persons...)
	}
	return j
}

func (c *guichet) approval(j proof.Job, key ed25519.PrivateKey) string {
	c.t.Helper()
	text, err := proof.Approve(j, key)
	if err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprintf(`{"approval":%q}`, text)
}

// approvals: only a signature of the pinned key, of this very job, approves it, and once.
func (c *guichet) approvals() {
	c.t.Helper()
	key, err := keyfile.ReadSigning(filepath.Join(c.dir, dpoDir, "approval.key"), "approval")
	if err != nil {
		c.t.Fatal(err)
	}
	stranger, err := keyfile.ReadSigning(filepath.Join(c.dir, custodianDir, "custodian.key"), "custodian")
	if err != nil {
		c.t.Fatal(err)
	}
	id, other := c.open("erasure", "CANARY-CARD-0"), c.open("erasure", "CANARY-CARD-1")
	job, others := c.job(id), c.job(other)
	c.possible(id, "approve", c.approval(job, key), "verify, deny, extend, ask, cancel")
	c.want("verifying", c.decide(id, "verify", ""), http.StatusOK)
	c.possible(id, "verify", "", "approve, deny, extend, ask, cancel")
	changed := job
	changed.Destinations = others.Destinations
	access := job
	access.Right = proof.Access
	narrowed := job
	narrowed.Purposes = []string{"audience"}
	unsigned := strings.Split(c.approval(job, key), ".")
	for name, body := range map[string]string{
		"no approval":         `{}`,
		"another's key":       c.approval(job, stranger),
		"of another request":  c.approval(others, key),
		"of another's rows":   c.approval(changed, key),
		"of another right":    c.approval(access, key),
		"of fewer purposes":   c.approval(narrowed, key),
		"cut short":           unsigned[0] + "." + unsigned[1] + `."}`,
		"not of a decision":   `{"approval":"CANARY"}`,
		"an unknown member":   `{"approved":true}`,
		"a member twice":      `{"approval":"","approval":""}`,
		"in place of a text":  `{"approval":{}}`,
		"nothing but a bomb ": strings.Repeat("[", 100_000),
	} {
		c.want("approving by "+name, c.decide(id, "approve", body), http.StatusUnprocessableEntity)
	}
	c.want("too much", c.decide(id, "approve", `{"approval":"`+strings.Repeat("C", 3<<20)+`"}`), http.StatusRequestEntityTooLarge)
	if s := c.state(id); s != "pending" {
		c.t.Fatalf("the request is %s", s)
	}
	c.want("approving", c.decide(id, "approve", c.approval(job, key)), http.StatusOK)
	for c.state(id) == "approved" {
		time.Sleep(20 * time.Millisecond)
	}
	c.possible(id, "approve", c.approval(job, key), "extend")
	c.possible(id, "cancel", "", "extend") // the subject's key is destroyed
	c.want("a replay on another request", c.decide(other, "verify", ""), http.StatusOK)
	c.want("a replay on another request", c.decide(other, "approve", c.approval(job, key)), http.StatusUnprocessableEntity)
}

// denials: each right has its reasons, and no others; the letter names complaint and court (GDPR Art. 12(4)).
func (c *guichet) denials() {
	c.t.Helper()
	card := 2
	for _, right := range []string{"access", "erasure"} {
		for _, reason := range letter.Denials(right) {
			id := c.open(right, fmt.Sprintf("CANARY-CARD-%d", card%10+2))
			card++
			for _, unlisted := range []string{"", "because", "CANARY", map[string]string{"access": letter.LegalDuty, "erasure": letter.RightsOfOthers}[right]} {
				c.want(right+" denied as "+unlisted, c.decide(id, "deny", fmt.Sprintf(`{"reason":%q}`, unlisted)), http.StatusUnprocessableEntity)
			}
			c.want("denying", c.decide(id, "deny", fmt.Sprintf(`{"reason":%q}`, reason)), http.StatusOK)
			for _, action := range []string{"verify", "approve", "deny", "extend", "ask", "answer", "cancel"} {
				c.possible(id, action, `{"reason":"unfounded"}`, "nothing")
			}
		}
	}
}

// extensions: by two months in all, for a reason of the law (GDPR Art. 12(3)).
func (c *guichet) extensions() {
	c.t.Helper()
	id := c.open("access", "CANARY-CARD-11")
	for _, body := range []string{`{}`, `{"reason":"because"}`, `{"reason":"unfounded"}`} {
		c.want("extending by "+body, c.decide(id, "extend", body), http.StatusUnprocessableEntity)
	}
	for _, months := range []int{3, -1, 1 << 40} {
		c.want("too far", c.decide(id, "extend", fmt.Sprintf(`{"reason":%q,"months":%d}`, letter.Complexity, months)), http.StatusConflict)
	}
	one := fmt.Sprintf(`{"reason":%q,"months":1}`, letter.Complexity)
	c.want("by a month", c.decide(id, "extend", one), http.StatusOK)
	c.want("by two", c.decide(id, "extend", fmt.Sprintf(`{"reason":%q,"months":2}`, letter.Complexity)), http.StatusConflict)
	c.want("by another month", c.decide(id, "extend", one), http.StatusOK)
	c.want("by a third", c.decide(id, "extend", one), http.StatusConflict)
	c.want("asking", c.decide(id, "ask", ""), http.StatusOK)
	c.possible(id, "verify", "", "deny, answer, cancel")
}

// unsigned: who holds the custodian's token, and not its key, says nothing that counts.
func (c *guichet) unsigned() {
	c.t.Helper()
	token, err := os.ReadFile(c.tokenFile("custody"))
	if err != nil {
		c.t.Fatal(err)
	}
	header := bearer(strings.TrimSpace(string(token)))
	batch, request := "/v1/custody/batches/"+strings.Repeat("0", 32), "/v1/custody/requests/"+c.open("access", "CANARY-CARD-10")
	for route, want := range map[string]int{
		"/v1/custody/batches/CANARY/claim {\"custodian\":\"a-custodian\"}": http.StatusNotFound,
		batch + `/claim {"custodian":"a-custodian"}`:                       http.StatusNotFound,
		batch + `/claim {}`:                                           http.StatusUnprocessableEntity,
		batch + `/rewritten {"report":"CANARY"}`:                      http.StatusConflict,
		batch + `/purged {"report":"CANARY"}`:                         http.StatusConflict,
		batch + `/failed {"code":"gone","detail":"x"}`:                http.StatusNotFound,
		batch + `/failed {"code":"CANARY"}`:                           http.StatusUnprocessableEntity,
		request + `/certificate {"certificate":"CANARY"}`:             http.StatusConflict,
		request + `/refused {"code":"CANARY"}`:                        http.StatusUnprocessableEntity,
		request + `/refused {"code":"cap"}`:                           http.StatusConflict,
		request + `/refused {"code":"cap","detail":"two\nlines"}`:     http.StatusUnprocessableEntity,
		request + `/refused {"code":"cap","detail":"a","x":"CANARY"}`: http.StatusUnprocessableEntity,
	} {
		path, body, _ := strings.Cut(route, " ")
		c.want(route, c.send(http.MethodPost, c.private+path, body, header...), want)
	}
	c.want("a package without its report", c.send(http.MethodPut, c.private+request+"/package", "CANARY", header...), http.StatusConflict)
	c.want("a package with a false one", c.send(http.MethodPut, c.private+request+"/package", "CANARY", append(header, "X-Octroi-Report", "CANARY")...),
		http.StatusConflict)
}
