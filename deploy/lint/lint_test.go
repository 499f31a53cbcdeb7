package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// plant writes an archive of files into a folder, beside all that the top level must have.
func plant(t *testing.T, archive string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range fixed() {
		var err error
		if strings.ContainsAny(name, ".ML") {
			err = os.WriteFile(filepath.Join(root, name), nil, 0o600)
		} else {
			err = os.Mkdir(filepath.Join(root, name), 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range txtar.Parse([]byte(archive)).Files {
		name := filepath.Join(root, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func breaches(t *testing.T, archive string) []string {
	t.Helper()
	tree, err := read(plant(t, archive))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, b := range tree.check() {
		got = append(got, b.String())
	}
	return got
}

func TestBreaches(t *testing.T) {
	long := "package policies\n\nfunc long() {\n" + strings.Repeat("\tprintln()\n", 69) + "}\n"
	cases := map[string]struct {
		archive string
		want    []string // the beginnings of the lines
	}{
		"nothing": {"", nil},
		"pipeline in order": {`
-- collector/admit.go --
package collector
import (
	_ "github.com/octroi/octroi/collector/spool"
	_ "github.com/octroi/octroi/collector/wire/native"
	_ "github.com/octroi/octroi/consent/evidence"
	_ "github.com/octroi/octroi/policies"
)
-- collector/wire/native/n.go --
package native
import _ "github.com/octroi/octroi/collector/wire/ijson"
-- export/load/l.go --
package load
import _ "github.com/octroi/octroi/export"
-- cmd/octroi/main.go --
package main
import (
	_ "github.com/octroi/octroi/cmd/internal/keyfile"
	_ "github.com/octroi/octroi/cmd/octroi/console"
	_ "github.com/octroi/octroi/collector"
	_ "github.com/octroi/octroi/export/load"
)
-- consent/l_test.go --
package consent
import _ "github.com/octroi/octroi/collector"
`, nil},
		"pointing left": {`
-- policies/p.go --
package policies
import _ "github.com/octroi/octroi/consent"
-- consent/state/s.go --
package state

import (
	"fmt"

	_ "github.com/octroi/octroi/pseudonymize/subject"
)
-- export/e.go --
package export
import _ "github.com/octroi/octroi/collector/spool"
-- export/f.go --
package export
import _ "github.com/octroi/octroi/export/load"
-- collector/spool/s.go --
package spool
import _ "github.com/octroi/octroi/collector"
-- collector/c.go --
package collector
import _ "github.com/octroi/octroi/cmd/internal/keyfile"
-- cmd/octroi-load/main.go --
package main
import _ "github.com/octroi/octroi/cmd/octroi"
-- cmd/octroi/main.go --
package main
import _ "github.com/octroi/octroi/deploy/bench"
`, []string{
			"cmd/octroi-load/main.go:2: cmd/octroi-load imports cmd/octroi, which is not left",
			"cmd/octroi/main.go:2: cmd/octroi imports deploy/bench, which is not left",
			"collector/c.go:2: collector imports cmd/internal/keyfile, which",
			"collector/spool/s.go:2: collector/spool imports collector, which",
			"consent/state/s.go:6: consent/state imports pseudonymize/subject, which",
			"export/e.go:2: export imports collector/spool, which",
			"export/f.go:2: export imports export/load, which",
			"policies/p.go:2: policies imports consent, which is not left of it",
		}},
		"libraries at home": {`
-- collector/http.go --
package collector
import _ "github.com/gofiber/fiber/v2"
-- collector/wire/native/http.go --
package native
import _ "github.com/gofiber/fiber/v2/utils"
-- cmd/octroi/serve.go --
package main
import _ "github.com/gofiber/fiber/v2"
-- cmd/octroi-load/main.go --
package main
import _ "filippo.io/age"
-- export/seal.go --
package export
import _ "filippo.io/age"
-- export/s3.go --
package export
import _ "github.com/minio/minio-go/v7"
-- consent/receipt.go --
package consent
import _ "github.com/golang-jwt/jwt/v5"
-- consent/state/s.go --
package state
import _ "github.com/dgraph-io/badger/v4"
-- export/seal_test.go --
package export
import _ "github.com/dgraph-io/badger/v4"
-- deploy/real/main.go --
package main
import _ "github.com/minio/minio-go/v7"
`, nil},
		"libraries abroad": {`
-- collector/edge.go --
package collector
import _ "github.com/gofiber/fiber/v2"
-- collector/s3.go --
package collector
import _ "github.com/minio/minio-go/v7/pkg/credentials"
-- cmd/octroi/init.go --
package main
import _ "filippo.io/age"
-- cmd/octroi-loader/main.go --
package main
import _ "filippo.io/age/armor"
-- consent/ledger.go --
package consent
import _ "github.com/golang-jwt/jwt/v5"
-- consent/badger.go --
package consent
import _ "github.com/dgraph-io/badger/v4"
`, []string{
			"cmd/octroi-loader/main.go:2: filippo.io/age may be imported only in cmd/octroi-custodian, cmd/octroi-load, export/seal.go",
			"cmd/octroi/init.go:2: filippo.io/age may",
			"collector/edge.go:2: github.com/gofiber/fiber may be imported only in cmd/octroi, http.go",
			"collector/s3.go:2: github.com/minio/minio-go may be imported only in export/s3.go",
			"consent/badger.go:2: github.com/dgraph-io/badger may be imported only in consent/state",
			"consent/ledger.go:2: github.com/golang-jwt/jwt may be imported only in collector/token.go",
		}},
		"names": {`
-- collector/utils/x.go --
package utils
-- consent/x.go --
package helpers
-- consent/handler.go --
package consent
`, []string{
			`collector/utils: "utils" says nothing`,
			`consent/x.go:1: package name "helpers" says nothing`,
		}},
		"top level": {`
-- internal/x.go --
package internal
-- NEWS.md --
-- notes.txt --
-- .gitignore --
-- bin/octroi --
-- octroi-data/gateway/x.go --
not Go
-- policies/testdata/x.go --
not Go
-- .cache/x.go --
not Go
`, []string{
			"internal/x.go: the folder has no place in the import graph",
			"internal: is not of the fixed top level",
			"notes.txt: is not of the fixed top level",
		}},
		"state": {`
-- policies/p.go --
package policies

var total int
var table = map[string]int{}
var Shared = struct{ n int }{}
var once [3]int
var _ = total

func count(table map[string]int) {
	total++
	table["x"] = 1
	local := 0
	local++
	Shared.n = local
}

func init() {}
-- policies/q.go --
package policies

func forget(list []int) {
	delete(table, "x")
	_ = list
	once := list
	once[0] = 1
	other.total = 2
	(once)[1], total = 1, 2
}
-- policies/q_test.go --
package policies

func seam() { total = 3 }

func init() {}
`, []string{
			"policies/p.go:10: writes the package's variable total",
			"policies/p.go:14: writes the package's variable Shared",
			"policies/p.go:17: func init",
			"policies/q.go:4: writes the package's variable table",
			"policies/q.go:9: writes the package's variable total",
		}},
		"long":          {"-- policies/p.go --\n" + long, []string{"policies/p.go:3: long has 71 lines, at most 70"}},
		"long test":     {"-- policies/p_test.go --\n" + long, nil},
		"just so":       {"-- policies/p.go --\n" + strings.Replace(long, "\tprintln()\n", "", 1), nil},
		"long file":     {"-- policies/p.go --\npackage policies\n" + strings.Repeat("\n", 500), []string{"policies/p.go: 501 lines, at most 500"}},
		"file just so":  {"-- policies/p.go --\npackage policies\n" + strings.Repeat("\n", 499), nil},
		"other module":  {"-- policies/p.go --\npackage policies\nimport _ \"github.com/octroi/octroi-consent\"\n", nil},
		"unknown stage": {"-- export/x/y.go --\npackage y\nimport _ \"github.com/octroi/octroi/nowhere\"\n", []string{"export/x/y.go:2: export/x imports nowhere"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := breaches(t, c.archive)
			slices.Sort(got)
			if len(got) != len(c.want) {
				t.Fatalf("got %d breaches, want %d:\n%s", len(got), len(c.want), strings.Join(got, "\n"))
			}
			for i := range got {
				if !strings.HasPrefix(got[i], c.want[i]) {
					t.Errorf("got  %s\nwant %s…", got[i], c.want[i])
				}
			}
		})
	}
}

func TestMissingTopLevel(t *testing.T) {
	tree, err := read(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if got := tree.check(); len(got) != len(fixed()) {
		t.Errorf("an empty folder: %v", got)
	}
	if _, err := read(filepath.Join(t.TempDir(), "nowhere")); err == nil {
		t.Error("a folder that is not there is read")
	}
	if _, err := read(plant(t, "-- policies/p.go --\npackage\n")); err == nil {
		t.Error("a file that is no Go is read")
	}
}

func TestReach(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/there" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	if err := reach(t.Context(), server.URL+"/there"); err != nil {
		t.Error(err)
	}
	if err := reach(t.Context(), server.URL+"/elsewhere"); err == nil {
		t.Error("a page that is not there is reached")
	}
	server.Close()
	if err := reach(t.Context(), server.URL+"/there"); err == nil {
		t.Error("a server that is gone is reached")
	}
}

// TestPipelineIsWhole: every stage's neighbour is a stage, and no stage is left of itself.
func TestPipelineIsWhole(t *testing.T) {
	names := map[string]bool{}
	for _, s := range pipeline() {
		for _, a := range s.after {
			if !names[a] {
				t.Errorf("%s comes after %s, which is not drawn before it", s.folder, a)
			}
		}
		names[s.folder] = true
	}
	// The longest chain of architecture.md.
	chain := []string{"policies", "consent/evidence", "consent/state", "pseudonymize/subject", "consent", "pseudonymize", "collector/spool", "collector", "cmd"}
	for i, right := range chain {
		for j, left := range chain {
			if got := slices.Contains(leftOf(right), left); got != (j <= i) {
				t.Errorf("%s may import %s: %v", right, left, got)
			}
		}
	}
}

// TestOwnTree: the tree this file stands in is found, and large enough that its lint means something.
func TestOwnTree(t *testing.T) {
	tree, err := read("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"policies", "consent", "consent/state", "pseudonymize", "collector", "export", "cmd/octroi", "deploy/lint"} {
		if len(tree.packages[s]) == 0 {
			t.Errorf("%s is not found", s)
		}
	}
	if n := len(tree.packages); n < leastPackages {
		t.Error(fmt.Sprint(n, " packages are found, fewer than main wants"))
	}
}
