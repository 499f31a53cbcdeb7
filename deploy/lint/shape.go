package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
)

// The lengths from which a function or a file is two.
const (
	mostFunctionLines = 70
	mostFileLines     = 500
)

// fixed is the top level, all of which must be there but NEWS.md, which the first release brings.
func fixed() []string {
	return []string{
		"cmd", "collector", "consent", "pseudonymize", "export", "policies", "deploy", "Makefile", "go.mod", "go.sum", "README.md",
		"LICENSE",
	}
}

// made is what runs leave in the folder; .gitignore names it.
func made() []string { return []string{"bin", "octroi-data", "bench.json"} }

func (t *tree) checkTopLevel() []breach {
	var breaches []breach
	for _, name := range t.entries {
		known := slices.Contains(fixed(), name) || slices.Contains(made(), name) || name == "NEWS.md"
		if !known && !strings.HasPrefix(name, ".") {
			breaches = append(breaches, breach{name, 0, "is not of the fixed top level: " + strings.Join(fixed(), " ")})
		}
	}
	for _, name := range fixed() {
		if !slices.Contains(t.entries, name) {
			breaches = append(breaches, breach{name, 0, "is missing from the top level"})
		}
	}
	return breaches
}

// forbidden are the names that say nothing about what is in a package.
func forbidden() []string {
	return []string{
		"util", "utils", "common", "helper", "helpers", "core", "model", "models", "types", "service", "services", "handler",
		"handlers", "manager", "managers", "pkg", "lib", "misc", "shared", "base",
	}
}

// checkNames: a package is named after what it holds.
func checkNames(folder string, sources []source) []breach {
	var breaches []breach
	for part := range strings.SplitSeq(folder, "/") {
		if slices.Contains(forbidden(), part) {
			breaches = append(breaches, breach{folder, 0, fmt.Sprintf("%q says nothing about what is in it", part)})
		}
	}
	for _, s := range sources {
		name := strings.TrimSuffix(s.file.Name.Name, "_test")
		if name != path.Base(folder) && slices.Contains(forbidden(), name) {
			breaches = append(breaches, breach{s.path, s.line(s.file.Name), fmt.Sprintf("package name %q says nothing", name)})
		}
	}
	return breaches
}

// checkShape: functions fit a screen, files are about one thing, nothing runs before main.
func (s source) checkShape() []breach {
	if s.test {
		return nil
	}
	var breaches []breach
	if s.lines > mostFileLines {
		breaches = append(breaches, breach{s.path, 0, fmt.Sprintf("%d lines, at most %d", s.lines, mostFileLines)})
	}
	for _, d := range s.file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := s.set.Position(f.End()).Line - s.line(f.Type) + 1; n > mostFunctionLines {
			breaches = append(breaches, breach{
				s.path, s.line(f.Type), fmt.Sprintf("%s has %d lines, at most %d", f.Name.Name, n, mostFunctionLines),
			})
		}
		if f.Name.Name == "init" && f.Recv == nil {
			breaches = append(breaches, breach{s.path, s.line(f.Type), "func init: what runs is started by main"})
		}
	}
	return breaches
}

// checkState: no function writes a variable of the package.
func checkState(sources []source) []breach {
	variables := map[string]bool{}
	specs := map[any]bool{}
	for _, s := range sources {
		if s.test {
			continue
		}
		for _, d := range s.file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				specs[spec] = true
				for _, name := range spec.(*ast.ValueSpec).Names {
					variables[name.Name] = true
				}
			}
		}
	}
	var breaches []breach
	for _, s := range sources {
		if s.test {
			continue
		}
		for _, name := range s.written() {
			// The parser resolves names within a file: an unresolved one is declared in another file of the package.
			if variables[name.Name] && (name.Obj == nil || specs[name.Obj.Decl]) {
				breaches = append(breaches, breach{s.path, s.line(name), fmt.Sprintf("writes the package's variable %s", name.Name)})
			}
		}
	}
	return breaches
}

// written are the names at the root of what the functions of a file assign to.
func (s source) written() []*ast.Ident {
	var names []*ast.Ident
	note := func(x ast.Expr) {
		if name := root(x); name != nil && name.Name != "_" {
			names = append(names, name)
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, x := range n.Lhs {
				note(x)
			}
		case *ast.IncDecStmt:
			note(n.X)
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "delete" || f.Name == "clear") && len(n.Args) > 0 {
				note(n.Args[0])
			}
		}
		return true
	})
	return names
}

// root is the variable that an expression such as a.b[i] or *a leads to.
func root(x ast.Expr) *ast.Ident {
	for {
		switch e := x.(type) {
		case *ast.Ident:
			return e
		case *ast.SelectorExpr:
			x = e.X
		case *ast.IndexExpr:
			x = e.X
		case *ast.StarExpr:
			x = e.X
		case *ast.ParenExpr:
			x = e.X
		default:
			return nil
		}
	}
}
