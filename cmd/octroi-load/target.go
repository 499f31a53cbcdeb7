package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/octroi/octroi/cmd/internal/program"

	"github.com/spf13/cobra"

	"github.com/octroi/octroi/export/load"
)

// target are the flags that say what is loaded into: a folder or a database.
type target struct{ into, dsn, schema string }

func (t *target) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&t.into, "into", "", "folder to load into; it is created where it is missing")
	f.StringVar(&t.dsn, "into-postgres", "", "instead of --into: file of the connection string of a PostgreSQL database")
	f.StringVar(&t.schema, "schema", load.DefaultSchema, "schema of the database; it is created where it is missing")
}

func (t *target) complete(c *cobra.Command) error {
	switch {
	case t.into == "" && t.dsn == "":
		return program.Usage(c, "--into is missing, or --into-postgres")
	case t.into != "" && t.dsn != "":
		return program.Usage(c, "--into and --into-postgres exclude each other: a folder and a database are two loads")
	case t.into != "" && c.Flags().Changed("schema"):
		return program.Usage(c, "--schema goes with --into-postgres")
	case t.dsn != "" && c.Flags().Changed("format"):
		return program.Usage(c, "--format goes with --into")
	}
	return nil
}

// database is the connection string; "" for a folder.
func (t *target) database() (string, error) {
	if t.dsn == "" {
		return "", nil
	}
	text, err := readSecret(t.dsn, "the database's connection string")
	return strings.TrimSpace(string(text)), err
}

// String is what messages say of it.
func (t target) String() string {
	if t.dsn != "" {
		return "schema " + t.schema + " of the database in " + t.dsn
	}
	return t.into
}

// acknowledging are the flags of telling the gateway how far entries are applied.
type acknowledging struct{ url, tokenFile, ca, loader string }

func (a *acknowledging) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.url, "ack-url", "", "https://host:port of the gateway's private API, to be told how far this loader is")
	f.StringVar(&a.tokenFile, "ack-token-file", "", "file of an access token of scope stream:<destination>")
	f.StringVar(&a.ca, "ack-ca", "", "PEM file of that API's certificate authorities, where they are not public")
	f.StringVar(&a.loader, "loader", "", "this loader's name among those of the destination (default: the folder's or database's)")
}

func (a *acknowledging) complete(c *cobra.Command) error {
	switch {
	case a.url != "" && a.tokenFile == "":
		return program.Usage(c, "--ack-token-file is missing: a file with what octroi token printed for scope stream:<destination>")
	case a.url == "" && a.tokenFile+a.ca+a.loader != "":
		return program.Usage(c, "--ack-url is missing, such as https://octroi.internal:8081")
	case a.loader != "" && !load.LoaderName.MatchString(a.loader):
		return program.Usage(c, "--loader: letters, digits, '_' and '-' only, at most 63")
	}
	return nil
}

// acker is nil where nothing is to be acknowledged.
func (a *acknowledging) acker(destination string, t target, database string, log *slog.Logger) (*load.Acker, error) {
	if a.url == "" {
		return nil, nil
	}
	if _, err := readSecret(a.tokenFile, "the access token"); err != nil {
		return nil, err
	}
	name := a.loader
	if name == "" && t.into != "" {
		path, err := filepath.Abs(t.into)
		if err != nil {
			return nil, err
		}
		name = filepath.Base(path)
	}
	if name == "" {
		var err error
		if name, err = load.DatabaseName(database); err != nil {
			return nil, err
		}
	}
	return load.NewAcker(load.AckerOptions{URL: a.url, CA: a.ca, TokenFile: a.tokenFile, Destination: destination, Loader: name, Log: log})
}

// lastWord is how long a program that ends tries to tell the gateway how far it came.
const lastWord = 10 * time.Second

// acknowledge runs a, which may be nil, until stop is called; stop has it tell what is left.
func acknowledge(ctx context.Context, a *load.Acker) (stop func()) {
	if a == nil {
		return func() {}
	}
	running, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { a.Run(running) })
	return func() {
		cancel()
		done.Wait()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
		defer cancel()
		a.Flush(last)
	}
}
