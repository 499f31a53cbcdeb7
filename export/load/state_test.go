package load_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/octroi/octroi/export"
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

// A ledger of version 1, which knew batches only, is read as it is; an older loader does not take what this one wrote.
func TestLedgerOfVersion1(t *testing.T) {
	s := newShop(t, load.Parquet)
	s.load(t)
	path := filepath.Join(s.o.Dir, ".octroi-load", "state.db")
	edit(t, path, func(tx *bolt.Tx) error {
		if got := string(tx.Bucket([]byte("about")).Get([]byte("version"))); got != "2" {
			t.Errorf("version %q", got)
		}
		output := tx.Bucket([]byte("output"))
		before := map[string]string{}
		err := output.ForEach(func(id, text []byte) error {
			var r struct {
				Path       string `json:"path"`
				SHA256     string `json:"sha256"`
				Rows       int    `json:"rows"`
				Duplicates int    `json:"duplicates"`
				Node       string `json:"node"`
				Number     uint64 `json:"number"`
			}
			if err := json.Unmarshal(text, &r); err != nil {
				return err
			}
			old, err := json.Marshal(r)
			before[string(id)] = string(old)
			return err
		})
		for id, text := range before {
			err = errors.Join(err, output.Put([]byte(id), []byte(text)))
		}
		return errors.Join(err, tx.DeleteBucket([]byte("staged")), tx.Bucket([]byte("about")).Put([]byte("version"), []byte("1")))
	})
	s.g.Replace(s.one, s.theirs)
	s.g.Notify("gw1", export.EraseEntry, notice(s.device, nil, nil, s.two))
	s.load(t)
	holds(t, s.o.Dir, lines(s.theirs, s.more[1:]), nil)
	edit(t, path, func(tx *bolt.Tx) error { return tx.Bucket([]byte("about")).Put([]byte("version"), []byte("3")) })
	if _, err := load.Open(t.Context(), s.o); !errors.Is(err, load.ErrFolder) {
		t.Errorf("a newer ledger: %v", err)
	}
}

func edit(t *testing.T, path string, fn func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}
