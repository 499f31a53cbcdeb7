package export

import (
	"fmt"
	"regexp"
	"strings"

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

// carriesNotices: the entry's statement is a notice object.
func (t EntryType) carriesNotices() bool {
	return t == EraseEntry || t == WithdrawEntry || t == RestrictEntry || t == LiftEntry
}

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

// NoticeKey is the object key of a notice: <destination>/notices/<node>/<number, 12 digits>.age. Where something else has that key, it goes to
// its next generation: <number>.2.age.
func NoticeKey(destination, node string, number uint64) string {
	return noticeKey(destination, node, number, 1)
}

func noticeKey(destination, node string, number uint64, generation int) string {
	name := fmt.Sprintf("%s/notices/%s/%012d", destination, node, number)
	if generation > 1 {
		name = fmt.Sprintf("%s.%d", name, generation)
	}
	return name + ".age"
}

// The ends of object keys that tell their generation: see NoticeKey, BatchKey.
var (
	noticeGeneration = regexp.MustCompile(`^(\.[1-9][0-9]{0,8})?\.age$`)
	keyGeneration    = regexp.MustCompile(`\.([0-9]{1,9})\.parquet\.age$`)
)

// Object is the batch as e states it, by a batch or a replace entry; nil where it states none.
func (e *Entry) Object() *Batch {
	if e.Replace != nil {
		return e.Replace.Now
	}
	return e.Batch
}

// checkStatement: an entry holds what its type says, and nothing else.
func (e *Entry) checkStatement() error {
	holds := 0
	for _, there := range []bool{e.Batch != nil, e.Replace != nil, e.Notice != nil} {
		if there {
			holds++
		}
	}
	switch {
	case e.Type != BatchEntry && e.Type != ReplaceEntry && !e.Type.carriesNotices():
		return fmt.Errorf("%w: type %q is not known here: a newer octroi is needed to read it", ErrEntry, e.Type)
	case holds > 1:
		return fmt.Errorf("%w: more than one statement", ErrEntry)
	case e.Type == BatchEntry && e.Batch != nil:
		return e.Batch.check(e.Destination)
	case e.Type == ReplaceEntry && e.Replace != nil:
		return e.Replace.check(e)
	case e.Type.carriesNotices() && e.Notice != nil:
		return e.Notice.check(e)
	}
	return fmt.Errorf("%w: %s entry without its statement", ErrEntry, e.Type)
}

func (r *Replace) check(e *Entry) error {
	switch {
	case !batchID.MatchString(r.Batch):
		return fmt.Errorf("%w: batch id", ErrEntry)
	case r.Of == 0 || r.Of >= e.Number:
		return fmt.Errorf("%w: it replaces what no earlier entry stated", ErrEntry)
	case r.Generation < 2 || r.Generation >= 1e9: // the first is of the batch entry
		return fmt.Errorf("%w: generation", ErrEntry)
	case r.Now == nil:
		return nil
	case r.Now.ID != r.Batch:
		return fmt.Errorf("%w: a batch keeps its id when its object is replaced", ErrEntry)
	}
	if m := keyGeneration.FindStringSubmatch(r.Now.Key); m == nil || m[1] != fmt.Sprint(r.Generation) {
		return fmt.Errorf("%w: object key is of another generation", ErrEntry)
	}
	return r.Now.check(e.Destination)
}

func (n *NoticeRef) check(e *Entry) error {
	rest, ok := strings.CutPrefix(n.Key, strings.TrimSuffix(NoticeKey(e.Destination, e.Node, e.Number), ".age"))
	switch {
	case !ok || !noticeGeneration.MatchString(rest):
		return fmt.Errorf("%w: key of the notice object", ErrEntry)
	case !hexDigest.MatchString(n.SHA256), !versionID.MatchString(n.Version):
		return fmt.Errorf("%w: hash or version of the notice object", ErrEntry)
	case n.Size <= 0 || n.Size > NoticesMax:
		return fmt.Errorf("%w: size of the notice object", ErrEntry)
	}
	return nil
}
