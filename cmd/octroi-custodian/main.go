// Command octroi-custodian holds the key that opens shipped batches, and carries out what data subjects ask for: it collects, cuts and deletes. See
// octroi-custodian --help, which is its manual.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command().ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "octroi-custodian:", strings.ReplaceAll(err.Error(), "\n", "\noctroi-custodian: "))
	}
	stop()
	os.Exit(exitCode(err))
}

// The errors of the program itself.
var (
	errUsage  = errors.New("usage") // a command line that cannot be followed; the text holds a hint
	errConfig = errors.New("configuration cannot be used")
	errUnsure = errors.New("not confirmed, and so nothing was done")
	errLeft   = errors.New("not everything could be done")
)

// exitCode is the table of the manual.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	for _, c := range []struct {
		is   error
		code int
	}{
		{errUsage, 2},
		{errUnsure, 2},
		{sweep.ErrInUse, 5},
		{errLeft, 4},
		{proof.ErrStatement, 4},
		{errRefused, 4},
		{errConfig, 6},
		{errToken, 6},
		{sweep.ErrToken, 6},
		{sweep.ErrAnswer, 6},
		{sweep.ErrMemory, 6},
		{export.ErrIdentity, 6},
		{export.ErrRefused, 6},
		{export.ErrRecipient, 6},
		{keyfile.ErrMissing, 6},
		{keyfile.ErrKind, 6},
		{keyfile.ErrPermissions, 6},
		{keyfile.ErrMalformed, 6},
		{fs.ErrNotExist, 6},
		{sweep.ErrAway, 3},
		{export.ErrUnavailable, 3},
	} {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return 1
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "octroi-custodian", Short: "collect, cut and delete what data subjects ask for", Long: manual,
		SilenceErrors: true, SilenceUsage: true, Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(c, "%w", err)
	})
	root.AddCommand(runCommand(), sweepCommand(), accessCommand(), approveCommand(), rewrapCommand(), verifyCommand())
	root.SetHelpCommand(&cobra.Command{Hidden: true})
	return root
}

// usage is a usage error with where to look.
func usage(c *cobra.Command, format string, values ...any) error {
	return usageError{text: fmt.Sprintf(strings.ReplaceAll(format, "%w", "%v"), values...) + "; see " + c.CommandPath() + " --help"}
}

type usageError struct{ text string }

func (e usageError) Error() string { return e.text }
func (e usageError) Unwrap() error { return errUsage }

func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(c, "unexpected argument %q", args[0])
	}
	return nil
}

// configFlag adds --config to a command that works as the custodian.
func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "config", "custodian.yaml", "the custodian's configuration")
}
