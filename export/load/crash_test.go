package load_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load"
	"github.com/octroi/octroi/export/load/loadtest"
)

// The crash tests run a loader in a process of its own, which kills itself (SIGKILL) right before its n-th change of the folder. The
// ledger's transactions lie between these changes: a kill before the first rename of an entry is one after its commit.
const crashVariable = "OCTROI_LOAD_CRASH" // <dir>|<n>

func TestMain(m *testing.M) {
	if plan := os.Getenv(crashVariable); plan != "" {
		dir, n, _ := strings.Cut(plan, "|")
		if err := loadUntilKilled(dir, n); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// loadUntilKilled loads dir/objects into dir/loaded.
func loadUntilKilled(dir, n string) error {
	last, err := strconv.Atoi(n)
	if err != nil {
		return err
	}
	o, err := crashOptions(dir)
	if err != nil {
		return err
	}
	calls := 0
	load.SetMortal(&o, func(string) {
		if calls++; calls == last {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	l, err := load.Open(context.Background(), o)
	if err != nil {
		return err
	}
	_, err = l.Once(context.Background())
	return errors.Join(err, l.Close())
}

// crashOptions are those of a world: dir/{objects,identity,public,format}.
func crashOptions(dir string) (o load.Options, err error) {
	var texts [3]string
	for i, name := range []string{"identity", "public", "format"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return o, err
		}
		texts[i] = string(text)
	}
	ids, err := export.ParseIdentities([]byte(texts[0]))
	if err != nil {
		return o, err
	}
	public, err := base64.StdEncoding.DecodeString(texts[1])
	if err != nil {
		return o, err
	}
	objects, err := export.OpenDir(filepath.Join(dir, "objects"))
	return load.Options{
		Objects: objects, Destination: "warehouse", Gateway: ed25519.PublicKey(public), Identities: ids, Dir: filepath.Join(dir, "loaded"), Format: texts[2],
	}, err
}

// crashWorld is a folder that has loaded two batches, and a stream with one more and an entry of each other kind.
func crashWorld(t *testing.T, format string) (dir string, seen, restricted []string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "objects"), 0o700); err != nil {
		t.Fatal(err)
	}
	objects, err := export.OpenDir(filepath.Join(dir, "objects"))
	if err != nil {
		t.Fatal(err)
	}
	defer objects.Close()
	s := stock(loadtest.New(t, objects), filepath.Join(dir, "objects"))
	for name, text := range map[string]string{
		"identity": s.g.Identity, "public": base64.StdEncoding.EncodeToString(s.g.Public()), "format": format,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	finish(t, dir)
	third := s.g.Rows("gw1", 3)
	s.g.Publish("gw1", third)
	s.g.Notify("gw1", export.RestrictEntry, notice(s.device, s.person, nil, s.one, s.two), notice(somebody('d', 2), nil, nil, s.one))
	s.g.Replace(s.two, s.more[:1])
	withdrawn := notice(s.device, nil, []string{"audience"}, s.one)
	s.g.Notify("gw1", export.WithdrawEntry, withdrawn)
	s.g.Notify("gw1", export.LiftEntry, notice(s.device, s.person, nil, s.one))
	s.g.Notify("gw1", export.EraseEntry, notice(nil, s.person, nil, s.one))
	s.g.Replace(s.two, nil)
	left := cutBy(t, s.hers, withdrawn, notice(nil, s.person, nil))
	return dir, lines(left, s.theirs[1:], third), lines(s.theirs[:1])
}

// finish loads what is left, without a kill.
func finish(t *testing.T, dir string) {
	t.Helper()
	if killed := child(t, dir, 0); killed {
		t.Fatal("killed without a plan")
	}
}

func child(t *testing.T, dir string, n int) (killed bool) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d", crashVariable, dir, n))
	out, err := c.CombinedOutput()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("loading: %v: %s", err, out)
	}
	return false
}

// changesOf are the names of what a run does to the folder, from the world's beginning to its end.
func changesOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	o, err := crashOptions(dir)
	if err != nil {
		t.Fatal(err)
	}
	load.SetMortal(&o, func(what string) { names = append(names, what) })
	if _, err := once(t, o); err != nil {
		t.Fatal(err)
	}
	return names
}

func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// Killed before any change of the folder, or inside it, and let go on: the same rows in the same files.
func TestKilledAtEachChange(t *testing.T) {
	world, seen, restricted := crashWorld(t, load.NDJSON)
	names := changesOf(t, copyOf(t, world))
	for _, want := range []string{
		"create", "write the other half", "sync", "rename to events", "rename to restricted", "remove from events", "remove from restricted",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("nothing does %q: %q", want, names)
		}
	}
	for n := 1; n <= len(names); n++ {
		t.Run(fmt.Sprintf("%d %s", n, names[n-1]), func(t *testing.T) {
			t.Parallel()
			dir := copyOf(t, world)
			if !child(t, dir, n) {
				t.Fatal("it was not killed")
			}
			o, err := crashOptions(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := once(t, o); err != nil {
				t.Fatal(err)
			}
			holds(t, o.Dir, seen, restricted)
			checkOwnFiles(t, o.Dir)
		})
	}
}

// Each restart is killed a little later than the one before, until one comes through.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	world, seen, restricted := crashWorld(t, load.Parquet)
	kills := 0
	for n := 1; child(t, world, n); n++ {
		kills++
	}
	if kills < 10 {
		t.Errorf("only %d kills", kills)
	}
	o, err := crashOptions(world)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, o.Dir, seen, restricted)
	checkOwnFiles(t, o.Dir)
}
