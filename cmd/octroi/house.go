package main

import (
	"context"
	"time"
)

// Housekeeping intervals. A revocation is remembered for revocationMemory after it was made even when nothing spooled is older: an event
// whose grants were checked before it may still be on its way into the spool. One that is later than that is refused (503) and sent again.
const (
	houseInterval    = 2 * time.Second
	keptInterval     = time.Hour
	revocationMemory = time.Minute
)

// keepHouse releases what every destination has sealed, and forgets revocations that no spooled event can be older than, and proofs of consent
// whose time is over (consent.md C12).
func (g *gateway) keepHouse(ctx context.Context) error {
	tick := time.NewTicker(houseInterval)
	defer tick.Stop()
	var horizon sequenceClock
	var looked time.Time // for proofs
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if err := g.spool.Release(g.lowWater()); err != nil {
				g.log.Error("releasing spool", "error", err)
			}
			horizon.note(now, g.ledger.Sequence())
			if err := g.forget(ctx, horizon.before(now.Add(-revocationMemory))); err != nil {
				g.log.Error("forgetting revocations", "error", err)
			}
			if now.Sub(looked) < keptInterval {
				continue
			}
			looked = now
			if _, err := g.ledger.ForgetKept(ctx, now); err != nil {
				g.log.Error("forgetting proofs of consent", "error", err)
			}
		}
	}
}

// lowWater is the position below which every destination has sealed.
func (g *gateway) lowWater() uint64 {
	low := g.spool.Tail()
	for _, x := range g.exits {
		low = min(low, x.shipper.Cursor())
	}
	if g.journeys != nil {
		low = min(low, g.journeys.Cursor())
	}
	return low
}

// forget drops revocations up to sequence, or less where something spooled is older. The spool is barred first: what was checked before
// cannot come in any more.
func (g *gateway) forget(ctx context.Context, sequence uint64) error {
	if sequence == 0 {
		return nil
	}
	return g.ledger.ForgetRevocations(ctx, g.spool.Bar(sequence))
}

// sequenceClock remembers what the revocation sequence was at past times.
type sequenceClock struct {
	marks []sequenceMark
}

type sequenceMark struct {
	at       time.Time
	sequence uint64
}

func (c *sequenceClock) note(at time.Time, sequence uint64) {
	if n := len(c.marks); n == 0 || c.marks[n-1].sequence != sequence {
		c.marks = append(c.marks, sequenceMark{at, sequence})
	}
}

// before is the latest sequence noted at or before t; earlier marks are dropped.
func (c *sequenceClock) before(t time.Time) uint64 {
	var last uint64
	for len(c.marks) > 0 && !c.marks[0].at.After(t) {
		last = c.marks[0].sequence
		if len(c.marks) > 1 && !c.marks[1].at.After(t) {
			c.marks = c.marks[1:]
			continue
		}
		break
	}
	return last
}
