// Package rights carries out the requests of data subjects in the gateway: access and erasure (GDPR Art. 15, 17), and the erasure that
// follows a withdrawal or the end of a retention.
//
// A request goes through the states of rights.md D2. What has to be read or cut out of shipped objects is the custodian's work: the gateway
// freezes whose rows they are, destroys the subject's key, offers the work, and believes nothing of what comes back that it can check.
// Each step is persisted before the next begins, and each is evidence. Whose request it is, and everything that leads to a person, is
// sealed under a slot of the request's own, which is overwritten at the end.
//
// Open resumes what a crash cut short, Run is the machine, Routes the HTTP interface for persons, data protection officers and the custodian.
package rights

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/access"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The errors of this package. They hold ids of requests and batches, and nothing of a person.
var (
	ErrOptions    = errors.New("rights are not configured")
	ErrStored     = errors.New("a row of the requests is damaged")
	ErrNoRequest  = errors.New("no such request") // also where it is another's: the two must not differ
	ErrNoMatch    = errors.New("nobody is known by what was given")
	ErrTransition = errors.New("the request's state does not allow that")
	ErrInput      = errors.New("the request is not as it must be") // the text names the member
	ErrApproval   = errors.New("the approval is not the officer's, or of another job")
	ErrSchedule   = errors.New("the schedule is not the officer's, or not of the policy in force")
	ErrTooMany    = errors.New("too many requests are open")
	ErrOpened     = errors.New("the package was opened, or its time is over")
	ErrNotReady   = errors.New("it is not there yet")

	ErrClaimed  = errors.New("another custodian holds the batch")
	ErrReport   = errors.New("the custodian's report is not what the gateway sees") // the text names the fact
	ErrUnproven = errors.New("the custodian's report is not signed by its key")
)

// Exit is one destination as requests see it.
type Exit struct {
	Destination *pseudonymize.Destination
	Shipper     *export.Shipper
	Recipients  export.Recipients // notices are sealed to the first of them
}

// Journeys is the journey window. Safe for concurrent use.
type Journeys interface {
	// Erase subtracts a subject inside t: what the purposes alone allowed, or, without any, everything.
	Erase(t *state.Txn, s subject.Subject, purposes []string) error
	// Cursor is the spool position below which everything is in the window.
	Cursor() uint64
	// FoldThrough takes what is spooled below a position into the window now.
	FoldThrough(ctx context.Context, position uint64) error
	// Window is what is kept of a subject's journey: of a device, what it did while nobody was signed in; of a person, on whatever device.
	Window(s subject.Subject) ([]pseudonymize.Row, error)
}

// Checkpoints signs the head of the evidence log, and says what checks that.
type Checkpoints interface {
	consent.CheckpointSigner
	Verifier() *evidence.Verifier
}

// Options configure Open. All but the durations, Source, Log and Now are needed; Custodian may be missing: then jobs wait.
type Options struct {
	Node     string
	State    *state.Store
	Subjects *subject.Registry
	Ledger   *consent.Ledger
	Policy   *policies.Policy
	Exits    []Exit
	Objects  export.Objects
	Acks     *export.Acks
	Streams  *export.Streams
	Index    *export.Index

	Journeys Journeys // nil: there are none

	Tail     func() uint64 // of the spool: the position of the next event
	LowWater func() uint64 // of the spool: below it every destination has sealed, and the bytes are gone

	Approval    ed25519.PublicKey // of the data protection officer
	Custodian   ed25519.PublicKey
	Checkpoints Checkpoints // evidence.Signer

	SuppressionKey []byte // 32 bytes
	Packages       string // folder of access packages
	Controller     access.Controller

	Notices      time.Duration // destinations are told at most this often; default 24h
	AckLimit     time.Duration // after it a destination that has not acknowledged is unconfirmed; default 7 days
	IdentityKept time.Duration // whose a closed request was; default 30 days (rights.md D13)
	PackageKept  time.Duration // an access package that nobody opens; default 7 days (D7)
	KeyCopies    time.Duration // copies of the slot file are kept this long; default 0

	Source map[string]string // language → where the data comes from (15(1)(g))
	Log    *slog.Logger
	Now    func() time.Time
}

func (o *Options) complete() error {
	if o.Node == "" || o.State == nil || o.Subjects == nil || o.Ledger == nil || o.Policy == nil || o.Objects == nil || o.Acks == nil ||
		o.Streams == nil || o.Index == nil || o.Tail == nil || o.LowWater == nil || o.Checkpoints == nil {
		return fmt.Errorf("%w: a part of the gateway is missing", ErrOptions)
	}
	if len(o.SuppressionKey) != 32 || o.Packages == "" || len(o.Approval) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: suppression key, approval key and packages folder are needed", ErrOptions)
	}
	for v, d := range map[*time.Duration]time.Duration{
		&o.Notices: 24 * time.Hour, &o.AckLimit: 7 * 24 * time.Hour, &o.IdentityKept: 30 * 24 * time.Hour, &o.PackageKept: 7 * 24 * time.Hour,
	} {
		if *v <= 0 {
			*v = d
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Requests are the requests of data subjects at one gateway. Safe for concurrent use.
type Requests struct {
	o            Options
	exits        map[string]Exit // by destination
	destinations []string        // sorted
	journal      *journal
	wake         chan struct{} // holds one when something changed that the machine may act on
	open         atomic.Int64  // requests that are not closed
	awaited      atomic.Uint64 // spool position below which an open request wants everything sealed

	working   sync.Mutex // held by a pass of the machine
	storeAway time.Time  // until then no suppression is put, guarded by working

	mu      sync.Mutex
	figures Figures   // of the last pass, guarded by mu
	custody time.Time // when the custodian last asked for work, guarded by mu

	receiving map[string]bool // requests whose package is on its way, guarded by mu

	closed      []Standing // since the start, guarded by mu
	unscheduled int        // destinations and purposes whose batches wait for an approved schedule, guarded by mu
	without     []string   // hashes of the policies whose schedule that is, guarded by mu
}

// Open resumes what was begun: whoever is suppressed is severed before it returns (rights.md step 3).
func Open(ctx context.Context, o Options) (*Requests, error) {
	r, err := newRequests(o)
	if err != nil {
		return nil, fmt.Errorf("opening rights: %w", err)
	}
	if err := r.resume(ctx); err != nil {
		return nil, fmt.Errorf("resuming requests: %w", err)
	}
	return r, nil
}

func newRequests(o Options) (*Requests, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	r := &Requests{o: o, exits: map[string]Exit{}, wake: make(chan struct{}, 1), receiving: map[string]bool{}}
	for _, x := range o.Exits {
		r.exits[x.Destination.Name()] = x
	}
	r.destinations = slices.Sorted(maps.Keys(r.exits))
	var err error
	if r.journal, err = newJournal(o.Node, o.SuppressionKey); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Packages, 0o700); err != nil {
		return nil, fmt.Errorf("creating packages folder: %w", err)
	}
	return r, nil
}

// now is the time as statements hold it: UTC, whole milliseconds.
func (r *Requests) now() time.Time { return r.o.Now().UTC().Truncate(time.Millisecond) }

// stir makes the machine look again soon.
func (r *Requests) stir() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
