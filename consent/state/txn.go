package state

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/octroi/octroi/consent/evidence"
)

// Reader reads rows. Keys and values are copies that the caller owns.
type Reader interface {
	// Get returns the row's value, or ErrNotFound.
	Get(key []byte) ([]byte, error)
	// Scan calls fn for each row whose key begins with prefix, in key order, until fn returns an error; ErrStop ends it without one. It
	// shows the rows as they were when it began, also where fn changes them.
	Scan(prefix []byte, fn func(key, value []byte) error) error
}

var (
	_ Reader = (*Txn)(nil)
	_ Reader = snapshot{}
)

// View runs fn on a snapshot: all groups that were acknowledged before, none in part. After ErrFailed it is the last one that was good.
func (s *Store) View(fn func(Reader) error) error {
	if err := s.readers.enter(); err != nil {
		return err
	}
	defer s.readers.leave()
	if f := s.failure.Load(); f != nil && f.snapshot != nil {
		return fn(snapshot{f.snapshot})
	}
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	return fn(snapshot{txn})
}

// snapshot is a committed state.
type snapshot struct{ txn *badger.Txn }

func (s snapshot) Get(key []byte) ([]byte, error) {
	item, err := s.txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, ErrNotFound
	}
	if err == nil {
		var value []byte
		if value, err = item.ValueCopy(nil); err == nil {
			return value, nil
		}
	}
	return nil, fmt.Errorf("reading a row: %w", damaged(err))
}

func (s snapshot) Scan(prefix []byte, fn func(key, value []byte) error) error {
	return s.scan(prefix, prefix, nil, fn)
}

// scan calls fn for the rows with prefix whose key is from or above; pending rows, sorted, stand before the snapshot's.
func (s snapshot) scan(prefix, from []byte, pending []pendingRow, fn func(key, value []byte) error) error {
	options := badger.DefaultIteratorOptions
	options.Prefix = prefix
	options.PrefetchValues = false // values lie beside their keys
	it := s.txn.NewIterator(options)
	defer it.Close()
	it.Seek(from)
	for it.Valid() || len(pending) > 0 {
		order := -1
		switch {
		case len(pending) == 0:
			order = 1
		case it.Valid():
			order = strings.Compare(pending[0].key, string(it.Item().Key()))
		}
		var key, value []byte
		skip := false
		if order <= 0 { // the pending row is the next, and stands for the snapshot's of the same key
			key, value, skip = []byte(pending[0].key), bytes.Clone(pending[0].value), pending[0].deleted
			pending = pending[1:]
		} else {
			var err error
			if key = it.Item().KeyCopy(nil); err == nil {
				value, err = it.Item().ValueCopy(nil)
			}
			if err != nil {
				return fmt.Errorf("scanning rows: %w", damaged(err))
			}
		}
		if order >= 0 {
			it.Next()
		}
		if skip {
			continue
		}
		if err := fn(key, value); errors.Is(err, ErrStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// damaged is the class of an error in reading. Badger's own text may hold the key.
func damaged(err error) error {
	if errors.Is(err, badger.ErrDBClosed) {
		return ErrClosed
	}
	return ErrDamaged
}

// Txn is one change. It reads what earlier changes of the same group wrote. It is valid until the function returns and not safe for
// concurrent use.
type Txn struct {
	group    *group
	rows     overlay
	frontier evidence.Frontier
	hooks    []func()
	err      error // of a write, which returns none
}

// run runs fn and says what is wrong with what it wrote.
func (t *Txn) run(fn func(*Txn) error) error {
	if err := guard(func() error { return fn(t) }); err != nil {
		return err
	}
	if t.err != nil {
		return t.err
	}
	if t.rows.bytes > MaxChangeBytes {
		return fmt.Errorf("%w: %d bytes of %d", ErrTooLarge, t.rows.bytes, MaxChangeBytes)
	}
	return nil
}

// Get returns the row's value as the change sees it, or ErrNotFound.
func (t *Txn) Get(key []byte) ([]byte, error) {
	for _, o := range []*overlay{&t.rows, &t.group.rows} {
		if r, ok := o.rows[string(key)]; ok {
			if r.deleted {
				return nil, ErrNotFound
			}
			return append([]byte{}, r.value...), nil
		}
	}
	return snapshot{t.group.snapshot}.Get(key)
}

// Scan is Reader's Scan on the rows as the change sees them.
func (t *Txn) Scan(prefix []byte, fn func(key, value []byte) error) error {
	pending := mergePending(t.rows.pending(prefix), t.group.rows.pending(prefix))
	return snapshot{t.group.snapshot}.scan(prefix, prefix, pending, fn)
}

// Set writes a row. It copies key and value. A row of the store's own, an empty key or one longer than 1 KiB fails the change.
func (t *Txn) Set(key, value []byte) {
	if t.allowed(key) {
		t.rows.set(key, value)
	}
}

// Delete deletes a row, which need not exist.
func (t *Txn) Delete(key []byte) {
	if t.allowed(key) {
		t.rows.put(string(key), row{deleted: true})
	}
}

// maxKey bounds the key of a row, in bytes.
const maxKey = 1024

func (t *Txn) allowed(key []byte) bool {
	if len(key) == 0 || len(key) > maxKey || bytes.HasPrefix(key, []byte("e/")) || bytes.HasPrefix(key, []byte("v/")) || bytes.HasPrefix(key, []byte("!badger!")) {
		t.err = ErrReserved
		return false
	}
	return true
}

// Room is how many bytes the change may still write, each row with its key, its value and RowOverhead.
func (t *Txn) Room() int { return MaxChangeBytes - t.rows.bytes }

// OnCommit registers fn to run in the writer, in order, after the change is durable and before Update returns. In-memory views
// of the state (caches, the revocation sequence) are brought up to date here. It does not run where the change fails. If it panics the
// store fails, because what is in memory is behind what is on disk.
func (t *Txn) OnCommit(fn func()) { t.hooks = append(t.hooks, fn) }

// pendingRow is a row of an overlay with its key.
type pendingRow struct {
	key string
	row
}

// pending lists the overlay's rows with prefix, by key.
func (o *overlay) pending(prefix []byte) (out []pendingRow) {
	o.sort()
	at, _ := slices.BinarySearch(o.keys, string(prefix))
	for _, key := range o.keys[at:] {
		if !strings.HasPrefix(key, string(prefix)) {
			break
		}
		out = append(out, pendingRow{key, o.rows[key]})
	}
	return out
}

// sort puts the keys that arrived since the last call into their places. A group of many small changes that all scan stays cheap.
func (o *overlay) sort() {
	arrived := o.keys[o.sorted:]
	if len(arrived) > 32 {
		slices.Sort(o.keys)
		o.sorted = len(o.keys)
		return
	}
	for _, key := range slices.Clone(arrived) {
		at, _ := slices.BinarySearch(o.keys[:o.sorted], key)
		copy(o.keys[at+1:o.sorted+1], o.keys[at:o.sorted])
		o.keys[at] = key
		o.sorted++
	}
}

// mergePending merges two sorted lists; of two rows with the same key it keeps the first list's.
func mergePending(first, second []pendingRow) []pendingRow {
	if len(second) == 0 {
		return first
	}
	out := make([]pendingRow, 0, len(first)+len(second))
	for len(first) > 0 && len(second) > 0 {
		switch order := strings.Compare(first[0].key, second[0].key); {
		case order < 0:
			out, first = append(out, first[0]), first[1:]
		case order > 0:
			out, second = append(out, second[0]), second[1:]
		default:
			out, first, second = append(out, first[0]), first[1:], second[1:]
		}
	}
	return append(append(out, first...), second...)
}
