package export

import (
	"errors"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
)

// The types of stream entries beside BatchEntry (rights.md D9, D12). ReplaceEntry states which object a batch is now; the others carry
// notices about persons, encrypted to the destination.
const (
	ReplaceEntry  EntryType = "replace"
	EraseEntry    EntryType = "erase"
	WithdrawEntry EntryType = "withdraw"
	RestrictEntry EntryType = "restrict"
	LiftEntry     EntryType = "lift"
)

// ErrClaim: a rewrite was reported for another generation than the one that was last claimed.
var ErrClaim = errors.New("batch was claimed again since, or its object has changed")

// Replace states which object holds a batch's rows from now on.
type Replace struct {
	Batch      string `json:"batch"`         // id
	Of         uint64 `json:"of"`            // number of the entry that stated the object that goes
	Generation int    `json:"generation"`    // of the new object
	Now        *Batch `json:"now,omitempty"` // nil: no row is left, and no object
}

// NoticeRef names an object that holds notices about persons: only its hash stands in the stream.
type NoticeRef struct {
	Key     string `json:"key"` // see NoticeKey
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
	Size    int64  `json:"size"`
}

// Notice tells a destination what became of one subject's rows (GDPR Art. 19), without right or reason.
type Notice struct {
	Version  int          `json:"v"` // 1
	Devices  []string     `json:"devices,omitempty"`
	Persons  []string     `json:"persons,omitempty"`  // pseudonyms at the destination, 32 hex digits
	Purposes []string     `json:"purposes,omitempty"` // withdraw: what no longer holds; none: everything
	Rules    PurposeRules `json:"rules,omitempty"`    // withdraw: what the purposes that stay allow
	Batches  []string     `json:"batches"`            // ids of the batches that hold such rows; no other batch does
}

// PurposeRules are the fields that each purpose allows, with the treatment: what a row keeps when another of its purposes goes.
type PurposeRules map[string]map[string]policies.Treatment

// SealNotice encrypts n to the destination alone (the first of r), not to E and R.
func SealNotice(n Notice, r Recipients) ([]byte, error) { panic("not yet") }

// PackNotices makes the bytes of a notice object of sealed notices; OpenNotices reads them.
func PackNotices(sealed [][]byte) []byte { panic("not yet") }

// OpenNotices opens every notice of an object. It bounds counts and sizes; ErrIdentity, ErrSeal, ErrEntry.
func OpenNotices(object []byte, ids Identities) ([]Notice, error) { panic("not yet") }

// NoticeKey is the object key of a notice: <destination>/notices/<node>/<number, 12 digits>.age.
func NoticeKey(destination, node string, number uint64) string { panic("not yet") }

// Statement is what somebody beside the shipper puts into a destination's stream.
type Statement struct {
	Type    EntryType
	Notices []byte // of PackNotices
}

// Enter puts a statement about persons into the stream inside t; number is its place. It is published after every entry before it.
func (s *Shipper) Enter(t *state.Txn, x Statement) (number uint64, err error) { panic("not yet") }

// Claim records, inside t, the next generation of a batch's object before anybody puts it, and answers its number and key.
func (s *Shipper) Claim(t *state.Txn, id BatchID) (generation int, key string, err error) {
	panic("not yet")
}

// Replace makes now (nil: no object) the batch's object inside t, and puts the replace entry into the stream. ErrClaim where generation is not
// the last claimed. It appends an evidence leaf as an intent does.
func (s *Shipper) Replace(t *state.Txn, id BatchID, generation int, now *Batch) (number uint64, err error) {
	panic("not yet")
}

// Published is the last published number of the stream. Its entries up to there are in the store.
func (s *Shipper) Published() uint64 { return s.published.Load() }

// Statement numbers as they are committed, by destination: what was sealed before something has a number up to these.
func Heads(r interface {
	Get(key []byte) ([]byte, error)
}, destinations ...string,
) (map[string]uint64, error) {
	panic("not yet")
}
