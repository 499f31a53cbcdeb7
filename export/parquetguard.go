package export

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
	"reflect"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// parquet-go trusts counts that stand in the file: a list length, a page size, a run length may each ask for gigabytes. guard reads
// a file's structure first and refuses what RowWriter does not write, so that the reader's memory is bounded by these figures.
const (
	guardFooterBytes = 1 << 20
	guardItems       = 100_000 // thrift list items and strings in one footer
	guardDepth       = 16
	guardRowGroups   = 1000
	guardHeaderBytes = 64 << 10
	guardPageValues  = 1 << 22
	guardPageBytes   = 128 << 20
	guardGroupBytes  = 384 << 20 // of all columns' largest page and dictionary; where a group is cut, of all pages
	guardGroupValues = 1 << 26   // where a group is cut
)

// leaf is one column as the schema has it.
type leaf struct {
	path                   []string
	kind                   format.Type
	repetition, definition int
}

// eventsLayout is what a file of this schema must say of itself.
type eventsLayout struct {
	elements []format.SchemaElement
	leaves   []leaf
}

var layout = sync.OnceValues(func() (l eventsLayout, err error) {
	var empty bytes.Buffer
	if err := EncodeRows(&empty, nil); err != nil {
		return l, err
	}
	f, err := parquet.OpenFile(bytes.NewReader(empty.Bytes()), int64(empty.Len()))
	if err != nil {
		return l, err
	}
	l.elements = f.Metadata().Schema
	for _, path := range eventsSchema().Columns() {
		column, _ := eventsSchema().Lookup(path...)
		l.leaves = append(l.leaves, leaf{path, format.Type(column.Node.Type().Kind()), column.MaxRepetitionLevel, column.MaxDefinitionLevel})
	}
	return l, nil
})

var errGuard = errors.New("its structure is not one that octroi writes")

type guard struct {
	r      io.ReaderAt
	end    int64 // where the footer begins
	zstd   *zstd.Decoder
	packed []byte // the last page as it stands in the file,
	page   []byte // and decompressed,
	room   []byte // which is in here
}

// guardFile checks a whole file.
func guardFile(r io.ReaderAt, size int64) error {
	g, meta, leaves, err := newGuard(r, size)
	if err != nil {
		return err
	}
	defer g.zstd.Close()
	for i := range meta.RowGroups {
		if err := g.rowGroup(&meta.RowGroups[i], leaves); err != nil {
			return err
		}
	}
	return nil
}

// newGuard reads a file's footer and checks all of it but what it says of column chunks. The caller closes the guard's decoder.
func newGuard(r io.ReaderAt, size int64) (*guard, *format.FileMetaData, []leaf, error) {
	want, err := layout()
	if err != nil {
		return nil, nil, nil, err
	}
	meta, end, err := guardFooter(r, size)
	if err != nil {
		return nil, nil, nil, err
	}
	if !reflect.DeepEqual([]format.SchemaElement(meta.Schema), want.elements) || len(meta.RowGroups) > guardRowGroups {
		return nil, nil, nil, errGuard
	}
	var rows int64
	for i := range meta.RowGroups {
		group := &meta.RowGroups[i]
		if len(group.Columns) != len(want.leaves) || group.NumRows < 0 || group.NumRows > rowGroupRows {
			return nil, nil, nil, errGuard
		}
		rows += group.NumRows
	}
	if rows != meta.NumRows {
		return nil, nil, nil, errGuard
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(guardPageBytes), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, nil, nil, err
	}
	return &guard{r: r, end: end, zstd: decoder}, &meta, want.leaves, nil
}

// guardFooter reads the last bytes of a file: … footer, its length (4 bytes, little-endian), "PAR1".
func guardFooter(r io.ReaderAt, size int64) (meta format.FileMetaData, begin int64, err error) {
	var tail [8]byte
	if size < 12 {
		return meta, 0, errGuard
	}
	if _, err := r.ReadAt(tail[:], size-8); err != nil && err != io.EOF {
		return meta, 0, err
	}
	length := int64(binary.LittleEndian.Uint32(tail[:4]))
	if string(tail[4:]) != "PAR1" || length > guardFooterBytes || length > size-12 {
		return meta, 0, errGuard
	}
	text := make([]byte, length)
	if _, err := r.ReadAt(text, size-8-length); err != nil && err != io.EOF {
		return meta, 0, err
	}
	t := thriftText{rest: text, items: guardItems}
	if err := t.structure(guardDepth); err != nil {
		return meta, 0, err
	}
	if err := thrift.Unmarshal(new(thrift.CompactProtocol), text, &meta); err != nil {
		return meta, 0, errGuard
	}
	return meta, size - 8 - length, nil
}

func (g *guard) rowGroup(group *format.RowGroup, leaves []leaf) error {
	held := 0
	for i := range leaves {
		n, err := g.column(&group.Columns[i], &leaves[i])
		if err != nil {
			return err
		}
		if held += n; held > guardGroupBytes {
			return errGuard
		}
	}
	return nil
}

// bounds is where in the file the pages of a column chunk are.
func (g *guard) bounds(chunk *format.ColumnChunk, l *leaf) (at, end int64, err error) {
	m := &chunk.MetaData
	at = m.DataPageOffset
	if m.DictionaryPageOffset != 0 {
		at = m.DictionaryPageOffset
	}
	end = at + m.TotalCompressedSize
	switch {
	case chunk.FilePath != "", m.Codec != format.Zstd, m.Type != l.kind, !slices.Equal([]string(m.PathInSchema), l.path):
		return 0, 0, errGuard
	case at < 4 || m.DataPageOffset < at || m.TotalCompressedSize < 0 || end < at || end > g.end || m.DataPageOffset > end:
		return 0, 0, errGuard
	}
	return at, end, nil
}

// column walks the pages of a column chunk; held is what reading it takes: its dictionary and its largest page.
func (g *guard) column(chunk *format.ColumnChunk, l *leaf) (held int, err error) {
	at, end, err := g.bounds(chunk, l)
	if err != nil {
		return 0, err
	}
	m := &chunk.MetaData
	dictionary, largest, values := 0, 0, int64(0)
	for at < end {
		header, length, err := g.header(at, end)
		if err != nil {
			return 0, err
		}
		isDictionary := header.Type == format.DictionaryPage
		if isDictionary != (at == m.DictionaryPageOffset) {
			return 0, errGuard
		}
		at += int64(length)
		g.packed = slices.Grow(g.packed[:0], int(header.CompressedPageSize))[:header.CompressedPageSize]
		if n, err := g.r.ReadAt(g.packed, at); n < len(g.packed) {
			return 0, err
		}
		n, err := g.body(g.packed, header, l)
		if err != nil {
			return 0, err
		}
		at += int64(header.CompressedPageSize)
		if isDictionary {
			dictionary = int(header.UncompressedPageSize)
		}
		largest = max(largest, int(header.UncompressedPageSize))
		values += int64(n)
	}
	if values != m.NumValues {
		return 0, errGuard
	}
	return dictionary + largest, nil
}

// header reads the page header at an offset, and says how many bytes it took.
func (g *guard) header(at, end int64) (h *format.PageHeader, length int, err error) {
	text := make([]byte, min(guardHeaderBytes, end-at))
	if _, err := g.r.ReadAt(text, at); err != nil && err != io.EOF {
		return nil, 0, err
	}
	return pageHeader(text, end-at)
}

// pageHeader reads the header that text begins with; room is how much of the chunk follows from there.
func pageHeader(text []byte, room int64) (h *format.PageHeader, length int, err error) {
	t := thriftText{rest: text, items: 1000}
	if err := t.structure(guardDepth); err != nil {
		return nil, 0, err
	}
	length = len(text) - len(t.rest)
	h = new(format.PageHeader)
	if err := thrift.Unmarshal(new(thrift.CompactProtocol), text[:length], h); err != nil {
		return nil, 0, errGuard
	}
	switch {
	case h.CompressedPageSize < 0 || int64(h.CompressedPageSize) > room-int64(length):
		return nil, 0, errGuard
	case h.UncompressedPageSize < 0 || h.UncompressedPageSize > guardPageBytes:
		return nil, 0, errGuard
	}
	return h, length, nil
}

// body decompresses a page into g.page and checks every count in it; n is its number of values, 0 for a dictionary.
func (g *guard) body(packed []byte, h *format.PageHeader, l *leaf) (n int, err error) {
	// The decoder writes no more than the buffer takes.
	g.room = slices.Grow(g.room[:0], int(h.UncompressedPageSize))
	page, err := g.zstd.DecodeAll(packed, g.room[:0:h.UncompressedPageSize])
	if err != nil || len(page) != int(h.UncompressedPageSize) {
		return 0, errGuard
	}
	g.page = page
	switch {
	case h.Type == format.DictionaryPage && h.DictionaryPageHeader.Valid:
		d := &h.DictionaryPageHeader.V
		if d.NumValues < 0 || int(d.NumValues) > len(page) || d.Encoding != format.Plain {
			return 0, errGuard
		}
		return 0, nil
	case h.Type == format.DataPage && h.DataPageHeader.Valid:
		return int(h.DataPageHeader.V.NumValues), guardValues(page, &h.DataPageHeader.V, l)
	}
	return 0, errGuard
}

// guardValues checks a data page, version 1: repetition levels, definition levels (each with a length of 4 bytes), values.
func guardValues(page []byte, h *format.DataPageHeader, l *leaf) error {
	n := int(h.NumValues)
	if n < 0 || n > guardPageValues || h.DefinitionLevelEncoding != format.RLE || h.RepetitionLevelEncoding != format.RLE {
		return errGuard
	}
	for _, most := range []int{l.repetition, l.definition} {
		if most == 0 {
			continue
		}
		if len(page) < 4 {
			return errGuard
		}
		length := int(binary.LittleEndian.Uint32(page))
		if page = page[4:]; length > len(page) || !guardRuns(page[:length], bits.Len(uint(most)), n) {
			return errGuard
		}
		page = page[length:]
	}
	switch h.Encoding {
	case format.Plain:
		return nil
	case format.RLEDictionary:
		if len(page) == 0 && n == 0 {
			return nil
		}
		if len(page) > 0 && page[0] <= 32 && guardRuns(page[1:], int(page[0]), n) {
			return nil
		}
	}
	return errGuard
}

// guardRuns walks runs of the RLE and bit-packing hybrid, which hold at most n values and the last one's padding.
func guardRuns(text []byte, width, n int) bool {
	total := 0
	for len(text) > 0 {
		head, k := binary.Uvarint(text)
		if k <= 0 || head>>1 > guardPageValues {
			return false
		}
		text = text[k:]
		count, length := int(head>>1), (width+7)/8
		if head&1 == 1 { // groups of eight, bit-packed
			count, length = count*8, count*width
		}
		if total += count; length > len(text) || total > n+7 {
			return false
		}
		text = text[length:]
	}
	return true
}
