package sweep

import (
	"context"
	"errors"
	"fmt"

	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize"
)

// Preview is what a pass would take out of one batch.
type Preview struct {
	Batch  string               `json:"batch"`
	Object string               `json:"object"` // key
	Rows   int                  `json:"rows"`
	Cut    map[string]proof.Cut `json:"cut"`              // by request
	Failed *Reason              `json:"failed,omitempty"` // it could not be read, or may not be cut
}

// Preview reads every batch that the obeyed erasures concern now, as a pass would, and tells fn what would be cut out of it. Nothing is put, deleted,
// reported or remembered. It takes the time that reading takes.
func (s *Sweep) Preview(ctx context.Context, fn func(Preview) error) error {
	s.pass.Lock()
	defer s.pass.Unlock()
	p := newPass(s)
	work, err := p.work(ctx)
	if err != nil {
		return fmt.Errorf("previewing a sweep: %w", err)
	}
	var orders []*order
	for i := range work.Items {
		o, err := s.judge(&work.Items[i], true)
		var why Reason
		switch {
		case errors.As(err, &why):
		case err != nil:
			return fmt.Errorf("previewing a sweep: %w", err)
		default:
			orders = append(orders, o)
		}
	}
	p.finds = &finds{} // no access is collected
	errands := p.errands(work, orders)
	p.of = len(errands)
	for _, e := range errands {
		if len(e.cutters) == 0 || e.batch.Stage != proof.BatchRewrite {
			continue
		}
		x, err := p.preview(ctx, e)
		if err != nil && fatal(ctx, err) {
			return fmt.Errorf("previewing a sweep: %w", err)
		}
		if err != nil {
			why := reasonOf(err)
			x.Failed = &why
		}
		if err := fn(x); err != nil {
			return err
		}
		p.mu.Lock()
		p.objects++
		p.progress()
		p.mu.Unlock()
	}
	return nil
}

func (p *pass) preview(ctx context.Context, e errand) (x Preview, err error) {
	x.Batch = e.batch.ID
	st, err := p.s.stated(ctx, e.batch.ID, e.batch.Entry)
	if err != nil || st.batch == nil {
		return x, err
	}
	x.Object, x.Rows = st.batch.Key, st.batch.Rows
	c, now := &cutter{}, p.s.o.Now().UTC()
	for _, o := range cutting(e.cutters) {
		if err := o.concerns(st.entry.Destination); err != nil {
			return x, err
		}
		cut, err := o.cut(st.entry.Destination, st.batch, now)
		if err != nil {
			return x, err
		}
		c.add(o, cut)
	}
	err = p.rows(ctx, st.batch, func(rows []pseudonymize.Row) error {
		for i := range rows {
			c.row(&rows[i])
		}
		return nil
	})
	x.Cut = c.byRequest()
	return x, err
}
