package export

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

var (
	errRevoked = errors.New("a subject of the batch revoked since it was regated")
	errMoved   = errors.New("the cursor is not where the batch begins")
)

// sealOne seals at most one batch of what is spooled below upTo; moved is false when nothing is left there. It waits while the outbox
// is full: a dead destination fills its own outbox, and holds nobody else up before the spool is full.
func (s *Shipper) sealOne(ctx context.Context, upTo uint64) (moved bool, err error) {
	if err := s.takeWithRoom(ctx, upTo); err != nil {
		return false, err
	}
	defer s.sealing.give()
	for limit := s.rowLimit(); s.cursor.Load() < upTo; {
		d, err := s.draft(ctx, upTo, limit)
		if err != nil || d.next == d.from {
			return false, err
		}
		err = s.commit(ctx, d)
		if err == nil {
			s.learn(d)
			return true, nil
		}
		if !errors.Is(err, errRevoked) {
			s.doubt = d
			return false, err
		}
		// Consent was withdrawn between regate and intent (consent.md G3): nothing of this draft is kept. The next one is shorter, so
		// that many withdrawals cannot hold a destination up for ever.
		if err := d.parcel.abandon(); err != nil {
			return false, fmt.Errorf("deleting a revoked draft: %w", err)
		}
		if err := s.dropIndex(ctx, d); err != nil {
			return false, fmt.Errorf("deleting a revoked draft: %w", err)
		}
		s.count(func(st *ShipperStats) { st.Regated++ })
		limit = max(1, d.rows/2)
	}
	return false, nil
}

// resolve finds out what became of an intent that failed: it may be committed all the same, when the disk failed after it.
func (s *Shipper) resolve() error {
	d := s.doubt
	if d == nil {
		return nil
	}
	var c cursorRow
	found := false
	err := s.o.State.View(func(r state.Reader) (err error) {
		if c, err = readCursor(r, s.o.Name); err != nil {
			return err
		}
		_, err = readBatchRow(r, d.id)
		found = err == nil
		if errors.Is(err, ErrNoBatch) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if !found && d.parcel != nil {
		if err := d.parcel.abandon(); err != nil {
			return err
		}
	}
	if s.head.Load() < c.number || s.cursor.Load() != c.cursor {
		if found {
			s.outbox.add(d.id, d.size)
		}
		s.cursor.Store(c.cursor)
		s.reach(c.number)
	}
	s.doubt = nil
	return nil
}

// rowLimit is the number of rows that fill an object, by the size of earlier ones.
func (s *Shipper) rowLimit() int {
	return min(s.o.MaxRows, max(1, int(float64(s.o.TargetBytes)/s.bytesPerRow)))
}

func (s *Shipper) learn(d *draft) {
	if d.rows >= 1000 || d.size > s.o.TargetBytes { // of a smaller one the frame is most
		s.bytesPerRow = float64(d.size) / float64(d.rows)
	}
	s.keptShare = (s.keptShare + float64(d.rows)/float64(d.seen())) / 2
}

// takeWithRoom takes the sealing turn once there is room, and leaves it to others while it waits.
func (s *Shipper) takeWithRoom(ctx context.Context, upTo uint64) error {
	for {
		changed := s.changed.next()
		if err := s.sealing.take(ctx); err != nil {
			return err
		}
		err := s.resolve()
		if err == nil && s.room(upTo) {
			return nil
		}
		s.sealing.give()
		if err != nil {
			return fmt.Errorf("looking for the last intent: %w", err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// room: another object fits into the outbox, or it is empty, or SealThrough asks for more; or nothing is left to seal below upTo.
func (s *Shipper) room(upTo uint64) bool {
	cursor := s.cursor.Load()
	if cursor >= upTo || cursor < s.through.Load() {
		return true
	}
	objects, bytes := s.outbox.waiting()
	return objects == 0 || bytes+min(s.o.TargetBytes, s.o.OutboxMax/2) <= s.o.OutboxMax
}

// commit writes the index and then the intent, which seals the batch. Without rows it only moves the cursor.
func (s *Shipper) commit(ctx context.Context, d *draft) error {
	// Crash here: the outbox file is complete but has no intent. The next start deletes it and drafts the range again.
	if d.rows > 0 {
		if err := s.writeIndex(ctx, d); err != nil {
			return err
		}
	}
	// Crash here: as above; index rows name a batch that does not exist, which readers of the index pass over.

	// Not ctx: an intent whose outcome nobody waits for would leave the cursor in doubt.
	err := s.o.State.Update(context.WithoutCancel(ctx), func(t *state.Txn) error { return s.intent(t, d) })
	// Crash here, or anywhere later: the intent is committed, and the next start puts this very file.
	if err != nil {
		return fmt.Errorf("committing intent: %w", err)
	}
	return nil
}

// intent runs in the writer, which every withdrawal passes as well: one of the two is first, and the other sees it (consent.md G3).
func (s *Shipper) intent(t *state.Txn, d *draft) error {
	err := s.o.Revocations.RevokedSince(t, d.sequence, func(slot subject.Slot, purpose string) error {
		if d.holds.concerns(slot, purpose) {
			return errRevoked
		}
		return nil
	})
	if err != nil {
		return err
	}
	c, err := readCursor(t, s.o.Name)
	if err != nil {
		return err
	}
	if c.cursor != d.from {
		return errMoved
	}
	c.cursor = d.next
	if d.rows > 0 {
		c.number++
		if err := s.enter(t, d, c.number); err != nil {
			return err
		}
	}
	t.Set(cursorKey(s.o.Name), c.encode())
	t.OnCommit(func() { s.committed(d, c) })
	return nil
}

// enter writes the batch, its place in the stream, and its evidence.
func (s *Shipper) enter(t *state.Txn, d *draft, number uint64) error {
	row := BatchRow{
		Format: rowFormat, Destination: s.o.Name, Node: s.o.Node, Number: number,
		First: d.first, Last: d.last, Hour: time.Unix(d.hour*3600, 0).UTC(), Generation: 1,
		Batch: Batch{
			ID: d.id.String(), SHA256: hex.EncodeToString(d.sha256[:]), Size: d.size, Rows: d.rows, From: d.oldest, To: d.newest,
			Purposes: d.purposes(), PolicyHash: hex.EncodeToString(d.policy[:]), Recipients: s.o.Recipients.Names, Schema: EventsSchema,
		},
	}
	reused, err := readReused(t, s.o.Name)
	if err != nil {
		return err
	}
	if d.first < reused {
		row.Name = objectName(s.o.Node, number)
	}
	row.Batch.Key = row.key(1)
	if row.Leaf, err = prove(t, coreOf("intent", &row, number, s.o.Now())); err != nil {
		return err
	}
	if err := setRow(t, batchKey(d.id), row); err != nil {
		return err
	}
	return setRow(t, streamKey(s.o.Name, number), streamRow{Format: rowFormat, Batch: row.Batch.ID})
}

// committed runs in the writer once the intent is durable, also when nobody waits for it any more.
func (s *Shipper) committed(d *draft, c cursorRow) {
	if d.rows > 0 {
		s.outbox.add(d.id, d.size)
	}
	s.count(func(st *ShipperStats) {
		if d.rows > 0 {
			st.Sealed++
		}
		st.Rows += uint64(d.rows)
		st.Bytes += uint64(d.size)
		st.Dropped += uint64(d.fates[revoked])
		st.Shredded += uint64(d.fates[shredded])
	})
	s.cursor.Store(c.cursor)
	s.reach(c.number)
}
