package load

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
)

// files is the part of the operating system that changes a folder.
type files interface {
	Create(path string) (file, error)
	Rename(from, to string) error // durable when it returns
	Remove(path string) error     // too; of what is not there it is no error
}

// file is a file being written.
type file interface {
	io.WriteCloser
	Sync() error
}

// disk is the operating system.
type disk struct{}

func (disk) Create(path string) (file, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
}

func (disk) Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(to))
}

func (disk) Remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncFolder(filepath.Dir(path)))
}

// rowWriter writes rows in one format.
type rowWriter interface {
	Write(rows []pseudonymize.Row) error
	Close() error
}

// stagedFile is a file of rows on its way into the folder.
type stagedFile struct {
	name   string // below stagedFolder
	file   file
	buffer *bufio.Writer
	hash   hash.Hash
	rows   rowWriter
	piece  []pseudonymize.Row
	count  int
}

// stage begins a file under a name that no other ever has: what a crash left is never mistaken for it.
func (f *folder) stage() (*stagedFile, error) {
	s := &stagedFile{name: rand.Text(), hash: sha256.New()}
	var err error
	if s.file, err = f.files.Create(filepath.Join(f.dir, stagedFolder, s.name)); err != nil {
		return nil, fmt.Errorf("creating output: %w", err)
	}
	s.buffer = bufio.NewWriterSize(io.MultiWriter(s.file, s.hash), 256<<10)
	if f.format == Parquet {
		s.rows = export.NewRowWriter(s.buffer)
	} else {
		s.rows = &lineWriter{w: s.buffer}
	}
	return s, nil
}

// add writes one row. What it points to must stay as it is.
func (s *stagedFile) add(row *pseudonymize.Row) error {
	s.count++
	if s.piece = append(s.piece, *row); len(s.piece) < pieceRows {
		return nil
	}
	return s.flush()
}

func (s *stagedFile) flush() error {
	if err := s.rows.Write(s.piece); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	s.piece = s.piece[:0]
	return nil
}

// finish makes the file whole and durable, under its staged name; sum is its hash.
func (s *stagedFile) finish() (sum string, err error) {
	if err := s.flush(); err != nil {
		return "", err
	}
	if err := errors.Join(s.rows.Close(), s.buffer.Flush()); err != nil {
		return "", fmt.Errorf("writing output: %w", err)
	}
	if err := errors.Join(s.file.Sync(), s.file.Close()); err != nil {
		return "", fmt.Errorf("writing output: %w", err)
	}
	return hex.EncodeToString(s.hash.Sum(nil)), nil
}

// readRows calls fn with the rows of a file whose hash is sum: ErrChanged where it is another's, or where there is no file.
func (f *folder) readRows(path, sum string, fn func([]pseudonymize.Row) error) error {
	r, err := os.Open(filepath.Join(f.dir, path))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: it is not there", path, ErrChanged)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	size, err := io.Copy(h, r)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if hex.EncodeToString(h.Sum(nil)) != sum {
		return fmt.Errorf("%s: %w", path, ErrChanged)
	}
	if f.format == Parquet {
		err = export.DecodeRows(r, size, fn)
	} else if _, err = r.Seek(0, io.SeekStart); err == nil {
		err = readLines(r, fn)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

// makeFolders makes folders below root one by one and syncs each into the one above.
func makeFolders(root, below string) error {
	at := root
	for part := range strings.SplitSeq(filepath.ToSlash(below), "/") {
		parent := at
		at = filepath.Join(at, part)
		err := os.Mkdir(at, 0o750)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := syncFolder(parent); err != nil {
			return err
		}
	}
	return nil
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
