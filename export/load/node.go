package load

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
)

// node applies the entries of one node in order, from the position on.
func (l *Loader) node(ctx context.Context, node string) error {
	at, err := l.state.position(node)
	if err != nil {
		return err
	}
	chain := export.Chain{Destination: l.o.Destination, Node: node, Gateway: l.o.Gateway, Number: at.Number, Previous: at.Previous}
	for {
		number := chain.Number + 1
		token, found, err := l.entry(ctx, node, number)
		if err == nil && !found {
			return nil // the stream's end
		}
		if err == nil {
			err = l.apply(ctx, &chain, token)
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err = fmt.Errorf("node %q stands still before entry %d: %w%s", node, number, err, nextStep(err))
			if !errors.Is(err, export.ErrUnavailable) {
				err = errors.Join(err, l.state.fail(node, failure{Number: number, Text: err.Error(), At: time.Now().UTC()}))
			}
			return err
		}
	}
}

// nextStep is what to do about an error that does not pass by itself, where the error does not say so.
func nextStep(err error) string {
	for _, s := range []struct {
		is   error
		step string
	}{
		{export.ErrSignature, "check that --gateway-key is the gateway's signing.key.pub; if it is, somebody else wrote this entry: tell the gateway's operator"},
		{export.ErrChain, "entries were replaced or reordered: have the gateway's operator run octroi verify stream, then restore them"},
		{export.ErrGap, "have the gateway's operator restore the entry, then run octroi-load again"},
		{export.ErrEntry, "update octroi-load if the gateway is newer; else have the gateway's operator restore the entry"},
		{export.ErrIdentity, "give the identity file of this destination (the key pair whose age1… the gateway has as its recipient W)"},
		{ErrLost, "have the gateway's operator restore the object from its versions or a backup, then run octroi-load again"},
		{ErrHash, "have the gateway's operator restore the object from its versions or a backup, then run octroi-load again"},
		{ErrRows, "tell the gateway's operator: what was sealed is not what was signed"},
		{export.ErrSchema, "update octroi-load; if it is new, tell the gateway's operator"},
		{export.ErrSeal, "tell the gateway's operator: the object was stored as it was signed, and cannot be opened"},
	} {
		if errors.Is(err, s.is) {
			return "; next: " + s.step
		}
	}
	return ""
}

// entry is the text of an entry; found is false where the stream ends before it. Where later entries exist it is missing: export.ErrGap.
func (l *Loader) entry(ctx context.Context, node string, number uint64) (token string, found bool, err error) {
	key := export.EntryKey(l.o.Destination, node, number)
	read := func() error {
		r, err := l.o.Objects.Get(ctx, key, "")
		if err != nil {
			return err
		}
		defer r.Close()
		text, err := io.ReadAll(io.LimitReader(r, 1<<20))
		token = string(text)
		return err
	}
	err = l.try(ctx, read)
	if !errors.Is(err, export.ErrNoObject) {
		return token, true, err
	}
	later := false
	err = l.try(ctx, func() error {
		err := l.o.Objects.List(ctx, l.o.Destination+"/stream/"+node+"/", key, func(string, int64) error { later = true; return errEnough })
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
	if err != nil || !later {
		return "", false, err
	}
	// It may have been published between the two looks.
	if err = l.try(ctx, read); errors.Is(err, export.ErrNoObject) {
		return "", false, fmt.Errorf("%s: %w: later ones are there", key, export.ErrGap)
	}
	return token, true, err
}

// apply loads what one entry states, and moves the position past it.
func (l *Loader) apply(ctx context.Context, chain *export.Chain, token string) error {
	next := *chain
	e, err := next.Next(token)
	if err != nil {
		return err
	}
	if e.Batch.Schema != export.EventsSchema {
		return fmt.Errorf("%w: the batch's is %q", export.ErrSchema, e.Batch.Schema)
	}
	sealed, err := l.fetch(ctx, e.Batch)
	if err != nil {
		return err
	}
	defer sealed.Close()
	plain, size, err := l.unseal(sealed)
	if err != nil {
		return err
	}
	defer plain.Close()
	done, err := l.store(e, plain, size, position{Number: next.Number, Previous: next.Previous, At: time.Now().UTC()})
	if err != nil {
		return err
	}
	*chain = next
	p := &l.progress
	p.Node, p.Number = e.Node, e.Number
	p.Batches, p.Rows, p.Duplicates = p.Batches+1, p.Rows+uint64(done.Rows), p.Duplicates+uint64(done.Duplicates)
	l.report()
	l.o.Log.Info("loaded batch", "node", e.Node, "number", e.Number, "rows", done.Rows, "duplicates", done.Duplicates)
	return nil
}

func (l *Loader) report() {
	if l.o.Progress != nil {
		l.o.Progress(l.progress)
	}
}

// fetch brings an object into a temporary file. Nothing is decrypted before its hash is known to be the signed one.
func (l *Loader) fetch(ctx context.Context, b *export.Batch) (f *os.File, err error) {
	before := l.progress.Bytes
	err = l.try(ctx, func() error {
		l.progress.Bytes = before
		f, err = l.fetchOnce(ctx, b)
		return err
	})
	if err != nil {
		l.progress.Bytes = before
		return nil, fmt.Errorf("%s: %w", b.Key, err)
	}
	return f, nil
}

func (l *Loader) fetchOnce(ctx context.Context, b *export.Batch) (*os.File, error) {
	r, err := l.o.Objects.Get(ctx, b.Key, b.Version)
	if errors.Is(err, export.ErrNoObject) && b.Version != "" {
		r, err = l.o.Objects.Get(ctx, b.Key, "") // a copy of the bucket in a folder has no versions; the hash decides
	}
	if errors.Is(err, export.ErrNoObject) {
		return nil, ErrLost
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	f, err := l.temporary()
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h, progressWriter{l}), io.LimitReader(r, b.Size+1))
	switch {
	case err != nil:
		f.Close()
		return nil, err
	case n != b.Size || hexSum(h) != b.SHA256:
		f.Close()
		return nil, fmt.Errorf("%w (%d bytes of %d)", ErrHash, n, b.Size)
	}
	return f, nil
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// progressWriter counts and reports what passes.
type progressWriter struct{ l *Loader }

func (w progressWriter) Write(p []byte) (int, error) {
	w.l.progress.Bytes += int64(len(p))
	w.l.report()
	return len(p), nil
}

// unseal decrypts into a second temporary file: Parquet is read from its end.
func (l *Loader) unseal(sealed *os.File) (plain *os.File, size int64, err error) {
	if _, err := sealed.Seek(0, io.SeekStart); err != nil {
		return nil, 0, err
	}
	r, err := export.Unseal(sealed, l.o.Identities)
	if err != nil {
		return nil, 0, err
	}
	if plain, err = l.temporary(); err != nil {
		return nil, 0, err
	}
	if size, err = io.Copy(plain, r); err != nil {
		plain.Close()
		return nil, 0, err
	}
	return plain, size, nil
}

// temporary is a file without a name: nothing is left of it when the process ends, however it does.
func (l *Loader) temporary() (*os.File, error) {
	f, err := os.CreateTemp(filepath.Join(l.o.Dir, ownFolder), "fetch-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// store writes a batch's new rows to the folder and records them.
func (l *Loader) store(e export.Entry, plain *os.File, size int64, p position) (done output, err error) {
	b, err := l.state.begin()
	if err != nil {
		return done, err
	}
	defer b.rollback()
	// Before anything is written: the rename below would replace the first one's file.
	if b.loaded(e.Batch.ID) {
		return done, fmt.Errorf("batch %q was loaded before under another entry: %w", e.Batch.ID, ErrRows)
	}
	// Crash point: nothing is written.
	out, err := newOutputFile(l.o.Dir, l.o.Format, e.Batch)
	if err != nil {
		return done, err
	}
	defer out.discard()
	done = output{Node: e.Node, Number: e.Number}
	fresh := make([]pseudonymize.Row, 0, 1024)
	err = export.DecodeRows(plain, size, func(rows []pseudonymize.Row) error {
		fresh = fresh[:0]
		for i := range rows {
			if b.first(rows[i].Site, rows[i].EventID) {
				fresh = append(fresh, rows[i])
			}
		}
		done.Rows, done.Duplicates = done.Rows+len(fresh), done.Duplicates+len(rows)-len(fresh)
		return out.write(fresh)
	})
	if err != nil {
		return done, err
	}
	if done.Rows+done.Duplicates != e.Batch.Rows {
		return done, fmt.Errorf("%w: %d instead of %d", ErrRows, done.Rows+done.Duplicates, e.Batch.Rows)
	}
	// Crash point: a temporary file is left, which the next run overwrites.
	if done.Path, done.SHA256, err = out.finish(done.Rows); err != nil {
		return done, err
	}
	// Crash point: the file stands and is not recorded. The next run makes the same file and renames it over this one: the seen ids are
	// those of before, and the same rows are encoded to the same bytes.
	if err := b.commit(e.Batch.ID, done, p); err != nil {
		return done, err
	}
	// Crash point: done; the next run begins with the next entry.
	return done, nil
}
