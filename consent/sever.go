package consent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// erasure is how far the erasure of a subject is. Its row, version 1, integers big-endian, stands from Suppress until ForgetSevered; slots are never
// reused:
//
//	"c/erasing/" ‖ slot(4)      version(1) ‖ until(8) ‖ records(4) ‖ kept(4) ‖ leaf(8)
type erasure struct {
	until   int64  // when the proofs that are kept go, Unix milliseconds
	records uint32 // deleted so far
	kept    uint32 // of which a stripped proof is kept
	leaf    int64  // of the deletion; unsevered until all is done
}

const (
	erasingPrefix  = "c/erasing/"
	erasureVersion = 1
	erasureLength  = 1 + 8 + 4 + 4 + 8
	unsevered      = -1
)

func erasureKey(slot subject.Slot) []byte {
	return append([]byte(erasingPrefix), be32(uint32(slot))...)
}

func (e *erasure) set(t *state.Txn, slot subject.Slot) {
	b := binary.BigEndian.AppendUint64([]byte{erasureVersion}, uint64(e.until))
	b = binary.BigEndian.AppendUint32(b, e.records)
	b = binary.BigEndian.AppendUint32(b, e.kept)
	t.Set(erasureKey(slot), binary.BigEndian.AppendUint64(b, uint64(e.leaf)))
}

func decodeErasure(b []byte) (erasure, error) {
	if len(b) != erasureLength || b[0] != erasureVersion {
		return erasure{}, fmt.Errorf("reading an erasure: %w", ErrStored)
	}
	return erasure{
		until:   int64(binary.BigEndian.Uint64(b[1:])),
		records: binary.BigEndian.Uint32(b[9:]), kept: binary.BigEndian.Uint32(b[13:]), leaf: int64(binary.BigEndian.Uint64(b[17:])),
	}, nil
}

// readErasure is state.ErrNotFound where nobody erases the subject.
func readErasure(r interface{ Get([]byte) ([]byte, error) }, slot subject.Slot) (erasure, error) {
	row, err := r.Get(erasureKey(slot))
	if err != nil {
		return erasure{}, err
	}
	return decodeErasure(row)
}

// Severance is what Sever left.
type Severance struct {
	Kept  int       // stripped proofs of consent (GDPR Art. 17(3)(e))
	Until time.Time // when they go (C12); zero where there are none
	Leaf  int64     // of the deletion, in the evidence log
}

func (e *erasure) severance() Severance {
	x := Severance{Kept: int(e.kept), Leaf: e.leaf}
	if e.kept > 0 {
		x.Until = time.UnixMilli(e.until).UTC()
	}
	return x
}

// erasures are the subjects that are suppressed and have a standing still: the gate takes them for nobody.
type erasures struct {
	mu    sync.RWMutex
	slots map[subject.Slot]struct{} // guarded by mu
}

func (x *erasures) add(slot subject.Slot) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.slots == nil {
		x.slots = map[subject.Slot]struct{}{}
	}
	x.slots[slot] = struct{}{}
}

func (x *erasures) drop(slot subject.Slot) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.slots, slot)
}

func (x *erasures) has(slot subject.Slot) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	_, ok := x.slots[slot]
	return ok
}

// loadErasures finds the subjects whose erasure a restart interrupted.
func (l *Ledger) loadErasures() error {
	return l.state.View(func(r state.Reader) error {
		return r.Scan([]byte(erasingPrefix), func(key, row []byte) error {
			e, err := decodeErasure(row)
			if err != nil || len(key) != len(erasingPrefix)+4 {
				return fmt.Errorf("reading an erasure: %w", ErrStored)
			}
			if e.leaf == unsevered {
				l.erasing.add(subject.Slot(binary.BigEndian.Uint32(key[len(erasingPrefix):])))
			}
			return nil
		})
	})
}

// alive refuses, inside the writer, to write about a subject whose erasure has begun, earlier in the same group too: subject.ErrShredded.
func (l *Ledger) alive(t *state.Txn, slot subject.Slot) error {
	_, err := t.Get(erasureKey(slot))
	switch {
	case err == nil:
		return subject.ErrShredded
	case !errors.Is(err, state.ErrNotFound):
		return fmt.Errorf("looking for an erasure: %w", err)
	}
	_, err = l.subjects.BySlot(slot)
	return err
}

// Alive is subject.ErrShredded once the erasure of the subject has begun: whoever writes about it inside t asks first.
func (l *Ledger) Alive(t *state.Txn, s subject.Subject) error { return l.alive(t, s.Slot()) }

// Suppress revokes, inside t, everything of the subject: from the commit on, and over restarts, no event of it is admitted, no intent with it
// commits, and nothing is recorded about it (subject.ErrShredded). Its rows stay readable to History and Sever. Idempotent.
func (l *Ledger) Suppress(t *state.Txn, s subject.Subject) error {
	if _, err := l.suppress(t, s); err != nil {
		return fmt.Errorf("suppressing subject: %w", err)
	}
	return nil
}

func (l *Ledger) suppress(t *state.Txn, s subject.Subject) (erasure, error) {
	slot := s.Slot()
	e, err := readErasure(t, slot)
	if !errors.Is(err, state.ErrNotFound) {
		return e, err
	}
	if _, err := l.subjects.BySlot(slot); err != nil { // severed long ago
		return erasure{}, err
	}
	e = erasure{until: l.proofRetention.AddTo(l.now()).UnixMilli(), leaf: unsevered} // C12: the processing ends here
	e.set(t, slot)
	t.OnCommit(func() {
		l.erasing.add(slot)    // before the standing in memory, which may be dropped and read again at any time
		l.warm.put(slot, gone) // before the new sequence: see Ledger.sequence
	})
	return e, l.revoke(t, slot, []string{""})
}

// Sever keeps stripped proofs of the subject's consents under H(secret of the receipt), deletes its rows with a deletion leaf, and shreds its slot.
// It works in chunks, and may be called again after a failure or a crash at any point: it ends in the same state and says the same. A subject that
// was not suppressed is, first. Once ForgetSevered was called: subject.ErrShredded.
func (l *Ledger) Sever(ctx context.Context, s subject.Subject) (Severance, error) {
	for e := (erasure{leaf: unsevered}); e.leaf == unsevered; {
		err := l.state.Update(ctx, func(t *state.Txn) (err error) {
			if e, err = l.suppress(t, s); err != nil || e.leaf != unsevered {
				return err
			}
			return l.severSome(t, s, &e)
		})
		if err != nil {
			return Severance{}, fmt.Errorf("severing subject: %w", err)
		}
		// Crash here: each record that is gone was counted, and its proof kept, in one change. The next call goes on with the others.
	}
	// Crash here: nobody finds the subject, and OpenRegistry overwrites its slot. The next caller asks Severed.
	x, _, err := l.Severed(ctx, s.Slot())
	return x, err
}

// severSome deletes one chunk of records, and with the last one all that leads to the subject.
func (l *Ledger) severSome(t *state.Txn, s subject.Subject, e *erasure) error {
	t.Delete(s.RowKey(standingTable, nil)) // also an unreadable one: it does not stop an erasure
	more, err := l.severLinks(t, s)
	if err == nil && !more {
		more, err = l.strip(t, s, e)
	}
	if err != nil {
		return err
	}
	if more {
		e.set(t, s.Slot())
		return nil
	}
	e.leaf, err = l.appendDeletion(t, map[string]int{"records": int(e.records), "proofs_kept": int(e.kept)})
	if err != nil {
		return err
	}
	e.set(t, s.Slot())
	t.OnCommit(func() { l.erasing.drop(s.Slot()) })
	return l.subjects.Sever(t, s)
}

// appendDeletion appends a leaf that says how many rows of which kind were deleted (C10).
func (l *Ledger) appendDeletion(t *state.Txn, counts map[string]int) (leaf int64, err error) {
	c := core{Version: recordVersion, Event: recordedEvent{Type: eventDeletion, Time: utcMillis(l.now())}, Counts: counts}
	if c.RecordID, err = newRecordID(l.random); err != nil {
		return 0, err
	}
	return l.appendAlone(t, &c, &strippable{})
}

// Severed is what Sever left of the subject in a slot: for a caller that was not there when Sever answered and cannot find the subject any more. It
// overwrites the slot where Sever could not. ok is false before Sever is done and after ForgetSevered.
func (l *Ledger) Severed(ctx context.Context, slot subject.Slot) (x Severance, ok bool, err error) {
	var e erasure
	err = l.state.View(func(r state.Reader) (err error) {
		e, err = readErasure(r, slot)
		return err
	})
	switch {
	case errors.Is(err, state.ErrNotFound), err == nil && e.leaf == unsevered:
		return Severance{}, false, nil
	case err != nil:
		return Severance{}, false, fmt.Errorf("reading severance: %w", err)
	}
	if err := l.subjects.Overwrite(ctx, slot); err != nil {
		return Severance{}, false, fmt.Errorf("severing subject: %w", err)
	}
	return e.severance(), true, nil
}

// ForgetSevered drops, inside t, what Severed answers: the caller has it in the same change. It keeps what is not severed yet.
func (l *Ledger) ForgetSevered(t *state.Txn, slot subject.Slot) error {
	e, err := readErasure(t, slot)
	switch {
	case errors.Is(err, state.ErrNotFound), err == nil && e.leaf == unsevered:
		return nil
	case err != nil:
		return fmt.Errorf("forgetting severance: %w", err)
	}
	t.Delete(erasureKey(slot))
	return nil
}
