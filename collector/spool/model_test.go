package spool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is what a spool on a failing disk must show: what was acknowledged, and nothing that was never sent.
type model struct {
	disk  *memory
	clock *clock
	o     Options
	spool *Spool

	acknowledged map[string]int64  // id → when it was stored at the earliest, Unix milliseconds
	failed       map[string]int64  // id → when it was first sent and not acknowledged: it may be there since
	seen         map[uint64]string // position → id, as ever read
	released     uint64
	full         bool // the fault is a lack of room
}

func newModel(t *rapid.T) *model {
	m := &model{disk: newMemory(), clock: newClock(), acknowledged: make(map[string]int64), failed: make(map[string]int64), seen: make(map[uint64]string)}
	m.o = options("")
	m.o.Now, m.o.SegmentBytes, m.o.SegmentAge, m.o.Window = m.clock.Now, 400, 10*time.Minute, time.Hour
	m.open(t)
	return m
}

func (m *model) open(t *rapid.T) {
	s, err := openDisk(m.o, m.disk)
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	m.spool = s
}

// append sends a batch of ids of a small set, so that there are duplicates.
func (m *model) append(t *rapid.T) {
	batch := rapid.SliceOfN(rapid.IntRange(0, 30), 1, 6).Draw(t, "ids")
	names := make([]string, len(batch))
	for i, n := range batch {
		names[i] = fmt.Sprintf("event-%d", n)
	}
	now := m.clock.Now().UnixMilli()
	duplicates, err := m.spool.put(context.Background(), samples(names...)...)
	if err != nil {
		if m.disk.fail.Load() == nil {
			t.Fatalf("append on a sound disk: %v", err)
		}
		for _, name := range names {
			if _, ok := m.failed[name]; !ok {
				m.failed[name] = now
			}
		}
		return
	}
	inCall := make(map[string]bool)
	for i, name := range names {
		at, known := m.acknowledged[name]
		if !duplicates[i] && (inCall[name] || known && now-at < m.o.Window.Milliseconds()) {
			t.Fatalf("%q was stored twice within the window", name)
		}
		if at, ok := m.failed[name]; duplicates[i] && !known && ok {
			m.acknowledged[name] = at
		} else if !duplicates[i] {
			m.acknowledged[name] = now
		} else if !known && !inCall[name] {
			t.Fatalf("%q was never sent before", name)
		}
		inCall[name] = true
	}
}

// read reads everything that is left: positions are contiguous and never change their event.
func (m *model) read(t *rapid.T) {
	position := m.spool.Head()
	if m.spool.LeastSequence(); position < m.spool.Tail() {
		if least, ok := m.spool.LeastSequence(); !ok || least != 7 {
			t.Fatalf("least sequence: %d, %v", least, ok)
		}
	}
	if position > m.released {
		t.Fatalf("head is %d, only %d was released", position, m.released)
	}
	limit := rapid.IntRange(1, 20).Draw(t, "max")
	for tail := m.spool.Tail(); position < tail; {
		records, err := m.spool.Peek(context.Background(), position, limit)
		if err != nil || len(records) == 0 || len(records) > limit {
			t.Fatalf("reading from %d: %d records, %v", position, len(records), err)
		}
		for _, r := range records {
			id := strings.TrimPrefix(string(r.Event.Payload), "sealed ")
			if earlier, ok := m.seen[position]; r.Position != position || ok && earlier != id {
				t.Fatalf("position %d is %d with %q, was %q", position, r.Position, id, earlier)
			}
			m.seen[position] = id
			position++
		}
	}
	// Whatever was acknowledged is among what can be, or once could be, read.
	ever := make(map[string]bool)
	for _, id := range m.seen {
		ever[id] = true
	}
	for id := range m.acknowledged {
		if !ever[id] {
			t.Fatalf("%q was acknowledged and is not there", id)
		}
	}
}

// release gives up a part of what was read, as a shipper does. On a full disk it may cost the window a segment: TestReleaseOnFullDisk.
func (m *model) release(t *rapid.T) {
	m.read(t)
	if m.full {
		m.disk.failWith(nil)
	}
	m.released = rapid.Uint64Range(m.released, m.spool.Tail()).Draw(t, "released")
	if err := m.spool.Release(m.released); err != nil && m.disk.fail.Load() == nil {
		t.Fatalf("releasing on a sound disk: %v", err)
	}
}

// fault makes some operations fail from now on, or none.
func (m *model) fault(t *rapid.T) {
	operations := rapid.SliceOfN(rapid.SampledFrom([]string{"create", "rename", "remove", "syncdir", "write", "sync", "truncate"}), 0, 2).Draw(t, "failing")
	if len(operations) == 0 {
		m.disk.failWith(nil)
		return
	}
	m.full = rapid.Bool().Draw(t, "full")
	if m.full {
		m.disk.failWith(noRoom(operations...))
	} else {
		m.disk.failWith(failing(errDisk, operations...))
	}
}

// reopen stops in good order and starts again; the disk is well.
func (m *model) reopen(t *rapid.T) {
	m.read(t)
	m.disk.failWith(nil)
	if err := m.spool.Close(); err != nil {
		t.Fatalf("closing: %v", err)
	}
	m.open(t)
	m.read(t)
}

// crash cuts the power, or kills the process if nothing that was written is lost.
func (m *model) crash(t *rapid.T) {
	m.read(t)
	power := rapid.Bool().Draw(t, "power cut")
	if power {
		names := rapid.IntRange(0, 2).Draw(t, "halves of names that survive")
		part := rapid.IntRange(0, 4).Draw(t, "quarters of what was not synced")
		after := m.disk.crash(func() bool { return names == 2 || names == 1 && rapid.Bool().Draw(t, "survives") }, func(n int) int { return n * part / 4 })
		m.spool.Close()
		m.disk = after
	} else {
		m.disk.failWith(failing(errDisk, "write", "sync", "truncate", "create", "rename", "remove", "syncdir"))
		m.spool.Close()
		m.disk.failWith(nil)
	}
	m.open(t)
	m.read(t)
}

func (m *model) advance(t *rapid.T) {
	m.clock.advance(time.Duration(rapid.IntRange(0, 40).Draw(t, "minutes")) * time.Minute)
}

// The spool against the model: any sequence of appends, reads, releases, restarts, crashes, power cuts and failures of the disk.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		t.Repeat(map[string]func(*rapid.T){
			"append": m.append, "append more": m.append, "append most": m.append,
			"read": m.read, "release": m.release, "fault": m.fault,
			"reopen": m.reopen, "crash": m.crash, "advance": m.advance,
		})
		m.reopen(t)
		if err := m.spool.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Each operation of the disk fails once, in the middle of traffic: what was acknowledged stays, what failed can be sent again,
// and the spool goes on.
func TestDiskFails(t *testing.T) {
	for _, operation := range []string{"write", "sync", "truncate", "create", "rename", "syncdir", "write truncate", "sync truncate", "sync create"} {
		for _, failure := range []error{noRoom("x")("x"), errDisk} {
			t.Run(fmt.Sprint(operation, " ", failure), func(t *testing.T) {
				d := newMemory()
				o := options("")
				o.SegmentBytes = 400
				s, err := openDisk(o, d)
				if err != nil {
					t.Fatal(err)
				}
				var acknowledged []string
				failed := 0
				for i := range 40 {
					if i%8 == 4 {
						d.failWith(failing(failure, strings.Fields(operation)...))
					}
					if i%8 == 6 {
						d.failWith(nil)
					}
					id := fmt.Sprint("event", i)
					duplicates, err := s.put(t.Context(), sample(id))
					if err != nil {
						if failed++; errors.Is(err, ErrFull) != (failure != errDisk) {
							t.Fatal(err)
						}
						if d.fail.Load() == nil {
							t.Fatalf("on a sound disk: %v", err)
						}
						continue
					}
					equalAll(t, id, duplicates, []bool{false})
					acknowledged = append(acknowledged, id)
				}
				if failed == 0 && operation != "truncate" {
					t.Fatal("nothing failed")
				}
				equalAll(t, "events", ids(t, s), acknowledged)
				mustClose(t, s)
				if s, err = openDisk(o, d.crash(func() bool { return false }, func(int) int { return 0 })); err != nil {
					t.Fatal(err)
				}
				equalAll(t, "events after a power cut", ids(t, s), acknowledged)
				if len(mustPut(t, s, numbered("more", 9)...)) != 9 {
					t.Fatal("no more events")
				}
				mustClose(t, s)
			})
		}
	}
}

// A segment is given up although the disk has no room for its index: it is what makes room.
func TestReleaseOnFullDisk(t *testing.T) {
	d := newMemory()
	o := options("")
	o.SegmentBytes = 200
	s, err := openDisk(o, d)
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, numbered("early", 4)...)
	removed := false
	d.failWith(func(operation string) error {
		if operation == "remove" {
			removed = true
		}
		if operation == "write" && !removed {
			return noRoom("write")("write")
		}
		return nil
	})
	if err := s.Release(4); err != nil {
		t.Fatal(err)
	}
	equal(t, "bytes", s.Stats().Bytes, 0)
	mustClose(t, s)
	if s, err = openDisk(o, d); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	equalAll(t, "duplicates", mustPut(t, s, "early-2", "late"), []bool{true, false})
}

// The hashes outlive a segment even if the power fails at the instant of its deletion.
func TestIndexIsDurableBeforeDeletion(t *testing.T) {
	d := newMemory()
	o := options("")
	o.SegmentBytes = 200
	s, err := openDisk(o, d)
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, numbered("early", 4)...)
	deleted := 0
	d.failWith(func(operation string) error {
		if operation != "remove" {
			return nil
		}
		deleted++
		index := d.durable[fileName(0, indexSuffix)]
		if index == nil || len(index.durable) < indexHeader+4*16 {
			t.Error("the segment is deleted before its index is durable")
		}
		return nil
	})
	if err := s.Release(4); err != nil {
		t.Fatal(err)
	}
	equal(t, "deleted", deleted, 1)
	mustClose(t, s)
}

// A duplicate of an event that is being written is answered with it: not before, and with its error.
func TestDuplicateWaitsForFirstCopy(t *testing.T) {
	for _, fails := range []bool{false, true} {
		d := newMemory()
		s, err := openDisk(options(""), d)
		if err != nil {
			t.Fatal(err)
		}
		syncing, goOn := make(chan struct{}), make(chan error)
		d.failWith(func(operation string) error {
			if operation != "sync" {
				return nil
			}
			syncing <- struct{}{}
			return <-goOn
		})
		type answer struct {
			duplicates []bool
			err        error
		}
		answers := make(chan answer, 2)
		send := func() {
			duplicates, err := s.put(context.Background(), sample("x"))
			answers <- answer{duplicates, err}
		}
		go func() { s.put(context.Background(), sample("before")) }()
		<-syncing
		go send()
		go send()
		for s.queued() < 2*sizeOf("x")+sizeOf("before") {
			time.Sleep(time.Millisecond)
		}
		goOn <- nil
		<-syncing // the group of both
		if len(answers) > 0 {
			t.Fatal("answered before the fsync")
		}
		if fails {
			goOn <- errDisk
		} else {
			goOn <- nil
		}
		a, b := <-answers, <-answers
		d.failWith(nil)
		if fails {
			if !errors.Is(a.err, errDisk) || !errors.Is(b.err, errDisk) {
				t.Fatalf("%v, %v", a.err, b.err)
			}
			equalAll(t, "sent again", mustPut(t, s, "x"), []bool{false})
		} else {
			got := slices.Concat(a.duplicates, b.duplicates)
			if len(got) != 2 || got[0] == got[1] {
				t.Fatalf("duplicates: %v", got)
			}
		}
		equalAll(t, "events", ids(t, s), []string{"before", "x"})
		mustClose(t, s)
	}
}

// What was durable before is answered as a duplicate although the group around it fails.
func TestOldDuplicateDoesNotFailWithItsGroup(t *testing.T) {
	d := newMemory()
	s, err := openDisk(options(""), d)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mustPut(t, s, "old")
	d.failWith(failing(errDisk, "sync"))
	old, fresh := s.newRequest(), s.newRequest()
	e := sample("old")
	old.add(&e.sealed, s.hash("shop", "old"))
	e = sample("new")
	fresh.add(&e.sealed, s.hash("shop", "new"))
	s.queue.mu.Lock() // both in one group
	s.queue.waiting = append(s.queue.waiting, old, fresh)
	s.queue.bytes += old.bytes() + fresh.bytes()
	s.queue.signal()
	s.queue.mu.Unlock()
	if err := <-old.done; err != nil || !old.duplicates[0] {
		t.Fatalf("old: %v, %v", old.duplicates, err)
	}
	if err := <-fresh.done; !errors.Is(err, errDisk) {
		t.Fatalf("new: %v", err)
	}
}
