package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/journey"
	"github.com/octroi/octroi/policies"
	"github.com/spf13/cobra"
)

// The folders of an installation, one for each holder of secrets.
const (
	gatewayDir   = "gateway"
	custodianDir = "custodian"
	warehouseDir = "warehouse"
	dpoDir       = "dpo"
	offlineDir   = "offline"
)

// initPlan is what `octroi init` creates.
type initPlan struct {
	dir          string
	class        string // of the age keys: X25519 or hybrid
	site, key    string
	origins      []string
	jurisdiction string
	controller   string
	email        string // of the data protection officer
	preset       string // of the policies; empty: the default
	destinations []string
	objects      string // folder of the directory store
	interval     string
	notices      string // at which destinations are told of erasures; empty: 24h
	segmentAge   string // of the spool; empty: its default
	refresh      string // of reports of journeys; empty: the default
	consentRate  int    // consent posts a second and network; 0: the default
	dailyCap     int    // of the custodian; 0: 100
	public       string // listen addresses; empty: 127.0.0.1:8080 and :8081
	private      string
	login        bool // make the site a key for login claims
}

func newInitCommand() *cobra.Command {
	p := initPlan{}
	cmd := &cobra.Command{
		Use:   "init",
		Short: "create configuration, keys by holder, and policies",
		Long: `Creates an installation: one folder for each holder of secrets, so that each can be
moved to the machine of its holder, the configuration, and the policies to edit.

  DIR/gateway     octroi.yaml, policies/, keys/ of the internet-facing process
  DIR/custodian   identity E and custodian.key: reads and rewrites batches for access and
                  erasure; custodian.yaml is ready for octroi-custodian
  DIR/warehouse   identity W of each destination, and the key its stream is checked with
  DIR/dpo         the approval key of the data protection officer
  DIR/site        with --login: login.key, with which the site's back-end signs who has signed in
  DIR/offline     identity R (recovery) and copies of the gateway's keys: move it to a safe

init never overwrites: in a folder that has an installation it changes nothing and fails.`,
		Example: `  octroi init --dir /srv/octroi --site shop --origin https://shop.example \
    --controller "Shop SA" --destination warehouse --destination accounting
  octroi check --config /srv/octroi/gateway/octroi.yaml
  octroi serve --config /srv/octroi/gateway/octroi.yaml

  octroi init --preset cnil-exempt      only anonymous counts, which in France need no consent`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.key == "" {
				p.key = p.site
			}
			if !cmd.Flags().Changed("destination") && p.preset != policies.DefaultPreset {
				p.destinations = presetDestinations(p.preset)
			}
			if err := p.check(); err != nil {
				return usageError{err}
			}
			if err := p.create(); err != nil {
				return err
			}
			p.explain(cmd.OutOrStdout())
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.dir, "dir", "octroi-data", "folder of the installation")
	f.StringVar(&p.class, "class", "X25519", "class of the age keys: X25519 (every age reads it) or hybrid (post-quantum)")
	f.StringVar(&p.site, "site", "shop", "name of the first site, as rows carry it")
	f.StringVar(&p.key, "site-key", "", "public key of the site (default: its name)")
	f.StringSliceVar(&p.origins, "origin", []string{"http://127.0.0.1:8080"}, "origin that may post with the site key; repeat for more")
	f.StringVar(&p.jurisdiction, "jurisdiction", "FR", "country whose practice applies (ISO 3166-1)")
	f.StringVar(&p.controller, "controller", "Example controller", "legal name of the controller (GDPR Art. 4(7))")
	f.StringVar(&p.email, "contact-email", "", "where persons reach the data protection officer, as receipts name it")
	f.StringVar(&p.preset, "preset", policies.DefaultPreset, "policies to begin with: "+strings.Join(policies.Presets(), " or "))
	f.StringSliceVar(&p.destinations, "destination", []string{"warehouse", "accounting"}, "recipient of batches, repeat for more; of another preset, its recipients")
	f.StringVar(&p.objects, "objects", "../objects", "folder of the directory store, relative to gateway/; S3 is set in octroi.yaml")
	f.BoolVar(&p.login, "login", false, "make the site a key for login claims, so that a login links a browser to a person")
	f.StringVar(&p.interval, "interval", "60s", "a batch is sealed at most this long after its first event")
	return cmd
}

// check finds what would make a configuration that does not load, before anything is written: a half-made installation is in the way of the next
// attempt.
func (p *initPlan) check() error {
	wrong := new(problems)
	if p.class != "X25519" && p.class != "hybrid" {
		wrong.add("--class", "%q is neither X25519 nor hybrid", p.class)
	}
	interval, err := time.ParseDuration(p.interval)
	if err != nil || interval < minInterval || interval > maxInterval {
		wrong.add("--interval", "want a time from %s to %s, such as 60s", minInterval, maxInterval)
	}
	if _, ok := policies.Preset(cmp.Or(p.preset, policies.DefaultPreset)); !ok {
		wrong.add("--preset", "%q is none of %s", p.preset, strings.Join(policies.Presets(), ", "))
		return errors.Join(wrong.found...) // it has no destinations either
	}
	if p.controller == "" {
		wrong.add("--controller", "is missing")
	}
	if strings.ContainsAny(p.objects, "\n#:'\"{}[],&*!|>%@`") || strings.TrimSpace(p.objects) != p.objects || p.objects == "" {
		wrong.add("--objects", "want a plain path; any other can be written into octroi.yaml afterwards")
	}
	c := Config{Sites: []SiteConfig{{Key: p.key, Name: p.site, Origins: p.origins, Region: p.jurisdiction, Jurisdiction: p.jurisdiction, Language: "fr"}}}
	c.checkSites(wrong)
	names := map[string]bool{}
	for _, name := range p.destinations {
		if !namePattern.MatchString(name) || names[name] {
			wrong.add("--destination", "%q: lower-case letters, digits and dashes, at most 40, each name once", name)
		}
		names[name] = true
	}
	if len(names) == 0 {
		wrong.add("--destination", "name at least one")
	}
	return errors.Join(wrong.found...)
}

func (p *initPlan) create() error {
	gateway := filepath.Join(p.dir, gatewayDir)
	if _, err := os.Stat(filepath.Join(gateway, "octroi.yaml")); err == nil {
		return fmt.Errorf("%s has an installation already: choose another --dir, or run `octroi serve --config %s`",
			p.dir, filepath.Join(gateway, "octroi.yaml"))
	}
	keys := filepath.Join(gateway, "keys")
	if _, err := os.Stat(keys); err == nil {
		return fmt.Errorf("%s holds keys and no octroi.yaml: if an earlier init was cut off, remove %s and try again; otherwise put octroi.yaml back", gateway, p.dir)
	}
	if err := CreateKeys(keys); err != nil {
		return err
	}
	destinations, err := p.createIdentities()
	if err != nil {
		return err
	}
	if err := p.handOut(keys); err != nil {
		return err
	}
	if p.login {
		if err := createLoginKey(filepath.Join(p.dir, siteDir), gateway); err != nil {
			return err
		}
	}
	if err := p.writeCustodian(destinations); err != nil {
		return err
	}
	if err := p.copyPolicies(filepath.Join(gateway, "policies")); err != nil {
		return err
	}
	// Created here and not by serve: a store that is missing later is a mount that is missing, and must not be replaced by an empty folder.
	objects := p.objects
	if !filepath.IsAbs(objects) {
		objects = filepath.Join(gateway, objects)
	}
	if err := os.MkdirAll(objects, 0o750); err != nil {
		return fmt.Errorf("creating object folder: %w", err)
	}
	// The configuration comes last: an installation without one is not an installation, and init can be run again elsewhere.
	return p.writeConfig(filepath.Join(gateway, "octroi.yaml"), destinations)
}

// createIdentities makes E, R and a W for each destination, each in its holder's folder.
func (p *initPlan) createIdentities() ([]DestinationConfig, error) {
	custodian, err := p.createIdentity(filepath.Join(p.dir, custodianDir, "identity.txt"))
	if err != nil {
		return nil, err
	}
	recovery, err := p.createIdentity(filepath.Join(p.dir, offlineDir, "identity.txt"))
	if err != nil {
		return nil, err
	}
	var out []DestinationConfig
	for _, name := range p.destinations {
		w, err := p.createIdentity(filepath.Join(p.dir, warehouseDir, name, "identity.txt"))
		if err != nil {
			return nil, err
		}
		out = append(out, DestinationConfig{Name: name, Recipients: RecipientsConfig{w, custodian, recovery}})
	}
	return out, nil
}

func (p *initPlan) createIdentity(path string) (recipient string, err error) {
	identity, recipient, err := export.NewIdentity(p.class)
	if err != nil {
		return "", err
	}
	return recipient, writeNew(path, []byte(identity), 0o600)
}

// handOut gives each holder what it needs beside its own secrets.
func (p *initPlan) handOut(keys string) error {
	custodian, officer := filepath.Join(p.dir, custodianDir), filepath.Join(p.dir, dpoDir)
	if _, err := keyfile.CreateSigning(keyPath(officer, "approval"), "approval"); err != nil {
		return err
	}
	if _, err := keyfile.CreateSigning(keyPath(custodian, "custodian"), "custodian"); err != nil {
		return err
	}
	offline := filepath.Join(p.dir, offlineDir)
	verifiers := []string{officer, offline} // of stream, evidence and certificates
	for _, name := range p.destinations {
		verifiers = append(verifiers, filepath.Join(p.dir, warehouseDir, name))
	}
	for _, x := range []struct {
		from, kind string
		to         []string
	}{
		{keys, "signing", append([]string{custodian}, verifiers...)},
		{keys, "log", append([]string{custodian}, verifiers...)},
		{custodian, "custodian", append([]string{keys}, verifiers...)},
		{officer, "approval", []string{keys, custodian, offline}},
	} {
		for _, dir := range x.to {
			if err := copyFile(keyPath(x.from, x.kind)+".pub", keyPath(dir, x.kind)+".pub", 0o644); err != nil {
				return err
			}
		}
	}
	// The offline safe holds what a lost machine would take with it, but not the signing keys: who finds the safe can sign nothing.
	for _, kind := range append(append([]string{}, secretKinds...), "token") {
		if err := copyFile(keyPath(keys, kind), keyPath(offline, kind), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// presetDestinations are the recipients that a preset's purposes name, but for the gateway's own; none for what is no preset.
func presetDestinations(preset string) (names []string) {
	fsys, ok := policies.Preset(preset)
	if !ok {
		return nil
	}
	policy, err := policies.Load(fsys)
	if err != nil {
		panic(err) // a test loads them all
	}
	for _, x := range policy.Purposes() {
		for _, r := range x.Recipients {
			if r.Destination != journey.Destination && !slices.Contains(names, r.Destination) {
				names = append(names, r.Destination)
			}
		}
	}
	return names
}

func (p *initPlan) copyPolicies(dir string) error {
	fsys, ok := policies.Preset(cmp.Or(p.preset, policies.DefaultPreset))
	if !ok {
		return fmt.Errorf("no preset %q", p.preset)
	}
	return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		return writeNew(filepath.Join(dir, name), b, 0o644)
	})
}

func copyFile(from, to string, mode os.FileMode) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeNew(to, b, mode)
}

// writeNew writes a file that must not exist yet, durably.
func writeNew(path string, b []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("creating folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("creating file: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

var configTemplate = template.Must(template.New("octroi.yaml").Parse(`# Configuration of the Octroi gateway. Paths are relative to this file. Unknown keys are errors:
# run "octroi check --config octroi.yaml" after a change.
node: n1
controller: {{printf "%q" .Controller}}
{{if .Email}}contact: # of the controller, as receipts name it
  name: Data protection officer
  email: {{printf "%q" .Email}}
{{else}}# contact: # of the controller, as receipts name it
#   name: Data protection officer
#   email: dpo@shop.example
{{end}}#   street: 1 rue de l'Exemple
#   postal_code: "75000"
#   city: Paris
#   country: FR
# policy_url: https://shop.example/privacy
listen:
  public: {{.Public}}  # put a TLS proxy before it; the cookie is Secure on anything but loopback
  private: {{.Private}} # DPO and data teams; never to the internet{{with .ConsentRate}}
  consent_rate: {{.}} # all visitors of this machine are one network{{end}}
keys: keys
{{with .Refresh}}journeys: # soon, for who watches
  interval: {{.}}
  refresh: {{.}}
{{end}}state: state
slots: slots/subjects.slots # keys of the subjects: keep it out of the backups of state
policies: policies
spool:
  dir: spool{{if .SegmentAge}}
  segment_age: {{.SegmentAge}}{{end}}
outbox:
  dir: outbox
rights:
  notices: {{.Notices}} # destinations are told of erasures and withdrawals this often
objects:
  directory: {{.Objects}}
  # Or S3, with versioning on:
  # s3:
  #   endpoint: https://s3.eu-west-3.amazonaws.com
  #   bucket: octroi-events
  #   region: eu-west-3
  #   credentials: keys/s3-credentials # as the AWS tools write it: aws_access_key_id = …, aws_secret_access_key = …
sites:
  - key: {{.Key}}
    name: {{.Site}}
    origins:{{range .Origins}}
      - {{.}}{{end}}
    region: {{.Jurisdiction}}
    jurisdiction: {{.Jurisdiction}}
    language: fr
    too_old: P7D{{if .Login}}
    login: {{.Login}} # of the site's login claims; its private half is the site's{{end}}
destinations:{{range .Destinations}}
  - name: {{.Name}}
    interval: {{$.Interval}}
    recipients:
      destination: {{.Recipients.Destination}}
      custodian: {{.Recipients.Custodian}}
      recovery: {{.Recipients.Recovery}}{{end}}
backup: # of "octroi backup": only the identity in the offline safe opens one
  recipient: {{(index .Destinations 0).Recipients.Recovery}}
`))

func (p *initPlan) writeConfig(path string, destinations []DestinationConfig) error {
	var b bytes.Buffer
	err := configTemplate.Execute(&b, map[string]any{
		"Controller": p.controller, "Email": p.email, "Objects": p.objects, "Key": p.key, "Site": p.site, "Origins": p.origins,
		"Jurisdiction": p.jurisdiction, "Destinations": destinations, "Interval": p.interval,
		"Notices": cmp.Or(p.notices, "24h"), "SegmentAge": p.segmentAge, "ConsentRate": p.consentRate, "Refresh": p.refresh,
		"Login": p.loginLine(), "Public": cmp.Or(p.public, demoPublic), "Private": cmp.Or(p.private, demoPrivate),
	})
	if err != nil {
		return err
	}
	return writeNew(path, b.Bytes(), 0o600)
}

// loginLine is the path of the site's public key in octroi.yaml.
func (p *initPlan) loginLine() string {
	if !p.login {
		return ""
	}
	return loginPublicFile
}

func (p *initPlan) explain(w io.Writer) {
	fmt.Fprintf(w, "created %s, a folder for each holder of secrets:\n", p.dir)
	rows := [][2]string{
		{gatewayDir, "octroi.yaml, policies, keys: the machine that faces the internet"},
		{custodianDir, "identity E, custodian.key, custodian.yaml: a machine that the internet cannot reach"},
		{warehouseDir, "identity W of each destination: the data team's machine"},
		{dpoDir, "approval key: the data protection officer's own machine"},
		{offlineDir, "recovery identity R and key copies: a safe; remove it from this disk"},
	}
	if p.login {
		rows = append(rows, [2]string{siteDir, "login key: the back-end of the site"})
	}
	for _, row := range rows {
		fmt.Fprintf(w, "  %-10s %s\n", row[0], row[1])
	}
	fmt.Fprintf(w, "next: octroi check --config %[1]s, then octroi serve --config %[1]s\n", filepath.Join(p.dir, gatewayDir, "octroi.yaml"))
}
