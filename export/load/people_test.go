package load_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/octroi/octroi/export/load"
	"github.com/octroi/octroi/export/load/loadtest"
	"github.com/octroi/octroi/pseudonymize"
)

// Short names of loadtest's.
var (
	somebody = loadtest.Somebody
	notice   = loadtest.Notice
	cutBy    = loadtest.Cut
	lines    = loadtest.TextLines
)

// holds fails unless a folder has exactly these rows, and those under restriction.
func holds(t testing.TB, folder string, seen, restricted []string) {
	t.Helper()
	for _, c := range []struct {
		what      string
		got, want []string
	}{{"events", loadtest.Lines(t, filepath.Join(folder, "events")), seen}, {"restricted", loadtest.Restricted(t, folder), restricted}} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %d rows\n%s\ninstead of %d\n%s", c.what, len(c.got), show(c.got), len(c.want), show(c.want))
		}
	}
}

func show(lines []string) (text string) {
	for _, l := range lines[:min(len(lines), 12)] {
		text += "  " + l + "\n"
	}
	return text
}

// shop is a store with two batches: of one device and person each, and of others.
type shop struct {
	g            *loadtest.Gateway
	store        string
	o            load.Options
	hers, theirs []pseudonymize.Row // of batch 1: hers is all about device 1 and person 1
	more         []pseudonymize.Row // of batch 2: the first is hers
	one, two     string             // the batches' ids
	device       *[16]byte
	person       *[16]byte
}

func newShop(t testing.TB, format string) *shop {
	t.Helper()
	objects, store := newStore(t)
	s := stock(loadtest.New(t, objects), store)
	s.o = options(t, s.g, t.TempDir())
	s.o.Format = format
	return s
}

// stock publishes a shop's batches.
func stock(g *loadtest.Gateway, store string) *shop {
	s := &shop{g: g, store: store, device: somebody('d', 1), person: somebody('p', 1)}
	row := func(device, person *[16]byte, purposes ...string) pseudonymize.Row {
		return g.Visit("gw1", device, person, purposes...)
	}
	s.hers = []pseudonymize.Row{
		row(s.device, nil, "audience", "quality"), row(s.device, s.person, "audience", "service"), row(nil, s.person, "service"),
	}
	s.theirs = []pseudonymize.Row{row(somebody('d', 2), nil, "audience"), row(nil, somebody('p', 2), "service"), row(nil, nil, "quality")}
	s.more = []pseudonymize.Row{row(s.device, nil, "quality"), row(somebody('d', 2), somebody('p', 2), "quality", "service")}
	s.one = g.Publish("gw1", slices.Concat(s.hers, s.theirs)).Batch.ID
	s.two = g.Publish("gw1", s.more).Batch.ID
	return s
}

func (s *shop) everything() []string { return lines(s.hers, s.theirs, s.more) }

func (s *shop) load(t testing.TB) load.Progress {
	t.Helper()
	p, err := once(t, s.o)
	if err != nil {
		t.Fatal(err)
	}
	checkOwnFiles(t, s.o.Dir)
	return p
}

// anew loads into an empty folder.
func (s *shop) anew(t testing.TB) {
	t.Helper()
	s.o.Dir = t.TempDir()
	s.load(t)
}

func (s *shop) remove(t testing.TB, key string) {
	t.Helper()
	if err := os.Remove(filepath.Join(s.store, key)); err != nil {
		t.Fatal(err)
	}
}

func formats(t *testing.T, test func(t *testing.T, format string)) {
	for _, format := range []string{load.Parquet, load.NDJSON} {
		t.Run(format, func(t *testing.T) { test(t, format) })
	}
}
