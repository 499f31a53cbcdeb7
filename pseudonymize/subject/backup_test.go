package subject_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// restored is a house made of copies of another's state and slots.
func (h *house) restored(stateCopy, slots []byte) *house {
	h.t.Helper()
	x := &house{t: h.t, dir: h.t.TempDir(), key: h.key, gone: h.gone}
	if err := state.Restore(filepath.Join(x.dir, "state"), bytes.Repeat([]byte{9}, 32), bytes.NewReader(stateCopy)); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(x.slotFile(), slots, 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { x.close() })
	x.open()
	return x
}

// TestCopySlots: copies taken while subjects are made and shredded open, with a state that was copied before, and everybody that this state knows is
// who they were.
func TestCopySlots(t *testing.T) {
	h := newHouse(t)
	var known []subject.Subject
	for i := range 300 {
		known = append(known, h.ensure(h.id("user", fmt.Sprint(i))))
	}
	gone := known[7]
	key := subject.KeyOf(gone)
	h.update(func(t *state.Txn) error { return h.Sever(t, gone) }) // begun, and the slot not overwritten yet

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	writers.Go(func() {
		for i := 0; ctx.Err() == nil && i < 5000; i++ {
			_ = h.store.Update(ctx, func(t *state.Txn) error {
				_, err := h.MintRequest(t)
				return err
			})
			if i < 100 {
				_ = h.Shred(ctx, known[200+i])
			}
		}
	})
	for range 3 {
		var stateCopy, slots bytes.Buffer
		if err := h.store.Backup(t.Context(), &stateCopy); err != nil {
			t.Fatal(err)
		}
		if err := h.CopySlots(t.Context(), &slots); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(slots.Bytes(), key[:]) {
			t.Error("the copy holds a key whose shredding has begun")
		}
		x := h.restored(stateCopy.Bytes(), slots.Bytes())
		for i, s := range known[:200] {
			got, err := x.Person(x.id("user", fmt.Sprint(i)))
			if i == 7 {
				wantError(t, subject.ErrUnknown, got, err)
			} else {
				wantSubject(t, s, got, err)
			}
		}
	}
	stop()
	writers.Wait()
}

func TestCopySlotsRefuses(t *testing.T) {
	h := newHouse(t)
	_, s := h.mint()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := h.CopySlots(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context: %v", err)
	}
	f, err := os.OpenFile(h.slotFile(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("not a key"), subject.OffsetOf(s.Slot()+5)+20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.CopySlots(t.Context(), io.Discard); !errors.Is(err, subject.ErrDamaged) {
		t.Errorf("a damaged slot: %v", err)
	}
}
