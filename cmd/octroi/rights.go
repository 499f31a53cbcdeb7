package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights"
	"github.com/octroi/octroi/export/rights/access"
)

// defaultSlotCopies is how long copies of the slot file are kept where the configuration does not say: what certificates state.
const defaultSlotCopies = 7 * 24 * time.Hour

// openRights opens the requests of data subjects. Whoever was suppressed when the last process ended is severed before anything is served.
func (g *gateway) openRights(ctx context.Context) error {
	keys := g.config.path(g.config.Keys)
	approval, err := keyfile.ReadPublic(keyPath(keys, "approval")+".pub", "approval")
	if err != nil {
		return fmt.Errorf("reading the approval key of the data protection officer: %w", err)
	}
	custodian, err := keyfile.ReadPublic(keyPath(keys, "custodian")+".pub", "custodian")
	if err != nil {
		return fmt.Errorf("reading the key that the custodian signs with: %w", err)
	}
	exits := make([]rights.Exit, len(g.exits))
	for i, x := range g.exits {
		exits[i] = rights.Exit{Destination: x.destination, Shipper: x.shipper, Recipients: x.recipients}
	}
	r := g.config.Rights
	o := rights.Options{
		Node: g.config.Node, State: g.state, Subjects: g.subjects, Ledger: g.ledger, Policy: g.policy, Exits: exits, Objects: g.objects,
		Acks: export.NewAcks(g.state), Streams: export.NewStreams(g.state, g.config.Node, g.names()...), Index: export.NewIndex(g.state),
		Tail: g.spool.Tail, LowWater: g.spoolGone, Approval: approval, Custodian: custodian, Checkpoints: g.signer,
		SuppressionKey: g.keys.Suppression, Packages: g.config.packages(), Controller: g.config.controller(),
		Notices: r.Notices, AckLimit: r.AckLimit, PackageKept: r.PackageKept, IdentityKept: r.IdentityKept,
		KeyCopies: cmp.Or(r.SlotCopies, defaultSlotCopies), Source: g.policy.Source(), Log: g.log,
	}
	if g.journeys != nil {
		o.Journeys = g.journeys
	}
	if g.restored {
		n, err := rights.Replay(ctx, o)
		if err != nil {
			return fmt.Errorf("erasing again whom the backup brought back: %w", err)
		}
		g.log.Info("read the journal of erasures and withdrawals", "erased_again", n)
	}
	if g.rights, err = rights.Open(ctx, o); err != nil {
		return fmt.Errorf("opening requests: %w", err)
	}
	return nil
}

// adopt makes what was published after the backup the restored state's own.
func (g *gateway) adopt(ctx context.Context, destination string) error {
	n, err := export.Adopt(ctx, export.AdoptOptions{
		State: g.state, Objects: g.objects, Node: g.config.Node, Destination: destination, Gateway: g.keys.Signing.Public().(ed25519.PublicKey),
		OutboxDir: g.outbox(destination), Log: g.log.With("destination", destination),
	})
	if err != nil {
		return fmt.Errorf("adopting the stream of %q: %w", destination, err)
	}
	g.log.Info("adopted what was published after the backup", "destination", destination, "entries", n)
	return nil
}

// outbox is the folder of a destination's sealed batches.
func (g *gateway) outbox(destination string) string {
	return filepath.Join(g.config.path(g.config.Outbox.Dir), destination)
}

// spoolGone is the position below which every destination has sealed and no segment is on disk.
func (g *gateway) spoolGone() uint64 { return min(g.lowWater(), g.spool.Least()) }

// names are those of the destinations.
func (g *gateway) names() []string {
	names := make([]string, len(g.config.Destinations))
	for i, d := range g.config.Destinations {
		names[i] = d.Name
	}
	return names
}

// controller is who is responsible, as access packages name it (GDPR Art. 13(1)(a), (b)).
func (c *Config) controller() access.Controller {
	x := c.Contact
	return access.Controller{
		Name: c.Controller, Contact: x.Name, Email: x.Email, Phone: x.Phone, PolicyURL: c.PolicyURL,
		Address: strings.Join(nonEmpty(x.Street, strings.TrimSpace(x.PostalCode+" "+x.City), x.Country), ", "),
	}
}

func nonEmpty(texts ...string) (out []string) {
	for _, t := range texts {
		if t != "" {
			out = append(out, t)
		}
	}
	return out
}

// addRights adds the routes of persons to the public listener, those of officer and custodian to the private one.
func (g *gateway) addRights() {
	rights.Routes(g.public, g.private, g.rights, rights.RouteOptions{
		Actor: g.edge.Actor, Fail: g.edge.Fail, ForgetCookie: g.edge.ForgetCookie, Region: g.config.Sites[0].Region,
		Visitor: func(c *fiber.Ctx, key string) (rights.Visitor, error) {
			v, err := g.edge.Visitor(c, key)
			return rights.Visitor{Subject: v.Device, Language: v.Language}, err
		},
	})
}
