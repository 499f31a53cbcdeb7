package state_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/state"
)

// child is a run of this test binary as another program; TestMain says which.
func child(kind string, env ...string) *exec.Cmd {
	c := exec.Command(os.Args[0])
	c.Env = append(append(os.Environ(), "OCTROI_STATE_CHILD="+kind), env...)
	c.Stderr = os.Stderr
	return c
}

// writeChild changes the state until it is killed and says which changes were acknowledged. A change writes its row and one leaf.
func writeChild() {
	s, err := state.Open(state.Options{Dir: os.Getenv("OCTROI_STATE_DIR"), Key: stateKey, ReserveBytes: 1})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var wait sync.WaitGroup
	for worker := range 16 {
		wait.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%s-%d-%d", os.Getenv("OCTROI_STATE_ROUND"), worker, i)
				err := s.Update(context.Background(), func(txn *state.Txn) error {
					index := txn.Append(leafOf(name))
					txn.Set([]byte("c/"+name), fmt.Append(nil, index))
					txn.Set([]byte("i/"+name), make([]byte, 1+len(name)*i%3000))
					return nil
				})
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Println(name) // one write, before the next change
			}
		})
	}
	wait.Wait()
}

// A kill at any instant loses no acknowledged change, keeps none in part, and leaves a log that is its leaves.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for round := range 8 {
		c := child("write", "OCTROI_STATE_DIR="+dir, fmt.Sprintf("OCTROI_STATE_ROUND=%d", round))
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() {
			t.Fatalf("round %d: the child wrote nothing", round)
		}
		acknowledged[lines.Text()] = true
		time.AfterFunc(time.Duration(rand.IntN(150))*time.Millisecond, func() { _ = c.Process.Kill() })
		for lines.Scan() {
			acknowledged[lines.Text()] = true
		}
		_ = c.Wait() // killed
		checkAfterKill(t, dir, acknowledged)
	}
	if len(acknowledged) < 16*8 {
		t.Errorf("only %d changes were acknowledged: too few to see anything", len(acknowledged))
	}
}

func checkAfterKill(t *testing.T, dir string, acknowledged map[string]bool) {
	t.Helper()
	s := open(t, dir)
	size, root, err := s.Tree()
	if err != nil {
		t.Fatal(err)
	}
	verifyLog(t, s, size, root)
	leaves, err := s.Leaves(0, size)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, row := range stored(t, s, "c/") {
		name, text, _ := strings.Cut(strings.TrimPrefix(row, "c/"), "=")
		var index int
		if _, err := fmt.Sscan(text, &index); err != nil || leaves[index] != leafOf(name) {
			t.Errorf("the row of change %s does not name its leaf", name)
		}
		found[name] = true
	}
	for name := range acknowledged {
		if !found[name] {
			t.Errorf("acknowledged change %s is lost", name)
		}
	}
	if len(leaves) != len(found) || len(stored(t, s, "i/")) != len(found) {
		t.Errorf("%d changes, %d leaves, %d second rows: some in part", len(found), len(leaves), len(stored(t, s, "i/")))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// runChild runs a child to its end and shows the end of what it said if it failed.
func runChild(t *testing.T, c *exec.Cmd) {
	t.Helper()
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		said := out.String()
		t.Fatalf("%v\n…%s", err, said[max(0, len(said)-6000):])
	}
}
