package journey

import (
	"fmt"
	"slices"
	"testing"
)

// attacker knows everything that was released, what edges mean, and which cells are not empty; not what they hold.
type attacker struct {
	unknown map[string]int
	rows    []map[int]int64 // linear equations, without their right sides: what matters is what they determine
}

func (x *attacker) index(part int, at spot) int {
	name := fmt.Sprint(part, at)
	if _, ok := x.unknown[name]; !ok {
		x.unknown[name] = len(x.unknown)
	}
	return x.unknown[name]
}

// learns adds: the sum of these cells over these parts is known; minus those of another list.
func (x *attacker) learns(parts []int, plus, minus []spot) {
	row := map[int]int64{}
	for _, p := range parts {
		for _, at := range plus {
			row[x.index(p, at)]++
		}
		for _, at := range minus {
			row[x.index(p, at)]--
		}
	}
	x.rows = append(x.rows, row)
}

const prime = 2_147_483_647

func inverse(a int64) int64 {
	result, e := int64(1), int64(prime-2)
	for a %= prime; e > 0; e >>= 1 {
		if e&1 == 1 {
			result = result * a % prime
		}
		a = a * a % prime
	}
	return result
}

// space is the row space of equations, in echelon form modulo a prime.
type space struct {
	columns int
	pivots  map[int][]int64
}

func (x *attacker) space() *space {
	s := &space{len(x.unknown), map[int][]int64{}}
	for _, row := range x.rows {
		v := s.vector(row)
		if p := s.reduce(v); p >= 0 {
			f := inverse(v[p])
			for i := range v {
				v[i] = v[i] * f % prime
			}
			s.pivots[p] = v
		}
	}
	return s
}

func (s *space) vector(row map[int]int64) []int64 {
	v := make([]int64, s.columns)
	for i, n := range row {
		v[i] = (n%prime + prime) % prime
	}
	return v
}

// reduce takes out of v what the space holds, and is the first column that is left; -1: nothing is.
func (s *space) reduce(v []int64) int {
	first := -1
	for i := range v {
		if v[i] == 0 {
			continue
		}
		p := s.pivots[i]
		if p == nil {
			if first < 0 {
				first = i
			}
			continue
		}
		f := v[i]
		for k := i; k < len(v); k++ {
			v[k] = ((v[k]-f*p[k])%prime + prime) % prime
		}
	}
	return first
}

// determines tells whether the equations leave one value for the sum of a cell over parts.
func (x *attacker) determines(s *space, parts []int, at spot) bool {
	row := map[int]int64{}
	for _, p := range parts {
		i := x.index(p, at)
		if i >= s.columns {
			return false // no equation holds it
		}
		row[i]++
	}
	return s.reduce(s.vector(row)) < 0
}

// published is one release as the attacker reads it: of some parts together.
type publishedPart struct {
	parts []int
	r     *release
	name  string // segment
}

// readFlow learns what a flow says.
func (x *attacker) readFlow(p publishedPart, support []spot) (visible map[spot]bool) {
	visible = map[spot]bool{}
	a := p.r.answer(ReportFlow, p.name)
	if a.Flow == nil {
		return visible
	}
	named, out, in := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, e := range a.Flow.Edges {
		if e.From != AllOther {
			named[e.From], out[e.From] = true, true
		}
		if e.To != AllOther {
			named[e.To], in[e.To] = true, true
		}
		if e.From != AllOther && e.To != AllOther {
			at := spot{kindEdge, Join(e.From, e.To)}
			visible[at] = true
			x.learns(p.parts, []spot{at}, nil)
		}
	}
	for node := range named {
		var leave, enter []spot
		for _, at := range support {
			switch from, to := ends(at); node {
			case from:
				leave = append(leave, at)
			case to:
				enter = append(enter, at)
			}
		}
		if out[node] {
			x.learns(p.parts, leave, nil)
		}
		if in[node] {
			x.learns(p.parts, enter, nil)
		}
	}
	return visible
}

// readOpens learns first and last touches, whose credits are whole.
func (x *attacker) readOpens(p publishedPart) {
	a := p.r.answer(ReportAttribution, p.name)
	if a.Attribution == nil {
		return
	}
	for _, m := range a.Attribution.Models {
		for _, c := range m.Credits {
			switch {
			case c.Channel == AllOther:
			case m.Name == modelFirst:
				x.learns(p.parts, []spot{{kindOpen, Join(c.Channel, nodeConversion)}}, nil)
			case m.Name == modelLast:
				x.learns(p.parts, []spot{{kindEdge, Join(c.Channel, nodeConversion)}}, nil)
			}
		}
	}
}

// readMap learns what a map says.
func (x *attacker) readMap(p publishedPart, support []spot) {
	a := p.r.answer(ReportMap, p.name)
	if a.Map == nil {
		return
	}
	x.learns(p.parts, support, nil)
	for _, c := range a.Map.Stages {
		var column []spot
		for _, at := range support {
			if at.dimensions()[0] == c.Stage {
				column = append(column, at)
			}
		}
		x.learns(p.parts, column, nil)
		for _, v := range c.Channels {
			x.learns(p.parts, []spot{{kindEvent, Join(c.Stage, v.Channel)}}, nil)
		}
	}
}

// readClasses learns the classes of a partition.
func (x *attacker) readClasses(p publishedPart) {
	page := p.r.pages[p.name]
	if page == nil {
		return
	}
	for kind, classes := range map[string][]class{kindBreadth: page.breadth, kindFunnel: page.levels, kindTime: page.times} {
		for _, c := range classes {
			var line []spot
			for _, key := range c {
				line = append(line, spot{kind, key})
			}
			x.learns(p.parts, line, nil)
		}
	}
}

// Whoever subtracts everything that was released from everything else learns of no cell that holds fewer than k subjects, and of no hidden edge or
// event count at all: neither of everybody, nor of a segment, nor of those outside of the segments.
func TestNothingHiddenCanBeSubtracted(t *testing.T) {
	flows, segmented, small := 0, 0, 0
	for seed := range uint64(100) {
		c := newFolk(t, seed)
		x, held, visible := c.attack()
		if len(visible[""]) > 0 {
			flows++
		}
		segmented += len(visible) - 1
		k := c.rules.settings.Threshold
		s := x.space()
		for _, kind := range []string{kindEdge, kindOpen, kindEvent, kindBreadth, kindFunnel, kindTime} {
			for _, at := range held.of(kind) {
				n := held.subjects(everyPart(), at)
				if n < k {
					small++
				}
				if (n < k || kind == kindEdge && !visible[""][at]) && x.determines(s, everyPart(), at) {
					t.Fatalf("seed %d: %v of %d subjects can be told", seed, at, n)
				}
				for p := range everyPart() {
					n := held.subjects([]int{p}, at)
					if n > 0 && n < k && x.determines(s, []int{p}, at) {
						t.Fatalf("seed %d: %v of %d subjects of part %d can be told", seed, at, n, p)
					}
				}
			}
		}
	}
	if flows < 50 || segmented < 50 || small < 500 {
		t.Fatalf("these subjects try too little: %d flows, %d segments, %d small cells", flows, segmented, small)
	}
}

// partNames are the parts that the attacker wants to tell apart: segments, and, last, nobody's label.
func partNames() []string { return []string{"variant=a", "variant=b", "variant=c", ""} }

// everyPart are their numbers.
func everyPart() []int { return []int{0, 1, 2, 3} }

// attack reads everything that is released of them.
func (c *folk) attack() (x *attacker, held partition, visible map[string]map[spot]bool) {
	r := newRelease(c.cells, nil, c.rules)
	releases := []publishedPart{{everyPart(), r, ""}}
	for i, name := range partNames()[:3] {
		if r.pages[name] != nil {
			releases = append(releases, publishedPart{[]int{i}, r, name})
		}
	}
	held = c.parts(partNames())
	x = &attacker{unknown: map[string]int{}}
	edges, events := held.of(kindEdge), held.of(kindEvent)
	visible = map[string]map[spot]bool{}
	for _, p := range releases {
		visible[p.name] = x.readFlow(p, edges)
		x.readOpens(p)
		x.readMap(p, events)
		x.readClasses(p)
	}
	for p := range everyPart() {
		x.knowsJourneys(p, edges)
	}
	return x, held, visible
}

// knowsJourneys: what enters a channel leaves it, and what began as the journeys did that converted ended with a conversion.
func (x *attacker) knowsJourneys(part int, edges []spot) {
	for _, node := range nodesOf(edges) {
		x.learns([]int{part}, leaving(edges, node), entering(edges, node))
	}
	begun := map[string][]spot{}
	for _, at := range leaving(edges, nodeStart) {
		_, channel := ends(at)
		yes, no := spot{kindOpen, Join(channel, nodeConversion)}, spot{kindOpen, Join(channel, nodeNull)}
		x.learns([]int{part}, []spot{yes, no}, []spot{at})
		begun[nodeConversion], begun[nodeNull] = append(begun[nodeConversion], yes), append(begun[nodeNull], no)
	}
	for end, line := range begun {
		x.learns([]int{part}, line, entering(edges, end))
	}
}

// Every number that is released, and every sum of what is hidden, is of k subjects or more, by name.
func TestReleasedSumsHoldSubjects(t *testing.T) {
	sums := 0
	for seed := range uint64(100) {
		c := newFolk(t, seed)
		r := newRelease(c.cells, nil, c.rules)
		for segment := range r.pages {
			check := func(what string, line []spot) {
				who := map[int]bool{}
				for _, at := range line {
					for i := range c.in[Cell{c.rules.period.name, c.rules.site, segment, at.kind, at.key}] {
						who[i] = true
					}
				}
				if sums++; len(who) < c.rules.settings.Threshold {
					t.Fatalf("seed %d: %s of %q is of %d subjects", seed, what, segment, len(who))
				}
			}
			c.checkFlow(r.answer(ReportFlow, segment).Flow, segment, check)
			c.checkMap(r.answer(ReportMap, segment).Map, segment, check)
		}
	}
	if sums < 1000 {
		t.Fatalf("%d sums", sums)
	}
}

func (c *folk) of(kind, segment string) (all []spot) {
	for cell := range c.in {
		if cell.Kind == kind && cell.Segment == segment {
			all = append(all, spot{kind, cell.Key})
		}
	}
	return all
}

func (c *folk) checkFlow(f *Flow, segment string, check func(string, []spot)) {
	if f == nil {
		return
	}
	visible, out, in := map[spot]bool{}, map[string]bool{}, map[string]bool{}
	for _, e := range f.Edges {
		switch {
		case e.From == AllOther:
			in[e.To] = true
		case e.To == AllOther:
			out[e.From] = true
		default:
			at := spot{kindEdge, Join(e.From, e.To)}
			visible[at] = true
			check("an edge", []spot{at})
		}
	}
	hidden := slices.DeleteFunc(c.of(kindEdge, segment), func(at spot) bool { return visible[at] })
	for node := range out {
		check("what leaves "+node+" for others", leaving(hidden, node))
	}
	for node := range in {
		check("what enters "+node+" from others", entering(hidden, node))
	}
}

func (c *folk) checkMap(m *Map, segment string, check func(string, []spot)) {
	rest := c.of(kindEvent, segment)
	take := func(match func(d []string) bool) (line []spot) {
		rest = slices.DeleteFunc(rest, func(at spot) bool {
			if match(at.dimensions()) {
				line = append(line, at)
				return true
			}
			return false
		})
		return line
	}
	for _, s := range m.Stages {
		for _, v := range s.Channels {
			check("a channel of a stage", take(func(d []string) bool { return d[0] == s.Stage && d[1] == v.Channel }))
		}
		if other := take(func(d []string) bool { return d[0] == s.Stage }); s.Other > 0 {
			check("the others of a stage", other)
		}
	}
	if m.Other > 0 {
		check("the other stages", rest)
	}
}
