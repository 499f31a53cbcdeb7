package collector

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/policies"
)

// Covered counts events by what became of them for one purpose that their type may serve. It names nobody.
type Covered struct {
	Site, Channel, Purpose string
	Accepted, Refused      uint64 // refused: for want of a consent, or for an objection
}

// coverage counts, for each site, channel and purpose that a person can refuse (by consent, or without a subject), the events that the purpose let in and
// those that it did not: what choices leave of what happened. An event that one purpose lets in is refused by another that its type may serve and
// that does not hold. Counting is lock-free.
type coverage struct {
	sites    []string
	channels []string
	purposes []*policies.Purpose
	chosen   policies.Mask   // the purposes that are counted; linking lets nothing in by itself
	counts   []coverageCount // by site, channel, purpose

	mu       sync.Mutex
	reported []Covered // of counts, what the last reader has kept; guarded by mu
}

type coverageCount struct{ accepted, refused atomic.Uint64 }

func newCoverage(sites []string, policy *policies.Policy) *coverage {
	v := &coverage{sites: sites, channels: policies.Channels(), purposes: policy.Purposes()}
	for _, p := range v.purposes {
		if (p.Basis == policies.Consent || p.SubjectNone) && p.ID != policies.Linking {
			v.chosen |= p.Bit()
		}
	}
	v.counts = make([]coverageCount, len(sites)*len(v.channels)*len(v.purposes))
	v.reported = make([]Covered, len(v.counts))
	for i := range v.reported {
		v.reported[i] = Covered{
			Site: sites[i/len(v.purposes)/len(v.channels)], Channel: v.channels[i/len(v.purposes)%len(v.channels)], Purpose: v.purposes[i%len(v.purposes)].ID,
		}
	}
	return v
}

// event counts one event of a channel ("": its type's own). What no consent could have let in is not counted.
func (v *coverage) event(it *item, channel string) {
	if it.site == nil || it.kind == nil {
		return
	}
	switch it.reason {
	case "", consent.NoConsent, consent.Expired, consent.Withdrawn, consent.PurposeVersion, consent.Objected, consent.BeforeConsent:
	default:
		return
	}
	if channel == "" {
		channel = it.kind.Channel
	}
	row := v.counts[(it.site.index*len(v.channels)+slices.Index(v.channels, policies.Channel(channel)))*len(v.purposes):]
	for m := uint64(it.kind.Purposes & v.chosen); m != 0; m &= m - 1 {
		p := bits.TrailingZeros64(m)
		if it.granted&(1<<p) != 0 {
			row[p].accepted.Add(1)
		} else {
			row[p].refused.Add(1)
		}
	}
}

// since is what was counted since the last call whose done was called, without what is nothing.
func (v *coverage) since() (counted []Covered, done func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := slices.Clone(v.reported)
	for i := range now {
		was := now[i]
		now[i].Accepted, now[i].Refused = v.counts[i].accepted.Load(), v.counts[i].refused.Load()
		if c := now[i]; c != was {
			c.Accepted, c.Refused = c.Accepted-was.Accepted, c.Refused-was.Refused
			counted = append(counted, c)
		}
	}
	return counted, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.reported = now
	}
}

// Coverage is what was accepted and refused for each site, channel and purpose since the last call whose done was called. Journeys keep it (journeys.md
// "trust: consent coverage"). Safe for concurrent use by one reader.
func (c *Collector) Coverage() (counted []Covered, done func()) { return c.coverage.since() }
