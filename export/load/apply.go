package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/octroi/octroi/export"
)

// apply carries out one entry, and moves the position to it.
func (l *Loader) apply(ctx context.Context, f *follower, e export.Entry, at place) error {
	switch e.Type {
	case export.BatchEntry:
		return l.applyBatch(ctx, f, e, at)
	case export.ReplaceEntry:
		return l.applyReplace(ctx, f, e, at)
	case export.EraseEntry, export.WithdrawEntry, export.RestrictEntry, export.LiftEntry:
		return l.applyNotices(ctx, f, e, at)
	}
	return fmt.Errorf("%w: type %q is not known here", export.ErrEntry, e.Type)
}

// applyBatch loads a batch from its newest object.
func (l *Loader) applyBatch(ctx context.Context, f *follower, e export.Entry, at place) error {
	_, known, err := l.into.batch(ctx, e.Batch.ID)
	if err != nil {
		return err
	}
	if known {
		return fmt.Errorf("batch %q was loaded before under another entry: %w", e.Batch.ID, ErrRows)
	}
	s, rows, err := l.newest(ctx, f, e.Batch.ID, statement{e.Number, e.Batch})
	if err != nil {
		return err
	}
	defer rows.close()
	c, err := l.into.begin(ctx, at)
	if err != nil {
		return err
	}
	defer c.rollback()
	done, err := c.load(ctx, e.Batch, record{ID: e.Batch.ID, Node: e.Node, Number: e.Number, Stated: s.number}, rows.each)
	if err == nil {
		err = c.commit(ctx)
	}
	if err != nil {
		return err
	}
	p := &l.progress
	p.Batches, p.Rows, p.Duplicates = p.Batches+1, p.Rows+uint64(done.Rows), p.Duplicates+uint64(done.Duplicates)
	l.o.Log.Info("loaded batch", "node", e.Node, "number", e.Number, "stated", s.number, "rows", done.Rows, "duplicates", done.Duplicates)
	return nil
}

// applyReplace brings a batch that was loaded from an older object to its newest.
func (l *Loader) applyReplace(ctx context.Context, f *follower, e export.Entry, at place) error {
	r, known, err := l.into.batch(ctx, e.Replace.Batch)
	switch {
	case err != nil:
		return err
	case !known || r.Node != e.Node:
		return fmt.Errorf("%w: it replaces a batch of which no entry came before", ErrStatement)
	case r.Stated >= e.Number: // it was loaded from this object, or a newer one
		return l.carryOut(ctx, e, at, nil)
	case r.Stated != e.Replace.Of:
		return fmt.Errorf("%w: it replaces the object of entry %d, and that of %d is the last", ErrStatement, e.Replace.Of, r.Stated)
	}
	return l.carryOut(ctx, e, at, func(c change) (effect, error) {
		return l.renew(ctx, f, c, r, statement{e.Number, e.Replace.Now})
	})
}

// renew makes the rows of a loaded batch those of its newest object; s is the newest statement that the caller knows of.
func (l *Loader) renew(ctx context.Context, f *follower, c change, r record, s statement) (effect, error) {
	s, rows, err := l.newest(ctx, f, r.ID, s)
	if err != nil {
		return effect{}, err
	}
	defer rows.close()
	return c.carryOut(ctx, order{batch: r, stated: s.number, newest: rows.each})
}

// newest opens the newest object of a batch that the stream states: that of s, or of an entry ahead.
func (l *Loader) newest(ctx context.Context, f *follower, id string, s statement) (statement, *object, error) {
	for {
		if ahead, ok := f.newest[id]; ok && ahead.number > s.number {
			s = ahead
		}
		o, err := l.open(ctx, s.object)
		if !errors.Is(err, ErrLost) {
			return s, o, err
		}
		// An object is deleted after the entry that replaces it was published: maybe since the last look.
		if err := l.lookAhead(ctx, f); err != nil && (passing(err) || ctx.Err() != nil) {
			return s, nil, err
		}
		if f.newest[id].number <= s.number {
			return s, nil, err
		}
	}
}

// applyNotices carries out what notices about persons say (GDPR Art. 19), on the batches that they list and that were loaded.
func (l *Loader) applyNotices(ctx context.Context, f *follower, e export.Entry, at place) error {
	notices, err := l.notices(ctx, e)
	if errors.Is(err, ErrNotice) {
		return l.withoutNotices(ctx, f, e, at, err)
	}
	if err != nil {
		return err
	}
	orders, err := l.orders(ctx, e.Type, notices)
	if err != nil {
		return err
	}
	return l.carryOut(ctx, e, at, func(c change) (total effect, err error) {
		for _, id := range slices.Sorted(maps.Keys(orders)) {
			done, err := c.carryOut(ctx, *orders[id])
			if err != nil {
				return total, err
			}
			total.add(done)
		}
		return total, nil
	})
}

// orders are what notices ask of loaded batches, by batch.
func (l *Loader) orders(ctx context.Context, t export.EntryType, notices []export.Notice) (map[string]*order, error) {
	orders := map[string]*order{}
	for _, n := range notices {
		cut, err := export.CutOf(n)
		if err != nil {
			return nil, err
		}
		for _, id := range n.Batches {
			o := orders[id]
			if o == nil {
				r, known, err := l.into.batch(ctx, id)
				if err != nil {
					return nil, err
				}
				if !known { // it has no row here
					continue
				}
				o = &order{batch: r}
				orders[id] = o
			}
			who := people{cut.Devices, cut.Persons}
			switch t {
			case export.RestrictEntry:
				o.hide = o.hide.with(who)
			case export.LiftEntry:
				o.show = o.show.with(who)
			default:
				o.cuts = append(o.cuts, cut)
			}
		}
	}
	return orders, nil
}

// withoutNotices passes over an entry whose notice object is no longer there: the gateway deletes it once every loader has acknowledged the
// entry, and this one begins anew. What the notice says of erased rows stands in the objects too: they are rewritten before anybody is
// told. So it is enough, and needed, that all that is loaded of this node comes from the newest objects. A restriction stands nowhere else.
func (l *Loader) withoutNotices(ctx context.Context, f *follower, e export.Entry, at place, gone error) error {
	// Whether it is the newest is known only when the whole stream is.
	if err := l.lookAhead(ctx, f); err != nil {
		return err
	}
	var stale []record
	rows, restricted := false, false
	err := l.into.batches(ctx, e.Node, func(r record) {
		rows = rows || r.Rows+r.Hidden > 0
		restricted = restricted || !r.Restricted.IsZero()
		if f.newest[r.ID].number > r.Stated {
			stale = append(stale, r)
		}
	})
	switch {
	case err != nil:
		return err
	case e.Type == export.RestrictEntry && rows, e.Type == export.LiftEntry && restricted:
		return gone
	}
	l.o.Log.Warn("passing over an entry whose notice is no longer in the store: what is loaded comes from rewritten objects",
		"node", e.Node, "number", e.Number, "renewed", len(stale))
	return l.carryOut(ctx, e, at, func(c change) (total effect, err error) {
		for _, r := range stale {
			done, err := l.renew(ctx, f, c, r, f.newest[r.ID])
			if err != nil {
				return total, err
			}
			total.add(done)
		}
		return total, nil
	})
}

// carryOut makes one change of what work does; nil: only the position moves.
func (l *Loader) carryOut(ctx context.Context, e export.Entry, at place, work func(change) (effect, error)) error {
	c, err := l.into.begin(ctx, at)
	if err != nil {
		return err
	}
	defer c.rollback()
	var done effect
	if work != nil {
		if done, err = work(c); err != nil {
			return err
		}
	}
	if err := c.commit(ctx); err != nil {
		return err
	}
	p := &l.progress
	p.Removed, p.Reduced = p.Removed+uint64(done.gone), p.Reduced+uint64(done.reduced)
	p.Restricted, p.Lifted = p.Restricted+uint64(done.hidden), p.Lifted+uint64(done.shown)
	l.o.Log.Info("applied entry", "node", e.Node, "number", e.Number, "type", e.Type,
		"removed", done.gone, "reduced", done.reduced, "restricted", done.hidden, "lifted", done.shown)
	return nil
}
