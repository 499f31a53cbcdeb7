package journey

import (
	"sync"
	"time"
)

// Reports of an open period are made anew at most once in Settings.Refresh, and all of them at once: whoever could ask at any moment would have free
// windows of time, and see what one more subject changes (journeys.md "Release"). Who is erased leaves them with the next making.
type renewals struct {
	mu sync.Mutex
	by map[openPeriod]renewed // guarded by mu; of periods that are open
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
	if x, ok := j.renewals.by[key]; ok && now.Sub(x.at) < j.o.Settings.Refresh && !now.Before(x.at) {
		return x.release, nil
	}
	c, before, err := j.counts(site, p)
	if err != nil {
		return nil, err
	}
	x := renewed{now, newRelease(c, before, j.rules(site, p))}
	if j.renewals.by == nil {
		j.renewals.by = map[openPeriod]renewed{}
	}
	for other, old := range j.renewals.by { // also of periods that have closed since
		if now.Sub(old.at) >= j.o.Settings.Refresh {
			delete(j.renewals.by, other)
		}
	}
	j.renewals.by[key] = x
	return x.release, nil
}
