// Package collector is the HTTP edge: events and consents come in here, and nowhere else.
package collector

import (
	"crypto/ed25519"
	"log/slog"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/collector/spool"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
	"github.com/prometheus/client_golang/prometheus"
)

// Site is a source of events.
type Site struct {
	Key          string   // public site key
	Name         string   // as events and rows name it
	Origins      []string // exact origins that may post with the key
	Region       string   // ISO 3166-1: phone numbers, first-party jurisdiction
	Jurisdiction string
	Language     string
	Controller   string
	PolicyURL    string
	TooOld       policies.Period // events older are refused too_old; zero: no limit
}

// Options configure New.
type Options struct {
	Sites       []Site
	Policy      *policies.Policy
	Subjects    *subject.Registry
	Ledger      *consent.Ledger
	Spool       *spool.Spool
	Tokens      ed25519.PublicKey // checks access tokens
	Issuer      string            // of access tokens: the node's name
	Receipts    ed25519.PublicKey // published at /.well-known/jwks.json
	Loopback    bool              // http on a loopback address: the cookie is octroi-dev without Secure
	ConsentRate float64           // consent posts a second and client network; default 5, burst 20
	Metrics     prometheus.Registerer
	Log         *slog.Logger
	Now         func() time.Time
}

// Collector serves the public listener.
type Collector struct{}

// New builds the edge.
func New(o Options) (*Collector, error) { panic("skeleton") }

// App is the public listener's Fiber app, ready for Listener(net.Listener).
func (c *Collector) App() *fiber.App { panic("skeleton") }

// Private adds the private routes of consent: history, resolution of references, current state by identifier (rights:read).
func (c *Collector) Private(r fiber.Router) { panic("skeleton") }

// Counts are what was accepted and refused since start, by type and by reason, for the demo's table.
type Counts struct {
	Accepted map[string]uint64 `json:"accepted"`
	Refused  map[string]uint64 `json:"refused"`
	Consents map[string]uint64 `json:"consents"`
}

func (c *Collector) Counts() Counts { panic("skeleton") }
