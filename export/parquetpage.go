package export

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/format"
)

// plainValues are values in Parquet's plain encoding: numbers little-endian, texts after their length (4 bytes, little-endian).
type plainValues struct {
	text  []byte
	ends  []int32 // of each value in text
	texts bool
}

// splitPlain finds the n values that text consists of.
func splitPlain(text []byte, kind format.Type, n int) (v plainValues, err error) {
	if n > len(text) {
		return v, errGuard
	}
	v = plainValues{text: text, ends: make([]int32, n), texts: kind == format.ByteArray}
	at, width := uint64(0), uint64(8)
	if kind == format.Int32 {
		width = 4
	}
	for i := range v.ends {
		if v.texts {
			if at+4 > uint64(len(text)) {
				return v, errGuard
			}
			width = 4 + uint64(binary.LittleEndian.Uint32(text[at:]))
		}
		if at += width; at > uint64(len(text)) {
			return v, errGuard
		}
		v.ends[i] = int32(at)
	}
	if at != uint64(len(text)) {
		return v, errGuard
	}
	return v, nil
}

// begin is where a value begins in the text, or, after the last, the text's end.
func (v *plainValues) begin(i int) int32 {
	if i == 0 {
		return 0
	}
	return v.ends[i-1]
}

// encoded is a value as it stands in the text.
func (v *plainValues) encoded(i int) []byte { return v.text[v.begin(i):v.ends[i]] }

// bytes is a text without its length.
func (v *plainValues) bytes(i int) []byte { return v.encoded(i)[4:] }

// value is one value for parquet-go; it points into the text.
func (v *plainValues) value(i int) parquet.Value {
	switch b := v.encoded(i); {
	case v.texts:
		return parquet.ByteArrayValue(b[4:])
	case len(b) == 4:
		return parquet.Int32Value(int32(binary.LittleEndian.Uint32(b)))
	default:
		return parquet.Int64Value(int64(binary.LittleEndian.Uint64(b)))
	}
}

// pageValues is a data page taken apart: entries with their levels, and the values of those that are not null.
type pageValues struct {
	n          int    // entries
	rows       int    // each of them has one entry or more
	head       []byte // the levels as they stand in the page; nil: they are written anew
	repetition []byte // levels; nil where the column has none
	definition []byte
	defined    byte // the definition level of a value
	indexed    bool
	indices    []int32     // where indexed: into the dictionary,
	plain      plainValues // else
	nulls      int
}

// readPage takes a page's text apart; entries is the length of its dictionary.
func readPage(text []byte, h *format.DataPageHeader, l *leaf, entries int) (v *pageValues, err error) {
	whole := text
	v = &pageValues{n: int(h.NumValues), defined: byte(l.definition), indexed: h.Encoding == format.RLEDictionary}
	if v.repetition, text, err = readLevels(text, l.repetition, v.n); err != nil {
		return nil, err
	}
	if v.definition, text, err = readLevels(text, l.definition, v.n); err != nil {
		return nil, err
	}
	v.head = bytes.Clone(whole[:len(whole)-len(text)])
	if v.rows = v.n; v.repetition != nil {
		v.rows = bytes.Count(v.repetition, []byte{0})
	}
	values := v.n
	if v.definition != nil {
		values = bytes.Count(v.definition, []byte{v.defined})
	}
	v.nulls = v.n - values
	if !v.indexed {
		v.plain, err = splitPlain(bytes.Clone(text), l.kind, values)
		return v, err
	}
	var dictionary rle.DictionaryEncoding
	if v.indices, err = dictionary.DecodeInt32(make([]int32, values+8), text); err != nil || len(v.indices) < values {
		return nil, errGuard
	}
	v.indices = v.indices[:values] // the rest is padding
	greatest := uint32(0)          // of a negative one too
	for _, i := range v.indices {
		greatest = max(greatest, uint32(i))
	}
	if values > 0 && int64(greatest) >= int64(entries) {
		return nil, errGuard
	}
	return v, nil
}

// readLevels reads n levels of at most most from the beginning of a page, which guardValues has checked.
func readLevels(text []byte, most, n int) (levels, rest []byte, err error) {
	if most == 0 {
		return nil, text, nil
	}
	if len(text) < 4 {
		return nil, nil, errGuard
	}
	length := int(binary.LittleEndian.Uint32(text))
	if text = text[4:]; length > len(text) {
		return nil, nil, errGuard
	}
	encoding := rle.Encoding{BitWidth: bits.Len(uint(most))}
	levels, err = encoding.DecodeLevels(make([]byte, 0, n+8), text[:length])
	if err != nil || len(levels) < n {
		return nil, nil, errGuard
	}
	levels = levels[:n]
	if n > 0 && int(slices.Max(levels)) > most {
		return nil, nil, errGuard
	}
	return levels, text[length:], nil
}

// place is where a row begins in a page.
type place struct {
	row   int
	at    int // its first entry
	value int // the number of its first value, or of the next one
}

// seek goes on to a later row, or to the page's end.
func (v *pageValues) seek(p place, row int) place {
	to := place{row: row, at: row}
	if v.rows < v.n {
		for to.at, to.row = p.at, p.row; to.row < row; to.row++ {
			next := bytes.IndexByte(v.repetition[to.at+1:], 0)
			if next < 0 {
				next = v.n - to.at - 1
			}
			to.at += 1 + next
		}
	}
	to.value = p.value + to.at - p.at
	if v.definition != nil {
		to.value = p.value + bytes.Count(v.definition[p.at:to.at], []byte{v.defined})
	}
	return to
}

// runs are the rows of the page but those that are gone, as ranges of rows that follow each other.
func (v *pageValues) runs(gone []int) iter.Seq2[place, place] {
	return func(yield func(from, to place) bool) {
		var at place
		for _, row := range gone {
			end := v.seek(at, row)
			if end.at > at.at && !yield(at, end) {
				return
			}
			at = v.seek(end, row+1)
		}
		if end := v.seek(at, v.rows); end.at > at.at {
			yield(at, end)
		}
	}
}

// without is the page without the rows that are gone.
func (v *pageValues) without(gone []int) *pageValues {
	left := &pageValues{defined: v.defined, indexed: v.indexed, rows: v.rows - len(gone)}
	if v.indexed {
		left.indices = make([]int32, 0, len(v.indices))
	} else {
		left.plain.text = make([]byte, 0, len(v.plain.text))
	}
	kept := 0
	for from, to := range v.runs(gone) {
		left.n += to.at - from.at
		kept += to.value - from.value
		if v.repetition != nil {
			left.repetition = append(left.repetition, v.repetition[from.at:to.at]...)
		}
		if v.definition != nil {
			left.definition = append(left.definition, v.definition[from.at:to.at]...)
		}
		if v.indexed {
			left.indices = append(left.indices, v.indices[from.value:to.value]...)
		} else {
			left.plain.text = append(left.plain.text, v.plain.text[v.plain.begin(from.value):v.plain.begin(to.value)]...)
		}
	}
	left.nulls = left.n - kept
	return left
}

// write is the page's text again, its dictionary's entries numbered anew where renumber is not nil.
func (v *pageValues) write(l *leaf, renumber []int32) (text []byte, err error) {
	if v.head != nil {
		text = slices.Clone(v.head)
	} else if text, err = v.writeLevels(l); err != nil {
		return nil, err
	}
	if !v.indexed {
		return append(text, v.plain.text...), nil
	}
	indices := v.indices
	if renumber != nil {
		indices = make([]int32, len(v.indices))
		for i, of := range v.indices {
			indices[i] = renumber[of]
		}
	}
	var dictionary rle.DictionaryEncoding
	values, err := dictionary.EncodeInt32(nil, indices)
	return append(text, values...), err
}

func (v *pageValues) writeLevels(l *leaf) (text []byte, err error) {
	for _, of := range []struct {
		levels []byte
		most   int
	}{{v.repetition, l.repetition}, {v.definition, l.definition}} {
		if of.most == 0 {
			continue
		}
		encoding := rle.Encoding{BitWidth: bits.Len(uint(of.most))}
		levels, err := encoding.EncodeLevels(nil, of.levels)
		if err != nil {
			return nil, err
		}
		text = binary.LittleEndian.AppendUint32(text, uint32(len(levels)))
		text = append(text, levels...)
	}
	return text, nil
}
