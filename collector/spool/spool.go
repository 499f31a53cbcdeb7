// Package spool keeps admitted events from the answer 202 until every destination has sealed them. It owns duplicate detection.
//
// It is a log of append-only segment files with group commit: Append seals its events in the caller's goroutine and queues
// them; one writer takes whatever waits, writes it as one block, calls fdatasync once and answers everybody. So an event that
// Append accepted survives kill -9 and power loss, and many small requests share one fsync. Payloads are encrypted under their
// subjects' keys; opening them is the reader's job.
//
// Begin with Open, then Append on one side and Wait, Peek, Release on the other.
//
// The directory holds, beside "lock":
//
//	<position>.segment  blocks of records (block, record, segment); the last is written to, and is there even if empty
//	<position>.index    of a segment that is no longer written to (index); outlives it until the duplicate window has passed
//	<position>.draft    of either, until it is whole; deleted by Open
//
// # Why a file of its own
//
// Measured on 2 shared cores and ext4 with BenchmarkAppend: 64 goroutines, each waiting for the durable append of one event of 600
// bytes, all with the same group commit; only "segment" also detects duplicates. 14 runs each, in turn, median (best):
//
//	                         events/s           MB/s        p99 ms
//	segment files, this      36,300 (263,000)   22 (158)    10.3 (0.6)
//	tidwall/wal 1.2.1        27,900 (116,000)   17  (69)    16.4 (7.0)
//	hashicorp/raft-wal 0.4   28,600 (200,000)   17 (120)    10.2 (1.2)
//
// The medians are of a machine whose disk and cores were busy with other work, the best of quiet moments. Writing zeros ahead of the blocks
// (see writer.ahead) is worth a fifth of the throughput on a quiet disk and half of it on a busy one. Neither library keeps what is needed
// beside the log: positions by record, hashes that outlive segments, a bound in bytes, a way on after a failed fsync. Badger as a
// spool was at half the throughput of one file and thirty times its memory. Peek reads 2.1 million events/s; Open of 1 GiB, 1.8
// million events, takes 0.4 s; a full window of 2,000,000 hashes takes 67 MB.
package spool

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dchest/siphash"
	"github.com/octroi/octroi/pseudonymize"
)

// The errors of this package.
var (
	// ErrFull: MaxBytes or QueueBytes would be exceeded, or the disk has no room. No part of the Append is accepted.
	ErrFull   = errors.New("spool is full")
	ErrClosed = errors.New("spool is closed")
	// ErrDamaged: a file of the spool was changed after it was written. The text names file and offset.
	ErrDamaged = errors.New("spool is damaged")
	// ErrEvent: an Event that pseudonymize.Apply did not make.
	ErrEvent = errors.New("not an admitted event")
	// ErrTooLarge: the events of one Append exceed 32 MiB.
	ErrTooLarge = errors.New("events are too large for one append")
	// ErrStale: the events' grants were checked before revocations that Bar let be forgotten. Check them again.
	ErrStale = errors.New("grants of the events are too old to be spooled")
	// ErrInUse: another process, or another Spool, has the directory open.
	ErrInUse = errors.New("spool is in use")
)

// Options configure Open.
type Options struct {
	Dir          string
	Key          []byte        // 32 bytes: seals payloads without a subject; the key of duplicate detection is derived from it
	MaxBytes     int64         // of all segments; default 4 GiB; beyond: ErrFull
	SegmentBytes int64         // default 64 MiB, at most a quarter of MaxBytes
	SegmentAge   time.Duration // a segment older than this is no longer written to, so that what is released is soon deleted; default 1 min
	QueueBytes   int64         // waiting for the writer, in memory; default 64 MiB; beyond: ErrFull
	Window       time.Duration // of duplicate detection; default 24 h
	WindowCount  int           // events it may hold; default 2,000,000; a window shrunk by it is reported by Stats
	Now          func() time.Time
}

func (o *Options) check() error {
	if len(o.Key) != 32 {
		return errors.New("spool key must have 32 bytes")
	}
	if o.MaxBytes < 0 || o.SegmentBytes < 0 || o.SegmentAge < 0 || o.QueueBytes < 0 || o.Window < 0 || o.WindowCount < 0 {
		return errors.New("spool options must not be negative")
	}
	for _, d := range []struct{ have, otherwise *int64 }{
		{&o.MaxBytes, new(int64(4 << 30))},
		{&o.SegmentBytes, new(int64(64 << 20))},
		{&o.QueueBytes, new(int64(64 << 20))},
		{(*int64)(&o.SegmentAge), new(int64(time.Minute))},
		{(*int64)(&o.Window), new(int64(24 * time.Hour))},
	} {
		if *d.have == 0 {
			*d.have = *d.otherwise
		}
	}
	o.SegmentBytes = min(o.SegmentBytes, o.MaxBytes/4)
	if o.WindowCount == 0 {
		o.WindowCount = 2_000_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Spool is an append-only segment log with group commit. Safe for concurrent use.
type Spool struct {
	o          Options
	disk       disk
	duplicates [2]uint64 // key of the hashes
	names      sync.Pool // of *[]byte
	sealers    sync.Pool // of *pseudonymize.Sealer
	pending    sync.Pool // of *request

	queue   queue
	live    atomic.Int64 // bytes of all segments
	refused atomic.Uint64
	fsyncs  atomic.Uint64
	failed  atomic.Uint64

	mu       sync.Mutex    // guards the following
	segments []*segment    // oldest first; never empty; the last is the active one
	released uint64        // position below which nothing is wanted any more
	grown    chan struct{} // closed when the tail grows or the spool closes; nil while nobody waits
	closed   bool
	figures  windowFigures
	groups   uint64
	cut      int64
	floor    floor

	sweeping   sync.Mutex   // guards the following; taken before mu
	remembered []remembered // deleted segments whose indexes are kept for the window, oldest first
	late       *index       // of a segment that was deleted to make room for it

	sweep   chan struct{} // wakes the sweeper
	stop    chan struct{} // ends it
	running sync.WaitGroup
	closing func() error
}

// Close makes what was appended durable and fails later calls with ErrClosed. To call it again does nothing.
func (s *Spool) Close() error { return s.closing() }

func (s *Spool) close() error {
	s.mu.Lock()
	s.closed = true
	s.announce()
	s.mu.Unlock()
	close(s.stop)
	s.queue.close()
	s.running.Wait()
	s.sweeping.Lock() // a Release that had begun
	defer s.sweeping.Unlock()
	return nil
}

// Append makes the events durable, all or none, and says of each whether it was a duplicate of an earlier one by (site, id) within the
// window, or in the same call. A duplicate is not stored again, and is not answered before the first copy is durable. It returns after
// fsync. ErrEvent, ErrTooLarge, ErrStale, ErrClosed: nothing was stored. Any other error, ErrFull and ctx's included, means that nothing was promised,
// but a restart may find the events: send them again, and what was stored is a duplicate.
func (s *Spool) Append(ctx context.Context, events []pseudonymize.Event) (duplicates []bool, err error) {
	r := s.newRequest()
	sealer := s.sealers.Get().(*pseudonymize.Sealer)
	defer func() { sealer.Forget(); s.sealers.Put(sealer) }()
	for i := range events {
		e := &events[i]
		if !e.Valid() {
			return nil, ErrEvent
		}
		sealed, err := sealer.Seal(e)
		if err != nil {
			return nil, fmt.Errorf("spooling event: %w", err)
		}
		r.add(&sealed, s.hash(e.Site(), e.ID()))
	}
	return s.store(ctx, r)
}

// store waits until the writer has answered r.
func (s *Spool) store(ctx context.Context, r *request) ([]bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(r.records)+blockHeader > maxBlock {
		return nil, ErrTooLarge
	}
	if err := s.queue.push(r, s.o.MaxBytes-s.live.Load()); err != nil {
		if errors.Is(err, ErrFull) {
			s.refused.Add(uint64(len(r.duplicates)))
		}
		return nil, err
	}
	select {
	case err := <-r.done:
		duplicates := r.duplicates
		s.recycle(r)
		if err != nil {
			return nil, err
		}
		return duplicates, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// hash is the name of an event in duplicate detection: SipHash-2-4 with 128 bits. A site's name holds no zero byte.
func (s *Spool) hash(site, id string) hash {
	name := s.names.Get().(*[]byte)
	defer s.names.Put(name)
	*name = append(append(append((*name)[:0], site...), 0), id...)
	var h hash
	low, high := siphash.Hash128(s.duplicates[0], s.duplicates[1], *name)
	binary.LittleEndian.PutUint64(h[:8], low)
	binary.LittleEndian.PutUint64(h[8:], high)
	return h
}

// duplicateKey is the key of duplicate detection.
func duplicateKey(key []byte) [2]uint64 {
	h := hmac.New(sha256.New, key)
	io.WriteString(h, "octroi spool duplicates v2")
	sum := h.Sum(nil)
	return [2]uint64{binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])}
}

// Stats are figures for /metrics and the demo.
type Stats struct {
	Bytes, MaxBytes int64
	Events          uint64 // spooled and not released
	Segments        int
	WindowEvents    int
	WindowShrunk    bool // by WindowCount: duplicates older than WindowSpan are not seen
	WindowSpan      time.Duration
	Groups, Fsyncs  uint64 // since Open
	Failed          uint64 // groups that could not be written, since Open
	Refused         uint64 // events answered ErrFull since Open
	Cut             int64  // bytes of a torn tail that Open cut off: a write that was never acknowledged
}

// Stats may be called at any time, also after Close.
func (s *Spool) Stats() Stats {
	now := s.o.Now().UnixMilli()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Bytes: s.live.Load(), MaxBytes: s.o.MaxBytes,
		Events: s.tail() - s.head(), Segments: len(s.segments),
		WindowEvents: s.figures.hashes, WindowShrunk: now < s.figures.shrunkUntil, WindowSpan: s.o.Window,
		Groups: s.groups, Fsyncs: s.fsyncs.Load(), Failed: s.failed.Load(), Refused: s.refused.Load(), Cut: s.cut,
	}
	if st.WindowShrunk {
		st.WindowSpan = min(s.o.Window, time.Duration(max(0, now-s.figures.oldest))*time.Millisecond)
	}
	return st
}
