package journey

import (
	"testing"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// A purpose of which journeys are no recipient any more is counted no more: what was received under it alone leaves cells and window.
func TestPurposeThatJourneysLose(t *testing.T) {
	w := newWorld(t)
	j := w.journeys()
	devices, _ := w.people(6)
	for i, s := range devices {
		o := occurrence{n: i + 1, device: s, purposes: []string{"audience"}, site: "shop", typ: "page_view", at: testStart}
		if i == 0 {
			o.purposes = []string{"audience", "personalisation"}
		}
		foldRows(t, j, []pseudonymize.Row{w.row(j.o.Destination, o)}, 1)
	}
	var err error
	if w.policy, err = policies.Load(receiving("personalisation")); err != nil {
		t.Fatal(err)
	}
	j = w.journeys()
	covered := w.clock.Now()
	for more := true; more; {
		if more, err = j.step(t.Context(), &covered); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range devices {
		rows, err := j.Window(s)
		if want := map[bool]int{true: 1}[i == 0]; err != nil || len(rows) != want {
			t.Errorf("device %d: %d touches, want %d (%v)", i, len(rows), want, err)
		}
	}
	p := j.sites["shop"].of(testStart)
	c, _, err := j.counts("shop", p)
	if err != nil {
		t.Fatal(err)
	}
	if n := c[Cell{Period: p.name, Site: "shop", Kind: kindSubject, Key: "none"}].Subjects; n != 1 {
		t.Errorf("%d subjects are counted, want 1", n)
	}
}
