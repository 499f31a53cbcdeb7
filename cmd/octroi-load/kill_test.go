package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load/loadtest"
	"github.com/octroi/octroi/export/s3test"
	"github.com/octroi/octroi/pseudonymize"
)

// programOf is the program that make has built, or one that is built now.
func programOf(t *testing.T) string {
	t.Helper()
	if built := os.Getenv("OCTROI_BIN"); built != "" {
		return filepath.Join(built, "octroi-load")
	}
	program := filepath.Join(t.TempDir(), "octroi-load")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("building: %v: %s", err, out)
	}
	return program
}

// The real program is killed (SIGKILL) again and again at random instants while it follows a stream that grows; in the end each event
// is there once.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	program := programOf(t)
	for _, format := range []string{"parquet", "ndjson"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			g := newGateway(t, folder)
			server := s3test.Start(t)
			g.Objects = s3test.Open(t, server.Options())
			into := filepath.Join(folder, "loaded")
			arguments := func(command string) []string {
				return []string{
					command, "--from", "s3://" + server.Bucket, "--s3-endpoint", server.Endpoint, "--s3-credentials", server.Credentials,
					"--destination", g.Destination, "--identity", filepath.Join(folder, "keys/warehouse.identity"),
					"--gateway-key", filepath.Join(folder, "keys/signing.pub"), "--into", into, "--format", format,
				}
			}
			batches := publishAndKill(t, g, func() *exec.Cmd { return exec.Command(program, arguments("follow")...) })
			var out bytes.Buffer
			last := exec.Command(program, arguments("once")...)
			last.Stdout, last.Stderr = &out, &out
			if err := last.Run(); err != nil {
				t.Fatalf("the last run: %v: %s", err, out.String())
			}
			loadtest.CheckExactlyOnce(t, into, batches...)
			status, err := exec.Command(program, "status", "--into", into).CombinedOutput()
			if err != nil || !strings.Contains(string(status), "30 batches") {
				t.Errorf("status: %s, %v", status, err)
			}
		})
	}
}

// publishAndKill ships 30 batches, a third of whose rows were shipped before, and kills each follower after up to 120 ms.
func publishAndKill(t *testing.T, g *loadtest.Gateway, follower func() *exec.Cmd) (batches [][]pseudonymize.Row) {
	t.Helper()
	publish := func(node string) {
		rows := g.Rows(node, 100)
		if len(batches) > 0 {
			rows = append(rows, batches[rand.IntN(len(batches))][:50]...)
		}
		g.Publish(node, rows)
		batches = append(batches, rows)
	}
	progressed := 0
	for len(batches) < 30 {
		for range 2 {
			publish([]string{"gw1", "gw2"}[len(batches)%2])
		}
		c := follower()
		var said bytes.Buffer
		c.Stderr = &said
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(15+rand.IntN(105)) * time.Millisecond)
		if err := c.Process.Kill(); err != nil {
			t.Fatalf("it had ended: %v: %s", err, said.String())
		}
		c.Wait()
		progressed++
		if said.Len() > 0 && !strings.Contains(said.String(), export.ErrUnavailable.Error()) {
			t.Errorf("it said %q", said.String())
		}
	}
	if progressed < 10 {
		t.Fatalf("only %d kills", progressed)
	}
	return batches
}
