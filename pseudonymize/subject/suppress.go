package subject

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/octroi/octroi/consent/state"
)

// Remnant is a keyed hash under the suppression key: it says of who comes that they were erased, and leads to nobody once the subject's key is gone.
// As text it is 32 lower-case hex digits.
type Remnant [16]byte

// MarshalText is the hex digits: they stand in sealed journals only.
func (x Remnant) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, x[:]), nil }

// UnmarshalText reads what MarshalText writes, and nothing else.
func (x *Remnant) UnmarshalText(text []byte) error {
	var read Remnant
	if len(text) != hex.EncodedLen(len(read)) {
		return fmt.Errorf("reading remnant: %d digits: %w", len(text), ErrDamaged)
	}
	if _, err := hex.Decode(read[:], text); err != nil || string(hex.AppendEncode(nil, read[:])) != string(text) {
		return fmt.Errorf("reading remnant: %w", ErrDamaged)
	}
	*x = read
	return nil
}

// Mark is what remains of an erased subject, for as long as a backup or an import could bring it back (rights.md "What may remain"). It formats
// as "[mark]"; its JSON is for sealed places.
type Mark struct {
	Subject Remnant   `json:"subject"`        // HMAC-SHA256(suppression key, "subject" ‖ Derive("suppress"))[:16]
	Tags    []Remnant `json:"tags,omitempty"` // HMAC-SHA256(suppression key, "tag" ‖ tag)[:16] of each identifier; no import names a device's credential
}

func (r *Registry) remnantOf(s *Subject) Remnant {
	own := s.derive("suppress", "")
	sum := authenticate(r.suppression, "subject", string(own[:]))
	return Remnant(sum[:16])
}

func (r *Registry) remnant(tag Tag) Remnant {
	sum := authenticate(r.suppression, "tag", string(tag[:]))
	return Remnant(sum[:16])
}

// bindSuppression makes the suppression key the state's own, or refuses one that is not.
func (r *Registry) bindSuppression() error {
	var bound []byte
	err := r.state.View(func(v state.Reader) (err error) {
		bound, err = v.Get([]byte(goneCheckKey))
		return err
	})
	switch {
	case errors.Is(err, state.ErrNotFound):
		if r.suppression == nil {
			return nil
		}
		check := keyCheck(r.suppression, goneCheckUse)
		return r.state.Update(context.Background(), func(t *state.Txn) error {
			t.Set([]byte(goneCheckKey), check[:])
			return nil
		})
	case err != nil:
		return fmt.Errorf("reading row %q: %w", goneCheckKey, err)
	case r.suppression == nil:
		return fmt.Errorf("%w: put the key file of this state in place", ErrSuppressionKey)
	}
	if check := keyCheck(r.suppression, goneCheckUse); string(check[:]) != string(bound) {
		return fmt.Errorf("%w: put the key file of this state in place", ErrSuppressionKey)
	}
	return nil
}

// Mark is the mark of a subject whose key is there still. Take it before Sever or Shred, which delete the tags.
func (r *Registry) Mark(s Subject) (Mark, error) {
	if r.suppression == nil {
		return Mark{}, fmt.Errorf("marking a subject: %w", ErrSuppressionKey)
	}
	if _, err := r.BySlot(s.slot); err != nil {
		return Mark{}, fmt.Errorf("marking a subject: %w", err)
	}
	var claims []claim
	err := r.state.View(func(v state.Reader) (err error) {
		claims, err = readClaims(v, s)
		return err
	})
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return Mark{}, fmt.Errorf("marking a subject: %w", err)
	}
	m := Mark{Subject: r.remnantOf(&s)}
	for _, c := range claims {
		if c.namespace != device {
			m.Tags = append(m.Tags, r.remnant(c.tag))
		}
	}
	return m, nil
}

// Suppress remembers, inside t, that the subject of m was erased: ErasedAt answers it until ForgetErased. Of two times the later counts.
func (r *Registry) Suppress(t *state.Txn, m Mark, at time.Time) error {
	if r.suppression == nil {
		return fmt.Errorf("suppressing a subject: %w", ErrSuppressionKey)
	}
	for _, tag := range m.Tags {
		before, ok, err := readGone(t, tag)
		if err != nil {
			return fmt.Errorf("suppressing a subject: %w", err)
		}
		if millis := at.UnixMilli(); !ok || before < millis {
			t.Set(goneKey(tag), binary.BigEndian.AppendUint64(nil, uint64(millis)))
		}
	}
	return nil
}

func goneKey(x Remnant) []byte { return append([]byte(gonePrefix), x[:]...) }

// readGone is when whoever had the tag was erased, in Unix milliseconds.
func readGone(g getter, x Remnant) (millis int64, ok bool, err error) {
	row, err := g.Get(goneKey(x))
	if errors.Is(err, state.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("reading rows %q: %w", gonePrefix, err)
	}
	millis, err = decodeGone(row)
	return millis, err == nil, err
}

func decodeGone(row []byte) (millis int64, err error) {
	if len(row) != 8 {
		return 0, fmt.Errorf("reading rows %q: value of %d bytes: %w", gonePrefix, len(row), ErrDamaged)
	}
	return int64(binary.BigEndian.Uint64(row)), nil
}

// ErasedAt is the latest time, in milliseconds, at which a person with one of the identifiers was erased; ok is false where none is remembered. It
// reads from v, which may be a Txn.
func (r *Registry) ErasedAt(v interface {
	Get(key []byte) ([]byte, error)
}, ids ...Identifier,
) (at time.Time, ok bool, err error) {
	if r.suppression == nil {
		return time.Time{}, false, nil // no state that ever remembered one opens without the key
	}
	for _, id := range ids {
		if id.namespace == 0 {
			return time.Time{}, false, fmt.Errorf("looking for an erasure: the zero identifier: %w", ErrIdentifier)
		}
		millis, gone, err := readGone(v, r.remnant(r.Tag(id)))
		if err != nil {
			return time.Time{}, false, fmt.Errorf("looking for an erasure: %w", err)
		}
		if t := time.UnixMilli(millis).UTC(); gone && (!ok || t.After(at)) {
			at, ok = t, true
		}
	}
	return at, ok, nil
}

// forgetChunk bounds the rows that one change deletes: a change of state is bounded.
const forgetChunk = 1000

// ForgetErased drops what was remembered before a time (90 days: backups and imports are no older). After an error or a crash what was dropped
// is, and a next call drops the rest.
func (r *Registry) ForgetErased(ctx context.Context, before time.Time) (dropped int, err error) {
	for first := range 256 { // the rows lie under hashes: a 256th of them is in memory at a time
		over, err := r.erasedBefore(append([]byte(gonePrefix), byte(first)), before.UnixMilli())
		for ; err == nil && len(over) > 0; over = over[min(len(over), forgetChunk):] {
			var n int
			n, err = r.dropErased(ctx, over[:min(len(over), forgetChunk)], before.UnixMilli())
			dropped += n
		}
		if err != nil {
			return dropped, fmt.Errorf("forgetting erasures: %w", err)
		}
	}
	return dropped, nil
}

func (r *Registry) erasedBefore(prefix []byte, before int64) (over []Remnant, err error) {
	err = r.state.View(func(v state.Reader) error {
		return v.Scan(prefix, func(key, row []byte) error {
			millis, err := decodeGone(row)
			if err != nil || len(key) != len(gonePrefix)+len(Remnant{}) {
				return fmt.Errorf("reading rows %q: %w", gonePrefix, ErrDamaged)
			}
			if millis < before {
				over = append(over, Remnant(key[len(gonePrefix):]))
			}
			return nil
		})
	})
	return over, err
}

// dropErased looks again inside the writer: the same person may have been erased once more since.
func (r *Registry) dropErased(ctx context.Context, over []Remnant, before int64) (dropped int, err error) {
	err = r.state.Update(ctx, func(t *state.Txn) error {
		dropped = 0
		for _, x := range over {
			millis, ok, err := readGone(t, x)
			if err != nil {
				return err
			}
			if ok && millis < before {
				t.Delete(goneKey(x))
				dropped++
			}
		}
		return nil
	})
	return dropped, err
}

// Find is the subjects of marks among all devices and persons whose keys are there: what a restored slot file brought back. One pass over the
// slots, in memory; a million take 1.1 s (BenchmarkFind).
func (r *Registry) Find(marks map[Remnant]bool) ([]Subject, error) {
	if r.suppression == nil {
		return nil, fmt.Errorf("finding the erased: %w", ErrSuppressionKey)
	}
	var found []Subject
	r.slots.keys.each(func(s Subject) {
		if s.kind != Request && marks[r.remnantOf(&s)] {
			found = append(found, s)
		}
	})
	return found, nil
}
