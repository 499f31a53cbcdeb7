package main

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
)

// installation is what `octroi init` makes, on free ports; its configuration's path.
func installation(t *testing.T, args ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	run(t, "octroi", append([]string{"init", "--dir", dir}, args...)...)
	config := filepath.Join(dir, gatewayDir, "octroi.yaml")
	change(t, config, "127.0.0.1:8080", listenAddress(t))
	change(t, config, "127.0.0.1:8081", listenAddress(t))
	return config
}

// change replaces text in a file; it must be there.
func change(t *testing.T, file, before, after string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(before)) {
		t.Fatalf("%s does not hold %q", file, before)
	}
	if err := os.WriteFile(file, bytes.ReplaceAll(b, []byte(before), []byte(after)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// An app that is shut down before it began to serve does not serve for ever.
func TestShutDownBeforeServing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	if err := shutDown(app, l); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- app.Listener(l) }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("serving ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the app serves although it was shut down")
	}
}

// A gateway that is asked to stop while it starts stops: before it listens, in the very moment, and after.
func TestStopWhileStarting(t *testing.T) {
	config := installation(t)
	for i := range 8 {
		process := exec.Command(filepath.Join(binaries, "octroi"), "serve", "--config", config)
		log, err := process.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		stuck := time.AfterFunc(40*time.Second, func() { _ = process.Process.Kill() })
		lines := bufio.NewScanner(log)
		if i%2 == 1 { // with its first line, else at some instant before
			lines.Scan()
		} else {
			time.Sleep(time.Duration(20*(i+1)) * time.Millisecond)
		}
		if err := process.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		var said []string
		for lines.Scan() {
			said = append(said, lines.Text())
		}
		var exit *exec.ExitError
		err = process.Wait()
		if !stuck.Stop() {
			t.Fatalf("round %d: asked to stop while starting, the gateway goes on", i)
		}
		if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM {
			continue // it had not even begun to listen to signals
		}
		if err != nil {
			t.Errorf("round %d: %v:\n%s", i, err, strings.Join(said, "\n"))
		}
	}
}
