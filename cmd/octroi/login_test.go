package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What init --login makes goes together, and the gateway has the public half alone.
func TestLoginKey(t *testing.T) {
	path, _ := newConfig(t, func(p *initPlan) { p.login = true })
	c, err := ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(filepath.Dir(path))
	private, err := readLoginKey(filepath.Join(dir, siteDir, loginKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	sites, err := c.sites()
	if err != nil || !private.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(sites[0].Login) {
		t.Errorf("the gateway believes another key: %v", err)
	}
	if about, err := os.Stat(filepath.Join(dir, siteDir, loginKeyFile)); err != nil || about.Mode().Perm() != 0o600 {
		t.Errorf("others may read the site's key: %v %v", about, err)
	}
	if _, err := readLoginKey(filepath.Join(dir, gatewayDir, loginPublicFile)); err == nil {
		t.Error("the gateway's half signs")
	}
	if _, err := os.Stat(filepath.Join(dir, gatewayDir, "keys", loginKeyFile)); err == nil {
		t.Error("the gateway has the site's key")
	}
}

// What is no public key is refused by line, before anything is opened.
func TestLoginKeyRefused(t *testing.T) {
	path, text := newConfig(t, func(p *initPlan) { p.login = true })
	keys := filepath.Join(filepath.Dir(path), "keys")
	private, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"private.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), "empty.pem": nil, "large.pem": make([]byte, maxLoginKey+1),
	} {
		if err := os.WriteFile(filepath.Join(keys, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]string{
		"keys/private.pem": "not a PEM file of one public key", "keys/empty.pem": "not a PEM file of one public key", "keys/large.pem": "not a plain file",
		"keys": "not a plain file", "keys/missing.pem": "no such file",
	} {
		if err := os.WriteFile(path, []byte(strings.Replace(text, loginPublicFile, file, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadConfig(path)
		if err == nil || !strings.Contains(err.Error(), "sites[0].login: "+want) || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: %v", file, err)
		}
	}
}
