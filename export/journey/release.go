package journey

import (
	"math"
	"slices"
	"strings"
)

// What may be said of a period. A cell is shown if at least k distinct subjects are in it. What is not shown is not left to be subtracted: of every
// line whose sum is known, what is hidden holds two cells at least and k subjects (secondary suppression), no hidden cell of a graph is what the known
// sums leave for it alone, and a segment hides what each of its siblings and the unlabelled would have to hide, so the total less the others says nothing
// of the last. Reports that share numbers share the decision: it is made once a period.

// allOther is the sum of what is hidden, beside what is shown.
const allOther = "(all_other)"

// figures are the cells of a period, site and segment.
type figures map[spot]Tally

// less is f without what the others hold.
func (f figures) less(others ...figures) figures {
	rest := make(figures, len(f))
	for at, t := range f {
		for _, o := range others {
			if x, ok := o[at]; ok {
				t = t.plus(&x, -1)
			}
		}
		rest[at] = t
	}
	return rest
}

// of are the spots of a kind, sorted by key.
func (f figures) of(kind string) []spot {
	var all []spot
	for at := range f {
		if at.kind == kind {
			all = append(all, at)
		}
	}
	slices.SortFunc(all, func(a, b spot) int { return strings.Compare(a.key, b.key) })
	return all
}

// dimensions are the parts of a spot's key.
func (at spot) dimensions() []string { return Cell{Key: at.key}.Dimensions() }

// sheet is what is decided together: the numbers of everybody, or the same numbers of all segments of a name and of the unlabelled side by side.
type sheet struct {
	parts   []figures
	k       int64
	defined map[spot]bool // stage, channel: every event type of the stage comes by the channel, as the policy has it
	hidden  map[spot]bool
}

// least is the least of a number in all parts.
func (s *sheet) least(number func(figures) int64) int64 {
	least := int64(math.MaxInt64)
	for _, f := range s.parts {
		least = min(least, number(f))
	}
	return least
}

// subjects is the least number of subjects that a part has at a spot.
func (s *sheet) subjects(at spot) int64 {
	return s.least(func(f figures) int64 { return f[at].Subjects })
}

func (s *sheet) shown(at spot) bool { return !s.hidden[at] && s.subjects(at) >= s.k }

// split tells the spots of a line that are shown from those that are not.
func (s *sheet) split(line []spot) (shown, hidden []spot) {
	for _, at := range line {
		if s.shown(at) {
			shown = append(shown, at)
		} else {
			hidden = append(hidden, at)
		}
	}
	return shown, hidden
}

// covers: what is hidden together holds two cells at least and, in every part, k subjects. Who is in two cells is counted in one: the subjects of a union are
// at least those of its largest cell, and more is not known.
func (s *sheet) covers(hidden []spot) bool { return len(hidden) >= 2 && s.enough(hidden) }

func (s *sheet) enough(cells []spot) bool {
	for _, f := range s.parts {
		var most int64
		for _, at := range cells {
			most = max(most, f[at].Subjects)
		}
		if most < s.k {
			return false
		}
	}
	return true
}

// smallest is the spot with the fewest subjects, the first by key of equals.
func (s *sheet) smallest(shown []spot) spot {
	return slices.MinFunc(shown, func(a, b spot) int {
		if x, y := s.subjects(a), s.subjects(b); x != y {
			return int(max(-1, min(1, x-y)))
		}
		return strings.Compare(a.key, b.key)
	})
}

// close hides of a line, whose sum is known, what must be for its hidden cells to cover each other; false where not even the sum may be said.
func (s *sheet) close(line []spot) bool {
	return s.closeBy(line, s.covers)
}

// closeBy hides the smallest cells that are shown until those that are hidden cover each other.
func (s *sheet) closeBy(line []spot, covers func([]spot) bool) bool {
	for {
		shown, hidden := s.split(line)
		if len(hidden) == 0 || covers(hidden) {
			return len(line) > 0
		}
		if len(shown) == 0 {
			return false
		}
		s.hide(s.smallest(shown))
	}
}

func (s *sheet) hide(cells ...spot) {
	for _, at := range cells {
		s.hidden[at] = true
	}
}

// dominance is the p of the p % rule: whoever knows the second largest part of a sum must not be able to tell the largest closer than that.
const dominance = 10

// dominated tells whether one subject's amount could be told from the sum: what the two largest leave must be p % of the largest. They are
// known by their octaves, and taken for as large as those allow. A subject may be the largest of each cell of a union.
func dominated(cells ...Tally) bool {
	var whole, first, second float64
	for i := range cells {
		a, b := largest(&cells[i])
		whole, first, second = whole+float64(cells[i].Value), first+a, second+b
	}
	return whole-first-second < first*dominance/100
}

// largest are the upper bounds of the two largest amounts of a sum.
func largest(t *Tally) (first, second float64) {
	left := 2
	for i := octaves - 1; i >= 0 && left > 0; i-- {
		for range min(int(t.Spread[i]), left) {
			bound := math.Min(math.Exp2(float64(i))-1, float64(t.Value))
			if left == 2 {
				first = bound
			} else {
				second = bound
			}
			left--
		}
	}
	return first, second
}

// fair tells that no part's sum of these cells is dominated by one subject.
func (s *sheet) fair(cells []spot) bool {
	for _, f := range s.parts {
		tallies := make([]Tally, len(cells))
		for i, at := range cells {
			tallies[i] = f[at]
		}
		if dominated(tallies...) {
			return false
		}
	}
	return true
}

// closeAmounts is close for a line of amounts, whose cells must also not be dominated. Beside an amount that is shown its count is, so lines of counts come first.
func (s *sheet) closeAmounts(line []spot) bool {
	for _, at := range line {
		if !s.fair([]spot{at}) {
			s.hide(at)
		}
	}
	return s.closeBy(line, func(hidden []spot) bool { return s.covers(hidden) && s.fair(hidden) })
}

// parted tells whether of a whole of subjects the part may be said: it and the rest hold k each, so that nobody's having or lacking it is certain.
func (s *sheet) parted(part, whole func(figures) int64) bool {
	return s.least(func(f figures) int64 { return min(part(f), whole(f)-part(f)) }) >= s.k
}
