package export

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Spooled is what the shipper needs of the spool (collector/spool.Spool through a thin adapter in cmd/octroi).
type Spooled struct {
	Position uint64
	Event    pseudonymize.Sealed
}

// Spool is the source of events. Peek returns durable records from position on, in order.
type Spool interface {
	Peek(ctx context.Context, position uint64, max int) ([]Spooled, error)
	Tail() uint64
	Wait(ctx context.Context, position uint64) error
}

// Revocations is what regate and intent ask of the ledger.
type Revocations interface {
	Sequence() uint64
	RevokedAfter(slot subject.Slot, purpose string, sequence uint64) bool
	RevokedSince(t *state.Txn, sequence uint64, fn func(slot subject.Slot, purpose string) error) error
}

// Subjects opens spooled payloads and gives the row keys of the index.
type Subjects interface {
	BySlot(subject.Slot) (subject.Subject, error)
}

// ShipperOptions configure one destination's shipper.
type ShipperOptions struct {
	Node        string
	Destination *pseudonymize.Destination
	Name        string // of the destination
	Recipients  Recipients
	Spool       Spool
	SpoolKey    []byte
	Revocations Revocations
	Subjects    Subjects
	State       *state.Store
	Objects     Objects
	Signer      ed25519.PrivateKey
	OutboxDir   string
	OutboxMax   int64         // bytes of sealed objects waiting for the store; default 2 GiB; full: the cursor waits
	Interval    time.Duration // a batch is sealed at least this long after its first event; default 60 s
	TargetBytes int64         // sealed size at which a batch is cut; default 32 MiB
	MaxRows     int           // rows at which a batch is cut; default 500,000
	Log         *slog.Logger
	Now         func() time.Time
}

// Shipper moves one destination's events from the spool to sealed objects to the stream.
type Shipper struct{}

// NewShipper recovers what a crash left: outbox files without an intent are deleted, those with one are put again.
func NewShipper(ctx context.Context, o ShipperOptions) (*Shipper, error) { panic("skeleton") }

// Run ships until ctx ends.
func (s *Shipper) Run(ctx context.Context) error { panic("skeleton") }

// Flush seals, puts and publishes everything spooled before the call; used at a graceful stop.
func (s *Shipper) Flush(ctx context.Context) error { panic("skeleton") }

// Cursor is the spool position below which everything is sealed for this destination. The caller releases the spool up to the least.
func (s *Shipper) Cursor() uint64 { panic("skeleton") }

// ShipperStats are figures for /metrics and the demo.
type ShipperStats struct {
	Sealed, Published uint64 // batches
	Rows, Bytes       uint64
	Dropped           uint64 // events that no longer had a purpose at the seal
	Waiting           int    // objects in the outbox
	LastError         string // without personal data
}

func (s *Shipper) Stats() ShipperStats { panic("skeleton") }
