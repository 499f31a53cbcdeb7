// Package s3test runs a real S3 server (versitygw) for tests, and a proxy in front of it that makes faults.
//
// Start gives a server of one bucket with versioning on, in the test's own folder and on a free port of the loopback; Server.Proxy is
// what a test talks through when it wants faults. The server is never replaced by an imitation and its absence fails the test.
package s3test

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/s3test/freeport"
)

// TB is what a test, or a benchmark program in its place, gives: see testing.TB.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	TempDir() string
	Cleanup(end func())
}

// Server is a running S3 server.
type Server struct {
	Endpoint    string // http://127.0.0.1:port
	Bucket      string // versioning is on
	Credentials string // path of its credentials file
	Proxy       *Proxy // in front of it

	t      TB
	port   int
	folder string
	mu     sync.Mutex
	cmd    *exec.Cmd // guarded by mu; nil: stopped
	done   chan struct{}
}

const (
	accessKey  = "octroi-test" // may do everything
	limitedKey = "octroi-limited"
	secretKey  = "never-a-secret-of-anyone" // of both
	bucket     = "octroi"
)

// Start runs a server until the test ends.
func Start(t TB) *Server {
	t.Helper()
	s := &Server{Bucket: bucket, t: t, folder: t.TempDir(), port: freePort(t)}
	s.Endpoint = fmt.Sprintf("http://127.0.0.1:%d", s.port)
	s.Credentials = filepath.Join(s.folder, "credentials")
	for _, folder := range []string{"objects", "versions", "users"} {
		if err := os.Mkdir(filepath.Join(s.folder, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.WriteCredentials(accessKey, secretKey)
	s.writeUsers()
	s.Restart()
	t.Cleanup(s.Stop)
	s.MakeBucket(bucket, true)
	s.Proxy = StartProxy(t, s.Endpoint)
	return s
}

// WriteCredentials replaces the credentials file, for tests of wrong ones.
func (s *Server) WriteCredentials(id, secret string) {
	s.t.Helper()
	s.write(s.Credentials, fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", id, secret))
}

func (s *Server) write(path, text string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// Options are those of a client that talks to the server itself.
func (s *Server) Options() export.S3Options {
	return export.S3Options{Endpoint: s.Endpoint, Bucket: s.Bucket, Credentials: s.Credentials, Timeout: 10 * time.Second}
}

// ProxyOptions are those of a client that talks through the proxy.
func (s *Server) ProxyOptions() export.S3Options {
	o := s.Options()
	o.Endpoint = s.Proxy.Endpoint
	return o
}

// Open is a client of the options.
func Open(t TB, o export.S3Options) *export.S3 {
	t.Helper()
	store, err := export.OpenS3(o)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// Stop kills the server; its objects stay.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	<-s.done
	s.cmd = nil
}

// Restart starts the server, again on the same port, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	log, err := os.Create(filepath.Join(s.folder, "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary(s.t), "--port", fmt.Sprintf("127.0.0.1:%d", s.port), "--quiet",
		"--iam-dir", filepath.Join(s.folder, "users"), "posix", "--versioning-dir", filepath.Join(s.folder, "versions"), filepath.Join(s.folder, "objects"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("starting versitygw: %v", err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	s.cmd, s.done = cmd, done
	for range 1200 { // half a minute, for a machine that does much else
		if answer, err := http.Get(s.Endpoint); err == nil {
			answer.Body.Close()
			return
		}
		select {
		case <-done:
			text, _ := os.ReadFile(log.Name())
			s.t.Fatalf("versitygw ended at its start: %s", text)
		case <-time.After(25 * time.Millisecond):
		}
	}
	s.t.Fatal("versitygw does not answer")
}

func freePort(t TB) int {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return int(netip.MustParseAddrPort(address).Port())
}

// binary is where versitygw is: OCTROI_VERSITYGW, or where make test installs it.
func binary(t TB) string {
	t.Helper()
	path := os.Getenv("OCTROI_VERSITYGW")
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(home, ".cache", "octroi", "bin", "versitygw")
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		t.Fatalf("versitygw is not at %s: run make test, which installs it, or set OCTROI_VERSITYGW", path)
	}
	return path
}
