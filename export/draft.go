package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/octroi/octroi/pseudonymize"
)

// draft is a batch before its intent. It is written to the outbox while the spool is read, so that rows are in memory once, and not all.
type draft struct {
	id       BatchID
	sequence uint64 // the ledger's revocation sequence, read before the first event was regated
	from     uint64 // the cursor it begins at
	next     uint64 // the cursor after it; equal to from: the spool had nothing
	limit    int    // rows at which it is cut

	first, last    uint64 // spool positions of the first and the last event looked at
	hour           int64  // of receipt of all of them, hours since 1970
	policy         [32]byte
	rows           int
	oldest, newest time.Time // of received_at, as the rows have it
	holds          holds
	fates          [4]int // events by fate

	parcel *parcel // nil while there is no row
	sealed io.WriteCloser
	writer *RowWriter
	size   int64 // of the sealed object, bytes
	sha256 [32]byte
}

// draft makes the outbox file of the next batch from the spool in [from, upTo). A draft without rows has no file.
func (s *Shipper) draft(ctx context.Context, upTo uint64, limit int) (*draft, error) {
	from := s.cursor.Load()
	// The sequence comes before the first look at RevokedAfter: a revocation in between is seen twice rather than never.
	d := &draft{id: newBatchID(), sequence: s.o.Revocations.Sequence(), from: from, next: from, limit: limit}
	err := s.gate().regate(ctx, from, upTo, func(c *chunk) (bool, error) { return s.add(d, c) })
	if errors.Is(err, errUnreadable) && d.next > d.from {
		err = nil // the batch ends before it; the next begins with it, and fails
	}
	if err == nil {
		err = d.close()
	}
	if err != nil {
		if d.parcel != nil {
			err = errors.Join(err, d.parcel.abandon())
		}
		return nil, fmt.Errorf("drafting batch: %w", err)
	}
	d.holds.compact()
	return d, nil
}

// add takes the records of c up to where the batch is cut; more is false when it was.
func (s *Shipper) add(d *draft, c *chunk) (more bool, err error) {
	if d.next == d.from {
		d.first, d.hour = c.marks[0].position, c.marks[0].hour
	}
	rows := 0
	more = true
	for _, m := range c.marks {
		// Ranges are cut at the UTC hour of receipt, objects also where the policy changes.
		if m.hour != d.hour || m.fate == kept && !d.takes(&c.rows[rows], rows) {
			more = false
			break
		}
		if m.fate == kept {
			rows++
		}
		d.fates[m.fate]++
		d.last, d.next = m.position, m.position+1
	}
	if err := s.write(d, c.rows[:rows]); err != nil {
		return false, err
	}
	// What is in the open row group is not yet written: limit bounds it by the experience of earlier batches.
	return more && (d.parcel == nil || d.parcel.size < s.o.TargetBytes), nil
}

// takes says whether row, the n-th of a chunk, still fits.
func (d *draft) takes(row *pseudonymize.Row, n int) bool {
	if d.rows+n == 0 {
		d.policy = row.Policy
	}
	return d.rows+n < d.limit && row.Policy == d.policy
}

func (s *Shipper) write(d *draft, rows []pseudonymize.Row) (err error) {
	if len(rows) == 0 {
		return nil
	}
	if d.parcel == nil {
		if d.parcel, err = s.outbox.create(d.id); err != nil {
			return fmt.Errorf("creating outbox file: %w", err)
		}
		if d.sealed, err = Seal(d.parcel, s.o.Recipients); err != nil {
			return err
		}
		d.writer = NewRowWriter(d.sealed)
		d.oldest, d.newest = rows[0].ReceivedAt, rows[0].ReceivedAt
	}
	for i := range rows {
		r := &rows[i]
		d.holds.add(r)
		if r.ReceivedAt.Before(d.oldest) {
			d.oldest = r.ReceivedAt
		}
		if r.ReceivedAt.After(d.newest) {
			d.newest = r.ReceivedAt
		}
	}
	d.rows += len(rows)
	return d.writer.Write(rows)
}

// close makes the outbox file complete and durable.
func (d *draft) close() (err error) {
	if d.parcel == nil {
		return nil
	}
	if err := d.writer.Close(); err != nil {
		return err
	}
	if err := d.sealed.Close(); err != nil {
		return fmt.Errorf("sealing: %w", err)
	}
	d.size, d.sha256, err = d.parcel.close()
	return err
}

// seen is how many spooled events were looked at.
func (d *draft) seen() (n int) {
	for _, f := range d.fates {
		n += f
	}
	return n
}

// purposes are those of the rows, by name.
func (d *draft) purposes() []string { return slices.Sorted(slices.Values(d.holds.purposes)) }
