package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/octroi/octroi/cmd/internal/program"

	"github.com/spf13/cobra"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/sweep"
)

func rewrapCommand() *cobra.Command {
	var f sweepFlags
	var yes bool
	var confirm int
	c := &cobra.Command{
		Use: "rewrap", Short: "encrypt older batches to the recipients of now", Args: program.NoArguments,
		Long: `After a key of a destination, of the custodian or of the offline safe was changed: encrypts every batch that still lists the former recipients to those
that custodian.yaml lists now, and deletes the former objects. The rows stay as they are. Before it:

  1. put the new recipients into octroi.yaml and restart the gateway, so that new batches have them;
  2. put them into custodian.yaml, and the ones they replace under former;
  3. where E was changed, keep the old identity in identity.txt beside the new one.

It walks the signed stream of each destination to find the batches, says how many there are, and asks for that number before it begins. It can be
stopped and run again. Afterwards the former keys open nothing that is in the store.`,
		Example: "  octroi-custodian rewrap --dry-run\n  octroi-custodian rewrap --yes --confirm 2000",
		RunE: func(c *cobra.Command, _ []string) error {
			if yes != c.Flags().Changed("confirm") {
				return program.Usage(c, "--yes and --confirm go together")
			}
			h, err := open(f.config)
			if err != nil {
				return err
			}
			return h.rewrap(c, f, func(n int) error { return confirmed(c.InOrStdin(), c.OutOrStdout(), n, yes, confirm) })
		},
	}
	configFlag(c, &f.config)
	c.Flags().BoolVar(&f.dry, "dry-run", false, "say how many batches there are, and do nothing")
	c.Flags().BoolVar(&f.quiet, "quiet", false, "no progress")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask; with --confirm")
	c.Flags().IntVar(&confirm, "confirm", 0, "the number of batches")
	return c
}

// confirmed asks for the number of batches.
func confirmed(in io.Reader, out io.Writer, n int, yes bool, confirm int) error {
	if !yes {
		fmt.Fprint(out, "type the number of batches to encrypt them anew: ")
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: %w", errUnsure, err)
		}
		if confirm, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
			confirm = -1
		}
	}
	if confirm != n {
		return fmt.Errorf("%w: it is %d batches that would be encrypted anew; a script gives --yes --confirm %d", errUnsure, n, n)
	}
	return nil
}

func (h *holder) rewrap(c *cobra.Command, f sweepFlags, confirm func(int) error) error {
	p := newProgress(os.Stderr, f.quiet)
	h.options.Progress, h.options.Logger = p.show, p.log()
	return h.work(func(s *sweep.Sweep) error {
		all, n, err := h.outdated(c.Context(), s, c.OutOrStdout())
		if err != nil || f.dry || n == 0 {
			return err
		}
		if err := export.CheckArchive(c.Context(), h.options.Archive, export.ErasureDeadline); err != nil {
			return err
		}
		if err := confirm(n); err != nil {
			return err
		}
		var failed []error
		for _, what := range all {
			r, err := s.Rewrap(c.Context(), what)
			p.end()
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %d of %d batches encrypted anew, %d wait\n", what.Destination, r.Rewritten, len(what.Batches), r.Waiting)
			failed = append(failed, left(&r))
		}
		// What was replaced is purged as everything is that was replaced.
		return errors.Join(append(failed, h.pass(c, s, p, f))...)
	})
}

// outdated says what there is to do.
func (h *holder) outdated(ctx context.Context, s *sweep.Sweep, w io.Writer) (all []sweep.Outdated, n int, err error) {
	for _, d := range h.config.Destinations {
		to, err := d.recipients()
		if err != nil {
			return nil, 0, err
		}
		what, err := s.Outdated(ctx, d.Name, to)
		if err != nil {
			return nil, 0, err
		}
		fmt.Fprintf(w, "%s: %d of %d batches are encrypted to former recipients, %.1f MB\n", d.Name, len(what.Batches), what.Of, float64(what.Bytes)/1e6)
		all, n = append(all, what), n+len(what.Batches)
	}
	return all, n, nil
}
