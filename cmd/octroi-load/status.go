package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/octroi/octroi/cmd/internal/program"

	"github.com/spf13/cobra"

	"github.com/octroi/octroi/export/load"
)

func statusCommand() *cobra.Command {
	var t target
	c := &cobra.Command{
		Use: "status", Short: "say how far a folder or a database is loaded, and what stands still", Args: program.NoArguments,
		Example: "  octroi-load status --into loaded\n  octroi-load status --into-postgres lake.dsn",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := t.complete(c); err != nil {
				return err
			}
			s, err := t.status(c)
			if errors.Is(err, fs.ErrNotExist) {
				return program.Usage(c, "nothing was loaded into %s", t)
			}
			if err != nil {
				return err
			}
			printStatus(c.OutOrStdout(), s)
			return nil
		},
	}
	t.flags(c)
	return c
}

func (t *target) status(c *cobra.Command) (load.Status, error) {
	if t.into != "" {
		return load.ReadStatus(t.into)
	}
	dsn, err := t.database()
	if err != nil {
		return load.Status{}, err
	}
	return load.ReadDatabaseStatus(c.Context(), dsn, t.schema)
}

func printStatus(w io.Writer, s load.Status) {
	fmt.Fprintf(w, "destination %s, format %s: %d batches, %d events, %d duplicates", s.Destination, s.Format, s.Batches, s.Rows, s.Duplicates)
	if s.Restricted > 0 {
		fmt.Fprintf(w, ", %d restricted", s.Restricted)
	}
	fmt.Fprintln(w)
	for _, n := range s.Nodes {
		if n.Number == 0 {
			fmt.Fprintf(w, "node %s: nothing applied\n", n.Node)
		} else {
			fmt.Fprintf(w, "node %s: entry %d, applied %s\n", n.Node, n.Number, n.At.Format(time.RFC3339))
		}
		if n.Failure != "" {
			fmt.Fprintf(w, "  stands still since %s: %s\n", n.Since.Format(time.RFC3339), n.Failure)
		}
	}
}
