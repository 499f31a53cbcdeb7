package main

import (
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load/loadtest"
	"github.com/octroi/octroi/policies"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"octroi-custodian": main})
}

// TestScripts runs testdata/*.txt against the program. Each script has the folders dpo and custodian as octroi init makes them, with a store
// in objects that holds a batch, and a gateway with one request of an access at $URL.
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
			env.Setenv("URL", g.server.URL)
			env.Setenv("HASH", copyPolicies(t, env.WorkDir))
			_, spare, err := export.NewIdentity(export.ClassX25519)
			if err != nil {
				return err
			}
			env.Setenv("SPARE", spare) // a recipient that nothing is encrypted to
			env.Setenv("RECOVERY", g.recovery)
			env.Values["gateway"] = g
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"chmod": chmod,
			"edit":  edit,
			"exits": exits,
			"got":   got,
			"lie":   lie,
		},
	})
}

// newCustodian writes what the program reads: custodian/custodian.yaml with all keys, dpo/approval.key and dpo/dpo.token, and the
// store; it answers the recipient R.
func newCustodian(t testing.TB, folder, url string) (recovery string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	custodian, dpo := filepath.Join(folder, "custodian"), filepath.Join(folder, "dpo")
	check(os.MkdirAll(filepath.Join(folder, "objects"), 0o750))
	store, err := export.OpenDir(filepath.Join(folder, "objects"))
	check(err)
	t.Cleanup(func() { store.Close() })
	for _, k := range []struct{ dir, kind string }{{dpo, "approval"}, {custodian, "custodian"}, {custodian, "log"}} {
		_, err := keyfile.CreateSigning(filepath.Join(k.dir, k.kind+".key"), k.kind)
		check(err)
	}
	shipped := loadtest.New(t, store)
	shipped.Key, err = keyfile.CreateSigning(filepath.Join(custodian, "signing.key"), "signing")
	check(err)
	public, err := os.ReadFile(filepath.Join(dpo, "approval.key.pub"))
	check(err)
	check(os.WriteFile(filepath.Join(custodian, "approval.key.pub"), public, 0o600))
	e, recipient, err := export.NewIdentity(export.ClassX25519)
	check(err)
	w, r := shipped.Recipients.Names[0], shipped.Recipients.Names[2]
	shipped.Recipients, err = export.ParseRecipients(w, recipient, r)
	check(err)
	shipped.Publish("n1", shipped.Rows("n1", 3))
	for name, text := range map[string]string{
		"custodian/identity.txt":  e + "\n",
		"custodian/custody.token": "custody.token.text\n",
		"dpo/dpo.token":           "dpo.token.text\n",
		"custodian/custodian.yaml": strings.NewReplacer("URL", url, "WWW", w, "EEE", recipient, "RRR", r).Replace(`gateway:
  url: URL
  node: n1
  token: custody.token
identity: identity.txt
key: custodian.key
signing_key: signing.key.pub
log_key: log.key.pub
approval_key: approval.key.pub
state: state
objects:
  directory: ../objects
destinations:
  - name: warehouse
    recipients:
      destination: WWW
      custodian: EEE
      recovery: RRR
`),
	} {
		check(os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	return r
}

// copyPolicies puts the policies that come with the program into the folder policies, and answers the first characters of their hash.
func copyPolicies(t testing.TB, folder string) string {
	t.Helper()
	if err := os.CopyFS(filepath.Join(folder, "policies"), policies.Default()); err != nil {
		t.Fatal(err)
	}
	p, err := policies.Load(policies.Default())
	if err != nil {
		t.Fatal(err)
	}
	hash := p.Hash()
	return hex.EncodeToString(hash[:4])
}

func chmod(ts *testscript.TestScript, neg bool, args []string) {
	mode, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	ts.Check(os.Chmod(ts.MkAbs(args[1]), os.FileMode(mode)))
}

// edit FILE OLD NEW replaces a text that must be there.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	text, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	before := strings.ReplaceAll(args[1], `\n`, "\n")
	if !strings.Contains(string(text), before) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(string(text), before, strings.ReplaceAll(args[2], `\n`, "\n"))), 0o600))
}

// exits runs a program, which must end with the code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	ended := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		ended = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("running: %v", err)
	}
	if ended != code {
		ts.Fatalf("it ended with %d, want %d", ended, code)
	}
}
