package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/octroi/octroi/export/load"
)

func statusCommand() *cobra.Command {
	var into string
	c := &cobra.Command{
		Use: "status", Short: "say how far a folder is loaded, and what stands still", Args: noArguments,
		Example: "  octroi-load status --into loaded",
		RunE: func(c *cobra.Command, _ []string) error {
			if into == "" {
				return usage(c, "--into is missing")
			}
			return printStatus(c, into)
		},
	}
	c.Flags().StringVar(&into, "into", "", "folder that was loaded into")
	return c
}

func printStatus(c *cobra.Command, into string) error {
	s, err := load.ReadStatus(into)
	if errors.Is(err, fs.ErrNotExist) {
		return usage(c, "nothing was loaded into %s", into)
	}
	if err != nil {
		return err
	}
	w := c.OutOrStdout()
	fmt.Fprintf(w, "destination %s, format %s: %d batches, %d events, %d duplicates\n", s.Destination, s.Format, s.Batches, s.Rows, s.Duplicates)
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
	return nil
}
