package sweep

import (
	"cmp"
	"crypto/sha256"
	"hash"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// cutter takes the rows of several jobs out of one batch: one after another, so that a row that is dropped counts for the first that concerns it.
type cutter struct {
	orders []*order
	cuts   []export.Cut
	counts []proof.Cut
}

// cutting is orders as their cuts must come one after another (see export.Cut): whole rows first, since a row that has lost a pseudonym is no longer
// that person's; then purposes, that of links last of them, then retention.
func cutting(orders []*order) []*order {
	rank := func(o *order) int {
		switch {
		case o.schedule != nil:
			return 3
		case slices.Contains(o.item.Job.Purposes, policies.Linking):
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
	keep, _ = c.verdict(row)
	return keep
}

func (c *cutter) verdict(row *pseudonymize.Row) (keep, changed bool) {
	for i := range c.cuts {
		keep, some := c.cuts[i].Row(row)
		switch {
		case !keep:
			c.counts[i].Erased++
			return false, true
		case some:
			c.counts[i].Reduced++
			changed = true
		}
	}
	return true, changed
}

// everybody says whether rows are cut whoever they are of: by retention.
func (c *cutter) everybody() bool {
	return slices.ContainsFunc(c.cuts, func(cut export.Cut) bool { return len(cut.Expired) > 0 })
}

// pseudonyms are those of all its jobs.
func (c *cutter) pseudonyms() export.Pseudonyms {
	all := export.Pseudonyms{Devices: map[[16]byte]bool{}, Persons: map[[16]byte]bool{}}
	for i := range c.cuts {
		maps.Copy(all.Devices, c.cuts[i].Devices)
		maps.Copy(all.Persons, c.cuts[i].Persons)
	}
	return all
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
	left       export.Remains    // what was written
	writer     *export.RowWriter // of write; nil: not used
	purposes   map[string]bool   // of what it wrote
}

func (s *Sweep) newDraft(r export.Recipients) (*draft, error) {
	f, err := export.Nameless(s.o.Temp)
	if err != nil {
		return nil, err
	}
	d := &draft{recipients: r.Names, file: f, hash: sha256.New(), purposes: map[string]bool{}}
	if d.sealed, err = export.Seal(io.MultiWriter(f, d.hash), r); err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

// cut writes a batch's file without what c takes.
func (d *draft) cut(b *export.Batch, plain io.ReaderAt, length int64, c *cutter) (err error) {
	other := false
	d.left, err = export.CutRows(d.sealed, plain, length, c.pseudonyms(), func(row *pseudonymize.Row) (keep, changed bool) {
		other = other || !under(b, []pseudonymize.Row{*row})
		return c.verdict(row)
	})
	if err == nil && (other || d.left.Of != b.Rows) {
		err = errRows
	}
	return err
}

// write writes rows one by one.
func (d *draft) write(rows []pseudonymize.Row) error {
	if d.writer == nil {
		d.writer = export.NewRowWriter(d.sealed)
	}
	for i := range rows {
		r := &rows[i]
		if d.left.Rows == 0 {
			d.left.From, d.left.To = r.ReceivedAt, r.ReceivedAt
		}
		d.left.Rows++
		if r.ReceivedAt.Before(d.left.From) {
			d.left.From = r.ReceivedAt
		}
		if r.ReceivedAt.After(d.left.To) {
			d.left.To = r.ReceivedAt
		}
		for _, g := range r.Grants {
			d.purposes[g.Purpose] = true
		}
	}
	return d.writer.Write(rows)
}

// finish is the batch that the new object is, without key and version; nil where no row is left.
func (d *draft) finish(before *export.Batch) (*export.Batch, error) {
	if d.left.Rows == 0 {
		return nil, nil
	}
	if d.writer != nil {
		if err := d.writer.Close(); err != nil {
			return nil, err
		}
		d.left.Purposes = slices.Sorted(maps.Keys(d.purposes))
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
	now.Rows, now.From, now.To, now.Purposes, now.Recipients = d.left.Rows, d.left.From, d.left.To, d.left.Purposes, d.recipients
	return &now, nil
}
