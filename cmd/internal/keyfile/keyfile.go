// Package keyfile reads and writes the files that hold one secret each.
//
// A key file is one line, "octroi-<kind>-v1:<base64>", readable by its owner only. The kind makes a file in the wrong place an error and
// not a wrong answer; errors name the file and the kind, never the content.
package keyfile

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The errors of this package.
var (
	ErrMissing     = errors.New("key file is missing")
	ErrKind        = errors.New("key file is of another kind")
	ErrPermissions = errors.New("key file can be read by others")
	ErrMalformed   = errors.New("key file is malformed")
)

// Create writes a new random 32-byte secret of a kind; it never overwrites.
func Create(path, kind string) ([]byte, error) {
	secret := make([]byte, 32)
	rand.Read(secret)
	return secret, Write(path, kind, secret, 0o600)
}

// CreateSigning writes a new Ed25519 key pair: the seed at path, the public key at path + ".pub".
func CreateSigning(path, kind string) (ed25519.PrivateKey, error) {
	seed, err := Create(path, kind)
	if err != nil {
		return nil, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	return key, Write(path+".pub", kind+"-public", key.Public().(ed25519.PublicKey), 0o644)
}

// Write puts a key into a new file.
func Write(path, kind string, key []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("creating key folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("creating %s key: %w", kind, err)
	}
	_, err = fmt.Fprintf(f, "octroi-%s-v1:%s\n", kind, base64.StdEncoding.EncodeToString(key))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s key: %w", kind, err)
	}
	return nil
}

// Read reads a 32-byte secret of a kind. A secret that others may read is refused.
func Read(path, kind string) ([]byte, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w (kind %s): put it back from the offline safe", path, ErrMissing, kind)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s key: %w", kind, err)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: %w: chmod 600 it", path, ErrPermissions)
	}
	return read(path, kind)
}

// ReadSigning reads an Ed25519 private key written by CreateSigning.
func ReadSigning(path, kind string) (ed25519.PrivateKey, error) {
	seed, err := Read(path, kind)
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// ReadPublic reads a public key written by CreateSigning; kind is without "-public".
func ReadPublic(path, kind string) (ed25519.PublicKey, error) {
	key, err := read(path, kind+"-public")
	return ed25519.PublicKey(key), err
}

func read(path, kind string) ([]byte, error) {
	b, err := readFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w (kind %s)", path, ErrMissing, kind)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s key: %w", kind, err)
	}
	text, ok := bytes.CutPrefix(bytes.TrimSpace(b), []byte("octroi-"+kind+"-v1:"))
	if !ok {
		return nil, fmt.Errorf("%s: %w: expected %s", path, ErrKind, kind)
	}
	key, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("%s: %w", path, ErrMalformed)
	}
	return key, nil
}

// maxBytes bounds a key file; one line of ours has about 80.
const maxBytes = 4096

// readFile reads a plain file: a pipe would wait for ever, a device never end.
func readFile(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxBytes {
		return nil, fmt.Errorf("%s: %w: not a plain file of one line", path, ErrMalformed)
	}
	return os.ReadFile(path)
}
