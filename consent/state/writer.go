package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/octroi/octroi/consent/evidence"
	"golang.org/x/mod/sumdb/tlog"
)

// The states of a change: the writer takes it, or its caller gives it up.
const (
	waiting int32 = iota
	taken
	abandoned
)

// change is one call of Update.
type change struct {
	fn    func(*Txn) error
	state atomic.Int32
	hooks []func()
	err   error      // fn's own
	done  chan error // of capacity 1: what Update returns
}

func (c *change) answer(err error) {
	if c.err != nil {
		err = c.err
	}
	select {
	case c.done <- err:
	default: // answered already
	}
}

// writer is the one goroutine that changes the state.
type writer struct {
	store    *Store
	frontier evidence.Frontier // of the evidence log, as last committed
	group    *group            // that is running, or nil
}

// group is the changes of one Badger transaction.
type group struct {
	snapshot *badger.Txn // of the state before it
	rows     overlay
	frontier evidence.Frontier
	changes  []*change
}

// run commits groups until the queue is closed and empty. If a change ends the goroutine (runtime.Goexit, as a failing test does), the store has
// failed and the writer only answers.
func (w *writer) run() {
	s, clean := w.store, false
	defer close(s.stopped)
	defer func() {
		if clean {
			return
		}
		err := s.fail(ErrPanic, nil)
		if w.group != nil {
			w.release(w.group)
			for _, c := range w.group.changes {
				c.answer(err)
			}
		}
		for c := range s.queue {
			c.answer(err)
		}
	}()
	w.frontier = s.head.Load().frontier.Clone()
	for c := range s.queue {
		w.runGroup(c)
	}
	clean = true
}

// runGroup runs first and what waits behind it, up to the group's bound, and commits them together.
func (w *writer) runGroup(first *change) {
	s := w.store
	if f := s.failure.Load(); f != nil {
		first.answer(f.err)
		return
	}
	g := &group{snapshot: s.db.NewTransaction(false), frontier: w.frontier.Clone()}
	w.group = g
	for c := first; c != nil; c = w.next(g) {
		w.runChange(g, c)
	}
	err := w.commit(g)
	w.release(g)
	for _, c := range g.changes {
		c.answer(w.afterCommit(c, err))
	}
	w.group = nil
}

// next is a change that waits already, or nil where none does or the group is full.
func (w *writer) next(g *group) *change {
	if g.rows.bytes >= groupBytes {
		return nil
	}
	select {
	case c := <-w.store.queue: // nil once the queue is closed and empty
		return c
	default:
		return nil
	}
}

// runChange runs one change on the group's rows and, if it succeeds, adds its own to them.
func (w *writer) runChange(g *group, c *change) {
	if !c.state.CompareAndSwap(waiting, taken) {
		return
	}
	g.changes = append(g.changes, c)
	t := &Txn{group: g, frontier: g.frontier.Clone()}
	if c.err = t.run(c.fn); c.err != nil {
		return
	}
	g.rows.merge(&t.rows)
	g.frontier = t.frontier
	c.hooks = t.hooks
}

// commit makes the group durable. After an error nothing of it is kept, or, where Badger failed half-way, the store has failed.
func (w *writer) commit(g *group) error {
	if len(g.rows.rows) == 0 {
		return nil
	}
	s := w.store
	if g.frontier.Size() != w.frontier.Size() {
		h := newHead(g.frontier)
		g.rows.set([]byte(rowHead), h.row())
	}
	free, err := s.free(s.options.Dir)
	if err != nil {
		return fmt.Errorf("asking for the free space of the state's disk: %w", err)
	}
	if free < s.options.ReserveBytes {
		return ErrFull
	}
	// CRASH POINT: the group is not on disk and nobody has been told.
	number := s.committed.version + 1
	if err := commitRows(s.db, g.rows.rows, number); err != nil {
		return s.fail(err, g.snapshot)
	}
	// CRASH POINT: the group is on disk; whoever asked does not know.
	w.frontier = g.frontier
	s.head.Store(newHead(g.frontier))
	if err := s.committed.write(number); err != nil {
		// The group is durable and may be acknowledged, but its number is not noted: it would be the last.
		_ = s.fail(err, nil)
	}
	return nil
}

// release gives up the group's snapshot, unless readers need it because the commit failed.
func (w *writer) release(g *group) {
	if f := w.store.failure.Load(); f == nil || f.snapshot != g.snapshot {
		g.snapshot.Discard()
	}
}

// commitRows writes rows in one Badger transaction, which must be the group of that number.
func commitRows(db *badger.DB, rows map[string]row, number uint64) (err error) {
	txn := db.NewTransaction(true)
	defer txn.Discard()
	// A row in every group, so that Badger cannot forget the number when it drops what was deleted.
	err = txn.Set([]byte(rowGroup), binary.BigEndian.AppendUint64(nil, number))
	for key, r := range rows {
		if err != nil {
			break
		}
		if r.deleted {
			err = txn.Delete([]byte(key))
		} else {
			err = txn.Set([]byte(key), r.value)
		}
	}
	if err != nil {
		return fmt.Errorf("adding a row to a group: %w", withoutText(err))
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("committing a group: %w", withoutText(err))
	}
	after := db.NewTransaction(false)
	defer after.Discard()
	if after.ReadTs() != number {
		return fmt.Errorf("committing group %d: it became group %d", number, after.ReadTs())
	}
	return nil
}

// afterCommit runs the hooks of a change that is durable. A hook that panics has left a view of the state behind the state: the store fails.
func (w *writer) afterCommit(c *change, err error) error {
	if err != nil || c.err != nil {
		return err
	}
	for _, hook := range c.hooks {
		if err := guard(func() error { hook(); return nil }); err != nil {
			return w.store.fail(err, nil)
		}
	}
	return nil
}

// guard runs fn and turns a panic into ErrPanic with the place, without the value: it may hold anything.
func guard(fn func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("%w at %s", ErrPanic, panicPlace())
		}
	}()
	return fn()
}

// panicPlace is the function and line that panicked.
func panicPlace() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		frame, more := frames.Next()
		if frame.Function != "runtime.gopanic" && !isRuntime(frame.Function) {
			return fmt.Sprintf("%s:%d", frame.Function, frame.Line)
		}
		if !more {
			return "an unknown place"
		}
	}
}

func isRuntime(function string) bool {
	return len(function) > 8 && function[:8] == "runtime."
}

// overlay is rows that are not committed yet.
type overlay struct {
	rows   map[string]row
	keys   []string // of rows: sorted up to sorted, then in order of arrival
	sorted int
	bytes  int // key, value and RowOverhead of each row
}

type row struct {
	value   []byte // owned
	deleted bool
}

func (o *overlay) put(key string, r row) {
	if o.rows == nil {
		o.rows = map[string]row{}
	}
	if old, ok := o.rows[key]; ok {
		o.bytes -= len(old.value)
	} else {
		o.keys = append(o.keys, key)
		o.bytes += len(key) + RowOverhead
	}
	o.bytes += len(r.value)
	o.rows[key] = r
}

func (o *overlay) set(key, value []byte) {
	o.put(string(key), row{value: append([]byte{}, value...)})
}

func (o *overlay) merge(other *overlay) {
	for _, key := range other.keys {
		o.put(key, other.rows[key])
	}
}

// head is the evidence log's head with what is needed to append to it.
type head struct {
	size     int64
	root     tlog.Hash
	frontier evidence.Frontier // never changed
}

func newHead(f evidence.Frontier) *head {
	f = f.Clone()
	return &head{size: f.Size(), root: f.Root(), frontier: f}
}

func (h *head) row() []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(h.size)), h.root[:]...)
}

// withoutText is the class of an error of Badger's, whose text may hold keys.
func withoutText(err error) error {
	switch {
	case isFull(err):
		return ErrFull
	case errors.Is(err, badger.ErrDBClosed), errors.Is(err, badger.ErrBlockedWrites):
		return ErrClosed
	case errors.Is(err, badger.ErrTxnTooBig):
		return ErrTooLarge
	default:
		return errors.New("input or output of the database failed")
	}
}
