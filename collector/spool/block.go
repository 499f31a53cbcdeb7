package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// A block is what one group commit writes: one pwrite, one fdatasync. Everything is little endian.
//
//	offset  bytes
//	     0      4  magic "osbk"
//	     4      2  version (1)
//	     6      2  zero
//	     8      4  length of the block, header included
//	    12      4  number of records, at least 1
//	    16      8  position of the first record
//	    24      8  least revocation sequence of the records
//	    32      8  time of writing, Unix milliseconds
//	    40      4  CRC-32C of bytes 0–39; stays at this place in every version
//	    44      4  CRC-32C of bytes 0–43 and of the records
//	    48         records, one after the other
//
// The header has a checksum of its own so that its length can be believed when the records cannot: that is what tells a torn
// tail (nothing follows) from damage (something does).
type block struct {
	length  int
	records int
	first   uint64
	least   uint64
	written int64
	check   uint32
}

// A record is one sealed event. Its position is the block's first plus its rank.
//
//	offset  bytes
//	     0      4  slot of the device, 0: none
//	     4      4  slot of the person, 0: none
//	     8      8  revocation sequence of the grants
//	    16      8  received, Unix milliseconds
//	    24     16  hash of (site, event id) for duplicate detection
//	    40      4  length of the payload
//	    44         payload: pseudonymize.Sealed
type record []byte

// hash is SipHash-2-4, 128 bits, of (site ‖ 0x00 ‖ event id) under a key derived from the spool key.
type hash [16]byte

const (
	blockMagic   = "osbk"
	blockVersion = 1
	blockHeader  = 48
	recordHeader = 44
	// maxBlock bounds what is read into memory for one block, and so what one Append may hold.
	maxBlock = 32 << 20
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	errTorn    = errors.New("block is incomplete")
	errVersion = errors.New("block was written by a later version")
)

func appendRecord(b []byte, e *pseudonymize.Sealed, h hash) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(e.Device))
	b = binary.LittleEndian.AppendUint32(b, uint32(e.Person))
	b = binary.LittleEndian.AppendUint64(b, e.Sequence)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.ReceivedMillis))
	b = append(b, h[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Payload)))
	return append(b, e.Payload...)
}

// cutRecord splits the first record off b; ok is false where b does not begin with a whole one.
func cutRecord(b []byte) (r record, rest []byte, ok bool) {
	if len(b) < recordHeader {
		return nil, nil, false
	}
	payload := binary.LittleEndian.Uint32(b[40:])
	if uint64(payload) > uint64(len(b)-recordHeader) {
		return nil, nil, false
	}
	n := recordHeader + int(payload)
	return record(b[:n:n]), b[n:], true
}

func (r record) sequence() uint64 { return binary.LittleEndian.Uint64(r[8:]) }
func (r record) hash() hash       { return hash(r[24:40]) }

// sealed shares its payload with r.
func (r record) sealed() pseudonymize.Sealed {
	return pseudonymize.Sealed{
		Device:         subject.Slot(binary.LittleEndian.Uint32(r)),
		Person:         subject.Slot(binary.LittleEndian.Uint32(r[4:])),
		Sequence:       r.sequence(),
		ReceivedMillis: int64(binary.LittleEndian.Uint64(r[16:])),
		Payload:        r[recordHeader:],
	}
}

// finishBlock fills in the header of a block whose records stand at b[blockHeader:].
func finishBlock(b []byte, h block) {
	copy(b, blockMagic)
	binary.LittleEndian.PutUint16(b[4:], blockVersion)
	binary.LittleEndian.PutUint16(b[6:], 0)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[12:], uint32(h.records))
	binary.LittleEndian.PutUint64(b[16:], h.first)
	binary.LittleEndian.PutUint64(b[24:], h.least)
	binary.LittleEndian.PutUint64(b[32:], uint64(h.written))
	binary.LittleEndian.PutUint32(b[40:], crc32.Checksum(b[:40], castagnoli))
	binary.LittleEndian.PutUint32(b[44:], bodyCheck(b[:44], b[blockHeader:]))
}

func bodyCheck(header, records []byte) uint32 {
	return crc32.Update(crc32.Checksum(header[:44], castagnoli), castagnoli, records)
}

// parseBlock reads a header. errTorn where it is none, errVersion where a later version wrote it.
func parseBlock(b []byte) (block, error) {
	if len(b) < blockHeader || string(b[:4]) != blockMagic ||
		binary.LittleEndian.Uint32(b[40:]) != crc32.Checksum(b[:40], castagnoli) {
		return block{}, errTorn
	}
	if binary.LittleEndian.Uint16(b[4:]) != blockVersion {
		return block{}, errVersion
	}
	h := block{
		length:  int(binary.LittleEndian.Uint32(b[8:])),
		records: int(binary.LittleEndian.Uint32(b[12:])),
		first:   binary.LittleEndian.Uint64(b[16:]),
		least:   binary.LittleEndian.Uint64(b[24:]),
		written: int64(binary.LittleEndian.Uint64(b[32:])),
		check:   binary.LittleEndian.Uint32(b[44:]),
	}
	if h.length > maxBlock || h.records < 1 || h.length < blockHeader+h.records*recordHeader || h.end() < h.first {
		return block{}, errTorn
	}
	return h, nil
}

func (h block) end() uint64 { return h.first + uint64(h.records) }

// each calls fn for every record of a block that was read whole (header and records), once its checksum holds.
func (h block) each(b []byte, fn func(position uint64, r record)) error {
	if bodyCheck(b, b[blockHeader:]) != h.check {
		return errTorn
	}
	rest, n := b[blockHeader:], 0
	for ; len(rest) > 0; n++ {
		var ok bool
		if _, rest, ok = cutRecord(rest); !ok {
			return errTorn
		}
	}
	if n != h.records {
		return errTorn
	}
	rest = b[blockHeader:]
	for i := range n {
		var r record
		r, rest, _ = cutRecord(rest)
		fn(h.first+uint64(i), r)
	}
	return nil
}
