package export

import (
	"fmt"

	"github.com/octroi/octroi/consent/state"
)

// Sealed are the batches of a destination as they are now, in the order in which they were sealed, of the stream's numbers after `after` up to and
// with last: at most limit entries of the stream are looked at. The order is also that of receipt. last is the highest number that was.
func (x *Index) Sealed(destination string, after uint64, limit int) (rows []BatchRow, last uint64, err error) {
	last = after
	err = x.state.View(func(r state.Reader) error {
		published, err := readPublished(r, destination)
		if err != nil {
			return err
		}
		for ; last < published && last-after < uint64(limit); last++ {
			entry, err := readStreamRow(r, destination, last+1)
			if err != nil {
				return err
			}
			if entry.kind() != BatchEntry {
				continue
			}
			id, err := ParseBatchID(entry.Batch)
			if err != nil {
				return fmt.Errorf("%w: batch of stream entry %d", ErrRow, last+1)
			}
			row, err := readBatchRow(r, id)
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return nil
	})
	if err != nil {
		return nil, after, fmt.Errorf("reading batches: %w", err)
	}
	return rows, last, nil
}
