package rights

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// finish lets gateway, custodian and loaders take turns until the request is closed.
func (w *world) finish(ctx context.Context, s *servant, id string) error {
	for turn := 0; ; turn++ {
		w.Pass(ctx)
		if err := w.flush(ctx); err != nil {
			return err
		}
		if err := s.serve(ctx); err != nil {
			return err
		}
		if err := w.acknowledge(ctx); err != nil {
			return err
		}
		q, err := w.request(id)
		if err != nil {
			return err
		}
		if q.State.Final() {
			w.Pass(ctx)
			return nil
		}
		if turn == 20 {
			return errors.New("it does not end: " + string(q.State) + " " + string(q.Step))
		}
		w.forward(time.Minute)
	}
}

func (w *world) end(t testing.TB, s *servant, id string) *requestRow {
	t.Helper()
	if err := w.finish(t.Context(), s, id); err != nil {
		t.Fatal(err)
	}
	return w.row(t, id)
}

// everyRow decrypts, with the destination's own key, every object that its batches now have.
func (w *world) everyRow(t testing.TB, destination string) (rows []pseudonymize.Row) {
	t.Helper()
	batches, _, err := w.o.Index.Sealed(destination, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range batches {
		if b.Empty {
			continue
		}
		some, err := readBatchRows(t.Context(), w.archive, &b.Batch, w.identities(destination))
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, some...)
	}
	return rows
}

// objectsUnder are the keys of the store, whatever their generation.
func (w *world) objectsUnder(t testing.TB, prefix string) (keys []string) {
	t.Helper()
	err := w.archive.Versions(t.Context(), prefix, func(v export.ObjectVersion) error {
		if strings.HasPrefix(v.Key, prefix) {
			keys = append(keys, v.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func ids(rows []pseudonymize.Row) map[[16]byte]pseudonymize.Row {
	m := map[[16]byte]pseudonymize.Row{}
	for _, row := range rows {
		m[row.EventID] = row
	}
	return m
}

// Erasure of everything, from the cookie to the certificate: the subject's rows are in no object, other rows have equal values, the certificate
// verifies, and nothing that the gateway has leads to the subject.
func TestErasure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Notices = time.Minute })
	credential, s := w.mint(t)
	_, other := w.mint(t)
	w.pages(t, s, 3, "gone")
	w.pages(t, other, 4, "kept")
	w.ship(t)
	w.forward(2 * time.Hour)
	w.pages(t, other, 2, "alone")
	w.ship(t)
	w.pages(t, s, 2, "spooled")
	before := ids(w.everyRow(t, "warehouse"))
	pseudonym := w.exits[0].Destination.Pseudonym(s)
	if w.exits[0].Destination.Name() != "warehouse" || len(before) != 9 {
		t.Fatal("not the world that this test is about", len(before))
	}

	q := w.ask(t, proof.Erasure, s)
	if q.State != InProgress || q.Step != suppressed {
		t.Fatalf("it must be suppressed at once: %s %s", q.State, q.Step)
	}
	own, err := w.own(q)
	if err != nil {
		t.Fatal(err)
	}
	custody := &servant{w: w, name: "custodian-one"}
	q = w.end(t, custody, q.ID)
	if q.State != Completed || q.Batches != 1 || q.Done != 1 {
		t.Fatalf("%+v", q)
	}
	if custody.read != 1 {
		t.Errorf("the custodian read %d objects for one batch that holds the subject", custody.read)
	}
	after := ids(w.everyRow(t, "warehouse"))
	if len(after) != 6 {
		t.Errorf("%d rows are left, want 6", len(after))
	}
	for id, row := range after {
		was := before[id]
		if row.Device == nil || *row.Device == pseudonym || !row.Time.Equal(was.Time) || row.Type != was.Type || len(row.Grants) != len(was.Grants) {
			t.Error("a row that stays is another")
		}
	}
	if keys := w.objectsUnder(t, "warehouse/events/"); len(keys) != 2 {
		t.Errorf("objects that were replaced are left: %v", keys)
	}
	text, err := w.Certificate(q.ID)
	if err != nil {
		t.Fatal(err)
	}
	c, err := proof.VerifyCertificate(text, w.o.Custodian, w.signer.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Facts.Recipients) != 1 || !c.Facts.Recipients[0].Confirmed || c.Facts.Severed.IsZero() || c.Facts.KeyCopies.IsZero() {
		t.Errorf("facts: %+v", c.Facts)
	}
	for _, dead := range []subject.Subject{s, own} {
		if _, err := w.subjects.BySlot(dead.Slot()); !errors.Is(err, subject.ErrShredded) {
			t.Error("a slot is not overwritten:", err)
		}
	}
	if _, err := w.subjects.Device(credential); !errors.Is(err, subject.ErrUnknown) {
		t.Error("the cookie still leads to somebody:", err)
	}
	w.leadsNowhere(t, s, own)
}

// leadsNowhere: of the rows that need a destroyed key to be found, none is left that names the subject; and no row says that two were one.
func (w *world) leadsNowhere(t *testing.T, s, own subject.Subject) {
	t.Helper()
	secrets := map[string][]byte{"subject id": []byte(s.ID()), "own rows": own.RowKey(frozenTable, nil)}
	for _, x := range w.exits {
		p := x.Destination.Pseudonym(s)
		secrets["pseudonym"] = p[:]
	}
	err := w.state.View(func(v reader) error {
		return v.Scan([]byte("q/"), func(key, value []byte) error {
			for what, secret := range secrets {
				if strings.Contains(string(key)+string(value), string(secret)) {
					t.Errorf("%s is left under %.20q", what, key)
				}
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A withdrawal of a purpose that says `on_withdrawal: erase` leaves exactly one job, in the same change, and what was given anew stays.
func TestWithdrawalErases(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Notices = time.Minute })
	_, s := w.mint(t)
	_, other := w.mint(t)
	w.pages(t, s, 3, "before")
	w.pages(t, other, 1, "other")
	w.ship(t)
	if _, err := w.ledger.Withdraw(t.Context(), s, consent.Withdrawal{Site: testSite, Purposes: []string{"audience"}}); err != nil {
		t.Fatal(err)
	}
	if n := w.count(t, withdrawnPrefix); n != 1 {
		t.Fatalf("%d jobs, want 1", n)
	}
	w.forward(time.Minute)
	w.grant(t, s)
	w.forward(time.Hour)
	w.pages(t, s, 2, "anew")
	w.ship(t)
	w.Pass(t.Context())
	if n := w.count(t, withdrawnPrefix); n != 0 {
		t.Fatalf("%d withdrawals are left", n)
	}
	open := w.opened(t)
	if len(open) != 1 {
		t.Fatalf("%d requests, want 1", len(open))
	}
	q := w.end(t, &servant{w: w, name: "custodian-one"}, open[0])
	if q.State != Completed || q.Origin != proof.ByWithdrawal || q.Batches != 1 || !q.Severed.IsZero() {
		t.Fatalf("%+v", q)
	}
	if rows := w.everyRow(t, "warehouse"); len(rows) != 3 {
		t.Errorf("%d rows are left: those of the other, and those given anew, are 3", len(rows))
	}
	if _, err := w.subjects.BySlot(s.Slot()); err != nil {
		t.Error("a withdrawal destroys nobody:", err)
	}
	text, err := w.Certificate(q.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proof.VerifyCertificate(text, w.o.Custodian, w.signer.Verifier()); err != nil {
		t.Error(err)
	}
}

func (w *world) grant(t *testing.T, s subject.Subject) {
	t.Helper()
	served, err := w.ledger.Snapshot(testSite, "en")
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.ledger.Record(t.Context(), consent.Choice{
		Site: testSite, Who: consent.Who{Device: s}, Purposes: map[string]bool{"audience": true}, Snapshot: served.Snapshot, Method: "banner",
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) count(t testing.TB, prefix string) (n int) {
	t.Helper()
	err := w.state.View(func(v reader) error {
		return v.Scan([]byte(prefix), func(_, _ []byte) error { n++; return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (w *world) opened(t testing.TB) (open []string) {
	t.Helper()
	err := w.state.View(func(v reader) (err error) {
		open, err = openRequests(v)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return open
}

// A person's own erasure of a purpose withdraws it, and is one job, not two.
func TestErasureOfPurposes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Notices = time.Minute })
	_, s := w.mint(t)
	w.pages(t, s, 2, "a")
	w.ship(t)
	q := w.ask(t, proof.Erasure, s, "audience")
	if q = w.end(t, &servant{w: w, name: "custodian-one"}, q.ID); q.State != Completed {
		t.Fatalf("%+v", q)
	}
	if n := w.count(t, requestPrefix) + w.count(t, withdrawnPrefix); n != 1 {
		t.Errorf("%d jobs, want 1", n)
	}
	if rows := w.everyRow(t, "warehouse"); len(rows) != 0 {
		t.Errorf("%d rows are left", len(rows))
	}
	if keys := w.objectsUnder(t, "warehouse/events/"); len(keys) != 0 {
		t.Errorf("a batch without rows has an object: %v", keys)
	}
	current, err := w.ledger.Current(s)
	if err != nil || len(current) == 0 {
		t.Fatal("the subject must stay:", err)
	}
	for _, x := range current {
		if x.Purpose == "audience" && x.State == consent.ConsentGiven {
			t.Error("the purpose still stands")
		}
	}
}

// Who agrees again after asking has agreed: neither the consent nor the rows under it go with what was asked for.
func TestAgreedToAfterwards(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Notices = time.Minute })
	_, s := w.mint(t)
	w.pages(t, s, 2, "before")
	w.ship(t)
	q := w.ask(t, proof.Erasure, s, "audience")
	w.forward(time.Second)
	w.grant(t, s) // the machine has not looked yet
	w.forward(time.Minute)
	w.pages(t, s, 1, "anew")
	w.ship(t)
	if q = w.end(t, &servant{w: w, name: "custodian-one"}, q.ID); q.State != Completed || q.Batches != 1 {
		t.Fatalf("%+v", q)
	}
	if rows := w.everyRow(t, "warehouse"); len(rows) != 1 {
		t.Errorf("%d rows are left, want the one that was agreed to afterwards", len(rows))
	}
	current, err := w.ledger.Current(s)
	if err != nil || len(current) == 0 {
		t.Fatal(err)
	}
	for _, x := range current {
		if x.Purpose == "audience" && x.State != consent.ConsentGiven && x.State != consent.RenewedConsentGiven {
			t.Error("the new consent was withdrawn:", x.State)
		}
	}
	if n := w.count(t, requestPrefix) + w.count(t, withdrawnPrefix); n != 1 {
		t.Errorf("%d jobs, want 1", n)
	}
}

// One pass over a batch serves every request that wants it.
func TestOnePassForAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Notices = time.Minute })
	var requests []string
	var subjects []subject.Subject
	for range 5 {
		_, s := w.mint(t)
		w.pages(t, s, 1, "x")
		subjects = append(subjects, s)
	}
	w.ship(t)
	for _, s := range subjects[:4] {
		requests = append(requests, w.ask(t, proof.Erasure, s).ID)
	}
	custody := &servant{w: w, name: "custodian-one"}
	for _, id := range requests {
		if q := w.end(t, custody, id); q.State != Completed {
			t.Fatalf("%+v", q)
		}
	}
	if custody.read != 1 {
		t.Errorf("the batch was read %d times for %d requests", custody.read, len(requests))
	}
	if rows := w.everyRow(t, "warehouse"); len(rows) != 1 {
		t.Errorf("%d rows are left, want 1", len(rows))
	}
}

// The store is away: the subject is severed all the same, the erasure does not end without the journal, and goes on when the store is back.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openWorld(t, dir, func(o *Options) { o.Notices = time.Minute })
	_, s := w.mint(t)
	w.pages(t, s, 1, "x")
	w.ship(t)
	real := w.Requests.o.Objects
	w.Requests.o.Objects = away{real}
	q := w.ask(t, proof.Erasure, s)
	w.Pass(t.Context())
	if q = w.row(t, q.ID); q.Severed.IsZero() || q.Journaled {
		t.Fatalf("severed %v, journaled %v", q.Severed, q.Journaled)
	}
	if w.Figures().Troubles == 0 {
		t.Error("the figures do not say so")
	}
	w.Requests.o.Objects = real
	w.storeAway = time.Time{}
	if q = w.end(t, &servant{w: w, name: "custodian-one"}, q.ID); q.State != Completed || !q.Journaled {
		t.Fatalf("%+v", q)
	}
	var entries []string
	err := filepath.WalkDir(filepath.Join(dir, "objects", "suppressions"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			entries = append(entries, path)
		}
		return err
	})
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	text, err := os.ReadFile(entries[0])
	if err != nil || strings.Contains(string(text), "mark") {
		t.Error("the journal is readable", err)
	}
}

type away struct{ export.Objects }

func (away) Put(context.Context, string, io.ReadSeeker, int64, [32]byte) (string, error) {
	return "", export.ErrUnavailable
}

// A destination that never acknowledges does not hold the certificate up for ever, and the certificate says so.
func TestUnconfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Notices, o.AckLimit = time.Minute, 3*24*time.Hour })
	_, s := w.mint(t)
	w.pages(t, s, 1, "x")
	w.ship(t)
	q := w.ask(t, proof.Erasure, s)
	custody := &servant{w: w, name: "custodian-one"}
	for range 4 {
		w.Pass(t.Context())
		w.ship(t)
		if err := custody.serve(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.forward(time.Hour)
	}
	if q = w.row(t, q.ID); q.Step != purged || q.Notices[0].Number == 0 {
		t.Fatalf("%+v", q)
	}
	w.forward(3 * 24 * time.Hour)
	w.Pass(t.Context())
	if err := custody.serve(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := w.Certificate(q.ID)
	if err != nil {
		t.Fatal(err)
	}
	c, err := proof.VerifyCertificate(text, w.o.Custodian, w.signer.Verifier())
	if err != nil || c.Facts.Recipients[0].Confirmed {
		t.Fatal(c.Facts.Recipients, err)
	}
	if last := c.Facts.Exceptions; last[1].What != proof.RemainsDownstream {
		t.Errorf("exceptions: %+v", last)
	}
}

// refusing is a store whose credentials are no longer taken, or that hides from who may not list what is not there.
type refusing struct {
	export.Objects
	all bool
}

func (x refusing) Get(ctx context.Context, key, version string) (io.ReadCloser, error) {
	if x.all {
		return nil, export.ErrRefused
	}
	body, err := x.Objects.Get(ctx, key, version)
	if errors.Is(err, export.ErrNoObject) {
		err = export.ErrRefused
	}
	return body, err
}

// A store that refuses everything does not say that anything is gone: what must be deleted is not forgotten.
func TestRefusedIsNotGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Notices = time.Minute })
	_, s := w.mint(t)
	w.pages(t, s, 1, "x")
	w.ship(t)
	w.end(t, &servant{w: w, name: "custodian-one"}, w.ask(t, proof.Erasure, s).ID)
	w.forward(suppressionKept + time.Hour)
	real := w.Requests.o.Objects
	for _, notice := range w.objectsUnder(t, "warehouse/notices/") { // by the custodian
		if err := w.archive.DeleteVersion(t.Context(), notice, ""); err != nil {
			t.Fatal(err)
		}
	}
	w.Requests.o.Objects = refusing{real, true}
	w.KeepHouse(t.Context())
	if a, b := w.count(t, sentPrefix), w.count(t, journalPrefix); a != 1 || b != 1 {
		t.Errorf("%d notices and %d suppressions are known, want 1 and 1", a, b)
	}
	w.Requests.o.Objects = refusing{real, false}
	w.KeepHouse(t.Context())
	if a, b := w.count(t, sentPrefix), w.count(t, journalPrefix); a != 0 || b != 1 { // the suppression is still there
		t.Errorf("%d notices and %d suppressions are known, want 0 and 1", a, b)
	}
}
