package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/journey"
	"github.com/octroi/octroi/policies"
	"golang.org/x/text/language"
)

// Names stand in object keys, rows and file names; keys in URLs.
var (
	namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)
	keyPattern  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// The least that makes sense of what has a default. Less is a slip of the hand, in a unit as a rule.
const (
	minSpool    = 1 << 20
	minOutbox   = 1 << 20
	minInterval = 50 * time.Millisecond
	maxInterval = 24 * time.Hour
	minWindow   = time.Minute

	minSegmentAge = time.Second
	minTimeout    = 100 * time.Millisecond
	minMemory     = 64 << 20

	minThreshold = 5 // journeys.md "Release"
)

// The most that leaves a request its month.
const (
	maxAckLimit     = 14 * 24 * time.Hour
	maxPackageKept  = 7 * 24 * time.Hour // rights.md D7
	maxIdentityKept = 90 * 24 * time.Hour
	maxSlotCopies   = 28 * 24 * time.Hour
)

const defaultPackages = "packages"

// problems gathers what is wrong, by line and key.
type problems struct {
	file  *ast.File // to find the lines; nil: none are told
	found []error
}

func (p *problems) add(key, format string, args ...any) {
	at := key
	if line := lineOf(p.file, key); line > 0 {
		at = fmt.Sprintf("line %d: %s", line, key)
	}
	p.found = append(p.found, fmt.Errorf("%s: %s", at, fmt.Sprintf(format, args...)))
}

// lineOf is the line of a key such as sites[0].name, or of the nearest one around it that is there; 0: none is.
func lineOf(file *ast.File, key string) int {
	for file != nil && key != "" {
		if path, err := yaml.PathString("$." + key); err == nil {
			if node, err := path.FilterFile(file); err == nil && node != nil {
				return node.GetToken().Position.Line
			}
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return 0
}

// atLeast refuses what is below least; 0 stands for the default.
func atLeast[T int | int64 | time.Duration](p *problems, key string, v, least T) {
	if v != 0 && v < least {
		p.add(key, "%v is less than %v: write that or more, or leave it out", v, least)
	}
}

// check reports everything that is wrong at once, in the order of the file.
func (c *Config) check() error {
	p := &problems{file: c.file}
	if !namePattern.MatchString(c.Node) {
		p.add("node", "lower-case letters, digits and dashes, at most 40")
	}
	if c.Controller == "" {
		p.add("controller", "is missing: the legal name that receipts show")
	}
	if c.PolicyURL != "" && !isWebAddress(c.PolicyURL) {
		p.add("policy_url", "want an address that begins with https://")
	}
	c.checkListen(p)
	c.checkPlaces(p)
	c.checkBounds(p)
	c.checkObjects(p)
	c.checkSites(p)
	c.checkDestinations(p)
	c.checkRights(p)
	c.checkJourneys(p)
	return errors.Join(p.found...)
}

func (c *Config) checkListen(p *problems) {
	for _, l := range []struct{ key, address string }{{"listen.public", c.Listen.Public}, {"listen.private", c.Listen.Private}} {
		_, port, err := net.SplitHostPort(l.address)
		if n, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || n == 0 {
			p.add(l.key, "want host:port, such as 127.0.0.1:8080")
		}
	}
	if c.Listen.Public != "" && c.Listen.Public == c.Listen.Private {
		p.add("listen.private", "is the public address: DPO and data teams have a listener of their own")
	}
	for i, proxies := range c.Listen.TrustedProxies {
		if proxies.Bits() == 0 {
			p.add(fmt.Sprintf("listen.trusted_proxies[%d]", i), "%s trusts everybody to say who they are: name the proxies", proxies)
		}
	}
	if r := c.Listen.ConsentRate; r < 0 || math.IsNaN(r) || math.IsInf(r, 0) {
		p.add("listen.consent_rate", "want a number of posts a second above 0, or leave it out")
	}
}

// checkPlaces wants each part in a place of its own: what one deletes or a backup takes must not be another's.
func (c *Config) checkPlaces(p *problems) {
	places := []struct{ key, path string }{
		{"keys", c.Keys},
		{"state", c.State},
		{"slots", c.Slots},
		{"policies", c.Policies},
		{"spool.dir", c.Spool.Dir},
		{"outbox.dir", c.Outbox.Dir},
		{"rights.packages", cmp.Or(c.Rights.Packages, defaultPackages)},
	}
	if c.Objects.Directory != "" {
		places = append(places, struct{ key, path string }{"objects.directory", c.Objects.Directory})
	}
	for i, x := range places {
		if x.path == "" {
			p.add(x.key, "is missing")
			continue
		}
		for _, y := range places[:i] {
			if y.path != "" && (within(c.path(x.path), c.path(y.path)) || within(c.path(y.path), c.path(x.path))) {
				p.add(x.key, "lies in %s, or the other way round: give each a place of its own", y.key)
			}
		}
	}
}

// within says whether path is dir or below it.
func within(path, dir string) bool {
	up, err := filepath.Rel(dir, path)
	return err == nil && up != ".." && !strings.HasPrefix(up, ".."+string(filepath.Separator))
}

func (c *Config) checkBounds(p *problems) {
	atLeast(p, "memory", c.Memory, minMemory)
	atLeast(p, "spool.max_bytes", c.Spool.MaxBytes, minSpool)
	atLeast(p, "spool.window", c.Spool.Window, minWindow)
	atLeast(p, "spool.window_count", c.Spool.WindowCount, 1)
	atLeast(p, "spool.segment_age", c.Spool.SegmentAge, minSegmentAge)
	atLeast(p, "outbox.max_bytes", c.Outbox.MaxBytes, minOutbox)
}

// checkRights wants what can be kept within the month that a request may take (GDPR Art. 12(3)).
func (c *Config) checkRights(p *problems) {
	r := &c.Rights
	for _, x := range []struct {
		key  string
		have time.Duration
		most time.Duration
	}{
		{"rights.notices", r.Notices, maxInterval},
		{"rights.ack_limit", r.AckLimit, maxAckLimit},
		{"rights.package_kept", r.PackageKept, maxPackageKept},
		{"rights.identity_kept", r.IdentityKept, maxIdentityKept},
		{"rights.slot_copies", r.SlotCopies, maxSlotCopies},
	} {
		atLeast(p, x.key, x.have, time.Second)
		if x.have > x.most {
			p.add(x.key, "%s is more than %s", x.have, x.most)
		}
	}
	if kept, err := c.consentProof(); err != nil || kept.IsZero() {
		p.add("rights.consent_proof", "want an ISO 8601 period such as P5Y")
	}
	if c.Backup.Recipient != "" {
		if _, err := export.ParseRecovery(c.Backup.Recipient); err != nil {
			p.add("backup.recipient", "%s", err)
		}
	}
}

func (c *Config) checkObjects(p *problems) {
	x := c.Objects.S3
	if (c.Objects.Directory == "") == (x == nil) {
		p.add("objects", "name exactly one of directory and s3")
	}
	if x == nil {
		return
	}
	if !isWebAddress(x.Endpoint) {
		p.add("objects.s3.endpoint", "want https://host[:port]")
	}
	if x.Bucket == "" {
		p.add("objects.s3.bucket", "is missing")
	}
	if x.Credentials == "" {
		p.add("objects.s3.credentials", "is missing: a file as the AWS tools write it")
	}
	atLeast(p, "objects.s3.timeout", x.Timeout, minTimeout)
}

func (c *Config) checkSites(p *problems) {
	if len(c.Sites) == 0 {
		p.add("sites", "name at least one site")
	}
	keys, names := map[string]bool{}, map[string]bool{}
	for i := range c.Sites {
		s, at := &c.Sites[i], fmt.Sprintf("sites[%d]", i)
		if !keyPattern.MatchString(s.Key) || keys[s.Key] {
			p.add(at+".key", "1 to 64 letters, digits, - and _, each key once")
		}
		if !namePattern.MatchString(s.Name) || names[s.Name] {
			p.add(at+".name", "lower-case letters, digits and dashes, at most 40, each name once")
		}
		s.check(p, at)
		if _, err := c.loginKey(s); err != nil {
			p.add(at+".login", "%s", err)
		}
		keys[s.Key], names[s.Name] = true, true
	}
}

func (s *SiteConfig) check(p *problems, at string) {
	for i, origin := range s.Origins {
		if err := collector.CheckOrigin(origin); err != nil {
			p.add(fmt.Sprintf("%s.origins[%d]", at, i), "%s", err)
		}
	}
	if !isCountry(s.Region) {
		p.add(at+".region", "%q is not an ISO 3166-1 code of two capital letters, such as FR", s.Region)
	}
	if !isCountry(s.Jurisdiction) {
		p.add(at+".jurisdiction", "%q is not an ISO 3166-1 code of two capital letters, such as FR", s.Jurisdiction)
	}
	if _, err := language.Parse(s.Language); err != nil || s.Language == "" {
		p.add(at+".language", "want a BCP 47 tag such as fr")
	}
	if old, err := parseTooOld(s.TooOld); err != nil || s.TooOld != "" && old.IsZero() {
		p.add(at+".too_old", "want an ISO 8601 period such as P7D; leave it out for no limit")
	}
}

func (c *Config) checkDestinations(p *problems) {
	if len(c.Destinations) == 0 {
		p.add("destinations", "name at least one destination")
	}
	names := map[string]bool{}
	for i, d := range c.Destinations {
		at := fmt.Sprintf("destinations[%d]", i)
		if !namePattern.MatchString(d.Name) || names[d.Name] {
			p.add(at+".name", "lower-case letters, digits and dashes, at most 40, each name once")
		}
		names[d.Name] = true
		if _, err := d.Recipients.parse(); err != nil {
			p.add(at+".recipients", "%s", err)
		}
		atLeast(p, at+".interval", d.Interval, minInterval)
		if d.Interval > maxInterval {
			p.add(at+".interval", "%s is more than a day, for which nothing would be shipped", d.Interval)
		}
		atLeast(p, at+".target_bytes", d.TargetBytes, 1)
		atLeast(p, at+".max_rows", d.MaxRows, 1)
	}
}

func isCountry(code string) bool {
	r, err := language.ParseRegion(code)
	return err == nil && r.IsCountry() && len(code) == 2 && r.Canonicalize().String() == code
}

func isWebAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}

func parseTooOld(text string) (policies.Period, error) {
	if text == "" {
		return policies.Period{}, nil
	}
	return policies.ParsePeriod(text)
}

func (c *Config) checkJourneys(p *problems) {
	switch c.Journeys.Grid {
	case "", "day", "week", "month":
	default:
		p.add("journeys.grid", "want day, week or month")
	}
	atLeast(p, "journeys.threshold", c.Journeys.Threshold, minThreshold)
	rest := c.Journeys.settings()
	rest.Grid, rest.Threshold = "", 0 // named above
	if err := rest.Check(); err != nil {
		p.add("journeys", "%s", err)
	}
	for i, s := range c.Sites {
		if _, err := s.zone(); err != nil {
			p.add(fmt.Sprintf("sites[%d].zone", i), "want a time zone of the IANA database, such as Europe/Paris")
		}
	}
	for i, d := range c.Destinations {
		if d.Name == journey.Destination {
			p.add(fmt.Sprintf("destinations[%d].name", i), "%q is the gateway's own: purposes name it as a recipient, and it is not configured here", d.Name)
		}
	}
}
