package journey

import (
	"encoding/csv"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/octroi/octroi/pseudonymize"
)

// waysOf adds journeys as the data sets of attribution have them: a path, how often it converted, for how much, and how often it did not.
func waysOf(a sums, path string, n [3]int64) {
	var steps []step
	for _, c := range strings.Split(path, " > ") {
		steps = append(steps, step{channel: c})
	}
	if conversions := n[0]; conversions > 0 {
		w := way{steps: steps, converted: true, value: pseudonymize.Money{Minor: n[1], Currency: "EUR"}}
		w.addTo(a, conversions)
	}
	if nulls := n[2]; nulls > 0 {
		w := way{steps: steps}
		w.addTo(a, nulls)
	}
}

// whole is the graph of all edges, nothing hidden.
func whole(a sums) *graph {
	g := &graph{edges: map[edge]int64{}, worth: map[string]int64{}}
	for at, x := range a {
		d := at.dimensions()
		switch {
		case at.kind == kindEdge:
			g.edges[edge{d[0], d[1]}] = x.count
		case at.kind == kindWorth && d[0] == modelLast:
			g.worth[d[1]] = x.value
		}
	}
	return g
}

func readTable(t *testing.T, name string) []map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) < 2 {
		t.Fatalf("%s: %d rows, %v", name, len(rows), err)
	}
	var table []map[string]string
	for _, row := range rows[1:] {
		m := map[string]string{}
		for i, column := range rows[0] {
			m[column] = row[i]
		}
		table = append(table, m)
	}
	return table
}

func readSynthetic(t *testing.T) (a sums, conversions, minor, nulls int64) {
	t.Helper()
	a = sums{}
	for _, row := range readTable(t, "testdata/synthetic_paths.csv") {
		var n [3]int64
		for i, column := range []string{"conversions", "value_cents", "nulls"} {
			v, err := strconv.ParseInt(row[column], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			n[i] = v
		}
		waysOf(a, row["path"], n)
		conversions, minor, nulls = conversions+n[0], minor+n[1], nulls+n[2]
	}
	return a, conversions, minor, nulls
}

// The reference was worked out by others than this program, Markov in exact rationals.
func TestAttributionGolden(t *testing.T) {
	a, conversions, minor, nulls := readSynthetic(t)
	if conversions == 0 || minor == 0 || nulls == 0 {
		t.Fatal("the paths hold nothing")
	}
	g := whole(a)
	effects, ofAmounts := g.chain(false).removals(), g.chain(true).removals()
	shares, amounts := credits(effects, float64(conversions)), credits(ofAmounts, float64(minor))
	reference := readTable(t, "testdata/synthetic_reference.csv")
	if len(reference) != len(effects) {
		t.Fatalf("%d channels, the reference has %d", len(effects), len(reference))
	}
	for _, row := range reference {
		c := row["channel"]
		counted := func(model string) float64 { return float64(a[spot{kindCredit, Join(model, c)}].count) / creditUnit }
		for column, got := range map[string]float64{
			"first": counted(modelFirst), "last": counted(modelLast), "linear": counted(modelLinear), "position_40_20_40": counted(modelPosition),
			"markov1_removal_effect": effects[c], "markov1_conversions": shares[c],
			"markov1_value_removal_effect": ofAmounts[c], "markov1_value_cents": amounts[c],
		} {
			want, err := strconv.ParseFloat(row[column], 64)
			if err != nil {
				t.Fatal(err)
			}
			tolerance := 1e-9
			if column == "markov1_value_cents" {
				tolerance = 5.1e-7 // six digits after the point are what the reference has
			}
			if diff := math.Abs(got - want); diff > tolerance {
				t.Errorf("%s of %s = %.12f, want %.12f", column, c, got, want)
			}
		}
	}
}

func TestCreditsSum(t *testing.T) {
	a, conversions, minor, nulls := readSynthetic(t)
	for _, model := range counted() {
		var credit, worth int64
		for at, x := range a {
			if at.dimensions()[0] != model {
				continue
			}
			switch at.kind {
			case kindCredit:
				credit += x.count
			case kindWorth:
				worth += x.value
			}
		}
		if credit != conversions*creditUnit || worth != minor {
			t.Errorf("%s: %d of %d conversions, %d of %d cents", model, credit, conversions*creditUnit, worth, minor)
		}
	}
	g := whole(a)
	c := g.chain(false)
	if p, want := c.yields(c.reach(none)), float64(conversions)/float64(conversions+nulls); math.Abs(p-want) > 1e-12 {
		t.Errorf("P(conversion) = %v, want %v", p, want)
	}
	v := g.chain(true)
	if got, want := v.yields(v.reach(none)), float64(minor)/float64(conversions+nulls); math.Abs(got-want) > 1e-9 {
		t.Errorf("expected amount = %v, want %v", got, want)
	}
}

func TestSelfLoopsChangeNothing(t *testing.T) {
	once, twice := sums{}, sums{}
	for path, n := range map[string][3]int64{"a > b": {3, 300, 4}, "b > a > b": {1, 100, 2}, "c": {1, 50, 0}} {
		waysOf(once, path, n)
		waysOf(twice, strings.ReplaceAll(path, "b", "b > b > b"), n)
	}
	x, y := whole(once).chain(false).removals(), whole(twice).chain(false).removals()
	if len(x) != 3 {
		t.Fatalf("%d channels", len(x))
	}
	for c, effect := range x {
		if effect != y[c] {
			t.Errorf("%s: %v with repeats, %v without", c, y[c], effect)
		}
	}
}

// The worked examples that others published (shared/data/journeys/vectors.json), and what they found.
func TestPublishedMarkov(t *testing.T) {
	for name, v := range map[string]struct {
		paths   map[string][3]int64
		effects map[string]float64
		credits map[string]float64
	}{
		"ChannelAttribution 1.1 vignette": {
			map[string][3]int64{"A > B > A > B > B > A": {1}, "A > B > B > A > A": {1}, "A > A": {1}},
			map[string]float64{"A": 1, "B": 0.5},
			map[string]float64{"A": 2, "B": 1},
		},
		"analyzecore.com 2016": {
			map[string][3]int64{"c1 > c2 > c3": {1}, "c1": {0, 0, 1}, "c2 > c3": {0, 0, 1}},
			map[string]float64{"c1": 0.5, "c2": 1, "c3": 1},
			map[string]float64{"c1": 0.2, "c2": 0.4, "c3": 0.4},
		},
	} {
		a := sums{}
		for path, n := range v.paths {
			waysOf(a, path, n)
		}
		effects := whole(a).chain(false).removals()
		shares := credits(effects, float64(a[spot{kindJourney, nodeConversion}].count))
		for c, want := range v.effects {
			if math.Abs(effects[c]-want) > 1e-12 || math.Abs(shares[c]-v.credits[c]) > 1e-12 {
				t.Errorf("%s: %s has %v and %v, want %v and %v", name, c, effects[c], shares[c], want, v.credits[c])
			}
		}
	}
}

func TestShares(t *testing.T) {
	// fractribution, Snowplow and DP6 agree on these.
	for n, want := range map[int][]float64{1: {1}, 2: {0.5, 0.5}, 3: {0.4, 0.2, 0.4}, 4: {0.4, 0.1, 0.1, 0.4}} {
		for i, w := range want {
			if got := float64(share(modelPosition, i, n)) / creditUnit; got != w {
				t.Errorf("position %d of %d has %v, want %v", i, n, got, w)
			}
		}
	}
	for _, model := range counted() {
		for n := 1; n <= maxSteps; n++ {
			var all int64
			for i := range n {
				all += share(model, i, n)
			}
			if all != creditUnit {
				t.Errorf("%s: the shares of %d positions are %d of %d", model, n, all, creditUnit)
			}
		}
	}
}

func TestCollapsed(t *testing.T) {
	// fractribution, path_transforms.sql: "exposure".
	var w way
	for _, c := range strings.Split("DABBCDCC", "") {
		w.steps = append(w.steps, step{channel: c})
	}
	if got := strings.Join(w.collapsed(), ""); got != "DABCDC" {
		t.Errorf("collapsed to %s", got)
	}
}
