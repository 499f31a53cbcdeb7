package state_test

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/octroi/octroi/consent/state"
)

// committed is the file as it stands before the first group.
func committed(version uint64) []byte {
	content := binary.BigEndian.AppendUint64([]byte("octrcmt1"), version)
	return binary.BigEndian.AppendUint32(content, crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)))
}

func write(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A process that ended while it made the database has acknowledged nothing: the next one starts over.
func TestOpenAfterInterruptedCreation(t *testing.T) {
	for name, files := range map[string]map[string][]byte{
		"only the file":   {"committed": nil},
		"before Badger":   {"committed": committed(0)},
		"half a database": {"committed": committed(0), "MANIFEST": []byte("Bdg"), "KEYREGISTRY": nil, "000001.vlog": nil, "00001.mem": nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, files)
			write(t, dir, map[string][]byte{"other": []byte("kept")})
			s := open(t, dir)
			set(t, s, "c/1", "one")
			if _, err := os.Stat(filepath.Join(dir, "other")); err != nil {
				t.Errorf("a file that is not the database's is gone: %v", err)
			}
		})
	}
}

// A process may end between making a log file and giving it its size.
func TestOpenWithStubs(t *testing.T) {
	killed, _ := makeStates(t)
	write(t, killed, map[string][]byte{"00099.mem": nil, "000099.vlog": nil})
	if got := stored(t, open(t, killed), "c/"); len(got) != 60 {
		t.Errorf("%d rows, want 60", len(got))
	}
}

// A group that was on disk but not noted as acknowledged counts; its number is not given twice.
func TestOpenAfterUnacknowledgedGroup(t *testing.T) {
	killed, _ := makeStates(t)
	write(t, killed, map[string][]byte{"committed": committed(5)})
	s := open(t, killed)
	set(t, s, "c/new", "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := stored(t, open(t, killed), "c/")
	if len(got) != 61 || !slices.Contains(got, "c/new=1") {
		t.Errorf("%d rows, want 61", len(got))
	}
}

// Rows that are deleted last, and then compacted away, do not make the database look rolled back.
func TestDeletedRowsAreNotMissed(t *testing.T) {
	dir := t.TempDir()
	for range 8 {
		s := open(t, dir)
		set(t, s, "c/1", "one")
		update(t, s, func(txn *state.Txn) error { txn.Delete([]byte("c/1")); return nil })
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := stored(t, open(t, dir), "c/"); len(got) != 0 {
		t.Errorf("rows %q", got)
	}
}

func FuzzLogEntry(f *testing.F) {
	// An entry without key or value cannot be; one with a key of one byte, and its checksum.
	entry := []byte{0x40, 0, 1, 0, 0, 'k'}
	f.Add(binary.BigEndian.AppendUint32(entry, crc32.Checksum(entry, crc32.MakeTable(crc32.Castagnoli))), 0)
	f.Add([]byte{0x80, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 0)
	f.Add([]byte{1, 2, 1, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0}, 0)
	f.Fuzz(func(t *testing.T, log []byte, at int) {
		if at < 0 || at > len(log) {
			return
		}
		if end, ok := state.EntryEnd(log, at); ok && (end <= at || end > len(log)) {
			t.Fatalf("an entry from %d to %d in %d bytes", at, end, len(log))
		}
	})
}

func FuzzCutSized(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0, 0, 0, 2})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, content []byte) {
		if rest, part, ok := state.CutSized(content); ok && len(rest)+len(part)+4 != len(content) {
			t.Fatal("bytes got lost")
		}
	})
}
