package loadtest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
)

// Story is a random history of gateways: batches about a few people who withdraw, are erased, restricted and lifted again, while their
// batches are rewritten, sooner or later. It knows what a loader must end with.
type Story struct {
	G *Gateway

	t       testing.TB
	store   string // folder of the objects
	batches []*told
	erased  map[[16]byte]bool
	gone    []string // keys of notices that may be deleted once everybody has read them
}

// told is one batch of a story.
type told struct {
	id, node   string
	rows       []pseudonymize.Row
	cuts       []export.Notice // all that was asked so far, in order
	restricted [][16]byte
}

// NewStory begins a story in a store that is the folder.
func NewStory(t testing.TB, g *Gateway, store string) *Story {
	return &Story{G: g, t: t, store: store, erased: map[[16]byte]bool{}}
}

// Step lets one thing happen.
func (s *Story) Step(r *rapid.T) {
	s.t.Helper()
	node := rapid.SampledFrom([]string{"gw1", "gw2"}).Draw(r, "node")
	step := rapid.SampledFrom([]string{"ship", "ship", "erase", "withdraw", "restrict", "lift", "expire"}).Draw(r, "step")
	if step == "ship" || len(s.batches) == 0 {
		s.ship(r, node)
		return
	}
	var device, person *[16]byte
	if rapid.Bool().Draw(r, "device") {
		device = Somebody('d', rapid.IntRange(1, 3).Draw(r, "who"))
	} else {
		person = Somebody('p', rapid.IntRange(1, 3).Draw(r, "who"))
	}
	switch step {
	case "erase":
		s.cut(r, node, export.EraseEntry, device, person, nil)
	case "withdraw":
		s.cut(r, node, export.WithdrawEntry, device, person, s.purposes(r))
	case "restrict":
		s.restrict(node, device, person)
	case "lift":
		s.lift(r)
	case "expire": // for retention: no notice
		b := rapid.SampledFrom(s.batches).Draw(r, "batch")
		b.cuts = append(b.cuts, Notice(device, person, s.purposes(r), b.id))
		s.rewrite(b)
	}
}

func (s *Story) purposes(r *rapid.T) []string {
	return rapid.SampledFrom([][]string{{"audience"}, {"quality"}, {"service"}, {"linking"}, {"audience", "quality"}, {"audience", "linking"}}).Draw(r, "purposes")
}

func (s *Story) ship(r *rapid.T, node string) {
	b := &told{node: node}
	for range rapid.IntRange(1, 6).Draw(r, "rows") {
		device, person := s.anybody(r, 'd'), s.anybody(r, 'p')
		of := []string{"quality"}
		switch {
		case device != nil && person != nil:
			of = rapid.SampledFrom([][]string{
				{"audience", "service"}, {"audience", "quality", "service"}, {"service"}, {"audience", "linking"}, {"audience", "linking", "quality"},
			}).Draw(r, "of")
		case device != nil:
			of = rapid.SampledFrom([][]string{{"audience"}, {"audience", "quality"}}).Draw(r, "of")
		case person != nil:
			of = []string{"service"}
		}
		b.rows = append(b.rows, s.G.Visit(node, device, person, of...))
	}
	again := b.rows
	if rapid.Bool().Draw(r, "twice") {
		again = append(slices.Clone(b.rows), b.rows[0])
	}
	b.id = s.G.Publish(node, again).Batch.ID
	s.batches = append(s.batches, b)
}

// anybody is nobody, or somebody who was not erased.
func (s *Story) anybody(r *rapid.T, kind byte) *[16]byte {
	p := Somebody(kind, rapid.IntRange(0, 3).Draw(r, string(kind)))
	if p[1] == 0 || s.erased[*p] {
		return nil
	}
	return p
}

// about are a node's batches that hold rows of somebody, as they were shipped.
func (s *Story) about(node string, device, person *[16]byte) (found []*told) {
	for _, b := range s.batches {
		if b.node == node && slices.ContainsFunc(b.rows, func(row pseudonymize.Row) bool {
			return device != nil && row.Device != nil && *row.Device == *device || person != nil && row.Person != nil && *row.Person == *person
		}) {
			found = append(found, b)
		}
	}
	return found
}

// cut asks for rows to go, and tells it; batches are rewritten before or after, or left to a later time.
func (s *Story) cut(r *rapid.T, node string, t export.EntryType, device, person *[16]byte, purposes []string) {
	all := s.about(node, device, person)
	if len(all) == 0 {
		return
	}
	n := Notice(device, person, purposes, ids(all)...)
	for _, b := range all {
		b.cuts = append(b.cuts, n)
		if purposes == nil {
			b.restricted = slices.DeleteFunc(b.restricted, func(p [16]byte) bool { return p == *either(device, person) })
		}
	}
	if purposes == nil {
		s.erased[*either(device, person)] = true
	}
	when := rapid.SampledFrom([]string{"before", "after", "later"}).Draw(r, "rewritten")
	if when == "before" {
		s.rewrite(all...)
	}
	key := s.G.Notify(node, t, n)
	if when == "after" {
		s.rewrite(all...)
	}
	if when != "later" {
		s.gone = append(s.gone, key)
	}
}

// rewrite gives batches objects without all that was asked to go so far, and deletes those of before.
func (s *Story) rewrite(batches ...*told) {
	for _, b := range batches {
		s.remove(s.G.Replace(b.id, Cut(s.t, b.rows, b.cuts...)))
	}
}

func (s *Story) remove(key string) {
	if key == "" {
		return
	}
	if err := os.Remove(filepath.Join(s.store, key)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Story) restrict(node string, device, person *[16]byte) {
	who := *either(device, person)
	all := s.about(node, device, person)
	if len(all) == 0 {
		return
	}
	for _, b := range all {
		if !slices.Contains(b.restricted, who) {
			b.restricted = append(b.restricted, who)
		}
	}
	s.G.Notify(node, export.RestrictEntry, Notice(device, person, nil, ids(all)...))
}

// lift ends a restriction, if there is one.
func (s *Story) lift(r *rapid.T) {
	i := slices.IndexFunc(s.batches, func(b *told) bool { return len(b.restricted) > 0 })
	if i < 0 {
		return
	}
	who := rapid.SampledFrom(s.batches[i].restricted).Draw(r, "lifted")
	device, person := &who, (*[16]byte)(nil)
	if who[0] == 'p' {
		device, person = nil, &who
	}
	all := s.about(s.batches[i].node, device, person)
	for _, b := range all {
		b.restricted = slices.DeleteFunc(b.restricted, func(p [16]byte) bool { return p == who })
	}
	s.G.Notify(s.batches[i].node, export.LiftEntry, Notice(device, person, nil, ids(all)...))
}

func either(device, person *[16]byte) *[16]byte {
	if device != nil {
		return device
	}
	return person
}

func ids(batches []*told) (all []string) {
	for _, b := range batches {
		all = append(all, b.id)
	}
	return all
}

// Acknowledged lets the gateway delete the notices whose batches are rewritten: every loader has carried them out.
func (s *Story) Acknowledged() {
	for _, key := range s.gone {
		s.remove(key)
	}
	s.gone = nil
}

// Expected are the rows that a loader ends with, as Lines has them.
func (s *Story) Expected() (seen, restricted []string) {
	for _, b := range s.batches {
		for _, row := range Cut(s.t, b.rows, b.cuts...) {
			if row.Device != nil && slices.Contains(b.restricted, *row.Device) || row.Person != nil && slices.Contains(b.restricted, *row.Person) {
				restricted = append(restricted, Line(row))
			} else {
				seen = append(seen, Line(row))
			}
		}
	}
	slices.Sort(seen)
	slices.Sort(restricted)
	return seen, restricted
}
