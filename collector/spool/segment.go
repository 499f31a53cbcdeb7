package spool

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// segment is a file of blocks, "<position of its first record, 20 digits>.segment". Positions run on from one segment to the
// next, so a segment ends where the next begins: blocks of it that lie beyond are leftovers of a write that was never
// acknowledged. The last segment is the active one and always there, if empty: its name keeps the next position.
type segment struct {
	first uint64
	// The rest is guarded by Spool.mu.
	content
	indexed bool // its index is durable
}

// content is what a segment holds of acknowledged blocks.
type content struct {
	end         uint64 // position after its last record
	length      int64  // bytes
	least       uint64 // revocation sequence
	opened      int64  // time of its first block, Unix milliseconds
	lastWritten int64  // time of its last block
	lastOffset  int64  // of its last block
	torn        int64  // bytes of a torn tail after the blocks
	marks       []mark
}

// mark says where the block that begins with a position stands. There is one about every markBytes.
type mark struct {
	position uint64
	offset   int64
}

const (
	segmentSuffix = ".segment"
	indexSuffix   = ".index"
	draftSuffix   = ".draft"
	markBytes     = 64 << 10
)

func fileName(first uint64, suffix string) string { return fmt.Sprintf("%020d%s", first, suffix) }

func parseName(name, suffix string) (first uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil
}

// extend takes a block into account that stands at the end.
func (c *content) extend(h block) {
	if c.length == 0 {
		c.least, c.opened = h.least, h.written
	}
	if n := len(c.marks); n == 0 || c.length-c.marks[n-1].offset >= markBytes {
		c.marks = append(c.marks, mark{h.first, c.length})
	}
	c.least = min(c.least, h.least)
	c.lastWritten = h.written
	c.lastOffset = c.length
	c.length += int64(h.length)
	c.end = h.end()
}

// damaged is ErrDamaged with the place. The file's name is a position, so nobody's data is in it.
func damaged(name string, offset int64, what string) error {
	return fmt.Errorf("%w: %s at byte %d: %s", ErrDamaged, name, offset, what)
}

// blocks reads one block after the other.
type blocks struct {
	from   *bufio.Reader
	name   string
	offset int64 // of the next block
	left   int64 // bytes from there
	buffer []byte
}

func readBlocks(f file, name string, from, to int64) *blocks {
	size := int(min(max(to-from, 4<<10), 256<<10))
	return &blocks{
		from: bufio.NewReaderSize(io.NewSectionReader(f, from, to-from), size),
		name: name, offset: from, left: to - from,
	}
}

// header reads the next header and stays before it. errTorn where there is no whole block.
func (b *blocks) header() (block, error) {
	raw, err := b.from.Peek(blockHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return block{}, fmt.Errorf("reading %s: %w", b.name, err)
	}
	return parseBlock(raw)
}

// take reads the whole block of which header just gave the header, into fresh memory or into memory that the next take overwrites.
func (b *blocks) take(h block, fresh bool) ([]byte, error) {
	if int64(h.length) > b.left {
		return nil, errTorn
	}
	if fresh || cap(b.buffer) < h.length {
		b.buffer = make([]byte, h.length)
	}
	raw := b.buffer[:h.length]
	if _, err := io.ReadFull(b.from, raw); err != nil {
		return nil, fmt.Errorf("reading %s: %w", b.name, err)
	}
	b.pass(h)
	return raw, nil
}

// skip passes over the block of which header just gave the header.
func (b *blocks) skip(h block) error {
	if int64(h.length) > b.left {
		return errTorn
	}
	if _, err := b.from.Discard(h.length); err != nil {
		return fmt.Errorf("reading %s: %w", b.name, err)
	}
	b.pass(h)
	return nil
}

func (b *blocks) pass(h block) {
	b.offset += int64(h.length)
	b.left -= int64(h.length)
}

// scan reads a segment from its first to its last acknowledged block and gives every hash to fn. end is where the next segment
// begins; nil for the last segment, of which a torn tail is left out: then content.length is less than the file's.
func scan(f file, name string, first uint64, end *uint64, fn func(h hash, written int64)) (content, error) {
	size, err := f.Size()
	if err != nil {
		return content{}, fmt.Errorf("reading %s: %w", name, err)
	}
	c := content{end: first}
	b := readBlocks(f, name, 0, size)
	for b.left > 0 && (end == nil || c.end < *end) {
		h, err := b.header()
		if err == nil && (h.first != c.end || end != nil && h.end() > *end) {
			return c, damaged(name, b.offset, "block has another position")
		}
		var raw []byte
		if err == nil {
			raw, err = b.take(h, false)
		}
		if err == nil {
			err = h.each(raw, func(_ uint64, r record) { fn(r.hash(), h.written) })
		}
		switch {
		case errors.Is(err, errTorn) && end == nil:
			c.torn, err = tail(f, name, c, size)
			return c, err
		case errors.Is(err, errTorn), errors.Is(err, errVersion):
			return c, damaged(name, c.length, err.Error())
		case err != nil:
			return c, err
		}
		c.extend(h)
	}
	if end != nil && c.end < *end {
		return c, damaged(name, c.length, "records are missing before the next segment")
	}
	return c, nil
}

// tail judges the bytes of the last segment that begin with a broken block, and gives their number without the zeros at the end,
// which were written ahead. They are a torn tail if they can be the remains of one write, since the write of a block begins only
// when the one before is durable. Otherwise they are damage.
func tail(f file, name string, c content, size int64) (torn int64, err error) {
	rest := make([]byte, min(size-c.length, maxBlock+aheadMost))
	if _, err := f.ReadAt(rest, c.length); err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("reading %s: %w", name, err)
	}
	if size-c.length > int64(len(rest)) {
		return 0, damaged(name, c.length, "more follows than one write")
	}
	rest = bytes.TrimRight(rest, "\x00")
	if h, err := parseBlock(rest); err == nil && h.length < len(rest) {
		return 0, damaged(name, c.length, "block has a wrong checksum, and more follows")
	}
	for i := 1; ; i++ {
		n := bytes.Index(rest[min(i, len(rest)):], []byte(blockMagic))
		if n < 0 {
			return int64(len(rest)), nil
		}
		i += n
		if h, err := parseBlock(rest[i:]); err == nil && h.first > c.end {
			return 0, damaged(name, c.length, "block has a broken header, and another follows")
		}
	}
}
