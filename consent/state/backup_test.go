package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/octroi/octroi/consent/state"
	"golang.org/x/mod/sumdb/tlog"
)

func backup(t testing.TB, s *state.Store) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Backup(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// everything lists all rows but the store's own.
func everything(t testing.TB, s *state.Store) []string {
	t.Helper()
	return slices.DeleteFunc(stored(t, s, ""), func(row string) bool { return strings.HasPrefix(row, "v/") })
}

// TestBackupBesideWriters: each writer's change writes the same number under two keys; a backup taken meanwhile has both or none, and the log
// of exactly those changes.
func TestBackupBesideWriters(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				value := fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", 100))
				_ = s.Update(ctx, func(txn *state.Txn) error {
					txn.Set(fmt.Appendf(nil, "c/%d", w), value)
					txn.Set(fmt.Appendf(nil, "x/%d", w), value)
					txn.Set(fmt.Appendf(nil, "i/%d/%06d", w, txn.Append(leaf(i))), nil)
					return nil
				})
			}
		})
	}
	for range 2 {
		b := backup(t, s)
		dir := filepath.Join(t.TempDir(), "state")
		if err := state.Restore(dir, stateKey, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		restored := open(t, dir)
		pairs := func(prefix string) (out []string) {
			for _, row := range stored(t, restored, prefix) {
				out = append(out, strings.TrimPrefix(row, prefix))
			}
			return out
		}
		if a, b := pairs("c/"), pairs("x/"); !slices.Equal(a, b) {
			t.Errorf("half a change: %.60q, %.60q", a, b)
		}
		if size, _, err := restored.Tree(); err != nil || int(size) != len(stored(t, restored, "i/")) {
			t.Errorf("%d leaves of %d changes (%v)", size, len(stored(t, restored, "i/")), err)
		}
	}
	stop()
	writers.Wait()
	if size, _, err := s.Tree(); err != nil || size == 0 {
		t.Errorf("nobody wrote (%v)", err)
	}
}

// TestRestoreIsEqual: every row, the log and its proofs; and the log goes on where it stood.
func TestRestoreIsEqual(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for leaves := range 5 {
		s := open(t, t.TempDir())
		for change := range random.IntN(4) {
			update(t, s, func(txn *state.Txn) error {
				for i := range 20 {
					key, value := make([]byte, 2+random.IntN(1022)), make([]byte, random.IntN(300))
					for _, b := range [][]byte{key, value} {
						for i := range b {
							b[i] = byte(random.Uint32())
						}
					}
					copy(key, "c/")
					txn.Set(key, value)
					if i%3 == change {
						txn.Delete(key)
					}
				}
				return nil
			})
		}
		update(t, s, func(txn *state.Txn) error {
			for i := range leaves {
				txn.Append(leaf(i))
			}
			return nil
		})
		dir := t.TempDir() // empty
		if err := state.Restore(dir, stateKey, bytes.NewReader(backup(t, s))); err != nil {
			t.Fatal(err)
		}
		restored := open(t, dir)
		if a, b := everything(t, s), everything(t, restored); !slices.Equal(a, b) {
			t.Errorf("%d rows, %d restored", len(a), len(b))
		}
		extends(t, s, restored)
	}
}

// extends checks that what is appended to the second log extends the first.
func extends(t *testing.T, older, newer *state.Store) {
	t.Helper()
	size, root, err := older.Tree()
	if err != nil {
		t.Fatal(err)
	}
	update(t, newer, func(txn *state.Txn) error { txn.Append(leaf(1000)); return nil })
	size2, root2, err := newer.Tree()
	if err != nil || size2 != size+1 {
		t.Fatalf("%d leaves after %d: %v", size2, size, err)
	}
	proof, err := newer.Consistency(size, size2)
	if err == nil && size > 0 {
		err = tlog.CheckTree(proof, size2, root2, size, root)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestRestoreManyGroups: more than one group, and rows of the greatest size.
func TestRestoreManyGroups(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range 4 {
		set(t, s, fmt.Sprintf("c/big%d", i), strings.Repeat(string(rune('a'+i)), state.MaxChangeBytes-state.RowOverhead-6))
	}
	for i := range 6 {
		update(t, s, func(txn *state.Txn) error {
			for j := range 500 {
				txn.Set(fmt.Appendf(nil, "i/%d/%d", i, j), []byte("v"))
			}
			txn.Append(leaf(i))
			return nil
		})
	}
	dir := filepath.Join(t.TempDir(), "state")
	if err := state.Restore(dir, stateKey, bytes.NewReader(backup(t, s))); err != nil {
		t.Fatal(err)
	}
	if a, b := everything(t, s), everything(t, open(t, dir)); !slices.Equal(a, b) {
		t.Errorf("%d rows, %d restored", len(a), len(b))
	}
}

// small is a state with a few rows and leaves, and its backup.
func small(t testing.TB) []byte {
	t.Helper()
	s := open(t, t.TempDir())
	set(t, s, "c/1", "one", "c/2", "", "x/cursor", "12")
	update(t, s, func(txn *state.Txn) error { txn.Append(leaf(0)); txn.Append(leaf(1)); txn.Append(leaf(2)); return nil })
	return backup(t, s)
}

// refused checks that a restore fails with one of the errors and leaves nothing.
func refused(t *testing.T, what string, r io.Reader, key []byte, want ...error) {
	t.Helper()
	parent := t.TempDir()
	err := state.Restore(filepath.Join(parent, "state"), key, r)
	if !slices.ContainsFunc(want, func(e error) bool { return errors.Is(err, e) }) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("%s: %s is left", what, left[0].Name())
	}
}

func TestRestoreRefuses(t *testing.T) {
	b := small(t)
	for n := 0; n < len(b); n += 1 + len(b)/10 {
		refused(t, fmt.Sprintf("cut off at %d", n), bytes.NewReader(b[:n]), stateKey, state.ErrBackup)
		spoilt := bytes.Clone(b)
		spoilt[n] ^= 1
		refused(t, fmt.Sprintf("changed at %d", n), bytes.NewReader(spoilt), stateKey, state.ErrBackup, state.ErrKey, state.ErrVersion)
	}
	refused(t, "cut off by one", bytes.NewReader(b[:len(b)-1]), stateKey, state.ErrBackup)
	refused(t, "longer", bytes.NewReader(append(bytes.Clone(b), 0)), stateKey, state.ErrBackup)
	refused(t, "another key", bytes.NewReader(b), []byte(strings.Repeat("l", 32)), state.ErrKey)
	refused(t, "a short key", bytes.NewReader(b), []byte("k"), state.ErrKey)
	broken := errors.New("broken")
	refused(t, "a reader that fails", io.MultiReader(bytes.NewReader(b[:100]), iotest.ErrReader(broken)), stateKey, broken)
	refused(t, "a reader that fails at the end", io.MultiReader(bytes.NewReader(b), iotest.ErrReader(broken)), stateKey, broken)
	if rows, err := state.ReadBackup(bytes.NewReader(b), stateKey); err != nil || rows != 11 {
		t.Errorf("%d rows: %v", rows, err)
	}
}

func TestRestoreIntoWhatIsThere(t *testing.T) {
	b := small(t)
	dir := t.TempDir()
	s := open(t, dir)
	set(t, s, "c/mine", "1")
	if err := state.Restore(dir, stateKey, bytes.NewReader(b)); !errors.Is(err, state.ErrNotEmpty) {
		t.Errorf("into a state: %v", err)
	}
	if got := stored(t, s, "c/"); !slices.Equal(got, []string{"c/mine=1"}) {
		t.Errorf("it was changed: %q", got)
	}
	// What a restore that was killed left is in nobody's way, and is no state.
	dir = filepath.Join(t.TempDir(), "state")
	if err := os.MkdirAll(filepath.Join(dir+".restoring", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := state.Restore(dir+"/", stateKey, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, open(t, dir), "c/"); !slices.Equal(got, []string{"c/1=one", "c/2="}) {
		t.Errorf("restored %q", got)
	}
	if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 1 {
		t.Errorf("%d entries are left", len(left))
	}
}

func TestBackupEnds(t *testing.T) {
	s := open(t, t.TempDir())
	set(t, s, "c/1", "one")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := s.Backup(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context: %v", err)
	}
	full := errors.New("full")
	for i := range 200 {
		set(t, s, fmt.Sprintf("c/%d", i), strings.Repeat("x", 100))
	}
	if err := s.Backup(t.Context(), writer(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		t.Errorf("to a full disk: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), io.Discard); !errors.Is(err, state.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestCloseEndsBackup: a backup that goes on does not keep a gateway from stopping.
func TestCloseEndsBackup(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range 300 {
		set(t, s, fmt.Sprintf("c/%d", i), strings.Repeat("x", 1000))
	}
	closed, began := make(chan error, 1), sync.Once{}
	err := s.Backup(t.Context(), writer(func(p []byte) (int, error) {
		began.Do(func() {
			go func() { closed <- s.Close() }()
			for s.Err() == nil { // until it has begun to close
			}
		})
		return len(p), nil
	}))
	if !errors.Is(err, state.ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func FuzzReadBackup(f *testing.F) {
	b := small(f)
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add(b[:48])
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := state.ReadBackup(bytes.NewReader(b), stateKey); err == nil && !bytes.HasPrefix(b, []byte("octrbak1")) {
			t.Error("read")
		}
	})
}
