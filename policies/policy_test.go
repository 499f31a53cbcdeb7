package policies_test

import (
	"bytes"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/octroi/octroi/policies"
	"pgregory.net/rapid"
)

func TestDefault(t *testing.T) {
	p := load(t, policies.Default())
	audience, ok := p.Purpose("audience")
	if !ok || audience.Basis != policies.Consent || audience.Basis.Declared() || audience.OnWithdrawal != policies.Erase ||
		audience.Validity != (policies.Period{Months: 6}) || audience.MinimumProof != policies.RegisteredBanner {
		t.Errorf("audience: %+v", audience)
	}
	service, ok := p.Purpose("service")
	if !ok || service.Basis != policies.Contract || !service.Basis.Declared() || service.OnWithdrawal != policies.Stop ||
		!service.Validity.IsZero() || service.MinimumProof != policies.Asserted || service.SubjectNone {
		t.Errorf("service: %+v", service)
	}
	for id, advertising := range map[string]bool{"linking": false, "marketing": true, "personalisation": false} {
		x, ok := p.Purpose(id)
		if !ok || x.Basis != policies.Consent || x.OnWithdrawal != policies.Erase || x.Advertising != advertising || x.SubjectNone || x.Sharing {
			t.Errorf("%s: %+v", id, x)
		}
	}
	for name, want := range map[string]string{
		"warehouse": "audience linking marketing personalisation", "journeys": "audience linking", "accounting": "service", "x": "",
	} {
		if got := ids(p, p.RecipientOf(name)); got != want {
			t.Errorf("%s receives %q, want %q", name, got, want)
		}
	}
	if _, ok := p.EventType("barcode_scan"); ok || policies.Channel("fax") != "other" || len(p.Stages()) != 6 {
		t.Error("an unknown event type, channel or number of stages")
	}
}

// ids are the purposes of a mask, in order.
func ids(p *policies.Policy, m policies.Mask) string {
	var names []string
	for _, x := range p.Purposes() {
		if m&x.Bit() != 0 {
			names = append(names, x.ID)
		}
	}
	return strings.Join(names, " ")
}

// TestDefaultEventTypes pins where each event type of the default policy comes by, where it stands in a journey, and what asks for it.
func TestDefaultEventTypes(t *testing.T) {
	p := load(t, policies.Default())
	want := map[string]string{
		"ad_click":        "paid_search awareness audience marketing",
		"app_open":        "app awareness audience",
		"call":            "call_centre loyalty audience service",
		"cart_add":        "web intent audience personalisation",
		"cart_remove":     "web intent audience personalisation",
		"chat":            "chat consideration audience service",
		"checkout_start":  "web intent audience service",
		"coupon_use":      "web intent audience marketing service",
		"delivery_update": "delivery loyalty audience service",
		"email_click":     "email interest audience marketing",
		"email_open":      "email awareness marketing",
		"login":           "web consideration audience",
		"order_tracking":  "web loyalty audience service",
		"page_view":       "web awareness audience",
		"product_view":    "web consideration audience personalisation",
		"purchase":        "web purchase audience marketing personalisation service",
		"return":          "web loyalty audience personalisation service",
		"search":          "web interest audience",
		"sms_click":       "sms interest audience marketing",
		"social_click":    "social awareness audience marketing",
		"store_purchase":  "store purchase audience marketing personalisation service",
		"store_visit":     "store consideration audience",
		"survey":          "email loyalty audience",
	}
	for _, x := range p.EventTypes() {
		if got := x.Channel + " " + x.Stage + " " + ids(p, x.Purposes); got != want[x.Name] || policies.Channel(x.Channel) != x.Channel {
			t.Errorf("%s is %q, want %q", x.Name, got, want[x.Name])
		}
		delete(want, x.Name)
	}
	if len(want) > 0 {
		t.Errorf("no such event types: %v", want)
	}
}

// TestPresets: each preset of stages knows every event type of the default policy, so that a shop need not write a stage, and leaves no stage empty.
func TestPresets(t *testing.T) {
	stage := regexp.MustCompile(`, stage: [a-z_]+`)
	for _, preset := range []string{"four-1", "five-1", "six-1"} {
		files := copied(t, policies.Default())
		events := stage.ReplaceAll(files["events.yaml"].Data, nil)
		files["events.yaml"] = &fstest.MapFile{Data: bytes.Replace(events, []byte("stages: six-1"), []byte("stages: "+preset), 1)}
		p := load(t, files)
		reached := map[string]bool{}
		for _, x := range p.EventTypes() {
			reached[x.Stage] = true
		}
		for _, s := range p.Stages() {
			if !reached[s] {
				t.Errorf("%s: no event type has the stage %s", preset, s)
			}
		}
		if preset == "six-1" && p.Hash() != load(t, policies.Default()).Hash() {
			t.Error("the default policy writes other stages than its preset knows")
		}
	}
}

// TestNoRowsInCommon: the default recipients share no field whose values are unique to an order: where one has the number, the other has a pseudonym.
func TestNoRowsInCommon(t *testing.T) {
	p := load(t, policies.Default())
	for field, want := range map[string][2]policies.Treatment{
		"order": {policies.Pseudonymise, policies.Keep}, "coupon": {policies.Pseudonymise, policies.Keep},
		"message": {policies.Pseudonymise, policies.Drop}, "url": {policies.URLPath, policies.Drop}, "value": {policies.Keep, policies.Keep},
	} {
		got := [2]policies.Treatment{p.Treatment(p.RecipientOf("warehouse"), field), p.Treatment(p.RecipientOf("accounting"), field)}
		if got != want {
			t.Errorf("field %s: warehouse and accounting have %v, want %v", field, got, want)
		}
	}
}

func TestTreatmentIsTheMostRevealing(t *testing.T) {
	files := shop(t)
	files["service.yaml"].Data = bytes.Replace(files["service.yaml"].Data, []byte("fields:\n"),
		[]byte("fields:\n  url: drop\n  campaign: url_path\n"), 1)
	files["service.yaml"].Data = bytes.Replace(files["service.yaml"].Data, []byte("campaign: url_path\n"), []byte("page: url_path\n"), 1)
	files["audience.yaml"].Data = bytes.Replace(files["audience.yaml"].Data, []byte("fields:\n"), []byte("fields:\n  page: keep\n"), 1)
	p := load(t, files)
	a, _ := p.Purpose("audience")
	s, _ := p.Purpose("service")
	for _, c := range []struct {
		mask  policies.Mask
		field string
		want  policies.Treatment
	}{
		{a.Bit() | s.Bit(), "page", policies.Keep},
		{s.Bit(), "page", policies.URLPath},
		{s.Bit(), "url", policies.Drop},
		{a.Bit() | s.Bit(), "url", policies.URLPath},
		{a.Bit(), "ip", policies.TruncateIP},
		{a.Bit(), "user_agent", policies.UAFamily},
		{a.Bit(), "search_terms", policies.Drop},
		{a.Bit(), "unheard_of", policies.Drop},
		{0, "page", policies.Drop},
	} {
		if got := p.Treatment(c.mask, c.field); got != c.want {
			t.Errorf("treatment of %s for %b: got %s, want %s", c.field, c.mask, got, c.want)
		}
	}
	names := p.FieldNames()
	if !slices.IsSorted(names) || slices.Contains(names, "search_terms") || !slices.Contains(names, "page") {
		t.Errorf("field names: %v", names)
	}
}

func TestNotices(t *testing.T) {
	files := shop(t)
	files["marketing.yaml"] = &fstest.MapFile{Data: []byte(`purpose: marketing
version: 2
basis: consent
title: {fr: Offres, en: Offers}
notice: {url: "https://boutique.example/offres", text: {fr: Nous vous écrivons., en: We write to you.}}
retention: P1Y
event_types: []
recipients: []
`)}
	p := load(t, files)
	fr := p.ChoiceNotice("fr")
	if fr.ID != policies.ChoiceID || fr.Version != "audience.1+marketing.2" || fr.Language != "fr" ||
		!slices.Equal(fr.Purposes, []string{"audience", "marketing"}) || fr.URL != "https://boutique.example/confidentialite" ||
		!strings.HasPrefix(fr.Text, "Mesure d'audience\n\nSi vous") || !strings.HasSuffix(fr.Text, "\n\nOffres\n\nNous vous écrivons.") {
		t.Errorf("the choice in French: %+v", fr)
	}
	for wanted, language := range map[string]string{
		"fr": "fr", "fr-CA": "fr", "FR": "fr", "en-GB-oed": "en", "de": "fr", "": "fr", "-": "fr", strings.Repeat("en-", 50): "fr",
	} {
		if got := p.ChoiceNotice(wanted).Language; got != language {
			t.Errorf("asked for %q: got %q, want %q", wanted, got, language)
		}
	}
	service, ok := p.InformationNotice("service", "en-IE")
	if !ok || service.ID != "service" || service.Version != "service.1" || service.Language != "en" {
		t.Errorf("the information of service: %v %+v", ok, service)
	}
	if _, ok := p.InformationNotice("nothing", "en"); ok {
		t.Error("a text of a purpose that is not there")
	}
	hashes := map[string]bool{}
	for _, n := range p.NoticeTexts() {
		hashes[n.SHA256()] = true
	}
	if len(hashes) != 8 || !hashes[fr.SHA256()] || !hashes[service.SHA256()] {
		t.Errorf("texts for publication: %d", len(hashes))
	}
	sum := policies.NoticeText{Text: "abc"}.SHA256() // FIPS 180-2, appendix B.1
	if sum != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("SHA-256 of abc: %s", sum)
	}
}

// TestNoticesSayWhatThePolicyDoes: GDPR Art. 13: the texts name what the keys beside them set.
func TestNoticesSayWhatThePolicyDoes(t *testing.T) {
	p := load(t, policies.Default())
	fr := []string{"six mois", "retirer votre accord", "service Données", "article 6, paragraphe 1, point a", "CNIL", "dpo@", "libre de refuser"}
	en := []string{"six months", "withdraw your consent", "data department", "Article 6(1)(a)", "CNIL", "dpo@", "free to refuse"}
	says := map[string]map[string][]string{
		"audience": {"fr": append(fr, "treize mois", "statistiques de parcours"), "en": append(en, "thirteen months", "journey statistics")},
		"linking": {
			"fr": append(fr, "treize mois", "n'est pas rattaché", "vous vous déconnectez", "statistiques de parcours"),
			"en": append(en, "thirteen months", "is not joined", "you sign out", "journey statistics"),
		},
		"marketing":       {"fr": append(fr, "treize mois", "article 21, paragraphe 2"), "en": append(en, "thirteen months", "Article 21(2)")},
		"personalisation": {"fr": append(fr, "profilage"), "en": append(en, "profiling")},
		"service": {
			"fr": {"cinq ans", "service Comptabilité", "article 6, paragraphe 1, point b", "CNIL", "dpo@"},
			"en": {"five years", "accounting department", "Article 6(1)(b)", "CNIL", "dpo@"},
		},
	}
	kept := map[string]string{"audience": "P13M", "linking": "P13M", "marketing": "P13M", "personalisation": "P6M", "service": "P5Y"}
	if len(says) != len(p.Purposes()) {
		t.Errorf("%d purposes, texts of %d are looked at", len(p.Purposes()), len(says))
	}
	for purpose, languages := range says {
		x, _ := p.Purpose(purpose)
		if x.Retention.String() != kept[purpose] {
			t.Errorf("%s keeps data %s, its text says %s", purpose, x.Retention, kept[purpose])
		}
		for language, words := range languages {
			for _, w := range words {
				if !strings.Contains(x.Texts[language], w) {
					t.Errorf("the text of %s in %s does not say %q", purpose, language, w)
				}
			}
		}
	}
}

// TestHashIsOfTheContent: names of files, order, comments, quoting, line ends and written-out defaults change nothing; any word
// that has a meaning changes the hash.
func TestHashIsOfTheContent(t *testing.T) {
	hash := load(t, shop(t)).Hash()
	same := shop(t)
	same["zz.yaml"] = same["audience.yaml"]
	delete(same, "audience.yaml")
	replace(t, same, "zz.yaml", "[page_view, search, product_view,", "[search, 'page_view', # first\n    product_view,")
	replace(t, same, "zz.yaml", "time_precision: PT1S\n", "")
	replace(t, same, "zz.yaml", "validity: P6M", "subject: required")
	replace(t, same, "zz.yaml", "  search_terms: drop # may hold", "  unheard_of: drop # may hold")
	replace(t, same, "events.yaml", "stages: six-1\n", "\n")
	replace(t, same, "events.yaml", ", stage: intent}", "}")
	replace(t, same, "service.yaml", "\n", "\r\n")
	same["service.yaml"].Data = append([]byte("\xef\xbb\xbf---\r\n"), same["service.yaml"].Data...)
	same["README.md"] = &fstest.MapFile{Data: []byte("not read")}
	same["..data/old.yaml"] = &fstest.MapFile{Data: []byte("not read")}
	if load(t, same).Hash() != hash {
		t.Error("the same content has another hash")
	}
	seen := map[[32]byte]string{hash: "the shop"}
	for _, c := range [][3]string{
		{"audience.yaml", "version: 1", "version: 2"},
		{"audience.yaml", "sharing: false", "sharing: true"},
		{"audience.yaml", "advertising: false", "advertising: true"},
		{"audience.yaml", "treize mois", "quatorze mois"},
		{"audience.yaml", "Audience measurement", "Audience"},
		{"audience.yaml", "P13M", "P14M"},
		{"audience.yaml", "P6M", "P5M"},
		{"audience.yaml", "PT1S", "PT1M"},
		{"audience.yaml", "registered_banner", "snapshot"},
		{"audience.yaml", "search, product_view", "product_view"},
		{"audience.yaml", "category: keep", "category: url_path"},
		{"audience.yaml", "service Données", "service Client"},
		{"audience.yaml", "country: FR", "country: DE"},
		{"audience.yaml", "role: controller", "role: processor"},
		{"audience.yaml", "destination: warehouse", "destination: lake"},
		{"audience.yaml", "dpo: dpo@boutique.example", "dpo: cnil@boutique.example"},
		{"audience.yaml", "url: https://boutique", "url: https://www.boutique"},
		{"service.yaml", "on_withdrawal: stop", "on_withdrawal: erase"},
		{"service.yaml", "basis: contract", "basis: legal_obligation"},
		{"service.yaml", "retention: P5Y", "retention: P5Y\nsubject: none"},
		{"service.yaml", "retention: P5Y", "retention: P5Y\nassessment: AIPD-1"},
		{"service.yaml", "retention: P5Y", "retention: P5Y\ntransfers: none"},
		{"service.yaml", "retention: P5Y", "retention: P5Y\nautomated_decisions: true"},
		{"service.yaml", "basis: contract", "basis: legitimate_interest\nassessment: LIA-1\nsubject: none"},
		{"service.yaml", "basis: contract", "basis: legitimate_interest\nassessment: LIA-1\nsubject: none\nexemption: Art. 82"},
		{"service.yaml", "basis: contract", "basis: legitimate_interest\nassessment: LIA-1\nsubject: none\nexemption: Art. 83"},
		{"events.yaml", "and your purchases in our stores", "and your purchases"},
		{"events.yaml", "[fr, en]", "[en, fr]"},
		{"events.yaml", "channel: store", "channel: call_centre"},
		{"events.yaml", "stage: loyalty", "stage: purchase"},
	} {
		files := shop(t)
		replace(t, files, c[0], c[1], c[2])
		h := load(t, files).Hash()
		if other, twice := seen[h]; twice {
			t.Errorf("%s → %s has the hash of %s", c[1], c[2], other)
		}
		seen[h] = c[2]
	}
}

func replace(t *testing.T, files fstest.MapFS, name, old, with string) {
	t.Helper()
	changed := bytes.ReplaceAll(files[name].Data, []byte(old), []byte(with))
	if bytes.Equal(changed, files[name].Data) {
		t.Fatalf("%s does not hold %q", name, old)
	}
	files[name] = &fstest.MapFile{Data: changed}
}

// TestWhatAccessTells: sources, rules, retention and automated decisions, as the documents have them.
func TestWhatAccessTells(t *testing.T) {
	files := shop(t)
	replace(t, files, "service.yaml", "retention: P5Y", "retention: P5Y\nautomated_decisions: true")
	p := load(t, files)
	if s := p.Source(); len(s) != 2 || !strings.HasPrefix(s["fr"], "Vos visites") || !strings.HasPrefix(s["en"], "Your visits") {
		t.Errorf("source %v", s)
	}
	rules := p.Rules()
	if len(rules) != 2 || rules["service"]["order"] != policies.Keep || rules["audience"]["url"] != policies.URLPath {
		t.Errorf("rules %v", rules)
	}
	if _, dropped := rules["audience"]["search_terms"]; dropped {
		t.Error("a field that is dropped stands in the rules")
	}
	delete(rules["service"], "order")
	if p.Rules()["service"]["order"] != policies.Keep {
		t.Error("the rules are shared")
	}
	for purpose, want := range map[string]string{"audience": "P13M", "service": "P5Y", "canary": "P0D"} {
		if r, ok := p.Retention(purpose); r.String() != want || ok != (purpose != "canary") {
			t.Errorf("%s: %v %v", purpose, r, ok)
		}
	}
	for purpose, want := range map[string]bool{"audience": false, "service": true} {
		if x, _ := p.Purpose(purpose); x.AutomatedDecisions != want {
			t.Errorf("%s: %v", purpose, x.AutomatedDecisions)
		}
	}
}

// TestHashPinned pins the canonical encoding: data in the field names policies by this hash. It changes only with the content of
// the file below.
func TestHashPinned(t *testing.T) {
	files := fstest.MapFS{
		"events.yaml": {Data: []byte("event_types: {purchase: {channel: web}}")},
		"sale.yaml": {Data: []byte("{purpose: sale, version: 3, basis: legal_obligation, title: {fr: Vente}, retention: P10Y, " +
			"notice: {url: 'https://x.example/', text: {fr: Un texte.}}, event_types: [purchase], fields: {value: keep}, " +
			"recipients: [{destination: books, name: Comptable, country: FR}]}")},
	}
	h := load(t, files).Hash()
	if got := hexOf(h[:]); got != pinnedHash {
		t.Errorf("the hash is %s, was %s", got, pinnedHash)
	}
}

// TestHotPathDoesNotAllocate: these are asked for every field of every event.
func TestHotPathDoesNotAllocate(t *testing.T) {
	p := load(t, policies.Default())
	field, name := string([]byte("campaign")), string([]byte("page_view"))
	var sink int
	allocs := testing.AllocsPerRun(1000, func() {
		x, _ := p.Purpose("audience")
		e, _ := p.EventType(name)
		sink += len(p.Treatment(e.Purposes, field)) + len(p.Treatment(x.Bit(), "unheard_of")) + int(p.RecipientOf("warehouse"))
	})
	if allocs != 0 || sink == 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkTreatment(b *testing.B) {
	p := load(b, policies.Default())
	e, _ := p.EventType("purchase")
	b.ReportAllocs()
	for b.Loop() {
		p.Treatment(e.Purposes, "campaign")
	}
}

func TestPeriodAddTo(t *testing.T) {
	day := func(s string) time.Time {
		d, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct{ from, period, want string }{
		{"2026-01-31T10:00:00Z", "P1M", "2026-02-28T10:00:00Z"},
		{"2024-01-31T10:00:00Z", "P1M", "2024-02-29T10:00:00Z"},
		{"2024-02-29T00:00:00Z", "P1Y", "2025-02-28T00:00:00Z"},
		{"2026-08-31T23:59:59Z", "P6M", "2027-02-28T23:59:59Z"},
		{"2026-10-31T00:00:00Z", "P13M", "2027-11-30T00:00:00Z"},
		{"2026-01-31T00:00:00Z", "P1M1D", "2026-03-01T00:00:00Z"},
		{"2026-12-31T22:30:00Z", "PT1H30M", "2027-01-01T00:00:00Z"},
		{"2026-03-29T00:30:00+01:00", "P1D", "2026-03-29T23:30:00Z"}, // by UTC, so no summer time
		{"2026-01-01T00:00:00Z", "P2W", "2026-01-15T00:00:00Z"},
	} {
		p, err := policies.ParsePeriod(c.period)
		if got := p.AddTo(day(c.from)); err != nil || !got.Equal(day(c.want)) || got.Location() != time.UTC {
			t.Errorf("%s + %s: got %s, want %s (%v)", c.from, c.period, got.Format(time.RFC3339), c.want, err)
		}
	}
	for _, bad := range []string{"", "P", "PT", "6M", "P6", "P6MT", "P1D1M", "P1M1M", "PT1S", "P1.5D", "P-1D", "P12345D", "p1d", "P1W2D", "P1WT1H", "PT1D", "P٣D"} {
		if p, err := policies.ParsePeriod(bad); err == nil {
			t.Errorf("%q is read as %s", bad, p)
		}
	}
}

func TestPeriodProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := func(name string) int { return rapid.IntRange(0, 9999).Draw(t, name) }
		p := policies.Period{Years: n("years") / 100, Months: n("months"), Days: n("days"), Hours: n("hours"), Minutes: n("minutes")}
		back, err := policies.ParsePeriod(p.String())
		if err != nil || back != p {
			t.Fatalf("%+v is written %s and read %+v (%v)", p, p, back, err)
		}
		from := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "from"), 0).UTC()
		to := p.AddTo(from)
		if to.Before(from) || p.IsZero() != to.Equal(from) {
			t.Fatalf("%s + %s is %s", from, p, to)
		}
		months := policies.Period{Months: p.Months}.AddTo(from)
		whole := (months.Year()-from.Year())*12 + int(months.Month()) - int(from.Month())
		if whole != p.Months || months.Day() > from.Day() || months.Day() < min(from.Day(), 28) {
			t.Fatalf("%s + %d months is %s", from, p.Months, months)
		}
	})
}

// FuzzLoad: whatever stands in a file, Load answers with a whole policy or with problems that have all their parts.
func FuzzLoad(f *testing.F) {
	base := shop(f)
	for name, file := range base {
		f.Add(name, file.Data)
	}
	const short = "{version: 1, title: {fr: T, en: T}, notice: {url: 'https://x.example/', text: {fr: T, en: T}}, retention: P1Y, "
	f.Add("linking.yaml", []byte(short+"purpose: linking, basis: consent, recipients: [{destination: warehouse, name: N, country: FR}]}"))
	f.Add("counts.yaml", []byte(short+"purpose: counts, basis: legitimate_interest, assessment: A, subject: none, exemption: E, "+
		"event_types: [page_view], fields: {score: round}, recipients: []}"))
	for _, s := range []string{
		"a: &a [*a]", "? [a]\n: b", "<<: {a: b}", "!!map {a: b}", "a: |+1\n  x", "%YAML 1.2\n---\na: b", "a: 'b", "- - -", "a: >-\n", "\t", "{a, b: }",
		"event_types: {a: {channel: web, stage: intent}}", "notice: {text: {fr: |\n x}}", "\"\\x00\": 1", "a: .inf", "version: 0x1", "a: b: c", "-", ":", "? ", "[]", "---\n...\n---",
	} {
		f.Add("audience.yaml", []byte(s))
		f.Add("events.yaml", []byte(s))
	}
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		files := fstest.MapFS{"events.yaml": base["events.yaml"], "service.yaml": base["service.yaml"]}
		if fs.ValidPath(name) && name != "." {
			files[name] = &fstest.MapFile{Data: content}
		}
		p, err := policies.Load(files)
		if err != nil {
			if p != nil {
				t.Fatal("a policy beside an error")
			}
			messages(t, files)
			return
		}
		again := load(t, files)
		if p.Hash() != again.Hash() || len(p.Purposes()) == 0 {
			t.Fatal("one content, two hashes")
		}
		for _, n := range p.NoticeTexts() {
			if n.Text == "" || n.Language == "" || len(n.Purposes) == 0 {
				t.Fatalf("half a notice: %+v", n)
			}
		}
	})
}

// FuzzParsePeriod: what is read is written back to the same.
func FuzzParsePeriod(f *testing.F) {
	for _, s := range []string{"P6M", "P1Y2M3DT4H5M", "P2W", "PT24H", "P0D", "P"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := policies.ParsePeriod(text)
		if err != nil {
			return
		}
		if back, err := policies.ParsePeriod(p.String()); err != nil || back != p {
			t.Errorf("%q is read %+v, written %s, read %+v (%v)", text, p, p, back, err)
		}
	})
}
