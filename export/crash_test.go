package export

import (
	"context"
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

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The crash tests run the shipper in a process of its own, which kills itself (SIGKILL) before or after a given call of one of its
// consumer interfaces. Between them these calls enclose every crash point that the code comments: state is changed only between two.
const crashVariable = "OCTROI_EXPORT_CRASH" // <dir>|<call>

func TestMain(m *testing.M) {
	if plan := os.Getenv(crashVariable); plan != "" {
		dir, call, _ := strings.Cut(plan, "|")
		if err := shipUntilKilled(dir, call); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// shipUntilKilled ships all that is spooled in the world below dir. It writes the calls it made to dir/calls when it was not killed.
func shipUntilKilled(dir, call string) error {
	w, err := openWorld(dir)
	if err != nil {
		return err
	}
	o, err := w.options("warehouse")
	if err != nil {
		return err
	}
	r := &reaper{call: call, counts: map[string]int{}}
	r.wrap(&o)
	s, err := NewShipper(context.Background(), o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Flush(ctx); err != nil {
		return err
	}
	return errors.Join(w.close(), os.WriteFile(filepath.Join(dir, "calls"), []byte(strings.Join(r.calls, "\n")), 0o600))
}

// reaper kills the process at a call, named "<before|after> <what> <n>".
type reaper struct {
	call string

	mu     sync.Mutex
	counts map[string]int // guarded by mu
	calls  []string       // guarded by mu
	sealed bool           // the outbox file is complete and its intent is not made: what is looked up is the index's; guarded by mu
}

func (r *reaper) at(when, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if what == "look up" && r.sealed {
		what = "index"
	}
	r.sealed = (r.sealed || when+what == "afterrename") && what != "revoked since"
	point := when + " " + what
	r.counts[point]++
	point += " " + strconv.Itoa(r.counts[point])
	r.calls = append(r.calls, point)
	if point == r.call {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (r *reaper) wrap(o *ShipperOptions) {
	o.Spool = mortalSpool{o.Spool, r}
	o.Revocations = mortalRevocations{o.Revocations, r}
	o.Subjects = mortalSubjects{o.Subjects, r}
	o.Objects = mortalObjects{o.Objects, r}
	o.files = mortalFiles{disk{}, r}
	o.MaxRows = 4
}

type mortalSpool struct {
	Spool
	r *reaper
}

func (m mortalSpool) Peek(ctx context.Context, position uint64, max int) ([]Spooled, error) {
	m.r.at("before", "peek")
	defer m.r.at("after", "peek")
	return m.Spool.Peek(ctx, position, max)
}

type mortalRevocations struct {
	Revocations
	r *reaper
}

// RevokedSince is called inside the intent's transaction: a kill here is a kill before its commit.
func (m mortalRevocations) RevokedSince(t *state.Txn, sequence uint64, fn func(subject.Slot, string) error) error {
	m.r.at("before", "revoked since")
	defer m.r.at("after", "revoked since")
	return m.Revocations.RevokedSince(t, sequence, fn)
}

type mortalSubjects struct {
	Subjects
	r *reaper
}

func (m mortalSubjects) BySlot(slot subject.Slot) (subject.Subject, error) {
	m.r.at("before", "look up")
	defer m.r.at("after", "look up")
	return m.Subjects.BySlot(slot)
}

type mortalObjects struct {
	Objects
	r *reaper
}

func (m mortalObjects) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, sha256 [32]byte) (string, error) {
	what := "put object"
	if strings.Contains(key, "/stream/") {
		what = "put entry"
	}
	m.r.at("before", what)
	defer m.r.at("after", what)
	return m.Objects.Put(ctx, key, body, size, sha256)
}

type mortalFiles struct {
	files
	r *reaper
}

func (m mortalFiles) Create(path string) (file, error) {
	m.r.at("before", "create")
	f, err := m.files.Create(path)
	m.r.at("after", "create")
	return mortalFile{f, m.r}, err
}

func (m mortalFiles) Rename(from, to string) error {
	m.r.at("before", "rename")
	defer m.r.at("after", "rename")
	return m.files.Rename(from, to)
}

func (m mortalFiles) Remove(path string) error {
	m.r.at("before", "remove")
	defer m.r.at("after", "remove")
	return m.files.Remove(path)
}

type mortalFile struct {
	file
	r *reaper
}

func (m mortalFile) Write(b []byte) (int, error) {
	m.r.at("before", "write")
	defer m.r.at("after", "write")
	return m.file.Write(b)
}

func (m mortalFile) Sync() error {
	m.r.at("before", "sync")
	defer m.r.at("after", "sync")
	return m.file.Sync()
}

func (m mortalFile) Close() error {
	m.r.at("before", "close")
	defer m.r.at("after", "close")
	return m.file.Close()
}

// crashWorld is a closed world with two batches of this destination, in two hours, and a range between them that is another's.
func crashWorld(t *testing.T) (dir string, want [][16]byte) {
	t.Helper()
	dir = t.TempDir()
	w, err := createWorld(dir)
	if err != nil {
		t.Fatal(err)
	}
	devices, persons := w.mint(t, 2), w.declare(t, 1)
	w.send(t, pages(devices, 4, "a", testStart)...)
	w.send(t, visit{person: persons[0], typ: "purchase", id: "p", at: testStart.Add(time.Hour)})
	w.send(t, pages(devices, 3, "b", testStart.Add(2*time.Hour))...)
	want = w.expected(t, "warehouse")
	if err := errors.Join(w.save(), w.close()); err != nil {
		t.Fatal(err)
	}
	return dir, want
}

func ship(t *testing.T, dir, call string) (killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashVariable+"="+dir+"|"+call)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	t.Fatalf("%s: %v\n%s", call, err, out)
	return false
}

// TestCrashes kills the shipper before and after the first call of each kind, and the second where another batch is then on its way; ships again, and checks that every event
// was shipped exactly once, in one chain without gap, with nothing left over.
func TestCrashes(t *testing.T) {
	template, want := crashWorld(t)
	whole := filepath.Join(t.TempDir(), "whole")
	copyDir(t, template, whole)
	if ship(t, whole, "") {
		t.Fatal("killed without a plan")
	}
	list, err := os.ReadFile(filepath.Join(whole, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	var calls []string
	kinds := map[string]bool{}
	for _, call := range strings.Split(string(list), "\n") {
		cut := strings.LastIndexByte(call, ' ')
		kind, n := call[:cut], call[cut+1:]
		_, what, _ := strings.Cut(kind, " ")
		kinds[kind] = true
		if n == "1" || n == "2" && slices.Contains([]string{"revoked since", "put object", "put entry", "rename", "remove"}, what) {
			calls = append(calls, call)
		}
	}
	// Each of these encloses a crash point: without one of them the test would prove less than it says.
	for _, what := range []string{"peek", "look up", "index", "revoked since", "put object", "put entry", "create", "write", "sync", "close", "rename", "remove"} {
		if !kinds["before "+what] || !kinds["after "+what] {
			t.Fatalf("the shipper never called %q", what)
		}
	}
	for _, call := range calls {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "w")
			copyDir(t, template, dir)
			if !ship(t, dir, call) {
				t.Fatal("was not killed")
			}
			w, err := openWorld(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			flush(t, w.shipper(t, "warehouse", func(o *ShipperOptions) { o.MaxRows = 4 }))
			got := w.check(t, "warehouse")
			wantIDs(t, got.ids(), append([][16]byte(nil), want...))
			if len(got.entries) != 2 {
				t.Errorf("%d batches, want 2", len(got.entries))
			}
		})
	}
}

// TestCrashAfterCrash kills each restart too, at the next call of the list, until one comes through.
func TestCrashAfterCrash(t *testing.T) {
	dir, want := crashWorld(t)
	kills := 0
	for _, call := range []string{
		"after sync 1", "after index 1", "after revoked since 1", "after put object 1", "before put entry 1", "after put entry 1", "before remove 1", "",
	} {
		if ship(t, dir, call) {
			kills++
		}
	}
	w, err := openWorld(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	w.shipper(t, "warehouse", nil) // deletes what the last one left
	got := w.check(t, "warehouse")
	wantIDs(t, got.ids(), want)
	if kills < 7 || len(got.entries) != 2 {
		t.Errorf("%d kills, %d batches", kills, len(got.entries))
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
