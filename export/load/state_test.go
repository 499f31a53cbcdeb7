package load_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/octroi/octroi/export/load"
	"github.com/octroi/octroi/export/load/loadtest"
)

// A state that was cut short, wherever, is an error that says what to do: not a crash, and not the beginning of another load.
func TestShortenedState(t *testing.T) {
	objects, _ := newStore(t)
	g := loadtest.New(t, objects)
	rows := g.Rows("gw1", 3000)
	g.Publish("gw1", rows)
	o := options(t, g, t.TempDir())
	if _, err := once(t, o); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(o.Dir, ".octroi-load", "state.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pages := len(whole) / 4096
	for n := 1; n < min(20, pages/2); n++ { // bbolt grows the file ahead: what is at its end may never have been used
		short := o
		short.Dir = t.TempDir()
		if err := os.Mkdir(filepath.Join(short.Dir, ".octroi-load"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(short.Dir, ".octroi-load", "state.db"), whole[:n*4096-n%2*100], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load.Open(t.Context(), short); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
			t.Errorf("%d of %d pages: %v", n, pages, err)
		}
	}
	if p, err := once(t, o); err != nil || p.Rows != 0 {
		t.Errorf("with its whole state: %+v, %v", p, err)
	}
	loadtest.CheckExactlyOnce(t, o.Dir, rows)
}
