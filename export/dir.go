package export

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Dir is an object store in a folder, for one machine: the demo, tests, and sites that move the objects on by other means. Objects are
// files named by their keys. It has no versions: Put answers "", and Get knows only "". It is safe for concurrent use, also by
// several processes; the file system must have hard links.
type Dir struct{ root *os.Root }

// dirTemporary holds objects that are being written, each locked (flock) by its writer. A crash may leave files here; no key leads to them, and
// Check and AbortUploads remove those that nobody holds.
const dirTemporary = ".octroi-tmp"

// OpenDir opens an existing folder as a store; a missing one is ErrRefused. Links that lead out of it are not followed.
func OpenDir(folder string) (*Dir, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("opening object folder %q: %w", folder, dirError(err))
	}
	return &Dir{root: root}, nil
}

// Close closes the folder; objects being read stay readable.
func (d *Dir) Close() error { return d.root.Close() }

// Put writes a temporary file, syncs it and links it to its key: a link, unlike a rename, never replaces what is there, so this is
// If-None-Match. A crash before the link leaves a temporary file; one after it is a Put that has happened, and repeats as such.
func (d *Dir) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, sum [32]byte) (version string, err error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	temporary, name, err := d.write(body, size, sum)
	if err != nil {
		return "", fmt.Errorf("putting object: %w", dirError(err))
	}
	defer temporary.Close()
	defer d.root.Remove(name) // a second name of the object, or the only one of a failure
	if err := d.makeParents(path.Dir(key)); err != nil {
		return "", fmt.Errorf("putting object: %w", dirError(err))
	}
	err = d.root.Link(name, key)
	if errors.Is(err, fs.ErrExist) {
		return "", d.same(ctx, key, size, sum)
	}
	if err == nil {
		err = d.sync(path.Dir(key))
	}
	if err != nil {
		return "", fmt.Errorf("putting object: %w", dirError(err))
	}
	return "", nil
}

// write makes a temporary file of body; it is locked until the caller closes it.
func (d *Dir) write(body io.ReadSeeker, size int64, sum [32]byte) (f *os.File, name string, err error) {
	f, name, err = d.create()
	if err != nil {
		return nil, "", err
	}
	err = copyExactly(f, body, size, sum)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		d.root.Remove(name)
		return nil, "", errors.Join(err, f.Close())
	}
	return f, name, nil
}

// create makes an empty temporary file and locks it. Between the two somebody may take it for abandoned: then it makes another.
func (d *Dir) create() (f *os.File, name string, err error) {
	if err := d.root.MkdirAll(dirTemporary, 0o750); err != nil {
		return nil, "", err
	}
	for {
		name = dirTemporary + "/" + rand.Text()
		f, err = d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
		if err != nil {
			return nil, "", err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			_, err = d.root.Lstat(name)
		}
		if err == nil {
			return f, name, nil
		}
		f.Close()
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, "", err
		}
	}
}

// copyExactly copies body from its beginning; ErrDigest unless it has the size and the hash.
func copyExactly(w io.Writer, body io.ReadSeeker, size int64, sum [32]byte) error {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("reading what is to be stored: %w", err)
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(body, size+1))
	if err != nil {
		return err
	}
	if n != size || !hasSum(h, sum) {
		return ErrDigest
	}
	return nil
}

func hasSum(h hash.Hash, sum [32]byte) bool { return [32]byte(h.Sum(nil)) == sum }

// same says whether the object that is there already is the one to be put. Its names are synced either way: the Put that made it may
// have been cut off before it did so.
func (d *Dir) same(ctx context.Context, key string, size int64, sum [32]byte) error {
	r, err := d.Get(ctx, key, "")
	if err != nil {
		return err
	}
	defer r.Close()
	if err := sameBytes(r, size, sum); err != nil {
		return err
	}
	if err := d.sync(path.Dir(key)); err != nil {
		return fmt.Errorf("putting object: %w", dirError(err))
	}
	return nil
}

// sameBytes is nil where r holds the bytes of the hash, ErrExists where it holds others.
func sameBytes(r io.Reader, size int64, sum [32]byte) error {
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(r, size+1))
	if err != nil {
		return fmt.Errorf("comparing object: %w", err)
	}
	if n != size || !hasSum(h, sum) {
		return ErrExists
	}
	return nil
}

// makeParents makes a key's folders and syncs each into the one above.
func (d *Dir) makeParents(folder string) error {
	if folder == "." {
		return nil
	}
	if _, err := d.root.Stat(folder); err == nil {
		return nil
	}
	if err := d.makeParents(path.Dir(folder)); err != nil {
		return err
	}
	if err := d.root.Mkdir(folder, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.sync(path.Dir(folder))
}

func (d *Dir) sync(folder string) error {
	f, err := d.root.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Get opens the object.
func (d *Dir) Get(ctx context.Context, key, version string) (io.ReadCloser, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if version != "" {
		return nil, fmt.Errorf("getting object: %w: a folder keeps no versions", ErrNoObject)
	}
	f, err := d.root.Open(key)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("getting object: %w", ErrNoObject)
	}
	if err != nil {
		return nil, fmt.Errorf("getting object: %w", dirError(err))
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("getting object: %w", ErrNoObject)
	}
	return f, nil
}

// List calls fn for each object. Folders are read as they are reached; an object put meanwhile may or may not be seen.
func (d *Dir) List(ctx context.Context, prefix, after string, fn func(key string, size int64) error) error {
	return d.list(ctx, ".", dirRange{prefix, after}, fn)
}

// dirRange is what a listing asks for.
type dirRange struct{ prefix, after string }

// holds says whether keys that begin with the folder's name may be in the range.
func (r dirRange) holds(folder string) bool {
	return (strings.HasPrefix(folder, r.prefix) || strings.HasPrefix(r.prefix, folder)) &&
		(folder > r.after || strings.HasPrefix(r.after, folder))
}

func (d *Dir) list(ctx context.Context, folder string, r dirRange, fn func(string, int64) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := fs.ReadDir(d.root.FS(), folder)
	if errors.Is(err, fs.ErrNotExist) && folder != "." {
		return nil // removed meanwhile
	}
	if err != nil {
		return fmt.Errorf("listing objects: %w", dirError(err))
	}
	// Key order is the order of whole keys: a folder counts as its name and the slash.
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		switch name := path.Join(folder, e.Name()); {
		case strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			names = append(names, name+"/")
		case e.Type().IsRegular():
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := d.listOne(ctx, name, r, fn); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dir) listOne(ctx context.Context, name string, r dirRange, fn func(string, int64) error) error {
	if folder, ok := strings.CutSuffix(name, "/"); ok {
		if !r.holds(name) {
			return nil
		}
		return d.list(ctx, folder, r, fn)
	}
	if name <= r.after || !strings.HasPrefix(name, r.prefix) {
		return nil
	}
	info, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing objects: %w", dirError(err))
	}
	return fn(name, info.Size())
}

// Versions calls fn for each object: its one version is "".
func (d *Dir) Versions(ctx context.Context, prefix string, fn func(ObjectVersion) error) error {
	if err := checkPrefix(prefix); err != nil {
		return err
	}
	return d.List(ctx, prefix, "", func(key string, size int64) error {
		return fn(ObjectVersion{Key: key, Current: true, Size: size})
	})
}

// DeleteVersion removes the file, and syncs its folder: also where it is gone, since the removal may have been cut off before that.
func (d *Dir) DeleteVersion(ctx context.Context, key, version string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if version != "" {
		return fmt.Errorf("deleting version: %w: a folder keeps no versions", ErrRefused)
	}
	info, err := d.root.Lstat(key)
	if err == nil && !info.Mode().IsRegular() {
		return nil // no object
	}
	if err == nil {
		err = d.root.Remove(key)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = d.sync(path.Dir(key))
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting version: %w", dirError(err))
	}
	return nil
}

// AbortUploads removes the temporary files of writers that are no more, whatever the key: they do not tell it.
func (d *Dir) AbortUploads(ctx context.Context, prefix string) (aborted int, err error) {
	if err := checkPrefix(prefix); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if aborted, err = d.removeAbandoned(); err != nil {
		return aborted, fmt.Errorf("aborting uploads: %w", dirError(err))
	}
	return aborted, nil
}

// Lock is zero: a folder has none.
func (d *Dir) Lock(ctx context.Context) (ObjectLock, error) { return ObjectLock{}, ctx.Err() }

// Check writes and removes a file, and removes the temporary files that a crash left.
func (d *Dir) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, name, err := d.create()
	if err != nil {
		return fmt.Errorf("checking object folder: %w", dirError(err))
	}
	second := name + "-link"
	err = d.root.Link(name, second)
	d.root.Remove(second)
	d.root.Remove(name)
	f.Close()
	if err != nil {
		return fmt.Errorf("checking object folder: %w: its file system has no hard links: choose a folder on ext4, xfs, btrfs or zfs", ErrRefused)
	}
	if _, err := d.removeAbandoned(); err != nil {
		return fmt.Errorf("checking object folder: %w", dirError(err))
	}
	return nil
}

// dirError sorts an error of the file system into those of Objects. A full disk is worth another try, missing rights are not. The
// file's name stays: it is a key, which names no person.
func dirError(err error) error {
	switch {
	case errors.Is(err, ErrDigest), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: the disk is full: %w", ErrUnavailable, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: give this user the right to write the folder: %w", ErrRefused, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: the folder is missing: create or mount it: %w", ErrRefused, err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// removeAbandoned removes the temporary files that no writer holds.
func (d *Dir) removeAbandoned() (removed int, err error) {
	entries, err := fs.ReadDir(d.root.FS(), dirTemporary)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		name := dirTemporary + "/" + e.Name()
		f, err := d.root.OpenFile(name, os.O_WRONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return removed, err
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && d.root.Remove(name) == nil {
			removed++
		}
		f.Close()
	}
	if removed == 0 {
		return 0, nil
	}
	return removed, d.sync(dirTemporary)
}
