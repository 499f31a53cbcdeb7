package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/octroi/octroi/cmd/octroi/shop"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// storefront is the demo's shop as a process of its own: what a site holds, and what its showman holds beside it.
type storefront struct {
	listen, gateway, private string
	site, key, node          string
	loginKey, tokenFile      string // the site's
	showToken, loaded        string // the showman's; empty: no panel
}

func newShopCommand() *cobra.Command {
	f := new(storefront)
	cmd := &cobra.Command{
		Use:   "shop",
		Short: "serve the demo's shop, with the panel that shows what the gateway made of each click",
		Long: `Serves a small shop that installs Octroi as any site does: the tag and the banner from the gateway, a back-end that tells of orders,
logins by a claim that the site signs. With --show-token-file and --loaded it shows beside each page what became of
its events, which no site can: they are the gateway's and the data teams'.`,
		Example: "  octroi shop --gateway http://127.0.0.1:8080 --login-key octroi-data/site/login.key --token-file octroi-data/site/till.token",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context()) },
	}
	x := cmd.Flags()
	x.StringVar(&f.listen, "listen", demoShop, "address to serve on, loopback only")
	x.StringVar(&f.gateway, "gateway", "http://"+demoPublic, "the gateway's public listener")
	x.StringVar(&f.private, "private", "http://"+demoPrivate, "the gateway's private listener")
	x.StringVar(&f.site, "site", "shop", "name of the site")
	x.StringVar(&f.key, "key", "demo", "site key")
	x.StringVar(&f.node, "node", "n1", "name of the gateway, for which logins are signed")
	x.StringVar(&f.loginKey, "login-key", "", "file with the site's login key (PEM)")
	x.StringVar(&f.tokenFile, "token-file", "", "file with the token of the shop's back-end (events:write, declaring service)")
	x.StringVar(&f.showToken, "show-token-file", "", "file with a token of scope admin, for the panel")
	x.StringVar(&f.loaded, "loaded", "", "folder of the loaded rows, for the panel")
	return cmd
}

// run serves until ctx ends.
func (f *storefront) run(ctx context.Context) error {
	if !isLoopback(f.listen) {
		return usageError{errors.New("--listen must be a loopback address: the panel shows what no visitor may see")}
	}
	log := newLogger(os.Stderr, slog.LevelInfo)
	till, err := f.till(log)
	if err != nil {
		return err
	}
	handler, err := f.open(till, log)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	server := &http.Server{Handler: handler, ReadTimeout: 10 * time.Second, WriteTimeout: 15 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	log.Info("listening", "listener", "shop", "address", l.Addr().String())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return till.Run(ctx) })
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return server.Shutdown(stop)
	})
	return group.Wait()
}

func (f *storefront) till(log *slog.Logger) (*shop.Till, error) {
	token, err := readToken(f.tokenFile)
	if err != nil {
		return nil, err
	}
	return (&shop.Till{URL: f.gateway, Site: f.site, Token: token, Log: log}).Open(), nil
}

func (f *storefront) open(till *shop.Till, log *slog.Logger) (*shop.Shop, error) {
	key, err := readLoginKey(f.loginKey)
	if err != nil {
		return nil, fmt.Errorf("reading login key: %w", err)
	}
	o := shop.Options{
		Origin: "http://" + f.listen, Gateway: f.gateway, Console: f.private + "/console", Key: f.key, Site: f.site, Node: f.node,
		Login: key, Orders: till, Log: log,
	}
	if f.showToken != "" {
		token, err := readToken(f.showToken)
		if err != nil {
			return nil, err
		}
		o.Stage = &shop.Backstage{Private: f.private, Token: token, Cookies: []string{"octroi-dev", "__Host-octroi"}, Loaded: f.loaded}
	}
	return shop.New(o)
}

// readToken reads an access token from a file.
func readToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
