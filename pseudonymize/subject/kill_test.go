package subject_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/pseudonymize/subject"
)

// childDir names the house of a child process that creates and shreds until it is killed.
const childDir = "SUBJECT_TEST_CHILD"

// TestMain lets the test binary be that child.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		liveAndDie(dir)
	}
	os.Exit(m.Run())
}

// liveAndDie is the child: each line it prints was true when it was printed.
func liveAndDie(dir string) {
	h := &house{t: dying{}, dir: dir, key: bytes.Repeat([]byte{7}, 32)}
	h.open()
	for {
		c, kept := h.mint()
		fmt.Println("kept", c.Text(), kept.Slot())
		c, s := h.mint()
		key := subject.KeyOf(s)
		h.shred(s)
		fmt.Println("shredded", c.Text(), s.Slot(), hex.EncodeToString(key[:]))
	}
}

// dying ends the child at its first error; its parent reports that it was not killed.
type dying struct{ testing.TB }

func (dying) Helper() {}

func (dying) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(0)
}

// kill −9 at any instant: whoever was created is found, whoever was shredded is gone, and no slot is given out twice.
func TestKilledAtAnyInstant(t *testing.T) {
	dir := t.TempDir()
	kept, shredded := map[string]string{}, map[string]string{}
	slots := map[string]bool{}
	for range 3 {
		child := exec.Command(os.Args[0])
		child.Stderr = os.Stderr
		child.Env = append(os.Environ(), childDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		first := true
		for lines.Scan() {
			if first { // it has opened
				first = false
				time.AfterFunc(time.Duration(rand.IntN(80))*time.Millisecond, func() { _ = child.Process.Kill() })
			}
			f := strings.Fields(lines.Text())
			switch {
			case len(f) == 3 && f[0] == "kept":
				kept[f[1]] = f[2]
			case len(f) == 4 && f[0] == "shredded":
				shredded[f[1]] = f[3]
			default:
				continue // a line cut by the kill
			}
			if slots[f[2]] {
				t.Fatalf("slot %s was given out twice", f[2])
			}
			slots[f[2]] = true
		}
		if err := child.Wait(); first || err == nil {
			t.Fatalf("the child did not live until it was killed: %v", err)
		}
	}

	h := &house{t: t, dir: dir, key: bytes.Repeat([]byte{7}, 32)}
	h.open()
	defer h.close()
	content, err := os.ReadFile(h.slotFile())
	if err != nil {
		t.Fatal(err)
	}
	for text, slot := range kept {
		c, _ := subject.ParseCredential(text)
		if s, err := h.Device(c); err != nil || fmt.Sprint(s.Slot()) != slot {
			t.Errorf("slot %s: %v", slot, err)
		}
	}
	for text, key := range shredded {
		c, _ := subject.ParseCredential(text)
		if s, err := h.Device(c); !errors.Is(err, subject.ErrUnknown) {
			t.Errorf("shredded slot %d is there: %v", s.Slot(), err)
		}
		if raw, err := hex.DecodeString(key); err != nil || bytes.Contains(content, raw) {
			t.Errorf("a shredded key is in the file, %v", err)
		}
	}
	if len(kept) < 5 || len(shredded) < 5 {
		t.Fatalf("only %d kept, %d shredded", len(kept), len(shredded))
	}
}
