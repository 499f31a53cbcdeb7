package rights

import (
	"context"
	"testing"
	"time"

	"github.com/octroi/octroi/export/rights/proof"
	"golang.org/x/sync/errgroup"
)

// The machine, the shippers, a custodian and loaders run beside each other, as in a gateway: an erasure and an access come to their ends.
func TestRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Notices = time.Millisecond })
	_, leaves := w.mint(t)
	_, asks := w.mint(t)
	w.pages(t, leaves, 2, "a")
	w.pages(t, asks, 2, "b")
	w.forward(time.Hour)
	ctx, stop := context.WithCancel(t.Context())
	var gateway errgroup.Group
	gateway.Go(func() error { return w.Run(ctx) })
	for _, x := range w.exits {
		gateway.Go(func() error { return x.Shipper.Run(ctx) })
	}
	erasure, packed := w.ask(t, proof.Erasure, leaves).ID, w.ask(t, proof.Access, asks).ID
	custody := &servant{w: w, name: "custodian-one"}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err := custody.serve(ctx); err != nil {
			t.Fatal(err)
		}
		if err := w.acknowledge(ctx); err != nil {
			t.Fatal(err)
		}
		w.forward(time.Second)
		if w.row(t, erasure).State == Completed && w.row(t, packed).State == Completed {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("they do not end: %+v %+v", w.row(t, erasure), w.row(t, packed))
		}
	}
	stop()
	if err := gateway.Wait(); err != nil {
		t.Error(err)
	}
}

// What a pass over many requests that wait for the custodian, and an answer to it, cost.
func BenchmarkWaiting(b *testing.B) {
	w := newWorld(b)
	const requests = 500
	for i := range requests {
		_, s := w.mint(b)
		w.pages(b, s, 1, "x")
		if i%100 == 99 {
			w.ship(b)
		}
		if _, _, err := w.submit(b.Context(), submission{
			right: proof.Erasure, origin: proof.ByPerson, actor: person, subject: s, proven: true,
		}); err != nil {
			b.Fatal(err)
		}
	}
	for range 3 {
		w.Pass(b.Context())
	}
	if f := w.Figures(); f.Total() != requests {
		b.Fatalf("%+v", f)
	}
	b.Run("pass", func(b *testing.B) {
		for b.Loop() {
			w.Pass(b.Context())
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/requests, "µs/request")
	})
	b.Run("work", func(b *testing.B) {
		for b.Loop() {
			if _, err := w.Work(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
