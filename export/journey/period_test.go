package journey

import (
	"testing"
	"time"
)

// TestPeriods: of every instant over some years, in zones that change their clocks at midnight, by day and by half an hour, the periods follow each
// other without a gap, begin on the right day, and are found by their names.
func TestPeriods(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Paris", "America/New_York", "America/Santiago", "Asia/Beirut", "Australia/Lord_Howe", "Asia/Kathmandu"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, by := range []string{gridDay, gridWeek, gridMonth} {
			g := grid{by, zone}
			p := g.of(time.Date(2024, 12, 20, 12, 0, 0, 0, zone))
			for p.start.Year() < 2028 {
				next := g.after(p)
				if !next.start.Equal(p.end) || !next.start.After(p.start) || next.name <= p.name {
					t.Fatalf("%s %s: %s [%v, %v) is followed by %s [%v", name, by, p.name, p.start, p.end, next.name, next.start)
				}
				for _, at := range []time.Time{p.start, p.end.Add(-time.Nanosecond), p.start.Add(p.end.Sub(p.start) / 2)} {
					if q := g.of(at); q.name != p.name || !q.start.Equal(p.start) || !q.end.Equal(p.end) {
						t.Fatalf("%s %s: %v lies in %s [%v, %v), not in %s [%v, %v)", name, by, at, q.name, q.start, q.end, p.name, p.start, p.end)
					}
				}
				if q, err := g.named(p.name); err != nil || !q.start.Equal(p.start) {
					t.Fatalf("%s %s: %s by its name begins %v (%v), want %v", name, by, p.name, q.start, err, p.start)
				}
				if q := g.before(next); q.name != p.name {
					t.Fatalf("%s %s: before %s is %s", name, by, next.name, q.name)
				}
				if by == gridWeek && p.start.Weekday() != time.Monday || by == gridMonth && p.start.Day() != 1 {
					t.Fatalf("%s %s: %s begins %v", name, by, p.name, p.start)
				}
				p = next
			}
		}
	}
}

// TestClocksChange: weeks and days in which clocks change are an hour shorter or longer; what lies in the hour that comes twice is of that day.
func TestClocksChange(t *testing.T) {
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		by, name string
		hours    float64
	}{
		{gridWeek, "2026-W13", 167},
		{gridWeek, "2026-W43", 169},
		{gridWeek, "2026-W47", 168},
		{gridDay, "2026-03-29", 23},
		{gridDay, "2026-10-25", 25},
		{gridMonth, "2026-03", 31*24 - 1},
		{gridMonth, "2026-10", 31*24 + 1},
		{gridWeek, "2026-W53", 168},
	} {
		p, err := grid{x.by, paris}.named(x.name)
		if err != nil || p.end.Sub(p.start).Hours() != x.hours {
			t.Errorf("%s has %v hours (%v), want %v", x.name, p.end.Sub(p.start).Hours(), err, x.hours)
		}
	}
	for _, x := range [][2]string{
		{"2027-01-01T12:00:00Z", "2026-W53"},
		{"2026-10-25T00:30:00Z", "2026-W43"},
		{"2026-10-25T01:30:00Z", "2026-W43"},
		{"2026-10-25T23:00:00Z", "2026-W44"},
		{"2026-10-25T22:59:59Z", "2026-W43"},
		{"2025-12-29T00:00:00Z", "2026-W01"},
	} {
		at, err := time.Parse(time.RFC3339, x[0])
		if err != nil {
			t.Fatal(err)
		}
		if p := (grid{gridWeek, paris}).of(at); p.name != x[1] {
			t.Errorf("%s lies in %s, want %s", x[0], p.name, x[1])
		}
	}
}

// FuzzPeriodName: what is taken for a period's name is one's, exactly.
func FuzzPeriodName(f *testing.F) {
	for _, s := range []string{"2026-W47", "2026-W00", "2026-W54", "2026-11", "2026-13", "2026-11-22", "2026-02-30", "", "20260-W01", "2026-W4x", "-026-W01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, by := range []string{gridDay, gridWeek, gridMonth} {
			g := grid{by, time.UTC}
			if p, err := g.named(name); err == nil && (p.name != name || g.of(p.start).name != name) {
				t.Errorf("%q is taken for %s", name, p.name)
			}
		}
	})
}

// FuzzTouches: bytes that are no list of touches are an error, and a list comes back as the same bytes.
func FuzzTouches(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeTouches(nil))
	f.Add(encodeTouches([]Touch{{At: 5, Site: "shop", Type: "page_view", Segments: []string{"variant=a"}}, {At: 9, Site: "shop"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodeTouches(b, 7)
		if err != nil {
			return
		}
		again := encodeTouches(list)
		if list, err = decodeTouches(again, 7); err != nil || string(encodeTouches(list)) != string(again) {
			t.Errorf("a list does not come back: %v", err)
		}
	})
}
