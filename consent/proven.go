package consent

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Proven is a record with what proves it, as a DPO gets it and `octroi verify record` reads it. As JSON it has one spelling, that of
// encoding/json: ParseProven refuses every other.
type Proven struct {
	Record  json.RawMessage  `json:"record"` // {"core":…,"strippable":…}: the bytes that the opening holds, to be read by people
	Opening evidence.Opening `json:"opening"`
	Proof   evidence.Proof   `json:"proof"`
	Notice  string           `json:"notice_text,omitempty"` // the exact text the person saw
}

// head is a signed head of the log.
type head struct {
	size int64
	note string
}

// headOver is a signed head that covers the leaf: the last one if it does, so that the records of one group share a signature.
func (l *Ledger) headOver(index int64) (head, error) {
	l.headMu.Lock()
	defer l.headMu.Unlock()
	if l.head.size > index {
		return l.head, nil
	}
	size, root, err := l.state.Tree()
	if err != nil {
		return head{}, fmt.Errorf("reading head of the log: %w", err)
	}
	if size <= index {
		return head{}, fmt.Errorf("reading head of the log: %w", ErrStored)
	}
	note, err := l.checkpoints.SignCheckpoint(size, root)
	if err != nil {
		return head{}, fmt.Errorf("signing head of the log: %w", err)
	}
	l.head = head{size, note}
	return l.head, nil
}

func (l *Ledger) proof(index int64) (evidence.Proof, error) {
	h, err := l.headOver(index)
	if err != nil {
		return evidence.Proof{}, err
	}
	hashes, err := l.state.Inclusion(index, h.size)
	if err != nil {
		return evidence.Proof{}, fmt.Errorf("proving inclusion: %w", err)
	}
	return evidence.Proof{Index: index, Size: h.size, Hashes: hashes, Checkpoint: h.note}, nil
}

// proven adds to an opened leaf its proof and the text it names.
func (l *Ledger) proven(index int64, o evidence.Opening) (Proven, error) {
	c, err := readOpening(&o)
	if err != nil {
		return Proven{}, fmt.Errorf("reading record: %w", ErrStored)
	}
	p := Proven{Record: readable(&o), Opening: o}
	if c.Notice != nil {
		n, err := l.NoticeText(c.Notice.SHA256)
		if err != nil {
			return Proven{}, fmt.Errorf("reading notice of record: %w", err)
		}
		p.Notice = n.Text
	}
	p.Proof, err = l.proof(index)
	return p, err
}

// readable is Proven.Record of an opening.
func readable(o *evidence.Opening) json.RawMessage {
	return canonical(provenRecord{Core: o.Core, Strippable: o.Strippable})
}

// Current lists the standing purposes of a subject; ErrNoRecord where there is none.
func (l *Ledger) Current(s subject.Subject) ([]Standing, error) {
	if !s.Exists() {
		return nil, ErrNoRecord
	}
	row, err := l.openStanding(s)
	if errors.Is(err, state.ErrNotFound) {
		return nil, ErrNoRecord
	}
	if err != nil {
		return nil, fmt.Errorf("reading standing: %w", err)
	}
	return row.list(l.policy, l.now()), nil
}

// History lists a subject's records, oldest first, each with its proof. ErrNoRecord where there is none. Who has thousands is better read by
// Records.
func (l *Ledger) History(s subject.Subject) (out []Proven, err error) {
	err = l.Records(s, func(p Proven) error {
		out = append(out, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Records calls fn with each of a subject's records, oldest first, with its proof; one at a time is in memory. Of a subject that is suppressed it
// shows them until Sever begins. ErrNoRecord where there is none; fn's error ends it.
func (l *Ledger) Records(s subject.Subject, fn func(Proven) error) error {
	if !s.Exists() {
		return ErrNoRecord
	}
	err := l.state.View(func(r state.Reader) error {
		row, err := readStandingRow(r, s)
		if err != nil {
			return err
		}
		return l.eachRecord(r, s, row.Records, fn)
	})
	if errors.Is(err, state.ErrNotFound) {
		return ErrNoRecord
	}
	if err != nil {
		return fmt.Errorf("reading history: %w", err)
	}
	return nil
}

// eachRecord proves the records 1 to last, and finds one that is missing (C10).
func (l *Ledger) eachRecord(r state.Reader, s subject.Subject, last uint32, fn func(Proven) error) error {
	newest, err := readRecord(r, s, last)
	if errors.Is(err, state.ErrNotFound) {
		return ErrStored
	}
	if err != nil {
		return err
	}
	if _, err := l.headOver(newest.Leaf); err != nil { // it covers the others: one signature
		return err
	}
	n, prefix := uint32(0), s.RowKey(recordTable, nil)
	err = r.Scan(prefix, func(key, sealed []byte) error {
		if n++; len(key) != len(prefix)+4 || binary.BigEndian.Uint32(key[len(prefix):]) != n {
			return ErrStored
		}
		row, err := openRecord(s, key, sealed)
		if err != nil {
			return err
		}
		p, err := l.proven(row.Leaf, row.opening(s, n))
		if err != nil {
			return err
		}
		return fn(p)
	})
	if err == nil && n != last {
		return ErrStored
	}
	return err
}

// readRecord reads one record: state.ErrNotFound.
func readRecord(r state.Reader, s subject.Subject, number uint32) (recordRow, error) {
	key := s.RowKey(recordTable, be32(number))
	sealed, err := r.Get(key)
	if err != nil {
		return recordRow{}, err
	}
	return openRecord(s, key, sealed)
}

// Resolve is the record that a Grant rests on, with its proof (G4). ErrNoRecord, or subject's error for a slot that is none or shredded.
func (l *Ledger) Resolve(slot subject.Slot, record uint32) (Proven, error) {
	s, err := l.subjects.BySlot(slot)
	if err != nil {
		return Proven{}, fmt.Errorf("resolving grant: %w", err)
	}
	var row recordRow
	err = l.state.View(func(r state.Reader) (err error) {
		row, err = readRecord(r, s, record)
		return err
	})
	if errors.Is(err, state.ErrNotFound) {
		return Proven{}, ErrNoRecord
	}
	if err != nil {
		return Proven{}, fmt.Errorf("resolving grant: %w", err)
	}
	return l.proven(row.Leaf, row.opening(s, record))
}

func openRecord(s subject.Subject, key, sealed []byte) (recordRow, error) {
	text, err := s.Open(recordTable, key, sealed)
	if err != nil {
		return recordRow{}, err
	}
	var row recordRow
	if json.Unmarshal(text, &row) != nil || row.Version != recordVersion {
		return recordRow{}, ErrStored
	}
	return row, nil
}

// ParseProven reads a record as it is written, with or without one line end after it. A changed byte anywhere, white space included, is
// ErrRecord here or in VerifyProven.
func ParseProven(text []byte) (Proven, error) {
	var p Proven
	if err := decodeCanonical(bytes.TrimSuffix(text, []byte("\n")), &p); err != nil {
		return Proven{}, fmt.Errorf("reading record: %w", err)
	}
	return p, nil
}

// VerifyProven checks a record offline: that it is spelled as the ledger spells it, that the text is the one it names, that it is what
// its leaf commits to, and that the leaf is in the log whose head v's key signed. ErrRecord, or evidence's errors.
func VerifyProven(p Proven, v *evidence.Verifier) error {
	c, err := readOpening(&p.Opening)
	switch {
	case err != nil:
		return fmt.Errorf("verifying record: %w", err)
	case !bytes.Equal(p.Record, readable(&p.Opening)):
		return fmt.Errorf("verifying record: the readable part: %w", ErrRecord)
	case c.Notice == nil && p.Notice != "", c.Notice != nil && textHash(p.Notice) != c.Notice.SHA256:
		return fmt.Errorf("verifying record: notice_text: %w", ErrRecord)
	}
	if _, err := p.Proof.Verify(p.Opening.Leaf(), v); err != nil {
		return fmt.Errorf("verifying record: %w", err)
	}
	return nil
}

// readOpening reads the two parts of a record, each in its one spelling.
func readOpening(o *evidence.Opening) (*core, error) {
	c := new(core)
	if err := decodeCanonical(o.Core, c); err != nil || c.Version != recordVersion {
		return nil, fmt.Errorf("core: %w", ErrRecord)
	}
	if !o.Stripped() {
		if err := decodeCanonical(o.Strippable, new(strippable)); err != nil {
			return nil, fmt.Errorf("strippable part: %w", err)
		}
	}
	return c, nil
}
