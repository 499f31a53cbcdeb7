package subject_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/octroi/octroi/pseudonymize/subject"
)

func TestMissingOrForeignFiles(t *testing.T) {
	h := newHouse(t)
	c, device := h.mint()
	other := newHouse(t)
	other.mint()
	h.close()
	other.close()
	kept, err := os.ReadFile(h.slotFile())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(other.slotFile())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content []byte
		want    error
		say     string
	}{
		"missing":       {nil, subject.ErrSlotFile, "put its newest copy in place"},
		"another's":     {foreign, subject.ErrSlotFile, "put this state's newest copy in place"},
		"empty":         {[]byte{}, subject.ErrDamaged, "shorter than its header"},
		"not a file":    {bytes.Repeat([]byte("x"), 8192), subject.ErrDamaged, "not a slot file"},
		"without slots": {kept[:4096], subject.ErrDamaged, "it ends before slot 1"},
		"cut":           {kept[:len(kept)-1], subject.ErrDamaged, "it ends before slot 1"},
	} {
		if err := os.Remove(h.slotFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if c.content != nil {
			if err := os.WriteFile(h.slotFile(), c.content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := h.tryOpen()
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want %v, %q", name, err, c.want, c.say)
		}
		after, err := os.ReadFile(h.slotFile())
		if c.content == nil && !errors.Is(err, os.ErrNotExist) || c.content != nil && !bytes.Equal(after, c.content) {
			t.Errorf("%s: the file was changed, %v", name, err)
		}
	}

	if err := os.WriteFile(h.slotFile(), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	h.open()
	got, err := h.Device(c)
	wantSubject(t, device, got, err)
}

func TestKeyOfAnotherSlotIsDamage(t *testing.T) {
	h := newHouse(t)
	c, device := h.mint()
	card := h.id("loyalty", "1")
	person := h.ensure(card)
	h.close()
	content, err := os.ReadFile(h.slotFile())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []subject.Subject{device, person} {
		subject.Rekey(content[subject.OffsetOf(s.Slot()):][:64], s, [32]byte{1})
	}
	if err := os.WriteFile(h.slotFile(), content, 0o600); err != nil {
		t.Fatal(err)
	}
	h.open()
	got, err := h.Device(c)
	wantError(t, subject.ErrDamaged, got, err)
	got, err = h.Person(card)
	wantError(t, subject.ErrDamaged, got, err)
	got, _, err = h.tryEnsure(card)
	wantError(t, subject.ErrDamaged, got, err)
}

func TestAnotherLookupKeyIsRefused(t *testing.T) {
	h := newHouse(t)
	c, s := h.mint()
	h.close()
	h.key = bytes.Repeat([]byte{8}, 32)
	if err := h.tryOpen(); !errors.Is(err, subject.ErrLookupKey) {
		t.Fatal(err)
	}
	h.key = h.key[:31]
	if err := h.tryOpen(); err == nil || !strings.Contains(err.Error(), "31 bytes, needs 32") {
		t.Fatal(err)
	}
	h.key = bytes.Repeat([]byte{7}, 32)
	h.open()
	got, err := h.Device(c)
	wantSubject(t, s, got, err)
}

// A slot file with keys beside an empty state: the state was lost, and a new one must not give its slots out.
func TestLostStateIsRefused(t *testing.T) {
	h := newHouse(t)
	h.mint()
	h.close()
	if err := os.RemoveAll(filepath.Join(h.dir, "state")); err != nil {
		t.Fatal(err)
	}
	if err := h.tryOpen(); !errors.Is(err, subject.ErrSlotFile) || !strings.Contains(err.Error(), "restore the state") {
		t.Fatal(err)
	}
}

// A crash after the slot file was created and before state knows of it.
func TestCrashWhileTheSlotFileIsCreated(t *testing.T) {
	h := newHouse(t)
	h.close()
	if err := os.RemoveAll(filepath.Join(h.dir, "state")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.slotFile()+".new", []byte("half a hea"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.open()
	h.mint()
	h.reopen()
}
