package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load/loadtest"
	"github.com/octroi/octroi/export/s3test"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"octroi-load": main})
}

// TestScripts runs testdata/*.txt against the program. Each script has keys in $WORK/keys and a store in $WORK/objects, into which
// "publish NODE N" ships N events; "notify NODE TYPE BATCH" tells of the second event's device in the node's first batch (the first has none);
// "bucket" starts an S3 server and moves the store there; "api" starts a private API and puts a token for it into keys/token.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			t := env.T().(testing.TB)
			g := newGateway(t, env.WorkDir)
			env.Values["gateway"], env.Values["T"], env.Values["acks"] = g, t, &atomic.Pointer[acks]{}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"publish": publish,
			"notify":  notify,
			"bucket":  bucket,
			"api":     api,

			"acknowledged": acknowledged,
			"damage":       damage,
			"chmod":        chmod,
			"exits":        exits,
			"wait-for":     waitFor,
		},
	})
}

// newGateway writes what the programs read: keys/warehouse.identity, keys/signing.pub, and objects.
func newGateway(t testing.TB, folder string) *loadtest.Gateway {
	t.Helper()
	objects := filepath.Join(folder, "objects")
	if err := os.MkdirAll(objects, 0o750); err != nil {
		t.Fatal(err)
	}
	store, err := export.OpenDir(objects)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	g := loadtest.New(t, store)
	if g.Key, err = keyfile.CreateSigning(filepath.Join(folder, "keys", "signing"), "signing"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "keys", "warehouse.identity"), []byte("# W\n"+g.Identity+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

func publish(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: publish NODE N")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	g := ts.Value("gateway").(*loadtest.Gateway)
	g.Publish(args[0], g.Rows(args[0], n))
}

func notify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: notify NODE TYPE BATCH")
	}
	g := ts.Value("gateway").(*loadtest.Gateway)
	row := loadtest.New(ts.Value("T").(testing.TB), nil).Rows(args[0], 2)[1]
	g.Notify(args[0], export.EntryType(args[1]), loadtest.Notice(row.Device, nil, nil, args[2]))
}

// acks are what a private API was told: "loader node number".
type acks struct {
	mu  sync.Mutex
	got []string
}

func api(ts *testscript.TestScript, neg bool, args []string) {
	a := &acks{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var x struct {
			Loader, Node string
			Number       uint64
		}
		if r.URL.Path != "/v1/streams/warehouse/ack" || r.Header.Get("Authorization") != "Bearer secret" || json.NewDecoder(r.Body).Decode(&x) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.got = append(a.got, fmt.Sprintf("%s %s %d", x.Loader, x.Node, x.Number))
		w.WriteHeader(http.StatusNoContent)
	}))
	ts.Defer(server.Close)
	ts.Setenv("API", server.URL)
	ts.Check(os.WriteFile(ts.MkAbs("keys/token"), []byte("secret\n"), 0o600))
	ts.Value("acks").(*atomic.Pointer[acks]).Store(a)
}

func acknowledged(ts *testscript.TestScript, neg bool, args []string) {
	a := ts.Value("acks").(*atomic.Pointer[acks]).Load()
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.Contains(a.got, strings.Join(args, " ")) == neg {
		ts.Fatalf("told: %q", a.got)
	}
}

func bucket(ts *testscript.TestScript, neg bool, args []string) {
	g := ts.Value("gateway").(*loadtest.Gateway)
	t := ts.Value("T").(testing.TB)
	server := s3test.Start(t)
	g.Objects = s3test.Open(t, server.Options())
	ts.Setenv("ENDPOINT", server.Endpoint)
	ts.Setenv("CREDENTIALS", server.Credentials)
}

// damage flips a byte in the middle of each file of a pattern; a second time, it restores them.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("no file %s", args[0])
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		ts.Check(err)
		text[len(text)/2] ^= 1
		ts.Check(os.WriteFile(path, text, 0o600))
	}
}

// exits runs a program, which must end with the code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var ended *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &ended) {
		got = ended.ExitCode()
	} else if err != nil {
		ts.Fatalf("running: %v", err)
	}
	if got != code {
		ts.Fatalf("exit code %d instead of %d", got, code)
	}
}

// waitFor waits until a file is there.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	for range 400 {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	ts.Fatalf("%s does not come", args[0])
}

func chmod(ts *testscript.TestScript, neg bool, args []string) {
	mode, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	ts.Check(os.Chmod(ts.MkAbs(args[1]), os.FileMode(mode)))
}

// What the help promises is what the program has.
func TestManual(t *testing.T) {
	text := command().Long
	for _, want := range []string{"once", "follow", "status", "exactly once", "chmod 600", "Exit codes", "--into-postgres", "--ack-url", "restricted"} {
		if !strings.Contains(text, want) {
			t.Errorf("the manual does not say %q", want)
		}
	}
	for _, c := range command().Commands() {
		if c.Hidden {
			continue
		}
		if c.Example == "" || c.Short == "" {
			t.Errorf("%s has no example or no summary", c.Name())
		}
	}
}
