package keyfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeysRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "lookup.key")
	made, err := Create(path, "lookup")
	if err != nil {
		t.Fatal(err)
	}
	read, err := Read(path, "lookup")
	if err != nil || !bytes.Equal(made, read) || len(read) != 32 {
		t.Fatalf("read %d bytes: %v", len(read), err)
	}
	if _, err := Create(path, "lookup"); !errors.Is(err, os.ErrExist) {
		t.Errorf("a key was overwritten: %v", err)
	}
	key, err := CreateSigning(filepath.Join(filepath.Dir(path), "log.key"), "log")
	if err != nil {
		t.Fatal(err)
	}
	public, err := ReadPublic(filepath.Join(filepath.Dir(path), "log.key.pub"), "log")
	if err != nil || !public.Equal(key.Public()) {
		t.Errorf("public key: %v", err)
	}
	if private, err := ReadSigning(filepath.Join(filepath.Dir(path), "log.key"), "log"); err != nil || !private.Equal(key) {
		t.Errorf("private key: %v", err)
	}
}

// Whatever is wrong with a key file, the error names file and kind, and holds nothing of the key.
func TestWrongKeysAreRefused(t *testing.T) {
	const secret = "c2VjcmV0LWNhbmFyeS1zZWNyZXQtY2FuYXJ5LXNlY3I="
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		want    error
	}{
		"other kind": {"octroi-spool-v1:" + secret + "\n", 0o600, ErrKind},
		"no kind":    {secret, 0o600, ErrKind},
		"short":      {"octroi-lookup-v1:c2hvcnQ=\n", 0o600, ErrMalformed},
		"no base64":  {"octroi-lookup-v1:!!" + secret + "\n", 0o600, ErrMalformed},
		"empty":      {"", 0o600, ErrKind},
		"readable":   {"octroi-lookup-v1:" + secret + "\n", 0o644, ErrPermissions},
	} {
		path := filepath.Join(t.TempDir(), "lookup.key")
		if err := os.WriteFile(path, []byte(c.content), c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path, "lookup"); !errors.Is(err, c.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none.key"), "lookup"); !errors.Is(err, ErrMissing) {
		t.Errorf("missing: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("octroi-lookup-v1:c2VjcmV0LWNhbmFyeS1zZWNyZXQtY2FuYXJ5LXNlY3I=\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "lookup.key")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if key, err := Read(path, "lookup"); err == nil && len(key) != 32 {
			t.Fatalf("a key of %d bytes", len(key))
		}
	})
}
