package export

import (
	"bytes"
	"encoding/hex"
	"hash/crc32"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// columnChunk is one column of a row group, page by page. Pages are decompressed and taken apart only where somebody asks for their values.
type columnChunk struct {
	guard *guard
	room  *room
	leaf  *leaf
	meta  *format.ColumnMetaData
	text  []byte // as in the file: the dictionary page, if there is one, and the data pages; nil of what without has made
	first *page  // the dictionary page
	pages []page // the data pages

	dictionary *plainValues // nil until needed
}

// room is what the pages of a row group may still take.
type room struct{ bytes, values int }

func newRoom() *room { return &room{bytes: guardGroupBytes, values: guardGroupValues} }

// take takes a page's part.
func (r *room) take(h *format.PageHeader) error {
	r.bytes -= int(h.UncompressedPageSize)
	r.values -= int(h.DataPageHeader.V.NumValues)
	if r.bytes < 0 || r.values < 0 || h.DataPageHeader.V.NumValues < 0 {
		return errGuard
	}
	return nil
}

// page is one page as it stands in the chunk.
type page struct {
	text       []byte // header and body
	head       int    // bytes of the header
	header     *format.PageHeader
	from, rows int         // which rows of the group a data page holds; it holds them whole, which RowWriter sees to
	values     *pageValues // taken apart; nil until needed
}

func (p *page) indexed() bool { return p.header.DataPageHeader.V.Encoding == format.RLEDictionary }

// own are those of some rows, which ascend, that the page holds, numbered from its first.
func (p *page) own(rows []int) []int {
	from, _ := slices.BinarySearch(rows, p.from)
	to, _ := slices.BinarySearch(rows, p.from+p.rows)
	own := slices.Clone(rows[from:to])
	for i := range own {
		own[i] -= p.from
	}
	return own
}

// columnChunk reads one column of a row group into memory and walks its page headers.
func (g *guard) columnChunk(group *format.RowGroup, column int, l *leaf, left *room) (*columnChunk, error) {
	from := &group.Columns[column]
	at, end, err := g.bounds(from, l)
	if err != nil {
		return nil, err
	}
	c := &columnChunk{guard: g, room: left, leaf: l, meta: &from.MetaData, text: make([]byte, end-at)}
	if n, err := g.r.ReadAt(c.text, at); n < len(c.text) {
		return nil, err
	}
	return c, c.walk(int(group.NumRows))
}

func (c *columnChunk) walk(rows int) error {
	next, values := 0, int64(0)
	for rest := c.text; len(rest) > 0; {
		header, head, err := pageHeader(rest[:min(len(rest), guardHeaderBytes)], int64(len(rest)))
		if err != nil {
			return err
		}
		p := page{text: rest[:head+int(header.CompressedPageSize)], head: head, header: header, from: next}
		rest = rest[len(p.text):]
		if err := c.room.take(header); err != nil {
			return err
		}
		if c.first == nil && len(c.pages) == 0 && c.meta.DictionaryPageOffset != 0 {
			c.first = &p
			continue
		}
		if p.rows, err = c.count(&p); err != nil {
			return err
		}
		next += p.rows
		values += int64(header.DataPageHeader.V.NumValues)
		c.pages = append(c.pages, p)
	}
	if next != rows || values != c.meta.NumValues {
		return errGuard
	}
	return nil
}

// count is how many rows a data page has.
func (c *columnChunk) count(p *page) (int, error) {
	h := &p.header.DataPageHeader
	if p.header.Type != format.DataPage || !h.Valid || h.V.NumValues > guardPageValues || p.indexed() && c.first == nil {
		return 0, errGuard
	}
	if c.leaf.repetition == 0 || h.V.NumValues == 0 {
		return int(h.V.NumValues), nil
	}
	v, err := c.open(p)
	if err != nil || v.repetition[0] != 0 {
		return 0, errGuard
	}
	return v.rows, nil
}

// unpack decompresses and checks a page; the text is valid until the next call.
func (c *columnChunk) unpack(p *page) ([]byte, error) {
	_, err := c.guard.body(p.text[p.head:], p.header, c.leaf)
	return c.guard.page, err
}

// entries are the dictionary's.
func (c *columnChunk) entries() (*plainValues, error) {
	if c.dictionary != nil {
		return c.dictionary, nil
	}
	c.dictionary = new(plainValues)
	if c.first == nil {
		return c.dictionary, nil
	}
	text, err := c.unpack(c.first)
	if err != nil || !c.first.header.DictionaryPageHeader.Valid {
		return nil, errGuard
	}
	*c.dictionary, err = splitPlain(bytes.Clone(text), c.leaf.kind, int(c.first.header.DictionaryPageHeader.V.NumValues))
	return c.dictionary, err
}

// open takes a page apart.
func (c *columnChunk) open(p *page) (*pageValues, error) {
	if p.values != nil {
		return p.values, nil
	}
	entries, err := c.entries()
	if err != nil {
		return nil, err
	}
	text, err := c.unpack(p)
	if err != nil {
		return nil, err
	}
	p.values, err = readPage(text, &p.header.DataPageHeader.V, c.leaf, len(entries.ends))
	return p.values, err
}

// mark marks the rows that have one of the pseudonyms. Pages of a dictionary that holds none of them are not read.
func (c *columnChunk) mark(marks []bool, pseudonyms map[[16]byte]bool) error {
	among := func(text []byte) (bool, error) {
		if len(text) != 32 {
			return false, errRow
		}
		var pseudonym [16]byte
		_, err := hex.Decode(pseudonym[:], text)
		return pseudonyms[pseudonym], err
	}
	entries, err := c.entries()
	if err != nil {
		return err
	}
	hits := make([]bool, len(entries.ends))
	for i := range hits {
		if hits[i], err = among(entries.bytes(i)); err != nil {
			return err
		}
	}
	found := slices.Contains(hits, true)
	for i := range c.pages {
		p := &c.pages[i]
		if p.indexed() && !found {
			continue
		}
		v, err := c.open(p)
		if err != nil {
			return err
		}
		next := 0
		for row := range v.n { // these columns are not repeated
			if v.definition[row] != v.defined {
				continue
			}
			hit := false
			if v.indexed {
				hit = hits[v.indices[next]]
			} else if hit, err = among(v.plain.bytes(next)); err != nil {
				return err
			}
			if next++; hit {
				marks[p.from+row] = true
			}
		}
	}
	return nil
}

// each calls fn with every value that the chunk has, once or more often.
func (c *columnChunk) each(fn func(parquet.Value)) error {
	entries, err := c.entries()
	if err != nil {
		return err
	}
	for i := range entries.ends {
		fn(entries.value(i))
	}
	for i := range c.pages {
		if c.pages[i].indexed() {
			continue
		}
		v, err := c.open(&c.pages[i])
		if err != nil {
			return err
		}
		for j := range v.plain.ends {
			fn(v.plain.value(j))
		}
	}
	return nil
}

// read appends the values of some rows, which ascend, to those of their cells.
func (c *columnChunk) read(rows []int, column int, to []cells) error {
	for i := range c.pages {
		p := &c.pages[i]
		own := p.own(rows)
		if len(own) == 0 {
			continue
		}
		v, err := c.open(p)
		if err != nil {
			return err
		}
		var at place
		for k, row := range own {
			at = v.seek(at, row)
			end := v.seek(at, row+1)
			to[k][column] = c.valuesOf(v, at, end, column)
			at = end
		}
		to = to[len(own):]
	}
	return nil
}

// valuesOf are the values of an entry or more, with their levels.
func (c *columnChunk) valuesOf(v *pageValues, from, to place, column int) []parquet.Value {
	row := make([]parquet.Value, 0, to.at-from.at)
	next := from.value
	for at := from.at; at < to.at; at++ {
		value, repetition, definition := parquet.NullValue(), 0, 0
		if v.repetition != nil {
			repetition = int(v.repetition[at])
		}
		if v.definition != nil {
			definition = int(v.definition[at])
		}
		if byte(definition) == v.defined {
			if v.indexed {
				value = c.dictionary.value(int(v.indices[next]))
			} else {
				value = v.plain.value(next)
			}
			next++
		}
		row = append(row, value.Level(repetition, definition, column))
	}
	return row
}

// without is the chunk without the rows that are gone. What nobody who is gone occurs in is copied as it is: pages of their own values without
// such a row, and pages of a dictionary that loses no entry.
func (c *columnChunk) without(gone []int, z *zstd.Encoder) (*columnChunk, error) {
	renumber, err := c.renumber(gone)
	if err != nil {
		return nil, err
	}
	meta := *c.meta
	left := &columnChunk{guard: c.guard, leaf: c.leaf, meta: &meta}
	meta.NumValues, meta.TotalUncompressedSize, meta.TotalCompressedSize = 0, 0, 0
	nulls := meta.Statistics.NullCount
	// Bounds and histograms would speak of rows that are gone.
	meta.Statistics, meta.SizeStatistics, meta.EncodingStats = format.Statistics{}, format.SizeStatistics{}, nil
	if c.first != nil {
		first, err := c.dictionaryLeft(renumber, z)
		if err != nil {
			return nil, err
		}
		left.first = &first
		left.add(&first)
	}
	for i := range c.pages {
		p := &c.pages[i]
		q := *p
		q.values = nil
		if own := p.own(gone); len(own) > 0 || p.indexed() && renumber != nil {
			v, err := c.open(p)
			if err != nil {
				return nil, err
			}
			if len(own) > 0 {
				nulls -= int64(v.nulls)
				v = v.without(own)
				nulls += int64(v.nulls)
			}
			if v.n == 0 {
				continue
			}
			if q, err = p.holding(v, c.leaf, renumber, z); err != nil {
				return nil, err
			}
		}
		q.from = left.rows()
		left.pages = append(left.pages, q)
		left.add(&q)
		meta.NumValues += int64(q.header.DataPageHeader.V.NumValues)
	}
	meta.Statistics.NullCount = max(nulls, 0)
	return left, nil
}

// write calls fn with the chunk's bytes, one piece after another.
func (c *columnChunk) write(fn func([]byte) error) error {
	if c.text != nil {
		return fn(c.text)
	}
	if c.first != nil {
		if err := fn(c.first.text); err != nil {
			return err
		}
	}
	for i := range c.pages {
		if err := fn(c.pages[i].text); err != nil {
			return err
		}
	}
	return nil
}

func (c *columnChunk) rows() int {
	if len(c.pages) == 0 {
		return 0
	}
	last := &c.pages[len(c.pages)-1]
	return last.from + last.rows
}

// add counts a page.
func (c *columnChunk) add(p *page) {
	c.meta.TotalCompressedSize += int64(len(p.text))
	c.meta.TotalUncompressedSize += int64(p.head) + int64(p.header.UncompressedPageSize)
}

// renumber numbers the dictionary's entries anew, where some go: -1 is one that only rows had which are gone. nil: all stay.
func (c *columnChunk) renumber(gone []int) ([]int32, error) {
	entries, err := c.entries()
	if err != nil {
		return nil, err
	}
	number := make([]int32, len(entries.ends))
	lost := 0
	for i := range c.pages { // what they had,
		p := &c.pages[i]
		own := p.own(gone)
		if len(own) == 0 || !p.indexed() {
			continue
		}
		v, err := c.open(p)
		if err != nil {
			return nil, err
		}
		var at place
		for _, row := range own {
			at = v.seek(at, row)
			end := v.seek(at, row+1)
			for _, n := range v.indices[at.value:end.value] {
				lost += int(1 + number[n]) // 0: it is lost already
				number[n] = -1
			}
			at = end
		}
	}
	for i := range c.pages { // and others do not have: most often all is found in the first page
		p := &c.pages[i]
		if lost == 0 {
			return nil, nil
		}
		if !p.indexed() {
			continue
		}
		v, err := c.open(p)
		if err != nil {
			return nil, err
		}
		own := p.own(gone)
		for from, to := range v.runs(own) {
			for _, n := range v.indices[from.value:to.value] {
				lost += int(number[n])
				number[n] = 0
			}
		}
	}
	if lost == 0 {
		return nil, nil
	}
	next := int32(0)
	for i := range number {
		if number[i] == 0 {
			number[i] = next
			next++
		}
	}
	return number, nil
}

// dictionaryLeft is the dictionary page without the entries that go.
func (c *columnChunk) dictionaryLeft(renumber []int32, z *zstd.Encoder) (page, error) {
	if renumber == nil {
		return *c.first, nil
	}
	text := make([]byte, 0, len(c.dictionary.text))
	h := *c.first.header
	h.DictionaryPageHeader.V.NumValues = 0
	for i, n := range renumber {
		if n >= 0 {
			text = append(text, c.dictionary.encoded(i)...)
			h.DictionaryPageHeader.V.NumValues++
		}
	}
	return newPage(h, text, z)
}

// holding is a data page like p with other values.
func (p *page) holding(v *pageValues, l *leaf, renumber []int32, z *zstd.Encoder) (page, error) {
	text, err := v.write(l, renumber)
	if err != nil {
		return page{}, err
	}
	h := *p.header
	h.DataPageHeader.V.NumValues, h.DataPageHeader.V.Statistics = int32(v.n), format.Statistics{}
	q, err := newPage(h, text, z)
	q.rows = v.rows
	return q, err
}

// newPage compresses a page.
func newPage(h format.PageHeader, text []byte, z *zstd.Encoder) (page, error) {
	body := z.EncodeAll(text, make([]byte, 0, len(text)/2+1024))
	h.UncompressedPageSize, h.CompressedPageSize = int32(len(text)), int32(len(body))
	h.CRC = int32(crc32.ChecksumIEEE(body))
	head, err := thrift.Marshal(new(thrift.CompactProtocol), &h)
	return page{text: append(head, body...), head: len(head), header: &h}, err
}
