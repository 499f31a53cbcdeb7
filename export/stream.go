package export

import (
	"crypto/ed25519"
	"errors"
	"time"
)

// The errors of stream entries.
var (
	ErrSignature = errors.New("stream entry's signature is not the gateway's")
	ErrEntry     = errors.New("stream entry is malformed")
	ErrGap       = errors.New("stream entry is missing")
)

// EntryType says what a stream entry tells its destination.
type EntryType string

// BatchEntry is the one type in force; replace, erase, withdraw, restrict and lift follow with erasure.
const BatchEntry EntryType = "batch"

// Entry is one numbered statement of a gateway node to one destination: the claims of a JWT (EdDSA, typ "octroi-stream+jwt"), RFC 7519.
// Numbers begin at 1 and have no gaps. Previous chains the entries: removing or reordering one shows.
type Entry struct {
	Destination string    `json:"aud"`
	Node        string    `json:"iss"`
	Number      uint64    `json:"num"`
	Type        EntryType `json:"evt"`
	IssuedAt    time.Time `json:"iat"`  // NumericDate, seconds
	Previous    string    `json:"prev"` // SHA-256 (hex) of the entry before, as signed; empty for number 1
	Batch       *Batch    `json:"batch,omitempty"`
}

// Batch describes one shipped object.
type Batch struct {
	ID         string    `json:"id"`
	Key        string    `json:"key"`     // object key
	Version    string    `json:"version"` // S3 version id; empty in a directory
	SHA256     string    `json:"sha256"`  // of the ciphertext, hex
	Size       int64     `json:"size"`
	Rows       int       `json:"rows"`
	From       time.Time `json:"from"` // of received_at
	To         time.Time `json:"to"`
	Purposes   []string  `json:"purposes"`
	PolicyHash string    `json:"policy"` // hex
	Recipients []string  `json:"recipients"`
	Schema     string    `json:"schema"`
}

// SignEntry is the signed text of e.
func SignEntry(e Entry, key ed25519.PrivateKey) (string, error) { panic("skeleton") }

// VerifyEntry checks signature (EdDSA only), typ, audience, number > 0 and shape. It does not check the chain: see VerifyChain.
func VerifyEntry(token, destination string, key ed25519.PublicKey) (Entry, error) { panic("skeleton") }

// EntryKey is the object key of an entry: <destination>/stream/<node>/<number, 12 digits>.jws.
func EntryKey(destination, node string, number uint64) string { panic("skeleton") }

// BatchKey is the object key of a batch (architecture.md "Batches, stream, index").
func BatchKey(destination, node string, hour time.Time, first, last uint64, generation int) string {
	panic("skeleton")
}
