// Command octroi-load loads a destination's batches into a folder or PostgreSQL, each event exactly once. See octroi-load --help, which is its manual.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command().ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "octroi-load:", strings.ReplaceAll(err.Error(), "\n", "\noctroi-load: "))
	}
	stop()
	os.Exit(exitCode(err))
}

// errUsage is a command line that cannot be followed; its text holds a hint.
var errUsage = errors.New("usage")

// exitCode is the table of the manual.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	// In order: of several nodes' errors the one that needs somebody counts.
	for _, c := range []struct {
		is   error
		code int
	}{
		{errUsage, 2},
		{load.ErrHash, 4},
		{load.ErrLost, 4},
		{load.ErrRows, 4},
		{load.ErrNotice, 4},
		{load.ErrStatement, 4},
		{export.ErrSignature, 4},
		{export.ErrEntry, 4},
		{export.ErrChain, 4},
		{export.ErrGap, 4},
		{export.ErrSchema, 4},
		{export.ErrSeal, 4},
		{load.ErrLocked, 5},
		{load.ErrFolder, 6},
		{load.ErrChanged, 6},
		{load.ErrDenied, 6},
		{load.ErrAckAddress, 6},
		{export.ErrIdentity, 6},
		{export.ErrRefused, 6},
		{keyfile.ErrMissing, 6},
		{keyfile.ErrKind, 6},
		{keyfile.ErrPermissions, 6},
		{keyfile.ErrMalformed, 6},
		{export.ErrUnavailable, 3},
		{load.ErrDatabase, 3},
	} {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return 1
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "octroi-load", Short: "load a destination's batches into a folder or PostgreSQL, each event exactly once", Long: manual,
		SilenceErrors: true, SilenceUsage: true, Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(c, "%w", err)
	})
	root.AddCommand(onceCommand(), followCommand(), statusCommand())
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
