package journey

import (
	"maps"
	"math"
	"slices"
)

// edge is a pair of nodes, of which one follows the other.
type edge struct{ from, to string }

// graph is a set of journeys as edges: every journey begins at nodeStart and ends at nodeConversion or nodeNull, and what enters a channel leaves it.
type graph struct {
	edges map[edge]int64   // journeys' edges
	worth map[string]int64 // amounts of conversions by the channel before them, in one currency
}

// channels are the nodes between start and end, sorted.
func (g *graph) channels() []string {
	all := map[string]bool{}
	for e := range g.edges {
		if e.from != nodeStart {
			all[e.from] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// chain is the graph as a Markov chain of order 1: of a channel, where a journey goes next, and what ends there.
type chain struct {
	channels []string
	start    []float64   // P(channel | start)
	next     [][]float64 // Q: P(channel | channel)
	gain     []float64   // R: what the edge to conversion yields a visit: its probability, or its amount
}

// chain makes the chain whose gain is the probability of converting, or, of amounts, the expected amount.
func (g *graph) chain(ofAmounts bool) *chain {
	c := &chain{channels: g.channels()}
	n := len(c.channels)
	index := make(map[string]int, n)
	for i, name := range c.channels {
		index[name] = i
	}
	c.start, c.gain, c.next = make([]float64, n), make([]float64, n), make([][]float64, n)
	for i := range c.next {
		c.next[i] = make([]float64, n)
	}
	visits := make([]float64, n)
	var begun float64
	for e, count := range g.edges {
		to, channel := index[e.to]
		switch {
		case e.from == nodeStart:
			begun += float64(count)
			c.start[to] += float64(count)
			continue
		case channel:
			c.next[index[e.from]][to] += float64(count)
		case e.to == nodeConversion && !ofAmounts:
			c.gain[index[e.from]] += float64(count)
		}
		visits[index[e.from]] += float64(count)
	}
	for i, name := range c.channels {
		if ofAmounts {
			c.gain[i] = float64(g.worth[name])
		}
		c.gain[i] /= visits[i]
		c.start[i] /= begun
		for j := range n {
			c.next[i][j] /= visits[i]
		}
	}
	return c
}

// none is no channel: nothing is removed.
const none = -1

// reach solves (I − Q)h = R: h is what a journey yields from each channel on. Whoever comes to the removed channel is lost.
func (c *chain) reach(removed int) []float64 {
	n := len(c.channels)
	rows := make([][]float64, n)
	for i := range rows {
		rows[i] = make([]float64, n+1)
		rows[i][i] = 1
		if i == removed {
			continue
		}
		for j, q := range c.next[i] {
			if j != removed {
				rows[i][j] -= q
			}
		}
		rows[i][n] = c.gain[i]
	}
	return solve(rows)
}

// yields is what a journey yields from its start.
func (c *chain) yields(h []float64) (sum float64) {
	for i, p := range c.start {
		sum += p * h[i]
	}
	return sum
}

// removals are the removal effects: the part of the yield that is lost with each channel.
func (c *chain) removals() map[string]float64 {
	whole := c.yields(c.reach(none))
	effects := make(map[string]float64, len(c.channels))
	for i, name := range c.channels {
		if whole > 0 {
			effects[name] = 1 - c.yields(c.reach(i))/whole
		}
	}
	return effects
}

// solve is Gauss's elimination with the largest pivot, of rows with their right side in the last column. I − Q is regular, because every journey ends.
func solve(rows [][]float64) []float64 {
	n := len(rows)
	for i := range n {
		p := i
		for r := i + 1; r < n; r++ {
			if math.Abs(rows[r][i]) > math.Abs(rows[p][i]) {
				p = r
			}
		}
		rows[i], rows[p] = rows[p], rows[i]
		for r := i + 1; r < n; r++ {
			f := rows[r][i] / rows[i][i]
			for k := i; k <= n; k++ {
				rows[r][k] -= f * rows[i][k]
			}
		}
	}
	x := make([]float64, n)
	for i := n - 1; i >= 0; i-- {
		v := rows[i][n]
		for k := i + 1; k < n; k++ {
			v -= rows[i][k] * x[k]
		}
		x[i] = v / rows[i][i]
	}
	return x
}

// moment of truth: over the edges out of a channel, Σ part of its journeys × |h(b) − h(a)|, where h is the probability of converting; the largest.
func (g *graph) momentOfTruth() (channel string, weight float64) {
	c := g.chain(false)
	h := c.reach(none)
	for i, name := range c.channels {
		kept := 1.0
		var w float64
		for j, q := range c.next[i] {
			w += q * math.Abs(h[j]-h[i])
			kept -= q
		}
		w += c.gain[i]*(1-h[i]) + max(0, kept-c.gain[i])*h[i]
		if w > weight {
			channel, weight = name, w
		}
	}
	return channel, weight
}

// credits shares a whole in proportion to weights, as floating point; nothing where all weights are zero.
func credits(weights map[string]float64, whole float64) map[string]float64 {
	var all float64
	for _, name := range slices.Sorted(maps.Keys(weights)) { // sorted: sums of floating point depend on their order
		all += weights[name]
	}
	shares := make(map[string]float64, len(weights))
	for name, w := range weights {
		if all > 0 {
			shares[name] = w / all * whole
		}
	}
	return shares
}
