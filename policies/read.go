package policies

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// fields is a mapping of a document while its keys are read. What a reader asks for and does not find well formed becomes a
// problem, and the reader gets the zero value and goes on: a policy is corrected in one round.
type fields struct {
	doc  *document
	path string
	line int
	at   map[string]*value
	none bool // it is no mapping at all, so no key of it is missing
}

// object reads a mapping whose keys are all among known.
func (d *document) object(v *value, path string, known ...string) fields {
	f := d.mapping(v, path)
	for key, x := range f.at {
		if !slices.Contains(known, key) {
			d.wrong(x.line, join(path, key), "an unknown key", choose(key, known))
		}
	}
	return f
}

// mapping reads a mapping of any keys.
func (d *document) mapping(v *value, path string) fields {
	f := fields{doc: d, path: path, line: v.line, at: make(map[string]*value, len(v.entries))}
	if v.kind != kindMap {
		d.wrongKind(v, path, "write a mapping: key: value")
		f.none = true
		return f
	}
	for _, e := range v.entries {
		if first, twice := f.at[e.key]; twice {
			d.wrong(e.line, join(path, e.key), fmt.Sprintf("a key that line %d has already", first.line), "keep one")
			continue
		}
		x := *e.value
		x.line = e.line // the line to correct is the key's, not that of a block below it
		f.at[e.key] = &x
	}
	return f
}

// wrong reports a problem of one key, at its line, or at the mapping's where the key is missing.
func (f fields) wrong(key, wrong, right string) {
	line := f.line
	if x := f.at[key]; x != nil {
		line = x.line
	}
	f.doc.wrong(line, join(f.path, key), wrong, right)
}

// has reports whether the key is there with a value.
func (f fields) has(key string) bool {
	x := f.at[key]
	return x != nil && x.kind != kindNull
}

// find is the value of a key if it is of a kind; a value of another is a problem, a missing one is not.
func (f fields) find(key string, want kind) *value {
	if !f.has(key) {
		if f.at[key] != nil {
			f.wrong(key, "is empty", "write a value, or remove the key")
		}
		return nil
	}
	x := f.at[key]
	if x.kind == want {
		return x
	}
	right := "write " + want.String()
	if want == kindText && x.kind != kindList && x.kind != kindMap {
		right = fmt.Sprintf("write it in quotes: %q", clip(x.text))
	}
	f.doc.wrongKind(x, join(f.path, key), right)
	return nil
}

// wrongKind reports a value that is of another kind than it must be, unless it is refused already.
func (d *document) wrongKind(v *value, path, right string) {
	if v.kind != kindRefused {
		d.wrong(v.line, path, "is "+v.kind.String(), right)
	}
}

// clip is a text short enough for a message.
func clip(s string) string {
	if r := []rune(s); len(r) > 48 {
		return string(r[:48]) + "…"
	}
	return s
}

// missing reports a key that must be there, and says what to write.
func (f fields) missing(key, example string) {
	if f.at[key] == nil && !f.none {
		f.wrong(key, "is missing", "write "+example)
	}
}

// text reads a text without the space around it; "" where there is none.
func (f fields) text(key string) string {
	x := f.find(key, kindText)
	if x == nil {
		return ""
	}
	text := strings.TrimSpace(x.text)
	switch {
	case text == "":
		f.wrong(key, "is empty", "write a text, or remove the key")
	case len(text) > MaxTextBytes:
		f.wrong(key, fmt.Sprintf("is longer than %d bytes", MaxTextBytes), "shorten it")
		return ""
	}
	return text
}

// short reads a text of one line, as names and references are.
func (f fields) short(key string) string {
	text := f.text(key)
	if strings.ContainsRune(text, '\n') || len(text) > 256 {
		f.wrong(key, "is longer than a line of 256 bytes", "shorten it")
		return ""
	}
	return text
}

// required is short for a key that must be there.
func (f fields) required(key, example string) string {
	f.missing(key, example)
	return f.short(key)
}

// name reads an identifier: lower-case letters, digits, _ and -, beginning with a letter, at most 32.
func (f fields) name(key, example string) string {
	text := f.required(key, example)
	if text != "" && !isName(text) {
		f.wrong(key, fmt.Sprintf("%q is not a name", clip(text)), nameRule)
		return ""
	}
	return text
}

const nameRule = "write lower-case letters, digits, _ and -, a letter first, at most 32"

func isName(s string) bool {
	for i, r := range []byte(s) {
		letter := 'a' <= r && r <= 'z'
		other := '0' <= r && r <= '9' || r == '_' || r == '-'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return 0 < len(s) && len(s) <= 32
}

// among reads a word of a closed list; otherwise where the key is missing or wrong.
func (f fields) among(key, otherwise string, list []string) string {
	text := f.text(key)
	if text == "" {
		return otherwise
	}
	if !slices.Contains(list, text) {
		f.wrong(key, fmt.Sprintf("%q is none of the list", clip(text)), choose(text, list))
		return otherwise
	}
	return text
}

// flag reads true or false; false where the key is missing.
func (f fields) flag(key string) bool {
	x := f.find(key, kindBool)
	return x != nil && strings.EqualFold(x.text, "true")
}

// number reads a whole number from 1 to most; 0 where there is none.
func (f fields) number(key string, most int) int {
	x := f.find(key, kindNumber)
	if x == nil {
		return 0
	}
	n, err := strconv.Atoi(x.text)
	if err != nil || n < 1 || n > most {
		f.wrong(key, fmt.Sprintf("%s is not a version", clip(x.text)), fmt.Sprintf("write a whole number from 1 to %d", most))
		return 0
	}
	return n
}

// period reads a span that is more than nothing and no longer than fifty years; otherwise where there is none.
func (f fields) period(key string, otherwise Period) Period {
	text := f.text(key)
	if text == "" {
		return otherwise
	}
	p, err := ParsePeriod(text)
	switch {
	case err != nil:
		f.wrong(key, fmt.Sprintf("%q is not a period", clip(text)), "write an ISO 8601 period such as P6M, P1Y or PT24H")
	case p.IsZero():
		f.wrong(key, "is no time at all", "write a period such as P6M")
	case longer(p, Period{Years: 50}): // GDPR Art. 5(1)(e); C12: never infinite
		f.wrong(key, "is longer than fifty years", "write how long the purpose needs the data")
	default:
		return p
	}
	return otherwise
}

// place is where a list has an item.
type place struct{ line, index int }

// names reads a list of distinct names; each comes with its place.
func (f fields) names(key string) (names []string, places []place) {
	list := f.find(key, kindList)
	if list == nil {
		return nil, nil
	}
	if len(list.items) > MaxEventTypes {
		f.wrong(key, fmt.Sprintf("has more than %d entries", MaxEventTypes), "shorten it")
		return nil, nil
	}
	for i, x := range list.items {
		path := fmt.Sprintf("%s[%d]", join(f.path, key), i)
		switch {
		case x.kind != kindText:
			f.doc.wrongKind(x, path, "write a name")
		case slices.Contains(names, x.text):
			f.doc.wrong(x.line, path, fmt.Sprintf("%q is in the list already", clip(x.text)), "remove it")
		case !isName(x.text):
			f.doc.wrong(x.line, path, fmt.Sprintf("%q is not a name", clip(x.text)), nameRule)
		default:
			names, places = append(names, x.text), append(places, place{x.line, i})
		}
	}
	return names, places
}
