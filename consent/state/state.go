// Package state is the gateway's durable state: one writer over an encrypted Badger database, with the evidence log inside.
//
// Every change is a function given to Update. Functions run one after another in the order of arrival, many of them in one
// Badger transaction (group commit): when Update returns nil, the change, its evidence leaves included, is on disk. Readers use
// View and see whole groups only.
//
// It fails closed: a database that is damaged, rolled back or of another key does not open, and a commit that fails for any reason but
// a full disk found out in time stops all further changes until the database is opened anew. Call Open first, Close last.
package state

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/octroi/octroi/consent/evidence"
	"golang.org/x/mod/sumdb/tlog"
)

// The errors of this package. None holds a key or a value of a row.
var (
	ErrNotFound = errors.New("no such row")
	ErrClosed   = errors.New("state is closed")
	ErrKey      = errors.New("state key does not open this database")
	ErrFull     = errors.New("state disk is full")                                // nothing of the change is kept; reading goes on
	ErrTooLarge = errors.New("a change of state is larger than MaxChangeBytes")   // a mistake of the caller's: cut it into chunks
	ErrDamaged  = errors.New("state is damaged")                                  // restore it from a backup
	ErrLocked   = errors.New("another process has this state open")               //
	ErrVersion  = errors.New("state is of another format version")                //
	ErrFailed   = errors.New("state has stopped accepting changes")               // until it is opened anew; the outcome of the failed change is unknown
	ErrPanic    = errors.New("a change of state panicked")                        // nothing of the change is kept
	ErrReserved = errors.New("a change of state wrote a row of the store itself") // nothing of the change is kept
	ErrOutside  = errors.New("no such place in the evidence log")
	ErrBackup   = errors.New("backup of state is damaged or cut off")
	ErrNotEmpty = errors.New("the folder for a restored state is not empty") // nothing in it is changed
)

// ErrStop ends a Scan early.
var ErrStop = errors.New("stop")

// A change may weigh MaxChangeBytes, a row in it its key, its value and RowOverhead bytes. Together with what a group gathers before
// it is closed this stays below what Badger takes in one transaction (15 % of a memtable).
const (
	MaxChangeBytes = 1 << 20
	RowOverhead    = 128

	groupBytes    = 1 << 20 // a group is closed when it weighs this much
	memtableBytes = 16 << 20

	defaultReserve = 256 << 20
)

// Options configure Open.
type Options struct {
	Dir       string
	Key       []byte // 32 bytes: AES-256 of the database at rest
	QueueSize int    // changes that may wait for the writer; default 4096; full blocks until ctx ends

	// ReserveBytes is the free space of the disk below which changes are refused with ErrFull; default 256 MiB. Badger writes through
	// memory maps of sparse files, and a full disk under one kills the process: what it may need for flushing and compacting stays free.
	ReserveBytes int64
}

// Store is the database. It is safe for concurrent use.
//
// Stored format v1, rows by key (u64 is big endian); all other keys belong to the callers, "c/", "i/", "j/", "n/", "r/", "s/", "t/", "x/":
//
//	"e/h" ‖ u64 stored index   hash[32]                 tlog.StoredHashIndex order
//	"e/l" ‖ u64 leaf index     leaf[32]
//	"e/n"                      u64 size ‖ root[32]      head of the evidence log
//	"v/"                       u64 1                    format version
//	"v/g"                      u64 number               of the last group, which is Badger's version of its rows
//
// Beside Badger's files, the file "committed" holds the number of the last acknowledged group (committed.go).
type Store struct {
	options   Options
	db        *badger.DB
	committed *committedFile
	logger    *logger
	free      func(dir string) (int64, error)

	head    atomic.Pointer[head]    // of the evidence log, as last committed
	failure atomic.Pointer[failure] // why no change is accepted any more

	closing sync.RWMutex // guards closed; held for reading while a change is put into the queue
	closed  bool
	queue   chan *change
	stopped chan struct{} // closed when the writer has ended

	readers readers
}

// Open opens or creates the database. It fails with ErrKey when the key is another one, with ErrLocked when the database is in use, with
// ErrDamaged when its files are corrupt or do not hold everything that was acknowledged: then they are left as they are.
func Open(o Options) (*Store, error) {
	if o.QueueSize <= 0 {
		o.QueueSize = 4096
	}
	if o.ReserveBytes <= 0 {
		o.ReserveBytes = defaultReserve
	}
	s := &Store{options: o, logger: &logger{}, free: freeBytes, queue: make(chan *change, o.QueueSize), stopped: make(chan struct{})}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("opening state: %w", err)
	}
	s.readers.open()
	w := &writer{store: s}
	go w.run()
	return s, nil
}

// Close runs the changes that wait already, waits for readers, and closes the database. Later calls fail with ErrClosed. It must not be
// called from within View or Update.
func (s *Store) Close() error {
	s.closing.Lock()
	if s.closed {
		s.closing.Unlock()
		return ErrClosed
	}
	s.closed = true
	close(s.queue)
	s.closing.Unlock()

	<-s.stopped
	s.readers.close()
	if f := s.failure.Load(); f != nil && f.snapshot != nil {
		f.snapshot.Discard()
	}
	if err := errors.Join(s.db.Close(), s.committed.Close()); err != nil {
		return fmt.Errorf("closing state: %w", err)
	}
	return nil
}

// Update runs fn in the writer and returns when its writes are durable. When fn returns an error nothing of it is kept and Update
// returns that error. A failed commit fails every change of its group. fn must not block, must not call Update, and must not keep
// its Txn. A change whose ctx ends before the writer has taken it is not run; once taken it runs to its end and Update waits.
func (s *Store) Update(ctx context.Context, fn func(*Txn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &change{fn: fn, done: make(chan error, 1)}
	if err := s.enqueue(ctx, c); err != nil {
		return err
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
	}
	if c.state.CompareAndSwap(waiting, abandoned) {
		return ctx.Err()
	}
	return <-c.done
}

func (s *Store) enqueue(ctx context.Context, c *change) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return ErrClosed
	}
	select {
	case s.queue <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Tree is the evidence log's size and root as last committed.
func (s *Store) Tree() (size int64, root tlog.Hash, err error) {
	h := s.head.Load()
	return h.size, h.root, nil
}

// Size is the space on disk that the database takes, in bytes; sparse files count by what they hold.
func (s *Store) Size() int64 { return diskBytes(s.options.Dir) }

// BackgroundErrors counts errors of Badger's own goroutines (flush, compaction) since Open. Their texts are not logged: they may hold keys.
func (s *Store) BackgroundErrors() uint64 { return s.logger.errors.Load() }

// failure is why the store accepts no changes any more.
type failure struct {
	err      error
	snapshot *badger.Txn // what readers still see: the state before the commit that failed
}

// Err is why no change is taken any more: ErrFailed with its reason, ErrClosed, or nil. It costs two atomic loads.
func (s *Store) Err() error {
	if f := s.failure.Load(); f != nil {
		return f.err
	}
	if s.readers.closed.Load() {
		return ErrClosed
	}
	return nil
}

// fail stops all further changes. Only the writer calls it.
func (s *Store) fail(err error, snapshot *badger.Txn) error {
	err = fmt.Errorf("%w: %w", ErrFailed, err)
	s.failure.CompareAndSwap(nil, &failure{err: err, snapshot: snapshot})
	return err
}

// readers counts running readers, so that Close waits for them.
type readers struct {
	running atomic.Int64 // plus one while open
	closed  atomic.Bool
	gone    chan struct{}
	once    sync.Once
}

func (r *readers) open() { r.gone = make(chan struct{}); r.running.Store(1) }

func (r *readers) enter() error {
	r.running.Add(1)
	if r.closed.Load() {
		r.leave()
		return ErrClosed
	}
	return nil
}

func (r *readers) leave() {
	if r.running.Add(-1) == 0 {
		r.once.Do(func() { close(r.gone) })
	}
}

func (r *readers) close() {
	r.closed.Store(true)
	r.leave()
	<-r.gone
}

// logger counts Badger's errors and drops its texts.
type logger struct{ errors atomic.Uint64 }

func (l *logger) Errorf(string, ...any)   { l.errors.Add(1) }
func (l *logger) Warningf(string, ...any) {}
func (l *logger) Infof(string, ...any)    {}
func (l *logger) Debugf(string, ...any)   {}

// badgerOptions are small: about 100 MiB of memory in the worst case, most of it not resident.
func badgerOptions(o Options, log badger.Logger) badger.Options {
	b := badger.DefaultOptions(o.Dir)
	b.Logger = log
	b.EncryptionKey = o.Key
	b.EncryptionKeyRotationDuration = 30 * 24 * time.Hour
	b.SyncWrites = true
	b.MetricsEnabled = false
	b.DetectConflicts = false // there is one writer
	b.NumVersionsToKeep = 1

	b.MemTableSize = memtableBytes
	b.NumMemtables = 2
	b.BaseTableSize = 2 << 20
	b.TableSizeMultiplier = 1 // a compaction holds some ten tables in memory: they stay small on all levels
	b.BlockCacheSize = 32 << 20
	b.IndexCacheSize = 32 << 20
	b.NumCompactors = 2
	b.Compression = options.None // rows are sealed or hashes: nothing to gain
	b.ChecksumVerificationMode = options.OnBlockRead

	// Every value is smaller than a change may be and so stays in the tree: one log and one fsync a group, and a value log that is
	// always empty and never needs a collector.
	b.ValueThreshold = MaxChangeBytes
	b.ValueLogFileSize = 4 << 20
	return b
}

var _ evidence.Source = (*Store)(nil)
