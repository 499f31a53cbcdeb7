package access

import (
	"maps"
	"slices"
	"time"
)

// The picture of events per month, in its own units.
const (
	chartMonths = 24 // the last ones with events end here
	chartWidth  = 480
	chartTop    = 22
	chartBottom = 162
)

// chart counts events by month: a bar each for the last chartMonths, one number for those before.
type chart struct {
	Bars        []bar
	Earlier     int
	Most        int
	First, Last time.Time
}

type bar struct {
	Month               time.Time
	Count               int
	X, Y, Width, Height int
}

func newChart(months map[time.Time]int) chart {
	var c chart
	if len(months) == 0 {
		return c
	}
	found := slices.SortedFunc(maps.Keys(months), time.Time.Compare)
	c.Last = found[len(found)-1]
	c.First = c.Last.AddDate(0, 1-chartMonths, 0)
	if c.First.Before(found[0]) {
		c.First = found[0]
	}
	for _, m := range found {
		if m.Before(c.First) {
			c.Earlier += months[m]
		} else {
			c.Most = max(c.Most, months[m])
		}
	}
	for m := c.First; !m.After(c.Last); m = m.AddDate(0, 1, 0) {
		c.Bars = append(c.Bars, bar{Month: m, Count: months[m]})
	}
	step := chartWidth / max(len(c.Bars), 6)
	for i := range c.Bars {
		b := &c.Bars[i]
		b.Height = (chartBottom - chartTop) * b.Count / c.Most
		if b.Count > 0 {
			b.Height = max(b.Height, 1)
		}
		b.X, b.Y, b.Width = i*step, chartBottom-b.Height, step-3
	}
	return c
}

// Several says that there is more than one month.
func (c chart) Several() bool { return len(c.Bars) > 1 }

// Listed are the months with events, the newest first.
func (c chart) Listed() []bar {
	var listed []bar
	for _, b := range slices.Backward(c.Bars) {
		if b.Count > 0 {
			listed = append(listed, b)
		}
	}
	return listed
}
