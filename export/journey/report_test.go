package journey

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/policies"
)

// busy is a gateway that has counted enough to say something, and closed a week of it.
func busy(t *testing.T) *Journeys {
	t.Helper()
	w := newWorld(t)
	w.settings.Threshold = 5
	w.coverage = func() ([]Covered, func()) {
		return []Covered{{"shop", "web", "audience", 143, 57}, {"shop", "email", "audience", 1, 2}}, func() {}
	}
	c := w.crowd(60, 3)
	j := w.journeys()
	if err := j.cover(t.Context()); err != nil {
		t.Fatal(err)
	}
	foldRows(t, j, c.rows(w, j.o.Destination, 4000), 500)
	w.clock.set(testStart.Add(9 * 24 * time.Hour)) // W47 is closed, W48 is open
	for {
		more, err := j.publishDue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return j
		}
	}
}

// server serves the routes to whoever has the token "good".
func server(j *Journeys) *fiber.App {
	app := fiber.New(fiber.Config{ErrorHandler: func(c *fiber.Ctx, err error) error {
		status := http.StatusInternalServerError
		if e := (*fiber.Error)(nil); errors.As(err, &e) {
			status = e.Code
		}
		return c.SendStatus(status)
	}})
	Routes(app, j, RouteOptions{
		Authorise: func(c *fiber.Ctx, scope string) error {
			if c.Get("Authorization") != "Bearer good" || scope != "journeys:read" {
				return fiber.ErrForbidden
			}
			return nil
		},
		Fail: func(c *fiber.Ctx, status int, code, detail string) error {
			return c.Status(status).JSON(fiber.Map{"code": code, "detail": detail}, "application/problem+json")
		},
	})
	return app
}

func ask(t *testing.T, app *fiber.App, path string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Authorization", "Bearer good")
	resp, err := app.Test(r, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestReportsOverHTTP(t *testing.T) {
	j := busy(t)
	app := server(j)
	resp, body := ask(t, app, "/v1/journeys")
	var l Listing
	if err := json.Unmarshal([]byte(body), &l); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode, err)
	}
	if len(l.Sites) != 2 || l.Sites[1].Name != "shop" || !slices.Contains(l.Sites[1].Closed, "2026-W47") || !slices.Contains(l.Sites[1].Open, "2026-W48") ||
		!slices.Equal(l.Segments, []string{"variant=a", "variant=b"}) || len(l.Reports) != 7 || len(l.Stages) == 0 {
		t.Errorf("listing: %+v", l)
	}
	for _, report := range Reports() {
		path := "/v1/journeys/" + report + "?site=shop&period=2026-W47"
		resp, body := ask(t, app, path)
		var a Answer
		if err := json.Unmarshal([]byte(body), &a); err != nil || resp.StatusCode != 200 {
			t.Fatal(report, resp.StatusCode, err)
		}
		if a.Report != report || a.Site != "shop" || a.Period.Name != "2026-W47" || a.Period.Open || a.K != 5 || a.Epsilon != 0 || a.Unit == "" || a.Withheld {
			t.Errorf("%s: %+v", report, a)
		}
		if c := a.Coverage; c == nil || c.Accepted != 140 || c.Refused != 60 || c.Share != 0.7 {
			t.Errorf("%s: consent coverage %+v", report, c)
		}
		if published, err := j.report("shop", "2026-W47", report, ""); err != nil || string(published) != body {
			t.Errorf("%s is not what was published: %v", report, err)
		}
		checkCSV(t, app, path, &a)
	}
	// Of an open period: nothing has happened in it.
	if _, body := ask(t, app, "/v1/journeys/kpis?site=shop"); !strings.Contains(body, `"withheld":true`) || !strings.Contains(body, `"open":true`) {
		t.Errorf("the newest period: %s", body)
	}
}

// checkCSV checks that a CSV says what the JSON says: as many numbers, each with its unit.
func checkCSV(t *testing.T, app *fiber.App, path string, a *Answer) {
	t.Helper()
	resp, body := ask(t, app, path+"&format=csv")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/csv; charset=utf-8; header=present" ||
		!strings.HasPrefix(resp.Header.Get("Content-Disposition"), "attachment;") || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
	}
	if !strings.Contains(body, "\r\n") {
		t.Errorf("%s: lines do not end as RFC 4180 wants", path)
	}
	rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
	if err != nil || len(rows) < 5 {
		t.Fatal(path, len(rows), err)
	}
	numbers := 0
	for _, row := range rows[1:] {
		measure, value, unit, currency := row[8], row[9], row[10], row[11]
		if value != "" {
			numbers++
		}
		if unit == "" && measure != "withheld" && measure != "drop_off" || (unit == UnitMinor) != (currency != "") {
			t.Errorf("%s: %s has the unit %q and the currency %q", path, measure, unit, currency)
		}
	}
	if want := countNumbers(reflect.ValueOf(*a)); numbers != want {
		t.Errorf("%s: %d numbers, the JSON has %d", path, numbers, want)
	}
}

// countNumbers counts what is said in an answer: whole numbers, fractions and truths, where they are set.
func countNumbers(v reflect.Value) (n int) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			n = countNumbers(v.Elem())
		}
	case reflect.Struct:
		if _, is := v.Interface().(Period); is {
			return 0
		}
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "WindowDays" && !(v.Type() == reflect.TypeFor[Column]() && name == "Events") &&
				!(v.Type() == reflect.TypeFor[Duration]() && name != "Subjects") {
				n += countNumbers(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			n += countNumbers(v.Index(i))
		}
	case reflect.Int64, reflect.Float64, reflect.Bool:
		return 1
	}
	return n
}

func TestWrongQuestions(t *testing.T) {
	w := newWorld(t)
	app := server(w.journeys())
	for path, want := range map[string]struct {
		status int
		says   string
	}{
		"/v1/journeys/kpis":                                    {400, "site: "}, // there are two
		"/v1/journeys/kpis?site=nowhere":                       {400, "site: "},
		"/v1/journeys/kpis?site=shop&period=2026-W99":          {400, "period: "},
		"/v1/journeys/kpis?site=shop&period=2026-11":           {400, "period: "},
		"/v1/journeys/kpis?site=shop&period=..%2f..%00":        {400, "period: "},
		"/v1/journeys/kpis?site=shop&segment=variant%3Dz":      {400, "segment: "},
		"/v1/journeys/coverage?site=shop&segment=variant%3Da":  {400, "segment: "},
		"/v1/journeys/kpis?site=shop&stages=intent":            {400, "stages: "},
		"/v1/journeys/map?site=shop&stages=intent,nothing":     {400, "stages: "},
		"/v1/journeys/kpis?site=shop&format=xml":               {400, "format: "},
		"/v1/journeys/kpis?site=shop&site=outlet":              {400, "site: given once"},
		"/v1/journeys/kpis?site=shop&from=2026-11-01&canary=1": {400, "a parameter is not known"},
		"/v1/journeys?site=shop":                               {400, "a parameter is not known"},
		"/v1/journeys/retention?site=shop":                     {404, "report: "},
	} {
		resp, body := ask(t, app, path)
		if resp.StatusCode != want.status || !strings.Contains(body, want.says) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
		for _, echo := range []string{"nowhere", "W99", "=z", "nothing", "xml", "canary", "retention"} {
			if strings.Contains(body, echo) {
				t.Errorf("%s: the answer echoes %q: %s", path, echo, body)
			}
		}
	}
	for _, path := range []string{"/v1/journeys", "/v1/journeys/kpis?site=shop"} {
		resp, err := app.Test(httptest.NewRequest(http.MethodGet, path, nil))
		if err != nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s without a token: %v %v", path, resp.StatusCode, err)
		}
	}
}

func TestCountingAnewIsUnavailable(t *testing.T) {
	w := newWorld(t)
	j := w.journeys()
	if err := w.state.Update(t.Context(), beginRecount); err != nil {
		t.Fatal(err)
	}
	resp, _ := ask(t, server(j), "/v1/journeys/kpis?site=shop")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

func TestStagesChooseColumns(t *testing.T) {
	a := Answer{Map: &Map{Events: 100, Other: 10, Stages: []Column{{Stage: "intent", Events: 60}, {Stage: "purchase", Events: 30}}}}
	if err := a.choose("purchase"); err != nil || len(a.Map.Stages) != 1 || a.Map.Other != 70 {
		t.Errorf("%+v %v", a.Map, err)
	}
}

// What a spreadsheet takes for a formula does not leave as one.
func TestFormulasAreGuarded(t *testing.T) {
	hostile := []string{"=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\tx", "\r=1", "\n=1"}
	for _, text := range hostile {
		a := Answer{
			Report: text, Site: text, Segment: text, Period: Period{Name: text}, Unit: text, Suppressed: Mass{Unit: text},
			KPIs:      []Figure{{Name: text, Unit: text, Currency: text, Count: new(int64)}},
			Map:       &Map{Stages: []Column{{Stage: text, Channels: []Channel{{Channel: text}}}}},
			Flow:      &Flow{Edges: []Arc{{From: text, To: text}}, Truth: &Decisive{Channel: text}},
			ByPurpose: []Covering{{Channel: text, Purpose: text}},
		}
		body, err := a.CSV()
		if err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(strings.NewReader(string(body))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			for _, cell := range row {
				if cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
					t.Errorf("a cell begins with %q", cell[:1])
				}
			}
		}
	}
	minus := int64(-5)
	a := Answer{KPIs: []Figure{{Name: "net_revenue", Unit: UnitMinor, Currency: "EUR", Count: &minus}}}
	if body, err := a.CSV(); err != nil || !strings.Contains(string(body), ",net_revenue,-5,minor,EUR\r\n") {
		t.Errorf("a negative amount is a number: %s %v", body, err)
	}
}

// Released sums close: columns, flows in and out of each node, credits, with what is hidden among them.
func TestReleasedSumsClose(t *testing.T) {
	answered := 0
	for seed := range uint64(60) {
		c := newFolk(t, seed)
		r := newRelease(c.cells, nil, c.rules)
		for segment := range r.pages {
			m := r.answer(ReportMap, segment).Map
			all := m.Other
			for _, s := range m.Stages {
				column := s.Other
				for _, v := range s.Channels {
					column += v.Count
				}
				if column != s.Events {
					t.Fatalf("seed %d: stage %s sums to %d of %d", seed, s.Stage, column, s.Events)
				}
				all += s.Events
			}
			if all != m.Events {
				t.Fatalf("seed %d: stages sum to %d of %d", seed, all, m.Events)
			}
			f, a := r.answer(ReportFlow, segment).Flow, r.answer(ReportAttribution, segment).Attribution
			if f == nil {
				continue
			}
			answered++
			in, out := map[string]int64{}, map[string]int64{}
			for _, e := range f.Edges {
				out[e.From] += e.Count
				in[e.To] += e.Count
			}
			if out[NodeStart] != f.Journeys || in[NodeConversion] != f.Conversions || in[NodeNoFurther] != f.NoFurther {
				t.Fatalf("seed %d: %+v", seed, f)
			}
			for node := range out {
				if node != NodeStart && in[node] != out[node] {
					t.Fatalf("seed %d: %d enter %s, %d leave it", seed, in[node], node, out[node])
				}
			}
			checkCredits(t, r, segment, a)
		}
	}
	if answered < 50 {
		t.Fatalf("%d flows", answered)
	}
}

func checkCredits(t *testing.T, r *release, segment string, a *Attribution) {
	t.Helper()
	revenue := int64(-1)
	for _, f := range r.answer(ReportKPIs, segment).KPIs {
		if f.Name == "revenue" && f.Count != nil {
			revenue = *f.Count
		}
	}
	for _, m := range a.Models {
		var credit float64
		for _, c := range m.Credits {
			credit += c.Conversions
		}
		if m.Credits != nil && math.Abs(credit-float64(a.Conversions)) > 1e-6 {
			t.Fatalf("%s credits %v of %d", m.Name, credit, a.Conversions)
		}
		var amount int64
		for _, v := range m.Amounts {
			amount += v.Minor
		}
		if m.Amounts != nil && amount != revenue {
			t.Fatalf("%s credits %d of %d cents", m.Name, amount, revenue)
		}
	}
}

// One subject who brings nearly all of a sum must not be readable from it.
func TestDominatedSumsAreHidden(t *testing.T) {
	sum := func(amounts ...int64) (t Tally) {
		for _, v := range amounts {
			t.spend(v)
		}
		return t
	}
	even := slices.Repeat([]int64{1000}, 12)
	if dominated(sum(even...)) {
		t.Error("twelve equal amounts: nobody dominates")
	}
	if !dominated(sum(append(even, 900_000)...)) {
		t.Error("one of thirteen brings nearly all")
	}
	if !dominated(sum(1000, 900_000), sum(even...)) {
		t.Error("nor may the sum of two cells be his")
	}
	r := week(t)
	for name, whale := range map[string]int64{"even": 1000, "one dominates": 900_000} {
		c := counts{}
		for i := range 40 {
			s := story{{hour, "web", "page_view", 0}}
			if i < 20 {
				s = append(s, told{2 * hour, "web", "purchase", 1000})
			}
			if i == 0 {
				s[1].minor = whale
			}
			c.add(contribute(s.touches(r), r), 1)
		}
		var revenue *int64
		for _, f := range newRelease(c, nil, r).answer(ReportKPIs, "").KPIs {
			if f.Name == "revenue" {
				revenue = f.Count
			}
		}
		if (revenue != nil) != (whale == 1000) {
			t.Errorf("%s: revenue %v", name, revenue)
		}
	}
}

// Rates of none and of all are hidden, and so are those that few miss.
func TestRatesNearTheirEndsAreHidden(t *testing.T) {
	r := week(t)
	for buyers, said := range map[int]bool{0: false, 9: false, 10: true, 30: true, 31: false, 40: false} {
		c := counts{}
		for i := range 40 {
			s := story{{hour, "web", "page_view", 0}}
			if i < buyers {
				s = append(s, told{2 * hour, "web", "purchase", 1000})
			}
			c.add(contribute(s.touches(r), r), 1)
		}
		for _, f := range newRelease(c, nil, r).answer(ReportKPIs, "").KPIs {
			if f.Name == "customers" && (f.Count != nil) != said || f.Name == "conversion_of_subjects" && (f.Share != nil) != said {
				t.Errorf("%d of 40 buy: %+v", buyers, f)
			}
			if f.Name == "subjects" && (f.Count == nil || *f.Count != 40) {
				t.Errorf("subjects: %+v", f)
			}
		}
	}
}

// Where all of a stage came by one of several channels, which one is hidden (100 % of a margin), and the sum is said; unless the policy says which.
func TestStageOfOneChannel(t *testing.T) {
	policy, err := policies.Load(policies.Default())
	if err != nil {
		t.Fatal(err)
	}
	r := week(t)
	r.policy = policy
	stages := map[string]bool{"purchase": false} // by web and in stores
	for at := range (&release{rules: r}).sheet().defined {
		if d := at.dimensions(); d[1] == "web" {
			stages[d[0]] = true
		}
	}
	if len(stages) < 2 {
		t.Fatal("the policy has no stage by web only")
	}
	for stage, said := range stages {
		c := counts{}
		for i := range 40 {
			touches := story{{hour, "web", "page_view", 0}, {2 * hour, []string{"email", "store"}[i%2], "page_view", 0}, {3 * hour, "web", "search", 0}}.touches(r)
			touches[2].Stage = stage
			c.add(contribute(touches, r), 1)
		}
		found := false
		for _, s := range newRelease(c, nil, r).answer(ReportMap, "").Map.Stages {
			if s.Stage == stage {
				found = true
				if s.Events != 40 || (len(s.Channels) == 1) != said || (s.Other == 40) == said {
					t.Errorf("%+v", s)
				}
			}
		}
		if !found {
			t.Errorf("stage %s is not said at all", stage)
		}
	}
}

func BenchmarkRelease(b *testing.B) {
	c := newFolk(b, 5)
	for b.Loop() {
		if _, err := build(c.cells, nil, c.rules); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(c.cells)), "cells")
}

func TestDropOffIsMarked(t *testing.T) {
	step := func(n, lost int64) []Step { return []Step{{Name: "a", Subjects: &n, Dropped: &lost}} }
	for name, c := range map[string]struct {
		now, then []Step
		want      bool
	}{
		"many more are lost":   {step(1000, 500), step(1000, 300), true},
		"a few more are lost":  {step(1000, 320), step(1000, 300), false},
		"many more, of so few": {step(20, 10), step(20, 6), false},
		"fewer are lost":       {step(1000, 300), step(1000, 500), false},
	} {
		f := &Funnel{Steps: c.now}
		if f.mark(&Funnel{Steps: c.then}); f.Steps[0].Drop != c.want {
			t.Errorf("%s: %v", name, f.Steps[0].Drop)
		}
	}
	// Wilson's interval of 10 in 100, as textbooks have it.
	if low, high := wilson(10, 100); math.Abs(low-0.0552) > 1e-4 || math.Abs(high-0.1744) > 1e-4 {
		t.Errorf("%v, %v", low, high)
	}
}
