package subject

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/octroi/octroi/consent/state"
	"pgregory.net/rapid"
)

// readSlotFile opens path as OpenRegistry does, with what a state would know.
func readSlotFile(path string, known knownSlots) (*slotFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	stat, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s := &slotFile{file: f}
	if err := s.readHeader(stat.Size()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := s.readChunks(stat.Size(), known); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

func nothingKnown() knownSlots {
	return knownSlots{map[uint32]givenSlots{}, map[Slot]struct{}{}}
}

// filled makes a slot file with n devices and n persons.
func filled(t testing.TB, n int) (path string, subjects []Subject, known knownSlots) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "slots")
	if err := createSlotFile(path); err != nil {
		t.Fatal(err)
	}
	known = nothingKnown()
	s, err := readSlotFile(path, known)
	if err != nil {
		t.Fatal(err)
	}
	defer s.file.Close()
	for i := range 2 * n {
		sub, row, err := s.give(Device + Kind(i%2))
		if err != nil {
			t.Fatal(err)
		}
		subjects = append(subjects, sub)
		known.given[row.number] = row.givenSlots
	}
	return path, subjects, known
}

func TestSlotFileKeepsKeys(t *testing.T) {
	path, subjects, known := filled(t, 1500)
	s, err := readSlotFile(path, known)
	if err != nil {
		t.Fatal(err)
	}
	defer s.file.Close()
	seen := map[[32]byte]bool{}
	for i, want := range subjects {
		got, err := s.keys.get(want.slot)
		if err != nil || got != want || got.kind != Device+Kind(i%2) {
			t.Fatalf("slot %d: kind %d, %v", want.slot, got.kind, err)
		}
		if seen[got.key] {
			t.Fatalf("slot %d: a key twice", want.slot)
		}
		seen[got.key] = true
	}
	if n := s.keys.given(); n != 3000 {
		t.Errorf("%d slots given out, want 3000", n)
	}
	for _, slot := range []Slot{0, 5000, 1 << 31, ^Slot(0)} {
		if _, err := s.keys.get(slot); !errors.Is(err, ErrUnknown) {
			t.Errorf("slot %d: %v", slot, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// A later run never gives out what an earlier one left, whatever state says was given out.
func TestSlotsAreNeverReused(t *testing.T) {
	path, subjects, known := filled(t, 10)
	used := map[Slot]bool{}
	for _, s := range subjects {
		used[s.slot] = true
	}
	for _, g := range []map[uint32]givenSlots{known.given, {}} { // {}: state was restored from before the first subject
		s, err := readSlotFile(path, knownSlots{given: g})
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			sub, _, err := s.give(Person)
			if err != nil || used[sub.slot] {
				t.Fatalf("slot %d given out again, %v", sub.slot, err)
			}
			used[sub.slot] = true
		}
		s.file.Close()
	}
}

func TestSlotNotGivenOutIsUnknown(t *testing.T) {
	path, subjects, known := filled(t, 3)
	last := subjects[len(subjects)-1].slot
	for range 2 {
		s, err := readSlotFile(path, known)
		if err != nil {
			t.Fatal(err)
		}
		for _, slot := range []Slot{last + 1, chunkSlots, 2 * chunkSlots} {
			if _, err := s.keys.get(slot); !errors.Is(err, ErrUnknown) {
				t.Errorf("slot %d: %v", slot, err)
			}
		}
		if _, row, err := s.give(Device); err != nil || row.number < 2 {
			t.Fatal(row, err)
		} else {
			known.given[row.number] = row.givenSlots // makes the left-over of the chunks before lie in the middle
		}
		s.file.Close()
	}
}

// A crash while a chunk is appended leaves any part of it. As long as state knows nothing of it, open repairs.
func TestUnfinishedChunkIsCutOff(t *testing.T) {
	path, subjects, known := filled(t, 5)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	delete(known.given, 1) // chunk 1, the persons', was never committed
	torn := filepath.Join(t.TempDir(), "slots")
	check := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(torn, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := readSlotFile(torn, known)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer s.file.Close()
		if got, err := s.keys.get(subjects[0].slot); err != nil || got != subjects[0] {
			t.Fatalf("%s: lost a slot of the chunk before: %v", name, err)
		}
		info, err := os.Stat(torn)
		if err != nil || info.Size() != headerSize+chunkSize && info.Size() != headerSize+2*chunkSize {
			t.Fatalf("%s: %d bytes are left, %v", name, info.Size(), err)
		}
	}
	for _, at := range []int{0, 1, 16, 47, 63, 64, 511, 512, 4096, chunkSize - 1} { // cut inside every sort of field
		check(fmt.Sprintf("cut at chunk byte %d", at), content[:headerSize+chunkSize+at])
	}
	for page := range chunkSize / 4096 { // the file has its size, but a page was never written
		hole := bytes.Clone(content)
		clear(hole[headerSize+chunkSize+page*4096:][:4096])
		check(fmt.Sprintf("page %d missing", page), hole)
	}
}

// A first chunk, cut at every byte.
func TestUnfinishedChunkOfEveryLength(t *testing.T) {
	path, _, _ := filled(t, 0)
	header, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &slotFile{file: &memory{bytes.Clone(header)}}
	if _, err := s.extend(Device); err != nil {
		t.Fatal(err)
	}
	content := s.file.(*memory).content
	if len(content) != headerSize+chunkSize {
		t.Fatalf("%d bytes", len(content))
	}
	for size := headerSize; size < len(content); size++ {
		file := &memory{content[:size]}
		s := &slotFile{file: file}
		if err := s.readHeader(int64(size)); err != nil {
			t.Fatalf("cut at %d: %v", size, err)
		}
		if err := s.readChunks(int64(size), nothingKnown()); err != nil || len(file.content) != headerSize || s.keys.chunks != 0 {
			t.Fatalf("cut at %d: %d bytes and %d chunks are left, %v", size, len(file.content), s.keys.chunks, err)
		}
		given := knownSlots{given: map[uint32]givenSlots{0: {Device, 1}}}
		if err := s.readChunks(int64(size), given); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d, and state knows it: %v", size, err)
		}
	}
}

// memory is a file in memory.
type memory struct{ content []byte }

func (m *memory) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(m.content).ReadAt(b, off)
}

func (m *memory) WriteAt(b []byte, off int64) (int, error) {
	m.content = append(m.content[:off:off], b...)
	return len(b), nil
}

func (m *memory) Truncate(size int64) error { m.content = m.content[:size]; return nil }
func (m *memory) Sync() error               { return nil }
func (m *memory) Close() error              { return nil }

// The same damage in a chunk that state knows is an error that names the slot, and the file is left alone.
func TestDamageIsFound(t *testing.T) {
	path, _, known := filled(t, 5)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "slots")
	check := func(t *rapid.T, content []byte, want string) {
		if err := os.WriteFile(damaged, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, fault := readSlotFile(damaged, known)
		if !errors.Is(fault, ErrDamaged) || !strings.Contains(fault.Error(), want) {
			t.Fatalf("got %v, want %q", fault, want)
		}
		after, err := os.ReadFile(damaged)
		if err != nil || !bytes.Equal(after, content) {
			t.Fatalf("the damaged file was changed: %v", err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		flipped := bytes.Clone(content)
		at := rapid.IntRange(0, 2*chunkSize-1).Draw(t, "at")
		flipped[headerSize+at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		check(t, flipped, fmt.Sprintf("slot %d:", at/slotSize+1))
	})
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(headerSize, headerSize+2*chunkSize-1).Draw(t, "size")
		check(t, content[:size], "it ends before slot ")
	})
	rapid.Check(t, func(t *rapid.T) {
		check(t, content[:rapid.IntRange(0, headerSize-1).Draw(t, "size")], "shorter than its header")
	})
	rapid.Check(t, func(t *rapid.T) {
		flipped := bytes.Clone(content)
		flipped[rapid.IntRange(0, headerSum+3).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		check(t, flipped, "reading slot file: ")
	})
	rapid.Check(t, func(t *rapid.T) { // whole slots in each other's place
		swapped := bytes.Clone(content)
		a, b := rapid.IntRange(0, chunkSlots-1).Draw(t, "a"), rapid.IntRange(chunkSlots, 2*chunkSlots-1).Draw(t, "b")
		copy(swapped[headerSize+a*slotSize:][:slotSize], content[headerSize+b*slotSize:])
		check(t, swapped, fmt.Sprintf("slot %d:", a+1))
	})
}

func TestChunkOfTheOtherKindIsDamage(t *testing.T) {
	path, _, known := filled(t, 5)
	known.given[0], known.given[1] = known.given[1], known.given[0]
	if _, err := readSlotFile(path, known); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
}

func TestAnotherVersionIsRefused(t *testing.T) {
	path, _, known := filled(t, 1)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	header := make([]byte, headerSize)
	if _, err := f.ReadAt(header, 0); err != nil {
		t.Fatal(err)
	}
	header[11] = 2
	sealHeader(header)
	if _, err := f.WriteAt(header, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := readSlotFile(path, known); err == nil || !strings.Contains(err.Error(), "another version") {
		t.Fatal(err)
	}
}

func TestShredLeavesNoKey(t *testing.T) {
	path, subjects, known := filled(t, 600)
	s, err := readSlotFile(path, known)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(subjects); i += 3 {
		if err := s.shred(subjects[i].slot); err != nil {
			t.Fatal(err)
		}
		if err := s.shred(subjects[i].slot); err != nil {
			t.Fatalf("again: %v", err)
		}
	}
	if err := s.shred(1 << 30); !errors.Is(err, ErrDamaged) {
		t.Fatalf("a slot that is not there: %v", err)
	}
	check := func(s *slotFile) {
		t.Helper()
		for i, sub := range subjects {
			got, err := s.keys.get(sub.slot)
			if i%3 == 0 && (!errors.Is(err, ErrShredded) || got.Exists()) {
				t.Fatalf("slot %d is there after shredding: %v", sub.slot, err)
			}
			if i%3 != 0 && (err != nil || got != sub) {
				t.Fatalf("slot %d: %v", sub.slot, err)
			}
		}
	}
	check(s)
	s.file.Close()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, sub := range subjects {
		if found := bytes.Contains(content, sub.key[:]); found != (i%3 != 0) {
			t.Fatalf("slot %d: key in the file: %v", sub.slot, found)
		}
		if i%3 == 0 && bytes.Contains(content, sub.key[:8]) {
			t.Fatalf("slot %d: part of the key in the file", sub.slot)
		}
	}
	s, err = readSlotFile(path, known)
	if err != nil {
		t.Fatal(err)
	}
	defer s.file.Close()
	check(s)
}

// A shredding that power loss cut short leaves any mixture of old and new bytes; state knows of it, so open takes the slot for shredded.
func TestTornShredding(t *testing.T) {
	path, subjects, known := filled(t, 5)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	slot := subjects[4].slot
	known.shredding[slot] = struct{}{}
	var shredded [slotSize]byte
	encodeSlot(shredded[:], slot, slotShredded, new([32]byte))
	for n := range slotSize + 1 {
		torn := bytes.Clone(content)
		copy(torn[slotOffset(slot):], shredded[:n])
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := readSlotFile(path, known)
		if err != nil {
			t.Fatalf("%d bytes overwritten: %v", n, err)
		}
		if _, err := s.keys.get(slot); !errors.Is(err, ErrShredded) {
			t.Fatalf("%d bytes overwritten: %v", n, err)
		}
		s.file.Close()
	}
}

func TestNoSlotCrossesASector(t *testing.T) {
	for slot := Slot(1); slot < 5*chunkSlots; slot++ {
		if first, last := slotOffset(slot)/512, (slotOffset(slot)+slotSize-1)/512; first != last {
			t.Fatalf("slot %d lies in sectors %d and %d", slot, first, last)
		}
	}
	if lastSlot := firstSlot(lastChunk) + chunkSlots - 1; lastSlot < firstSlot(lastChunk) || lastSlot >= Slot(forgotten) {
		t.Fatalf("slot numbers run over: %d", lastSlot)
	}
}

// failing is a disk that fails: after writes more bytes of it are lost, and Sync fails when told.
type failing struct {
	blockFile
	writeErr, syncErr error
	keep              int // bytes of the failing write that reach the file
}

func (f *failing) WriteAt(b []byte, off int64) (int, error) {
	if f.writeErr != nil {
		n, _ := f.blockFile.WriteAt(b[:min(f.keep, len(b))], off)
		return n, f.writeErr
	}
	return f.blockFile.WriteAt(b, off)
}

func (f *failing) Sync() error {
	if f.syncErr != nil {
		return f.syncErr
	}
	return f.blockFile.Sync()
}

func TestFullDisk(t *testing.T) {
	path, subjects, known := filled(t, 5)
	s, err := readSlotFile(path, known)
	if err != nil {
		t.Fatal(err)
	}
	disk := &failing{blockFile: s.file}
	s.file = disk
	for _, broken := range []failing{
		{writeErr: syscall.ENOSPC, keep: 1000},
		{writeErr: syscall.EDQUOT},
		{syncErr: syscall.ENOSPC},
	} {
		disk.writeErr, disk.syncErr, disk.keep = broken.writeErr, broken.syncErr, broken.keep
		if sub, _, err := s.give(Device); !errors.Is(err, state.ErrFull) || sub.Exists() {
			t.Fatalf("a slot that is not durable: %v", err)
		}
		if err := s.shred(subjects[0].slot); !errors.Is(err, state.ErrFull) {
			t.Fatal(err)
		}
		if _, err := s.keys.get(subjects[0].slot); !errors.Is(err, ErrShredded) {
			t.Fatalf("the key is in memory while its overwriting has failed: %v", err)
		}
	}
	disk.writeErr, disk.syncErr = nil, nil
	if err := s.shred(subjects[0].slot); err != nil {
		t.Fatal(err)
	}
	sub, row, err := s.give(Device)
	if err != nil {
		t.Fatal(err)
	}
	s.file.Close()
	known.given[row.number] = row.givenSlots
	if s, err = readSlotFile(path, known); err != nil {
		t.Fatal(err)
	}
	defer s.file.Close()
	if got, err := s.keys.get(sub.slot); err != nil || got != sub {
		t.Fatal(err)
	}
	if _, err := s.keys.get(subjects[0].slot); !errors.Is(err, ErrShredded) {
		t.Fatal(err)
	}
}

// Readers see a whole key or none while it is wiped.
func TestKeyIsReadWholeOrNotAtAll(t *testing.T) {
	for range 300 {
		var k slotKey
		key := freshKey()
		k.store(&key)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for range 50 {
					var got [32]byte
					if ok := k.load(&got); ok && got != key || !ok && got != [32]byte{} {
						t.Error("half a key")
						return
					}
				}
			})
		}
		k.wipe()
		wg.Wait()
		var got [32]byte
		if k.load(&got) {
			t.Fatal("there after wiping")
		}
	}
}
