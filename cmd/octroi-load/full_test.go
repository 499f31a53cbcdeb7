package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load"
	"github.com/octroi/octroi/export/load/loadtest"
	"github.com/octroi/octroi/pseudonymize"
)

// A disk that fills up anywhere in a load, here a limit on the size of files: it says so and ends, nothing unfinished is left in the folder,
// and with room again every event is there once.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	program := programOf(t)
	folder := t.TempDir()
	g := newGateway(t, folder)
	var batches [][]pseudonymize.Row
	for _, n := range []int{1, 1000, 5000} {
		rows := g.Rows("gw1", n)
		g.Publish("gw1", rows)
		batches = append(batches, rows)
	}
	for _, format := range []string{load.Parquet, load.NDJSON} {
		into := filepath.Join(folder, "loaded-"+format)
		failed := 0
		for blocks := 0; blocks < 100_000; blocks = blocks*2 + 12 {
			out, err := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -f %d && trap '' XFSZ && exec "$0" "$@"`, blocks), program,
				"once", "--from", filepath.Join(folder, "objects"), "--destination", g.Destination, "--identity", filepath.Join(folder, "keys/warehouse.identity"),
				"--gateway-key", filepath.Join(folder, "keys/signing.pub"), "--into", into, "--format", format).CombinedOutput()
			if err == nil {
				break
			}
			failed++
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "file too large") {
				t.Fatalf("%s, %d blocks: %v: %s", format, blocks, err, out)
			}
			checkWhole(t, into)
		}
		if failed < 5 {
			t.Errorf("%s: only %d runs met the limit", format, failed)
		}
		loadtest.CheckExactlyOnce(t, into, batches...)
	}
}

// checkWhole fails where a file of the folder is not finished.
func checkWhole(t *testing.T, folder string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch name := d.Name(); {
		case strings.Contains(path, ".octroi-load/staged/"): // a transaction in doubt leaves what the next run decides upon
		case filepath.Base(filepath.Dir(path)) == ".octroi-load":
			if name != "state.db" && name != "lock" {
				t.Errorf("%s was left behind", path)
			}
		case strings.HasPrefix(name, "."):
			t.Errorf("%s was left behind", path)
		case strings.HasSuffix(name, ".parquet"):
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return export.DecodeRows(strings.NewReader(string(b)), int64(len(b)), func([]pseudonymize.Row) error { return nil })
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}
