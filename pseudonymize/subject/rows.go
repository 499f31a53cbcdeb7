package subject

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/octroi/octroi/consent/state"
)

// Rows of this package in state, version 1; integers big-endian:
//
//	"t/" ‖ tag(16)                     slot(4) ‖ check(8), Derive("check")[:8] of the slot's key
//	"s/gone/" ‖ remnant(16)            when whose tag it was was erased, Unix milliseconds(8); suppress.go
//	"s/gone"                           HMAC-SHA256(suppression key, "suppression key check")[:16]; from the first start with the key
//	"s/home"                           version(1) ‖ slot file's id(16) ‖ HMAC-SHA256(lookup key, "lookup key check")[:16]
//	"s/chunk/" ‖ chunk(4)              kind(1) ‖ slots given out of it, from its first(2)
//	"s/shred/" ‖ slot(4)               empty; there from the deletion of a subject's tags until its slot is overwritten
//	"s/tags/" ‖ Derive("row:s/tags/")[:16]   sealed: version(1) ‖ [namespace(1) ‖ tag(16)]…; the subject's tags
const (
	tagTablePrefix = "t/"
	homeKey        = "s/home"
	gonePrefix     = "s/gone/"
	goneCheckKey   = "s/gone"
	chunkPrefix    = "s/chunk/"
	shredPrefix    = "s/shred/"
	ownTags        = "s/tags/"
	rowVersion     = 1
	lookupCheckUse = "lookup key check"
	goneCheckUse   = "suppression key check"
	tagRowLength   = 4 + 8
	claimLength    = 1 + 16
	homeRowLength  = 1 + 16 + 16
	chunkRowLength = 3
	maxClaims      = 64
)

// getter is the one method that lookups need of a state.Txn or a state.Reader.
type getter interface {
	Get(key []byte) ([]byte, error) // state.ErrNotFound
}

func tagKey(tag Tag) []byte { return append([]byte(tagTablePrefix), tag[:]...) }

func slotKeyOf(prefix string, number uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte(prefix), number)
}

func numberOf(prefix string, key []byte) (uint32, error) {
	if len(key) != len(prefix)+4 {
		return 0, fmt.Errorf("reading rows %q: key of %d bytes: %w", prefix, len(key), ErrDamaged)
	}
	return binary.BigEndian.Uint32(key[len(prefix):]), nil
}

func encodeTagRow(s Subject) []byte {
	check := s.Derive("check")
	return append(binary.BigEndian.AppendUint32(nil, uint32(s.slot)), check[:8]...)
}

// readTag is the subject that a tag's row names. ErrUnknown where there is no row or its slot is shredded; ErrDamaged where the
// slot's key is not the one that the row was written for.
func (r *Registry) readTag(g getter, tag Tag) (Subject, error) {
	row, err := g.Get(tagKey(tag))
	if errors.Is(err, state.ErrNotFound) {
		return Subject{}, ErrUnknown
	}
	if err != nil {
		return Subject{}, fmt.Errorf("reading a tag's row: %w", err)
	}
	if len(row) != tagRowLength {
		return Subject{}, fmt.Errorf("reading a tag's row: %d bytes: %w", len(row), ErrDamaged)
	}
	slot := Slot(binary.BigEndian.Uint32(row))
	s, err := r.slots.keys.get(slot)
	switch {
	case errors.Is(err, ErrShredded):
		return Subject{}, ErrUnknown
	case err != nil:
		return Subject{}, fmt.Errorf("reading a tag's row: slot %d was not given out: %w", slot, ErrDamaged)
	}
	if check := s.Derive("check"); string(check[:8]) != string(row[4:]) {
		return Subject{}, fmt.Errorf("reading a tag's row: slot %d holds another key: %w", slot, ErrDamaged)
	}
	return s, nil
}

// claim is one tag of a subject, with its namespace.
type claim struct {
	namespace namespace
	tag       Tag
}

func encodeClaims(claims []claim) []byte {
	b := make([]byte, 1, 1+len(claims)*claimLength)
	b[0] = rowVersion
	for _, c := range claims {
		b = append(b, byte(c.namespace))
		b = append(b, c.tag[:]...)
	}
	return b
}

func decodeClaims(b []byte) ([]claim, error) {
	if len(b) == 0 || b[0] != rowVersion || (len(b)-1)%claimLength != 0 || len(b) > 1+maxClaims*claimLength {
		return nil, fmt.Errorf("reading a subject's tags: %w", ErrDamaged)
	}
	var claims []claim
	for b = b[1:]; len(b) > 0; b = b[claimLength:] {
		if b[0] < byte(email) || b[0] > byte(device) {
			return nil, fmt.Errorf("reading a subject's tags: namespace %d: %w", b[0], ErrDamaged)
		}
		claims = append(claims, claim{namespace(b[0]), Tag(b[1:claimLength])})
	}
	return claims, nil
}

// readClaims lists the subject's tags; state.ErrNotFound where they were deleted.
func readClaims(g getter, s Subject) ([]claim, error) {
	key := s.RowKey(ownTags, nil)
	sealed, err := g.Get(key)
	if err != nil {
		return nil, fmt.Errorf("reading a subject's tags: %w", err)
	}
	plain, err := s.Open(ownTags, key, sealed)
	if err != nil {
		return nil, fmt.Errorf("reading a subject's tags: %w", err)
	}
	return decodeClaims(plain)
}

func writeClaims(t *state.Txn, s Subject, claims []claim) {
	key := s.RowKey(ownTags, nil)
	t.Set(key, s.Seal(ownTags, key, encodeClaims(claims)))
}

// givenSlots is what state knows of a chunk.
type givenSlots struct {
	kind Kind
	n    uint32
}

type chunkRow struct {
	number uint32
	givenSlots
}

func (c chunkRow) set(t *state.Txn) {
	t.Set(slotKeyOf(chunkPrefix, c.number), binary.BigEndian.AppendUint16([]byte{byte(c.kind)}, uint16(c.n)))
}

// knownSlots is what state knows of the slot file when it is opened.
type knownSlots struct {
	given     map[uint32]givenSlots
	shredding map[Slot]struct{}
}

func readKnown(r state.Reader) (knownSlots, error) {
	known := knownSlots{map[uint32]givenSlots{}, map[Slot]struct{}{}}
	err := r.Scan([]byte(chunkPrefix), func(key, value []byte) error {
		number, err := numberOf(chunkPrefix, key)
		if err != nil {
			return err
		}
		if len(value) != chunkRowLength {
			return fmt.Errorf("reading rows %q: value of %d bytes: %w", chunkPrefix, len(value), ErrDamaged)
		}
		g := givenSlots{Kind(value[0]), uint32(binary.BigEndian.Uint16(value[1:]))}
		if !g.kind.valid() || g.n == 0 || g.n > chunkSlots {
			return fmt.Errorf("reading rows %q: chunk %d: %w", chunkPrefix, number, ErrDamaged)
		}
		known.given[number] = g
		return nil
	})
	if err != nil {
		return knownSlots{}, err
	}
	err = r.Scan([]byte(shredPrefix), func(key, _ []byte) error {
		number, err := numberOf(shredPrefix, key)
		known.shredding[Slot(number)] = struct{}{}
		return err
	})
	return known, err
}

// home binds state to its slot file and its lookup key.
type home struct {
	file   [16]byte
	lookup [16]byte
}

func encodeHome(h home) []byte {
	return append(append([]byte{rowVersion}, h.file[:]...), h.lookup[:]...)
}

// readHome is nil where state never had a slot file.
func readHome(g getter) (*home, error) {
	row, err := g.Get([]byte(homeKey))
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading row %q: %w", homeKey, err)
	}
	if len(row) != homeRowLength || row[0] != rowVersion {
		return nil, fmt.Errorf("reading row %q: %d bytes: %w", homeKey, len(row), ErrDamaged)
	}
	return &home{[16]byte(row[1:17]), [16]byte(row[17:])}, nil
}

// keyCheck says which key it is, and nothing else of it.
func keyCheck(key *[32]byte, use string) [16]byte {
	sum := authenticate(key, use, "")
	return [16]byte(sum[:16])
}
