package subject_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

var erased = time.Date(2026, 3, 1, 12, 0, 0, 7_000_000, time.UTC)

func (h *house) mark(s subject.Subject) subject.Mark {
	h.t.Helper()
	m, err := h.Mark(s)
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

func (h *house) suppress(m subject.Mark, at time.Time) {
	h.t.Helper()
	h.update(func(t *state.Txn) error { return h.Suppress(t, m, at) })
}

// erasedAt asks outside the writer.
func (h *house) erasedAt(ids ...subject.Identifier) (at time.Time, ok bool) {
	h.t.Helper()
	err := h.store.View(func(r state.Reader) (err error) {
		at, ok, err = h.ErasedAt(r, ids...)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return at, ok
}

// The erased are known by each of their identifiers, after the shredding and a restart, and nobody else is.
func TestErasedAreRemembered(t *testing.T) {
	h := newHouse(t)
	card, email, other := h.id("loyalty", "1"), h.id("email", "jane@shop.example"), h.id("user", "2")
	jane := h.ensure(card, email)
	h.ensure(other)
	m := h.mark(jane)
	if len(m.Tags) != 2 {
		t.Fatalf("%d tags", len(m.Tags))
	}
	if _, ok := h.erasedAt(card, email, other); ok {
		t.Fatal("remembered before anybody was erased")
	}
	h.suppress(m, erased)
	h.shred(jane)
	for range 2 {
		for _, ids := range [][]subject.Identifier{{card}, {email}, {other, card}} {
			if at, ok := h.erasedAt(ids...); !ok || !at.Equal(erased) {
				t.Fatalf("%v %v", at, ok)
			}
		}
		if _, ok := h.erasedAt(other); ok {
			t.Fatal("another person is taken for the erased")
		}
		h.reopen()
	}

	// Who comes back and is erased again is remembered by the later time, in whatever order the two arrive.
	again := h.mark(h.ensure(card))
	if again.Subject == m.Subject || again.Tags[0] != m.Tags[0] && again.Tags[0] != m.Tags[1] {
		t.Fatal("the mark of the new subject")
	}
	h.suppress(again, erased.Add(time.Hour))
	h.suppress(again, erased.Add(-time.Hour))
	if at, ok := h.erasedAt(email, card); !ok || !at.Equal(erased.Add(time.Hour)) {
		t.Fatalf("%v %v", at, ok)
	}
	h.update(func(x *state.Txn) error { // what the same change wrote is seen
		if err := h.Suppress(x, again, erased.Add(2*time.Hour)); err != nil {
			return err
		}
		if at, ok, err := h.ErasedAt(x, card); err != nil || !ok || !at.Equal(erased.Add(2*time.Hour)) {
			t.Errorf("%v %v %v", at, ok, err)
		}
		return nil
	})
	if at, ok := h.erasedAt(card); !ok || !at.Equal(erased.Add(2*time.Hour)) {
		t.Fatalf("%v %v", at, ok)
	}
}

// A row names nobody: neither the tag nor the identifier stands in it.
func TestErasedRowsHoldNoTag(t *testing.T) {
	h := newHouse(t)
	card := h.id("loyalty", "CANARY-1")
	jane := h.ensure(card)
	h.suppress(h.mark(jane), erased)
	h.shred(jane)
	tag := h.Tag(card)
	rows := 0
	for key, value := range h.rows() {
		if strings.HasPrefix(key, "s/gone/") {
			rows++
		}
		if strings.Contains(key+value, "CANARY") || strings.Contains(key+value, string(subject.Bytes(tag))) {
			t.Errorf("row %q", key)
		}
	}
	if rows != 1 {
		t.Fatalf("%d rows", rows)
	}
}

func TestForgetErased(t *testing.T) {
	h := newHouse(t)
	const n = 2300 // more than two changes delete
	var ids []subject.Identifier
	for from := 0; from < n; from += 500 {
		h.update(func(x *state.Txn) error {
			for i := from; i < min(n, from+500); i++ {
				ids = append(ids, h.id("user", fmt.Sprint(i)))
				s, _, err := h.EnsurePerson(x, ids[i])
				if err != nil {
					return err
				}
				tag := h.Remnant(h.Tag(ids[i]))
				if err := h.Suppress(x, subject.Mark{Subject: subject.Remnant{byte(s.Slot())}, Tags: []subject.Remnant{tag}}, erased.Add(time.Duration(i)*time.Second)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	before := erased.Add((n - 10) * time.Second)
	if dropped, err := h.ForgetErased(context.Background(), before); err != nil || dropped != n-10 {
		t.Fatal(dropped, err)
	}
	if dropped, err := h.ForgetErased(context.Background(), before); err != nil || dropped != 0 {
		t.Fatal(dropped, err)
	}
	for i, id := range ids {
		if _, ok := h.erasedAt(id); ok != (i >= n-10) {
			t.Fatalf("%d: %v", i, ok)
		}
	}
}

// What a restored slot file brought back is found by the marks alone; requests and strangers are not.
func TestFind(t *testing.T) {
	h := newHouse(t)
	_, device := h.mint()
	person := h.ensure(h.id("user", "1"))
	h.ensure(h.id("user", "2"))
	h.mint()
	var request subject.Subject
	h.update(func(x *state.Txn) (err error) { request, err = h.MintRequest(x); return err })
	gone := h.ensure(h.id("user", "3"))
	marks := map[subject.Remnant]bool{}
	for _, s := range []subject.Subject{device, person, request, gone} {
		marks[h.mark(s).Subject] = true
	}
	h.shred(gone)
	for range 2 {
		found, err := h.Find(marks)
		if err != nil || len(found) != 2 {
			t.Fatal(len(found), err)
		}
		for _, s := range found {
			if s != device && s != person {
				t.Errorf("slot %d was found", s.Slot())
			}
		}
		h.reopen()
	}
	if found, err := h.Find(nil); err != nil || len(found) != 0 {
		t.Fatal(len(found), err)
	}
}

// A device's credential is named by no import: its mark finds the device in a restored slot file, and that is all.
func TestMarkOfADevice(t *testing.T) {
	h := newHouse(t)
	_, device := h.mint()
	if m := h.mark(device); len(m.Tags) != 0 || m.Subject == (subject.Remnant{}) {
		t.Fatalf("%d tags", len(m.Tags))
	}
	h.shred(device)
	if _, err := h.Mark(device); !errors.Is(err, subject.ErrShredded) {
		t.Fatal(err)
	}
	if _, err := h.Mark(subject.Subject{}); !errors.Is(err, subject.ErrUnknown) {
		t.Fatal(err)
	}
}

// A state that has a suppression key opens with no other: otherwise nobody who was erased would be known.
func TestSuppressionKeyIsBound(t *testing.T) {
	h := newHouse(t)
	h.close()
	right := h.gone
	for _, wrong := range [][]byte{nil, bytes.Repeat([]byte{1}, 32), right[:31]} {
		h.gone = wrong
		if err := h.tryOpen(); !errors.Is(err, subject.ErrSuppressionKey) {
			t.Fatalf("%d bytes: %v", len(wrong), err)
		}
	}
	h.gone = right
	h.open()
}

// Without the key nobody is suppressed, and nobody was.
func TestNoSuppressionKey(t *testing.T) {
	h := &house{t: t, dir: t.TempDir(), key: bytes.Repeat([]byte{7}, 32)}
	h.open()
	t.Cleanup(h.close)
	card := h.id("loyalty", "1")
	jane := h.ensure(card)
	if _, ok := h.erasedAt(card); ok {
		t.Fatal("erased")
	}
	if _, err := h.Mark(jane); !errors.Is(err, subject.ErrSuppressionKey) {
		t.Fatal(err)
	}
	if _, err := h.Find(nil); !errors.Is(err, subject.ErrSuppressionKey) {
		t.Fatal(err)
	}
	err := h.store.Update(context.Background(), func(x *state.Txn) error { return h.Suppress(x, subject.Mark{}, erased) })
	if !errors.Is(err, subject.ErrSuppressionKey) {
		t.Fatal(err)
	}
	h.close() // an older state gets its key at the first start that has one
	h.gone = bytes.Repeat([]byte{8}, 32)
	h.open()
	h.mark(jane)
}

func TestMarkIsJSON(t *testing.T) {
	h := newHouse(t)
	m := h.mark(h.ensure(h.id("user", "1"), h.id("loyalty", "1")))
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var read subject.Mark
	if err := json.Unmarshal(text, &read); err != nil || read.Subject != m.Subject || len(read.Tags) != 2 || read.Tags[1] != m.Tags[1] {
		t.Fatalf("%s %v", text, err)
	}
	if got := fmt.Sprintf("%v %+v %x", m, &m, m.Tags[0]); got != "[mark] [mark] [mark]" {
		t.Errorf("it prints as %s", got)
	}
}

func FuzzRemnant(f *testing.F) {
	f.Add("00112233445566778899aabbccddeeff")
	f.Add("00112233445566778899AABBCCDDEEFF")
	f.Add("x")
	f.Fuzz(func(t *testing.T, text string) {
		var x subject.Remnant
		if err := x.UnmarshalText([]byte(text)); err != nil {
			if x != (subject.Remnant{}) || !errors.Is(err, subject.ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if again, err := x.MarshalText(); err != nil || string(again) != text {
			t.Fatalf("%q became %q, %v", text, again, err)
		}
	})
}

// A request has a slot and nothing else: no tag, no list of tags. Its key dies as any other, also when a crash came between.
func TestRequestSlot(t *testing.T) {
	h := newHouse(t)
	before := h.rows()
	var first, second subject.Subject
	h.update(func(x *state.Txn) (err error) {
		if first, err = h.MintRequest(x); err != nil {
			return err
		}
		second, err = h.MintRequest(x)
		return err
	})
	for key, value := range h.rows() {
		if before[key] != value && !strings.HasPrefix(key, "s/chunk/") {
			t.Errorf("row %q", key)
		}
	}
	h.reopen()
	for _, s := range []subject.Subject{first, second} {
		got, err := h.BySlot(s.Slot())
		wantSubject(t, s, got, err)
		if got.Kind() != subject.Request {
			t.Fatalf("kind %d", got.Kind())
		}
	}
	key := s32(first)
	h.shred(first)
	h.shred(first)
	h.update(func(x *state.Txn) error { return h.Sever(x, second) })
	h.reopen()
	for _, s := range []subject.Subject{first, second} {
		if got, err := h.BySlot(s.Slot()); !errors.Is(err, subject.ErrShredded) {
			t.Fatalf("slot %d: %v", got.Slot(), err)
		}
	}
	if content, err := os.ReadFile(h.slotFile()); err != nil || bytes.Contains(content, key) {
		t.Fatal("the key is in the file", err)
	}
}

func s32(s subject.Subject) []byte { k := subject.KeyOf(s); return k[:] }

// Overwrite does nothing to a subject that Sever did not end.
func TestOverwriteNeedsSever(t *testing.T) {
	h := newHouse(t)
	_, s := h.mint()
	if err := h.Overwrite(context.Background(), s.Slot()); err != nil {
		t.Fatal(err)
	}
	got, err := h.BySlot(s.Slot())
	wantSubject(t, s, got, err)
	h.update(func(x *state.Txn) error { return h.Sever(x, s) })
	for range 2 {
		if err := h.Overwrite(context.Background(), s.Slot()); err != nil {
			t.Fatal(err)
		}
		for key := range h.rows() {
			if strings.HasPrefix(key, "s/shred/") {
				t.Error("the note is left over")
			}
		}
	}
	if content, err := os.ReadFile(h.slotFile()); err != nil || bytes.Contains(content, s32(s)) {
		t.Fatal("the key is in the file", err)
	}
}
