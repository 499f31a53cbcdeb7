package export

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStoreFaults: whatever the store answers, each event is stored once and published once.
func TestStoreFaults(t *testing.T) {
	var calls atomic.Int64
	first := func(n int64, err error) func(string, io.ReadSeeker) error {
		return func(string, io.ReadSeeker) error {
			if calls.Add(1) <= n {
				return err
			}
			return nil
		}
	}
	for name, fault := range map[string]func(w *world) func(string, io.ReadSeeker) error{
		"down for some time": func(*world) func(string, io.ReadSeeker) error { return first(7, ErrUnavailable) },
		"refuses":            func(*world) func(string, io.ReadSeeker) error { return first(3, ErrRefused) },
		"says what no contract knows": func(*world) func(string, io.ReadSeeker) error {
			return first(2, errors.New("teapot"))
		},
		"slow": func(*world) func(string, io.ReadSeeker) error {
			return func(string, io.ReadSeeker) error { time.Sleep(30 * time.Millisecond); return nil }
		},
		"transfer breaks off": func(*world) func(string, io.ReadSeeker) error {
			broken := first(4, ErrUnavailable)
			return func(key string, body io.ReadSeeker) error {
				if err := broken(key, body); err != nil {
					io.CopyN(io.Discard, body, 100)
					return err
				}
				return nil
			}
		},
		"stores, and the answer is lost": func(w *world) func(string, io.ReadSeeker) error {
			lost := first(4, ErrUnavailable)
			return func(key string, body io.ReadSeeker) error {
				all, err := io.ReadAll(body)
				if err != nil {
					return err
				}
				if _, err := body.Seek(0, io.SeekStart); err != nil {
					return err
				}
				if _, err := w.objects.Put(context.Background(), key, bytes.NewReader(all), int64(len(all)), sha256.Sum256(all)); err != nil {
					return err
				}
				return lost(key, body)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			calls.Store(0)
			w := newWorld(t)
			w.send(t, pages(w.mint(t, 3), 20, "a", testStart)...)
			store := &faultyObjects{Objects: w.objects}
			store.set(fault(w))
			s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.Objects, o.MaxRows = store, 7 })
			flush(t, s)
			wantIDs(t, w.check(t, "warehouse").ids(), w.expected(t, "warehouse"))
			if st := s.Stats(); st.LastError != "" || st.Published != 3 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestCollision: something else has the batch's key. It goes to the next generation; nothing is overwritten; an operator hears of it.
func TestCollision(t *testing.T) {
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 1), 4, "a", testStart)...)
	foreign := []byte("something else")
	var keys []string
	for generation := 1; generation <= 2; generation++ {
		key := BatchKey("warehouse", "a", testStart, 1, 4, generation)
		if _, err := w.objects.Put(t.Context(), key, bytes.NewReader(foreign), int64(len(foreign)), sha256.Sum256(foreign)); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	s := w.shipper(t, "warehouse", nil)
	flush(t, s)
	if st := s.Stats(); st.Collisions != 2 || st.Alarms != 2 {
		t.Errorf("%+v", st)
	}
	for _, key := range keys {
		if !bytes.Equal(w.get(t, key, ""), foreign) {
			t.Errorf("%s was overwritten", key)
		}
	}
	texts, err := NewStreams(w.state, "a", "warehouse").Entries("warehouse", 0, 10)
	if err != nil || len(texts) != 1 {
		t.Fatal(len(texts), err)
	}
	e, err := VerifyEntry(texts[0], "warehouse", testSigner.Public().(ed25519.PublicKey))
	if err != nil || e.Batch.Key != BatchKey("warehouse", "a", testStart, 1, 4, 3) {
		t.Errorf("%s: %v", e.Batch.Key, err)
	}
	ids, err := ParseIdentities([]byte(w.keys.Identities["warehouse"]))
	if err != nil {
		t.Fatal(err)
	}
	w.fetch(t, e.Batch, ids)
}

// TestEntryCollision: something else has an entry's key. The number is fixed, so it waits for an operator, and publishes nothing after it.
func TestEntryCollision(t *testing.T) {
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 1), 4, "a", testStart)...)
	foreign := []byte("another gateway's entry")
	if _, err := w.objects.Put(t.Context(), EntryKey("warehouse", "a", 1), bytes.NewReader(foreign), int64(len(foreign)), sha256.Sum256(foreign)); err != nil {
		t.Fatal(err)
	}
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.MaxRows = 2 })
	if err := s.sealUpTo(t.Context(), w.spool.Tail()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.publishOne(t.Context()); !errors.Is(err, ErrExists) || !needsOperator(err) || !strings.Contains(err.Error(), "remove it") {
			t.Error(err)
		}
	}
	if st := s.Stats(); st.Published != 0 || st.Waiting != 2 {
		t.Errorf("%+v", st)
	}
	if texts, err := NewStreams(w.state, "a", "warehouse").Entries("warehouse", 0, 10); err != nil || len(texts) != 0 {
		t.Errorf("%d entries: %v", len(texts), err)
	}
}

// TestDeadDestination: one store is dead. The other destination goes on; the dead one's outbox stays in its bound and its cursor waits;
// when the store is back, everything arrives.
func TestDeadDestination(t *testing.T) {
	w := newWorld(t)
	devices, persons := w.mint(t, 2), w.declare(t, 1)
	for i := range 200 {
		w.send(t, visit{devices[i%2], persons[0], "purchase", fmt.Sprintf("p-%d", i), testStart.Add(time.Duration(i) * time.Second)})
	}
	dead := &faultyObjects{Objects: w.objects}
	dead.fail(ErrUnavailable)
	const max = 40_000
	down := w.shipper(t, "warehouse", func(o *ShipperOptions) {
		o.Objects, o.MaxRows, o.OutboxMax, o.TargetBytes = dead, 5, max, 10_000
	})
	up := w.shipper(t, "accounting", func(o *ShipperOptions) { o.MaxRows = 5 })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- down.Run(ctx) }()
	go func() { done <- up.Run(ctx) }()
	eventually(t, func() bool { return up.Cursor() == w.spool.Tail() && up.Stats().Published == 40 })
	eventually(t, func() bool { return down.Stats().WaitingBytes > max/2 })
	time.Sleep(30 * time.Millisecond)
	st, cursor := down.Stats(), down.Cursor()
	if st.WaitingBytes > max || cursor == w.spool.Tail() || st.Published != 0 || st.Alarms != 0 || st.Failures == 0 {
		t.Errorf("cursor %d, %+v", cursor, st)
	}
	stop()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	// A graceful stop ends with its context, and what it could not ship stays.
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := down.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	dead.set(nil)
	down = w.shipper(t, "warehouse", func(o *ShipperOptions) { o.Objects = dead })
	flush(t, down)
	for _, name := range []string{"warehouse", "accounting"} {
		wantIDs(t, w.check(t, name).ids(), w.expected(t, name))
	}
}

// TestSameBytes: an object is put with the same bytes until it is stored, under one key.
func TestSameBytes(t *testing.T) {
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 1), 4, "a", testStart)...)
	var sums [][32]byte
	store := &faultyObjects{Objects: w.objects}
	store.set(func(key string, body io.ReadSeeker) error {
		if strings.Contains(key, "/stream/") {
			return nil
		}
		all, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		sums = append(sums, sha256.Sum256(all))
		if len(sums) < 4 {
			return ErrUnavailable
		}
		_, err = body.Seek(0, io.SeekStart)
		return err
	})
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.Objects = store })
	flush(t, s)
	for _, sum := range sums {
		if sum != sums[0] {
			t.Error("the bytes changed between two attempts")
		}
	}
	if n := store.count(BatchKey("warehouse", "a", testStart, 1, 4, 1)); n != 4 || len(sums) != 4 {
		t.Errorf("%d attempts under the key, %d in all", n, len(sums))
	}
	wantIDs(t, w.check(t, "warehouse").ids(), w.expected(t, "warehouse"))
}

// faultyObjects is a store that fails as it is told.
type faultyObjects struct {
	Objects
	mu    sync.Mutex
	fault func(key string, body io.ReadSeeker) error // guarded by mu; nil: none; its error is Put's
	puts  map[string]int                             // guarded by mu
}

func (f *faultyObjects) fail(err error) {
	f.set(func(string, io.ReadSeeker) error { return err })
}

func (f *faultyObjects) set(fault func(key string, body io.ReadSeeker) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *faultyObjects) count(key string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.puts[key]
}

func (f *faultyObjects) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, sha256 [32]byte) (string, error) {
	f.mu.Lock()
	if f.puts == nil {
		f.puts = map[string]int{}
	}
	f.puts[key]++
	fault := f.fault
	f.mu.Unlock()
	if fault != nil {
		if err := fault(key, body); err != nil {
			return "", err
		}
	}
	return f.Objects.Put(ctx, key, body, size, sha256)
}
