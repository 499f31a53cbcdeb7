package sweep_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
)

// The crash tests run a custodian in a process of its own, which kills itself (SIGKILL) before or after a given call to the store or the gateway,
// which outlive it. Between them these calls enclose every crash point that the code comments: its memory is written only between two.
const crashVariable = "OCTROI_SWEEP_CRASH" // a plan as JSON

// plan is what the process is to do.
type plan struct {
	Folder, URL, Call, State string
	Now                      time.Time
}

func TestMain(m *testing.M) {
	if text := os.Getenv(crashVariable); text != "" {
		var p plan
		err := json.Unmarshal([]byte(text), &p)
		if err == nil {
			err = p.sweep()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// sweep makes passes until it is killed or there is nothing left. It writes the calls it made to a file when it was not killed.
func (p *plan) sweep() error {
	var k keys
	text, err := os.ReadFile(filepath.Join(p.Folder, "keys"))
	if err == nil {
		err = json.Unmarshal(text, &k)
	}
	if err != nil {
		return err
	}
	store, err := export.OpenDir(filepath.Join(p.Folder, "objects"))
	if err != nil {
		return err
	}
	defer store.Close()
	client, err := sweep.NewClient(sweep.ClientOptions{URL: p.URL, Token: filepath.Join(p.Folder, "token")})
	if err != nil {
		return err
	}
	ids, err := export.ParseIdentities([]byte(k.Identities["E"]))
	if err != nil {
		return err
	}
	signer, err := k.signer()
	if err != nil {
		return err
	}
	r := &reaper{call: p.Call, counts: map[string]int{}}
	s, err := sweep.Open(sweep.Options{
		Gateway: mortalGateway{client, r}, Archive: mortalArchive{store, r}, Identities: ids, Key: private(k.Custodian), Stream: public(k.Stream),
		Log: signer.Verifier(), Approval: public(k.Approval), State: filepath.Join(p.Folder, p.State), Settle: time.Second,
		Now: func() time.Time { return p.Now }, Recipients: k.pins(),
	})
	if err != nil {
		return err
	}
	_, err = s.Once(context.Background())
	return errors.Join(err, s.Close(), os.WriteFile(filepath.Join(p.Folder, "calls"), []byte(strings.Join(r.calls, "\n")), 0o600))
}

// reaper kills the process at a call, named "<before|after> <what> <n>".
type reaper struct {
	call string

	mu     sync.Mutex
	counts map[string]int // guarded by mu
	calls  []string       // guarded by mu
}

func (r *reaper) at(when, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	point := when + " " + what
	r.counts[point]++
	point += " " + strconv.Itoa(r.counts[point])
	r.calls = append(r.calls, point)
	if point == r.call {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// mortalArchive is an archive whose calls may be the last.
type mortalArchive struct {
	export.Archive
	r *reaper
}

func (m mortalArchive) Get(ctx context.Context, key, version string) (io.ReadCloser, error) {
	m.r.at("before", "get")
	return m.Archive.Get(ctx, key, version)
}

func (m mortalArchive) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, sum [32]byte) (string, error) {
	m.r.at("before", "put")
	defer m.r.at("after", "put")
	return m.Archive.Put(ctx, key, body, size, sum)
}

func (m mortalArchive) Versions(ctx context.Context, prefix string, fn func(export.ObjectVersion) error) error {
	defer m.r.at("after", "versions")
	return m.Archive.Versions(ctx, prefix, fn)
}

func (m mortalArchive) DeleteVersion(ctx context.Context, key, version string) error {
	m.r.at("before", "delete")
	defer m.r.at("after", "delete")
	return m.Archive.DeleteVersion(ctx, key, version)
}

// mortalGateway is a gateway to which a call may be the last.
type mortalGateway struct {
	sweep.Gateway
	r *reaper
}

func (m mortalGateway) Work(ctx context.Context) (proof.Work, error) {
	defer m.r.at("after", "work")
	return m.Gateway.Work(ctx)
}

func (m mortalGateway) Claim(ctx context.Context, batch, custodian string) (sweep.Claim, error) {
	m.r.at("before", "claim")
	defer m.r.at("after", "claim")
	return m.Gateway.Claim(ctx, batch, custodian)
}

func (m mortalGateway) Rewritten(ctx context.Context, batch, report string) error {
	m.r.at("before", "rewritten")
	defer m.r.at("after", "rewritten")
	return m.Gateway.Rewritten(ctx, batch, report)
}

func (m mortalGateway) Purged(ctx context.Context, batch, report string) error {
	m.r.at("before", "purged")
	defer m.r.at("after", "purged")
	return m.Gateway.Purged(ctx, batch, report)
}

func (m mortalGateway) Package(ctx context.Context, request, report string, body io.ReadSeeker, size int64) error {
	m.r.at("before", "package")
	defer m.r.at("after", "package")
	return m.Gateway.Package(ctx, request, report, body, size)
}

func (m mortalGateway) Certificate(ctx context.Context, request, certificate string) error {
	m.r.at("before", "certificate")
	defer m.r.at("after", "certificate")
	return m.Gateway.Certificate(ctx, request, certificate)
}

// crashWorld has two erasures and an access over three batches, of which one is left empty.
type crashWorld struct {
	*world
	batches  []*batch
	erasures []*request
	access   *request
}

func newCrashWorld(t *testing.T) *crashWorld {
	t.Helper()
	w := &crashWorld{world: newWorld(t, nil)}
	text, err := json.Marshal(w.keys)
	if err == nil {
		err = os.WriteFile(filepath.Join(w.folder, "keys"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	g := w.gateway
	w.batches = []*batch{g.ship("warehouse", 1, 2, 3), g.ship("warehouse", 1, 1), g.ship("accounting", 2, 3)}
	w.erasures = []*request{g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil), g.ask(g.job(2, proof.Erasure, proof.ByDPO, 2), g.approve)}
	w.access = g.ask(g.job(3, proof.Access, proof.ByPerson, 3), nil)
	return w
}

// run runs a custodian; killed says that it did not come to its end.
func (w *crashWorld) run(call, state string) (killed bool) {
	w.Helper()
	text, err := json.Marshal(plan{Folder: w.folder, URL: w.gateway.server.URL, Call: call, State: state, Now: w.gateway.now()})
	if err != nil {
		w.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashVariable+"="+string(text))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	w.Fatalf("%s: %v\n%s", call, err, out)
	return false
}

// wantEnd checks the one end state.
func (w *crashWorld) wantEnd() {
	w.Helper()
	w.wantRows(allRows([]int{1, 2}, w.batches...))
	if n := len(w.objects()); n != 2 {
		w.Errorf("%d objects are left, want 2", n)
	}
	for i, q := range w.erasures {
		if q.certificate == "" {
			w.Fatalf("request %d has no certificate: refused %v, failed %v", i+1, w.gateway.refused, w.gateway.failed)
		}
	}
	if w.access.pack == nil || w.access.collected.Rows["warehouse"] != 1 || w.access.collected.Rows["accounting"] != 1 {
		w.Errorf("the package: %+v", w.access.collected)
	}
	one, two := w.certificate(w.erasures[0]).Systems, w.certificate(w.erasures[1]).Systems
	if one[1].Rows != 3 || one[1].Versions != 2 || two[0].Rows != 1 || two[1].Rows != 1 || two[1].Versions != 1 {
		w.Errorf("certificates say %+v and %+v", one, two)
	}
	w.gateway.mu.Lock()
	defer w.gateway.mu.Unlock()
	for call, n := range w.gateway.answers {
		if strings.HasSuffix(call, "400") || strings.HasSuffix(call, "404") {
			w.Errorf("%s: %d times", call, n)
		}
	}
}

// TestCrashes kills the custodian before and after the calls of each kind, lets another go on, and wants the same end each time.
func TestCrashes(t *testing.T) {
	whole := newCrashWorld(t)
	if whole.run("", "state") {
		t.Fatal("killed without a plan")
	}
	whole.wantEnd()
	list, err := os.ReadFile(filepath.Join(whole.folder, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	// Every gap between two calls in which something is remembered, or nothing is.
	calls := []string{
		"after work 1", "before get 1", "after claim 1", "before put 1", "after put 1", "before rewritten 1", "after rewritten 1", "after rewritten 3",
		"after versions 1", "before delete 1", "after delete 1", "after delete 3", "before purged 1", "after purged 1", "before package 1", "after package 1",
		"before certificate 1", "after certificate 1", "after certificate 2",
	}
	made := strings.Split(string(list), "\n")
	for _, call := range calls {
		if !slices.Contains(made, call) {
			t.Fatalf("a custodian that is left alone never comes to %q", call)
		}
	}
	for _, call := range calls {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			w := newCrashWorld(t)
			if !w.run(call, "state") {
				t.Fatal("was not killed")
			}
			w.sweep()
			w.wantEnd()
		})
	}
}

// TestCrashAfterCrash kills each successor too, and at last another custodian takes over, which has nothing of their memory.
func TestCrashAfterCrash(t *testing.T) {
	for _, last := range []string{"state", "another"} {
		t.Run(last, func(t *testing.T) {
			t.Parallel()
			w := newCrashWorld(t)
			for _, call := range []string{"after claim 1", "after put 1", "before rewritten 1", "after rewritten 1", "after delete 1", "before purged 1"} {
				if !w.run(call, "state") {
					t.Errorf("%s: not killed", call)
				}
			}
			w.gateway.pass(11 * time.Minute) // the claims of the dead
			w.sweep(func(o *sweep.Options) { o.State = filepath.Join(w.folder, last) })
			w.sweep() // what the first has put and not reported is its own to delete
			w.wantRows(allRows([]int{1, 2}, w.batches...))
			if w.erasures[0].certificate == "" || w.erasures[1].certificate == "" {
				t.Errorf("certificates are missing: refused %v, failed %v", w.gateway.refused, w.gateway.failed)
			}
		})
	}
}
