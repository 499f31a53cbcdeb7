package rights

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// What a request freezes, by name. All of it is sealed under the request's own slot and ends with it.
//
//	key    q/frozen/ ‖ HMAC(request key) ‖ name ‖ 0x00 ‖ part (4, big endian)     see subject.Subject.RowKey
//	value  sealed: last (1: 0x01 where no part follows) ‖ at most frozenPart bytes
//
// A change of state is bounded, so long things lie in parts; what is written again overwrites them in order.
const (
	frozenIdentity = "identity" // identityRow
	frozenJob      = "job"      // proof.Job
	frozenApproval = "approval" // text of the approval: it holds the job
	frozenMark     = "mark"     // suppression: what goes into the journal
	frozenBatches  = "batches"  // []string: batch ids by destination
	frozenNotices  = "notices:" // ‖ destination: [][]byte, sealed to the destination
	frozenMaterial = "material" // access.Material
)

const frozenPart = 512 << 10

// identityRow says whose request it is.
type identityRow struct {
	Slot subject.Slot `json:"slot"`
	Kind subject.Kind `json:"kind"`
	With subject.Slot `json:"with,omitempty"` // of an access of a device: the person who was signed in; 0: nobody
}

func frozenKey(own subject.Subject, name string, part int) []byte {
	suffix := append([]byte(name), 0)
	return own.RowKey(frozenTable, binary.BigEndian.AppendUint32(suffix, uint32(part)))
}

// freezeIn seals, inside t, something that fits into one part.
func freezeIn(t *state.Txn, own subject.Subject, name string, v any) error {
	plain, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("freezing %s: %w", name, err)
	}
	if len(plain) > frozenPart {
		return fmt.Errorf("freezing %s: %w", name, state.ErrTooLarge)
	}
	sealPart(t, own, name, 0, append([]byte{1}, plain...))
	return nil
}

func sealPart(t *state.Txn, own subject.Subject, name string, part int, plain []byte) {
	key := frozenKey(own, name, part)
	t.Set(key, own.Seal(frozenTable, key, plain))
}

// freeze seals something of any size, a part a change. It is there once the caller's own row says so.
func (r *Requests) freeze(ctx context.Context, own subject.Subject, name string, v any) error {
	plain, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("freezing %s: %w", name, err)
	}
	part := 0
	for chunk := range slices.Chunk(plain, frozenPart) { // JSON is never empty
		last := byte(0)
		if part*frozenPart+len(chunk) == len(plain) {
			last = 1
		}
		err := r.o.State.Update(ctx, func(t *state.Txn) error {
			sealPart(t, own, name, part, append([]byte{last}, chunk...))
			return nil
		})
		if err != nil {
			return fmt.Errorf("freezing %s: %w", name, err)
		}
		part++
		// Crash here: parts are there that no row speaks of. The step is done again and overwrites them.
	}
	return nil
}

// thaw opens what was frozen into v; found is false where nothing of the name was.
func (r *Requests) thaw(own subject.Subject, name string, v any) (found bool, err error) {
	var plain []byte
	err = r.o.State.View(func(s reader) error {
		for part := 0; ; part++ {
			key := frozenKey(own, name, part)
			sealed, err := s.Get(key)
			if errors.Is(err, state.ErrNotFound) && part == 0 {
				return nil
			}
			if err != nil {
				return err
			}
			opened, err := own.Open(frozenTable, key, sealed)
			if err != nil {
				return err
			}
			if len(opened) == 0 {
				return ErrStored
			}
			plain = append(plain, opened[1:]...)
			if opened[0] == 1 {
				found = true
				return nil
			}
		}
	})
	if err == nil && found && json.Unmarshal(plain, v) != nil {
		err = ErrStored
	}
	if err != nil {
		return false, fmt.Errorf("thawing %s: %w", name, err)
	}
	return found, nil
}

// own is the request's own slot: subject.ErrShredded once it was overwritten.
func (r *Requests) own(q *requestRow) (subject.Subject, error) {
	if q.Slot == 0 {
		return subject.Subject{}, subject.ErrShredded
	}
	s, err := r.o.Subjects.BySlot(q.Slot)
	if err == nil && s.Kind() != subject.Request {
		err = fmt.Errorf("%w: slot of request %s", ErrStored, q.ID)
	}
	return s, err
}

// whose is whose request it is: subject.ErrShredded where the subject, or the request's knowledge of it, is destroyed.
func (r *Requests) whose(q *requestRow) (subject.Subject, error) {
	own, err := r.own(q)
	if err != nil {
		return subject.Subject{}, err
	}
	var id identityRow
	found, err := r.thaw(own, frozenIdentity, &id)
	if err != nil {
		return subject.Subject{}, err
	}
	if !found {
		return subject.Subject{}, subject.ErrShredded
	}
	s, err := r.o.Subjects.BySlot(id.Slot)
	if err == nil && s.Kind() != id.Kind {
		err = fmt.Errorf("%w: subject of request %s", ErrStored, q.ID)
	}
	return s, err
}

// melt deletes what a request froze and overwrites its slot. It may be called again after a crash at any point.
func (r *Requests) melt(ctx context.Context, own subject.Subject) error {
	const chunk = 500 // keys a change
	for again := true; again; {
		err := r.o.State.Update(ctx, func(t *state.Txn) error {
			again = false
			var keys [][]byte
			err := t.Scan(own.RowKey(frozenTable, nil), func(key, _ []byte) error {
				if len(keys) == chunk {
					again = true
					return state.ErrStop
				}
				keys = append(keys, key)
				return nil
			})
			for _, key := range keys {
				t.Delete(key)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("deleting what was frozen: %w", err)
		}
	}
	// Crash here: the rows are gone and the slot is not. The request still names its slot, and the next pass goes on.
	if err := r.o.Subjects.Shred(ctx, own); err != nil {
		return fmt.Errorf("overwriting the request's slot: %w", err)
	}
	return nil
}
