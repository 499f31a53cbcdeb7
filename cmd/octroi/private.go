package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Status is what GET /v1/status answers: figures since the start, without personal data.
type Status struct {
	Accepted     map[string]uint64   `json:"accepted"`
	Refused      map[string]uint64   `json:"refused"`
	Consents     map[string]uint64   `json:"consents"`
	Spooled      uint64              `json:"spooled"`
	Destinations []DestinationStatus `json:"destinations"`
	Rights       rights.Figures      `json:"rights"`
}

// DestinationStatus is a destination's part of Status.
type DestinationStatus struct {
	Name    string `json:"name"`
	Batches uint64 `json:"batches"`
	Rows    uint64 `json:"rows"`
	Waiting int    `json:"waiting"` // sealed batches that wait for the object store
	Error   string `json:"error,omitempty"`
}

func (d DestinationStatus) trouble() string {
	if d.Error == "" {
		return ""
	}
	return ", " + strconv.Itoa(d.Waiting) + " waiting: " + d.Error
}

// maxPrivateBody bounds the body of a request to the private listener, but for an access package.
const maxPrivateBody = 64 << 10

// downloadTimeout is what the largest answer, the evidence log, may take over a slow line.
const downloadTimeout = 30 * time.Minute

// privateApp is the private listener: for the DPO and the data team, behind tokens; health and metrics are open, and hold no personal data.
func (g *gateway) privateApp() *fiber.App {
	app := fiber.New(fiber.Config{
		DisableStartupMessage: true, BodyLimit: maxPrivateBody, ReadTimeout: 10 * time.Second, WriteTimeout: downloadTimeout, IdleTimeout: time.Minute,
		StreamRequestBody: true, // an access package is longer than the limit, which everything else keeps
		ErrorHandler:      g.edge.Problem,
	})
	app.Use(rights.BoundBodies(maxPrivateBody, g.edge.Fail))
	g.addHealth(app)
	g.metrics.MustRegister(figures{g})
	app.Get("/metrics", adaptor.HTTPHandler(promhttp.HandlerFor(g.metrics, promhttp.HandlerOpts{})))
	app.Get("/v1/status", g.scoped("admin", g.serveStatus))
	app.Get("/v1/evidence/checkpoint", g.scoped("admin", g.serveCheckpoint))
	app.Get("/v1/evidence/log.tar", g.scoped("admin", g.serveLog))
	g.traceRoutes(app)
	g.backupRoutes(app)
	g.edge.Private(app)
	export.StreamRoutes(app, export.StreamOptions{Node: g.config.Node, State: g.state, Destinations: g.names(), Authorise: g.edge.Authorise})
	return app
}

func (g *gateway) scoped(scope string, next fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if err := g.edge.Authorise(c, scope); err != nil {
			return err
		}
		return next(c)
	}
}

// addHealth adds liveness and readiness. Ready means: an event that is sent now can be answered.
func (g *gateway) addHealth(app *fiber.App) {
	app.Get("/healthz", func(c *fiber.Ctx) error { return c.SendString("ok\n") })
	app.Get("/readyz", func(c *fiber.Ctx) error {
		if s := g.spool.Stats(); s.Bytes >= s.MaxBytes {
			return c.Status(fiber.StatusServiceUnavailable).SendString("spool is full: is the object store reachable?\n")
		}
		// A change of nothing passes the one writer: it fails where state takes no changes, and waits where it is too slow to answer anybody.
		ctx, cancel := context.WithTimeout(c.UserContext(), 2*time.Second)
		defer cancel()
		if err := g.state.Update(ctx, func(*state.Txn) error { return nil }); err != nil {
			return c.Status(fiber.StatusServiceUnavailable).SendString("state takes no changes: see the log\n")
		}
		return c.SendString("ready\n")
	})
}

func (g *gateway) serveStatus(c *fiber.Ctx) error {
	counts := g.edge.Counts()
	s := Status{Accepted: counts.Accepted, Refused: counts.Refused, Consents: counts.Consents, Rights: g.rights.Figures()}
	s.Spooled = g.spool.Tail() - g.lowWater()
	for _, x := range g.exits {
		st := x.shipper.Stats()
		s.Destinations = append(s.Destinations, DestinationStatus{x.destination.Name(), st.Published, st.Rows, st.Waiting, scrub(st.LastError)})
	}
	return c.JSON(s)
}

// serveCheckpoint signs the log's head (C2SP tlog-checkpoint).
func (g *gateway) serveCheckpoint(c *fiber.Ctx) error {
	size, root, err := g.state.Tree()
	if err != nil {
		return err
	}
	note, err := g.signer.SignCheckpoint(size, root)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, fiber.MIMETextPlainCharsetUTF8)
	return c.SendString(note)
}

// serveLog answers the whole log as a tar of the folder that `octroi verify log` reads (C2SP tlog-tiles).
func (g *gateway) serveLog(c *fiber.Ctx) error {
	dir, err := os.MkdirTemp("", "octroi-log-")
	if err != nil {
		return fmt.Errorf("exporting the log: %w", err)
	}
	defer os.RemoveAll(dir)
	folder := filepath.Join(dir, "log")
	if err := evidence.WriteFolder(folder, g.state, g.signer, evidence.Merge(g.ledger.Openings, export.Openings(g.state), g.rights.Openings)); err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, "application/x-tar")
	out, err := os.CreateTemp("", "octroi-log-*.tar")
	if err != nil {
		return fmt.Errorf("exporting the log: %w", err)
	}
	defer os.Remove(out.Name())
	archive := tar.NewWriter(out)
	if err := errors.Join(archive.AddFS(os.DirFS(folder)), archive.Close()); err != nil {
		return errors.Join(fmt.Errorf("exporting the log: %w", err), out.Close())
	}
	size, err := out.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = out.Seek(0, io.SeekStart)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("exporting the log: %w", err), out.Close())
	}
	return c.SendStream(out, int(size)) // fasthttp closes it
}
