package journey

import (
	"reflect"
	"testing"
	"time"
)

// Whoever asks for an open period again and again sees nothing new before Refresh has passed: neither who came, nor who was erased.
func TestOpenReportsAreRenewedAtIntervals(t *testing.T) {
	w := newWorld(t)
	w.settings.Threshold, w.settings.Refresh = 5, 10*time.Minute
	c := w.crowd(40, 5)
	j := w.journeys()
	rows := c.rows(w, j.o.Destination, 2000)
	foldRows(t, j, rows[:1000], 500)
	shown := func(after time.Duration) Answer {
		t.Helper()
		w.clock.set(testStart.Add(after))
		a, err := j.Report(Query{Report: ReportKPIs, Site: "shop"})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	first := shown(0)
	if len(first.KPIs) == 0 {
		t.Fatal("nothing is shown")
	}
	foldRows(t, j, rows[1000:], 500)
	if got := shown(9 * time.Minute); !reflect.DeepEqual(got, first) {
		t.Error("more is shown before its time")
	}
	second := shown(10 * time.Minute)
	if reflect.DeepEqual(second, first) {
		t.Error("what was folded is never shown")
	}
	for _, s := range c.devices[:20] {
		w.erase(j, s)
	}
	if got := shown(19 * time.Minute); !reflect.DeepEqual(got, second) {
		t.Error("the difference that an erasure makes is shown")
	}
	if reflect.DeepEqual(shown(20*time.Minute), second) {
		t.Error("who was erased is shown for ever")
	}
}
