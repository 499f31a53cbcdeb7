package console

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/octroi/octroi/export/journey"
)

// choice is what both pages of journeys offer, and what was chosen of it.
type choice struct {
	Query    journey.Query
	Sites    []string
	Periods  []offered // newest first
	Segments []string
}

// offered is a period that may be chosen.
type offered struct {
	Name string
	Open bool
}

// choose reads what was asked for; what is left open is the newest period of the first site.
func (c *Console) choose(v *visit) (choice, error) {
	x := choice{Query: journey.Query{
		Site: strings.Clone(v.f.Query("site")), Period: strings.Clone(v.f.Query("period")), Segment: strings.Clone(v.f.Query("segment")),
	}}
	list, err := c.o.Journeys.Listing()
	if err != nil {
		return x, err
	}
	x.Segments = list.Segments
	for _, site := range list.Sites {
		x.Sites = append(x.Sites, site.Name)
		x.Query.Site = cmp.Or(x.Query.Site, site.Name)
		if site.Name != x.Query.Site {
			continue
		}
		for _, name := range slices.Backward(site.Open) {
			x.Periods = append(x.Periods, offered{name, true})
		}
		for _, name := range slices.Backward(site.Closed) {
			x.Periods = append(x.Periods, offered{name, false})
		}
	}
	if x.Query.Period == "" && len(x.Periods) > 0 {
		x.Query.Period = x.Periods[0].Name
	}
	return x, nil
}

// journeyPage is what the page of journeys shows.
type journeyPage struct {
	choice
	Nothing     string // instead of all else: the name of what is said
	K           int64
	Period      journey.Period
	Coverage    *journey.Consented
	KPIs        []journey.Figure
	Map         *columns
	Flow        *journey.Flow
	Sankey      template.JS // JSON: a data block, which no browser runs
	Funnel      *journey.Funnel
	Attribution *models
}

// models is attribution with a line a channel and a column a model.
type models struct {
	Conversions int64
	Models      []string
	Channels    []modelled
}

type modelled struct {
	Channel string
	Shares  []*float64 // by model; nil: it may not be said
}

// journeys shows the reports of a period side by side.
func (c *Console) journeys(v *visit) error {
	chosen, err := c.choose(v)
	if err != nil {
		return err
	}
	page := journeyPage{choice: chosen}
	for _, report := range []string{journey.ReportKPIs, journey.ReportMap, journey.ReportFlow, journey.ReportFunnel, journey.ReportAttribution} {
		q := chosen.Query
		q.Report = report
		a, err := c.o.Journeys.Report(q)
		if wrong := new(journey.QueryError); errors.As(err, &wrong) {
			page.Nothing = "no_site"
			return c.render(v, http.StatusNotFound, "journeys", page)
		}
		if err != nil {
			return err
		}
		if err := page.take(&a, v.words); err != nil {
			return err
		}
	}
	return c.render(v, http.StatusOK, "journeys", page)
}

// take adds one report to the page.
func (p *journeyPage) take(a *journey.Answer, w *words) error {
	p.K, p.Period, p.Coverage = a.K, a.Period, a.Coverage
	switch {
	case a.KPIs != nil:
		p.KPIs = a.KPIs
	case a.Map != nil:
		m := drawMap(a.Map)
		p.Map = &m
	case a.Flow != nil:
		label, err := w.Say("flow")
		if err != nil {
			return err
		}
		text, err := json.Marshal(drawFlow(a.Flow, w, label)) // it escapes <, > and &, so nothing ends the element
		if err != nil {
			return fmt.Errorf("encoding the flow: %w", err)
		}
		p.Flow, p.Sankey = a.Flow, template.JS(text)
	case a.Funnel != nil:
		p.Funnel = a.Funnel
	case a.Attribution != nil:
		p.Attribution = sideBySide(a.Attribution)
	}
	return nil
}

// sideBySide has the channels in the order of the first model.
func sideBySide(a *journey.Attribution) *models {
	m := &models{Conversions: a.Conversions}
	at := map[string]int{}
	for i, model := range a.Models {
		m.Models = append(m.Models, model.Name)
		for _, credit := range model.Credits {
			j, known := at[credit.Channel]
			if !known {
				j = len(m.Channels)
				at[credit.Channel] = j
				m.Channels = append(m.Channels, modelled{credit.Channel, make([]*float64, len(a.Models))})
			}
			m.Channels[j].Shares[i] = &credit.Share
		}
	}
	return m
}

// ratePage is what the page of consents shows.
type ratePage struct {
	choice
	Rates []journey.Covering
}

// consents shows how much each channel let in and refused (journeys.md "trust").
func (c *Console) consents(v *visit) error {
	chosen, err := c.choose(v)
	if err != nil {
		return err
	}
	q := chosen.Query
	q.Report, q.Segment = journey.ReportCoverage, ""
	a, err := c.o.Journeys.Report(q)
	if wrong := new(journey.QueryError); errors.As(err, &wrong) {
		return errNoPage
	}
	if err != nil {
		return err
	}
	return c.render(v, http.StatusOK, "consents", ratePage{chosen, a.ByPurpose})
}
