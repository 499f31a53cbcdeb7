package sweep

import (
	"context"
	"errors"
	"fmt"

	"github.com/octroi/octroi/export/rights/proof"
)

// Plan is what a pass would begin with. Nothing of it is done: no object is read, no job is taken up, nothing is reported.
type Plan struct {
	Jobs    []PlannedJob `json:"jobs"`
	Rewrite int          `json:"rewrite"` // batches that would be read and cut
	Read    int          `json:"read"`    // batches that would be read for accesses alone
	Purge   int          `json:"purge"`   // batches of which former versions would be deleted
	Bytes   int64        `json:"bytes"`   // of the objects that would be read
	Failed  int          `json:"failed"`  // batches whose entry cannot be obeyed
	Notices int          `json:"notices"`
	Journal int          `json:"journal"`
}

// PlannedJob is one open job.
type PlannedJob struct {
	Request string       `json:"request"`
	Right   proof.Right  `json:"right"`
	Origin  proof.Origin `json:"origin"`
	Stage   string       `json:"stage"`
	Batches int          `json:"batches"`
	Refused *Reason      `json:"refused,omitempty"` // nil: it would be obeyed
}

// DryRun asks for the work and judges it. It reads stream entries of the store, and no batch. Places under the cap that jobs of the same plan would
// take are not counted.
func (s *Sweep) DryRun(ctx context.Context) (Plan, error) {
	s.pass.Lock()
	defer s.pass.Unlock()
	p := newPass(s)
	work, err := p.work(ctx)
	if err != nil {
		return Plan{}, fmt.Errorf("planning a sweep: %w", err)
	}
	plan := Plan{Notices: len(work.Notices), Journal: len(work.Journal)}
	var orders []*order
	for i := range work.Items {
		item := &work.Items[i]
		job := PlannedJob{
			Request: item.Job.Request, Right: item.Job.Right, Origin: item.Job.Origin, Stage: item.Stage, Batches: len(item.Batches),
		}
		o, err := s.judge(item, true)
		var why Reason
		switch {
		case errors.As(err, &why):
			job.Refused = &why
		case err != nil:
			return Plan{}, fmt.Errorf("planning a sweep: %w", err)
		default:
			orders = append(orders, o)
		}
		plan.Jobs = append(plan.Jobs, job)
	}
	if err := p.collecting(work, orders); err != nil {
		return Plan{}, fmt.Errorf("planning a sweep: %w", err)
	}
	defer p.close()
	for _, e := range p.errands(work, orders) {
		if err := plan.add(ctx, s, e); err != nil {
			return Plan{}, fmt.Errorf("planning a sweep: %w", err)
		}
	}
	return plan, nil
}

func (plan *Plan) add(ctx context.Context, s *Sweep, e errand) error {
	st, err := s.stated(ctx, e.batch.ID, e.batch.Entry)
	switch {
	case err != nil && fatal(ctx, err):
		return err
	case err != nil:
		plan.Failed++
		return nil
	case e.batch.Stage == proof.BatchPurge:
		plan.Purge++
	case len(e.cutters) > 0:
		plan.Rewrite++
	default:
		plan.Read++
	}
	if st.batch != nil {
		plan.Bytes += st.batch.Size
	}
	return nil
}
