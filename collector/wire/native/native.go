// Package native decodes Octroi's own wire format (consent.md "Native wire format"): one event, an array of events,
// {"batch":[…]}, or a line an event (NDJSON).
//
// The format is closed: an event with a member that is not listed here is refused, so that a misspelt name cannot lose data in
// silence. Only fields are open; of them the policy keeps those that it names.
package native

import (
	"strings"

	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/collector/wire/ijson"
	"github.com/octroi/octroi/pseudonymize"
)

// Form is how a body may be laid out.
type Form int

// The forms of a body.
const (
	Document Form = iota + 1 // one JSON text: an event, an array, or a batch
	Lines                    // NDJSON
	Either                   // a Document, else Lines: text/plain does not say which
)

// Batch is what a body holds.
type Batch struct {
	Key         string // site key in the body; empty: none
	Submissions []wire.Submission
}

// Decoder decodes one body at a time and reuses its memory. It is not safe for concurrent use.
type Decoder struct {
	doc         ijson.Document
	submissions []wire.Submission
	fields      []pseudonymize.Field
	identities  []wire.Identity
}

// Reset forgets the texts of the last body, so that a pooled Decoder keeps no one's data, and gives back what a large body took.
func (d *Decoder) Reset() {
	if cap(d.submissions) > 128 || cap(d.fields) > 2048 {
		*d = Decoder{}
		return
	}
	clear(d.submissions)
	clear(d.fields)
	clear(d.identities)
	d.submissions, d.fields, d.identities = d.submissions[:0], d.fields[:0], d.identities[:0]
	d.doc.Forget()
}

// Decode reads a body. An error concerns it as a whole: one of ijson, wire.ErrForm or wire.ErrTooMany. What is wrong with one event
// stands in its Flaw. The Batch is valid until the next Decode or Reset; its texts are substrings of body.
func (d *Decoder) Decode(body string, form Form) (Batch, error) {
	d.Reset()
	if form == Lines {
		return d.lines(body)
	}
	rest, err := d.doc.ParsePrefix(body)
	switch {
	case err != nil:
		return Batch{}, err
	case rest == len(body):
		return d.document()
	case form == Either && d.doc.Root().Kind() == ijson.Object && strings.Contains(body[:rest], "\n"):
		return d.lines(body)
	}
	return Batch{}, ijson.ErrSyntax
}

// document decodes the text that was parsed.
func (d *Decoder) document() (Batch, error) {
	root := d.doc.Root()
	switch root.Kind() {
	case ijson.Array:
		return d.events(root, "")
	case ijson.Object:
		for m := range root.All() {
			if m.Name() == "batch" {
				return d.batch(root)
			}
		}
		var key string
		d.add(root, &key)
		return Batch{key, d.submissions}, nil
	}
	return Batch{}, wire.ErrForm
}

// batch decodes {"k":…,"batch":[…]}, which is closed as an event is.
func (d *Decoder) batch(root ijson.Value) (Batch, error) {
	var key string
	var events ijson.Value
	for m := range root.All() {
		switch {
		case m.Name() == "batch" && m.Kind() == ijson.Array:
			events = m
		case m.Name() == "k" && m.IsString():
			key = m.Text()
		default:
			return Batch{}, wire.ErrForm
		}
	}
	if root.Own() != 0 {
		return Batch{}, wire.ErrForm
	}
	return d.events(events, key)
}

func (d *Decoder) events(list ijson.Value, key string) (Batch, error) {
	if list.Len() > wire.MaxEvents {
		return Batch{}, wire.ErrTooMany
	}
	for v := range list.All() {
		d.add(v, nil)
	}
	return Batch{key, d.submissions}, nil
}

// lines decodes a line an event. A line that cannot be read is refused alone, unless none can be read.
func (d *Decoder) lines(body string) (Batch, error) {
	read, failed := false, error(nil)
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if len(d.submissions) == wire.MaxEvents {
			return Batch{}, wire.ErrTooMany
		}
		if err := d.doc.Parse(line); err != nil {
			failed = err
			d.submissions = append(d.submissions, wire.Submission{Index: len(d.submissions), Flaw: wire.NotObject})
			continue
		}
		read = true
		d.add(d.doc.Root(), nil)
	}
	if !read {
		if failed == nil {
			failed = ijson.ErrSyntax
		}
		return Batch{}, failed
	}
	return Batch{"", d.submissions}, nil
}

// add decodes one event. key takes the site key where the event may hold it.
func (d *Decoder) add(v ijson.Value, key *string) {
	d.submissions = append(d.submissions, wire.Submission{Index: len(d.submissions)})
	s := &d.submissions[len(d.submissions)-1]
	if v.Kind() != ijson.Object {
		s.Flaw = wire.NotObject
		return
	}
	flaw := whole(v)
	for m := range v.All() {
		if f := d.member(s, m, key); f != "" && flaw == "" {
			flaw = f
		}
	}
	switch {
	case flaw != "":
	case s.Touchpoint.ID == "":
		flaw = wire.BadID
	case s.Type == "":
		flaw = wire.BadType
	}
	s.Flaw = flaw
}

// whole judges what concerns an event as a whole.
func whole(v ijson.Value) wire.Flaw {
	switch {
	case v.Size() > wire.MaxEventBytes:
		return wire.TooBig
	case v.Height() > wire.MaxEventDepth:
		return wire.TooDeep
	case v.Flaws()&ijson.Duplicate != 0:
		return wire.Duplicates
	case v.Flaws()&ijson.Wide != 0:
		return wire.BadFields
	}
	return ""
}
