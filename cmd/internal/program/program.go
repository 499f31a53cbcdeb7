// Package program is the frame of a command line: signals end it, every error is one line a line with the program's name, a wrong command line says
// where to read on, and the exit code follows from a table that the manual shows.
package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// ErrUsage is a command line that cannot be followed; its text holds a hint. Its exit code is 2.
var ErrUsage = errors.New("usage")

// Exit is what the program ends with after an error.
type Exit struct {
	Is   error
	Code int
}

// Code is that of the first line of the table that err is; 0 for none, 2 for a wrong command line, 1 for what the table does not have.
func Code(err error, table []Exit) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrUsage):
		return 2
	}
	for _, x := range table {
		if errors.Is(err, x.Is) {
			return x.Code
		}
	}
	return 1
}

// Main runs root until it is done or a signal asks it to end, and exits.
func Main(root *cobra.Command, table []Exit) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root.ExecuteContext(ctx)
	stop()
	if err != nil {
		name := root.Name() + ": "
		fmt.Fprintln(os.Stderr, name+strings.ReplaceAll(err.Error(), "\n", "\n"+name))
	}
	os.Exit(Code(err, table))
}

// Root is the command of the program itself: without a subcommand it shows its manual.
func Root(name, short, manual string) *cobra.Command {
	root := &cobra.Command{
		Use: name, Short: short, Long: manual,
		SilenceErrors: true, SilenceUsage: true, Args: NoArguments,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return Usage(c, "%v", err) })
	root.SetHelpCommand(&cobra.Command{Hidden: true})
	return root
}

// Usage is an ErrUsage that says where to read on.
func Usage(c *cobra.Command, format string, values ...any) error {
	return usageError{fmt.Sprintf(format, values...) + "; see " + c.CommandPath() + " --help"}
}

type usageError struct{ text string }

func (e usageError) Error() string { return e.text }
func (e usageError) Unwrap() error { return ErrUsage }

// NoArguments is for commands that have flags only.
func NoArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usage(c, "unexpected argument %q", args[0])
	}
	return nil
}
