package export

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// TestDamagedEvent: what does not open stops the cursor, with an alarm; what is before it ships; nothing is dropped.
func TestDamagedEvent(t *testing.T) {
	w := newWorld(t)
	devices := w.mint(t, 1)
	w.send(t, pages(devices, 5, "a", testStart)...)
	good := w.spool.records[3].Event.Payload
	w.spool.records[3].Event.Payload = slices.Concat(good[:20], []byte{^good[20]}, good[21:])
	s := w.shipper(t, "warehouse", nil)
	if moved, err := s.sealOne(t.Context(), w.spool.Tail()); !moved || err != nil {
		t.Fatal(moved, err)
	}
	for range 2 {
		if _, err := s.sealOne(t.Context(), w.spool.Tail()); !errors.Is(err, pseudonymize.ErrSealed) || !strings.Contains(err.Error(), "position 4") {
			t.Errorf("%v", err)
		}
	}
	if st := s.Stats(); s.Cursor() != 4 || st.Rows != 3 {
		t.Errorf("cursor %d, %+v", s.Cursor(), st)
	}
	w.spool.records[3].Event.Payload = good
	flush(t, s)
	wantIDs(t, w.check(t, "warehouse").ids(), w.expected(t, "warehouse"))
}

// TestDiskFull: an outbox that cannot be written loses nothing and leaves nothing.
func TestDiskFull(t *testing.T) {
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 1), 5, "a", testStart)...)
	var full atomic.Bool
	full.Store(true)
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) {
		o.files = hookFiles{files: disk{}, write: func() error {
			if full.Load() {
				return &os.PathError{Op: "write", Path: "outbox", Err: syscall.ENOSPC}
			}
			return nil
		}}
	})
	for range 2 {
		if _, err := s.sealOne(t.Context(), w.spool.Tail()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%v", err)
		}
	}
	w.checkOutbox(t, "warehouse", 0)
	full.Store(false)
	flush(t, s)
	wantIDs(t, w.check(t, "warehouse").ids(), w.expected(t, "warehouse"))
}

// TestOutboxDamage: a sealed batch whose file is gone or changed is never published as something else; put back, it goes on.
func TestOutboxDamage(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"missing":   os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, 100) },
		"changed": func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte{0xff, 0xfe}, 300)
			return errors.Join(err, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.send(t, pages(w.mint(t, 1), 5, "a", testStart)...)
			down := &faultyObjects{Objects: w.objects}
			down.fail(ErrUnavailable)
			s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.Objects = down })
			if _, err := s.sealOne(t.Context(), w.spool.Tail()); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(w.dir, "outbox", "warehouse", "*.age"))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			sound, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(files[0]); err != nil {
				t.Fatal(err)
			}
			s = w.shipper(t, "warehouse", nil)
			if err := s.publishOne(t.Context()); !errors.Is(err, ErrOutbox) {
				t.Errorf("%v", err)
			}
			if texts, objects := w.list(t, "warehouse"); len(texts)+len(objects) != 0 {
				t.Errorf("%d entries and %d objects were stored", len(texts), len(objects))
			}
			if err := os.WriteFile(files[0], sound, 0o600); err != nil {
				t.Fatal(err)
			}
			flush(t, s)
			wantIDs(t, w.check(t, "warehouse").ids(), w.expected(t, "warehouse"))
		})
	}
}

// TestOutboxStrangers: recovery deletes its own left-overs and nothing else.
func TestOutboxStrangers(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(w.dir, "outbox", "warehouse")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{newBatchID().String() + ".tmp", newBatchID().String() + ".age", "notes.txt", "0123.age"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.shipper(t, "warehouse", nil)
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("%v %v", left, err)
	}
}

// TestOptions: what is missing is said at the start.
func TestOptions(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*ShipperOptions){
		"no spool":      func(o *ShipperOptions) { o.Spool = nil },
		"other name":    func(o *ShipperOptions) { o.Name = "accounting" },
		"node":          func(o *ShipperOptions) { o.Node = "a/b" },
		"no signer":     func(o *ShipperOptions) { o.Signer = nil },
		"no recipients": func(o *ShipperOptions) { o.Recipients = Recipients{} },
		"no outbox":     func(o *ShipperOptions) { o.OutboxDir = "" },
	} {
		o, err := w.options("warehouse")
		if err != nil {
			t.Fatal(err)
		}
		change(&o)
		if _, err := NewShipper(t.Context(), o); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDamagedRows: rows of the shipper that are not what it wrote are an error at start, never a panic or a guess.
func TestDamagedRows(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct{ key, value []byte }{
		{cursorKey("warehouse"), []byte("x")},
		{publishedKey("warehouse"), []byte{2, 0, 0, 0, 0, 0, 0, 0, 0}},
		{publishedKey("warehouse"), encodeNumber(3)}, // of no sealed batch
	} {
		set := func(value []byte) {
			err := w.state.Update(t.Context(), func(tx *state.Txn) error {
				if value == nil {
					tx.Delete(row.key)
				} else {
					tx.Set(row.key, value)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		set(row.value)
		o, err := w.options("warehouse")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewShipper(t.Context(), o); !errors.Is(err, ErrRow) {
			t.Errorf("%s: %v", row.key, err)
		}
		set(nil)
	}
}

// TestOtherNode: a stream does not change its node.
func TestOtherNode(t *testing.T) {
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 1), 2, "a", testStart)...)
	flush(t, w.shipper(t, "warehouse", nil))
	o, err := w.options("warehouse")
	if err != nil {
		t.Fatal(err)
	}
	o.Node = "b"
	if _, err := NewShipper(t.Context(), o); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), `of node "a"`) {
		t.Errorf("%v", err)
	}
}

// failingRevocations fails some intents.
type failingRevocations struct {
	Revocations
	left *int
}

func (f failingRevocations) RevokedSince(t *state.Txn, sequence uint64, fn func(subject.Slot, string) error) error {
	if *f.left--; *f.left >= 0 {
		return errors.New("ledger cannot be read")
	}
	return f.Revocations.RevokedSince(t, sequence, fn)
}

// TestFailedIntent: an intent that fails leaves nothing, and the batch is drafted again.
func TestFailedIntent(t *testing.T) {
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 1), 5, "a", testStart)...)
	left := 3
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.Revocations = failingRevocations{o.Revocations, &left} })
	flush(t, s)
	wantIDs(t, w.check(t, "warehouse").ids(), w.expected(t, "warehouse"))
	if st := s.Stats(); st.Sealed != 1 || st.Failures != 3 || st.LastError != "" {
		t.Errorf("%+v", st)
	}
}

// TestIntentInDoubt: an intent is committed and reported as failed, as when the disk fails after the write. It is not drafted again.
func TestIntentInDoubt(t *testing.T) {
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 1), 5, "a", testStart)...)
	s := w.shipper(t, "warehouse", nil)
	d, err := s.draft(t.Context(), w.spool.Tail(), 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	s.cursor.Store(0) // as if its OnCommit had not run
	s.head.Store(0)
	s.outbox.sizes, s.outbox.bytes = map[BatchID]int64{}, 0
	s.doubt = d
	flush(t, s)
	if got := w.check(t, "warehouse"); len(got.entries) != 1 || s.Stats().Waiting != 0 {
		t.Errorf("%d entries, %+v", len(got.entries), s.Stats())
	}
}

// TestTwoShippers: a second one of the same destination seals nothing twice.
func TestTwoShippers(t *testing.T) {
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 1), 5, "a", testStart)...)
	first, second := w.shipper(t, "warehouse", nil), w.shipper(t, "warehouse", nil)
	flush(t, first)
	if _, err := second.sealOne(t.Context(), w.spool.Tail()); !errors.Is(err, errMoved) {
		t.Errorf("%v", err)
	}
	flush(t, second)
	wantIDs(t, w.check(t, "warehouse").ids(), w.expected(t, "warehouse"))
}

// TestClosedState ends Run with an error, since nothing can go on.
func TestClosedState(t *testing.T) {
	w, err := createWorld(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w.send(t, pages(w.mint(t, 1), 5, "a", testStart)...)
	s := w.shipper(t, "warehouse", nil)
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, state.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// TestFailedState: state that has stopped accepting changes recovers only by being opened anew, so Run and Flush end and say so.
func TestFailedState(t *testing.T) {
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 1), 5, "a", testStart)...)
	s := w.shipper(t, "warehouse", nil)
	err := w.state.Update(t.Context(), func(x *state.Txn) error {
		x.Set([]byte("x/test"), []byte{1})
		x.OnCommit(func() { panic("a view left behind") })
		return nil
	})
	if !errors.Is(err, state.ErrFailed) {
		t.Fatal(err)
	}
	for name, end := range map[string]func(context.Context) error{"run": s.Run, "flush": s.Flush} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := end(ctx); !errors.Is(err, state.ErrFailed) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

// skippedSpool has a tail that Peek does not show: skipped, or not durable yet.
type skippedSpool struct{ *listSpool }

func (s skippedSpool) Tail() uint64 { return s.listSpool.Tail() + 3 }

func (s skippedSpool) Wait(ctx context.Context, position uint64) error {
	if s.Tail() > position {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

// TestUnseenTail: the cursor stays below what it has not seen; nobody spins, and a flush ends.
func TestUnseenTail(t *testing.T) {
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 1), 5, "a", testStart)...)
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.Spool = skippedSpool{w.spool} })
	flush(t, s)
	if s.Cursor() != 6 {
		t.Errorf("cursor %d, the last event seen is 5", s.Cursor())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	w.check(t, "warehouse")
}

// TestLostSpool: the spool was replaced by an empty one. What it then holds is shipped, though its positions were used before.
func TestLostSpool(t *testing.T) {
	w := newWorld(t)
	devices := w.mint(t, 1)
	w.send(t, pages(devices, 5, "a", testStart)...)
	flush(t, w.shipper(t, "warehouse", nil))
	want := w.expected(t, "warehouse")
	w.spool = newListSpool()
	s := w.shipper(t, "warehouse", nil)
	if s.Cursor() != 0 || s.Stats().Alarms != 1 {
		t.Errorf("cursor %d, %+v", s.Cursor(), s.Stats())
	}
	w.send(t, pages(devices, 5, "b", testStart)...)
	flush(t, s)
	if st := s.Stats(); st.Collisions != 0 {
		t.Errorf("%+v", st)
	}
	got := w.check(t, "warehouse")
	wantIDs(t, got.ids(), append(want, w.expected(t, "warehouse")...))
	// The same hour and positions as before: another name, since all generations of a rewritten batch's name are deleted.
	if key := got.entries[1].Batch.Key; key != BatchKey("warehouse", "a.r2", testStart, 1, 5, 1) {
		t.Error(key)
	}
}

// TestCutSpool: the spool lost its end, so what is left of it is read again, among it events whose revocation was forgotten since. They
// were not shipped, and must not be now (architecture.md, invariant 1).
func TestCutSpool(t *testing.T) {
	w := newWorld(t)
	devices := w.mint(t, 2)
	w.send(t, pages(devices, 10, "a", testStart)...)
	w.withdraw(t, devices[0])
	flush(t, w.shipper(t, "warehouse", nil))
	w.wantOnly(t, w.check(t, "warehouse"), devices[1], 5)
	if err := w.ledger.ForgetRevocations(t.Context(), w.ledger.Sequence()); err != nil {
		t.Fatal(err)
	}
	w.spool.records = w.spool.records[:8]
	flush(t, w.shipper(t, "warehouse", nil))
	got := w.check(t, "warehouse")
	w.wantOnly(t, got, devices[1], 5)
}
