package loadtest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// Loaded counts the events in a loaded folder by "site/id", reading its files as a warehouse would: by their names.
func Loaded(t testing.TB, folder string) map[string]int {
	t.Helper()
	all := map[string]int{}
	for _, text := range Lines(t, filepath.Join(folder, "events")) {
		var row struct {
			Site    string `json:"site"`
			EventID string `json:"event_id"`
		}
		if err := json.Unmarshal([]byte(text), &row); err != nil {
			t.Fatal(err)
		}
		all[row.Site+"/"+row.EventID]++
	}
	return all
}

// Restricted are the events of a loaded folder that nobody sees, as Lines has them.
func Restricted(t testing.TB, folder string) []string {
	t.Helper()
	return Lines(t, filepath.Join(folder, ".octroi-load", "restricted"))
}

// Lines are the events in the files below a folder, with all their columns, one text each, in order.
func Lines(t testing.TB, folder string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			return err
		}
		switch filepath.Ext(path) {
		case ".parquet":
			all = append(all, readParquet(t, path)...)
		case ".ndjson":
			all = append(all, readLines(t, path)...)
		default:
			t.Errorf("%s: what is this file", path)
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// Line is a row as Lines has it.
func Line(row pseudonymize.Row) string {
	text, err := json.Marshal(map[string]any{
		"event_id": hex.EncodeToString(row.EventID[:]), "site": row.Site, "type": row.Type, "channel": row.Channel, "stage": row.Stage,
		"time": row.Time.UnixMilli(), "received_at": row.ReceivedAt.UnixMilli(), "device": pseudonym(row.Device), "person": pseudonym(row.Person),
		"grants": grants(row.Grants), "policy": hex.EncodeToString(row.Policy[:]), "campaign": row.Campaign, "source": row.Source, "medium": row.Medium,
		"value_minor": row.Value.Minor, "currency": row.Value.Currency, "properties": maps.Collect(maps.All(row.Properties)),
	})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func pseudonym(p *[16]byte) string {
	if p == nil {
		return ""
	}
	return hex.EncodeToString(p[:])
}

func grants(all []pseudonymize.RowGrant) (texts []string) {
	for _, g := range all {
		texts = append(texts, fmt.Sprintf("%s %d %s %x", g.Purpose, g.Version, g.Basis, g.Ref))
	}
	return texts
}

func readParquet(t testing.TB, path string) (all []string) {
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
			all = append(all, Line(r))
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return all
}

// line is an event of NDJSON, read without the code that wrote it.
type line struct {
	EventID    string            `json:"event_id"`
	Time       time.Time         `json:"time"`
	ReceivedAt time.Time         `json:"received_at"`
	Device     *hexID            `json:"device"`
	Person     *hexID            `json:"person"`
	Type       string            `json:"type"`
	Channel    string            `json:"channel"`
	Stage      string            `json:"stage"`
	Site       string            `json:"site"`
	Grants     []lineGrant       `json:"grants"`
	Policy     string            `json:"policy"`
	Campaign   string            `json:"campaign"`
	Source     string            `json:"source"`
	Medium     string            `json:"medium"`
	ValueMinor int64             `json:"value_minor"`
	Currency   string            `json:"currency"`
	Properties map[string]string `json:"properties"`
}

type lineGrant struct {
	Purpose string `json:"purpose"`
	Version int    `json:"version"`
	Basis   string `json:"basis"`
	Ref     hexID  `json:"ref"`
}

type hexID [16]byte

// UnmarshalText reads 32 hex digits.
func (h *hexID) UnmarshalText(text []byte) error {
	_, err := hex.Decode(h[:], text)
	return err
}

func readLines(t testing.TB, path string) (all []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		row, err := ParseLine(lines.Bytes())
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, Line(row))
	}
	if lines.Err() != nil {
		t.Fatalf("%s: %v", path, lines.Err())
	}
	return all
}

// ParseLine reads an event of NDJSON, strictly.
func ParseLine(text []byte) (row pseudonymize.Row, err error) {
	var l line
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return row, err
	}
	row = pseudonymize.Row{
		Time: l.Time, ReceivedAt: l.ReceivedAt, Device: (*[16]byte)(l.Device), Person: (*[16]byte)(l.Person), Type: l.Type, Channel: l.Channel,
		Stage: l.Stage, Site: l.Site, Campaign: l.Campaign, Source: l.Source, Medium: l.Medium,
		Value: pseudonymize.Money{Minor: l.ValueMinor, Currency: l.Currency}, Properties: l.Properties,
	}
	for _, g := range l.Grants {
		row.Grants = append(row.Grants, pseudonymize.RowGrant{Purpose: g.Purpose, Version: g.Version, Basis: policies.Basis(g.Basis), Ref: [16]byte(g.Ref)})
	}
	_, err1 := hex.Decode(row.EventID[:], []byte(l.EventID))
	_, err2 := hex.Decode(row.Policy[:], []byte(l.Policy))
	return row, errors.Join(err1, err2)
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
