package keyfile

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "keys")
	secret, err := Create(filepath.Join(dir, "lookup.key"), "lookup")
	if err != nil {
		t.Fatal(err)
	}
	if back, err := Read(filepath.Join(dir, "lookup.key"), "lookup"); err != nil || !bytes.Equal(back, secret) || len(back) != 32 {
		t.Fatalf("read %d bytes: %v", len(back), err)
	}
	private, err := CreateSigning(filepath.Join(dir, "signing.key"), "signing")
	if err != nil {
		t.Fatal(err)
	}
	back, err := ReadSigning(filepath.Join(dir, "signing.key"), "signing")
	if err != nil || !back.Equal(private) {
		t.Fatal("another private key:", err)
	}
	public, err := ReadPublic(filepath.Join(dir, "signing.key.pub"), "signing")
	if err != nil || !public.Equal(private.Public().(ed25519.PublicKey)) {
		t.Fatal("another public key:", err)
	}
	for path, mode := range map[string]os.FileMode{"": 0o700, "lookup.key": 0o600, "signing.key": 0o600, "signing.key.pub": 0o644} {
		if fi, err := os.Stat(filepath.Join(dir, path)); err != nil || fi.Mode().Perm()&^mode != 0 {
			t.Errorf("%q has mode %v, want at most %v (%v)", path, fi.Mode(), mode, err)
		}
	}
	if _, err := Create(filepath.Join(dir, "lookup.key"), "lookup"); !errors.Is(err, os.ErrExist) {
		t.Error("a key was overwritten:", err)
	}
}

// Each wrong file is told apart, and no message holds what stands in it.
func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	secret, err := Create(filepath.Join(dir, "right"), "lookup")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CreateSigning(filepath.Join(dir, "signing"), "lookup"); err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(secret)
	write := func(name, content string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
	}
	good := "octroi-lookup-v1:" + text + "\n"
	write("group", good, 0o640)
	write("world", good, 0o604)
	write("written by others", good, 0o622)
	write("kind", "octroi-spool-v1:"+text+"\n", 0o600)
	write("version", "octroi-lookup-v2:"+text+"\n", 0o600)
	write("bare", text+"\n", 0o600)
	write("empty", "", 0o600)
	write("short", "octroi-lookup-v1:"+text[:40]+"\n", 0o600)
	write("long", "octroi-lookup-v1:"+base64.StdEncoding.EncodeToString(append(secret, 1))+"\n", 0o600)
	write("two lines", good+good, 0o600)
	write("not base64", "octroi-lookup-v1:"+strings.Repeat("!", 44)+"\n", 0o600)
	write("huge", good+strings.Repeat(" ", maxBytes), 0o600)
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		"missing": ErrMissing, "group": ErrPermissions, "world": ErrPermissions, "written by others": ErrPermissions, "kind": ErrKind,
		"version": ErrKind, "bare": ErrKind, "empty": ErrKind, "signing.pub": ErrPermissions, "short": ErrMalformed, "long": ErrMalformed,
		"two lines": ErrMalformed, "not base64": ErrMalformed, "huge": ErrMalformed, "folder": ErrMalformed, "pipe": ErrMalformed, "right": nil,
	} {
		_, err := Read(filepath.Join(dir, name), "lookup")
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if err != nil && strings.Contains(err.Error(), text[:12]) {
			t.Errorf("%s: the message holds the key", name)
		}
	}
	if _, err := ReadPublic(filepath.Join(dir, "right"), "lookup"); !errors.Is(err, ErrKind) {
		t.Error("a secret passes for a public key:", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("octroi-lookup-v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
	f.Add("octroi-lookup-v1:")
	f.Fuzz(func(t *testing.T, content string) {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if key, err := Read(path, "lookup"); (err == nil) != (len(key) == 32) {
			t.Fatalf("%d bytes, %v", len(key), err)
		}
	})
}
