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
//	state:               1 a device's key, 2 a person's key, 0xff shredded (the key is zeros)
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

	mu     sync.Mutex         // guards chosen and the file's growth
	chosen [Person + 1]*chunk // the chunk that slots of a kind are given out of; nil: a new one at first need
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
		c, err := decodeChunk(number, buf, known)
		if err != nil && known.given[number] == (givenSlots{}) && int64(number) == whole-1 {
			whole, torn = whole-1, true
			break
		}
		if err != nil {
			return err
		}
		s.keys.add(c)
	}
	if !torn {
		return nil
	}
	if err := errors.Join(s.file.Truncate(chunkOffset(uint32(whole))), s.file.Sync()); err != nil {
		return fmt.Errorf("cutting off an unfinished chunk of the slot file: %w", err)
	}
	return nil
}

// decodeChunk checks every slot of a chunk. It keeps the keys of chunks that state knows; of others nothing was given out.
func decodeChunk(number uint32, buf []byte, known knownSlots) (*chunk, error) {
	given := known.given[number]
	c := &chunk{number: number, kind: given.kind}
	c.given.Store(given.n)
	if given.n > 0 {
		c.keys = new(chunkKeys)
	}
	for i := range uint32(chunkSlots) {
		slot := firstSlot(number) + Slot(i)
		b := buf[i*slotSize : (i+1)*slotSize]
		_, shredding := known.shredding[slot]
		switch kind, ok := checkSlot(slot, b); {
		case !ok && shredding: // its overwriting was cut short, and is repeated when the registry opens
		case !ok, given.n > 0 && kind != given.kind && kind != slotShredded:
			return nil, fmt.Errorf("reading slot file: slot %d: put the newest copy of the file in place: %w", slot, ErrDamaged)
		case c.keys != nil && kind != slotShredded && !shredding:
			c.keys[i].store((*[32]byte)(b[16:48]))
		}
	}
	return c, nil
}

// checkSlot is the state of an encoded slot, if its checksum and number are right.
func checkSlot(slot Slot, b []byte) (Kind, bool) {
	ok := binary.BigEndian.Uint32(b[slotSum:]) == crc32.Checksum(b[:slotSum], castagnoli) &&
		Slot(binary.BigEndian.Uint32(b[4:])) == slot &&
		(b[0] == byte(Device) || b[0] == byte(Person) || b[0] == slotShredded)
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
func position(slot Slot) (c, i uint32) {
	return uint32(slot-1) / chunkSlots, uint32(slot-1) % chunkSlots
}

// lastChunk keeps slot numbers inside 32 bits.
const lastChunk = 1<<22 - 2

// give gives a slot out, of a chunk whose keys are durable, with what state is to know of the chunk.
func (s *slotFile) give(kind Kind) (Subject, chunkRow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.chosen[kind]
	if c == nil || c.given.Load() == chunkSlots {
		var err error
		if c, err = s.extend(kind); err != nil {
			return Subject{}, chunkRow{}, err
		}
		s.chosen[kind] = c
	}
	i := c.given.Load()
	sub := Subject{slot: firstSlot(c.number) + Slot(i), kind: kind}
	if !c.keys[i].load(&sub.key) {
		return Subject{}, chunkRow{}, fmt.Errorf("giving out slot %d: %w", sub.slot, ErrShredded)
	}
	c.given.Store(i + 1)
	return sub, chunkRow{c.number, givenSlots{kind, i + 1}}, nil
}

// extend appends a chunk of fresh keys and fsyncs it. A crash in it leaves an unfinished chunk that the next open cuts off;
// after an error the next call writes the same place again.
func (s *slotFile) extend(kind Kind) (*chunk, error) {
	number := uint32(s.keys.len())
	if number > lastChunk {
		return nil, errors.New("extending slot file: all slot numbers are used")
	}
	c := &chunk{number: number, kind: kind, keys: new(chunkKeys)}
	buf := make([]byte, chunkSize)
	defer clear(buf)
	for i := range uint32(chunkSlots) {
		key := freshKey()
		c.keys[i].store(&key)
		encodeSlot(buf[i*slotSize:(i+1)*slotSize], firstSlot(number)+Slot(i), kind, &key)
	}
	_, err := s.file.WriteAt(buf, chunkOffset(number))
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		return nil, fmt.Errorf("extending slot file: %w", fullDisk(err))
	}
	s.keys.add(c)
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
