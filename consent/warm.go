package consent

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// warm keeps verdicts by slot: slots are dense, so a place is found by two indexes and read by one atomic load. It is bounded by
// pages; the hand drops a page that nobody has read since it last came by.
type warm struct {
	top [topSize]atomic.Pointer[branch]

	mu    sync.Mutex // guards what follows, the making and dropping of pages, and put
	pages []uint32   // numbers of the pages in memory
	most  int
	hand  int
}

const (
	pageBits   = 10
	branchBits = 10
	topSize    = 1 << (32 - branchBits - pageBits)
)

type branch [1 << branchBits]atomic.Pointer[page]

type page struct {
	used  atomic.Bool
	slots [1 << pageBits]atomic.Pointer[verdict]
}

func newWarm(subjects int) *warm {
	return &warm{most: max(1, subjects>>pageBits)}
}

// at is the place of a slot, for reading; nil where its page is not in memory.
func (w *warm) at(slot subject.Slot) *atomic.Pointer[verdict] {
	p := w.find(slot)
	if p == nil {
		return nil
	}
	if !p.used.Load() {
		p.used.Store(true)
	}
	return &p.slots[slot&(1<<pageBits-1)]
}

func (w *warm) find(slot subject.Slot) *page {
	b := w.top[slot>>(branchBits+pageBits)].Load()
	if b == nil {
		return nil
	}
	return b[slot>>pageBits&(1<<branchBits-1)].Load()
}

// place is the place of a slot, for writing, on a new page where there is none. The caller holds mu.
func (w *warm) place(slot subject.Slot) *atomic.Pointer[verdict] {
	if p := w.find(slot); p != nil {
		return &p.slots[slot&(1<<pageBits-1)]
	}
	i := slot >> (branchBits + pageBits)
	if w.top[i].Load() == nil {
		w.top[i].Store(new(branch))
	}
	number := uint32(slot >> pageBits)
	if len(w.pages) < w.most {
		w.pages = append(w.pages, number)
	} else {
		for ; ; w.hand++ {
			victim := w.pagePointer(w.pages[w.hand%len(w.pages)])
			if !victim.Load().used.Swap(false) {
				victim.Store(nil)
				break
			}
		}
		w.pages[w.hand%len(w.pages)] = number
		w.hand = (w.hand + 1) % len(w.pages)
	}
	p := new(page)
	w.pagePointer(number).Store(p)
	return &p.slots[slot&(1<<pageBits-1)]
}

func (w *warm) pagePointer(number uint32) *atomic.Pointer[page] {
	return &w.top[number>>branchBits].Load()[number&(1<<branchBits-1)]
}

// put is the writer's, after commit.
func (w *warm) put(slot subject.Slot, v *verdict) {
	w.mu.Lock()
	w.place(slot).Store(v)
	w.mu.Unlock()
}

// standingOf is the verdicts of a subject, from memory where they are there.
func (l *Ledger) standingOf(s *subject.Subject) (*verdict, error) {
	slot := s.Slot()
	if slot == 0 {
		return nobody, nil
	}
	if x := l.warm.at(slot); x != nil {
		if v := x.Load(); v != nil && v.code != loading {
			return v, nil
		}
	}
	return l.readStanding(*s)
}

// readStanding reads the row and keeps it. It reserves the place before it reads: if the writer puts a newer standing there, or the page
// is dropped meanwhile, what was read is used once and not kept.
func (l *Ledger) readStanding(s subject.Subject) (*verdict, error) {
	l.warm.mu.Lock()
	place := l.warm.place(s.Slot())
	l.warm.mu.Unlock()
	reserved := &verdict{code: loading}
	if !place.CompareAndSwap(nil, reserved) {
		reserved = nil
	}
	if l.erasing.has(s.Slot()) { // after the place is reserved: who is suppressed from here on is put there
		if reserved != nil {
			place.CompareAndSwap(reserved, gone)
		}
		return gone, nil
	}
	v := nobody
	row, err := l.openStanding(s)
	switch {
	case err == nil:
		v = verdicts(l.policy, row)
	case !errors.Is(err, state.ErrNotFound):
		if reserved != nil {
			place.CompareAndSwap(reserved, nil)
		}
		return nil, fmt.Errorf("reading standing: %w", err)
	}
	if reserved != nil {
		place.CompareAndSwap(reserved, v)
	}
	return v, nil
}

func (l *Ledger) openStanding(s subject.Subject) (row *standing, err error) {
	err = l.state.View(func(r state.Reader) error {
		row, err = readStandingRow(r, s)
		return err
	})
	return row, err
}

// readStandingRow reads the sealed row through a reader or the writer's transaction: state.ErrNotFound where there is none.
func readStandingRow(r interface{ Get([]byte) ([]byte, error) }, s subject.Subject) (*standing, error) {
	key := s.RowKey(standingTable, nil)
	sealed, err := r.Get(key)
	if err != nil {
		return nil, err
	}
	text, err := s.Open(standingTable, key, sealed)
	if err != nil {
		return nil, err
	}
	return decodeStanding(text)
}

// standingIn is the standing as a change sees it, an empty one where there is none.
func standingIn(t *state.Txn, s subject.Subject) (*standing, error) {
	row, err := readStandingRow(t, s)
	if errors.Is(err, state.ErrNotFound) {
		return new(standing), nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading standing: %w", err)
	}
	return row, nil
}

// setStanding writes the standing, and what the gate reads of it.
func (l *Ledger) setStanding(t *state.Txn, s subject.Subject, row *standing) {
	key := s.RowKey(standingTable, nil)
	t.Set(key, s.Seal(standingTable, key, row.encode()))
	v := verdicts(l.policy, row)
	t.OnCommit(func() { l.warm.put(s.Slot(), v) }) // before a new sequence: see Ledger.sequence
}
