package policies

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxDepth bounds how deep a document nests, before the parser, which recurses, sees it. The deepest of ours is four.
const maxDepth = 16

// kind is what a value of a document is.
type kind int

const (
	kindNull kind = iota
	kindText
	kindNumber
	kindBool
	kindList
	kindMap
	kindRefused // a problem has been reported; nothing more is to be said of it
)

// String names the kind as messages do.
func (k kind) String() string {
	return [...]string{"empty", "a text", "a number", "true or false", "a list", "a mapping", "refused"}[k]
}

// value is one node of a document: the few things of YAML that a policy is written with. Anchors, aliases, merges, tags and
// second documents are refused where it is built, so a small file stays a small tree.
type value struct {
	kind    kind
	line    int
	text    string // of a scalar, as written without quotes
	items   []*value
	entries []entry
}

type entry struct {
	key   string
	line  int
	value *value
}

// document is one file while it is read; what is wrong in it goes to problems.
type document struct {
	file     string
	problems *Problems
}

func (d *document) wrong(line int, field, wrong, right string) {
	*d.problems = append(*d.problems, Problem{File: d.file, Line: line, Field: field, Wrong: wrong, Right: right})
}

// parse builds the tree of a file, or nil where it has said why there is none.
func (d *document) parse(content []byte) *value {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	// A checkout that writes CRLF must not change the texts that consents name by their hash.
	content = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
	if !d.readable(content) {
		return nil
	}
	file, err := parseYAML(content)
	if err != nil {
		d.syntax(err)
		return nil
	}
	docs := slices.DeleteFunc(file.Docs, func(doc *ast.DocumentNode) bool { return doc.Body == nil })
	switch len(docs) {
	case 0:
		d.wrong(0, "", "an empty file", "write a document, or remove the file")
		return nil
	case 1:
		return d.build(docs[0].Body, "")
	}
	d.wrong(lineOf(docs[1]), "", "a second document in one file", "write one document in each file")
	return nil
}

// errPanicked is what parseYAML makes of a panic of the parser.
var errPanicked = errors.New("cannot be read as YAML")

// parseYAML is the parser of goccy/go-yaml, whose panics on malformed input (it has had several) become an error.
func parseYAML(content []byte) (file *ast.File, err error) {
	defer func() {
		if recover() != nil {
			file, err = nil, errPanicked
		}
	}()
	tokens := lexer.Tokenize(string(content))
	if err := shallow(tokens); err != nil {
		return nil, err
	}
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // duplicates are found, with both lines, by object
}

// shallow refuses what nests deeper than maxDepth: in brackets, in dashes of one line, or by indentation.
func shallow(tokens token.Tokens) error {
	flow, onLine, line := 0, 0, 0
	var indents []int
	for _, t := range tokens {
		if t.Position.Line != line {
			line, onLine = t.Position.Line, 0
			for len(indents) > 0 && indents[len(indents)-1] >= t.Position.Column {
				indents = indents[:len(indents)-1]
			}
			indents = append(indents, t.Position.Column)
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(0, flow-1)
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType, token.TagType, token.AnchorType:
			onLine++
		}
		if flow > maxDepth || onLine > 8*maxDepth || len(indents) > 2*maxDepth {
			return &yaml.SyntaxError{Message: "nested too deeply", Token: t}
		}
	}
	return nil
}

// readable refuses bytes that are no text, and characters that a person who reads the file would not see.
func (d *document) readable(content []byte) bool {
	line := 1
	for len(content) > 0 {
		r, size := utf8.DecodeRune(content)
		switch {
		case r == utf8.RuneError && size == 1:
			d.wrong(line, "", "bytes that are not UTF-8", "save the file as UTF-8")
			return false
		case r == '\n':
			if line++; line > MaxFileLines+1 {
				d.wrong(0, "", fmt.Sprintf("has more than %d lines", MaxFileLines), "shorten it")
				return false
			}
		case r != '\t' && unicode.IsControl(r), r == '\u2028', r == '\u2029', unicode.Is(unicode.Bidi_Control, r):
			d.wrong(line, "", fmt.Sprintf("an invisible control character %U", r), "remove it")
			return false
		}
		content = content[size:]
	}
	return true
}

func (d *document) syntax(err error) {
	var syntax *yaml.SyntaxError
	if !errors.As(err, &syntax) {
		d.wrong(0, "", "cannot be read as YAML", "write keys and values as the default policy does")
		return
	}
	line := 0
	if syntax.Token != nil && syntax.Token.Position != nil {
		line = syntax.Token.Position.Line
	}
	message, _, _ := strings.Cut(syntax.Message, "\n")
	d.wrong(line, "", "not YAML: "+message, "write keys and values as the default policy does")
}

// build turns a node into a value; a refused one, and a problem, for what a policy may not use.
func (d *document) build(node ast.Node, path string) *value {
	v := &value{line: lineOf(node)}
	switch n := node.(type) {
	case *ast.NullNode:
		v.kind = kindNull
	case *ast.StringNode:
		v.kind, v.text = kindText, n.Value
	case *ast.LiteralNode:
		v.kind, v.text = kindText, n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		v.kind, v.text = kindNumber, node.GetToken().Value
	case *ast.BoolNode:
		v.kind, v.text = kindBool, n.GetToken().Value
	case *ast.SequenceNode:
		v.kind = kindList
		for i, item := range n.Values {
			v.items = append(v.items, d.build(item, fmt.Sprintf("%s[%d]", path, i)))
		}
	case *ast.MappingNode:
		v.kind, v.entries = kindMap, d.entries(n.Values, path)
	case *ast.MappingValueNode:
		v.kind, v.entries = kindMap, d.entries([]*ast.MappingValueNode{n}, path)
	case *ast.AnchorNode, *ast.AliasNode:
		v.kind = kindRefused
		d.wrong(v.line, path, "an anchor or alias", "write the value out")
	default:
		v.kind = kindRefused
		d.wrong(v.line, path, "a YAML feature that policies do not use", "write plain keys, texts and lists")
	}
	return v
}

func (d *document) entries(nodes []*ast.MappingValueNode, path string) []entry {
	entries := make([]entry, 0, len(nodes))
	for _, n := range nodes {
		key, ok := n.Key.(*ast.StringNode)
		if !ok {
			d.wrong(lineOf(n.Key), path, "a key that is not a plain word", "write the key as a word; in quotes if it looks like a number")
			continue
		}
		entries = append(entries, entry{key: key.Value, line: lineOf(n.Key), value: d.build(n.Value, join(path, key.Value))})
	}
	return entries
}

// join is the path of a key below a path.
func join(path, key string) string {
	if len(key) > 64 || strings.ContainsAny(key, "\n\t") {
		key = "…"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// lineOf is the line on which a node begins, or 0.
func lineOf(node ast.Node) int {
	if node == nil {
		return 0
	}
	if t := node.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}
