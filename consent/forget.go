package consent

import (
	"context"
	"errors"
	"fmt"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// forgetChunk bounds the rows that one change deletes: a change of state is bounded.
const forgetChunk = 1000

// Forget erases the subject inside the gateway: revokes everything, deletes its rows with a deletion leaf, and shreds its slot. It may be
// called again after a failure or a crash at any point, and ends in the same state.
func (l *Ledger) Forget(ctx context.Context, s subject.Subject) error {
	if !s.Exists() {
		return subject.ErrUnknown
	}
	if err := l.state.Update(ctx, func(t *state.Txn) error { return l.forget(t, s) }); err != nil {
		return fmt.Errorf("forgetting subject: %w", err)
	}
	// Crash here or below: everything of the subject is revoked, and its standing is gone; the caller, who was not answered, calls again.
	for again := true; again; {
		err := l.state.Update(ctx, func(t *state.Txn) (err error) {
			again, err = deleteRows(t, s.RowKey(recordTable, nil), func([]byte) bool { return true })
			return err
		})
		if err != nil {
			return fmt.Errorf("deleting records: %w", err)
		}
	}
	if err := l.subjects.Shred(ctx, s); err != nil {
		return fmt.Errorf("forgetting subject: %w", err)
	}
	return nil
}

// forget revokes everything and deletes the standing. Where there is no standing a call before this one did it.
func (l *Ledger) forget(t *state.Txn, s subject.Subject) error {
	row, err := readStandingRow(t, s)
	if errors.Is(err, state.ErrNotFound) && l.revoked.erasing(s.Slot()) {
		return nil
	}
	records := 0
	if err == nil {
		records = int(row.Records)
	}
	// An unreadable standing does not stop an erasure.
	t.Delete(s.RowKey(standingTable, nil))
	t.OnCommit(func() { l.warm.put(s.Slot(), nobody) }) // before the new sequence: see Ledger.sequence
	c := core{
		Version: recordVersion, Event: recordedEvent{Type: eventDeletion, Time: utcMillis(l.now())},
		Counts: map[string]int{"records": records},
	}
	if c.RecordID, err = newRecordID(l.random); err != nil {
		return err
	}
	if _, err := l.appendAlone(t, &c, &strippable{}); err != nil { // C10: deletion appends a leaf
		return err
	}
	return l.revoke(t, s.Slot(), []string{""})
}

// deleteRows deletes, inside the writer, the first rows under prefix for as long as those are wanted; more says that it stopped at the bound of
// one change.
func deleteRows(t *state.Txn, prefix []byte, wanted func(key []byte) bool) (more bool, err error) {
	var keys [][]byte
	err = t.Scan(prefix, func(key, _ []byte) error {
		if len(keys) == forgetChunk || !wanted(key) {
			return state.ErrStop
		}
		keys = append(keys, append([]byte(nil), key...))
		return nil
	})
	for _, key := range keys {
		t.Delete(key)
	}
	return len(keys) == forgetChunk, err
}
