package sweep

import (
	"context"
	"io"
	"path"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/export/rights/proof"
)

// Gateway is the private API as the custodian uses it (scope custody). Client is one over HTTP. Its errors: ErrAway, ErrToken, ErrAnswer, and
// ErrClaimed of Claim, ErrRejected of what sends something. Safe for concurrent use.
//
// Sending the same report again is accepted again: the custodian repeats what a crash left without an answer.
type Gateway interface {
	Work(ctx context.Context) (proof.Work, error)
	// Claim answers the generation and object key that the custodian of this name may put: a new one each time.
	Claim(ctx context.Context, batch, custodian string) (Claim, error)
	Rewritten(ctx context.Context, batch, report string) error
	Purged(ctx context.Context, batch, report string) error
	Failed(ctx context.Context, batch string, why Reason) error
	// Package uploads an access package of size bytes.
	Package(ctx context.Context, request, report string, body io.ReadSeeker, size int64) error
	Certificate(ctx context.Context, request, certificate string) error
	Refused(ctx context.Context, request string, why Reason) error
}

// Claim is the object that a custodian may put.
type Claim struct {
	Generation int    `json:"generation"`
	Key        string `json:"key"`
}

// Reason is why something was not done: a code, and a text for operators that holds nothing of a person.
type Reason struct {
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
}

// The codes of a batch that could not be swept.
const (
	FailedGone     = "gone"     // the object is not in the store
	FailedHash     = "hash"     // its bytes are not those of its entry
	FailedIdentity = "identity" // E does not open it
	FailedEntry    = "entry"    // the entry is not the gateway's, not in the store, or states what it may not
	FailedDamaged  = "damaged"  // it does not hold the rows that its entry states, or another version holds rows that would be lost
	FailedLocked   = "locked"   // object lock keeps a version
	FailedStore    = "store"    // the store does not answer, or refuses
)

// The codes of a job that was not obeyed.
const (
	RefusedCap        = "cap"        // today's jobs without an approval are used up
	RefusedApproval   = "approval"   // it is missing, another key's, or of another job
	RefusedPseudonyms = "pseudonyms" // the job is malformed, or names what it may not
	RefusedSchedule   = "schedule"   // no approved schedule lets this be cut, or not yet
	RefusedReplay     = "replay"     // the request was carried out already, or with another job
	RefusedFacts      = "facts"      // no certificate: what the gateway states is not proven, or not what the custodian saw
)

// nodeOf is the name of the node that keeps an evidence log.
func nodeOf(log *evidence.Verifier) string { return path.Base(log.Origin()) }
