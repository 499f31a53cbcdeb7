// Command octroi-load loads a destination's batches into a folder or PostgreSQL, each event exactly once. See octroi-load --help, which is its manual.
package main

import (
	"github.com/spf13/cobra"

	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/cmd/internal/program"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load"
)

func main() { program.Main(command(), table()) }

// table is that of the manual. Of several nodes' errors the one that needs somebody counts, so they are in order.
func table() []program.Exit {
	return []program.Exit{
		{Is: load.ErrHash, Code: 4},
		{Is: load.ErrLost, Code: 4},
		{Is: load.ErrRows, Code: 4},
		{Is: load.ErrNotice, Code: 4},
		{Is: load.ErrStatement, Code: 4},
		{Is: export.ErrSignature, Code: 4},
		{Is: export.ErrEntry, Code: 4},
		{Is: export.ErrChain, Code: 4},
		{Is: export.ErrGap, Code: 4},
		{Is: export.ErrSchema, Code: 4},
		{Is: export.ErrSeal, Code: 4},
		{Is: load.ErrLocked, Code: 5},
		{Is: load.ErrFolder, Code: 6},
		{Is: load.ErrChanged, Code: 6},
		{Is: load.ErrDenied, Code: 6},
		{Is: load.ErrAckAddress, Code: 6},
		{Is: export.ErrIdentity, Code: 6},
		{Is: export.ErrRefused, Code: 6},
		{Is: keyfile.ErrMissing, Code: 6},
		{Is: keyfile.ErrKind, Code: 6},
		{Is: keyfile.ErrPermissions, Code: 6},
		{Is: keyfile.ErrMalformed, Code: 6},
		{Is: export.ErrUnavailable, Code: 3},
		{Is: load.ErrDatabase, Code: 3},
	}
}

func command() *cobra.Command {
	root := program.Root("octroi-load", "load a destination's batches into a folder or PostgreSQL, each event exactly once", manual)
	root.AddCommand(onceCommand(), followCommand(), statusCommand())
	return root
}
