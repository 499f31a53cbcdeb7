package main

import (
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/journey"
	"github.com/octroi/octroi/export/rights"
	"github.com/prometheus/client_golang/prometheus"
)

// figures are the metrics of what lies behind the edge: spool, duplicate window, shippers, state. They are read when they are asked for.
// The only label is a destination's name, which is configuration.
type figures struct{ g *gateway }

// figure is one metric and where it comes from.
type figure[T any] struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(T) float64
}

func newFigure[T any](kind prometheus.ValueType, name, help string, of func(T) float64, labels ...string) figure[T] {
	return figure[T]{prometheus.NewDesc("octroi_"+name, help, labels, nil), kind, of}
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

// A number that must be looked at when it is not 0 says so in its help.
var gatewayFigures = []figure[*gateway]{
	newFigure(gauge, "spool_bytes", "Bytes of the spool's segments.", func(g *gateway) float64 { return float64(g.spool.Stats().Bytes) }),
	newFigure(gauge, "spool_max_bytes", "Bytes beyond which events are answered 503.", func(g *gateway) float64 { return float64(g.spool.Stats().MaxBytes) }),
	newFigure(counter, "spool_refused_total", "Events answered 503 because the spool was full.", func(g *gateway) float64 { return float64(g.spool.Stats().Refused) }),
	newFigure(counter, "spool_failures_total", "Groups that could not be written; look at the disk.", func(g *gateway) float64 { return float64(g.spool.Stats().Failed) }),
	newFigure(gauge, "duplicate_window_events", "Events that a repeat is known by.", func(g *gateway) float64 { return float64(g.spool.Stats().WindowEvents) }),
	newFigure(gauge, "duplicate_window_seconds", "How far back repeats are known.", func(g *gateway) float64 { return g.spool.Stats().WindowSpan.Seconds() }),
	newFigure(gauge, "duplicate_window_shrunk", "1 when spool.window_count is too small for spool.window: raise it.", func(g *gateway) float64 { return truth(g.spool.Stats().WindowShrunk) }),
	newFigure(gauge, "state_bytes", "Bytes of the state on disk.", func(g *gateway) float64 { return float64(g.state.Size()) }),
	newFigure(counter, "state_background_errors_total", "Errors of the database's own work; look at the disk.", func(g *gateway) float64 { return float64(g.state.BackgroundErrors()) }),
}

// rightsFigures are of the requests of data subjects; alarms are above 0.
var rightsFigures = []figure[rights.Figures]{
	newFigure(gauge, "requests_open", "Requests of data subjects that are not closed.", func(f rights.Figures) float64 { return float64(f.Total()) }),
	newFigure(gauge, "requests_overdue", "Requests past their due date: an alarm.", func(f rights.Figures) float64 { return float64(f.Overdue) }),
	newFigure(gauge, "requests_stuck", "Erasures that do not come to an end: an alarm; they are given up after 90 days.", func(f rights.Figures) float64 { return float64(f.Stuck) }),
	newFigure(gauge, "requests_failures", "Failures of the last pass over the requests; the log says which.", func(f rights.Figures) float64 { return float64(f.Troubles) }),
	newFigure(gauge, "custody_waiting", "Requests that wait for the custodian.", func(f rights.Figures) float64 { return float64(f.Custodian) }),
	newFigure(gauge, "custody_refused", "Requests that the custodian does not carry out, and says why: an alarm.", func(f rights.Figures) float64 { return float64(f.Refused) }),
	newFigure(gauge, "custody_failed_batches", "Batches that the custodian could not rewrite: an alarm.", func(f rights.Figures) float64 { return float64(f.Failed) }),
	newFigure(gauge, "custody_contact_timestamp_seconds", "When the custodian last asked for work, since the start; 0: never.", func(f rights.Figures) float64 {
		if f.LastContact.IsZero() {
			return 0
		}
		return float64(f.LastContact.Unix())
	}),
	newFigure(gauge, "retention_unscheduled", "Destinations and purposes whose rows are over and wait for an approved schedule: an alarm.", func(f rights.Figures) float64 { return float64(f.Unscheduled) }),
}

var exitFigures = []figure[export.ShipperStats]{
	exitFigure(counter, "sealed_batches_total", "Batches sealed.", func(s export.ShipperStats) float64 { return float64(s.Sealed) }),
	exitFigure(counter, "published_batches_total", "Batches stored and published.", func(s export.ShipperStats) float64 { return float64(s.Published) }),
	exitFigure(counter, "sealed_rows_total", "Rows sealed.", func(s export.ShipperStats) float64 { return float64(s.Rows) }),
	exitFigure(counter, "sealed_bytes_total", "Bytes of sealed objects.", func(s export.ShipperStats) float64 { return float64(s.Bytes) }),
	exitFigure(counter, "revoked_events_total", "Events dropped at the seal, their purposes being revoked.", func(s export.ShipperStats) float64 { return float64(s.Dropped) }),
	exitFigure(counter, "shredded_events_total", "Spooled events whose subject was erased.", func(s export.ShipperStats) float64 { return float64(s.Shredded) }),
	exitFigure(counter, "regated_batches_total", "Batches drafted again because of a revocation.", func(s export.ShipperStats) float64 { return float64(s.Regated) }),
	exitFigure(counter, "object_collisions_total", "Objects whose key something else had: who else writes there?", func(s export.ShipperStats) float64 { return float64(s.Collisions) }),
	exitFigure(counter, "shipping_failures_total", "Attempts that failed and are tried again.", func(s export.ShipperStats) float64 { return float64(s.Failures) }),
	exitFigure(counter, "shipping_alarms_total", "Failures that an operator must act on; the log says what to do.", func(s export.ShipperStats) float64 { return float64(s.Alarms) }),
	exitFigure(gauge, "shipping_fails", "1 while the last attempt failed.", func(s export.ShipperStats) float64 { return truth(s.LastError != "") }),
	exitFigure(gauge, "outbox_objects", "Sealed objects that the store does not have.", func(s export.ShipperStats) float64 { return float64(s.Waiting) }),
	exitFigure(gauge, "outbox_bytes", "Bytes of them.", func(s export.ShipperStats) float64 { return float64(s.WaitingBytes) }),
}

// journeyFigures are of the journey window.
var journeyFigures = []figure[journey.Stats]{
	newFigure(counter, "journeys_folded_total", "Events counted in an open period.", func(s journey.Stats) float64 { return float64(s.Folded) }),
	newFigure(counter, "journeys_late_total", "Events of a period that was published already: counted in none.", func(s journey.Stats) float64 { return float64(s.Late) }),
	newFigure(counter, "journeys_revoked_total", "Events dropped before they were folded, their purposes being revoked.", func(s journey.Stats) float64 { return float64(s.Dropped) }),
	newFigure(counter, "journeys_published_total", "Periods published.", func(s journey.Stats) float64 { return float64(s.Published) }),
	newFigure(counter, "journeys_failures_total", "Attempts that failed and are tried again.", func(s journey.Stats) float64 { return float64(s.Failures) }),
	newFigure(gauge, "journeys_lag_events", "Spooled events that are not folded.", func(s journey.Stats) float64 { return float64(s.Lag) }),
	newFigure(gauge, "journeys_fails", "1 while the last attempt failed.", func(s journey.Stats) float64 { return truth(s.LastError != "") }),
}

func exitFigure(kind prometheus.ValueType, name, help string, of func(export.ShipperStats) float64) figure[export.ShipperStats] {
	return newFigure(kind, name, help, of, "destination")
}

var unsealedDesc = prometheus.NewDesc("octroi_unsealed_events", "Spooled events that the destination's shipper has not looked at.", []string{"destination"}, nil)

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe is prometheus.Collector's.
func (f figures) Describe(ch chan<- *prometheus.Desc) {
	for _, x := range gatewayFigures {
		ch <- x.desc
	}
	for _, x := range rightsFigures {
		ch <- x.desc
	}
	for _, x := range journeyFigures {
		ch <- x.desc
	}
	for _, x := range exitFigures {
		ch <- x.desc
	}
	ch <- unsealedDesc
}

// Collect is prometheus.Collector's.
func (f figures) Collect(ch chan<- prometheus.Metric) {
	for _, x := range gatewayFigures {
		ch <- prometheus.MustNewConstMetric(x.desc, x.kind, x.of(f.g))
	}
	requests := f.g.rights.Figures()
	for _, x := range rightsFigures {
		ch <- prometheus.MustNewConstMetric(x.desc, x.kind, x.of(requests))
	}
	if f.g.journeys != nil {
		stats := f.g.journeys.Stats()
		for _, x := range journeyFigures {
			ch <- prometheus.MustNewConstMetric(x.desc, x.kind, x.of(stats))
		}
	}
	tail := f.g.spool.Tail()
	for _, e := range f.g.exits {
		stats, name := e.shipper.Stats(), e.destination.Name()
		for _, x := range exitFigures {
			ch <- prometheus.MustNewConstMetric(x.desc, x.kind, x.of(stats), name)
		}
		ch <- prometheus.MustNewConstMetric(unsealedDesc, gauge, float64(max(tail, e.shipper.Cursor())-e.shipper.Cursor()), name)
	}
}
