package export

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
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
	if err := w.erase(ctx, s, r.at); err != nil {
		return err
	}
	return errors.Join(w.close(), os.WriteFile(filepath.Join(dir, "calls"), []byte(strings.Join(r.calls, "\n")), 0o600))
}

// erasure is what a gateway remembers of one: it stands in a row of state, and each step is committed with what it does.
type erasure struct {
	Stage      int // 0: nothing yet; 1: a generation is claimed; 2: replaced, and the destination is to be told
	Batch, Key string
	Generation int
}

var erasureKey = []byte("q/test")

// erase takes the first device's rows out of the first batch and tells the destination, from the step on that was committed last. at is
// called around what the crash test kills at.
func (w *world) erase(ctx context.Context, s *Shipper, at func(when, what string)) error {
	for {
		var x erasure
		err := w.state.View(func(r state.Reader) error {
			v, err := r.Get(erasureKey)
			if errors.Is(err, state.ErrNotFound) {
				return nil
			}
			return errors.Join(err, json.Unmarshal(v, &x))
		})
		if err != nil || x.Stage == 2 {
			return errors.Join(err, s.Flush(ctx))
		}
		step := w.claimFirst
		if x.Stage == 1 {
			step = w.replaceClaimed
		}
		if err := step(ctx, s, x, at); err != nil {
			return err
		}
	}
}

func (w *world) claimFirst(ctx context.Context, s *Shipper, x erasure, at func(when, what string)) error {
	text, err := NewStreams(w.state, "a", s.o.Name).EntryText(s.o.Name, 1)
	if err != nil {
		return err
	}
	e, err := VerifyEntry(text, s.o.Name, testSigner.Public().(ed25519.PublicKey))
	if err != nil {
		return err
	}
	id, err := ParseBatchID(e.Batch.ID)
	if err != nil {
		return err
	}
	err = w.state.Update(ctx, func(t *state.Txn) error {
		at("before", "claim")
		generation, key, err := s.Claim(t, id)
		at("after", "claim")
		return errors.Join(err, setRow(t, erasureKey, erasure{1, e.Batch.ID, key, generation}))
	})
	at("after", "claimed")
	return err
}

func (w *world) replaceClaimed(ctx context.Context, s *Shipper, x erasure, at func(when, what string)) error {
	id, err := ParseBatchID(x.Batch)
	if err != nil {
		return err
	}
	row, err := NewIndex(w.state).Batch(id)
	if err != nil {
		return err
	}
	first, err := w.subjects.BySlot(1)
	if err != nil {
		return err
	}
	now, object, err := w.rewritten(&row, x.Key, s.o.Destination.Pseudonym(first))
	if err != nil {
		return err
	}
	at("before", "put rewritten")
	now.Version, err = w.objects.Put(ctx, x.Key, bytes.NewReader(object), now.Size, sha256.Sum256(object))
	at("after", "put rewritten")
	if errors.Is(err, ErrExists) { // of an earlier attempt, with another file key: a custodian deletes it, or claims again
		return w.claimFirst(ctx, s, x, at)
	}
	if err != nil {
		return err
	}
	notices, err := w.notices(s.o.Name)
	if err != nil {
		return err
	}
	err = w.state.Update(ctx, func(t *state.Txn) error {
		at("before", "replace")
		if _, err := s.Replace(t, id, x.Generation, now); err != nil {
			return err
		}
		at("before", "enter")
		_, err := s.Enter(t, Statement{Type: EraseEntry, Notices: notices})
		at("after", "enter")
		x.Stage = 2
		return errors.Join(err, setRow(t, erasureKey, x))
	})
	at("after", "replace")
	return err
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
	switch {
	case strings.Contains(key, "/stream/"):
		what = "put entry"
	case strings.Contains(key, "/notices/"):
		what = "put notices"
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
	// The first batch has four events of two devices in turn, and loses those of the first: see erase.
	all := w.expected(t, "warehouse")
	want = append(want, all[1])
	want = append(want, all[3:]...)
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
		if n == "1" || n == "2" && slices.Contains([]string{"revoked since", "put object", "put entry", "rename", "remove"}, what) ||
			n >= "3" && what == "put entry" { // of the replacement and of the notices
			calls = append(calls, call)
		}
	}
	// Each of these encloses a crash point: without one of them the test would prove less than it says.
	for _, what := range []string{
		"peek", "look up", "index", "revoked since", "put object", "put entry", "create", "write", "sync", "close", "rename", "remove",
		"claim", "put rewritten", "replace", "enter", "put notices",
	} {
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
			s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.MaxRows = 4 })
			flush(t, s)
			if err := w.erase(t.Context(), s, func(string, string) {}); err != nil {
				t.Fatal(err)
			}
			w.wantErased(t, want)
		})
	}
}

// TestCrashAfterCrash kills each restart too, at the next call of the list, until one comes through.
func TestCrashAfterCrash(t *testing.T) {
	dir, want := crashWorld(t)
	kills := 0
	for _, call := range []string{
		"after sync 1", "after index 1", "after revoked since 1", "after put object 1", "before put entry 1", "after put entry 1", "before remove 1", "after claimed 1", "after put rewritten 1", "after replace 1", "after put notices 1", "before put entry 1",
		"after put entry 1", "",
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
	w.wantErased(t, want)
	if kills < 12 {
		t.Errorf("%d kills", kills)
	}
}

// wantErased: two batches, each event once but for those that were erased from the first, a replacement, and one notice of it.
func (w *world) wantErased(t *testing.T, want [][16]byte) {
	t.Helper()
	w.dropUnstated(t)
	got := w.check(t, "warehouse")
	wantIDs(t, got.ids(), slices.Clone(want))
	var types []EntryType
	for _, e := range got.others {
		types = append(types, e.Type)
	}
	if len(got.entries) != 2 || !slices.Equal(types, []EntryType{ReplaceEntry, EraseEntry}) {
		t.Errorf("%d batches, then %v", len(got.entries), types)
	}
}

// dropUnstated deletes rewritten objects whose generation was claimed again: the custodian's part.
func (w *world) dropUnstated(t *testing.T) {
	t.Helper()
	_, objects := w.list(t, "warehouse")
	var row BatchRow
	err := w.state.View(func(r state.Reader) error {
		entry, err := readStreamRow(r, "warehouse", 1)
		if err != nil {
			return err
		}
		id, err := ParseBatchID(entry.Batch)
		if err != nil {
			return err
		}
		row, err = readBatchRow(r, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for generation := 2; generation < row.Generation; generation++ {
		if key := row.key(generation); objects[key] > 0 {
			if err := os.Remove(filepath.Join(w.dir, "objects", key)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
