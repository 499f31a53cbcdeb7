package export

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	parquetzstd "github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/octroi/octroi/pseudonymize"
)

// EventsSchema names the columns of a batch (deploy/warehouse/README.md). A change of columns is another name.
const EventsSchema = "octroi.events.v1"

// ErrSchema is a Parquet file of other columns, or a damaged one.
var ErrSchema = errors.New("parquet file is not of schema " + EventsSchema + " or is damaged")

// eventColumns draws schema octroi.events.v1: the order of its fields is the order of the columns.
//
// Ids, pseudonyms, references and hashes are lower-case hexadecimal text and not 16 bytes, since text is what every reader takes for
// text: Spark refuses FIXED_LEN_BYTE_ARRAY before 3.4 (SPARK-41096) and its UUID annotation still (apache/spark issue 55684), Snowflake
// reads unannotated binary as UTF-8 unless BINARY_AS_TEXT is set, DuckDB shows it as a BLOB. zstd gives the doubled digits back.
// Amounts are integers of the currency's minor unit. Times are instants, in UTC.
type eventColumns struct {
	EventID    string            `parquet:"event_id,plain"`
	Time       int64             `parquet:"time,timestamp(millisecond:utc),plain"`
	ReceivedAt int64             `parquet:"received_at,timestamp(millisecond:utc),dict"`
	Device     *string           `parquet:"device,optional,dict"`
	Person     *string           `parquet:"person,optional,dict"`
	Type       string            `parquet:"type,dict"`
	Channel    string            `parquet:"channel,dict"`
	Stage      string            `parquet:"stage,dict"`
	Site       string            `parquet:"site,dict"`
	Grants     []grantColumns    `parquet:"grants,list"`
	Policy     string            `parquet:"policy,dict"`
	Campaign   *string           `parquet:"campaign,optional,dict"`
	Source     *string           `parquet:"source,optional,dict"`
	Medium     *string           `parquet:"medium,optional,dict"`
	ValueMinor *int64            `parquet:"value_minor,optional,plain"`
	Currency   *string           `parquet:"currency,optional,dict"`
	Properties map[string]string `parquet:"properties" parquet-key:",dict" parquet-value:",dict"`
}

type grantColumns struct {
	Purpose string  `parquet:"purpose,dict"`
	Version int32   `parquet:"version,dict"`
	Basis   string  `parquet:"basis,dict"`
	Ref     *string `parquet:"ref,optional,dict"`
}

// The leaf columns, by number.
const (
	columnEventID = iota
	columnTime
	columnReceivedAt
	columnDevice
	columnPerson
	columnType
	columnChannel
	columnStage
	columnSite
	columnPurpose
	columnVersion
	columnBasis
	columnRef
	columnPolicy
	columnCampaign
	columnSource
	columnMedium
	columnValueMinor
	columnCurrency
	columnKey
	columnProperty
	columnCount
)

const (
	// rowGroupRows are written before a row group ends: DuckDB and Spark read row groups in parallel, and their dictionaries stay small.
	rowGroupRows = 131_072
	// rowGroupBytes of values end one sooner: it bounds what a reader must hold.
	rowGroupBytes = 96 << 20
	chunkRows     = 1024 // rows brought to columns at a time,
	chunkBytes    = 1 << 20
	// pageBytes of values end a page: 1,024 event ids, 8,192 references to a dictionary. What is cut out of a file costs by the page (CutRows).
	// Pages of 256 KiB would be some 5 % smaller together. Row groups are large since each has dictionaries of its own: of a shop's events, whose
	// visitors come back at any time within the hour, one takes 30 bytes; in groups of 32,768 rows 37, of 16,384 44, of 8,192 51, of 4,096 56.
	pageBytes = 32 << 10
	// packerWindow is how far back repetitions are looked for; only dictionaries are longer.
	packerWindow = 512 << 10
	// dictionaryBytes is where a column of mostly different values goes over to plain pages.
	dictionaryBytes = 2 << 20
	// rowBytes bounds one row; a request to the collector is far smaller.
	rowBytes = 8 << 20
)

func eventsSchema() *parquet.Schema {
	return parquet.NewSchema(EventsSchema, parquet.SchemaOf(eventColumns{}))
}

// RowWriter writes rows as one Parquet file, zstd compressed, schema EventsSchema. The same rows in the same calls give the same bytes.
// It is not safe for concurrent use.
type RowWriter struct {
	w       *parquet.GenericWriter[eventColumns]
	columns [columnCount][]parquet.Value
	text    []byte // what the values of a chunk point into
	names   []string
	group   int // rows of a row group
	rows    int // in the open row group
	bytes   int // of text, in the open row group
}

// NewRowWriter begins a file on w.
func NewRowWriter(w io.Writer) *RowWriter {
	return &RowWriter{group: rowGroupRows, w: parquet.NewGenericWriter[eventColumns](w, writerOptions()...)}
}

func writerOptions() []parquet.WriterOption {
	options := []parquet.WriterOption{
		eventsSchema(),
		parquet.Compression(&codec{packer: newPacker()}),
		parquet.CreatedBy("octroi", "1", ""),
		parquet.PageBufferSize(pageBytes),
		parquet.DictionaryMaxBytes(dictionaryBytes),
		parquet.DataPageVersion(1), // what every reader has
		parquet.DataPageStatistics(false),
	}
	// Least and greatest value help no query on texts: most are random digits, or the same few in each row group.
	for _, path := range eventsSchema().Columns() {
		if leaf, _ := eventsSchema().Lookup(path...); leaf.Node.Type().Kind() == parquet.ByteArray {
			options = append(options, parquet.SkipPageBounds(path...))
		}
	}
	return options
}

// codec is zstd as newPacker has it.
type codec struct {
	parquetzstd.Codec
	packer *zstd.Encoder
}

// Encode implements compress.Codec.
func (c *codec) Encode(dst, src []byte) ([]byte, error) { return c.packer.EncodeAll(src, dst[:0]), nil }

// newPacker compresses pages: fast, but for digits in which nothing occurs twice too, which that level would leave as they are.
func newPacker() *zstd.Encoder {
	packer, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithAllLitEntropyCompression(true),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(packerWindow), zstd.WithZeroFrames(true), zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // only options can be wrong
	}
	return packer
}

// Write adds rows.
func (r *RowWriter) Write(rows []pseudonymize.Row) error {
	for len(rows) > 0 {
		n, err := r.chunk(rows)
		if err != nil {
			return err
		}
		for i, c := range r.w.ColumnWriters() {
			if written, err := c.WriteRowValues(r.columns[i]); err != nil {
				return fmt.Errorf("writing parquet column %d: %w", i, err)
			} else if written != n {
				return fmt.Errorf("writing parquet column %d: %d rows instead of %d", i, written, n)
			}
		}
		rows = rows[n:]
		r.rows, r.bytes = r.rows+n, r.bytes+len(r.text)
		if r.rows >= r.group || r.bytes >= rowGroupBytes {
			r.rows, r.bytes = 0, 0
			if err := r.w.Flush(); err != nil {
				return fmt.Errorf("writing parquet row group: %w", err)
			}
		}
	}
	return nil
}

// chunk brings the first rows to columns, and says how many.
func (r *RowWriter) chunk(rows []pseudonymize.Row) (n int, err error) {
	for i := range r.columns {
		r.columns[i] = r.columns[i][:0]
	}
	r.text = r.text[:0]
	limit := min(chunkRows, len(rows), r.group-r.rows)
	for n < limit && len(r.text) < chunkBytes {
		from := len(r.text)
		r.add(&rows[n])
		if len(r.text)-from > rowBytes {
			return 0, fmt.Errorf("writing parquet row: it is larger than %d bytes", rowBytes)
		}
		n++
	}
	return n, nil
}

// Close ends the file; it does not close the writer below.
func (r *RowWriter) Close() error {
	if err := r.w.Close(); err != nil {
		return fmt.Errorf("ending parquet file: %w", err)
	}
	return nil
}

// EncodeRows writes rows as one Parquet file, as RowWriter does. It returns w's error.
func EncodeRows(w io.Writer, rows []pseudonymize.Row) error {
	r := NewRowWriter(w)
	if err := r.Write(rows); err != nil {
		return err
	}
	return r.Close()
}

func (r *RowWriter) add(row *pseudonymize.Row) {
	r.hex(columnEventID, row.EventID[:])
	r.put(columnTime, parquet.Int64Value(row.Time.UnixMilli()))
	r.put(columnReceivedAt, parquet.Int64Value(row.ReceivedAt.UnixMilli()))
	r.pseudonym(columnDevice, row.Device)
	r.pseudonym(columnPerson, row.Person)
	r.string(columnType, row.Type)
	r.string(columnChannel, row.Channel)
	r.string(columnStage, row.Stage)
	r.string(columnSite, row.Site)
	r.addGrants(row.Grants)
	r.hex(columnPolicy, row.Policy[:])
	r.optional(columnCampaign, row.Campaign)
	r.optional(columnSource, row.Source)
	r.optional(columnMedium, row.Medium)
	if row.Value.Currency == "" {
		r.null(columnValueMinor)
	} else {
		r.columns[columnValueMinor] = append(r.columns[columnValueMinor], parquet.Int64Value(row.Value.Minor).Level(0, 1, columnValueMinor))
	}
	r.optional(columnCurrency, row.Value.Currency)
	r.addProperties(row.Properties)
}

func (r *RowWriter) addGrants(grants []pseudonymize.RowGrant) {
	if len(grants) == 0 {
		for c := columnPurpose; c <= columnRef; c++ {
			r.null(c)
		}
		return
	}
	for i := range grants {
		g, again := &grants[i], min(i, 1)
		r.level(columnPurpose, r.value(g.Purpose), again, 1)
		r.level(columnVersion, parquet.Int32Value(int32(g.Version)), again, 1)
		r.level(columnBasis, r.value(string(g.Basis)), again, 1)
		if g.Ref == [16]byte{} {
			r.level(columnRef, parquet.NullValue(), again, 1)
		} else {
			r.level(columnRef, r.hexValue(g.Ref[:]), again, 2)
		}
	}
}

// addProperties writes the names in order: a Go map's own order would make two encodings of a row differ.
func (r *RowWriter) addProperties(properties map[string]string) {
	if len(properties) == 0 {
		r.null(columnKey)
		r.null(columnProperty)
		return
	}
	r.names = slices.AppendSeq(r.names[:0], maps.Keys(properties))
	slices.Sort(r.names)
	for i, name := range r.names {
		r.level(columnKey, r.value(name), min(i, 1), 1)
		r.level(columnProperty, r.value(properties[name]), min(i, 1), 1)
	}
}

// put adds a value of a required column, which has no levels.
func (r *RowWriter) put(column int, v parquet.Value) {
	r.columns[column] = append(r.columns[column], v)
}
func (r *RowWriter) null(column int)             { r.put(column, parquet.NullValue()) }
func (r *RowWriter) hex(column int, b []byte)    { r.put(column, r.hexValue(b)) }
func (r *RowWriter) string(column int, s string) { r.put(column, r.value(s)) }

func (r *RowWriter) level(column int, v parquet.Value, repetition, definition int) {
	r.columns[column] = append(r.columns[column], v.Level(repetition, definition, column))
}

func (r *RowWriter) optional(column int, s string) {
	if s == "" {
		r.null(column)
		return
	}
	r.level(column, r.value(s), 0, 1)
}

func (r *RowWriter) pseudonym(column int, p *[16]byte) {
	if p == nil {
		r.null(column)
		return
	}
	r.level(column, r.hexValue(p[:]), 0, 1)
}

// value and hexValue copy into the chunk's text. Growing it moves it, and values already made keep the old memory: both stay right.
func (r *RowWriter) value(s string) parquet.Value {
	if !utf8.ValidString(s) { // a STRING column of other bytes would stop readers; the collector lets none in
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	from := len(r.text)
	r.text = append(r.text, s...)
	return parquet.ByteArrayValue(r.text[from:])
}

func (r *RowWriter) hexValue(b []byte) parquet.Value {
	from := len(r.text)
	r.text = hex.AppendEncode(r.text, b)
	return parquet.ByteArrayValue(r.text[from:])
}

func millis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
