package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newServeCommand() *cobra.Command {
	var path string
	var debug bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "run the gateway",
		Long: `Runs the gateway until SIGINT or SIGTERM; then it takes no new events, ships what is spooled, and ends.
It writes JSON lines to standard error, without personal data: what is not known to be harmless is redacted.

On a loopback address the cookie is "octroi-dev" without Secure, for development. On any other address it is
"__Host-octroi" with Secure: put a TLS proxy before it.`,
		Example: `  octroi serve --config /srv/octroi/gateway/octroi.yaml
  curl http://127.0.0.1:8081/readyz`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if debug {
				level = slog.LevelDebug
			}
			log := newLogger(os.Stderr, level)
			c, err := ReadConfig(path)
			if err != nil {
				return err
			}
			k, err := ReadKeys(c.path(c.Keys))
			if err != nil {
				return fmt.Errorf("reading keys:\n%w", err)
			}
			boundMemory(c.Memory)
			g, err := openGateway(cmd.Context(), c, k, log)
			if cmd.Context().Err() != nil && errors.Is(err, context.Canceled) {
				return nil // asked to stop while it was starting
			}
			if err != nil {
				return err
			}
			return errors.Join(g.run(cmd.Context()), g.close())
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&debug, "debug", false, "log more")
	return cmd
}

// defaultMemory holds a million subjects under load, and leaves room beside it for the database's files in memory.
const defaultMemory = 320 << 20

// boundMemory lets the collector of garbage run rarely while there is room, and hard when there is not: the bound is what an operator can
// plan with, a ratio is not. GOGC and GOMEMLIMIT, where they are set, win.
func boundMemory(bytes int64) {
	if bytes == 0 {
		bytes = defaultMemory
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytes)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
}
