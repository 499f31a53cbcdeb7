package export

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// link makes n devices that agreed to audience measurement and to linking, each linked to a person of its own.
func (w *world) link(t testing.TB, n int) (devices, persons []subject.Subject) {
	t.Helper()
	devices = w.mintWith(t, n, "audience", policies.Linking)
	for _, device := range devices {
		id, err := subject.Normalise("loyalty", fmt.Sprintf("linked-%d", len(w.persons)), "FR")
		if err != nil {
			t.Fatal(err)
		}
		x, err := w.ledger.Identify(t.Context(), consent.Identification{
			Site: testSite, Device: device, Persons: []subject.Identifier{id}, Method: "login_claim", Entity: "shop",
		})
		if err != nil {
			t.Fatal(err)
		}
		persons, w.persons = append(persons, x.Person), append(w.persons, x.Person)
	}
	return devices, persons
}

// unjoin is one way in which a link, or what it joined, ends. left says what becomes of an event that was admitted while it stood.
type unjoin struct {
	name string
	left string // row, with the person; device: row without; nothing
	do   func(w *world, t testing.TB, device, person subject.Subject)
}

func withdrawal(purpose string, ofPerson bool) func(*world, testing.TB, subject.Subject, subject.Subject) {
	return func(w *world, t testing.TB, device, person subject.Subject) {
		s := device
		if ofPerson {
			s = person
		}
		_, err := w.ledger.Withdraw(context.WithoutCancel(t.Context()), s, consent.Withdrawal{Site: testSite, Purposes: []string{purpose}})
		if err != nil {
			t.Error(err)
		}
	}
}

func unjoins() []unjoin {
	return []unjoin{
		{"withdrawal", "device", withdrawal(policies.Linking, false)},
		{"refusal", "device", func(w *world, t testing.TB, device, _ subject.Subject) {
			_, err := w.ledger.Record(context.WithoutCancel(t.Context()), consent.Choice{
				Site: testSite, Who: consent.Who{Device: device}, Purposes: map[string]bool{policies.Linking: false}, Language: "en",
			})
			if err != nil {
				t.Error(err)
			}
		}},
		{"the person's withdrawal", "device", withdrawal(policies.Linking, true)},
		{"the person's erasure", "nothing", func(w *world, t testing.TB, _, person subject.Subject) {
			if _, err := w.ledger.Sever(context.WithoutCancel(t.Context()), person); err != nil {
				t.Error(err)
			}
		}},
		{"the person's suppression", "nothing", func(w *world, t testing.TB, _, person subject.Subject) {
			err := w.state.Update(context.WithoutCancel(t.Context()), func(tx *state.Txn) error { return w.ledger.Suppress(tx, person) })
			if err != nil {
				t.Error(err)
			}
		}},
		{"withdrawal of what linking stands beside", "nothing", withdrawal("audience", false)},
		{"the person's withdrawal of it", "nothing", withdrawal("audience", true)},
		{"logout", "row", func(w *world, t testing.TB, device, _ subject.Subject) {
			if ended, err := w.ledger.Unlink(context.WithoutCancel(t.Context()), testSite, device, "shop"); err != nil || !ended {
				t.Error(ended, err)
			}
		}},
	}
}

// wantLeft checks the rows of one device of two, which sent as many: the other's are there with its person.
func (w *world) wantLeft(t testing.TB, rows []pseudonymize.Row, left string, devices, persons []subject.Subject) {
	t.Helper()
	d := w.destination(t, "warehouse")
	counts := map[string]int{}
	for i := range rows {
		row := &rows[i]
		n := slices.IndexFunc(devices, func(s subject.Subject) bool { return d.Pseudonym(s) == *row.Device })
		what := fmt.Sprintf("%d device", n)
		switch {
		case row.Person == nil && row.Linked():
			what = "linked to nobody"
		case row.Person != nil && *row.Person == d.Pseudonym(persons[n]) && row.Linked():
			what = fmt.Sprintf("%d row", n)
		case row.Person != nil:
			what = "another's"
		}
		counts[what]++
	}
	want := map[string]int{"1 row": 5}
	if left != "nothing" {
		want["0 "+left] = 5
	}
	if fmt.Sprint(counts) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", counts, want)
	}
}

// What becomes of the events of a linked device whose link, consent or person goes before they are sealed, and between regate and intent: nothing
// that was withdrawn leaves (consent.md G3), and of an erased person nothing at all. What was received before a logout stays the person's.
func TestUnlinkedBeforeSeal(t *testing.T) {
	for _, x := range unjoins() {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, between regate and intent %v", x.name, late), func(t *testing.T) {
				w := newWorld(t)
				devices, persons := w.link(t, 2)
				w.send(t, pages(devices, 10, "a", testStart)...)
				for _, r := range w.spool.records {
					if r.Event.Device == 0 || r.Event.Person == 0 {
						t.Fatal("not sealed under the keys of both")
					}
				}
				var once sync.Once
				do := func() { once.Do(func() { x.do(w, t, devices[0], persons[0]) }) }
				s := w.shipper(t, "warehouse", func(o *ShipperOptions) {
					if late {
						o.files = hookFiles{files: disk{}, rename: do}
					}
				})
				if !late {
					do()
				}
				flush(t, s)
				got := w.check(t, "warehouse") // the index among it: it finds the person's rows too
				w.wantLeft(t, slices.Concat(got.rows...), x.left, devices, persons)
				if regated := s.Stats().Regated; (regated > 0) != (late && x.left != "row") {
					t.Errorf("%+v", s.Stats())
				}
			})
		}
	}
}

// A destination that the policy lets receive consents but not linking (a policy of ours could not) gets rows without persons, and one that receives
// linking alone gets nothing.
func TestLinkingReachesItsRecipients(t *testing.T) {
	w := newWorld(t)
	devices, _ := w.link(t, 1)
	w.send(t, pages(devices, 3, "a", testStart)...)
	for name, purposes := range map[string][]string{"consents": {"audience"}, "linking": {policies.Linking}, "both": {"audience", policies.Linking}} {
		d, err := pseudonymize.NewDestination(name, purposes, key(5))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range w.spool.records {
			e, err := r.Event.Open(w.subjects, key(4))
			if err != nil {
				t.Fatal(err)
			}
			row, ok := d.Project(&e)
			if ok != (name != "linking") || row.Linked() != (name == "both") || (row.Person != nil) != (name == "both") || row.PersonSlot != 0 != (name == "both") {
				t.Errorf("%s: %v %+v", name, ok, row)
			}
		}
	}
}

// A thousand events race withdrawals of linking, by devices and for persons: once one has answered no batch that gets its number afterwards
// holds the person (consent.md G3). Nothing is lost by it.
func TestUnlinkingRace(t *testing.T) {
	w := newWorld(t)
	devices, persons := w.link(t, 8)
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.MaxRows, o.Interval = 20, time.Millisecond })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var all []pseudonymize.Sealed
	for _, v := range pages(devices, 1000, "race", testStart) {
		all = append(all, w.admit(t, v))
	}
	answered := map[[16]byte]uint64{} // the last number given out when the withdrawal had answered, by the person's pseudonym
	d := w.destination(t, "warehouse")
	for i, e := range all {
		w.spool.append(e)
		if i%120 == 30 { // batches are sealed meanwhile, also on a busy machine
			eventually(t, func() bool { return s.Cursor() > uint64(i-20) })
		}
		if i%120 == 60 {
			n := len(answered)
			withdrawal(policies.Linking, n%2 == 1)(w, t, devices[n], persons[n])
			c, err := readCursorOf(w.state, "warehouse")
			if err != nil {
				t.Fatal(err)
			}
			answered[d.Pseudonym(persons[n])] = c.number
		}
	}
	eventually(t, func() bool { return s.Cursor() == w.spool.Tail() })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	flush(t, s)
	got := w.check(t, "warehouse")
	rows, with := 0, 0
	for i := range got.rows {
		for j := range got.rows[i] {
			rows++
			row := &got.rows[i][j]
			if row.Person == nil {
				continue
			}
			with++
			if last, ended := answered[*row.Person]; ended && got.entries[i].Number > last {
				t.Fatalf("entry %d was sealed after the withdrawal had answered at %d, and holds the person", got.entries[i].Number, last)
			}
		}
	}
	if len(answered) != 8 || len(got.entries) < 10 || rows != 1000 || with == 0 || with == rows {
		t.Errorf("%d withdrawals, %d batches, %d rows, %d with a person: no race", len(answered), len(got.entries), rows, with)
	}
}
