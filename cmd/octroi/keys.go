package main

import (
	"crypto/ed25519"
	"errors"
	"path/filepath"

	"github.com/octroi/octroi/cmd/internal/keyfile"
)

// Keys are the gateway's secrets, one file each in the keys folder (architecture.md "Who holds which secret"). It holds no age identity: what
// it has shipped it cannot read.
type Keys struct {
	Lookup      []byte             // identifier → tag
	Suppression []byte             // remembers erased tags
	State       []byte             // the state database at rest
	Snapshot    []byte             // notices as served
	Spool       []byte             // payloads without a subject, and hashes of duplicate detection
	Export      []byte             // references, event ids without a subject, receipt grids
	Token       ed25519.PrivateKey // access tokens
	Signing     ed25519.PrivateKey // stream and receipts
	Log         ed25519.PrivateKey // checkpoints of the evidence log
}

// The kinds of the gateway's key files; the file is <kind>.key.
var (
	secretKinds  = []string{"lookup", "suppression", "state", "snapshot", "spool", "export"}
	signingKinds = []string{"token", "signing", "log"}
)

func keyPath(dir, kind string) string { return filepath.Join(dir, kind+".key") }

// ReadKeys reads every key of the gateway; the error lists all that are missing or wrong.
func ReadKeys(dir string) (*Keys, error) {
	k := new(Keys)
	var wrong []error
	for i, to := range []*[]byte{&k.Lookup, &k.Suppression, &k.State, &k.Snapshot, &k.Spool, &k.Export} {
		var err error
		*to, err = keyfile.Read(keyPath(dir, secretKinds[i]), secretKinds[i])
		wrong = append(wrong, err)
	}
	for i, to := range []*ed25519.PrivateKey{&k.Token, &k.Signing, &k.Log} {
		var err error
		*to, err = keyfile.ReadSigning(keyPath(dir, signingKinds[i]), signingKinds[i])
		wrong = append(wrong, err)
	}
	return k, errors.Join(wrong...)
}

// CreateKeys writes new keys; it never overwrites one.
func CreateKeys(dir string) error {
	for _, kind := range secretKinds {
		if _, err := keyfile.Create(keyPath(dir, kind), kind); err != nil {
			return err
		}
	}
	for _, kind := range signingKinds {
		if _, err := keyfile.CreateSigning(keyPath(dir, kind), kind); err != nil {
			return err
		}
	}
	return nil
}
