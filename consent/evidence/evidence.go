// Package evidence is the Merkle log that makes consent provable: leaves that hold no personal data, signed checkpoints,
// inclusion and consistency proofs, and their offline verification.
//
// The log's formats are C2SP's: tlog-checkpoint (a signed note), tlog-tiles (the exported folder). A log entry is the 32 bytes
// of a Leaf; its Merkle leaf hash is RFC 6962's SHA-256(0x00 ‖ entry).
//
// A record becomes an Opening, whose Leaf is appended to the log (consent/state keeps it). NewSigner signs the log's head, a Proof
// shows that a leaf is under that head, WriteFolder exports the whole log, and a Verifier checks all of it with the log's
// public key alone. Without an external witness or timestamp this proves internal consistency and no more: the holder of the
// key could have written another log.
package evidence

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"

	"golang.org/x/mod/sumdb/tlog"
)

// The errors of this package. They never hold the content of a record.
var (
	ErrFormat    = errors.New("malformed evidence")
	ErrSignature = errors.New("the checkpoint is not signed by this log's key")
	ErrProof     = errors.New("the proof does not hold")
	ErrFolder    = errors.New("the exported log is not what its checkpoint says")
	ErrOrigin    = errors.New("a log's origin is a name without spaces and plus signs")
	ErrLogKey    = errors.New("a log's key is an Ed25519 key")
)

// maxSize bounds the size of a log, so that hostile sizes cannot overflow the arithmetic of trees (2^40 leaves are 70 TB).
const maxSize = 1 << 40

// Leaf is one entry of the log, format v1 (architecture.md "State"):
//
//	leaf            = SHA-256("octroi leaf v1" 0x00 ‖ salt[16] ‖ core hash[32] ‖ strippable hash[32])
//	core hash       = SHA-256("octroi core v1" 0x00 ‖ core)
//	strippable hash = SHA-256("octroi strippable v1" 0x00 ‖ strippable salt[16] ‖ strippable)
//
// The strippable part may be empty; it has its salt all the same. Without the salts a leaf says nothing about its record.
type Leaf [32]byte

const (
	leafDomain       = "octroi leaf v1\x00"
	coreDomain       = "octroi core v1\x00"
	strippableDomain = "octroi strippable v1\x00"
)

// Hash is the leaf's Merkle leaf hash, RFC 6962 section 2.1.
func (l Leaf) Hash() tlog.Hash { return tlog.RecordHash(l[:]) }

// String is the leaf in base64, as the log's other hashes are written.
func (l Leaf) String() string { return base64.StdEncoding.EncodeToString(l[:]) }

// Opening is what shows the content of a leaf. A subject's salts derive from its key; a leaf without a subject has random ones.
// A stripped record keeps Core, Salt and StrippableHash, and stays provable: whoever has only the hash cannot guess what was
// stripped, because its salt is gone too.
type Opening struct {
	Salt           [16]byte
	Core           []byte
	StrippableSalt [16]byte
	Strippable     []byte
	StrippableHash [32]byte // the strippable hash above; set where Strippable was stripped, else zero
}

// Stripped says whether only the hash of the strippable part is left.
func (o Opening) Stripped() bool { return o.StrippableHash != [32]byte{} }

// Leaf computes the leaf that o opens.
func (o Opening) Leaf() Leaf {
	core := sha256.New()
	core.Write([]byte(coreDomain))
	core.Write(o.Core)
	strippable := o.strippableHash()

	message := make([]byte, 0, len(leafDomain)+16+32+32)
	message = append(message, leafDomain...)
	message = append(message, o.Salt[:]...)
	message = core.Sum(message)
	message = append(message, strippable[:]...)
	return sha256.Sum256(message)
}

// Strip drops the strippable part and its salt and keeps the hash: the leaf stays the same. Stripping twice changes nothing.
func (o Opening) Strip() Opening {
	return Opening{Salt: o.Salt, Core: o.Core, StrippableHash: o.strippableHash()}
}

func (o Opening) strippableHash() (hash [32]byte) {
	if o.Stripped() {
		return o.StrippableHash
	}
	h := sha256.New()
	h.Write([]byte(strippableDomain))
	h.Write(o.StrippableSalt[:])
	h.Write(o.Strippable)
	h.Sum(hash[:0])
	return hash
}
