package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/octroi/octroi/export"
)

// Config is the custodian's configuration, custodian.yaml; octroi init writes one. Paths are relative to the file's folder; secrets are named by
// file, never written here. Unknown keys are errors.
type Config struct {
	Gateway      GatewayConfig       `yaml:"gateway"`
	Identity     string              `yaml:"identity"`     // file of E, as age-keygen writes it; older identities too, one a line
	Key          string              `yaml:"key"`          // custodian.key: signs reports and certificates
	SigningKey   string              `yaml:"signing_key"`  // signing.key.pub of the gateway: its stream
	LogKey       string              `yaml:"log_key"`      // log.key.pub of the gateway: its evidence
	ApprovalKey  string              `yaml:"approval_key"` // approval.key.pub of the data protection officer
	State        string              `yaml:"state"`        // folder of what the custodian remembers
	Temp         string              `yaml:"temp"`         // folder of files without a name that hold decrypted batches; default: state
	Objects      ObjectsConfig       `yaml:"objects"`
	Destinations []DestinationConfig `yaml:"destinations"`
	DailyCap     int                 `yaml:"daily_cap"` // requests a UTC day that no data protection officer approved; default 100
	Poll         time.Duration       `yaml:"poll"`      // how often run asks for work; default 5s
	Rate         int64               `yaml:"rate"`      // bytes a second that are read from the store; default 0: no limit

	dir string // of the file
}

// GatewayConfig is the gateway whose work is done.
type GatewayConfig struct {
	URL     string        `yaml:"url"`     // of its private listener: https://host[:port]
	Plain   bool          `yaml:"plain"`   // http:// also to another machine: a network that nobody else is on
	Node    string        `yaml:"node"`    // its name, as octroi.yaml has it
	Token   string        `yaml:"token"`   // file of an access token of scope custody; read again when it changes
	CA      string        `yaml:"ca"`      // PEM file, where the listener's authority is not a public one
	Timeout time.Duration `yaml:"timeout"` // default 30s
}

// ObjectsConfig is where the batches are: exactly one of the two.
type ObjectsConfig struct {
	Directory string    `yaml:"directory"`
	S3        *S3Config `yaml:"s3"`
}

// S3Config is a versioned bucket.
type S3Config struct {
	Endpoint    string        `yaml:"endpoint"` // https://host[:port]
	Region      string        `yaml:"region"`   // default us-east-1
	Bucket      string        `yaml:"bucket"`
	Credentials string        `yaml:"credentials"` // an AWS credentials file; it may also list and delete versions
	CA          string        `yaml:"ca"`          // PEM file, where the server's authority is not a public one
	Timeout     time.Duration `yaml:"timeout"`     // default 30s
}

// DestinationConfig pins whom a destination's batches are encrypted to.
type DestinationConfig struct {
	Name       string           `yaml:"name"`
	Recipients RecipientsConfig `yaml:"recipients"`
	Former     []string         `yaml:"former"` // age recipients that older batches list; rewrap ends their use
}

// RecipientsConfig are the age recipients (public keys) of every batch.
type RecipientsConfig struct {
	Destination string `yaml:"destination"` // W
	Custodian   string `yaml:"custodian"`   // E
	Recovery    string `yaml:"recovery"`    // R
}

// maxConfigBytes bounds custodian.yaml.
const maxConfigBytes = 1 << 20

// readConfig reads and checks custodian.yaml: errConfig, with every key that is wrong and what would be right.
func readConfig(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w: it is not there: name it with --config; octroi init writes one", path, errConfig)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	case len(b) > maxConfigBytes:
		return nil, fmt.Errorf("%s: %w: it is larger than %d bytes", path, errConfig, maxConfigBytes)
	}
	c, err := decodeConfig(b)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w:\n%w", path, errConfig, err)
	}
	if c.dir, err = filepath.Abs(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	return c, nil
}

// decodeConfig reads the one document of a configuration.
func decodeConfig(b []byte) (c *Config, err error) {
	defer func() {
		if recover() != nil { // the parser has panicked on malformed input before
			c, err = nil, errors.New("it cannot be read as YAML")
		}
	}()
	c = &Config{DailyCap: 100, Poll: 5 * time.Second}
	d := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict())
	switch err := d.Decode(c); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("it is empty: octroi init writes one to begin with")
	case err != nil:
		return nil, errors.New(yaml.FormatError(err, false, true))
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds a second document, which nobody would read: write one")
	}
	return c, nil
}

// name is of nodes and destinations, as the gateway's configuration has it.
var name = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// check reports everything that is wrong at once.
func (c *Config) check() error {
	var wrong []error
	must := func(ok bool, format string, values ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf(format, values...))
		}
	}
	for _, x := range []struct{ key, value, hint string }{
		{"gateway.url", c.Gateway.URL, "https://host:port of the gateway's private listener"},
		{"gateway.token", c.Gateway.Token, "the file that octroi token --scope custody was written to"},
		{"identity", c.Identity, "the file of E, identity.txt"},
		{"key", c.Key, "custodian.key"},
		{"signing_key", c.SigningKey, "signing.key.pub of the gateway"},
		{"log_key", c.LogKey, "log.key.pub of the gateway"},
		{"approval_key", c.ApprovalKey, "approval.key.pub of the data protection officer"},
		{"state", c.State, "a folder of the custodian's own"},
	} {
		must(x.value != "", "%s: it is missing: %s", x.key, x.hint)
	}
	must(name.MatchString(c.Gateway.Node), "gateway.node: want the node's name as octroi.yaml has it, such as n1")
	must(c.DailyCap > 0 && c.DailyCap <= 1_000_000, "daily_cap: want 1 to 1000000 requests")
	must(c.Poll >= 100*time.Millisecond && c.Poll <= time.Hour, "poll: want a time from 100ms to 1h")
	must(c.Rate == 0 || c.Rate >= minRate, "rate: want at least %d bytes a second, or 0 for no limit", minRate)
	must((c.Objects.Directory != "") != (c.Objects.S3 != nil), "objects: name exactly one of directory and s3")
	if s := c.Objects.S3; s != nil {
		must(s.Endpoint != "" && s.Bucket != "" && s.Credentials != "", "objects.s3: endpoint, bucket and credentials are needed")
	}
	must(len(c.Destinations) > 0, "destinations: list those of the gateway, with their recipients")
	for i, d := range c.Destinations {
		twice := slices.ContainsFunc(c.Destinations[:i], func(other DestinationConfig) bool { return other.Name == d.Name })
		must(name.MatchString(d.Name) && !twice, "destinations[%d].name: want each destination's name once, as octroi.yaml has it", i)
		if _, err := d.recipients(); err != nil {
			must(false, "destinations[%d].recipients: %w", i, err)
		}
	}
	return errors.Join(wrong...)
}

// path resolves a path of the configuration; none stays none.
func (c *Config) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, p)
}

func (d *DestinationConfig) recipients() (export.Recipients, error) {
	return export.ParseRecipients(d.Recipients.Destination, d.Recipients.Custodian, d.Recipients.Recovery)
}

// pinned are the recipients that a destination's objects may list, those of now first.
func (c *Config) pinned() map[string][]string {
	all := map[string][]string{}
	for _, d := range c.Destinations {
		r := d.Recipients
		all[d.Name] = append([]string{r.Destination, r.Custodian, r.Recovery}, d.Former...)
	}
	return all
}

// openObjects opens the store; it does not reach for it.
func (c *Config) openObjects() (export.Archive, error) {
	var a export.Archive
	var err error
	if x := c.Objects.S3; x != nil {
		a, err = export.OpenS3(export.S3Options{
			Endpoint: x.Endpoint, Region: x.Region, Bucket: x.Bucket, Credentials: c.path(x.Credentials), CA: c.path(x.CA), Timeout: x.Timeout,
		})
	} else {
		a, err = export.OpenDir(c.path(c.Objects.Directory))
	}
	if err == nil && c.Rate > 0 {
		a = &slowed{Archive: a, rate: c.Rate}
	}
	return a, err
}
