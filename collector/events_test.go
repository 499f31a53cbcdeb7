package collector_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/collector/spool"
	"github.com/octroi/octroi/pseudonymize"
)

const view = `{"id":"%s","type":"page_view","fields":{"url":"https://shop.example/p/1?gclid=x#top","campaign":"spring","secret":"s"}}`

func squeeze(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestEventsInAllForms(t *testing.T) {
	e := open(t)
	cookie, _ := e.agree("audience")
	n := 0
	next := func() string { n++; return fmt.Sprintf(view, fmt.Sprint("e", n)) }
	tests := []struct {
		name, path, media, encoding, body string
		events                            int
	}{
		{"one", "?k=demo", "application/json", "", next(), 1},
		{"key in the body", "", "application/json", "", `{"k":"demo",` + next()[1:], 1},
		{"array", "?k=demo", "application/json", "", "[" + next() + "," + next() + "]", 2},
		{"batch", "", "application/json", "", `{"k":"demo","batch":[` + next() + "," + next() + "]}", 2},
		{"lines", "?k=demo", "application/x-ndjson", "", next() + "\n" + next() + "\n", 2},
		{"a beacon's text", "?k=demo", "text/plain;charset=UTF-8", "", next(), 1},
		{"a text of lines", "?k=demo", "text/plain", "", next() + "\n" + next(), 2},
		{"gzip", "?k=demo", "application/json; charset=utf-8", "gzip", squeeze(t, "["+next()+"]"), 1},
		{"gzip of lines", "?k=demo", "application/x-ndjson", "gzip", squeeze(t, next()+"\n"+next()), 2},
		{"nothing", "?k=demo", "application/json", "", "[]", 0},
	}
	total := 0
	for _, test := range tests {
		header := []string{"Content-Type", test.media, "Cookie", cookie, "Origin", origin}
		if test.encoding != "" {
			header = append(header, "Content-Encoding", test.encoding)
		}
		a := e.post("/v1/events"+test.path, test.body, header...)
		a.want(t, test.name, http.StatusAccepted, "")
		if want := fmt.Sprintf(`{"accepted":%d,"refused":[]}`, test.events); a.body != want {
			t.Errorf("%s: %s, want %s", test.name, a.body, want)
		}
		total += test.events
	}
	rows := e.rows("audience")
	if len(rows) != total {
		t.Fatalf("%d rows are spooled, want %d", len(rows), total)
	}
	for _, r := range rows {
		if r.Properties["url"] != "https://shop.example/p/1" || r.Campaign != "spring" || r.Site != "shop" || r.Channel != "web" || r.Device == nil || r.Person != nil {
			t.Errorf("a row reads %+v", r)
		}
		if _, ok := r.Properties["secret"]; ok {
			t.Error("a field that no purpose names was kept")
		}
	}
}

// TestNothingWithoutConsent is G1 and C8: nothing stored, no cookie, no subject, for an event and for a notice.
func TestNothingWithoutConsent(t *testing.T) {
	e := open(t)
	size, _, err := e.state.Tree()
	if err != nil {
		t.Fatal(err)
	}
	a := e.post("/v1/events?k=demo", fmt.Sprintf(view, "e1"), "Origin", origin)
	if want := `{"accepted":0,"refused":[{"index":0,"id":"e1","reason":"no_consent","purpose":"audience"}]}`; a.status != 202 || a.body != want {
		t.Errorf("%d %s, want %s", a.status, a.body, want)
	}
	notice := e.get("/v1/notice?k=demo")
	for _, a := range []answer{a, notice} {
		if c := a.header.Values("Set-Cookie"); len(c) != 0 {
			t.Errorf("a cookie was set: %v", c)
		}
	}
	after, _, err := e.state.Tree()
	if err != nil {
		t.Fatal(err)
	}
	if after != size || e.subjects.Count() != 0 || e.spooled() != 0 {
		t.Errorf("%d leaves, %d subjects, %d events after an event without consent", after-size, e.subjects.Count(), e.spooled())
	}
}

func TestReasons(t *testing.T) {
	e := open(t)
	cookie, _ := e.agree("audience")
	now := e.clock.now()
	event := func(id, rest string) string { return fmt.Sprintf(`{"id":%q%s}`, id, rest) }
	body := "[" + strings.Join([]string{
		event("ok", `,"type":"page_view"`),
		event("type", `,"type":"mind_reading"`),
		event("site", `,"type":"page_view","site":"other"`),
		event("own", `,"type":"page_view","site":"shop"`),
		event("invalid", `,"type":"page_view","visitor":"x"`),
		event("ahead", `,"type":"page_view","time":"`+now.Add(6*time.Minute).Format(time.RFC3339)+`"`),
		event("slightly ahead", `,"type":"page_view","time":"`+now.Add(4*time.Minute).Format(time.RFC3339)+`"`),
		event("before", `,"type":"page_view","time":"`+now.Add(-time.Minute).Format(time.RFC3339)+`"`),
		event("ok", `,"type":"search"`),
		`7`,
	}, ",") + "]"
	accepted, refused := e.events(body, "Cookie", cookie)
	if accepted != 3 {
		t.Errorf("%d accepted, want 3", accepted)
	}
	want := []string{"1 type unknown_type", "2 site unknown_site", "4 invalid invalid", "5 ahead invalid", "7 before no_consent", "8 ok duplicate", "9  invalid"}
	var got []string
	for _, r := range refused {
		got = append(got, fmt.Sprint(r.Index, " ", r.ID, " ", r.Reason))
	}
	if !slices.Equal(got, want) {
		t.Errorf("refused\n%q, want\n%q", got, want)
	}
	if e.spooled() != 3 {
		t.Errorf("%d events are spooled, want 3", e.spooled())
	}
	if accepted, refused := e.events(event("ok", `,"type":"page_view"`), "Cookie", cookie); accepted != 0 || refused[0].Reason != "duplicate" {
		t.Errorf("a repeated event: %d accepted, %v", accepted, refused)
	}
	counts := e.edge.Counts()
	if counts.Accepted["page_view"] != 3 || counts.Refused["duplicate"] != 2 || counts.Refused["before_consent"] != 1 || counts.Refused["invalid"] != 3 || counts.Consents["ConsentGiven"] != 1 {
		t.Errorf("counts are %+v", counts)
	}
}

// TestTrueReasonsAreForTokens is G15: a withdrawal can be told from a missing consent by a token only.
func TestTrueReasonsAreForTokens(t *testing.T) {
	e := open(t)
	cookie, _ := e.agree("audience")
	e.clock.forward(time.Minute)
	e.post("/v1/consents/withdraw?k=demo", "", "Cookie", cookie).want(t, "withdrawal", http.StatusOK, "")
	e.clock.forward(time.Minute)
	if _, refused := e.events(fmt.Sprintf(view, "1"), "Cookie", cookie); len(refused) != 1 || refused[0].Reason != "no_consent" {
		t.Errorf("a site key is told %v", refused)
	}
	token := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeEvents}})
	body := `{"id":"2","type":"page_view","device":"` + strings.TrimPrefix(cookie, "octroi-dev=") + `"}`
	if _, refused := e.events(body, "Authorization", token); len(refused) != 1 || refused[0].Reason != "consent_withdrawn" {
		t.Errorf("a token is told %v", refused)
	}
}

func TestTooOld(t *testing.T) {
	e := open(t)
	token := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeEvents}, Sites: []string{"other"}, Declare: []string{"service"}})
	old, young := e.clock.now().AddDate(0, 0, -8), e.clock.now().AddDate(0, 0, -6)
	body := `[{"id":"1","type":"purchase","time":"` + old.Format(time.RFC3339) + `","subject":{"loyalty":"1"}},
	 {"id":"2","type":"purchase","time":"` + young.Format(time.RFC3339) + `","subject":{"loyalty":"1"}}]`
	a := e.post("/v1/events", body, "Authorization", token)
	if want := `{"accepted":1,"refused":[{"index":0,"id":"1","reason":"too_old"}]}`; a.body != want {
		t.Errorf("%s, want %s", a.body, want)
	}
}

// TestBackEndDeclares: a token that may declare `service` creates the person it names, another token does not.
func TestBackEndDeclares(t *testing.T) {
	e := open(t)
	purchase := func(id, card string) string {
		return `{"id":"` + id + `","type":"store_purchase","site":"shop","subject":{"loyalty":"` + card + `"},"fields":{"value":{"amount":"12.30","currency":"EUR"},"order":"A1"}}`
	}
	plain := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeEvents}})
	if accepted, refused := e.events(purchase("1", "4711"), "Authorization", plain); accepted != 0 || refused[0].Reason != "no_consent" {
		t.Errorf("without the right to declare: %d accepted, %v", accepted, refused)
	}
	if e.subjects.Count() != 0 {
		t.Error("an event created a subject")
	}
	declaring := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeEvents}, Declare: []string{"service"}})
	body := "[" + purchase("2", "4711") + "," + purchase("3", "4711") + "," + purchase("4", "4712") + `,{"id":"5","type":"page_view","site":"shop","subject":{"loyalty":"4713"}}]`
	accepted, refused := e.events(body, "Authorization", declaring)
	if accepted != 3 || len(refused) != 1 || refused[0].ID != "5" || refused[0].Reason != "no_consent" {
		t.Errorf("%d accepted, refused %v", accepted, refused)
	}
	if e.subjects.Count() != 2 {
		t.Errorf("%d subjects, want 2: page_view has no declared basis", e.subjects.Count())
	}
	rows := e.rows("service")
	if len(rows) != 3 || len(e.rows("audience")) != 0 {
		t.Fatalf("%d rows for service, %d for audience", len(rows), len(e.rows("audience")))
	}
	if r := rows[0]; r.Value != (pseudonymize.Money{Minor: 1230, Currency: "EUR"}) || r.Person == nil || r.Device != nil || r.Properties["order"] != "A1" || r.Channel != "store" {
		t.Errorf("a row reads %+v", r)
	}
	if *rows[0].Person != *rows[1].Person || *rows[0].Person == *rows[2].Person {
		t.Error("persons are not told apart by their card")
	}
	if accepted, _ := e.events(purchase("6", "4711"), "Authorization", plain); accepted != 1 {
		t.Error("the declared basis does not stand for a token that may not declare")
	}
}

func TestBackEndNamesBadSubjects(t *testing.T) {
	e := open(t)
	declaring := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeEvents, collector.ScopeConsent}, Declare: []string{"service"}, Sites: []string{"shop"}})
	seen := `[{"id":"1","type":"purchase","subject":{"loyalty":"1"}},{"id":"2","type":"purchase","subject":{"email":"b@mail.example","user":"b"}}]`
	if accepted, refused := e.events(seen, "Authorization", declaring); accepted != 2 {
		t.Fatalf("%d accepted, refused %v", accepted, refused)
	}
	body := `[{"id":"3","type":"purchase","subject":{"loyalty":"1","email":"b@mail.example"}},
	 {"id":"4","type":"purchase","subject":{"email":"no address"}},
	 {"id":"5","type":"purchase","subject":{"passport":"x"}},
	 {"id":"6","type":"purchase","device":"not a credential"},
	 {"id":"7","type":"purchase","device":"AAAAAAAAAAAAAAAAAAAAAA"},
	 {"id":"8","type":"purchase","subject":{"email":"b@mail.example","user":"b"}},
	 {"id":"9","type":"purchase","subject":{"email":"b@mail.example","user":"c"}},
	 {"id":"10","type":"purchase","subject":{"email":["b@mail.example"]}},
	 {"id":"11","type":"purchase","subject":{"loyalty":"1"}}]`
	accepted, refused := e.events(body, "Authorization", declaring)
	var got []string
	for _, r := range refused {
		got = append(got, r.ID+" "+r.Reason)
		if strings.Contains(r.Detail, "mail.example") {
			t.Errorf("a detail repeats an identifier: %s", r.Detail)
		}
	}
	if want := []string{"3 invalid", "4 invalid", "5 invalid", "6 invalid", "7 no_consent", "9 invalid", "10 invalid"}; accepted != 2 || !slices.Equal(got, want) {
		t.Errorf("%d accepted, refused %q, want %q", accepted, got, want)
	}
}

func TestRefusedRequests(t *testing.T) {
	e := open(t)
	cookie, _ := e.agree("audience")
	good := fmt.Sprintf(view, "1")
	token := func(c collector.TokenClaims) string { return e.token(c) }
	events := token(collector.TokenClaims{Scopes: []string{collector.ScopeEvents}, Sites: []string{"shop"}})
	expired := token(collector.TokenClaims{Scopes: []string{collector.ScopeEvents}, Expires: e.clock.now().Add(-time.Second)})
	bomb := squeeze(t, `[{"id":"`+strings.Repeat("a", 64<<20)+`"}]`)
	ratio := squeeze(t, strings.Repeat(" ", 1<<20)+good)
	tests := []struct {
		name, path, body string
		header           []string
		status           int
		code             string
	}{
		{"not JSON", "?k=demo", "{", nil, 400, "json"},
		{"empty", "?k=demo", "", nil, 400, "json"},
		{"form", "?k=demo", "3", nil, 400, "form"},
		{"deep", "?k=demo", strings.Repeat("[", 100), nil, 400, "depth"},
		{"not UTF-8", "?k=demo", "{\"id\":\"\xff\xfe\"}", nil, 400, "utf8"},
		{"not gzip", "?k=demo", good, []string{"Content-Encoding", "gzip"}, 400, "gzip"},
		{"gzip cut off", "?k=demo", squeeze(t, good)[:30], []string{"Content-Encoding", "gzip"}, 400, "gzip"},
		{"two keys", "?k=demo", `{"k":"other-key","id":"1","type":"page_view"}`, nil, 400, "field"},
		{"no key", "", good, nil, 401, "site_key"},
		{"unknown key", "?k=x", good, nil, 401, "site_key"},
		{"unknown key in the body", "", `{"k":"x","batch":[]}`, nil, 401, "site_key"},
		{"basic", "?k=demo", good, []string{"Authorization", "Basic ZGVtbzo="}, 401, "authorization"},
		{"neither token nor credential", "?k=demo", good, []string{"Authorization", "Bearer canary"}, 401, "authorization"},
		{"forged", "?k=demo", good, []string{"Authorization", events + "x"}, 401, "token"},
		{"expired", "?k=demo", good, []string{"Authorization", expired}, 401, "token"},
		{"scope", "?k=demo", good, []string{"Authorization", token(collector.TokenClaims{Scopes: []string{collector.ScopeConsent}})}, 403, "scope"},
		{"key of another site than the token's", "?k=other-key", good, []string{"Authorization", events}, 403, "site"},
		{"another site than the token's", "", `{"id":"1","type":"page_view","site":"other"}`, []string{"Authorization", events}, 403, "site"},
		{"unlisted origin", "?k=demo", good, []string{"Origin", "https://evil.example", "Cookie", cookie}, 403, "origin"},
		{"unlisted origin without a cookie", "?k=demo", good, []string{"Origin", "https://evil.example"}, 403, "origin"},
		{"another site's origin", "?k=demo", good, []string{"Origin", "https://other.example", "Cookie", cookie}, 403, "origin"},
		{"origin null", "?k=demo", good, []string{"Origin", "null", "Cookie", cookie}, 403, "origin"},
		{"origin with another port", "?k=demo", good, []string{"Origin", origin + ":444", "Cookie", cookie}, 403, "origin"},
		{"origin in another case", "?k=demo", good, []string{"Origin", "https://SHOP.example", "Cookie", cookie}, 403, "origin"},
		{"cross-site without an origin", "?k=demo", good, []string{"Sec-Fetch-Site", "cross-site", "Cookie", cookie}, 403, "origin"},
		{"another's id with a site key", "?k=demo", `[` + good + `,{"id":"2","type":"purchase","subject":{"email":"victim@mail.example"}}]`, []string{"Cookie", cookie}, 403, "subject"},
		{"another's device with a site key", "?k=demo", `{"id":"2","type":"purchase","device":"AAAAAAAAAAAAAAAAAAAAAA"}`, []string{"Cookie", cookie}, 403, "subject"},
		{"too many", "?k=demo", "[" + strings.Repeat("{},", 1000) + "{}]", nil, 413, "too_many"},
		{"values", "?k=demo", "[" + strings.Repeat("0,", 200_000) + "0]", nil, 413, "too_many"},
		{"bomb", "?k=demo", bomb, []string{"Content-Encoding", "gzip"}, 413, "decompressed_size"},
		{"ratio", "?k=demo", ratio, []string{"Content-Encoding", "gzip"}, 413, "decompressed_size"},
		{"body", "?k=demo", strings.Repeat(" ", 1<<20+1), nil, 413, "size"},
		{"no media type", "?k=demo", good, []string{"Content-Type", ""}, 415, "media_type"},
		{"a form", "?k=demo", "k=demo", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "media_type"},
		{"multipart", "?k=demo", "--b", []string{"Content-Type", "multipart/form-data; boundary=b"}, 415, "media_type"},
		{"latin", "?k=demo", good, []string{"Content-Type", "application/json; charset=iso-8859-1"}, 415, "media_type"},
		{"bad media type", "?k=demo", good, []string{"Content-Type", "json;;;="}, 415, "media_type"},
		{"brotli", "?k=demo", good, []string{"Content-Encoding", "br"}, 415, "content_encoding"},
		{"twice gzip", "?k=demo", good, []string{"Content-Encoding", "gzip, gzip"}, 415, "content_encoding"},
	}
	for _, test := range tests {
		a := e.post("/v1/events"+test.path, test.body, test.header...)
		a.want(t, test.name, test.status, test.code)
		if len(a.header.Values("Set-Cookie")) != 0 || strings.Contains(a.body, "canary") || strings.Contains(a.body, "victim") {
			t.Errorf("%s: cookies %v, body %s", test.name, a.header.Values("Set-Cookie"), a.body)
		}
		if test.code == "origin" && a.header.Get("Access-Control-Allow-Origin") == "https://evil.example" {
			t.Errorf("%s: an unlisted origin may read the answer", test.name)
		}
	}
	if e.spooled() != 0 {
		t.Errorf("%d events of refused requests are spooled", e.spooled())
	}
	e.get("/v1/events").want(t, "method", 405, "method_not_allowed")
	e.get("/v1/nothing").want(t, "path", 404, "not_found")
	e.get("/V1/consents/current").want(t, "path in another case", 404, "not_found")
	e.get("/v1/notice", "X-Long", strings.Repeat("x", 20<<10)).want(t, "header", 431, "request_header_fields_too_large")
	if a := e.get("/v1/events"); a.header.Get("Allow") == "" || a.header.Get("Server") != "" {
		t.Errorf("Allow %q, Server %q", a.header.Get("Allow"), a.header.Get("Server"))
	}
}

// TestSiteKeyIsWorthItsCookie is G15: the credential decides whose event it is, in the cookie or, for an app, in the header.
func TestSiteKeyIsWorthItsCookie(t *testing.T) {
	e := open(t)
	mine, _ := e.agree("audience")
	credential := strings.TrimPrefix(mine, "octroi-dev=")
	for name, header := range map[string][]string{
		"app":                  {"Authorization", "Bearer " + credential},
		"app with lower case":  {"Authorization", "bearer " + credential},
		"cookie":               {"Cookie", mine},
		"cookie with listed":   {"Cookie", mine, "Origin", origin},
		"cookie among others":  {"Cookie", "a=b; " + mine + "; c=d"},
		"same-origin no label": {"Cookie", mine, "Sec-Fetch-Site", "same-origin"},
	} {
		if accepted, refused := e.events(fmt.Sprintf(view, name), header...); accepted != 1 {
			t.Errorf("%s: refused %v", name, refused)
		}
	}
	for name, header := range map[string][]string{
		"the other cookie's name": {"Cookie", "__Host-octroi=" + credential},
		"a guess":                 {"Cookie", "octroi-dev=AAAAAAAAAAAAAAAAAAAAAA"},
		"nonsense":                {"Cookie", "octroi-dev=x"},
	} {
		if accepted, refused := e.events(fmt.Sprintf(view, name), header...); accepted != 0 || refused[0].Reason != "no_consent" {
			t.Errorf("%s: %d accepted, %v", name, accepted, refused)
		}
	}
}

// TestConnectionFields: what a policy keeps of address and user agent comes from the connection, minimised, whatever the client says.
func TestConnectionFields(t *testing.T) {
	e := open(t)
	body := `{"id":"1","type":"heartbeat","fields":{"ip":"203.0.113.77","user_agent":"Lie/1","url":"https://shop.example/a?b"}}`
	if accepted, refused := e.events(body, "User-Agent", "Mozilla/5.0 (X11) Chrome/150.0 Safari/537.36 canary"); accepted != 1 {
		t.Fatal(refused)
	}
	token := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeEvents}})
	if accepted, refused := e.events(strings.Replace(body, `"1"`, `"2"`, 1), "Authorization", token, "User-Agent", "Go"); accepted != 1 {
		t.Fatal(refused)
	}
	rows := e.rows("counting")
	if len(rows) != 2 || rows[0].Device != nil || rows[0].Person != nil {
		t.Fatalf("rows %+v", rows)
	}
	if p := rows[0].Properties; p["ip"] != "127.0.0.0/24" || p["user_agent"] != "Chrome" || p["url"] != "https://shop.example/a" {
		t.Errorf("a browser's row has %v", p)
	}
	if p := rows[1].Properties; p["ip"] != "203.0.113.0/24" || p["user_agent"] != "other" {
		t.Errorf("a back-end's row has %v: it says itself whose address it is", p)
	}
}

func TestFailsClosed(t *testing.T) {
	t.Run("spool full", func(t *testing.T) {
		e := open(t, func(_ *collector.Options, s *spool.Options) { s.MaxBytes, s.SegmentBytes = 64<<10, 16<<10 })
		cookie, _ := e.agree("audience")
		for i := 0; ; i++ {
			events := make([]string, 100)
			for j := range events {
				events[j] = fmt.Sprintf(view, fmt.Sprint(i, "-", j))
			}
			a := e.post("/v1/events?k=demo", "["+strings.Join(events, ",")+"]", "Cookie", cookie)
			if a.status == http.StatusAccepted && i < 100 {
				continue
			}
			a.want(t, "full", http.StatusServiceUnavailable, "busy")
			break
		}
		if counts := e.edge.Counts(); counts.Accepted["page_view"] != uint64(e.spooled()) {
			t.Errorf("%d counted as accepted, %d spooled", counts.Accepted["page_view"], e.spooled())
		}
	})
	t.Run("spool closed", func(t *testing.T) {
		e := open(t)
		cookie, _ := e.agree("audience")
		if err := e.spool.Close(); err != nil {
			t.Fatal(err)
		}
		e.post("/v1/events?k=demo", fmt.Sprintf(view, "1"), "Cookie", cookie).want(t, "event", http.StatusServiceUnavailable, "stopping")
	})
	t.Run("state closed", func(t *testing.T) {
		e := open(t)
		cookie, _ := e.agree("audience")
		token := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeEvents}, Declare: []string{"service"}})
		if err := e.state.Close(); err != nil {
			t.Fatal(err)
		}
		e.post("/v1/consents?k=demo", `{"purposes":{"audience":false}}`).want(t, "refusal", http.StatusServiceUnavailable, "stopping")
		e.post("/v1/consents/withdraw?k=demo", ``, "Cookie", cookie).want(t, "withdrawal", http.StatusServiceUnavailable, "stopping")
		e.post("/v1/events?k=demo", `{"id":"1","type":"purchase","subject":{"loyalty":"1"}}`, "Authorization", token).want(t, "declaring event", http.StatusServiceUnavailable, "stopping")
		if strings.Contains(e.logs.String(), strings.TrimPrefix(cookie, "octroi-dev=")) {
			t.Error("the log holds a credential")
		}
	})
	t.Run("deadline", func(t *testing.T) {
		e := open(t, func(o *collector.Options, _ *spool.Options) { o.Deadline = time.Nanosecond })
		e.post("/v1/consents?k=demo", `{"purposes":{"audience":false}}`).want(t, "refusal", http.StatusServiceUnavailable, "busy")
	})
}

// TestHostileBodies: random damage to a good body never makes a 5xx.
func TestHostileBodies(t *testing.T) {
	e := open(t)
	cookie, _ := e.agree("audience")
	good := `{"k":"demo","batch":[` + fmt.Sprintf(view, "1") + `,{"id":"2","type":"purchase","fields":{"value":{"amount":"1.00","currency":"EUR"}}}]}`
	random := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		b := []byte(good)
		for n := 1 + random.IntN(4); n > 0 && len(b) > 0; n-- {
			switch i := random.IntN(len(b)); random.IntN(4) {
			case 0:
				b[i] = byte(random.IntN(256))
			case 1:
				b = slices.Delete(b, i, min(len(b), i+1+random.IntN(20)))
			case 2:
				b = slices.Insert(b, i, []byte(`[{"\u0000`)[random.IntN(8):]...)
			case 3:
				b = b[:max(i, 1)]
			}
		}
		media := []string{"application/json", "text/plain", "application/x-ndjson"}[random.IntN(3)]
		a := e.post("/v1/events?k=demo", string(b), "Cookie", cookie, "Content-Type", media)
		if a.status >= 500 {
			t.Fatalf("%d for %q", a.status, b)
		}
	}
}

func TestRefusedCountsBecomeALeaf(t *testing.T) {
	e := open(t)
	e.events(`[{"id":"1","type":"page_view"},{"id":"2","type":"canary"},{"id":"3","type":"page_view","site":"canary"}]`)
	size, _, err := e.state.Tree()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.edge.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	after, _, err := e.state.Tree()
	if err != nil || after != size+1 {
		t.Errorf("%d leaves, error %v; want one more than %d", after, err, size)
	}
	if err := e.edge.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if again, _, err := e.state.Tree(); err != nil || again != after {
		t.Errorf("counts that were recorded are recorded again: %d leaves, error %v", again, err)
	}
}
