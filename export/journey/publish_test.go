package journey

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// failing is a context that ends after some looks at it: every change of state looks once, so that whatever does several stops between two.
type failing struct {
	context.Context
	left int
}

func (c *failing) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// reports are what is published of a site, by period, name and segment.
func reports(t *testing.T, w *world, j *Journeys, site string) map[string]string {
	t.Helper()
	periods, err := j.Published(site)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, p := range periods {
		err := w.state.View(func(r state.Reader) error {
			prefix := reportPrefix + site + "\x00" + p + "\x00"
			return r.Scan([]byte(prefix), func(key, _ []byte) error {
				name, segment, ok := reportOf(key, prefix)
				if !ok {
					return errors.New("a key of no report")
				}
				body, err := j.report(site, p, name, segment)
				out[p+" "+name+" "+segment] = string(body)
				return err
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestPublishedOnce: stopped between any two changes, and started anew, a period is published once, whole, and the same as without.
func TestPublishedOnce(t *testing.T) {
	w := newWorld(t)
	c := w.crowd(15, 11)
	j := w.journeys()
	rows := c.rows(w, j.o.Destination, 300)
	publishAll := func(stopAfter int) (stops int, got map[string]string) {
		w.wipe()
		w.clock.set(testStart)
		j := w.journeys()
		foldRows(t, j, rows, 200)
		w.clock.set(testStart.Add(14 * 24 * time.Hour))
		for {
			ctx := &failing{t.Context(), stopAfter}
			more, err := j.publishDue(ctx)
			switch {
			case errors.Is(err, context.Canceled):
				if stops++; stops > 1000 {
					t.Fatal("it never comes to its end")
				}
				if stops%2 == 0 { // the process is killed, and started again: nothing of an unfinished try is shown
					j = w.journeys()
				}
				stopAfter++
			case err != nil:
				t.Fatal(err)
			case !more:
				return stops, reports(t, w, j, "shop")
			}
		}
	}
	_, want := publishAll(1 << 30)
	if len(want) < 10 || !slices.ContainsFunc(slices.Collect(maps.Keys(want)), func(k string) bool { return strings.HasPrefix(k, "2026-W47 ") }) {
		t.Fatalf("published: %v", slices.Sorted(maps.Keys(want)))
	}
	stops, got := publishAll(0) // then after one change more each time: between all of them
	if stops < 20 {
		t.Fatalf("stopped %d times", stops)
	}
	if !maps.Equal(got, want) {
		t.Fatal("other reports are published than without a stop")
	}
	cells := cellsOf(w.dump(j))
	for k := range cells {
		if strings.HasPrefix(k, cellPrefix+"2026-W47") {
			t.Fatalf("cell %q of a closed period is left", k)
		}
	}
}

// TestPublishedStays: what is published does not follow an erasure, nor events that come late; what is open does.
func TestPublishedStays(t *testing.T) {
	w := newWorld(t)
	c := w.crowd(30, 12)
	j := w.journeys()
	foldRows(t, j, c.rows(w, j.o.Destination, 600), 200)
	w.clock.set(testStart.Add(8 * 24 * time.Hour)) // W47 is over since 3 days and more
	for more := true; more; {
		var err error
		if more, err = j.publishDue(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	before := reports(t, w, j, "shop")
	if len(before) == 0 {
		t.Fatal("nothing is published")
	}
	for _, s := range c.subjects() {
		w.erase(j, s)
	}
	late := w.row(j.o.Destination, occurrence{n: 1e6, device: c.devices[0], purposes: []string{"audience"}, site: "shop", typ: "purchase", at: testStart})
	foldRows(t, j, []pseudonymize.Row{late}, 1)
	if s := j.Stats(); s.Late == 0 {
		t.Error("an event of a closed period is not counted as late")
	}
	for more := true; more; {
		var err error
		if more, err = j.publishDue(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !maps.Equal(before, reports(t, w, j, "shop")) {
		t.Error("what was published has changed")
	}
	if cells := cellsOf(w.dump(j)); len(cells) > 0 {
		t.Errorf("%d cells are left of nobody, and of what came late", len(cells))
	}
	if _, err := j.report("shop", "2026-W48", "kpis", ""); !errors.Is(err, errNotPublished) {
		t.Errorf("a report of an open period: %v", err)
	}
}

// meanwhile is a context that does something at the n-th look at it: between two changes of state.
type meanwhile struct {
	context.Context
	left int
	do   func()
}

func (c *meanwhile) Err() error {
	if c.left--; c.left == 0 {
		c.do()
	}
	return nil
}

// TestErasedWhilePublishing: who goes between the building of reports and their release is not in them.
func TestErasedWhilePublishing(t *testing.T) {
	w := newWorld(t)
	c := w.crowd(20, 13)
	j := w.journeys()
	rows := c.rows(w, j.o.Destination, 400)
	stay := slices.DeleteFunc(slices.Clone(rows), func(r pseudonymize.Row) bool {
		return slices.ContainsFunc(c.devices, func(s subject.Subject) bool { return of(&r, s) })
	})
	publish := func(rows []pseudonymize.Row, look int, erased func()) map[string]string {
		t.Helper()
		w.wipe()
		w.clock.set(testStart)
		j = w.journeys()
		foldRows(t, j, rows, 200)
		w.clock.set(testStart.Add(8 * 24 * time.Hour))
		for more, ctx := true, (&meanwhile{t.Context(), look, erased}); more; {
			var err error
			if more, err = j.publishDue(ctx); err != nil {
				t.Fatal(err)
			}
		}
		return reports(t, w, j, "shop")
	}
	want := publish(stay, -1, nil)
	if with := publish(rows, -1, nil); maps.Equal(with, want) {
		t.Fatal("the reports do not tell whether somebody is there")
	}
	for _, look := range []int{1, 2, 7, 15} {
		got := publish(rows, look, func() {
			if n := j.Stats().Published; n != 0 {
				t.Errorf("%d periods are published already", n)
			}
			for _, s := range c.devices {
				w.erase(j, s)
			}
		})
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if got[k] != want[k] {
				t.Errorf("erased at look %d: %q is not that of who stayed", look, k)
			}
		}
	}
}

// TestKept: of the closed periods so many are kept as the settings say, and a report longer than a row comes back whole.
func TestKept(t *testing.T) {
	w := newWorld(t)
	w.settings.Grid, w.settings.Keep = gridDay, 3
	j := w.journeys()
	w.clock.set(testStart.Add(10 * 24 * time.Hour))
	for more := true; more; {
		var err error
		if more, err = j.publishDue(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	periods, err := j.Published("shop")
	if want := []string{"2026-11-22", "2026-11-23", "2026-11-24"}; err != nil || !slices.Equal(periods, want) {
		t.Errorf("kept: %v (%v), want %v", periods, err, want)
	}
	long := Report{Name: "long", Segment: "variant=a", Body: bytes.Repeat([]byte("abcdefg"), 300_000)}
	p := j.sites["shop"].of(testStart.Add(4 * 24 * time.Hour))
	if err := j.keepReport(t.Context(), "shop", p, &long); err != nil {
		t.Fatal(err)
	}
	if got, err := j.report("shop", p.name, "long", "variant=a"); err != nil || !bytes.Equal(got, long.Body) {
		t.Errorf("%d bytes of %d came back (%v)", len(got), len(long.Body), err)
	}
}

// TestCoverageIsKept: what the door counted is in the open period's cells, and survives a restart and a recount.
func TestCoverageIsKept(t *testing.T) {
	w := newWorld(t)
	taken := 0
	w.coverage = func() ([]Covered, func()) {
		return []Covered{{"shop", "web", "audience", 3, 2}, {"nowhere", "web", "audience", 1, 1}}, func() { taken++ }
	}
	j := w.journeys()
	for range 2 {
		if err := j.cover(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.settings.Segments = nil
	j = w.journeys()
	recountAll(t, j, func() {})
	c, _, err := j.counts("shop", j.sites["shop"].of(testStart))
	if err != nil || taken != 2 {
		t.Fatal(err, taken)
	}
	cell := Cell{Period: "2026-W47", Site: "shop", Kind: coverageKind, Key: Join("web", "audience", acceptedKey)}
	if c[cell].Count != 6 || len(c) != 2 {
		t.Errorf("coverage: %v", c)
	}
}
