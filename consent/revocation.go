package consent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// sequenceKey and revocationPrefix are drawn on Ledger.
var (
	sequenceKey      = []byte("r/n")
	revocationPrefix = []byte("r/s")
)

// revocations is the set of recent revocations: for each subject and purpose the highest sequence.
type revocations struct {
	// least holds, for all subjects that share a place, the highest sequence: most questions end here, without a lock.
	least [1 << 14]atomic.Uint64

	// forgotten is the highest sequence whose revocation may have been dropped: of what is older nobody can say that it still stands.
	forgotten atomic.Uint64

	mu      sync.RWMutex
	highest map[revocation]uint64 // guarded by mu
}

// revocation is a key of the set; purpose "" stands for all purposes.
type revocation struct {
	slot    subject.Slot
	purpose string
}

func (r *revocations) place(slot subject.Slot) *atomic.Uint64 {
	return &r.least[slot%subject.Slot(len(r.least))]
}

// add is the writer's, and Open's.
func (r *revocations) add(x revocation, sequence uint64) {
	r.mu.Lock()
	if r.highest == nil {
		r.highest = map[revocation]uint64{}
	}
	r.highest[x] = max(sequence, r.highest[x])
	r.mu.Unlock()
	p := r.place(x.slot)
	p.Store(max(sequence, p.Load())) // one writer: no other adds meanwhile
}

func (r *revocations) after(slot subject.Slot, purpose string, sequence uint64) bool {
	if sequence < r.forgotten.Load() {
		return true
	}
	if r.place(slot).Load() <= sequence {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.highest[revocation{slot, purpose}] > sequence || r.highest[revocation{slot, ""}] > sequence
}

// forget drops what is not after sequence. The places keep their marks, which cost a look into the map and nothing else.
func (r *revocations) forget(sequence uint64) {
	r.forgotten.Store(max(sequence, r.forgotten.Load())) // one writer, and first: nothing is dropped before it is known to be
	r.mu.Lock()
	defer r.mu.Unlock()
	for x, n := range r.highest {
		if n <= sequence {
			delete(r.highest, x)
		}
	}
}

// Sequence is the revocation sequence: it grows by one with each withdrawal, refusal of what stood, objection, and erasure.
func (l *Ledger) Sequence() uint64 { return l.sequence.Load() }

// RevokedAfter says whether purpose was revoked for the subject in slot after sequence. Lock-free look in a small set. It is true as well
// where sequence is older than what ForgetRevocations dropped: what cannot be known is taken for revoked.
func (l *Ledger) RevokedAfter(slot subject.Slot, purpose string, sequence uint64) bool {
	return l.revoked.after(slot, purpose, sequence)
}

// RevokedSince calls fn, inside the writer, for each revocation after sequence; a batch's intent fails on one that is its own.
// purpose "" stands for all purposes. It is ErrForgotten where rows after sequence were dropped by ForgetRevocations.
func (l *Ledger) RevokedSince(t *state.Txn, sequence uint64, fn func(slot subject.Slot, purpose string) error) error {
	last, err := lastSequence(t)
	if err != nil {
		return err
	}
	for n := sequence + 1; n <= last; n++ {
		row, err := t.Get(revocationKey(n))
		if errors.Is(err, state.ErrNotFound) {
			return ErrForgotten
		}
		if err != nil {
			return fmt.Errorf("reading revocation: %w", err)
		}
		x, err := decodeRevocation(row)
		if err != nil {
			return err
		}
		if err := fn(x.slot, x.purpose); err != nil {
			return err
		}
	}
	return nil
}

// ForgetRevocations drops the rows of revocations up to and including sequence: no spooled event is older.
func (l *Ledger) ForgetRevocations(ctx context.Context, sequence uint64) error {
	for more := true; more; {
		err := l.state.Update(ctx, func(t *state.Txn) (err error) {
			more, err = deleteRows(t, revocationPrefix, func(key []byte) bool { return revocationSequence(key) <= sequence })
			if !more {
				t.OnCommit(func() { l.revoked.forget(sequence) })
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("forgetting revocations: %w", err)
		}
	}
	return nil
}

// deleteChunk bounds the rows that one change deletes: a change of state is bounded.
const deleteChunk = 1000

// deleteRows deletes, inside the writer, the first rows under prefix for as long as those are wanted; more says that it stopped at the bound of
// one change.
func deleteRows(t *state.Txn, prefix []byte, wanted func(key []byte) bool) (more bool, err error) {
	var keys [][]byte
	err = t.Scan(prefix, func(key, _ []byte) error {
		if len(keys) == deleteChunk || !wanted(key) {
			return state.ErrStop
		}
		keys = append(keys, append([]byte(nil), key...))
		return nil
	})
	for _, key := range keys {
		t.Delete(key)
	}
	return len(keys) == deleteChunk, err
}

// revoke appends revocations inside the writer. Its OnCommit must come after that of the standing: see Ledger.sequence.
func (l *Ledger) revoke(t *state.Txn, slot subject.Slot, purposes []string) error {
	if len(purposes) == 0 {
		return nil
	}
	last, err := lastSequence(t)
	if err != nil {
		return err
	}
	for i, purpose := range purposes {
		t.Set(revocationKey(last+uint64(i)+1), append(binary.BigEndian.AppendUint32(nil, uint32(slot)), purpose...))
	}
	end := last + uint64(len(purposes))
	t.Set(sequenceKey, binary.BigEndian.AppendUint64(nil, end))
	t.OnCommit(func() {
		for i, purpose := range purposes {
			l.revoked.add(revocation{slot, purpose}, last+uint64(i)+1)
		}
		l.sequence.Store(end)
	})
	return nil
}

// loadRevocations rebuilds the set and the sequence.
func (l *Ledger) loadRevocations() error {
	return l.state.View(func(r state.Reader) error {
		last, err := lastSequence(r)
		if err != nil {
			return err
		}
		l.sequence.Store(last)
		next := last + 1 // the row that must be there if nothing was dropped before it
		err = r.Scan(revocationPrefix, func(key, row []byte) error {
			x, err := decodeRevocation(row)
			if err != nil || len(key) != len(revocationPrefix)+8 {
				return ErrStored
			}
			next = min(next, revocationSequence(key))
			l.revoked.add(x, revocationSequence(key))
			return nil
		})
		l.revoked.forgotten.Store(max(next, 1) - 1)
		return err
	})
}

func lastSequence(r interface{ Get([]byte) ([]byte, error) }) (uint64, error) {
	row, err := r.Get(sequenceKey)
	switch {
	case errors.Is(err, state.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("reading revocation sequence: %w", err)
	case len(row) != 8:
		return 0, fmt.Errorf("reading revocation sequence: %w", ErrStored)
	}
	return binary.BigEndian.Uint64(row), nil
}

func revocationKey(sequence uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), revocationPrefix...), sequence)
}

func revocationSequence(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

func decodeRevocation(row []byte) (revocation, error) {
	if len(row) < 4 {
		return revocation{}, fmt.Errorf("reading revocation: %w", ErrStored)
	}
	return revocation{subject.Slot(binary.BigEndian.Uint32(row)), string(row[4:])}, nil
}
