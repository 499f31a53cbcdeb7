package collector_test

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/collector/spool"
	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
	"github.com/prometheus/client_golang/prometheus"
)

const origin = "https://shop.example"

// clock is a clock that a test moves.
type clock struct{ millis atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.millis.Load()).UTC() }
func (c *clock) forward(d time.Duration) { c.millis.Add(d.Milliseconds()) }

// logs collects what is logged, at every level.
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

// edge is a collector over a real ledger, real subjects and a real spool, behind a real listener on the loopback.
type edge struct {
	t        testing.TB
	dir      string
	url      string
	clock    *clock
	logs     *logs
	metrics  *prometheus.Registry
	tokens   ed25519.PrivateKey
	receipts ed25519.PrivateKey
	policy   *policies.Policy
	state    *state.Store
	subjects *subject.Registry
	ledger   *consent.Ledger
	spool    *spool.Spool
	edge     *collector.Collector
	client   *http.Client
}

var (
	lookupKey   = bytes.Repeat([]byte{1}, 32)
	spoolKey    = bytes.Repeat([]byte{2}, 32)
	stateKey    = bytes.Repeat([]byte{3}, 32)
	snapshotKey = bytes.Repeat([]byte{4}, 32)
	exportKey   = bytes.Repeat([]byte{5}, 32)

	suppressionKey = bytes.Repeat([]byte{9}, 32)
)

// testPolicy is the default policy with a purpose that asks for a snapshot, and one without subjects.
func testPolicy(t testing.TB) *policies.Policy {
	t.Helper()
	files := fstest.MapFS{}
	err := fs.WalkDir(policies.Default(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(policies.Default(), path)
		files[path] = &fstest.MapFile{Data: b}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	replace := func(from string, pairs ...string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(strings.NewReplacer(pairs...).Replace(string(files[from].Data)))}
	}
	types := func(name string) string {
		return regexp.MustCompile(`(?s)event_types:.*?\]`).FindString(string(files[name].Data))
	}
	files["marketing.yaml"] = replace("audience.yaml", "purpose: audience", "purpose: marketing", "minimum_proof: registered_banner", "minimum_proof: snapshot",
		types("audience.yaml"), "event_types: [product_view]")
	files["counting.yaml"] = replace("service.yaml", "purpose: service", "purpose: counting\nsubject: none", types("service.yaml"),
		"event_types: [heartbeat]", "destination: accounting", "destination: counters", "  delivery: keep", "  delivery: keep\n  ip: truncate_ip\n  user_agent: ua_family\n  url: url_path")
	files["events.yaml"] = &fstest.MapFile{Data: append(files["events.yaml"].Data, "  heartbeat: {channel: web, stage: awareness}\n"...)}
	p, err := policies.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// open builds an edge; change may change its options.
func open(t testing.TB, change ...func(*collector.Options, *spool.Options)) *edge {
	t.Helper()
	e := &edge{
		t: t, dir: t.TempDir(), clock: new(clock), logs: new(logs), metrics: prometheus.NewRegistry(), policy: testPolicy(t),
		tokens: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{6}, 32)), receipts: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)),
	}
	e.clock.millis.Store(time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC).UnixMilli())
	o := collector.Options{
		Sites: []collector.Site{
			{Key: "demo", Name: "shop", Origins: []string{origin, "http://localhost:8080"}, Region: "FR", Jurisdiction: "FR", Language: "en", Controller: "Shop"},
			{Key: "other-key", Name: "other", Origins: []string{"https://other.example"}, Region: "DE", Language: "fr", TooOld: policies.Period{Days: 7}},
		},
		Policy: e.policy, Tokens: e.tokens.Public().(ed25519.PublicKey), Issuer: "node", Receipts: e.receipts.Public().(ed25519.PublicKey),
		Loopback: true, ConsentRate: 1e6, Metrics: e.metrics, Now: e.clock.now,
		Log: slog.New(slog.NewJSONHandler(e.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	so := spool.Options{Dir: filepath.Join(e.dir, "spool"), Key: spoolKey, Now: e.clock.now}
	for _, f := range change {
		f(&o, &so)
	}
	e.policy = o.Policy
	e.openState()
	var err error
	if e.spool, err = spool.Open(so); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.spool.Close() })
	o.Subjects, o.Ledger, o.Spool = e.subjects, e.ledger, e.spool
	if e.edge, err = collector.New(o); err != nil {
		t.Fatal(err)
	}
	e.listen()
	return e
}

func (e *edge) openState() {
	e.t.Helper()
	var err error
	if e.state, err = state.Open(state.Options{Dir: filepath.Join(e.dir, "state"), Key: stateKey}); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = e.state.Close() })
	if e.subjects, err = subject.OpenRegistry(subject.Options{State: e.state, SlotFile: filepath.Join(e.dir, "slots"), LookupKey: lookupKey, SuppressionKey: suppressionKey, CacheSize: 4096}); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = e.subjects.Close() })
	signer, err := evidence.NewSigner("octroi.example/log", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32)))
	if err != nil {
		e.t.Fatal(err)
	}
	e.ledger, err = consent.Open(consent.Options{
		State: e.state, Subjects: e.subjects, Policy: e.policy, SnapshotKey: snapshotKey, Receipts: e.receipts, Checkpoints: signer,
		CacheSize: 4096, Now: e.clock.now,
	})
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *edge) listen() {
	e.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		e.t.Fatal(err)
	}
	app := e.edge.App()
	e.edge.Private(app.Group("/private"))
	done := make(chan error, 1)
	go func() { done <- app.Listener(l) }()
	e.url = "http://" + l.Addr().String()
	e.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}, Timeout: 20 * time.Second}
	e.t.Cleanup(func() {
		e.client.CloseIdleConnections()
		if err := app.ShutdownWithTimeout(5 * time.Second); err != nil {
			e.t.Errorf("shutting down: %v", err)
		}
		_ = l.Close() // fasthttp does not know of it if it was shut down before it began to serve
		<-done
	})
}

// answer is an HTTP answer.
type answer struct {
	status int
	header http.Header
	body   string
}

// send sends a request; header are pairs of names and values, and Content-Type is application/json unless they say otherwise.
func (e *edge) send(method, path, body string, header ...string) answer {
	e.t.Helper()
	req, err := http.NewRequest(method, e.url+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		switch {
		case header[i] == "Content-Type":
			req.Header.Set(header[i], header[i+1])
			if header[i+1] == "" {
				req.Header.Del(header[i])
			}
		default:
			req.Header.Add(header[i], header[i+1])
		}
	}
	if len(body) > wire.MaxBody {
		return e.announce(req)
	}
	resp, err := e.client.Do(req)
	return e.read(resp, err)
}

// read reads the whole answer of a request that was answered.
func (e *edge) read(resp *http.Response, err error) answer {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// announce sends the head of a request alone: its Content-Length is refused before anything of the body is read. Were the body sent, the
// server's closing would meet what it has not read, and the reset could overtake the answer.
func (e *edge) announce(req *http.Request) answer {
	e.t.Helper()
	conn, err := net.Dial("tcp", req.URL.Host)
	if err != nil {
		e.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", req.Method, req.URL.RequestURI(), req.URL.Host, req.ContentLength)
	if err := req.Header.Write(conn); err != nil {
		e.t.Fatal(err)
	}
	fmt.Fprint(conn, "\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	return e.read(resp, err)
}

func (e *edge) post(path, body string, header ...string) answer {
	e.t.Helper()
	return e.send(http.MethodPost, path, body, header...)
}

func (e *edge) get(path string, header ...string) answer {
	e.t.Helper()
	return e.send(http.MethodGet, path, "", header...)
}

// want checks the status, and that a problem is a problem document with the code.
func (a answer) want(t testing.TB, name string, status int, code string) {
	t.Helper()
	if a.status != status {
		t.Errorf("%s: status %d, want %d: %s", name, a.status, status, a.body)
		return
	}
	if status < 400 {
		return
	}
	var p struct {
		Type, Title, Code, Instance string
		Status                      int
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || p.Status != status || p.Code != code || p.Type != "about:blank" || p.Title != http.StatusText(status) {
		t.Errorf("%s: problem %s, want code %q", name, a.body, code)
	}
	if a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s: content type %q", name, a.header.Get("Content-Type"))
	}
	if (status >= 500) != (p.Instance != "") {
		t.Errorf("%s: instance %q with status %d", name, p.Instance, status)
	}
	if (status == 503 || status == 429) != (a.header.Get("Retry-After") != "") {
		t.Errorf("%s: Retry-After %q with status %d", name, a.header.Get("Retry-After"), status)
	}
}

func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("%v in %d %s", err, a.status, a.body)
	}
}

// refusal is one entry of an answer to events.
type refusal struct {
	Index                       int
	ID, Reason, Purpose, Detail string
}

// events sends events with the key demo and reads the answer.
func (e *edge) events(body string, header ...string) (accepted int, refused []refusal) {
	e.t.Helper()
	a := e.post("/v1/events?k=demo", body, header...)
	if a.status != http.StatusAccepted {
		e.t.Fatalf("events: %d %s", a.status, a.body)
	}
	var got struct {
		Accepted int
		Refused  []refusal
	}
	a.into(e.t, &got)
	return got.Accepted, got.Refused
}

// choice is an answer to a choice or a withdrawal.
type choice struct {
	RecordID   string `json:"record_id"`
	State      string
	Purposes   map[string]bool
	ValidUntil time.Time `json:"valid_until"`
	Receipt    string
	Credential string
}

// agree reads the notice and agrees to what is named; it returns the device's cookie as a header value.
func (e *edge) agree(purposes ...string) (cookie string, got choice) {
	e.t.Helper()
	named := make([]string, len(purposes))
	for i, p := range purposes {
		named[i] = `"` + p + `":true`
	}
	a := e.post("/v1/consents?k=demo", `{"snapshot":"`+e.snapshot()+`","purposes":{`+strings.Join(named, ",")+`},"method":"banner"}`, "Origin", origin)
	if a.status != http.StatusCreated {
		e.t.Fatalf("agreeing: %d %s", a.status, a.body)
	}
	a.into(e.t, &got)
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if c.Name == "octroi-dev" {
			cookie = c.Name + "=" + c.Value
		}
	}
	if cookie == "" {
		e.t.Fatal("no cookie after a first consent")
	}
	return cookie, got
}

func (e *edge) snapshot() string {
	e.t.Helper()
	var n consent.ServedNotice
	e.get("/v1/notice?k=demo&language=en").into(e.t, &n)
	if n.Snapshot == "" {
		e.t.Fatal("no snapshot")
	}
	return n.Snapshot
}

// token makes an access token; claims that are zero are filled in.
func (e *edge) token(c collector.TokenClaims) string {
	e.t.Helper()
	if c.Expires.IsZero() {
		c.Expires = e.clock.now().Add(24 * time.Hour)
	}
	c.Issuer, c.Subject = "node", "back-end"
	text, err := collector.MakeToken(c, e.tokens)
	if err != nil {
		e.t.Fatal(err)
	}
	return "Bearer " + text
}

// rows reads what is spooled, as the named destination with the purposes would get it.
func (e *edge) rows(purposes ...string) []pseudonymize.Row {
	e.t.Helper()
	d, err := pseudonymize.NewDestination("warehouse", purposes, exportKey)
	if err != nil {
		e.t.Fatal(err)
	}
	records, err := e.spool.Peek(e.t.Context(), 0, 100000)
	if err != nil {
		e.t.Fatal(err)
	}
	var rows []pseudonymize.Row
	for _, r := range records {
		event, err := r.Event.Open(e.subjects, spoolKey)
		if err != nil {
			e.t.Fatal(err)
		}
		if row, ok := d.Project(&event); ok {
			rows = append(rows, row)
		}
	}
	return rows
}

func (e *edge) spooled() int { return int(e.spool.Tail() - e.spool.Head()) }
