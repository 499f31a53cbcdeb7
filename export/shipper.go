package export

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The errors of the shipper.
var (
	ErrOptions = errors.New("shipper is not configured")
	ErrOutbox  = errors.New("outbox file of a sealed batch is missing or damaged") // put it back from a backup of the disk: the spool may have released it
	ErrNoBatch = errors.New("no such batch")
	ErrRow     = errors.New("row of the shipper in state is damaged")
)

// Spooled is what the shipper needs of the spool (collector/spool.Spool through a thin adapter in cmd/octroi).
type Spooled struct {
	Position uint64
	Event    pseudonymize.Sealed
}

// Spool is the source of events. Safe for concurrent use.
type Spool interface {
	// Peek returns durable records from position on, in order, at most max; fewer, or none, at the end.
	Peek(ctx context.Context, position uint64, max int) ([]Spooled, error)
	// Tail is the position that the next appended event will get.
	Tail() uint64
	// Wait returns when Tail is above position, or ctx ends.
	Wait(ctx context.Context, position uint64) error
}

// Revocations is what regate and intent ask of the ledger. Safe for concurrent use.
type Revocations interface {
	Sequence() uint64
	RevokedAfter(slot subject.Slot, purpose string, sequence uint64) bool
	RevokedSince(t *state.Txn, sequence uint64, fn func(slot subject.Slot, purpose string) error) error
}

// Subjects opens spooled payloads and gives the row keys of the index. Safe for concurrent use.
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
	OutboxDir   string        // this destination's own folder
	OutboxMax   int64         // bytes of sealed objects waiting for the store; default 2 GiB; full: the cursor waits
	Interval    time.Duration // a batch is sealed at most this long after its first event was received; default 60 s
	TargetBytes int64         // sealed size at which a batch is cut; default 32 MiB
	MaxRows     int           // rows at which a batch is cut; default 500,000
	RetryMin    time.Duration // pause after a first failure, doubled with each; default 200 ms
	RetryMax    time.Duration // longest pause, and the pause after a refusal of the store; default 30 s
	Log         *slog.Logger
	Now         func() time.Time

	files files // the operating system's
}

func (o *ShipperOptions) complete() error {
	if o.Destination == nil || o.Spool == nil || o.Revocations == nil || o.Subjects == nil || o.State == nil || o.Objects == nil {
		return fmt.Errorf("%w: destination, spool, revocations, subjects, state and objects are needed", ErrOptions)
	}
	if o.Name != o.Destination.Name() || !streamName.MatchString(o.Name) || !streamName.MatchString(o.Node) {
		return fmt.Errorf("%w: destination %q (%q) and node %q: names hold letters, digits, '_' and '-'", ErrOptions, o.Name, o.Destination.Name(), o.Node)
	}
	if len(o.Signer) != ed25519.PrivateKeySize || o.OutboxDir == "" || len(o.Recipients.Names) == 0 {
		return fmt.Errorf("%w: signer, outbox folder and recipients are needed", ErrOptions)
	}
	setDefault(&o.OutboxMax, 2<<30)
	setDefault(&o.Interval, time.Minute)
	setDefault(&o.TargetBytes, 32<<20)
	setDefault(&o.MaxRows, 500_000)
	setDefault(&o.RetryMin, 200*time.Millisecond)
	setDefault(&o.RetryMax, 30*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.files == nil {
		o.files = disk{}
	}
	return nil
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Shipper moves one destination's events from the spool to sealed objects to the stream:
//
//	spool.Peek → Open → regate → project → encode → seal → outbox → index → intent → put → sign → publish → outbox file deleted
//
// Sealing (up to the intent) and publishing (from the put on) are two loops: a batch is sealed while the one before is put. What one
// hands to the other is in state, so that a start after a crash is nothing but the two loops going on. Entries are published one after
// the other, n+1 never before n. Safe for concurrent use.
//
// Measured on 2 cores that other work kept busy (load average 3 to 5), 100,000 events of 1,001 subjects, baseline in the same run:
//
//	                                            median of        events/s (range)             ÷ parquet-go alone (range)
//	spool to committed intent (BenchmarkShip)   14 runs          133,000 (50,000 to 227,000)  0.43 (0.24 to 0.86)
//	rows to sealed Parquet (BenchmarkSealed…)    7 runs          240,000 (212,000 to 271,000) 0.70 (0.63 to 0.82)
//
// The first opens payloads on all cores, so it loses most when others have them; the second is one core against one. 23 to 32 stored bytes
// an event. A gateway sealing 500,000 events of 2,000 subjects in one batch had at most 150 MiB resident with GOGC=50, and stayed
// below its memory bound (379 MiB of 384) with the default.
type Shipper struct {
	o      ShipperOptions
	log    *slog.Logger
	outbox *outbox

	sealing    turn // holds: draft to intent
	publishing turn // holds: put to publish

	// Owned by who has the sealing turn.
	doubt       *draft  // whose intent has an unknown outcome: look into state before the next
	bytesPerRow float64 // sealed, of earlier batches
	keptShare   float64 // rows ÷ spooled events looked at, of earlier batches

	cursor    atomic.Uint64 // as committed
	head      atomic.Uint64 // last stream number that an intent or a statement has taken
	published atomic.Uint64 // last stream number that is published
	through   atomic.Uint64 // spool position below which everything is sealed, however full the outbox is
	changed   bell          // rings when head, published, through or the outbox have changed

	mu    sync.Mutex
	stats ShipperStats // guarded by mu
	seal  string       // last error of sealing, guarded by mu
	put   string       // last error of publishing, guarded by mu
}

// NewShipper recovers what a crash left: outbox files without an intent are deleted, those with one wait to be put again by Run or Flush.
func NewShipper(ctx context.Context, o ShipperOptions) (*Shipper, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Shipper{
		o: o, log: o.Log.With("destination", o.Name, "node", o.Node),
		sealing: newTurn(), publishing: newTurn(), bytesPerRow: 60, keptShare: 1,
	}
	var err error
	if s.outbox, err = openOutbox(o.OutboxDir, o.files); err != nil {
		return nil, fmt.Errorf("opening outbox: %w", err)
	}
	if err := s.recover(ctx); err != nil {
		return nil, fmt.Errorf("recovering the shipments to %s: %w", o.Name, err)
	}
	return s, nil
}

// recover brings the shipper in line with what is committed.
func (s *Shipper) recover(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var c cursorRow
	var published uint64
	err := s.o.State.View(func(r state.Reader) (err error) {
		if c, err = readCursor(r, s.o.Name); err != nil {
			return err
		}
		if published, err = readPublished(r, s.o.Name); err != nil || c.number == 0 {
			return err
		}
		return s.checkNode(r, c.number)
	})
	if err != nil {
		return err
	}
	if published > c.number {
		return fmt.Errorf("%w: %d entries published, %d sealed", ErrRow, published, c.number)
	}
	if tail := s.o.Spool.Tail(); c.cursor > tail {
		s.log.ErrorContext(ctx, "spool is older than the cursor: shipping again what is left of it", "alarm", true, "cursor", c.cursor, "tail", tail)
		s.count(func(st *ShipperStats) { st.Alarms++ })
		if c, err = s.restart(ctx); err != nil {
			return fmt.Errorf("moving cursor: %w", err)
		}
	}
	s.cursor.Store(c.cursor)
	s.head.Store(c.number)
	s.published.Store(published)
	// Drafts, files without an intent, and files of published batches go; nobody will put them.
	index := NewIndex(s.o.State)
	return s.outbox.sweep(func(id BatchID) (keep bool, err error) {
		row, err := index.Batch(id)
		if errors.Is(err, ErrNoBatch) {
			return false, nil
		}
		return err == nil && row.Destination == s.o.Name && row.Number > published, err
	})
}

// restart moves the cursor to the beginning. The spool lost its end, or was replaced: its next events will get positions that lie below the
// cursor. What was shipped before comes a second time, and the loader knows it by (site, event id).
func (s *Shipper) restart(ctx context.Context) (c cursorRow, err error) {
	err = s.o.State.Update(ctx, func(t *state.Txn) error {
		if c, err = readCursor(t, s.o.Name); err != nil {
			return err
		}
		if err := reuse(t, s.o.Name, c.cursor); err != nil {
			return err
		}
		c.cursor = 0
		t.Set(cursorKey(s.o.Name), c.encode())
		return nil
	})
	return c, err
}

// reuse remembers that positions below one may come again.
func reuse(t *state.Txn, destination string, below uint64) error {
	reused, err := readReused(t, destination)
	if err == nil && reused < below {
		t.Set(reusedKey(destination), encodeNumber(below))
	}
	return err
}

// checkNode: a stream is one node's. Under another name it would begin in the middle, and every reader would miss what is before.
func (s *Shipper) checkNode(r state.Reader, number uint64) error {
	entry, err := readStreamRow(r, s.o.Name, number)
	if err != nil {
		return err
	}
	node, err := entry.node(r)
	if err == nil && node != s.o.Node {
		err = fmt.Errorf("%w: the stream is of node %q, the configuration says %q: give the node its name back", ErrOptions, node, s.o.Node)
	}
	return err
}

// Run ships until ctx ends, and then returns nil. Failures are logged, counted and tried again: nothing that was spooled is dropped
// because of one. It returns an error only when state is closed under it, or has failed: then the process must open it anew.
func (s *Shipper) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	publishing := make(chan error, 1)
	go func() {
		defer cancel()
		publishing <- s.runPublishing(ctx)
	}()
	err := s.runSealing(ctx)
	cancel()
	return errors.Join(err, <-publishing)
}

// Flush seals, puts and publishes everything spooled before the call; used at a graceful stop, beside or after Run. It tries until ctx ends.
func (s *Shipper) Flush(ctx context.Context) error {
	upTo := s.o.Spool.Tail()
	ctx, cancel := context.WithCancel(ctx)
	publishing := make(chan error, 1)
	go func() {
		defer cancel()
		publishing <- s.runPublishing(ctx)
	}()
	err := s.sealUpTo(ctx, upTo)
	if err == nil {
		err = s.awaitPublished(ctx, s.head.Load())
	}
	cancel()
	if perr := <-publishing; perr != nil {
		err = perr
	}
	if err != nil {
		return fmt.Errorf("flushing shipments to %s: %w (%s)", s.o.Name, err, s.Stats().LastError)
	}
	return nil
}

// SealThrough seals everything that is spooled below position, due or not, however full the outbox is: what an erasure waits for must not
// wait for a dead destination. It does not wait for puts. It returns once Cursor is at position, and tries until ctx ends; then Run goes on
// past the outbox's bound up to there.
func (s *Shipper) SealThrough(ctx context.Context, position uint64) error {
	for through := s.through.Load(); through < position && !s.through.CompareAndSwap(through, position); through = s.through.Load() {
	}
	s.changed.ring() // who waits for room need not any more
	for {
		err := s.sealUpTo(ctx, position)
		if err == nil && s.cursor.Load() < position {
			err = sleep(ctx, spoolPause) // what lies between is not durable yet, or was skipped
		}
		if err != nil {
			return fmt.Errorf("sealing for %s through position %d: %w", s.o.Name, position, err)
		}
		if s.cursor.Load() >= position {
			return nil
		}
	}
}

// Cursor is the spool position below which everything is sealed for this destination. The caller releases the spool up to the least.
func (s *Shipper) Cursor() uint64 { return s.cursor.Load() }

// ShipperStats are figures for /metrics and the demo. Counters are since the start.
type ShipperStats struct {
	Sealed, Published uint64 // batches
	Rows, Bytes       uint64 // sealed
	Dropped           uint64 // events of this destination whose purposes were all revoked at the seal
	Shredded          uint64 // spooled events whose subject was destroyed: they open to nobody
	Regated           uint64 // batches drafted again, because a subject in it revoked between regate and intent
	Collisions        uint64 // objects that another content had the key of: they went to their next generation
	Failures          uint64 // attempts that failed and are tried again
	Alarms            uint64 // failures that an operator must act on
	Waiting           int    // objects in the outbox
	WaitingBytes      int64
	LastError         string // of what fails now; empty when all is well; without personal data
}

// Stats is the present count.
func (s *Shipper) Stats() ShipperStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Waiting, st.WaitingBytes = s.outbox.waiting()
	if st.LastError = s.seal; s.put != "" {
		st.LastError = s.put
	}
	return st
}

func (s *Shipper) count(fn func(*ShipperStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(&s.stats)
}
