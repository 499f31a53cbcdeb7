package export

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/octroi/octroi/consent/state"
)

// The errors of rewrites.
var (
	ErrClaim   = errors.New("batch was claimed again since, or its object has changed")
	ErrPending = errors.New("the entry that states the batch's object is not yet published") // worth another try
)

// Statement is what somebody beside the shipper puts into a destination's stream.
type Statement struct {
	Type    EntryType
	Notices []byte // of PackNotices
}

// Enter puts a statement about persons into the stream inside t; number is its place. It is published after every entry before it. The
// notices take as much of t's room as they are long.
func (s *Shipper) Enter(t *state.Txn, x Statement) (number uint64, err error) {
	if !x.Type.carriesNotices() {
		return 0, fmt.Errorf("entering statement: %w: type %q", ErrEntry, x.Type)
	}
	if err := eachNotice(x.Notices, func([]byte) error { return nil }); err != nil {
		return 0, fmt.Errorf("entering statement: %w", err)
	}
	if number, err = s.place(t); err != nil {
		return 0, fmt.Errorf("entering statement: %w", err)
	}
	sum := sha256.Sum256(x.Notices)
	ref := NoticeRef{Key: NoticeKey(s.o.Name, s.o.Node, number), SHA256: hex.EncodeToString(sum[:]), Size: int64(len(x.Notices))}
	t.Set(noticesKey(s.o.Name, number), x.Notices)
	row := streamRow{Format: rowFormat, Type: x.Type, Node: s.o.Node, Notice: &ref, Notices: 1}
	return number, setRow(t, streamKey(s.o.Name, number), row)
}

// place takes the stream's next number inside t, from the row that intents take theirs from: the writer lets nobody in between, and a number
// that is taken is an entry.
func (s *Shipper) place(t *state.Txn) (number uint64, err error) {
	c, err := readCursor(t, s.o.Name)
	if err != nil {
		return 0, err
	}
	c.number++
	t.Set(cursorKey(s.o.Name), c.encode())
	// Crash here, or anywhere before the commit: nothing of it is kept. After it the entry is published by the next start.
	t.OnCommit(func() { s.reach(c.number) })
	return c.number, nil
}

// reach tells the publishing loop that numbers up to this one are given out. It never goes back.
func (s *Shipper) reach(number uint64) {
	for head := s.head.Load(); head < number && !s.head.CompareAndSwap(head, number); head = s.head.Load() {
	}
	s.changed.ring()
}

// Claim records, inside t, the next generation of a batch's object before anybody puts it, and answers its number and key. ErrPending
// where the present object is not yet published, ErrClaim where there is none.
func (s *Shipper) Claim(t *state.Txn, id BatchID) (generation int, key string, err error) {
	row, err := s.rewritable(t, id)
	if err != nil {
		return 0, "", fmt.Errorf("claiming batch: %w", err)
	}
	if row.Empty {
		return 0, "", fmt.Errorf("claiming batch: %w: no row of it is left", ErrClaim)
	}
	row.Claimed = max(row.Claimed, row.Generation) + 1
	return row.Claimed, row.key(row.Claimed), setRow(t, batchKey(id), row)
}

// rewritable is this destination's batch, once its present object is published: until then the publishing loop owns the row.
func (s *Shipper) rewritable(t *state.Txn, id BatchID) (row BatchRow, err error) {
	if row, err = readBatchRow(t, id); err != nil {
		return row, err
	}
	if row.Destination != s.o.Name {
		return row, fmt.Errorf("%w: %s", ErrNoBatch, id)
	}
	published, err := readPublished(t, s.o.Name)
	if err == nil && row.StatedBy() > published {
		err = ErrPending
	}
	return row, err
}

// Replace makes now (nil: no object) the batch's object inside t, and puts the replace entry into the stream. ErrClaim where generation is not
// the last claimed, ErrEntry where now is not an object of that generation. It appends an evidence leaf as an intent does.
func (s *Shipper) Replace(t *state.Txn, id BatchID, generation int, now *Batch) (number uint64, err error) {
	row, err := s.rewritable(t, id)
	if err != nil {
		return 0, fmt.Errorf("replacing batch: %w", err)
	}
	if generation != row.Claimed || generation <= row.Generation {
		return 0, fmt.Errorf("replacing batch: %w", ErrClaim)
	}
	if now != nil {
		if err := now.check(s.o.Name); err != nil {
			return 0, fmt.Errorf("replacing batch: %w", err)
		}
		if now.ID != row.Batch.ID || now.Key != row.key(generation) {
			return 0, fmt.Errorf("replacing batch: %w: id or object key is not what was claimed", ErrEntry)
		}
	}
	if number, err = s.place(t); err != nil {
		return 0, fmt.Errorf("replacing batch: %w", err)
	}
	r := Replace{Batch: row.Batch.ID, Of: row.StatedBy(), Generation: generation, Now: now}
	row.apply(&r, number)
	core := coreOf("replace", &row, number, s.o.Now())
	core.Of, core.Generation = r.Of, r.Generation
	if _, err := prove(t, core); err != nil {
		return 0, err
	}
	if row.Empty {
		t.Delete(unindexedKey(id))
	}
	if err := setRow(t, batchKey(id), row); err != nil {
		return 0, err
	}
	entry := streamRow{Format: rowFormat, Type: ReplaceEntry, Node: s.o.Node, Batch: r.Batch, Replace: &r}
	return number, setRow(t, streamKey(s.o.Name, number), entry)
}

// apply makes the batch what the replace entry of that number states.
func (row *BatchRow) apply(r *Replace, number uint64) {
	row.Generation, row.Claimed, row.Stated, row.Empty = r.Generation, max(row.Claimed, r.Generation), number, r.Now == nil
	if r.Now != nil {
		row.Batch = *r.Now
	}
}

// Published is the last published number of the stream. Its entries up to there are in the store.
func (s *Shipper) Published() uint64 { return s.published.Load() }

// Heads are the last numbers of destinations' streams as they are committed: what was sealed before something has a number up to these. Read
// inside a change they are exact.
func Heads(r interface {
	Get(key []byte) ([]byte, error)
}, destinations ...string,
) (map[string]uint64, error) {
	heads := make(map[string]uint64, len(destinations))
	for _, name := range destinations {
		c, err := readCursor(r, name)
		if err != nil {
			return nil, fmt.Errorf("reading heads: %w", err)
		}
		heads[name] = c.number
	}
	return heads, nil
}
