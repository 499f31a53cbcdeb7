package export

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/octroi/octroi/consent/state"
)

// runPublishing publishes what has a number, in order, until ctx ends.
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

// outgoing is an entry on its way: what state has of it.
type outgoing struct {
	number uint64
	row    streamRow
	id     BatchID  // of batch and replace entries
	batch  BatchRow // of batch entries
}

// publishOne takes the first entry that has a number and is not published one attempt further. All it needs is in state and outbox, so
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
	x, err := s.unpublished(number)
	if err != nil {
		return err
	}
	if x.row.Signed == "" {
		entry, err := s.putStatement(ctx, x)
		if err != nil {
			return err
		}
		// Crash here: the object is stored and nobody knows. The next start puts the same bytes, which the store takes as a success.
		if err := s.sign(ctx, x, entry); err != nil {
			return err
		}
	}
	// Crash here: the entry is signed and kept. The next start publishes that very text: it has one number, one time and one hash.
	if err := s.putEntry(ctx, x); err != nil {
		return err
	}
	// Crash here: the entry is published and nobody knows. The next start puts the same text again, which is a success.
	if err := s.mark(ctx, x); err != nil {
		return err
	}
	// Crash here: the outbox file is no longer needed. The next start deletes it, since its number is published.
	if x.row.kind() == BatchEntry {
		if err := s.outbox.remove(x.id); err != nil {
			return fmt.Errorf("deleting outbox file: %w", err)
		}
	}
	s.changed.ring()
	return nil
}

func (s *Shipper) unpublished(number uint64) (x *outgoing, err error) {
	x = &outgoing{number: number}
	err = s.o.State.View(func(r state.Reader) error {
		if x.row, err = readStreamRow(r, s.o.Name, number); err != nil || x.row.kind().carriesNotices() {
			return err
		}
		if x.id, err = ParseBatchID(x.row.Batch); err != nil {
			return fmt.Errorf("%w: batch of stream entry %d", ErrRow, number)
		}
		if x.row.kind() == BatchEntry {
			x.batch, err = readBatchRow(r, x.id)
		}
		return err
	})
	return x, err
}

// putStatement stores the object that the entry states, and answers the entry, which lacks only its time and its place in the chain. A replace
// entry's object was put and checked by others.
func (s *Shipper) putStatement(ctx context.Context, x *outgoing) (e Entry, err error) {
	e = Entry{Destination: s.o.Name, Node: s.o.Node, Number: x.number, Type: x.row.kind(), Replace: x.row.Replace}
	switch {
	case e.Type == BatchEntry:
		err = s.putBatch(ctx, x)
		e.Batch = &x.batch.Batch
	case e.Type.carriesNotices():
		e.Notice, err = s.putNotices(ctx, x)
	}
	return e, err
}

func (s *Shipper) putEntry(ctx context.Context, x *outgoing) error {
	sum := sha256.Sum256([]byte(x.row.Signed))
	key := EntryKey(s.o.Name, s.o.Node, x.number)
	attempt, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	_, err := s.o.Objects.Put(attempt, key, strings.NewReader(x.row.Signed), int64(len(x.row.Signed)), sum)
	if errors.Is(err, ErrExists) {
		err = fmt.Errorf("%w: %s: somebody else wrote it, then remove it; or the state is an older copy than the store, then bring it in by octroi restore", err, key)
	}
	if err != nil {
		return fmt.Errorf("publishing stream entry %d: %w", x.number, err)
	}
	return nil
}

// mark records that the entry is published. Its notices, if it has some, are in the store and go from state.
func (s *Shipper) mark(ctx context.Context, x *outgoing) error {
	err := s.o.State.Update(context.WithoutCancel(ctx), func(t *state.Txn) error {
		t.Set(publishedKey(s.o.Name), encodeNumber(x.number))
		if x.row.kind().carriesNotices() {
			t.Delete(noticesKey(s.o.Name, x.number))
		}
		t.OnCommit(func() { s.wasPublished(x) })
		return nil
	})
	if err != nil {
		return fmt.Errorf("marking stream entry %d: %w", x.number, err)
	}
	return nil
}

func (s *Shipper) wasPublished(x *outgoing) {
	s.published.Store(x.number)
	if x.row.kind() == BatchEntry {
		s.count(func(st *ShipperStats) { st.Published++ })
	}
	s.changed.ring()
}

// sign makes the entry's text and keeps it, with the object's version, before anybody sees it.
func (s *Shipper) sign(ctx context.Context, x *outgoing, e Entry) (err error) {
	e.IssuedAt = s.o.Now().UTC()
	if x.number > 1 {
		before, err := s.signed(x.number - 1)
		if err != nil {
			return err
		}
		e.Previous = EntryHash(before)
	}
	row := x.row
	row.Replace, row.Notice, row.Notices = nil, nil, 0
	if row.Signed, err = SignEntry(e, s.o.Signer); err != nil {
		return fmt.Errorf("signing stream entry %d: %w", x.number, err)
	}
	err = s.o.State.Update(context.WithoutCancel(ctx), func(t *state.Txn) error {
		if row.kind() == BatchEntry {
			if err := setRow(t, batchKey(x.id), x.batch); err != nil {
				return err
			}
		}
		return setRow(t, streamKey(s.o.Name, x.number), row)
	})
	if err != nil {
		return fmt.Errorf("keeping stream entry %d: %w", x.number, err)
	}
	x.row = row
	return nil
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
