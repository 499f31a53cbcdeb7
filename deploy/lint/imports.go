package main

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// stage is a place of the pipeline: a folder with what is below it, unless that has a stage of its own.
type stage struct {
	folder string
	after  []string // the folders of the stages just left of it
}

// pipeline is the import graph: a stage may import what is left of it, at any distance, and itself.
//
//	policies ► consent/evidence ► consent/state ► pseudonymize/subject ► consent ► pseudonymize ► collector/spool ► collector
//	                                                                                    └──► export ► export/{load,journey}
//	                                                                                          └──► export/rights/{proof,letter,access} ► export/rights{,/sweep}
func pipeline() []stage {
	return []stage{
		{"policies", nil},
		{"consent/evidence", []string{"policies"}},
		{"consent/state", []string{"consent/evidence"}},
		{"pseudonymize/subject", []string{"consent/state"}},
		{"consent/signal", []string{"policies"}},
		{"consent", []string{"pseudonymize/subject", "consent/signal"}},
		{"pseudonymize", []string{"consent"}},
		{"collector/spool", []string{"pseudonymize"}},
		{"collector/wire", []string{"pseudonymize"}},
		{"collector/tag", []string{"policies"}},
		{"collector", []string{"collector/spool", "collector/wire", "collector/tag"}},
		{"export", []string{"pseudonymize"}},
		{"export/load", []string{"export"}},
		{"export/journey", []string{"export"}},
		{"export/rights/proof", []string{"export"}},
		{"export/rights/letter", []string{"export"}},
		{"export/rights/access", []string{"export/rights/letter"}},
		{"export/rights", []string{"export/rights/proof", "export/rights/access", "export/rights/letter"}},
		{"export/rights/sweep", []string{"export/rights/proof", "export/rights/access"}},
		{"cmd/internal", []string{"collector", "export/load", "export/journey", "export/rights", "export/rights/sweep"}},
		{"cmd", []string{"cmd/internal"}},
		{"deploy", []string{"cmd"}},
	}
}

// stageOf is the innermost stage that a folder belongs to, or "".
func stageOf(folder string) string {
	best := ""
	for _, s := range pipeline() {
		if (folder == s.folder || strings.HasPrefix(folder, s.folder+"/")) && len(s.folder) > len(best) {
			best = s.folder
		}
	}
	return best
}

// leftOf is every stage that a stage may import, itself included.
func leftOf(name string) []string {
	left := []string{name}
	for i := 0; i < len(left); i++ {
		for _, s := range pipeline() {
			if s.folder != left[i] {
				continue
			}
			for _, a := range s.after {
				if !slices.Contains(left, a) {
					left = append(left, a)
				}
			}
		}
	}
	return left
}

// checkDirection: nothing points left.
func (s source) checkDirection(folder string) []breach {
	from := stageOf(folder)
	if from == "" {
		return []breach{{s.path, 0, "the folder has no place in the import graph (deploy/lint/imports.go)"}}
	}
	var breaches []breach
	for _, spec := range s.file.Imports {
		target, ours := strings.CutPrefix(unquote(spec.Path.Value), module+"/")
		if !ours {
			continue
		}
		to := stageOf(target)
		program := strings.HasPrefix(target, "cmd/") && to != "cmd/internal" || strings.HasPrefix(target, "deploy/")
		sameProgram := from == to && strings.HasPrefix(path.Join(target, "x"), topTwo(folder)+"/")
		if !slices.Contains(leftOf(from), to) || program && !sameProgram {
			breaches = append(breaches, breach{
				s.path, s.line(spec),
				fmt.Sprintf("%s imports %s, which is not left of it in the pipeline", folder, target),
			})
		}
	}
	return breaches
}

// topTwo is the first two parts of a folder: the program it belongs to, below cmd and deploy.
func topTwo(folder string) string {
	parts := strings.SplitN(folder, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

// library is a dependency that only some places may name, so that to change it is to change those.
type library struct {
	path    string
	folders []string // any file in or below
	files   []string // by path, or by name where there is no slash
}

func libraries() []library {
	return []library{
		{"github.com/gofiber/fiber", []string{"cmd/octroi"}, []string{"http.go"}},
		{"github.com/valyala/fasthttp", []string{"cmd/octroi"}, []string{"http.go"}},
		{"github.com/minio/minio-go", nil, []string{"export/s3.go"}},
		{"filippo.io/age", []string{"cmd/octroi-custodian", "cmd/octroi-load"}, []string{"export/seal.go"}},
		// Where tokens are made or checked.
		{"github.com/golang-jwt/jwt", nil, []string{
			"collector/token.go", "collector/claim.go", "consent/receipt.go", "consent/snapshot.go", "export/stream.go", "export/rights/proof/statement.go",
			"cmd/octroi/token.go",
		}},
		{"github.com/dgraph-io/badger", []string{"consent/state"}, nil},
		{"github.com/jackc/pgx", []string{"export/load"}, nil},
	}
}

// checkLibraries: each library stays in its files.
func (s source) checkLibraries(folder string) []breach {
	var breaches []breach
	for _, spec := range s.file.Imports {
		imported := unquote(spec.Path.Value)
		for _, l := range libraries() {
			if imported == l.path || strings.HasPrefix(imported, l.path+"/") {
				if !l.allows(folder, s.path) {
					breaches = append(breaches, breach{s.path, s.line(spec), fmt.Sprintf("%s may be imported only in %s", l.path, l)})
				}
			}
		}
	}
	return breaches
}

func (l library) allows(folder, file string) bool {
	if slices.Contains(l.files, file) || slices.Contains(l.files, path.Base(file)) {
		return true
	}
	return slices.ContainsFunc(l.folders, func(f string) bool { return folder == f || strings.HasPrefix(folder, f+"/") })
}

// String lists where the library may be.
func (l library) String() string {
	return strings.Join(append(slices.Clone(l.folders), l.files...), ", ")
}

func unquote(literal string) string {
	s, err := strconv.Unquote(literal)
	if err != nil {
		return literal
	}
	return s
}
