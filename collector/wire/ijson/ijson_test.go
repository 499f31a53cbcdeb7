package ijson

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/valyala/fastjson"
)

const event = `{"id":"01903e6c-70a1-7cc4-a3f2-2e54f1c4d3aa","type":"product_view","time":"2026-11-21T18:00:01.250Z","site":"shop","channel":"web",` +
	`"fields":{"url":"https://shop.example/p/1928374/red-shoes?gclid=x&utm_source=newsletter","title":"Chaussures rouges \u00e0 talons",` +
	`"referrer":"https://search.example/results?q=red+shoes","campaign":"spring-sale","source":"newsletter","medium":"email","sku":"1928374",` +
	`"category":"shoes/women","screen":"1920x1080","language":"fr-FR","position":3,"in_stock":true,"value":{"amount":"129.90","currency":"EUR"}}}`

func TestParse(t *testing.T) {
	var d Document
	if err := d.Parse(` {"a":[1,-0.5e+3,"x\n\ud83d\ude00\ud83d"], "b":{"c":null}, "d":true} `); err != nil {
		t.Fatal(err)
	}
	var got []string
	var walk func(Value)
	walk = func(v Value) {
		got = append(got, fmt.Sprintf("%s=%s/%d/%d", v.Name(), v.Text(), v.Kind(), v.Height()))
		for m := range v.All() {
			walk(m)
		}
	}
	walk(d.Root())
	want := "=/6/2 a=/5/1 =1/3/0 =-0.5e+3/3/0 =x\n\U0001F600\uFFFD/4/0 b=/6/1 c=null/1/0 d=true/2/0"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("read\n%s\nwant\n%s", s, want)
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct {
		text string
		want error
	}{
		{``, ErrSyntax},
		{`   `, ErrSyntax},
		{`{`, ErrSyntax},
		{`{"a"`, ErrSyntax},
		{`{"a":1,}`, ErrSyntax},
		{`[1,]`, ErrSyntax},
		{`[,1]`, ErrSyntax},
		{`{a:1}`, ErrSyntax},
		{`{'a':1}`, ErrSyntax},
		{`nan`, ErrSyntax},
		{`NaN`, ErrSyntax},
		{`01`, ErrSyntax},
		{`1.`, ErrSyntax},
		{`.5`, ErrSyntax},
		{`+1`, ErrSyntax},
		{`1e`, ErrSyntax},
		{`-`, ErrSyntax},
		{`"a`, ErrSyntax},
		{"\"a\x01\"", ErrSyntax},
		{`"\x41"`, ErrSyntax},
		{`"\u12g4"`, ErrSyntax},
		{`"\u12`, ErrSyntax},
		{`{} {}`, ErrSyntax},
		{`truefalse`, ErrSyntax},
		{"\ufeff{}", ErrSyntax},
		{"\"\xff\"", ErrEncoding},
		{"\"\xed\xa0\x80\"", ErrEncoding},
		{strings.Repeat("[", 1<<20), ErrDepth},
		{"[" + strings.Repeat("0,", MaxValues-1) + "0]", ErrTooMany},
		{strings.Repeat(`{"a":`, MaxDepth+1) + "1" + strings.Repeat("}", MaxDepth+1), ErrDepth},
	}
	var d Document
	for _, test := range tests {
		if err := d.Parse(test.text); !errors.Is(err, test.want) {
			t.Errorf("Parse(%.40q) = %v, want %v", test.text, err, test.want)
		}
	}
}

// A pooled Document keeps neither what it read, of several texts as of one, nor the memory that a large text took.
func TestForget(t *testing.T) {
	var d Document
	for _, text := range []string{`["canary","canary","canary","canary"]`, `{"canary":"\u0041"}`, `"canary"`, `["canary",`} {
		_ = d.Parse(text)
	}
	d.Forget()
	for _, n := range d.nodes[:cap(d.nodes)] {
		if n.name != "" || n.text != "" {
			t.Fatalf("a pooled document holds %q %q", n.name, n.text)
		}
	}
	if err := d.Parse("[" + strings.Repeat("0,", MaxValues-2) + "0]"); err != nil {
		t.Fatal("as many values as there may be:", err)
	}
	if d.Forget(); cap(d.nodes) > keptNodes {
		t.Errorf("a pooled document keeps %d nodes", cap(d.nodes))
	}
}

func TestFlaws(t *testing.T) {
	wide := make([]string, MaxMembers+1)
	for i := range wide {
		wide[i] = fmt.Sprintf(`"m%d":0`, i)
	}
	tests := []struct {
		text       string
		own, flaws Flaws
	}{
		{`{"a":1,"b":{"a":2}}`, 0, 0},
		{`{"a":1,"a":2}`, Duplicate, Duplicate},
		{`{"a":1,"\u0061":2}`, Duplicate, Duplicate},
		{`[{"a":1},{"x":[{"b":1,"b":1}]}]`, 0, Duplicate},
		{`{` + strings.Join(wide, ",") + `}`, Wide, Wide},
		{`{` + strings.Join(wide[:MaxMembers], ",") + `}`, 0, 0},
		{`{"":1,"":2}`, Duplicate, Duplicate},
	}
	var d Document
	for _, test := range tests {
		if err := d.Parse(test.text); err != nil {
			t.Fatal(err)
		}
		if v := d.Root(); v.Own() != test.own || v.Flaws() != test.flaws {
			t.Errorf("%.40s has flaws %d (own %d), want %d (own %d)", test.text, v.Flaws(), v.Own(), test.flaws, test.own)
		}
	}
}

// FuzzParse holds the parser against encoding/json: what both read must be equal, and neither may read what the other refuses.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		event, `[]`, `{}`, `null`, `-0`, `1E-7`, `"\ud800"`, `"\ud83d\ude00"`, `{"a":{"a":[[[]]]}}`, `[1,2`, `"\/"`, "\"\u2028\"", ` 1 `,
		`{"a":1,"\u0061":2}`, `[0123]`, `"\ud83dx"`, `"\ud83d\n"`, `"\ud83d\ud83d\ude00"`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var d Document
		err := d.Parse(s)
		if errors.Is(err, ErrDepth) || errors.Is(err, ErrEncoding) {
			return
		}
		if (err == nil) != json.Valid([]byte(s)) {
			t.Fatalf("Parse(%q) = %v, encoding/json says valid is %v", s, err, json.Valid([]byte(s)))
		}
		if err != nil || d.Root().Flaws() != 0 {
			return
		}
		dec := json.NewDecoder(strings.NewReader(s))
		dec.UseNumber()
		var want any
		if err := dec.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(plain(d.Root())), fmt.Sprint(want); got != want {
			t.Fatalf("Parse(%q) reads %q, encoding/json %q", s, got, want)
		}
	})
}

func plain(v Value) any {
	switch v.Kind() {
	case Null:
		return nil
	case Bool:
		return v.True()
	case Number:
		return json.Number(v.Text())
	case String:
		return v.Text()
	case Array:
		list := []any{}
		for e := range v.All() {
			list = append(list, plain(e))
		}
		return list
	}
	object := map[string]any{}
	for m := range v.All() {
		object[m.Name()] = plain(m)
	}
	return object
}

func BenchmarkParse(b *testing.B) {
	b.Run("ijson", func(b *testing.B) {
		var d Document
		b.ReportAllocs()
		b.SetBytes(int64(len(event)))
		for b.Loop() {
			if err := d.Parse(event); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fastjson-validated", func(b *testing.B) {
		var p fastjson.Parser
		b.ReportAllocs()
		b.SetBytes(int64(len(event)))
		for b.Loop() {
			if err := fastjson.Validate(event); err != nil {
				b.Fatal(err)
			}
			if _, err := p.Parse(event); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fastjson", func(b *testing.B) {
		var p fastjson.Parser
		b.ReportAllocs()
		b.SetBytes(int64(len(event)))
		for b.Loop() {
			if _, err := p.Parse(event); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		raw := []byte(event)
		b.ReportAllocs()
		b.SetBytes(int64(len(event)))
		for b.Loop() {
			var v any
			if err := json.Unmarshal(raw, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
