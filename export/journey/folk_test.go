package journey

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// folk is many subjects with small journeys, as sums, and who is in which cell.
type folk struct {
	rules *rules
	cells counts
	in    map[Cell]map[int]bool // subjects
}

func newFolk(t testing.TB, seed uint64) *folk {
	r := week(t)
	r.settings.Threshold = 5
	r.settings.Segments = map[string][]string{"variant": {"a", "b", "c"}}
	c := &folk{rules: r, cells: counts{}, in: map[Cell]map[int]bool{}}
	random := rand.New(rand.NewPCG(seed, 7))
	channels := []string{"web", "app", "email", "store", "social", "chat"}[:2+random.IntN(5)]
	types := []string{"page_view", "page_view", "product_view", "cart_add", "checkout_start", "purchase"}
	subjects := 30 + random.IntN(200)
	for i := range subjects {
		// Powers make some channels and segments rare.
		pick := func(n int) int { return int(float64(n) * random.Float64() * random.Float64()) }
		label := []string{" variant=a", " variant=b", " variant=c", ""}[pick(4)]
		var s story
		for range 1 + random.IntN(6) {
			typ := types[random.IntN(len(types))]
			s = append(s, told{time.Duration(random.Int64N(int64(7 * day))), channels[pick(len(channels))], typ + label, 100 + random.Int64N(5000)})
		}
		cells := contribute(s.touches(r), r)
		c.cells.add(cells, 1)
		for cell := range cells {
			if c.in[cell] == nil {
				c.in[cell] = map[int]bool{}
			}
			c.in[cell][i] = true
		}
	}
	return c
}

// partition is who is in which cell of each part.
type partition []map[spot]int

func (c *folk) parts(names []string) partition {
	held := make(partition, len(names))
	labelled := map[int]bool{}
	for cell, in := range c.in {
		if cell.Segment != "" {
			for i := range in {
				labelled[i] = true
			}
		}
	}
	for p, name := range names {
		held[p] = map[spot]int{}
		for cell, in := range c.in {
			if cell.Segment != name {
				continue
			}
			for i := range in {
				if name != "" || !labelled[i] {
					held[p][spot{cell.Kind, cell.Key}]++
				}
			}
		}
	}
	return held
}

func (h partition) of(kind string) (all []spot) {
	for _, part := range h {
		for at := range part {
			if at.kind == kind && !slices.Contains(all, at) {
				all = append(all, at)
			}
		}
	}
	slices.SortFunc(all, func(a, b spot) int { return strings.Compare(a.key, b.key) })
	return all
}

func (h partition) subjects(parts []int, at spot) (n int) {
	for _, p := range parts {
		n += h[p][at]
	}
	return n
}

func leaving(edges []spot, node string) (line []spot) {
	for _, at := range edges {
		if from, _ := ends(at); from == node {
			line = append(line, at)
		}
	}
	return line
}

func entering(edges []spot, node string) (line []spot) {
	for _, at := range edges {
		if _, to := ends(at); to == node {
			line = append(line, at)
		}
	}
	return line
}

func nodesOf(edges []spot) (channels []string) {
	for _, at := range edges {
		if from, _ := ends(at); from != nodeStart && !slices.Contains(channels, from) {
			channels = append(channels, from)
		}
	}
	return channels
}
