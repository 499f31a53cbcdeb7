package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/octroi/octroi/cmd/internal/program"

	"github.com/spf13/cobra"

	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load"
)

// settings are the flags of once and follow.
type settings struct {
	from, destination, identity, gatewayKey string
	target
	format                            string
	endpoint, region, credentials, ca string
	timeout, poll                     time.Duration
	acknowledging
	quiet bool
}

func (s *settings) flags(c *cobra.Command) {
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&s.from, "from", "", "folder of objects, or s3://bucket")
	f.StringVar(&s.destination, "destination", "", "name of the destination, as the gateway's configuration has it")
	f.StringVar(&s.identity, "identity", "", "file of the destination's age identity (W)")
	f.StringVar(&s.gatewayKey, "gateway-key", "", "file of the gateway's public signing key (signing.key.pub)")
	s.target.flags(c)
	f.StringVar(&s.format, "format", load.Parquet, load.Parquet+" or "+load.NDJSON+"; fixed by a folder's first load")
	f.StringVar(&s.endpoint, "s3-endpoint", "", "https://host[:port] of the S3 server")
	f.StringVar(&s.region, "s3-region", "us-east-1", "region of the bucket")
	f.StringVar(&s.credentials, "s3-credentials", "", "AWS credentials file")
	f.StringVar(&s.ca, "s3-ca", "", "PEM file of the server's certificate authorities, where they are not public")
	f.DurationVar(&s.timeout, "s3-timeout", 30*time.Second, "wait for an answer, and between two pieces of one")
	s.acknowledging.flags(c)
	f.BoolVar(&s.quiet, "quiet", false, "no progress")
}

func onceCommand() *cobra.Command {
	var s settings
	c := &cobra.Command{
		Use: "once", Short: "load what the stream has, then end", Args: program.NoArguments,
		Example: "  octroi-load once --from octroi-data/objects --destination warehouse --identity w.identity --gateway-key signing.key.pub --into loaded",
		RunE: func(c *cobra.Command, _ []string) error {
			return s.run(c, func(ctx context.Context, l *load.Loader, p *progress) error {
				done, err := l.Once(ctx)
				p.end()
				w := c.OutOrStdout()
				fmt.Fprintf(w, "loaded %d batches: %d events, %d known before, into %s\n", done.Batches, done.Rows, done.Duplicates, s.target)
				if done.Removed+done.Reduced+done.Restricted+done.Lifted > 0 {
					fmt.Fprintf(w, "of what was loaded: %d events removed, %d reduced, %d restricted, %d no longer\n", done.Removed, done.Reduced, done.Restricted, done.Lifted)
				}
				return err
			})
		},
	}
	s.flags(c)
	return c
}

func followCommand() *cobra.Command {
	var s settings
	c := &cobra.Command{
		Use: "follow", Short: "load what the stream has and what comes, until it is stopped", Args: program.NoArguments,
		Example: "  octroi-load follow --from s3://octroi-batches --s3-endpoint https://s3.eu-west-3.amazonaws.com --s3-region eu-west-3 \\\n" +
			"      --s3-credentials w.aws --destination warehouse --identity w.identity --gateway-key signing.key.pub --into loaded",
		RunE: func(c *cobra.Command, _ []string) error {
			return s.run(c, func(ctx context.Context, l *load.Loader, p *progress) error {
				err := l.Follow(ctx)
				p.end()
				return err
			})
		},
	}
	s.flags(c)
	c.Flags().DurationVar(&s.poll, "poll", 2*time.Second, "how often the stream is looked at")
	return c
}

// run opens everything that the settings name.
func (s *settings) run(c *cobra.Command, work func(context.Context, *load.Loader, *progress) error) error {
	if err := s.complete(c); err != nil {
		return err
	}
	gateway, err := keyfile.ReadPublic(s.gatewayKey, "signing")
	if err != nil {
		return err
	}
	identities, err := readIdentities(s.identity)
	if err != nil {
		return err
	}
	objects, err := s.open(c)
	if err != nil {
		return err
	}
	p := newProgress(os.Stderr, s.quiet)
	o := load.Options{
		Objects: objects, Destination: s.destination, Gateway: gateway, Identities: identities, Dir: s.into, Format: s.format, Schema: s.schema,
		Poll: s.poll, Log: p.log(), Progress: p.show,
	}
	if o.Database, err = s.database(); err != nil {
		return err
	}
	acker, err := s.acker(s.destination, s.target, o.Database, o.Log)
	if err != nil {
		return err
	}
	if acker != nil {
		o.Applied = acker.Applied
	}
	l, err := load.Open(c.Context(), o)
	if err != nil {
		return err
	}
	stop := acknowledge(c.Context(), acker)
	err = work(c.Context(), l, p)
	stop()
	if c.Context().Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("stopped by a signal; run it again to go on")
	}
	return errors.Join(err, l.Close())
}

func (s *settings) complete(c *cobra.Command) error {
	for _, f := range []struct{ name, value string }{
		{"from", s.from}, {"destination", s.destination}, {"identity", s.identity}, {"gateway-key", s.gatewayKey},
	} {
		if f.value == "" {
			return program.Usage(c, "--%s is missing", f.name)
		}
	}
	if err := errors.Join(s.target.complete(c), s.acknowledging.complete(c)); err != nil {
		return err
	}
	if s.format != load.Parquet && s.format != load.NDJSON {
		return program.Usage(c, "--format %q is unknown: give %s or %s", s.format, load.Parquet, load.NDJSON)
	}
	return nil
}

func (s *settings) open(c *cobra.Command) (export.Objects, error) {
	if !strings.HasPrefix(s.from, "s3:") {
		return export.OpenDir(s.from)
	}
	u, err := url.Parse(s.from)
	if err != nil || u.Scheme != "s3" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, program.Usage(c, "--from is not s3://bucket: the bucket's name alone, with --s3-endpoint and --s3-credentials beside")
	}
	if s.endpoint == "" {
		return nil, program.Usage(c, "--s3-endpoint is missing, such as https://s3.eu-west-3.amazonaws.com")
	}
	if s.credentials == "" {
		return nil, program.Usage(c, "--s3-credentials is missing: a file with aws_access_key_id = … and aws_secret_access_key = …")
	}
	return export.OpenS3(export.S3Options{
		Endpoint: s.endpoint, Region: s.region, Bucket: u.Host, Credentials: s.credentials, CA: s.ca, Timeout: s.timeout,
	})
}

func readIdentities(path string) (export.Identities, error) {
	text, err := readSecret(path, "the destination's age identity")
	if err != nil {
		return export.Identities{}, err
	}
	ids, err := export.ParseIdentities(text)
	if err != nil {
		return export.Identities{}, fmt.Errorf("%s: %w: %w", path, keyfile.ErrMalformed, err)
	}
	return ids, nil
}

// readSecret reads a file that only its owner may read.
func readSecret(path, what string) ([]byte, error) {
	about, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: give the file of %s", path, keyfile.ErrMissing, what)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	if about.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: %w: chmod 600 it", path, keyfile.ErrPermissions)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	return text, nil
}
