package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/octroi/octroi/consent/state"
)

// Any flipped byte, cut or lost file either changes nothing or is a clear error: no panic, no acknowledged change missing unseen. The child does
// it, because what Badger does with broken files may end the process.
func TestDamage(t *testing.T) {
	killed, closed := makeStates(t)
	for name, dir := range map[string]string{"killed": killed, "closed": closed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runChild(t, child("open", "OCTROI_STATE_DIR="+dir))
		})
	}
}

// makeStates makes a state as a kill leaves it and the same as Close leaves it.
func makeStates(t *testing.T) (killed, closed string) {
	t.Helper()
	killed, closed = filepath.Join(t.TempDir(), "killed"), filepath.Join(t.TempDir(), "closed")
	s := open(t, closed)
	for i := range 60 {
		fill(t, s, i)
		if i == 20 { // some rows are in tables in both
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, closed)
		}
	}
	if err := copyState(killed, closed); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return killed, closed
}

func fill(t testing.TB, s *state.Store, i int) {
	t.Helper()
	err := s.Update(context.Background(), func(txn *state.Txn) error {
		txn.Set(fmt.Appendf(nil, "c/%03d", i), bytes.Repeat([]byte{byte(i)}, 200))
		txn.Append(leaf(i))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// copyState copies a state's files, holes as holes.
func copyState(to, from string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == "LOCK" {
			continue
		}
		content, size, err := readUsed(filepath.Join(from, entry.Name()))
		if err != nil {
			return err
		}
		path := filepath.Join(to, entry.Name())
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
		if err := os.Truncate(path, size); err != nil {
			return err
		}
	}
	return nil
}

// usedBytes is more than any log of these tests holds; the rest of a log is a hole.
const usedBytes = 1 << 18

// readUsed reads a file as far as it is used, and its size.
func readUsed(path string) (content []byte, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	content = make([]byte, min(stat.Size(), usedBytes))
	_, err = io.ReadFull(f, content)
	return bytes.TrimRight(content, "\x00"), stat.Size(), err
}

// openChild damages copies of the state in OCTROI_STATE_DIR, one way after another, and opens them. It says what it is about to do, so that the
// last line tells what ended it.
func openChild() {
	dir := os.Getenv("OCTROI_STATE_DIR")
	trial := dir + ".trial"
	want := mustRead(dir, trial)
	unseen := 0
	for _, d := range damages(dir) {
		fmt.Println(d.name)
		must(os.RemoveAll(trial))
		must(copyState(trial, dir))
		must(d.do(trial))
		before := contents(trial)
		got, err := read(trial)
		switch {
		case err == nil && slices.Equal(got, want):
			unseen++
		case err == nil:
			fmt.Println("opened with other rows")
			os.Exit(3)
		case !errors.Is(err, state.ErrDamaged) && !errors.Is(err, state.ErrKey):
			fmt.Println("error of no class:", err)
			os.Exit(4)
		case errors.Is(err, state.ErrDamaged) && !kept(before, contents(trial)):
			fmt.Println("the logs of a damaged state were changed:", err)
			os.Exit(5)
		}
	}
	fmt.Println(unseen, "changed nothing")
}

// contents is the bytes of the logs, which are what Badger would cut.
func contents(dir string) map[string]string {
	names, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	must(err)
	out := map[string]string{}
	for _, name := range names {
		content, _, err := readUsed(name)
		must(err)
		out[name] = string(content)
	}
	return out
}

// kept says whether all logs are as they were; Badger may have added an empty one.
func kept(before, after map[string]string) bool {
	for name, content := range before {
		if after[name] != content {
			return false
		}
	}
	return true
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func mustRead(dir, trial string) []string {
	must(os.RemoveAll(trial))
	must(copyState(trial, dir))
	rows, err := read(trial)
	must(err)
	return rows
}

// read lists all rows and leaves of a state.
func read(dir string) (out []string, err error) {
	s, err := state.Open(state.Options{Dir: dir, Key: stateKey, ReserveBytes: 1})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	err = s.View(func(r state.Reader) error {
		return r.Scan(nil, func(key, value []byte) error {
			if !strings.HasPrefix(string(key), "v/") {
				out = append(out, string(key)+"="+string(value))
			}
			return nil
		})
	})
	return out, err
}

type damage struct {
	name string
	do   func(dir string) error
}

func damages(dir string) (out []damage) {
	entries, err := os.ReadDir(dir)
	must(err)
	for _, entry := range entries {
		name := entry.Name()
		if name == "LOCK" {
			continue
		}
		content, _, err := readUsed(filepath.Join(dir, name))
		must(err)
		used := len(content)
		out = append(out, damage{name + ": lost", func(dir string) error { return os.Remove(filepath.Join(dir, name)) }})
		for _, size := range []int{0, used * 2 / 3} {
			out = append(out, damage{
				fmt.Sprintf("%s: cut to %d bytes", name, size),
				func(dir string) error { return os.Truncate(filepath.Join(dir, name), int64(max(size, 0))) },
			})
		}
		step := max(used/5, 1)
		for at := 0; at < used; at += step {
			out = append(out, flip(name, at, byte(1)<<(at%8)))
		}
		for at := max(0, used-3); at < used; at++ { // lengths and checksums stand at the end of tables
			out = append(out, flip(name, at, 0x80))
		}
	}
	return out
}

func flip(name string, at int, mask byte) damage {
	return damage{fmt.Sprintf("%s: byte %d flipped by %#x", name, at, mask), func(dir string) error {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, int64(at)); err != nil {
			return errors.Join(err, f.Close())
		}
		b[0] ^= mask
		_, err = f.WriteAt(b, int64(at))
		return errors.Join(err, f.Close())
	}}
}
