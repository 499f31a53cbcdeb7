package subject

import (
	"context"
	"time"

	"github.com/octroi/octroi/consent/state"
)

// Mark is what remains of an erased subject, for as long as a backup or an import could bring it back (rights.md "What may remain"): keyed
// hashes under the suppression key, which lead nowhere once the subject's key is gone.
type Mark struct {
	Subject [16]byte   `json:"-"` // HMAC(suppression key, "subject" ‖ Derive("suppress"))[:16]
	Tags    [][16]byte `json:"-"` // HMAC(suppression key, "tag" ‖ tag)[:16] of each
}

// Mark is the mark of a subject whose key is there still.
func (r *Registry) Mark(s Subject) (Mark, error) { panic("not yet") }

// Suppress remembers, inside t, that the subject of m was erased: ErasedAt answers it until ForgetErased.
func (r *Registry) Suppress(t *state.Txn, m Mark, at time.Time) error { panic("not yet") }

// ErasedAt is the latest time at which a person with one of the identifiers was erased; ok is false where none is remembered. It reads from v,
// which may be a Txn.
func (r *Registry) ErasedAt(v interface {
	Get(key []byte) ([]byte, error)
}, ids ...Identifier,
) (at time.Time, ok bool, err error) {
	panic("not yet")
}

// ForgetErased drops what was remembered before a time (90 days: backups and imports are no older).
func (r *Registry) ForgetErased(ctx context.Context, before time.Time) (dropped int, err error) {
	panic("not yet")
}

// Find is the subjects of marks among all whose keys are there: what a restored slot file brought back. One pass over the slots.
func (r *Registry) Find(marks map[[16]byte]bool) ([]Subject, error) { panic("not yet") }

// MintRequest gives out a slot for a rights request, of kind Request: it has no tag. What the request freezes is sealed under it, and Shred ends it.
func (r *Registry) MintRequest(t *state.Txn) (Subject, error) { panic("not yet") }
