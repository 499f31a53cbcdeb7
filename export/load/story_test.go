package load_test

import (
	"flag"
	"testing"

	"pgregory.net/rapid"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load"
	"github.com/octroi/octroi/export/load/loadtest"
)

// Whatever happens in the stream, whenever a loader looks: in the end it has the rows that are left, as a loader that begins anew.
func TestStories(t *testing.T) {
	fewer(t, "12")
	rapid.Check(t, func(r *rapid.T) {
		store := t.TempDir()
		objects, err := export.OpenDir(store)
		if err != nil {
			r.Fatal(err)
		}
		defer objects.Close()
		s := loadtest.NewStory(t, loadtest.New(t, objects), store)
		o := options(t, s.G, t.TempDir())
		o.Format = rapid.SampledFrom([]string{load.NDJSON, load.NDJSON, load.Parquet}).Draw(r, "format")
		for range rapid.IntRange(1, 14).Draw(r, "steps") {
			s.Step(r)
			if rapid.IntRange(0, 3).Draw(r, "load") > 0 {
				continue
			}
			if _, err := once(t, o); err != nil {
				r.Fatal(err)
			}
			if rapid.Bool().Draw(r, "acknowledge") {
				s.Acknowledged()
			}
		}
		seen, restricted := s.Expected()
		for range 2 {
			if _, err := once(t, o); err != nil {
				r.Fatal(err)
			}
			holds(t, o.Dir, seen, restricted)
			if t.Failed() {
				r.FailNow()
			}
			checkOwnFiles(t, o.Dir)
			o.Dir = t.TempDir() // anew
		}
	})
}

// fewer sets how many checks a property gets that takes many fsyncs each, unless the command line says.
func fewer(t *testing.T, checks string) {
	f := flag.Lookup("rapid.checks")
	if before := f.Value.String(); before == f.DefValue {
		f.Value.Set(checks)
		t.Cleanup(func() { f.Value.Set(before) })
	}
}
