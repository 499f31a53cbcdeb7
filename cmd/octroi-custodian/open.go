package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/sweep"
)

// logOrigin names the evidence log of a node, as the gateway does (C2SP tlog-checkpoint).
func logOrigin(node string) string { return "octroi/" + node }

// holder is a custodian with its keys and its ways to store and gateway, before its state is opened.
type holder struct {
	config  *Config
	options sweep.Options
	client  *sweep.Client
}

// open reads the configuration and every key: the error lists all that are missing or wrong.
func open(path string) (*holder, error) {
	c, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	h := &holder{config: c}
	o := &h.options
	*o = sweep.Options{Recipients: c.pinned(), State: c.path(c.State), Temp: c.path(c.Temp), DailyCap: c.DailyCap, Poll: c.Poll}
	var wrong [6]error
	o.Key, wrong[0] = keyfile.ReadSigning(c.path(c.Key), "custodian")
	o.Stream, wrong[1] = keyfile.ReadPublic(c.path(c.SigningKey), "signing")
	o.Approval, wrong[2] = keyfile.ReadPublic(c.path(c.ApprovalKey), "approval")
	o.Log, wrong[3] = c.log()
	o.Identities, wrong[4] = readIdentities(c.path(c.Identity))
	if h.client, err = sweep.NewClient(sweep.ClientOptions{
		URL: c.Gateway.URL, Plain: c.Gateway.Plain, Token: c.path(c.Gateway.Token), CA: c.path(c.Gateway.CA), Timeout: c.Gateway.Timeout,
	}); err != nil {
		wrong[5] = fmt.Errorf("%w: gateway: %w", errConfig, err)
	}
	if err := errors.Join(wrong[:]...); err != nil {
		return nil, err
	}
	o.Gateway = h.client
	o.Archive, err = c.openObjects()
	return h, err
}

func (c *Config) log() (*evidence.Verifier, error) {
	key, err := keyfile.ReadPublic(c.path(c.LogKey), "log")
	if err != nil {
		return nil, err
	}
	return evidence.NewVerifier(logOrigin(c.Gateway.Node), key)
}

// logger is where what must be known goes: counts, codes and ids of batches and requests.
func (h *holder) logger(level slog.Level) {
	h.options.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// readIdentities reads a file that only its owner may read.
func readIdentities(path string) (export.Identities, error) {
	about, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return export.Identities{}, fmt.Errorf("%s: %w: give the file of the custodian's age identity (E)", path, keyfile.ErrMissing)
	case err != nil:
		return export.Identities{}, fmt.Errorf("reading identity: %w", err)
	case about.Mode().Perm()&0o077 != 0:
		return export.Identities{}, fmt.Errorf("%s: %w: chmod 600 it", path, keyfile.ErrPermissions)
	case !about.Mode().IsRegular() || about.Size() > maxConfigBytes:
		return export.Identities{}, fmt.Errorf("%s: %w: not a plain file", path, keyfile.ErrMalformed)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return export.Identities{}, fmt.Errorf("reading identity: %w", err)
	}
	ids, err := export.ParseIdentities(text)
	if err != nil {
		return export.Identities{}, fmt.Errorf("%s: %w: %w", path, keyfile.ErrMalformed, err)
	}
	return ids, nil
}
