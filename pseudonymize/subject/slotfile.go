package subject

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/octroi/octroi/consent/state"
)

// slotFile is the file that holds every subject's key, and nothing else does. Version 1, integers big-endian:
//
//	header, 4096 bytes:  "OCTSLOTS" ‖ version(4) ‖ bytes a slot(4) ‖ slots a chunk(4) ‖ file id(16, random) ‖ crc32c(4) ‖ zeros
//	chunk, 64 KiB:       1024 slots of one kind, written and fsynced as a whole before one of them is given out
//	slot n, 64 bytes at 4096+(n-1)*64:
//	                     state(1) ‖ zeros(3) ‖ n(4) ‖ zeros(8) ‖ key(32) ‖ zeros(12) ‖ crc32c of the 60 bytes before(4)
//	state:               1 a device's key, 2 a person's key, 3 a request's key, 0xff shredded (the key is zeros)
//
// Slots start at multiples of 64, so none crosses a sector: an overwrite is one sector's write. The file only grows; which slots were given
// out stands in state (rows.go). What a run leaves over of a chunk is never given out by a later run, so that a state
// restored from an older copy cannot give a slot out twice; that costs at most 64 KiB a run and kind.
//
// An unfinished last chunk, of which state knows nothing, is what a crash leaves: open cuts it off. Anything else is ErrDamaged.
type slotFile struct {
	file blockFile
	id   [16]byte
	keys keyring

	mu    sync.Mutex               // guards stock and the file's growth
	stock [Request + 1]*freshChunk // what slots of a kind are given out of; nil: a new one at first need
}

// blockFile is what slotFile needs of *os.File. WriteAt's bytes are durable once Sync has returned nil; after an error of either
// the bytes may be old, new or mixed until they are written again.
type blockFile interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Truncate(size int64) error
	Close() error
}

const (
	headerSize   = 4096
	slotSize     = 64
	chunkSlots   = 1024
	chunkSize    = slotSize * chunkSlots
	slotVersion  = 1
	slotMagic    = "OCTSLOTS"
	headerSum    = 36 // where the header's checksum stands
	slotSum      = slotSize - 4
	slotShredded = 0xff
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// createSlotFile makes a slot file without slots. Another name first, so that no half-written header is ever found under path.
func createSlotFile(path string) (err error) {
	var header [headerSize]byte
	copy(header[:], slotMagic)
	binary.BigEndian.PutUint32(header[8:], slotVersion)
	binary.BigEndian.PutUint32(header[12:], slotSize)
	binary.BigEndian.PutUint32(header[16:], chunkSlots)
	_, _ = rand.Read(header[20:headerSum])
	sealHeader(header[:])

	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("creating slot file: %w", err)
	}
	_, err = f.Write(header[:])
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("creating slot file: %w", fullDisk(err))
	}
	return nil
}

func sealHeader(header []byte) {
	binary.BigEndian.PutUint32(header[headerSum:], crc32.Checksum(header[:headerSum], castagnoli))
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// fullDisk adds state.ErrFull to what the system says of a full disk or an exhausted quota.
func fullDisk(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", state.ErrFull, err)
	}
	return err
}

// readHeader checks the header of a file of size bytes and takes its id.
func (s *slotFile) readHeader(size int64) error {
	if size < headerSize {
		return fmt.Errorf("reading slot file: shorter than its header: %w", ErrDamaged)
	}
	var header [headerSize]byte
	if _, err := s.file.ReadAt(header[:], 0); err != nil {
		return fmt.Errorf("reading slot file: %w", err)
	}
	switch {
	case string(header[:8]) != slotMagic:
		return fmt.Errorf("reading slot file: not a slot file: %w", ErrDamaged)
	case binary.BigEndian.Uint32(header[headerSum:]) != crc32.Checksum(header[:headerSum], castagnoli):
		return fmt.Errorf("reading slot file: checksum of the header: %w", ErrDamaged)
	case binary.BigEndian.Uint32(header[8:]) != slotVersion,
		binary.BigEndian.Uint32(header[12:]) != slotSize,
		binary.BigEndian.Uint32(header[16:]) != chunkSlots:
		return errors.New("reading slot file: written by another version of this program")
	}
	s.id = [16]byte(header[20:headerSum])
	return nil
}

// readChunks reads the keys into memory. known is what state knows of the file: no chunk it knows may be missing or damaged.
func (s *slotFile) readChunks(size int64, known knownSlots) error {
	whole := (size - headerSize) / chunkSize
	torn := (size-headerSize)%chunkSize != 0
	for number := range known.given {
		if int64(number) >= whole {
			return fmt.Errorf("reading slot file: it ends before slot %d, which state knows: put its newest copy in place: %w",
				firstSlot(number), ErrDamaged)
		}
	}
	buf := make([]byte, min(whole, 1)*chunkSize)
	defer clear(buf)
	for number := uint32(0); int64(number) < whole; number++ {
		if _, err := s.file.ReadAt(buf, chunkOffset(number)); err != nil {
			return fmt.Errorf("reading slot file: %w", err)
		}
		err := checkChunk(number, buf, known)
		given := known.given[number]
		if err != nil && given.n == 0 && int64(number) == whole-1 {
			whole, torn = whole-1, true
			break
		}
		if err != nil {
			return err
		}
		s.keys.add(given)
		for i := range given.n {
			slot, b := slotIn(number, i, buf)
			if _, shredding := known.shredding[slot]; b[0] != slotShredded && !shredding {
				s.keys.restore(slot, (*[32]byte)(b[16:48]))
			}
		}
	}
	if !torn {
		return nil
	}
	if err := errors.Join(s.file.Truncate(chunkOffset(uint32(whole))), s.file.Sync()); err != nil {
		return fmt.Errorf("cutting off an unfinished chunk of the slot file: %w", err)
	}
	return nil
}

// checkChunk checks every slot of a chunk. One that is being shredded may be anything: its overwriting was cut short, and is repeated
// when the registry opens.
func checkChunk(number uint32, buf []byte, known knownSlots) error {
	given := known.given[number]
	for i := range uint32(chunkSlots) {
		slot, b := slotIn(number, i, buf)
		if _, shredding := known.shredding[slot]; shredding {
			continue
		}
		kind, ok := checkSlot(slot, b)
		if !ok || given.n > 0 && kind != given.kind && kind != slotShredded {
			return fmt.Errorf("reading slot file: slot %d: put the newest copy of the file in place: %w", slot, ErrDamaged)
		}
	}
	return nil
}

// slotIn is the i-th slot of an encoded chunk.
func slotIn(chunk, i uint32, buf []byte) (Slot, []byte) {
	return firstSlot(chunk) + Slot(i), buf[i*slotSize : (i+1)*slotSize]
}

// checkSlot is the state of an encoded slot, if its checksum and number are right.
func checkSlot(slot Slot, b []byte) (Kind, bool) {
	ok := binary.BigEndian.Uint32(b[slotSum:]) == crc32.Checksum(b[:slotSum], castagnoli) &&
		Slot(binary.BigEndian.Uint32(b[4:])) == slot &&
		(Kind(b[0]).valid() || b[0] == slotShredded)
	return Kind(b[0]), ok
}

func encodeSlot(b []byte, slot Slot, kind Kind, key *[32]byte) {
	clear(b)
	b[0] = byte(kind)
	binary.BigEndian.PutUint32(b[4:], uint32(slot))
	copy(b[16:], key[:])
	binary.BigEndian.PutUint32(b[slotSum:], crc32.Checksum(b[:slotSum], castagnoli))
}

func firstSlot(chunk uint32) Slot    { return Slot(chunk)*chunkSlots + 1 }
func chunkOffset(chunk uint32) int64 { return headerSize + int64(chunk)*chunkSize }
func slotOffset(slot Slot) int64     { return headerSize + int64(slot-1)*slotSize }

// lastChunk keeps slot numbers inside 32 bits.
const lastChunk = 1<<22 - 2

// freshChunk is a chunk that is on disk, and of which next slots were given out.
type freshChunk struct {
	number uint32
	next   uint32
	keys   [chunkSlots][32]byte // wiped as they are given out
}

// give gives a slot out, of a chunk whose keys are durable, with what state is to know of the chunk.
func (s *slotFile) give(kind Kind) (Subject, chunkRow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.stock[kind]
	if c == nil || c.next == chunkSlots {
		var err error
		if c, err = s.extend(kind); err != nil {
			return Subject{}, chunkRow{}, err
		}
		s.stock[kind] = c
	}
	sub := Subject{slot: firstSlot(c.number) + Slot(c.next), kind: kind, key: c.keys[c.next]}
	clear(c.keys[c.next][:])
	c.next++
	s.keys.give(sub.slot, &sub.key)
	return sub, chunkRow{c.number, givenSlots{kind, c.next}}, nil
}

// extend appends a chunk of fresh keys and fsyncs it. A crash in it leaves an unfinished chunk that the next open cuts off;
// after an error the next call writes the same place again.
func (s *slotFile) extend(kind Kind) (*freshChunk, error) {
	c := &freshChunk{number: s.keys.chunks}
	if c.number > lastChunk {
		return nil, errors.New("extending slot file: all slot numbers are used")
	}
	buf := make([]byte, chunkSize)
	defer clear(buf)
	for i := range c.keys {
		c.keys[i] = freshKey()
		slot, b := slotIn(c.number, uint32(i), buf)
		encodeSlot(b, slot, kind, &c.keys[i])
	}
	_, err := s.file.WriteAt(buf, chunkOffset(c.number))
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		return nil, fmt.Errorf("extending slot file: %w", fullDisk(err))
	}
	s.keys.add(givenSlots{kind, 0})
	return c, nil
}

// freshKey draws a key whose first word is not zero: zero there means wiped (keyring.go).
func freshKey() (key [32]byte) {
	for binary.LittleEndian.Uint64(key[:]) == 0 {
		_, _ = rand.Read(key[:])
	}
	return key
}

// shred wipes a slot's key from memory, overwrites the slot in place, and fsyncs. Repeating it is harmless, and so is doing it beside
// give: they write different sectors.
func (s *slotFile) shred(slot Slot) error {
	if !s.keys.wipe(slot) {
		return fmt.Errorf("overwriting slot %d: it was never given out: %w", slot, ErrDamaged)
	}
	var b [slotSize]byte
	encodeSlot(b[:], slot, slotShredded, new([32]byte))
	_, err := s.file.WriteAt(b[:], slotOffset(slot))
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("overwriting slot %d: %w", slot, fullDisk(err))
	}
	return nil
}
