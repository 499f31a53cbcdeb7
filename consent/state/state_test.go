package state_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
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

func leaf(i int) evidence.Leaf { return evidence.Opening{Core: fmt.Append(nil, i)}.Leaf() }

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

func TestFailedChangeLeavesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	set(t, s, "c/1", "one")
	broken := errors.New("broken")
	ran := false
	for name, fn := range map[string]func() error{
		"error": func() error { return broken },
		"panic": func() error { panic("secret") },
	} {
		err := s.Update(t.Context(), func(txn *state.Txn) error {
			txn.Set([]byte("c/2"), nil)
			txn.Delete([]byte("c/1"))
			txn.Append(leaf(0))
			txn.OnCommit(func() { ran = true })
			return fn()
		})
		if !errors.Is(err, broken) && !errors.Is(err, state.ErrPanic) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error holds what was panicked with: %v", name, err)
		}
	}
	if got := stored(t, s, "c/"); !slices.Equal(got, []string{"c/1=one"}) {
		t.Errorf("rows %q", got)
	}
	if size, _, _ := s.Tree(); size != 0 || ran {
		t.Errorf("%d leaves, hook ran: %v", size, ran)
	}
}

func TestPanicNamesItsPlace(t *testing.T) {
	s := open(t, t.TempDir())
	err := s.Update(t.Context(), func(*state.Txn) error { var p *int; *p = 1; return nil })
	if !errors.Is(err, state.ErrPanic) || !strings.Contains(err.Error(), "TestPanicNamesItsPlace") {
		t.Errorf("%v", err)
	}
}

// A change that ends the writer's goroutine must not leave others waiting for ever.
func TestGoexitFailsTheStore(t *testing.T) {
	s := open(t, t.TempDir())
	set(t, s, "c/1", "one")
	err := s.Update(t.Context(), func(*state.Txn) error { exitGoroutine(); return nil })
	if !errors.Is(err, state.ErrFailed) {
		t.Errorf("the change itself: %v", err)
	}
	if err := s.Update(t.Context(), func(*state.Txn) error { return nil }); !errors.Is(err, state.ErrFailed) {
		t.Errorf("a later change: %v", err)
	}
	if got := stored(t, s, "c/"); !slices.Equal(got, []string{"c/1=one"}) {
		t.Errorf("rows %q", got)
	}
}

func TestHooksRunInOrderBeforeUpdateReturns(t *testing.T) {
	s := open(t, t.TempDir())
	var mu sync.Mutex
	var seen []int
	var wait sync.WaitGroup
	next := 0
	for range 50 {
		wait.Go(func() {
			mine := 0
			update(t, s, func(txn *state.Txn) error {
				mine = next
				next++
				txn.Set(fmt.Appendf(nil, "c/%d", mine), nil)
				txn.OnCommit(func() { mu.Lock(); seen = append(seen, mine); mu.Unlock() })
				return nil
			})
			mu.Lock()
			defer mu.Unlock()
			if !slices.Contains(seen, mine) {
				t.Errorf("hook %d has not run when Update returned", mine)
			}
		})
	}
	wait.Wait()
	if !slices.IsSorted(seen) || len(seen) != 50 {
		t.Errorf("order of hooks: %v", seen)
	}
}

func TestPanickingHookFailsTheStore(t *testing.T) {
	s := open(t, t.TempDir())
	err := s.Update(t.Context(), func(txn *state.Txn) error { txn.OnCommit(func() { panic("hook") }); return nil })
	if !errors.Is(err, state.ErrFailed) || !errors.Is(err, state.ErrPanic) {
		t.Errorf("%v", err)
	}
	if err := s.Update(t.Context(), func(*state.Txn) error { return nil }); !errors.Is(err, state.ErrFailed) {
		t.Errorf("a later change: %v", err)
	}
}

// gate holds the writer in a change, so that others gather behind it.
func gate(t testing.TB, s *state.Store) (release func()) {
	t.Helper()
	entered, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.Update(context.Background(), func(*state.Txn) error { close(entered); <-leave; return nil })
	}()
	<-entered
	return func() {
		close(leave)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// Changes of one group see each other's rows and leaves, but not those of one that failed.
func TestChangesOfAGroup(t *testing.T) {
	s := open(t, t.TempDir())
	set(t, s, "c/a", "1", "c/c", "1", "c/e", "1")
	release := gate(t, s)
	var wait sync.WaitGroup
	started := make(chan struct{}, 1)
	inOrder := func(fn func(*state.Txn) error, want error) {
		started <- struct{}{}
		wait.Go(func() {
			if err := s.Update(context.Background(), fn); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		})
		<-started
		time.Sleep(20 * time.Millisecond) // for the queue; a late one still passes
	}
	broken := errors.New("broken")
	inOrder(func(txn *state.Txn) error {
		txn.Set([]byte("c/b"), []byte("2"))
		txn.Delete([]byte("c/c"))
		txn.Append(leaf(0))
		return nil
	}, nil)
	inOrder(func(txn *state.Txn) error {
		txn.Set([]byte("c/z"), []byte("lost"))
		txn.Append(leaf(99))
		return broken
	}, broken)
	inOrder(func(txn *state.Txn) error {
		txn.Set([]byte("c/e"), []byte("3"))
		want := []string{"c/a=1", "c/b=2", "c/e=3"}
		if got := rows(t, txn, "c/"); !slices.Equal(got, want) {
			t.Errorf("a later change of the group sees %q, want %q", got, want)
		}
		if _, err := txn.Get([]byte("c/c")); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("a deleted row is there: %v", err)
		}
		if index := txn.Append(leaf(1)); index != 1 {
			t.Errorf("index %d, want 1", index)
		}
		return nil
	}, nil)
	if got := stored(t, s, "c/"); !slices.Equal(got, []string{"c/a=1", "c/c=1", "c/e=1"}) {
		t.Errorf("a reader sees an uncommitted group: %q", got)
	}
	release()
	wait.Wait()
	if got := stored(t, s, "c/"); !slices.Equal(got, []string{"c/a=1", "c/b=2", "c/e=3"}) {
		t.Errorf("rows %q", got)
	}
	if leaves, err := s.Leaves(0, 2); err != nil || leaves[0] != leaf(0) || leaves[1] != leaf(1) {
		t.Errorf("leaves %v (%v)", leaves, err)
	}
}

// Whatever changes do, in groups or alone, failing or not, the rows are those of a map.
func TestStateIsAMap(t *testing.T) {
	s := open(t, t.TempDir())
	prefix := 0
	rapid.Check(t, func(rt *rapid.T) {
		prefix++
		base := fmt.Sprintf("c/%d/", prefix)
		model := map[string]string{}
		key := rapid.StringMatching(`[ab]{0,3}`)
		for range rapid.IntRange(1, 4).Draw(rt, "groups") {
			release := gate(t, s)
			var wait sync.WaitGroup
			wait.Go(func() {
				update(t, s, func(txn *state.Txn) error { model = drawChanges(rt, txn, base, model, key); return nil })
			})
			release()
			wait.Wait()
		}
		if got, want := stored(t, s, base), listing(base, model, ""); !slices.Equal(got, want) {
			rt.Fatalf("rows %q, want %q", got, want)
		}
	})
}

// drawChanges does random things in txn and in a copy of the model, comparing them on the way.
func drawChanges(rt *rapid.T, txn *state.Txn, base string, model map[string]string, key *rapid.Generator[string]) map[string]string {
	model = maps.Clone(model)
	for range rapid.IntRange(0, 50).Draw(rt, "steps") {
		k := key.Draw(rt, "key")
		switch rapid.IntRange(0, 3).Draw(rt, "step") {
		case 0:
			model[k] = rapid.StringMatching(`[x-z]{0,2}`).Draw(rt, "value")
			txn.Set([]byte(base+k), []byte(model[k]))
		case 1:
			delete(model, k)
			txn.Delete([]byte(base + k))
		case 2:
			value, err := txn.Get([]byte(base + k))
			if want, ok := model[k]; ok && (err != nil || string(value) != want) || !ok && !errors.Is(err, state.ErrNotFound) {
				rt.Fatalf("Get %q: %q, %v", k, value, err)
			}
		case 3:
			var got []string
			err := txn.Scan([]byte(base+k), func(key, value []byte) error {
				got = append(got, string(key)+"="+string(value))
				txn.Set(key, value) // allowed, and changes nothing
				return nil
			})
			if want := listing(base, model, k); err != nil || !slices.Equal(got, want) {
				rt.Fatalf("Scan %q: %q, want %q (%v)", k, got, want, err)
			}
		}
	}
	return model
}

func listing(base string, model map[string]string, prefix string) (out []string) {
	for _, k := range slices.Sorted(maps.Keys(model)) {
		if strings.HasPrefix(k, prefix) {
			out = append(out, base+k+"="+model[k])
		}
	}
	return out
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

func TestReservedRows(t *testing.T) {
	s := open(t, t.TempDir())
	for _, key := range []string{"", "e/n", "v/", "!badger!x", "c/" + strings.Repeat("x", 1100)} {
		for name, write := range map[string]func(*state.Txn){
			"Set":    func(txn *state.Txn) { txn.Set([]byte(key), nil) },
			"Delete": func(txn *state.Txn) { txn.Delete([]byte(key)) },
		} {
			if err := s.Update(t.Context(), func(txn *state.Txn) error { write(txn); return nil }); !errors.Is(err, state.ErrReserved) {
				t.Errorf("%s of %.10q: %v", name, key, err)
			}
		}
	}
}

func TestTooLarge(t *testing.T) {
	s := open(t, t.TempDir())
	fill := func(rows, value int) error {
		return s.Update(t.Context(), func(txn *state.Txn) error {
			for i := range rows {
				txn.Set(fmt.Appendf(nil, "c/%06d", i), make([]byte, value))
			}
			if got, want := txn.Room(), state.MaxChangeBytes-rows*(8+value+state.RowOverhead); got != want {
				t.Errorf("room for %d bytes, want %d", got, want)
			}
			return nil
		})
	}
	most := state.MaxChangeBytes - state.RowOverhead - 8
	for _, c := range []struct {
		rows, value int
		want        error
	}{
		{1, most, nil},
		{1, most + 1, state.ErrTooLarge},
		{state.MaxChangeBytes / (state.RowOverhead + 8), 0, nil},
		{state.MaxChangeBytes/(state.RowOverhead+8) + 1, 0, state.ErrTooLarge},
	} {
		if err := fill(c.rows, c.value); !errors.Is(err, c.want) {
			t.Errorf("%d rows of %d bytes: %v, want %v", c.rows, c.value, err, c.want)
		}
	}
}

// Groups of the largest changes stay below what Badger takes in one transaction.
func TestLargeChangesAtOnce(t *testing.T) {
	s := open(t, t.TempDir())
	release := gate(t, s)
	var wait sync.WaitGroup
	for i := range 6 {
		wait.Go(func() {
			update(t, s, func(txn *state.Txn) error {
				for j := 0; txn.Room() > state.RowOverhead+20+i*160; j++ {
					txn.Set(fmt.Appendf(nil, "c/%d/%d", i, j), make([]byte, i*160))
				}
				return nil
			})
		})
	}
	time.Sleep(50 * time.Millisecond)
	release()
	wait.Wait()
}

func TestContext(t *testing.T) {
	s := open(t, t.TempDir())
	never := func(*state.Txn) error { t.Error("it ran"); return nil }
	ended, end := context.WithCancel(t.Context())
	end()
	if err := s.Update(ended, never); !errors.Is(err, context.Canceled) {
		t.Errorf("ended before: %v", err)
	}

	release := gate(t, s)
	short, end := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer end()
	if err := s.Update(short, never); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended while it waited: %v", err)
	}
	release()

	running, end := context.WithCancel(t.Context())
	err := s.Update(running, func(txn *state.Txn) error {
		end()
		time.Sleep(20 * time.Millisecond)
		txn.Set([]byte("c/1"), nil)
		return nil
	})
	if err != nil || len(stored(t, s, "c/1")) != 1 {
		t.Errorf("ended while it ran: %v", err)
	}
}

func TestFullQueueWaitsForTheContext(t *testing.T) {
	s, err := state.Open(state.Options{Dir: t.TempDir(), Key: stateKey, QueueSize: 1, ReserveBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	release := gate(t, s)
	var wait sync.WaitGroup
	short, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer end()
	for range 3 {
		wait.Go(func() {
			if err := s.Update(short, func(*state.Txn) error { t.Error("it ran"); return nil }); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
		})
	}
	wait.Wait()
	release()
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

// C10: the log's proofs verify with an independent implementation.
func TestProofsByTransparencyDev(t *testing.T) {
	s := open(t, t.TempDir())
	roots := []tlog.Hash{}
	for i := range 70 {
		_, root, err := s.Tree()
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
		update(t, s, func(txn *state.Txn) error {
			if index := txn.Append(leaf(i)); index != int64(i) {
				t.Errorf("index %d, want %d", index, i)
			}
			return nil
		})
	}
	for size := int64(1); size < 70; size += 3 {
		for index := range size {
			hashes, err := s.Inclusion(index, size)
			if err != nil {
				t.Fatal(err)
			}
			l := leaf(int(index))
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), uint64(size), rfc6962.DefaultHasher.HashLeaf(l[:]), slice(hashes), roots[size][:]); err != nil {
				t.Fatalf("leaf %d of %d: %v", index, size, err)
			}
			hashes, err = s.Consistency(index, size)
			if err != nil {
				t.Fatal(err)
			}
			if index == 0 {
				continue // RFC 6962 has no proof from the empty log
			}
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(index), uint64(size), slice(hashes), roots[index][:], roots[size][:]); err != nil {
				t.Fatalf("%d in %d: %v", index, size, err)
			}
		}
	}
	for _, err := range []error{
		errorOf(s.Inclusion(-1, 5)), errorOf(s.Inclusion(5, 5)), errorOf(s.Inclusion(0, 71)),
		errorOf(s.Consistency(-1, 5)), errorOf(s.Consistency(6, 5)), errorOf(s.Consistency(0, 71)),
		errorOf(s.Leaves(-1, 5)), errorOf(s.Leaves(5, 4)), errorOf(s.Leaves(0, 71)),
	} {
		if !errors.Is(err, state.ErrOutside) {
			t.Errorf("%v, want ErrOutside", err)
		}
	}
}

func errorOf[T any](_ T, err error) error { return err }

func slice(hashes []tlog.Hash) (out [][]byte) {
	for i := range hashes {
		out = append(out, hashes[i][:])
	}
	return out
}

func TestConcurrentReadersAndWriters(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, end := context.WithCancel(t.Context())
	var writers, others sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for j := range 30 {
				update(t, s, func(txn *state.Txn) error {
					// Two rows that readers must always see equal.
					value := fmt.Appendf(nil, "%d.%d", i, j)
					txn.Set([]byte("c/left"), value)
					txn.Set([]byte("c/right"), value)
					txn.Append(leaf(i))
					return nil
				})
			}
		})
	}
	for range 4 {
		others.Go(func() {
			for ctx.Err() == nil {
				got := stored(t, s, "c/")
				if len(got) == 2 && strings.TrimPrefix(got[0], "c/left=") != strings.TrimPrefix(got[1], "c/right=") {
					t.Errorf("half a group: %q", got)
				}
				size, root, err := s.Tree()
				if err != nil {
					t.Error(err)
				}
				verifyLog(t, s, size, root)
			}
		})
	}
	writers.Wait()
	end()
	others.Wait()
}

// verifyLog recomputes the root from the leaves.
func verifyLog(t testing.TB, s *state.Store, size int64, root tlog.Hash) {
	leaves, err := s.Leaves(0, size)
	if err != nil {
		t.Error(err)
		return
	}
	var f evidence.Frontier
	for _, l := range leaves {
		f.Append(l, nil)
	}
	if f.Root() != root || f.Size() != size {
		t.Errorf("the leaves have another root than the log of %d", size)
	}
}

func leafOf(name string) evidence.Leaf { return evidence.Opening{Core: []byte(name)}.Leaf() }
