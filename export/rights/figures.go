package rights

import (
	"cmp"
	"slices"
	"time"

	"github.com/octroi/octroi/export/rights/proof"
)

// Figures are what operators see of the open requests: counts and times, nothing of a person.
type Figures struct {
	At          time.Time  `json:"at"` // of the pass of the machine that counted
	Open        []Standing `json:"open"`
	Closed      []Standing `json:"closed"` // since the start
	Overdue     int        `json:"overdue"`
	Custodian   int        `json:"custodian"`             // requests that wait for the custodian
	LastContact time.Time  `json:"last_contact,omitzero"` // when it last asked for work, since the start
	Refused     int        `json:"refused"`               // jobs that the custodian does not carry out, and says why
	Failed      int        `json:"failed"`                // batches that it could not rewrite
	Stuck       int        `json:"stuck"`                 // erasures that do not come to an end: see the hard limit
	Unscheduled int        `json:"unscheduled"`           // destinations and purposes whose batches are over and wait for an approved schedule
	Troubles    int        `json:"troubles"`              // failures of the last pass, each in the log
}

// Standing counts the requests of one right, origin and state.
type Standing struct {
	Right  proof.Right  `json:"right"`
	Origin proof.Origin `json:"origin"`
	State  State        `json:"state"`
	Step   string       `json:"step,omitempty"`
	Count  int          `json:"count"`
	Due    time.Time    `json:"due,omitzero"` // the earliest, of open ones
}

// closing counts a request that has reached its end.
func (r *Requests) closing(s Standing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.closed {
		if x := &r.closed[i]; x.Right == s.Right && x.Origin == s.Origin && x.State == s.State {
			x.Count++
			return
		}
	}
	s.Count = 1
	r.closed = append(r.closed, s)
	slices.SortFunc(r.closed, compareStandings)
}

func compareStandings(a, b Standing) int {
	return cmp.Or(cmp.Compare(a.Right, b.Right), cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.State, b.State), cmp.Compare(a.Step, b.Step))
}

// Total is how many requests are open.
func (f *Figures) Total() (n int) {
	for _, x := range f.Open {
		n += x.Count
	}
	return n
}

func newFigures(at time.Time) Figures { return Figures{At: at, Open: []Standing{}} }

// add counts a request.
func (f *Figures) add(q *requestRow) {
	if q.State.Final() {
		return
	}
	due := q.Clock.due(f.At)
	if f.At.After(due) {
		f.Overdue++
	}
	if f.At.Sub(q.Opened) > hardLimit-alarmBefore {
		f.Stuck++
	}
	if q.Step == rewriting && q.Done < q.Batches || q.Step == certifying || q.Step == collecting {
		f.Custodian++
	}
	if q.Refused != nil {
		f.Refused++
	}
	s := Standing{Right: q.Right, Origin: q.Origin, State: q.State, Step: string(q.Step), Count: 1, Due: due}
	for i := range f.Open {
		x := &f.Open[i]
		if x.Right == s.Right && x.Origin == s.Origin && x.State == s.State && x.Step == s.Step {
			x.Count++
			if due.Before(x.Due) {
				x.Due = due
			}
			return
		}
	}
	f.Open = append(f.Open, s)
}

// publish makes the figures of a pass those that are shown.
func (r *Requests) publish(f Figures) {
	f.Failed = r.failing()
	slices.SortFunc(f.Open, compareStandings)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.figures = f
}

// failing counts the batches whose last attempt failed.
func (r *Requests) failing() (n int) {
	err := r.o.State.View(func(v reader) error {
		return v.Scan([]byte(batchPrefix), func(key, _ []byte) error {
			var row batchRow
			if _, err := readRow(v, key, &row); err != nil {
				return err
			}
			if row.Failed != nil {
				n++
			}
			return nil
		})
	})
	if err != nil {
		r.o.Log.Error("counting failed batches", "error", err)
	}
	return n
}

// Figures are those of the machine's last pass.
func (r *Requests) Figures() Figures {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.figures
	f.Open, f.Closed = slices.Clone(f.Open), slices.Clone(r.closed)
	f.LastContact, f.Unscheduled = r.custody, r.unscheduled
	return f
}
