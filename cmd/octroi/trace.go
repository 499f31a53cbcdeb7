package main

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/collector/wire/native"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// maxTraced bounds the batches that an answer names at each destination: the newest.
const maxTraced = 32

// Traced is what POST /v1/trace answers: where a row of the event would be. Whether it is there only the holder of the destination's key can see.
type Traced struct {
	Destinations []TracedAt `json:"destinations"`
}

// TracedAt is an event at one destination.
type TracedAt struct {
	Name    string        `json:"name"`
	EventID string        `json:"event_id"` // as the destination's rows name the event, where one of them rests on the subject
	Batches []TracedBatch `json:"batches"`  // that hold rows of the subject, newest first
}

// TracedBatch is a batch and its present object.
type TracedBatch struct {
	ID  string `json:"id"`
	Key string `json:"key"`
}

// traceRoutes adds "what became of this event", for site owners who look for a fault. It joins what a site knows of an event with what
// destinations know, so it is for whoever holds the gateway's own figures, and needs the site's id of the event and the subject both: who has a
// row cannot ask whose it is.
func (g *gateway) traceRoutes(app *fiber.App) {
	app.Post("/v1/trace", g.serveTrace)
}

func (g *gateway) serveTrace(c *fiber.Ctx) error {
	actor, err := g.edge.Actor(c, collector.ScopeAdmin)
	if err != nil {
		return err
	}
	in, err := native.DecodeTrace(string(c.Body()))
	if err != nil {
		return fmt.Errorf("decoding trace: %w", err)
	}
	site := slices.IndexFunc(g.config.Sites, func(s SiteConfig) bool { return s.Name == in.Site })
	if site < 0 {
		return &wire.FieldError{Field: "site", Right: "the name of a configured site"}
	}
	s, err := g.traced(&in, g.config.Sites[site].Region)
	switch {
	case errors.Is(err, subject.ErrUnknown), errors.Is(err, subject.ErrShredded):
		return g.edge.Fail(c, http.StatusNotFound, "no_record", "nobody is known by this: erased, or never seen")
	case err != nil:
		return fmt.Errorf("finding whose event it is: %w", err)
	}
	out, err := g.trace(s, in.Site, in.ID)
	if err != nil {
		return err
	}
	g.log.Info("an event was traced", "component", actor)
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.JSON(out)
}

// traced is whose event it is. region is that of the site's phone numbers.
func (g *gateway) traced(in *native.Trace, region string) (subject.Subject, error) {
	if in.Device != "" {
		credential, ok := subject.ParseCredential(in.Device)
		if !ok {
			return subject.Subject{}, subject.ErrUnknown
		}
		return g.subjects.Device(credential)
	}
	ids := make([]subject.Identifier, len(in.Subject))
	for i, raw := range in.Subject {
		namespace, value := raw.Raw()
		id, err := subject.Normalise(namespace, value, region)
		if err != nil {
			return subject.Subject{}, err
		}
		ids[i] = id
	}
	return g.subjects.Person(ids...)
}

func (g *gateway) trace(s subject.Subject, site, id string) (Traced, error) {
	rows, err := export.NewIndex(g.state).Batches(s)
	if err != nil {
		return Traced{}, err
	}
	slices.SortFunc(rows, func(a, b export.BatchRow) int { return cmp.Compare(b.Number, a.Number) })
	out := Traced{Destinations: make([]TracedAt, len(g.exits))}
	for i, x := range g.exits {
		event := x.destination.EventID(s, site, id)
		at := TracedAt{Name: x.destination.Name(), EventID: hex.EncodeToString(event[:]), Batches: []TracedBatch{}}
		for j := range rows {
			if row := &rows[j]; row.Destination == at.Name && !row.Empty && len(at.Batches) < maxTraced {
				at.Batches = append(at.Batches, TracedBatch{row.Batch.ID, row.Batch.Key})
			}
		}
		out.Destinations[i] = at
	}
	return out, nil
}
