package sweep

import (
	"cmp"
	"crypto/sha256"
	"hash"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize"
)

// cutter takes the rows of several jobs out of one batch: one after another, so that a row that is dropped counts for the first that concerns it.
type cutter struct {
	orders []*order
	cuts   []export.Cut
	counts []proof.Cut
}

// cutting is orders as their cuts must come one after another (see export.Cut): whole rows first, since a row that has lost a pseudonym is no longer
// that person's; then purposes, then retention.
func cutting(orders []*order) []*order {
	rank := func(o *order) int {
		switch {
		case o.schedule != nil:
			return 2
		case len(o.item.Job.Purposes) > 0:
			return 1
		}
		return 0
	}
	orders = slices.Clone(orders)
	slices.SortStableFunc(orders, func(a, b *order) int { return cmp.Compare(rank(a), rank(b)) })
	return orders
}

func (c *cutter) add(o *order, cut export.Cut) {
	c.orders, c.cuts, c.counts = append(c.orders, o), append(c.cuts, cut), append(c.counts, proof.Cut{})
}

func (c *cutter) requests() []string {
	all := make([]string, len(c.orders))
	for i, o := range c.orders {
		all[i] = o.request()
	}
	return all
}

// row says whether row stays, as it is changed in place, and counts.
func (c *cutter) row(row *pseudonymize.Row) (keep bool) {
	for i := range c.cuts {
		keep, changed := c.cuts[i].Row(row)
		switch {
		case !keep:
			c.counts[i].Erased++
			return false
		case changed:
			c.counts[i].Reduced++
		}
	}
	return true
}

// changed says whether any row was concerned.
func (c *cutter) changed() bool {
	return slices.ContainsFunc(c.counts, func(n proof.Cut) bool { return n != proof.Cut{} })
}

// byRequest has every job, also one that met no row: the gateway counts the batch as done for it.
func (c *cutter) byRequest() map[string]proof.Cut {
	all := make(map[string]proof.Cut, len(c.orders))
	for i, o := range c.orders {
		all[o.request()] = c.counts[i]
	}
	return all
}

// draft is a batch's new object on its way.
type draft struct {
	recipients []string
	file       *os.File
	hash       hash.Hash
	sealed     io.WriteCloser
	writer     *export.RowWriter
	rows       int
	from, to   time.Time // of received_at
	purposes   map[string]bool
}

func (s *Sweep) newDraft(r export.Recipients) (*draft, error) {
	f, err := s.temporary()
	if err != nil {
		return nil, err
	}
	d := &draft{recipients: r.Names, file: f, hash: sha256.New(), purposes: map[string]bool{}}
	if d.sealed, err = export.Seal(io.MultiWriter(f, d.hash), r); err != nil {
		f.Close()
		return nil, err
	}
	d.writer = export.NewRowWriter(d.sealed)
	return d, nil
}

func (d *draft) write(rows []pseudonymize.Row) error {
	for i := range rows {
		r := &rows[i]
		if d.rows == 0 {
			d.from, d.to = r.ReceivedAt, r.ReceivedAt
		}
		d.rows++
		if r.ReceivedAt.Before(d.from) {
			d.from = r.ReceivedAt
		}
		if r.ReceivedAt.After(d.to) {
			d.to = r.ReceivedAt
		}
		for _, g := range r.Grants {
			d.purposes[g.Purpose] = true
		}
	}
	return d.writer.Write(rows)
}

// finish is the batch that the new object is, without key and version; nil where no row is left.
func (d *draft) finish(before *export.Batch) (*export.Batch, error) {
	if d.rows == 0 {
		return nil, nil
	}
	if err := d.writer.Close(); err != nil {
		return nil, err
	}
	if err := d.sealed.Close(); err != nil {
		return nil, err
	}
	n, err := size(d.file)
	if err != nil {
		return nil, err
	}
	now := *before
	now.Key, now.Version, now.SHA256, now.Size = "", "", hexSum(d.hash), n
	now.Rows, now.From, now.To, now.Purposes, now.Recipients = d.rows, d.from, d.to, slices.Sorted(maps.Keys(d.purposes)), d.recipients
	return &now, nil
}
