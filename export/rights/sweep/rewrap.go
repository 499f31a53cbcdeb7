package sweep

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
)

// Outdated are the batches of one destination whose objects are encrypted to other recipients than they should be.
type Outdated struct {
	Destination string
	To          export.Recipients
	Batches     []OutdatedBatch // by stream number
	Of          int             // batches of the destination that have an object
	Bytes       int64           // of the outdated ones
}

// OutdatedBatch is one of them.
type OutdatedBatch struct {
	ID     string
	Number uint64 // of the stream entry that states its present object
}

// Outdated walks the gateway's signed stream in the store and lists what Rewrap would encrypt anew. It reads stream entries, and no batch.
func (s *Sweep) Outdated(ctx context.Context, destination string, to export.Recipients) (Outdated, error) {
	type present struct {
		number uint64
		size   int64
		other  bool // recipients
	}
	batches := map[string]present{}
	err := s.walk(ctx, destination, func(e export.Entry) {
		id, b := "", e.Batch
		switch {
		case e.Type == export.ReplaceEntry:
			id, b = e.Replace.Batch, e.Replace.Now
		case e.Type == export.BatchEntry:
			id = b.ID
		default:
			return
		}
		if b == nil {
			delete(batches, id)
			return
		}
		batches[id] = present{e.Number, b.Size, !slices.Equal(b.Recipients, to.Names)}
	})
	out := Outdated{Destination: destination, To: to, Of: len(batches)}
	for id, b := range batches {
		if b.other {
			out.Batches = append(out.Batches, OutdatedBatch{id, b.number})
			out.Bytes += b.size
		}
	}
	slices.SortFunc(out.Batches, func(a, b OutdatedBatch) int { return cmp.Compare(a.Number, b.Number) })
	return out, err
}

// walk calls fn with every entry of the gateway's stream to the destination, each signed by it and chained to the one before.
func (s *Sweep) walk(ctx context.Context, destination string, fn func(export.Entry)) error {
	prefix := strings.TrimSuffix(export.EntryKey(destination, s.node, 0), "000000000000.jws")
	chain := export.Chain{Destination: destination, Node: s.node, Gateway: s.o.Stream}
	err := s.o.Archive.List(ctx, prefix, "", func(key string, _ int64) error {
		token, err := s.stored(ctx, key)
		if err != nil {
			return err
		}
		e, err := chain.Next(token)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		fn(e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("walking the stream to %s: %w", destination, err)
	}
	return nil
}

// Rewrap encrypts the same rows of outdated batches to their recipients of now, which the gateway must be configured with too: it takes the new object
// as it takes one that was cut, with nothing in the report's Cut. The former object is purged by the next pass, as every replaced one is. A
// batch that fails is reported and does not stop the others; it is still outdated when it is looked for again.
func (s *Sweep) Rewrap(ctx context.Context, what Outdated) (Report, error) {
	s.pass.Lock()
	defer s.pass.Unlock()
	p := newPass(s)
	defer p.close()
	work, err := p.work(ctx)
	if err == nil {
		_, err = p.settle(ctx, work)
	}
	if err != nil {
		return p.report, fmt.Errorf("rewrapping: %w", err)
	}
	p.of = len(what.Batches)
	for _, b := range what.Batches {
		err := p.rewrap(ctx, what, b)
		if err != nil && !fatal(ctx, err) {
			err = p.fail(ctx, b.ID, err)
		}
		if err != nil {
			return p.report, fmt.Errorf("rewrapping: %w", err)
		}
		p.mu.Lock()
		p.objects++
		p.progress()
		p.mu.Unlock()
	}
	return p.report, nil
}

func (p *pass) rewrap(ctx context.Context, what Outdated, b OutdatedBatch) error {
	token, err := p.s.stored(ctx, export.EntryKey(what.Destination, p.s.node, b.Number))
	if err != nil {
		return err
	}
	st, err := p.s.stated(ctx, b.ID, token)
	switch {
	case err != nil:
		return err
	case st.entry.Destination != what.Destination || st.batch == nil: // it is not what was walked over
		return refusal(FailedEntry, "another entry is in the store under its number")
	}
	// What is read must have been encrypted to recipients that are known; what is written goes to those of now.
	if _, err := p.s.recipients(what.Destination, st.batch); err != nil {
		return err
	}
	d, err := p.s.newDraft(what.To)
	if err != nil {
		return err
	}
	defer d.file.Close()
	if err := p.rows(ctx, st.batch, func(rows []pseudonymize.Row) error { return d.write(rows) }); err != nil {
		return err
	}
	p.count(func(r *Report) { r.Scanned++ })
	now := *st.batch
	now.Recipients = what.To.Names
	st.batch = &now
	return p.replace(ctx, &st, &cutter{}, d)
}
