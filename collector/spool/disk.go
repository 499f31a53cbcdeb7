package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// file is an open segment or index. Sync makes its contents and length durable (fdatasync where there is one).
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
	Size() (int64, error)
}

// disk is the directory of the spool.
type disk interface {
	// Create makes a new file; fs.ErrExist where there is one.
	Create(name string) (file, error)
	// Open opens a file, to append to it where write is set.
	Open(name string, write bool) (file, error)
	Rename(from, to string) error
	Remove(name string) error
	// Names of all files.
	Names() ([]string, error)
	// Sync makes creations, renamings and removals durable.
	Sync() error
}

// folder is the disk that a directory is.
type folder struct{ root *os.Root }

func (d folder) Create(name string) (file, error) {
	return openFile(d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600))
}

func (d folder) Open(name string, write bool) (file, error) {
	flag := os.O_RDONLY
	if write {
		flag = os.O_RDWR
	}
	return openFile(d.root.OpenFile(name, flag, 0))
}

// openFile keeps a nil *os.File from becoming a file that is not nil.
func openFile(f *os.File, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (d folder) Rename(from, to string) error { return d.root.Rename(from, to) }
func (d folder) Remove(name string) error     { return d.root.Remove(name) }

func (d folder) Names() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (d folder) Sync() error {
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

type diskFile struct{ *os.File }

func (f diskFile) Sync() error { return dataSync(f.File) }

func (f diskFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// createDraft makes a new file under a name that nobody relies on, in place of one that a failure may have left.
func createDraft(d disk, name string) (file, error) {
	if err := remove(d, name); err != nil {
		return nil, err
	}
	return d.Create(name)
}

// remove deletes a file, and is content if there is none.
func remove(d disk, name string) error {
	if err := d.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// full says whether err is a disk, or a quota, without room.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// asFull turns an error of a disk without room into ErrFull.
func asFull(err error) error {
	if full(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// takeLock makes sure that one process at a time has the spool open. The kernel gives the lock back when the process ends, however it ends.
func takeLock(root *os.Root) (io.Closer, error) {
	f, err := root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, err
	}
	return f, nil
}
