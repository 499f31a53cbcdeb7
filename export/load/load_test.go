package load_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load"
	"github.com/octroi/octroi/export/load/loadtest"
	"github.com/octroi/octroi/export/s3test"
	"github.com/octroi/octroi/pseudonymize"
)

// stores gives each test both stores: a folder, and a bucket of a real server.
func stores(t *testing.T, test func(t *testing.T, objects export.Objects)) {
	t.Run("folder", func(t *testing.T) { d, _ := newStore(t); test(t, d) })
	t.Run("S3", func(t *testing.T) {
		server := s3test.Start(t)
		test(t, s3test.Open(t, server.Options()))
	})
}

func newStore(t testing.TB) (objects *export.Dir, folder string) {
	t.Helper()
	folder = t.TempDir()
	d, err := export.OpenDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, folder
}

func options(t testing.TB, g *loadtest.Gateway, folder string) load.Options {
	t.Helper()
	ids, err := export.ParseIdentities([]byte(g.Identity))
	if err != nil {
		t.Fatal(err)
	}
	return load.Options{
		Objects: g.Objects, Destination: g.Destination, Gateway: g.Public(), Identities: ids, Dir: folder,
		Backoff: time.Millisecond, Attempts: 3, Poll: 10 * time.Millisecond,
	}
}

func once(t testing.TB, o load.Options) (load.Progress, error) {
	t.Helper()
	l, err := load.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Once(t.Context())
}

func TestLoadsEachEventOnce(t *testing.T) {
	stores(t, func(t *testing.T, objects export.Objects) {
		for _, format := range []string{load.Parquet, load.NDJSON} {
			t.Run(format, func(t *testing.T) {
				g := loadtest.New(t, objects)
				g.Destination = "warehouse-" + format
				o := options(t, g, t.TempDir())
				o.Format = format
				if p, err := once(t, o); err != nil || p.Batches != 0 {
					t.Fatalf("an empty stream: %+v, %v", p, err)
				}
				a, b, c := g.Rows("gw1", 3000), g.Rows("gw2", 10), g.Rows("gw1", 1)
				g.Publish("gw1", a)
				g.Publish("gw2", b)
				p, err := once(t, o)
				if err != nil || p.Batches != 2 || p.Rows != 3010 || p.Duplicates != 0 || p.Bytes == 0 {
					t.Fatalf("%+v, %v", p, err)
				}
				loadtest.CheckExactlyOnce(t, o.Dir, a, b)
				g.Publish("gw1", c)
				if p, err := once(t, o); err != nil || p.Batches != 1 || p.Number != 2 {
					t.Fatalf("what came later: %+v, %v", p, err)
				}
				if p, err := once(t, o); err != nil || p.Batches != 0 {
					t.Fatalf("nothing new: %+v, %v", p, err)
				}
				loadtest.CheckExactlyOnce(t, o.Dir, a, b, c)
				checkOwnFiles(t, o.Dir)
			})
		}
	})
}

// checkOwnFiles fails where anything but state and finished output lies in the folder.
func checkOwnFiles(t testing.TB, folder string) {
	t.Helper()
	own, err := os.ReadDir(filepath.Join(folder, ".octroi-load"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range own {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{"lock", "restricted", "staged", "state.db"}) {
		t.Errorf("the loader's folder holds %q", names)
	}
	if staged, err := os.ReadDir(filepath.Join(folder, ".octroi-load/staged")); err != nil || len(staged) > 0 {
		t.Errorf("left staged: %v, %v", staged, err)
	}
	err = filepath.WalkDir(filepath.Join(folder, "events"), func(path string, e os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), ".") {
			t.Errorf("left over: %s", path)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
}

// The same id of the same site comes once, whatever batch or node brings it again; the same id of another site is another event.
func TestUniqueness(t *testing.T) {
	objects, _ := newStore(t)
	g := loadtest.New(t, objects)
	rows := g.Rows("gw1", 100)
	twin := rows[0]
	twin.Site = "another"
	g.Publish("gw1", rows)
	g.Publish("gw2", rows)
	mixed := append(slices.Clone(rows[:50]), twin, twin)
	g.Publish("gw1", mixed)
	o := options(t, g, t.TempDir())
	p, err := once(t, o)
	if err != nil || p.Rows != 101 || p.Duplicates != 151 {
		t.Fatalf("%+v, %v", p, err)
	}
	loadtest.CheckExactlyOnce(t, o.Dir, rows, []pseudonymize.Row{twin})
	files, err := filepath.Glob(filepath.Join(o.Dir, "events/*/*/*"))
	if err != nil || len(files) != 2 {
		t.Errorf("a batch without new rows has a file: %q, %v", files, err)
	}
}

func TestPartitionAndColumns(t *testing.T) {
	objects, _ := newStore(t)
	g := loadtest.New(t, objects)
	g.Publish("gw1", g.Rows("gw1", 2))
	o := options(t, g, t.TempDir())
	o.Format = load.NDJSON
	if _, err := once(t, o); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(o.Dir, "events/dt=2026-11-21/hour=18/gw1-000001.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	const want = `{"event_id":"79b2f6e6d7c4d3e6","time":"2026-11-21T18:00:00.000Z","received_at":"2026-11-21T18:00:00.000Z","person":"P",` +
		`"type":"page_view","channel":"web","stage":"discover","site":"shop","grants":[{"purpose":"audience","version":1,"basis":"consent","ref":"P"}],` +
		`"policy":"0000000000000000000000000000000000000000000000000000000000000000","value_minor":1230,"currency":"EUR",` +
		`"properties":{"url":"https://shop.example/<p>?a=1&b=\"2\"\n\u2028é"}}`
	r := loadtest.New(t, objects).Rows("gw1", 1)[0]
	line := strings.Replace(want, "79b2f6e6d7c4d3e6", fmt.Sprintf("%x", r.EventID), 1)
	line = strings.ReplaceAll(line, `"P"`, fmt.Sprintf(`"%x"`, *r.Person))
	if first != line {
		t.Errorf("got  %s\nwant %s", first, line)
	}
}

func TestLocked(t *testing.T) {
	objects, _ := newStore(t)
	g := loadtest.New(t, objects)
	o := options(t, g, t.TempDir())
	l, err := load.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := load.Open(t.Context(), o); !errors.Is(err, load.ErrLocked) {
		t.Errorf("a second loader: %v", err)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(*load.Options){
		func(o *load.Options) { o.Format = load.NDJSON },
		func(o *load.Options) { o.Destination = "other" },
	} {
		other := o
		change(&other)
		if _, err := load.Open(t.Context(), other); !errors.Is(err, load.ErrFolder) {
			t.Errorf("got %v", err)
		}
	}
	for _, change := range []func(*load.Options){
		func(o *load.Options) { o.Format = "csv" },
		func(o *load.Options) { o.Gateway = nil },
		func(o *load.Options) { o.Objects = nil },
	} {
		other := o
		change(&other)
		if _, err := load.Open(t.Context(), other); err == nil {
			t.Error("opened without what it needs")
		}
	}
	damaged := t.TempDir()
	if err := os.MkdirAll(filepath.Join(damaged, ".octroi-load"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(damaged, ".octroi-load/state.db"), bytes.Repeat([]byte("x"), 40_000), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Dir = damaged
	if _, err := load.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("a damaged state: %v", err)
	}
}
