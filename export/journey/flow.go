package journey

import (
	"maps"
	"slices"
	"strings"
)

// web is the graph of a sheet's edges, with what of it may be shown. Of every channel that is not dropped its flow is known, in and out; what is
// hidden of either goes through allOther, so that everything still sums. A dropped channel is a part of allOther.
type web struct {
	*sheet
	edges   []spot
	dropped map[string]bool
}

// ends are the two nodes of an edge's spot.
func ends(at spot) (from, to string) {
	d := at.dimensions()
	return d[0], d[1]
}

// newWeb decides on the edges; nil where not even journeys, conversions and nulls may be said.
func (s *sheet) newWeb(dropped []string) *web {
	if !s.enough([]spot{{kindJourney, nodeConversion}}) || !s.enough([]spot{{kindJourney, nodeNull}}) {
		return nil
	}
	w := &web{sheet: s, edges: s.of(kindEdge), dropped: map[string]bool{}}
	for _, node := range dropped {
		w.drop(node)
	}
	for changed := true; changed; {
		var ok bool
		changed, ok = w.closeLines()
		if !ok {
			return nil
		}
		if !changed {
			changed = w.closeBridges()
		}
	}
	return w
}

// lines are the edges out of and into each node whose sum is known.
func (w *web) lines() map[string][]spot {
	lines := map[string][]spot{}
	for _, at := range w.edges {
		from, to := ends(at)
		if !w.dropped[from] {
			lines["out "+from] = append(lines["out "+from], at)
		}
		if !w.dropped[to] {
			lines["in "+to] = append(lines["in "+to], at)
		}
	}
	return lines
}

// closeLines makes what is hidden of each line cover itself, once; ok is false where a line that must be known cannot.
func (w *web) closeLines() (changed, ok bool) {
	lines := w.lines()
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		shown, hidden := w.split(lines[name])
		switch {
		case len(hidden) == 0 || w.covers(hidden):
		case len(shown) > 0:
			w.hide(w.smallest(shown))
			return true, true
		default:
			_, node, _ := strings.Cut(name, " ")
			return true, w.drop(node)
		}
	}
	return false, true
}

// drop makes a channel a part of allOther; false of what is no channel.
func (w *web) drop(node string) bool {
	if node == nodeStart || node == nodeConversion || node == nodeNull || w.dropped[node] {
		return false
	}
	w.dropped[node] = true
	for _, at := range w.edges {
		if from, to := ends(at); from == node || to == node {
			w.hide(at)
		}
	}
	return true
}

// closeBridges hides beside the first hidden edge that the known sums determine; false where there is none.
//
// The known sums are the equations of a graph: its vertices are the lines, "out of a" and "into b", and each hidden edge a → b joins two. Of a dropped
// channel only is known that what enters leaves: its two vertices are one. Such equations determine an edge if and only if it is a bridge.
func (w *web) closeBridges() bool {
	var hidden []spot
	var joins [][2]string
	for _, at := range w.edges {
		if w.shown(at) {
			continue
		}
		from, to := ends(at)
		join := [2]string{"out " + from, "in " + to}
		if w.dropped[to] {
			join[1] = "out " + to
		}
		hidden, joins = append(hidden, at), append(joins, join)
	}
	lines := w.lines()
	for _, i := range bridges(joins) {
		from, to := ends(hidden[i])
		beside, _ := w.split(append(slices.Clone(lines["out "+from]), lines["in "+to]...))
		switch {
		case len(beside) > 0:
			w.hide(w.smallest(beside))
			return true
		case w.drop(from), w.drop(to):
			return true
		}
	}
	return false
}

// bridges are the edges of a graph that lie on no circle (Tarjan 1974).
func bridges(joins [][2]string) []int {
	at := map[string][]int{}
	for i, j := range joins {
		at[j[0]] = append(at[j[0]], i)
		at[j[1]] = append(at[j[1]], i)
	}
	order, low := map[string]int{}, map[string]int{}
	var found []int
	var visit func(v string, by int)
	visit = func(v string, by int) {
		order[v] = len(order) + 1
		low[v] = order[v]
		for _, i := range at[v] {
			if i == by {
				continue
			}
			to := joins[i][0]
			if to == v {
				to = joins[i][1]
			}
			if order[to] != 0 {
				low[v] = min(low[v], order[to])
				continue
			}
			visit(to, i)
			low[v] = min(low[v], low[to])
			if low[to] > order[v] {
				found = append(found, i)
			}
		}
	}
	for _, v := range slices.Sorted(maps.Keys(at)) {
		if order[v] == 0 {
			visit(v, none)
		}
	}
	slices.Sort(found)
	return found
}

// graph is what is shown of a part, with the amounts of conversions in a currency ("": none), of which those that may not be said are allOther's.
func (w *web) graph(f figures, currency string) *graph {
	g := &graph{edges: map[edge]int64{}, worth: map[string]int64{}}
	for _, at := range w.edges {
		count := f[at].Count
		if count == 0 {
			continue
		}
		from, to := ends(at)
		if w.shown(at) {
			g.edges[edge{from, to}] += count
			continue
		}
		if !w.dropped[from] {
			g.edges[edge{from, allOther}] += count
		}
		if !w.dropped[to] {
			g.edges[edge{allOther, to}] += count
		}
	}
	for _, at := range f.of(kindWorth) {
		d := at.dimensions()
		if d[0] != modelLast || d[2] != currency {
			continue
		}
		if w.shown(at) {
			g.worth[d[1]] += f[at].Value
		} else {
			g.worth[allOther] += f[at].Value
		}
	}
	return g
}
