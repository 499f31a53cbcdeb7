package journey

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// crowd makes occurrences of some devices and persons over some weeks: alone, linked, by a back-end, at two sites.
type crowd struct {
	devices, persons []subject.Subject
	random           *rand.Rand
	n                int
}

func (w *world) crowd(n int, seed uint64) *crowd {
	c := &crowd{random: rand.New(rand.NewPCG(seed, 1))}
	c.devices, c.persons = w.people(n)
	return c
}

func (c *crowd) next() occurrence {
	c.n++
	types := []string{"page_view", "page_view", "product_view", "search", "cart_add", "checkout_start", "purchase", "return", "email_click", "store_visit"}
	o := occurrence{
		n: c.n, site: "shop", typ: types[c.random.IntN(len(types))],
		at: testStart.Add(-time.Duration(c.random.IntN(40*24*3600)) * time.Second),
	}
	if c.random.IntN(5) == 0 {
		o.site = "outlet"
	}
	if o.typ == "purchase" || o.typ == "return" {
		o.minor = int64(c.random.IntN(20000) + 1)
	}
	o.variant = []string{"", "a", "b", "undeclared"}[c.random.IntN(4)]
	device, person := c.devices[c.random.IntN(len(c.devices))], c.persons[c.random.IntN(len(c.persons))]
	switch c.random.IntN(6) {
	case 0, 1:
		o.device, o.purposes = device, []string{"audience"}
	case 2:
		o.device, o.purposes = device, []string{"audience", "personalisation"}
	case 3, 4:
		o.device, o.person, o.purposes = device, person, []string{"audience", "linking"}
	default:
		o.person, o.purposes = person, []string{"audience"}
	}
	return o
}

func (c *crowd) subjects() []subject.Subject { return slices.Concat(c.devices, c.persons) }

// rows are n rows.
func (c *crowd) rows(w *world, d *pseudonymize.Destination, n int) (rows []pseudonymize.Row) {
	for range n {
		rows = append(rows, w.row(d, c.next()))
	}
	return rows
}

// of says whether a row is one of s.
func of(row *pseudonymize.Row, s subject.Subject) bool {
	return row.DeviceSlot == s.Slot() || row.PersonSlot == s.Slot()
}

// TestErasedAsNeverThere: who folds N subjects and erases one has, byte for byte, what he has who folds N − 1, in whatever order and pieces.
func TestErasedAsNeverThere(t *testing.T) {
	w := newWorld(t)
	for seed := range uint64(6) {
		c := w.crowd(4, seed)
		w.wipe()
		j := w.journeys()
		rows := c.rows(w, j.o.Destination, 400)
		everybody := c.subjects()
		gone := everybody[c.random.IntN(len(everybody))]
		foldRows(t, j, rows, 1+c.random.IntN(150))
		if len(w.dump(j)) < 100 {
			t.Fatal("next to nothing was folded")
		}
		w.erase(j, gone)
		got := w.dump(j)
		if left := sealedLeft(got); len(left) > 0 {
			t.Errorf("rows that nobody can open are left: %v", left)
		}
		left, err := j.Window(gone)
		if err != nil || len(left) > 0 {
			t.Errorf("the window holds %d touches of who is gone: %v", len(left), err)
		}

		w.wipe()
		j = w.journeys()
		rows = slices.DeleteFunc(rows, func(r pseudonymize.Row) bool { return of(&r, gone) })
		c.random.Shuffle(len(rows), func(i, k int) { rows[i], rows[k] = rows[k], rows[i] })
		foldRows(t, j, rows, 1+c.random.IntN(150))
		sameRows(t, got, w.dump(j))
		if t.Failed() {
			t.Fatalf("seed %d, a %v", seed, gone.Kind())
		}
	}
}

// model is the window by its definition: all rows there are, and every number counted from them.
type model struct {
	rows map[[16]byte]pseudonymize.Row
}

func (m *model) erase(j *Journeys, s subject.Subject, purposes []string) {
	pseudonym := map[[16]byte]bool{j.o.Destination.Pseudonym(s): true}
	c := export.Cut{Rules: j.o.Policy.Rules()}
	if s.Kind() == subject.Device {
		c.Devices = pseudonym
	} else {
		c.Persons = pseudonym
	}
	for _, p := range purposes {
		if c.Purposes == nil {
			c.Purposes = map[string]bool{}
		}
		c.Purposes[p] = true
	}
	for id, row := range m.rows {
		row.Grants, row.Properties = slices.Clone(row.Grants), maps.Clone(row.Properties)
		if keep, _ := c.Row(&row); keep && (row.DeviceSlot != 0 || row.PersonSlot != 0) {
			m.rows[id] = row
		} else {
			delete(m.rows, id)
		}
	}
}

// cells counts everybody's journeys from nothing.
func (m *model) cells(j *Journeys, begins map[string]int64) map[string]string {
	owners := map[subject.Slot][]Touch{}
	for _, row := range m.rows {
		slot := placeOf(&row).owner()
		owners[slot] = append(owners[slot], j.touchOf(&row))
	}
	sum := counts{}
	for _, touches := range owners {
		touches = slices.DeleteFunc(touches, func(t Touch) bool { return t.At < begins[t.Site]-lookback.Milliseconds() })
		slices.SortFunc(touches, compareTouches)
		sum.add(j.contributions(touches, begins, everyPeriod), 1)
	}
	out := map[string]string{}
	for cell, t := range sum {
		out[string(cell.key(cellPrefix))] = string(t.encode())
	}
	return out
}

// TestRandomStories: events, erasures of devices and persons, withdrawals of each purpose and of linking, restarts and periods that close, in any order:
// the cells are always those that the model counts from nothing.
func TestRandomStories(t *testing.T) {
	for seed := range uint64(4) {
		w := newWorld(t)
		c := w.crowd(4, 100+seed)
		w.clock.set(testStart.Add(-14 * 24 * time.Hour))
		j := w.journeys()
		m := &model{rows: map[[16]byte]pseudonymize.Row{}}
		for step := range 40 {
			what := w.story(t, j, m, c)
			if what == "restart" {
				j = w.journeys()
			}
			if step%4 != 3 {
				continue
			}
			got := cellsOf(w.dump(j))
			var begins map[string]int64
			if err := w.state.View(func(r state.Reader) (err error) { begins, err = j.begins(r); return err }); err != nil {
				t.Fatal(err)
			}
			sameRows(t, got, m.cells(j, begins))
			if t.Failed() {
				t.Fatalf("seed %d, step %d: %s", seed, step, what)
			}
		}
		w.checkWindow(t, j, m, c)
	}
}

// story does one thing to the window and to the model.
func (w *world) story(t *testing.T, j *Journeys, m *model, c *crowd) (what string) {
	everybody := c.subjects()
	s := everybody[c.random.IntN(len(everybody))]
	switch n := c.random.IntN(20); {
	case n < 14:
		rows := c.rows(w, j.o.Destination, 1+c.random.IntN(40))
		foldRows(t, j, rows, 1+c.random.IntN(20))
		for i := range rows {
			if err := w.remember(j, m, &rows[i]); err != nil {
				t.Fatal(err)
			}
		}
		return "fold"
	case n < 15:
		w.erase(j, s)
		m.erase(j, s, nil)
		return "erase"
	case n < 18:
		purpose := []string{"audience", "personalisation", "linking"}[c.random.IntN(3)]
		w.erase(j, s, purpose)
		m.erase(j, s, []string{purpose})
		return "withdraw " + purpose
	case n < 19:
		return "restart"
	}
	w.clock.set(w.clock.Now().Add(3 * 24 * time.Hour))
	if _, err := j.publishDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	for more := true; more; {
		var err error
		if more, err = j.fallOut(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return "publish"
}

// remember adds a row to the model, unless it is older than the window is now: it would not come back with a recount either.
func (w *world) remember(j *Journeys, m *model, row *pseudonymize.Row) error {
	return w.state.View(func(r state.Reader) error {
		begins, err := j.begins(r)
		if err == nil && row.Time.UnixMilli() >= begins[row.Site]-lookback.Milliseconds() {
			m.rows[row.EventID] = *row
		}
		return err
	})
}

// checkWindow: each subject's window is the model's rows of its journey.
func (w *world) checkWindow(t *testing.T, j *Journeys, m *model, c *crowd) {
	var begins map[string]int64
	if err := w.state.View(func(r state.Reader) (err error) { begins, err = j.begins(r); return err }); err != nil {
		t.Fatal(err)
	}
	for _, s := range c.subjects() {
		rows, err := j.Window(s)
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		for _, row := range m.rows {
			if placeOf(&row).owner() == s.Slot() && row.Time.UnixMilli() >= begins[row.Site]-lookback.Milliseconds() {
				want++
			}
		}
		if len(rows) != want {
			t.Errorf("%d rows in a window, want %d", len(rows), want)
		}
		for i := range rows {
			full, ok := m.rows[rows[i].EventID]
			if !ok || full.Type != rows[i].Type || !full.Time.Equal(rows[i].Time) || full.DeviceSlot != rows[i].DeviceSlot ||
				full.PersonSlot != rows[i].PersonSlot || full.Value != rows[i].Value || len(full.Grants) != len(rows[i].Grants) ||
				(full.Person == nil) != (rows[i].Person == nil) || rows[i].Properties["product"] != "" {
				t.Errorf("a row of the window is %+v, want %+v", rows[i], full)
			}
		}
	}
}

// recountAll counts anew what is to be, with between after the first step.
func recountAll(t *testing.T, j *Journeys, between func()) {
	t.Helper()
	for step := 0; ; step++ {
		more, err := j.recount(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return
		}
		if step == 0 {
			between()
		}
	}
}

// cellsOf are the cells of a dump.
func cellsOf(rows map[string]string) map[string]string {
	cells := maps.Clone(rows)
	maps.DeleteFunc(cells, func(k, _ string) bool { return !strings.HasPrefix(k, cellPrefix) })
	return cells
}

// TestRecount: with another grid, or other segments, open periods are counted anew; erasing in the middle of it is right as well.
func TestRecount(t *testing.T) {
	for name, change := range map[string]func(*Settings){
		"grid":     func(s *Settings) { s.Grid = gridDay },
		"segments": func(s *Settings) { s.Segments = nil },
	} {
		w := newWorld(t)
		c := w.crowd(4, 7)
		j := w.journeys()
		rows := c.rows(w, j.o.Destination, 300)
		foldRows(t, j, rows, 100)
		before := cellsOf(w.dump(j))
		begins := w.dump(j)

		change(&w.settings)
		j = w.journeys()
		recountAll(t, j, func() { // cells are dropped, and nobody is counted
			if _, _, err := j.counts("shop", j.sites["shop"].of(testStart)); !errors.Is(err, errCounting) {
				t.Errorf("%s: reports of what is not counted yet: %v", name, err)
			}
			w.erase(j, c.devices[0])
			w.erase(j, c.persons[1])
		})
		got := cellsOf(w.dump(j))
		if maps.Equal(got, before) || len(got) == 0 {
			t.Fatalf("%s: nothing was counted anew", name)
		}
		w.wipe()
		err := w.state.Update(t.Context(), func(t *state.Txn) error {
			for _, site := range []string{"shop", "outlet"} {
				t.Set(beginKey(site), []byte(begins[beginPrefix+site]))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		j = w.journeys()
		rows = slices.DeleteFunc(rows, func(r pseudonymize.Row) bool { return of(&r, c.devices[0]) || of(&r, c.persons[1]) })
		foldRows(t, j, rows, 100)
		sameRows(t, got, cellsOf(w.dump(j)))
	}
}

// TestBounds: of one device under one person the newest touches are kept, whatever the order; a device of very many persons is nobody's.
func TestBounds(t *testing.T) {
	w := newWorld(t)
	devices, persons := w.people(maxWith + 3)
	j := w.journeys()
	var rows []pseudonymize.Row
	for i := range maxTouches + 50 {
		rows = append(rows, w.row(j.o.Destination, occurrence{
			n: i, device: devices[0], purposes: []string{"audience"}, site: "shop", typ: "page_view", at: testStart.Add(time.Duration(i) * time.Second),
		}))
	}
	foldRows(t, j, rows, 500)
	got := w.dump(j)
	kept, err := j.Window(devices[0])
	if err != nil || len(kept) != maxTouches || !kept[0].Time.Equal(testStart.Add(50*time.Second)) {
		t.Fatalf("%d touches are kept (%v)", len(kept), err)
	}
	w.wipe()
	j = w.journeys()
	slices.Reverse(rows)
	foldRows(t, j, rows, 333)
	sameRows(t, got, w.dump(j))

	rows = nil
	for i, p := range persons {
		rows = append(rows, w.row(j.o.Destination, occurrence{
			n: 10_000 + i, device: devices[1], person: p, purposes: []string{"audience", "linking"}, site: "shop", typ: "page_view", at: testStart,
		}))
	}
	foldRows(t, j, rows, 10)
	if s := j.Stats(); s.Crowded != 3 {
		t.Errorf("%d touches under too many persons, want 3", s.Crowded)
	}
	w.erase(j, devices[1])
	w.erase(j, devices[0])
	for k := range w.dump(j) {
		if k != string(progressKey) && k[:len(beginPrefix)] != beginPrefix {
			t.Errorf("row %q is left of nobody", k)
		}
	}
}

// TestErasureIsBounded: an erasure writes no more than its change has room for, whoever it is about.
func TestErasureIsBounded(t *testing.T) {
	w := newWorld(t)
	devices, persons := w.people(maxWith)
	j := w.journeys()
	n := 0
	for _, p := range persons {
		var rows []pseudonymize.Row
		for range 600 {
			n++
			rows = append(rows, w.row(j.o.Destination, occurrence{
				n: n, device: devices[0], person: p, purposes: []string{"audience", "personalisation", "linking"}, site: "shop",
				typ: []string{"page_view", "search", "cart_add", "email_click"}[n%4], at: testStart.Add(-time.Duration(n) * time.Minute),
			}))
		}
		foldRows(t, j, rows, 600)
	}
	err := w.state.Update(context.Background(), func(t *state.Txn) error {
		if err := j.Erase(t, devices[0], []string{"personalisation"}); err != nil {
			return err
		}
		if t.Room() < state.MaxChangeBytes/3 {
			return fmt.Errorf("%d bytes are left to the caller", t.Room())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append(persons, devices[0]) {
		rows, err := j.Window(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			for _, g := range row.Grants {
				if g.Purpose == "personalisation" {
					t.Fatal("a withdrawn purpose is left")
				}
			}
		}
	}
}
