package state_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/state"
)

var stateKey = []byte(strings.Repeat("k", 32))

func open(t testing.TB, dir string) *state.Store {
	t.Helper()
	s, err := state.Open(state.Options{Dir: dir, Key: stateKey, ReserveBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func update(t testing.TB, s *state.Store, fn func(*state.Txn) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func set(t testing.TB, s *state.Store, rows ...string) {
	t.Helper()
	update(t, s, func(txn *state.Txn) error {
		for i := 0; i < len(rows); i += 2 {
			txn.Set([]byte(rows[i]), []byte(rows[i+1]))
		}
		return nil
	})
}

// rows lists the rows with prefix as "key=value".
func rows(t testing.TB, r state.Reader, prefix string) (out []string) {
	t.Helper()
	err := r.Scan([]byte(prefix), func(key, value []byte) error {
		out = append(out, string(key)+"="+string(value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func stored(t testing.TB, s *state.Store, prefix string) (out []string) {
	t.Helper()
	err := s.View(func(r state.Reader) error { out = rows(t, r, prefix); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	set(t, s, "c/1", "one", "c/2", "")
	update(t, s, func(txn *state.Txn) error { txn.Delete([]byte("c/1")); txn.Append(leaf(0)); return nil })
	size, root, err := s.Tree()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if got := stored(t, s, "c/"); !slices.Equal(got, []string{"c/2="}) {
		t.Errorf("rows %q", got)
	}
	if size2, root2, err := s.Tree(); err != nil || size2 != size || root2 != root || size != 1 {
		t.Errorf("another log: %d leaves (%v)", size2, err)
	}
	if s.Size() <= 0 {
		t.Error("it takes no space")
	}
}

func TestGetOfARowThatIsNotThere(t *testing.T) {
	s := open(t, t.TempDir())
	get := func(r state.Reader) error {
		_, err := r.Get([]byte("c/none"))
		return err
	}
	if err := s.View(get); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("View: %v", err)
	}
	if err := s.Update(t.Context(), func(txn *state.Txn) error { return get(txn) }); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("Update: %v", err)
	}
}

func TestScanStops(t *testing.T) {
	s := open(t, t.TempDir())
	set(t, s, "c/1", "", "c/2", "", "c/3", "", "d/1", "")
	broken := errors.New("broken")
	for _, c := range []struct {
		with, want error
	}{{state.ErrStop, nil}, {fmt.Errorf("enough: %w", state.ErrStop), nil}, {broken, broken}} {
		scan := func(r state.Reader) error {
			seen := 0
			err := r.Scan([]byte("c/"), func(_, _ []byte) error {
				if seen++; seen == 2 {
					return c.with
				}
				return nil
			})
			if seen != 2 {
				t.Errorf("%d rows seen", seen)
			}
			return err
		}
		if err := s.View(scan); !errors.Is(err, c.want) {
			t.Errorf("View: %v, want %v", err, c.want)
		}
		if err := s.Update(t.Context(), func(txn *state.Txn) error { return scan(txn) }); !errors.Is(err, c.want) {
			t.Errorf("Update: %v, want %v", err, c.want)
		}
	}
}

func TestRowsAreCopies(t *testing.T) {
	s := open(t, t.TempDir())
	key, value := []byte("c/1"), []byte("one")
	update(t, s, func(txn *state.Txn) error {
		txn.Set(key, value)
		key[2], value[0] = 'x', 'x'
		got, err := txn.Get([]byte("c/1"))
		if err == nil {
			got[1] = 'x'
		}
		return errors.Join(err, txn.Scan([]byte("c/"), func(k, v []byte) error { k[0], v[0] = 'x', 'x'; return nil }))
	})
	if got := stored(t, s, ""); !slices.Contains(got, "c/1=one") {
		t.Errorf("rows %q", got)
	}
}

func TestClose(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	release := gate(t, s)
	var wait sync.WaitGroup
	for i := range 10 {
		wait.Go(func() {
			err := s.Update(context.Background(), func(txn *state.Txn) error { txn.Set(fmt.Appendf(nil, "c/%d", i), nil); return nil })
			if err != nil && !errors.Is(err, state.ErrClosed) {
				t.Error(err)
			}
		})
	}
	reading, read := make(chan struct{}), make(chan struct{})
	wait.Go(func() {
		err := s.View(func(r state.Reader) error {
			close(reading)
			<-read
			return r.Scan(nil, func(_, _ []byte) error { return nil })
		})
		if err != nil {
			t.Errorf("a reader that ran when Close was called: %v", err)
		}
	})
	<-reading
	time.Sleep(20 * time.Millisecond)
	wait.Go(func() { time.Sleep(20 * time.Millisecond); release(); close(read) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wait.Wait()
	if err := s.Update(t.Context(), func(*state.Txn) error { return nil }); !errors.Is(err, state.ErrClosed) {
		t.Errorf("Update: %v", err)
	}
	if err := s.View(func(state.Reader) error { return nil }); !errors.Is(err, state.ErrClosed) {
		t.Errorf("View: %v", err)
	}
	if err := s.Close(); !errors.Is(err, state.ErrClosed) {
		t.Errorf("Close: %v", err)
	}
	open(t, dir)
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := state.Open(state.Options{Dir: dir, Key: stateKey}); !errors.Is(err, state.ErrLocked) {
		t.Errorf("open twice: %v", err)
	}
	if err := s.SetVersion(2); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(state.Options{Dir: dir, Key: []byte(strings.Repeat("x", 32))}); !errors.Is(err, state.ErrKey) {
		t.Errorf("another key: %v", err)
	}
	if _, err := state.Open(state.Options{Dir: dir, Key: stateKey[:16]}); !errors.Is(err, state.ErrKey) {
		t.Errorf("a short key: %v", err)
	}
	if _, err := state.Open(state.Options{Dir: dir, Key: stateKey}); !errors.Is(err, state.ErrVersion) {
		t.Errorf("another version: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(state.Options{Dir: file, Key: stateKey}); err == nil {
		t.Error("a file opens as a folder")
	}
}

func TestFullDisk(t *testing.T) {
	s, err := state.Open(state.Options{Dir: t.TempDir(), Key: stateKey})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var free int64 = 1 << 40
	s.SetFree(func(string) (int64, error) { return free, nil })
	set(t, s, "c/1", "one")
	free = 256<<20 - 1
	ran := false
	err = s.Update(t.Context(), func(txn *state.Txn) error {
		txn.Set([]byte("c/2"), nil)
		txn.Append(leaf(0))
		txn.OnCommit(func() { ran = true })
		return nil
	})
	if !errors.Is(err, state.ErrFull) || ran {
		t.Errorf("%v, hook ran: %v", err, ran)
	}
	if err := s.Update(t.Context(), func(txn *state.Txn) error { _, err := txn.Get([]byte("c/1")); return err }); err != nil {
		t.Errorf("a change that writes nothing: %v", err)
	}
	if got := stored(t, s, "c/"); !slices.Equal(got, []string{"c/1=one"}) {
		t.Errorf("rows %q", got)
	}
	free = 1 << 40
	update(t, s, func(txn *state.Txn) error {
		if index := txn.Append(leaf(1)); index != 0 {
			t.Errorf("index %d: the refused leaf was kept", index)
		}
		return nil
	})
}

func TestBrokenDiskStopsChanges(t *testing.T) {
	s := open(t, t.TempDir())
	set(t, s, "c/1", "one")
	s.Break()
	for range 2 {
		err := s.Update(t.Context(), func(txn *state.Txn) error { txn.Set([]byte("c/2"), nil); return nil })
		if !errors.Is(err, state.ErrFailed) {
			t.Errorf("%v", err)
		}
	}
}
