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
	entries []Entry              // of batches
	rows    [][]pseudonymize.Row // by entry: of the batch's present object
	others  []Entry
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
	present := map[string]Entry{} // by batch id: what was stated last
	for _, text := range texts {
		e, err := chain.Next(text)
		if err != nil {
			t.Fatalf("entry %d: %v", chain.Number+1, err)
		}
		switch {
		case e.Batch != nil:
			got.entries = append(got.entries, e)
			present[e.Batch.ID] = e
		case e.Replace != nil:
			if present[e.Replace.Batch].Number != e.Replace.Of {
				t.Errorf("entry %d replaces entry %d, which is not the present one", e.Number, e.Replace.Of)
			}
			present[e.Replace.Batch] = e
			got.others = append(got.others, e)
		default:
			w.checkNotices(t, e, ids)
			got.others = append(got.others, e)
		}
		for _, key := range objectKeys(&e) {
			if objects[key]--; objects[key] != 0 {
				t.Errorf("entry %d names an object that is missing or that another names: %s", e.Number, key)
			}
		}
	}
	seen := map[[16]byte]bool{}
	for _, e := range got.entries {
		now := present[e.Batch.ID]
		var rows []pseudonymize.Row
		if b := now.Object(); b != nil {
			rows = w.fetch(t, b, ids)
		}
		for i := range rows {
			if seen[rows[i].EventID] {
				t.Errorf("entry %d: an event was shipped twice", e.Number)
			}
			seen[rows[i].EventID] = true
		}
		got.rows = append(got.rows, rows)
		w.checkBatchRow(t, e, now)
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
	w.checkStream(t, name, len(texts))
	w.checkIndex(t, name, got)
	w.checkOutbox(t, name, 0)
	return got
}

// objectKeys are those of the objects that an entry names.
func objectKeys(e *Entry) []string {
	if e.Notice != nil {
		return []string{e.Notice.Key}
	}
	if b := e.Object(); b != nil {
		return []string{b.Key}
	}
	return nil
}

// checkNotices: the object is what the entry says, it opens to the destination, and state has dropped it.
func (w *world) checkNotices(t testing.TB, e Entry, ids Identities) {
	t.Helper()
	object := w.get(t, e.Notice.Key, e.Notice.Version)
	if EntryHash(string(object)) != e.Notice.SHA256 || int64(len(object)) != e.Notice.Size {
		t.Errorf("%s is not what its entry says", e.Notice.Key)
	}
	if _, err := OpenNotices(object, ids); err != nil {
		t.Error(err)
	}
	err := w.state.View(func(r state.Reader) error {
		_, err := r.Get(noticesKey(e.Destination, e.Number))
		return err
	})
	if !errors.Is(err, state.ErrNotFound) {
		t.Errorf("state still holds the notices of entry %d: %v", e.Number, err)
	}
}

// checkStream: the store's stream verifies as an auditor does it, with the evidence of everything that was sealed and replaced.
func (w *world) checkStream(t testing.TB, name string, entries int) {
	t.Helper()
	if entries == 0 {
		return
	}
	openings := map[int64]evidence.Opening{}
	err := evidence.Merge(w.ledger.Openings, Openings(w.state))(func(index int64, o evidence.Opening) error { openings[index] = o; return nil })
	if err != nil {
		t.Fatal(err)
	}
	report, err := VerifyStream(os.DirFS(filepath.Join(w.dir, "objects")), StreamCheck{
		Destination: name, Gateway: testSigner.Public().(ed25519.PublicKey), Heads: map[string]uint64{"a": uint64(entries)}, Objects: true,
		Sealed: SealedBatches(openings, name),
	})
	if err != nil || report.Entries != entries {
		t.Errorf("%+v, %v", report, err)
	}
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

// checkBatchRow compares the entries of a batch, the first and the last, with the gateway's row and with the evidence of its intent.
func (w *world) checkBatchRow(t testing.TB, e, now Entry) {
	t.Helper()
	id, err := ParseBatchID(e.Batch.ID)
	if err != nil {
		t.Fatal(err)
	}
	row, err := NewIndex(w.state).Batch(id)
	if err != nil {
		t.Fatal(err)
	}
	b := now.Object()
	if row.Number != e.Number || row.StatedBy() != now.Number || row.Destination != e.Destination || row.Empty != (b == nil) {
		t.Errorf("entry %d and the batch's row differ: %+v", e.Number, row)
	}
	if b != nil && (row.Batch.Key != b.Key || row.Batch.SHA256 != b.SHA256 || row.key(row.Generation) != b.Key) {
		t.Errorf("entry %d and the batch's row differ: %+v", now.Number, row)
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
	kind := []byte(`"kind":"intent"`)
	if row.Unindexed {
		kind = []byte(`"kind":"adopt"`)
	}
	if opening.Leaf() != leaves[0] || !bytes.Contains(opening.Core, kind) || !bytes.Contains(opening.Core, []byte(e.Batch.SHA256)) {
		t.Errorf("entry %d: the evidence is not of this batch", e.Number)
	}
}

// checkIndex: each subject's batches are exactly those with a row of it, but for what was replaced or adopted since.
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
		row, err := NewIndex(w.state).Batch(batchIDOf(t, got.entries[i]))
		if err != nil {
			t.Fatal(err)
		}
		if row.Stated != 0 || row.Unindexed {
			continue
		}
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
			if row.Destination == name && row.Stated == 0 {
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
