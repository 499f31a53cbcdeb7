// Package journey counts journeys: what a shop wants to know of its customers' ways, without anybody being able to look at one customer's.
//
// It is a destination of its own, which is never shipped: it folds what is spooled, under the same gate as a shipper, into the window (each subject's
// touchpoints of the last weeks, sealed under its key) and into cells. A cell is a sum of integers over subjects, so that whoever goes is subtracted at
// once, and what is left is, byte for byte, what it would be without them. When a period closes its reports are built from its cells, released under a
// threshold, kept as bytes and never made again.
//
// Open first, then Run. Erase is for who erases or withdraws, inside the same change of state. Reports are read with the HTTP routes of http.go.
//
// An event counts for a period until that is published. It counts once, whatever crashes: cursor, touches and cells move in one change of state.
// Events without a subject are counted by coverage only: a threshold of distinct subjects cannot be judged of them.
//
// Measured on 2 cores that other work kept busy (load average 10 to 13), 10,000 events of 500 devices (BenchmarkFold, 5 runs): 3,900 to 12,400 events/s;
// 45 stored bytes a touch.
package journey

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Destination is the name under which purposes name journeys as a recipient. It is never shipped anywhere.
const Destination = "journeys"

// The errors of Open.
var (
	ErrOptions   = errors.New("journeys are not configured")
	ErrRetention = errors.New("a purpose of journeys keeps for a shorter time than the window needs") // take journeys off its recipients, or choose a shorter grid
)

// Site is a site as journeys see it.
type Site struct {
	Name string
	Zone *time.Location // of periods; nil: UTC
}

// Subjects gives the keys of subjects, and comes by all of them. Safe for concurrent use.
type Subjects interface {
	export.Subjects
	// Next is the living subject with the lowest slot above after.
	Next(after subject.Slot) (subject.Subject, bool)
}

// Options configure Open.
type Options struct {
	State       *state.Store
	Subjects    Subjects
	Spool       export.Spool
	SpoolKey    []byte
	Revocations export.Revocations
	Destination *pseudonymize.Destination // named Destination
	Policy      *policies.Policy
	Sites       []Site
	Settings    Settings
	Coverage    Coverage    // what the door counted; nil: nothing
	Pressed     func() bool // says whether the spool fills up; nil: never
	Restored    bool        // the state comes from a backup: cells are counted anew, since whoever was destroyed since can no longer be subtracted
	Log         *slog.Logger
	Now         func() time.Time
}

// Settings are what an operator chooses.
type Settings struct {
	Grid      string              // day | week | month; default week
	Threshold int                 // distinct subjects of a cell; default 10, never below 5
	Lateness  time.Duration       // a period closes so long after its end; default 72 h
	Interval  time.Duration       // what is spooled is folded so long after; default 10 s
	Refresh   time.Duration       // reports of an open period are made anew at most so often, and not of fewer than Threshold who moved (renew.go); default 15 min
	Keep      int                 // closed periods of each site whose reports are kept; default 500
	Segments  map[string][]string // field → its values that reports may be filtered by; few, and nobody's own
}

const (
	minThreshold = 5
	maxSegments  = 32 // values of all segments together: each is another set of cells
	maxLateness  = 31 * 24 * time.Hour
)

// Check is ErrOptions with what is wrong with the settings; a zero is a default.
func (s Settings) Check() error {
	if !slices.Contains([]string{"", gridDay, gridWeek, gridMonth}, s.Grid) {
		return fmt.Errorf("%w: %q is no grid: day, week or month", ErrOptions, s.Grid)
	}
	if s.Threshold != 0 && s.Threshold < minThreshold {
		return fmt.Errorf("%w: a threshold is at least %d", ErrOptions, minThreshold)
	}
	if s.Lateness < 0 || s.Lateness > maxLateness || s.Interval < 0 || s.Refresh < 0 || s.Keep < 0 {
		return fmt.Errorf("%w: lateness is at most %d days, and no duration or number of kept periods is negative", ErrOptions, maxLateness/(24*time.Hour))
	}
	values := 0
	for name, list := range s.Segments {
		values += len(list)
		for _, v := range append([]string{name}, list...) {
			if v == "" || label(v) != v || strings.Contains(name, "=") {
				return fmt.Errorf("%w: the segment %q or a value of it is no label of at most %d bytes", ErrOptions, label(name), maxLabel)
			}
		}
	}
	if values > maxSegments {
		return fmt.Errorf("%w: %d values of segments, at most %d", ErrOptions, values, maxSegments)
	}
	return nil
}

func (o *Options) complete() error {
	if o.State == nil || o.Subjects == nil || o.Spool == nil || o.Revocations == nil || o.Destination == nil || o.Policy == nil {
		return fmt.Errorf("%w: state, subjects, spool, revocations, destination and policy are needed", ErrOptions)
	}
	if o.Destination.Name() != Destination {
		return fmt.Errorf("%w: the destination is called %q", ErrOptions, o.Destination.Name())
	}
	s := &o.Settings
	if err := s.Check(); err != nil {
		return err
	}
	if s.Grid == "" {
		s.Grid = gridWeek
	}
	setDefault(&s.Threshold, 10)
	setDefault(&s.Lateness, 72*time.Hour)
	setDefault(&s.Interval, 10*time.Second)
	setDefault(&s.Refresh, 15*time.Minute)
	setDefault(&s.Keep, 500)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o.checkRetention()
}

// checkRetention: touches fall out when periods close, and no purpose may have to wait for that (GDPR Art. 5(1)(e)).
func (o *Options) checkRetention() error {
	longest := map[string]time.Duration{gridDay: 25 * time.Hour, gridWeek: 7*24*time.Hour + time.Hour, gridMonth: 31*24*time.Hour + time.Hour}
	needed := lookback + longest[o.Settings.Grid] + o.Settings.Lateness
	for _, p := range o.Policy.Purposes() {
		if o.Policy.RecipientOf(Destination)&p.Bit() != 0 && p.Retention.AtLeast() < needed {
			return fmt.Errorf("%w: %q; the window holds touchpoints for up to %d days", ErrRetention, p.ID, int(needed.Hours()/24)+1)
		}
	}
	return nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Journeys is the journey window with its cursor, the state that reports are made of, and the reports of closed periods. Safe for concurrent use.
type Journeys struct {
	o        Options
	gate     export.Gate
	sites    map[string]grid
	segments map[string]bool // "name=value", those of Settings

	folding chan struct{} // holds one token: whoever has it folds, publishes, counts anew
	cursor  atomic.Uint64 // as committed
	woken   chan struct{} // of capacity 1

	renewals renewals

	mu    sync.Mutex
	stats Stats // guarded by mu
}

// Open goes on where the last process stopped.
func Open(ctx context.Context, o Options) (*Journeys, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	j := &Journeys{
		o: o, gate: export.Gate{Spool: o.Spool, SpoolKey: o.SpoolKey, Revocations: o.Revocations, Subjects: o.Subjects, Destination: o.Destination},
		sites: map[string]grid{}, segments: map[string]bool{}, folding: make(chan struct{}, 1), woken: make(chan struct{}, 1),
	}
	j.folding <- struct{}{}
	for name, values := range o.Settings.Segments {
		for _, value := range values {
			j.segments[name+"="+value] = true
		}
	}
	for _, s := range o.Sites {
		zone := s.Zone
		if zone == nil {
			zone = time.UTC
		}
		j.sites[s.Name] = grid{o.Settings.Grid, zone}
	}
	if err := j.recover(ctx); err != nil {
		return nil, fmt.Errorf("opening journeys: %w", err)
	}
	return j, nil
}

// recover brings memory in line with what is committed, and ends what a crash cut short.
func (j *Journeys) recover(ctx context.Context) error {
	if err := j.prepare(ctx); err != nil {
		return err
	}
	var cursor uint64
	err := j.o.State.View(func(r state.Reader) (err error) { cursor, err = readNumber(r, cursorKey); return err })
	if err != nil {
		return err
	}
	if tail := j.o.Spool.Tail(); cursor > tail {
		// The spool lost its end, or was replaced: its next events get positions below the cursor. What was folded before and comes again is known by
		// its event id, for as long as the window holds it.
		j.o.Log.ErrorContext(ctx, "spool is older than the cursor: folding what is left of it", "alarm", true, "cursor", cursor, "tail", tail)
		cursor = 0
		err := j.o.State.Update(ctx, func(t *state.Txn) error {
			t.Set(cursorKey, encodeNumber(0))
			return nil
		})
		if err != nil {
			return err
		}
		j.note(func(s *Stats) { s.Alarms++ })
	}
	j.cursor.Store(cursor)
	return j.tidy(ctx)
}

// rules are what a period of a site is counted and released by.
func (j *Journeys) rules(site string, p period) *rules {
	return &rules{site: site, period: p, lookback: lookback, zone: j.sites[site].zone, policy: j.o.Policy, settings: j.o.Settings}
}

// Cursor is the spool position below which everything is folded.
func (j *Journeys) Cursor() uint64 { return j.cursor.Load() }

// Stats are figures for /metrics. Counters are since the start, and count events unless they say otherwise.
type Stats struct {
	Folded    uint64 // counted in an open period
	Late      uint64 // of a period that is published already: counted in none
	Dropped   uint64 // whose purposes were all revoked before they were folded
	Shredded  uint64 // whose subject was destroyed
	Nobody    uint64 // without a subject: journeys are of subjects
	Known     uint64 // that the window had already
	Crowded   uint64 // of a device of too many persons, or a person of too many devices
	Erased    uint64 // subjects, or purposes of subjects, that were taken out
	Published uint64 // periods
	Failures  uint64 // attempts that failed and are tried again
	Alarms    uint64 // that an operator must look at
	Lag       uint64 // spooled and not looked at yet
	LastError string // of what fails now; empty when all is well; without personal data
}

// Stats is the present count.
func (j *Journeys) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	s.Lag = max(j.o.Spool.Tail(), j.cursor.Load()) - j.cursor.Load()
	return s
}

func (j *Journeys) note(fn func(*Stats)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fn(&j.stats)
}

// count counts what became of one event.
func (s *Stats) count(f fate) {
	switch f {
	case added:
		s.Folded++
	case late:
		s.Late++
	case known:
		s.Known++
	case crowded:
		s.Crowded++
	}
}

// add adds the counters that folding has.
func (s *Stats) add(o *Stats) {
	s.Folded += o.Folded
	s.Late += o.Late
	s.Dropped += o.Dropped
	s.Shredded += o.Shredded
	s.Nobody += o.Nobody
	s.Known += o.Known
	s.Crowded += o.Crowded
}
