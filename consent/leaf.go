package consent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
)

// Where leaves without a subject lie; drawn on Ledger.
const (
	leafPrefix    = "c/leaf/"
	refusalPrefix = "c/refusal/"
)

func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// appendAlone appends, inside the writer, a leaf that belongs to no subject, and keeps its opening with random salts.
func (l *Ledger) appendAlone(t *state.Txn, c *core, rest *strippable) (index int64, err error) {
	o := evidence.Opening{Core: canonical(c), Strippable: canonical(rest)}
	for _, salt := range [...][]byte{o.Salt[:], o.StrippableSalt[:]} {
		if _, err := io.ReadFull(l.random, salt); err != nil {
			return 0, fmt.Errorf("making salt: %w", err)
		}
	}
	index = t.Append(o.Leaf())
	t.Set(append([]byte(leafPrefix), be64(uint64(index))...), canonical(o))
	return index, nil
}

// recordRefusal records a browser's refusal, without subject and without anything that would last in the browser (C8).
func (l *Ledger) recordRefusal(ctx context.Context, a *act) (Recorded, error) {
	var c core
	err := l.state.Update(ctx, func(t *state.Txn) error {
		id, err := newRecordID(l.random)
		if err != nil {
			return err
		}
		now := utcMillis(l.now())
		c = l.compose(a, now)
		c.RecordID, c.Event.State = id, ConsentRefused
		rest := compose(a, now)
		rest.ofNobody()
		index, err := l.appendAlone(t, &c, &rest)
		if err != nil {
			return err
		}
		t.Set([]byte(refusalPrefix+id), be64(uint64(index)))
		return nil
	})
	if err != nil {
		return Recorded{}, err
	}
	return l.answer(&c, c.RecordID, time.Time{}), nil
}

// ofNobody drops what could lead to a person: nobody's key seals the row, so no erasure would ever reach it, and the openings of an exported log show
// it. What stays is of closed lists.
func (s *strippable) ofNobody() {
	s.Evidence = nil
	if s.Signals != nil {
		signals := *s.Signals
		signals.TCString, signals.GPPString = "", ""
		s.Signals = signals.orNil()
	}
}

// Refused is a browser's refusal by its record id, with its proof; ErrNoRecord.
func (l *Ledger) Refused(recordID string) (Proven, error) {
	var o evidence.Opening
	var index int64
	err := l.state.View(func(r state.Reader) error {
		row, err := r.Get([]byte(refusalPrefix + recordID))
		if err != nil {
			return err
		}
		text, err := r.Get(append([]byte(leafPrefix), row...))
		if err != nil {
			return err
		}
		if len(row) != 8 {
			return ErrStored
		}
		index = int64(binary.BigEndian.Uint64(row))
		return json.Unmarshal(text, &o)
	})
	if errors.Is(err, state.ErrNotFound) {
		return Proven{}, ErrNoRecord
	}
	if err != nil {
		return Proven{}, fmt.Errorf("reading refusal: %w", err)
	}
	return l.proven(index, o)
}

// Openings calls fn for each of the ledger's leaves without a subject, by index ascending: what an export of the evidence log shows.
func (l *Ledger) Openings(fn func(index int64, o evidence.Opening) error) error {
	return l.state.View(func(r state.Reader) error {
		return r.Scan([]byte(leafPrefix), func(key, text []byte) error {
			var o evidence.Opening
			if len(key) != len(leafPrefix)+8 || json.Unmarshal(text, &o) != nil {
				return fmt.Errorf("reading opening: %w", ErrStored)
			}
			return fn(int64(binary.BigEndian.Uint64(key[len(leafPrefix):])), o)
		})
	})
}

// CountRefused appends the leaf of an hour's refused events: counts by site, type, reason, without subjects (architecture.md "State").
func (l *Ledger) CountRefused(ctx context.Context, hour time.Time, counts map[string]int) error {
	if len(counts) == 0 {
		return nil
	}
	err := l.state.Update(ctx, func(t *state.Txn) error {
		c := core{
			Version: recordVersion, Counts: counts,
			Event: recordedEvent{Type: eventRefused, Time: hour.UTC().Truncate(time.Hour)},
		}
		var err error
		if c.RecordID, err = newRecordID(l.random); err != nil {
			return err
		}
		_, err = l.appendAlone(t, &c, &strippable{})
		return err
	})
	if err != nil {
		return fmt.Errorf("recording refused events: %w", err)
	}
	return nil
}
