package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

const (
	rowVersion    = "v/"
	rowGroup      = "v/g"
	formatVersion = 1
)

// open brings the store up to where the writer can start. Nothing in the folder is changed before it was found whole.
func (s *Store) open() (err error) {
	o := s.options
	if len(o.Key) != 32 {
		return fmt.Errorf("%w: it is not 32 bytes long", ErrKey)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return err
	}
	if s.committed, err = openCommitted(o.Dir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.committed.Close())
		}
	}()
	if s.committed.version == 0 { // nothing was ever acknowledged: what is there was left by a process that ended in the middle of this
		err = removeFiles(o.Dir, isBadger)
	} else if err = examine(o.Dir, o.Key, s.committed.version); err == nil {
		err = removeFiles(o.Dir, isStub)
	}
	if err != nil {
		return err
	}
	if s.db, err = openBadger(badgerOptions(o, s.logger)); err != nil {
		return err
	}
	if err := s.load(); err != nil {
		return errors.Join(err, s.db.Close())
	}
	return nil
}

// openBadger opens the database; a panic of Badger's over a corrupt file is ErrDamaged.
func openBadger(b badger.Options) (db *badger.DB, err error) {
	defer func() {
		if recover() != nil {
			db, err = nil, ErrDamaged
		}
	}()
	db, err = badger.Open(b)
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, badger.ErrEncryptionKeyMismatch):
		return nil, ErrKey
	case strings.Contains(err.Error(), "directory lock"):
		return nil, ErrLocked
	case isFull(err):
		return nil, ErrFull
	case errors.Is(err, os.ErrPermission) || strings.Contains(err.Error(), "permission denied"):
		return nil, os.ErrPermission
	default:
		return nil, ErrDamaged
	}
}

// load checks the database's format and that it holds all that was acknowledged, and reads the evidence log's head.
func (s *Store) load() error {
	if err := s.checkFormat(); err != nil {
		return err
	}
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	number, err := readNumber(snapshot{txn}, rowGroup)
	if err != nil {
		return err
	}
	if number != txn.ReadTs() || number < s.committed.version {
		return fmt.Errorf("%w: it ends at group %d, but group %d was acknowledged", ErrDamaged, number, s.committed.version)
	}
	// A group that was durable and not acknowledged when the process ended counts from now on.
	if err := s.committed.write(number); err != nil {
		return err
	}
	h, err := readHead(snapshot{txn})
	if err != nil {
		return err
	}
	s.head.Store(h)
	return nil
}

// checkFormat checks the format version; it writes it where the database is new.
func (s *Store) checkFormat() error {
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	if txn.ReadTs() == 0 && s.committed.version == 0 {
		version := binary.BigEndian.AppendUint64(nil, formatVersion)
		return commitRows(s.db, map[string]row{rowVersion: {value: version}}, 1)
	}
	version, err := readNumber(snapshot{txn}, rowVersion)
	if err != nil {
		return err
	}
	if version != formatVersion {
		return fmt.Errorf("%w: %d, this program reads %d", ErrVersion, version, formatVersion)
	}
	return nil
}

func readNumber(r Reader, key string) (uint64, error) {
	value, err := r.Get([]byte(key))
	if errors.Is(err, ErrNotFound) || err == nil && len(value) != 8 {
		return 0, fmt.Errorf("%w: the row %q", ErrDamaged, key)
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(value), nil
}

// isBadger says whether a file is of the database.
func isBadger(name string, _ int64) bool {
	switch filepath.Ext(name) {
	case ".mem", ".sst", ".vlog":
		return true
	}
	switch name {
	case badger.ManifestFilename, "MANIFEST-REWRITE", badger.KeyRegistryFileName, badger.KeyRegistryRewriteFileName, "DISCARD", "LOCK":
		return true
	}
	return false
}

// isStub says whether a file was made and not written to when the process ended. Badger refuses to open one.
func isStub(name string, size int64) bool {
	return size == 0 && (strings.HasSuffix(name, ".mem") || strings.HasSuffix(name, ".vlog"))
}

// removeFiles removes those files of the database that which names.
func removeFiles(dir string, which func(name string, size int64) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		file, err := entry.Info()
		if err != nil {
			return err
		}
		if !file.Mode().IsRegular() || !which(entry.Name(), file.Size()) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}
