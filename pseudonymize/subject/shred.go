package subject

import (
	"context"
	"errors"
	"fmt"

	"github.com/octroi/octroi/consent/state"
)

// Shred deletes the subject's tag rows (a row sealed under the subject lists them), then overwrites its slot in place and fsyncs.
// What was sealed under the subject opens to nobody from now on. Idempotent; where a crash came between the two, OpenRegistry
// ends it. After an error the subject is as it was, or no longer found and not yet overwritten: call again.
//
// GDPR Art. 17(1). The caller has deleted or accounts for the subject's other rows: nobody can find or open them afterwards.
func (r *Registry) Shred(ctx context.Context, s Subject) error {
	if !s.Exists() {
		return fmt.Errorf("shredding: %w", ErrUnknown)
	}
	switch own, err := r.BySlot(s.slot); {
	case errors.Is(err, ErrShredded): // again, or after an error: overwrite all the same
	case err != nil:
		return fmt.Errorf("shredding slot %d: %w", s.slot, err)
	case own.key != s.key:
		return fmt.Errorf("shredding slot %d: of another registry: %w", s.slot, ErrUnknown)
	}
	err := r.state.Update(ctx, func(t *state.Txn) error { return r.Sever(t, s) })
	if err != nil {
		return fmt.Errorf("shredding slot %d: %w", s.slot, err)
	}
	// Crash point: tags deleted, slot not overwritten. The row under "s/shred/" stands, and OpenRegistry goes on from here.
	if err := r.finishShred(ctx, s.slot); err != nil {
		return fmt.Errorf("shredding slot %d: %w", s.slot, err)
	}
	return nil
}

// Overwrite ends what Sever began: it overwrites the slot in place and fsyncs. It does nothing where that was done, or was never begun.
func (r *Registry) Overwrite(ctx context.Context, slot Slot) error {
	err := r.state.View(func(v state.Reader) error {
		_, err := v.Get(slotKeyOf(shredPrefix, uint32(slot)))
		return err
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = r.finishShred(ctx, slot)
	}
	if err != nil {
		return fmt.Errorf("shredding slot %d: %w", slot, err)
	}
	return nil
}

// Sever is the first half of Shred, inside the caller's change: it deletes the subject's tags and notes that its slot is to be overwritten. Once t
// is durable nobody finds the subject; Overwrite, or OpenRegistry after a crash, does the rest.
func (r *Registry) Sever(t *state.Txn, s Subject) error {
	claims, err := readClaims(t, s)
	switch {
	case errors.Is(err, state.ErrNotFound): // deleted by an earlier call
	case errors.Is(err, ErrSealed), errors.Is(err, ErrDamaged):
		// A damaged list must not save the subject from erasure: tags whose slot is shredded count as unknown.
	case err != nil:
		return err
	}
	for _, c := range claims {
		t.Delete(tagKey(c.tag))
	}
	t.Delete(s.RowKey(ownTags, nil))
	t.Set(slotKeyOf(shredPrefix, uint32(s.slot)), nil)
	t.OnCommit(func() {
		r.slots.keys.wipe(s.slot) // first: from here on a tag that is still remembered leads to no key
		for _, c := range claims {
			r.tags.forget(c.tag)
		}
	})
	return nil
}

// finishShred overwrites the slot, whatever became of ctx, and only then drops the note that it is to be overwritten.
func (r *Registry) finishShred(ctx context.Context, slot Slot) error {
	if err := r.slots.shred(slot); err != nil {
		return err
	}
	// Crash point: slot overwritten, the row still stands. The slot is overwritten once more at the next start.
	return r.state.Update(context.WithoutCancel(ctx), func(t *state.Txn) error {
		t.Delete(slotKeyOf(shredPrefix, uint32(slot)))
		return nil
	})
}
