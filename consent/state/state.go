// Package state is the gateway's durable state: one writer over an encrypted Badger database, with the evidence log inside.
//
// Every change is a function given to Update. Functions run one after another in the order of arrival, many of them in one
// Badger transaction (group commit): when Update returns nil, the change, its evidence leaves included, is on disk. Readers use
// View and see whole groups only.
package state

import (
	"context"
	"errors"

	"github.com/octroi/octroi/consent/evidence"
	"golang.org/x/mod/sumdb/tlog"
)

// The errors of this package.
var (
	ErrNotFound = errors.New("no such row")
	ErrClosed   = errors.New("state is closed")
	ErrKey      = errors.New("state key does not open this database")
	ErrFull     = errors.New("state disk is full")
)

// Options configure Open.
type Options struct {
	Dir       string
	Key       []byte // 32 bytes: AES-256 of the database at rest
	QueueSize int    // changes that may wait for the writer; default 4096; full blocks until ctx ends
}

// Store is the database. It is safe for concurrent use.
type Store struct{}

// Open opens or creates the database. It fails with ErrKey when the key is another one.
func Open(o Options) (*Store, error) { panic("skeleton") }

// Close waits for running changes and closes the database. Later calls fail with ErrClosed.
func (s *Store) Close() error { panic("skeleton") }

// Reader reads rows. Values are copies that the caller owns.
type Reader interface {
	Get(key []byte) ([]byte, error) // ErrNotFound
	// Scan calls fn for each row whose key begins with prefix, in key order, until fn returns an error; ErrStop ends it without one.
	Scan(prefix []byte, fn func(key, value []byte) error) error
}

// ErrStop ends a Scan early.
var ErrStop = errors.New("stop")

// Txn is one change. It reads what earlier changes of the same group wrote. It is valid until the function returns.
type Txn struct{}

func (t *Txn) Get(key []byte) ([]byte, error)                             { panic("skeleton") }
func (t *Txn) Scan(prefix []byte, fn func(key, value []byte) error) error { panic("skeleton") }
func (t *Txn) Set(key, value []byte)                                      { panic("skeleton") }
func (t *Txn) Delete(key []byte)                                          { panic("skeleton") }

// Append adds a leaf to the evidence log and returns its index.
func (t *Txn) Append(leaf evidence.Leaf) (index int64) { panic("skeleton") }

// OnCommit registers fn to run in the writer, in order, after the change is durable and before Update returns. In-memory views
// of the state (caches, the revocation sequence) are brought up to date here.
func (t *Txn) OnCommit(fn func()) { panic("skeleton") }

// Update runs fn in the writer and returns when its writes are durable. When fn returns an error nothing of it is kept and Update
// returns that error. A failed commit fails every change of its group. fn must not block and must not call Update.
func (s *Store) Update(ctx context.Context, fn func(*Txn) error) error { panic("skeleton") }

// View runs fn on a snapshot.
func (s *Store) View(fn func(Reader) error) error { panic("skeleton") }

// Tree is the evidence log's size and root as last committed.
func (s *Store) Tree() (size int64, root tlog.Hash, err error) { panic("skeleton") }

// Inclusion proves that leaf index is in the log of the given size.
func (s *Store) Inclusion(index, size int64) ([]tlog.Hash, error) { panic("skeleton") }

// Consistency proves that the log of size older is a prefix of that of size newer.
func (s *Store) Consistency(older, newer int64) ([]tlog.Hash, error) { panic("skeleton") }

// Leaves reads the leaves [from, to) of the log.
func (s *Store) Leaves(from, to int64) ([]evidence.Leaf, error) { panic("skeleton") }
