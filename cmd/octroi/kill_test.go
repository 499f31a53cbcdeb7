package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/octroi/octroi/export/s3test"
)

// trap kills a program at each thing that it asks for: once before the server sees it, once when it is done and not answered, and not again.
// Several proxies may share a trap.
type trap struct {
	mu     sync.Mutex
	what   func(*http.Request) string // names the thing; empty: it does not count
	kill   func()
	armed  bool // guarded by mu
	sprung bool // guarded by mu
	dying  sync.WaitGroup
	met    map[string]int // how often, by name; guarded by mu
}

// arm makes the trap spring once.
func (t *trap) arm() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed, t.sprung = true, false
}

func (t *trap) hook(r *http.Request) s3test.Fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := t.what(r)
	if !t.armed || t.sprung || name == "" || t.met[name] == 2 {
		return s3test.Fault{}
	}
	t.sprung = true
	t.met[name]++
	if t.met[name] == 2 {
		t.dying.Add(1)
		return s3test.Fault{Then: func() { t.kill(); t.dying.Done() }, CutAfter: true}
	}
	t.kill()
	return s3test.Fault{CutBefore: true}
}

// sprang says whether the trap has killed somebody since it was armed.
func (t *trap) sprang() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sprung
}

// release says whether the trap has killed somebody since it was armed; it kills nobody any more.
func (t *trap) release() bool {
	defer t.dying.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed = false
	return t.sprung
}

// victim is a program that a trap kills.
type victim struct {
	t       *testing.T
	mu      sync.Mutex
	process *exec.Cmd // guarded by mu; nil: none runs
}

// run runs a program to its end, whatever that is.
func (v *victim) run(program string, args ...string) string {
	v.t.Helper()
	said := new(strings.Builder)
	cmd := exec.Command(filepath.Join(binaries, program), args...)
	cmd.Stdout, cmd.Stderr = said, said
	v.mu.Lock()
	err := cmd.Start()
	v.process = cmd
	v.mu.Unlock()
	if err != nil {
		v.t.Fatal(err)
	}
	_ = cmd.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.process = nil
	return said.String()
}

// kill is kill -9.
func (v *victim) kill() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.process != nil {
		_ = v.process.Process.Signal(syscall.SIGKILL)
	}
}

// scene is an estate with somebody to erase, each program behind proxies of its own, and a trap.
type scene struct {
	*estate
	*trap
	store, api *s3test.Proxy // before the object store and the private listener, for the program that is killed
	victim     victim
	before     map[string]map[string]string // loaded rows by destination
	requests   []string
}

var anna = map[string]string{"loyalty": "CANARY-CARD-1", "email": "canary.anna@example.org"}

// newScene loads events of a browser and a customer, whom nobody has asked to erase yet, and of others.
func newScene(t *testing.T) *scene {
	t.Helper()
	return sceneOf(newEstate(t))
}

func sceneOf(e *estate) *scene {
	e.t.Helper()
	s := &scene{estate: e, trap: &trap{met: map[string]int{}}, victim: victim{t: e.t}}
	s.store, s.api = s3test.StartProxy(e.t, s.s3.Endpoint), s3test.StartProxy(e.t, "http://"+s.private)
	s.start()
	s.consent()
	s.visit(2, "spring-campaign")
	s.cookie = nil
	s.consent()
	s.visit(2, "canary-campaign")
	s.sell("canary-sale", "canary-product", anna, time.Now())
	s.sell("sale", "product", map[string]string{"loyalty": "card"}, time.Now())
	s.remember(6)
	return s
}

// remember waits until that many rows are loaded: those without a canary must stay as they are.
func (s *scene) remember(rows int) {
	s.t.Helper()
	s.shipped(rows)
	s.before = map[string]map[string]string{}
	for _, d := range destinations {
		s.before[d] = s.rows(d)
	}
}

// erase asks for both erasures.
func (s *scene) erase() {
	s.t.Helper()
	s.requests = []string{s.mine("erasure").ID, s.ofPerson("erasure", anna).ID}
}

// completed says whether both erasures are.
func (s *scene) completed() bool {
	s.t.Helper()
	for _, id := range s.requests {
		if s.state(id) != "completed" {
			return false
		}
	}
	return true
}

// endsWell checks the end state, which is the same whoever was killed on the way.
func (s *scene) endsWell() {
	s.t.Helper()
	s.carryOut(s.requests...)
	for _, d := range destinations {
		want := without(s.before[d])
		s.same(d, s.rows(d), want)
		if n := len(s.archived(d)); n != len(want) {
			s.t.Errorf("%s: the archive holds %d rows, want %d", d, n, len(want))
		}
		s.tidy(d)
	}
	s.certified(s.requests...)
	s.proven()
}

// tidy fails where more is left of a batch than its present object, or of an acknowledged notice anything.
func (e *estate) tidy(destination string) {
	e.t.Helper()
	seen := map[string]bool{}
	for _, v := range e.s3.Versions(destination + "/") {
		name := v.Key
		if strings.HasPrefix(name, destination+"/events/") {
			at := strings.LastIndexByte(strings.TrimSuffix(name, ".parquet.age"), '.')
			name = name[:at] // without the generation
		}
		if seen[name] || v.Marker || !v.Current {
			e.t.Errorf("%s %s is superseded, and is left", v.Key, v.Version)
		}
		seen[name] = true
		if strings.HasPrefix(name, destination+"/notices/") {
			e.t.Errorf("%s is left of a notice that was acknowledged", v.Key)
		}
	}
	if left := e.s3.Uploads(); len(left) > 0 {
		e.t.Errorf("unfinished uploads: %v", left)
	}
}

// proven checks the evidence log, and against it each destination's stream in a copy of the bucket.
func (e *estate) proven() {
	e.t.Helper()
	log, bucket, keys := filepath.Join(e.t.TempDir(), "log"), e.t.TempDir(), filepath.Join(e.dir, dpoDir)
	run(e.t, "octroi", "evidence", "--url", "http://"+e.private, "--token-file", e.tokenFile("officer"), "--out", log)
	run(e.t, "octroi", "verify", "log", log, "--key", filepath.Join(keys, "log.key.pub"))
	store := s3test.Open(e.t, e.s3.Options())
	err := store.List(context.Background(), "", "", func(key string, _ int64) error {
		path := filepath.Join(bucket, filepath.FromSlash(key))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return os.WriteFile(path, e.object(key, ""), 0o600)
	})
	if err != nil {
		e.t.Fatal(err)
	}
	for _, d := range destinations {
		run(e.t, "octroi", "verify", "stream", bucket, "--destination", d, "--key", filepath.Join(keys, "signing.key.pub"),
			"--log", log, "--log-key", filepath.Join(keys, "log.key.pub"))
	}
}

// custodianBy makes a custodian's configuration of its own, in the holder's folder, and answers its path.
func (e *estate) custodianBy(name string, pairs ...string) string {
	e.t.Helper()
	b, err := os.ReadFile(filepath.Join(e.dir, custodianDir, "custodian.yaml"))
	if err != nil {
		e.t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(b), pairs[i]) {
			e.t.Fatalf("custodian.yaml does not hold %q", pairs[i])
		}
	}
	file := filepath.Join(e.dir, custodianDir, name+".yaml")
	if err := os.WriteFile(file, []byte(strings.NewReplacer(pairs...).Replace(string(b))), 0o600); err != nil {
		e.t.Fatal(err)
	}
	return file
}

// proxied is a custodian that talks through the scene's proxies.
func (s *scene) proxied() string {
	return s.custodianBy("proxied", s.s3.Proxy.Endpoint, s.store.Endpoint, "http://"+s.private, s.api.Endpoint)
}

// Rights.md: resumable after kill -9 at any instant, the same end state every time. One of the three programs is killed just before, and just
// after, each thing that it does to the others, and started again.
func TestErasureSurvivesKills(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name  string
		kills func(*scene)
		at    []string // at least
	}{
		{"custodian", (*scene).killCustodian, []string{"put batch", "delete batch", "claim", "rewritten", "purged", "delete notice", "certificate"}},
		{"gateway", (*scene).killGateway, []string{"work", "claim", "rewritten", "purged", "certificate", "put journal", "put stream", "put notice"}},
		{"loader", (*scene).killLoader, []string{"get stream", "get notice", "ack"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			x.kills(s)
			s.endsWell()
			kills := 0
			for _, n := range s.met {
				kills += n
			}
			t.Logf("killed %d times: %v", kills, s.met)
			for _, at := range x.at {
				if !slices.ContainsFunc(slices.Collect(maps.Keys(s.met)), func(name string) bool { return strings.HasPrefix(name, at) && s.met[name] == 2 }) {
					t.Errorf("it was not killed before and after %q", at)
				}
			}
		})
	}
}

var (
	generation = regexp.MustCompile(`\.\d+\.parquet\.age$`)
	probe      = regexp.MustCompile(`octroi-check/.*`)
)

// kindsOfObjects are the folders of a bucket, as the names of things have them.
var kindsOfObjects = map[string]string{"events": "batch", "notices": "notice", "stream": "stream"}

// thing names a request without what differs from attempt to attempt: the method, the kind, and what it is about.
func thing(r *http.Request) string {
	path := strings.Trim(r.URL.Path, "/")
	if rest, ok := strings.CutPrefix(path, "v1/custody/"); ok { // work, batches/{id}/{what}, requests/{id}/{what}
		part := strings.Split(rest, "/")
		return strings.TrimSpace(part[len(part)-1] + " " + strings.Join(part[:len(part)-1], "/"))
	}
	if strings.HasSuffix(path, "/ack") {
		return "ack " + path
	}
	method := strings.ToLower(r.Method)
	_, key, _ := strings.Cut(path, "/")
	key = probe.ReplaceAllString(generation.ReplaceAllString(key, ""), "octroi-check")
	destination, rest, _ := strings.Cut(key, "/")
	folder, _, _ := strings.Cut(rest, "/")
	switch {
	case destination == "suppressions":
		return method + " journal " + key
	case kindsOfObjects[folder] != "":
		return method + " " + kindsOfObjects[folder] + " " + key
	}
	return method + " other " + key
}

// passes runs what the trap is set for again and again, until both erasures are completed.
func (s *scene) passes(pass func()) {
	s.t.Helper()
	s.store.Hook(s.hook)
	s.api.Hook(s.hook)
	for range 150 {
		s.arm()
		pass()
		if !s.release() && s.completed() {
			return
		}
	}
	s.t.Fatalf("the erasures are not completed; killed at %v", s.met)
}

// killCustodian kills it at what changes anything in store or gateway.
func (s *scene) killCustodian() {
	s.erase()
	config := s.proxied()
	s.kill = s.victim.kill
	s.what = func(r *http.Request) string {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return ""
		}
		return thing(r)
	}
	s.passes(func() {
		s.victim.run("octroi-custodian", "sweep", "--quiet", "--config", config)
		if !s.sprang() {
			s.load()
		}
	})
}

// killGateway kills it at what the custodian asks and tells it, and at what it puts for streams, notices and journal; once of each kind.
func (s *scene) killGateway() {
	s.s3.Proxy.Hook(func(r *http.Request) s3test.Fault { // it puts nothing before it can be killed for it
		if r.Method == http.MethodPut {
			return s3test.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}
		}
		return s3test.Fault{}
	})
	s.erase()
	s.site.kill()
	s.s3.Proxy.Hook(s.hook)
	config := s.proxied()
	s.kill = s.site.kill
	s.what = func(r *http.Request) string {
		name := thing(r)
		if r.Method == http.MethodGet && name != "work" || strings.HasPrefix(name, "put other") {
			return ""
		}
		method, kind, _ := strings.Cut(name, " ")
		if method == "put" {
			kind, _, _ = strings.Cut(kind, " ")
			return "put " + kind
		}
		return method
	}
	s.passes(func() {
		if !s.ready() {
			s.launch()
		}
		for !s.ready() && !s.sprang() {
			time.Sleep(10 * time.Millisecond)
		}
		if !s.sprang() {
			s.victim.run("octroi-custodian", "sweep", "--quiet", "--config", config)
		}
		if !s.sprang() {
			s.loadBy("http://"+s.private, s.s3.Endpoint)
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// killLoader kills it at what it reads of streams that have the erasures, and at what it acknowledges.
func (s *scene) killLoader() {
	s.erase()
	s.untilStep("purged")
	s.kill, s.what = s.victim.kill, thing
	s.passes(func() {
		s.loadBy(s.api.Endpoint, s.store.Endpoint)
		if !s.sprang() {
			_, _ = s.sweep()
		}
	})
}

// loadBy lets the loaders do what they can.
func (s *scene) loadBy(api, store string) {
	s.t.Helper()
	for _, d := range destinations {
		w := filepath.Join(s.dir, warehouseDir, d)
		s.victim.run("octroi-load", "once", "--from", "s3://"+s.s3.Bucket, "--s3-endpoint", store, "--s3-credentials", s.s3.Credentials,
			"--destination", d, "--identity", filepath.Join(w, "identity.txt"), "--gateway-key", filepath.Join(w, "signing.key.pub"),
			"--into", s.loaded(d), "--format", "ndjson", "--ack-url", api, "--ack-token-file", s.tokenFile("load-"+d))
	}
}

// untilStep lets the custodian work until both erasures wait for nobody but the loaders.
func (s *scene) untilStep(step string) {
	s.t.Helper()
	for range 100 {
		_, _ = s.sweep()
		reached := 0
		for _, id := range s.requests {
			if strings.Contains(string(s.ask(http.MethodGet, s.private+"/v1/rights/requests/"+id, s.officer, nil, http.StatusOK)), fmt.Sprintf(`"step":%q`, step)) {
				reached++
			}
		}
		if reached == len(s.requests) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Fatalf("the erasures do not reach %s", step)
}
