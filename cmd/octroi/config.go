package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/journey"
	"github.com/octroi/octroi/policies"
)

// Config is the gateway's configuration, octroi.yaml. Paths are relative to the file's folder; secrets are named by file, never written
// here. Unknown keys are errors.
type Config struct {
	Node         string              `yaml:"node"`       // name of this node in object keys and streams
	Controller   string              `yaml:"controller"` // legal name of the controller, as receipts name it
	Contact      ContactConfig       `yaml:"contact"`    // of the controller, as receipts name it
	PolicyURL    string              `yaml:"policy_url"` // of the privacy policy, as receipts name it
	Listen       ListenConfig        `yaml:"listen"`
	Keys         string              `yaml:"keys"`     // folder of key files
	State        string              `yaml:"state"`    // folder of the state database
	Slots        string              `yaml:"slots"`    // slot file: the subjects' keys; never in one backup with state
	Policies     string              `yaml:"policies"` // folder of purposes
	Spool        SpoolConfig         `yaml:"spool"`
	Outbox       OutboxConfig        `yaml:"outbox"`
	Objects      ObjectsConfig       `yaml:"objects"`
	Sites        []SiteConfig        `yaml:"sites"`
	Destinations []DestinationConfig `yaml:"destinations"`
	Rights       RightsConfig        `yaml:"rights"`
	Journeys     JourneysConfig      `yaml:"journeys"`
	Backup       BackupConfig        `yaml:"backup"`
	Memory       int64               `yaml:"memory"` // bytes the process should stay within; default 320 MiB; about 200 more a subject beyond a million

	dir  string    // of the file
	file *ast.File // what was read, to tell lines
}

// ContactConfig is how persons reach the controller (GDPR Art. 13(1)(a)).
type ContactConfig struct {
	Name       string `yaml:"name"` // of the data protection officer, or whoever answers
	Email      string `yaml:"email"`
	Phone      string `yaml:"phone"`
	Street     string `yaml:"street"`
	PostalCode string `yaml:"postal_code"`
	City       string `yaml:"city"`
	Country    string `yaml:"country"`
}

// ListenConfig are the two listeners: public for sites, private for DPO and data teams.
type ListenConfig struct {
	Public         string         `yaml:"public"`
	Private        string         `yaml:"private"`
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"` // whose X-Forwarded-For is believed
	ConsentRate    float64        `yaml:"consent_rate"`    // consent posts a second and client network; default 5
}

// SpoolConfig bounds the spool.
type SpoolConfig struct {
	Dir         string        `yaml:"dir"`
	MaxBytes    int64         `yaml:"max_bytes"`    // default 4 GiB; beyond it events are answered 503
	Window      time.Duration `yaml:"window"`       // of duplicate detection; default 24h
	WindowCount int           `yaml:"window_count"` // events in it; default 2000000
	SegmentAge  time.Duration `yaml:"segment_age"`  // how soon what is shipped leaves the disk, and so how long an erasure takes at least; default 1m
}

// RightsConfig is how the requests of data subjects are carried out. The public keys of custodian and DPO lie in the keys folder.
type RightsConfig struct {
	Packages     string        `yaml:"packages"`      // folder of access packages that wait to be opened, sealed; default "packages"
	Notices      time.Duration `yaml:"notices"`       // destinations are told of erasures this often; default 24h
	AckLimit     time.Duration `yaml:"ack_limit"`     // after it a destination that has not acknowledged is unconfirmed; default 168h
	PackageKept  time.Duration `yaml:"package_kept"`  // an access package that nobody opens; default 168h
	IdentityKept time.Duration `yaml:"identity_kept"` // whose a closed request was; default 720h
	SlotCopies   time.Duration `yaml:"slot_copies"`   // how long you keep copies of the slot file, as certificates say; default 168h
	ConsentProof string        `yaml:"consent_proof"` // how long a stripped proof of consent outlives an erasure, ISO 8601; default P5Y
}

// BackupConfig is for whom backups are encrypted.
type BackupConfig struct {
	Recipient string `yaml:"recipient"` // age recipient R, whose identity lies in the offline safe; none: no backups
}

// OutboxConfig bounds what waits for the object store.
type OutboxConfig struct {
	Dir      string `yaml:"dir"`
	MaxBytes int64  `yaml:"max_bytes"` // a destination; default 2 GiB
}

// ObjectsConfig is where batches go: exactly one of the two.
type ObjectsConfig struct {
	Directory string    `yaml:"directory"`
	S3        *S3Config `yaml:"s3"`
}

// S3Config is a versioned bucket.
type S3Config struct {
	Endpoint    string        `yaml:"endpoint"` // https://host[:port]
	Region      string        `yaml:"region"`   // default us-east-1
	Bucket      string        `yaml:"bucket"`
	Credentials string        `yaml:"credentials"` // an AWS credentials file
	CA          string        `yaml:"ca"`          // PEM file, where the server's authority is not a public one
	Timeout     time.Duration `yaml:"timeout"`     // default 30s
}

// SiteConfig is a source of events.
type SiteConfig struct {
	Key          string   `yaml:"key"`
	Name         string   `yaml:"name"`
	Origins      []string `yaml:"origins"`
	Region       string   `yaml:"region"`
	Jurisdiction string   `yaml:"jurisdiction"`
	Language     string   `yaml:"language"`
	TooOld       string   `yaml:"too_old"` // ISO 8601 period; empty: no limit
	Zone         string   `yaml:"zone"`    // IANA time zone of its days; default UTC
	Login        string   `yaml:"login"`   // PEM file of the public key that the site signs login claims with; empty: none are believed
}

// zone is the site's time zone.
func (s SiteConfig) zone() (*time.Location, error) { return time.LoadLocation(cmp.Or(s.Zone, "UTC")) }

// JourneysConfig is how journeys are counted, where a purpose names the recipient "journeys".
type JourneysConfig struct {
	Grid      string `yaml:"grid"`      // day, week or month: the periods of reports; default week
	Threshold int    `yaml:"threshold"` // distinct subjects below which a number is not shown; default 10, never below 5

	Lateness time.Duration       `yaml:"lateness"` // a period closes, and its reports are published, so long after its end; default 72h
	Interval time.Duration       `yaml:"interval"` // what is received is counted so long after; default 10s
	Refresh  time.Duration       `yaml:"refresh"`  // reports of an open period are made anew at most so often; default 15m
	Keep     int                 `yaml:"keep"`     // closed periods of each site whose reports are kept; default 500
	Segments map[string][]string `yaml:"segments"` // field → the values that reports may be filtered by, such as variant: [a, b]
}

func (c JourneysConfig) settings() journey.Settings {
	return journey.Settings{Grid: c.Grid, Threshold: c.Threshold, Lateness: c.Lateness, Interval: c.Interval, Refresh: c.Refresh, Keep: c.Keep, Segments: c.Segments}
}

// DestinationConfig is a recipient of batches.
type DestinationConfig struct {
	Name        string           `yaml:"name"`
	Recipients  RecipientsConfig `yaml:"recipients"`
	Interval    time.Duration    `yaml:"interval"`     // a batch is sealed at most this long after its first event was received; default 60s
	TargetBytes int64            `yaml:"target_bytes"` // default 32 MiB
	MaxRows     int              `yaml:"max_rows"`     // default 500000
}

// RecipientsConfig are the age recipients (public keys) of every batch.
type RecipientsConfig struct {
	Destination string `yaml:"destination"` // W
	Custodian   string `yaml:"custodian"`   // E
	Recovery    string `yaml:"recovery"`    // R
}

// maxConfigBytes bounds octroi.yaml.
const maxConfigBytes = 1 << 20

// ReadConfig reads and checks octroi.yaml. The error names the line or the key, and what would be right.
func ReadConfig(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: no configuration here: run `octroi init` first, or name it with --config", path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	if len(b) > maxConfigBytes {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxConfigBytes)
	}
	c, err := decodeConfig(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	c.dir = filepath.Dir(abs)
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// decodeConfig reads the one document of a configuration.
func decodeConfig(b []byte) (c *Config, err error) {
	defer func() {
		if recover() != nil { // the parser has panicked on malformed input before
			c, err = nil, errors.New("cannot be read as YAML")
		}
	}()
	c = new(Config)
	d := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict(), yaml.CustomUnmarshaler(unmarshalPrefix))
	switch err := d.Decode(c); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("is empty: `octroi init` writes one to begin with")
	case err != nil:
		return nil, errors.New(yaml.FormatError(err, false, true))
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds a second document, which nobody would read: write one")
	}
	if c.file, err = parser.ParseBytes(b, 0); err != nil {
		return nil, errors.New(yaml.FormatError(err, false, true))
	}
	return c, nil
}

func unmarshalPrefix(p *netip.Prefix, b []byte) error {
	v, err := netip.ParsePrefix(string(bytes.Trim(bytes.TrimSpace(b), `"'`)))
	*p = v
	return err
}

// path resolves a path of the configuration.
func (c *Config) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, p)
}

func (r RecipientsConfig) parse() (export.Recipients, error) {
	return export.ParseRecipients(r.Destination, r.Custodian, r.Recovery)
}

// s3 are the options of the bucket, paths resolved.
func (c *Config) s3() export.S3Options {
	x := c.Objects.S3
	o := export.S3Options{Endpoint: x.Endpoint, Region: x.Region, Bucket: x.Bucket, Credentials: c.path(x.Credentials), Timeout: x.Timeout}
	if x.CA != "" {
		o.CA = c.path(x.CA)
	}
	return o
}

// packages is the folder of access packages.
func (c *Config) packages() string { return c.path(cmp.Or(c.Rights.Packages, defaultPackages)) }

// consentProof is how long a stripped proof of consent outlives an erasure.
func (c *Config) consentProof() (policies.Period, error) {
	return policies.ParsePeriod(cmp.Or(c.Rights.ConsentProof, "P5Y"))
}

// sites are the configured sites as the collector knows them.
func (c *Config) sites() ([]collector.Site, error) {
	out := make([]collector.Site, len(c.Sites))
	for i, s := range c.Sites {
		old, err := parseTooOld(s.TooOld)
		if err != nil {
			return nil, fmt.Errorf("sites[%d].too_old: %w", i, err)
		}
		login, err := c.loginKey(&s)
		if err != nil {
			return nil, fmt.Errorf("sites[%d].login: %w", i, err)
		}
		out[i] = collector.Site{
			Key: s.Key, Name: s.Name, Origins: s.Origins, Region: s.Region, Jurisdiction: s.Jurisdiction, Language: s.Language,
			Controller: c.Controller, Contact: consent.Contact(c.Contact), PolicyURL: c.PolicyURL, TooOld: old, Login: login,
		}
	}
	return out, nil
}
