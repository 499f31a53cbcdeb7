package journey

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Subtracting is right only where before was counted by the rules of today. When those change (the policy's stages, a setting, what this program makes of
// a journey), and when rows of somebody who was destroyed were counted, the cells of open periods are dropped and counted anew from the touches.

// progress says by which rules the cells are counted, and how far.
//
//	version ‖ phase ‖ u32 slot ‖ fingerprint[32]
type progress struct {
	phase       phase
	slot        subject.Slot // of phase counting: journeys up to it are in the cells
	fingerprint [32]byte     // of the rules
}

type phase byte

const (
	settled  phase = iota
	dropping       // cells of before are deleted; nobody is counted
	counting       // up to slot
)

const progressVersion = 1

// counted says whether the journey of the subject in slot is in the cells.
func (p *progress) counted(slot subject.Slot) bool {
	return p.phase == settled || p.phase == counting && slot <= p.slot
}

func (p *progress) encode() []byte {
	b := binary.BigEndian.AppendUint32([]byte{progressVersion, byte(p.phase)}, uint32(p.slot))
	return append(b, p.fingerprint[:]...)
}

// readProgress reads it; a state that never had one has nothing to drop and nobody to count.
func readProgress(r state.Reader) (p progress, err error) {
	b, err := r.Get(progressKey)
	switch {
	case errors.Is(err, state.ErrNotFound):
		return p, nil
	case err != nil:
		return p, fmt.Errorf("reading progress: %w", err)
	case len(b) != 38 || b[0] != progressVersion || phase(b[1]) > counting:
		return p, fmt.Errorf("%w: progress", errStored)
	}
	p.phase, p.slot = phase(b[1]), subject.Slot(binary.BigEndian.Uint32(b[2:]))
	copy(p.fingerprint[:], b[6:])
	return p, nil
}

// beginRecount asks, inside t, for everything to be counted anew.
func beginRecount(t *state.Txn) error {
	p, err := readProgress(t)
	if err != nil {
		return err
	}
	p.phase, p.slot = dropping, 0
	t.Set(progressKey, p.encode())
	return nil
}

// fingerprint says what the cells are counted by.
func (j *Journeys) fingerprint() [32]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%d %q %d %v %q", contribution, j.o.Settings.Grid, lookback, j.o.Settings.Threshold, j.o.Policy.Stages())
	for _, t := range j.o.Policy.EventTypes() {
		fmt.Fprintf(h, " %q %q %q", t.Name, t.Channel, t.Stage)
	}
	for _, p := range j.o.Policy.Purposes() {
		fmt.Fprintf(h, " %q %v", p.ID, j.receives(p.ID))
	}
	for _, site := range slices.Sorted(maps.Keys(j.sites)) {
		fmt.Fprintf(h, " %q %q", site, j.sites[site].zone.String())
	}
	for _, name := range slices.Sorted(maps.Keys(j.o.Settings.Segments)) {
		fmt.Fprintf(h, " %q %q", name, j.o.Settings.Segments[name])
	}
	return [32]byte(h.Sum(nil))
}

// prepare says at the start what the cells are counted by from now on, and where the periods of a site begin that is new or has another grid.
func (j *Journeys) prepare(ctx context.Context) error {
	now, mine := j.o.Now(), j.fingerprint()
	return j.o.State.Update(ctx, func(t *state.Txn) error {
		for site, g := range j.sites {
			n, err := readNumber(t, beginKey(site))
			if err != nil {
				return err
			}
			begin := g.of(now.Add(-j.o.Settings.Lateness)).start
			if n != 0 { // nothing is published twice, however periods are cut now
				if begin = g.of(unixMilli(int64(n))).start; begin.UnixMilli() < int64(n) {
					begin = g.of(unixMilli(int64(n))).end
				}
			}
			if begin.UnixMilli() != int64(n) {
				t.Set(beginKey(site), encodeNumber(uint64(begin.UnixMilli())))
			}
		}
		p, err := readProgress(t)
		if err != nil {
			return err
		}
		if p.fingerprint == mine && !j.o.Restored {
			return nil
		}
		if p.fingerprint != [32]byte{} { // else it is new, and there is nobody to count
			p.phase, p.slot = dropping, 0
			t.Set(fallingKey, encodeNumber(0))
		}
		p.fingerprint = mine
		t.Set(progressKey, p.encode())
		return nil
	})
}

// recount goes on with what prepare or an erasure asked for; more says that it is not done.
func (j *Journeys) recount(ctx context.Context) (more bool, err error) {
	var p progress
	if err := j.o.State.View(func(r state.Reader) (err error) { p, err = readProgress(r); return err }); err != nil {
		return false, err
	}
	switch p.phase {
	case dropping:
		return true, j.drop(ctx)
	case counting:
		return true, j.count(ctx, p.slot)
	}
	return false, nil
}

// drop deletes some of the cells of before. Coverage stays where its period is one of the grid: nobody's touches say it again.
func (j *Journeys) drop(ctx context.Context) error {
	return j.o.State.Update(ctx, func(t *state.Txn) error {
		more, err := deletePrefix(t, cellPrefix)
		if err != nil || more {
			return err
		}
		if more, err := j.dropClosed(t, coveragePrefix); err != nil || more {
			return err
		}
		p, err := readProgress(t)
		if err != nil {
			return err
		}
		p.phase, p.slot = counting, 0
		t.Set(progressKey, p.encode())
		return nil
	})
}

// dropClosed deletes some of the cells below prefix that are of no open period: those that have closed, and those of another grid.
func (j *Journeys) dropClosed(t *state.Txn, prefix string) (more bool, err error) {
	begins, err := j.begins(t)
	if err != nil {
		return false, err
	}
	const rows = 2000 // of one change
	var keys [][]byte
	err = t.Scan([]byte(prefix), func(key, _ []byte) error {
		cell, err := parseCell(key, prefix)
		if err != nil {
			return err
		}
		if s, configured := j.sites[cell.Site]; configured {
			if p, err := s.named(cell.Period); err == nil && p.start.UnixMilli() >= begins[cell.Site] {
				return nil
			}
		}
		if keys = append(keys, key); len(keys) == rows {
			return state.ErrStop
		}
		return nil
	})
	for _, key := range keys {
		t.Delete(key)
	}
	return len(keys) == rows, err
}

// recountSubjects is how many subjects are looked at between two changes.
const recountSubjects = 2000

// count adds the journeys of the next subjects after slot.
func (j *Journeys) count(ctx context.Context, from subject.Slot) error {
	generation, cells, last, more := uint64(0), counts{}, from, false
	var w *writes // lists of subjects that named somebody who is destroyed
	err := j.o.State.View(func(r state.Reader) (err error) {
		if generation, err = readNumber(r, generationKey); err != nil {
			return err
		}
		v, err := j.revise(r)
		if err != nil {
			return err
		}
		last, more, err = j.walk(from, func(s subject.Subject) (bool, error) {
			o, err := v.open(s.Slot())
			if err != nil {
				return false, ignore(err, subject.ErrShredded)
			}
			cells.add(j.contributions(merge(o.before), v.begins, everyPeriod), 1)
			delete(v.owners, s.Slot())
			clear(v.lists)
			return cells.weight() < changeBytes/2, nil
		})
		if err == nil {
			w, err = v.settle()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("counting anew: %w", err)
	}
	return j.o.State.Update(ctx, func(t *state.Txn) error {
		p, err := readProgress(t)
		if err != nil {
			return err
		}
		now, err := readNumber(t, generationKey)
		if err != nil || now != generation || p.phase != counting || p.slot != from {
			return err // somebody was taken out meanwhile: this run is counted again
		}
		if p.slot = last; !more {
			p.phase, p.slot = settled, 0
		}
		t.Set(progressKey, p.encode())
		w.cells, w.recount = cells, false
		return w.apply(t)
	})
}

func everyPeriod(string, *period) bool { return true }

// walk gives fn the next subjects after slot, devices and persons, until it wants no more or some have been looked at; more says that some are left.
func (j *Journeys) walk(from subject.Slot, fn func(subject.Subject) (bool, error)) (last subject.Slot, more bool, err error) {
	last = from
	for range recountSubjects {
		s, ok := j.o.Subjects.Next(last)
		if !ok {
			return last, false, nil
		}
		last = s.Slot()
		if s.Kind() != subject.Device && s.Kind() != subject.Person {
			continue
		}
		if goOn, err := fn(s); err != nil || !goOn {
			return last, true, err
		}
	}
	return last, true, nil
}

func ignore(err, of error) error {
	if errors.Is(err, of) {
		return nil
	}
	return err
}
