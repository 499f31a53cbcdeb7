package subject_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

func TestShreddedSubjectIsUnknown(t *testing.T) {
	h := newHouse(t)
	c, device := h.mint()
	email, card, user := h.id("email", "jane@shop.example"), h.id("loyalty", "1"), h.id("user", "1")
	jane := h.ensure(email, card)
	joe := h.ensure(user)
	h.shred(jane)
	h.shred(device)
	for range 2 {
		got, err := h.Device(c)
		wantError(t, subject.ErrUnknown, got, err)
		for _, id := range []subject.Identifier{email, card} {
			got, err = h.Person(id)
			wantError(t, subject.ErrUnknown, got, err)
		}
		for _, s := range []subject.Subject{jane, device} {
			got, err = h.BySlot(s.Slot())
			wantError(t, subject.ErrShredded, got, err)
			h.shred(s) // again
		}
		got, err = h.Person(user, email)
		wantSubject(t, joe, got, err)
		h.reopen()
	}
	// The one who comes back is another subject, and nothing leads from one to the other.
	back, created, err := h.tryEnsure(email, card)
	if err != nil || !created || back.Slot() == jane.Slot() || back.ID() == jane.ID() {
		t.Fatalf("slot %d, created %v, %v", back.Slot(), created, err)
	}
	for range 2 {
		got, err := h.Person(card)
		wantSubject(t, back, got, err)
		got, err = h.BySlot(jane.Slot())
		wantError(t, subject.ErrShredded, got, err)
		h.reopen()
	}
}

func TestShredRefusesStrangers(t *testing.T) {
	h := newHouse(t)
	_, s := h.mint()
	for _, stranger := range []subject.Subject{{}, subject.WithKey(s.Slot(), s.Kind(), [32]byte{1}), subject.WithKey(77, subject.Device, [32]byte{1})} {
		if err := h.Shred(context.Background(), stranger); !errors.Is(err, subject.ErrUnknown) {
			t.Errorf("slot %d: %v", stranger.Slot(), err)
		}
	}
	got, err := h.BySlot(s.Slot())
	wantSubject(t, s, got, err)
}

// Crash point 1: tags deleted, slot not overwritten. Crash point 2: slot overwritten, the note of it still there.
func TestShredResumesAfterACrash(t *testing.T) {
	for _, overwritten := range []bool{false, true} {
		t.Run(fmt.Sprintf("overwritten=%v", overwritten), func(t *testing.T) {
			h := newHouse(t)
			card := h.id("loyalty", "1")
			jane := h.ensure(card, h.id("user", "1"))
			joe := h.ensure(h.id("user", "2"))
			key := subject.KeyOf(jane)
			h.update(func(t *state.Txn) error { return h.Sever(t, jane) })
			got, err := h.Person(card)
			wantError(t, subject.ErrUnknown, got, err)
			if overwritten {
				if err := h.OverwriteOnly(jane); err != nil {
					t.Fatal(err)
				}
			} else if content, err := os.ReadFile(h.slotFile()); err != nil || !bytes.Contains(content, key[:]) {
				t.Fatal("the slot was overwritten: this test tests nothing", err)
			}
			h.reopen()
			content, err := os.ReadFile(h.slotFile())
			if err != nil || bytes.Contains(content, key[:]) {
				t.Fatal("the key is there after the restart", err)
			}
			for key := range h.rows() {
				if strings.HasPrefix(key, "s/shred/") {
					t.Error("the note is left over")
				}
			}
			got, err = h.BySlot(jane.Slot())
			wantError(t, subject.ErrShredded, got, err)
			got, err = h.BySlot(joe.Slot())
			wantSubject(t, joe, got, err)
		})
	}
}

// With everything the gateway owns in hand (state key, lookup key, the subject's old key), no row of the subject is left; the key is in no
// file, and neither is an identifier.
func TestShredLeavesNoResidue(t *testing.T) {
	h := newHouse(t)
	email := h.id("email", "canary@shop.example")
	bystander := h.ensure(h.id("user", "2"))
	before := h.rows()
	jane := h.ensure(email, h.id("user", "1"))
	var tags []subject.Tag
	err := h.store.View(func(r state.Reader) (err error) {
		tags, err = subject.Claims(r, jane)
		return err
	})
	if err != nil || len(tags) != 2 {
		t.Fatal(tags, err)
	}
	h.shred(jane)
	for row, value := range h.rows() {
		if before[row] != value && !strings.HasPrefix(row, "s/chunk/") {
			t.Errorf("row %q is left", row)
		}
	}
	h.close()
	key, id := subject.KeyOf(jane), jane.ID()
	other := subject.KeyOf(bystander)
	found := 0
	err = filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for what, secret := range map[string][]byte{
			"key": key[:], "half of the key": key[:16], "id": []byte(id), "identifier": []byte("canary"),
			"tag": subject.Bytes(tags[0]), "second tag": subject.Bytes(tags[1]), "row": jane.RowKey("s/tags/", nil)[7:],
		} {
			if bytes.Contains(content, secret) {
				t.Errorf("%s in %s", what, path)
			}
		}
		found += bytes.Count(content, other[:])
		return nil
	})
	if err != nil || found != 1 {
		t.Fatalf("the bystander's key was found %d times, want 1: %v", found, err)
	}
}

// A person is erased and comes back within one change.
func TestErasedAndBackInOneChange(t *testing.T) {
	h := newHouse(t)
	card := h.id("loyalty", "1")
	jane := h.ensure(card)
	var back subject.Subject
	h.update(func(t *state.Txn) (err error) {
		if err := h.Sever(t, jane); err != nil {
			return err
		}
		back, _, err = h.EnsurePerson(t, card)
		return err
	})
	if back.Slot() == jane.Slot() {
		t.Fatal("the erased person was found")
	}
	got, err := h.Person(card)
	wantSubject(t, back, got, err)
}

// A reader that read a tag's row before the shredding and remembers it after.
func TestLateReaderDoesNotReviveTheShredded(t *testing.T) {
	h := newHouse(t)
	card := h.id("loyalty", "1")
	jane := h.ensure(card)
	h.shred(jane)
	h.FillTag(h.Tag(card), jane.Slot())
	got, err := h.Person(card)
	wantError(t, subject.ErrUnknown, got, err)

	h.FillTag(h.Tag(card), jane.Slot())
	back := h.ensure(card)
	h.FillTag(h.Tag(card), jane.Slot())
	got, err = h.Person(card)
	wantSubject(t, back, got, err)
}

// Lookups, creations and shreddings beside each other: a lookup answers with the subject or with ErrUnknown, never another's.
func TestShredBesideLookups(t *testing.T) {
	h := newHouse(t)
	var cards []subject.Identifier
	for i := range 8 {
		cards = append(cards, h.id("loyalty", fmt.Sprint(i)))
	}
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				s, err := h.Person(cards[i%8])
				if err != nil && !errors.Is(err, subject.ErrUnknown) {
					t.Error(err)
					return
				}
				if err == nil && s.Kind() != subject.Person {
					t.Error("half a subject")
				}
			}
		})
	}
	for w := range 4 {
		writers.Go(func() {
			for i := range 15 {
				card := cards[(w*2+i)%8]
				s, _, err := h.tryEnsure(card)
				if err != nil {
					t.Error(err)
					return
				}
				if err := h.Shred(context.Background(), s); err != nil {
					t.Error(err)
					return
				}
				if again, err := h.BySlot(s.Slot()); !errors.Is(err, subject.ErrShredded) {
					t.Error("there after Shred returned", again.Slot(), err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	for _, card := range cards {
		if s, err := h.Person(card); !errors.Is(err, subject.ErrUnknown) {
			t.Errorf("slot %d is left: %v", s.Slot(), err)
		}
	}
}

// A long random history, with restarts, against a model: who is found by which identifier, and who is gone.
func TestHistoryAgainstAModel(t *testing.T) {
	h := newHouse(t)
	random := rand.New(rand.NewPCG(20, 26))
	owner := map[subject.Identifier]subject.Slot{}
	live := map[subject.Slot]subject.Subject{}
	held := map[subject.Slot]map[string]bool{} // namespaces
	gone := map[subject.Slot]bool{}
	pick := func() subject.Identifier {
		return h.id([]string{"user", "loyalty", "receipt"}[random.IntN(3)], fmt.Sprint(random.IntN(12)))
	}
	for step := range 400 {
		switch random.IntN(10) {
		case 0: // shred someone
			for slot, s := range live {
				h.shred(s)
				delete(live, slot)
				gone[slot] = true
				for id, of := range owner {
					if of == slot {
						delete(owner, id)
					}
				}
				break
			}
		case 1:
			if random.IntN(6) == 0 {
				h.reopen()
			}
		default:
			a, b := pick(), pick()
			s, created, err := h.tryEnsure(a, b)
			want := expect(owner, held, a, b)
			if !errors.Is(err, want) {
				t.Fatalf("step %d: %v, want %v", step, err, want)
			}
			if err != nil {
				break
			}
			if gone[s.Slot()] || created == (owner[a] != 0 || owner[b] != 0) {
				t.Fatalf("step %d: slot %d, created %v", step, s.Slot(), created)
			}
			live[s.Slot()] = s
			for _, id := range []subject.Identifier{a, b} {
				owner[id] = s.Slot()
				if held[s.Slot()] == nil {
					held[s.Slot()] = map[string]bool{}
				}
				held[s.Slot()][id.Namespace()] = true
			}
		}
		id := pick()
		s, err := h.Person(id)
		if slot := owner[id]; slot == 0 && !errors.Is(err, subject.ErrUnknown) || slot != 0 && (err != nil || s != live[slot]) {
			t.Fatalf("step %d: slot %d, %v; want slot %d", step, s.Slot(), err, slot)
		}
	}
	for slot := range gone {
		if s, err := h.BySlot(slot); !errors.Is(err, subject.ErrShredded) {
			t.Errorf("slot %d: %v", s.Slot(), err)
		}
	}
	if len(gone) < 10 {
		t.Fatalf("only %d were shredded", len(gone))
	}
}

// expect is what EnsurePerson must answer, nil for success.
func expect(owner map[subject.Identifier]subject.Slot, held map[subject.Slot]map[string]bool, a, b subject.Identifier) error {
	if a != b && a.Namespace() == b.Namespace() {
		return subject.ErrNamespaceTaken
	}
	switch of, other := owner[a], owner[b]; {
	case of != 0 && other != 0 && of != other:
		return subject.ErrTwoPersons
	case of != 0 && other == 0 && held[of][b.Namespace()], other != 0 && of == 0 && held[other][a.Namespace()]:
		return subject.ErrNamespaceTaken
	}
	return nil
}
