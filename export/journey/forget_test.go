package journey

import (
	"testing"

	"github.com/octroi/octroi/consent/state"
)

// Where no purpose is for journeys any more, no row of theirs is left, and others' rows are.
func TestForget(t *testing.T) {
	w := newWorld(t)
	c := w.crowd(60, 3)
	j := w.journeys()
	foldRows(t, j, c.rows(w, j.o.Destination, 3000), 500)
	count := func() (ours, others int) {
		t.Helper()
		err := w.state.View(func(r state.Reader) error {
			return r.Scan(nil, func(key, _ []byte) error {
				if string(key[:min(len(key), len(allPrefix))]) == allPrefix {
					ours++
				} else {
					others++
				}
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return ours, others
	}
	ours, before := count()
	if ours < 100 || before == 0 {
		t.Fatalf("only %d rows of journeys, %d others", ours, before)
	}
	if err := Forget(t.Context(), w.state); err != nil {
		t.Fatal(err)
	}
	if left, after := count(); left != 0 || after != before {
		t.Errorf("%d rows of journeys are left of %d, %d others of %d", left, ours, after, before)
	}
}
