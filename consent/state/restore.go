package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/octroi/octroi/consent/evidence"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"
)

// restoring is what the folder of a state is called, beside its place, while it is being restored. No store opens it.
const restoring = ".restoring"

// Restore makes the state in dir out of a backup, under the same state key. dir must be empty or not exist, and its parent must be on the same file
// system. It is all or nothing: everything is written beside dir, read back, held against the trailer and the evidence log's tree, and renamed at
// the end. ErrNotEmpty, ErrBackup, ErrKey, ErrVersion, ErrFull, or r's error; then dir is as it was.
func Restore(dir string, key []byte, r io.Reader) (err error) {
	dir = filepath.Clean(dir)
	building := dir + restoring
	defer func() {
		if err != nil {
			err = fmt.Errorf("restoring state: %w", err)
		}
	}()
	if len(key) != 32 {
		return fmt.Errorf("%w: it is not 32 bytes long", ErrKey)
	}
	if err := checkEmpty(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(building); err != nil { // of a restore that was cut off
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(building))
		}
	}()
	o := Options{Dir: building, Key: key}
	trailer, err := fill(o, r)
	if err != nil {
		return err
	}
	if err := verify(o, trailer); err != nil {
		return err
	}
	if err := syncFiles(building); err != nil {
		return err
	}
	// Crash here: dir is as it was, and the next restore begins anew.
	if err := unix.Rename(building, dir); err != nil { // which replaces an empty folder; os.Rename does not
		return fmt.Errorf("putting it in place: %w", err)
	}
	// Crash here: dir is restored; whoever asked does not know, and is told that it is not empty.
	return syncPath(filepath.Dir(dir))
}

func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		return ErrNotEmpty
	}
	return err
}

// fill writes the rows of a backup into a new database, in groups as the writer does.
func fill(o Options, r io.Reader) (t backupTrailer, err error) {
	s := &Store{options: o, logger: &logger{}}
	if err := s.open(); err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, s.db.Close(), s.committed.Close()) }()
	g := new(overlay)
	flush := func() error {
		if free, err := freeBytes(o.Dir); err != nil {
			return err
		} else if free < defaultReserve {
			return ErrFull
		}
		number := s.committed.version + 1
		if err := commitRows(s.db, g.rows, number); err != nil {
			return err
		}
		g = new(overlay)
		return s.committed.write(number)
	}
	t, err = readBackup(r, o.Key, func(key, value []byte) error {
		g.set(key, value)
		if g.bytes < groupBytes {
			return nil
		}
		return flush()
	})
	if err != nil {
		return t, err
	}
	return t, flush()
}

// verify opens the database as a gateway would, and reads everything back.
func verify(o Options, t backupTrailer) (err error) {
	s, err := Open(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if size, root, err := s.Tree(); err != nil || uint64(size) != t.size || root != t.root {
		return errors.Join(err, fmt.Errorf("%w: its evidence log has another head than it says", ErrBackup))
	}
	var rows uint64
	err = s.View(func(r Reader) error {
		return r.Scan(nil, func(key, _ []byte) error {
			if !own(key) {
				rows++
			}
			return nil
		})
	})
	if err == nil && rows != t.rows {
		err = fmt.Errorf("%w: %d rows of %d", ErrBackup, rows, t.rows)
	}
	if err != nil {
		return err
	}
	return s.verifyLog()
}

// verifyLog computes the tree from its leaves, and holds every stored hash against it.
func (s *Store) verifyLog() error {
	const chunk = 4096
	size, root, err := s.Tree()
	if err != nil {
		return err
	}
	var frontier evidence.Frontier
	for from := int64(0); from < size; from += chunk {
		leaves, err := s.Leaves(from, min(from+chunk, size))
		if err != nil {
			return err
		}
		err = s.View(func(r Reader) error {
			var wrong error
			for _, leaf := range leaves {
				frontier.Append(leaf, func(index int64, hash tlog.Hash) {
					stored, err := storedHashes{r}.ReadHashes([]int64{index})
					if err == nil && stored[0] != hash {
						err = fmt.Errorf("hash %d of the evidence log: %w", index, ErrDamaged)
					}
					wrong = errors.Join(wrong, err)
				})
				if wrong != nil {
					return wrong
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if frontier.Root() != root {
		return fmt.Errorf("root of the evidence log: %w", ErrDamaged)
	}
	return nil
}

// syncFiles syncs every file of a folder and the folder: its new name must not reach the disk before what it names.
func syncFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := syncPath(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return syncPath(dir)
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
