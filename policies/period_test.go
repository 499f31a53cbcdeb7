package policies

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// AtLeast is never longer than the calendar has it, and no shorter than the shortest case.
func TestPeriodAtLeast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Period{
			rapid.IntRange(0, 5).Draw(t, "years"), rapid.IntRange(0, 30).Draw(t, "months"), rapid.IntRange(0, 400).Draw(t, "days"),
			rapid.IntRange(0, 50).Draw(t, "hours"), rapid.IntRange(0, 100).Draw(t, "minutes"),
		}
		from := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "from"), 0).UTC()
		if got := p.AddTo(from).Sub(from); got < p.AtLeast() {
			t.Fatalf("%v from %s is %s, less than %s", p, from, got, p.AtLeast())
		}
	})
	if got := (Period{Days: 7}).AtLeast(); got != 7*24*time.Hour {
		t.Fatal(got)
	}
}
