package sweep

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
)

var (
	errHash = errors.New("object's bytes are not those of its entry")
	errRows = errors.New("object holds other rows than its entry states")
)

// size is what is left of the file's rights to grow: the file's length.
func size(f *os.File) (int64, error) {
	about, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return about.Size(), nil
}

// rows reads a batch's object, and fn with its rows some at a time.
func (p *pass) rows(ctx context.Context, b *export.Batch, fn func([]pseudonymize.Row) error) error {
	plain, length, err := p.plain(ctx, b)
	if err != nil {
		return err
	}
	defer plain.Close()
	return wholly(ctx, b, plain, length, fn)
}

// plain fetches a batch's object: by version, its hash before anything is decrypted.
func (p *pass) plain(ctx context.Context, b *export.Batch) (plain *os.File, length int64, err error) {
	if b.Schema != export.EventsSchema {
		return nil, 0, fmt.Errorf("%w: its entry says %.40q", export.ErrSchema, b.Schema)
	}
	sealed, err := p.fetch(ctx, b)
	if err != nil {
		return nil, 0, err
	}
	defer sealed.Close()
	return export.UnsealFile(sealed, p.s.o.Identities, p.s.o.Temp)
}

// wholly reads all rows of a batch.
func wholly(ctx context.Context, b *export.Batch, plain io.ReaderAt, length int64, fn func([]pseudonymize.Row) error) error {
	n := 0
	err := export.DecodeRows(plain, length, func(rows []pseudonymize.Row) error {
		if n += len(rows); n > b.Rows || !under(b, rows) {
			return errRows
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return fn(rows)
	})
	if err == nil && n != b.Rows {
		err = errRows
	}
	return err
}

// under says whether rows were received under the policy that the entry states, which is what retention goes by.
func under(b *export.Batch, rows []pseudonymize.Row) bool {
	return !slices.ContainsFunc(rows, func(r pseudonymize.Row) bool { return hex.EncodeToString(r.Policy[:]) != b.PolicyHash })
}

// decode reads the rows of a sealed object.
func (s *Sweep) decode(sealed *os.File, fn func([]pseudonymize.Row) error) error {
	plain, length, err := export.UnsealFile(sealed, s.o.Identities, s.o.Temp)
	if err != nil {
		return err
	}
	defer plain.Close()
	return export.DecodeRows(plain, length, fn)
}

// fetch brings an object into a temporary file.
func (p *pass) fetch(ctx context.Context, b *export.Batch) (*os.File, error) {
	f, err := export.Nameless(p.s.o.Temp)
	if err != nil {
		return nil, err
	}
	sum, n, err := p.download(ctx, object{Key: b.Key, Version: b.Version}, f, b.Size)
	if errors.Is(err, export.ErrNoObject) && b.Version != "" {
		sum, n, err = p.download(ctx, object{Key: b.Key}, f, b.Size) // an operator may have restored it, as another version: the hash decides
	}
	if err == nil && (n != b.Size || sum != b.SHA256) {
		err = errHash
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", b.Key, err)
	}
	return f, nil
}

// download copies at most one byte more than limit, and answers the hash of what came.
func (p *pass) download(ctx context.Context, o object, to io.Writer, limit int64) (sum string, n int64, err error) {
	r, err := p.s.o.Archive.Get(ctx, o.Key, o.Version)
	if err != nil {
		return "", 0, err
	}
	defer r.Close()
	h := sha256.New()
	n, err = io.Copy(io.MultiWriter(to, h), io.LimitReader(r, limit+1))
	p.read(n)
	return hexSum(h), n, err
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }
