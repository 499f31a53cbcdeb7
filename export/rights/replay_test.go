package rights

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// reopened is a gateway restored into a folder: replayed, and not yet serving.
func reopened(t *testing.T, dir string) (w *world, erased int) {
	t.Helper()
	w, err := openParts(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.close() })
	for _, name := range []string{"warehouse", "accounting"} {
		_, err := export.Adopt(t.Context(), export.AdoptOptions{
			State: w.state, Objects: w.objects, Node: "a", Destination: name, Gateway: signingKey.Public().(ed25519.PublicKey),
			OutboxDir: filepath.Join(dir, "outbox", name), Now: w.now,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.openExits(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := w.options()
	o.Notices = time.Minute
	if erased, err = Replay(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if w.Requests, err = Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return w, erased
}

// A backup from before an erasure is restored: the erased stay erased, also their rows; a purpose that was withdrawn since does not stand; others
// are as they were; and to replay twice is to replay once.
func TestReplay(t *testing.T) {
	t.Parallel()
	dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	w := openWorld(t, dir, func(o *Options) { o.Notices = time.Minute })
	buyer := w.declare(t, "card-1")
	_, visitor := w.mint(t)
	_, other := w.mint(t)
	w.visit(t, subject.Subject{}, buyer, "purchase", "p1", w.at)
	w.pages(t, visitor, 2, "visitor")
	w.pages(t, other, 1, "other")
	w.ship(t)
	if err := w.save(); err != nil {
		t.Fatal(err)
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}

	w = openWorld(t, dir, func(o *Options) { o.Notices = time.Minute })
	custody := &servant{w: w, name: "custodian-one"}
	q, _, err := w.submit(t.Context(), submission{right: proof.Erasure, origin: proof.ByPerson, actor: person, subject: buyer, proven: true})
	if err != nil {
		t.Fatal(err)
	}
	erasure := w.end(t, custody, q.ID)
	if _, err := w.ledger.Withdraw(t.Context(), visitor, consent.Withdrawal{Site: testSite, Purposes: []string{"audience"}}); err != nil {
		t.Fatal(err)
	}
	w.Pass(t.Context())
	w.Pass(t.Context()) // frozen and journaled, and not yet rewritten: the disk is lost
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(backup, "objects")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(backup, "objects"), os.DirFS(filepath.Join(dir, "objects"))); err != nil {
		t.Fatal(err)
	}

	back, erased := reopened(t, backup)
	if erased != 1 {
		t.Errorf("%d were erased again, want 1", erased)
	}
	if _, err := back.subjects.Person(loyalty(t, "card-1")); err == nil {
		t.Error("the erased person came back")
	}
	if _, gone, err := back.subjects.ErasedAt(reading{back}, loyalty(t, "card-1")); err != nil || !gone {
		t.Error("an import may bring the person back:", err)
	}
	if q := back.row(t, back.opened(t)[0]); !q.Clock.Received.Equal(erasure.Clock.Received) && len(q.Purposes) == 0 {
		t.Errorf("%+v", q)
	}
	current, err := back.ledger.Current(visitor)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range current {
		if x.Purpose == "audience" && x.State == consent.ConsentGiven {
			t.Error("a withdrawn purpose stands again")
		}
	}
	if _, err := back.ledger.Current(other); err != nil {
		t.Error("another was harmed:", err)
	}
	back.Pass(t.Context())
	if n := back.count(t, requestPrefix); n != 2 {
		t.Errorf("%d requests, want the erasure and the withdrawal", n)
	}
	custody = &servant{w: back, name: "custodian-one"}
	for _, id := range back.opened(t) {
		if q := back.end(t, custody, id); q.State != Completed || q.Origin == proof.ByPerson && q.Severed.IsZero() {
			t.Errorf("%+v", q)
		}
	}
	if a, b := len(back.everyRow(t, "warehouse")), len(back.everyRow(t, "accounting")); a != 1 || b != 0 {
		t.Errorf("%d and %d rows are left", a, b)
	}
	if err := back.save(); err != nil {
		t.Fatal(err)
	}
	if err := back.close(); err != nil {
		t.Fatal(err)
	}
	again, erased := reopened(t, backup)
	if n := again.count(t, requestPrefix); n != 2 || erased != 0 {
		t.Errorf("replayed again: %d requests, %d erased", n, erased)
	}
}

// A backup of the state from the middle of an erasure is restored beside a slot file that was copied after it: the key is gone already, and the rows
// in shipped objects go all the same.
func TestRestoreBesideNewerSlots(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]step{"suppressed": suppressed, "frozen": frozen, "rewriting": rewriting, "completed": rewriting} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
			w := openWorld(t, dir, func(o *Options) { o.Notices = time.Minute })
			_, s := w.mint(t)
			_, other := w.mint(t)
			w.pages(t, s, 2, "gone")
			w.ship(t)
			w.forward(2 * time.Hour)
			w.pages(t, other, 1, "other")
			w.ship(t)
			q := w.ask(t, proof.Erasure, s)
			for w.row(t, q.ID).Step != at {
				if err := w.advance(t.Context(), w.row(t, q.ID)); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(w.save(), w.close(), os.CopyFS(backup, os.DirFS(dir))); err != nil {
				t.Fatal(err)
			}
			w = openWorld(t, dir, func(o *Options) { o.Notices = time.Minute })
			w.Pass(t.Context())
			if name == "completed" {
				w.end(t, &servant{w: w, name: "custodian-one"}, q.ID)
			}
			if err := w.close(); err != nil {
				t.Fatal(err)
			}
			for _, newer := range []string{"slots", "objects"} {
				if err := os.RemoveAll(filepath.Join(backup, newer)); err != nil {
					t.Fatal(err)
				}
			}
			slots, err := os.ReadFile(filepath.Join(dir, "slots"))
			if err == nil {
				err = os.WriteFile(filepath.Join(backup, "slots"), slots, 0o600)
			}
			if err := errors.Join(err, os.CopyFS(filepath.Join(backup, "objects"), os.DirFS(filepath.Join(dir, "objects")))); err != nil {
				t.Fatal(err)
			}

			back, _ := reopened(t, backup)
			got := back.end(t, &servant{w: back, name: "custodian-one"}, q.ID)
			if name == "completed" { // it was completed: nothing of it is left to do, and nobody to certify it again
				if got.State != Cancelled || got.Reason != outlived {
					t.Fatalf("%+v", got)
				}
			} else if got.State != Completed {
				t.Fatalf("%+v", got)
			}
			if rows := back.everyRow(t, "warehouse"); len(rows) != 1 {
				t.Errorf("%d rows are left, want the other's", len(rows))
			}
		})
	}
}

// Each person's erasure and each person's withdrawal is replayed: what is alike is not the same.
func TestReplayOfSeveral(t *testing.T) {
	t.Parallel()
	dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	w := openWorld(t, dir)
	var all []subject.Subject
	for range 4 {
		_, s := w.mint(t)
		w.pages(t, s, 1, "x")
		all = append(all, s)
	}
	w.ship(t)
	if err := errors.Join(w.save(), w.close(), os.CopyFS(backup, os.DirFS(dir))); err != nil {
		t.Fatal(err)
	}
	w = openWorld(t, dir)
	w.ask(t, proof.Erasure, all[0])
	w.ask(t, proof.Erasure, all[1])
	w.ask(t, proof.Erasure, all[2], "audience")
	w.ask(t, proof.Erasure, all[3], "audience")
	w.Pass(t.Context())
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(backup, "objects", "suppressions"), os.DirFS(filepath.Join(dir, "objects", "suppressions"))); err != nil {
		t.Fatal(err)
	}
	back, erased := reopened(t, backup)
	if n := back.count(t, requestPrefix); n != 4 || erased != 2 {
		t.Errorf("%d requests, %d erased, want 4 and 2", n, erased)
	}
	for _, s := range all[:2] {
		if _, err := back.subjects.BySlot(s.Slot()); !errors.Is(err, subject.ErrShredded) {
			t.Error("one came back:", err)
		}
	}
	for _, s := range all[2:] {
		current, err := back.ledger.Current(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range current {
			if x.Purpose == "audience" && x.State == consent.ConsentGiven {
				t.Error("a withdrawn purpose stands again")
			}
		}
	}
}

// The process ends in the middle of a replay: the next one goes on with what the first has made.
func TestReplayIsCutOff(t *testing.T) {
	t.Parallel()
	dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	w := openWorld(t, dir)
	_, s := w.mint(t)
	w.pages(t, s, 1, "x")
	w.ship(t)
	if err := errors.Join(w.save(), w.close(), os.CopyFS(backup, os.DirFS(dir))); err != nil {
		t.Fatal(err)
	}
	w = openWorld(t, dir)
	w.ask(t, proof.Erasure, s)
	w.Pass(t.Context())
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(backup, "objects", "suppressions"), os.DirFS(filepath.Join(dir, "objects", "suppressions"))); err != nil {
		t.Fatal(err)
	}
	first, err := openParts(backup)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.openExits(t.Context()); err != nil {
		t.Fatal(err)
	}
	if first.Requests, err = newRequests(first.options()); err != nil {
		t.Fatal(err)
	}
	entries, err := first.readJournal(t.Context())
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	if _, err := first.replay(t.Context(), entries[0], s); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(first.save(), first.close()); err != nil {
		t.Fatal(err)
	}
	back, _ := reopened(t, backup)
	if n := back.count(t, requestPrefix); n != 1 {
		t.Errorf("%d requests of one suppression", n)
	}
	if _, err := back.subjects.BySlot(s.Slot()); !errors.Is(err, subject.ErrShredded) {
		t.Error(err)
	}
}

// A journal that cannot be read must not be passed over: nobody knows whom it names.
func TestReplayFailsClosed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openWorld(t, dir, func(o *Options) { o.Notices = time.Minute })
	_, s := w.mint(t)
	w.pages(t, s, 1, "a")
	w.ship(t)
	w.ask(t, proof.Erasure, s)
	w.Pass(t.Context())
	keys := w.objectsUnder(t, "suppressions/a/")
	if len(keys) != 1 {
		t.Fatal(keys)
	}
	path := filepath.Join(dir, "objects", filepath.FromSlash(keys[0]))
	object, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range object {
		spoiled := append([]byte(nil), object...)
		spoiled[i] ^= 1
		if _, err := w.journal.decode(keys[0], spoiled); err == nil {
			t.Fatalf("byte %d can change unseen", i)
		}
	}
	if _, err := w.journal.decode(keys[0]+"x", object); err == nil {
		t.Error("an entry reads under another key")
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, object[:len(object)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Replay(t.Context(), w.o); err == nil {
		t.Error("a damaged journal was passed over")
	}
}

func FuzzJournal(f *testing.F) {
	j, err := newJournal("a", key(6))
	if err != nil {
		f.Fatal(err)
	}
	x := suppression{Version: 1, Request: "3f0c8a52-0d6c-4a53-9a53-6b1a2f1d7c10", Origin: proof.ByPerson, At: testStart}
	at, object, err := j.encode(&x)
	if err != nil {
		f.Fatal(err)
	}
	if _, again, _ := j.encode(&x); string(again) != string(object) {
		f.Fatal("the same suppression has two texts: a put after a crash would be refused")
	}
	f.Add(at, object)
	f.Add("", []byte(journalMagic))
	f.Fuzz(func(t *testing.T, key string, object []byte) {
		if x, err := j.decode(key, object); err == nil {
			again, bytes, err := j.encode(&x)
			if err != nil || again != key || string(bytes) != string(object) {
				t.Fatal("it reads what it would not write")
			}
		}
	})
}
