package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/octroi/octroi/export/s3test"
	"github.com/octroi/octroi/export/s3test/freeport"
)

// site is the real gateway program with a real S3 server behind a proxy that makes faults, and a visitor who has consented.
type site struct {
	t       *testing.T
	dir     string
	public  string
	private string
	s3      *s3test.Server
	mu      sync.Mutex
	process *exec.Cmd // guarded by mu
	cookie  *http.Cookie
}

func newSite(t *testing.T, flags ...string) *site {
	t.Helper()
	s := &site{t: t, dir: filepath.Join(t.TempDir(), "data"), s3: s3test.Start(t), public: listenAddress(t), private: listenAddress(t)}
	run(t, "octroi", append([]string{
		"init", "--dir", s.dir, "--site", "shop", "--site-key", "demo", "--origin", "http://" + s.public, "--interval", "200ms",
	}, flags...)...)
	s.edit("127.0.0.1:8080", s.public, "127.0.0.1:8081", s.private)
	s.edit("directory: ../objects", fmt.Sprintf("s3:\n    endpoint: %s\n    bucket: %s\n    credentials: %s", s.s3.Proxy.Endpoint, s.s3.Bucket, s.s3.Credentials))
	answers.add(s.public, s.private)
	t.Cleanup(s.kill)
	return s
}

func (s *site) edit(pairs ...string) {
	s.t.Helper()
	file := filepath.Join(s.dir, gatewayDir, "octroi.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !bytes.Contains(b, []byte(pairs[i])) {
			s.t.Fatalf("octroi.yaml does not hold %q", pairs[i])
		}
	}
	if err := os.WriteFile(file, []byte(strings.NewReplacer(pairs...).Replace(string(b))), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func listenAddress(t *testing.T) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// run runs one of the real programs to its end.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(binaries, program), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, args[0], err, out)
	}
	return string(out)
}

// start starts the gateway and waits until it is ready.
func (s *site) start() {
	s.t.Helper()
	s.launch()
	for range 400 {
		if s.ready() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	b, _ := os.ReadFile(filepath.Join(s.dir, "gateway.log"))
	s.t.Fatalf("the gateway is not ready:\n%s", b)
}

// launch starts the gateway.
func (s *site) launch() {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "gateway.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(binaries, "octroi"), "serve", "--config", filepath.Join(s.dir, gatewayDir, "octroi.yaml"))
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = cmd
}

func (s *site) ready() bool {
	resp, err := http.Get("http://" + s.private + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// kill is kill -9; a gateway that does not run is no error.
func (s *site) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		_ = s.process.Process.Signal(syscall.SIGKILL)
		_ = s.process.Wait()
		s.process = nil
	}
}

// stop is a graceful stop.
func (s *site) stop() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(s.process.Process.Signal(syscall.SIGTERM), s.process.Wait()); err != nil {
		s.t.Fatalf("stopping: %v", err)
	}
	s.process = nil
}

func (s *site) post(path string, body any) []byte {
	s.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, "http://"+s.public+path, bytes.NewReader(b))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Origin", "http://"+s.public)
	if s.cookie != nil {
		req.AddCookie(s.cookie)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		s.t.Fatalf("%s answered %s: %s", path, resp.Status, answer)
	}
	for _, c := range resp.Cookies() {
		if c.HttpOnly {
			s.cookie = c
		}
	}
	return answer
}

func (s *site) consent(more ...string) {
	s.t.Helper()
	resp, err := http.Get("http://" + s.public + "/v1/notice?k=demo&language=fr")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var notice struct{ Snapshot string }
	if err := json.NewDecoder(resp.Body).Decode(&notice); err != nil {
		s.t.Fatal(err)
	}
	purposes := map[string]bool{"audience": true}
	for _, id := range more {
		purposes[id] = true
	}
	s.post("/v1/consents", map[string]any{"k": "demo", "snapshot": notice.Snapshot, "purposes": purposes})
}

// view sends page views whose campaign is their id; all must be accepted.
func (s *site) view(ids ...string) {
	s.t.Helper()
	var events []map[string]any
	for _, id := range ids {
		events = append(events, map[string]any{"id": id, "type": "page_view", "fields": map[string]any{"campaign": id}})
	}
	if answer := s.post("/v1/events?k=demo", events); !bytes.Contains(answer, fmt.Appendf(nil, `"accepted":%d`, len(ids))) {
		s.t.Fatalf("not all accepted: %s", answer)
	}
}

// expect loads the warehouse, as its data team does, into a new folder and holds the campaigns against ids: each once.
func (s *site) expect(ids ...string) {
	s.t.Helper()
	into, w := filepath.Join(s.t.TempDir(), "loaded"), filepath.Join(s.dir, warehouseDir, "warehouse")
	run(s.t, "octroi-load", "once", "--from", "s3://"+s.s3.Bucket, "--s3-endpoint", s.s3.Endpoint, "--s3-credentials", s.s3.Credentials,
		"--destination", "warehouse", "--identity", filepath.Join(w, "identity.txt"), "--gateway-key", filepath.Join(w, "signing.key.pub"),
		"--into", into, "--format", "ndjson")
	got := map[string]int{}
	for _, path := range files(s.t, into, ".ndjson") {
		b, err := os.ReadFile(path)
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			var row struct{ Campaign string }
			if err := json.Unmarshal(line, &row); err != nil {
				s.t.Fatal(err)
			}
			got[row.Campaign]++
		}
	}
	for _, id := range ids {
		if got[id] != 1 {
			s.t.Errorf("event %s was loaded %d times", id, got[id])
		}
	}
	if len(got) != len(ids) {
		s.t.Errorf("loaded %v, want %v", got, ids)
	}
}

// Invariant 2 over the object store's half of the path: the gateway is killed just before, and just after, each kind of PUT.
func TestKilledAtEachPut(t *testing.T) {
	for _, part := range []string{"/events/", "/stream/"} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s after=%t", strings.Trim(part, "/"), after), func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.start()
				s.consent()
				killed := make(chan struct{})
				s.s3.Proxy.Hook(func(r *http.Request) s3test.Fault {
					if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/warehouse"+part) {
						return s3test.Fault{}
					}
					select {
					case <-killed:
						return s3test.Fault{}
					default:
					}
					close(killed)
					if after {
						go func() { time.Sleep(50 * time.Millisecond); s.kill() }()
						return s3test.Fault{CutAfter: true}
					}
					s.kill()
					return s3test.Fault{CutBefore: true}
				})
				s.view("one", "two")
				<-killed
				time.Sleep(200 * time.Millisecond)
				s.kill()
				s.start()
				s.view("three")
				s.stop()
				s.expect("one", "two", "three")
			})
		}
	}
}

// Invariant 6 with the store away: events are accepted as long as they can be kept, and shipped when it is back.
func TestStoreAwayAndBack(t *testing.T) {
	s := newSite(t)
	s.start()
	s.consent()
	s.view("before")
	s.s3.Stop()
	s.view("while-down")
	time.Sleep(500 * time.Millisecond)
	s.kill()
	s.start() // a gateway starts while its store is down
	s.view("after-restart")
	s.s3.Restart()
	for _, f := range []s3test.Fault{{Status: 503, Code: "SlowDown"}, {Delay: 300 * time.Millisecond}, {Status: 412, Code: "PreconditionFailed"}, {CutAfter: true}} {
		s.s3.Proxy.Once(http.MethodPut, "/warehouse/", f)
		s.view(fmt.Sprintf("fault-%d-%t", f.Status, f.CutAfter) + f.Delay.String())
		time.Sleep(400 * time.Millisecond)
	}
	s.stop()
	s.expect("before", "while-down", "after-restart", "fault-503-false0s", "fault-0-false300ms", "fault-412-false0s", "fault-0-true0s")
}

// A store that was down at the start may come back as one that nothing may be put into: it is checked before the first put.
func TestStoreComesBackUnversioned(t *testing.T) {
	s := newSite(t)
	s.s3.MakeBucket("unversioned", false)
	s.edit("bucket: "+s.s3.Bucket, "bucket: unversioned")
	s.s3.Stop()
	s.start()
	s.consent()
	s.view("one")
	s.s3.Restart()
	for range 200 {
		b, err := os.ReadFile(filepath.Join(s.dir, "gateway.log"))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("versioning is off")) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("batches go into a bucket without versions, and nobody is told")
}

// A store that refuses needs an operator: the gateway does not start, says why and what to do, and says no secret.
func TestStoreRefuses(t *testing.T) {
	s := newSite(t)
	right, err := os.ReadFile(s.s3.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		wrong func()
		right func()
		want  string
	}{
		"bucket": {
			func() { s.edit("bucket: "+s.s3.Bucket, "bucket: elsewhere") },
			func() { s.edit("bucket: elsewhere", "bucket: "+s.s3.Bucket) }, "bucket",
		},
		"versioning": {
			func() { s.s3.MakeBucket("unversioned", false); s.edit("bucket: "+s.s3.Bucket, "bucket: unversioned") },
			func() { s.edit("bucket: unversioned", "bucket: "+s.s3.Bucket) }, "versioning",
		},
		"credentials": {
			func() { s.s3.WriteCredentials("octroi-test", "canary-of-a-secret") },
			func() {
				if err := os.WriteFile(s.s3.Credentials, right, 0o600); err != nil {
					t.Fatal(err)
				}
			}, "credentials",
		},
	} {
		c.wrong()
		cmd := exec.Command(filepath.Join(binaries, "octroi"), "serve", "--config", filepath.Join(s.dir, gatewayDir, "octroi.yaml"))
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(strings.ToLower(string(out)), c.want) || strings.Contains(string(out), "canary") {
			t.Errorf("wrong %s: %v\n%s", name, err, out)
		}
		c.right()
	}
}
