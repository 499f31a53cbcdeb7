package collector_test

import (
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/collector/spool"
	"github.com/octroi/octroi/policies"
)

// openExempt is an edge whose policy has the anonymous count of the French preset (G11) beside the default purposes.
func openExempt(t *testing.T) *edge {
	t.Helper()
	files := fstest.MapFS{}
	preset, _ := policies.Preset("cnil-exempt")
	for _, from := range []struct {
		fs.FS
		pattern string
	}{{policies.Default(), "*.yaml"}, {preset, "counting.yaml"}} {
		names, err := fs.Glob(from, from.pattern)
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		for _, name := range names {
			b, err := fs.ReadFile(from, name)
			if err != nil {
				t.Fatal(err)
			}
			files[name] = &fstest.MapFile{Data: b}
		}
	}
	policy, err := policies.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, func(o *collector.Options, _ *spool.Options) { o.Policy = policy })
}

const counted = `{"id":"1","type":"page_view","fields":{"url":"https://shop.example/p/1?q=x","referrer":"https://search.example/"}}`

// G11: what is exempt is counted without a choice, of nobody, and an objection ends it: refused to whoever sends it, told to whoever asks.
func TestObjection(t *testing.T) {
	e := openExempt(t)
	before := e.chosen()
	if !slices.Contains(before.Exempt, "page_view") || slices.Contains(before.Exempt, "purchase") || before.Objected || before.State != "none" {
		t.Fatalf("before: %+v", before)
	}
	if n, refused := e.events(counted, "Origin", origin); n != 1 {
		t.Fatalf("an exempt event is refused: %+v", refused)
	}
	if rows := e.rows("counting"); len(rows) != 1 || rows[0].Device != nil || rows[0].Person != nil || e.subjects.Count() != 0 {
		t.Fatalf("%+v, %d subjects", rows, e.subjects.Count())
	}

	a := e.post("/v1/consents/withdraw", `{"k":"demo","purposes":["counting"]}`, "Origin", origin)
	a.want(t, "objecting", http.StatusOK, "")
	if set := a.header.Values("Set-Cookie"); len(set) != 1 || set[0] != "octroi-objected=1; Path=/; Max-Age=34560000; HttpOnly; SameSite=Lax" {
		t.Errorf("an objection sets %q", set)
	}
	if want := `{"state":"ConsentWithdrawn","purposes":{},"objected":["counting"]}`; a.body != want {
		t.Errorf("an objection is answered %s, want %s", a.body, want)
	}

	objector := []string{"Cookie", "octroi-objected=1", "Origin", origin}
	if after := e.chosen(objector...); !after.Objected || after.State != "none" || !after.Ask {
		t.Errorf("after: %+v", after)
	}
	n, refused := e.events(strings.Replace(counted, `"1"`, `"2"`, 1), objector...)
	if n != 0 || len(refused) != 1 || refused[0].Reason != "no_consent" || refused[0].Purpose != "counting" || e.spooled() != 1 {
		t.Errorf("after an objection: %d accepted, %+v, %d spooled", n, refused, e.spooled())
	}
	if got := e.edge.Counts().Refused["objected"]; got != 1 {
		t.Errorf("%d counted as objected, want 1", got)
	}
}

// An objection is to the count alone: what the same browser agreed to goes on, without it.
func TestObjectionBesideAConsent(t *testing.T) {
	e := openExempt(t)
	cookie, _ := e.agree("audience")
	a := e.post("/v1/consents/withdraw", `{"k":"demo","purposes":["counting"]}`, "Cookie", cookie, "Origin", origin)
	a.want(t, "objecting", http.StatusOK, "")
	both := []string{"Cookie", cookie + "; octroi-objected=1", "Origin", origin}
	if c := e.chosen(both...); c.State != "given" || !c.Objected {
		t.Errorf("%+v", c)
	}
	if n, refused := e.events(counted, both...); n != 1 {
		t.Fatalf("what was agreed to is refused: %+v", refused)
	}
	if rows := e.rows("counting"); len(rows) != 0 {
		t.Errorf("the count has %+v", rows)
	}
	if rows := e.rows("audience"); len(rows) != 1 || rows[0].Device == nil {
		t.Errorf("audience has %+v", rows)
	}
}

// To withdraw without a name is to withdraw and to object to everything; also for whoever never agreed to anything.
func TestWithdrawEverythingObjects(t *testing.T) {
	e := openExempt(t)
	cookie, _ := e.agree("audience")
	for name, header := range map[string][]string{"a known device": {"Cookie", cookie}, "nobody": nil} {
		a := e.post("/v1/consents/withdraw", `{"k":"demo"}`, append(header, "Origin", origin)...)
		a.want(t, name, http.StatusOK, "")
		if !strings.Contains(a.body, `"objected":["counting"]`) || !strings.HasPrefix(a.header.Get("Set-Cookie"), "octroi-objected=1;") {
			t.Errorf("%s: %s %v", name, a.body, a.header)
		}
	}
	if c := e.chosen("Cookie", cookie); c.State != "withdrawn" || c.Purposes["audience"] {
		t.Errorf("%+v", c)
	}
	mixed := e.post("/v1/consents/withdraw", `{"k":"demo","purposes":["counting","marketing"]}`, "Cookie", cookie, "Origin", origin)
	mixed.want(t, "both by name", http.StatusOK, "")
	if !strings.Contains(mixed.body, `"marketing":false`) || !strings.Contains(mixed.body, `"objected":["counting"]`) {
		t.Errorf("%s", mixed.body)
	}
}

// Who may object, and to what: a policy without an exemption has nothing to object to, and no other page objects for a browser.
func TestRefusedObjections(t *testing.T) {
	e := openExempt(t)
	cookie, _ := e.agree("audience")
	app := "Bearer " + strings.TrimPrefix(cookie, "octroi-dev=")
	token := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeEvents}})
	e.post("/v1/consents/withdraw", `{"k":"demo","purposes":["counting"]}`, "Origin", "https://evil.example").want(t, "another origin", 403, "origin")
	e.post("/v1/consents/withdraw", `{"k":"demo","purposes":["counting"]}`, "Authorization", app).want(t, "an app, which has no cookies", 422, "basis")
	e.post("/v1/consents/withdraw", `{"k":"demo","purposes":["service"]}`, "Origin", origin).want(t, "a contract", 404, "no_record")
	if n, refused := e.events(`{"id":"9","type":"page_view"}`, "Authorization", token, "Cookie", "octroi-objected=1"); n != 1 {
		t.Errorf("beside a token a cookie says nothing: %+v", refused)
	}
	plain := open(t)
	plain.post("/v1/consents/withdraw", `{"k":"demo"}`, "Origin", origin).want(t, "without an exemption", 404, "no_record")
	if c := plain.chosen("Cookie", "octroi-objected=1"); len(c.Exempt) != 0 {
		t.Errorf("%+v", c)
	}
}
