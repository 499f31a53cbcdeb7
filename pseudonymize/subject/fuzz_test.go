package subject

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzSlotFile opens a file of any bytes, with and without a state that knows its first chunk: an answer or an error, and never a key that no
// checksum covers.
func FuzzSlotFile(f *testing.F) {
	file := &memory{}
	path, _, _ := filled(f, 0)
	s, err := readSlotFile(path, nothingKnown())
	if err != nil {
		f.Fatal(err)
	}
	header := make([]byte, headerSize)
	if _, err := s.file.ReadAt(header, 0); err != nil {
		f.Fatal(err)
	}
	_ = s.file.Close()
	file.content = header
	s = &slotFile{file: file}
	if _, err := s.extend(Device); err != nil {
		f.Fatal(err)
	}
	whole := file.content
	f.Add(0, byte(0), len(whole))
	f.Add(3, byte(1), headerSize)
	f.Add(headerSize+20, byte(0x80), len(whole))
	f.Add(headerSize+chunkSize-1, byte(0xff), len(whole)-1)
	f.Add(9000, byte(0), 10)
	f.Fuzz(func(t *testing.T, at int, flip byte, size int) {
		if size < 0 || size > len(whole) {
			return
		}
		content := bytes.Clone(whole[:size])
		changed := at >= 0 && at < size && flip != 0 && (at < headerSum+4 || at >= headerSize)
		if at >= 0 && at < size {
			content[at] ^= flip
		}
		for _, known := range []knownSlots{nothingKnown(), {given: map[uint32]givenSlots{0: {Device, 3}}}} {
			s := &slotFile{file: &memory{bytes.Clone(content)}}
			err := s.readHeader(int64(size))
			if err == nil {
				err = s.readChunks(int64(size), known)
			}
			if known.given[0].n == 0 {
				continue
			}
			if (err != nil) != (changed || size < len(whole)) {
				t.Fatalf("flip %#x at %d of %d bytes: %v", flip, at, size, err)
			}
			if _, missing := s.keys.get(1); err != nil && !errors.Is(missing, ErrUnknown) {
				t.Fatal("a slot of a refused file was taken")
			}
		}
	})
}

func FuzzDecodeClaims(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{rowVersion})
	f.Add(encodeClaims([]claim{{email, Tag{1}}, {user, Tag{2}}}))
	f.Add(append([]byte{rowVersion, 9}, make([]byte, 16)...))
	f.Fuzz(func(t *testing.T, row []byte) {
		claims, err := decodeClaims(row)
		if err != nil {
			if !errors.Is(err, ErrDamaged) || claims != nil {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(encodeClaims(claims), row) {
			t.Fatal("two encodings of one list")
		}
	})
}
