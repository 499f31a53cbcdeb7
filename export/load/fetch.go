package load

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
)

// object is a batch's rows, decrypted into a file without a name. Without a file it has no rows.
type object struct {
	file *os.File
	size int64
	rows int // that the stream states
}

// open brings, checks and decrypts an object; nil: there is none, and no row.
func (l *Loader) open(ctx context.Context, b *export.Batch) (*object, error) {
	if b == nil {
		return &object{}, nil
	}
	if b.Schema != export.EventsSchema {
		return nil, fmt.Errorf("%w: the batch's is %q", export.ErrSchema, b.Schema)
	}
	sealed, err := export.Nameless(l.into.scratch())
	if err != nil {
		return nil, err
	}
	defer sealed.Close()
	if err := l.fetch(ctx, signed{b.Key, b.Version, b.SHA256, b.Size}, sealed); err != nil {
		return nil, err
	}
	o := &object{rows: b.Rows}
	if o.file, o.size, err = export.UnsealFile(sealed, l.o.Identities, l.into.scratch()); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *object) close() {
	if o.file != nil {
		o.file.Close()
	}
}

// each is the source of the rows: ErrRows where there are others than the stream states.
func (o *object) each(fn func([]pseudonymize.Row) error) error {
	if o.file == nil {
		return nil
	}
	n := 0
	err := export.DecodeRows(o.file, o.size, func(rows []pseudonymize.Row) error {
		n += len(rows)
		return fn(rows)
	})
	if err == nil && n != o.rows {
		err = fmt.Errorf("%w: %d instead of %d", ErrRows, n, o.rows)
	}
	return err
}

// notices are those of an entry: ErrNotice where its object is no longer there.
func (l *Loader) notices(ctx context.Context, e export.Entry) ([]export.Notice, error) {
	var b bytes.Buffer
	err := l.fetch(ctx, signed{e.Notice.Key, e.Notice.Version, e.Notice.SHA256, e.Notice.Size}, &memory{&b})
	if errors.Is(err, ErrLost) {
		return nil, fmt.Errorf("%s: %w", e.Notice.Key, ErrNotice)
	}
	if err != nil {
		return nil, err
	}
	return export.OpenNotices(b.Bytes(), l.o.Identities)
}

// signed is an object as an entry states it.
type signed struct {
	key, version, sha256 string
	size                 int64
}

// blank is what is fetched into; it is emptied before each try.
type blank interface {
	io.Writer
	Truncate(size int64) error
	Seek(offset int64, whence int) (int64, error)
}

// memory is a blank for what is small.
type memory struct{ b *bytes.Buffer }

func (m *memory) Write(p []byte) (int, error)    { return m.b.Write(p) }
func (m *memory) Truncate(int64) error           { m.b.Reset(); return nil }
func (m *memory) Seek(int64, int) (int64, error) { return 0, nil }

// fetch brings an object. Nothing of it is used before its hash is known to be the signed one.
func (l *Loader) fetch(ctx context.Context, s signed, to blank) error {
	before := l.progress.Bytes
	err := l.try(ctx, func() error {
		l.progress.Bytes = before
		if err := to.Truncate(0); err != nil {
			return err
		}
		if _, err := to.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return l.fetchOnce(ctx, s, to)
	})
	if err != nil {
		l.progress.Bytes = before
		return fmt.Errorf("%s: %w", s.key, err)
	}
	return nil
}

func (l *Loader) fetchOnce(ctx context.Context, s signed, to io.Writer) error {
	r, err := l.o.Objects.Get(ctx, s.key, s.version)
	if errors.Is(err, export.ErrNoObject) && s.version != "" {
		r, err = l.o.Objects.Get(ctx, s.key, "") // a copy of the bucket in a folder has no versions; the hash decides
	}
	if errors.Is(err, export.ErrNoObject) {
		return ErrLost
	}
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, h, progressWriter{l}), io.LimitReader(r, s.size+1))
	switch {
	case err != nil:
		return err
	case n != s.size || hexSum(h) != s.sha256:
		return fmt.Errorf("%w (%d bytes of %d)", ErrHash, n, s.size)
	}
	return nil
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// progressWriter counts and reports what passes.
type progressWriter struct{ l *Loader }

func (w progressWriter) Write(p []byte) (int, error) {
	w.l.progress.Bytes += int64(len(p))
	w.l.report()
	return len(p), nil
}
