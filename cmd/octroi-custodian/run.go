package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/octroi/octroi/cmd/internal/program"

	"github.com/spf13/cobra"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/sweep"
)

func runCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "run", Short: "do what the gateway asks for, until it is stopped", Args: program.NoArguments,
		Long: `Asks the gateway for work and does it, again and again, until a signal stops it. A gateway or a store out of reach is waited for. It refuses to
begin with a store that would keep erased objects for longer than an erasure may take.`,
		Example: "  octroi-custodian run --config /srv/octroi/custodian/custodian.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := open(path)
			if err != nil {
				return err
			}
			h.logger(slog.LevelInfo)
			return h.work(func(s *sweep.Sweep) error { return s.Run(c.Context()) })
		},
	}
	configFlag(c, &path)
	return c
}

// work opens the custodian's state for as long as fn takes.
func (h *holder) work(fn func(*sweep.Sweep) error) error {
	s, err := sweep.Open(h.options)
	if err != nil {
		return err
	}
	return errors.Join(fn(s), s.Close())
}

// sweepFlags are those of one pass.
type sweepFlags struct {
	config              string
	dry, quiet, machine bool
}

func sweepCommand() *cobra.Command {
	var f sweepFlags
	c := &cobra.Command{
		Use: "sweep", Short: "do once what is pending, then end", Args: program.NoArguments,
		Long: `Does everything that is pending: reads each batch concerned once, cuts for all requests together, deletes what was replaced, makes access packages
and signs certificates. With --dry-run it reads the batches and says, for each request and object, what would be cut; nothing is written, deleted or
reported.`,
		Example: "  octroi-custodian sweep --dry-run\n  octroi-custodian sweep",
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := open(f.config)
			if err != nil {
				return err
			}
			if f.dry {
				return h.dryRun(c, f)
			}
			return h.once(c, f)
		},
	}
	configFlag(c, &f.config)
	c.Flags().BoolVar(&f.dry, "dry-run", false, "say what would be done, and do nothing")
	c.Flags().BoolVar(&f.quiet, "quiet", false, "no progress")
	c.Flags().BoolVar(&f.machine, "json", false, "the result as JSON")
	return c
}

// once does one pass and says what came of it: errLeft where something could not be done.
func (h *holder) once(c *cobra.Command, f sweepFlags) error {
	p := newProgress(os.Stderr, f.quiet)
	h.options.Progress, h.options.Logger = p.show, p.log()
	return h.work(func(s *sweep.Sweep) error {
		if err := export.CheckArchive(c.Context(), h.options.Archive, export.ErasureDeadline); err != nil {
			return err
		}
		return h.pass(c, s, p, f)
	})
}

// pass does one pass of an open custodian.
func (h *holder) pass(c *cobra.Command, s *sweep.Sweep, p *progress, f sweepFlags) error {
	r, err := s.Once(c.Context())
	p.end()
	if c.Context().Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("stopped by a signal; run it again to go on")
	}
	if err != nil && r.Jobs+r.Purged == 0 {
		return err
	}
	return errors.Join(printReport(c.OutOrStdout(), &r, f.machine), err, left(&r))
}

// left is what a pass could not do.
func left(r *sweep.Report) error {
	var what []string
	for _, x := range []struct {
		of   map[string]int
		what string
	}{{r.Refused, "requests were not obeyed"}, {r.Failed, "batches could not be swept"}} {
		for _, code := range slices.Sorted(maps.Keys(x.of)) {
			what = append(what, fmt.Sprintf("%d %s: %s", x.of[code], x.what, codeWords(code)))
		}
	}
	if len(what) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", errLeft, strings.Join(what, "; "))
}

// codeWords say what a code means and what to do.
func codeWords(code string) string {
	words, ok := map[string]string{
		sweep.FailedGone:        "the object is not in the store",
		sweep.FailedHash:        "the object's bytes are not those of its entry",
		sweep.FailedIdentity:    "the identity (E) does not open it",
		sweep.FailedEntry:       "the entry is not the gateway's, or states what it may not",
		sweep.FailedDamaged:     "the object does not hold the rows that its entry states",
		sweep.FailedLocked:      "object lock keeps a version",
		sweep.FailedStore:       "the store does not answer, or refuses",
		sweep.RefusedCap:        "the daily cap is reached: a data protection officer can approve them, or they wait for tomorrow",
		sweep.RefusedApproval:   "the approval is missing or is not of this job",
		sweep.RefusedPseudonyms: "the job names what it may not",
		sweep.RefusedSchedule:   "no approved schedule lets this be cut yet: octroi-custodian approve --retention",
		sweep.RefusedReplay:     "it was carried out already",
		sweep.RefusedFacts:      "what the gateway states is not proven, or is not what was seen",
	}[code]
	if !ok {
		return code
	}
	return words + " (" + code + ")"
}

func printReport(w io.Writer, r *sweep.Report, machine bool) error {
	if machine {
		return json.NewEncoder(w).Encode(r)
	}
	_, err := fmt.Fprintf(w, "%d requests: %d batches read, %d rewritten, %d left empty, %d unchanged; %d rows erased, %d reduced\n"+
		"%d batches purged of %d versions; %d packages, %d certificates; %d batches wait\n",
		r.Jobs, r.Scanned, r.Rewritten, r.Emptied, r.Unchanged, r.Erased, r.Reduced, r.Purged, r.Versions, r.Packages, r.Certificates, r.Waiting)
	return err
}

// dryRun says what a pass would do, request by request and object by object.
func (h *holder) dryRun(c *cobra.Command, f sweepFlags) error {
	p := newProgress(os.Stderr, f.quiet)
	h.options.Progress, h.options.Logger = p.show, p.log()
	return h.work(func(s *sweep.Sweep) error {
		var plan planned
		var err error
		if plan.Plan, err = s.DryRun(c.Context()); err != nil {
			return err
		}
		err = s.Preview(c.Context(), func(x sweep.Preview) error {
			plan.Objects = append(plan.Objects, x)
			return nil
		})
		p.end()
		if err != nil {
			return err
		}
		if f.machine {
			return json.NewEncoder(c.OutOrStdout()).Encode(plan)
		}
		return plan.print(c.OutOrStdout())
	})
}

// planned is what a dry run found.
type planned struct {
	sweep.Plan
	Objects []sweep.Preview `json:"objects"`
}

func (p *planned) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if len(p.Jobs) > 0 {
		fmt.Fprintln(t, "REQUEST\tRIGHT\tBY\tSTAGE\tBATCHES")
	}
	for _, j := range p.Jobs {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d", j.Request, j.Right, j.Origin, j.Stage, j.Batches)
		if j.Refused != nil {
			fmt.Fprintf(t, "\tnot obeyed: %s", codeWords(j.Refused.Code))
		}
		fmt.Fprintln(t)
	}
	if len(p.Objects) > 0 {
		fmt.Fprintln(t, "\nOBJECT\tROWS\tREQUEST\tERASED\tREDUCED")
	}
	for _, x := range p.Objects {
		if x.Failed != nil {
			fmt.Fprintf(t, "%s\t%d\tnot swept: %s\n", cmp.Or(x.Object, "batch "+x.Batch), x.Rows, codeWords(x.Failed.Code))
			continue
		}
		for _, request := range slices.Sorted(maps.Keys(x.Cut)) {
			fmt.Fprintf(t, "%s\t%d\t%s\t%d\t%d\n", x.Object, x.Rows, request, x.Cut[request].Erased, x.Cut[request].Reduced)
		}
	}
	fmt.Fprintf(t, "\nwould rewrite %d batches, read %d more, purge %d; %.1f MB to read; %d batches cannot be swept\n",
		p.Rewrite, p.Read, p.Purge, float64(p.Bytes)/1e6, p.Failed)
	return t.Flush()
}
