package privacy_test

import (
	"crypto/ed25519"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/policies"
)

// C8, D14: whoever has no cookie is told that nothing is known, and by whom to be found; a refusal makes nobody and is remembered the same for all.
func TestNobody(t *testing.T) {
	d := openDoor(t)
	b := d.browser()
	size, _, err := d.state.Tree()
	d.must(err)
	p := b.get("/privacy").wants(200, "Nothing is known about you here", "its cookie is proof enough", "dpo@shop.example", "Refuse everything", "Agree to everything")
	b.get("/privacy/erasure").wants(200, "nothing that could be erased")
	if len(b.cookies("/privacy")) != 0 || p.header.Get("Set-Cookie") != "" {
		t.Fatal("a page sets a cookie before any choice")
	}
	if after, _, _ := d.state.Tree(); after != size {
		t.Fatal("looking at the page was recorded")
	}
	p = b.press(p, "/privacy/choices", "act", "none").wants(200, "Your refusal is recorded", "This browser remembers that you refused")
	cookies := b.cookies("/privacy")
	if len(cookies) != 1 || cookies["octroi-refused"] != d.policy.ChoiceNotice("en").Version {
		t.Fatalf("after a refusal: %v", cookies)
	}
	other := d.browser()
	other.press(other.get("/privacy"), "/privacy/choices", "act", "none")
	if other.cookies("/")["octroi-refused"] != cookies["octroi-refused"] {
		t.Error("two who refused are told apart")
	}
	p = b.press(p, "/privacy/choices", "act", "ticked", "purpose", "audience").wants(200, "Your consent is recorded", "What was recorded of your choices")
	if p.state("audience") != "agreed" || p.state("marketing") != "refused" {
		t.Error("not what was ticked")
	}
	if _, still := b.cookies("/")["octroi-refused"]; still {
		t.Error("the refusal is remembered beside the consent")
	}
}

// Art. 7(3): taking back is as easy as giving; C4: what is given here is proven by the text beside the button; C1: nothing is changed.
func TestChoices(t *testing.T) {
	d := openDoor(t)
	b := d.agreed("audience", "personalisation")
	p := b.get("/privacy").wants(200, "Valid until 21 May 2027", "Legal basis Your consent")
	p = b.press(p, "/privacy/choices", "purpose", "marketing", "act", "agree").wants(200, "Your consent is recorded")
	if p.state("audience") != "agreed" || p.state("marketing") != "agreed" {
		t.Fatal(p.at, p.state("audience"), p.state("marketing"))
	}
	p = b.press(p, "/privacy/withdrawal", "purpose", "audience").wants(200, "Your consent is withdrawn")
	if p.state("audience") != "withdrawn" || p.state("marketing") != "agreed" {
		t.Fatal(p.at, p.state("audience"), p.state("marketing"))
	}
	p = b.press(p, "/privacy/withdrawal", "act", "all").wants(200, "Your consent is withdrawn").lacks("Withdraw everything")
	for _, x := range []string{"audience", "marketing", "personalisation"} {
		if p.state(x) != "withdrawn" {
			t.Errorf("%s: %s", x, p.state(x))
		}
	}
	d.forward(time.Hour)
	p = b.press(b.get("/privacy"), "/privacy/choices", "purpose", "audience", "act", "agree").wants(200)
	if p.state("audience") != "agreed" {
		t.Fatal(p.at, p.state("audience"), p.state("marketing"))
	}
	acts, total, err := d.ledger.Acts(b.device(), 10)
	if err != nil || total != 5 {
		t.Fatal(total, err)
	}
	for _, a := range acts {
		if a.Method != "privacy_page" || a.Site != "shop" || a.State == consent.ConsentGiven && (a.Proof != policies.Snapshot.String() || a.Notice == nil) {
			t.Errorf("%+v", a)
		}
	}
}

// A consent that lapsed, and one to an earlier version, are shown as such, and the first can be given again.
func TestLapsedChoices(t *testing.T) {
	d := openDoor(t)
	b := d.agreed("audience")
	d.forward(200 * 24 * time.Hour)
	p := b.get("/privacy").wants(200)
	if p.state("audience") != "expired" {
		t.Fatal(p.state("audience"))
	}
	if p = b.press(p, "/privacy/choices", "purpose", "audience", "act", "agree"); p.state("audience") != "agreed" {
		t.Fatal(p.at, p.state("audience"), p.state("marketing"))
	}
	p = b.get("/privacy")
	d.forward(2 * time.Hour) // the text on the page is older than its proof
	old := b.press(p, "/privacy/choices", "purpose", "audience", "act", "agree")
	old.wants(409, "older than an hour")
	if got := b.press(p, "/privacy/withdrawal", "purpose", "audience").wants(200).state("audience"); got != "withdrawn" { // C4: never lost
		t.Fatal(got)
	}
}

// C3, C11: the text as it was agreed to, byte for byte; a receipt and a record that verify offline; and nobody else's.
func TestRecords(t *testing.T) {
	d := openDoor(t)
	b := d.agreed("audience")
	b.press(b.get("/privacy"), "/privacy/withdrawal", "purpose", "audience")
	want := d.policy.ChoiceNotice("en").Text
	for path, status := range map[string]int{"/privacy": 200, "/privacy/records/1": 200} {
		if path == "/privacy" {
			b.press(b.get("/privacy"), "/privacy/choices", "purpose", "audience", "act", "agree")
		}
		found := false
		for _, pre := range b.get(path).wants(status).elements("pre") {
			found = found || words(pre) == want
		}
		if !found {
			t.Errorf("%s does not show the text as it was agreed to", path)
		}
	}
	public := receiptKey.Public().(ed25519.PublicKey)
	for number, granted := range map[string]int{"1": 1, "2": 0, "3": 1} {
		a := b.get("/privacy/records/" + number + "/receipt.jwt")
		if a.status != 200 || a.header.Get("Content-Type") != "application/jwt" || !strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment") {
			t.Fatal(a.status, a.header)
		}
		claims, err := consent.VerifyReceipt(a.text, public, d.signer.Verifier())
		if err != nil || len(claims.Services[0].Purposes) != granted || claims.PIIControllers[0].Email != "dpo@shop.example" {
			t.Errorf("receipt %s: %v %+v", number, err, claims)
		}
		proven, err := consent.ParseProven([]byte(b.get("/privacy/records/" + number + "/record.json").text))
		if err != nil || consent.VerifyProven(proven, d.signer.Verifier()) != nil {
			t.Errorf("record %s does not hold: %v", number, err)
		}
	}
	stranger, nobody := d.agreed("marketing"), d.browser()
	for _, path := range []string{"/privacy/records/2", "/privacy/records/2/receipt.jwt", "/privacy/records/3/record.json"} {
		stranger.get(path).wants(404, "no such record")
		nobody.get(path).wants(404, "no such record")
	}
	for _, path := range []string{"0", "9", "x", "-1", "99999999999", "1/other", "1/receipt.jwt/x"} {
		b.get("/privacy/records/" + path).wants(404)
	}
	if k := b.get("/privacy/keys/log.key.pub"); k.status != 200 || k.text != "octroi-log-public-v1:AAAA\n" {
		t.Error(k.status, k.text)
	}
	b.get("/privacy/keys/state.key").wants(404)
}

// GDPR Art. 21(1), G11: what needs no choice can be objected to by anybody, and nobody is made of that.
func TestObjection(t *testing.T) {
	d := openDoor(t, func(s *setting) {
		s.files = func(files fstest.MapFS) {
			text := strings.NewReplacer("purpose: service", "purpose: counting\nsubject: none\nassessment: LIA-1\nexemption: Article 82 of the Data Protection Act", "basis: contract", "basis: legitimate_interest",
				"  en: Order and delivery", "  en: Anonymous counting").Replace(string(files["service.yaml"].Data))
			files["counting.yaml"] = &fstest.MapFile{Data: []byte(text)}
		}
	})
	b := d.browser()
	p := b.get("/privacy").wants(200, "Anonymous counting", "Article 82 of the Data Protection Act", "Object")
	whole(t, p)
	p = b.press(p, "/privacy/objection", "purpose", "counting", "act", "object").wants(200, "Your objection is recorded by this browser", "you object")
	if c := b.cookies("/"); len(c) != 1 || c["octroi-objected"] == "" {
		t.Errorf("cookies %v", c)
	}
	b.send(http.MethodPost, "/privacy/objection", url.Values{"token": {p.form("/privacy/objection").Get("token")}, "purpose": {"service"}}).wants(400)
	b.press(p, "/privacy/objection", "purpose", "counting", "act", "allow").wants(200, "Your objection is taken back").lacks("you object")
	if c := b.cookies("/"); len(c) != 0 {
		t.Errorf("cookies %v", c)
	}
	known := d.agreed("audience")
	known.press(known.get("/privacy"), "/privacy/objection", "purpose", "counting", "act", "object").wants(200, "you object")
	if got := known.get("/privacy").state("audience"); got != "agreed" {
		t.Errorf("an objection to one purpose made another %s", got)
	}
}

func TestLanguages(t *testing.T) {
	d := openDoor(t, func(s *setting) { s.sites[0].Language = "fr" })
	for name, x := range map[string]struct{ query, accept, want string }{
		"the site's":          {"", "", "fr"},
		"the browser's":       {"", "en-GB,en;q=0.8", "en"},
		"preferred":           {"", "de, en;q=0.4, fr;q=0.9", "fr"},
		"none of ours":        {"", "de, ja", "fr"},
		"asked for":           {"?language=en", "fr", "en"},
		"asked for, unknown":  {"?language=xx", "en", "en"},
		"an attack":           {"?language=%22%3E%3Cscript%3E", strings.Repeat("en,", 1000), "fr"},
		"of a region":         {"", "fr-CA", "fr"},
		"malformed":           {"", ";;;q=", "fr"},
		"asked for twice":     {"?language=en&language=fr", "", "en"},
		"in another spelling": {"?language=EN", "fr", "fr"},
	} {
		b := d.browser()
		b.header = http.Header{}
		p := b.get("/privacy"+x.query, "Accept-Language", x.accept).wants(200)
		if got := attribute(p.elements("html")[0], "lang"); got != x.want || p.header.Get("Content-Language") != x.want {
			t.Errorf("%s: %s, want %s", name, got, x.want)
		}
		p.lacks("<script")
	}
	b := d.browser() // the language stays through posts
	p := b.get("/privacy?language=en")
	b.press(p, "/privacy/choices?language=en", "act", "all").wants(200, "Your consent is recorded", "agreed")
}

// Every page of both languages, known and unknown, has what assistive technology needs, and nothing that runs or is fetched.
func TestEveryPageIsWhole(t *testing.T) {
	d := openDoor(t)
	known := d.agreed("audience", "linking")
	p := known.get("/privacy")
	asked := known.press(p, "/privacy/requests", "right", "access").wants(200, "Your request has been received", "Answer by 21 December 2026", "(30 days left)")
	id := strings.Split(strings.TrimPrefix(asked.at, "/privacy/requests/"), "?")[0]
	for _, language := range []string{"fr", "en"} {
		for _, path := range []string{"", "/records/1", "/erasure", "/follow", "/requests/" + id, "/requests/none", "/nowhere", "/records/7"} {
			for who, b := range map[string]*browser{"known": known, "nobody": d.browser()} {
				p := b.get("/privacy" + path + "?language=" + language)
				if p.status >= 500 {
					t.Fatalf("%s %s: %d\n%s", who, path, p.status, d.logs.String())
				}
				whole(t, p)
			}
		}
	}
}

// whole checks one page.
func whole(t *testing.T, p *page) {
	t.Helper()
	if n := len(p.elements("h1")); n != 1 {
		t.Errorf("%s has %d headings of the first level", p.at, n)
	}
	for _, name := range []string{"header", "main", "footer", "nav", "title"} {
		if len(p.elements(name)) == 0 {
			t.Errorf("%s has no %s", p.at, name)
		}
	}
	ids := map[string]bool{}
	for _, e := range p.elements("") {
		if id := attribute(e, "id"); id != "" {
			if ids[id] {
				t.Errorf("%s has two elements %q", p.at, id)
			}
			ids[id] = true
		}
		switch e.Data {
		case "script", "img", "iframe", "object", "embed", "link", "svg", "video":
			t.Errorf("%s has a %s", p.at, e.Data)
		}
		for _, a := range e.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.HasPrefix(strings.ToLower(strings.TrimSpace(a.Val)), "javascript:") {
				t.Errorf("%s: %s has %s=%q", p.at, e.Data, a.Key, a.Val)
			}
		}
	}
	for _, e := range p.elements("") {
		for _, name := range []string{"aria-labelledby", "aria-describedby", "for"} {
			if to := attribute(e, name); to != "" && !ids[to] {
				t.Errorf("%s: %s %s=%q leads nowhere", p.at, e.Data, name, to)
			}
		}
		if to := attribute(e, "href"); strings.HasPrefix(to, "#") && !ids[to[1:]] {
			t.Errorf("%s: a link to %s leads nowhere", p.at, to)
		}
	}
	for _, input := range p.elements("input") {
		if id := attribute(input, "id"); attribute(input, "type") != "hidden" && id == "" {
			t.Errorf("%s: a field without a label", p.at)
		}
	}
}

// Several sites: a page for each, by its key, and a choice where none is named.
func TestSites(t *testing.T) {
	d := openDoor(t, func(s *setting) {
		other := shop()
		other.Key, other.Name, other.Controller, other.Language = "other-key", "lottery", "Another Company", "fr"
		other.Origins, other.Contact.Email = []string{"https://lottery.example"}, "dpo@lottery.example"
		s.sites = append(s.sites, other)
	})
	b := d.browser()
	p := b.get("/privacy").wants(200, "Which site is it about?", "shop", "lottery")
	if links := p.elements("a"); attribute(links[len(links)-4], "href") == "" {
		t.Error("no link to a site")
	}
	b.get("/privacy?k=unknown").wants(404, "no such site", "lottery")
	b.header = http.Header{}
	b.get("/privacy?k=demo").wants(200, "Demonstration Shop", "dpo@shop.example").lacks("dpo@lottery.example")
	p = b.get("/privacy?k=other-key").wants(200, "Another Company", "dpo@lottery.example", "Tout refuser")
	p = b.press(p, "/privacy/choices?k=other-key", "act", "all").wants(200, "Votre accord est enregistré")
	if !strings.Contains(p.at, "k=other-key") {
		t.Errorf("the site is lost at %s", p.at)
	}
	acts, _, err := d.ledger.Acts(b.device(), 1)
	if err != nil || acts[0].Site != "lottery" {
		t.Errorf("%+v %v", acts, err)
	}
	form := p.form("/privacy/withdrawal", "act", "all")
	b.send(http.MethodPost, "/privacy/withdrawal", form).wants(404) // of no site
	b.press(p, "/privacy/withdrawal?k=other-key", "act", "all").wants(200, "Votre accord est retiré")
}

// A person with thousands of records sees the last ones, and how to get all.
func TestPagesAreBounded(t *testing.T) {
	d := openDoor(t)
	b := d.agreed("audience")
	var crew sync.WaitGroup
	for range 32 {
		crew.Go(func() {
			for range 32 {
				b.choose(map[string]bool{"marketing": true})
			}
		})
	}
	crew.Wait()
	began := time.Now()
	p := b.get("/privacy").wants(200, "1005 older entries are not shown")
	if took := time.Since(began); took > 2*time.Second || len(p.text) > 200_000 {
		t.Errorf("the page has %d bytes and took %s", len(p.text), took)
	}
}

// No text of a policy, a site or a request can make the page run, load or send anything.
func TestHostileTexts(t *testing.T) {
	const attack = `"><script>alert(1)</script><img src=x onerror=alert(1)>'`
	d := openDoor(t, func(s *setting) {
		s.sites[0].Name, s.sites[0].Controller = "shop"+attack, "Company"+attack
		s.sites[0].PolicyURL = "javascript:alert(1)"
		s.sites[0].Contact = consent.Contact{Name: attack, Email: "a@b.example" + attack, Phone: "1" + attack, Street: attack, City: attack, PostalCode: attack, Country: attack}
		s.files = func(files fstest.MapFS) {
			for _, name := range []string{"audience.yaml", "service.yaml"} {
				text := string(files[name].Data)
				text = strings.NewReplacer("  en: Audience measurement", `  en: "Audience \"><script>alert(1)</script>"`, "If you agree,", "<img src=x onerror=alert(1)> If you agree,",
					"service Données", "service <svg onload=alert(1)>", "Demonstration Shop (", "</pre></div><script>alert(2)</script> (").Replace(text)
				files[name].Data = []byte(text)
			}
		}
	})
	b := d.browser()
	b.header.Set("Referer", "https://shop.example/a/%22%3E%3Cscript%3Ealert(1)%3C/script%3E?x=<script>")
	b.header.Set("User-Agent", attack)
	whole(t, b.get("/privacy"))
	p := b.press(b.get("/privacy"), "/privacy/choices", "act", "all").wants(200, "agreed")
	whole(t, p)
	p = b.get("/privacy/records/1").wants(200, "<script>alert(2)</script>") // as text
	whole(t, p)
	whole(t, b.press(b.get("/privacy"), "/privacy/requests", "right", "access"))
	whole(t, b.get("/privacy/%22%3E%3Cscript%3Ealert(1)%3C/script%3E"))
	whole(t, b.get("/privacy/requests/%22%3E%3Cscript%3E"))
	whole(t, b.get(`/privacy?done=%22%3E%3Cscript%3E&return=javascript:alert(1)&k=demo`))
}

// CWE-601: the way back leads to the site, and nowhere else.
func TestWayBack(t *testing.T) {
	d := openDoor(t)
	b := d.browser()
	for back, want := range map[string]string{
		"https://shop.example/account?x=1":                  "https://shop.example/account?x=1",
		"http://localhost:8080/":                            "http://localhost:8080/",
		"":                                                  "https://shop.example/",
		"https://evil.example/":                             "https://shop.example/",
		"https://shop.example.evil.example/":                "https://shop.example/",
		"https://shop.example@evil.example/":                "https://shop.example/",
		"https://user@shop.example/":                        "https://shop.example/",
		"//evil.example/":                                   "https://shop.example/",
		"/\\evil.example/":                                  "https://shop.example/",
		"https:\\\\shop.example\\@evil":                     "https://shop.example/",
		"javascript:alert(1)":                               "https://shop.example/",
		"http://shop.example/":                              "https://shop.example/",
		"https://shop.example:444/":                         "https://shop.example/",
		"https://shop.example/\r\nX: y":                     "https://shop.example/",
		"https://shop.example/" + strings.Repeat("a", 2000): "https://shop.example/",
	} {
		p := b.send(http.MethodGet, "/privacy?"+urlValues("return", back), nil).wants(200)
		found := ""
		for _, a := range p.elements("a") {
			if words(a) == "Back to the site" {
				found = attribute(a, "href")
			}
		}
		if found != want {
			t.Errorf("%q leads to %q, want %q", back, found, want)
		}
	}
	p := b.get("/privacy?return=" + "https%3A%2F%2Fshop.example%2Faccount")
	p = b.press(p, "/privacy/choices?return=https%3A%2F%2Fshop.example%2Faccount", "act", "none").wants(200)
	if !strings.HasPrefix(p.at, "/privacy?") || !strings.Contains(p.text, `href="https://shop.example/account"`) {
		t.Errorf("the way back is lost at %s", p.at)
	}
}
