package journey

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/pseudonymize"
	"pgregory.net/rapid"
)

// week is the period of the tests: 2026-W47, in a zone that is not UTC.
func week(t testing.TB) *rules {
	t.Helper()
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	g := grid{gridWeek, paris}
	return &rules{site: "shop", period: g.of(testStart), lookback: lookback, zone: paris, settings: Settings{Grid: gridWeek, Threshold: 10}}
}

// story is a subject's touches: each at so long after the week's start, by a channel, of a type, which a label may follow.
type story []told

type told struct {
	at           time.Duration
	channel, typ string
	minor        int64
}

func (s story) touches(r *rules) []Touch {
	var all []Touch
	for i, x := range s {
		typ, label, _ := strings.Cut(x.typ, " ")
		t := Touch{At: r.period.start.Add(x.at).UnixMilli(), Site: r.site, Type: typ, Channel: x.channel, Stage: "stage of " + typ}
		t.ID[0], t.ID[1] = byte(i>>8), byte(i)
		if x.minor != 0 {
			t.Value = pseudonymize.Money{Minor: x.minor, Currency: "EUR"}
		}
		if label != "" {
			t.Segments = []string{label}
		}
		all = append(all, t)
	}
	slices.SortFunc(all, byTime)
	return all
}

func byTime(a, b Touch) int {
	if a.At != b.At {
		return compareAt(a.At, b.At)
	}
	return slices.Compare(a.ID[:], b.ID[:])
}

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// adds checks what a story adds, of the kinds that are named.
func (s story) adds(t *testing.T, kind string, want map[string]int64) {
	t.Helper()
	r := week(t)
	got := map[string]int64{}
	for cell, x := range contribute(s.touches(r), r) {
		if cell.Kind == kind && cell.Segment == "" {
			got[cell.Key] = x.Count
			if x.Subjects != 1 {
				t.Errorf("%s %q counts %d subjects", kind, cell.Key, x.Subjects)
			}
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s: %v, want %v", kind, got, want)
	}
}

func TestWays(t *testing.T) {
	for name, c := range map[string]struct {
		story story
		want  map[string]int64
	}{
		"an e-mail, the shop, a purchase": {
			story{{hour, "email", "email_click", 0}, {hour + 1, "web", "page_view", 0}, {hour + 2, "web", "purchase", 500}},
			map[string]int64{Join(nodeStart, "email"): 1, Join("email", "web"): 1, Join("web", nodeConversion): 1},
		},
		"what follows a purchase is another journey": {
			story{{hour, "web", "purchase", 500}, {2 * hour, "web", "page_view", 0}},
			map[string]int64{Join(nodeStart, "web"): 2, Join("web", nodeConversion): 1, Join("web", nodeNull): 1},
		},
		"touches of the weeks before belong to it": {
			story{{-20 * day, "social", "social_click", 0}, {hour, "web", "purchase", 500}},
			map[string]int64{Join(nodeStart, "social"): 1, Join("social", "web"): 1, Join("web", nodeConversion): 1},
		},
		"those of before the lookback do not": {
			story{{-30*day + 1, "social", "social_click", 0}, {2 * hour, "web", "purchase", 500}},
			map[string]int64{Join(nodeStart, "web"): 1, Join("web", nodeConversion): 1},
		},
		"nor those of before a purchase of the week before": {
			story{{-3 * day, "social", "page_view", 0}, {-2 * day, "web", "purchase", 500}, {hour, "app", "app_open", 0}},
			map[string]int64{Join(nodeStart, "app"): 1, Join("app", nodeNull): 1},
		},
		"repeats are collapsed": {
			story{{hour, "web", "page_view", 0}, {5 * hour, "web", "page_view", 0}, {6 * hour, "store", "store_purchase", 900}},
			map[string]int64{Join(nodeStart, "web"): 1, Join("web", "store"): 1, Join("store", nodeConversion): 1},
		},
	} {
		t.Run(name, func(t *testing.T) { c.story.adds(t, kindEdge, c.want) })
	}
}

func TestLinearByPositions(t *testing.T) {
	// Two visits by web and one e-mail are three positions; the pages of a visit are one.
	story{
		{hour, "web", "page_view", 0},
		{hour + time.Minute, "web", "page_view", 0},
		{3 * hour, "email", "email_click", 0},
		{3*hour + time.Minute, "web", "page_view", 0},
		{3*hour + 2*time.Minute, "web", "purchase", 100},
	}.adds(t, kindCredit, map[string]int64{
		Join(modelFirst, "web"): creditUnit, Join(modelLast, "web"): creditUnit,
		Join(modelLinear, "web"): creditUnit / 3 * 2, Join(modelLinear, "email"): creditUnit / 3,
		Join(modelPosition, "web"): creditUnit / 5 * 4, Join(modelPosition, "email"): creditUnit / 5,
	})
}

func TestSessions(t *testing.T) {
	page := func(at time.Duration) told { return told{at, "web", "page_view", 0} }
	for name, c := range map[string]struct {
		story story
		want  map[string]int64
	}{
		"one page":                         {story{page(0)}, map[string]int64{"bounce": 1}},
		"two pages":                        {story{page(0), page(time.Second)}, map[string]int64{"engaged": 1}},
		"a product's page":                 {story{page(0), {1, "web", "product_view", 0}}, map[string]int64{"bounce": 1}},
		"a page and a short interaction":   {story{page(0), {9 * time.Second, "web", "chat", 0}}, map[string]int64{"passive": 1}},
		"a page and a longer interaction":  {story{page(0), {11 * time.Second, "web", "chat", 0}}, map[string]int64{"engaged": 1}},
		"a key event":                      {story{page(0), {1, "web", "cart_add", 0}}, map[string]int64{"engaged": 1}},
		"a purchase":                       {story{page(0), {1, "web", "purchase", 1}}, map[string]int64{"converted": 1}},
		"29:59 of silence":                 {story{page(0), page(30*time.Minute - 1*time.Second)}, map[string]int64{"engaged": 1}},
		"30 minutes of silence":            {story{page(0), page(30 * time.Minute)}, map[string]int64{"bounce": 2}},
		"began in the period before":       {story{page(-time.Minute), page(time.Minute)}, map[string]int64{}},
		"a sale in a store is none":        {story{{0, "store", "store_purchase", 5}}, map[string]int64{}},
		"a message that was only received": {story{{0, "email", "email_open", 0}}, map[string]int64{}},
	} {
		t.Run(name, func(t *testing.T) { c.story.adds(t, kindSession, c.want) })
	}
}

func TestWindowFunnel(t *testing.T) {
	date := func(text string) int64 {
		at, err := time.Parse("2006-01-02T15:04:05", text)
		if err != nil {
			t.Fatal(err)
		}
		return at.UnixMilli()
	}
	ever := &period{start: time.Unix(0, 0), end: time.Unix(1<<40, 0)}
	inTurn := func(steps ...int) (m []moment) {
		for i, s := range steps {
			if s >= 0 {
				m = append(m, moment{int64(i+1) * 1000, s})
			}
		}
		return m
	}
	for name, c := range map[string]struct {
		moments []moment
		n, want int
	}{
		"Hologres, in order":         {inTurn(0, 1, 2), 3, 3},
		"Hologres, in reverse":       {inTurn(2, 1, 0), 3, 1},
		"Hologres, without a first":  {inTurn(2), 3, 0},
		"Doris, A-B-D-C":             {inTurn(0, 1, 3, 2), 4, 3}, // sequential: D may stand between; of the strict mode the documents say 2
		"ClickHouse, within a week":  {[]moment{{date("2019-01-29T10:00:00"), 0}, {date("2019-01-30T08:00:00"), 1}, {date("2019-01-31T09:00:00"), 2}, {date("2019-02-01T08:00:00"), 3}}, 4, 4},
		"exactly W":                  {[]moment{{0, 0}, {funnelWindow.Milliseconds(), 1}}, 2, 2},
		"later than W":               {[]moment{{0, 0}, {funnelWindow.Milliseconds() + 1, 1}}, 2, 1},
		"a second start is in time":  {[]moment{{0, 0}, {funnelWindow.Milliseconds(), 0}, {funnelWindow.Milliseconds() + 1, 1}}, 2, 2},
		"steps at the same time":     {[]moment{{5, 0}, {5, 1}, {5, 2}}, 3, 3},
		"a step twice is not a next": {inTurn(0, 0, 0), 2, 1},
	} {
		if got, _ := windowFunnel(c.moments, c.n, ever); got != c.want {
			t.Errorf("%s: level %d, want %d", name, got, c.want)
		}
	}
}

// Whatever windowFunnel answers, trying every chain answers too.
func TestWindowFunnelBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "steps")
		var m []moment
		at := int64(0)
		for range rapid.IntRange(0, 9).Draw(t, "events") {
			at += rapid.Int64Range(1, funnelWindow.Milliseconds()/2).Draw(t, "gap")
			m = append(m, moment{at, rapid.IntRange(0, n-1).Draw(t, "step")})
		}
		p := &period{start: time.UnixMilli(at / 3), end: time.UnixMilli(at + 1)}
		want := 0
		var extend func(i, level int, first int64)
		extend = func(i, level int, first int64) {
			for ; i < len(m); i++ {
				if x := m[i]; x.step == level && (level == 0 || x.at-first <= funnelWindow.Milliseconds()) {
					if p.holds(x.at) {
						want = max(want, level+1)
					}
					begin := first
					if level == 0 {
						begin = x.at
					}
					extend(i+1, level+1, begin)
				}
			}
		}
		extend(0, 0, 0)
		if got, _ := windowFunnel(m, n, p); got != want {
			t.Fatalf("level %d, want %d", got, want)
		}
	})
}

func TestCarts(t *testing.T) {
	add := func(at time.Duration) told { return told{at, "web", "cart_add", 0} }
	buy := func(at time.Duration) told { return told{at, "web", "purchase", 100} }
	for name, c := range map[string]struct {
		story story
		want  map[string]int64
	}{
		"bought":              {story{add(hour), buy(2 * hour)}, map[string]int64{cartBought: 1}},
		"left":                {story{add(hour)}, map[string]int64{cartLeft: 1}},
		"two additions":       {story{add(hour), add(2 * hour), buy(3 * hour)}, map[string]int64{cartBought: 1}},
		"of the week before":  {story{add(-hour), buy(hour)}, map[string]int64{cartCarried: 1}},
		"exactly seven days":  {story{add(-6 * day), buy(day)}, map[string]int64{cartCarried: 1}},
		"recovered":           {story{add(-6 * day), buy(day + time.Second)}, map[string]int64{cartRecovered: 1}},
		"later than recovery": {story{add(-29 * day), buy(2 * day)}, map[string]int64{}},
		"two carts":           {story{add(hour), buy(2 * hour), add(3 * hour)}, map[string]int64{cartBought: 1, cartLeft: 1}},
	} {
		t.Run(name, func(t *testing.T) { c.story.adds(t, kindCart, c.want) })
	}
	story{add(-10 * day), {hour, "email", "email_click", 0}, buy(2 * hour)}.adds(t, kindReturn, map[string]int64{"email": 1})
}

func TestSegmentsPartSubjects(t *testing.T) {
	r := week(t)
	s := story{
		{-hour, "web", "page_view device=phone", 0}, // before the period
		{hour, "web", "page_view", 0},
		{2 * hour, "web", "page_view device=desktop", 0},
		{3 * hour, "web", "page_view device=phone", 0},
	}
	segments := map[string]int{}
	for cell := range contribute(s.touches(r), r) {
		segments[cell.Segment]++
	}
	if len(segments) != 2 || segments[""] == 0 || segments["device=desktop"] != segments[""] {
		t.Errorf("cells by segment: %v", segments)
	}
}

func TestContributionBounds(t *testing.T) {
	r := week(t)
	var s story
	for i := range 3000 { // of one day
		s = append(s, told{time.Duration(i) * 25 * time.Second, []string{"web", "email", "app"}[i/80%3], "page_view", 0})
	}
	for i := range 40 {
		s = append(s, told{time.Duration(i) * time.Second, "web", "purchase", 900_000})
	}
	var events, edges, revenue, conversions int64
	for cell, x := range contribute(s.touches(r), r) {
		switch cell.Kind {
		case kindEvent:
			events += x.Count
		case kindEdge:
			edges += x.Count
		case kindOrder:
			revenue, conversions = x.Value, x.Count
		}
	}
	if events != touchesPerDay || edges > edgesPerDay || revenue != clipDefault || conversions != journeysPerDay {
		t.Errorf("%d events, %d edges, %d cents in %d orders", events, edges, revenue, conversions)
	}
}

// anyTouches draws a subject's touches over the lookback and the week.
func anyTouches(t *rapid.T, r *rules) []Touch {
	channels := []string{"web", "app", "email", "store", "social"}
	types := []string{"page_view", "product_view", "cart_add", "checkout_start", "purchase", "store_purchase", "return", "chat", "email_open"}
	var s story
	for range rapid.IntRange(1, 60).Draw(t, "touches") {
		s = append(s, told{
			time.Duration(rapid.Int64Range(-int64(lookback), int64(7*day-1)).Draw(t, "at")) / time.Duration(rapid.SampledFrom([]int{1, 1000}).Draw(t, "near")),
			rapid.SampledFrom(channels).Draw(t, "channel"),
			rapid.SampledFrom(types).Draw(t, "type") + rapid.SampledFrom([]string{"", " a=1", " a=2", " b=1"}).Draw(t, "label"),
			rapid.Int64Range(-100, 2_000_000).Draw(t, "minor"),
		})
	}
	s = append(s, told{at: hour, channel: "web", typ: "page_view"})
	return s.touches(r)
}

func TestContributeInvariants(t *testing.T) {
	r := week(t)
	rapid.Check(t, func(t *rapid.T) {
		touches := anyTouches(t, r)
		cells := contribute(touches, r)
		if len(cells) > maxContribution {
			t.Fatalf("%d cells", len(cells))
		}
		// The same touches that came in another order are the same touches.
		again := slices.Clone(touches)
		rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)).Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
		slices.SortFunc(again, byTime)
		if !maps.Equal(cells, contribute(again, r)) {
			t.Fatal("the order of arrival changes what is counted")
		}
		if err := checkSums(cells); err != nil {
			t.Fatal(err)
		}
	})
}

// checkSums checks what must hold of the cells of any number of subjects.
func checkSums(cells map[Cell]Tally) error {
	in, out := map[string]int64{}, map[string]int64{}
	sums := map[string]int64{}
	for cell, x := range cells {
		if cell.Segment != "" {
			continue
		}
		d := cell.Dimensions()
		switch cell.Kind {
		case kindEdge:
			out[d[0]] += x.Count
			in[d[1]] += x.Count
		case kindCredit, kindWorth:
			if cell.Kind == kindWorth {
				sums[cell.Kind+d[0]] += x.Value
			} else {
				sums[cell.Kind+d[0]] += x.Count
			}
		case kindOrder, kindBasket:
			sums[cell.Kind] += x.Value
		case kindBreadth, kindSpan:
			sums[cell.Kind] += x.Count
		}
	}
	for node := range in {
		if node != nodeConversion && node != nodeNull && in[node] != out[node] {
			return fmt.Errorf("%d enter %s and %d leave it", in[node], node, out[node])
		}
	}
	conversions := in[nodeConversion]
	if out[nodeStart] != conversions+in[nodeNull] || sums[kindBreadth] != conversions || sums[kindSpan] != conversions {
		return fmt.Errorf("%d begin, %d convert, %d do not; %d and %d purchases", out[nodeStart], conversions, in[nodeNull], sums[kindBreadth], sums[kindSpan])
	}
	for _, model := range counted() {
		if sums[kindCredit+model] != conversions*creditUnit || sums[kindWorth+model] != sums[kindOrder] || sums[kindBasket] != sums[kindOrder] {
			return fmt.Errorf("%s: credits %v of %d conversions", model, sums, conversions)
		}
	}
	return nil
}

func BenchmarkContribute(b *testing.B) {
	r := week(b)
	for _, n := range []int{10, 100, 1000} {
		var s story
		random := rand.New(rand.NewPCG(1, 2))
		for range n {
			typ := []string{"page_view", "page_view", "product_view", "cart_add", "search", "email_click", "purchase"}[random.IntN(7)]
			s = append(s, told{
				time.Duration(random.Int64N(int64(37*day))) - lookback, []string{"web", "email", "app", "store"}[random.IntN(4)], typ + " variant=a", 1000,
			})
		}
		touches := append(s, told{at: hour, channel: "web", typ: "page_view"}).touches(r)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				contribute(touches, r)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(touches)), "ns/touch")
		})
	}
}
