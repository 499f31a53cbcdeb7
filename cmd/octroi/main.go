// Command octroi is the gateway: the only process that faces the internet. It checks consent, pseudonymises, spools, and ships encrypted
// batches; it holds no key that opens them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes: 0 done; 1 failed; 2 the command line is wrong; 3 verification found something.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitEvidence = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "octroi: %v\n", err)
		os.Exit(exitCode(err)) //nolint:gocritic // nothing is left to stop
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "octroi",
		Short: "first-party consent and event-collection gateway",
		Long: `Octroi is a first-party gateway: no touchpoint event enters without a ground that covers
it, nothing that enters can be tied back to a person without a key that can be destroyed,
and nothing leaves except encrypted to a named recipient.

Begin with "octroi demo": it runs everything on this machine, with a shop to click through.`,
		Example: `  octroi demo                                   everything at once, on loopback
  octroi init --dir /srv/octroi --site shop     a real installation
  octroi check --config gateway/octroi.yaml     is the configuration right, and what does it do
  octroi serve --config gateway/octroi.yaml     run the gateway
  octroi snippet --url https://octroi.shop.example the lines to paste into a site's pages
  octroi token --name till --scope events:write a token for a back-end
  octroi verify log DIR --key log.key.pub       check the evidence offline`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noSuchCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
	})
	root.AddCommand(newInitCommand(), newServeCommand(), newCheckCommand(), newTokenCommand(), newVerifyCommand(), newEvidenceCommand(),
		newSnippetCommand(), newBackupCommand(), newRestoreCommand(), newDemoCommand(), newShopCommand(), newTrafficCommand())
	hint(root)
	return root
}

// noSuchCommand refuses what stands in the place of a subcommand.
func noSuchCommand(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unknown command %q", args[0])
	}
	return nil
}

// hint makes of a wrong argument of cmd, and of all below it, a usage error that says where to read on.
func hint(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		hint(c)
	}
}

// usageError is a wrong command line.
type usageError struct{ error }

// evidenceError is evidence that does not hold.
type evidenceError struct{ error }

func (e evidenceError) Unwrap() error { return e.error }

func exitCode(err error) int {
	switch err.(type) {
	case usageError:
		return exitUsage
	case evidenceError:
		return exitEvidence
	}
	return exitFailed
}

// configFlag adds --config to a command that needs the gateway's configuration.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "config", "octroi-data/gateway/octroi.yaml", "the gateway's configuration file")
}
