//go:build interop

package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestStoryInChromium starts the demo and lives through a visitor's whole story in it, with Debian's Chromium. OCTROI_SHOTS names a folder for pictures.
func TestStoryInChromium(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	public, private, shop := freeAddress(t), freeAddress(t), freeAddress(t)
	demo := exec.Command(binary(t, "octroi"), "demo", "--dir", data, "--public", public, "--private", private, "--shop", shop, "--visitors", "6")
	demo.Stderr = os.Stderr
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- demo.Wait() }()
	t.Cleanup(func() {
		_ = demo.Process.Signal(syscall.SIGINT)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			_ = demo.Process.Kill()
			t.Error("the demo does not end")
		}
	})
	awaitReady(t, private)
	nodeTest(t, []string{
		"OCTROI_URL=http://" + public, "OCTROI_SHOP=http://" + shop, "OCTROI_CONSOLE=http://" + private,
		"OCTROI_LOADED=" + filepath.Join(data, "loaded"), "OCTROI_OFFICER=" + filepath.Join(data, "dpo", "officer.token"),
	}, "story.test.mjs")
}
