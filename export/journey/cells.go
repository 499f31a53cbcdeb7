package journey

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The state is a sum: over all subjects, of what contribute says of each. Whoever goes is subtracted.

// Touch is one touchpoint of a subject as the window keeps it.
type Touch struct {
	At                         int64    // event time, Unix milliseconds
	ID                         [16]byte // event id at journeys
	Site, Type, Channel, Stage string
	Campaign, Source, Medium   string
	Segments                   []string // declared labels, "name=value", sorted
	Value                      pseudonymize.Money
	Device                     subject.Slot // under which it came; 0: none

	received int64                   // as the row had it, Unix milliseconds
	policy   [32]byte                // the row's
	grants   []pseudonymize.RowGrant // the row's, shared and read only
}

// Cell names one number of the state. No part of it holds the byte 0; all together they stay well below the 1 KiB of a key of state, being names of the
// configuration and labels of at most maxLabel bytes.
type Cell struct {
	Period  string // "2026-W47", "2026-11", "2026-11-22"
	Site    string
	Segment string // "name=value"; "": everybody
	Kind    string // part of a report
	Key     string // its dimensions, joined by Join
}

// coverageKind is the kind of the cells that no subject is in: what was accepted and refused (coverage.go).
const coverageKind = "coverage"

// dimension separates the dimensions of a key.
const dimension = "\x1f"

// Join makes a key of dimensions.
func Join(dimensions ...string) string { return strings.Join(dimensions, dimension) }

// Dimensions is the reverse of Join.
func (c Cell) Dimensions() []string { return strings.Split(c.Key, dimension) }

// octaves is the number of buckets of Tally.Spread.
const octaves = 48

// Tally is what a cell holds: a sum over subjects, in integers, so that whoever goes can be subtracted.
type Tally struct {
	Subjects, Count int64
	Value           int64 // minor units of the currency that Key names; clipped

	// Spread counts subjects by the size of their Value here: bucket bits.Len(|Value|), so that it can be told whether one subject dominates
	// the sum. Only of cells of money.
	Spread [octaves]int32
}

// spend adds a subject's clipped amount to the tally.
func (t *Tally) spend(minor int64) {
	t.Value += minor
	t.Spread[octave(minor)]++
}

// octave is the bucket of an amount: amounts in it are below 1 << octave.
func octave(minor int64) int {
	if minor < 0 {
		minor = -minor
	}
	return min(bits.Len64(uint64(minor)), octaves-1)
}

// plus is the sum, with the second times n.
func (t Tally) plus(o *Tally, n int64) Tally {
	t.Subjects += n * o.Subjects
	t.Count += n * o.Count
	t.Value += n * o.Value
	for i, v := range o.Spread {
		t.Spread[i] += int32(n) * v
	}
	return t
}

// rules are what one subject's touches are counted by: one period of one site. They are read only.
type rules struct {
	site     string
	period   period        // the one that is counted
	lookback time.Duration // before the period's start: touches from there on are given
	zone     *time.Location
	policy   *policies.Policy
	settings Settings
}

// What reports.go's side of this package gives, as pure functions:
//
//	contribute(touches []Touch, s *rules) map[Cell]Tally
//
// is what one subject adds to one period at one site. touches are those of that site with an event time in [period.start - lookback, period.end),
// sorted by (At, ID), at least one of them in the period. Its cells are of that period and site. It depends on nothing else: not on the clock, not on
// the order in which touches came. At most maxContribution cells, so that a subject can be subtracted within one change of state.
//
//	build(c counts, previous published, s *rules) ([]Report, error)
//
// is what is released of a period when it closes. previous gives what was released of the period before.
//
// contribution is the version of contribute. Whoever changes what it answers raises it: then the cells of open periods are counted anew at the next start.
const contribution = 1

// maxContribution bounds the cells that one subject has in one period of one site.
const maxContribution = 1000

// counts are the cells of one period at one site.
type counts map[Cell]Tally

// add adds n times what another holds; a tally that falls to zero goes.
func (c counts) add(o map[Cell]Tally, n int64) {
	for cell, t := range o {
		sum := c[cell].plus(&t, n)
		if sum == (Tally{}) {
			delete(c, cell)
		} else {
			c[cell] = sum
		}
	}
}

// move adds what after holds beyond before. Most cells of a journey stay as they were.
func (c counts) move(before, after counts) {
	gone := counts{}
	for cell, t := range before {
		if now, ok := after[cell]; !ok || now != t {
			gone[cell] = t
		}
	}
	fresh := counts{}
	for cell, t := range after {
		if was, ok := before[cell]; !ok || was != t {
			fresh[cell] = t
		}
	}
	c.add(gone, -1)
	c.add(fresh, 1)
}

// Report is one released report of a closed period: the bytes are kept, and never made again.
type Report struct {
	Name    string // "kpis"
	Segment string // "": everybody
	Body    []byte
}

// published gives a report of an earlier period; nil where there is none.
type published func(name, segment string) []byte

const cellVersion = 1

var errCell = errors.New("cell of journeys in state is damaged")

// encode is the value of a cell: version ‖ subjects ‖ count ‖ value ‖ (bucket ‖ number)*, varints. Equal tallies have equal bytes.
func (t *Tally) encode() []byte {
	b := make([]byte, 1, 16)
	b[0] = cellVersion
	for _, v := range []int64{t.Subjects, t.Count, t.Value} {
		b = binary.AppendVarint(b, v)
	}
	for i, v := range t.Spread {
		if v != 0 {
			b = binary.AppendUvarint(b, uint64(i))
			b = binary.AppendVarint(b, int64(v))
		}
	}
	return b
}

func decodeTally(b []byte) (t Tally, err error) {
	if len(b) == 0 || b[0] != cellVersion {
		return t, fmt.Errorf("%w: version", errCell)
	}
	b = b[1:]
	for _, to := range []*int64{&t.Subjects, &t.Count, &t.Value} {
		v, n := binary.Varint(b)
		if n <= 0 {
			return t, errCell
		}
		*to, b = v, b[n:]
	}
	for len(b) > 0 {
		i, n := binary.Uvarint(b)
		if n <= 0 || i >= octaves {
			return t, errCell
		}
		v, m := binary.Varint(b[n:])
		if m <= 0 {
			return t, errCell
		}
		t.Spread[i], b = int32(v), b[n+m:]
	}
	return t, nil
}
