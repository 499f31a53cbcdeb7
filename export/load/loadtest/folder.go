package loadtest

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
)

// Loaded counts the events in a loaded folder by "site/id", reading its files as a warehouse would: by their names.
func Loaded(t testing.TB, folder string) map[string]int {
	t.Helper()
	all := map[string]int{}
	err := filepath.WalkDir(filepath.Join(folder, "events"), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			return err
		}
		switch filepath.Ext(path) {
		case ".parquet":
			readParquet(t, path, all)
		case ".ndjson":
			readLines(t, path, all)
		default:
			t.Errorf("%s: what is this file", path)
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return all
}

func readParquet(t testing.TB, path string, all map[string]int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	about, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	err = export.DecodeRows(f, about.Size(), func(rows []pseudonymize.Row) error {
		for _, r := range rows {
			all[r.Site+"/"+hex.EncodeToString(r.EventID[:])]++
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func readLines(t testing.TB, path string, all map[string]int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var row struct {
			Site    string `json:"site"`
			EventID string `json:"event_id"`
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all[row.Site+"/"+row.EventID]++
	}
	if lines.Err() != nil {
		t.Fatalf("%s: %v", path, lines.Err())
	}
}

// CheckExactlyOnce fails unless the folder holds each of the rows once and nothing else.
func CheckExactlyOnce(t testing.TB, folder string, batches ...[]pseudonymize.Row) {
	t.Helper()
	want := map[string]bool{}
	for _, rows := range batches {
		for _, r := range rows {
			want[r.Site+"/"+hex.EncodeToString(r.EventID[:])] = true
		}
	}
	got := Loaded(t, folder)
	for id, n := range got {
		switch {
		case !want[id]:
			t.Errorf("an event that was never published was loaded")
		case n != 1:
			t.Errorf("an event was loaded %d times", n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d events were loaded of %d", len(got), len(want))
	}
}
