package export

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// DecodeRows reads a Parquet file of EncodeRows, calling fn with slices of rows that are valid until it returns (what they point to
// stays). A file of another schema, or damaged, is ErrSchema, never a panic; memory is bounded (see guardFile). It returns fn's error.
func DecodeRows(r io.ReaderAt, size int64, fn func([]pseudonymize.Row) error) (err error) {
	if err := guardFile(r, size); err != nil {
		return fmt.Errorf("%w: %w", ErrSchema, err)
	}
	d := rowReader{fn: fn, rows: make([]pseudonymize.Row, chunkRows), text: map[string]string{}}
	defer func() {
		// parquet-go may still panic on values that contradict each other. A panic of fn is not ours to hide.
		if p := recover(); p != nil {
			if d.inside {
				panic(p)
			}
			err = fmt.Errorf("%w: its pages contradict each other", ErrSchema)
		}
	}()
	file, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSchema, err)
	}
	for _, group := range file.RowGroups() {
		if err := d.group(group); err != nil {
			return err
		}
	}
	return nil
}

// rowReader holds what is reused from row to row.
type rowReader struct {
	fn     func([]pseudonymize.Row) error
	inside bool // fn is running
	rows   []pseudonymize.Row
	text   map[string]string // the few values that most rows share
}

func (d *rowReader) group(group parquet.RowGroup) error {
	chunks := group.ColumnChunks()
	if len(chunks) != columnCount {
		return fmt.Errorf("%w: a row group has %d columns", ErrSchema, len(chunks))
	}
	var columns [columnCount]columnReader
	for i, chunk := range chunks {
		columns[i] = columnReader{pages: chunk.Pages(), buf: make([]parquet.Value, 256)}
		defer columns[i].pages.Close()
	}
	for left := group.NumRows(); left > 0; {
		n := min(int64(len(d.rows)), left)
		for i := range d.rows[:n] {
			if err := d.next(&columns, &d.rows[i]); err != nil {
				return fmt.Errorf("%w: %w", ErrSchema, err)
			}
		}
		d.inside = true
		if err := d.fn(d.rows[:n]); err != nil {
			return err
		}
		d.inside = false
		left -= n
	}
	for i := range columns {
		if err := columns[i].fill(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: column %d has more rows than the others", ErrSchema, i)
		}
	}
	return nil
}

// columnReader reads one column row by row.
type columnReader struct {
	pages  parquet.Pages
	values parquet.ValueReader // of the open page
	buf    []parquet.Value
	rest   []parquet.Value // of buf
	row    []parquet.Value // of the last row, where it is of a repeated column
}

// fill leaves at least one value in rest, or is io.EOF at the column's end.
func (c *columnReader) fill() error {
	for len(c.rest) == 0 {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if err != nil {
				return err
			}
			c.values = page.Values()
		}
		n, err := c.values.ReadValues(c.buf)
		c.rest = c.buf[:n]
		switch {
		case errors.Is(err, io.EOF):
			c.values = nil
		case err != nil:
			return err
		case n == 0:
			return io.ErrNoProgress
		}
	}
	return nil
}

// next is the values of the next row, until the next call.
func (c *columnReader) next(repeated bool) ([]parquet.Value, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	if !repeated {
		row := c.rest[:1]
		c.rest = c.rest[1:]
		return row, nil
	}
	for c.row = c.row[:0]; ; {
		c.row = append(c.row, c.rest[0])
		c.rest = c.rest[1:]
		err := c.fill()
		if errors.Is(err, io.EOF) || err == nil && c.rest[0].RepetitionLevel() == 0 {
			return c.row, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

var errRow = errors.New("a row's values do not fit its columns")

// next reads one row.
func (d *rowReader) next(columns *[columnCount]columnReader, row *pseudonymize.Row) error {
	var c cells
	for i := range columns {
		var err error
		if c[i], err = columns[i].next((i >= columnPurpose && i <= columnRef) || i >= columnKey); err != nil {
			return err
		}
	}
	return d.assemble(&c, row)
}

// assemble makes a row of its values.
func (d *rowReader) assemble(c *cells, row *pseudonymize.Row) error {
	*row = pseudonymize.Row{}
	ok := c.hex(columnEventID, row.EventID[:]) && c.hex(columnPolicy, row.Policy[:]) &&
		c.pseudonym(columnDevice, &row.Device) && c.pseudonym(columnPerson, &row.Person)
	row.Time, row.ReceivedAt = millis(c[columnTime][0].Int64()), millis(c[columnReceivedAt][0].Int64())
	for _, f := range []struct {
		column int
		to     *string
	}{
		{columnType, &row.Type},
		{columnChannel, &row.Channel},
		{columnStage, &row.Stage},
		{columnSite, &row.Site},
		{columnCampaign, &row.Campaign},
		{columnSource, &row.Source},
		{columnMedium, &row.Medium},
		{columnCurrency, &row.Value.Currency},
	} {
		ok = ok && d.string(c[f.column][0], f.to)
	}
	amount := c[columnValueMinor][0]
	if !ok || amount.IsNull() != (row.Value.Currency == "") {
		return errRow
	}
	row.Value.Minor = amount.Int64() // 0 of a null
	if !d.grants(c, row) || !d.properties(c, row) {
		return errRow
	}
	return nil
}

// cells are one row's values by column.
type cells [columnCount][]parquet.Value

func (c *cells) hex(column int, to []byte) bool { return readHex(c[column][0], to) }

func (c *cells) pseudonym(column int, to **[16]byte) bool {
	if c[column][0].IsNull() {
		return true
	}
	*to = new([16]byte)
	return readHex(c[column][0], (*to)[:])
}

func (d *rowReader) grants(c *cells, row *pseudonymize.Row) bool {
	n := len(c[columnPurpose])
	if len(c[columnVersion]) != n || len(c[columnBasis]) != n || len(c[columnRef]) != n {
		return false
	}
	if c[columnPurpose][0].DefinitionLevel() == 0 {
		return n == 1
	}
	row.Grants = make([]pseudonymize.RowGrant, n)
	for i := range row.Grants {
		g := &row.Grants[i]
		version := c[columnVersion][i].Int32()
		var basis string
		if !d.string(c[columnPurpose][i], &g.Purpose) || !d.string(c[columnBasis][i], &basis) {
			return false
		}
		g.Version, g.Basis = int(version), policies.Basis(basis)
		if ref := c[columnRef][i]; !ref.IsNull() && !readHex(ref, g.Ref[:]) {
			return false
		}
	}
	return true
}

func (d *rowReader) properties(c *cells, row *pseudonymize.Row) bool {
	n := len(c[columnKey])
	if len(c[columnProperty]) != n {
		return false
	}
	if c[columnKey][0].DefinitionLevel() == 0 {
		return n == 1
	}
	row.Properties = make(map[string]string, n)
	for i := range n {
		var name, value string
		if !d.string(c[columnKey][i], &name) || !d.string(c[columnProperty][i], &value) {
			return false
		}
		row.Properties[name] = value
	}
	return true
}

// string copies a value out of the reader's memory; null is "". Short ones that come again are kept once.
func (d *rowReader) string(v parquet.Value, to *string) bool {
	if v.IsNull() {
		return true
	}
	b := v.ByteArray()
	if len(b) > rowBytes || !utf8.Valid(b) {
		return false
	}
	if kept, ok := d.text[string(b)]; ok {
		*to = kept
		return true
	}
	*to = string(b)
	if len(b) <= 64 && len(d.text) < 10_000 {
		d.text[*to] = *to
	}
	return true
}

func readHex(v parquet.Value, to []byte) bool {
	b := v.ByteArray()
	if len(b) != 2*len(to) {
		return false
	}
	_, err := hex.Decode(to, b)
	return err == nil
}
