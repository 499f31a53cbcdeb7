package state

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// isFull says whether an error is that of a full disk. Badger passes on only the text of some.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		strings.Contains(err.Error(), "no space left on device") || strings.Contains(err.Error(), "disk quota exceeded")
}

// freeBytes is the space that is left for this user on dir's disk.
func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// diskBytes is the space that the files under dir take on their disk. Files that vanish meanwhile do not count.
func diskBytes(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // see above
		}
		if file, err := entry.Info(); err == nil {
			if stat, ok := file.Sys().(*syscall.Stat_t); ok {
				bytes += stat.Blocks * 512 // st_blocks counts in units of 512 bytes, stat(2)
			}
		}
		return nil
	})
	return bytes
}
