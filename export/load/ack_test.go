package load_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load"
)

// api is a gateway's private API, as far as acknowledgements go. It checks them as strictly as they are drawn.
type api struct {
	t      *testing.T
	server *httptest.Server

	mu     sync.Mutex
	answer []int // statuses to come; then 204
	got    []told
}

type told struct {
	Loader string `json:"loader"`
	Node   string `json:"node"`
	Number uint64 `json:"number"`
	SHA256 string `json:"sha256"`
}

func newAPI(t *testing.T, answer ...int) *api {
	a := &api{t: t, answer: answer}
	a.server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.server.Close)
	return a
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Method != http.MethodPost || r.URL.Path != "/v1/streams/warehouse/ack" || r.Header.Get("Authorization") != "Bearer secret" ||
		r.Header.Get("Content-Type") != "application/json" {
		a.t.Errorf("%s %s %q", r.Method, r.URL, r.Header)
	}
	status := http.StatusNoContent
	if len(a.answer) > 0 {
		status, a.answer = a.answer[0], a.answer[1:]
	}
	if status == http.StatusNoContent {
		var x told
		body, _ := io.ReadAll(r.Body)
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&x); err != nil {
			a.t.Errorf("%s: %v", body, err)
		}
		a.got = append(a.got, x)
	}
	if status == http.StatusFound {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(status)
}

func (a *api) all() []told {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.got)
}

// acker tells a; log gets what it says.
func (a *api) acker(log io.Writer) *load.Acker {
	a.t.Helper()
	token := filepath.Join(a.t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		a.t.Fatal(err)
	}
	x, err := load.NewAcker(load.AckerOptions{
		URL: a.server.URL, TokenFile: token, Destination: "warehouse", Loader: "lake", Backoff: time.Millisecond,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return x
}

// What is durable is told, at the start again, once for all entries that were applied meanwhile.
func TestAcknowledges(t *testing.T) {
	a := newAPI(t)
	s := newShop(t, load.Parquet)
	acker := a.acker(io.Discard)
	s.o.Applied = acker.Applied
	s.load(t)
	if !acker.Flush(t.Context()) {
		t.Error("not all is told")
	}
	token, err := os.ReadFile(filepath.Join(s.store, export.EntryKey(s.g.Destination, "gw1", 2)))
	if err != nil {
		t.Fatal(err)
	}
	want := told{"lake", "gw1", 2, export.EntryHash(string(token))}
	if got := a.all(); !slices.Equal(got, []told{want}) {
		t.Errorf("told %+v", got)
	}
	acker = a.acker(io.Discard) // the next run
	s.o.Applied = acker.Applied
	s.load(t)
	acker.Flush(t.Context())
	if got := a.all(); !slices.Equal(got, []told{want, want}) {
		t.Errorf("told %+v", got)
	}
	acker.Flush(t.Context())
	if got := a.all(); len(got) != 2 {
		t.Errorf("told again without need: %+v", got)
	}
}

// Failures are warnings with a next step, without the token, and tried again; loading does not wait.
func TestAcknowledgesLater(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		says   string
	}{
		"unavailable": {http.StatusServiceUnavailable, "none if it passes"},
		"too many":    {http.StatusTooManyRequests, "none if it passes"},
		"forbidden":   {http.StatusForbidden, "scope stream:"},
		"not found":   {http.StatusNotFound, "check --ack-url"},
		"redirected":  {http.StatusFound, "check --ack-url"},
		"conflict":    {http.StatusConflict, "tell the gateway's operator"},
		"wrong field": {http.StatusUnprocessableEntity, "give --loader a name"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, c.status, c.status, c.status, c.status) // two rounds of two nodes
			var log locked
			acker := a.acker(&log)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { acker.Run(ctx); close(ended) }()
			acker.Applied("gw1", 7, "hash")
			acker.Applied("gw2", 1, "hash")
			for range 500 {
				if len(a.all()) >= 2 {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			cancel()
			<-ended
			got := a.all()
			if len(got) != 2 || got[0].Node == got[1].Node {
				t.Errorf("told %+v", got)
			}
			if text := log.String(); !strings.Contains(text, c.says) || strings.Contains(text, "secret") || !strings.Contains(text, "WARN") {
				t.Errorf("said %q", text)
			}
		})
	}
	t.Run("a moment too early", func(t *testing.T) {
		a := newAPI(t, http.StatusConflict)
		var log locked
		acker := a.acker(&log)
		acker.Applied("gw1", 7, "hash")
		if !acker.Flush(t.Context()) || len(a.all()) != 1 || log.String() != "" {
			t.Errorf("told %+v, said %q", a.all(), log.String())
		}
	})
	t.Run("down", func(t *testing.T) {
		a := newAPI(t)
		a.server.Close()
		var log locked
		acker := a.acker(&log)
		acker.Applied("gw1", 7, "hash")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if acker.Flush(ctx) {
			t.Error("told nobody")
		}
		if text := log.String(); !strings.Contains(text, "was not reached") {
			t.Errorf("said %q", text)
		}
	})
}

type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A token goes to nobody but the API that was named, over TLS.
func TestAckAddress(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	good := load.AckerOptions{TokenFile: "token", Destination: "warehouse", Loader: "lake"}
	for address, ok := range map[string]bool{
		"https://gateway.internal:8081": true, "http://127.0.0.1:8081": true, "http://localhost:8081": true, "http://[::1]:8081/": true,
		"http://gateway.internal:8081": false, "http://127.0.0.1.nip.io:8081": false, "ftp://127.0.0.1": false, "": false, "127.0.0.1:8081": false,
		"https://user:password@gateway.internal": false, "https://gateway.internal/?x=1": false, "http://192.0.2.1": false,
	} {
		o := good
		o.URL = address
		if _, err := load.NewAcker(o); (err == nil) != ok || err != nil && !errors.Is(err, load.ErrAckAddress) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, name := range []string{"", "a b", "-a", strings.Repeat("x", 64), "a/b", "a.b"} {
		o := good
		o.URL, o.Loader = "https://gateway.internal", name
		if _, err := load.NewAcker(o); !errors.Is(err, load.ErrAckAddress) {
			t.Errorf("loader %q: %v", name, err)
		}
	}
}

// The authorities of the private API's certificate come by file; without them the request fails.
func TestAckAuthorities(t *testing.T) {
	a := &api{t: t}
	a.server = httptest.NewTLSServer(http.HandlerFunc(a.serve))
	a.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	defer a.server.Close()
	folder := t.TempDir()
	token, ca := filepath.Join(folder, "token"), filepath.Join(folder, "ca.pem")
	if err := errors.Join(os.WriteFile(token, []byte("secret"), 0o600), os.WriteFile(ca, certificate(a.server), 0o600)); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]bool{ca: true, "": false} {
		acker, err := load.NewAcker(load.AckerOptions{
			URL: a.server.URL, CA: file, TokenFile: token, Destination: "warehouse", Loader: "lake", Backoff: time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		acker.Applied("gw1", 1, "hash")
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if got := acker.Flush(ctx); got != want {
			t.Errorf("with authorities %q: %v", file, got)
		}
		cancel()
	}
	if _, err := load.NewAcker(load.AckerOptions{URL: a.server.URL, CA: token, Destination: "warehouse", Loader: "lake"}); !errors.Is(err, load.ErrAckAddress) {
		t.Errorf("a file without a certificate: %v", err)
	}
}
