package consent

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// keptRow is a proof of consent that outlives its subject (GDPR Art. 17(3)(e)), JSON v1 under "c/kept/" ‖ the receipt id's 16 bytes. Nothing in it
// leads to another record of the same subject, nor to the record's own id: whoever has the receipt finds it, by the secret.
type keptRow struct {
	Version        int             `json:"v"`
	Leaf           int64           `json:"leaf"`
	Until          int64           `json:"until"` // Unix milliseconds (C12)
	Salt           []byte          `json:"salt"`
	StrippableHash []byte          `json:"strippable_hash"`
	Core           json.RawMessage `json:"core"`
}

const (
	keptPrefix  = "c/kept/"
	keptVersion = 1
)

// severChunk bounds the records that one change strips, and severRoom is what a change has left for one more.
const (
	severChunk = 256
	severRoom  = state.MaxChangeBytes / 4
)

// receiptSecret is the secret in the receipt of the subject's record of that number: 128 bits.
func receiptSecret(s subject.Subject, number uint32) []byte {
	secret := s.Derive("receipt:" + strconv.FormatUint(uint64(number), 10))
	return secret[:16]
}

// receiptID is what a record is called in its core and in its receipt, and found by when its subject is gone: SHA-256(secret)[:16] as a UUID of
// version 8 (RFC 9562 section 5.8). It binds the secret to the record.
func receiptID(secret []byte) (id [16]byte) {
	sum := sha256.Sum256(secret)
	id = [16]byte(sum[:16])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return id
}

// uuidText is the canonical text of a UUID (RFC 9562 section 4).
func uuidText(id [16]byte) string {
	text := make([]byte, 0, 36)
	for i, part := range [...][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, part)
	}
	return string(text)
}

func keptKey(id [16]byte) []byte { return append([]byte(keptPrefix), id[:]...) }

// strip deletes, inside the writer, the first records that are left, and keeps the stripped proof of each that granted a consent. more says that
// it stopped at the bound of one change.
func (l *Ledger) strip(t *state.Txn, s subject.Subject, e *erasure) (more bool, err error) {
	n := 0
	prefix := s.RowKey(recordTable, nil)
	err = t.Scan(prefix, func(key, sealed []byte) error {
		if n == severChunk || n > 0 && t.Room() < severRoom {
			more = true
			return state.ErrStop
		}
		n++
		e.records++
		t.Delete(key)
		if len(key) != len(prefix)+4 {
			return nil
		}
		// A record that does not open proves nothing, and does not stop an erasure.
		if row, err := openRecord(s, key, sealed); err == nil && row.granted() {
			row.keep(t, s, binary.BigEndian.Uint32(key[len(prefix):]), e.until)
			e.kept++
		}
		return nil
	})
	return more, err
}

// granted says whether the record gave a consent.
func (r *recordRow) granted() bool {
	var c core
	return json.Unmarshal(r.Core, &c) == nil && slices.ContainsFunc(c.Purposes, func(p recordedPurpose) bool {
		return p.Granted && p.Basis == policies.Consent
	})
}

func (r *recordRow) keep(t *state.Txn, s subject.Subject, number uint32, until int64) {
	o := r.opening(s, number).Strip()
	t.Set(keptKey(receiptID(receiptSecret(s, number))), canonical(keptRow{
		Version: keptVersion, Leaf: r.Leaf, Until: until, Salt: o.Salt[:], StrippableHash: o.StrippableHash[:], Core: o.Core,
	}))
}

func decodeKept(text []byte) (k keptRow, o evidence.Opening, err error) {
	if json.Unmarshal(text, &k) != nil || k.Version != keptVersion || len(k.Salt) != len(o.Salt) || len(k.StrippableHash) != len(o.StrippableHash) {
		return keptRow{}, evidence.Opening{}, fmt.Errorf("reading a kept proof: %w", ErrStored)
	}
	o = evidence.Opening{Salt: [16]byte(k.Salt), Core: k.Core, StrippableHash: [32]byte(k.StrippableHash)}
	return k, o, nil
}

// Kept is the stripped proof of a consent whose subject was erased, by the secret of its receipt (ReceiptProof.Secret); ErrNoRecord where there is none,
// or its time is over.
func (l *Ledger) Kept(secret string) (Proven, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	if err != nil || len(raw) != 16 {
		return Proven{}, ErrNoRecord
	}
	var k keptRow
	var o evidence.Opening
	err = l.state.View(func(r state.Reader) error {
		text, err := r.Get(keptKey(receiptID(raw)))
		if err != nil {
			return err
		}
		k, o, err = decodeKept(text)
		return err
	})
	if errors.Is(err, state.ErrNotFound) || err == nil && k.Until <= l.now().UnixMilli() {
		return Proven{}, ErrNoRecord
	}
	if err != nil {
		return Proven{}, fmt.Errorf("finding a kept proof: %w", err)
	}
	return l.proven(k.Leaf, o)
}

// ForgetKept drops the proofs that were kept until a time before (C12), with a deletion leaf (C10) for each change: one, unless there are more than
// deleteChunk of them. After an error or a crash what was dropped is, and a next call drops the rest.
func (l *Ledger) ForgetKept(ctx context.Context, before time.Time) (dropped int, err error) {
	var over [][]byte
	for first := range 256 { // the rows lie under hashes: a 256th of them is looked at in one snapshot
		if over, err = l.keptBefore(over, byte(first), before.UnixMilli()); err != nil {
			return dropped, fmt.Errorf("forgetting kept proofs: %w", err)
		}
		for len(over) >= deleteChunk || first == 255 && len(over) > 0 {
			n, err := l.dropKept(ctx, over[:min(len(over), deleteChunk)])
			if err != nil {
				return dropped, fmt.Errorf("forgetting kept proofs: %w", err)
			}
			dropped, over = dropped+n, over[min(len(over), deleteChunk):]
		}
	}
	return dropped, nil
}

// dropKept deletes rows and counts those that were there: another call may have been faster.
func (l *Ledger) dropKept(ctx context.Context, keys [][]byte) (dropped int, err error) {
	err = l.state.Update(ctx, func(t *state.Txn) error {
		dropped = 0
		for _, key := range keys {
			_, err := t.Get(key)
			if errors.Is(err, state.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			t.Delete(key)
			dropped++
		}
		if dropped == 0 {
			return nil
		}
		_, err := l.appendDeletion(t, map[string]int{"kept_proofs": dropped})
		return err
	})
	return dropped, err
}

// keptBefore adds to over the keys of proofs that were kept until a time before. None of them changes any more.
func (l *Ledger) keptBefore(over [][]byte, first byte, before int64) ([][]byte, error) {
	err := l.state.View(func(r state.Reader) error {
		return r.Scan(append([]byte(keptPrefix), first), func(key, text []byte) error {
			k, _, err := decodeKept(text)
			if err == nil && k.Until < before {
				over = append(over, key)
			}
			return err
		})
	})
	return over, err
}
