package access_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/net/html"

	"github.com/octroi/octroi/export/rights/access"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

var update = flag.Bool("update", false, "write the golden files anew")

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

func material() access.Material {
	warehouse := access.Recipient{Destination: "warehouse", Name: "Boutique Example, service Données", Country: "FR", Role: "controller"}
	return access.Material{
		Version: 1, Request: "3f0c8a52-0d6c-4a53-9a53-6b1a2f1d7c10", Received: at("2026-11-21T09:00:00Z"), Kind: "device",
		Controller: access.Controller{
			Name: "Boutique Example SAS", DPO: "dpo@boutique.example", Email: "contact@boutique.example", Phone: "+33 1 23 45 67 89",
			Address: "1 rue de l'Exemple, 75000 Paris", PolicyURL: "https://boutique.example/confidentialite",
		},
		Purposes: []access.Purpose{{
			ID: "audience", Title: map[string]string{"fr": "Mesure d'audience", "en": "Audience measurement"},
			Text:  map[string]string{"fr": "Nous mesurons la fréquentation.\n\nDurée : treize mois.", "en": "We measure visits."},
			Basis: "consent", Categories: []string{"url", "value", "shoe_size"}, Recipients: []access.Recipient{warehouse}, Retention: "P1Y1M",
		}},
		Source: map[string]string{"fr": "De vous, par notre site.", "en": "From you, through our site."},
		Consents: []access.Consent{{
			Time: at("2026-10-01T10:11:12Z"), Event: "consent", State: "ConsentGiven", Purposes: map[string]bool{"audience": true},
			Proven: json.RawMessage(`{"record":{"core":{"schema_version":1,"record_id":"r1","site":"shop",` +
				`"notice":{"id":"choice","version":"audience.1","language":"fr","text_sha256":"ab"},` +
				`"purposes":[{"id":"audience","version":1,"legal_basis":"consent","granted":true,"valid_until":"2027-04-01T10:11:12Z"}],` +
				`"event":{"type":"consent","time":"2026-10-01T10:11:12Z","method":"banner"}}},"opening":{},"proof":{},` +
				`"notice_text":"Mesure d'audience\n\nSi vous l'acceptez…"}`),
		}, {
			Time: at("2026-11-20T10:00:00Z"), Event: "withdrawal", State: "ConsentWithdrawn", Purposes: map[string]bool{"audience": false},
		}},
		Requests: []access.PastRequest{{ID: "3f0c8a52-0d6c-4a53-9a53-6b1a2f1d7c10", Right: "access", State: "in_progress", Received: at("2026-11-21T09:00:00Z")}},
		Links: []access.Link{
			{Since: at("2026-10-01T10:11:30Z"), Until: at("2026-10-01T10:40:00Z"), Method: "login_claim"},
			{Since: at("2026-11-02T18:00:00Z"), Method: "token"},
		},
	}
}

// window is what the gateway itself keeps of a purchase.
func window() *access.Window {
	r := row(7, "2026-11-02T18:30:00Z", "purchase")
	r.Device, r.Properties = &[16]byte{0xcc, 3}, nil
	return &access.Window{Destination: "journeys", Rows: []pseudonymize.Row{r}, Withheld: 1}
}

var (
	mine   = [16]byte{0xaa, 1}
	theirs = [16]byte{0xbb, 2}
)

func row(id byte, when, kind string) pseudonymize.Row {
	return pseudonymize.Row{
		EventID: [16]byte{id}, Time: at(when), ReceivedAt: at(when).Truncate(time.Hour), Device: &mine, Type: kind, Channel: "web", Stage: "purchase",
		Site: "shop", Grants: []pseudonymize.RowGrant{{Purpose: "audience", Version: 1, Basis: policies.Consent, Ref: [16]byte{9}}},
		Properties: map[string]string{},
	}
}

func found(rows ...pseudonymize.Row) access.Found {
	return access.Found{
		Destinations: []string{"warehouse"}, Own: map[[16]byte]bool{mine: true}, Objects: 3, At: at("2026-11-21T10:00:00Z"),
		Rows: func(_ string, fn func([]pseudonymize.Row) error) error {
			for chunk := range slices.Chunk(rows, 2) {
				if err := fn(chunk); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func write(t *testing.T, m access.Material, f access.Found, language string) (zipped []byte, counts access.Counts) {
	t.Helper()
	var b bytes.Buffer
	counts, err := access.Write(&b, m, f, language)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), counts
}

// read is one file of a package.
func read(t *testing.T, zipped []byte, name string) string {
	t.Helper()
	f, err := access.Open(bytes.NewReader(zipped), int64(len(zipped)), name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(text)) != f.Size {
		t.Errorf("%s has %d bytes and says %d", name, len(text), f.Size)
	}
	return string(text)
}

// TestGolden: what is written, to be read by whoever reviews a change. The style and the embedded files are left out.
func TestGolden(t *testing.T) {
	purchase := row(2, "2026-11-02T18:30:00Z", "purchase")
	purchase.Value = pseudonymize.Money{Minor: 123450, Currency: "EUR"}
	purchase.Campaign, purchase.Properties["product"] = "noël", "chaussures"
	f := found(row(1, "2026-10-01T10:12:00Z", "page_view"), purchase)
	f.Withheld = map[string]int{"warehouse": 1234}
	m := material()
	m.Window = window()
	zipped, counts := write(t, m, f, "fr")
	if counts["warehouse"] != 2 || counts["journeys"] != 1 || len(counts) != 2 {
		t.Errorf("counts %v", counts)
	}
	for _, name := range []string{access.PageFile, access.DataFile, access.EventsFile, access.ConsentsFile, access.LinksFile} {
		text := read(t, zipped, name)
		text = regexp.MustCompile(`(?s)<style>.*</style>`).ReplaceAllString(text, "<style>…</style>")
		text = regexp.MustCompile(`sha256-[^&']*`).ReplaceAllString(text, "sha256-…")
		text = regexp.MustCompile(`;base64,[^"]*`).ReplaceAllString(text, ";base64,…")
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if text != string(want) {
			t.Errorf("%s differs from %s (go test -update, and look at the difference):\n%s", name, golden, text)
		}
	}
}

func TestDeterministic(t *testing.T) {
	rows := []pseudonymize.Row{row(1, "2026-10-01T10:12:00Z", "page_view"), row(2, "2026-10-02T10:12:00Z", "search")}
	rows[0].Properties = map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}
	first, _ := write(t, material(), found(rows...), "en")
	for range 5 {
		if again, _ := write(t, material(), found(rows...), "en"); !bytes.Equal(first, again) {
			t.Fatal("the same input gave other bytes")
		}
	}
}

func TestLanguages(t *testing.T) {
	for language, other := range map[string]string{"fr": "en", "en": "fr"} {
		zipped, _ := write(t, material(), found(row(1, "2026-10-01T10:12:00Z", "page_view")), language)
		text := read(t, zipped, access.PageFile)
		a, b := strings.Index(text, `<article id="`+language+`"`), strings.Index(text, `<article id="`+other+`"`)
		if a < 0 || b < a {
			t.Errorf("%s does not come first, or %s is missing", language, other)
		}
		for _, part := range []string{
			"Page consultée", "Page viewed", "1er octobre 2026, 10:12", "1 October 2026, 10:12", "1\u00a0an et 1\u00a0mois",
			"1\u00a0year and 1\u00a0month", "France", "treize mois", "We measure visits.",
		} {
			if !strings.Contains(text, part) {
				t.Errorf("the page lacks %q", part)
			}
		}
	}
	if _, err := access.Write(io.Discard, material(), found(), "de"); !errors.Is(err, access.ErrLanguage) {
		t.Errorf("German: %v", err)
	}
}

// TestWindowName: a window that calls itself one of the batches' destinations would be counted as it.
func TestWindowName(t *testing.T) {
	for _, name := range []string{"", "warehouse"} {
		m := material()
		m.Window = window()
		m.Window.Destination = name
		if _, err := access.Write(io.Discard, m, found(), "fr"); !errors.Is(err, access.ErrMaterial) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestNobodyElse: a row of the person that also carries another subject shows nothing of that one.
func TestNobodyElse(t *testing.T) {
	shared := row(1, "2026-10-01T10:12:00Z", "purchase")
	shared.Person = &theirs
	zipped, _ := write(t, material(), found(shared), "fr")
	for _, name := range []string{access.PageFile, access.DataFile, access.EventsFile} {
		text := read(t, zipped, name)
		if strings.Contains(text, "bb02") {
			t.Errorf("%s shows the pseudonym of another", name)
		}
		if strings.Contains(text, `"ref"`) {
			t.Errorf("%s shows a reference that may be another's", name)
		}
		if name != access.PageFile && !strings.Contains(text, "aa01") {
			t.Errorf("%s lacks the person's own", name)
		}
	}
}

// hostile are values that would be something else in one of the formats.
func hostile() []string {
	return []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `javascript:alert(1)`, `</style><script>`,
		"a\u202egnp.exe", "\x00\x07\x1b[31m", "=HYPERLINK(\"http://evil\")", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "a,b\"c\r\nd", "\xff\xfe", "&lt;b&gt;",
		"{{.Material}}", "]]>", "%s%n",
	}
}

func TestHostileValues(t *testing.T) {
	for _, bad := range hostile() {
		m := material()
		m.Request = bad
		m.Purposes = []access.Purpose{{
			ID: bad, Title: map[string]string{"fr": bad}, Text: map[string]string{bad: bad}, Basis: bad, Categories: []string{bad}, Retention: bad,
			Recipients: []access.Recipient{{Destination: bad, Name: bad, Country: bad, Role: bad}}, Transfers: bad, Automated: true,
		}}
		m.Controller = access.Controller{Name: bad, DPO: bad, Contact: bad, Email: bad, Phone: bad, Address: bad, PolicyURL: bad}
		m.Source = map[string]string{"fr": bad, bad: bad}
		m.Consents[1].Event, m.Consents[1].State, m.Consents[1].Purposes = bad, bad, map[string]bool{bad: true}
		proven, err := json.Marshal(map[string]any{
			"record":      map[string]any{"core": map[string]any{"record_id": bad, "site": bad, "notice": map[string]string{"id": bad, "version": bad, "language": bad}, "event": map[string]string{"method": bad}}},
			"notice_text": bad,
		})
		if err != nil {
			t.Fatal(err)
		}
		m.Consents[1].Proven = proven
		m.Window = window()
		m.Links[0].Method, m.Window.Destination, m.Window.Rows[0].Type = bad, bad+"w", bad
		m.Requests[0] = access.PastRequest{ID: bad, Right: bad, State: bad, Received: m.Received}
		x := row(1, "2026-10-01T10:12:00Z", bad)
		x.Channel, x.Stage, x.Site, x.Campaign, x.Source, x.Medium = bad, bad, bad, bad, bad, bad
		x.Value, x.Properties = pseudonymize.Money{Minor: math.MinInt64, Currency: bad}, map[string]string{bad: bad}
		x.Grants[0].Purpose = bad
		f := found(x)
		f.Destinations = []string{bad}
		zipped, _ := write(t, m, f, "fr")
		checkPage(t, bad, read(t, zipped, access.PageFile))
		checkEvents(t, bad, read(t, zipped, access.EventsFile))
		checkEvents(t, bad, read(t, zipped, access.ConsentsFile))
		checkEvents(t, bad, read(t, zipped, access.LinksFile))
		validate(t, read(t, zipped, access.DataFile))
	}
}

// checkPage: only the elements and addresses that the template has, whatever the values say.
func checkPage(t *testing.T, bad, text string) {
	t.Helper()
	elements := strings.Fields("html head meta title style body nav a main article h1 h2 h3 p ul ol li section dl dt dd div table caption thead " +
		"tbody tr th td time b bdi span svg text line rect")
	attributes := strings.Fields("lang charset http-equiv content name aria-label href hreflang id class download rel tabindex role scope datetime " +
		"viewBox viewbox x y x1 y1 x2 y2 width height text-anchor")
	for z := html.NewTokenizer(strings.NewReader(text)); ; {
		switch z.Next() {
		case html.ErrorToken:
			if z.Err() != io.EOF {
				t.Fatal(z.Err())
			}
			return
		case html.TextToken:
			if x := strings.IndexFunc(string(z.Text()), func(r rune) bool {
				return unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r)
			}); x >= 0 {
				t.Errorf("%q: an invisible character is on the page", bad)
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			x := z.Token()
			if !slices.Contains(elements, x.Data) {
				t.Errorf("%q: element %s", bad, x)
			}
			for _, a := range x.Attr {
				if !slices.Contains(attributes, a.Key) || strings.Contains(a.Val, "ZgotmplZ") {
					t.Errorf("%q: attribute %s of %s", bad, a.Key, x)
				}
				if a.Key == "href" && !regexp.MustCompile(`^(#[a-z0-9-]+$|https?://|mailto:|data:(application/(schema\+)?json|text/csv);base64,)`).MatchString(a.Val) {
					t.Errorf("%q: it leads to %s", bad, a.Val)
				}
			}
		}
	}
}

// checkEvents: as many cells in each line, none of which is a formula.
func checkEvents(t *testing.T, bad, text string) {
	t.Helper()
	text, marked := strings.CutPrefix(text, "\ufeff")
	if !marked {
		t.Errorf("%q: no byte order mark", bad)
	}
	lines, err := csv.NewReader(strings.NewReader(text)).ReadAll() // every line must have as many cells as the first
	if err != nil {
		t.Fatalf("%q: %v", bad, err)
	}
	if len(lines) < 2 {
		t.Errorf("%q: no line", bad)
	}
	for _, cell := range slices.Concat(lines...) {
		if cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) && !regexp.MustCompile(`^-\d+\.\d\d$`).MatchString(cell) {
			t.Errorf("%q: the cell %q is a formula", bad, cell)
		}
	}
}

// TestExactCells: a cell reads back byte for byte, but for the guard.
func TestExactCells(t *testing.T) {
	x := row(1, "2026-10-01T10:12:00Z", "purchase")
	x.Campaign, x.Source, x.Medium = "a\nb\r\nc\rd", `say "=1"`, "=1+1"
	zipped, _ := write(t, material(), found(x), "fr")
	text := read(t, zipped, access.EventsFile)
	for _, part := range []string{"\"a\nb\r\nc\rd\"", `"say ""=1"""`, ",'=1+1,"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
}

// TestMany: many rows, all of them in the files, the newest on the page, in little memory.
func TestMany(t *testing.T) {
	const rows = 6000
	f := found()
	calls := 0
	f.Rows = func(_ string, fn func([]pseudonymize.Row) error) error {
		calls++
		chunk := make([]pseudonymize.Row, 500)
		first := row(1, "2026-01-01T00:00:00Z", "page_view")
		first.Campaign = strings.Repeat("campaign ", 22)
		for i := 0; i < rows; i += len(chunk) {
			for j := range chunk {
				// The newest come in the middle.
				n := (i + j + rows/2) % rows
				chunk[j] = first
				chunk[j].EventID = [16]byte{1, byte(n >> 16), byte(n >> 8), byte(n)}
				chunk[j].Time = chunk[j].Time.Add(time.Duration(n) * time.Minute)
				chunk[j].Properties = map[string]string{"n": strconv.Itoa(n)}
			}
			if err := fn(chunk); err != nil {
				return err
			}
		}
		return nil
	}
	zipped, counts := write(t, material(), f, "en")
	if counts["warehouse"] != rows || calls != 3 {
		t.Errorf("%v in %d readings", counts, calls)
	}
	page := read(t, zipped, access.PageFile)
	if n := strings.Count(page, "<time datetime") - 2*(2+3); n != 2*5000 {
		t.Errorf("%d events on the page", n)
	}
	for _, part := range []string{"6,000 events in all. The newest 5,000 are shown", "<bdi>5999</bdi>", "<bdi>1000</bdi>", "too large for this page"} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %q", part)
		}
	}
	if strings.Contains(page, "<bdi>999</bdi>") || strings.Contains(page, `download="events.csv"`) {
		t.Error("an older event, or a large file, is on the page")
	}
	if n := strings.Count(read(t, zipped, access.EventsFile), "\r\n"); n != rows+1 {
		t.Errorf("%d lines of events", n)
	}
	if data := read(t, zipped, access.DataFile); strings.Count(data, `"event_id"`) != rows || !json.Valid([]byte(data)) {
		t.Error("package.json does not hold all of them")
	}
}

func TestRowsChanged(t *testing.T) {
	f := found()
	left := 400
	f.Rows = func(_ string, fn func([]pseudonymize.Row) error) error {
		left--
		rows := make([]pseudonymize.Row, left)
		for i := range rows {
			rows[i] = row(1, "2026-01-01T00:00:00Z", "page_view")
			rows[i].Campaign = strings.Repeat("campaign", 1000)
		}
		return fn(rows)
	}
	if _, err := access.Write(io.Discard, material(), f, "en"); !errors.Is(err, access.ErrRows) {
		t.Errorf("rows that changed: %v", err)
	}
	gone := errors.New("gone")
	f.Rows = func(string, func([]pseudonymize.Row) error) error { return gone }
	if _, err := access.Write(io.Discard, material(), f, "en"); !errors.Is(err, gone) {
		t.Errorf("rows that cannot be read: %v", err)
	}
}

func TestMalformedMaterial(t *testing.T) {
	for name, spoil := range map[string]func(*access.Material){
		"version": func(m *access.Material) { m.Version = 2 },
		"record":  func(m *access.Material) { m.Consents[0].Proven = json.RawMessage(`{"record":`) },
		"kind":    func(m *access.Material) { m.Kind = "cat" },
	} {
		m := material()
		spoil(&m)
		if _, err := access.Write(io.Discard, m, found(), "fr"); !errors.Is(err, access.ErrMaterial) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEmpty: nothing is known of the person, and the page says so.
func TestEmpty(t *testing.T) {
	zipped, _ := write(t, access.Material{Version: 1}, access.Found{At: at("2026-11-21T10:00:00Z")}, "en")
	page := read(t, zipped, access.PageFile)
	for _, part := range []string{"No recipient received data", "No choice is recorded", "No request is recorded", "No purpose is declared"} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %q", part)
		}
	}
	validate(t, read(t, zipped, access.DataFile))
}

// TestContentPolicy: the page's own rule names the style that stands in it.
func TestContentPolicy(t *testing.T) {
	zipped, _ := write(t, material(), found(), "en")
	page := read(t, zipped, access.PageFile)
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(page)[1]
	sum := sha256.Sum256([]byte(style))
	if want := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(html.UnescapeString(page), want) {
		t.Errorf("%s is not the policy of the page", want)
	}
}

func TestOpen(t *testing.T) {
	zipped, _ := write(t, material(), found(row(1, "2026-10-01T10:12:00Z", "page_view")), "fr")
	open := func(b []byte, name string) error {
		f, err := access.Open(bytes.NewReader(b), int64(len(b)), name)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		return errors.Join(err, f.Close())
	}
	if err := open(zipped, access.SchemaFile); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", "../index.html", "other", "index.html/"} {
		if err := open(zipped, name); !errors.Is(err, access.ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, n := range []int{0, 1, 21, 22, len(zipped) / 2, len(zipped) - 1} {
		if err := open(zipped[:n], access.PageFile); !errors.Is(err, access.ErrPackage) {
			t.Errorf("cut off at %d: %v", n, err)
		}
	}
	spoilt := bytes.Clone(zipped)
	spoilt[len("PK..")+200]++ // within the page
	if err := open(spoilt, access.PageFile); !errors.Is(err, access.ErrPackage) {
		t.Errorf("a changed byte: %v", err)
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range 1000 {
		if _, err := z.Create(strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(b.Bytes(), access.PageFile); !errors.Is(err, access.ErrPackage) {
		t.Errorf("another zip: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	var b bytes.Buffer
	if _, err := access.Write(&b, material(), found(row(1, "2026-10-01T10:12:00Z", "page_view")), "fr"); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:b.Len()-1])
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, zipped []byte) {
		file, err := access.Open(bytes.NewReader(zipped), int64(len(zipped)), access.DataFile)
		if err != nil {
			return
		}
		defer file.Close()
		if n, err := io.Copy(io.Discard, file); err == nil && n != file.Size {
			t.Errorf("%d bytes, said %d", n, file.Size)
		}
	})
}
