package access

import (
	"archive/zip"
	"bytes"
	_ "embed" // the schema
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/octroi/octroi/export/rights/letter"
	"github.com/octroi/octroi/pseudonymize"
)

const (
	// maxInline is up to where a file is a download within the page, in bytes; browsers take links of that size.
	maxInline = 2 << 20
	// maxShown bounds the events on the page in all; each destination has an equal part.
	maxShown = 5000
)

//go:embed package.schema.json
var schema []byte

// Schema is the JSON Schema (2020-12) of package.json.
func Schema() []byte { return bytes.Clone(schema) }

// bundle is one package while it is written.
type bundle struct {
	material Material
	choices  []choice
	found    Found
	language string

	counts Counts
	tally  tally
	data   inline // package.json
	events inline // events.csv
	agreed inline // consents.csv
	linked inline // links.csv
}

func newBundle(m Material, f Found, language string) (*bundle, error) {
	if language != letter.French && language != letter.English {
		return nil, fmt.Errorf("writing access package: %w", ErrLanguage)
	}
	if m.Version != materialVersion {
		return nil, fmt.Errorf("writing access package: %w: version %d", ErrMaterial, m.Version)
	}
	choices, err := readChoices(m.Consents)
	if err != nil {
		return nil, fmt.Errorf("writing access package: %w", err)
	}
	if f, err = f.withWindow(m.Window); err != nil {
		return nil, fmt.Errorf("writing access package: %w", err)
	}
	return &bundle{material: m.whole(), choices: choices, found: f, language: language}, nil
}

// withWindow is f with the gateway's own journey window as one more destination.
func (f Found) withWindow(w *Window) (Found, error) {
	if w == nil {
		return f, nil
	}
	if w.Destination == "" || slices.Contains(f.Destinations, w.Destination) {
		return f, fmt.Errorf("%w: destination of the journey window", ErrMaterial)
	}
	shipped := f.Rows
	f.Destinations = append(slices.Clone(f.Destinations), w.Destination)
	f.Rows = func(destination string, fn func([]pseudonymize.Row) error) error {
		if destination == w.Destination {
			return fn(w.Rows)
		}
		return shipped(destination, fn)
	}
	f.Withheld, f.Own = maps.Clone(f.Withheld), maps.Clone(f.Own)
	if f.Withheld == nil {
		f.Withheld = map[string]int{}
	}
	if f.Own == nil {
		f.Own = map[[16]byte]bool{}
	}
	f.Withheld[w.Destination] = w.Withheld
	for i := range w.Rows {
		for _, p := range []*[16]byte{w.Rows[i].Device, w.Rows[i].Person} {
			if p != nil {
				f.Own[*p] = true
			}
		}
	}
	return f, nil
}

// whole is m with empty lists and maps where it has none: what is required stands in package.json.
func (m Material) whole() Material {
	m.Source, m.Links = orEmpty(m.Source), append([]Link{}, m.Links...)
	m.Purposes, m.Requests = append([]Purpose{}, m.Purposes...), append([]PastRequest{}, m.Requests...)
	for i := range m.Purposes {
		p := &m.Purposes[i]
		p.Title, p.Text = orEmpty(p.Title), orEmpty(p.Text)
		p.Categories, p.Recipients = append([]string{}, p.Categories...), append([]Recipient{}, p.Recipients...)
	}
	return m
}

func orEmpty[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

// sink takes the events of one destination after the other.
type sink interface {
	begin(destination string) error
	event(r *record) error
	end() error
}

// read gives every event to the sinks, and counts.
func (b *bundle) read(sinks ...sink) (Counts, error) {
	counts := Counts{}
	each := func(do func(sink) error) error {
		for _, s := range sinks {
			if err := do(s); err != nil {
				return err
			}
		}
		return nil
	}
	for _, destination := range b.found.Destinations {
		if err := each(func(s sink) error { return s.begin(destination) }); err != nil {
			return nil, err
		}
		counts[destination] = 0
		err := b.found.Rows(destination, func(rows []pseudonymize.Row) error {
			for i := range rows {
				r := newRecord(&rows[i], b.found.Own)
				if err := each(func(s sink) error { return s.event(&r) }); err != nil {
					return err
				}
			}
			counts[destination] += len(rows)
			return nil
		})
		if err != nil {
			return nil, err
		}
		if err := each(sink.end); err != nil {
			return nil, err
		}
	}
	return counts, nil
}

// gather reads everything once: what the page shows, and the files as long as they are small.
func (b *bundle) gather() error {
	b.tally.limit = maxShown / max(1, len(b.found.Destinations))
	data, err := newPackageJSON(&b.data, b)
	if err != nil {
		return fmt.Errorf("writing %s: %w", DataFile, err)
	}
	events, err := newEventsCSV(&b.events)
	if err != nil {
		return fmt.Errorf("writing %s: %w", EventsFile, err)
	}
	if b.counts, err = b.read(&b.tally, data, events); err != nil {
		return fmt.Errorf("reading rows of the access package: %w", err)
	}
	if err := data.close(); err != nil {
		return fmt.Errorf("writing %s: %w", DataFile, err)
	}
	if err := writeConsents(&b.agreed, b.choices); err != nil {
		return fmt.Errorf("writing %s: %w", ConsentsFile, err)
	}
	if err := writeLinks(&b.linked, b.material.Links); err != nil {
		return fmt.Errorf("writing %s: %w", LinksFile, err)
	}
	return nil
}

// write writes the files, one after the other.
func (b *bundle) write(w io.Writer) error {
	z := zip.NewWriter(w)
	for _, file := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{PageFile, b.writePage},
		{DataFile, b.writeData},
		{SchemaFile, writeSchema},
		{EventsFile, b.writeEvents},
		{ConsentsFile, b.writeConsents},
		{LinksFile, func(w io.Writer) error { return writeLinks(w, b.material.Links) }},
	} {
		entry, err := z.CreateHeader(&zip.FileHeader{Name: file.name, Method: zip.Deflate, Modified: b.found.At.UTC()})
		if err == nil {
			err = file.write(entry)
		}
		if err != nil {
			return fmt.Errorf("writing %s: %w", file.name, err)
		}
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("ending access package: %w", err)
	}
	return nil
}

func writeSchema(w io.Writer) error {
	_, err := w.Write(schema)
	return err
}

func (b *bundle) writeData(w io.Writer) error {
	if b.data.whole() {
		_, err := w.Write(b.data.bytes)
		return err
	}
	p, err := newPackageJSON(w, b)
	if err == nil {
		err = b.again(p)
	}
	if err == nil {
		err = p.close()
	}
	return err
}

func (b *bundle) writeEvents(w io.Writer) error {
	if b.events.whole() {
		_, err := w.Write(b.events.bytes)
		return err
	}
	e, err := newEventsCSV(w)
	if err == nil {
		err = b.again(e)
	}
	return err
}

func (b *bundle) writeConsents(w io.Writer) error {
	if b.agreed.whole() {
		_, err := w.Write(b.agreed.bytes)
		return err
	}
	return writeConsents(w, b.choices)
}

// again reads the rows once more; they must be as many as the page says.
func (b *bundle) again(s sink) error {
	counts, err := b.read(s)
	if err != nil {
		return err
	}
	for destination, n := range counts {
		if n != b.counts[destination] {
			return ErrRows
		}
	}
	return nil
}

// inline keeps a file while it is at most maxInline bytes, and counts it.
type inline struct {
	bytes []byte
	size  int64
}

func (f *inline) Write(p []byte) (int, error) {
	f.size += int64(len(p))
	if f.whole() {
		f.bytes = append(f.bytes, p...)
	} else {
		f.bytes = nil
	}
	return len(p), nil
}

func (f *inline) whole() bool { return f.size <= maxInline }
