// Package load is the recipient's side: it follows a destination's signed stream, opens each batch, and loads every event exactly once, into
// a folder or into PostgreSQL. What the stream says later of a batch is carried out on what was loaded: rows that were erased go, those that
// lost a purpose are reduced, those under restriction are hidden and come back.
//
// What is loaded has been checked: the entry's signature, that it follows the entry before it, the object's hash, its authenticity to
// age, its schema, and that no event of the same site and id is loaded. A check that fails stops that node's stream, with nothing of the
// entry done; the other nodes go on, and a later run resumes.
//
// Entries are applied in order, one transaction each with the position; see folder and database for what a crash leaves. The stream is read
// ahead: a batch is loaded from the newest object that any published entry states, so that who was erased does not come back with an older
// one, and an object that was deleted since is not missed. An event that several batches hold is loaded with the first of them, and goes
// with that one.
//
// Speed, of three batches of 100,000 events from a local folder, on two cores that other work used too: 27,000 rows a second into a folder
// (BenchmarkLoad), 19,000 to 28,000 into PostgreSQL 15 with its indexes (TestSpeed of deploy/interop).
//
// Begin with Open, then Once or Follow; an Acker beside tells the gateway how far it is.
package load

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/octroi/octroi/export"
)

// The errors of this package. Those of export that reach the caller keep their names: ErrSignature, ErrEntry, ErrChain, ErrGap,
// ErrIdentity, ErrSeal, ErrSchema, ErrUnavailable, ErrRefused.
var (
	ErrHash   = errors.New("object's bytes are not those of the stream entry")
	ErrLocked = errors.New("another octroi-load is at work there")
	ErrLost   = errors.New("object of a stream entry is not in the store")
	ErrRows   = errors.New("batch holds other rows than its stream entry states")
	ErrFolder = errors.New("folder or schema belongs to another load") // another destination, format or version

	ErrNotice    = errors.New("notice object of a stream entry is not in the store")
	ErrStatement = errors.New("stream entry contradicts those before it")
	ErrChanged   = errors.New("what was loaded was changed since by somebody else")
	ErrDatabase  = errors.New("database is unavailable") // worth another try
)

// The formats of a folder.
const (
	Parquet = "parquet" // events/dt=YYYY-MM-DD/hour=HH/<batch>.parquet, columns as in the batch
	NDJSON  = "ndjson"  // events/dt=YYYY-MM-DD/hour=HH/<batch>.ndjson, one event a line
)

// Options configure a Loader.
type Options struct {
	Objects     export.Objects
	Destination string
	Gateway     ed25519.PublicKey
	Identities  export.Identities
	Dir         string        // the folder; the loader's own state is in Dir/.octroi-load
	Format      string        // of the folder's files: Parquet (default) or NDJSON
	Database    string        // instead of Dir: connection string of PostgreSQL, without a pooler between that shares connections
	Schema      string        // of the database; default "octroi"
	Poll        time.Duration // Follow: how often the stream is looked at; default 2 s
	Attempts    int           // Once: tries of one object, also where a transfer brought wrong bytes; default 5
	Backoff     time.Duration // wait before the second try; doubles up to 30 s; default 500 ms
	Log         *slog.Logger  // default: nothing
	Progress    func(Progress)
	// Applied is told the position of each node at Open and after each entry, once it is durable; sha256 is the entry's export.EntryHash.
	Applied func(node string, number uint64, sha256 string)

	files files // default: disk
}

// Progress of a long load: counts of this run.
type Progress struct {
	Node                      string
	Number                    uint64 // last entry applied
	Batches, Rows, Duplicates uint64
	Bytes                     int64 // of objects

	// Loaded rows that later entries took away, cut, hid, and put back.
	Removed, Reduced, Restricted, Lifted uint64
}

// Loader loads one destination into one place. One process at a time; its methods are called one at a time.
type Loader struct {
	o         Options
	into      sink
	followers map[string]*follower // by node

	progress Progress // of the run
	warned   bool     // that there is no stream
	// sleep waits, or ends with ctx; tests shorten it.
	sleep func(ctx context.Context, d time.Duration) error
	close sync.Once
}

// Open opens the folder or the database, creating what is missing there: ErrLocked while another process has it, ErrFolder where it holds
// another destination's events or another format.
func Open(ctx context.Context, o Options) (*Loader, error) {
	switch {
	case o.Objects == nil || o.Destination == "" || (o.Dir == "") == (o.Database == ""):
		return nil, errors.New("opening loader: objects, destination, and either a folder or a database are needed")
	case len(o.Gateway) != ed25519.PublicKeySize:
		return nil, errors.New("opening loader: the gateway's public key is needed")
	}
	o.Format, o.Schema = cmp.Or(o.Format, Parquet), cmp.Or(o.Schema, DefaultSchema)
	if o.Format != Parquet && o.Format != NDJSON {
		return nil, fmt.Errorf("opening loader: unknown format %q; expected %s or %s", o.Format, Parquet, NDJSON)
	}
	o.Poll, o.Backoff, o.Attempts = cmp.Or(o.Poll, 2*time.Second), cmp.Or(o.Backoff, 500*time.Millisecond), cmp.Or(o.Attempts, 5)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.files == nil {
		o.files = disk{}
	}
	l := &Loader{o: o, followers: map[string]*follower{}, sleep: sleep}
	if err := l.openSink(ctx); err != nil {
		return nil, fmt.Errorf("opening loader: %w", err)
	}
	return l, nil
}

// openSink opens what is loaded into, and tells the positions it holds.
func (l *Loader) openSink(ctx context.Context) (err error) {
	if l.o.Dir != "" {
		l.into, err = openFolder(l.o)
	} else {
		l.into, err = openDatabase(ctx, l.o.Database, l.o.Schema, l.o.Destination)
	}
	if err != nil || l.o.Applied == nil {
		return err
	}
	all, err := l.into.positions(ctx)
	if err != nil {
		return errors.Join(err, l.into.close())
	}
	for _, node := range slices.Sorted(maps.Keys(all)) {
		l.o.Applied(node, all[node].Number, all[node].Previous)
	}
	return nil
}

// Close releases the folder or the database.
func (l *Loader) Close() (err error) {
	l.close.Do(func() { err = l.into.close() })
	return err
}

// Once applies every entry that the stream has. A node whose stream cannot go on does not stop the others; its error is returned, joined
// with theirs. A store that stays out of reach is export.ErrUnavailable after Attempts.
func (l *Loader) Once(ctx context.Context) (Progress, error) {
	l.progress = Progress{}
	err := errors.Join(l.round(ctx)...)
	return l.progress, err
}

// Follow goes on until ctx ends (nil) or a node's stream cannot go on without somebody's help (its error, after the other nodes' entries).
// A store or database out of reach is waited for.
func (l *Loader) Follow(ctx context.Context) error {
	l.progress = Progress{}
	for {
		failed := l.round(ctx)
		if ctx.Err() != nil {
			return nil
		}
		for _, err := range failed {
			if !passing(err) {
				return errors.Join(failed...)
			}
		}
		wait := l.o.Poll
		if len(failed) > 0 { // after Attempts, each with its own wait
			wait = max(wait, 5*time.Second)
			l.o.Log.Warn("waiting", "error", errors.Join(failed...), "wait", wait)
		}
		if l.sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// round applies what there is, node by node, and returns what stopped a node.
func (l *Loader) round(ctx context.Context) (failed []error) {
	nodes, err := l.nodes(ctx)
	if err != nil {
		return []error{fmt.Errorf("looking for streams of %q: %w", l.o.Destination, err)}
	}
	if len(nodes) == 0 && !l.warned {
		l.warned = true
		l.o.Log.Warn("there is no stream of this destination yet; is its name right?", "destination", l.o.Destination)
	}
	for _, node := range nodes {
		err := l.node(ctx, node)
		if ctx.Err() != nil {
			return []error{ctx.Err()}
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

var errEnough = errors.New("enough")

// nodes lists the nodes that have a stream, one request each and one more.
func (l *Loader) nodes(ctx context.Context) (nodes []string, err error) {
	prefix := l.o.Destination + "/stream/"
	for after := ""; ; {
		found := ""
		err := l.try(ctx, func() error {
			err := l.o.Objects.List(ctx, prefix, after, func(key string, _ int64) error {
				found, _, _ = strings.Cut(strings.TrimPrefix(key, prefix), "/")
				return errEnough
			})
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if found == "" {
			return nodes, nil
		}
		nodes = append(nodes, found)
		after = prefix + found + "/~" // beyond every number
	}
}

// try calls f again while what it returns may pass, Attempts times in all.
func (l *Loader) try(ctx context.Context, f func() error) error {
	wait := l.o.Backoff
	for n := 1; ; n++ {
		err := f()
		if err == nil || n >= l.o.Attempts || !(errors.Is(err, export.ErrUnavailable) || errors.Is(err, ErrHash)) {
			return err
		}
		l.o.Log.Warn("trying again", "error", err, "attempt", n, "wait", wait)
		if err := l.sleep(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, 30*time.Second)
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
