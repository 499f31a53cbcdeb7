package main

import (
	"context"
	"fmt"

	"github.com/octroi/octroi/export/journey"
	"github.com/octroi/octroi/pseudonymize"
)

// openJourneys opens the journey window. Without a purpose that names it as a recipient there is none, and what there was goes.
func (g *gateway) openJourneys(ctx context.Context) error {
	purposes := g.purposesOf(journey.Destination)
	if len(purposes) == 0 {
		return journey.Forget(ctx, g.state)
	}
	destination, err := pseudonymize.NewDestination(journey.Destination, purposes, g.keys.Export)
	if err != nil {
		return fmt.Errorf("opening journeys: %w", err)
	}
	sites := make([]journey.Site, len(g.config.Sites))
	for i, s := range g.config.Sites {
		zone, err := s.zone()
		if err != nil {
			return fmt.Errorf("sites[%d].zone: %w", i, err)
		}
		sites[i] = journey.Site{Name: s.Name, Zone: zone}
	}
	g.journeys, err = journey.Open(ctx, journey.Options{
		State: g.state, Subjects: g.subjects, Spool: spooled{g.spool}, SpoolKey: g.keys.Spool, Revocations: g.ledger,
		Destination: destination, Policy: g.policy, Sites: sites,
		Settings: g.config.Journeys.settings(), Coverage: g.coverage, Pressed: g.pressed, Restored: g.restored,
		Log: g.log.With("destination", journey.Destination),
	})
	if err != nil {
		return fmt.Errorf("opening journeys: %w", err)
	}
	g.withdrawals.Subtract(g.journeys)
	return nil
}

// coverage is what the edge counted, which is opened after journeys and before they run.
func (g *gateway) coverage() ([]journey.Covered, func()) {
	counted, done := g.edge.Coverage()
	out := make([]journey.Covered, len(counted))
	for i, c := range counted {
		out[i] = journey.Covered(c)
	}
	return out, done
}

// purposesOf are the ids of the purposes that a destination receives.
func (g *gateway) purposesOf(destination string) (ids []string) {
	mask := g.policy.RecipientOf(destination)
	for _, p := range g.policy.Purposes() {
		if mask&p.Bit() != 0 {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// pressed says whether the spool is filling up.
func (g *gateway) pressed() bool {
	s := g.spool.Stats()
	return s.Bytes > s.MaxBytes/2
}

// addJourneys adds the reports to the private listener.
func (g *gateway) addJourneys() {
	if g.journeys != nil {
		journey.Routes(g.private, g.journeys, journey.RouteOptions{Authorise: g.edge.Authorise, Fail: g.edge.Fail})
	}
}
