package evidence

import (
	"bytes"
	"encoding/json"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// openingJSON is an Opening as JSON, v1. Bytes are base64 (RFC 4648 section 4, padded). It has one spelling only: these members in this
// order, strippable_hash if and only if the record was stripped. Reading refuses every other spelling.
//
//	{"salt":"…","core":"…","strippable_salt":"…","strippable":"…"}
//	{"salt":"…","core":"…","strippable_hash":"…"}
type openingJSON struct {
	Salt           []byte  `json:"salt"`
	Core           []byte  `json:"core"`
	StrippableSalt []byte  `json:"strippable_salt,omitempty"`
	Strippable     *[]byte `json:"strippable,omitempty"`
	StrippableHash []byte  `json:"strippable_hash,omitempty"`
}

func (o Opening) wire() openingJSON {
	w := openingJSON{Salt: o.Salt[:], Core: append([]byte{}, o.Core...)}
	if o.Stripped() {
		w.StrippableHash = o.StrippableHash[:]
		return w
	}
	w.StrippableSalt = o.StrippableSalt[:]
	strippable := append([]byte{}, o.Strippable...)
	w.Strippable = &strippable
	return w
}

func (w openingJSON) opening() (Opening, error) {
	var o Opening
	if len(w.Salt) != len(o.Salt) {
		return Opening{}, fmt.Errorf("%w: an opening's salt is 16 bytes", ErrFormat)
	}
	copy(o.Salt[:], w.Salt)
	o.Core = w.Core
	if w.StrippableHash != nil {
		if len(w.StrippableHash) != len(o.StrippableHash) || w.StrippableSalt != nil || w.Strippable != nil {
			return Opening{}, fmt.Errorf("%w: a stripped opening has a hash of 32 bytes and nothing of what was stripped", ErrFormat)
		}
		copy(o.StrippableHash[:], w.StrippableHash)
		return o, nil
	}
	if len(w.StrippableSalt) != len(o.StrippableSalt) || w.Strippable == nil {
		return Opening{}, fmt.Errorf("%w: an opening has a strippable part with a salt of 16 bytes, or its hash", ErrFormat)
	}
	copy(o.StrippableSalt[:], w.StrippableSalt)
	o.Strippable = *w.Strippable
	return o, nil
}

// MarshalJSON writes the one spelling of o.
func (o Opening) MarshalJSON() ([]byte, error) { return json.Marshal(o.wire()) }

// UnmarshalJSON reads what MarshalJSON writes and refuses every other spelling (ErrFormat); white space between tokens is allowed.
func (o *Opening) UnmarshalJSON(text []byte) error {
	var w openingJSON
	if err := json.Unmarshal(text, &w); err != nil {
		return fmt.Errorf("%w: an opening is not JSON of the expected form", ErrFormat)
	}
	read, err := w.opening()
	if err != nil {
		return err
	}
	if err := onlySpelling(text, read); err != nil {
		return err
	}
	*o = read
	return nil
}

// Proof is the proof that a leaf is in the log of which Checkpoint is the signed head. As JSON it has one spelling, like Opening.
type Proof struct {
	Index      int64       `json:"index"`      // of the leaf, from 0
	Size       int64       `json:"size"`       // of the log, in leaves
	Hashes     []tlog.Hash `json:"hashes"`     // audit path, RFC 6962 section 2.1.1, from the leaf upwards
	Checkpoint string      `json:"checkpoint"` // signed note, C2SP tlog-checkpoint
}

type proofJSON Proof // without methods

// MarshalJSON writes the one spelling of p.
func (p Proof) MarshalJSON() ([]byte, error) {
	if p.Hashes == nil {
		p.Hashes = []tlog.Hash{}
	}
	return json.Marshal(proofJSON(p))
}

// UnmarshalJSON reads what MarshalJSON writes and refuses every other spelling (ErrFormat); white space between tokens is allowed.
func (p *Proof) UnmarshalJSON(text []byte) error {
	var w proofJSON
	if err := json.Unmarshal(text, &w); err != nil {
		return fmt.Errorf("%w: a proof is not JSON of the expected form", ErrFormat)
	}
	if err := onlySpelling(text, Proof(w)); err != nil {
		return err
	}
	*p = Proof(w)
	return nil
}

// onlySpelling refuses text unless it is what v is written as: no other order, case, escape, padding bit, unknown or repeated member.
func onlySpelling(text []byte, v json.Marshaler) error {
	want, err := v.MarshalJSON()
	if err != nil {
		return fmt.Errorf("writing evidence again: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil || !bytes.Equal(compact.Bytes(), want) {
		return fmt.Errorf("%w: spelled otherwise than it is written", ErrFormat)
	}
	return nil
}
