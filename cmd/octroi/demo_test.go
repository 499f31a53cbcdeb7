package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// spoken is what a process says, while it says it.
type spoken struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (s *spoken) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// show is a run of the real demo.
type show struct {
	t    *testing.T
	cmd  *exec.Cmd
	said spoken
}

func startDemo(t *testing.T, dir, public, private string, more ...string) *show {
	t.Helper()
	s := &show{t: t, cmd: exec.Command(filepath.Join(binaries, "octroi"), append([]string{
		"demo", "--dir", dir, "--public", public, "--private", private, "--visitors", "30",
	}, more...)...)}
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	return s
}

func (s *show) await(pattern string) {
	s.t.Helper()
	for range 600 {
		if regexp.MustCompile(pattern).MatchString(s.said.String()) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("the demo never said %q:\n%s", pattern, s.said.String())
}

// interrupt is Ctrl-C.
func (s *show) interrupt() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatal(err)
	}
}

// end waits, and fails unless the demo ends with the code.
func (s *show) end(code int, says string) {
	s.t.Helper()
	ended := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		s.t.Fatalf("the demo does not end:\n%s", s.said.String())
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code || !strings.Contains(s.said.String(), says) {
		s.t.Fatalf("the demo ended with %d, want %d and %q:\n%s", got, code, says, s.said.String())
	}
}

// children are the processes of the demo whose command line holds word.
func (s *show) children(word string) (pids []int) {
	s.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, file := range files {
		b, _ := os.ReadFile(file) // it may have ended
		var pid, parent int
		if fields := strings.Fields(string(b)); len(fields) > 3 {
			pid, parent = number(fields[0]), number(fields[3])
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		if parent == s.cmd.Process.Pid && bytes.Contains(line, []byte(word)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func number(text string) (n int) {
	for _, r := range text {
		n = n*10 + int(r-'0')
	}
	return n
}

// The demo shows what happens, stops at Ctrl-C in every phase with everything loaded, goes on with its state, and says so when one of its
// processes ends.
func TestDemo(t *testing.T) {
	dir, public, private := filepath.Join(t.TempDir(), "octroi-data"), listenAddress(t), listenAddress(t)
	s := startDemo(t, dir, public, private)
	s.await(`Try, in another terminal`)
	s.await(`accepted +[1-9][0-9]* `)
	s.await(`refused, and why +[1-9][0-9]* .*no_consent`)
	s.interrupt()
	s.end(0, "stopped. everything is kept")
	rows := regexp.MustCompile(`\n(warehouse|accounting) +[1-9][0-9]* objects .*, ([1-9][0-9]*) rows loaded`).FindAllStringSubmatch(s.said.String(), -1)
	if len(rows) < 2 {
		t.Fatalf("Ctrl-C left rows behind:\n%s", s.said.String())
	}
	for _, holder := range []string{"gateway", "custodian", "warehouse", "dpo", "offline", "objects", "loaded/warehouse", "loaded/accounting"} {
		if _, err := os.Stat(filepath.Join(dir, holder)); err != nil {
			t.Error(err)
		}
	}

	s = startDemo(t, dir, public, private)
	for len(s.children("serve")) == 0 { // while the gateway starts
		time.Sleep(time.Millisecond)
	}
	s.interrupt()
	s.end(0, "stopped. everything is kept")
	if again := regexp.MustCompile(`\nwarehouse .*, ` + rows[len(rows)-2][2] + ` rows loaded`); !again.MatchString(s.said.String()) {
		t.Errorf("the second run does not have the first one's rows:\n%s", s.said.String())
	}

	for _, victim := range []string{"serve", "follow", "shop"} {
		s = startDemo(t, dir, public, private)
		s.await(`Ctrl-C stops it`)
		pids := s.children(victim)
		if len(pids) == 0 {
			t.Fatalf("the demo has no process %s", victim)
		}
		if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s.end(1, victim+" has ended: its last words are in ")
	}
}

// What stands in the demo's way is said before anything is started.
func TestDemoCannotStart(t *testing.T) {
	dir, public, private := filepath.Join(t.TempDir(), "octroi-data"), listenAddress(t), listenAddress(t)
	l, err := net.Listen("tcp", private)
	if err != nil {
		t.Fatal(err)
	}
	startDemo(t, dir, public, private).end(1, private+" is in use")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	startDemo(t, dir, public, private, "--octroi-load", "/nowhere/octroi-load").end(1, "make build")
	if _, err := os.Stat(dir); err == nil {
		t.Error("a demo that cannot start made its folder")
	}
	// An init that was cut off: keys, and no configuration.
	if err := CreateKeys(filepath.Join(dir, gatewayDir, "keys")); err != nil {
		t.Fatal(err)
	}
	startDemo(t, dir, public, private).end(1, "remove "+dir)
}
