// Package collector is the HTTP edge: events and consents come in here, and nowhere else.
//
// New takes the ledger, the subjects and the spool; App (http.go) serves the public routes of consent.md "Native wire format", Private adds those
// of the private listener, and Run counts what was refused into the evidence log. What is guaranteed:
//
//   - An event passes one way only: decode → admit (resolve, ledger.Check, pseudonymize.Apply) → spool.Append → 202. A 202 names every event that
//     was not accepted, with a reason of a closed list.
//   - A site key speaks only for the device whose credential came with the request (G15); whoever names another subject needs a token.
//   - A device is linked to a person by a token, or by a claim that the site has signed and that no other device has used; to a site key every reason
//     of the person's why not reads the same.
//   - Whatever fails on the way is a 503, never an acceptance (G2).
//   - No error, log line or metric label holds anything that a client sent (architecture.md, invariant 3).
package collector

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

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
	Contact      consent.Contact // of the controller, for receipts
	TooOld       policies.Period // events older are refused too_old; zero: no limit
	// Login is the key that the site signs login claims with (ParseLoginKey); nil: none is believed.
	Login crypto.PublicKey
}

// Options configure New.
type Options struct {
	Sites    []Site
	Policy   *policies.Policy
	Subjects *subject.Registry
	Ledger   *consent.Ledger
	Spool    *spool.Spool
	Tokens   ed25519.PublicKey // checks access tokens
	Issuer   string            // of access tokens: the node's name
	Receipts ed25519.PublicKey // published at /.well-known/jwks.json
	// Resolve finds the record behind the reference that a row of a destination carries, in hex (G4). It fails with
	// pseudonymize.ErrReference or the ledger's errors.
	Resolve        func(destination, ref string) (consent.Proven, error)
	Loopback       bool           // http on a loopback address: the cookie is octroi-dev without Secure
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed; none by default
	ConsentRate    float64        // consent posts a second and client network; default 5, burst 20
	Connections    int            // open at once; default 16,384
	Deadline       time.Duration  // of the ledger and the spool for one request, after which it is answered 503 (G2); default 5 s
	Metrics        prometheus.Registerer
	Log            *slog.Logger
	Now            func() time.Time
}

// Collector serves the public listener and the consent routes of the private one. Safe for concurrent use.
type Collector struct {
	o        Options
	keys     map[string]*source // by public key
	names    map[string]*source // by name
	origins  map[string]bool    // of any site: may read errors
	kinds    map[string]*kind   // event types by name
	exempt   policies.Mask      // purposes whose event types need no choice (G11)
	address  bool               // some purpose keeps something of the field ip, so it is filled from the connection
	agent    bool               // … of the field user_agent
	tokens   *verifier
	limit    *limiter
	reads    *limiter // of choices
	claimed  *claimed
	tally    *tally
	coverage *coverage
	jwks     []byte
	benches  sync.Pool // of *bench
	deadline deadline  // of requests for the admission of events
}

// source is a configured site.
type source struct {
	Site
	index   int
	origins map[string]bool
	ledger  consent.Site
	claims  *claimVerifier // nil: the site has no login key
}

// tooOld says whether an event is older than the site takes. The calendar is asked only where the shortest such period has passed.
func (s *source) tooOld(event, received time.Time) bool {
	if s.TooOld == (policies.Period{}) || received.Sub(event) <= s.TooOld.AtLeast() {
		return false
	}
	return s.TooOld.AddTo(event).Before(received)
}

// kind is an event type of the policy with what the edge must know of it.
type kind struct {
	*policies.EventType
	index    int
	declared []*policies.Purpose // of its purposes, those whose basis a token may declare
}

// New builds the edge. It fails on a configuration that could not work.
func New(o Options) (*Collector, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if !(o.ConsentRate > 0) { // nor NaN
		o.ConsentRate = 5
	}
	if o.Connections <= 0 {
		o.Connections = 16384
	}
	if o.Deadline <= 0 {
		o.Deadline = 5 * time.Second
	}
	if o.Policy == nil || o.Subjects == nil || o.Ledger == nil || o.Spool == nil {
		return nil, errors.New("building the collector: policy, subjects, ledger and spool are needed")
	}
	if len(o.Tokens) != ed25519.PublicKeySize || len(o.Receipts) != ed25519.PublicKeySize || o.Issuer == "" {
		return nil, errors.New("building the collector: token key, receipt key and issuer are needed")
	}
	c := &Collector{
		o: o, keys: map[string]*source{}, names: map[string]*source{}, origins: map[string]bool{}, kinds: map[string]*kind{},
		limit: newLimiter(o.ConsentRate, 20, 65536), reads: newLimiter(readsAPost*o.ConsentRate, readsAPost*20, 65536),
		claimed: newClaimed(maxClaims, o.Now()), deadline: deadline{least: o.Deadline},
	}
	if err := c.addSites(); err != nil {
		return nil, fmt.Errorf("building the collector: %w", err)
	}
	c.addKinds()
	c.tokens = newVerifier(o.Tokens, o.Issuer, o.Now)
	c.jwks = jwks(o.Receipts)
	c.tally = newTally(c.siteNames(), c.kindNames())
	c.coverage = newCoverage(c.siteNames(), c.o.Policy)
	if o.Metrics != nil {
		if err := o.Metrics.Register(c.tally); err != nil {
			return nil, fmt.Errorf("registering metrics of the collector: %w", err)
		}
	}
	return c, nil
}

func (c *Collector) addSites() error {
	for i, s := range c.o.Sites {
		if s.Key == "" || s.Name == "" {
			return fmt.Errorf("site %d has no key or no name", i+1)
		}
		if c.keys[s.Key] != nil || c.names[s.Name] != nil {
			return fmt.Errorf("site %q: its key or its name is taken", s.Name)
		}
		src := &source{Site: s, index: i, origins: map[string]bool{}, ledger: consent.Site{
			Name: s.Name, Jurisdiction: s.Jurisdiction, Controller: s.Controller, PolicyURL: s.PolicyURL, Contact: s.Contact,
		}}
		if s.Login != nil {
			claims, err := newClaimVerifier(&s, c.o.Issuer, c.o.Now)
			if err != nil {
				return fmt.Errorf("site %q: login key: %w", s.Name, err)
			}
			src.claims = claims
		}
		for _, origin := range s.Origins {
			if err := CheckOrigin(origin); err != nil {
				return fmt.Errorf("site %q: %w", s.Name, err)
			}
			src.origins[origin], c.origins[origin] = true, true
		}
		c.keys[s.Key], c.names[s.Name] = src, src
	}
	return nil
}

// CheckOrigin says what is wrong with an origin that browsers would never send, and that would refuse every page without a word: they send
// scheme://host[:port] in lower case, the host in its ASCII form, the port only where it is not the scheme's own (RFC 6454 section 6.2). Nor
// is there a wildcard (G12: the exact origin).
func CheckOrigin(origin string) error {
	u, err := url.Parse(origin)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Scheme+"://"+strings.ToLower(u.Host) != origin:
		return fmt.Errorf("origin %q is not https://host[:port] in lower case, as browsers send it", origin)
	case strings.Contains(u.Host, "*"):
		return fmt.Errorf("origin %q: there are no wildcards: name each origin", origin)
	case u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80", strings.HasSuffix(u.Host, ":"):
		return fmt.Errorf("origin %q: browsers leave out the usual port: write it without", origin)
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > 0x7e }):
		return fmt.Errorf("origin %q: browsers send the ASCII form of the host, xn--…", origin)
	}
	return nil
}

func (c *Collector) addKinds() {
	for i, t := range c.o.Policy.EventTypes() {
		k := &kind{EventType: t, index: i}
		for _, p := range c.o.Policy.Purposes() {
			if t.Purposes&p.Bit() != 0 && p.Basis != policies.Consent && !p.SubjectNone {
				k.declared = append(k.declared, p)
			}
		}
		c.kinds[t.Name] = k
	}
	for _, p := range c.o.Policy.Purposes() {
		if p.Exemption != "" {
			c.exempt |= p.Bit()
		}
	}
	fields := c.o.Policy.FieldNames()
	c.address, c.agent = slices.Contains(fields, "ip"), slices.Contains(fields, "user_agent")
}

func (c *Collector) siteNames() []string {
	names := make([]string, len(c.o.Sites))
	for name, s := range c.names {
		names[s.index] = name
	}
	return names
}

func (c *Collector) kindNames() []string {
	names := make([]string, len(c.kinds))
	for name, k := range c.kinds {
		names[k.index] = name
	}
	return names
}

// Run writes the counts of each hour's refused events into the evidence log (architecture.md "State"), the last ones when ctx
// ends. What the ledger does not take stays for the next hour.
func (c *Collector) Run(ctx context.Context) error {
	for {
		now := c.o.Now()
		hour := now.UTC().Truncate(time.Hour)
		timer := time.NewTimer(hour.Add(time.Hour).Sub(now))
		select {
		case <-timer.C:
			if err := c.countRefused(ctx, hour); err != nil {
				c.o.Log.Error("counting refused events failed; kept for the next hour", "error", err)
			}
		case <-ctx.Done():
			timer.Stop()
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.o.Deadline)
			defer cancel()
			return c.countRefused(last, hour)
		}
	}
}

func (c *Collector) countRefused(ctx context.Context, hour time.Time) error {
	counts, done := c.tally.refusedSince()
	if len(counts) == 0 {
		return nil
	}
	if err := c.o.Ledger.CountRefused(ctx, hour, counts); err != nil {
		return fmt.Errorf("recording the counts of refused events: %w", err)
	}
	done()
	return nil
}

// Counts are what was accepted and refused since start, by type and by reason, and the consents by state.
type Counts struct {
	Accepted map[string]uint64 `json:"accepted"`
	Refused  map[string]uint64 `json:"refused"`
	Consents map[string]uint64 `json:"consents"`
}

// Counts are the counts since start.
func (c *Collector) Counts() Counts { return c.tally.counts() }
