package journey

import (
	"errors"
	"fmt"
	"time"
)

// The grids of periods. A gateway has one (journeys.md "Release"): of two that overlap the difference could be read.
const (
	gridDay   = "day"
	gridWeek  = "week" // ISO 8601
	gridMonth = "month"
)

var errPeriod = errors.New("not a period of the grid")

// period is one of the grid, in a site's zone. It is as long as its days are: 23 or 25 hours where clocks change.
type period struct {
	name       string // "2026-11-22", "2026-W47", "2026-11"
	start, end time.Time
}

func (p *period) holds(at int64) bool { return at >= p.start.UnixMilli() && at < p.end.UnixMilli() }

// grid is the periods of a site.
type grid struct {
	by   string
	zone *time.Location
}

// of is the period in which t lies.
func (g grid) of(t time.Time) period {
	t = t.In(g.zone)
	y, m, d := t.Date()
	switch g.by {
	case gridMonth:
		d = 1
	case gridWeek:
		d -= (int(t.Weekday()) + 6) % 7
	}
	return g.begin(y, m, d)
}

// begin is the period whose first day is d of m of y; d may lie outside of the month.
func (g grid) begin(y int, m time.Month, d int) period {
	p := period{start: g.midnight(y, m, d)}
	noon := time.Date(y, m, d, 12, 0, 0, 0, time.UTC) // of the day's name, which no change of clocks concerns
	switch g.by {
	case gridMonth:
		p.name, p.end = noon.Format("2006-01"), g.midnight(y, m+1, d)
	case gridWeek:
		year, week := noon.ISOWeek()
		p.name, p.end = fmt.Sprintf("%04d-W%02d", year, week), g.midnight(y, m, d+7)
	default:
		p.name, p.end = noon.Format(time.DateOnly), g.midnight(y, m, d+1)
	}
	return p
}

// midnight is the first moment of a day. Where clocks leap over midnight, it is the moment after the leap.
func (g grid) midnight(y int, m time.Month, d int) time.Time {
	t := time.Date(y, m, d, 0, 0, 0, 0, g.zone)
	day := time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Day()
	if t.Day() == day {
		return t
	}
	// time.Date has answered a moment of the day before: what was leapt over begins the day.
	_, end := t.ZoneBounds()
	return end.In(g.zone)
}

func (g grid) after(p period) period { return g.of(p.end) }

// before is the period that ends where p begins.
func (g grid) before(p period) period { return g.of(p.start.Add(-time.Nanosecond)) }

// named is the period of a name.
func (g grid) named(name string) (period, error) {
	var y, w int
	day, err := time.Time{}, errPeriod
	switch g.by {
	case gridMonth:
		day, err = time.Parse("2006-01", name)
	case gridWeek:
		if n, scanned := fmt.Sscanf(name, "%04d-W%02d", &y, &w); n == 2 && scanned == nil {
			day, err = time.Date(y, 1, 4+7*(w-1), 0, 0, 0, 0, time.UTC), nil // 4 January lies in week 1
		}
	default:
		day, err = time.Parse(time.DateOnly, name)
	}
	if err != nil {
		return period{}, errPeriod
	}
	p := g.of(time.Date(day.Year(), day.Month(), day.Day(), 12, 0, 0, 0, g.zone))
	if p.name != name {
		return period{}, errPeriod
	}
	return p, nil
}

// startOf is where a period of whatever grid begins, Unix milliseconds.
func startOf(name string, zone *time.Location) (int64, error) {
	for _, by := range []string{gridDay, gridWeek, gridMonth} {
		if p, err := (grid{by, zone}).named(name); err == nil {
			return p.start.UnixMilli(), nil
		}
	}
	return 0, errPeriod
}
