package load_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load"
	"github.com/octroi/octroi/export/load/loadtest"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// rules are what the purposes of the people tests allow.
var rules = export.PurposeRules{
	"audience": {"campaign": policies.Keep, "page": policies.Keep, "own_audience": policies.Keep},
	"quality":  {"page": policies.URLPath, "source": policies.Keep, "own_quality": policies.Keep},
	"service":  {"value": policies.Keep, "medium": policies.Keep, "page": policies.URLPath},
}

// somebody is the pseudonym of one of a few devices (kind 'd') or persons (kind 'p').
func somebody(kind byte, n int) *[16]byte {
	return &[16]byte{kind, byte(n), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}
}

// visit is a row with what its purposes allow: audience and quality rest on the device where there is one, service on the person.
func visit(g *loadtest.Gateway, node string, device, person *[16]byte, purposes ...string) pseudonymize.Row {
	row := g.Rows(node, 1)[0]
	row.Device, row.Person, row.Grants, row.Properties, row.Value = device, person, nil, map[string]string{}, pseudonymize.Money{}
	for _, p := range purposes {
		grant := pseudonymize.RowGrant{Purpose: p, Version: 1, Basis: policies.Consent, Ref: [16]byte{9, byte(len(row.Grants))}}
		switch p {
		case "service":
			grant.Basis = policies.Contract
			row.Medium, row.Value = "mail", pseudonymize.Money{Minor: 990, Currency: "EUR"}
		case "audience":
			row.Campaign, row.Properties["own_audience"] = "summer", "a"
		case "quality":
			row.Source, row.Properties["own_quality"] = "search", "q"
		}
		row.Grants = append(row.Grants, grant)
	}
	row.Properties["page"] = "/thanks"
	if slices.Contains(purposes, "audience") {
		row.Properties["page"] = "/thanks?order=1"
	}
	return row
}

// notice is about one of them; without purposes about all that is theirs.
func notice(device, person *[16]byte, purposes []string, batches ...string) export.Notice {
	n := export.Notice{Version: 1, Batches: batches, Purposes: purposes}
	if device != nil {
		n.Devices = []string{fmt.Sprintf("%x", *device)}
	}
	if person != nil {
		n.Persons = []string{fmt.Sprintf("%x", *person)}
	}
	if purposes != nil {
		n.Rules = rules
	}
	return n
}

// clone copies rows as deep as a cut changes them.
func clone(rows []pseudonymize.Row) []pseudonymize.Row {
	all := slices.Clone(rows)
	for i := range all {
		all[i].Grants = slices.Clone(all[i].Grants)
		properties := map[string]string{}
		for name, text := range all[i].Properties {
			properties[name] = text
		}
		all[i].Properties = properties
	}
	return all
}

// cutBy is what notices leave of rows.
func cutBy(t testing.TB, rows []pseudonymize.Row, notices ...export.Notice) (left []pseudonymize.Row) {
	t.Helper()
	for _, row := range clone(rows) {
		keep := true
		for _, n := range notices {
			cut, err := export.CutOf(n)
			if err != nil {
				t.Fatal(err)
			}
			if keep {
				keep, _ = cut.Row(&row)
			}
		}
		if keep {
			left = append(left, row)
		}
	}
	return left
}

// lines are rows as loadtest.Lines has them.
func lines(batches ...[]pseudonymize.Row) (all []string) {
	for _, rows := range batches {
		for _, row := range rows {
			all = append(all, loadtest.Line(row))
		}
	}
	slices.Sort(all)
	return all
}

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
	s := &shop{g: loadtest.New(t, objects), store: store, device: somebody('d', 1), person: somebody('p', 1)}
	s.o = options(t, s.g, t.TempDir())
	s.o.Format = format
	row := func(device, person *[16]byte, purposes ...string) pseudonymize.Row {
		return visit(s.g, "gw1", device, person, purposes...)
	}
	s.hers = []pseudonymize.Row{
		row(s.device, nil, "audience", "quality"), row(s.device, s.person, "audience", "service"), row(nil, s.person, "service"),
	}
	s.theirs = []pseudonymize.Row{row(somebody('d', 2), nil, "audience"), row(nil, somebody('p', 2), "service"), row(nil, nil, "quality")}
	s.more = []pseudonymize.Row{row(s.device, nil, "quality"), row(somebody('d', 2), somebody('p', 2), "quality", "service")}
	s.one = s.g.Publish("gw1", slices.Concat(s.hers, s.theirs)).Batch.ID
	s.two = s.g.Publish("gw1", s.more).Batch.ID
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
