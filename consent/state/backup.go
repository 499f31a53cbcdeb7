package state

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// A backup is every row of one snapshot but the store's own under "v/", the evidence log included. Format v1, integers big endian:
//
//	"octrbak1" ‖ u64 stored format version (Store) ‖ key check[32]
//	each row, keys ascending:  u32 key length, 1 to 1024 ‖ u32 value length, up to MaxChangeBytes ‖ key ‖ value
//	trailer:                   u32 0 ‖ u64 rows ‖ u64 leaves of the evidence log ‖ root[32] ‖ HMAC of all before[32]
//
// HMAC-SHA256 under HMAC(state key, "octroi backup"); the key check is HMAC(state key, "octroi backup key"). A backup is encrypted to a public key
// (cmd/octroi), which says nothing of who wrote it: the HMAC does.
const (
	backupMagic  = "octrbak1"
	backupUse    = "octroi backup"
	backupKeyUse = "octroi backup key"
)

// backupTrailer is what a backup says of itself at its end.
type backupTrailer struct {
	rows uint64
	size uint64 // leaves of the evidence log
	root tlog.Hash
}

func (t *backupTrailer) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 4, trailerBytes), t.rows)
	return append(binary.BigEndian.AppendUint64(b, t.size), t.root[:]...)
}

const trailerBytes = 4 + 8 + 8 + tlog.HashSize // without the HMAC

func derived(key []byte, use string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(use))
	return h.Sum(nil)
}

// Backup writes every row of one snapshot to w, beside running changes: all groups that were acknowledged before, none in part. It ends early with
// ctx, and with ErrClosed when the store is closed. What it has written before an error is no backup, and Restore refuses it.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	err := s.View(func(r Reader) error {
		b := newBackupWriter(w, s.options.Key)
		err := b.rows(r, func() error {
			if s.readers.closed.Load() {
				return ErrClosed // Close waits for readers
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
		h, err := readHead(r)
		if err != nil {
			return err
		}
		return b.end(h)
	})
	if err != nil {
		return fmt.Errorf("backing up state: %w", err)
	}
	return nil
}

// backupWriter writes a backup and sums it up.
type backupWriter struct {
	w     *bufio.Writer
	sum   hash.Hash
	count uint64
	err   error
}

func newBackupWriter(w io.Writer, key []byte) *backupWriter {
	b := &backupWriter{w: bufio.NewWriter(w), sum: hmac.New(sha256.New, derived(key, backupUse))}
	b.write(binary.BigEndian.AppendUint64([]byte(backupMagic), formatVersion))
	b.write(derived(key, backupKeyUse))
	return b
}

func (b *backupWriter) write(p []byte) {
	if b.err == nil {
		b.sum.Write(p)
		_, b.err = b.w.Write(p)
	}
}

func (b *backupWriter) rows(r Reader, proceed func() error) error {
	return r.Scan(nil, func(key, value []byte) error {
		if own(key) {
			return nil
		}
		b.count++
		b.write(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(len(key))), uint32(len(value))))
		b.write(key)
		b.write(value)
		return errors.Join(b.err, proceed())
	})
}

func (b *backupWriter) end(h *head) error {
	t := backupTrailer{b.count, uint64(h.size), h.root}
	b.write(t.encode())
	if b.err == nil {
		_, b.err = b.w.Write(b.sum.Sum(nil))
	}
	return errors.Join(b.err, b.w.Flush())
}

// own says whether a row is the store's alone, and of no backup.
func own(key []byte) bool { return strings.HasPrefix(string(key), rowVersion) }

// backupReader reads a backup and sums it up.
type backupReader struct {
	r   *bufio.Reader
	sum hash.Hash
}

// readBackup calls row for every row, in order, and answers the trailer. Nothing of it is proven before it returns without an error: ErrBackup, ErrKey,
// ErrVersion, or what row and r say.
func readBackup(r io.Reader, key []byte, row func(key, value []byte) error) (t backupTrailer, err error) {
	b := &backupReader{bufio.NewReader(r), hmac.New(sha256.New, derived(key, backupUse))}
	if err := b.header(key); err != nil {
		return t, err
	}
	var last, k, v []byte
	for {
		if k, v, err = b.row(k, v); err != nil {
			return t, err
		}
		if len(k) == 0 {
			break
		}
		if bytes.Compare(last, k) >= 0 || own(k) {
			return t, fmt.Errorf("%w: row %d is out of place", ErrBackup, t.rows+1)
		}
		if err := row(k, v); err != nil {
			return t, err
		}
		t.rows++
		last = append(last[:0], k...)
	}
	return b.trailer(t.rows)
}

// full reads p. A backup that ends before is cut off; other errors are the reader's below.
func (b *backupReader) full(p []byte) error {
	_, err := io.ReadFull(b.r, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends too early", ErrBackup)
	}
	if err != nil {
		return err
	}
	b.sum.Write(p)
	return nil
}

func (b *backupReader) header(key []byte) error {
	header := make([]byte, len(backupMagic)+8+sha256.Size)
	if err := b.full(header); err != nil {
		return err
	}
	if string(header[:len(backupMagic)]) != backupMagic {
		return fmt.Errorf("%w: it is no backup of state", ErrBackup)
	}
	if version := binary.BigEndian.Uint64(header[len(backupMagic):]); version != formatVersion {
		return fmt.Errorf("%w: %d, this program reads %d", ErrVersion, version, formatVersion)
	}
	if !hmac.Equal(header[len(backupMagic)+8:], derived(key, backupKeyUse)) {
		return ErrKey
	}
	return nil
}

// row reads the next row into the buffers; no key where the trailer begins.
func (b *backupReader) row(key, value []byte) ([]byte, []byte, error) {
	var n [4]byte
	if err := b.full(n[:]); err != nil {
		return nil, nil, err
	}
	keyLength := binary.BigEndian.Uint32(n[:])
	if keyLength == 0 {
		return nil, nil, nil
	}
	if err := b.full(n[:]); err != nil {
		return nil, nil, err
	}
	valueLength := binary.BigEndian.Uint32(n[:])
	if keyLength > maxKey || valueLength > MaxChangeBytes {
		return nil, nil, fmt.Errorf("%w: a row is too long", ErrBackup)
	}
	key, value = sized(key, int(keyLength)), sized(value, int(valueLength))
	return key, value, errors.Join(b.full(key), b.full(value))
}

func sized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// trailer reads the rest, after the four zeros, and holds it against what was read: rows, and the sum of all.
func (b *backupReader) trailer(rows uint64) (t backupTrailer, err error) {
	rest := make([]byte, trailerBytes-4)
	if err := b.full(rest); err != nil {
		return t, err
	}
	want := b.sum.Sum(nil)
	t.rows, t.size = binary.BigEndian.Uint64(rest), binary.BigEndian.Uint64(rest[8:])
	copy(t.root[:], rest[16:])
	have := make([]byte, sha256.Size)
	if err := b.full(have); err != nil {
		return t, err
	}
	if !hmac.Equal(have, want) || t.rows != rows {
		return t, fmt.Errorf("%w: its sum", ErrBackup)
	}
	// To the end, which is what authenticates what the backup came in.
	switch _, err := b.r.ReadByte(); {
	case err == nil:
		return t, fmt.Errorf("%w: something stands behind it", ErrBackup)
	case !errors.Is(err, io.EOF):
		return t, err
	}
	return t, nil
}
