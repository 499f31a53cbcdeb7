//go:build interop

package interop

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load"
	"github.com/octroi/octroi/export/load/loadtest"
	"github.com/octroi/octroi/export/load/pgtest"
	"github.com/octroi/octroi/pseudonymize"
)

// lake is a store in a folder, and a schema of a database to load it into.
type lake struct {
	g      *loadtest.Gateway
	store  string
	server *pgtest.Server
	o      load.Options
}

func newLake(t *testing.T, server *pgtest.Server, schema string) *lake {
	t.Helper()
	l := &lake{store: t.TempDir(), server: server}
	objects, err := export.OpenDir(l.store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { objects.Close() })
	l.g = loadtest.New(t, objects)
	ids, err := export.ParseIdentities([]byte(l.g.Identity))
	if err != nil {
		t.Fatal(err)
	}
	l.o = load.Options{
		Objects: objects, Destination: l.g.Destination, Gateway: l.g.Public(), Identities: ids, Database: server.DSN, Schema: schema,
		Backoff: time.Millisecond, Attempts: 3, Poll: 10 * time.Millisecond,
	}
	return l
}

func (l *lake) load(t testing.TB) load.Progress {
	t.Helper()
	p, err := l.once(t)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (l *lake) once(t testing.TB) (load.Progress, error) {
	t.Helper()
	into, err := load.Open(t.Context(), l.o)
	if err != nil {
		return load.Progress{}, err
	}
	defer into.Close()
	return into.Once(t.Context())
}

// lines are a table's rows, as loadtest.Lines has those of files.
func (l *lake) lines(t testing.TB, table string) (all []string) {
	t.Helper()
	text := l.server.SQL("SET timezone = 'UTC'; SELECT jsonb_strip_nulls(to_jsonb(e) - 'batch') FROM " + l.o.Schema + "." + table + " e")
	for line := range strings.Lines(text) {
		row, err := loadtest.ParseLine([]byte(strings.TrimSuffix(line, "\n")))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, loadtest.Line(row))
	}
	slices.Sort(all)
	return all
}

// holds fails unless the tables have exactly these rows, and the table of batches counts them.
func (l *lake) holds(t testing.TB, seen, restricted []string) {
	t.Helper()
	if got := l.lines(t, "events"); !slices.Equal(got, seen) {
		t.Errorf("events: %d rows instead of %d:\n%s\n\n%s", len(got), len(seen), strings.Join(got, "\n"), strings.Join(seen, "\n"))
	}
	if got := l.lines(t, "restricted"); !slices.Equal(got, restricted) {
		t.Errorf("restricted: %d rows instead of %d:\n%s", len(got), len(restricted), strings.Join(got, "\n"))
	}
	s, err := load.ReadDatabaseStatus(t.Context(), l.o.Database, l.o.Schema)
	if err != nil || s.Rows != uint64(len(seen)) || s.Restricted != uint64(len(restricted)) || s.Destination != "warehouse" || s.Format != "postgresql" {
		t.Errorf("status: %+v, %v", s, err)
	}
}

func TestPostgreSQL(t *testing.T) {
	server := pgtest.Start(t)
	t.Run("every event once", func(t *testing.T) {
		l := newLake(t, server, "once")
		a, b := l.g.Rows("gw1", 3000), l.g.Rows("gw2", 10)
		l.g.Publish("gw1", a)
		l.g.Publish("gw2", append(slices.Clone(b), b[0]))
		l.g.Publish("gw1", b)
		if p := l.load(t); p.Rows != 3010 || p.Duplicates != 11 || p.Batches != 3 {
			t.Errorf("%+v", p)
		}
		if p := l.load(t); p.Batches != 0 {
			t.Errorf("again: %+v", p)
		}
		l.holds(t, loadtest.TextLines(a, b), nil)
	})
	t.Run("rights", func(t *testing.T) { rights(t, newLake(t, server, "rights")) })
	t.Run("text that PostgreSQL cannot hold", func(t *testing.T) {
		l := newLake(t, server, "zero")
		rows := l.g.Rows("gw1", 1)
		rows[0].Campaign, rows[0].Properties = "a\x00b", map[string]string{"k\x00": "\x00", "quote": `"\`}
		l.g.Publish("gw1", rows)
		l.load(t)
		rows[0].Campaign, rows[0].Properties = "a\uFFFDb", map[string]string{"k\uFFFD": "\uFFFD", "quote": `"\`}
		l.holds(t, loadtest.TextLines(rows), nil)
	})
	t.Run("one loader, one destination, one version", func(t *testing.T) { alone(t, newLake(t, server, "alone")) })
	t.Run("what is denied", func(t *testing.T) { denied(t, newLake(t, server, "denied")) })
	t.Run("a stream that stands still", func(t *testing.T) {
		l := newLake(t, server, "still")
		e := l.g.Publish("gw1", l.g.Rows("gw1", 5))
		if err := os.WriteFile(filepath.Join(l.store, e.Batch.Key), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := l.once(t); !errors.Is(err, load.ErrHash) {
			t.Errorf("got %v", err)
		}
		s, err := load.ReadDatabaseStatus(t.Context(), l.o.Database, "still")
		if err != nil || len(s.Nodes) != 1 || s.Nodes[0].Number != 0 || !strings.Contains(s.Nodes[0].Failure, "restore the object") {
			t.Errorf("%+v, %v", s, err)
		}
	})
	t.Run("stories", func(t *testing.T) { stories(t, server) })
	t.Run("the server is killed", func(t *testing.T) { killed(t, newLake(t, server, "killed")) })
	t.Run("the program is killed", func(t *testing.T) { programKilled(t, newLake(t, server, "program")) })
	t.Run("example queries", func(t *testing.T) { examples(t, newLake(t, server, "octroi")) })
}

// rights is each kind of entry once.
func rights(t *testing.T, l *lake) {
	device, person, other := loadtest.Somebody('d', 1), loadtest.Somebody('p', 1), loadtest.Somebody('d', 2)
	hers := []pseudonymize.Row{
		l.g.Visit("gw1", device, nil, "audience", "quality"), l.g.Visit("gw1", device, person, "audience", "service"), l.g.Visit("gw1", nil, person, "service"),
	}
	theirs := []pseudonymize.Row{l.g.Visit("gw1", other, nil, "audience"), l.g.Visit("gw1", nil, nil, "quality")}
	one := l.g.Publish("gw1", slices.Concat(hers, theirs)).Batch.ID
	two := l.g.Publish("gw1", l.g.Rows("gw1", 2)).Batch.ID
	l.load(t)
	l.g.Replace(two, nil)
	l.g.Notify("gw1", export.RestrictEntry, loadtest.Notice(device, person, nil, one))
	if p := l.load(t); p.Restricted != 3 || p.Removed != 2 {
		t.Errorf("%+v", p)
	}
	l.holds(t, loadtest.TextLines(theirs), loadtest.TextLines(hers))
	withdrawn := loadtest.Notice(device, nil, []string{"audience"}, one)
	l.g.Publish("gw1", hers) // comes again, and stays restricted
	l.g.Notify("gw1", export.WithdrawEntry, withdrawn)
	if p := l.load(t); p.Reduced != 2 || p.Duplicates != 3 {
		t.Errorf("%+v", p)
	}
	left := loadtest.Cut(t, hers, withdrawn)
	l.holds(t, loadtest.TextLines(theirs), loadtest.TextLines(left))
	l.g.Notify("gw1", export.LiftEntry, loadtest.Notice(device, person, nil, one))
	l.load(t)
	l.holds(t, loadtest.TextLines(left, theirs), nil)
	l.g.Replace(one, slices.Concat(left[1:], theirs))
	l.g.Notify("gw1", export.EraseEntry, loadtest.Notice(device, person, nil, one))
	if p := l.load(t); p.Removed != 3 {
		t.Errorf("%+v", p)
	}
	l.holds(t, loadtest.TextLines(theirs), nil)
	if text := l.server.SQL("SELECT * FROM rights.events, rights.batches"); strings.Contains(text, fmt.Sprintf("%x", *device)) {
		t.Error("a pseudonym is left")
	}
	l.g.Replace(one, loadtest.Cut(t, hers, loadtest.Notice(device, nil, []string{"quality"}))) // rows that are gone do not come back
	l.load(t)
	l.holds(t, []string{}, nil)
}

// alone: a second loader, another destination, a newer schema.
func alone(t *testing.T, l *lake) {
	first, err := load.Open(t.Context(), l.o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := load.Open(t.Context(), l.o); !errors.Is(err, load.ErrLocked) {
		t.Errorf("a second loader: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	other := l.o
	other.Destination = "accounting"
	if _, err := load.Open(t.Context(), other); !errors.Is(err, load.ErrFolder) {
		t.Errorf("another destination: %v", err)
	}
	l.server.SQL("UPDATE alone.about SET version = 99")
	if _, err := load.Open(t.Context(), l.o); !errors.Is(err, load.ErrFolder) || !strings.Contains(err.Error(), "update it") {
		t.Errorf("a newer schema: %v", err)
	}
	l.server.SQL("UPDATE alone.about SET version = 1")
	// Somebody moves the position: nothing is applied twice.
	l.g.Publish("gw1", l.g.Rows("gw1", 5))
	into, err := load.Open(t.Context(), l.o)
	if err != nil {
		t.Fatal(err)
	}
	defer into.Close()
	if _, err := into.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.server.SQL("UPDATE alone.positions SET number = 7")
	l.g.Publish("gw1", l.g.Rows("gw1", 5))
	if _, err := into.Once(t.Context()); !errors.Is(err, load.ErrLocked) {
		t.Errorf("a moved position: %v", err)
	}
}

// denied: each is an error that says what to do, without the password.
func denied(t *testing.T, l *lake) {
	l.server.SQL("CREATE ROLE stranger LOGIN; REVOKE CREATE ON DATABASE lake FROM PUBLIC")
	for _, c := range []struct {
		dsn  string
		want error
	}{
		{strings.Replace(l.server.DSN, "loader@", "stranger:hidden@", 1), load.ErrDenied},
		{strings.Replace(l.server.DSN, "loader@", "nobody:hidden@", 1), load.ErrDenied},
		{strings.Replace(l.server.DSN, "/lake", "/sea", 1), load.ErrDenied},
		{"postgres://loader:hidden@127.0.0.1:1/lake?sslmode=disable", load.ErrDatabase},
		{"postgres://loader:hidden@host:port/lake", load.ErrDenied},
	} {
		o := l.o
		o.Database = c.dsn
		_, err := load.Open(t.Context(), o)
		if !errors.Is(err, c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: got %v, want %v", c.dsn, err, c.want)
		}
	}
	o := l.o
	o.Schema = `x"; DROP SCHEMA once`
	if _, err := load.Open(t.Context(), o); !errors.Is(err, load.ErrDenied) {
		t.Errorf("a schema's name: %v", err)
	}
}

// stories is TestStories of export/load, into a database.
func stories(t *testing.T, server *pgtest.Server) {
	schemas := 0
	for range 25 {
		seed := schemas
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := newLake(t, server, fmt.Sprintf("story_%d", schemas))
			schemas++
			s := loadtest.NewStory(t, l.g, l.store)
			tell := rapid.Custom(func(r *rapid.T) int {
				for range rapid.IntRange(4, 14).Draw(r, "steps") {
					s.Step(r)
					if rapid.IntRange(0, 3).Draw(r, "load") == 0 {
						l.load(t)
						s.Acknowledged()
					}
				}
				return 0
			})
			tell.Example(seed)
			seen, restricted := s.Expected()
			l.load(t)
			l.holds(t, seen, restricted)
			l.o.Schema += "_anew"
			l.load(t)
			l.holds(t, seen, restricted)
		})
	}
}

// killed: the server dies again and again while a loader follows, which waits for it.
func killed(t *testing.T, l *lake) {
	l.o.Log = slog.New(slog.DiscardHandler)
	into, err := load.Open(t.Context(), l.o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- into.Follow(ctx) }()
	var all [][]pseudonymize.Row
	for range 3 {
		for range 4 {
			rows := l.g.Rows("gw1", 2000)
			l.g.Publish("gw1", rows)
			all = append(all, rows)
		}
		time.Sleep(100 * time.Millisecond)
		l.server.Kill()
		l.server.Restart()
	}
	want := loadtest.TextLines(all...)
	for range 300 {
		if l.server.SQL("SELECT count(*) FROM killed.events") == fmt.Sprint(len(want)) {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("it ended: %v", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("after ctx ended: %v", err)
	}
	into.Close()
	l.holds(t, want, nil)
}

// programKilled: octroi-load itself dies (SIGKILL) again and again.
func programKilled(t *testing.T, l *lake) {
	arguments := l.files(t)
	var all [][]pseudonymize.Row
	for n := range 12 {
		for range 2 {
			rows := l.g.Rows("gw1", 500)
			l.g.Publish("gw1", rows)
			all = append(all, rows)
		}
		c := exec.Command(binary(t, "octroi-load"), append([]string{"follow"}, arguments...)...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(40+23*n) * time.Millisecond)
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		c.Wait()
	}
	command(t, binary(t, "octroi-load"), append([]string{"once"}, arguments...)...)
	l.holds(t, loadtest.TextLines(all...), nil)
	status := command(t, binary(t, "octroi-load"), "status", "--into-postgres", arguments[len(arguments)-3], "--schema", "program")
	if !strings.HasPrefix(string(status), "destination warehouse, format postgresql: 24 batches, 12000 events, 0 duplicates\nnode gw1: entry 24, applied ") {
		t.Errorf("status: %s", status)
	}
}

// files writes what the program reads, and answers its arguments; the last four are those of the database.
func (l *lake) files(t *testing.T) []string {
	t.Helper()
	folder := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return []string{
		"--from", l.store, "--destination", l.g.Destination, "--identity", write("w.identity", l.g.Identity+"\n", 0o600),
		"--gateway-key", write("signing.key.pub", publicKey(l.g), 0o644),
		"--into-postgres", write("dsn", l.server.DSN+"\n", 0o600), "--schema", l.o.Schema,
	}
}

// publicKey is the file of a gateway's public key, as octroi init writes it.
func publicKey(g *loadtest.Gateway) string {
	return "octroi-signing-public-v1:" + base64.StdEncoding.EncodeToString(g.Public()) + "\n"
}

// examples: every statement of deploy/warehouse/postgresql.sql runs on what was loaded.
func examples(t *testing.T, l *lake) {
	l.g.Publish("gw1", l.g.Rows("gw1", 100))
	l.load(t)
	text, err := os.ReadFile("../warehouse/postgresql.sql")
	if err != nil {
		t.Fatal(err)
	}
	out := l.server.SQL(string(text))
	for _, want := range []string{"EUR", "https://shop.example/"} {
		if !strings.Contains(out, want) {
			t.Errorf("the queries answered nothing with %q: %s", want, out)
		}
	}
}

// TestSpeed prints the rows a second that the documentation of export/load states.
func TestSpeed(t *testing.T) {
	server := pgtest.Start(t)
	const rows = 100_000
	l := newLake(t, server, "speed")
	for range 3 {
		l.g.Publish("gw1", l.g.Rows("gw1", rows))
	}
	began := time.Now()
	if p := l.load(t); p.Rows != 3*rows {
		t.Fatalf("%+v", p)
	}
	t.Logf("%.0f rows/s into PostgreSQL", 3*rows/time.Since(began).Seconds())
}
