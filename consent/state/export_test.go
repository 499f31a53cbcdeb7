package state

import "io"

// Seams for the tests of this package.

// SetFree replaces what asks for the free space of the disk. Call it before the first Update.
func (s *Store) SetFree(free func(string) (int64, error)) { s.free = free }

// Break makes every later commit fail, as a broken disk does: Badger's transactions are refused from now on.
func (s *Store) Break() { s.db.Close() }

// SetVersion changes the stored format version as another program would.
func (s *Store) SetVersion(version byte) error {
	number := s.committed.version + 1
	rows := map[string]row{rowVersion: {value: []byte{0, 0, 0, 0, 0, 0, 0, version}}}
	if err := commitRows(s.db, rows, number); err != nil {
		return err
	}
	return s.committed.write(number)
}

// EntryEnd is where the entry of a log at an offset ends; false where none reads.
func EntryEnd(log []byte, at int) (int, bool) {
	e, ok := parseEntry(log, at)
	return e.end, ok
}

// CutSized is what tables are cut up by.
var CutSized = cutSized

// ReadBackup reads a backup; only what it says of itself.
func ReadBackup(r io.Reader, key []byte) (rows uint64, err error) {
	t, err := readBackup(r, key, func(_, _ []byte) error { return nil })
	return t.rows, err
}
