package journey

import (
	"slices"

	"github.com/octroi/octroi/pseudonymize"
)

// step is one position of a way: touches of one channel that follow each other without a silence that would end a session. So five pages of one visit
// are one position, and two visits by the same channel are two.
type step struct {
	channel     string
	first, last int64 // Unix ms
	day         int64 // of the first touch, as touch.day
	converts    bool  // the last touch of it is the conversion
}

// way is one journey: its positions from the first after the previous conversion, or from the lookback's start, to the conversion or the period's end.
type way struct {
	steps     []step
	converted bool
	value     pseudonymize.Money // of the conversion
}

// maxSteps bounds a way. Of a longer one the first and the last positions count, so that opener and closer stay what they were.
const maxSteps = 16

// ways are the journeys of the period: one for each conversion in it, and, of what follows the last one, one that has not converted when the
// period ends (null), if the period holds a touch of it. A subject who comes in one week and buys in the next has a null journey in the first
// and, with the touches of both, a conversion in the second: what is said of a period does not change when the next one begins.
func ways(touches []touch, s *rules) []way {
	var all []way
	var steps []step
	lookback := s.lookback.Milliseconds()
	for i := range touches {
		t := &touches[i]
		steps = walk(steps, t)
		if !t.converts {
			continue
		}
		if s.period.holds(t.At) {
			all = append(all, way{since(steps, t.At-lookback), true, t.value})
			steps = nil
		} else {
			steps = steps[:0]
		}
	}
	if len(steps) > 0 && s.period.holds(steps[len(steps)-1].last) {
		all = append(all, way{steps: since(steps, s.period.end.UnixMilli()-lookback)})
	}
	thin(all)
	return all
}

// walk adds a touch to the positions of a way.
func walk(steps []step, t *touch) []step {
	if n := len(steps); n > 0 {
		last := &steps[n-1]
		if last.channel == t.Channel && t.At-last.last < sessionGap.Milliseconds() {
			last.last, last.converts = t.At, t.converts
			return steps
		}
	}
	return append(steps, step{t.Channel, t.At, t.At, t.day, t.converts})
}

// since leaves out the positions that ended before the lookback's start.
func since(steps []step, from int64) []step {
	i := 0
	for i < len(steps) && steps[i].last < from {
		i++
	}
	return steps[i:]
}

// thin holds a subject's ways to edgesPerDay edges a day and to maxSteps positions each. An edge leads to a position or, from the last one, to the end of the
// way; it is of the day of that position. Positions with an end stay; of the others of a day the first do.
func thin(all []way) {
	room := map[int64]int{}
	for i := range all {
		last := all[i].steps[len(all[i].steps)-1]
		if _, ok := room[last.day]; !ok {
			room[last.day] = edgesPerDay
		}
		room[last.day] -= 2 // the edge to it and the edge from it
	}
	for i := range all {
		w := &all[i]
		end := len(w.steps) - 1
		kept := make([]step, 0, len(w.steps))
		for j := range w.steps {
			x := w.steps[j]
			if j == end {
				kept = append(kept, x)
				continue
			}
			left, ok := room[x.day]
			if !ok {
				left = edgesPerDay
			}
			if left > 0 {
				kept = append(kept, x)
				left--
			}
			room[x.day] = left
		}
		if n := len(kept); n > maxSteps {
			kept = slices.Delete(kept, 1, 1+n-maxSteps)
		}
		w.steps = kept
	}
}

// seconds is how long the way took, from its first touch to its end.
func (w *way) seconds() int64 { return (w.steps[len(w.steps)-1].last - w.steps[0].first) / 1000 }

// collapsed are the channels of the way without immediate repeats.
func (w *way) collapsed() []string {
	channels := make([]string, 0, len(w.steps))
	for i := range w.steps {
		if c := w.steps[i].channel; i == 0 || c != channels[len(channels)-1] {
			channels = append(channels, c)
		}
	}
	return channels
}
