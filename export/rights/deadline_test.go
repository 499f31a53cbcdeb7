package rights

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func day(text string) time.Time {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		panic(err)
	}
	return t
}

// rights.md D3, Regulation 1182/71 Art. 3(2)(c).
func TestDue(t *testing.T) {
	for _, x := range []struct {
		received string
		months   int
		due      string
	}{
		{"2026-01-31", 0, "2026-02-28"},
		{"2028-01-31", 0, "2028-02-29"},
		{"2026-01-31", 1, "2026-03-31"},
		{"2026-01-31", 2, "2026-04-30"},
		{"2026-11-30", 2, "2027-02-28"},
		{"2026-08-31", 0, "2026-09-30"},
		{"2026-12-15", 0, "2027-01-15"},
	} {
		c := clock{Received: day(x.received), Months: x.months}
		if due := c.due(day(x.received)); !due.Equal(day(x.due)) {
			t.Errorf("received %s, extended by %d: due %s, want %s", x.received, x.months, due.Format(time.DateOnly), x.due)
		}
	}
}

func TestExtendOnlyWithinMonthOne(t *testing.T) {
	c := clock{Received: day("2026-01-31")}
	if err := c.extend(2, "complexity", day("2026-02-28")); !errors.Is(err, ErrTransition) {
		t.Error("extended when the month was over:", err)
	}
	if err := c.extend(1, "complexity", day("2026-02-27")); err != nil {
		t.Error(err)
	}
	if err := c.extend(2, "complexity", day("2026-02-27")); !errors.Is(err, ErrTransition) {
		t.Error("extended by three months:", err)
	}
	for _, months := range []int{0, -1, 3} {
		if err := (&clock{Received: day("2026-01-31")}).extend(months, "x", day("2026-02-01")); !errors.Is(err, ErrTransition) {
			t.Errorf("extended by %d months: %v", months, err)
		}
	}
	paused := clock{Received: day("2026-01-31"), Stood: 48 * time.Hour}
	if err := paused.extend(2, "complexity", day("2026-03-01")); err != nil {
		t.Error("the clock stood for two days of the month:", err)
	}
}

func TestDaysLeft(t *testing.T) {
	due := day("2026-03-10")
	for at, want := range map[string]int{"2026-03-09": 1, "2026-03-10": 0, "2026-03-11": -1, "2026-02-10": 28} {
		if got := daysLeft(due, day(at)); got != want {
			t.Errorf("at %s: %d days left, want %d", at, got, want)
		}
	}
	if got := daysLeft(due, due.Add(time.Second)); got != -1 {
		t.Errorf("a second late: %d", got)
	}
}

// However often the clock stands, the time that it runs before it is due is that of a clock that never stood.
func TestClockStands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		received := day("2026-01-01").AddDate(0, 0, rapid.IntRange(0, 1000).Draw(t, "received"))
		c, at := clock{Received: received}, received
		var ran time.Duration
		for range rapid.IntRange(0, maxQuestions).Draw(t, "questions") {
			run := time.Duration(rapid.Int64Range(0, int64(72*time.Hour)).Draw(t, "run"))
			ran, at = ran+run, at.Add(run)
			if err := c.stop(at); err != nil {
				t.Fatal(err)
			}
			stand := time.Duration(rapid.Int64Range(0, int64(720*time.Hour)).Draw(t, "stand"))
			before := c.due(at)
			at = at.Add(stand)
			if moved := c.due(at).Sub(before); moved != stand {
				t.Fatalf("it stood for %v, and due moved by %v", stand, moved)
			}
			c.resume(at)
		}
		free := clock{Received: received}
		if left, want := c.due(at).Sub(at), free.due(received).Sub(received)-ran; left != want {
			t.Fatalf("%v are left, want %v", left, want)
		}
	})
}
