package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"
)

// committedFile holds the number of the last acknowledged group, beside the database, v1:
//
//	"octrcmt1" ‖ u64 number of the group, big endian ‖ u32 CRC-32C of the 16 bytes before
//
// Badger replays its log up to the first entry that does not read, and cuts off the rest without a word: one flipped byte would take back
// acknowledged changes unseen. The number shows it (examine). It is written after the group is durable and is not synced itself: a kill keeps it,
// and after a power loss it may be lower than the truth, never higher. The open file holds the lock of the folder.
type committedFile struct {
	file    *os.File
	version uint64 // as read or last written; owned by the writer
}

const (
	committedName  = "committed"
	committedMagic = "octrcmt1"
	committedSize  = 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openCommitted locks the folder and reads the file. It makes the file where there is no database yet; missing beside a database it is damage.
func openCommitted(dir string) (*committedFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, committedName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	c := &committedFile{file: f}
	if err := c.lockAndRead(dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return c, nil
}

func (c *committedFile) lockAndRead(dir string) error {
	err := unix.Flock(int(c.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("locking state: %w", err)
	}
	content := make([]byte, committedSize+1)
	n, err := c.file.ReadAt(content, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n == 0 {
		_, err := os.Lstat(filepath.Join(dir, badger.ManifestFilename))
		if errors.Is(err, os.ErrNotExist) {
			return c.create()
		}
		return fmt.Errorf("%w: the file %q is missing or empty", ErrDamaged, committedName)
	}
	if content = content[:n]; n != committedSize || string(content[:8]) != committedMagic ||
		crc32.Checksum(content[:16], castagnoli) != binary.BigEndian.Uint32(content[16:]) {
		return fmt.Errorf("%w: the file %q", ErrDamaged, committedName)
	}
	c.version = binary.BigEndian.Uint64(content[8:])
	return nil
}

// create writes the file for good, so that from now on its absence is damage.
func (c *committedFile) create() error {
	if err := c.write(0); err != nil {
		return err
	}
	if err := c.file.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(c.file.Name()))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (c *committedFile) write(version uint64) error {
	content := binary.BigEndian.AppendUint64([]byte(committedMagic), version)
	content = binary.BigEndian.AppendUint32(content, crc32.Checksum(content, castagnoli))
	if _, err := c.file.WriteAt(content, 0); err != nil {
		return fmt.Errorf("noting the last group: %w", err)
	}
	c.version = version
	return nil
}

// Close unlocks the folder.
func (c *committedFile) Close() error { return c.file.Close() }
