// Package pgtest runs a PostgreSQL server of the operating system for tests: Debian's package postgresql.
package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/octroi/octroi/export/s3test/freeport"
)

// Server is a PostgreSQL server on a folder of its own, with a database "lake" and a user "loader" who owns it.
type Server struct {
	DSN string // of the user loader

	t    testing.TB
	bin  string
	data string
	port string
	as   *syscall.Credential // nil: who runs the test
}

// Start initialises and starts a server; it is stopped when the test ends. Without PostgreSQL the test fails.
func Start(t testing.TB) *Server {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	s := &Server{t: t, bin: programs(t), port: port}
	folder, err := os.MkdirTemp("", "octroi-pg-") // not of the test: its parents are closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	s.data = filepath.Join(folder, "data")
	s.unprivileged(folder)
	s.run("initdb", "-D", s.data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	s.Restart()
	t.Cleanup(func() { s.stop("immediate") })
	s.run("createuser", "-h", "127.0.0.1", "-p", s.port, "-U", "postgres", "loader")
	s.run("createdb", "-h", "127.0.0.1", "-p", s.port, "-U", "postgres", "-O", "loader", "lake")
	s.DSN = "postgres://loader@127.0.0.1:" + s.port + "/lake?sslmode=disable"
	return s
}

// programs is the newest version's folder.
func programs(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		t.Fatal("no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }))
}

// unprivileged gives the folder to the user postgres where root runs the test: the server refuses root.
func (s *Server) unprivileged(folder string) {
	s.t.Helper()
	if os.Getuid() != 0 {
		return
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		s.t.Fatal(err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2, os.Chown(folder, int(uid), int(gid))); err != nil {
		s.t.Fatal(err)
	}
	s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (s *Server) run(name string, args ...string) {
	s.t.Helper()
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v: %s", name, err, out)
	}
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir, c.Env = filepath.Dir(s.data), []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	if s.as != nil {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	}
	return c
}

// Kill ends the server without a checkpoint, as a crash does; Restart has it recover.
func (s *Server) Kill() {
	s.t.Helper()
	s.stop("immediate")
}

// Restart starts the server again, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	log := filepath.Join(filepath.Dir(s.data), "log")
	s.run("pg_ctl", "-D", s.data, "-l", log, "-w", "-t", "60", "-o",
		"-c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c port="+s.port+" -c shared_buffers=64MB", "start")
}

func (s *Server) stop(mode string) {
	_, _ = s.command("pg_ctl", "-D", s.data, "-m", mode, "-w", "stop").CombinedOutput() // it may be stopped already
}

// SQL runs statements as the superuser, and answers what psql prints of them, unaligned.
func (s *Server) SQL(statements string) string {
	s.t.Helper()
	c := s.command("psql", "-h", "127.0.0.1", "-p", s.port, "-U", "postgres", "-d", "lake", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-")
	c.Stdin = strings.NewReader(statements)
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	if err := c.Run(); err != nil {
		s.t.Fatalf("psql: %v: %s", err, complaint.String())
	}
	return strings.TrimSpace(out.String())
}

// String names the server without a secret.
func (s *Server) String() string { return fmt.Sprintf("postgresql on port %s", s.port) }
