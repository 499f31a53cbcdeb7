package console_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/octroi/octroi/cmd/octroi/console"
	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/export/journey"
	"github.com/octroi/octroi/export/rights"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/policies"
)

// hostile is what must never be markup wherever it stands.
const hostile = `"><script>alert(1)</script><b x='`

// desk has one request of each kind, full of hostile texts where others may write them.
type desk struct{}

const known = "3f6b2a8e-1c4d-4e5f-8a9b-0c1d2e3f4a5b"

func filed() rights.Filed {
	q := rights.Filed{Origin: proof.ByPerson, Step: "rewriting", Batches: 7, Done: 3, Possible: []string{"approve"}, Evidence: []int64{12}}
	q.ID, q.Right, q.State, q.Reason = known, proof.Erasure, rights.InProgress, hostile
	q.Received, q.Due, q.DaysLeft = noon, noon.AddDate(0, 1, 0), 30
	q.Suppressed = noon.Add(time.Second)
	q.Refused = &rights.Refusal{Code: "cap", Detail: hostile, At: noon}
	return q
}

func (desk) List(bool, string) (*rights.Page, error) {
	return &rights.Page{Requests: []rights.Filed{filed()}, After: hostile}, nil
}

func (desk) Filed(id string) (rights.Filed, error) {
	if id != known {
		return rights.Filed{}, rights.ErrNoRequest
	}
	return filed(), nil
}

func (desk) Certificate(id string) (string, error) {
	if id != known {
		return "", rights.ErrNoRequest
	}
	return "a.b.c", nil
}

func (desk) Figures() rights.Figures { return rights.Figures{Overdue: 1} }

// counter has a report of each kind, with hostile names.
type counter struct{}

func (counter) Listing() (journey.Listing, error) {
	return journey.Listing{
		Sites: []journey.SiteListing{{Name: "shop", Closed: []string{"2026-W46"}, Open: []string{"2026-W47"}}}, Segments: []string{hostile},
	}, nil
}

func (counter) Report(q journey.Query) (journey.Answer, error) {
	if q.Site == "counting" {
		return journey.Answer{}, journey.ErrCounting
	}
	if q.Site != "shop" || q.Period != "2026-W46" && q.Period != "2026-W47" {
		return journey.Answer{}, &journey.QueryError{Field: "period", Expected: hostile}
	}
	n, share := int64(12345), 0.25
	a := journey.Answer{Report: q.Report, K: 10, Period: journey.Period{Name: q.Period, Open: true}}
	switch q.Report {
	case journey.ReportKPIs:
		a.KPIs = []journey.Figure{{Name: "revenue", Unit: journey.UnitMinor, Currency: "EUR", Count: &n}, {Name: hostile, Unit: journey.UnitShare, Share: &share}, {Name: "loyalty"}}
	case journey.ReportMap:
		a.Map = &journey.Map{Events: 30, Stages: []journey.Column{
			{Stage: hostile, Events: 30, Channels: []journey.Channel{{Channel: "web", Count: 20}}, Other: 10}, {Stage: "intent"},
		}}
	case journey.ReportFlow:
		a.Flow = &journey.Flow{Journeys: 20, Edges: []journey.Arc{{From: "(start)", To: "</script>" + hostile, Count: 20}, {From: "</script>" + hostile, To: "(conversion)", Count: 20}}}
	case journey.ReportFunnel:
		a.Funnel = &journey.Funnel{WindowDays: 14, Steps: []journey.Step{{Name: "cart_add", Subjects: &n, OfFirst: &share, Drop: true}, {Name: hostile}}}
	case journey.ReportAttribution:
		a.Attribution = &journey.Attribution{Conversions: 20, Models: []journey.Model{
			{Name: "first", Credits: []journey.Credit{{Channel: "web", Share: 1}}}, {Name: "markov"}, {Name: hostile, Credits: []journey.Credit{{Channel: hostile, Share: 0.5}}},
		}}
	case journey.ReportCoverage:
		a.ByPurpose = []journey.Covering{{Channel: hostile, Purpose: hostile, Consented: journey.Consented{Accepted: 10, Refused: 30, Share: 0.25}}}
	}
	return a, nil
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// house is a console whose tokens are words: officer may all, analyst only journeys, brief ends in a minute.
type house struct {
	*testing.T
	app *fiber.App
	now time.Time
}

func open(t *testing.T) *house {
	t.Helper()
	policy, err := policies.Load(policies.Default())
	if err != nil {
		t.Fatal(err)
	}
	h := &house{T: t, now: noon}
	c, err := console.New(console.Options{
		Requests: desk{}, Journeys: counter{}, Policy: policy, Controller: hostile, Node: "n1", Loopback: true, Now: func() time.Time { return h.now },
		Token: func(text string) (*collector.TokenClaims, error) {
			switch text {
			case "officer":
				return &collector.TokenClaims{Subject: hostile, Scopes: []string{"rights:read", "journeys:read"}, Expires: noon.Add(24 * time.Hour)}, nil
			case "brief":
				return &collector.TokenClaims{Subject: "brief", Scopes: []string{"rights:read"}, Expires: noon.Add(time.Minute)}, nil
			case "analyst":
				return &collector.TokenClaims{Subject: "analyst", Scopes: []string{"journeys:read"}, Expires: noon.Add(24 * time.Hour)}, nil
			}
			return nil, collector.ErrToken
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.app = fiber.New(fiber.Config{DisableStartupMessage: true})
	c.Routes(h.app)
	return h
}

// do sends a request; cookie is the session's, header pairs follow.
func (h *house) do(method, path, cookie string, form url.Values, headers ...string) (*http.Response, string) {
	h.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if cookie != "" {
		r.AddCookie(&http.Cookie{Name: "octroi-console-dev", Value: cookie})
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := h.app.Test(r, -1)
	if err != nil {
		h.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		h.Fatal(err)
	}
	return resp, string(body)
}

// signIn is the session's cookie.
func (h *house) signIn(token, before string) string {
	h.Helper()
	resp, _ := h.do(http.MethodPost, "/console/sign-in", before, url.Values{"token": {token}}, "Origin", "http://example.com")
	if resp.StatusCode != http.StatusSeeOther {
		h.Fatalf("signing in: %d", resp.StatusCode)
	}
	for _, c := range resp.Cookies() {
		if c.Name == "octroi-console-dev" {
			if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" {
				h.Errorf("cookie %v", c)
			}
			return c.Value
		}
	}
	h.Fatal("no cookie")
	return ""
}

// Every page, in both languages: nothing that others wrote is markup, and the headers let nobody frame it (CWE-79, CWE-1021).
func TestPages(t *testing.T) {
	h := open(t)
	cookie := h.signIn("officer", "")
	for _, path := range []string{
		"/console/sign-in", "/console/requests", "/console/requests?show=all", "/console/requests/" + known, "/console/policies",
		"/console/journeys", "/console/journeys?period=2026-W46&segment=" + hostile, "/console/consents", "/console/journeys?site=nobody's",
		"/console/requests/" + hostile, "/console/requests/nobody",
	} {
		for _, language := range []string{"fr", "en"} {
			resp, page := h.do(http.MethodGet, strings.ReplaceAll(path, hostile, url.QueryEscape(hostile)), cookie, nil, "Accept-Language", language)
			if want := http.StatusOK; resp.StatusCode != want && !(resp.StatusCode == http.StatusNotFound && !strings.HasSuffix(path, known)) {
				t.Errorf("%s: %d", path, resp.StatusCode)
			}
			if strings.Contains(page, "<script>alert") || strings.Contains(page, "<b x") {
				t.Errorf("%s: markup of others", path)
			}
			if !strings.Contains(page, `<html lang="`+language+`"`) || resp.Header.Get("Content-Language") != language {
				t.Errorf("%s: not in %s", path, language)
			}
			for name, want := range map[string]string{"X-Frame-Options": "DENY", "Cache-Control": "no-store", "Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff"} {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s: %s is %q", path, name, got)
				}
			}
			if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") {
				t.Errorf("%s: %q", path, csp)
			}
		}
	}
}

// The picture and the table beside it say the same.
func TestJourneys(t *testing.T) {
	h := open(t)
	cookie := h.signIn("officer", "")
	_, page := h.do(http.MethodGet, "/console/journeys", cookie, nil, "Accept-Language", "en")
	for _, want := range []string{
		`<option value="2026-W47" selected>`, "123.45\u00a0EUR", "fewer than 10 subjects", `<rect class="k0" x="0" y="100" width="120" height="200"><title>Web: 20 (66.7%)`,
		`<td class="number">20</td><td class="number">66.7%</td>`, `{"source":"from (start)",`, `"value":20`, "drop-off", "12,345", "–",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	_, page = h.do(http.MethodGet, "/console/consents", cookie, nil, "Accept-Language", "fr")
	if !strings.Contains(page, "25,0\u00a0%") || !strings.Contains(page, `width="25"`) {
		t.Error("the page of consents lacks a share")
	}
	for _, name := range []string{"journeys", "consents"} {
		resp, page := h.do(http.MethodGet, "/console/"+name+"?site=counting", cookie, nil, "Accept-Language", "en")
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(page, "counted anew") {
			t.Errorf("%s, while cells are counted anew: %d", name, resp.StatusCode)
		}
	}
}

// Nobody sees a page without a session, nor with one whose token lacks the scope, nor after its time.
func TestSessions(t *testing.T) {
	h := open(t)
	status := func(cookie string) int {
		resp, page := h.do(http.MethodGet, "/console/requests/"+known, cookie, nil)
		if resp.StatusCode != http.StatusOK && strings.Contains(page, known[9:]) {
			t.Error("the request is shown nevertheless")
		}
		return resp.StatusCode
	}
	if got := status(""); got != http.StatusSeeOther {
		t.Errorf("nobody: %d", got)
	}
	if got := status("made-up"); got != http.StatusSeeOther {
		t.Errorf("a made-up session: %d", got)
	}
	if got := status(h.signIn("analyst", "")); got != http.StatusForbidden {
		t.Errorf("without the scope: %d", got)
	}
	officer, brief := h.signIn("officer", ""), h.signIn("brief", "")
	h.now = noon.Add(2 * time.Minute)
	if got := status(brief); got != http.StatusSeeOther {
		t.Errorf("after the token's end: %d", got)
	}
	if got := status(officer); got != http.StatusOK {
		t.Errorf("an officer: %d", got)
	}
	h.now = noon.Add(33 * time.Minute)
	if got := status(officer); got != http.StatusSeeOther {
		t.Errorf("after half an hour of nothing: %d", got)
	}
	officer = h.signIn("officer", "")
	for range 24 {
		h.now = h.now.Add(20 * time.Minute)
		if got := status(officer); got != http.StatusOK && h.now.Before(noon.Add(8*time.Hour+33*time.Minute)) {
			t.Fatalf("at %v: %d", h.now, got)
		}
	}
	if got := status(officer); got != http.StatusSeeOther {
		t.Errorf("after eight hours: %d", got)
	}
}

// A session begins with a secret that nobody could have planted (CWE-384), and ends at both ends.
func TestFixation(t *testing.T) {
	h := open(t)
	planted := h.signIn("analyst", "")
	mine := h.signIn("officer", planted)
	if mine == planted {
		t.Fatal("the secret was kept")
	}
	if resp, _ := h.do(http.MethodGet, "/console/policies", planted, nil); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the planted session stands: %d", resp.StatusCode)
	}
	_, page := h.do(http.MethodGet, "/console/policies", mine, nil)
	_, after, _ := strings.Cut(page, `name="csrf" value="`)
	csrf, _, _ := strings.Cut(after, `"`)
	if resp, _ := h.do(http.MethodPost, "/console/sign-out", mine, url.Values{"csrf": {csrf}}); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("signing out: %d", resp.StatusCode)
	}
	if resp, _ := h.do(http.MethodGet, "/console/policies", mine, nil); resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(resp.Header.Get("Location"), "/console/sign-in") {
		t.Errorf("the session stands after signing out: %d", resp.StatusCode)
	}
}

// What a page of another origin sends does nothing (CWE-352).
func TestForeignForms(t *testing.T) {
	h := open(t)
	cookie := h.signIn("officer", "")
	for name, headers := range map[string][]string{
		"another origin":       {"Origin", "https://evil.example"},
		"another port":         {"Origin", "http://example.com:81"},
		"no origin":            {"Origin", "null"},
		"a site beside":        {"Sec-Fetch-Site", "same-site"},
		"another site":         {"Sec-Fetch-Site", "cross-site"},
		"typed by nobody":      {"Sec-Fetch-Site", "none"},
		"no token of the form": {},
	} {
		if resp, _ := h.do(http.MethodPost, "/console/sign-out", cookie, url.Values{"csrf": {"guess"}}, headers...); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s signs out: %d", name, resp.StatusCode)
		}
		if len(headers) == 0 {
			continue
		}
		if resp, _ := h.do(http.MethodPost, "/console/sign-in", "", url.Values{"token": {"officer"}}, headers...); resp.StatusCode != http.StatusForbidden || len(resp.Cookies()) > 0 {
			t.Errorf("%s signs somebody in: %d", name, resp.StatusCode)
		}
	}
	if resp, _ := h.do(http.MethodGet, "/console/policies", cookie, nil); resp.StatusCode != http.StatusOK {
		t.Errorf("the session is gone: %d", resp.StatusCode)
	}
}

// After signing in nobody is led elsewhere (CWE-601).
func TestLeadsNowhereElse(t *testing.T) {
	h := open(t)
	for to, want := range map[string]string{
		"/console/requests/" + known: "/console/requests/" + known, "": "/console", "https://evil.example/console": "/console", "//evil.example/console": "/console",
		"/console/../v1/status": "/console", "/console//evil.example": "/console", `/console\evil`: "/console", "/console/sign-out": "/console", "javascript:alert(1)": "/console",
		"/elsewhere": "/console",
	} {
		resp, _ := h.do(http.MethodPost, "/console/sign-in", "", url.Values{"token": {"officer"}, "to": {to}})
		if got := resp.Header.Get("Location"); got != want {
			t.Errorf("%q leads to %q", to, got)
		}
	}
}

// Wrong tokens sign nobody in, and are not shown again.
func TestWrongTokens(t *testing.T) {
	h := open(t)
	for _, token := range []string{"", "wrong", strings.Repeat("x", 10_000)} {
		resp, page := h.do(http.MethodPost, "/console/sign-in", "", url.Values{"token": {token}})
		if resp.StatusCode != http.StatusUnauthorized || token != "" && strings.Contains(page, `value="`+token) {
			t.Errorf("%.10q: %d", token, resp.StatusCode)
		}
		for _, c := range resp.Cookies() {
			if c.Name == "octroi-console-dev" {
				t.Errorf("%.10q gets a cookie", token)
			}
		}
	}
}

// Both languages say the same things.
func TestWords(t *testing.T) {
	type file struct {
		Text  map[string]string            `json:"text"`
		Lists map[string]map[string]string `json:"lists"`
	}
	var files [2]file
	var keys [2][]string
	for i, l := range []string{"en", "fr"} {
		b, err := os.ReadFile("words/" + l + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &files[i]); err != nil {
			t.Fatal(err)
		}
		for k, text := range files[i].Text {
			keys[i] = append(keys[i], k)
			if text == "" || strings.Count(text, "%s") != strings.Count(files[0].Text[k], "%s") {
				t.Errorf("%s: %q is not like the other language's", l, k)
			}
		}
		for list, words := range files[i].Lists {
			for k := range words {
				keys[i] = append(keys[i], list+"/"+k)
			}
		}
		slices.Sort(keys[i])
	}
	if !slices.Equal(keys[0], keys[1]) || len(keys[0]) < 50 {
		t.Errorf("the languages differ: %v, %v", keys[0], keys[1])
	}
}
