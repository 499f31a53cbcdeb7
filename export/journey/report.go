package journey

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Query asks for a report.
type Query struct {
	Report  string
	Period  string // a name of the grid; empty: the newest
	Site    string // empty: the only one
	Segment string // "name=value", declared; empty: everybody
	Stages  string // of the map: which columns, by commas; empty: all
}

// QueryError says what of a query is not known. It never holds what was asked.
type QueryError struct{ Field, Expected string }

func (e *QueryError) Error() string { return e.Field + ": " + e.Expected }

// ErrCounting is the error of reports of open periods while cells are counted anew; ask again soon.
var ErrCounting = errors.New("reports of open periods are being counted anew")

// Report answers a query: of a closed period what was published when it closed, of an open one what is released of its cells now.
func (j *Journeys) Report(q Query) (Answer, error) {
	if err := j.complete(&q); err != nil {
		return Answer{}, err
	}
	a, err := j.find(&q)
	if err != nil {
		return Answer{}, err
	}
	return a, a.choose(q.Stages)
}

// complete checks a query and fills in what it leaves open.
func (j *Journeys) complete(q *Query) error {
	if !slices.Contains(Reports(), q.Report) {
		return &QueryError{"report", "one of " + strings.Join(Reports(), ", ")}
	}
	if q.Site == "" && len(j.sites) == 1 {
		for q.Site = range j.sites {
		}
	}
	if _, ok := j.sites[q.Site]; !ok {
		return &QueryError{"site", "the name of a site of this gateway"}
	}
	if q.Segment != "" && (q.Report == ReportCoverage || !slices.Contains(j.o.Settings.declared(), q.Segment)) {
		return &QueryError{"segment", "name=value of a declared segment; coverage has none"}
	}
	if q.Stages != "" && q.Report != ReportMap {
		return &QueryError{"stages", "the map's columns: no other report has any"}
	}
	for _, stage := range strings.FieldsFunc(q.Stages, isComma) {
		if !slices.Contains(j.o.Policy.Stages(), stage) {
			return &QueryError{"stages", "stages of the policy, by commas"}
		}
	}
	return nil
}

func isComma(r rune) bool { return r == ',' }

// declared are the segments that may be asked for, as "name=value", sorted.
func (s *Settings) declared() []string {
	all := []string{}
	for name, values := range s.Segments {
		for _, v := range values {
			all = append(all, name+"="+v)
		}
	}
	slices.Sort(all)
	return all
}

func (j *Journeys) find(q *Query) (Answer, error) {
	open, err := j.open(q.Site)
	if err != nil {
		return Answer{}, err
	}
	for i := len(open) - 1; i >= 0; i-- {
		if q.Period == "" || q.Period == open[i].name {
			return j.current(q, open[i])
		}
	}
	body, err := j.report(q.Site, q.Period, q.Report, q.Segment)
	switch {
	case errors.Is(err, errNotPublished):
		return Answer{}, &QueryError{"period", "a period of which there are reports, such as " + open[len(open)-1].name}
	case err != nil:
		return Answer{}, fmt.Errorf("reading a published report: %w", err)
	}
	var a Answer
	if err := json.Unmarshal(body, &a); err != nil {
		return Answer{}, fmt.Errorf("reading a published report: %w", err)
	}
	return a, nil
}

// current releases a report of an open period.
func (j *Journeys) current(q *Query, p period) (Answer, error) {
	r, err := j.released(q.Site, p)
	switch {
	case errors.Is(err, errCounting):
		return Answer{}, ErrCounting
	case err != nil:
		return Answer{}, err
	}
	a := r.answer(q.Report, q.Segment)
	a.Period.Open = true
	return a, nil
}

// choose leaves of a map the columns that were asked for. The rest is a part of what is other, and nothing is known that was not.
func (a *Answer) choose(stages string) error {
	if stages == "" || a.Map == nil {
		return nil
	}
	chosen := strings.FieldsFunc(stages, isComma)
	kept := []Column{}
	for _, c := range a.Map.Stages {
		if slices.Contains(chosen, c.Stage) {
			kept = append(kept, c)
		} else {
			a.Map.Other += c.Events
		}
	}
	a.Map.Stages = kept
	return nil
}

// Listing is what may be asked for.
type Listing struct {
	Reports  []string      `json:"reports"`
	Sites    []SiteListing `json:"sites"`
	Segments []string      `json:"segments"` // "name=value"
	Stages   []string      `json:"stages"`   // of the policy, in order
}

// SiteListing are the periods of a site, oldest first: closed ones, whose reports do not change any more, and open ones.
type SiteListing struct {
	Name   string   `json:"name"`
	Closed []string `json:"closed"`
	Open   []string `json:"open"`
}

// Listing lists what may be asked for.
func (j *Journeys) Listing() (Listing, error) {
	l := Listing{Reports: Reports(), Sites: []SiteListing{}, Segments: j.o.Settings.declared(), Stages: j.o.Policy.Stages()}
	for _, site := range slices.Sorted(maps.Keys(j.sites)) {
		closed, err := j.Published(site)
		if err != nil {
			return Listing{}, err
		}
		open, err := j.open(site)
		if err != nil {
			return Listing{}, err
		}
		s := SiteListing{Name: site, Closed: append([]string{}, closed...), Open: []string{}}
		for _, p := range open {
			s.Open = append(s.Open, p.name)
		}
		l.Sites = append(l.Sites, s)
	}
	return l, nil
}

// release is what is shown of one period at one site: decisions, made once for all reports, and the pages that show them.
type release struct {
	rules    *rules
	all      Answer
	before   published
	coverage []Covering
	pages    map[string]*page // by segment; without one, nothing of the segment is said
}

func newRelease(c counts, before published, s *rules) *release {
	r := &release{rules: s, before: before, pages: map[string]*page{}}
	r.all = Answer{
		Period: Period{Name: s.period.name, From: s.period.start, To: s.period.end}, Site: s.site, K: int64(s.settings.Threshold),
	}
	r.coverage, r.all.Coverage = covered(c)
	bySegment := map[string]figures{"": {}}
	for cell, t := range c {
		if cell.Kind == coverageKind {
			continue
		}
		f := bySegment[cell.Segment]
		if f == nil {
			f = figures{}
			bySegment[cell.Segment] = f
		}
		f[spot{cell.Kind, cell.Key}] = t
	}
	everybody := decide(r.sheet(bySegment[""]), nil)
	if everybody == nil {
		return r
	}
	r.show("", everybody, bySegment[""])
	for _, name := range slices.Sorted(maps.Keys(s.settings.Segments)) {
		r.showSegments(name, bySegment, everybody)
	}
	return r
}

// sheet is what is decided on together.
func (r *release) sheet(parts ...figures) *sheet {
	s := &sheet{parts: parts, k: r.all.K, defined: map[spot]bool{}}
	if r.rules.policy == nil {
		return s
	}
	channels := map[string][]string{}
	for _, t := range r.rules.policy.EventTypes() {
		if !slices.Contains(channels[t.Stage], t.Channel) {
			channels[t.Stage] = append(channels[t.Stage], t.Channel)
		}
	}
	for stage, list := range channels {
		if len(list) == 1 {
			s.defined[spot{kindEvent, Join(stage, list[0])}] = true
		}
	}
	return s
}

func (r *release) show(segment string, d *decision, f figures) {
	p := &page{decision: d, f: f, all: r.all, before: r.before}
	if r.rules.policy != nil {
		p.stages = r.rules.policy.Stages()
	}
	p.all.Segment = segment
	r.pages[segment] = p
}

// segmentFactor times k subjects is what a segment must hold, and what the subjects outside of those that are shown must.
const segmentFactor = 2

// showSegments decides on all segments of a name together. Those with few subjects join the unlabelled; where these are few, the smallest segment joins too.
func (r *release) showSegments(name string, bySegment map[string]figures, everybody *decision) {
	type labelled struct {
		segment string
		figures
	}
	var shown []labelled
	for _, segment := range r.rules.settings.declared() {
		if f := bySegment[segment]; segmentName(segment) == name && f.everybody() >= segmentFactor*r.all.K {
			shown = append(shown, labelled{segment, f})
		}
	}
	slices.SortStableFunc(shown, func(a, b labelled) int { return cmp.Compare(b.everybody(), a.everybody()) })
	for ; len(shown) > 0; shown = shown[:len(shown)-1] {
		parts := make([]figures, len(shown))
		for i := range shown {
			parts[i] = shown[i].figures
		}
		rest := bySegment[""].less(parts...)
		switch n := rest.everybody(); {
		case n >= segmentFactor*r.all.K:
			parts = append(parts, rest)
		case n > 0:
			continue
		}
		if len(parts) < 2 { // everybody is in one segment: it would say that of each
			return
		}
		if d := decide(r.sheet(parts...), everybody); d != nil {
			for i := range shown {
				r.show(shown[i].segment, d, shown[i].figures)
			}
		}
		return
	}
}

// answer is one report of everybody or of a segment.
func (r *release) answer(report, segment string) Answer {
	if p := r.pages[segment]; p != nil && report != ReportCoverage {
		return p.answer(report)
	}
	a := r.all
	a.Report, a.Segment, a.Unit = report, segment, unitOf(report)
	a.Suppressed.Unit = a.Unit
	if report == ReportCoverage {
		a.ByPurpose = r.coverage
	} else {
		a.Withheld = true
	}
	return a
}

// build makes all reports of a period, when it closes: of everybody and of each declared segment.
func build(c counts, previous published, s *rules) ([]Report, error) {
	r := newRelease(c, previous, s)
	var all []Report
	for _, segment := range append([]string{""}, s.settings.declared()...) {
		for _, name := range Reports() {
			if name == ReportCoverage && segment != "" {
				continue
			}
			body, err := json.Marshal(r.answer(name, segment))
			if err != nil {
				return nil, fmt.Errorf("encoding a report: %w", err)
			}
			all = append(all, Report{name, segment, body})
		}
	}
	return all, nil
}
