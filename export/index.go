package export

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// indexChunk is how many rows of the index are written in one change: the writer's transactions are bounded, and consents wait behind them.
const indexChunk = 2000

// Index finds the batches that hold rows of a subject. Safe for concurrent use.
//
//	key    i/ ‖ HMAC(subject key, "row:i/")[:16] ‖ batch id (16)      see subject.Subject.RowKey
//	value  empty
//
// The key dies with the subject. A row is valid when its batch has an intent, that is a BatchRow; others are drafts that were given up.
type Index struct{ state *state.Store }

// NewIndex reads the index in st.
func NewIndex(st *state.Store) *Index { return &Index{st} }

const indexTable = "i/"

// Batches are the batches, of all destinations, that hold rows of s, in the order of their ids.
func (x *Index) Batches(s subject.Subject) ([]BatchRow, error) {
	var rows []BatchRow
	prefix := s.RowKey(indexTable, nil)
	err := x.state.View(func(r state.Reader) error {
		return r.Scan(prefix, func(key, _ []byte) error {
			if len(key) != len(prefix)+len(BatchID{}) {
				return fmt.Errorf("%w: index", ErrRow)
			}
			row, err := readBatchRow(r, BatchID(key[len(prefix):]))
			if errors.Is(err, ErrNoBatch) {
				return nil
			}
			rows = append(rows, row)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading index: %w", err)
	}
	return rows, nil
}

// Batch is a batch by its id: ErrNoBatch where no intent has it.
func (x *Index) Batch(id BatchID) (row BatchRow, err error) {
	err = x.state.View(func(r state.Reader) error {
		row, err = readBatchRow(r, id)
		return err
	})
	return row, err
}

// Upto are the batches that hold rows of s and were sealed up to the heads (see Heads) of their destinations; those that a rewrite left
// empty, and those of other destinations, are not among them.
func (x *Index) Upto(s subject.Subject, heads map[string]uint64) ([]BatchRow, error) {
	rows, err := x.Batches(s)
	return slices.DeleteFunc(rows, func(row BatchRow) bool { return row.Empty || row.Number > heads[row.Destination] }), err
}

// Unindexed are the batches of the destinations that a restored gateway adopted from the store and that still hold rows, in the order of
// their ids: nobody knows whose, so that what is asked of a subject's batches is asked of them too. It reads no others.
func (x *Index) Unindexed(destinations ...string) (rows []BatchRow, err error) {
	err = x.state.View(func(r state.Reader) error {
		return r.Scan([]byte(unindexedPrefix), func(key, _ []byte) error {
			if len(key) != len(unindexedPrefix)+len(BatchID{}) {
				return fmt.Errorf("%w: unindexed batch", ErrRow)
			}
			row, err := readBatchRow(r, BatchID(key[len(unindexedPrefix):]))
			if err == nil && slices.Contains(destinations, row.Destination) {
				rows = append(rows, row)
			}
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading unindexed batches: %w", err)
	}
	return rows, nil
}

// writeIndex makes the index rows of a draft durable, some at a time.
func (s *Shipper) writeIndex(ctx context.Context, d *draft) error {
	return s.changeIndex(ctx, d, fmt.Errorf("%w: it was destroyed", errRevoked), func(t *state.Txn, key []byte) { t.Set(key, []byte{}) })
}

// dropIndex deletes the index rows of a draft that is given up: many withdrawals must not make state grow. Rows of a subject that was
// destroyed meanwhile stay, and lead nowhere, as do those that a crash left.
func (s *Shipper) dropIndex(ctx context.Context, d *draft) error {
	return s.changeIndex(ctx, d, nil, func(t *state.Txn, key []byte) { t.Delete(key) })
}

// changeIndex goes through the index rows of a draft. A subject that was destroyed ends it with the error destroyed, or is passed over where
// that is nil.
func (s *Shipper) changeIndex(ctx context.Context, d *draft, destroyed error, change func(t *state.Txn, key []byte)) error {
	for slots := range slices.Chunk(d.holds.slots(), indexChunk) {
		keys := make([][]byte, 0, len(slots))
		for _, slot := range slots {
			sub, err := s.o.Subjects.BySlot(slot)
			if errors.Is(err, subject.ErrShredded) {
				if destroyed != nil {
					return destroyed
				}
				continue
			}
			if err != nil {
				return fmt.Errorf("indexing batch: %w", err)
			}
			keys = append(keys, sub.RowKey(indexTable, d.id[:]))
		}
		err := s.o.State.Update(ctx, func(t *state.Txn) error {
			for _, k := range keys {
				change(t, k)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("indexing batch: %w", err)
		}
		// Crash here: some of the index rows are written, for a batch that does not exist. As in commit.
	}
	return nil
}
