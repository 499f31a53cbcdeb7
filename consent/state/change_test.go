package state_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/state"
	"pgregory.net/rapid"
)

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
