package access_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/octroi/octroi/export/rights/access"
)

// validate checks a document against the published schema, as far as the schema goes: what it does not know of JSON Schema is an error.
func validate(t *testing.T, document string) {
	t.Helper()
	var schema map[string]any
	if err := json.Unmarshal(access.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal([]byte(document), &value); err != nil {
		t.Fatal(err)
	}
	s := schemaCheck{root: schema, patterns: map[string]*regexp.Regexp{}}
	s.check("", schema, value)
	if len(s.wrong) > 0 {
		t.Errorf("against the schema: %q", s.wrong)
	}
}

type schemaCheck struct {
	root     map[string]any
	patterns map[string]*regexp.Regexp // compiled
	wrong    []string
}

func (s *schemaCheck) pattern(text string) *regexp.Regexp {
	if s.patterns[text] == nil {
		s.patterns[text] = regexp.MustCompile(text)
	}
	return s.patterns[text]
}

func (s *schemaCheck) fail(at, why string) { s.wrong = append(s.wrong, at+": "+why) }

func (s *schemaCheck) check(at string, schema map[string]any, value any) {
	for keyword, rule := range schema {
		switch keyword {
		case "$schema", "$id", "$defs", "title", "description", "format", "properties": // format is told, not checked
		case "$ref":
			name := strings.TrimPrefix(rule.(string), "#/$defs/")
			s.check(at, s.root["$defs"].(map[string]any)[name].(map[string]any), value)
		case "type":
			if !isType(rule, value) {
				s.fail(at, fmt.Sprintf("is no %v", rule))
			}
		case "const":
			if rule != value {
				s.fail(at, fmt.Sprintf("is not %v", rule))
			}
		case "enum":
			if !slices.Contains(rule.([]any), value) {
				s.fail(at, "is not of the list")
			}
		case "pattern":
			if text, ok := value.(string); ok && !s.pattern(rule.(string)).MatchString(text) {
				s.fail(at, "is not of its pattern")
			}
		case "minimum":
			if n, ok := value.(float64); ok && n < rule.(float64) {
				s.fail(at, "is too small")
			}
		case "required":
			for _, name := range rule.([]any) {
				if object, ok := value.(map[string]any); ok && !has(object, name.(string)) {
					s.fail(at, "lacks "+name.(string))
				}
			}
		case "items":
			list, _ := value.([]any)
			for i, item := range list {
				s.check(fmt.Sprintf("%s/%d", at, i), rule.(map[string]any), item)
			}
		case "additionalProperties":
			s.members(at, schema, rule, value)
		default:
			s.fail(at, "the schema has "+keyword)
		}
	}
}

func has(object map[string]any, name string) bool { _, ok := object[name]; return ok }

// members checks an object's members: every object of the schema says what others it may have.
func (s *schemaCheck) members(at string, schema map[string]any, others, value any) {
	object, _ := value.(map[string]any)
	known, _ := schema["properties"].(map[string]any)
	for name, member := range object {
		rule, ok := known[name].(map[string]any)
		if !ok {
			if rule, ok = others.(map[string]any); !ok {
				s.fail(at, "has "+name)
				continue
			}
		}
		s.check(at+"/"+name, rule, member)
	}
}

func isType(rule, value any) bool {
	if several, ok := rule.([]any); ok {
		return slices.ContainsFunc(several, func(one any) bool { return isType(one, value) })
	}
	switch x := value.(type) {
	case nil:
		return rule == "null"
	case bool:
		return rule == "boolean"
	case string:
		return rule == "string"
	case float64:
		return rule == "number" || rule == "integer" && x == float64(int64(x))
	case []any:
		return rule == "array"
	}
	return rule == "object"
}

// TestSchema: the check finds what is wrong.
func TestSchema(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(access.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	s := schemaCheck{root: schema, patterns: map[string]*regexp.Regexp{}}
	s.check("", schema, map[string]any{"v": 2.0, "purposes": []any{map[string]any{"id": 3.0}}, "more": true})
	for _, want := range []string{": lacks request", "/v: is not 1", "/purposes/0: lacks title", "/purposes/0/id: is no string", ": has more"} {
		if !slices.Contains(s.wrong, want) {
			t.Errorf("not found: %s in %q", want, s.wrong)
		}
	}
}
