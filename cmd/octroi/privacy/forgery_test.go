package privacy_test

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

func urlValues(name, value string) string { return url.Values{name: {value}}.Encode() }

// CWE-352, G12: what changes something comes from a page of this origin that this very cookie was shown.
func TestForgedPosts(t *testing.T) {
	d := openDoor(t)
	b, other := d.agreed("audience"), d.agreed("audience")
	p := b.get("/privacy")
	id := strings.Split(strings.TrimPrefix(b.press(p, "/privacy/requests", "right", "access").at, "/privacy/requests/"), "?")[0]
	forms := map[string]url.Values{
		"/privacy/choices":                     {"act": {"none"}},
		"/privacy/withdrawal":                  {"act": {"all"}},
		"/privacy/objection":                   {"act": {"allow"}},
		"/privacy/link":                        {},
		"/privacy/requests":                    {"right": {"erasure"}, "scope": {"all"}, "confirm": {"yes"}},
		"/privacy/requests/" + id + "/cancel":  {},
		"/privacy/requests/" + id + "/package": {"format": {"html"}},
		"/privacy/requests/" + id + "/forget":  {},
	}
	token := p.form("/privacy/withdrawal").Get("token")
	foreign := other.get("/privacy").form("/privacy/withdrawal").Get("token")
	nobodys := d.browser().get("/privacy").form("/privacy/choices").Get("token")
	before := b.changes()
	for path, form := range forms {
		for name, x := range map[string]struct {
			token  string
			header []string
			want   int
		}{
			"another site's page":              {token, []string{"Sec-Fetch-Site", "cross-site"}, 403},
			"a neighbour's page":               {token, []string{"Sec-Fetch-Site", "same-site"}, 403},
			"a typed address":                  {token, []string{"Sec-Fetch-Site", "none"}, 403},
			"another origin":                   {token, []string{"Sec-Fetch-Site", "", "Origin", "https://evil.example"}, 403},
			"the site's own page":              {token, []string{"Sec-Fetch-Site", "", "Origin", "https://shop.example"}, 403},
			"a frame without an origin":        {token, []string{"Sec-Fetch-Site", "", "Origin", "null"}, 403},
			"an origin that begins like ours":  {token, []string{"Sec-Fetch-Site", "", "Origin", b.url + ".evil.example"}, 403},
			"no token":                         {"", nil, 403},
			"another cookie's token":           {foreign, nil, 403},
			"nobody's token":                   {nobodys, nil, 403},
			"a token that was cut":             {token[:len(token)-1], nil, 403},
			"a token of another case":          {strings.ToUpper(token), nil, 403},
			"JSON":                             {token, []string{"Content-Type", "application/json"}, 400},
			"plain text":                       {token, []string{"Content-Type", "text/plain"}, 400},
			"packed":                           {token, []string{"Content-Encoding", "gzip"}, 400},
			"of a guess of the browser's (no)": {"", []string{"Sec-Purpose", "prefetch"}, 403},
		} {
			fields := url.Values{"token": {x.token}}
			for key, list := range form {
				fields[key] = list
			}
			if a := b.send(http.MethodPost, path, fields, x.header...); a.status != x.want {
				t.Errorf("%s of %s: %d, want %d", path, name, a.status, x.want)
			}
		}
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"} {
			query := url.Values{"token": {token}}
			for key, list := range form {
				query[key] = list
			}
			if a := b.send(method, path+"?"+query.Encode(), nil); a.status < 400 {
				t.Errorf("%s %s: %d", method, path, a.status)
			}
		}
	}
	if after := b.changes(); after != before {
		t.Fatalf("forged requests changed something: %s, before %s", after, before)
	}
	// What browsers without Sec-Fetch-Site send, and a text browser, which has neither.
	for name, header := range map[string][]string{"by Origin": {"Sec-Fetch-Site", "", "Origin", b.url}, "by neither": {"Sec-Fetch-Site", ""}} {
		if a := b.send(http.MethodPost, "/privacy/withdrawal", url.Values{"token": {token}, "purpose": {"audience"}}, header...); a.status != 200 {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
}

// A browser that names no Sec-Fetch-Site must be able to name its origin on a form.
func TestReferrerPolicy(t *testing.T) {
	b := openDoor(t).browser()
	if got := b.get("/privacy").header.Get("Referrer-Policy"); got != "no-referrer" {
		t.Error(got)
	}
	if got := b.get("/privacy", "Sec-Fetch-Site", "").header.Get("Referrer-Policy"); got != "same-origin" {
		t.Error(got)
	}
}

// Looking changes nothing, and sets no cookie; not by HEAD either.
func TestLookingChangesNothing(t *testing.T) {
	d := openDoor(t)
	b := d.agreed("audience")
	id := strings.Split(strings.TrimPrefix(b.press(b.get("/privacy"), "/privacy/requests", "right", "access").at, "/privacy/requests/"), "?")[0]
	before := b.changes()
	for _, path := range []string{
		"", "/erasure", "/follow", "/records/1", "/records/1/receipt.jwt", "/records/1/record.json", "/requests/" + id, "/requests/" + id + "/certificate",
		"/requests/" + id + "/package", "/requests/" + id + "/cancel", "/keys/log.key.pub", "/withdrawal?act=all",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a := b.send(method, "/privacy"+path, nil, "Sec-Fetch-Site", "cross-site") // a link in a letter
			if a.status >= 500 || a.header.Get("Set-Cookie") != "" {
				t.Errorf("%s %s: %d %v", method, path, a.status, a.header)
			}
		}
	}
	if after := b.changes(); after != before {
		t.Errorf("looking changed something: %s, before %s", after, before)
	}
}

// Every answer forbids frames, scripts and caches, the failures too.
func TestHeaders(t *testing.T) {
	d := openDoor(t)
	b := d.agreed("audience")
	p := b.get("/privacy")
	answers := []*page{
		p, b.get("/privacy/nowhere"), b.get("/privacy/records/1/receipt.jwt"), b.get("/privacy?k=unknown"),
		b.send(http.MethodPost, "/privacy/withdrawal", url.Values{}), b.press(p, "/privacy/withdrawal", "act", "all"),
	}
	for _, a := range answers {
		policy := a.header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'", "style-src 'sha256-"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: the policy lacks %s: %s", a.at, part, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src") {
			t.Errorf("%s: %s", a.at, policy)
		}
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Cross-Origin-Opener-Policy": "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": "",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", a.at, name, got, want)
			}
		}
	}
}

// What is sent is bounded.
func TestForms(t *testing.T) {
	d := openDoor(t)
	b := d.agreed("audience")
	token := b.get("/privacy").form("/privacy/withdrawal").Get("token")
	before := b.changes()
	for name, x := range map[string]struct {
		path, body string
		want       int
	}{
		"too long":               {"/privacy/withdrawal", "token=" + token + "&act=all&x=" + strings.Repeat("a", 17<<10), 413},
		"not a form":             {"/privacy/withdrawal", "token=%zz", 400},
		"no purpose":             {"/privacy/withdrawal", "token=" + token, 400},
		"an unknown purpose":     {"/privacy/withdrawal", "token=" + token + "&purpose=canary", 409},
		"one that needs none":    {"/privacy/withdrawal", "token=" + token + "&purpose=service", 400},
		"no choice":              {"/privacy/choices", "token=" + token, 400},
		"a choice of nothing":    {"/privacy/choices", "token=" + token + "&act=agree&purpose=canary", 400},
		"without the snapshot":   {"/privacy/choices", "token=" + token + "&act=agree&purpose=marketing", 409},
		"a forged snapshot":      {"/privacy/choices", "token=" + token + "&act=agree&purpose=marketing&snapshot=eyJ.e30.x", 409},
		"an unknown right":       {"/privacy/requests", "token=" + token + "&right=canary", 400},
		"of an unknown purpose":  {"/privacy/requests", "token=" + token + "&right=erasure&scope=some&purpose=canary&confirm=yes", 400},
		"of the contract":        {"/privacy/requests", "token=" + token + "&right=erasure&scope=some&purpose=service&confirm=yes", 400},
		"an unknown format":      {"/privacy/requests/x/package", "token=" + token + "&format=exe", 400},
		"an unknown request":     {"/privacy/requests/x/package", "token=" + token + "&format=zip", 404},
		"another unknown one":    {"/privacy/requests/0190aaaa-0000-4000-8000-000000000000/cancel", "token=" + token, 404},
		"a name of a path":       {"/privacy/requests/..%2f..%2fetc/cancel", "token=" + token, 404},
		"an unconfirmed erasure": {"/privacy/requests", "token=" + token + "&right=erasure&scope=all", 422},
		"of no purpose":          {"/privacy/requests", "token=" + token + "&right=erasure&scope=some&confirm=yes", 422},
	} {
		r, err := http.NewRequest(http.MethodPost, b.url+x.path, strings.NewReader(x.body))
		d.must(err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		a, err := b.client.Do(r)
		d.must(err)
		text, err := io.ReadAll(a.Body)
		_ = a.Body.Close()
		if err != nil || a.StatusCode != x.want || bytes.Contains(text, []byte("canary")) {
			t.Errorf("%s: %d, want %d\n%s", name, a.StatusCode, x.want, text)
		}
	}
	if after := b.changes(); after != before {
		t.Errorf("changed: %s, before %s", after, before)
	}
	if strings.Contains(d.logs.String(), "canary") {
		t.Error("the log repeats what was sent")
	}
}

// The rate of consent posts holds here too; who is known is never kept from withdrawing (G3).
func TestRate(t *testing.T) {
	d := openDoor(t, func(s *setting) { s.rate = 0.001 })
	b := d.agreed("audience")
	p := b.get("/privacy")
	var last *page
	for range 30 {
		if last = b.press(p, "/privacy/choices", "act", "agree", "purpose", "marketing"); last.status == 429 {
			break
		}
	}
	last.wants(429, "Too much came from your network")
	if wait, err := strconv.Atoi(last.header.Get("Retry-After")); err != nil || wait < 1 {
		t.Errorf("Retry-After %q", last.header.Get("Retry-After"))
	}
	b.press(p, "/privacy/requests", "right", "access").wants(429)
	b.press(b.get("/privacy").wants(200), "/privacy/withdrawal", "act", "all").wants(200, "Your consent is withdrawn")
	d.browser().get("/privacy").wants(429)
}

// A link that somebody else sends cannot make the page say that something was done.
func TestForgedMessages(t *testing.T) {
	d := openDoor(t)
	b := d.agreed("audience")
	at := b.press(b.get("/privacy"), "/privacy/withdrawal", "act", "all").wants(200, "Your consent is withdrawn").at
	query, err := url.ParseQuery(strings.TrimPrefix(at, "/privacy?"))
	d.must(err)
	done := query.Get("done")
	for _, forged := range []string{"withdrawn", "agreed" + strings.TrimPrefix(done, "withdrawn"), done[:len(done)-1], done + "a", "withdrawn..", strings.Replace(done, ".", ".z", 1)} {
		if p := b.get("/privacy?" + urlValues("done", forged)).wants(200); strings.Contains(p.text, `role="status"`) {
			t.Errorf("%q is believed", forged)
		}
	}
	for name, other := range map[string]*browser{"a stranger": d.browser(), "another visitor": d.agreed("audience")} {
		if p := other.get(at).wants(200); strings.Contains(p.text, `role="status"`) {
			t.Errorf("%s is told what was done in another browser", name)
		}
	}
	b.get(at).wants(200, "Your consent is withdrawn")
	d.forward(12 * time.Minute)
	if p := b.get(at).wants(200); strings.Contains(p.text, `role="status"`) {
		t.Error("it is said for ever")
	}
}
