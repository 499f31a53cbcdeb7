package export

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// update is a change of state that must succeed.
func (w *world) update(t testing.TB, fn func(*state.Txn) error) {
	t.Helper()
	if err := w.state.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// notices are a packed notice about nobody's rows.
func (w *world) notices(name string) ([]byte, error) {
	to, err := ParseRecipients(w.keys.Recipients[name], w.keys.Recipients["custodian"], w.keys.Recipients["recovery"])
	if err != nil {
		return nil, err
	}
	one, err := SealNotice(Notice{Version: 1, Devices: []string{strings.Repeat("ab", 16)}, Batches: []string{"none"}}, to)
	return PackNotices([][]byte{one}), err
}

// enter puts an erase entry into the stream.
func (w *world) enter(t testing.TB, s *Shipper) (number uint64) {
	t.Helper()
	notices, err := w.notices(s.o.Name)
	if err != nil {
		t.Fatal(err)
	}
	w.update(t, func(x *state.Txn) error {
		number, err = s.Enter(x, Statement{Type: EraseEntry, Notices: notices})
		return err
	})
	return number
}

// rewritten is the object that a custodian makes of a batch: without its rows of one device. It is nil where no row is left.
func (w *world) rewritten(row *BatchRow, key string, without [16]byte) (now *Batch, object []byte, err error) {
	ids, err := ParseIdentities([]byte(w.keys.Identities["custodian"]))
	if err != nil {
		return nil, nil, err
	}
	rows, err := w.readRows(&row.Batch, ids)
	if err != nil {
		return nil, nil, err
	}
	rows = slices.DeleteFunc(rows, func(r pseudonymize.Row) bool { return r.Device != nil && *r.Device == without })
	if len(rows) == 0 {
		return nil, nil, nil
	}
	to, err := ParseRecipients(row.Batch.Recipients[0], row.Batch.Recipients[1], row.Batch.Recipients[2])
	if err != nil {
		return nil, nil, err
	}
	var sealed bytes.Buffer
	outer, err := Seal(&sealed, to)
	if err != nil {
		return nil, nil, err
	}
	inner := NewRowWriter(outer)
	if err := errors.Join(inner.Write(rows), inner.Close(), outer.Close()); err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(sealed.Bytes())
	b := row.Batch
	b.Key, b.SHA256, b.Size, b.Rows, b.Version = key, hex.EncodeToString(sum[:]), int64(sealed.Len()), len(rows), ""
	return &b, sealed.Bytes(), nil
}

func (w *world) readRows(b *Batch, ids Identities) (rows []pseudonymize.Row, err error) {
	sealed, err := w.objects.Get(context.Background(), b.Key, b.Version)
	if err != nil {
		return nil, err
	}
	defer sealed.Close()
	r, err := Unseal(sealed, ids)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	err = DecodeRows(bytes.NewReader(plain), int64(len(plain)), func(some []pseudonymize.Row) error {
		rows = append(rows, slices.Clone(some)...)
		return nil
	})
	return rows, err
}

// claim takes the next generation of a batch.
func (w *world) claim(t testing.TB, s *Shipper, id BatchID) (generation int, key string) {
	t.Helper()
	w.update(t, func(x *state.Txn) (err error) {
		generation, key, err = s.Claim(x, id)
		return err
	})
	return generation, key
}

// rewrite takes a device's rows out of a batch as a custodian does, and answers the number of the replace entry.
func (w *world) rewrite(t testing.TB, s *Shipper, id BatchID, device subject.Subject) (number uint64) {
	t.Helper()
	row, err := NewIndex(w.state).Batch(id)
	if err != nil {
		t.Fatal(err)
	}
	generation, key := w.claim(t, s, id)
	now, object, err := w.rewritten(&row, key, w.destination(t, s.o.Name).Pseudonym(device))
	if err != nil {
		t.Fatal(err)
	}
	if now != nil {
		if now.Version, err = w.objects.Put(t.Context(), key, bytes.NewReader(object), now.Size, sha256.Sum256(object)); err != nil {
			t.Fatal(err)
		}
	}
	w.update(t, func(x *state.Txn) (err error) {
		number, err = s.Replace(x, id, generation, now)
		return err
	})
	return number
}

func batchIDOf(t testing.TB, e Entry) BatchID {
	t.Helper()
	id, err := ParseBatchID(e.Batch.ID)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestReplaceAndEnter: a device's rows go from two batches, of which one held no other; its destination is told, in the order of what happened.
func TestReplaceAndEnter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	devices := w.mint(t, 2)
	w.send(t, pages(devices, 6, "a", testStart)...)
	w.send(t, pages(devices[:1], 2, "b", testStart.Add(time.Hour))...)
	s := w.shipper(t, "warehouse", nil)
	flush(t, s)
	entries := w.check(t, "warehouse").entries
	both, alone := batchIDOf(t, entries[0]), batchIDOf(t, entries[1])

	var heads map[string]uint64
	w.update(t, func(x *state.Txn) (err error) {
		heads, err = Heads(x, "warehouse", "accounting")
		return err
	})
	if heads["warehouse"] != 2 || heads["accounting"] != 0 {
		t.Errorf("heads %v", heads)
	}
	w.send(t, pages(devices[1:], 1, "c", testStart.Add(2*time.Hour))...)
	if n := w.enter(t, s); n != 3 {
		t.Errorf("erase entry %d", n)
	}
	flush(t, s) // batch 4
	first, second := w.rewrite(t, s, both, devices[0]), w.rewrite(t, s, alone, devices[0])
	if first != 5 || second != 6 || s.Published() != 4 {
		t.Errorf("replace entries %d and %d, published %d", first, second, s.Published())
	}
	flush(t, s)
	got := w.check(t, "warehouse")
	if len(got.rows[0]) != 3 || len(got.rows[1]) != 0 || len(got.rows[2]) != 1 {
		t.Errorf("%d, %d and %d rows are left", len(got.rows[0]), len(got.rows[1]), len(got.rows[2]))
	}
	var types []EntryType
	for _, e := range got.others {
		types = append(types, e.Type)
	}
	if !slices.Equal(types, []EntryType{EraseEntry, ReplaceEntry, ReplaceEntry}) || s.Stats().Published != 3 {
		t.Errorf("%v, %+v", types, s.Stats())
	}
	// Of the device that is gone a batch is left to look at; of the other both, and not the one after the heads.
	for i, want := range [][]uint64{{1}, {1}} {
		rows, err := NewIndex(w.state).Upto(devices[i], heads)
		if err != nil || len(rows) != 1 || rows[0].Number != want[0] {
			t.Errorf("device %d: %+v, %v", i, rows, err)
		}
	}
	if rows, err := NewIndex(w.state).Upto(devices[0], nil); err != nil || len(rows) != 0 {
		t.Errorf("without heads: %d, %v", len(rows), err)
	}
	streams := NewStreams(w.state, "a", "warehouse")
	text, err := streams.EntryText("warehouse", 5)
	if texts, _ := w.list(t, "warehouse"); err != nil || text != texts[4] {
		t.Errorf("entry 5: %v", err)
	}
	for _, n := range []uint64{0, 7} {
		if _, err := streams.EntryText("warehouse", n); !errors.Is(err, ErrGap) {
			t.Errorf("entry %d: %v", n, err)
		}
	}
	if _, err := streams.EntryText("other", 1); !errors.Is(err, ErrNoDestination) {
		t.Error(err)
	}
}

// TestClaims: who was claimed over is refused, and nothing is claimed whose object is not published.
func TestClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	devices := w.mint(t, 2)
	w.send(t, pages(devices, 4, "a", testStart)...)
	s, other := w.shipper(t, "warehouse", nil), w.shipper(t, "accounting", nil)
	if _, err := s.sealOne(t.Context(), w.spool.Tail()); err != nil {
		t.Fatal(err)
	}
	rows, err := NewIndex(w.state).Batches(devices[0])
	if err != nil || len(rows) != 1 {
		t.Fatal(len(rows), err)
	}
	id, err := ParseBatchID(rows[0].Batch.ID)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, want error, fn func(x *state.Txn) error) {
		t.Helper()
		if err := w.state.Update(t.Context(), fn); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	claim := func(s *Shipper, id BatchID) func(x *state.Txn) error {
		return func(x *state.Txn) error { _, _, err := s.Claim(x, id); return err }
	}
	replace := func(generation int, now *Batch) func(x *state.Txn) error {
		return func(x *state.Txn) error { _, err := s.Replace(x, id, generation, now); return err }
	}
	refused("sealed only", ErrPending, claim(s, id))
	flush(t, s)
	refused("another destination's", ErrNoBatch, claim(other, id))
	refused("nobody's", ErrNoBatch, claim(s, newBatchID()))
	refused("never claimed", ErrClaim, replace(2, nil))

	first, key := w.claim(t, s, id)
	second, _ := w.claim(t, s, id)
	if first != 2 || second != 3 || key != BatchKey("warehouse", "a", testStart, 1, 4, 2) {
		t.Errorf("generations %d and %d, key %s", first, second, key)
	}
	now := rows[0].Batch
	now.Key = BatchKey("warehouse", "a", testStart, 1, 4, 3)
	refused("claimed over", ErrClaim, replace(2, nil))
	refused("not claimed", ErrClaim, replace(4, nil))
	for what, change := range map[string]func(*Batch){
		"key of the first claim": func(b *Batch) { b.Key = key },
		"another id":             func(b *Batch) { b.ID = newBatchID().String() },
		"no rows":                func(b *Batch) { b.Rows = 0 },
	} {
		b := now
		change(&b)
		refused(what, ErrEntry, replace(3, &b))
	}
	if n := w.rewrite(t, s, id, devices[0]); n != 2 { // generation 4
		t.Errorf("entry %d", n)
	}
	refused("twice", ErrPending, replace(4, nil))
	refused("not yet published", ErrPending, claim(s, id))
	flush(t, s)
	refused("replaced", ErrClaim, replace(4, nil))
	if n := w.rewrite(t, s, id, devices[1]); n != 3 {
		t.Errorf("entry %d", n)
	}
	flush(t, s)
	refused("empty", ErrClaim, claim(s, id))
	if got := w.check(t, "warehouse"); len(got.rows[0]) != 0 || len(got.others) != 2 {
		t.Errorf("%d rows, %d entries", len(got.rows[0]), len(got.others))
	}
}

// TestStatements: what is no statement takes no number, and neither does a change that fails.
func TestStatements(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.shipper(t, "warehouse", nil)
	notices, err := w.notices("warehouse")
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]Statement{
		"batch": {BatchEntry, notices}, "replace": {ReplaceEntry, notices}, "unknown": {"other", notices}, "nothing": {EraseEntry, nil},
		"cut": {LiftEntry, notices[:len(notices)-1]}, "large": {EraseEntry, PackNotices([][]byte{make([]byte, NoticesMax)})},
	} {
		err := w.state.Update(t.Context(), func(tx *state.Txn) error { _, err := s.Enter(tx, x); return err })
		if !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
	enough := errors.New("the caller's own part failed")
	err = w.state.Update(t.Context(), func(tx *state.Txn) error {
		if _, err := s.Enter(tx, Statement{RestrictEntry, notices}); err != nil {
			return err
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Error(err)
	}
	if n := w.enter(t, s); n != 1 {
		t.Errorf("the first entry is %d", n)
	}
	flush(t, s)
	if got := w.check(t, "warehouse"); len(got.others) != 1 {
		t.Errorf("%d entries", len(got.others))
	}
	w.shipper(t, "warehouse", nil) // a stream may begin with notices
	o, err := w.options("warehouse")
	if err != nil {
		t.Fatal(err)
	}
	o.Node = "b"
	if _, err := NewShipper(t.Context(), o); !errors.Is(err, ErrOptions) {
		t.Errorf("under another node's name: %v", err)
	}
}

// TestNoticeCollision: something else has the notice object's key. It goes to the next generation, and nothing is overwritten.
func TestNoticeCollision(t *testing.T) {
	w := newWorld(t)
	foreign := []byte("something else")
	key := NoticeKey("warehouse", "a", 1)
	if _, err := w.objects.Put(t.Context(), key, bytes.NewReader(foreign), int64(len(foreign)), sha256.Sum256(foreign)); err != nil {
		t.Fatal(err)
	}
	s := w.shipper(t, "warehouse", nil)
	w.enter(t, s)
	flush(t, s)
	text, err := NewStreams(w.state, "a", "warehouse").EntryText("warehouse", 1)
	if err != nil {
		t.Fatal(err)
	}
	e, err := VerifyEntry(text, "warehouse", testSigner.Public().(ed25519.PublicKey))
	if err != nil || e.Notice.Key != "warehouse/notices/a/000000000001.2.age" || !bytes.Equal(w.get(t, key, ""), foreign) {
		t.Errorf("%+v, %v", e.Notice, err)
	}
	if st := s.Stats(); st.Collisions != 1 || st.Alarms != 1 {
		t.Errorf("%+v", st)
	}
}

// TestDamagedNotices: what state no longer holds as it was is never published as something else.
func TestDamagedNotices(t *testing.T) {
	w := newWorld(t)
	s := w.shipper(t, "warehouse", nil)
	w.enter(t, s)
	for _, damage := range []func(*state.Txn){
		func(x *state.Txn) { x.Set(noticesKey("warehouse", 1), []byte("other")) },
		func(x *state.Txn) { x.Delete(noticesKey("warehouse", 1)) },
	} {
		w.update(t, func(x *state.Txn) error { damage(x); return nil })
		if err := s.publishOne(t.Context()); !errors.Is(err, ErrRow) {
			t.Error(err)
		}
	}
	if texts, objects := w.list(t, "warehouse"); len(texts)+len(objects) != 0 {
		t.Errorf("%d entries and %d objects", len(texts), len(objects))
	}
}

// TestSealThrough: an erasure's spool range is sealed although the destination is dead and its outbox full.
func TestSealThrough(t *testing.T) {
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 1), 40, "a", testStart)...)
	dead := &faultyObjects{Objects: w.objects}
	dead.fail(ErrUnavailable)
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.Objects, o.MaxRows, o.OutboxMax, o.TargetBytes = dead, 5, 10_000, 5_000 })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	eventually(t, func() bool { return s.Stats().WaitingBytes > 5_000 })
	if s.Cursor() == w.spool.Tail() {
		t.Fatal("the outbox has no bound")
	}
	if err := s.SealThrough(t.Context(), 31); err != nil || s.Cursor() < 31 || s.Cursor() == w.spool.Tail() {
		t.Errorf("cursor %d: %v", s.Cursor(), err)
	}
	if err := s.SealThrough(t.Context(), 10); err != nil {
		t.Errorf("a position that was passed: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := s.SealThrough(short, w.spool.Tail()+1); err == nil {
		t.Error("sealed what is not spooled")
	}
	dead.set(nil)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	flush(t, s)
	wantIDs(t, w.check(t, "warehouse").ids(), w.expected(t, "warehouse"))
}
