package sweep

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize"
)

// maxVersions bounds the versions of a batch's objects: as many as one report of a purge may name.
const maxVersions = 2000

var errEnough = errors.New("enough")

// versions are all versions and delete markers of keys that begin with prefix.
func (p *pass) versions(ctx context.Context, prefix string) (all []export.ObjectVersion, err error) {
	err = p.s.o.Archive.Versions(ctx, prefix, func(v export.ObjectVersion) error {
		if len(all) == maxVersions {
			return errEnough
		}
		all = append(all, v)
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil, refusal(FailedDamaged, "there are more than %d versions of it", maxVersions)
	}
	return all, err
}

// others are the versions of a batch's objects that are not its present one. That one must be among those that are listed: a store also reads an
// object whose version an entry names otherwise, or not at all, and what is not told apart from the others would be deleted with them.
func (p *pass) others(ctx context.Context, st *stated) (all []export.ObjectVersion, err error) {
	all, err = p.versions(ctx, st.prefix)
	if err != nil {
		return nil, err
	}
	listed := st.batch == nil
	all = slices.DeleteFunc(all, func(v export.ObjectVersion) bool {
		present := st.batch != nil && !v.Marker && v.Key == st.batch.Key && v.Version == st.batch.Version
		listed = listed || present
		_, ours := generationOf(st.prefix, v.Key)
		return !ours || present
	})
	if !listed {
		return nil, refusal(FailedEntry, "the version that it states is not one that the store lists")
	}
	return all, nil
}

// purge deletes every version of a batch's objects but the one its published entry states, proves that none is left, and reports it. What is
// deleted for good must be known to be no loss: see keepsAll.
func (p *pass) purge(ctx context.Context, st *stated, orders []*order) error {
	if st.entry.Replace == nil {
		return refusal(FailedEntry, "nothing has replaced it")
	}
	if err := p.present(ctx, st); err != nil {
		return err
	}
	others, err := p.others(ctx, st)
	if err != nil {
		return err
	}
	row, known, err := p.lineage(st)
	if err != nil {
		return err
	}
	unknown := slices.DeleteFunc(slices.Clone(others), func(v export.ObjectVersion) bool { return v.Marker || known[object{Key: v.Key, Version: v.Version}] })
	if len(unknown) > 0 || row == nil {
		if row, err = p.keepsAll(ctx, st, unknown, orders, row); err != nil {
			return err
		}
	}
	for _, v := range others {
		row.Deleting = append(row.Deleting, proof.Gone{Key: v.Key, Version: v.Version, Marker: v.Marker})
	}
	slices.SortFunc(row.Deleting, proof.Gone.Compare)
	row.Deleting = slices.CompactFunc(row.Deleting, func(a, b proof.Gone) bool { return a.Compare(b) == 0 })
	if err := p.s.memory.deleting(row); err != nil {
		return err
	}
	// Crash here, or between two deletions: the next pass lists what is left, and reports all of it.
	uploads, err := p.delete(ctx, st, row.Deleting)
	if err != nil {
		return err
	}
	return p.purged(ctx, st, row, uploads)
}

// present checks that what stays is there, whole, before anything goes.
func (p *pass) present(ctx context.Context, st *stated) error {
	b := st.batch
	if b == nil {
		return nil
	}
	sum, n, err := p.download(ctx, object{Key: b.Key, Version: b.Version}, io.Discard, b.Size)
	if err == nil && (n != b.Size || sum != b.SHA256) {
		err = errHash
	}
	if err != nil {
		return fmt.Errorf("%s: %w", b.Key, err)
	}
	return nil
}

// lineage is this custodian's own record of the present object, and what it was made from: those versions are no loss. row is nil where
// another made it, or the record is lost. What another made it from is what the gateway says, and no record.
func (p *pass) lineage(st *stated) (row *rewriteRow, known map[object]bool, err error) {
	rows, err := p.s.memory.rewrites(st.id)
	if err != nil {
		return nil, nil, err
	}
	known = map[object]bool{}
	for i := len(rows) - 1; i >= 0; i-- { // by generation: what an object was made from comes before it
		r := &rows[i]
		switch {
		case row == nil && r.states(st):
			row = r
		case r.Now == nil || !known[object{Key: r.Now.Key, Version: r.Now.Version}]:
			continue
		}
		if r.Report != "" {
			known[object{Key: r.Before.Key, Version: r.Before.Version}] = true
		}
	}
	return row, known, nil
}

// keepsAll checks that versions of which this custodian has no record may go: each of their rows must stand in the present object, value by value,
// once the obeyed jobs have taken theirs. Otherwise a gateway that states a poorer object would have the custodian wipe the rest.
func (p *pass) keepsAll(ctx context.Context, st *stated, unknown []export.ObjectVersion, orders []*order, row *rewriteRow) (*rewriteRow, error) {
	was, err := p.s.replaced(ctx, st)
	if err != nil {
		return nil, err
	}
	if row == nil {
		row = &rewriteRow{
			Batch: st.id, Destination: st.entry.Destination, Generation: st.generation,
			Before: object{Key: was.batch.Key, Version: was.batch.Version, SHA256: was.batch.SHA256},
		}
		if b := st.batch; b != nil {
			row.Now = &object{Key: b.Key, Version: b.Version, SHA256: b.SHA256}
		}
	}
	stays, err := p.fingerprints(ctx, st.batch)
	if err != nil {
		return nil, err
	}
	for _, v := range unknown {
		c, err := p.due(ctx, &was, orders)
		if err != nil {
			return nil, err
		}
		n, err := p.covered(ctx, v, was.batch, c, stays)
		if errors.Is(err, export.ErrNoObject) {
			continue // another custodian deleted it
		}
		if err != nil {
			return nil, err
		}
		if v.Key == was.batch.Key && v.Version == was.batch.Version {
			row.Scanned, row.Cut = n, c.byRequest()
		}
	}
	return row, p.s.memory.accepted(row)
}

// covered checks one version of a batch, and says how many rows it has. What is no age file holds no rows.
func (p *pass) covered(ctx context.Context, v export.ObjectVersion, b *export.Batch, c *cutter, stays map[[16]byte]bool) (n int, err error) {
	f, err := export.Nameless(p.s.o.Temp)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, _, err := p.download(ctx, object{Key: v.Key, Version: v.Version}, f, v.Size); err != nil {
		return 0, err
	}
	err = p.s.decode(f, func(rows []pseudonymize.Row) error {
		n += len(rows)
		if !under(b, rows) {
			return errRows
		}
		for i := range rows {
			if c.row(&rows[i]) && !stays[fingerprint(&rows[i])] {
				return refusal(FailedDamaged, "version %.100q of %s holds rows that its present object does not", v.Version, v.Key)
			}
		}
		return ctx.Err()
	})
	if errors.Is(err, export.ErrSeal) {
		return 0, nil
	}
	return n, err
}

// fingerprints are those of all rows of an object.
func (p *pass) fingerprints(ctx context.Context, b *export.Batch) (map[[16]byte]bool, error) {
	all := map[[16]byte]bool{}
	if b == nil {
		return all, nil
	}
	err := p.rows(ctx, b, func(rows []pseudonymize.Row) error {
		for i := range rows {
			all[fingerprint(&rows[i])] = true
		}
		return nil
	})
	return all, err
}

// fingerprint is of every column of a row.
func fingerprint(r *pseudonymize.Row) [16]byte {
	text, err := json.Marshal(r)
	if err != nil { // a time outside the years that JSON writes: equal to no row
		text = nil
	}
	sum := sha256.Sum256(text)
	return [16]byte(sum[:16])
}

// delete deletes versions and aborts uploads, and looks whether anything is left.
func (p *pass) delete(ctx context.Context, st *stated, gone []proof.Gone) (uploads int, err error) {
	a := p.s.o.Archive
	for _, g := range gone {
		if err := a.DeleteVersion(ctx, g.Key, g.Version); err != nil {
			return 0, err
		}
	}
	if uploads, err = p.abort(ctx, st, gone); err != nil {
		return 0, err
	}
	left, err := p.others(ctx, st)
	if err != nil {
		return 0, err
	}
	if len(left) > 0 {
		return 0, refusal(FailedStore, "%d versions are still listed after they were deleted", len(left))
	}
	for _, g := range gone {
		r, err := a.Get(ctx, g.Key, g.Version)
		if err == nil {
			r.Close()
			return 0, refusal(FailedStore, "%s is still readable after it was deleted", g.Key)
		}
		if !errors.Is(err, export.ErrNoObject) {
			return 0, err
		}
	}
	return uploads, nil
}

// abort ends the unfinished uploads of the batch's names; some servers list them by whole keys only.
func (p *pass) abort(ctx context.Context, st *stated, gone []proof.Gone) (uploads int, err error) {
	names := []string{st.prefix}
	for _, g := range gone {
		if !slices.Contains(names, g.Key) {
			names = append(names, g.Key)
		}
	}
	for _, name := range names {
		n, err := p.s.o.Archive.AbortUploads(ctx, name)
		if err != nil {
			return 0, err
		}
		uploads += n
	}
	return uploads, nil
}

// purged reports a purge.
func (p *pass) purged(ctx context.Context, st *stated, row *rewriteRow, uploads int) error {
	r := proof.Purge{Version: 1, Batch: st.id, Deleted: row.Deleting, Uploads: uploads, Verified: p.s.o.Now().UTC()}
	if st.batch != nil {
		r.Current = st.batch.Key
	}
	report, err := proof.SignPurge(r, p.s.o.Key)
	if err != nil {
		return err
	}
	// It is true from here on, whoever reports it first.
	if err := p.s.memory.purged(st.id, st.generation, len(row.Deleting)); err != nil {
		return err
	}
	// Crash here: the gateway offers it again, and nothing is left to delete.
	err = p.s.o.Gateway.Purged(ctx, st.id, report)
	if errors.Is(err, ErrRejected) {
		p.waits()
		return nil
	}
	if err != nil {
		return fmt.Errorf("reporting a purge: %w", err)
	}
	p.count(func(r *Report) { r.Purged, r.Versions = r.Purged+1, r.Versions+len(row.Deleting) })
	return nil
}
