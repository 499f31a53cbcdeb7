package main

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/collector/spool"
	"github.com/octroi/octroi/collector/tag"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/journey"
	"github.com/octroi/octroi/export/rights"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// gateway is everything wired together. Its parts are opened left to right along the pipeline, and closed in the opposite order.
type gateway struct {
	config      *Config
	keys        *Keys
	log         *slog.Logger
	policy      *policies.Policy
	state       *state.Store
	subjects    *subject.Registry
	ledger      *consent.Ledger
	spool       *spool.Spool
	objects     export.Objects
	exits       []exit            // a destination each
	journeys    *journey.Journeys // nil: no purpose is for them
	rights      *rights.Requests
	withdrawals *rights.Withdrawals
	restored    bool // from a backup, and not yet brought up to the object store
	edge        *collector.Collector
	metrics     *prometheus.Registry
	signer      *evidence.Signer
	public      *fiber.App
	private     *fiber.App
}

// exit is one destination: how its rows are made, and what ships them.
type exit struct {
	destination *pseudonymize.Destination
	recipients  export.Recipients
	shipper     *export.Shipper
}

// openGateway opens every part, and closes what it has opened when one fails.
func openGateway(ctx context.Context, c *Config, k *Keys, log *slog.Logger) (g *gateway, err error) {
	g = &gateway{config: c, keys: k, log: log, metrics: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
			g = nil
		}
	}()
	if g.restored, err = c.isRestored(); err != nil {
		return g, fmt.Errorf("looking for a restore: %w", err)
	}
	for _, open := range []func(context.Context) error{
		g.openPolicy, g.openState, g.openSubjects, g.openLedger, g.openSpool, g.openObjects, g.openExits, g.openJourneys, g.openRights, g.openEdge,
	} {
		if err := open(ctx); err != nil {
			return g, err
		}
	}
	if g.restored { // nobody was let in before
		if err := c.endRestore(); err != nil {
			return g, err
		}
	}
	g.private = g.privateApp()
	g.addRights()
	g.addJourneys()
	for _, add := range []func() error{g.addPrivacy, g.addConsole, g.addOpenAPI} {
		if err := add(); err != nil {
			return g, err
		}
	}
	return g, nil
}

func (g *gateway) openPolicy(context.Context) (err error) {
	if g.policy, err = loadPolicy(g.config.path(g.config.Policies)); err != nil {
		return err
	}
	return checkRecipients(g.config, g.policy)
}

func (g *gateway) openState(context.Context) (err error) {
	dir := g.config.path(g.config.State)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("creating state folder: %w", err)
	}
	if g.state, err = state.Open(state.Options{Dir: dir, Key: g.keys.State}); err != nil {
		return fmt.Errorf("opening state: %w", err)
	}
	return nil
}

func (g *gateway) openSubjects(context.Context) (err error) {
	file := g.config.path(g.config.Slots)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("creating folder of the slot file: %w", err)
	}
	g.subjects, err = subject.OpenRegistry(subject.Options{
		State: g.state, SlotFile: file, LookupKey: g.keys.Lookup, SuppressionKey: g.keys.Suppression,
	})
	if err != nil {
		return fmt.Errorf("opening subjects: %w", err)
	}
	return nil
}

func (g *gateway) openLedger(context.Context) (err error) {
	if g.signer, err = evidence.NewSigner(logOrigin(g.config.Node), g.keys.Log); err != nil {
		return fmt.Errorf("preparing checkpoints: %w", err)
	}
	proof, err := g.config.consentProof()
	if err != nil {
		return fmt.Errorf("rights.consent_proof: %w", err)
	}
	g.withdrawals = rights.NewWithdrawals(g.policy, g.names())
	g.ledger, err = consent.Open(consent.Options{
		State: g.state, Subjects: g.subjects, Policy: g.policy, SnapshotKey: g.keys.Snapshot, Receipts: g.keys.Signing, Checkpoints: g.signer,
		Revoked: g.withdrawals.Revoked, ProofRetention: proof,
	})
	if err != nil {
		return fmt.Errorf("opening ledger: %w", err)
	}
	return nil
}

// logOrigin names the evidence log of a node in its checkpoints (C2SP tlog-checkpoint).
func logOrigin(node string) string { return "octroi/" + node }

func (g *gateway) openSpool(context.Context) (err error) {
	c := g.config.Spool
	g.spool, err = spool.Open(spool.Options{
		Dir: g.config.path(c.Dir), Key: g.keys.Spool, MaxBytes: c.MaxBytes, Window: c.Window, WindowCount: c.WindowCount, SegmentAge: c.SegmentAge,
	})
	if err != nil {
		return fmt.Errorf("opening spool: %w", err)
	}
	return nil
}

func (g *gateway) openObjects(ctx context.Context) error {
	var store export.Objects
	var err error
	if g.config.Objects.S3 != nil {
		store, err = export.OpenS3(g.config.s3())
	} else {
		store, err = export.OpenDir(g.config.path(g.config.Objects.Directory))
	}
	if err != nil {
		return fmt.Errorf("opening object store: %w", err)
	}
	g.objects = &checkedStore{Objects: store}
	// A store that is down is no reason not to start: events are spooled, and the check comes before the first put. One that refuses us
	// needs an operator now.
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if err := g.objects.Check(ctx); errors.Is(err, export.ErrRefused) {
		return fmt.Errorf("checking object store: %w", err)
	} else if err != nil {
		g.log.Warn("object store is not reachable: events are spooled until it is", "error", err)
	}
	return nil
}

func (g *gateway) openExits(ctx context.Context) error {
	for _, d := range g.config.Destinations {
		recipients, err := d.Recipients.parse()
		if err != nil {
			return fmt.Errorf("destination %q: %w", d.Name, err)
		}
		destination, err := pseudonymize.NewDestination(d.Name, g.purposesOf(d.Name), g.keys.Export)
		if err != nil {
			return fmt.Errorf("destination %q: %w", d.Name, err)
		}
		if g.restored {
			if err := g.adopt(ctx, d.Name); err != nil {
				return err
			}
		}
		shipper, err := export.NewShipper(ctx, export.ShipperOptions{
			Node: g.config.Node, Destination: destination, Name: d.Name, Recipients: recipients,
			Spool: spooled{g.spool}, SpoolKey: g.keys.Spool, Revocations: g.ledger, Subjects: g.subjects, State: g.state,
			Objects: g.objects, Signer: g.keys.Signing, OutboxDir: g.outbox(d.Name),
			OutboxMax: g.config.Outbox.MaxBytes, Interval: d.Interval, TargetBytes: d.TargetBytes, MaxRows: d.MaxRows,
			Log: g.log.With("destination", d.Name),
		})
		if err != nil {
			return fmt.Errorf("opening destination %q: %w", d.Name, err)
		}
		g.exits = append(g.exits, exit{destination, recipients, shipper})
	}
	return nil
}

// spooled is the spool as the shippers see it.
type spooled struct{ *spool.Spool }

func (s spooled) Peek(ctx context.Context, position uint64, max int) ([]export.Spooled, error) {
	records, err := s.Spool.Peek(ctx, position, max)
	out := make([]export.Spooled, len(records))
	for i, r := range records {
		out[i] = export.Spooled(r)
	}
	return out, err
}

func (g *gateway) openEdge(context.Context) error {
	sites, err := g.config.sites()
	if err != nil {
		return err
	}
	g.edge, err = collector.New(collector.Options{
		Sites: sites, Policy: g.policy, Subjects: g.subjects, Ledger: g.ledger, Spool: g.spool,
		Tokens: g.keys.Token.Public().(ed25519.PublicKey), Issuer: g.config.Node, Receipts: g.keys.Signing.Public().(ed25519.PublicKey),
		Loopback: isLoopback(g.config.Listen.Public), TrustedProxies: g.config.Listen.TrustedProxies, ConsentRate: g.config.Listen.ConsentRate,
		Resolve: g.resolve, Metrics: g.metrics, Log: g.log,
	})
	if err != nil {
		return fmt.Errorf("building the public listener: %w", err)
	}
	g.public = g.edge.App()
	g.addHealth(g.public)
	return tag.Register(g.public)
}

// resolve is the consent record behind a reference that a destination's row carries (consent.md G4).
func (g *gateway) resolve(destination, ref string) (consent.Proven, error) {
	b, err := hex.DecodeString(ref)
	if err != nil || len(b) != 16 {
		return consent.Proven{}, pseudonymize.ErrReference
	}
	for _, x := range g.exits {
		if x.destination.Name() != destination {
			continue
		}
		slot, record, err := x.destination.Resolve([16]byte(b))
		if err != nil {
			return consent.Proven{}, err
		}
		return g.ledger.Resolve(slot, record)
	}
	return consent.Proven{}, pseudonymize.ErrReference
}

// isLoopback says whether a listen address can be reached from this machine only.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// run serves until ctx ends, then stops in the order that loses nothing: no new events, then ship what is spooled, then close.
func (g *gateway) run(ctx context.Context) error {
	public, err := net.Listen("tcp", g.config.Listen.Public)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	private, err := net.Listen("tcp", g.config.Listen.Private)
	if err != nil {
		return errors.Join(fmt.Errorf("listening: %w", err), public.Close())
	}
	g.log.Info("listening", "listener", "public", "address", public.Addr().String())
	g.log.Info("listening", "listener", "private", "address", private.Addr().String())

	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	group, failed := errgroup.WithContext(ctx)
	group.Go(func() error { return g.public.Listener(public) })
	group.Go(func() error { return g.private.Listener(private) })
	group.Go(func() error { return g.edge.Run(work) })
	group.Go(func() error { return g.keepHouse(work) })
	group.Go(func() error { return noCancel(g.rights.Run(work)) })
	shipping, stopShipping := context.WithCancel(work)
	defer stopShipping()
	shippers := new(errgroup.Group)
	for _, x := range g.exits {
		shippers.Go(func() error { return x.shipper.Run(shipping) })
	}
	if g.journeys != nil {
		shippers.Go(func() error { return g.journeys.Run(shipping) })
	}
	group.Go(func() error { return noCancel(shippers.Wait()) })
	group.Go(func() error {
		<-failed.Done()
		g.log.Info("stopping: no new events, shipping what is spooled")
		err := shutDown(g.public, public)
		stopShipping()
		err = errors.Join(err, noCancel(shippers.Wait()), g.flush(), shutDown(g.private, private))
		stopWork()
		return err
	})
	return noCancel(group.Wait())
}

// shutDown ends app and closes its listener: an app that was told to end before it began to serve knows of no listener, and would serve for ever.
func shutDown(app *fiber.App, l net.Listener) error {
	err := app.ShutdownWithTimeout(stopTimeout)
	if closed := l.Close(); !errors.Is(closed, net.ErrClosed) { // as a rule the app has closed it
		err = errors.Join(err, closed)
	}
	return err
}

// The bounds of a graceful stop.
const (
	stopTimeout  = 10 * time.Second
	flushTimeout = 60 * time.Second
)

// flush ships what is spooled. What cannot be shipped in time stays in spool and outbox, and is shipped after the next start.
func (g *gateway) flush() error {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	var group errgroup.Group
	for _, x := range g.exits {
		group.Go(func() error {
			if err := x.shipper.Flush(ctx); err != nil {
				g.log.Warn("not everything could be shipped; it stays spooled", "destination", x.destination.Name(), "error", err)
			}
			return nil
		})
	}
	if g.journeys != nil {
		group.Go(func() error {
			if err := g.journeys.Flush(ctx); err != nil {
				g.log.Warn("not everything could be folded; it stays spooled", "destination", journey.Destination, "error", err)
			}
			return nil
		})
	}
	return group.Wait()
}

func noCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// close closes what was opened, last first.
func (g *gateway) close() error {
	var errs []error
	if g.spool != nil {
		errs = append(errs, g.spool.Close())
	}
	if g.subjects != nil {
		errs = append(errs, g.subjects.Close())
	}
	if g.state != nil {
		errs = append(errs, g.state.Close())
	}
	return errors.Join(errs...)
}
