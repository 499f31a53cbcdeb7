package spool

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	"github.com/octroi/octroi/pseudonymize"
)

// groupBytes is what the writer takes at once, unless the first request alone is larger.
const groupBytes = 4 << 20

// What is written ahead of the blocks.
const (
	aheadLeast = 64 << 10
	aheadMost  = 256 << 10
)

// request is one Append on its way to the writer, or an order to close the active segment.
type request struct {
	records    []byte
	duplicates []bool // one for each record; the writer's until it answers
	least      uint64 // of the records' revocation sequences
	roll       bool
	stale      bool       // least is below the floor: nothing of it is stored
	done       chan error // holds one
	fresh      bool       // one of its events is durable only if this group is
}

func (s *Spool) newRequest() *request {
	if r, ok := s.pending.Get().(*request); ok {
		return r
	}
	return &request{done: make(chan error, 1)}
}

// recycle takes back a request that was answered.
func (s *Spool) recycle(r *request) {
	if cap(r.records) <= 1<<20 {
		*r = request{records: r.records[:0], done: r.done}
		s.pending.Put(r)
	}
}

func (r *request) add(e *pseudonymize.Sealed, h hash) {
	if len(r.duplicates) == 0 || e.Sequence < r.least {
		r.least = e.Sequence
	}
	r.records = appendRecord(r.records, e, h)
	r.duplicates = append(r.duplicates, false)
}

func (r *request) bytes() int64 { return int64(len(r.records)) + blockHeader }

// queue is what waits for the writer, bounded by limit.
type queue struct {
	limit int64
	wake  chan struct{} // holds one

	mu      sync.Mutex // guards the following
	waiting []*request
	bytes   int64 // of the waiting requests and of those that the writer has
	closed  bool
}

// push queues r. room is what the segments may still grow by.
func (q *queue) push(r *request, room int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrClosed
	case r.roll:
	case q.bytes+r.bytes() > min(room, q.limit):
		return ErrFull
	default:
		q.bytes += r.bytes()
	}
	q.waiting = append(q.waiting, r)
	q.signal()
	return nil
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}

// take appends the next requests to group. It waits for some; none are left when the queue is closed and empty.
func (q *queue) take(group []*request) []*request {
	for {
		q.mu.Lock()
		var bytes int64
		for len(q.waiting) > len(group) {
			r := q.waiting[len(group)]
			if bytes += r.bytes(); bytes > groupBytes && len(group) > 0 {
				break
			}
			group = append(group, r)
		}
		rest := copy(q.waiting, q.waiting[len(group):])
		clear(q.waiting[rest:])
		q.waiting = q.waiting[:rest]
		closed := q.closed
		q.mu.Unlock()
		if len(group) > 0 || closed {
			return group
		}
		<-q.wake
	}
}

// answered gives back the bytes of requests that the writer has dealt with.
func (q *queue) answered(bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= bytes
}

// writer is the only one that writes to segments. Its fields are its goroutine's alone.
type writer struct {
	s      *Spool
	active *segment // only the writer changes it, and so reads it without Spool.mu
	file   file     // of the active segment
	broken bool     // nothing may be appended to file any more
	room   int64    // length of file: blocks and the zeros that were written ahead
	zeros  []byte
	block  []byte
	fresh  hashSet // of the block
	names  []hash  // the same, in order
	window *window
	clock  int64 // the latest time seen, Unix milliseconds: block times never go back
}

// run answers requests until the queue is closed and empty.
func (w *writer) run() {
	defer w.s.running.Done()
	defer func() {
		// The zeros are not needed any more; Open does not mind them.
		_ = w.file.Truncate(w.active.length)
		_ = w.file.Close()
	}()
	var group []*request
	for {
		clear(group)
		if group = w.s.queue.take(group[:0]); len(group) == 0 {
			return
		}
		w.commit(group)
		runtime.Gosched() // those just answered, and those about to ask, run first: fuller groups, fewer fsyncs
	}
}

// commit makes a group durable with one write and one fsync, and answers it.
func (w *writer) commit(group []*request) {
	w.clock = max(w.clock, w.s.o.Now().UnixMilli())
	h, roll := w.gather(group, w.s.letIn())
	var err error
	if roll {
		err = w.roll()
	}
	if h.records > 0 && err == nil {
		err = w.write(h)
	}
	if h.records > 0 && err == nil {
		w.publish(h)
	}
	w.s.letInDone()
	if err != nil {
		w.s.failed.Add(1)
	}
	if cap(w.block) > 2*groupBytes {
		w.block = nil
	}
	var bytes int64
	for _, r := range group {
		if !r.roll {
			bytes += r.bytes()
		}
	}
	w.s.queue.answered(bytes)
	for _, r := range group {
		switch {
		case r.stale:
			r.done <- ErrStale
		case r.fresh || r.roll:
			r.done <- err
		default:
			r.done <- nil // all of it was durable before
		}
	}
}

// gather copies the group's events into the block, without the duplicates and without requests below the floor. A duplicate of an event of the same group shares its fate.
func (w *writer) gather(group []*request, floor uint64) (h block, roll bool) {
	w.window.expire(w.clock)
	w.fresh.clear()
	w.names = w.names[:0]
	w.block = append(w.block[:0], make([]byte, blockHeader)...)
	h = block{first: w.active.end, least: math.MaxUint64, written: w.clock}
	for _, r := range group {
		roll = roll || r.roll
		if r.stale = !r.roll && r.least < floor; r.stale {
			continue
		}
		rest := r.records
		for i := range r.duplicates {
			var one record
			one, rest, _ = cutRecord(rest)
			id := one.hash()
			if w.window.seen(id) {
				r.duplicates[i] = true
				continue
			}
			r.fresh = true
			if r.duplicates[i] = !w.fresh.add(id); r.duplicates[i] {
				continue
			}
			w.names = append(w.names, id)
			w.block = append(w.block, one...)
			h.least = min(h.least, one.sequence())
			h.records++
		}
	}
	h.length = len(w.block)
	return h, roll
}

// write appends the block. After an error nothing of it will ever be read.
func (w *writer) write(h block) error {
	finishBlock(w.block, h)
	a := w.active
	if w.broken || a.length > 0 && a.length+int64(h.length) > w.s.o.SegmentBytes ||
		a.length > 0 && w.clock-a.opened >= w.s.o.SegmentAge.Milliseconds() {
		if err := w.roll(); err != nil {
			return err
		}
		a = w.active
	}
	if _, err := w.file.WriteAt(w.block, a.length); err != nil {
		// Crash point: half a block stands at the end. Open cuts it off, as this does.
		if w.room = a.length; w.file.Truncate(a.length) != nil {
			w.broken = true
		}
		return asFull(fmt.Errorf("writing block: %w", err))
	}
	w.ahead(a.length, a.length+int64(h.length))
	// Crash point: the block is whole but perhaps not durable, and nobody was answered. Open keeps it, and makes it durable.
	w.s.fsyncs.Add(1)
	if err := w.file.Sync(); err != nil {
		// After a failed fsync the kernel may call pages clean that never reached the disk: a second one would prove nothing.
		w.broken = true
		return asFull(fmt.Errorf("syncing block: %w", err))
	}
	// Crash point: durable, not answered. Whoever sends it again is told that it is a duplicate.
	return nil
}

// ahead writes zeros after a block that made the file longer, so that the next blocks do not: then their fdatasync need not wait
// for the file system's journal, and for what others have in it. What is written ahead grows with the segment. If it fails, the
// next block shows what is wrong.
func (w *writer) ahead(length, end int64) {
	if end <= w.room {
		return
	}
	w.room = end
	n := min(max(length, aheadLeast), aheadMost, w.s.o.SegmentBytes-end)
	if n <= 0 {
		return
	}
	if w.zeros == nil {
		w.zeros = make([]byte, aheadMost)
	}
	if _, err := w.file.WriteAt(w.zeros[:n], end); err == nil {
		w.room += n
	}
}

// publish lets readers see the block that was just made durable.
func (w *writer) publish(h block) {
	for _, id := range w.names {
		w.window.add(id, w.clock)
	}
	s := w.s
	s.live.Add(int64(h.length))
	s.mu.Lock()
	defer s.mu.Unlock()
	w.active.extend(h)
	s.groups++
	s.figures = w.window.figures()
	s.announce()
}

// roll closes the active segment and begins the next. A broken one without records is replaced by a new file of the same name.
func (w *writer) roll() error {
	a := w.active
	if a.length == 0 && !w.broken {
		return nil
	}
	// What is left beyond the acknowledged blocks, zeros or a failed write, would be ignored, since the next segment begins where
	// they end. To cut it off is tidy.
	_ = w.file.Truncate(a.length)
	// From here on a file of the next name may stand in the directory. Whatever were appended to the old one now would lie beyond.
	w.broken = true
	f, err := createSegment(w.s.disk, a.end)
	if err != nil {
		return asFull(err)
	}
	// Crash point: the new segment is there and empty. Open begins with it.
	_ = w.file.Close()
	w.file, w.room, w.broken = f, 0, false
	w.active = &segment{first: a.end, content: content{end: a.end}}
	s := w.s
	s.mu.Lock()
	if a.length == 0 {
		s.segments = s.segments[:len(s.segments)-1]
	}
	s.segments = append(s.segments, w.active)
	s.mu.Unlock()
	select {
	case s.sweep <- struct{}{}:
	default:
	}
	return nil
}

// createSegment makes the empty segment that begins at first, durably.
func createSegment(d disk, first uint64) (file, error) {
	draft, name := fileName(first, draftSuffix), fileName(first, segmentSuffix)
	f, err := createDraft(d, draft)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	if err = d.Rename(draft, name); err == nil {
		err = d.Sync()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("creating %s: %w", name, err), f.Close())
	}
	return f, nil
}

// rollNow has the writer close the active segment.
func (s *Spool) rollNow() error {
	r := &request{roll: true, done: make(chan error, 1)}
	if err := s.queue.push(r, 0); err != nil {
		return err
	}
	return <-r.done
}

// announce wakes those who wait. mu is held.
func (s *Spool) announce() {
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
}
