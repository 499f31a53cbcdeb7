package sweep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
)

// unsettled is a rewrite that was not accepted, and whose object may not go yet.
type unsettled struct {
	row   *rewriteRow
	batch *proof.WorkBatch
}

// settle ends what a crash, or an answer that was lost, left open. What cannot be decided before the jobs are judged is answered.
func (p *pass) settle(ctx context.Context, work *proof.Work) (left []unsettled, err error) {
	rows, err := p.s.memory.opened()
	if err != nil {
		return nil, err
	}
	for i := range rows {
		u := unsettled{&rows[i], nil}
		if at := slices.IndexFunc(work.Batches, func(w proof.WorkBatch) bool { return w.ID == u.row.Batch && w.Stage != proof.BatchPublish }); at >= 0 {
			u.batch = &work.Batches[at]
		}
		settled, err := p.settleOne(ctx, u)
		switch {
		case err != nil && fatal(ctx, err):
			return nil, err
		case err != nil:
			if err := p.fail(ctx, u.row.Batch, err); err != nil {
				return nil, err
			}
		case !settled && u.batch != nil:
			left = append(left, u)
		case !settled:
			p.keep(u.row)
		}
	}
	return left, nil
}

func (p *pass) settleOne(ctx context.Context, u unsettled) (settled bool, err error) {
	row := u.row
	if row.Report == "" {
		return p.drop(ctx, row)
	}
	err = p.s.o.Gateway.Rewritten(ctx, row.Batch, row.Report)
	switch {
	case err == nil:
		return true, p.accepted(row)
	case !errors.Is(err, ErrRejected):
		return false, fmt.Errorf("reporting a rewrite: %w", err)
	case u.batch == nil:
		return p.orphan(ctx, row)
	}
	// It was sent before: had it been accepted then, its object is the batch's now, and must stay.
	st, err := p.s.stated(ctx, row.Batch, u.batch.Entry)
	switch {
	case err != nil:
		return false, err
	case row.states(&st):
		return true, p.accepted(row)
	}
	return p.drop(ctx, row)
}

// states says whether an entry states the object of the rewrite.
func (r *rewriteRow) states(st *stated) bool {
	if st.entry.Replace == nil || st.id != r.Batch || st.generation != r.Generation || (st.batch == nil) != (r.Now == nil) {
		return false
	}
	return st.batch == nil || *r.Now == object{Key: st.batch.Key, Version: st.batch.Version, SHA256: st.batch.SHA256}
}

// drop deletes the object of a rewrite that was not accepted, where what it was made from is still there. That its report is rejected is no reason
// by itself: a gateway may have taken it, had the former object purged, and deny it now.
func (p *pass) drop(ctx context.Context, row *rewriteRow) (dropped bool, err error) {
	ours, err := p.ours(ctx, row)
	if err != nil {
		return false, err
	}
	if len(ours) > 0 {
		sum, _, err := p.download(ctx, row.Before, io.Discard, maxObject)
		if errors.Is(err, export.ErrNoObject) || err == nil && sum != row.Before.SHA256 {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, p.dropAll(ctx, row, ours)
}

// maxObject is more bytes than an object has.
const maxObject = 1 << 60

// ours are the versions of a rewrite's name that have its bytes: where the answer to a PUT was lost, its version is not known. What else has the
// name is not ours.
func (p *pass) ours(ctx context.Context, row *rewriteRow) (all []export.ObjectVersion, err error) {
	if row.Now == nil {
		return nil, nil
	}
	versions, err := p.versions(ctx, row.Now.Key)
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		if v.Key != row.Now.Key || v.Marker {
			continue
		}
		sum, _, err := p.download(ctx, object{Key: v.Key, Version: v.Version}, io.Discard, v.Size)
		if err != nil {
			return nil, err
		}
		if sum == row.Now.SHA256 {
			all = append(all, v)
		}
	}
	return all, nil
}

func (p *pass) dropAll(ctx context.Context, row *rewriteRow, ours []export.ObjectVersion) error {
	for _, v := range ours {
		if err := p.s.o.Archive.DeleteVersion(ctx, v.Key, v.Version); err != nil {
			return err
		}
	}
	return p.s.memory.forget(row)
}

// orphan ends a rewrite of a batch that the gateway speaks of no more. Where its object is the only one of the batch, it was accepted after all, and
// another custodian did the rest; where it is gone, nothing is left to do. Else nobody here can know which of the objects is the batch's.
func (p *pass) orphan(ctx context.Context, row *rewriteRow) (settled bool, err error) {
	if row.Now == nil {
		return true, p.s.memory.forget(row)
	}
	versions, err := p.versions(ctx, row.Now.Key[:strings.LastIndexByte(strings.TrimSuffix(row.Now.Key, objectSuffix), '.')+1])
	if err != nil {
		return false, err
	}
	ours := slices.IndexFunc(versions, func(v export.ObjectVersion) bool { return v.Key == row.Now.Key && v.Version == row.Now.Version })
	if ours < 0 || len(versions) == 1 {
		return true, p.s.memory.forget(row)
	}
	return false, nil
}

// resettle drops what settle left, where the batch's present object holds all of its rows that no obeyed job has taken since: another custodian was
// faster, and has purged what both were made from.
func (p *pass) resettle(ctx context.Context, left []unsettled, orders []*order) error {
	for _, u := range left {
		settled, err := p.superseded(ctx, u, orders)
		switch {
		case err != nil && fatal(ctx, err):
			return err
		case err != nil:
			if err := p.fail(ctx, u.row.Batch, err); err != nil {
				return err
			}
		case !settled:
			p.keep(u.row)
		}
	}
	return nil
}

func (p *pass) superseded(ctx context.Context, u unsettled, orders []*order) (bool, error) {
	st, err := p.s.stated(ctx, u.row.Batch, u.batch.Entry)
	if err != nil || st.batch == nil || st.batch.Key == u.row.Now.Key || st.entry.Destination != u.row.Destination {
		return false, err
	}
	ours, err := p.ours(ctx, u.row)
	if err != nil {
		return false, err
	}
	stays, err := p.fingerprints(ctx, st.batch)
	if err != nil {
		return false, err
	}
	var wanting []*order
	for _, o := range orders {
		if o.item.Stage != proof.StageCollect && o.batches[u.row.Batch] && o.concerns(st.entry.Destination) == nil {
			wanting = append(wanting, o)
		}
	}
	for _, v := range ours {
		c, err := p.due(ctx, &st, wanting)
		if err != nil {
			return false, err
		}
		if _, err := p.covered(ctx, v, st.batch, c, stays); err != nil {
			return false, err
		}
	}
	return true, p.dropAll(ctx, u.row, ours)
}

// keep says once that an object stays that may be too much.
func (p *pass) keep(row *rewriteRow) {
	if p.first("settle " + string(row.id())) {
		p.s.o.Logger.Warn("a report was rejected, and what its object was made from is gone: it is kept until the gateway says what the batch is", "batch", row.Batch)
	}
}
