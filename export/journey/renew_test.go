package journey

import (
	"reflect"
	"testing"
	"time"

	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
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

// Whoever asks before and after one subject came, bought or was erased learns nothing of it, however long they wait: reports are made anew when as many
// have moved as a cell needs, of whom one who comes again and again is one.
func TestOneSubjectDoesNotShowInOpenReports(t *testing.T) {
	w := newWorld(t)
	w.settings.Threshold = 5
	j := w.journeys()
	devices, _ := w.people(40)
	n := 0
	buy := func(who ...subject.Subject) {
		t.Helper()
		var rows []pseudonymize.Row
		for _, s := range who {
			n++
			rows = append(rows, w.row(j.o.Destination, occurrence{
				n: n, device: s, purposes: []string{"audience"}, site: "shop", typ: "purchase", at: testStart.Add(-time.Duration(n) * time.Minute), minor: 1000 + int64(n),
			}))
		}
		foldRows(t, j, rows, 100)
	}
	day := time.Duration(0)
	shown := func() (all []Answer) {
		t.Helper()
		day += 12 * time.Hour
		w.clock.set(testStart.Add(day))
		for _, report := range Reports() {
			a, err := j.Report(Query{Report: report, Site: "shop", Period: "2026-W47"})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, a)
		}
		return all
	}
	buy(devices[:3]...)
	if first := shown(); !first[0].Withheld {
		t.Fatalf("of three something is said: %+v", first[0])
	}
	buy(devices[3:20]...)
	first := shown()
	if first[0].Withheld {
		t.Fatal("what shows nobody is kept, and hides those who came")
	}
	for range 7 {
		buy(devices[30]) // the same again and again
	}
	w.erase(j, devices[0])
	buy(devices[31:33]...)
	if !reflect.DeepEqual(shown(), first) {
		t.Error("reports are made anew of four subjects, with a threshold of five")
	}
	w.erase(j, devices[1])
	if reflect.DeepEqual(shown(), first) {
		t.Error("five have moved, and nothing is made anew")
	}
}
