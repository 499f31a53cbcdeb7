package journey

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Reports of an open period are made anew all at once, not before Settings.Refresh has passed, and not before as many subjects as a cell needs have come,
// gone or changed what they add: whoever asks again and again would else see what one more subject, or one less, changes, and know its basket
// (journeys.md "Release"). Who is erased leaves the state at once, and the reports with the next making. What shows nobody hides nobody, and is
// made anew whenever its time has come.
//
// Memory holds this: after a restart the first question is answered from the state as it is. Closing a period is one more making, of whomever came since.
type renewals struct {
	mu sync.Mutex
	by map[openPeriod]renewed // guarded by mu; of periods that are open

	moving sync.Mutex                               // apart: the writer of state takes it, and must not wait for a report
	moved  map[openPeriod]map[subject.Slot]struct{} // guarded by moving: since the reports were made; no more than a threshold of them
}

type openPeriod struct{ site, name string }

type renewed struct {
	at      time.Time
	release *release
}

// released is what is shown of an open period.
func (j *Journeys) released(site string, p period) (*release, error) {
	j.renewals.mu.Lock()
	defer j.renewals.mu.Unlock()
	key, now := openPeriod{site, p.name}, j.o.Now()
	if x, ok := j.renewals.by[key]; ok && !j.renewals.due(key, &x, now, &j.o.Settings) {
		return x.release, nil
	}
	moved := j.renewals.take(key) // before the cells are read: whoever comes later has moved
	c, before, err := j.counts(site, p)
	if err != nil {
		j.renewals.move(map[openPeriod][]subject.Slot{key: slices.Collect(maps.Keys(moved))}, j.o.Settings.Threshold)
		return nil, err
	}
	x := renewed{now, newRelease(c, before, j.rules(site, p))}
	if j.renewals.by == nil {
		j.renewals.by = map[openPeriod]renewed{}
	}
	j.renewals.by[key] = x
	return x.release, nil
}

// due tells whether reports may be made anew.
func (r *renewals) due(key openPeriod, x *renewed, now time.Time, s *Settings) bool {
	if now.Sub(x.at) < s.Refresh && !now.Before(x.at) {
		return false
	}
	r.moving.Lock()
	defer r.moving.Unlock()
	return len(x.release.pages) == 0 || len(r.moved[key]) >= s.Threshold
}

// take is who moved, and forgets them.
func (r *renewals) take(key openPeriod) map[subject.Slot]struct{} {
	r.moving.Lock()
	defer r.moving.Unlock()
	moved := r.moved[key]
	delete(r.moved, key)
	return moved
}

// close forgets a period that is published.
func (r *renewals) close(key openPeriod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.by, key)
	r.take(key)
}

// move remembers who changed what they add to open periods.
func (r *renewals) move(moved map[openPeriod][]subject.Slot, threshold int) {
	r.moving.Lock()
	defer r.moving.Unlock()
	if r.moved == nil {
		r.moved = map[openPeriod]map[subject.Slot]struct{}{}
	}
	for key, slots := range moved {
		if r.moved[key] == nil {
			r.moved[key] = map[subject.Slot]struct{}{}
		}
		for _, slot := range slots {
			if len(r.moved[key]) < threshold {
				r.moved[key][slot] = struct{}{}
			}
		}
	}
}

// apply writes them inside t, and remembers whom they are of when they are durable.
func (j *Journeys) apply(t *state.Txn, w *writes) error {
	if len(w.moved) > 0 {
		t.OnCommit(func() { j.renewals.move(w.moved, j.o.Settings.Threshold) })
	}
	return w.apply(t)
}

// differing are the periods in which a subject's part is not what it was.
func differing(before, after counts) map[openPeriod]bool {
	in := map[openPeriod]bool{}
	for _, x := range [...][2]counts{{before, after}, {after, before}} {
		for cell, t := range x[0] {
			if x[1][cell] != t {
				in[openPeriod{cell.Site, cell.Period}] = true
			}
		}
	}
	return in
}
