//go:build interop

package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTagInNode runs tag.js in Node: a window without a browser, whose clock and gateway are the test's.
func TestTagInNode(t *testing.T) {
	nodeTest(t, nil, "tag.test.mjs")
}

// TestTagInChromium runs tag.js and banner.js in Debian's Chromium against the real gateway, on pages of two origins. OCTROI_SHOTS names a folder for
// pictures of the banner.
func TestTagInChromium(t *testing.T) {
	shop, counted, evil := freeAddress(t), freeAddress(t), freeAddress(t)
	_, port, _ := strings.Cut(evil, ":")
	public, private, snippet := tagged(t, "http://"+shop)
	_, _, countedSnippet := tagged(t, "http://"+counted, "--preset", "cnil-exempt", "--destination", "warehouse")
	nodeTest(t, []string{
		"OCTROI_URL=http://" + public, "OCTROI_PRIVATE=http://" + private, "OCTROI_SHOP=http://" + shop, "OCTROI_SNIPPET=" + snippet,
		"OCTROI_EVIL=http://localhost:" + port, // to a browser another site than 127.0.0.1
		"OCTROI_COUNTED=http://" + counted, "OCTROI_COUNTED_SNIPPET=" + countedSnippet,
	}, "tagbrowser.test.mjs")
}

// tagged runs a gateway for the pages of one origin, and prints what they carry.
func tagged(t *testing.T, origin string, more ...string) (public, private, snippet string) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	public, private = freeAddress(t), freeAddress(t)
	command(t, binary(t, "octroi"), append([]string{"init", "--dir", data, "--site", "shop", "--site-key", "demo", "--origin", origin}, more...)...)
	config := filepath.Join(data, "gateway", "octroi.yaml")
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(
		"127.0.0.1:8080", public, "127.0.0.1:8081", private,
		"listen:\n", "listen:\n  consent_rate: 100\n", // every visitor here is of one network
	).Replace(string(b))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	gateway := exec.Command(binary(t, "octroi"), "serve", "--config", config)
	gateway.Stderr = os.Stderr
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = gateway.Process.Kill()
		_ = gateway.Wait()
	})
	awaitReady(t, private)
	return public, private, string(command(t, binary(t, "octroi"), "snippet", "--config", config))
}

// nodeTest runs a file of tests by Node's own runner.
func nodeTest(t *testing.T, env []string, file string) {
	t.Helper()
	cmd := exec.Command("node", "--test", "--test-reporter=spec", file)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", file, err, out)
	}
	t.Logf("%s", out)
}
