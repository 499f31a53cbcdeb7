package main

import (
	"fmt"
	"os"

	"github.com/octroi/octroi/cmd/octroi/privacy"
)

// addPrivacy adds the page on which persons see and use their rights to the public listener.
func (g *gateway) addPrivacy() error {
	sites, err := g.config.sites()
	if err != nil {
		return err
	}
	keys, err := g.publicKeys()
	if err != nil {
		return err
	}
	pages, err := privacy.Open(privacy.Options{
		Edge: g.edge, Ledger: g.ledger, Rights: g.rights, Policy: g.policy, Sites: sites, Secret: g.keys.Snapshot, Keys: keys,
		Loopback: isLoopback(g.config.Listen.Public), Log: g.log,
	})
	if err != nil {
		return fmt.Errorf("opening the privacy page: %w", err)
	}
	pages.Routes(g.public)
	return nil
}

// publicKeys are what a person verifies receipts and certificates with, as the files that `octroi verify` reads.
func (g *gateway) publicKeys() (list []privacy.PublicKey, err error) {
	for _, kind := range []string{"log", "signing", "custodian"} {
		text, err := os.ReadFile(keyPath(g.config.path(g.config.Keys), kind) + ".pub")
		if err != nil {
			return nil, fmt.Errorf("reading public key: %w", err)
		}
		list = append(list, privacy.PublicKey{Name: kind + ".key.pub", Text: string(text)})
	}
	return list, nil
}
