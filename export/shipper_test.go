package export

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// TestShip ships events of both purposes to two destinations: each gets its own, under ids of its own.
func TestShip(t *testing.T) {
	w := newWorld(t)
	devices, persons := w.mint(t, 3), w.declare(t, 2)
	w.send(t, pages(devices, 30, "a", testStart)...)
	for i := range 10 {
		w.send(t, visit{devices[i%3], persons[i%2], "purchase", fmt.Sprintf("buy-%d", i), testStart.Add(time.Minute)})
	}
	all := map[[16]byte]bool{}
	for name, want := range map[string]int{"warehouse": 40, "accounting": 10} {
		s := w.shipper(t, name, nil)
		flush(t, s)
		got := w.check(t, name)
		wantIDs(t, got.ids(), w.expected(t, name))
		if len(got.ids()) != want || len(got.entries) != 1 {
			t.Errorf("%s: %d rows in %d batches, want %d in 1", name, len(got.ids()), len(got.entries), want)
		}
		for _, id := range got.ids() {
			if all[id] {
				t.Errorf("two destinations share an event id")
			}
			all[id] = true
		}
		if s.Cursor() != w.spool.Tail() {
			t.Errorf("%s: cursor %d, tail %d", name, s.Cursor(), w.spool.Tail())
		}
		if st := s.Stats(); st.Sealed != 1 || st.Published != 1 || st.Rows != uint64(want) || st.Waiting != 0 || st.LastError != "" {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// TestRun ships what comes in while it runs, each batch at most Interval after its first event, and stops with its context.
func TestRun(t *testing.T) {
	w := newWorld(t)
	devices := w.mint(t, 2)
	s := w.shipper(t, "warehouse", nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for i := range 3 {
		w.send(t, pages(devices, 5, fmt.Sprintf("r%d", i), testStart.Add(time.Duration(i)*time.Minute))...)
		eventually(t, func() bool { return s.Cursor() == w.spool.Tail() && s.Stats().Published == s.Stats().Sealed })
	}
	w.send(t, pages(devices, 5, "last", testStart.Add(4*time.Minute))...)
	flush(t, s) // beside Run
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	wantIDs(t, w.check(t, "warehouse").ids(), w.expected(t, "warehouse"))
}

func eventually(t testing.TB, fn func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !fn(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen within 20 s")
		}
	}
}

// TestNotDue: a batch is not sealed before its interval or its size.
func TestNotDue(t *testing.T) {
	w := newWorld(t)
	w.now = testStart
	devices := w.mint(t, 2)
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.Interval, o.MaxRows = time.Hour, 8 })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.send(t, pages(devices, 7, "few", testStart)...)
	time.Sleep(50 * time.Millisecond)
	if s.Cursor() != 0 {
		t.Error("sealed before the interval")
	}
	w.send(t, pages(devices, 2, "more", testStart)...)
	eventually(t, func() bool { return s.Stats().Published == 1 })
	if s.Cursor() != 9 {
		t.Errorf("cursor %d after a full batch of 8 rows", s.Cursor())
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	flush(t, s)
	wantIDs(t, w.check(t, "warehouse").ids(), w.expected(t, "warehouse"))
}

// TestCuts: ranges are cut at the hour of receipt, at MaxRows and at the size; a range without rows moves the cursor alone.
func TestCuts(t *testing.T) {
	w := newWorld(t)
	devices, persons := w.mint(t, 2), w.declare(t, 1)
	w.send(t, pages(devices, 5, "a", testStart.Add(time.Hour-2*time.Second))...) // 2 in one hour, 3 in the next
	w.send(t, visit{person: persons[0], typ: "purchase", id: "p", at: testStart.Add(3 * time.Hour)})
	w.send(t, pages(devices, 7, "b", testStart.Add(4*time.Hour))...)
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.MaxRows = 4 })
	flush(t, s)
	got := w.check(t, "warehouse")
	wantIDs(t, got.ids(), w.expected(t, "warehouse"))
	var rows []int
	var keys []string
	for _, e := range got.entries {
		rows = append(rows, e.Batch.Rows)
		keys = append(keys, e.Batch.Key)
	}
	want := []string{
		"warehouse/events/dt=2026-11-21/hour=18/a-000000000001-000000000002.1.parquet.age",
		"warehouse/events/dt=2026-11-21/hour=19/a-000000000003-000000000005.1.parquet.age",
		"warehouse/events/dt=2026-11-21/hour=22/a-000000000007-000000000010.1.parquet.age",
		"warehouse/events/dt=2026-11-21/hour=22/a-000000000011-000000000013.1.parquet.age",
	}
	if !slices.Equal(rows, []int{2, 3, 4, 3}) || !slices.Equal(keys, want) {
		t.Errorf("rows %v\nkeys %s", rows, strings.Join(keys, "\n"))
	}
}

func TestCutBySize(t *testing.T) {
	w := newWorld(t)
	w.send(t, pages(w.mint(t, 2), 3*chunkEvents, "a", testStart)...)
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.TargetBytes = 45 * 1000 }) // 60 bytes a row are assumed at first
	flush(t, s)
	got := w.check(t, "warehouse")
	wantIDs(t, got.ids(), w.expected(t, "warehouse"))
	if len(got.entries) < 3 || got.entries[0].Batch.Rows != 750 {
		t.Errorf("%d batches, the first of %d rows", len(got.entries), got.entries[0].Batch.Rows)
	}
	for _, e := range got.entries[1 : len(got.entries)-1] {
		if e.Batch.Size < 20_000 || e.Batch.Size > 67_500 {
			t.Errorf("entry %d: %d bytes, the target is 45,000", e.Number, e.Batch.Size)
		}
	}
}

// TestEmpty: nothing to ship is no error and no object.
func TestEmpty(t *testing.T) {
	w := newWorld(t)
	s := w.shipper(t, "warehouse", nil)
	flush(t, s)
	if got := w.check(t, "warehouse"); len(got.entries) != 0 || s.Cursor() != 0 {
		t.Errorf("%d entries, cursor %d", len(got.entries), s.Cursor())
	}
}

// hookFiles are the operating system's, with a hook before each rename: between regate and intent.
type hookFiles struct {
	files
	rename func()
	write  func() error
}

func (h hookFiles) Rename(from, to string) error {
	if h.rename != nil {
		h.rename()
	}
	return h.files.Rename(from, to)
}

func (h hookFiles) Create(path string) (file, error) {
	f, err := h.files.Create(path)
	return hookFile{f, h.write}, err
}

type hookFile struct {
	file
	write func() error
}

func (h hookFile) Write(b []byte) (int, error) {
	if h.write != nil {
		if err := h.write(); err != nil {
			return 0, err
		}
	}
	return h.file.Write(b)
}

// TestRevokedBeforeSeal: what was withdrawn after admission does not leave (architecture.md, invariant 1).
func TestRevokedBeforeSeal(t *testing.T) {
	w := newWorld(t)
	devices := w.mint(t, 2)
	w.send(t, pages(devices, 10, "a", testStart)...)
	w.withdraw(t, devices[0])
	s := w.shipper(t, "warehouse", nil)
	flush(t, s)
	w.wantOnly(t, w.check(t, "warehouse"), devices[1], 5)
	if st := s.Stats(); st.Dropped != 5 || st.Regated != 0 {
		t.Errorf("%+v", st)
	}
}

func (w *world) withdraw(t testing.TB, s subject.Subject) {
	t.Helper()
	_, err := w.ledger.Withdraw(context.WithoutCancel(t.Context()), s, consent.Withdrawal{Site: testSite, Purposes: []string{"audience"}, Method: "banner"})
	if err != nil {
		t.Error(err)
	}
}

func (w *world) wantOnly(t testing.TB, got shipped, s subject.Subject, n int) {
	t.Helper()
	want := w.destination(t, "warehouse").Pseudonym(s)
	rows := slices.Concat(got.rows...)
	for i := range rows {
		if *rows[i].Device != want {
			t.Error("a row of another subject was shipped")
		}
	}
	if len(rows) != n {
		t.Errorf("%d rows, want %d", len(rows), n)
	}
}

// TestRevokedBetweenRegateAndIntent: the batch is drafted again under a new id, and nothing of the withdrawn purpose leaves (G3).
func TestRevokedBetweenRegateAndIntent(t *testing.T) {
	w := newWorld(t)
	devices := w.mint(t, 2)
	w.send(t, pages(devices, 10, "a", testStart)...)
	var once sync.Once
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) {
		o.files = hookFiles{files: disk{}, rename: func() { once.Do(func() { w.withdraw(t, devices[0]) }) }}
	})
	flush(t, s)
	got := w.check(t, "warehouse")
	w.wantOnly(t, got, devices[1], 5)
	if st := s.Stats(); st.Regated != 1 || st.Dropped != 5 {
		t.Errorf("%+v", st)
	}
	rows := 0
	err := w.state.View(func(r state.Reader) error {
		return r.Scan([]byte(indexTable), func(_, _ []byte) error { rows++; return nil })
	})
	if err != nil || rows != 1 { // of the one device in the one batch
		t.Errorf("%d rows of the index, %v: the draft that was given up left some", rows, err)
	}
}

// TestShreddedBetweenRegateAndIntent: the same for a subject that is erased.
func TestShreddedBetweenRegateAndIntent(t *testing.T) {
	w := newWorld(t)
	devices := w.mint(t, 2)
	w.send(t, pages(devices, 10, "a", testStart)...)
	var once sync.Once
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) {
		o.files = hookFiles{files: disk{}, rename: func() {
			once.Do(func() {
				if _, err := w.ledger.Sever(context.WithoutCancel(t.Context()), devices[0]); err != nil {
					t.Error(err)
				}
			})
		}}
	})
	flush(t, s)
	w.wantOnly(t, w.check(t, "warehouse"), devices[1], 5)
	if st := s.Stats(); st.Regated != 1 || st.Shredded != 5 {
		t.Errorf("%+v", st)
	}
}

// TestErasedPersonOfAnother'sGrant: an event rests on the device's consent, and names a person who is erased. It does not leave.
func TestErasedPersonTakesTheEventAlong(t *testing.T) {
	w := newWorld(t)
	devices, persons := w.mint(t, 1), w.declare(t, 1)
	w.send(t, visit{devices[0], persons[0], "purchase", "with", testStart}, visit{devices[0], subject.Subject{}, "purchase", "without", testStart})
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.Revocations = erasing{o.Revocations, persons[0].Slot()} })
	flush(t, s)
	rows := slices.Concat(w.check(t, "warehouse").rows...)
	if len(rows) != 1 || rows[0].Person != nil || s.Stats().Dropped != 1 {
		t.Errorf("%d rows, %+v", len(rows), s.Stats())
	}
}

// erasing reports an erasure that is under way: revoked, and the slot not yet overwritten.
type erasing struct {
	Revocations
	slot subject.Slot
}

func (e erasing) RevokedAfter(slot subject.Slot, purpose string, sequence uint64) bool {
	return slot == e.slot || e.Revocations.RevokedAfter(slot, purpose, sequence)
}

// TestManyRevocations: withdrawals between each regate and intent hold a destination up for some time, not for ever.
func TestManyRevocations(t *testing.T) {
	w := newWorld(t)
	devices := w.mint(t, 12)
	w.send(t, pages(devices, 120, "a", testStart)...)
	next := 0
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) {
		o.files = hookFiles{files: disk{}, rename: func() {
			if next < len(devices)-1 {
				w.withdraw(t, devices[next])
				next++
			}
		}}
	})
	flush(t, s)
	if st := s.Stats(); st.Regated == 0 {
		t.Errorf("%+v", st)
	}
	got := w.check(t, "warehouse")
	last := w.destination(t, "warehouse").Pseudonym(devices[11])
	n := 0
	for _, rows := range got.rows {
		for i := range rows {
			if *rows[i].Device == last {
				n++
			}
		}
	}
	if n != 10 {
		t.Errorf("%d rows of the one who did not withdraw, want 10", n)
	}
}

// TestWithdrawalRace: when a withdrawal has answered, no batch that gets its number afterwards holds the purpose (consent.md G3).
func TestWithdrawalRace(t *testing.T) {
	w := newWorld(t)
	devices := w.mint(t, 8)
	s := w.shipper(t, "warehouse", func(o *ShipperOptions) { o.MaxRows, o.Interval = 20, time.Millisecond })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var all []pseudonymize.Sealed
	for _, v := range pages(devices, 1000, "race", testStart) {
		all = append(all, w.admit(t, v))
	}
	answered := map[[16]byte]uint64{} // the last number given out when the withdrawal had answered
	d := w.destination(t, "warehouse")
	for i, e := range all {
		w.spool.append(e)
		if i%120 == 30 { // batches are sealed meanwhile, also on a busy machine
			eventually(t, func() bool { return s.Cursor() > uint64(i-20) })
		}
		if i%120 == 60 {
			device := devices[len(answered)]
			w.withdraw(t, device)
			c, err := readCursorOf(w.state, "warehouse")
			if err != nil {
				t.Fatal(err)
			}
			answered[d.Pseudonym(device)] = c.number
		}
	}
	eventually(t, func() bool { return s.Cursor() == w.spool.Tail() })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	flush(t, s)
	got := w.check(t, "warehouse")
	for i, rows := range got.rows {
		for j := range rows {
			if last, withdrew := answered[*rows[j].Device]; withdrew && got.entries[i].Number > last {
				t.Fatalf("entry %d was sealed after the withdrawal had answered at %d, and holds the purpose", got.entries[i].Number, last)
			}
		}
	}
	if len(answered) != 8 || len(got.entries) < 10 {
		t.Errorf("%d withdrawals, %d batches: no race", len(answered), len(got.entries))
	}
}

func readCursorOf(st *state.Store, name string) (c cursorRow, err error) {
	err = st.View(func(r state.Reader) error {
		c, err = readCursor(r, name)
		return err
	})
	return c, err
}
