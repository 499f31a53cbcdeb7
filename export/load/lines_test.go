package load_test

import (
	"bytes"
	"encoding/pem"
	"net/http/httptest"
	"reflect"
	"slices"
	"testing"

	"github.com/octroi/octroi/export/load"
	"github.com/octroi/octroi/export/load/loadtest"
	"github.com/octroi/octroi/pseudonymize"
)

func certificate(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// What is written is read back: rewriting a file changes nothing in the rows that stay.
func TestLinesRoundTrip(t *testing.T) {
	g := loadtest.New(t, nil)
	rows := append(g.Rows("gw1", 3000), g.Visit("gw1", somebody('d', 1), somebody('p', 1), "audience", "service"), pseudonymize.Row{
		Grants: nil, Properties: nil, Value: pseudonymize.Money{Currency: "JPY"},
	})
	var text bytes.Buffer
	if err := load.WriteLines(&text, rows); err != nil {
		t.Fatal(err)
	}
	var got []pseudonymize.Row
	if err := load.ParseLines(&text, func(rows []pseudonymize.Row) error { got = append(got, slices.Clone(rows)...); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(rows) {
		t.Fatalf("%d rows of %d", len(got), len(rows))
	}
	for i := range rows {
		if a, b := loadtest.Line(got[i]), loadtest.Line(rows[i]); a != b {
			t.Fatalf("row %d:\n%s\n%s", i, a, b)
		}
	}
}

// Whatever a file holds, it is read or refused; what is read is written as it was.
func FuzzParseLines(f *testing.F) {
	var text bytes.Buffer
	g := loadtest.New(f, nil)
	if err := load.WriteLines(&text, append(g.Rows("gw1", 2), g.Visit("gw1", somebody('d', 1), nil, "audience", "quality"))); err != nil {
		f.Fatal(err)
	}
	f.Add(text.Bytes())
	f.Add([]byte(`{"event_id":"00","time":"2026-11-21T18:00:00.000Z"}`))
	f.Add([]byte("{}\n[]\nnull\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		read := func(text []byte) (rows []pseudonymize.Row, err error) {
			err = load.ParseLines(bytes.NewReader(text), func(piece []pseudonymize.Row) error { rows = append(rows, slices.Clone(piece)...); return nil })
			return rows, err
		}
		rows, err := read(text)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := load.WriteLines(&again, rows); err != nil {
			t.Fatal(err)
		}
		back, err := read(again.Bytes())
		if err != nil || !reflect.DeepEqual(back, rows) {
			t.Fatalf("%v\n%+v\n%+v", err, rows, back)
		}
	})
}
