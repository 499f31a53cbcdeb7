package main

import (
	"bytes"
	"encoding/base64"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/export"
)

// Invariant 4: who has the shipped bucket and everything the gateway owns, keys included, opens not one object.
func TestGatewayCannotOpenWhatItShipped(t *testing.T) {
	dir := t.TempDir()
	h := openHouse(t, dir)
	browser, _, _ := h.visitor()
	h.accept(browser, map[string]any{"id": "e1", "type": "page_view"})
	h.accept(h.bearer(collector.TokenClaims{Scopes: []string{"events:write"}, Declare: []string{"service"}}),
		map[string]any{"id": "e2", "type": "store_purchase", "subject": map[string]string{"loyalty": "card-1"}})
	h.flush()
	h.shut()
	objects := files(t, filepath.Join(dir, "objects"), ".age")
	if len(objects) != 2 {
		t.Fatalf("%d objects were shipped, want one a destination", len(objects))
	}
	// Every 32 bytes that the gateway owns, taken as an age identity; and every identity that stands in a file.
	tried := 0
	for _, path := range files(t, filepath.Join(dir, gatewayDir), "") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("AGE-SECRET-KEY")) {
			t.Errorf("%s holds an age identity", path)
		}
		for _, secret := range secrets(b) {
			tried++
			ids, err := export.ParseIdentities([]byte(bech32Identity(secret)))
			if err != nil {
				t.Fatalf("the test's own spelling of an identity: %v", err)
			}
			for _, o := range objects {
				if opens(t, o, ids) {
					t.Errorf("a secret of %s opens %s", filepath.Base(path), filepath.Base(o))
				}
			}
		}
	}
	if tried < 9 {
		t.Fatalf("only %d secrets were tried", tried)
	}
	// The same attempt with the custodian's identity opens both: the attempt itself is right.
	text, err := os.ReadFile(filepath.Join(dir, custodianDir, "identity.txt"))
	if err != nil {
		t.Fatal(err)
	}
	ids, err := export.ParseIdentities(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if !opens(t, o, ids) {
			t.Errorf("the custodian cannot open %s", o)
		}
	}
}

func files(t *testing.T, dir, suffix string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, suffix) {
			out = append(out, path)
		}
		return err
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("no file below %s: %v", dir, err)
	}
	return out
}

// secrets are the key of a key file, and the keys of a slot file.
func secrets(b []byte) (out [][]byte) {
	if kind, text, ok := bytes.Cut(b, []byte("-v1:")); ok && bytes.HasPrefix(kind, []byte("octroi-")) {
		return [][]byte{decodeBase64(bytes.TrimSpace(text))}
	}
	if bytes.HasPrefix(b, []byte("OCTSLOTS")) {
		for at := 4096; at < 4096+64*20; at += 64 {
			out = append(out, b[at+16:at+48])
		}
	}
	return out
}

func opens(t *testing.T, object string, ids export.Identities) bool {
	t.Helper()
	f, err := os.Open(object)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := export.Unseal(f, ids)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r)
	return err == nil
}

// bech32Identity spells 32 bytes as an age identity (BIP 173), as a thief would.
func bech32Identity(secret []byte) string {
	const alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	const hrp = "age-secret-key-"
	var values []byte
	var acc, bits uint
	for _, b := range secret {
		acc, bits = acc<<8|uint(b), bits+8
		for bits >= 5 {
			bits -= 5
			values = append(values, byte(acc>>bits)&31)
		}
	}
	if bits > 0 {
		values = append(values, byte(acc<<(5-bits))&31)
	}
	var expanded []byte
	for _, c := range []byte(hrp) {
		expanded = append(expanded, c>>5)
	}
	expanded = append(expanded, 0)
	for _, c := range []byte(hrp) {
		expanded = append(expanded, c&31)
	}
	sum := uint32(1)
	for _, v := range append(append(expanded, values...), 0, 0, 0, 0, 0, 0) {
		top := sum >> 25
		sum = (sum&0x1ffffff)<<5 ^ uint32(v)
		for i, g := range []uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				sum ^= g
			}
		}
	}
	sum ^= 1
	for i := range 6 {
		values = append(values, byte(sum>>(5*(5-i)))&31)
	}
	text := hrp + "1"
	for _, v := range values {
		text += string(alphabet[v])
	}
	return strings.ToUpper(text)
}

func decodeBase64(text []byte) []byte {
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(out, text)
	if err != nil {
		return nil
	}
	return out[:n]
}
