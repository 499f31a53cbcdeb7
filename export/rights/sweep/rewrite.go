package sweep

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize"
)

// sweep reads a batch once: for the accesses it keeps what they ask for, for the erasures it makes the new object.
func (p *pass) sweep(ctx context.Context, st *stated, e errand) error {
	c, err := p.due(ctx, st, e.cutters)
	if err != nil {
		return err
	}
	if len(c.orders)+len(e.readers) == 0 {
		return nil
	}
	var d *draft
	if len(c.orders) > 0 {
		r, err := p.s.recipients(st.entry.Destination, st.batch)
		if err != nil {
			return err
		}
		if d, err = p.s.newDraft(r); err != nil {
			return err
		}
		defer d.file.Close()
	}
	plain, length, err := p.plain(ctx, st.batch)
	if err != nil {
		return err
	}
	defer plain.Close()
	if err := p.find(st, e.readers, plain, length); err != nil {
		return err
	}
	if d != nil {
		if err := cutInto(ctx, d, st.batch, plain, length, c); err != nil {
			return err
		}
	}
	p.finds.looked(&e, true)
	p.count(func(r *Report) { r.Scanned++ })
	switch {
	case d == nil:
		return nil
	case !c.changed():
		return p.unchanged(ctx, st, c)
	}
	return p.replace(ctx, st, c, d)
}

// find keeps what accesses ask for.
func (p *pass) find(st *stated, readers []*order, plain io.ReaderAt, length int64) error {
	if len(readers) == 0 {
		return nil
	}
	of := export.Pseudonyms{Devices: map[[16]byte]bool{}, Persons: map[[16]byte]bool{}}
	for _, o := range readers {
		maps.Copy(of.Devices, o.whose[st.entry.Destination].devices)
		maps.Copy(of.Persons, o.whose[st.entry.Destination].persons)
	}
	var failed error
	rows := make([]pseudonymize.Row, 0, findAtOnce)
	keep := func() {
		if failed == nil && !under(st.batch, rows) {
			failed = errRows
		}
		if failed == nil {
			failed = p.finds.take(readers, st.entry.Destination, rows)
		}
		rows = rows[:0]
	}
	n, err := export.FindRows(plain, length, of, func(row *pseudonymize.Row) {
		if rows = append(rows, *row); len(rows) == findAtOnce {
			keep()
		}
	})
	keep()
	switch {
	case err != nil:
		return err
	case failed == nil && n != st.batch.Rows:
		return errRows
	}
	return failed
}

// findAtOnce is how many rows of accesses are kept at a time.
const findAtOnce = 1000

// cutInto writes into d what c leaves of a batch. Retention concerns every row, so every row is read; else only those of the jobs' subjects are.
func cutInto(ctx context.Context, d *draft, b *export.Batch, plain io.ReaderAt, length int64, c *cutter) error {
	if !c.everybody() {
		return d.cut(b, plain, length, c)
	}
	return wholly(ctx, b, plain, length, func(rows []pseudonymize.Row) error {
		kept := rows[:0]
		for i := range rows {
			if c.row(&rows[i]) {
				kept = append(kept, rows[i])
			}
		}
		return d.write(kept)
	})
}

// due is the cutter of the jobs that may cut the batch now; a job that may not is refused, and its batch waits.
func (p *pass) due(ctx context.Context, st *stated, orders []*order) (*cutter, error) {
	now := p.s.o.Now().UTC()
	c := &cutter{}
	for _, o := range cutting(orders) {
		cut, err := o.cut(st.entry.Destination, st.batch, now)
		var why Reason
		switch {
		case errors.As(err, &why):
			if err := p.refuse(ctx, o.request(), why); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, err
		default:
			c.add(o, cut)
		}
	}
	return c, nil
}

// seen is the report of what was seen of a batch.
func (p *pass) seen(st *stated, c *cutter) proof.Rewrite {
	return proof.Rewrite{
		Version: 1, Batch: st.id, Before: st.batch.SHA256, Scanned: st.batch.Rows, Cut: c.byRequest(), At: p.s.o.Now().UTC(),
	}
}

// unchanged reports that no row was concerned.
func (p *pass) unchanged(ctx context.Context, st *stated, c *cutter) error {
	r := p.seen(st, c)
	r.Unchanged = true
	report, err := proof.SignRewrite(r, p.s.o.Key)
	if err != nil {
		return err
	}
	// What was seen stays true, whatever becomes of the report: objects only ever lose rows.
	if err := p.s.memory.met(st.id, doneRow{Destination: st.entry.Destination, Scanned: st.batch.Rows}, c.requests()...); err != nil {
		return err
	}
	// Crash here: the gateway offers the batch again, and it is read again.
	err = p.s.o.Gateway.Rewritten(ctx, st.id, report)
	if errors.Is(err, ErrRejected) { // another custodian was faster
		p.waits()
		return nil
	}
	if err != nil {
		return fmt.Errorf("reporting a batch: %w", err)
	}
	p.count(func(r *Report) { r.Unchanged++ })
	return nil
}

// replace puts a batch's new object and reports it.
func (p *pass) replace(ctx context.Context, st *stated, c *cutter, d *draft) error {
	now, err := d.finish(st.batch)
	if err != nil {
		return err
	}
	claim, err := p.s.o.Gateway.Claim(ctx, st.id, p.s.memory.name)
	switch {
	case errors.Is(err, ErrClaimed), errors.Is(err, ErrRejected):
		p.waits()
		return nil
	case err != nil:
		return fmt.Errorf("claiming a batch: %w", err)
	case claim.Generation <= st.generation || claim.Key != keyOf(st.prefix, claim.Generation):
		return refusal(FailedEntry, "the claim is not of a later object of the batch")
	}
	// Crash here: a generation is given out that nobody puts.
	b := st.batch
	row := rewriteRow{
		Batch: st.id, Destination: st.entry.Destination, Generation: claim.Generation, Scanned: b.Rows, Cut: c.byRequest(),
		Before: object{Key: b.Key, Version: b.Version, SHA256: b.SHA256},
	}
	if now != nil {
		now.Key = claim.Key
		if err := p.put(ctx, &row, d, now); err != nil {
			return err
		}
	}
	r := p.seen(st, c)
	r.Generation, r.Now = claim.Generation, now
	if row.Report, err = proof.SignRewrite(r, p.s.o.Key); err != nil {
		return err
	}
	if err := p.s.memory.open(&row); err != nil {
		return err
	}
	// Crash here: whether the report was sent nobody knows: it is sent again.
	return p.send(ctx, &row)
}

// put puts a new object, whose name and hash are remembered first.
func (p *pass) put(ctx context.Context, row *rewriteRow, d *draft, now *export.Batch) error {
	row.Now = &object{Key: now.Key, SHA256: now.SHA256}
	if err := p.s.memory.open(row); err != nil {
		return err
	}
	// Crash here, or below: the next pass deletes what was put.
	sum, err := hex.DecodeString(now.SHA256)
	if err != nil {
		return err
	}
	now.Version, err = p.s.o.Archive.Put(ctx, now.Key, d.file, now.Size, [32]byte(sum))
	if errors.Is(err, export.ErrExists) { // nothing of ours is there
		return errors.Join(refusal(FailedEntry, "the claimed name is taken"), p.s.memory.forget(row))
	}
	if err != nil {
		return err // it may be there all the same: the next round looks
	}
	row.Now.Version = now.Version
	return nil
}

// send sends the report of a rewrite.
func (p *pass) send(ctx context.Context, row *rewriteRow) error {
	err := p.s.o.Gateway.Rewritten(ctx, row.Batch, row.Report)
	switch {
	case errors.Is(err, ErrRejected): // it was claimed again, or its object has changed
		p.waits()
		_, err := p.drop(ctx, row) // or the next round does
		return err
	case err != nil:
		return fmt.Errorf("reporting a rewrite: %w", err)
	}
	return p.accepted(row)
}

func (p *pass) accepted(row *rewriteRow) error {
	// Crash here: the report is sent again, and accepted again.
	if err := p.s.memory.accepted(row); err != nil {
		return err
	}
	p.count(func(r *Report) {
		if row.Now == nil {
			r.Emptied++
		} else {
			r.Rewritten++
		}
		for _, cut := range row.Cut {
			r.Erased, r.Reduced = r.Erased+cut.Erased, r.Reduced+cut.Reduced
		}
	})
	return nil
}
