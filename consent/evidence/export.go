package evidence

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"
)

// Source is the log that WriteFolder exports; consent/state is one. The log may grow meanwhile, but leaves below a size that Tree has
// answered never change.
type Source interface {
	Tree() (size int64, root tlog.Hash, err error)
	Leaves(from, to int64) ([]Leaf, error) // the leaves [from, to)
}

// Openings calls fn for each leaf without a subject, by index ascending, and returns fn's error.
type Openings func(fn func(index int64, o Opening) error) error

// WriteFolder exports the whole log, with the openings of its leaves without a subject, into the new folder dir, and signs its head. It
// writes beside dir and renames at the end: dir exists only when the export is complete. Openings of leaves appended since the
// head are left out.
func WriteFolder(dir string, log Source, signer *Signer, openings Openings) (err error) {
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("exporting the log: %q exists already", dir)
	}
	partial, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".partial-")
	if err != nil {
		return fmt.Errorf("exporting the log: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("exporting the log: %w", err), os.RemoveAll(partial))
		}
	}()
	size, root, err := log.Tree()
	if err != nil {
		return fmt.Errorf("reading its head: %w", err)
	}
	x := folder{dir: partial, signer: signer, size: size}
	if err := x.writeTiles(log, root); err != nil {
		return err
	}
	if err := x.writeOpenings(openings); err != nil {
		return err
	}
	signed, err := signer.SignCheckpoint(size, root)
	if err != nil {
		return err
	}
	if err := x.write(checkpointFile, []byte(signed)); err != nil {
		return err
	}
	if err := os.Chmod(partial, 0o755); err != nil { // MkdirTemp makes 0700; the log is for auditors to read
		return err
	}
	return os.Rename(partial, dir)
}

// folder is an export that is being written.
type folder struct {
	dir    string
	signer *Signer
	size   int64
}

func (x *folder) writeTiles(log Source, root tlog.Hash) error {
	tiles := tiler{emit: x.write}
	var frontier Frontier
	for from := int64(0); from < x.size; from += tileWidth {
		to := min(from+tileWidth, x.size)
		leaves, err := log.Leaves(from, to)
		if err != nil {
			return fmt.Errorf("reading its leaves: %w", err)
		}
		if int64(len(leaves)) != to-from {
			return fmt.Errorf("%w: leaves are missing", ErrFolder)
		}
		if err := x.write(bundlePath(from/tileWidth, len(leaves)), appendBundle(nil, leaves)); err != nil {
			return err
		}
		for _, leaf := range leaves {
			frontier.Append(leaf, nil)
			if err := tiles.add(0, leaf.Hash()); err != nil {
				return err
			}
		}
	}
	if frontier.Root() != root {
		return fmt.Errorf("%w: its leaves have another root than its head", ErrFolder)
	}
	return tiles.finish()
}

func (x *folder) writeOpenings(openings Openings) (err error) {
	f, err := os.Create(filepath.Join(x.dir, openingsFile))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	digest := openingsDigest{size: x.size, sum: sha256.New()}
	buffered := bufio.NewWriter(f)
	w, last := io.MultiWriter(buffered, digest.sum), int64(-1)
	err = openings(func(index int64, o Opening) error {
		if index <= last {
			return fmt.Errorf("%w: openings out of order", ErrFormat)
		}
		last = index
		if index >= x.size {
			return nil
		}
		line, err := writeOpening(index, o)
		if err != nil {
			return err
		}
		digest.count++
		_, err = w.Write(line)
		return err
	})
	if err != nil {
		return fmt.Errorf("writing openings: %w", err)
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("writing openings: %w", err)
	}
	signed, err := x.signer.sign(digest.text(x.signer.verifier.Origin()))
	if err != nil {
		return err
	}
	return x.write(openingsNoteFile, []byte(signed))
}

func (x *folder) write(path string, content []byte) error {
	path = filepath.Join(x.dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}
