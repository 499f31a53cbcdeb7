package collector

import (
	"context"
	"sync/atomic"
	"time"
)

// deadline gives requests a context that ends. Requests that come close together share one, since a timer a request costs more than asking the
// ledger: each ends after least, and before twice that. Safe for concurrent use.
type deadline struct {
	least time.Duration
	now   atomic.Pointer[span]
}

// span is a context and until when it is given out.
type span struct {
	ctx    context.Context
	cancel context.CancelFunc // never needed: the timer ends it
	until  time.Time
}

func (d *deadline) context() context.Context {
	now := time.Now()
	s := d.now.Load()
	if s == nil || now.After(s.until) {
		next := &span{until: now.Add(d.least)}
		next.ctx, next.cancel = context.WithDeadline(context.Background(), now.Add(2*d.least))
		if !d.now.CompareAndSwap(s, next) {
			next.cancel()
			next = d.now.Load()
		}
		s = next
	}
	return s.ctx
}
