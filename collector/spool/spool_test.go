package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/octroi/octroi/pseudonymize"
)

// clock is a settable time.
type clock struct{ millis atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.millis.Store(time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC).UnixMilli())
	return c
}

func (c *clock) Now() time.Time          { return time.UnixMilli(c.millis.Load()) }
func (c *clock) advance(d time.Duration) { c.millis.Add(d.Milliseconds()) }

func options(dir string) Options { return Options{Dir: dir, Key: []byte(strings.Repeat("k", 32))} }

func mustOpen(t testing.TB, o Options) *Spool {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustClose(t testing.TB, s *Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// sample is an event whose payload names it, so that a test sees which one it reads.
func sample(id string) entry {
	return entry{id, pseudonymize.Sealed{Sequence: 7, ReceivedMillis: 1_800_000_000_000, Device: 3, Person: 4, Payload: []byte("sealed " + id)}}
}

func samples(ids ...string) []entry {
	entries := make([]entry, len(ids))
	for i, id := range ids {
		entries[i] = sample(id)
	}
	return entries
}

func mustPut(t testing.TB, s *Spool, ids ...string) []bool {
	t.Helper()
	duplicates, err := s.put(t.Context(), samples(ids...)...)
	if err != nil {
		t.Fatal(err)
	}
	return duplicates
}

// ids reads everything and gives the events' ids in order.
func ids(t testing.TB, s *Spool) []string {
	t.Helper()
	var got []string
	for position := s.Head(); ; {
		records, err := s.Peek(t.Context(), position, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			return got
		}
		for _, r := range records {
			if r.Position != position {
				t.Fatalf("record at %d has position %d", position, r.Position)
			}
			got = append(got, strings.TrimPrefix(string(r.Event.Payload), "sealed "))
			position++
		}
	}
}

func numbered(prefix string, n int) []string {
	got := make([]string, n)
	for i := range got {
		got[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return got
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func equalAll[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func TestAppendPeek(t *testing.T) {
	s := mustOpen(t, options(t.TempDir()))
	equalAll(t, "duplicates", mustPut(t, s, "a", "b", "a"), []bool{false, false, true})
	equalAll(t, "duplicates", mustPut(t, s, "b", "c"), []bool{true, false})
	equalAll(t, "duplicates", mustPut(t, s, "a"), []bool{true})
	equalAll(t, "events", ids(t, s), []string{"a", "b", "c"})
	equal(t, "tail", s.Tail(), 3)
	records, err := s.Peek(t.Context(), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := sample("b").sealed
	equal(t, "records", len(records), 1)
	got := records[0].Event
	equal(t, "payload", string(got.Payload), string(want.Payload))
	got.Payload, want.Payload = nil, nil
	equal(t, "event", fmt.Sprint(got), fmt.Sprint(want))
	if records, err = s.Peek(t.Context(), 3, 10); err != nil || len(records) != 0 {
		t.Fatalf("at the end: %v, %v", records, err)
	}
	if records, err = s.Peek(t.Context(), 99, 10); err != nil || len(records) != 0 {
		t.Fatalf("beyond the end: %v, %v", records, err)
	}
}

func TestSitesDoNotShareIDs(t *testing.T) {
	s := mustOpen(t, options(t.TempDir()))
	one := s.hash("shop", "1")
	if one == s.hash("till", "1") || one == s.hash("shop", "2") || one != s.hash("shop", "1") {
		t.Fatal("hash is not of site and id")
	}
	o := options(t.TempDir())
	o.Key = []byte(strings.Repeat("x", 32))
	if other := mustOpen(t, o); other.hash("shop", "1") == s.hash("shop", "1") {
		t.Fatal("hash is not keyed")
	}
}

func TestPeekLargeIsCut(t *testing.T) {
	s := mustOpen(t, options(t.TempDir()))
	for i := range 12 {
		e := sample(fmt.Sprint(i))
		e.sealed.Payload = make([]byte, 2<<20)
		if _, err := s.put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	records, err := s.Peek(t.Context(), 0, 100)
	if err != nil || len(records) < 8 || len(records) > 9 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	equal(t, "all", len(ids(t, s)), 12)
	e := sample("huge")
	e.sealed.Payload = make([]byte, maxBlock)
	if _, err := s.put(t.Context(), e); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("huge event: %v", err)
	}
}

func TestReleaseKeepsPositions(t *testing.T) {
	o, c := options(t.TempDir()), newClock()
	o.Now, o.SegmentBytes = c.Now, 1<<10
	s := mustOpen(t, o)
	for i := range 10 {
		mustPut(t, s, numbered(fmt.Sprint("event", i), 5)...)
	}
	if s.Stats().Segments < 5 {
		t.Fatalf("only %d segments", s.Stats().Segments)
	}
	if err := s.Release(23); err != nil {
		t.Fatal(err)
	}
	equal(t, "head", s.Head(), 23)
	records, err := s.Peek(t.Context(), 0, 1)
	if err != nil || len(records) != 1 || records[0].Position != 23 {
		t.Fatalf("after release: %v, %v", records, err)
	}
	if err := s.Release(1 << 60); err != nil { // more than there is
		t.Fatal(err)
	}
	st := s.Stats()
	equal(t, "bytes", st.Bytes, 0)
	equal(t, "segments", st.Segments, 1)
	if _, ok := s.LeastSequence(); ok {
		t.Fatal("an empty spool has a least sequence")
	}
	mustClose(t, s)
	s = mustOpen(t, o)
	equal(t, "tail after reopening an empty spool", s.Tail(), 50)
	equalAll(t, "duplicates", mustPut(t, s, "event3-2", "new"), []bool{true, false})
	equalAll(t, "events", ids(t, s), []string{"new"})
}

func TestOldSegmentIsDeletedWithoutTraffic(t *testing.T) {
	o, c := options(t.TempDir()), newClock()
	o.Now = c.Now
	s := mustOpen(t, o)
	mustPut(t, s, "a")
	if err := s.Release(1); err != nil {
		t.Fatal(err)
	}
	if s.Stats().Bytes == 0 {
		t.Fatal("a young, small segment is not worth a new one")
	}
	c.advance(time.Minute)
	if err := s.tidy(); err != nil { // as the sweeper does each minute
		t.Fatal(err)
	}
	equal(t, "bytes", s.Stats().Bytes, 0)
	segments, err := filepath.Glob(filepath.Join(o.Dir, "*.segment"))
	if err != nil || len(segments) != 1 || filepath.Base(segments[0]) != "00000000000000000001.segment" {
		t.Fatalf("segments: %v, %v", segments, err)
	}
}

func TestFull(t *testing.T) {
	o := options(t.TempDir())
	o.MaxBytes = 4 << 10
	s := mustOpen(t, o)
	stored := 0
	for ; ; stored++ {
		_, err := s.put(t.Context(), sample(fmt.Sprint(stored)))
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if s.Stats().Bytes > o.MaxBytes || s.Stats().Bytes < o.MaxBytes/2 {
		t.Fatalf("full at %d bytes of %d", s.Stats().Bytes, o.MaxBytes)
	}
	// All or none.
	if _, err := s.put(t.Context(), samples(numbered("batch", 20)...)...); !errors.Is(err, ErrFull) {
		t.Fatalf("batch: %v", err)
	}
	equal(t, "refused", s.Stats().Refused, 21)
	equal(t, "stored", len(ids(t, s)), stored)
	if err := s.Release(s.Tail()); err != nil {
		t.Fatal(err)
	}
	equalAll(t, "with room again", mustPut(t, s, numbered("batch", 20)...), make([]bool, 20))
}

func TestQueueIsBounded(t *testing.T) {
	d := newMemory()
	o := options("")
	o.QueueBytes = 2*sizeOf("a") + 50
	s, err := openDisk(o, d)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	syncing, goOn := make(chan struct{}, 8), make(chan struct{})
	d.failWith(func(operation string) error {
		if operation == "sync" {
			syncing <- struct{}{}
			<-goOn
		}
		return nil
	})
	var stored sync.WaitGroup
	stored.Go(func() { mustPut(t, s, "a") })
	<-syncing
	stored.Go(func() { mustPut(t, s, "b") })
	for s.queued() < 2*sizeOf("a") {
		time.Sleep(time.Millisecond)
	}
	if _, err := s.put(t.Context(), sample("c")); !errors.Is(err, ErrFull) {
		t.Errorf("third: %v", err)
	}
	close(goOn)
	stored.Wait()
	mustPut(t, s, "c")
}

func sizeOf(id string) int64 {
	return blockHeader + recordHeader + int64(len(sample(id).sealed.Payload))
}

func TestWait(t *testing.T) {
	s := mustOpen(t, options(t.TempDir()))
	woken := make(chan error, 2)
	go func() { woken <- s.Wait(t.Context(), 1) }()
	mustPut(t, s, "a")
	select {
	case err := <-woken:
		t.Fatalf("woken too early: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	mustPut(t, s, "b")
	if err := <-woken; err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { woken <- s.Wait(ctx, 2) }()
	cancel()
	if err := <-woken; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	go func() { woken <- s.Wait(t.Context(), 2) }()
	time.Sleep(5 * time.Millisecond)
	mustClose(t, s)
	if err := <-woken; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestClosed(t *testing.T) {
	o := options(t.TempDir())
	s := mustOpen(t, o)
	mustPut(t, s, "a")
	if _, err := Open(o); !errors.Is(err, ErrInUse) {
		t.Fatalf("opened twice: %v", err)
	}
	mustClose(t, s)
	mustClose(t, s)
	_, putErr := s.put(t.Context(), sample("b"))
	_, peekErr := s.Peek(t.Context(), 0, 1)
	for what, err := range map[string]error{
		"append": putErr, "peek": peekErr, "wait": s.Wait(t.Context(), 0), "release": s.Release(1),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	equalAll(t, "events", ids(t, mustOpen(t, o)), []string{"a"})
}

func TestOptions(t *testing.T) {
	for what, change := range map[string]func(*Options){
		"short key":     func(o *Options) { o.Key = o.Key[:31] },
		"negative size": func(o *Options) { o.MaxBytes = -1 },
		"no directory":  func(o *Options) { o.Dir = "" },
	} {
		o := options(t.TempDir())
		change(&o)
		if _, err := Open(o); err == nil || strings.Contains(err.Error(), "kkk") {
			t.Errorf("%s: %v", what, err)
		}
	}
	o := options(filepath.Join(t.TempDir(), "file"))
	if err := os.WriteFile(o.Dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); err == nil {
		t.Error("a file was opened as a spool")
	}
}

func TestZeroEventIsRefused(t *testing.T) {
	s := mustOpen(t, options(t.TempDir()))
	if _, err := s.Append(t.Context(), make([]pseudonymize.Event, 2)); !errors.Is(err, ErrEvent) {
		t.Fatalf("zero event: %v", err)
	}
	equal(t, "tail", s.Tail(), 0)
}

func TestContextEnds(t *testing.T) {
	d := newMemory()
	s, err := openDisk(options(""), d)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ended, cancel := context.WithCancel(t.Context())
	syncing, goOn := make(chan struct{}, 8), make(chan struct{})
	d.failWith(func(operation string) error {
		if operation == "sync" {
			syncing <- struct{}{}
			<-goOn
		}
		return nil
	})
	answered := make(chan error)
	go func() {
		_, err := s.put(ended, sample("a"))
		answered <- err
	}()
	<-syncing
	cancel()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := s.put(ended, sample("b")); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(goOn)
	equalAll(t, "sent again", mustPut(t, s, "a", "b"), []bool{true, false})
}

func TestLeastSequence(t *testing.T) {
	o := options(t.TempDir())
	o.SegmentBytes = 200
	s := mustOpen(t, o)
	for i, sequence := range []uint64{5, 3, 9, 8} {
		e := sample(fmt.Sprint(i))
		e.sealed.Sequence = sequence
		e.sealed.Payload = make([]byte, 150)
		if _, err := s.put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	for position, want := range []uint64{3, 3, 8, 8} {
		if err := s.Release(uint64(position)); err != nil {
			t.Fatal(err)
		}
		got, ok := s.LeastSequence()
		if !ok || got != want {
			t.Fatalf("from %d: %d, %v; want %d", position, got, ok, want)
		}
	}
	mustClose(t, s)
	s = mustOpen(t, o)
	if got, ok := s.LeastSequence(); !ok || got != 8 {
		t.Fatalf("after reopening: %d, %v", got, ok)
	}
}

// What was checked before revocations that are forgotten by now never gets in, and what is in, or on its way in, keeps them remembered.
func TestBar(t *testing.T) {
	s := mustOpen(t, options(t.TempDir()))
	put := func(id string, sequence uint64) error {
		e := sample(id)
		e.sealed.Sequence = sequence
		_, err := s.put(t.Context(), e)
		return err
	}
	if least := s.Bar(0); least != 0 {
		t.Fatalf("bar 0 of an empty spool: %d", least)
	}
	if err := put("a", 5); err != nil {
		t.Fatal(err)
	}
	if least := s.Bar(7); least != 5 {
		t.Fatalf("with 5 spooled, revocations up to %d may be forgotten", least)
	}
	if err := put("b", 6); !errors.Is(err, ErrStale) {
		t.Fatalf("6 came in below 7: %v", err)
	}
	if err := put("c", 7); err != nil {
		t.Fatal(err)
	}
	if err := put("b", 8); err != nil { // refused was not stored: no duplicate
		t.Fatal(err)
	}
	if err := s.Release(s.Tail()); err != nil {
		t.Fatal(err)
	}
	if least := s.Bar(3); least != 7 {
		t.Fatalf("the bar went down to %d", least)
	}
}

// A group that the writer is busy with counts as let in under the bar of its beginning.
func TestBarWhileWriting(t *testing.T) {
	s := mustOpen(t, options(t.TempDir()))
	if floor := s.letIn(); floor != 0 {
		t.Fatal(floor)
	}
	s.Bar(4)
	if least := s.Bar(9); least != 0 {
		t.Fatalf("revocations up to %d may be forgotten while a group without bar is written", least)
	}
	s.letInDone()
	if least := s.Bar(9); least != 9 {
		t.Fatal(least)
	}
}
