package spool

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// crashDir tells the test program that it is the child that will be killed.
const crashDir = "OCTROI_SPOOL_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Println("failed", victim(dir, os.Getenv("OCTROI_SPOOL_CRASH_ROUND")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func crashOptions(dir string) Options {
	o := options(dir)
	o.SegmentBytes, o.SegmentAge = 8<<10, 20*time.Millisecond
	return o
}

// victim appends, reads and releases until it is killed. It writes a line before each event that it sends, after each that was
// acknowledged, and for each that it has read before it releases it.
func victim(dir, round string) error {
	s, err := Open(crashOptions(dir))
	if err != nil {
		return err
	}
	var lines sync.Mutex
	say := func(format string, args ...any) {
		lines.Lock()
		defer lines.Unlock()
		fmt.Fprintf(os.Stdout, format+"\n", args...)
	}
	failures := make(chan error)
	for client := range 8 {
		go func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("%s-%d-%d", round, client, n)
				say("sent %s", id)
				if _, err := s.put(context.Background(), sample(id)); err != nil {
					failures <- err
					return
				}
				say("acknowledged %s", id)
			}
		}()
	}
	go func() {
		for position := s.Head(); ; {
			records, err := s.Peek(context.Background(), position, 40)
			for _, r := range records {
				say("read %d %s", r.Position, strings.TrimPrefix(string(r.Event.Payload), "sealed "))
				position = r.Position + 1
			}
			if err == nil {
				err = s.Release(position)
			}
			if err == nil {
				err = s.Wait(context.Background(), position)
			}
			if err != nil {
				failures <- err
				return
			}
		}
	}()
	return <-failures
}

// Processes are killed with SIGKILL at random instants, over and over on the same spool: every acknowledged event is there
// exactly once, and sending the others again leaves exactly one copy of each.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	sent, acknowledged, at := make(map[string]bool), make(map[string]bool), make(map[uint64]string)
	read := func(position uint64, id string) {
		if earlier, ok := at[position]; ok && earlier != id {
			t.Fatalf("position %d is %q, was %q", position, id, earlier)
		}
		at[position] = id
	}
	for round := range 8 {
		for line := range strings.Lines(killed(t, dir, round)) {
			words := strings.Fields(line)
			switch {
			case !strings.HasSuffix(line, "\n"): // cut by the kill
			case words[0] == "sent":
				sent[words[1]] = true
			case words[0] == "acknowledged":
				acknowledged[words[1]] = true
			case words[0] == "read":
				position, err := strconv.ParseUint(words[1], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				read(position, words[2])
			default:
				t.Fatal(line)
			}
		}
	}
	s := mustOpen(t, crashOptions(dir))
	drain := func() map[string]int {
		for i, id := range ids(t, s) {
			read(s.Head()+uint64(i), id)
		}
		copies := make(map[string]int)
		for _, id := range at {
			copies[id]++
		}
		return copies
	}
	copies := drain()
	for id := range sent {
		if acknowledged[id] && copies[id] != 1 {
			t.Errorf("%q was acknowledged and is there %d times", id, copies[id])
		}
		if duplicate := mustPut(t, s, id)[0]; duplicate != (copies[id] == 1) {
			t.Errorf("%q: duplicate %v, copies %d", id, duplicate, copies[id])
		}
	}
	copies = drain()
	equal(t, "events", len(copies), len(sent))
	for id, n := range copies {
		if n != 1 || !sent[id] {
			t.Errorf("%q is there %d times", id, n)
		}
	}
	if len(acknowledged) < 100 || s.Head() == 0 {
		t.Errorf("too little happened: %d acknowledged, head %d", len(acknowledged), s.Head())
	}
}

// killed runs a victim, kills it at a random instant after its first acknowledgement, and gives what it wrote.
func killed(t *testing.T, dir string, round int) string {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashDir+"="+dir, fmt.Sprint("OCTROI_SPOOL_CRASH_ROUND=", round))
	child.Stderr = os.Stderr
	pipe, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(pipe)
	var said strings.Builder
	for {
		line, err := out.ReadString('\n')
		said.WriteString(line)
		if err != nil || strings.HasPrefix(line, "acknowledged") {
			break
		}
	}
	kill := time.AfterFunc(time.Duration(rand.IntN(100_000))*time.Microsecond, func() { child.Process.Kill() })
	defer kill.Stop()
	if _, err := io.Copy(&said, out); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("child: %v: %s", err, said.String())
	}
	return said.String()
}
