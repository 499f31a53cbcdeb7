package collector

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/prometheus/client_golang/prometheus"
)

// Reason is why an event was refused: consent's, and those of form. The list is closed (consent.md).
type Reason = consent.Reason

// The reasons that the edge adds to those of the ledger.
const (
	Erased      Reason = "erased" // the person was erased when the event happened, or later
	UnknownType Reason = "unknown_type"
	UnknownSite Reason = "unknown_site"
	Invalid     Reason = "invalid"
	Duplicate   Reason = "duplicate"
	TooOld      Reason = "too_old"
)

// reasons is the closed list; position 0 counts what was accepted.
var reasons = [...]Reason{
	"", consent.NoConsent, consent.Expired, consent.Withdrawn, consent.PurposeVersion, consent.Restricted, consent.Objected, consent.BeforeConsent,
	Erased, UnknownType, UnknownSite, Invalid, Duplicate, TooOld,
}

func reasonIndex(r Reason) int {
	for i, known := range reasons {
		if r == known {
			return i
		}
	}
	return 1 // an unknown reason of the ledger: still refused, counted as no_consent
}

// states are the consent states that a post can lead to.
var states = [...]consent.State{consent.ConsentGiven, consent.RenewedConsentGiven, consent.ConsentRefused, consent.ConsentWithdrawn, consent.ConsentInvalidated}

// unknown is the label of what is not in a closed list, and no name that a site or an event type can have. A label never comes from input.
const unknown = "(unknown)"

// tally counts what came in, by closed lists only: sites and event types of the configuration, reasons, states, routes. It is the
// one source of the metrics, the demo's table and the hourly leaf. Counting is lock-free.
type tally struct {
	sites, kinds []string // each with unknown at its end
	events       []atomic.Uint64
	consents     [len(states)]atomic.Uint64
	notices      []atomic.Uint64 // served, by site: "notice shown" is a counter and no record (C8)
	latency      [routeCount][6]prometheus.Observer

	acceptedDesc, refusedDesc, consentsDesc, noticesDesc *prometheus.Desc
	histogram                                            *prometheus.HistogramVec

	mu       sync.Mutex
	reported []uint64 // of events, what the evidence log has; guarded by mu
}

func newTally(sites, kinds []string) *tally {
	t := &tally{
		sites: append(sites, unknown), kinds: append(kinds, unknown),
		acceptedDesc: prometheus.NewDesc("octroi_events_accepted_total", "Events answered as accepted.", []string{"site", "type"}, nil),
		refusedDesc:  prometheus.NewDesc("octroi_events_refused_total", "Events refused, by reason.", []string{"site", "type", "reason"}, nil),
		consentsDesc: prometheus.NewDesc("octroi_consents_total", "Consent records made, by state.", []string{"state"}, nil),
		noticesDesc:  prometheus.NewDesc("octroi_notices_served_total", "Notices served with a snapshot.", []string{"site"}, nil),
		histogram: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "octroi_request_seconds", Help: "Time to answer, by route and status class.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"route", "status"}),
	}
	t.events = make([]atomic.Uint64, len(t.sites)*len(t.kinds)*len(reasons))
	t.reported = make([]uint64, len(t.events))
	t.notices = make([]atomic.Uint64, len(sites)+1)
	for r := range routeCount {
		for class := 1; class < 6; class++ {
			t.latency[r][class] = t.histogram.WithLabelValues(routes[r], string('0'+rune(class))+"xx")
		}
	}
	return t
}

// event counts one event; reason "" is accepted, nil is unknown.
func (t *tally) event(s *source, k *kind, reason Reason) {
	site, typ := len(t.sites)-1, len(t.kinds)-1
	if s != nil {
		site = s.index
	}
	if k != nil {
		typ = k.index
	}
	t.events[(site*len(t.kinds)+typ)*len(reasons)+reasonIndex(reason)].Add(1)
}

func (t *tally) consent(s consent.State) {
	for i, known := range states {
		if s == known {
			t.consents[i].Add(1)
		}
	}
}

func (t *tally) notice(s *source) { t.notices[s.index].Add(1) }

func (t *tally) request(r route, status int, took time.Duration) {
	if class := status / 100; class > 0 && class < 6 {
		t.latency[r][class].Observe(took.Seconds())
	}
}

// place is what position i of events counts.
func (t *tally) place(i int) (site, typ string, reason Reason) {
	return t.sites[i/len(reasons)/len(t.kinds)], t.kinds[i/len(reasons)%len(t.kinds)], reasons[i%len(reasons)]
}

// refusedSince is what was refused since the last call whose done was called, by "site/type/reason".
func (t *tally) refusedSince() (counts map[string]int, done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := make([]uint64, len(t.events))
	counts = map[string]int{}
	for i := range t.events {
		now[i] = t.events[i].Load()
		site, typ, reason := t.place(i)
		if n := now[i] - t.reported[i]; n > 0 && reason != "" {
			counts[site+"/"+typ+"/"+string(reason)] = int(n)
		}
	}
	return counts, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.reported = now
	}
}

func (t *tally) counts() Counts {
	c := Counts{Accepted: map[string]uint64{}, Refused: map[string]uint64{}, Consents: map[string]uint64{}}
	for i := range t.events {
		n := t.events[i].Load()
		if n == 0 {
			continue
		}
		if _, typ, reason := t.place(i); reason == "" {
			c.Accepted[typ] += n
		} else {
			c.Refused[string(reason)] += n
		}
	}
	for i := range t.consents {
		if n := t.consents[i].Load(); n > 0 {
			c.Consents[string(states[i])] = n
		}
	}
	return c
}

// Describe implements prometheus.Collector.
func (t *tally) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{t.acceptedDesc, t.refusedDesc, t.consentsDesc, t.noticesDesc} {
		ch <- d
	}
	t.histogram.Describe(ch)
}

// Collect implements prometheus.Collector.
func (t *tally) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	for i := range t.events {
		n := t.events[i].Load()
		site, typ, reason := t.place(i)
		switch {
		case n == 0:
		case reason == "":
			counter(t.acceptedDesc, n, site, typ)
		default:
			counter(t.refusedDesc, n, site, typ, string(reason))
		}
	}
	for i, s := range states {
		counter(t.consentsDesc, t.consents[i].Load(), string(s))
	}
	for i, site := range t.sites[:len(t.sites)-1] {
		counter(t.noticesDesc, t.notices[i].Load(), site)
	}
	t.histogram.Collect(ch)
}
