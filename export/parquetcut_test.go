package export

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"pgregory.net/rapid"

	"github.com/octroi/octroi/pseudonymize"
)

// someRows are rows of a few subjects each of whom occurs often, of every shape that anyRow draws.
func someRows(t *rapid.T) []pseudonymize.Row {
	rows := rapid.SliceOfN(rapid.Custom(anyRow), 0, 40).Draw(t, "rows")
	for i := range rows {
		for _, p := range []**[16]byte{&rows[i].Device, &rows[i].Person} {
			if *p != nil {
				*p = &[16]byte{byte(rapid.IntRange(0, 4).Draw(t, "who"))}
			}
		}
	}
	return rows
}

// encodedIn writes rows in groups of some size, and where plain is set with dictionaries that give up at once.
func encodedIn(rows []pseudonymize.Row, group int, options ...parquet.WriterOption) ([]byte, error) {
	var file bytes.Buffer
	w := NewRowWriter(&file)
	w.group = group
	if len(options) > 0 {
		w.w = parquet.NewGenericWriter[eventColumns](&file, append([]parquet.WriterOption{eventsSchema(), parquet.Compression(&parquet.Zstd)}, options...)...)
	}
	for some := range slices.Chunk(rows, 3) { // a page ends after a call
		if err := w.Write(some); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return file.Bytes(), err
}

// recut is CutRows, but for what is a small row group.
func recut(file []byte, join int, of Pseudonyms, fn Verdict) ([]byte, Remains, error) {
	c, err := newCutting(bytes.NewReader(file), int64(len(file)), of, fn)
	if err != nil {
		return nil, Remains{}, err
	}
	c.join = join
	var out bytes.Buffer
	err = c.write(&out)
	return out.Bytes(), c.out.remains, err
}

// expected are the rows that decoding and cutting leaves, those that were changed or stood in small groups last, and what is said of them.
func expected(rows []pseudonymize.Row, of Pseudonyms, fn Verdict) (all []pseudonymize.Row, r Remains) {
	purposes := map[string]bool{}
	for _, row := range rows {
		if row.Device != nil && of.Devices[*row.Device] || row.Person != nil && of.Persons[*row.Person] {
			if keep, _ := fn(&row); !keep {
				continue
			}
		}
		all = append(all, row)
		if r.From.IsZero() || row.ReceivedAt.Before(r.From) {
			r.From = row.ReceivedAt
		}
		if row.ReceivedAt.After(r.To) {
			r.To = row.ReceivedAt
		}
		for _, g := range row.Grants {
			purposes[g.Purpose] = true
		}
	}
	r.Of, r.Rows = len(rows), len(all)
	for p := range purposes {
		r.Purposes = append(r.Purposes, p)
	}
	slices.Sort(r.Purposes)
	return all, r
}

func sorted(rows []pseudonymize.Row) []pseudonymize.Row {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b pseudonymize.Row) int {
		return cmp.Or(bytes.Compare(a.EventID[:], b.EventID[:]), a.Time.Compare(b.Time), cmp.Compare(a.Campaign, b.Campaign))
	})
	return rows
}

func TestCutLeavesWhatDecodingAndCuttingLeaves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := someRows(t)
		for i := range rows {
			rows[i].EventID[0], rows[i].EventID[1] = byte(i), 0
		}
		var options []parquet.WriterOption
		if rapid.Bool().Draw(t, "small pages") {
			options = append(options, parquet.PageBufferSize(rapid.IntRange(1, 200).Draw(t, "page")), parquet.DataPageVersion(1),
				parquet.DictionaryMaxBytes(rapid.Int64Range(1, 300).Draw(t, "dictionary")))
		}
		file, err := encodedIn(rows, rapid.IntRange(1, 50).Draw(t, "group"), options...)
		if err != nil {
			t.Fatal(err)
		}
		of := Pseudonyms{
			Devices: map[[16]byte]bool{{byte(rapid.IntRange(0, 5).Draw(t, "device"))}: true},
			Persons: map[[16]byte]bool{{byte(rapid.IntRange(0, 5).Draw(t, "person"))}: true},
		}
		verdicts := rapid.SliceOfN(rapid.IntRange(0, 2), 256, 256).Draw(t, "verdicts")
		fn := func(row *pseudonymize.Row) (keep, changed bool) {
			switch verdicts[row.EventID[0]] {
			case 0:
				return false, true
			case 1:
				row.Device, row.Campaign, row.Grants = nil, "changed", row.Grants[:len(row.Grants)/2]
				if len(row.Grants) == 0 {
					row.Grants = nil
				}
				return true, true
			}
			return true, false
		}
		out, left, err := recut(file, rapid.SampledFrom([]int{0, 3, 10}).Draw(t, "join"), of, fn)
		if err != nil {
			t.Fatal(err)
		}
		want, remains := expected(rows, of, fn)
		got, err := allRows(out)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(sorted(got), sorted(want)) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
		if left.Of != remains.Of || left.Rows != remains.Rows || !slices.Equal(left.Purposes, remains.Purposes) || left.Rows > 0 && (!left.From.Equal(remains.From) || !left.To.Equal(remains.To)) {
			t.Fatalf("remains %+v, want %+v", left, remains)
		}
	})
}

// withoutFirst cuts the rows of the first row's device.
func withoutFirst(rows []pseudonymize.Row) (Pseudonyms, Verdict) {
	return Pseudonyms{Devices: map[[16]byte]bool{*rows[0].Device: true}}, func(*pseudonymize.Row) (keep, changed bool) { return false, true }
}

// A shop's rows in several row groups of several pages: the groups in which nobody was concerned are the same bytes.
func TestCutCopiesWhatNobodyConcernedOccursIn(t *testing.T) {
	rows := shopRows(20_000)
	for i := range rows {
		if i > 0 && *rows[i].Device == *rows[0].Device {
			rows[i].Device = &[16]byte{1}
		}
	}
	rows[7].Device, rows[3000].Device = rows[0].Device, rows[0].Device
	file, err := encodedIn(rows, 6000)
	if err != nil {
		t.Fatal(err)
	}
	of, cut := withoutFirst(rows)
	var out bytes.Buffer
	left, err := CutRows(&out, bytes.NewReader(file), int64(len(file)), of, cut)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := expected(rows, of, cut)
	if got, err := allRows(out.Bytes()); err != nil || !reflect.DeepEqual(got, want) || left.Rows != len(rows)-3 {
		t.Fatalf("%d rows, %v; %+v", len(got), err, left)
	}
	meta, _, err := guardFooter(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range meta.RowGroups {
		from := meta.RowGroups[i].FileOffset
		same := bytes.Contains(out.Bytes(), file[from:from+meta.RowGroups[i].TotalCompressedSize])
		if same != (i > 0) {
			t.Errorf("row group %d is copied: %v", i, same)
		}
	}
	again, err := CutRows(io.Discard, bytes.NewReader(out.Bytes()), int64(out.Len()), of, cut)
	if err != nil || again.Of != left.Rows || again.Rows != left.Rows {
		t.Fatalf("cut once more: %+v, %v", again, err)
	}
}

// Of a row that went no text is left: not in a page, nor a dictionary, nor a bound, of which other writers, and this one once, write more.
func TestNothingIsLeftOfCutRows(t *testing.T) {
	rows := shopRows(9000)
	secrets := []string{"zz-secret-url", "aa-secret-campaign", hex.EncodeToString(rows[0].Device[:]), hex.EncodeToString(rows[0].EventID[:])}
	rows[0].Properties["url"], rows[0].Campaign = secrets[0], secrets[1]
	of, cut := withoutFirst(rows)
	for name, options := range map[string][]parquet.WriterOption{"of RowWriter": nil, "with bounds": {parquet.DataPageVersion(1), parquet.PageBufferSize(20_000)}} {
		t.Run(name, func(t *testing.T) {
			file, err := encodedIn(rows, rowGroupRows, options...)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if _, err := CutRows(&out, bytes.NewReader(file), int64(len(file)), of, cut); err != nil {
				t.Fatal(err)
			}
			before, after := unpacked(t, file), unpacked(t, out.Bytes())
			for _, secret := range secrets {
				if !strings.Contains(before, secret) || strings.Contains(after, secret) {
					t.Errorf("%q is there: before %v, after %v", secret, strings.Contains(before, secret), strings.Contains(after, secret))
				}
			}
		})
	}
}

// Query engines answer count(value_minor) from the footer.
func TestCutCountsNulls(t *testing.T) {
	rows := shopRows(5000)
	file := encoded(t, rows)
	of, cut := withoutFirst(rows)
	var out bytes.Buffer
	if _, err := CutRows(&out, bytes.NewReader(file), int64(len(file)), of, cut); err != nil {
		t.Fatal(err)
	}
	left, _ := expected(rows, of, cut)
	var want int64
	for i := range left {
		if left[i].Value.Currency == "" {
			want++
		}
	}
	meta, _, err := guardFooter(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if got := meta.RowGroups[0].Columns[columnValueMinor].MetaData.Statistics.NullCount; got != want {
		t.Errorf("%d nulls instead of %d", got, want)
	}
}

// unpacked is a file's bytes and those of all its pages.
func unpacked(t *testing.T, file []byte) string {
	t.Helper()
	g, meta, leaves, err := newGuard(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.Clone(file)
	for i := range meta.RowGroups {
		for column := range columnCount {
			c, err := g.columnChunk(&meta.RowGroups[i], column, &leaves[column], newRoom())
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range append([]*page{c.first}, pointers(c.pages)...) {
				if p == nil {
					continue
				}
				text, err := c.unpack(p)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, text...)
			}
		}
	}
	return string(all)
}

func pointers(pages []page) (all []*page) {
	for i := range pages {
		all = append(all, &pages[i])
	}
	return all
}

func TestCutReturnsTheWritersError(t *testing.T) {
	rows := shopRows(3000)
	file := encoded(t, rows)
	of, cut := withoutFirst(rows)
	full := errors.New("disk full")
	_, err := CutRows(failingWriter{full}, bytes.NewReader(file), int64(len(file)), of, cut)
	if !errors.Is(err, full) || errors.Is(err, ErrSchema) {
		t.Fatalf("got %v", err)
	}
}

func TestFindRows(t *testing.T) {
	rows := shopRows(5000)
	file := encoded(t, rows)
	of, _ := withoutFirst(rows)
	var got, want []pseudonymize.Row
	n, err := FindRows(bytes.NewReader(file), int64(len(file)), of, func(row *pseudonymize.Row) { got = append(got, *row) })
	for i := range rows {
		if of.Devices[*rows[i].Device] {
			want = append(want, rows[i])
		}
	}
	if err != nil || n != len(rows) || len(want) < 2 || !reflect.DeepEqual(got, want) {
		t.Fatalf("%d of %d rows, %v; want %d of %d", len(got), n, err, len(want), len(rows))
	}
}

// Small row groups, which changed rows are, do not become more with every cut.
func TestSmallRowGroupsAreJoined(t *testing.T) {
	rows := shopRows(4000)
	file := encoded(t, rows)
	for i := range 5 {
		of := Pseudonyms{Devices: map[[16]byte]bool{*rows[i].Device: true}}
		var out bytes.Buffer
		_, err := CutRows(&out, bytes.NewReader(file), int64(len(file)), of, func(row *pseudonymize.Row) (keep, changed bool) {
			row.Campaign = "changed"
			return true, true
		})
		if err != nil {
			t.Fatal(err)
		}
		file = out.Bytes()
	}
	meta, _, err := guardFooter(bytes.NewReader(file), int64(len(file)))
	if err != nil || len(meta.RowGroups) != 2 || meta.NumRows != 4000 {
		t.Fatalf("%d row groups, %d rows, %v", len(meta.RowGroups), meta.NumRows, err)
	}
}

// Footers that lie are refused, and nothing is made larger than the file by them.
func TestCutRefusesFootersThatLie(t *testing.T) {
	rows := shopRows(3000)
	file := encoded(t, rows)
	of, cut := withoutFirst(rows)
	for name, lie := range map[string]func(m *format.FileMetaData){
		"chunks beyond the file": func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.DataPageOffset = 1 << 40 },
		"a chunk that is longer": func(m *format.FileMetaData) { m.RowGroups[0].Columns[3].MetaData.TotalCompressedSize = 1 << 62 },
		"a negative size":        func(m *format.FileMetaData) { m.RowGroups[0].Columns[3].MetaData.TotalCompressedSize = -1 },
		"another file":           func(m *format.FileMetaData) { m.RowGroups[0].Columns[3].FilePath = "/etc/passwd" },
		"the same chunks often": func(m *format.FileMetaData) {
			for range 50 {
				m.RowGroups = append(m.RowGroups, m.RowGroups[0])
			}
			m.NumRows *= 51
		},
		"more rows than pages": func(m *format.FileMetaData) { m.RowGroups[0].NumRows++; m.NumRows++ },
		"more values than pages": func(m *format.FileMetaData) {
			m.RowGroups[0].Columns[columnDevice].MetaData.NumValues++
		},
		"no dictionary": func(m *format.FileMetaData) {
			d := &m.RowGroups[0].Columns[columnDevice].MetaData
			d.TotalCompressedSize -= d.DataPageOffset - d.DictionaryPageOffset
			d.DictionaryPageOffset = 0
		},
	} {
		meta, end, err := guardFooter(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		lie(&meta)
		footer, err := thrift.Marshal(new(thrift.CompactProtocol), &meta)
		if err != nil {
			t.Fatal(err)
		}
		lying := append(bytes.Clone(file[:end]), footer...)
		lying = append(binary.LittleEndian.AppendUint32(lying, uint32(len(footer))), "PAR1"...)
		if _, err := CutRows(io.Discard, bytes.NewReader(lying), int64(len(lying)), of, cut); !errors.Is(err, ErrSchema) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCutRows(f *testing.F) {
	for _, n := range []int{0, 1, 30, 2000} {
		f.Add(encoded(f, shopRows(n)), byte(1))
	}
	f.Fuzz(func(t *testing.T, file []byte, first byte) {
		of, cut := Pseudonyms{Devices: map[[16]byte]bool{}, Persons: map[[16]byte]bool{}}, Verdict(func(row *pseudonymize.Row) (keep, changed bool) {
			row.Campaign = "changed"
			return row.EventID[0]%2 == 0, true
		})
		rows, damaged := allRows(file)
		for i := range rows {
			if d := rows[i].Device; d != nil && d[0]%4 == first%4 {
				of.Devices[*d] = true
			}
		}
		of.Devices[*shopRows(1)[0].Device] = true
		for _, join := range []int{0, joinRows} {
			out, left, err := recut(file, join, of, cut)
			if err != nil {
				if !errors.Is(err, ErrSchema) {
					t.Fatal(err)
				}
				continue
			}
			if damaged != nil { // in pages that were copied
				continue
			}
			want, remains := expected(rows, of, cut)
			got, err := allRows(out)
			if err != nil || left.Rows != remains.Rows || len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(sorted(got), sorted(want)) {
				t.Fatalf("%v, got %d rows, want %d", err, len(got), len(want))
			}
		}
	})
}

// One changed byte anywhere gives an error or a file, and never a panic.
func TestCutOfDamagedFiles(t *testing.T) {
	rows := shopRows(60)
	file := encoded(t, rows)
	of, cut := withoutFirst(rows)
	for i := 0; i < len(file); i += 7 {
		damaged := bytes.Clone(file)
		damaged[i] ^= []byte{0x01, 0x80, 0xff}[i%3]
		if _, _, err := recut(damaged, 0, of, cut); err != nil && !errors.Is(err, ErrSchema) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}
