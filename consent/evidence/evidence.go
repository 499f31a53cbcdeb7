// Package evidence is the Merkle log that makes consent provable: leaves that hold no personal data, signed checkpoints,
// inclusion and consistency proofs, and their offline verification.
//
// The log's formats are C2SP's: tlog-checkpoint (a signed note), tlog-tiles (the exported folder). A log entry is the 32 bytes
// of a Leaf; its Merkle leaf hash is RFC 6962's SHA-256(0x00 ‖ entry).
package evidence

import (
	"golang.org/x/mod/sumdb/tlog"
)

// Leaf is one entry of the log: H(salt ‖ H(core) ‖ H(salt′ ‖ strippable)), architecture.md "State".
type Leaf [32]byte

// Opening is what shows the content of a leaf. A subject's salts derive from its key; a leaf without a subject has random ones.
// A stripped record keeps Core, Salt and StrippableHash, and stays provable.
type Opening struct {
	Salt           [16]byte `json:"-"`
	Core           []byte
	StrippableSalt [16]byte
	Strippable     []byte
	StrippableHash [32]byte // H(StrippableSalt ‖ Strippable); set where Strippable was stripped
}

// Leaf computes the leaf that o opens.
func (o Opening) Leaf() Leaf { panic("skeleton") }

// Strip drops the strippable part and keeps its hash: the leaf stays the same.
func (o Opening) Strip() Opening { panic("skeleton") }

// Proof is the proof that a leaf is in the log of which Checkpoint is the signed head.
type Proof struct {
	Index      int64       `json:"index"`
	Size       int64       `json:"size"`
	Hashes     []tlog.Hash `json:"hashes"`
	Checkpoint string      `json:"checkpoint"` // signed note, C2SP tlog-checkpoint
}
