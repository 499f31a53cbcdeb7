package privacy_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/cmd/octroi/privacy"
	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/collector/spool"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights"
	"github.com/octroi/octroi/export/rights/access"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
	"golang.org/x/net/html"
)

func key(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

var (
	tokenKey   = ed25519.NewKeyFromSeed(key(6))
	receiptKey = ed25519.NewKeyFromSeed(key(7))
	logKey     = ed25519.NewKeyFromSeed(key(8))
)

// door is the public listener with the pages, over the gateway's real parts.
type door struct {
	t        *testing.T
	url      string
	micros   atomic.Int64 // of the clock, which goes on with every look
	logs     logs
	policy   *policies.Policy
	state    *state.Store
	subjects *subject.Registry
	ledger   *consent.Ledger
	rights   *rights.Requests
	signer   *evidence.Signer
	sites    []collector.Site
}

func (d *door) now() time.Time { return time.UnixMicro(d.micros.Add(20)).UTC() }

func (d *door) forward(by time.Duration) { d.micros.Add(by.Microseconds()) }

// logs collects what is logged.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// setting is what a test changes of a door.
type setting struct {
	sites []collector.Site
	files func(fstest.MapFS)
	rate  float64
}

func shop() collector.Site {
	return collector.Site{
		Key: "demo", Name: "shop", Origins: []string{"https://shop.example", "http://localhost:8080"}, Region: "FR", Jurisdiction: "FR", Language: "en",
		Controller: "Demonstration Shop", PolicyURL: "https://shop.example/privacy",
		Contact: consent.Contact{Name: "Data protection officer", Email: "dpo@shop.example", Phone: "+33 1 23 45 67 89", Street: "1 rue de l'Exemple", PostalCode: "75000", City: "Paris", Country: "France"},
	}
}

func openDoor(t *testing.T, change ...func(*setting)) *door {
	t.Helper()
	s := setting{sites: []collector.Site{shop()}, files: func(fstest.MapFS) {}, rate: 1e6}
	for _, f := range change {
		f(&s)
	}
	d := &door{t: t, sites: s.sites}
	d.micros.Store(time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC).UnixMicro())
	d.openPolicy(s.files)
	d.openState()
	dir := t.TempDir()
	events, err := spool.Open(spool.Options{Dir: filepath.Join(dir, "spool"), Key: key(4), Now: d.now})
	d.must(err)
	t.Cleanup(func() { _ = events.Close() })
	log := slog.New(slog.NewJSONHandler(&d.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	edge, err := collector.New(collector.Options{
		Sites: s.sites, Policy: d.policy, Subjects: d.subjects, Ledger: d.ledger, Spool: events, Tokens: tokenKey.Public().(ed25519.PublicKey),
		Issuer: "a", Receipts: receiptKey.Public().(ed25519.PublicKey), Loopback: true, ConsentRate: s.rate, Now: d.now, Log: log,
	})
	d.must(err)
	store, err := export.OpenDir(t.TempDir())
	d.must(err)
	d.rights, err = rights.Open(t.Context(), rights.Options{
		Node: "a", State: d.state, Subjects: d.subjects, Ledger: d.ledger, Policy: d.policy, Objects: store,
		Acks: export.NewAcks(d.state), Streams: export.NewStreams(d.state, "a"), Index: export.NewIndex(d.state), Tail: events.Tail, LowWater: events.Tail,
		Approval: tokenKey.Public().(ed25519.PublicKey), Custodian: tokenKey.Public().(ed25519.PublicKey), Checkpoints: d.signer,
		SuppressionKey: key(9), Packages: filepath.Join(dir, "packages"), Controller: access.Controller{Name: "Demonstration Shop", Email: "dpo@shop.example"}, Now: d.now,
	})
	d.must(err)
	pages, err := privacy.Open(privacy.Options{
		Edge: edge, Ledger: d.ledger, Rights: d.rights, Policy: d.policy, Sites: s.sites, Secret: key(3), Loopback: true, Log: log, Now: d.now,
		Keys: []privacy.PublicKey{{Name: "log.key.pub", Text: "octroi-log-public-v1:AAAA\n"}},
	})
	d.must(err)
	app := edge.App()
	pages.Routes(app)
	d.listen(app)
	return d
}

func (d *door) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *door) openPolicy(change func(fstest.MapFS)) {
	files := fstest.MapFS{}
	err := fs.WalkDir(policies.Default(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := fs.ReadFile(policies.Default(), path)
		files[path] = &fstest.MapFile{Data: b}
		return err
	})
	d.must(err)
	change(files)
	d.policy, err = policies.Load(files)
	d.must(err)
}

func (d *door) openState() {
	dir := d.t.TempDir()
	var err error
	d.state, err = state.Open(state.Options{Dir: filepath.Join(dir, "state"), Key: key(1)})
	d.must(err)
	d.t.Cleanup(func() { _ = d.state.Close() })
	d.subjects, err = subject.OpenRegistry(subject.Options{
		State: d.state, SlotFile: filepath.Join(dir, "slots"), LookupKey: key(2), SuppressionKey: key(9), CacheSize: 4096,
	})
	d.must(err)
	d.t.Cleanup(func() { _ = d.subjects.Close() })
	d.signer, err = evidence.NewSigner("octroi/a", logKey)
	d.must(err)
	d.ledger, err = consent.Open(consent.Options{
		State: d.state, Subjects: d.subjects, Policy: d.policy, SnapshotKey: key(3), Receipts: receiptKey, Checkpoints: d.signer, CacheSize: 4096, Now: d.now,
	})
	d.must(err)
}

func (d *door) listen(app *fiber.App) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	d.must(err)
	done := make(chan error, 1)
	go func() { done <- app.Listener(l) }()
	d.url = "http://" + l.Addr().String()
	d.t.Cleanup(func() {
		_ = app.ShutdownWithTimeout(5 * time.Second)
		_ = l.Close()
		<-done
	})
}

// browser is somebody's browser on the pages. It follows redirects, and remembers every address it was at.
type browser struct {
	*door
	jar    *cookiejar.Jar
	client *http.Client
	been   []string
	header http.Header // of every request
}

func (d *door) browser() *browser {
	jar, err := cookiejar.New(nil)
	d.must(err)
	b := &browser{door: d, jar: jar, header: http.Header{"Accept-Language": {"en"}}}
	b.client = &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		b.been = append(b.been, r.URL.String())
		return nil
	}}
	d.t.Cleanup(b.client.CloseIdleConnections)
	return b
}

// page is an answer.
type page struct {
	t      *testing.T
	status int
	header http.Header
	text   string
	at     string // address
}

func (b *browser) send(method, path string, form url.Values, header ...string) *page {
	b.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, body)
	b.must(err)
	for name, list := range b.header {
		r.Header[name] = list
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Del(header[i])
		if header[i+1] != "" {
			r.Header.Set(header[i], header[i+1])
		}
	}
	b.been = append(b.been, r.URL.String())
	a, err := b.client.Do(r)
	b.must(err)
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	b.must(err)
	return &page{b.t, a.StatusCode, a.Header, string(text), a.Request.URL.RequestURI()}
}

func (b *browser) get(path string, header ...string) *page {
	b.t.Helper()
	return b.send(http.MethodGet, path, nil, header...)
}

// press sends a form of a page: the one that goes to action, with its hidden fields and what is put in.
func (b *browser) press(p *page, action string, put ...string) *page {
	b.t.Helper()
	return b.send(http.MethodPost, action, p.form(action, put...))
}

// form is the first form of the page that goes to action and has the fields put in, if they are hidden ones.
func (p *page) form(action string, put ...string) url.Values {
	p.t.Helper()
	path, _, _ := strings.Cut(action, "?")
	for _, form := range p.elements("form") {
		to, _, _ := strings.Cut(attribute(form, "action"), "?")
		if to != path || attribute(form, "method") != "post" {
			continue
		}
		fields, fits := url.Values{}, true
		for _, input := range within(form, "input") {
			if attribute(input, "type") == "hidden" {
				fields.Add(attribute(input, "name"), attribute(input, "value"))
			}
		}
		for i := 0; i < len(put); i += 2 {
			if hidden := fields.Get(put[i]); hidden != "" && hidden != put[i+1] {
				fits = false
			}
		}
		if !fits {
			continue
		}
		for i := 0; i < len(put); i += 2 {
			if fields.Get(put[i]) == "" || put[i] == "purpose" && fields.Get("purpose") != put[i+1] {
				fields.Add(put[i], put[i+1])
			}
		}
		return fields
	}
	p.t.Fatalf("no form to %s with %v on %s", action, put, p.at)
	return nil
}

func (p *page) tree() *html.Node {
	p.t.Helper()
	n, err := html.Parse(strings.NewReader(p.text))
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

func (p *page) elements(name string) []*html.Node { p.t.Helper(); return within(p.tree(), name) }

// within are the elements below n of that name; of all names where it is empty.
func within(n *html.Node, name string) (list []*html.Node) {
	for x := range n.Descendants() {
		if x.Type == html.ElementNode && (name == "" || x.Data == name) {
			list = append(list, x)
		}
	}
	return list
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// words is the text below n.
func words(n *html.Node) string { return strings.Join(texts(n), "") }

func texts(n *html.Node) (list []string) {
	for x := range n.Descendants() {
		if x.Type == html.TextNode && (x.Parent == nil || x.Parent.Data != "style") {
			list = append(list, x.Data)
		}
	}
	return list
}

// wants fails where the page has another status or lacks a text.
func (p *page) wants(status int, says ...string) *page {
	p.t.Helper()
	seen := strings.Join(strings.Fields(strings.Join(texts(p.tree()), " ")), " ")
	if p.status != status {
		p.t.Fatalf("%s answered %d, want %d: %.2000s", p.at, p.status, status, seen)
	}
	for _, text := range says {
		if !strings.Contains(seen, text) {
			p.t.Fatalf("%s does not say %q: %.2000s", p.at, text, seen)
		}
	}
	return p
}

// lacks fails where the page has a text.
func (p *page) lacks(says ...string) *page {
	p.t.Helper()
	for _, text := range says {
		if strings.Contains(p.text, text) {
			p.t.Fatalf("%s says %q", p.at, text)
		}
	}
	return p
}

// state is what the page says of a purpose.
func (p *page) state(purpose string) string {
	p.t.Helper()
	for _, a := range p.elements("article") {
		if attribute(a, "aria-labelledby") != "purpose-"+purpose {
			continue
		}
		for _, s := range within(a, "span") {
			if strings.HasPrefix(attribute(s, "class"), "state") {
				return words(s)
			}
		}
	}
	p.t.Fatalf("%s does not show %s", p.at, purpose)
	return ""
}

// cookies are what the browser holds for a path.
func (b *browser) cookies(path string) map[string]string {
	u, err := url.Parse(b.url + path)
	b.must(err)
	all := map[string]string{}
	for _, c := range b.jar.Cookies(u) {
		all[c.Name] = c.Value
	}
	return all
}

// agreed is a browser that agreed to purposes on the page.
func (d *door) agreed(purposes ...string) *browser {
	d.t.Helper()
	b := d.browser()
	form := b.get("/privacy").wants(200).form("/privacy/choices")
	form.Set("act", "ticked")
	form["purpose"] = purposes
	b.send(http.MethodPost, "/privacy/choices", form).wants(200)
	return b
}

// device is whose cookie the browser holds.
func (b *browser) device() subject.Subject {
	b.t.Helper()
	c, ok := subject.ParseCredential(b.cookies("/")["octroi-dev"])
	if !ok {
		b.t.Fatal("the browser holds no credential")
	}
	s, err := b.subjects.Device(c)
	b.must(err)
	return s
}

// changes counts what a forged request might have changed.
func (b *browser) changes() string {
	b.t.Helper()
	_, records, err := b.ledger.Acts(b.device(), 1)
	b.must(err)
	list, err := b.rights.Self(rights.Visitor{Subject: b.device()}, "").Requests()
	b.must(err)
	size, _, err := b.state.Tree()
	b.must(err)
	return fmt.Sprintf("%d records, %d requests, %d leaves", records, len(list), size)
}

// choose records a choice of the browser's device behind the page's back.
func (b *browser) choose(purposes map[string]bool) {
	b.t.Helper()
	n := b.policy.ChoiceNotice("en")
	_, err := b.ledger.Record(context.Background(), consent.Choice{
		Site: consent.Site{Name: "shop", Jurisdiction: "FR"}, Who: consent.Who{Device: b.device()}, Purposes: purposes, Method: "banner", Language: "en",
		Notice: &consent.NoticeRef{ID: n.ID, Version: n.Version, Language: n.Language, SHA256: n.SHA256()},
	})
	b.must(err)
}
