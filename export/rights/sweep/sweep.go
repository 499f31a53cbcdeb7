// Package sweep is the custodian's engine: it carries out what the gateway asks of it, as far as it can check that it may.
//
// One pass reads every batch that open jobs concern once, by version and hash; takes out the rows of all of them together; puts the new object
// and reports it; deletes by version what it replaced and proves that; makes access packages; and signs certificates of what it saw itself.
//
// The gateway is not trusted. Its worst is bounded by what a pass checks alone: a job needs the approval of the DPO's key, or a place under the
// daily cap; an object is read as a signed stream entry states it; names to put and to delete are derived from that entry; a rewritten object
// goes to the recipients that are pinned for the destination; and a version is deleted only if the object that stays holds all of its
// rows that no obeyed job concerns. Retention is cut by the custodian's own clock and by an approved schedule.
//
// Begin with Open, then Run, or Once for one pass.
package sweep

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/export"
)

// The errors of this package. Those of export that reach the caller keep their names.
var (
	ErrInUse    = errors.New("another octroi-custodian uses this state folder")
	ErrMemory   = errors.New("the custodian's state is damaged")
	ErrAway     = errors.New("gateway is not reachable") // worth another try
	ErrToken    = errors.New("gateway refuses the custodian's token")
	ErrClaimed  = errors.New("another custodian has claimed the batch")
	ErrRejected = errors.New("gateway rejects the report")
	ErrAnswer   = errors.New("gateway's answer is not one")
)

// Options configure a Sweep.
type Options struct {
	Gateway    Gateway
	Archive    export.Archive
	Identities export.Identities  // E
	Key        ed25519.PrivateKey // signs reports and certificates
	Stream     ed25519.PublicKey  // verifies stream entries
	Log        *evidence.Verifier // verifies the gateway's evidence log; the last part of its origin is the gateway's node
	Approval   ed25519.PublicKey  // of the DPO
	State      string             // folder of the custodian's memory; created where it is missing
	Temp       string             // folder of files without a name, which hold decrypted batches; default State
	// Recipients are the age recipients that objects of a destination may be encrypted to: W, E, R, then the former ones of each. Nothing is
	// rewritten of a destination that is missing here: the gateway could make one up, and have any batch encrypted to keys of its own.
	Recipients map[string][]string
	DailyCap   int           // places of jobs without an approval, a UTC day: see proof.Job.Places; default 100
	Poll       time.Duration // Run: between passes; default 10 s
	Settle     time.Duration // Once: how long it waits for the gateway to publish what was rewritten; default 30 s
	Now        func() time.Time
	Logger     *slog.Logger // default: nothing
	Progress   func(Progress)
}

// Progress of a pass.
type Progress struct {
	Objects, Of int   // batches that are done, of those of the round
	Bytes       int64 // read from the store
}

// Report is what a pass did. Counts only.
type Report struct {
	Jobs         int            `json:"jobs"`      // obeyed
	Refused      map[string]int `json:"refused"`   // jobs, by code
	Scanned      int            `json:"scanned"`   // batches read
	Unchanged    int            `json:"unchanged"` // of them: no row was concerned
	Rewritten    int            `json:"rewritten"`
	Emptied      int            `json:"emptied"` // no row was left, and no object
	Erased       int            `json:"erased"`  // rows
	Reduced      int            `json:"reduced"` // rows that lost a purpose
	Purged       int            `json:"purged"`  // batches
	Versions     int            `json:"versions"`
	Packages     int            `json:"packages"`
	Certificates int            `json:"certificates"`
	Notices      int            `json:"notices"` // deleted
	Journal      int            `json:"journal"` // deleted
	Failed       map[string]int `json:"failed"`  // batches, by code
	Waiting      int            `json:"waiting"` // batches that another custodian has, or whose entry is not published yet
	Bytes        int64          `json:"bytes"`   // read
}

// Sweep is one custodian. One process may use a state folder. Its methods may be called from several goroutines; passes come one after another.
type Sweep struct {
	o      Options
	node   string // the gateway's
	memory *memory

	pass sync.Mutex        // held during a pass
	told map[string]string // request or batch → the code that the gateway was last told; guarded by the mu of the pass
}

// Open opens the state folder: ErrInUse while another process has it.
func Open(o Options) (*Sweep, error) {
	switch {
	case o.Gateway == nil || o.Archive == nil || o.Log == nil || o.State == "":
		return nil, errors.New("opening custodian: gateway, archive, evidence log and state folder are needed")
	case len(o.Key) != ed25519.PrivateKeySize:
		return nil, errors.New("opening custodian: its signing key is needed")
	case len(o.Stream) != ed25519.PublicKeySize || len(o.Approval) != ed25519.PublicKeySize:
		return nil, errors.New("opening custodian: the public keys of the gateway's stream and of approvals are needed")
	}
	o.DailyCap, o.Poll, o.Settle = cmp.Or(o.DailyCap, 100), cmp.Or(o.Poll, 10*time.Second), cmp.Or(o.Settle, 30*time.Second)
	o.Temp = cmp.Or(o.Temp, o.State)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := openMemory(o.State)
	if err != nil {
		return nil, fmt.Errorf("opening custodian: %w", err)
	}
	return &Sweep{o: o, node: nodeOf(o.Log), memory: m, told: map[string]string{}}, nil
}

// Close releases the state folder.
func (s *Sweep) Close() error { return s.memory.close() }

// Run passes over the work until ctx ends (nil). A gateway or store out of reach is waited for. It begins with export.CheckArchive, and ends where
// that says that a person must act (export.ErrRefused), or where the state is damaged (ErrMemory).
func (s *Sweep) Run(ctx context.Context) error {
	checked, wait := false, s.o.Poll
	for {
		err := s.tick(ctx, &checked)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrMemory), !checked && errors.Is(err, export.ErrRefused):
			return err
		case err != nil:
			wait = min(2*wait, 5*time.Minute)
			s.o.Logger.Warn("the pass did not end; trying again", "error", err, "wait", wait)
		default:
			wait = s.o.Poll
		}
		if sleep(ctx, wait) != nil {
			return nil
		}
	}
}

func (s *Sweep) tick(ctx context.Context, checked *bool) error {
	if !*checked {
		if err := export.CheckArchive(ctx, s.o.Archive, export.ErasureDeadline); err != nil {
			return err
		}
		*checked = true
	}
	_, err := s.Once(ctx)
	return err
}

// Once carries out everything that is pending. What fails is reported to the gateway and in the Report, and does not stop the rest; the error is
// that nothing could be done: ErrAway, ErrToken, ErrAnswer, ErrMemory, export.ErrUnavailable.
func (s *Sweep) Once(ctx context.Context) (Report, error) {
	s.pass.Lock()
	defer s.pass.Unlock()
	p := newPass(s)
	defer p.close()
	deadline := time.Now().Add(s.o.Settle)
	for {
		done, err := p.round(ctx)
		if err != nil {
			return p.report, fmt.Errorf("sweeping: %w", err)
		}
		switch {
		case done: // there may be more work where this was
		case p.publishing > 0 && time.Now().Before(deadline):
			if err := sleep(ctx, min(s.o.Settle, 500*time.Millisecond)); err != nil {
				return p.report, err
			}
		default:
			return p.report, nil
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
