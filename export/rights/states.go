package rights

import (
	"fmt"
	"slices"
	"strings"

	"github.com/octroi/octroi/export/rights/proof"
)

// State is where a request stands (rights.md D2).
type State string

// The states. Those from Denied on are final.
const (
	IdentityUnverified  State = "identity_unverified"
	Pending             State = "pending"
	Approved            State = "approved"
	InProgress          State = "in_progress"
	AwaitingInformation State = "awaiting_information"
	Denied              State = "denied"
	Completed           State = "completed"
	Cancelled           State = "cancelled"
	Failed              State = "error"
	Expired             State = "expired"
)

// States lists them all.
func States() []State {
	return []State{IdentityUnverified, Pending, Approved, InProgress, AwaitingInformation, Denied, Completed, Cancelled, Failed, Expired}
}

// Final says whether a request of that state is closed.
func (s State) Final() bool { return slices.Contains(States()[5:], s) }

// Action is what somebody does with a request.
type Action string

// The actions. The last four are the machine's own.
const (
	Verify  Action = "verify"
	Approve Action = "approve"
	Deny    Action = "deny"
	Extend  Action = "extend"
	Ask     Action = "ask"
	Answer  Action = "answer"
	Cancel  Action = "cancel"

	begin    Action = "begin"
	complete Action = "complete"
	fail     Action = "fail"
	expire   Action = "expire"
)

// Actions lists what people do.
func Actions() []Action { return []Action{Verify, Approve, Deny, Extend, Ask, Answer, Cancel} }

// transition is the one table of what may follow what.
var transitions = [...]struct {
	action Action
	from   []State
	to     State // empty: it stays, or goes back
}{
	{Verify, []State{IdentityUnverified}, Pending},
	{Approve, []State{Pending}, Approved},
	{Deny, []State{IdentityUnverified, Pending, AwaitingInformation}, Denied},
	{Extend, []State{IdentityUnverified, Pending, Approved, InProgress}, ""},
	{Ask, []State{IdentityUnverified, Pending}, AwaitingInformation},
	{Answer, []State{AwaitingInformation}, ""},
	{Cancel, []State{IdentityUnverified, Pending, AwaitingInformation, Approved, InProgress}, Cancelled},
	{begin, []State{Approved}, InProgress},
	{complete, []State{InProgress}, Completed},
	{fail, []State{Approved, InProgress}, Failed},
	{expire, []State{IdentityUnverified, AwaitingInformation}, Expired},
}

// can says whether the request's state allows an action.
func (q *requestRow) can(a Action) bool {
	for _, x := range transitions {
		if x.action != a || !slices.Contains(x.from, q.State) {
			continue
		}
		// An erasure that has begun cannot be undone: the subject's key is destroyed.
		return a != Cancel || q.State != InProgress || q.Right == proof.Access
	}
	return false
}

// waives says whether an approval now would let the custodian carry out what it may not without: beyond its daily cap, or an officer's request
// that a replay made again.
func (q *requestRow) waives() bool {
	return (q.State == Approved || q.State == InProgress) && q.Approved == "" && q.Origin != proof.ByRetention
}

// possible lists what people can do with the request now.
func (q *requestRow) possible() []string {
	var list []string
	for _, a := range Actions() {
		if q.can(a) || a == Approve && q.waives() {
			list = append(list, string(a))
		}
	}
	return list
}

// move takes the request to the state that an action leads to. ErrTransition names the state and what it allows.
func (q *requestRow) move(a Action) error {
	if !q.can(a) {
		possible := "nothing"
		if list := q.possible(); len(list) > 0 {
			possible = strings.Join(list, ", ")
		}
		return fmt.Errorf("%w: it is %s; possible: %s", ErrTransition, q.State, possible)
	}
	switch a {
	case Extend:
	case Answer:
		q.State, q.Before = q.Before, ""
	default:
		if a == Ask {
			q.Before = q.State
		}
		for _, x := range transitions {
			if x.action == a {
				q.State = x.to
			}
		}
	}
	return nil
}

// step is how far a request in progress is.
type step string

// The steps of an erasure, in order (rights.md "Erasure"), and of an access.
const (
	suppressed step = "suppressed" // revoked: no intent can commit with it; the heads are known
	frozen     step = "frozen"     // what must be known of the subject is sealed under the request's slot
	severed    step = "severed"    // the subject's slot is overwritten; of some purposes: nothing
	rewriting  step = "rewriting"  // the custodian works
	purged     step = "purged"     // every former object is proven gone; destinations are awaited
	certifying step = "certifying" // the facts are offered to the custodian

	spooled    step = "spooled"    // access: what was spooled is awaited to be sealed
	shipped    step = "shipped"    // access: and its objects to be in the store
	collecting step = "collecting" // access: the custodian works
)
