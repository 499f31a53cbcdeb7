package access

import (
	"encoding/json"
	"io"
	"time"
)

// packageJSON writes package.json, one member, one choice and one event a line:
//
//	{"$schema":"package.schema.json","format":"octroi.access","v":1, …head…,
//	"destinations":[
//	{"destination":"warehouse","withheld":0,"events":[
//	{…},
//	{…}
//	]}
//	]}
type packageJSON struct {
	w            io.Writer
	destinations int
	events       int            // of this destination
	withheld     map[string]int // by destination
}

// member is one member of the head.
type member struct {
	name  string
	value any
}

func newPackageJSON(w io.Writer, b *bundle) (*packageJSON, error) {
	m := &b.material
	lines := []member{
		{"$schema", SchemaFile},
		{"format", "octroi.access"},
		{"v", materialVersion},
		{"request", m.Request},
		{"received", m.Received.UTC()},
		{"made_at", b.found.At.UTC().Truncate(time.Second)},
		{"kind", m.Kind},
		{"objects_read", b.found.Objects},
		{"controller", m.Controller},
		{"source", m.Source},
		{"purposes", m.Purposes},
		{"requests", m.Requests},
		{"links", m.Links},
	}
	p := &packageJSON{w: w, withheld: b.found.Withheld}
	for i, x := range lines {
		before := ",\n"
		if i == 0 {
			before = "{"
		}
		if err := p.put(before+`"`+x.name+`":`, x.value); err != nil {
			return nil, err
		}
	}
	if err := p.text(",\n\"consents\":["); err != nil {
		return nil, err
	}
	for i := range b.choices {
		if err := p.put(between(i), b.choices[i].Consent); err != nil {
			return nil, err
		}
	}
	return p, p.text("\n],\n\"destinations\":[")
}

// between is what stands before the element of a list.
func between(i int) string {
	if i == 0 {
		return "\n"
	}
	return ",\n"
}

func (p *packageJSON) text(s string) error {
	_, err := io.WriteString(p.w, s)
	return err
}

func (p *packageJSON) put(before string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.text(before + string(text))
}

func (p *packageJSON) begin(destination string) error {
	before := between(p.destinations) + `{"destination":`
	p.destinations, p.events = p.destinations+1, 0
	if err := p.put(before, destination); err != nil {
		return err
	}
	if err := p.put(`,"withheld":`, p.withheld[destination]); err != nil {
		return err
	}
	return p.text(`,"events":[`)
}

func (p *packageJSON) event(r *record) error {
	p.events++
	return p.put(between(p.events-1), r)
}

func (p *packageJSON) end() error { return p.text("\n]}") }

// close ends the document.
func (p *packageJSON) close() error { return p.text("\n]}\n") }
