package sweep_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/export/rights/sweep"
)

// newClient speaks to a handler, with a token in a file.
func newClient(t *testing.T, handler http.HandlerFunc) (c *sweep.Client, token string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	token = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := sweep.NewClient(sweep.ClientOptions{URL: server.URL, Token: token, Timeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return c, token
}

// TestClientAnswers: each answer is the error that says what to do, and none is read without end.
func TestClientAnswers(t *testing.T) {
	for _, x := range []struct {
		name   string
		answer http.HandlerFunc
		want   error
	}{
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, sweep.ErrAnswer},
		{"no token", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, sweep.ErrToken},
		{"no scope", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, sweep.ErrToken},
		{"not found", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, sweep.ErrRejected},
		{"busy", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, sweep.ErrAway},
		{"broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, sweep.ErrAway},
		{"cut off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, sweep.ErrAway},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/elsewhere") {
				t.Error("the redirect was followed")
			}
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, sweep.ErrAnswer},
		{"silence", func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
		}, sweep.ErrAway},
		{"drip", func(w http.ResponseWriter, r *http.Request) {
			for range 50 {
				if _, err := io.WriteString(w, " "); err != nil || r.Context().Err() != nil {
					return
				}
				w.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}, sweep.ErrAway},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c, _ := newClient(t, x.answer)
			if _, err := c.Work(t.Context()); !errors.Is(err, x.want) {
				t.Errorf("%v, want %v", err, x.want)
			}
		})
	}
	c, _ := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 80 {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
	})
	if err := c.Purged(t.Context(), "b", "r"); !errors.Is(err, sweep.ErrAnswer) {
		t.Errorf("an answer without end: %v", err)
	}
	if _, err := c.Claim(t.Context(), "b", "c"); !errors.Is(err, sweep.ErrAnswer) {
		t.Errorf("an answer without end: %v", err)
	}
}

// TestClientToken: the token is read again when its file changes, and stands in no error.
func TestClientToken(t *testing.T) {
	var seen string
	c, token := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Get("Authorization")
		io.WriteString(w, "{}")
	})
	if _, err := c.Work(t.Context()); err != nil || seen != "Bearer one" {
		t.Fatalf("%v, %q", err, seen)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(token, time.Time{}, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	write("two")
	if _, err := c.Work(t.Context()); err != nil || seen != "Bearer two" {
		t.Fatalf("%v, %q", err, seen)
	}
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Work(t.Context()); !errors.Is(err, sweep.ErrToken) {
		t.Errorf("without a file: %v", err)
	}
	write("secret with\nlines")
	if _, err := c.Work(t.Context()); !errors.Is(err, sweep.ErrToken) || strings.Contains(err.Error(), "secret") {
		t.Errorf("of two lines: %v", err)
	}
}

// TestClientURL: a token does not cross a network in the clear unless somebody says so.
func TestClientURL(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]bool{
		"https://gateway.example": true, "https://gateway.example:8443/": true, "http://127.0.0.1:8081": true, "http://localhost:8081": true, "http://[::1]:1": true,
		"http://gateway.example": false, "http://10.0.0.1": false, "http://127.0.0.1.example": false, "http://localhost.example": false,
		"https://user:password@gateway.example": false, "https://gateway.example/path": false, "https://gateway.example/?q": false, "ftp://gateway.example": false, "": false,
	} {
		_, err := sweep.NewClient(sweep.ClientOptions{URL: url, Token: token})
		if (err == nil) != want {
			t.Errorf("%s: %v", url, err)
		}
		if err != nil && strings.Contains(err.Error(), "password") {
			t.Errorf("the error holds what the URL held: %v", err)
		}
	}
	if _, err := sweep.NewClient(sweep.ClientOptions{URL: "http://10.0.0.1", Plain: true, Token: token}); err != nil {
		t.Error(err)
	}
}
