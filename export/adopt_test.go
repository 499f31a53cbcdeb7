package export

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/state"
)

// backup copies a closed world's state and slots, as a backup has them, and opens the world again.
func (w *world) backup(t *testing.T) (dir string) {
	t.Helper()
	if err := errors.Join(w.save(), w.close()); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	copyDir(t, filepath.Join(w.dir, "state"), filepath.Join(dir, "state"))
	slots, err := os.ReadFile(filepath.Join(w.dir, "slots"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "slots"), slots, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.reopen(t)
	return dir
}

// reopen opens a closed world's state again.
func (w *world) reopen(t testing.TB) {
	t.Helper()
	again, err := openWorld(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	again.devices, again.persons, again.spool = w.devices, w.persons, w.spool
	*w = *again
}

// restore puts a backup in the place of the world's state; the spool and the outbox are lost with the disk.
func (w *world) restore(t *testing.T, dir string) {
	t.Helper()
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"state", "slots", "outbox"} {
		if err := os.RemoveAll(filepath.Join(w.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	copyDir(t, dir, w.dir)
	w.spool = newListSpool()
	w.reopen(t)
	w.spool = newListSpool()
}

func (w *world) adopt(t testing.TB) (int, error) {
	t.Helper()
	return Adopt(t.Context(), AdoptOptions{
		State: w.state, Objects: w.objects, Node: "a", Destination: "warehouse", Gateway: testSigner.Public().(ed25519.PublicKey),
		OutboxDir: filepath.Join(w.dir, "outbox", "warehouse"), Now: func() time.Time { return w.now },
	})
}

func (w *world) wantAdopted(t testing.TB, want int) {
	t.Helper()
	if n, err := w.adopt(t); err != nil || n != want {
		t.Fatalf("adopted %d, want %d: %v", n, want, err)
	}
}

// closingWorld is a world that the test closes and opens.
func closingWorld(t testing.TB) *world {
	t.Helper()
	w, err := createWorld(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// TestAdopt: a gateway is restored from a backup, older than much of its stream: batches, notices, and a replacement of a batch that it knew
// and one that it did not. It goes on with the next number; what it could not know of is asked of every subject.
func TestAdopt(t *testing.T) {
	t.Parallel()
	w := closingWorld(t)
	devices := w.mint(t, 2)
	w.send(t, pages(devices, 4, "a", testStart)...)
	flush(t, w.shipper(t, "warehouse", nil)) // 1, in the backup
	backup := w.backup(t)
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.MaxRows = 2 })
	w.send(t, pages(devices, 4, "b", testStart.Add(time.Hour))...)
	flush(t, s)   // 2, 3
	w.enter(t, s) // 4
	flush(t, s)
	before := w.check(t, "warehouse")
	w.rewrite(t, s, batchIDOf(t, before.entries[0]), devices[0]) // 5
	w.rewrite(t, s, batchIDOf(t, before.entries[1]), devices[0]) // 6
	w.send(t, pages(devices[:1], 2, "c", testStart.Add(2*time.Hour))...)
	flush(t, s) // 7
	last := w.check(t, "warehouse").entries[3]
	w.rewrite(t, s, batchIDOf(t, last), devices[0]) // 8: empty
	flush(t, s)
	want := w.check(t, "warehouse")

	w.restore(t, backup)
	w.wantAdopted(t, 7)
	w.wantAdopted(t, 0)
	got := w.check(t, "warehouse")
	wantIDs(t, got.ids(), want.ids())
	rows, err := NewIndex(w.state).Unindexed("warehouse")
	if err != nil || len(rows) != 2 {
		t.Errorf("%d unindexed batches, want 2: %v", len(rows), err)
	}
	if rows, err := NewIndex(w.state).Unindexed("accounting"); err != nil || len(rows) != 0 {
		t.Errorf("%d unindexed batches: %v", len(rows), err)
	}
	// The new spool gives the same positions again; a batch of the same hour must not get the name of another.
	s = w.shipper(t, "warehouse", nil)
	w.send(t, pages(devices[1:], 4, "d", testStart)...)
	flush(t, s)
	number := w.rewrite(t, s, batchIDOf(t, got.entries[2]), devices[1])
	flush(t, s)
	after := w.check(t, "warehouse")
	if key := after.entries[4].Batch.Key; number != 10 || s.Published() != 10 || key != BatchKey("warehouse", "a.r9", testStart, 1, 4, 1) {
		t.Errorf("%d, %d, %s", number, s.Published(), key)
	}
	// Restored once more, from the same backup: also of the batch with the other name.
	w.restore(t, backup)
	w.wantAdopted(t, 9)
	wantIDs(t, w.check(t, "warehouse").ids(), after.ids())
}

// TestAdoptOwn: what state has sealed itself it knows already: signed or not, a batch or a statement.
func TestAdoptOwn(t *testing.T) {
	t.Parallel()
	for signed, calls := range map[string]int{"not signed": 0, "signed": 1} {
		t.Run(signed, func(t *testing.T) {
			w := closingWorld(t)
			devices := w.mint(t, 2)
			w.send(t, pages(devices, 4, "a", testStart)...)
			s := w.shipper(t, "warehouse", nil)
			flush(t, s)
			first := batchIDOf(t, w.check(t, "warehouse").entries[0])
			w.send(t, pages(devices, 4, "b", testStart.Add(time.Hour))...)
			if _, err := s.sealOne(t.Context(), w.spool.Tail()); err != nil { // 2
				t.Fatal(err)
			}
			w.rewrite(t, s, first, devices[0]) // 3
			w.enter(t, s)                      // 4
			for range calls {
				store := &faultyObjects{Objects: w.objects}
				store.set(func(key string, _ io.ReadSeeker) error {
					if strings.Contains(key, "/stream/") {
						return ErrUnavailable
					}
					return nil
				})
				s.o.Objects = store
				if err := s.publishOne(t.Context()); !errors.Is(err, ErrUnavailable) {
					t.Fatal(err)
				}
			}
			backup := w.backup(t)
			flush(t, w.shipper(t, "warehouse", nil))
			want := w.check(t, "warehouse")
			w.restore(t, backup)
			w.wantAdopted(t, 3)
			wantIDs(t, w.check(t, "warehouse").ids(), want.ids())
			if rows, err := NewIndex(w.state).Unindexed("warehouse"); err != nil || len(rows) != 0 {
				t.Errorf("%d unindexed batches: %v", len(rows), err)
			}
			w.shipper(t, "warehouse", nil)
		})
	}
}

// TestAdoptLost: the gateway died before it published what the backup has sealed. The batch whose file is gone is given up; what was entered
// after it takes its number. The backup is restored a second time: then the store has another entry under the number.
func TestAdoptLost(t *testing.T) {
	t.Parallel()
	w := closingWorld(t)
	devices := w.mint(t, 2)
	w.send(t, pages(devices, 4, "a", testStart)...)
	s := w.shipper(t, "warehouse", nil)
	flush(t, s)
	first := batchIDOf(t, w.check(t, "warehouse").entries[0])
	w.send(t, pages(devices, 4, "b", testStart.Add(time.Hour))...)
	if _, err := s.sealOne(t.Context(), w.spool.Tail()); err != nil { // 2
		t.Fatal(err)
	}
	w.rewrite(t, s, first, devices[0]) // 3
	w.enter(t, s)                      // 4
	backup := w.backup(t)
	w.restore(t, backup)
	w.wantAdopted(t, 0)
	s = w.shipper(t, "warehouse", nil)
	w.send(t, pages(devices[:1], 1, "c", testStart.Add(3*time.Hour))...)
	flush(t, s)
	got := w.check(t, "warehouse")
	if len(got.entries) != 2 || len(got.others) != 2 || got.others[0].Number != 2 || got.others[1].Number != 3 || got.entries[1].Number != 4 {
		t.Errorf("%d batches, %+v", len(got.entries), got.others)
	}
	w.restore(t, backup)
	w.wantAdopted(t, 3) // under 2 a replacement, and not the batch
	w.shipper(t, "warehouse", nil)
	wantIDs(t, w.check(t, "warehouse").ids(), got.ids())
}

// TestAdoptResumes: the store fails at each entry once, and the process between any two steps.
func TestAdoptResumes(t *testing.T) {
	t.Parallel()
	w := closingWorld(t)
	w.send(t, pages(w.mint(t, 1), 4, "a", testStart)...)
	backup := w.backup(t)
	flush(t, w.shipper(t, "warehouse", func(o *ShipperOptions) { o.MaxRows = 1 }))
	want := w.check(t, "warehouse").ids()
	w.restore(t, backup)
	store := &failingGets{Objects: w.objects, failed: map[string]bool{}}
	total := 0
	for tries := range 10 {
		n, err := Adopt(t.Context(), AdoptOptions{
			State: w.state, Objects: store, Node: "a", Destination: "warehouse", Gateway: testSigner.Public().(ed25519.PublicKey), OutboxDir: w.dir,
		})
		if total += n; err == nil {
			if tries != 5 || total != 4 { // four entries, and the look after the last
				t.Errorf("%d tries, %d adopted", tries, total)
			}
			wantIDs(t, w.check(t, "warehouse").ids(), want)
			return
		}
		if !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	t.Error("it never ended")
}

// TestAdoptRefuses: what is not the gateway's stream is not adopted, and the error says so.
func TestAdoptRefuses(t *testing.T) {
	t.Parallel()
	key := func(n uint64) string { return EntryKey("warehouse", "a", n) }
	for name, c := range map[string]struct {
		change func(t *testing.T, w *world)
		want   error
	}{
		"forged":         {func(t *testing.T, w *world) { w.overwrite(t, key(2), "a.b.c") }, ErrSignature},
		"reordered":      {func(t *testing.T, w *world) { w.overwrite(t, key(2), string(w.get(t, key(3), ""))) }, ErrChain},
		"known, another": {func(t *testing.T, w *world) { w.overwrite(t, key(1), string(w.get(t, key(2), ""))) }, ErrChain},
		"known, gone": {func(t *testing.T, w *world) {
			if err := os.Remove(filepath.Join(w.dir, "objects", key(1))); err != nil {
				t.Fatal(err)
			}
		}, ErrGap},
		"signed otherwise": {func(t *testing.T, w *world) {
			w.update(t, func(x *state.Txn) error {
				x.Set(cursorKey("warehouse"), cursorRow{4, 2}.encode())
				return setRow(x, streamKey("warehouse", 2), streamRow{Format: rowFormat, Batch: newBatchID().String(), Signed: "x.y.z"})
			})
		}, ErrChain},
	} {
		t.Run(name, func(t *testing.T) {
			w := closingWorld(t)
			devices := w.mint(t, 1)
			w.send(t, pages(devices, 2, "a", testStart)...)
			flush(t, w.shipper(t, "warehouse", nil))
			backup := w.backup(t)
			w.send(t, pages(devices, 2, "b", testStart)...)
			flush(t, w.shipper(t, "warehouse", func(o *ShipperOptions) { o.MaxRows = 1 }))
			w.restore(t, backup)
			c.change(t, w)
			if n, err := w.adopt(t); !errors.Is(err, c.want) || n != 0 {
				t.Errorf("%d, %v, want %v", n, err, c.want)
			}
		})
	}
	if _, err := Adopt(t.Context(), AdoptOptions{}); !errors.Is(err, ErrOptions) {
		t.Error(err)
	}
}

// overwrite does what only somebody beside the gateway can.
func (w *world) overwrite(t testing.TB, key, text string) {
	t.Helper()
	if err := os.Remove(filepath.Join(w.dir, "objects", key)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.objects.Put(t.Context(), key, strings.NewReader(text), int64(len(text)), sha256.Sum256([]byte(text))); err != nil {
		t.Fatal(err)
	}
}

// FuzzReadKey: an object key that is read is spelled again the same.
func FuzzReadKey(f *testing.F) {
	f.Add(BatchKey("warehouse", "a", testStart, 1, 4, 1))
	f.Add(BatchKey("warehouse", "a.r12", testStart, 1, 4, 17))
	f.Add(BatchKey("warehouse", "a-b", testStart, 1, 4, 1))
	f.Fuzz(func(t *testing.T, key string) {
		row := BatchRow{Destination: "warehouse", Node: "a", Batch: Batch{Key: key}}
		if row.readKey() == nil && row.key(row.Generation) != key {
			t.Errorf("%s is read as %s", key, row.key(row.Generation))
		}
	})
}

// failingGets fails the first read of each object.
type failingGets struct {
	Objects
	failed map[string]bool
}

func (f *failingGets) Get(ctx context.Context, key, version string) (io.ReadCloser, error) {
	if !f.failed[key] {
		f.failed[key] = true
		return nil, ErrUnavailable
	}
	return f.Objects.Get(ctx, key, version)
}
