package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/octroi/octroi/collector"
)

// A site's key of login claims: the private key is the site's alone, in its folder; the gateway has the public one among its keys.
const (
	siteDir         = "site"
	loginKeyFile    = "login.key"      // PEM, PKCS #8, so that any language can sign with it
	loginPublicFile = "keys/login.pem" // in the gateway's folder
	maxLoginKey     = 16 << 10         // bytes of a file; RSA of 8192 bits takes 7 KiB
)

// createLoginKey makes the pair of a site.
func createLoginKey(site, gateway string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("making login key: %w", err)
	}
	pkcs8, err1 := x509.MarshalPKCS8PrivateKey(private)
	spki, err2 := x509.MarshalPKIXPublicKey(public)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("making login key: %w", err)
	}
	err = writeNew(filepath.Join(site, loginKeyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600)
	if err != nil {
		return err
	}
	return writeNew(filepath.Join(gateway, loginPublicFile), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), 0o644)
}

// readLoginKey reads the site's half, which createLoginKey wrote.
func readLoginKey(path string) (crypto.Signer, error) {
	text, err := readPlain(path)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(text); block != nil {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if signer, ok := key.(crypto.Signer); ok {
				return signer, nil
			}
		}
	}
	return nil, fmt.Errorf("%s: not a PEM file of one private key (PKCS #8)", path)
}

// loginKey is the public key that a site's login claims are checked with; nil where it has none.
func (c *Config) loginKey(s *SiteConfig) (crypto.PublicKey, error) {
	if s.Login == "" {
		return nil, nil
	}
	text, err := readPlain(c.path(s.Login))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("no such file: the site's back-end makes the key pair and gives you the public half")
	}
	if err != nil {
		return nil, err
	}
	return collector.ParseLoginKey(text)
}

// readPlain reads a plain file of bounded size: a pipe would wait for ever, a device never end.
func readPlain(path string) ([]byte, error) {
	about, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !about.Mode().IsRegular() || about.Size() > maxLoginKey {
		return nil, fmt.Errorf("not a plain file of at most %d bytes", maxLoginKey)
	}
	return os.ReadFile(path)
}
