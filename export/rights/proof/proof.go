// Package proof holds the signed statements that pass between the data protection officer, the gateway, the custodian and whoever checks
// them later: the job, its approval, the custodian's reports, and the certificate. It has no state and does no I/O.
//
// Every statement is a JWT (RFC 7519, EdDSA of RFC 8037) of a typ of its own (RFC 8725 section 3.11), with one spelling: a pinned header, claims
// in the order of the struct without white space, no unknown member. No statement holds an identifier; pseudonyms stand in jobs and approvals only.
//
// What a Verify function returns was signed by the key and has the shape that its type promises: ids are ids, lists are sorted without repeats,
// counts and sizes are bounded. Sign refuses what Verify would refuse (ErrStatement, naming the field), but brings the time of signing to
// UTC and whole milliseconds itself.
package proof

import "errors"

// The errors of this package.
var (
	ErrSignature = errors.New("statement's signature is not the expected holder's")
	ErrStatement = errors.New("statement is malformed")
	ErrMismatch  = errors.New("statement does not say what was observed") // the text names the fact
)

// Right is a right of GDPR chapter III that a job carries out.
type Right string

// The rights in force.
const (
	Access  Right = "access"  // Art. 15
	Erasure Right = "erasure" // Art. 17
)

func (r Right) known() bool { return r == Access || r == Erasure }

// Origin says what a job rests on.
type Origin string

// The origins of jobs. Those of the person and of a withdrawal are obeyed under the custodian's daily cap; those of the DPO need an Approval;
// retention needs an approved Schedule.
const (
	ByPerson     Origin = "person"
	ByDPO        Origin = "dpo"
	ByWithdrawal Origin = "withdrawal"
	ByRetention  Origin = "retention"
)

func (o Origin) known() bool {
	return o == ByPerson || o == ByDPO || o == ByWithdrawal || o == ByRetention
}
