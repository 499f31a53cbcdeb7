package subject_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// house is a state with its slot file, which can be closed and opened again.
type house struct {
	*subject.Registry
	t     testing.TB
	store *state.Store
	dir   string
	key   []byte // lookup key
	gone  []byte // suppression key
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), key: bytes.Repeat([]byte{7}, 32), gone: bytes.Repeat([]byte{8}, 32)}
	h.open()
	t.Cleanup(func() { h.close() })
	return h
}

func (h *house) slotFile() string { return filepath.Join(h.dir, "slots") }

func (h *house) open() {
	h.t.Helper()
	if err := h.tryOpen(); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) tryOpen() (err error) {
	h.t.Helper()
	h.store, err = state.Open(state.Options{Dir: filepath.Join(h.dir, "state"), Key: bytes.Repeat([]byte{9}, 32)})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Registry, err = subject.OpenRegistry(subject.Options{State: h.store, SlotFile: h.slotFile(), LookupKey: h.key, SuppressionKey: h.gone})
	if err != nil {
		h.close()
	}
	return err
}

func (h *house) close() {
	h.t.Helper()
	if h.Registry != nil {
		if err := h.Registry.Close(); err != nil {
			h.t.Error(err)
		}
	}
	if h.store != nil {
		if err := h.store.Close(); err != nil {
			h.t.Error(err)
		}
	}
	h.Registry, h.store = nil, nil
}

func (h *house) reopen() {
	h.t.Helper()
	h.close()
	h.open()
}

func (h *house) update(fn func(*state.Txn) error) {
	h.t.Helper()
	if err := h.store.Update(context.Background(), fn); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) mint() (c subject.Credential, s subject.Subject) {
	h.t.Helper()
	h.update(func(t *state.Txn) (err error) {
		c, s, err = h.MintDevice(t)
		return err
	})
	return c, s
}

func (h *house) tryEnsure(ids ...subject.Identifier) (s subject.Subject, created bool, err error) {
	err = h.store.Update(context.Background(), func(t *state.Txn) (err error) {
		s, created, err = h.EnsurePerson(t, ids...)
		return err
	})
	return s, created, err
}

func (h *house) ensure(ids ...subject.Identifier) subject.Subject {
	h.t.Helper()
	s, _, err := h.tryEnsure(ids...)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *house) shred(s subject.Subject) {
	h.t.Helper()
	if err := h.Shred(context.Background(), s); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) id(namespace, raw string) subject.Identifier {
	h.t.Helper()
	return mustNormalise(h.t, namespace, raw)
}

// rows are all rows of this package.
func (h *house) rows() map[string]string {
	h.t.Helper()
	rows := map[string]string{}
	err := h.store.View(func(r state.Reader) error {
		for _, prefix := range []string{"t/", "s/"} {
			err := r.Scan([]byte(prefix), func(key, value []byte) error {
				rows[string(key)] = string(value)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return rows
}

// wantSubject checks a lookup's answer.
func wantSubject(t testing.TB, want subject.Subject, got subject.Subject, err error) {
	t.Helper()
	if err != nil || got != want {
		t.Fatalf("slot %d, %v; want slot %d", got.Slot(), err, want.Slot())
	}
}

func wantError(t testing.TB, want error, got subject.Subject, err error) {
	t.Helper()
	if !errors.Is(err, want) || got.Exists() {
		t.Fatalf("slot %d, %v; want %v", got.Slot(), err, want)
	}
}

func TestDeviceIsFoundByItsCredential(t *testing.T) {
	h := newHouse(t)
	c, s := h.mint()
	if s.Kind() != subject.Device || !s.Exists() {
		t.Fatalf("minted kind %d", s.Kind())
	}
	other, second := h.mint()
	if second.Slot() == s.Slot() || other == c || second.ID() == s.ID() {
		t.Fatal("two devices are one")
	}
	for range 2 {
		for range 2 {
			got, err := h.Device(c)
			wantSubject(t, s, got, err)
			got, err = h.BySlot(s.Slot())
			wantSubject(t, s, got, err)
			h.ForgetTags()
		}
		stranger, _ := subject.ParseCredential("AAAAAAAAAAAAAAAAAAAAAA")
		got, err := h.Device(stranger)
		wantError(t, subject.ErrUnknown, got, err)
		h.reopen()
	}
	if n := h.Count(); n != 2 {
		t.Errorf("%d slots given out, want 2", n)
	}
}

func TestPersonIsFoundByEachIdentifier(t *testing.T) {
	h := newHouse(t)
	email, card, user := h.id("email", "jane@shop.example"), h.id("loyalty", "42"), h.id("user", "42")
	got, err := h.Person(email, card)
	wantError(t, subject.ErrUnknown, got, err)

	jane, created, err := h.tryEnsure(email)
	if err != nil || !created || jane.Kind() != subject.Person {
		t.Fatalf("%v, created %v", err, created)
	}
	again, created, err := h.tryEnsure(email, card, email)
	wantSubject(t, jane, again, err)
	if created {
		t.Error("created twice")
	}
	before := h.rows()
	again, _, err = h.tryEnsure(card, email)
	wantSubject(t, jane, again, err)
	if after := h.rows(); !equalRows(before, after) {
		t.Error("naming a known person wrote something")
	}
	for range 2 {
		for _, ids := range [][]subject.Identifier{{email}, {card}, {card, email}, {user, email}, {email, user}} {
			got, err := h.Person(ids...)
			wantSubject(t, jane, got, err)
		}
		got, err := h.Person(user) // another namespace, same text
		wantError(t, subject.ErrUnknown, got, err)
		h.reopen()
	}
}

func equalRows(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for key, value := range a {
		if b[key] != value {
			return false
		}
	}
	return true
}

func TestPersonsAreNeverJoined(t *testing.T) {
	h := newHouse(t)
	jane, joe := h.id("email", "jane@shop.example"), h.id("user", "joe")
	first, second := h.ensure(jane), h.ensure(joe)
	before := h.rows()
	for _, ids := range [][]subject.Identifier{{jane, joe}, {joe, jane}, {h.id("phone", "+33612345678"), joe, jane}} {
		s, _, err := h.tryEnsure(ids...)
		wantError(t, subject.ErrTwoPersons, s, err)
		s, err = h.Person(ids...)
		wantError(t, subject.ErrTwoPersons, s, err)
	}
	if !equalRows(before, h.rows()) {
		t.Error("a refused request wrote something")
	}
	got, err := h.Person(jane)
	wantSubject(t, first, got, err)
	got, err = h.Person(joe)
	wantSubject(t, second, got, err)
}

func TestOneValuePerNamespace(t *testing.T) {
	h := newHouse(t)
	email, second, card := h.id("email", "jane@shop.example"), h.id("email", "jane@work.example"), h.id("loyalty", "1")
	s, _, err := h.tryEnsure(email, second)
	wantError(t, subject.ErrNamespaceTaken, s, err)
	if n := h.Count(); n != 0 {
		t.Errorf("%d slots used by a refused request", n)
	}
	jane := h.ensure(email, card)
	before := h.rows()
	for _, ids := range [][]subject.Identifier{{second, card}, {card, h.id("user", "u"), second}} {
		s, _, err = h.tryEnsure(ids...)
		wantError(t, subject.ErrNamespaceTaken, s, err)
		if strings.Contains(err.Error(), "work") {
			t.Errorf("the error holds the value: %v", err)
		}
	}
	if !equalRows(before, h.rows()) {
		t.Error("a refused request wrote something")
	}
	got, err := h.Person(email)
	wantSubject(t, jane, got, err)
	got, err = h.Person(second)
	wantError(t, subject.ErrUnknown, got, err)
}

func TestNobodyCanBeNamedByNothing(t *testing.T) {
	h := newHouse(t)
	for _, ids := range [][]subject.Identifier{{}, {{}}, {h.id("user", "1"), {}}} {
		s, _, err := h.tryEnsure(ids...)
		wantError(t, subject.ErrIdentifier, s, err)
	}
	got, err := h.Person()
	wantError(t, subject.ErrUnknown, got, err)
	got, err = h.Person(subject.Identifier{})
	wantError(t, subject.ErrIdentifier, got, err)
}

func TestFailedChangeCreatesNobody(t *testing.T) {
	h := newHouse(t)
	refusal := errors.New("refused")
	var c subject.Credential
	var lost subject.Subject
	card := h.id("loyalty", "1")
	err := h.store.Update(context.Background(), func(t *state.Txn) (err error) {
		if c, lost, err = h.MintDevice(t); err != nil {
			return err
		}
		if _, _, err = h.EnsurePerson(t, card); err != nil {
			return err
		}
		return refusal
	})
	if !errors.Is(err, refusal) {
		t.Fatal(err)
	}
	for range 2 {
		got, err := h.Device(c)
		wantError(t, subject.ErrUnknown, got, err)
		got, err = h.Person(card)
		wantError(t, subject.ErrUnknown, got, err)
		if _, s := h.mint(); s.Slot() == lost.Slot() {
			t.Error("the slot of a failed change was given out again")
		}
		h.reopen()
	}
}

func TestConcurrentRequestsMakeOnePerson(t *testing.T) {
	h := newHouse(t)
	card, email := h.id("loyalty", "1"), h.id("email", "jane@shop.example")
	var wg sync.WaitGroup
	var mu sync.Mutex
	slots, creations := map[subject.Slot]bool{}, 0
	for i := range 32 {
		wg.Go(func() {
			ids := [][]subject.Identifier{{card}, {card, email}, {email, card}}[i%3]
			s, created, err := h.tryEnsure(ids...)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			slots[s.Slot()] = true
			if created {
				creations++
			}
		})
	}
	wg.Wait()
	if len(slots) != 1 || creations != 1 || h.Count() != 1 {
		t.Fatalf("%d persons, %d creations, %d slots", len(slots), creations, h.Count())
	}
}

// A subject created inside a change is found by later changes, also of the same group, and by lookups once the change is durable.
func TestPersonCreatedInsideAChange(t *testing.T) {
	h := newHouse(t)
	card := h.id("loyalty", "1")
	h.update(func(t *state.Txn) error {
		first, created, err := h.EnsurePerson(t, card)
		if err != nil || !created {
			return errors.Join(errors.New("not created"), err)
		}
		if _, err := h.Person(card); !errors.Is(err, subject.ErrUnknown) {
			return errors.New("found before it is durable")
		}
		second, created, err := h.EnsurePerson(t, card)
		if err != nil || created || first != second {
			return errors.Join(errors.New("another person"), err)
		}
		return nil
	})
	if _, err := h.Person(card); err != nil {
		t.Fatal(err)
	}
}

func TestLookupsAllocateNothing(t *testing.T) {
	h := newHouse(t)
	c, device := h.mint()
	email := h.id("email", "jane@shop.example")
	h.ensure(email)
	text := c.Text()
	limit := 0.0
	if raceDetector { // it drops a part of what is put into a sync.Pool: a fresh HMAC state is 8 allocations
		limit = 8
	}
	for name, fn := range map[string]func(){
		"Device": func() { _, _ = h.Device(c) },
		"Person": func() { _, _ = h.Person(email) },
		"BySlot": func() { _, _ = h.BySlot(device.Slot()) },
		"Tag":    func() { _ = h.Tag(email) },
		"Derive": func() { _ = device.Derive("spool") },
		"parse":  func() { _, _ = subject.ParseCredential(text) },
	} {
		if n := testing.AllocsPerRun(200, fn); n > limit {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func TestClosedRegistryCreatesNothing(t *testing.T) {
	h := newHouse(t)
	_, s := h.mint()
	if err := h.Registry.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Shred(context.Background(), s); !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
	if got, _, err := h.tryEnsure(h.id("user", "1")); !errors.Is(err, os.ErrClosed) {
		t.Fatal(got.Slot(), err)
	}
	h.Registry = nil
	h.reopen() // ends the shredding
	got, err := h.BySlot(s.Slot())
	wantError(t, subject.ErrShredded, got, err)
}
