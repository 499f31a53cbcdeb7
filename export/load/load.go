// Package load is the recipient's side: it follows a destination's signed stream, opens each batch, and loads every event exactly once.
package load

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"time"

	"github.com/octroi/octroi/export"
)

// The errors of this package.
var (
	ErrHash     = errors.New("object's bytes are not those of the stream entry")
	ErrIdentity = errors.New("the identity does not open this object")
	ErrLocked   = errors.New("another octroi-load uses this folder")
)

// Options configure a Loader.
type Options struct {
	Objects     export.Objects
	Destination string
	Gateway     ed25519.PublicKey
	Identities  export.Identities
	Dir         string        // the folder; the loader's own state is in Dir/.octroi-load
	Format      string        // "parquet" or "ndjson"
	Poll        time.Duration // Follow: how often the stream is looked at; default 2 s
	Log         *slog.Logger
	Progress    func(Progress)
}

// Progress of a long load.
type Progress struct {
	Node                      string
	Number                    uint64 // last entry applied
	Batches, Rows, Duplicates uint64
	Bytes                     int64
}

// Loader loads one destination into one folder. One process at a time.
type Loader struct{}

func Open(o Options) (*Loader, error) { panic("skeleton") }

// Once applies every entry that the stream has; Follow goes on until ctx ends.
func (l *Loader) Once(ctx context.Context) (Progress, error) { panic("skeleton") }
func (l *Loader) Follow(ctx context.Context) error           { panic("skeleton") }
func (l *Loader) Close() error                               { panic("skeleton") }
