package export

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/octroi/octroi/consent/state"
)

// putBatch stores the batch's bytes under the key of its generation; x.batch has the version the store gave it.
func (s *Shipper) putBatch(ctx context.Context, x *outgoing) error {
	row := &x.batch
	sum, err := hex.DecodeString(row.Batch.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("%w: hash of batch %s", ErrRow, x.id)
	}
	f, err := s.outbox.open(x.id)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s.age", ErrOutbox, x.id)
	}
	if err != nil {
		return fmt.Errorf("opening outbox file: %w", err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || fi.Size() != row.Batch.Size {
		return fmt.Errorf("%w: size of %s.age", ErrOutbox, x.id)
	}
	attempt, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	version, err := s.o.Objects.Put(attempt, row.Batch.Key, f, row.Batch.Size, [32]byte(sum))
	switch {
	case errors.Is(err, ErrDigest):
		return fmt.Errorf("%w: hash of %s.age", ErrOutbox, x.id)
	case errors.Is(err, ErrExists):
		taken := row.Batch.Key
		row.Generation++
		row.Batch.Key = row.key(row.Generation)
		return s.nextGeneration(ctx, taken, row.Generation, func(t *state.Txn) error { return setRow(t, batchKey(x.id), *row) })
	case err != nil:
		return fmt.Errorf("putting batch %d: %w", x.number, err)
	}
	row.Batch.Version = version
	return nil
}

// putNotices stores the notices of a statement, and answers how the entry names them.
func (s *Shipper) putNotices(ctx context.Context, x *outgoing) (*NoticeRef, error) {
	var object []byte
	err := s.o.State.View(func(r state.Reader) (err error) {
		object, err = r.Get(noticesKey(s.o.Name, x.number))
		return err
	})
	switch {
	case errors.Is(err, state.ErrNotFound), err == nil && (x.row.Notice == nil || EntryHash(string(object)) != x.row.Notice.SHA256):
		return nil, fmt.Errorf("%w: notices of stream entry %d", ErrRow, x.number)
	case err != nil:
		return nil, fmt.Errorf("reading notices: %w", err)
	}
	ref := *x.row.Notice
	attempt, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	ref.Version, err = s.o.Objects.Put(attempt, ref.Key, bytes.NewReader(object), ref.Size, sha256.Sum256(object))
	if errors.Is(err, ErrExists) {
		row, next := x.row, ref
		row.Notices++
		next.Key = noticeKey(s.o.Name, s.o.Node, x.number, row.Notices)
		row.Notice = &next
		return nil, s.nextGeneration(ctx, ref.Key, row.Notices, func(t *state.Txn) error { return setRow(t, streamKey(s.o.Name, x.number), row) })
	}
	if err != nil {
		return nil, fmt.Errorf("putting notices of stream entry %d: %w", x.number, err)
	}
	return &ref, nil
}

// nextGeneration gives an object another key, since something else has its own: the state is older than the store, or somebody writes
// there. It is recorded before any put.
func (s *Shipper) nextGeneration(ctx context.Context, taken string, generation int, record func(*state.Txn) error) error {
	if err := s.o.State.Update(context.WithoutCancel(ctx), record); err != nil {
		return fmt.Errorf("recording generation: %w", err)
	}
	s.count(func(st *ShipperStats) { st.Collisions++ })
	// Crash here: the next start goes on with the recorded generation.
	return fmt.Errorf("%w: %s; going on with generation %d", errCollision, taken, generation)
}

// errCollision is not ErrExists: the next attempt has a new key and need not wait.
var errCollision = errors.New("an object with other content has the key")
