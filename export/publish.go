package export

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/octroi/octroi/consent/state"
)

// runPublishing publishes what has an intent, in order, until ctx ends.
func (s *Shipper) runPublishing(ctx context.Context) error {
	return s.work(ctx, "publishing", &s.put, func(ctx context.Context) error {
		for {
			changed := s.changed.next()
			if s.published.Load() < s.head.Load() {
				return s.publishOne(ctx)
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

func (s *Shipper) awaitPublished(ctx context.Context, number uint64) error {
	for {
		changed := s.changed.next()
		if s.published.Load() >= number {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// putTimeout ends an attempt that hangs. An object of 32 MiB has time over a line of 1 Mbit/s.
const putTimeout = 10 * time.Minute

// publishOne takes the first batch that has an intent and no published entry one attempt further. All it needs is in state and outbox, so
// after a crash it simply goes on.
func (s *Shipper) publishOne(ctx context.Context) error {
	if err := s.publishing.take(ctx); err != nil {
		return err
	}
	defer s.publishing.give()
	number := s.published.Load() + 1
	if number > s.head.Load() {
		return nil // another did it
	}
	entry, row, err := s.unpublished(number)
	if err != nil {
		return err
	}
	id, err := ParseBatchID(row.Batch.ID)
	if err != nil {
		return fmt.Errorf("%w: batch of stream entry %d", ErrRow, number)
	}
	if entry.Signed == "" {
		if err := s.putObject(ctx, id, &row); err != nil {
			return err
		}
		// Crash here: the object is stored and nobody knows. The next start puts the same bytes, which the store takes as a success.
		if entry.Signed, err = s.sign(ctx, number, &row); err != nil {
			return err
		}
	}
	// Crash here: the entry is signed and kept. The next start publishes that very text: it has one number, one time and one hash.
	sum := sha256.Sum256([]byte(entry.Signed))
	key := EntryKey(s.o.Name, s.o.Node, number)
	attempt, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	_, err = s.o.Objects.Put(attempt, key, strings.NewReader(entry.Signed), int64(len(entry.Signed)), sum)
	if errors.Is(err, ErrExists) {
		err = fmt.Errorf("%w: %s: somebody else wrote it, then remove it; or the state is an older copy than the store, then see README, \"Restore\"", err, key)
	}
	if err != nil {
		return fmt.Errorf("publishing stream entry %d: %w", number, err)
	}
	// Crash here: the entry is published and nobody knows. The next start puts the same text again, which is a success.
	err = s.o.State.Update(context.WithoutCancel(ctx), func(t *state.Txn) error {
		t.Set(publishedKey(s.o.Name), encodePublished(number))
		t.OnCommit(func() { s.wasPublished(number) })
		return nil
	})
	if err != nil {
		return fmt.Errorf("marking stream entry %d: %w", number, err)
	}
	// Crash here: the outbox file is no longer needed. The next start deletes it, since its number is published.
	if err := s.outbox.remove(id); err != nil {
		return fmt.Errorf("deleting outbox file: %w", err)
	}
	s.changed.ring()
	return nil
}

func (s *Shipper) wasPublished(number uint64) {
	s.published.Store(number)
	s.count(func(st *ShipperStats) { st.Published++ })
	s.changed.ring()
}

func (s *Shipper) unpublished(number uint64) (entry streamRow, row BatchRow, err error) {
	err = s.o.State.View(func(r state.Reader) error {
		if entry, err = readStreamRow(r, s.o.Name, number); err != nil {
			return err
		}
		id, err := ParseBatchID(entry.Batch)
		if err != nil {
			return fmt.Errorf("%w: batch of stream entry %d", ErrRow, number)
		}
		row, err = readBatchRow(r, id)
		return err
	})
	return entry, row, err
}

// putObject stores the batch's bytes under the key of its generation; row has the version the store gave it.
func (s *Shipper) putObject(ctx context.Context, id BatchID, row *BatchRow) error {
	sum, err := hex.DecodeString(row.Batch.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("%w: hash of batch %s", ErrRow, id)
	}
	f, err := s.outbox.open(id)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s.age", ErrOutbox, id)
	}
	if err != nil {
		return fmt.Errorf("opening outbox file: %w", err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || fi.Size() != row.Batch.Size {
		return fmt.Errorf("%w: size of %s.age", ErrOutbox, id)
	}
	attempt, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	version, err := s.o.Objects.Put(attempt, row.Batch.Key, f, row.Batch.Size, [32]byte(sum))
	switch {
	case errors.Is(err, ErrDigest):
		return fmt.Errorf("%w: hash of %s.age", ErrOutbox, id)
	case errors.Is(err, ErrExists):
		return s.nextGeneration(ctx, id, row)
	case err != nil:
		return fmt.Errorf("putting batch %d: %w", row.Number, err)
	}
	row.Batch.Version = version
	return nil
}

// nextGeneration gives the batch another object key, since something else has its own: the state is older than the store, or somebody
// writes there. It is recorded before any put.
func (s *Shipper) nextGeneration(ctx context.Context, id BatchID, row *BatchRow) error {
	taken := row.Batch.Key
	row.Generation++
	row.Batch.Key = BatchKey(row.Destination, row.Node, row.Hour, row.First, row.Last, row.Generation)
	value, err := encodeRow(*row)
	if err != nil {
		return err
	}
	err = s.o.State.Update(context.WithoutCancel(ctx), func(t *state.Txn) error {
		t.Set(batchKey(id), value)
		return nil
	})
	if err != nil {
		return fmt.Errorf("recording generation: %w", err)
	}
	s.count(func(st *ShipperStats) { st.Collisions++ })
	// Crash here: the next start goes on with the recorded generation.
	return fmt.Errorf("%w: %s; going on with generation %d", errCollision, taken, row.Generation)
}

// errCollision is not ErrExists: the next attempt has a new key and need not wait.
var errCollision = errors.New("an object with other content has the batch's key")

// sign makes the entry's text and keeps it, with the object's version, before anybody sees it.
func (s *Shipper) sign(ctx context.Context, number uint64, row *BatchRow) (string, error) {
	entry := Entry{Destination: s.o.Name, Node: s.o.Node, Number: number, Type: BatchEntry, IssuedAt: s.o.Now().UTC(), Batch: &row.Batch}
	if number > 1 {
		before, err := s.signed(number - 1)
		if err != nil {
			return "", err
		}
		entry.Previous = EntryHash(before)
	}
	text, err := SignEntry(entry, s.o.Signer)
	if err != nil {
		return "", fmt.Errorf("signing stream entry %d: %w", number, err)
	}
	id, err := ParseBatchID(row.Batch.ID)
	if err != nil {
		return "", err
	}
	batch, err := encodeRow(*row)
	if err != nil {
		return "", err
	}
	stream, err := encodeRow(streamRow{Format: rowFormat, Batch: row.Batch.ID, Signed: text})
	if err != nil {
		return "", err
	}
	err = s.o.State.Update(context.WithoutCancel(ctx), func(t *state.Txn) error {
		t.Set(batchKey(id), batch)
		t.Set(streamKey(s.o.Name, number), stream)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("keeping stream entry %d: %w", number, err)
	}
	return text, nil
}

// signed is the text of an entry that was signed.
func (s *Shipper) signed(number uint64) (text string, err error) {
	err = s.o.State.View(func(r state.Reader) error {
		row, err := readStreamRow(r, s.o.Name, number)
		text = row.Signed
		return err
	})
	if err == nil && text == "" {
		err = fmt.Errorf("%w: stream entry %d is not signed", ErrRow, number)
	}
	return text, err
}
