package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// module is the path that imports of this tree begin with.
const module = "github.com/octroi/octroi"

// tree is the source of the module.
type tree struct {
	entries  []string            // of the top level
	packages map[string][]source // by folder, with slashes, relative to the root
}

// source is one Go file.
type source struct {
	path  string // with slashes, relative to the root
	test  bool
	lines int
	file  *ast.File
	set   *token.FileSet
}

// breach is one place that breaks a rule; line 0 means the whole file or folder.
type breach struct {
	path string
	line int
	rule string
}

func (b breach) String() string {
	if b.line == 0 {
		return b.path + ": " + b.rule
	}
	return fmt.Sprintf("%s:%d: %s", b.path, b.line, b.rule)
}

// read parses every Go file below root but those in testdata, in folders that a run makes, and behind a dot.
func read(root string) (*tree, error) {
	t := &tree{packages: map[string][]source{}}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("reading the top level: %w", err)
	}
	for _, e := range entries {
		t.entries = append(t.entries, e.Name())
	}
	err = filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name != root && e.IsDir() && (strings.HasPrefix(e.Name(), ".") || slices.Contains(notSource(), e.Name())) {
			return fs.SkipDir
		}
		if e.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		return t.add(name, filepath.ToSlash(relative))
	})
	if err != nil {
		return nil, fmt.Errorf("reading the source: %w", err)
	}
	return t, nil
}

func notSource() []string { return append([]string{"testdata", "node_modules"}, made()...) }

func (t *tree) add(name, relative string) error {
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, relative, content, 0) // 0 resolves names: a local variable hides a package's
	if err != nil {
		return err
	}
	folder := path.Dir(relative)
	t.packages[folder] = append(t.packages[folder], source{
		path: relative, test: strings.HasSuffix(relative, "_test.go"),
		lines: strings.Count(string(content), "\n"), file: file, set: set,
	})
	return nil
}

func (t *tree) files() int {
	n := 0
	for _, sources := range t.packages {
		n += len(sources)
	}
	return n
}

// check applies every rule; breaches come by path and line.
func (t *tree) check() []breach {
	breaches := t.checkTopLevel()
	for folder, sources := range t.packages {
		breaches = append(breaches, checkNames(folder, sources)...)
		breaches = append(breaches, checkState(sources)...)
		for _, s := range sources {
			breaches = append(breaches, s.checkShape()...)
			if s.test {
				continue // a test may look at what it wants: it decides nothing about who depends on whom
			}
			breaches = append(breaches, s.checkDirection(folder)...)
			if stageOf(folder) != "deploy" { // these look at the product from outside, as a test does
				breaches = append(breaches, s.checkLibraries(folder)...)
			}
		}
	}
	slices.SortFunc(breaches, func(a, b breach) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.line, b.line), cmp.Compare(a.rule, b.rule))
	})
	return breaches
}

// line is where a node begins.
func (s source) line(n ast.Node) int { return s.set.Position(n.Pos()).Line }
