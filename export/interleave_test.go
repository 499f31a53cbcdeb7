package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/octroi/octroi/pseudonymize/subject"
)

// interleaving is a world in which statements of all kinds are made in any order.
type interleaving struct {
	*world
	devices  []subject.Subject
	store    *faultyObjects
	shipper  *Shipper
	entered  int // statements beside batches
	rewrites int
}

func newInterleaving(t *testing.T) *interleaving {
	w := newWorld(t)
	x := &interleaving{world: w, devices: w.mint(t, 2), store: &faultyObjects{Objects: w.objects}}
	x.restart(t)
	return x
}

func (x *interleaving) restart(t *testing.T) {
	x.shipper = x.world.shipper(t, "warehouse", func(o *ShipperOptions) { o.Objects, o.MaxRows = x.store, 3 })
}

// arrive spools some events of both devices, some of them in a later hour.
func (x *interleaving) arrive(t *testing.T, n int) {
	before := int(x.spool.Tail())
	x.send(t, pages(x.devices, n, fmt.Sprintf("e%d", before), testStart.Add(time.Duration(before)*10*time.Minute))...)
}

// anyBatch is a batch that may be rewritten now.
func (x *interleaving) anyBatch(t *testing.T, r *rand.Rand) (id BatchID, ok bool) {
	rows, err := NewIndex(x.state).Upto(x.devices[1], map[string]uint64{"warehouse": x.shipper.Published()})
	if err != nil {
		t.Fatal(err)
	}
	rows = slices.DeleteFunc(rows, func(row BatchRow) bool { return row.StatedBy() > x.shipper.Published() })
	if len(rows) == 0 {
		return id, false
	}
	id, err = ParseBatchID(rows[r.IntN(len(rows))].Batch.ID)
	return id, err == nil
}

// publishBadly takes an entry one attempt further, into a store that fails at the object or at the entry.
func (x *interleaving) publishBadly(t *testing.T, puts int64) {
	var calls atomic.Int64
	x.store.set(func(string, io.ReadSeeker) error {
		if calls.Add(1) > puts {
			return ErrUnavailable
		}
		return nil
	})
	defer x.store.set(nil)
	if err := x.shipper.publishOne(t.Context()); err != nil && !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
}

func (x *interleaving) step(t *testing.T, r *rand.Rand) {
	switch r.IntN(8) {
	case 0, 1:
		x.arrive(t, 1+r.IntN(5))
	case 2, 3:
		if _, err := x.shipper.sealOne(t.Context(), x.spool.Tail()); err != nil {
			t.Fatal(err)
		}
	case 4:
		if err := x.shipper.publishOne(t.Context()); err != nil {
			t.Fatal(err)
		}
	case 5:
		x.publishBadly(t, r.Int64N(2))
	case 6:
		if r.IntN(3) == 0 {
			x.restart(t)
		}
		x.enter(t, x.shipper)
		x.entered++
	case 7:
		if id, ok := x.anyBatch(t, r); ok {
			x.rewrite(t, x.shipper, id, x.devices[0])
			x.rewrites++
		}
	}
}

// end publishes all, and compares: each event of the second device is there once; check sees the numbers, the chain and the evidence.
func (x *interleaving) end(t *testing.T) {
	flush(t, x.shipper)
	got := x.check(t, "warehouse")
	if len(got.others) != x.entered+x.rewrites {
		t.Errorf("%d statements, want %d entered and %d replaced", len(got.others), x.entered, x.rewrites)
	}
	other, n := x.destination(t, "warehouse").Pseudonym(x.devices[1]), 0
	for _, rows := range got.rows {
		for i := range rows {
			if *rows[i].Device == other {
				n++
			}
		}
	}
	want := 0
	for _, r := range x.spool.records {
		if e, err := r.Event.Open(x.subjects, key(4)); err == nil && e.Device() == x.devices[1].Slot() {
			want++
		}
	}
	if n != want {
		t.Errorf("%d events of the device that was not erased, want %d", n, want)
	}
}

// TestInterleaving: whatever is sealed, entered and replaced, in whatever order, with a store that fails and restarts in between, the numbers
// have no gap, the chain verifies, and nothing is lost but what was erased.
func TestInterleaving(t *testing.T) {
	t.Parallel()
	for range 2 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			x := newInterleaving(t)
			for range 60 {
				x.step(t, r)
			}
			x.end(t)
		})
	}
}

// TestStatementsBesideRun: the same while Run seals and publishes.
func TestStatementsBesideRun(t *testing.T) {
	t.Parallel()
	x := newInterleaving(t)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := x.shipper.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 25 {
		x.arrive(t, 3)
		x.enter(t, x.shipper)
		x.entered++
		if i%5 == 4 {
			eventually(t, func() bool { _, ok := x.anyBatch(t, r); return ok })
			id, _ := x.anyBatch(t, r)
			x.rewrite(t, x.shipper, id, x.devices[0])
			x.rewrites++
		}
	}
	eventually(t, func() bool { return x.shipper.Published() == x.shipper.head.Load() })
	stop()
	running.Wait()
	x.end(t)
}
