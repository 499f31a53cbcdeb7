package journey

import (
	"context"
	"fmt"
	"time"

	"github.com/octroi/octroi/consent/state"
)

// Covered counts events by what became of them for one purpose. It names nobody.
type Covered struct {
	Site, Channel, Purpose string
	Accepted, Refused      uint64 // refused: for want of a consent, or for an objection
}

// Coverage gives what was counted since the last call whose done was called, by the gateway's door. Safe for concurrent use.
type Coverage func() (counted []Covered, done func())

// coverInterval is how much of what was counted a crash may lose.
const coverInterval = 30 * time.Second

// The last dimension of the key of a coverage cell, after channel and purpose.
const (
	acceptedKey = "accepted"
	refusedKey  = "refused"
)

// cover adds what the door counted to the cells of the periods of now.
func (j *Journeys) cover(ctx context.Context) error {
	if j.o.Coverage == nil {
		return nil
	}
	now := j.o.Now()
	counted, done := j.o.Coverage()
	delta := counts{}
	for _, c := range counted {
		s, configured := j.sites[c.Site]
		if !configured {
			continue
		}
		cell := Cell{Period: s.of(now).name, Site: c.Site, Kind: coverageKind}
		for outcome, n := range map[string]uint64{acceptedKey: c.Accepted, refusedKey: c.Refused} {
			if n > 0 {
				cell.Key = Join(c.Channel, c.Purpose, outcome)
				delta.add(map[Cell]Tally{cell: {Count: int64(n)}}, 1)
			}
		}
	}
	if len(delta) > 0 {
		err := j.o.State.Update(ctx, func(t *state.Txn) error { return addCells(t, coveragePrefix, delta) })
		if err != nil {
			return fmt.Errorf("keeping coverage: %w", err)
		}
	}
	// Crash here: counted and kept, and what the door counts begins at 0 again with the process.
	done()
	return nil
}
