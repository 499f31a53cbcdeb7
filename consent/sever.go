package consent

import (
	"context"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Suppress revokes, inside t, everything of the subject: from the commit on no event of it is admitted, no intent with it commits, and nothing
// is recorded about it. Its rows stay readable to Sever. Idempotent.
func (l *Ledger) Suppress(t *state.Txn, s subject.Subject) error { panic("not yet") }

// Severance is what Sever left.
type Severance struct {
	Kept  int       // stripped proofs of consent (GDPR Art. 17(3)(e))
	Until time.Time // when the last of them goes (C12)
	Leaf  int64     // of the deletion, in the evidence log
}

// Sever keeps stripped proofs of the subject's consents under H(secret of the receipt), deletes its rows, and shreds its slot. It may be
// called again after a failure or a crash at any point and ends in the same state. Suppress came before.
func (l *Ledger) Sever(ctx context.Context, s subject.Subject) (Severance, error) {
	panic("not yet")
}
