package rights

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The crash test runs gateway, custodian and loader in a process of its own, which kills itself (SIGKILL) at the first point of its way that no
// process before it was killed at. A point is a line of this package that reads the clock, as every change of state does, before its commit or
// after the one before; and each call of the object store. So every point is a restart, and every restart goes on from the one before.
const crashVariable = "OCTROI_RIGHTS_CRASH" // folder

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashVariable); dir != "" {
		if err := workUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if f := flag.Lookup("rapid.checks"); f != nil {
		_ = f.Value.Set("50") // each is tens of changes on disk
	}
	os.Exit(m.Run())
}

// reaper kills the process at the first point that is not in its file.
type reaper struct {
	mu     sync.Mutex
	path   string
	killed map[string]bool // guarded by mu
}

func (r *reaper) at(point string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed[point] {
		return
	}
	f, err := os.OpenFile(r.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(point + "\n")
	}
	if err != nil {
		panic(err)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// clock names the line of this package that read the clock.
func (r *reaper) clock() {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		file := filepath.Base(f.File)
		if strings.Contains(f.Function, "/export/rights.") && !strings.HasSuffix(file, "_test.go") && !strings.HasSuffix(f.Function, ").now") {
			r.at(fmt.Sprintf("clock %s:%d", file, f.Line))
			return
		}
		if !more {
			return
		}
	}
}

// mortal is an object store at whose calls the process may end.
type mortal struct {
	export.Objects
	r *reaper
}

func kindOf(key string) string {
	for _, kind := range []string{"suppressions/", "/stream/", "/notices/", "/events/"} {
		if strings.Contains(key, kind) {
			return strings.Trim(kind, "/")
		}
	}
	return "other"
}

func (m mortal) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, sum [32]byte) (string, error) {
	m.r.at("before put " + kindOf(key))
	defer m.r.at("after put " + kindOf(key))
	return m.Objects.Put(ctx, key, body, size, sum)
}

func (m mortal) Get(ctx context.Context, key, version string) (io.ReadCloser, error) {
	m.r.at("before get " + kindOf(key))
	return m.Objects.Get(ctx, key, version)
}

// crashPlan is the world that is worked on: a buyer who is erased, a visitor who withdraws, another who asks for access, and one who stays.
type crashPlan struct{ visitor, curious, stays subject.Subject }

const buyerCard = "card-crash"

// workUntilKilled takes everything that is asked for to its end.
func workUntilKilled(dir string) error {
	w, err := openParts(dir)
	if err != nil {
		return err
	}
	r := &reaper{path: filepath.Join(dir, "killed"), killed: map[string]bool{}}
	if list, err := os.ReadFile(r.path); err == nil {
		for _, point := range strings.Split(string(list), "\n") {
			r.killed[point] = true
		}
	}
	w.forward(time.Duration(len(r.killed)) * time.Hour) // no clock goes back, and the lease of a custodian that was killed is over
	w.tick, w.objects = r.clock, mortal{w.objects, r}
	ctx := context.Background()
	if err := w.openExits(ctx); err != nil {
		return err
	}
	o := w.options()
	o.Notices = time.Millisecond
	if w.Requests, err = Open(ctx, o); err != nil {
		return err
	}
	if err := w.askAll(ctx); err != nil {
		return err
	}
	custody := &servant{w: w, name: "custodian-" + fmt.Sprint(os.Getpid())}
	for range 40 {
		w.forward(time.Minute)
		var open []string
		w.Pass(ctx)
		if err := errors.Join(w.flush(ctx), custody.serve(ctx), w.acknowledge(ctx)); err != nil {
			return err
		}
		err := w.state.View(func(v reader) (err error) {
			open, err = openRequests(v)
			return err
		})
		if err != nil {
			return err
		}
		if len(open) == 0 {
			w.Pass(ctx)
			w.KeepHouse(ctx)
			return errors.Join(w.save(), w.close())
		}
	}
	return errors.New("it does not end")
}

// askAll asks for what was not asked for before.
func (w *world) askAll(ctx context.Context) error {
	asked, err := os.ReadFile(filepath.Join(w.dir, "asked"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	id, err := subject.Normalise("loyalty", buyerCard, "FR")
	if err != nil {
		return err
	}
	var p crashPlan
	for i, slot := range []*subject.Subject{&p.visitor, &p.curious, &p.stays} {
		if *slot, err = w.subjects.BySlot(w.keys.Slots[i]); err != nil {
			return err
		}
	}
	for _, x := range []struct {
		what string
		do   func() error
	}{
		{"erasure", func() error {
			buyer, err := w.subjects.Person(id)
			if errors.Is(err, subject.ErrUnknown) {
				return nil // a process before asked, and was killed before it could say so
			}
			if err != nil {
				return err
			}
			return w.askOf(ctx, proof.Erasure, buyer)
		}},
		{"withdrawal", func() error {
			_, err := w.ledger.Withdraw(ctx, p.visitor, consent.Withdrawal{Site: testSite})
			return err
		}},
		{"access", func() error { return w.askOf(ctx, proof.Access, p.curious) }},
	} {
		if strings.Contains(string(asked), x.what) {
			continue
		}
		if err := x.do(); err != nil {
			return fmt.Errorf("%s: %w", x.what, err)
		}
		asked = append(asked, x.what...)
		if err := os.WriteFile(filepath.Join(w.dir, "asked"), asked, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) askOf(ctx context.Context, right proof.Right, s subject.Subject) error {
	_, _, err := w.submit(ctx, submission{right: right, origin: proof.ByPerson, actor: person, subject: s, proven: true})
	if errors.Is(err, subject.ErrShredded) {
		return nil
	}
	return err
}

// TestKill kills at every point, and checks that the end is that of a run that nobody killed.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openWorld(t, dir)
	_, visitor := w.mint(t)
	_, curious := w.mint(t)
	_, stays := w.mint(t)
	buyer := w.declare(t, buyerCard)
	w.keys.Slots = []subject.Slot{visitor.Slot(), curious.Slot(), stays.Slot()}
	for i, s := range []subject.Subject{visitor, curious, stays} {
		w.pages(t, s, 2, fmt.Sprint("v", i))
	}
	w.visit(t, subject.Subject{}, buyer, "purchase", "p1", w.at)
	w.ship(t)
	w.forward(time.Hour)
	w.pages(t, stays, 1, "spooled")
	if err := errors.Join(w.save(), w.close()); err != nil {
		t.Fatal(err)
	}
	kills := 0
	for ; killed(t, dir); kills++ {
		if kills == 400 {
			t.Fatal("it does not get through")
		}
	}
	if kills < 35 {
		t.Errorf("killed %d times: too few points to prove anything", kills)
	}
	checkAfterKills(t, dir)
}

// killed runs a process until it ends.
func killed(t *testing.T, dir string) bool {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), crashVariable+"="+dir)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

func checkAfterKills(t *testing.T, dir string) {
	t.Helper()
	w := openWorld(t, dir)
	ends := map[proof.Origin]int{}
	err := w.state.View(func(v reader) error {
		return v.Scan([]byte(requestPrefix), func(key, _ []byte) error {
			id, err := idOf(key)
			if err != nil {
				return err
			}
			q, err := readRequest(v, id)
			if err != nil {
				return err
			}
			if q.State != Completed || q.Done != q.Batches {
				t.Errorf("%s by %s: %s, %d of %d batches", q.Right, q.Origin, q.State, q.Done, q.Batches)
			}
			if q.Right == proof.Erasure {
				ends[q.Origin]++
				text, err := w.Certificate(id)
				if err != nil {
					return err
				}
				if _, err := proof.VerifyCertificate(text, w.o.Custodian, w.signer.Verifier()); err != nil {
					t.Error(err)
				}
				return nil
			}
			ends["access"]++
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if ends[proof.ByPerson] != 1 || ends[proof.ByWithdrawal] != 1 || ends["access"] != 1 {
		t.Errorf("requests: %v", ends)
	}
	if _, err := w.subjects.Person(loyalty(t, buyerCard)); !errors.Is(err, subject.ErrUnknown) {
		t.Error("the erased is there:", err)
	}
	if rows := w.everyRow(t, "warehouse"); len(rows) != 5 { // two of the curious, three of who stays
		t.Errorf("%d rows are left at the warehouse, want 5", len(rows))
	}
	if rows := w.everyRow(t, "accounting"); len(rows) != 0 {
		t.Errorf("%d rows are left at accounting", len(rows))
	}
	if keys := w.objectsUnder(t, "warehouse/events/"); len(keys) != 2 {
		t.Errorf("objects that nobody states are left: %v", keys)
	}
	for _, prefix := range []string{openPrefix, wantPrefix, batchPrefix, withdrawnPrefix, noticePrefix} {
		if n := w.count(t, prefix); n != 0 {
			t.Errorf("%d rows are left under %q", n, prefix)
		}
	}
	for _, prefix := range []string{"warehouse/notices/", "accounting/notices/"} {
		if keys := w.objectsUnder(t, prefix); len(keys) != 1 {
			t.Errorf("told %d times: %v", len(keys), keys)
		}
	}
	w.eachLeafIsProven(t)
}
