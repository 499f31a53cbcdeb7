package policies_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/policies"
)

// TestPresetPolicies loads every policy that comes with the program, and holds each against what it must never be.
func TestPresetPolicies(t *testing.T) {
	names := policies.Presets()
	if !slices.Equal(names, []string{"default", "cnil-exempt"}) {
		t.Fatalf("presets %v", names)
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	after := func(period string) time.Time {
		p, err := policies.ParsePeriod(period)
		if err != nil {
			t.Fatal(err)
		}
		return p.AddTo(start)
	}
	for _, name := range names {
		files, ok := policies.Preset(name)
		if !ok {
			t.Fatalf("no preset %s", name)
		}
		p := load(t, files)
		if !slices.Equal(p.Languages(), []string{"fr", "en"}) || len(p.Source()) != 2 {
			t.Errorf("%s: languages %v, source in %d", name, p.Languages(), len(p.Source()))
		}
		for _, x := range p.Purposes() {
			if len(x.Texts) != 2 || len(x.Titles) != 2 || len(x.Recipients) == 0 || x.Roles["controller"] == "" || x.Roles["dpo"] == "" {
				t.Errorf("%s: %s is not whole", name, x.ID)
			}
			if x.Basis == policies.Consent && x.Validity.AddTo(start).After(after("P13M")) {
				t.Errorf("%s: a consent to %s holds for %s", name, x.ID, x.Validity)
			}
			if x.Basis != policies.Contract && x.Retention.AddTo(start).After(after("P25M")) { // CNIL, deliberation 2020-091, Article 5
				t.Errorf("%s: %s keeps data for %s", name, x.ID, x.Retention)
			}
			for field, treatment := range x.Fields {
				if strings.Contains(field, "terms") && treatment != policies.Drop {
					t.Errorf("%s: %s keeps words that were searched for (C13)", name, x.ID)
				}
			}
		}
	}
	for _, name := range []string{"", "Default", "cnil-exempt/", "../default", "presets", "."} {
		if _, ok := policies.Preset(name); ok {
			t.Errorf("%q is a preset", name)
		}
	}
}

// TestExemptPreset is G11: anonymous counts, and nothing that would make of them more.
func TestExemptPreset(t *testing.T) {
	files, _ := policies.Preset("cnil-exempt")
	p := load(t, files)
	if len(p.Purposes()) != 1 || p.ChoiceNotice("fr").Text != "" {
		t.Fatalf("%d purposes, of which some ask for consent", len(p.Purposes()))
	}
	x := p.Purposes()[0]
	if x.Basis != policies.LegitimateInterest || !x.SubjectNone || x.Sharing || x.Advertising || x.AutomatedDecisions || x.Transfers != "" ||
		x.TimePrecision < time.Hour || x.Assessment == "" || x.OnWithdrawal != policies.Stop {
		t.Errorf("%+v", x)
	}
	if p.RecipientOf("journeys") != 0 {
		t.Error("journeys of nobody")
	}
	for _, r := range x.Recipients {
		if r.Country != "FR" || r.Role != "controller" {
			t.Errorf("recipient %+v is not the publisher's own", r)
		}
	}
	allowed := map[string]policies.Treatment{"url": policies.URLPath, "product": policies.Keep, "user_agent": policies.UAFamily}
	for field, treatment := range x.Fields {
		if allowed[field] != treatment {
			t.Errorf("field %s: %s", field, treatment)
		}
	}
	for language, words := range map[string][]string{
		"fr": {"article 82", "17 septembre 2020", "opposer", "Mes choix", "treize mois", "anonyme", "Aucun cookie", "point f", "dpo@", "CNIL"},
		"en": {"Article 82", "17 September 2020", "object", "My choices", "thirteen months", "anonymous", "No cookie", "6(1)(f)", "dpo@", "CNIL"},
	} {
		for _, w := range words {
			if !strings.Contains(x.Texts[language], w) {
				t.Errorf("the text in %s does not say %q", language, w)
			}
		}
	}
	if x.Retention.String() != "P13M" || !strings.Contains(x.Exemption, "article 82") || !strings.Contains(x.Exemption, "2020-091") {
		t.Errorf("kept %s, exempt by %q", x.Retention, x.Exemption)
	}
	if got := p.Exempt(); !slices.Equal(got, []string{"cart_add", "checkout_start", "page_view", "product_view", "search"}) {
		t.Errorf("exempt are %v", got)
	}
	if got := load(t, policies.Default()).Exempt(); got == nil || len(got) != 0 {
		t.Errorf("of the default policy %v need no choice", got)
	}
}

// TestExemptBesideConsent: an event type of both is exempt; the consent purpose is untouched by that.
func TestExemptBesideConsent(t *testing.T) {
	files := copied(t, policies.Default())
	exempt, _ := policies.Preset("cnil-exempt")
	files["counting.yaml"] = copied(t, exempt)["counting.yaml"]
	p := load(t, files)
	counting, _ := p.Purpose("counting")
	page, _ := p.EventType("page_view")
	if got := ids(p, page.Purposes); got != "audience counting" || slices.Contains(p.Exempt(), "purchase") || !slices.Contains(p.Exempt(), "page_view") {
		t.Errorf("a page view is of %q, exempt are %v", got, p.Exempt())
	}
	for field, want := range map[string]policies.Treatment{"ip": policies.Drop, "campaign": policies.Drop, "referrer": policies.Drop, "url": policies.URLPath} {
		if got := p.Treatment(counting.Bit(), field); got != want {
			t.Errorf("counting has %s of %s", got, field)
		}
	}
}
