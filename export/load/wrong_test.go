package load_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load"
	"github.com/octroi/octroi/export/load/loadtest"
	"github.com/octroi/octroi/pseudonymize"
)

// wrong is a store in a folder with three batches of node gw1 and one of gw2, the second of gw1 being what a test damages.
type wrong struct {
	g     *loadtest.Gateway
	o     load.Options
	rows  [][]pseudonymize.Row
	files struct{ object, entry, first string } // of batch 2, of entry 2, of entry 1
	kept  map[string][]byte
}

func newWrong(t *testing.T) *wrong {
	t.Helper()
	objects, folder := newStore(t)
	w := &wrong{g: loadtest.New(t, objects), kept: map[string][]byte{}}
	w.o = options(t, w.g, t.TempDir())
	for i, node := range []string{"gw1", "gw1", "gw1", "gw2"} {
		rows := w.g.Rows(node, 10)
		w.rows = append(w.rows, rows)
		if e := w.g.Publish(node, rows); i == 1 {
			w.files.object = filepath.Join(folder, e.Batch.Key)
			w.files.entry = filepath.Join(folder, export.EntryKey(w.g.Destination, node, 2))
			w.files.first = filepath.Join(folder, export.EntryKey(w.g.Destination, node, 1))
		}
	}
	return w
}

// edit changes a file in place; nil removes it.
func (w *wrong) edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w.kept[path] = bytes.Clone(text)
	if changed := change(text); changed != nil {
		err = os.WriteFile(path, changed, 0o600)
	} else {
		err = os.Remove(path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (w *wrong) restore(t *testing.T) {
	t.Helper()
	for path, text := range w.kept {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Each thing that can be wrong with a node's stream stops it, says what to do, and writes nothing; the other node goes on; when it is
// mended, the rest is loaded.
func TestWhatIsWrongStopsTheNode(t *testing.T) {
	remove := func([]byte) []byte { return nil }
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	shorten := func(b []byte) []byte { return b[:len(b)-100] }
	for name, c := range map[string]struct {
		entry  bool // of the entry, not of the object
		change func([]byte) []byte
		want   error // nil: any
		says   string
	}{
		"object lost":      {false, remove, load.ErrLost, "restore the object"},
		"object flipped":   {false, flip, load.ErrHash, "restore the object"},
		"object truncated": {false, shorten, load.ErrHash, "restore the object"},
		"object longer":    {false, func(b []byte) []byte { return append(b, 0) }, load.ErrHash, "restore the object"},
		"object empty":     {false, func([]byte) []byte { return []byte{} }, load.ErrHash, "restore the object"},
		"entry lost":       {true, remove, export.ErrGap, "restore the entry"},
		"entry flipped":    {true, flip, nil, "next:"},
		"entry truncated":  {true, shorten, nil, "next:"},
		"entry huge":       {true, func(b []byte) []byte { return bytes.Repeat(b, 2000) }, export.ErrEntry, "next:"},
		"entry empty":      {true, func([]byte) []byte { return []byte{} }, export.ErrEntry, "next:"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWrong(t)
			path := w.files.object
			if c.entry {
				path = w.files.entry
			}
			w.edit(t, path, c.change)
			w.check(t, c.want, c.says)
		})
	}
	t.Run("entry replaced by the one before", func(t *testing.T) {
		w := newWrong(t)
		first, err := os.ReadFile(w.files.first)
		if err != nil {
			t.Fatal(err)
		}
		w.edit(t, w.files.entry, func([]byte) []byte { return first })
		w.check(t, export.ErrChain, "octroi verify stream")
	})
}

// check runs twice with the damage, and once without.
func (w *wrong) check(t *testing.T, want error, says string) {
	t.Helper()
	for run := range 2 {
		p, err := once(t, w.o)
		if err == nil || (want != nil && !errors.Is(err, want)) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "entry 2") {
			t.Fatalf("run %d: got %v, want %v with %q", run, err, want, says)
		}
		if run == 0 && p.Batches != 2 || run == 1 && p.Batches != 0 {
			t.Errorf("run %d: %d batches were loaded", run, p.Batches)
		}
		loadtest.CheckExactlyOnce(t, w.o.Dir, w.rows[0], w.rows[3])
		checkOwnFiles(t, w.o.Dir)
	}
	s, err := load.ReadStatus(w.o.Dir)
	if err != nil || len(s.Nodes) != 2 || s.Nodes[0].Number != 1 || !strings.Contains(s.Nodes[0].Failure, "entry 2") || s.Nodes[1].Failure != "" {
		t.Errorf("status %+v, %v", s, err)
	}
	w.restore(t)
	if _, err := once(t, w.o); err != nil {
		t.Fatalf("after it was mended: %v", err)
	}
	loadtest.CheckExactlyOnce(t, w.o.Dir, w.rows...)
	if s, err := load.ReadStatus(w.o.Dir); err != nil || s.Nodes[0].Failure != "" || s.Rows != 40 || s.Batches != 4 {
		t.Errorf("status %+v, %v", s, err)
	}
}

func TestWrongKeys(t *testing.T) {
	w := newWrong(t)
	o := w.o
	o.Gateway, _, _ = ed25519.GenerateKey(nil)
	if _, err := once(t, o); !errors.Is(err, export.ErrSignature) || !strings.Contains(err.Error(), "--gateway-key") {
		t.Errorf("another gateway's key: %v", err)
	}
	identity, _, err := export.NewIdentity(export.ClassX25519)
	if err != nil {
		t.Fatal(err)
	}
	o = w.o
	if o.Identities, err = export.ParseIdentities([]byte(identity)); err != nil {
		t.Fatal(err)
	}
	if _, err := once(t, o); !errors.Is(err, export.ErrIdentity) || !strings.Contains(err.Error(), "identity file of this destination") {
		t.Errorf("another destination's identity: %v", err)
	}
	loadtest.CheckExactlyOnce(t, o.Dir)
	if _, err := once(t, w.o); err != nil {
		t.Fatal(err)
	}
	loadtest.CheckExactlyOnce(t, w.o.Dir, w.rows...)
}

// What was signed rightly may still not be what this loader takes.
func TestSignedButWrong(t *testing.T) {
	seal := func(t *testing.T, g *loadtest.Gateway, plain string) []byte {
		t.Helper()
		var object bytes.Buffer
		w, err := export.Seal(&object, g.Recipients)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write([]byte(plain))
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return object.Bytes()
	}
	var kept []pseudonymize.Row // of the one batch that is right
	for name, c := range map[string]struct {
		publish func(g *loadtest.Gateway)
		want    error
	}{
		"row count":  {func(g *loadtest.Gateway) { g.PublishObject("gw1", g.Seal(g.Rows("gw1", 5)), 6, nil) }, load.ErrRows},
		"no Parquet": {func(g *loadtest.Gateway) { g.PublishObject("gw1", seal(t, g, "PAR1 no PAR1"), 1, nil) }, export.ErrSchema},
		"empty":      {func(g *loadtest.Gateway) { g.PublishObject("gw1", seal(t, g, ""), 1, nil) }, export.ErrSchema},
		"no age":     {func(g *loadtest.Gateway) { g.PublishObject("gw1", []byte("plain"), 1, nil) }, export.ErrSeal},
		"cut before": {func(g *loadtest.Gateway) { b := g.Seal(g.Rows("gw1", 5)); g.PublishObject("gw1", b[:len(b)-9], 5, nil) }, export.ErrSeal},
		"another schema": {func(g *loadtest.Gateway) {
			g.PublishObject("gw1", g.Seal(g.Rows("gw1", 5)), 5, func(e *export.Entry) { e.Batch.Schema = "octroi.events.v9" })
		}, export.ErrSchema},
		"a batch's id again": {func(g *loadtest.Gateway) {
			kept = g.Rows("gw1", 5)
			g.PublishObject("gw1", g.Seal(kept), 5, func(e *export.Entry) { e.Batch.ID = "one" })
			g.PublishObject("gw1", g.Seal(g.Rows("gw1", 5)), 5, func(e *export.Entry) { e.Batch.ID = "one" })
		}, load.ErrRows},
	} {
		t.Run(name, func(t *testing.T) {
			objects, _ := newStore(t)
			g := loadtest.New(t, objects)
			o := options(t, g, t.TempDir())
			c.publish(g)
			if _, err := once(t, o); !errors.Is(err, c.want) || !strings.Contains(err.Error(), "next:") {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if name != "a batch's id again" {
				loadtest.CheckExactlyOnce(t, o.Dir)
			} else {
				loadtest.CheckExactlyOnce(t, o.Dir, kept)
			}
			checkOwnFiles(t, o.Dir)
		})
	}
}
