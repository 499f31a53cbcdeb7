package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/octroi/octroi/collector"
	"github.com/spf13/cobra"
)

// The fixed figures of the demo: scripts and the README name them.
const (
	demoPublic      = "127.0.0.1:8080"
	demoPrivate     = "127.0.0.1:8081"
	demoShop        = "127.0.0.1:8082"
	demoInterval    = "5s" // at which batches are sealed, and destinations told of erasures
	demoConsentRate = 1000
	demoDailyCap    = 10_000
	demoRefresh     = 2 * time.Second
	demoHistory     = 200              // customers whose last days the first run imports
	demoStopWithin  = 90 * time.Second // flush included
)

// demoDestinations are the recipients: one needs consent, the other a contract.
var demoDestinations = []string{"warehouse", "accounting"}

// demo runs the whole product on one machine: gateway, a shop, simulated visitors, custodian, and a loader for each destination, each a process of its
// own that reads only its holder's folder. The shop's panel is the exception, and says so on its page.
type demo struct {
	dir        string
	loader     string  // path of octroi-load
	keeper     string  // path of octroi-custodian
	visitors   float64 // a second; 0: nobody but you
	figures    bool    // print the table while it runs
	public     string  // listen addresses
	private    string
	storefront string
	out        io.Writer
	first      bool // the installation was made just now
	gateway    *child
	shop       *child
	crowd      *child // the simulated visitors
	keeping    *child // the custodian
	loaders    []*child
	crowdLine  atomic.Pointer[crowdCount]
	counted    map[string]int // rows of each loaded file
}

// crowdCount is a line that the simulated visitors print.
type crowdCount struct{ Sent, Visitors uint64 }

func newDemoCommand() *cobra.Command {
	d := &demo{counted: map[string]int{}}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "run everything on this machine, with a shop to click through",
		Long: `Runs the gateway, a shop to click through, a few simulated visitors beside you, octroi-load for two destinations, and
octroi-custodian, as separate processes with a folder each, on loopback only. It needs no server, account or configuration, says what to
open first, and keeps its state: run it again and it goes on. Ctrl-C stops it and ships what is spooled.

What one machine and one user cannot show: that the holders of the secrets are different people. Here you are all of them.`,
		Example: `  octroi demo
  octroi demo --dir /tmp/octroi --visitors 10 --table
  octroi demo --visitors 0                      nobody but you`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out = cmd.OutOrStdout()
			if d.visitors < 0 || d.visitors > 1000 {
				return usageError{errors.New("--visitors must be from 0 to 1000")}
			}
			return d.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.dir, "dir", "octroi-data", "folder that keeps everything")
	f.StringVar(&d.loader, "octroi-load", "", "the octroi-load program (default: beside this one)")
	f.StringVar(&d.keeper, "octroi-custodian", "", "the octroi-custodian program (default: beside this one)")
	f.Float64Var(&d.visitors, "visitors", 1, "simulated visitors a second, so that reports have numbers; 0: nobody but you")
	f.BoolVar(&d.figures, "table", false, "print what happens every two seconds, in the order of the data path")
	// For tests: the README and everybody's scripts name the addresses above.
	f.StringVar(&d.public, "public", demoPublic, "")
	f.StringVar(&d.private, "private", demoPrivate, "")
	f.StringVar(&d.storefront, "shop", demoShop, "")
	return hide(cmd, "public", "private", "shop")
}

// hide leaves flags out of the help.
func hide(cmd *cobra.Command, names ...string) *cobra.Command {
	for _, name := range names {
		cmd.Flag(name).Hidden = true
	}
	return cmd
}

func (d *demo) run(ctx context.Context) error {
	if err := d.prepare(); err != nil {
		return err
	}
	err := d.start(ctx)
	if err == nil {
		d.explain()
		err = d.watch(ctx)
	}
	if ctx.Err() != nil {
		err = nil // Ctrl-C, in whatever phase, is no failure
	}
	fmt.Fprintln(d.out, "\nstopping: the visitors and the shop first, then the gateway ships what is spooled, then the loaders load it …")
	err = errors.Join(err, d.stop())
	if err == nil {
		d.table()
		fmt.Fprintf(d.out, "stopped. everything is kept in %s: run it again and it goes on.\n", d.dir)
	}
	return err
}

// prepare creates the installation on the first run, and the tokens of this run.
func (d *demo) prepare() error {
	for name, program := range map[string]*string{"octroi-load": &d.loader, "octroi-custodian": &d.keeper} {
		if err := findProgram(name, program); err != nil {
			return err
		}
	}
	for _, address := range []string{d.public, d.private, d.storefront} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("%s is in use: stop what listens there (an older demo?) and try again", address)
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	if _, err := os.Stat(d.path(gatewayDir, "octroi.yaml")); errors.Is(err, os.ErrNotExist) {
		p := d.plan()
		if err := p.create(); err != nil {
			return err
		}
		d.first = true
	} else if _, err := os.Stat(d.path(siteDir, loginKeyFile)); err != nil {
		return fmt.Errorf("%s was made by an earlier version: move it away, or name another --dir", d.dir)
	}
	return d.mint()
}

// plan is the demo's installation.
func (d *demo) plan() initPlan {
	return initPlan{
		dir: d.dir, class: "X25519", site: "shop", key: "demo", login: true,
		origins: []string{"http://" + d.storefront, "http://localhost:8082", "http://" + d.public, "http://localhost:8080"},
		public:  d.public, private: d.private,
		jurisdiction: "FR", controller: "Octroi demo shop", email: "dpo@boutique.example", destinations: demoDestinations, objects: "../objects",
		interval: demoInterval, notices: demoInterval, segmentAge: demoInterval, dailyCap: demoDailyCap, consentRate: demoConsentRate, refresh: demoInterval,
	}
}

// findProgram looks for a program that was not named beside this one.
func findProgram(name string, path *string) error {
	if *path == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding this program: %w", err)
		}
		*path = filepath.Join(filepath.Dir(self), name)
	}
	if _, err := os.Stat(*path); err != nil {
		return fmt.Errorf("no %[1]s at %[2]s: run `make build`, or name it with --%[1]s", name, *path)
	}
	return nil
}

// mint writes the tokens of the demo, each to its holder: the shop's back-end, its older records, who reads figures, the officer, the custodian, the
// loaders.
func (d *demo) mint() error {
	k, err := ReadKeys(d.path(gatewayDir, "keys"))
	if err != nil {
		return err
	}
	type grant struct {
		file   string
		claims collector.TokenClaims
	}
	tokens := []grant{
		{d.path(siteDir, "till.token"), collector.TokenClaims{Subject: "demo-till", Scopes: []string{"events:write"}, Sites: []string{"shop"}, Declare: []string{"service"}}},
		{d.path(siteDir, "crm.token"), collector.TokenClaims{
			Subject: "demo-crm", Scopes: []string{"events:write", "consent:write", "consent:import"}, Sites: []string{"shop"}, Declare: []string{"service"},
		}},
		{d.path(gatewayDir, "admin.token"), collector.TokenClaims{Subject: "demo", Scopes: []string{"admin", "rights:read", "backup", "stream:warehouse", "stream:accounting"}}},
		{d.path(dpoDir, "officer.token"), collector.TokenClaims{Subject: "demo-officer", Scopes: []string{"rights:manage", "rights:read", "journeys:read"}}},
		{d.path(custodianDir, "custody.token"), collector.TokenClaims{Subject: "demo-custodian", Scopes: []string{"custody"}}},
	}
	for _, name := range demoDestinations {
		tokens = append(tokens, grant{d.path(warehouseDir, name, "load.token"), collector.TokenClaims{Subject: "demo-" + name, Scopes: []string{"stream:" + name}}})
	}
	for _, t := range tokens {
		t.claims.Expires = time.Now().Add(30 * 24 * time.Hour)
		token, err := mintToken(k.Token, "n1", t.claims)
		if err != nil {
			return err
		}
		if err := os.WriteFile(t.file, []byte(token+"\n"), 0o600); err != nil {
			return fmt.Errorf("writing token: %w", err)
		}
	}
	return nil
}

func (d *demo) path(elem ...string) string { return filepath.Join(append([]string{d.dir}, elem...)...) }

func (d *demo) start(ctx context.Context) (err error) {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	d.gateway, err = startChild(d.path(gatewayDir, "gateway.log"), nil, self, "serve", "--config", d.path(gatewayDir, "octroi.yaml"))
	if err != nil {
		return err
	}
	if err := d.awaitReady(ctx); err != nil {
		return err
	}
	d.keeping, err = startChild(d.path(custodianDir, "custodian.log"), nil, d.keeper, "run", "--config", d.path(custodianDir, "custodian.yaml"))
	if err != nil {
		return err
	}
	for _, name := range demoDestinations {
		l, err := startChild(d.path(warehouseDir, name, "load.log"), nil, d.loader, append([]string{
			"follow", "--ack-url", "http://" + d.private, "--ack-token-file", d.path(warehouseDir, name, "load.token"),
		}, d.loadArgs(name)...)...)
		if err != nil {
			return err
		}
		d.loaders = append(d.loaders, l)
	}
	return d.startShop(self)
}

// startShop starts the shop, and whoever is in it beside you.
func (d *demo) startShop(self string) (err error) {
	d.shop, err = startChild(d.path("shop.log"), nil, self, "shop", "--listen", d.storefront, "--gateway", "http://"+d.public, "--private", "http://"+d.private,
		"--login-key", d.path(siteDir, loginKeyFile), "--token-file", d.path(siteDir, "till.token"),
		"--show-token-file", d.path(gatewayDir, "admin.token"), "--loaded", d.path("loaded"))
	if err != nil || d.visitors == 0 {
		return err
	}
	args := []string{
		"traffic", "--url", "http://" + d.public, "--key", "demo", "--visitors", fmt.Sprint(d.visitors),
		"--token-file", d.path(siteDir, "crm.token"), "--login-key", d.path(siteDir, loginKeyFile),
	}
	if d.first {
		args = append(args, "--history", fmt.Sprint(demoHistory))
	}
	d.crowd, err = startChild(d.path("traffic.log"), func(line []byte) {
		n := new(crowdCount)
		if json.Unmarshal(line, n) == nil {
			d.crowdLine.Store(n)
		}
	}, self, args...)
	return err
}

// loadArgs are what a data team would type.
func (d *demo) loadArgs(destination string) []string {
	return []string{
		"--from", d.path("objects"), "--destination", destination, "--identity", d.path(warehouseDir, destination, "identity.txt"),
		"--gateway-key", d.path(warehouseDir, destination, "signing.key.pub"), "--into", d.path("loaded", destination), "--format", "ndjson", "--quiet",
	}
}

func (d *demo) awaitReady(ctx context.Context) error {
	for range 300 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-d.gateway.ended:
			d.gateway.ended <- err
			return fmt.Errorf("the gateway did not start: its last words are in %s", d.path(gatewayDir, "gateway.log"))
		case <-time.After(100 * time.Millisecond):
		}
		resp, err := http.Get("http://" + d.private + "/readyz")
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("the gateway is not ready after 30 s; see %s", d.path(gatewayDir, "gateway.log"))
}

// watch prints the table, if it is asked for, until ctx ends or a process does: none of them ends by itself.
func (d *demo) watch(ctx context.Context) error {
	tick := time.NewTicker(demoRefresh)
	defer tick.Stop()
	check := time.NewTicker(demoRefresh / 10)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-check.C:
			for _, c := range append([]*child{d.gateway, d.shop, d.crowd, d.keeping}, d.loaders...) {
				if c.hasEnded() {
					return fmt.Errorf("%s has ended: its last words are in %s", c.name, c.log.Name())
				}
			}
		case <-tick.C:
			if d.figures {
				d.table()
			}
		}
	}
}

// stop ends the processes in the order of the data: visitors, shop, custodian, the gateway with its flush, then a last load of what it shipped.
func (d *demo) stop() error {
	errs := []error{d.crowd.stop(demoStopWithin), d.shop.stop(demoStopWithin), d.keeping.stop(demoStopWithin), d.gateway.stop(demoStopWithin)}
	for _, l := range d.loaders {
		errs = append(errs, l.stop(demoStopWithin))
	}
	if errors.Join(errs...) != nil || len(d.loaders) == 0 {
		return errors.Join(errs...)
	}
	for _, name := range demoDestinations {
		last, err := startChild(d.path(warehouseDir, name, "load.log"), nil, d.loader, append([]string{"once"}, d.loadArgs(name)...)...)
		if err == nil {
			err = last.wait(demoStopWithin)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// child is a process of the demo, in a process group of its own, so that Ctrl-C reaches the demo alone and the order of stopping is its.
type child struct {
	name  string
	cmd   *exec.Cmd
	log   *os.File
	ended chan error // one value, once
}

// startChild starts a program with its standard error in a log file; each line of its standard output goes to line, or to the log.
func startChild(logFile string, line func([]byte), program string, args ...string) (*child, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening log: %w", err)
	}
	c := &child{name: filepath.Base(program) + " " + args[0], cmd: exec.Command(program, args...), log: log, ended: make(chan error, 1)}
	c.cmd.Stderr, c.cmd.SysProcAttr = log, ownGroup()
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", c.name, err), log.Close())
	}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if line != nil {
				line(lines.Bytes())
				continue
			}
			fmt.Fprintf(log, "%s\n", lines.Bytes())
		}
		c.ended <- errors.Join(c.cmd.Wait(), log.Close())
	}()
	return c, nil
}

// stop asks the process to end and waits; a child that was never started is no error.
func (c *child) stop(within time.Duration) error {
	if c == nil {
		return nil
	}
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping %s: %w", c.name, err)
	}
	err := c.wait(within)
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGINT {
			return nil // it had not begun, and so had nothing to stop
		}
	}
	return err
}

// hasEnded says whether the process ended by itself; one that was never started did not.
func (c *child) hasEnded() bool { return c != nil && len(c.ended) > 0 }

func (c *child) wait(within time.Duration) error {
	select {
	case err := <-c.ended:
		c.ended <- err
		if err != nil {
			return fmt.Errorf("%s: %w; its log is %s", c.name, err, c.log.Name())
		}
		return nil
	case <-time.After(within):
		return errors.Join(fmt.Errorf("%s did not stop within %s and was killed", c.name, within), c.cmd.Process.Kill())
	}
}
