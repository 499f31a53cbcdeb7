package export

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize"
)

// shipped is what a destination received, checked from end to end.
type shipped struct {
	entries []Entry
	rows    [][]pseudonymize.Row // by entry
}

func (s shipped) ids() (ids [][16]byte) {
	for _, rows := range s.rows {
		for i := range rows {
			ids = append(ids, rows[i].EventID)
		}
	}
	return ids
}

// check reads the destination's stream and objects as their recipient does, and compares with what the gateway says of itself: numbers
// without gap, one chain, hashes and sizes, no event twice, no object without an entry, nothing left in the outbox, evidence.
func (w *world) check(t testing.TB, name string) shipped {
	t.Helper()
	var got shipped
	ids, err := ParseIdentities([]byte(w.keys.Identities[name]))
	if err != nil {
		t.Fatal(err)
	}
	chain := Chain{Destination: name, Node: "a", Gateway: testSigner.Public().(ed25519.PublicKey)}
	texts, objects := w.list(t, name)
	seen := map[[16]byte]bool{}
	for _, text := range texts {
		e, err := chain.Next(text)
		if err != nil {
			t.Fatalf("entry %d: %v", chain.Number+1, err)
		}
		if objects[e.Batch.Key]--; objects[e.Batch.Key] != 0 {
			t.Errorf("entry %d names an object that is missing or that another names: %s", e.Number, e.Batch.Key)
		}
		rows := w.fetch(t, e.Batch, ids)
		for i := range rows {
			if seen[rows[i].EventID] {
				t.Errorf("entry %d: an event was shipped twice", e.Number)
			}
			seen[rows[i].EventID] = true
		}
		got.entries, got.rows = append(got.entries, e), append(got.rows, rows)
		w.checkBatchRow(t, e)
	}
	for key, n := range objects {
		if n != 0 {
			t.Errorf("object without entry: %s", key)
		}
	}
	mirror, err := NewStreams(w.state, "a", name).Entries(name, 0, 1000)
	if err != nil || !slices.Equal(mirror, texts) {
		t.Errorf("the gateway's mirror has %d entries, the store %d: %v", len(mirror), len(texts), err)
	}
	w.checkIndex(t, name, got)
	w.checkOutbox(t, name, 0)
	return got
}

// list is the destination's entries in order, and its objects.
func (w *world) list(t testing.TB, name string) (texts []string, objects map[string]int) {
	t.Helper()
	objects = map[string]int{}
	err := w.objects.List(t.Context(), name+"/", "", func(key string, _ int64) error {
		if !strings.HasPrefix(key, name+"/stream/") {
			objects[key]++
			return nil
		}
		if want := EntryKey(name, "a", uint64(len(texts)+1)); key != want {
			t.Errorf("stream holds %s, want %s", key, want)
		}
		texts = append(texts, string(w.get(t, key, "")))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts, objects
}

func (w *world) get(t testing.TB, key, version string) []byte {
	t.Helper()
	r, err := w.objects.Get(t.Context(), key, version)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fetch opens an object with the recipient's identity.
func (w *world) fetch(t testing.TB, b *Batch, ids Identities) (rows []pseudonymize.Row) {
	t.Helper()
	sealed := w.get(t, b.Key, b.Version)
	if EntryHash(string(sealed)) != b.SHA256 || int64(len(sealed)) != b.Size {
		t.Errorf("%s is not what its entry says", b.Key)
	}
	r, err := Unseal(bytes.NewReader(sealed), ids)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	err = DecodeRows(bytes.NewReader(plain), int64(len(plain)), func(some []pseudonymize.Row) error {
		rows = append(rows, slices.Clone(some)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != b.Rows {
		t.Errorf("%s holds %d rows, its entry says %d", b.Key, len(rows), b.Rows)
	}
	for i := range rows {
		if r := &rows[i]; r.ReceivedAt.Before(b.From) || r.ReceivedAt.After(b.To) {
			t.Errorf("%s: a row was received at %s, its entry says %s to %s", b.Key, r.ReceivedAt, b.From, b.To)
		}
		for _, g := range rows[i].Grants {
			if !slices.Contains(b.Purposes, g.Purpose) {
				t.Errorf("%s: purpose %q is not in its entry", b.Key, g.Purpose)
			}
		}
	}
	return rows
}

// checkBatchRow compares the entry with the gateway's row and with the evidence of its intent.
func (w *world) checkBatchRow(t testing.TB, e Entry) {
	t.Helper()
	id, err := ParseBatchID(e.Batch.ID)
	if err != nil {
		t.Fatal(err)
	}
	row, err := NewIndex(w.state).Batch(id)
	if err != nil {
		t.Fatal(err)
	}
	if row.Number != e.Number || row.Batch.Key != e.Batch.Key || row.Batch.SHA256 != e.Batch.SHA256 || row.Destination != e.Destination {
		t.Errorf("entry %d and the batch's row differ: %+v", e.Number, row)
	}
	leaves, err := w.state.Leaves(row.Leaf, row.Leaf+1)
	if err != nil {
		t.Fatal(err)
	}
	var opening evidence.Opening
	err = w.state.View(func(r state.Reader) error {
		v, err := r.Get(leafKey(row.Leaf))
		if err != nil {
			return err
		}
		return opening.UnmarshalJSON(v)
	})
	if err != nil {
		t.Fatal(err)
	}
	if opening.Leaf() != leaves[0] || !bytes.Contains(opening.Core, []byte(`"kind":"intent"`)) || !bytes.Contains(opening.Core, []byte(e.Batch.SHA256)) {
		t.Errorf("entry %d: the evidence is not of this batch", e.Number)
	}
}

// checkIndex: each subject's batches are exactly those with a row of it.
func (w *world) checkIndex(t testing.TB, name string, got shipped) {
	t.Helper()
	d := w.destination(t, name)
	holds := map[[16]byte]map[string]bool{} // by pseudonym
	note := func(p *[16]byte, batch string) {
		if p != nil {
			if holds[*p] == nil {
				holds[*p] = map[string]bool{}
			}
			holds[*p][batch] = true
		}
	}
	for i, rows := range got.rows {
		for j := range rows {
			note(rows[j].Device, got.entries[i].Batch.ID)
			note(rows[j].Person, got.entries[i].Batch.ID)
		}
	}
	for _, s := range slices.Concat(w.devices, w.persons) {
		if _, err := w.subjects.BySlot(s.Slot()); err != nil {
			continue // destroyed
		}
		rows, err := NewIndex(w.state).Batches(s)
		if err != nil {
			t.Fatal(err)
		}
		want := holds[d.Pseudonym(s)]
		n := 0
		for _, row := range rows {
			if row.Destination == name {
				n++
				if !want[row.Batch.ID] {
					t.Errorf("index names a batch without a row of the subject in slot %d", s.Slot())
				}
			}
		}
		if n != len(want) {
			t.Errorf("index names %d batches of the subject in slot %d, want %d", n, s.Slot(), len(want))
		}
	}
}

func (w *world) checkOutbox(t testing.TB, name string, want int) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.dir, "outbox", name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if len(entries) != want {
		t.Errorf("outbox holds %d files, want %d: %v", len(entries), want, entries)
	}
}

// expected are the event ids that the destination must get of everything in the spool.
func (w *world) expected(t testing.TB, name string) (ids [][16]byte) {
	t.Helper()
	d := w.destination(t, name)
	for _, r := range w.spool.records {
		e, err := r.Event.Open(w.subjects, key(4))
		if err != nil {
			t.Fatal(err)
		}
		if row, ok := d.Project(&e); ok {
			ids = append(ids, row.EventID)
		}
	}
	return ids
}

// wantIDs compares as sets: order within the spool is kept, but that is not promised.
func wantIDs(t testing.TB, got, want [][16]byte) {
	t.Helper()
	order := func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if !slices.Equal(got, want) {
		t.Errorf("%d events were shipped, want %d", len(got), len(want))
	}
}
