package rights

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/access"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// beginAccess takes note of the end of the spool: everything below it belongs into the package.
func (r *Requests) beginAccess(ctx context.Context, q *requestRow) error {
	_, err := r.change(ctx, q.ID, func(_ *state.Txn, q *requestRow) error {
		if q.State != Approved {
			return nil // cancelled meanwhile
		}
		q.Step, q.Tail = spooled, r.o.Tail()
		return q.move(begin)
	})
	return err
}

// advanceAccess waits until what was received before the request is in the store, and then freezes what the custodian needs.
func (r *Requests) advanceAccess(ctx context.Context, q *requestRow) error {
	switch q.Step {
	case spooled:
		return r.awaitSealed(ctx, q)
	case shipped:
		return r.awaitPublished(ctx, q)
	}
	return nil // the custodian's turn
}

func (r *Requests) awaitSealed(ctx context.Context, q *requestRow) error {
	for _, x := range r.exits {
		if x.Shipper.Cursor() < q.Tail {
			r.await(q.Tail)
			return nil
		}
	}
	if r.o.Journeys != nil && r.o.Journeys.Cursor() < q.Tail {
		r.await(q.Tail)
		return nil
	}
	_, err := r.change(ctx, q.ID, func(t *state.Txn, q *requestRow) error {
		if q.Step != spooled {
			return nil
		}
		heads, err := export.Heads(t, r.destinations...)
		q.Step, q.Heads = shipped, heads
		return err
	})
	return err
}

func (r *Requests) awaitPublished(ctx context.Context, q *requestRow) error {
	for name, number := range q.Heads {
		if x, known := r.exits[name]; known && x.Shipper.Published() < number {
			return nil
		}
	}
	s, err := r.whose(q)
	if err != nil {
		return err
	}
	own, err := r.own(q)
	if err != nil {
		return err
	}
	batches, err := r.batchesOf(s, q.Heads)
	if err != nil {
		return err
	}
	material, err := r.material(q, s)
	if err != nil {
		return err
	}
	if err := r.freeze(ctx, own, frozenBatches, batches); err != nil {
		return err
	}
	if err := r.freeze(ctx, own, frozenMaterial, material); err != nil {
		return err
	}
	// Crash here: all of it is frozen again; the custodian has seen nothing yet.
	_, err = r.change(ctx, q.ID, func(_ *state.Txn, q *requestRow) error {
		if q.Step != shipped {
			return nil
		}
		q.Step = collecting
		for _, ids := range batches {
			q.Batches += len(ids)
		}
		return nil
	})
	return err
}

// material is what the gateway itself knows of a person (rights.md D7; GDPR Art. 15(1)).
func (r *Requests) material(q *requestRow, s subject.Subject) (*access.Material, error) {
	m := &access.Material{
		Version: 1, Request: q.ID, Received: q.Clock.Received, Controller: r.o.Controller, Source: r.o.Source, Kind: kindName(s.Kind()),
	}
	for _, p := range r.o.Policy.Purposes() {
		m.Purposes = append(m.Purposes, purposeOf(p))
	}
	history, err := r.o.Ledger.History(s)
	if err != nil && !errors.Is(err, consent.ErrNoRecord) {
		return nil, fmt.Errorf("reading consents: %w", err)
	}
	for i := range history {
		c, err := consentOf(&history[i])
		if err != nil {
			return nil, err
		}
		m.Consents = append(m.Consents, c)
	}
	err = r.o.State.View(func(v reader) error {
		rows, err := requestsOf(v, s)
		for _, x := range rows {
			m.Requests = append(m.Requests, access.PastRequest{
				ID: x.ID, Right: string(x.Right), State: string(x.State), Received: x.Clock.Received, Closed: x.Closed,
			})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if m.Links, err = r.linksOf(s); err != nil {
		return nil, err
	}
	m.Window, err = r.windowOf(q, s)
	return m, err
}

// linksOf are the times of a subject's links: when, and not to whom (rights.md D7).
func (r *Requests) linksOf(s subject.Subject) (out []access.Link, err error) {
	links, err := r.o.Ledger.Links(s)
	if err != nil {
		return nil, fmt.Errorf("reading links: %w", err)
	}
	for _, l := range links {
		out = append(out, access.Link{Since: l.Since, Until: l.Until, Method: l.Method})
	}
	return out, nil
}

// windowName is journey.Destination: the recipient that is the gateway's own journey window.
const windowName = "journeys"

// windowOf is what the journey window keeps of a subject, by the rule of sweep for shipped rows.
func (r *Requests) windowOf(q *requestRow, s subject.Subject) (*access.Window, error) {
	if r.o.Journeys == nil {
		return nil, nil
	}
	rows, err := r.o.Journeys.Window(s)
	if err != nil {
		return nil, fmt.Errorf("reading the journey window: %w", err)
	}
	w := &access.Window{Destination: windowName}
	for _, row := range rows {
		if s.Kind() == subject.Person && row.Device != nil { // a person's device may be another's as well
			row.Device = nil
			row.Grants = slices.Clone(row.Grants)
			for i := range row.Grants {
				row.Grants[i].Ref = [16]byte{}
			}
		}
		w.Rows = append(w.Rows, withoutSlots(row))
	}
	if s.Kind() == subject.Device {
		err = r.addSignedIn(w, q, s)
	}
	return w, err
}

// addSignedIn adds what the window keeps of a device as a person's: that of whoever is signed in, and of the others how much it is.
func (r *Requests) addSignedIn(w *access.Window, q *requestRow, device subject.Subject) error {
	id, err := r.identity(q)
	if err != nil {
		return err
	}
	links, err := r.o.Ledger.Links(device)
	if err != nil {
		return fmt.Errorf("reading links: %w", err)
	}
	seen := map[subject.Slot]bool{}
	for _, l := range links {
		if seen[l.Person.Slot()] {
			continue
		}
		seen[l.Person.Slot()] = true
		rows, err := r.o.Journeys.Window(l.Person)
		if err != nil && !errors.Is(err, subject.ErrShredded) {
			return fmt.Errorf("reading the journey window: %w", err)
		}
		for _, row := range rows {
			switch {
			case row.DeviceSlot != device.Slot():
			case l.Person.Slot() == id.With:
				w.Rows = append(w.Rows, withoutSlots(row))
			default:
				w.Withheld++
			}
		}
	}
	return nil
}

// withoutSlots is a row as it may leave the gateway.
func withoutSlots(row pseudonymize.Row) pseudonymize.Row {
	row.DeviceSlot, row.PersonSlot, row.Grants = 0, 0, slices.Clone(row.Grants)
	for i := range row.Grants {
		row.Grants[i].Slot = 0
	}
	return row
}

func kindName(k subject.Kind) string {
	if k == subject.Device {
		return "device"
	}
	return "person"
}

func purposeOf(p *policies.Purpose) access.Purpose {
	out := access.Purpose{
		ID: p.ID, Title: p.Titles, Text: p.Texts, Basis: string(p.Basis), Retention: p.Retention.String(), Transfers: p.Transfers,
		Automated: p.AutomatedDecisions,
	}
	for _, field := range slices.Sorted(maps.Keys(p.Fields)) {
		if p.Fields[field] != policies.Drop {
			out.Categories = append(out.Categories, field)
		}
	}
	for _, to := range p.Recipients {
		out.Recipients = append(out.Recipients, access.Recipient{
			Destination: to.Destination, Name: to.Name, Country: to.Country, Role: to.Role,
		})
	}
	return out
}

// consentOf is a record as the package shows it: consent draws its JSON.
func consentOf(p *consent.Proven) (c access.Consent, err error) {
	var record struct {
		Core struct {
			Event struct {
				Type  string    `json:"type"`
				State string    `json:"state"`
				Time  time.Time `json:"time"`
			} `json:"event"`
			Purposes []struct {
				ID      string `json:"id"`
				Granted bool   `json:"granted"`
			} `json:"purposes"`
		} `json:"core"`
	}
	if err := json.Unmarshal(p.Record, &record); err != nil {
		return c, fmt.Errorf("%w: consent record", ErrStored)
	}
	e := &record.Core.Event
	c = access.Consent{Time: e.Time, Event: e.Type, State: e.State, Purposes: map[string]bool{}}
	for _, x := range record.Core.Purposes {
		c.Purposes[x.ID] = x.Granted
	}
	if c.Proven, err = json.Marshal(p); err != nil {
		return c, fmt.Errorf("encoding consent: %w", err)
	}
	return c, nil
}
