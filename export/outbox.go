package export

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// file is a file being written.
type file interface {
	io.WriteCloser
	Sync() error
}

// files is the part of the operating system that changes an outbox.
type files interface {
	Create(path string) (file, error)
	Rename(from, to string) error // durable when it returns
	Remove(path string) error
}

// disk is the operating system.
type disk struct{}

func (disk) Create(path string) (file, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (disk) Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (disk) Remove(path string) error { return os.Remove(path) }

// outbox is the folder of sealed objects that the store does not have yet:
//
//	<batch id, 32 hex>.tmp   being written; worth nothing after a crash
//	<batch id, 32 hex>.age   complete and durable; counts when the intent of its batch is committed, else worth nothing
//
// Other names are left alone. Safe for concurrent use.
type outbox struct {
	dir   string
	files files

	mu    sync.Mutex
	sizes map[BatchID]int64 // of files whose intent is committed; guarded by mu
	bytes int64             // sum of sizes; guarded by mu
}

func openOutbox(dir string, f files) (*outbox, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &outbox{dir: dir, files: f, sizes: make(map[BatchID]int64)}, nil
}

func (b *outbox) path(id BatchID, suffix string) string {
	return filepath.Join(b.dir, id.String()+suffix)
}

// create begins the file of a batch.
func (b *outbox) create(id BatchID) (*parcel, error) {
	f, err := b.files.Create(b.path(id, ".tmp"))
	if err != nil {
		return nil, err
	}
	return &parcel{outbox: b, id: id, file: f, hash: sha256.New()}, nil
}

// open reads a complete file.
func (b *outbox) open(id BatchID) (*os.File, error) { return os.Open(b.path(id, ".age")) }

// add counts a file whose intent is committed.
func (b *outbox) add(id BatchID, size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.sizes[id]; !ok {
		b.sizes[id] = size
		b.bytes += size
	}
}

// remove deletes a batch's file; one that is gone already is no error.
func (b *outbox) remove(id BatchID) error {
	if err := b.files.Remove(b.path(id, ".age")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes -= b.sizes[id]
	delete(b.sizes, id)
	return nil
}

func (b *outbox) waiting() (objects int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.sizes), b.bytes
}

// sweep deletes drafts and the complete files that keep does not want, and counts the others.
func (b *outbox) sweep(keep func(BatchID) (bool, error)) error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, suffix, _ := strings.Cut(e.Name(), ".")
		id, err := ParseBatchID(name)
		if err != nil || (suffix != "tmp" && suffix != "age") {
			continue
		}
		wanted := false
		if suffix == "age" {
			if wanted, err = keep(id); err != nil {
				return err
			}
		}
		if !wanted {
			if err := b.discard(id, suffix); err != nil {
				return err
			}
			continue
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		b.add(id, fi.Size())
	}
	return nil
}

func (b *outbox) discard(id BatchID, suffix string) error {
	if suffix == "age" {
		return b.remove(id)
	}
	return b.files.Remove(b.path(id, "."+suffix))
}

// parcel is an outbox file being written. It hashes what goes through.
type parcel struct {
	outbox *outbox
	id     BatchID
	file   file
	hash   interface {
		io.Writer
		Sum([]byte) []byte
	}
	size int64
}

func (p *parcel) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	p.hash.Write(b[:n])
	p.size += int64(n)
	return n, err
}

// close makes the file durable under its final name.
func (p *parcel) close() (size int64, sha [32]byte, err error) {
	err = p.file.Sync()
	// Crash here: a .tmp is left, which the next start deletes.
	if err = errors.Join(err, p.file.Close()); err == nil {
		err = p.outbox.files.Rename(p.outbox.path(p.id, ".tmp"), p.outbox.path(p.id, ".age"))
	}
	// Crash here: an .age without an intent is left, which the next start deletes; the cursor has not moved.
	if err != nil {
		return 0, sha, fmt.Errorf("writing outbox file: %w", err)
	}
	return p.size, [32]byte(p.hash.Sum(nil)), nil
}

// abandon deletes the draft. What it cannot delete the next sweep will.
func (p *parcel) abandon() error {
	err := p.file.Close()
	if errors.Is(err, fs.ErrClosed) {
		err = nil
	}
	for _, suffix := range []string{".tmp", ".age"} {
		if rerr := p.outbox.files.Remove(p.outbox.path(p.id, suffix)); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}
