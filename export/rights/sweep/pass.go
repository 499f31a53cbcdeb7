package sweep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
)

// The bounds of one answer of the gateway.
const (
	maxItems   = 1000
	maxWork    = 5000
	maxNotices = 5000
)

// atOnce is how many batches are worked on at a time: what is read is decoded while the next is fetched.
const atOnce = 2

// patience is after how many batches in a row, for which the store did not answer, a round is given up.
const patience = 3

// pass is one call of Once: rounds of work until there is nothing more that can be done now.
type pass struct {
	s       *Sweep
	tried   map[string]bool              // what was tried in this pass, and is not tried again
	finds   *finds                       // rows of access jobs; nil: none in this round
	streams map[string]map[string]uint64 // destination → batch → number of the entry that states it, of streams that were walked

	mu         sync.Mutex
	report     Report            // guarded by mu
	objects    int               // of the round; guarded by mu
	of         int               // guarded by mu
	worked     bool              // something was achieved in the round; guarded by mu
	publishing int               // batches of the round that wait for their entry; guarded by mu
	silent     int               // batches in a row that the store did not answer for; guarded by mu
	names      map[string]string // prefix of objects' names → batch; guarded by mu
}

func newPass(s *Sweep) *pass {
	return &pass{
		s: s, tried: map[string]bool{}, streams: map[string]map[string]uint64{}, names: map[string]string{},
		report: Report{Refused: map[string]int{}, Failed: map[string]int{}},
	}
}

func (p *pass) close() {
	if p.finds != nil {
		p.finds.close()
	}
}

// first says whether something is tried for the first time in this pass: a gateway that offers it again and again does not hold the custodian up.
func (p *pass) first(what string) bool {
	if p.tried[what] {
		return false
	}
	p.tried[what] = true
	return true
}

// round does what the gateway offers now. worked says that more may be offered since.
func (p *pass) round(ctx context.Context) (worked bool, err error) {
	p.worked, p.publishing, p.objects, p.of, p.silent = false, 0, 0, 0, 0
	work, err := p.work(ctx)
	if err != nil {
		return false, err
	}
	left, err := p.settle(ctx, work)
	if err != nil {
		return false, err
	}
	orders, err := p.judge(ctx, work.Items)
	if err != nil {
		return false, err
	}
	if err := p.resettle(ctx, left, orders); err != nil {
		return false, err
	}
	if err := p.batches(ctx, work, orders); err != nil {
		return false, err
	}
	for _, o := range orders {
		if err := p.finish(ctx, o, work); err != nil {
			return false, err
		}
	}
	if err := p.old(ctx, work); err != nil {
		return false, err
	}
	return p.worked, nil
}

func (p *pass) work(ctx context.Context) (*proof.Work, error) {
	work, err := p.s.o.Gateway.Work(ctx)
	switch {
	case err != nil:
		return nil, err
	case work.Node != p.s.node:
		return nil, fmt.Errorf("%w: it is of node %.64q, and the evidence log of %q", ErrAnswer, work.Node, p.s.node)
	case len(work.Items) > maxItems || len(work.Batches) > maxWork || len(work.Notices)+len(work.Journal) > maxNotices:
		return nil, fmt.Errorf("%w: it asks for more than is ever asked at once", ErrAnswer)
	}
	return &work, nil
}

// judge says which jobs are obeyed; the others are reported.
func (p *pass) judge(ctx context.Context, items []proof.Item) (orders []*order, err error) {
	seen := map[string]bool{}
	for i := range items {
		item := &items[i]
		request := item.Job.Request
		if seen[request] {
			continue
		}
		seen[request] = true
		o, err := p.s.judge(item, false)
		var why Reason
		switch {
		case errors.As(err, &why):
			if err := p.refuse(ctx, request, why); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, err
		default:
			orders = append(orders, o)
			if p.first("obey " + request) {
				p.report.Jobs++
			}
		}
	}
	return orders, nil
}

// refuse tells the gateway why a job waits; again only when that has changed.
func (p *pass) refuse(ctx context.Context, request string, why Reason) error {
	p.mu.Lock()
	if p.first("refuse " + request + " " + why.Code) {
		p.report.Refused[why.Code]++
	}
	p.mu.Unlock()
	if p.knows(request, why) {
		return nil
	}
	if why.Code == RefusedCap {
		p.s.o.Logger.Error("the daily cap of jobs without an approval is reached", "alarm", true, "cap", p.s.o.DailyCap, "request", request)
	} else {
		p.s.o.Logger.Warn("a job is not obeyed", "request", request, "code", why.Code, "detail", why.Detail)
	}
	if err := p.s.o.Gateway.Refused(ctx, request, why); err != nil && !errors.Is(err, ErrRejected) {
		return fmt.Errorf("reporting a refusal: %w", err)
	}
	p.tell(request, why)
	return nil
}

// knows says whether the gateway was told this of a request or a batch.
func (p *pass) knows(what string, why Reason) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.s.told[what] == why.Code
}

// maxTold bounds what is remembered of refusals and failures, whose ids the gateway chooses.
const maxTold = 10_000

// tell remembers what the gateway was told; nothing is wrong any more where the code is empty.
func (p *pass) tell(what string, why Reason) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.s.told) >= maxTold {
		clear(p.s.told) // what is still so is told again
	}
	if p.s.told[what] = why.Code; why.Code == "" {
		delete(p.s.told, what)
	}
}

// errand is one batch and what is wanted of it.
type errand struct {
	batch   *proof.WorkBatch
	cutters []*order // erasures
	readers []*order // accesses
}

// errands pairs the batches with the obeyed jobs. A batch counts for a job if both say so.
func (p *pass) errands(work *proof.Work, orders []*order) (all []errand) {
	byRequest := map[string]*order{}
	for _, o := range orders {
		byRequest[o.request()] = o
	}
	seen := map[string]bool{}
	for i := range work.Batches {
		e := errand{batch: &work.Batches[i]}
		if seen[e.batch.ID] {
			continue
		}
		seen[e.batch.ID] = true
		wanted := map[string]bool{}
		for _, request := range e.batch.Items {
			if o := byRequest[request]; o != nil && o.item.Stage == proof.StageRewrite && o.batches[e.batch.ID] && !wanted[request] {
				wanted[request] = true
				e.cutters = append(e.cutters, o)
			}
		}
		for _, o := range orders {
			if p.finds.collects(o) && o.batches[e.batch.ID] {
				e.readers = append(e.readers, o)
			}
		}
		if e.batch.Stage == proof.BatchPublish {
			p.publishing++
		} else if p.wants(&e) {
			all = append(all, e)
		}
	}
	return all
}

// wants says whether there is something to do about a batch that was not tried in this pass.
func (p *pass) wants(e *errand) bool {
	switch e.batch.Stage {
	case proof.BatchRewrite:
	case proof.BatchPurge:
		return p.first("purge "+e.batch.ID) || len(e.readers) > 0
	default:
		e.cutters = nil
	}
	if len(e.cutters) > 0 && !p.first("rewrite "+e.batch.ID) {
		e.cutters = nil
	}
	return len(e.cutters)+len(e.readers) > 0
}

// batches works through the errands. What fails is reported and does not stop the others.
func (p *pass) batches(ctx context.Context, work *proof.Work, orders []*order) error {
	if err := p.collecting(work, orders); err != nil {
		return err
	}
	errands := p.errands(work, orders)
	p.of = len(errands)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, e := range errands {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return p.errand(ctx, e) })
	}
	return group.Wait()
}

// errand returns only what ends the pass.
func (p *pass) errand(ctx context.Context, e errand) error {
	err := p.carry(ctx, e)
	switch {
	case err == nil:
		p.tell(e.batch.ID, Reason{})
		p.mu.Lock()
		p.silent = 0
		p.mu.Unlock()
	case fatal(ctx, err):
		return err
	default:
		if err := p.fail(ctx, e.batch.ID, err); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.objects++
	p.progress()
	return nil
}

// fatal says whether an error is not that of one batch.
func fatal(ctx context.Context, err error) bool {
	for _, is := range []error{ErrAway, ErrToken, ErrAnswer, ErrMemory} {
		if errors.Is(err, is) {
			return true
		}
	}
	return ctx.Err() != nil
}

// fail reports a batch that could not be swept; the error is fatal.
func (p *pass) fail(ctx context.Context, batch string, err error) error {
	why := reasonOf(err)
	p.mu.Lock()
	p.report.Failed[why.Code]++
	if errors.Is(err, export.ErrUnavailable) {
		p.silent++
	}
	silent := p.silent
	p.mu.Unlock()
	if !p.knows(batch, why) {
		p.s.o.Logger.Error("a batch could not be swept", "batch", batch, "code", why.Code, "detail", why.Detail)
		if err := p.s.o.Gateway.Failed(ctx, batch, why); err != nil && !errors.Is(err, ErrRejected) {
			return fmt.Errorf("reporting a failure: %w", err)
		}
		p.tell(batch, why)
	}
	if silent >= patience {
		return fmt.Errorf("%d batches in a row: %w", silent, export.ErrUnavailable)
	}
	return nil
}

// carry does what is wanted of one batch.
func (p *pass) carry(ctx context.Context, e errand) error {
	for _, o := range append(slices.Clone(e.cutters), e.readers...) {
		if err := o.concerns(destinationOf(e.batch.Entry)); err != nil {
			return err
		}
	}
	st, err := p.s.stated(ctx, e.batch.ID, e.batch.Entry)
	if err != nil {
		return err
	}
	if !p.owns(&st) {
		return refusal(FailedEntry, "another batch has its name")
	}
	if e.batch.Stage == proof.BatchPurge {
		if err := p.purge(ctx, &st, e.cutters); err != nil {
			return err
		}
		e.cutters = nil
	}
	switch {
	case len(e.cutters)+len(e.readers) == 0:
		return nil
	case st.batch != nil:
		return p.sweep(ctx, &st, e)
	case len(e.cutters) > 0:
		return refusal(FailedEntry, "no object is left of it, and none can be rewritten")
	}
	p.finds.looked(&e, false)
	return nil
}

// owns says whether a name is that of the first batch that has it in this pass. Of one name nothing is put and nothing purged side by side.
func (p *pass) owns(st *stated) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.names[st.prefix] == "" {
		p.names[st.prefix] = st.id
	}
	return p.names[st.prefix] == st.id
}

// concerns: a job reaches only batches of the destinations at which it names pseudonyms.
func (o *order) concerns(destination string) error {
	if _, ok := o.whose[destination]; !ok && o.schedule == nil {
		return refusal(FailedEntry, "a job that wants it names nobody at its destination")
	}
	return nil
}

func (p *pass) read(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Bytes += n
	p.progress()
}

// progress tells how far the round is. p.mu is held.
func (p *pass) progress() {
	if p.s.o.Progress != nil {
		p.s.o.Progress(Progress{Objects: p.objects, Of: p.of, Bytes: p.report.Bytes})
	}
}

// count notes something that was achieved: the gateway may offer more since.
func (p *pass) count(change func(*Report)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.report)
	p.worked = true
}

// waits notes a batch that another custodian has.
func (p *pass) waits() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Waiting++
}
