package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// An index, "<first position>.index", holds what must be known of a segment that is no longer written to: so that Open need not
// read the segment, and so that its hashes outlive it in the duplicate window. It is made durable before its segment is
// deleted, and is deleted when the window has passed. Everything is little endian.
//
//	offset  bytes
//	     0      4  magic "osix"
//	     4      4  version (1)
//	     8      8  first position
//	    16      8  position after the last record
//	    24      8  length of the segment's blocks
//	    32      8  least revocation sequence
//	    40      8  time of the first block, Unix milliseconds
//	    48      8  time of the last block
//	    56      8  number of marks
//	    64         marks: position (8), offset of its block (8)
//	               hashes (16 each), as many as positions
//	               CRC-32C of all before (4)
type index struct {
	first uint64
	content
	hashes []byte
}

const (
	indexMagic   = "osix"
	indexVersion = 1
	indexHeader  = 64
	maxIndex     = 1 << 30
)

func (x *index) encode() []byte {
	b := make([]byte, 0, indexHeader+len(x.marks)*16+len(x.hashes)+4)
	b = append(b, indexMagic...)
	b = binary.LittleEndian.AppendUint32(b, indexVersion)
	for _, v := range []uint64{x.first, x.end, uint64(x.length), x.least, uint64(x.opened), uint64(x.lastWritten), uint64(len(x.marks))} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	for _, m := range x.marks {
		b = binary.LittleEndian.AppendUint64(b, m.position)
		b = binary.LittleEndian.AppendUint64(b, uint64(m.offset))
	}
	b = append(b, x.hashes...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

var errIndex = errors.New("index is damaged")

func decodeIndex(b []byte) (*index, error) {
	n := len(b) - 4
	if n < indexHeader || string(b[:4]) != indexMagic || crc32.Checksum(b[:n], castagnoli) != binary.LittleEndian.Uint32(b[n:]) {
		return nil, errIndex
	}
	if binary.LittleEndian.Uint32(b[4:]) != indexVersion {
		return nil, errVersion
	}
	at := func(offset int) uint64 { return binary.LittleEndian.Uint64(b[offset:]) }
	x := &index{first: at(8), content: content{
		end: at(16), length: int64(at(24)), least: at(32), opened: int64(at(40)), lastWritten: int64(at(48)),
	}}
	rest, marks := b[indexHeader:n], at(56)
	if marks > uint64(len(rest)/16) || x.end < x.first || x.length < 0 {
		return nil, errIndex
	}
	x.marks = make([]mark, marks)
	for i := range x.marks {
		m := mark{binary.LittleEndian.Uint64(rest[16*i:]), int64(binary.LittleEndian.Uint64(rest[16*i+8:]))}
		if m.position < x.first || m.position >= x.end || m.offset < 0 || m.offset >= x.length ||
			i > 0 && (m.position <= x.marks[i-1].position || m.offset <= x.marks[i-1].offset) {
			return nil, errIndex
		}
		x.marks[i] = m
	}
	x.hashes = rest[16*marks:]
	if uint64(len(x.hashes)) != 16*(x.end-x.first) || (x.end-x.first) > maxIndex/16 {
		return nil, errIndex
	}
	if len(x.hashes) > 0 && (marks == 0 || x.marks[0] != mark{x.first, 0}) {
		return nil, errIndex
	}
	return x, nil
}

// readIndex reads and checks the index of the segment that begins at first. fs.ErrNotExist where there is none.
func readIndex(d disk, first uint64) (*index, error) {
	f, err := d.Open(fileName(first, indexSuffix), false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > maxIndex {
		return nil, errIndex
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, err
	}
	x, err := decodeIndex(b)
	if err == nil && x.first != first {
		err = errIndex
	}
	return x, err
}

// makeIndex reads a segment that ends at end.
func makeIndex(d disk, first, end uint64) (*index, error) {
	name := fileName(first, segmentSuffix)
	f, err := d.Open(name, false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	x := &index{first: first}
	x.content, err = scan(f, name, first, &end, func(h hash, _ int64) { x.hashes = append(x.hashes, h[:]...) })
	return x, err
}

// writeIndex makes x durable under its name, which does not show before.
func writeIndex(d disk, x *index) error {
	draft, name := fileName(x.first, draftSuffix), fileName(x.first, indexSuffix)
	f, err := createDraft(d, draft)
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	_, err = f.WriteAt(x.encode(), 0)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = d.Rename(draft, name)
	}
	if err == nil {
		err = d.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", name, err), remove(d, draft))
	}
	return nil
}
