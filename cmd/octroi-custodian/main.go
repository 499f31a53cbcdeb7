// Command octroi-custodian holds the key that opens shipped batches, and carries out what data subjects ask for: it collects, cuts and deletes. See
// octroi-custodian --help, which is its manual.
package main

import (
	"errors"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/cmd/internal/program"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
)

func main() { program.Main(command(), table()) }

// The errors of the program itself.
var (
	errConfig = errors.New("configuration cannot be used")
	errUnsure = errors.New("not confirmed, and so nothing was done")
	errLeft   = errors.New("not everything could be done")
)

// table is that of the manual.
func table() []program.Exit {
	return []program.Exit{
		{Is: errUnsure, Code: 2},
		{Is: sweep.ErrInUse, Code: 5},
		{Is: errLeft, Code: 4},
		{Is: proof.ErrStatement, Code: 4},
		{Is: errRefused, Code: 4},
		{Is: errConfig, Code: 6},
		{Is: errToken, Code: 6},
		{Is: sweep.ErrToken, Code: 6},
		{Is: sweep.ErrAnswer, Code: 6},
		{Is: sweep.ErrMemory, Code: 6},
		{Is: export.ErrIdentity, Code: 6},
		{Is: export.ErrRefused, Code: 6},
		{Is: export.ErrRecipient, Code: 6},
		{Is: keyfile.ErrMissing, Code: 6},
		{Is: keyfile.ErrKind, Code: 6},
		{Is: keyfile.ErrPermissions, Code: 6},
		{Is: keyfile.ErrMalformed, Code: 6},
		{Is: fs.ErrNotExist, Code: 6},
		{Is: sweep.ErrAway, Code: 3},
		{Is: export.ErrUnavailable, Code: 3},
	}
}

func command() *cobra.Command {
	root := program.Root("octroi-custodian", "collect, cut and delete what data subjects ask for", manual)
	root.AddCommand(runCommand(), sweepCommand(), accessCommand(), approveCommand(), rewrapCommand(), verifyCommand())
	return root
}

// configFlag adds --config to a command that works as the custodian.
func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "config", "custodian.yaml", "the custodian's configuration")
}
