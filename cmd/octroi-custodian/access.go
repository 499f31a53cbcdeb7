package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/octroi/octroi/cmd/internal/program"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
)

func accessCommand() *cobra.Command {
	var f sweepFlags
	var request, out string
	c := &cobra.Command{
		Use: "access", Short: "make the access packages that are pending, then end", Args: program.NoArguments,
		Long: `Makes the package of every pending access request and uploads it to the gateway, where it is kept sealed and opened once. Erasures are left alone.

With --request and --out it makes the package of one request, and keeps a copy in a new file that only its owner can read: a zip archive, or
an age file where the request names a recipient. The data protection officer must have approved that request by signature, whoever made
it: the file is the person's data, in the custodian's hands.`,
		Example: "  octroi-custodian access\n  octroi-custodian access --request 3f6b2a8e-1c4d-4e5f-8a9b-0c1d2e3f4a5b --out package.zip",
		RunE: func(c *cobra.Command, _ []string) error {
			if (request == "") != (out == "") {
				return program.Usage(c, "--request and --out go together")
			}
			if _, err := uuid.Parse(request); request != "" && err != nil {
				return program.Usage(c, "--request is not the id of a request")
			}
			if _, err := os.Lstat(out); out != "" && err == nil {
				return program.Usage(c, "%s is there already: name a new file", out)
			}
			h, err := open(f.config)
			if err != nil {
				return err
			}
			only := &onlyAccess{Gateway: h.client, request: request, out: out, approval: h.options.Approval}
			h.options.Gateway = only
			if err := h.once(c, f); err != nil || out == "" {
				return err
			}
			return only.kept()
		},
	}
	configFlag(c, &f.config)
	c.Flags().StringVar(&request, "request", "", "id of one request")
	c.Flags().StringVar(&out, "out", "", "new file for a copy of its package")
	c.Flags().BoolVar(&f.quiet, "quiet", false, "no progress")
	c.Flags().BoolVar(&f.machine, "json", false, "the result as JSON")
	return c
}

// onlyAccess is the gateway's work without what is no access, or not the one that was asked for.
type onlyAccess struct {
	sweep.Gateway
	request, out string // out: where its package is copied to
	approval     ed25519.PublicKey

	offered, approved, written bool
}

var errNotOffered = errors.New("the gateway does not offer this access request")

// Work is the gateway's, cut down.
func (g *onlyAccess) Work(ctx context.Context) (proof.Work, error) {
	work, err := g.Gateway.Work(ctx)
	if err != nil {
		return work, err
	}
	work.Notices, work.Journal = nil, nil
	var items []proof.Item
	for _, item := range work.Items {
		if item.Job.Right == proof.Access && (g.out == "" || g.takes(&item)) {
			items = append(items, item)
		}
	}
	work.Items = items
	for i := range work.Batches {
		if work.Batches[i].Stage == proof.BatchPurge {
			work.Batches[i].Stage = proof.BatchDone // it can be read, and is not purged here
		}
	}
	return work, nil
}

// takes says whether it is the one request, approved by signature.
func (g *onlyAccess) takes(item *proof.Item) bool {
	if item.Job.Request != g.request {
		return false
	}
	g.offered = true
	job, err := proof.VerifyApproval(item.Approval, g.approval)
	g.approved = err == nil && job.Same(&item.Job)
	return g.approved
}

// Package copies the package of the one request before it is uploaded.
func (g *onlyAccess) Package(ctx context.Context, request, report string, body io.ReadSeeker, size int64) error {
	if g.out != "" && !g.written {
		if err := copyTo(g.out, body, size); err != nil {
			return fmt.Errorf("keeping a copy of the package: %w", err)
		}
		g.written = true
	}
	return g.Gateway.Package(ctx, request, report, body, size)
}

// copyTo writes a file that must not exist yet, and that only its owner can read.
func copyTo(path string, body io.ReadSeeker, size int64) error {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, body, size)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// kept says why there is no copy.
func (g *onlyAccess) kept() error {
	switch {
	case g.written:
		return nil
	case g.offered && !g.approved:
		return fmt.Errorf("%w: the request is not approved by signature: octroi-custodian approve %s", errLeft, g.request)
	case g.offered:
		return fmt.Errorf("%w: its package could not be made yet", errLeft)
	}
	return fmt.Errorf("%w: %w: it is another's, is not ready, or was carried out", errLeft, errNotOffered)
}
