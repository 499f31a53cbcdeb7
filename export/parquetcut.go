package export

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"github.com/octroi/octroi/pseudonymize"
)

// Pseudonyms are some subjects', at one destination.
type Pseudonyms struct{ Devices, Persons map[[16]byte]bool }

// Remains are the rows of the file that was written.
type Remains struct {
	Of       int // rows of the file that was read
	Rows     int
	From, To time.Time // of received_at
	Purposes []string  // sorted
}

// Verdict says of a row whether it stays, and whether it was changed in place.
type Verdict func(row *pseudonymize.Row) (keep, changed bool)

// CutRows writes a Parquet file of RowWriter again, but for what cut takes out of the rows of some subjects. The others are not made rows of: what is
// concerned is found by the pseudonyms' dictionaries, page by page, and pages that nothing was taken out of are copied as they are, compressed. So the
// cost grows with what is concerned, not with the file.
//
// No value of a row that went is left in a page, a dictionary, or a bound; page indexes, which readers can do without, are left out. Rows keep their
// order, but for those that were changed: they stand in a row group at the end.
//
// As with DecodeRows the file may be anybody's: where it is damaged, in what was read of it, or of another schema, the error is ErrSchema, and memory
// is bounded: by that of a row group (see guard). It returns w's error; what was written then is of no use.
func CutRows(w io.Writer, r io.ReaderAt, size int64, of Pseudonyms, cut Verdict) (Remains, error) {
	c, err := newCutting(r, size, of, cut)
	if err != nil {
		return Remains{}, err
	}
	if err := c.write(w); err != nil {
		return Remains{}, err
	}
	return c.out.remains, nil
}

// FindRows calls fn with each row of some subjects, reading no more of the file than CutRows does. It answers how many rows the file has.
func FindRows(r io.ReaderAt, size int64, of Pseudonyms, fn func(row *pseudonymize.Row)) (int, error) {
	c, err := newCutting(r, size, of, func(row *pseudonymize.Row) (keep, changed bool) { fn(row); return true, false })
	if err != nil {
		return 0, err
	}
	for i := range c.meta.RowGroups {
		if err := c.group(i); err != nil {
			return 0, err
		}
	}
	return int(c.meta.NumRows), nil
}

// joinRows is how few rows make a row group small: such groups are written anew as one, with the rows that were changed. Else each cut would leave
// one more.
const joinRows = 1024

// cutting is one call of CutRows or FindRows.
type cutting struct {
	guard  *guard
	meta   *format.FileMetaData
	leaves []leaf
	rows   rowReader
	of     Pseudonyms
	cut    Verdict
	join   int           // see joinRows
	out    *rowsFile     // nil: nothing is written
	tail   *RowWriter    // of the rows that stand at the end; nil: none yet
	end    *bytes.Buffer // what tail wrote
}

func newCutting(r io.ReaderAt, size int64, of Pseudonyms, cut Verdict) (*cutting, error) {
	g, meta, leaves, err := newGuard(r, size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	// Chunks that overlapped could make more of a file than it is.
	total := int64(0)
	for i := range meta.RowGroups {
		for j := range meta.RowGroups[i].Columns {
			at, end, err := g.bounds(&meta.RowGroups[i].Columns[j], &leaves[j])
			if total += end - at; err != nil || total > size {
				return nil, fmt.Errorf("%w: %w", ErrSchema, errGuard)
			}
		}
	}
	return &cutting{guard: g, meta: meta, leaves: leaves, rows: rowReader{text: map[string]string{}}, of: of, cut: cut, join: joinRows}, nil
}

func (c *cutting) write(w io.Writer) error {
	c.out = newRowsFile(w, c.meta)
	if err := c.out.write([]byte("PAR1")); err != nil {
		return err
	}
	for i := range c.meta.RowGroups {
		if err := c.group(i); err != nil {
			return err
		}
	}
	if err := c.writeTail(); err != nil {
		return err
	}
	return c.out.end()
}

// writeTail copies the row groups of the tail.
func (c *cutting) writeTail() error {
	if c.tail == nil {
		return nil
	}
	if err := c.tail.Close(); err != nil {
		return err
	}
	tail, err := newCutting(bytes.NewReader(c.end.Bytes()), int64(c.end.Len()), Pseudonyms{}, nil)
	if err != nil {
		return err
	}
	tail.out, tail.join = c.out, 0
	for i := range tail.meta.RowGroups {
		if err := tail.group(i); err != nil {
			return err
		}
	}
	return nil
}

// group finds, cuts and writes one row group.
func (c *cutting) group(number int) error {
	g := &rowGroup{guard: c.guard, room: newRoom(), meta: &c.meta.RowGroups[number], leaves: c.leaves}
	own, err := g.find(c.of)
	if err != nil {
		return asSchema(err)
	}
	small := c.out != nil && g.meta.NumRows < int64(c.join)
	rows := own
	if small {
		rows = g.all()
	}
	var gone []int
	err = g.read(rows, &c.rows, func(n int, row *pseudonymize.Row) error {
		keep, moved := true, small
		if _, is := slices.BinarySearch(own, n); is {
			var changed bool
			keep, changed = c.cut(row)
			moved = moved || changed
		}
		switch {
		case c.out == nil || keep && !moved:
			return nil
		case keep:
			err = c.append(row)
		}
		gone = append(gone, n)
		return err
	})
	if err != nil || c.out == nil || len(gone) == int(g.meta.NumRows) {
		return err
	}
	return c.out.group(g, gone)
}

// append adds a row to the tail.
func (c *cutting) append(row *pseudonymize.Row) error {
	if c.tail == nil {
		c.end = new(bytes.Buffer)
		c.tail = NewRowWriter(c.end)
	}
	return c.tail.Write([]pseudonymize.Row{*row})
}

// rowGroup is a row group of which some columns were read.
type rowGroup struct {
	guard  *guard
	room   *room
	meta   *format.RowGroup
	leaves []leaf
	chunks [columnCount]*columnChunk // nil: not read
}

func (g *rowGroup) chunk(column int) (c *columnChunk, err error) {
	if g.chunks[column] == nil {
		g.chunks[column], err = g.guard.columnChunk(g.meta, column, &g.leaves[column], g.room)
	}
	return g.chunks[column], err
}

func (g *rowGroup) all() []int {
	rows := make([]int, g.meta.NumRows)
	for i := range rows {
		rows[i] = i
	}
	return rows
}

// find are the rows of the pseudonyms.
func (g *rowGroup) find(of Pseudonyms) (rows []int, err error) {
	marks := make([]bool, g.meta.NumRows)
	for _, whose := range []struct {
		column     int
		pseudonyms map[[16]byte]bool
	}{{columnDevice, of.Devices}, {columnPerson, of.Persons}} {
		if len(whose.pseudonyms) == 0 {
			continue
		}
		c, err := g.chunk(whose.column)
		if err != nil {
			return nil, err
		}
		if err := c.mark(marks, whose.pseudonyms); err != nil {
			return nil, err
		}
	}
	for i, marked := range marks {
		if marked {
			rows = append(rows, i)
		}
	}
	return rows, nil
}

// read calls fn with some rows, which ascend.
func (g *rowGroup) read(rows []int, with *rowReader, fn func(n int, row *pseudonymize.Row) error) error {
	for some := range slices.Chunk(rows, chunkRows) {
		values := make([]cells, len(some))
		for column := range columnCount {
			c, err := g.chunk(column)
			if err == nil {
				err = c.read(some, column, values)
			}
			if err != nil {
				return asSchema(err)
			}
		}
		for i := range values {
			var row pseudonymize.Row
			if err := with.assemble(&values[i], &row); err != nil {
				return asSchema(err)
			}
			if err := fn(some[i], &row); err != nil {
				return err
			}
		}
	}
	return nil
}

func asSchema(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrSchema, err)
}

// rowsFile writes column chunks as one file.
type rowsFile struct {
	w        io.Writer
	at       int64
	packer   *zstd.Encoder
	meta     format.FileMetaData
	purposes map[string]bool
	remains  Remains
}

// newRowsFile begins a file like another one.
func newRowsFile(w io.Writer, like *format.FileMetaData) *rowsFile {
	f := &rowsFile{w: w, packer: newPacker(), meta: *like, purposes: map[string]bool{}, remains: Remains{Of: int(like.NumRows)}}
	f.meta.RowGroups, f.meta.NumRows = nil, 0
	return f
}

func (f *rowsFile) write(b []byte) error {
	n, err := f.w.Write(b)
	f.at += int64(n)
	if err != nil {
		return fmt.Errorf("writing parquet file: %w", err)
	}
	return nil
}

// group writes a row group without the rows that are gone.
func (f *rowsFile) group(g *rowGroup, gone []int) error {
	group := format.RowGroup{FileOffset: f.at, Ordinal: int16(len(f.meta.RowGroups)), NumRows: g.meta.NumRows - int64(len(gone))}
	for column := range columnCount {
		c, err := g.chunk(column)
		if err == nil && len(gone) > 0 {
			c, err = c.without(gone, f.packer)
		}
		if err == nil {
			err = f.look(c, column)
		}
		if err != nil {
			return asSchema(err)
		}
		meta := *c.meta
		meta.DataPageOffset, meta.IndexPageOffset, meta.DictionaryPageOffset, meta.BloomFilterOffset, meta.BloomFilterLength = f.at, 0, 0, 0, 0
		if c.first != nil {
			meta.DictionaryPageOffset = f.at
			meta.DataPageOffset += int64(len(c.first.text))
		}
		group.TotalByteSize += meta.TotalUncompressedSize
		group.TotalCompressedSize += meta.TotalCompressedSize
		group.Columns = append(group.Columns, format.ColumnChunk{MetaData: meta}) // without page indexes
		if err := c.write(f.write); err != nil {
			return err
		}
		g.chunks[column] = nil // it may be large
	}
	f.meta.RowGroups = append(f.meta.RowGroups, group)
	f.meta.NumRows += group.NumRows
	return nil
}

// look notes what Remains says of a chunk.
func (f *rowsFile) look(c *columnChunk, column int) error {
	switch column {
	case columnReceivedAt:
		return c.each(func(v parquet.Value) {
			at := millis(v.Int64())
			if f.remains.From.IsZero() || at.Before(f.remains.From) {
				f.remains.From = at
			}
			if f.remains.To.IsZero() || at.After(f.remains.To) {
				f.remains.To = at
			}
		})
	case columnPurpose:
		return c.each(func(v parquet.Value) { f.purposes[string(v.ByteArray())] = true })
	}
	return nil
}

// end writes the footer.
func (f *rowsFile) end() error {
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), &f.meta)
	if err != nil {
		return fmt.Errorf("ending parquet file: %w", err)
	}
	footer = binary.LittleEndian.AppendUint32(footer, uint32(len(footer)))
	f.remains.Rows, f.remains.Purposes = int(f.meta.NumRows), slices.Sorted(maps.Keys(f.purposes))
	return f.write(append(footer, "PAR1"...))
}
