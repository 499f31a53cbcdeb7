package export

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

func decodeAll(t testing.TB, file []byte) ([]pseudonymize.Row, error) {
	t.Helper()
	return allRows(file)
}

func allRows(file []byte) (rows []pseudonymize.Row, err error) {
	err = DecodeRows(bytes.NewReader(file), int64(len(file)), func(some []pseudonymize.Row) error {
		rows = append(rows, some...)
		return nil
	})
	return rows, err
}

func encoded(t testing.TB, rows []pseudonymize.Row) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := EncodeRows(&file, rows); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// anyRow draws rows of every shape: with and without subject, grants, amounts, properties.
func anyRow(t *rapid.T) pseudonymize.Row {
	bytes16 := rapid.Custom(func(t *rapid.T) (b [16]byte) {
		copy(b[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes"))
		return b
	})
	at := func(name string) time.Time {
		return time.UnixMilli(rapid.Int64Range(0, 4e12).Draw(t, name)).UTC()
	}
	text := rapid.OneOf(rapid.Just(""), rapid.StringN(0, 12, 40), rapid.SampledFrom([]string{"web", "shop", "page_view"}))
	row := pseudonymize.Row{
		EventID: bytes16.Draw(t, "id"), Time: at("time"), ReceivedAt: at("received"),
		Type: text.Draw(t, "type"), Channel: text.Draw(t, "channel"), Stage: text.Draw(t, "stage"), Site: text.Draw(t, "site"),
		Campaign: text.Draw(t, "campaign"), Source: text.Draw(t, "source"), Medium: text.Draw(t, "medium"),
	}
	copy(row.Policy[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "policy"))
	if rapid.Bool().Draw(t, "has device") {
		b := bytes16.Draw(t, "device")
		row.Device = &b
	}
	if rapid.Bool().Draw(t, "has person") {
		b := bytes16.Draw(t, "person")
		row.Person = &b
	}
	for range rapid.IntRange(0, 3).Draw(t, "grants") {
		row.Grants = append(row.Grants, pseudonymize.RowGrant{
			Purpose: text.Draw(t, "purpose"), Version: rapid.IntRange(0, 1<<30).Draw(t, "version"),
			Basis: rapid.SampledFrom([]policies.Basis{policies.Consent, policies.Contract}).Draw(t, "basis"), Ref: bytes16.Draw(t, "ref"),
		})
	}
	if rapid.Bool().Draw(t, "has amount") {
		row.Value = pseudonymize.Money{Minor: rapid.Int64().Draw(t, "minor"), Currency: "EUR"}
	}
	if p := rapid.MapOfN(text, text, 0, 4).Draw(t, "properties"); len(p) > 0 {
		row.Properties = p
	}
	return row
}

func TestRowsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(rapid.Custom(anyRow), 0, 20).Draw(t, "rows")
		var first, second bytes.Buffer
		if err := errors.Join(EncodeRows(&first, rows), EncodeRows(&second, rows)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatal("the same rows were encoded in two ways")
		}
		var got []pseudonymize.Row
		err := DecodeRows(bytes.NewReader(first.Bytes()), int64(first.Len()), func(some []pseudonymize.Row) error {
			got = append(got, some...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(rows) || (len(rows) > 0 && !reflect.DeepEqual(got, rows)) {
			t.Fatalf("got  %+v\nwant %+v", got, rows)
		}
	})
}

// Several row groups, chunks cut by their bytes, and dictionaries that went over to plain pages.
func TestLargeBatchComesBack(t *testing.T) {
	rows := shopRows(12_000)
	for i := range 3000 {
		rows[i].Properties = map[string]string{"url": strings.Repeat("x", 2000) + string(rune('a'+i%26)), "n": time.Duration(i).String()}
	}
	var file bytes.Buffer
	w := NewRowWriter(&file)
	w.group = 5000
	if err := errors.Join(w.Write(rows[:7]), w.Write(rows[7:]), w.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := decodeAll(t, file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(rows) {
		t.Fatalf("%d rows instead of %d", len(got), len(rows))
	}
	for i := range rows {
		if !reflect.DeepEqual(got[i], rows[i]) {
			t.Fatalf("row %d: got %+v, want %+v", i, got[i], rows[i])
		}
	}
}

func TestInvalidTextIsReplaced(t *testing.T) {
	got, err := decodeAll(t, encoded(t, []pseudonymize.Row{{Type: "a\xffb", Properties: map[string]string{"k\xfe": "v\xfd"}}}))
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Type != "a\uFFFDb" || got[0].Properties["k\uFFFD"] != "v\uFFFD" {
		t.Fatalf("got %+v", got[0])
	}
}

func TestOversizeRowIsRefused(t *testing.T) {
	err := EncodeRows(io.Discard, []pseudonymize.Row{{Properties: map[string]string{"k": strings.Repeat("x", rowBytes+1)}}})
	if err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Fatalf("got %v", err)
	}
}

func TestWriterErrorsAreReturned(t *testing.T) {
	full := errors.New("disk full")
	if err := EncodeRows(failingWriter{full}, shopRows(3000)); !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestDecodeReturnsTheCallersError(t *testing.T) {
	file := encoded(t, shopRows(10))
	stop := errors.New("stop")
	if err := DecodeRows(bytes.NewReader(file), int64(len(file)), func([]pseudonymize.Row) error { return stop }); !errors.Is(err, stop) || errors.Is(err, ErrSchema) {
		t.Fatalf("got %v", err)
	}
	defer func() {
		if recover() != "mine" {
			t.Error("the caller's panic was hidden")
		}
	}()
	DecodeRows(bytes.NewReader(file), int64(len(file)), func([]pseudonymize.Row) error { panic("mine") })
}

// One changed byte anywhere gives an error or other rows, and never a panic; most often it is ErrSchema.
func TestDamagedFiles(t *testing.T) {
	file := encoded(t, shopRows(40))
	refused, tried := 0, 0
	for i := 0; i < len(file); i += 11 { // 11 has no factor of any stride in the file
		damaged := bytes.Clone(file)
		damaged[i] ^= []byte{0x01, 0x80, 0xff}[i%3]
		tried++
		if _, err := decodeAll(t, damaged); err != nil {
			if !errors.Is(err, ErrSchema) {
				t.Fatalf("byte %d: %v", i, err)
			}
			refused++
		}
	}
	if refused < tried/3 {
		t.Fatalf("only %d of %d damaged files were refused", refused, tried)
	}
	for n := 0; n < len(file); n += 61 {
		if _, err := decodeAll(t, file[:n]); !errors.Is(err, ErrSchema) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func FuzzDecodeRows(f *testing.F) {
	f.Add([]byte("PAR1"))
	for _, n := range []int{0, 1, 30} {
		f.Add(encoded(f, shopRows(n)))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		rows, err := decodeAll(t, file)
		if err != nil {
			if !errors.Is(err, ErrSchema) {
				t.Fatal(err)
			}
			return
		}
		again, err := decodeAll(t, encoded(t, rows))
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if len(again) != len(rows) || (len(rows) > 0 && !reflect.DeepEqual(rows, again)) {
			t.Fatal("rows changed on the way")
		}
	})
}

// A file of counts that ask for gigabytes is refused before anything is allocated for them.
func TestCountsThatLie(t *testing.T) {
	list := []byte{0x29, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07} // field 2: a list of 2^31-1 structs
	walk := thriftText{rest: append([]byte{0x15, 0x02}, list...), items: guardItems}
	if err := walk.structure(guardDepth); !errors.Is(err, errGuard) {
		t.Fatalf("list: %v", err)
	}
	deep := thriftText{rest: bytes.Repeat([]byte{0x1c}, 1000), items: guardItems}
	if err := deep.structure(guardDepth); !errors.Is(err, errGuard) {
		t.Fatalf("depth: %v", err)
	}
	run := []byte{0xfe, 0xff, 0xff, 0xff, 0x0f, 0x01} // one value, 2^31-1 times
	if guardRuns(run, 1, 100) {
		t.Fatal("a run longer than its page passed")
	}
}
