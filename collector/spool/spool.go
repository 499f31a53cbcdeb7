// Package spool keeps admitted events from the answer 202 until every destination has sealed them. It owns duplicate detection.
package spool

import (
	"context"
	"errors"
	"time"

	"github.com/octroi/octroi/pseudonymize"
)

// The errors of this package.
var (
	ErrFull    = errors.New("spool is full")
	ErrClosed  = errors.New("spool is closed")
	ErrDamaged = errors.New("spool segment is damaged before its tail")
	ErrEvent   = errors.New("not an admitted event")
)

// Options configure Open.
type Options struct {
	Dir          string
	Key          []byte        // 32 bytes: payloads without a subject, and the hashes of duplicate detection
	MaxBytes     int64         // of all segments; default 4 GiB; beyond: ErrFull
	SegmentBytes int64         // default 64 MiB
	Window       time.Duration // of duplicate detection; default 24 h
	WindowCount  int           // events it may hold; default 2,000,000; a window shrunk by it is reported by Stats
	Now          func() time.Time
}

// Spool is an append-only segment log with group commit. Safe for concurrent use.
type Spool struct{}

// Open recovers the spool: a torn tail is cut off, damage before it is ErrDamaged with the segment's name.
func Open(o Options) (*Spool, error) { panic("skeleton") }

// Close makes what was appended durable and fails later calls with ErrClosed.
func (s *Spool) Close() error { panic("skeleton") }

// Append makes the events durable, all or none, and says of each whether it was a duplicate of an earlier one by (site, id) within the
// window. A duplicate is not stored again, and is not answered before the first copy is durable. It returns after fsync.
func (s *Spool) Append(ctx context.Context, events []pseudonymize.Event) (duplicates []bool, err error) {
	panic("skeleton")
}

// Record is one spooled event and its position. Positions grow by one and are never reused.
type Record struct {
	Position uint64
	Event    pseudonymize.Sealed
}

// Peek reads durable records from position on, at most max, in order; fewer at the end. Records already released are gone: it begins at
// the first that is left. Records that Skip named are left out.
func (s *Spool) Peek(ctx context.Context, position uint64, max int) ([]Record, error) {
	panic("skeleton")
}

// Tail is the position that the next appended event will get; Head the first that is left.
func (s *Spool) Tail() uint64 { panic("skeleton") }
func (s *Spool) Head() uint64 { panic("skeleton") }

// Wait returns when Tail is above position, or ctx ends.
func (s *Spool) Wait(ctx context.Context, position uint64) error { panic("skeleton") }

// Release deletes whole segments that lie below position. The shipper gives the lowest cursor of all destinations.
func (s *Spool) Release(position uint64) error { panic("skeleton") }

// LeastSequence is the least revocation sequence of what is still spooled; ok is false when the spool is empty.
func (s *Spool) LeastSequence() (sequence uint64, ok bool) { panic("skeleton") }

// Stats are figures for /metrics and the demo.
type Stats struct {
	Bytes, MaxBytes int64
	Events          uint64
	Segments        int
	WindowEvents    int
	WindowShrunk    bool // by WindowCount: duplicates older than WindowSpan are not seen
	WindowSpan      time.Duration
	Groups, Fsyncs  uint64
}

func (s *Spool) Stats() Stats { panic("skeleton") }
