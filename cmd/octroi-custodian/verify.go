package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/octroi/octroi/cmd/internal/program"

	"github.com/spf13/cobra"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/sweep"
)

func verifyCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "verify", Short: "check configuration, keys, store, gateway and state", Args: program.NoArguments,
		Long: `Checks that the custodian can work: the configuration and every key file; that the identity opens what is encrypted to the custodian's recipient, and
one shipped batch of each destination; that the store allows what the custodian does and keeps nothing for longer than an erasure may
take; that the gateway answers and is the one that is configured; and its own state. It changes nothing but a test object of the store.`,
		Example: "  octroi-custodian verify --config custodian.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := open(path)
			if err != nil {
				return err
			}
			return h.verify(c.Context(), c.OutOrStdout())
		},
	}
	configFlag(c, &path)
	return c
}

// verify runs every check, also after one has failed, and prints what each found.
func (h *holder) verify(ctx context.Context, w io.Writer) error {
	fmt.Fprintln(w, "ok  configuration and keys")
	checks := []struct {
		what string
		run  func(context.Context) (string, error)
	}{
		{"identity", h.verifyIdentity},
		{"store", h.verifyStore},
		{"batches", h.verifyBatches},
		{"gateway", h.verifyGateway},
		{"state", h.verifyState},
	}
	var wrong []error
	for _, x := range checks {
		found, err := x.run(ctx)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", x.what, err))
			fmt.Fprintf(w, "no  %s\n", x.what)
			continue
		}
		fmt.Fprintf(w, "ok  %s: %s\n", x.what, found)
	}
	return errors.Join(wrong...)
}

// verifyIdentity: what is sealed for each destination as configured, E opens.
func (h *holder) verifyIdentity(context.Context) (string, error) {
	for _, d := range h.config.Destinations {
		r, err := d.recipients()
		if err != nil {
			return "", err
		}
		var sealed bytes.Buffer
		out, err := export.Seal(&sealed, r)
		if err == nil {
			err = out.Close()
		}
		if err != nil {
			return "", err
		}
		if _, err := export.Unseal(&sealed, h.options.Identities); err != nil {
			return "", fmt.Errorf("recipient custodian of %s is another's: %w", d.Name, err)
		}
	}
	return "it opens what is encrypted to the custodian", nil
}

func (h *holder) verifyStore(ctx context.Context) (string, error) {
	if err := export.CheckArchive(ctx, h.options.Archive, export.ErasureDeadline); err != nil {
		return "", err
	}
	return "versions can be listed and deleted", nil
}

var errOne = errors.New("one is enough")

// verifyBatches opens the first batch of each destination that has one.
func (h *holder) verifyBatches(ctx context.Context) (string, error) {
	opened := 0
	for _, d := range h.config.Destinations {
		var key string
		err := h.options.Archive.List(ctx, d.Name+"/events/", "", func(k string, _ int64) error {
			key = k
			return errOne
		})
		if err != nil && !errors.Is(err, errOne) {
			return "", err
		}
		if key == "" {
			continue
		}
		if err := h.openBatch(ctx, key); err != nil {
			return "", fmt.Errorf("%s: %w", key, err)
		}
		opened++
	}
	return fmt.Sprintf("opened one of %d of %d destinations", opened, len(h.config.Destinations)), nil
}

func (h *holder) openBatch(ctx context.Context, key string) error {
	body, err := h.options.Archive.Get(ctx, key, "")
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = export.Unseal(body, h.options.Identities)
	return err
}

func (h *holder) verifyGateway(ctx context.Context) (string, error) {
	work, err := h.client.Work(ctx)
	if err != nil {
		return "", err
	}
	if work.Node != h.config.Gateway.Node {
		return "", fmt.Errorf("%w: gateway.node is %q, and it calls itself %.64q", errConfig, h.config.Gateway.Node, work.Node)
	}
	return fmt.Sprintf("%s answers: %d requests are open", work.Node, len(work.Items)), nil
}

// verifyState: a custodian that runs has the state folder, and that is as it should be.
func (h *holder) verifyState(context.Context) (string, error) {
	err := h.work(func(*sweep.Sweep) error { return nil })
	if errors.Is(err, sweep.ErrInUse) {
		return "a custodian runs with it", nil
	}
	return "it can be read", err
}
