package journey

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// mint makes n devices that agreed to purposes.
func (w *world) mint(n int, purposes ...string) (made []subject.Subject) {
	w.t.Helper()
	served, err := w.ledger.Snapshot(testSite, "en")
	if err != nil {
		w.t.Fatal(err)
	}
	agreed := map[string]bool{}
	for _, p := range purposes {
		agreed[p] = true
	}
	for range n {
		r, err := w.ledger.Record(w.t.Context(), consent.Choice{
			Site: testSite, Who: consent.Who{Mint: true}, Purposes: agreed, Snapshot: served.Snapshot, Method: "banner", Language: "en",
		})
		if err != nil {
			w.t.Fatal(err)
		}
		s, err := w.subjects.Device(*r.Minted)
		if err != nil {
			w.t.Fatal(err)
		}
		made = append(made, s)
	}
	return made
}

// card is a person's identifier.
func (w *world) card(n int) subject.Identifier {
	w.t.Helper()
	id, err := subject.Normalise("loyalty", fmt.Sprintf("card-%d", n), "FR")
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// identify links a device to the person of a card.
func (w *world) identify(device subject.Subject, n int) subject.Subject {
	w.t.Helper()
	l, err := w.ledger.Identify(w.t.Context(), consent.Identification{
		Site: testSite, Device: device, Persons: []subject.Identifier{w.card(n)}, Method: "token", Entity: "shop",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return l.Person
}

// send does what the collector does, up to the spool.
func (w *world) send(device subject.Subject, typ, id string, at time.Time) {
	w.t.Helper()
	kind, ok := w.policy.EventType(typ)
	if !ok {
		w.t.Fatalf("no event type %q", typ)
	}
	g, refusal, err := w.ledger.Check(&consent.Query{Type: kind, Device: device, Time: at, Received: at})
	if err != nil || !g.Valid() {
		w.t.Fatalf("event %s refused: %v %v", id, refusal, err)
	}
	e, err := pseudonymize.Apply(&g, &pseudonymize.Touchpoint{
		ID: id, Site: "shop", Time: at, Received: at,
		Fields: []pseudonymize.Field{{Name: "variant", Text: "a"}, {Name: "campaign", Text: "spring"}, {Name: "product", Text: "p-1"}},
		Value:  pseudonymize.Money{Minor: 1250, Currency: "EUR"},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	sealed, err := e.Seal(key(4))
	if err != nil {
		w.t.Fatal(err)
	}
	w.spool.append(sealed)
}

func (w *world) flush(j *Journeys) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := j.Flush(ctx); err != nil {
		w.t.Fatal(err)
	}
}

// window is how many touches a subject's journey has.
func (w *world) window(j *Journeys, s subject.Subject) int {
	w.t.Helper()
	rows, err := j.Window(s)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(rows)
}

// TestLinkedJourney: what a device does while it is a person's is of the person's journey; without the link, or without linking, it is the device's own.
func TestLinkedJourney(t *testing.T) {
	w := newWorld(t)
	j := w.journeys()
	tablet := w.mint(1, "audience", "linking")[0]
	phone := w.mint(1, "audience", "linking")[0]
	w.send(tablet, "page_view", "1", w.clock.Now())
	mother := w.identify(tablet, 1)
	w.send(tablet, "product_view", "2", w.clock.Now())
	son := w.identify(tablet, 2)
	w.send(tablet, "page_view", "3", w.clock.Now())
	w.send(tablet, "cart_add", "4", w.clock.Now())
	w.identify(phone, 2)
	w.send(phone, "purchase", "5", w.clock.Now())
	w.flush(j)
	want := func(what string, tabletHas, phoneHas, motherHas, sonHas int) {
		t.Helper()
		if a, b, c, d := w.window(j, tablet), w.window(j, phone), w.window(j, mother), w.window(j, son); a != tabletHas || b != phoneHas || c != motherHas || d != sonHas {
			t.Errorf("%s: tablet %d, phone %d, mother %d, son %d touches; want %d, %d, %d, %d", what, a, b, c, d, tabletHas, phoneHas, motherHas, sonHas)
		}
	}
	want("linked", 1, 0, 1, 3)
	rows, err := j.Window(son)
	if err != nil || rows[0].Properties["variant"] != "a" || rows[0].Properties["product"] != "" || rows[0].Campaign != "spring" {
		t.Errorf("the window keeps %+v (%v)", rows[0], err)
	}

	withdraw := func(s subject.Subject, purpose string) {
		t.Helper()
		err := w.state.Update(t.Context(), func(tx *state.Txn) error {
			if err := w.ledger.WithdrawIn(tx, s, consent.Withdrawal{Site: testSite, Purposes: []string{purpose}, Method: "page"}); err != nil {
				return err
			}
			return j.Erase(tx, s, []string{purpose})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.send(phone, "page_view", "6", w.clock.Now()) // spooled before the withdrawal, and folded after it
	withdraw(phone, "linking")
	want("phone parted", 1, 1, 1, 2)
	w.flush(j)
	want("folded after the withdrawal", 1, 2, 1, 2)

	w.erase(j, son)
	want("son erased", 1, 2, 1, 0)
	withdraw(tablet, "audience")
	want("audience withdrawn on the tablet", 0, 2, 0, 0)
	withdraw(phone, "audience")
	want("audience withdrawn on the phone", 0, 0, 0, 0)
	if cells := cellsOf(w.dump(j)); len(cells) > 0 {
		t.Errorf("%d cells are left of nobody", len(cells))
	}
}

// racing revokes a subject at the worst instant: after the events have passed the gate and before their change of state.
type racing struct {
	export.Revocations
	between func()
	once    sync.Once
}

func (r *racing) RevokedAfter(slot subject.Slot, purpose string, sequence uint64) bool {
	yes := r.Revocations.RevokedAfter(slot, purpose, sequence)
	if purpose != "" {
		r.once.Do(r.between)
	}
	return yes
}

// TestRevokedWhileFolding: who withdraws, or is erased, while his events are being folded is not in the cells (consent.md G3).
func TestRevokedWhileFolding(t *testing.T) {
	for name, act := range map[string]func(w *world, t *state.Txn, s subject.Subject) error{
		"withdrawn": func(w *world, t *state.Txn, s subject.Subject) error {
			return w.ledger.WithdrawIn(t, s, consent.Withdrawal{Site: testSite, Purposes: []string{"audience"}, Method: "page"})
		},
		"erased": func(w *world, t *state.Txn, s subject.Subject) error { return w.ledger.Suppress(t, s) },
	} {
		w := newWorld(t)
		s := w.mint(2, "audience")
		for i := range 10 {
			w.send(s[i%2], "page_view", fmt.Sprint(i), w.clock.Now())
		}
		o := w.options()
		var j *Journeys
		o.Revocations = &racing{Revocations: w.ledger, between: func() {
			err := w.state.Update(context.Background(), func(t *state.Txn) error {
				purposes := []string{"audience"}
				if name == "erased" {
					purposes = nil
				}
				return errors.Join(act(w, t, s[0]), j.Erase(t, s[0], purposes))
			})
			if err != nil {
				t.Error(err)
			}
		}}
		var err error
		if j, err = Open(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		w.flush(j)
		if a, b := w.window(j, s[0]), w.window(j, s[1]); a != 0 || b != 5 {
			t.Errorf("%s: %d touches of who went, %d of who stayed, want 0 and 5", name, a, b)
		}
		if st := j.Stats(); st.Folded != 5 || st.Lag != 0 {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// TestRun: what is spooled while it runs is folded, and what is due is published, without anybody asking.
func TestRun(t *testing.T) {
	w := newWorld(t)
	w.settings.Lateness = time.Hour
	j := w.journeys()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	s := w.mint(1, "audience")[0]
	for i := range 5 {
		w.send(s, "page_view", fmt.Sprint(i), w.clock.Now())
	}
	until(t, func() bool { return j.Stats().Folded == 5 })
	w.clock.set(testStart.Add(7 * 24 * time.Hour))
	w.send(s, "page_view", "later", testStart)
	until(t, func() bool { return j.Stats().Published >= 2 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func until(t *testing.T, fn func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !fn(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come")
		}
	}
}

// TestLostSpool: a spool that was replaced begins anew below the cursor: what comes is folded, and what comes again is not counted again.
func TestLostSpool(t *testing.T) {
	w := newWorld(t)
	j := w.journeys()
	s := w.mint(1, "audience")[0]
	for i := range 8 {
		w.send(s, "page_view", fmt.Sprint(i), w.clock.Now())
	}
	w.flush(j)
	before := cellsOf(w.dump(j))
	w.spool.records = w.spool.records[:3]
	j = w.journeys()
	if st := j.Stats(); st.Alarms != 1 || j.Cursor() != 0 {
		t.Errorf("a spool older than the cursor: %+v, cursor %d", st, j.Cursor())
	}
	w.flush(j)
	if got := cellsOf(w.dump(j)); !maps.Equal(got, before) || j.Stats().Known != 3 {
		t.Errorf("what came again was counted again: %+v", j.Stats())
	}
	w.send(s, "page_view", "new", w.clock.Now())
	w.flush(j)
	if n := w.window(j, s); n != 9 {
		t.Errorf("%d touches, want 9", n)
	}
}

// TestRestored: after a restore beside a slot file that is newer, whoever was destroyed since is in no cell, though nobody can open his rows.
func TestRestored(t *testing.T) {
	w := newWorld(t)
	c := w.crowd(4, 21)
	j := w.journeys()
	rows := c.rows(w, j.o.Destination, 300)
	foldRows(t, j, rows, 100)
	gone := []subject.Subject{c.devices[1], c.persons[2]}
	for _, s := range gone { // as the newer slot file has it: no row of state says so
		if err := w.subjects.Shred(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	w.restored = true
	j = w.journeys()
	w.flush(j)
	recountAll(t, j, func() {})
	got := cellsOf(w.dump(j))
	w.restored = false
	m := &model{rows: map[[16]byte]pseudonymize.Row{}}
	for _, row := range rows {
		if !of(&row, gone[0]) && !of(&row, gone[1]) {
			if err := w.remember(j, m, &row); err != nil {
				t.Fatal(err)
			}
		}
	}
	var begins map[string]int64
	if err := w.state.View(func(r state.Reader) (err error) { begins, err = j.begins(r); return err }); err != nil {
		t.Fatal(err)
	}
	sameRows(t, got, m.cells(j, begins))
	for _, s := range c.subjects() { // and the rest goes on
		if s.Slot() != gone[0].Slot() && s.Slot() != gone[1].Slot() {
			w.erase(j, s)
		}
	}
	recountAll(t, j, func() {})
	if cells := cellsOf(w.dump(j)); len(cells) > 0 {
		t.Errorf("%d cells are left of nobody", len(cells))
	}
}

// The kill test runs journeys in a process of its own, which kills itself (SIGKILL) at the n-th call of what it uses. Between them these calls enclose
// every change of state that folding makes; publishing is stopped between all of its changes in TestPublishedOnce.
const killVariable = "OCTROI_JOURNEY_KILL" // <dir>|<n>

func TestMain(m *testing.M) {
	if plan := os.Getenv(killVariable); plan != "" {
		dir, n, _ := strings.Cut(plan, "|")
		if err := foldUntilKilled(dir, n); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// reaper kills the process at the n-th call.
type reaper struct {
	*listSpool
	export.Revocations
	mu   sync.Mutex
	left int
}

func (r *reaper) at() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left--; r.left == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (r *reaper) Peek(ctx context.Context, position uint64, max int) ([]export.Spooled, error) {
	r.at()
	return r.listSpool.Peek(ctx, position, min(max, 40)) // many small runs
}

func (r *reaper) Sequence() uint64 {
	r.at()
	return r.Revocations.Sequence()
}

func (r *reaper) RevokedSince(t *state.Txn, sequence uint64, fn func(subject.Slot, string) error) error {
	r.at() // inside the writer, before the change is durable
	return r.Revocations.RevokedSince(t, sequence, fn)
}

func (w *world) save() error {
	f, err := os.Create(filepath.Join(w.dir, "spool"))
	if err != nil {
		return err
	}
	return errors.Join(gob.NewEncoder(f).Encode(w.spool.records), f.Close())
}

func (w *world) load() error {
	f, err := os.Open(filepath.Join(w.dir, "spool"))
	if err != nil {
		return err
	}
	defer f.Close()
	return gob.NewDecoder(f).Decode(&w.spool.records)
}

func foldUntilKilled(dir, n string) error {
	w := &world{dir: dir, clock: &clock{now: testStart}, spool: &listSpool{}, settings: Settings{Interval: time.Millisecond, Segments: map[string][]string{"variant": {"a", "b"}}}}
	if err := errors.Join(w.open(), w.load()); err != nil {
		return err
	}
	r := &reaper{listSpool: w.spool, Revocations: w.ledger}
	if _, err := fmt.Sscan(n, &r.left); err != nil {
		return err
	}
	o := w.options()
	o.Spool, o.Revocations, o.Log = r, r, slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	j, err := Open(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(j.Flush(ctx), w.close())
}

// TestKilled: killed at every call, one after the other, and started again each time, it ends with the rows of one that was never killed.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	devices := w.mint(6, "audience", "linking")
	for i := range 400 {
		d := devices[i%len(devices)]
		if i%67 == 0 {
			w.identify(d, i%3)
		}
		w.send(d, []string{"page_view", "product_view", "cart_add", "purchase"}[i%4], fmt.Sprint(i), w.clock.Now().Add(time.Duration(i)*time.Second))
	}
	j := w.journeys()
	w.flush(j)
	want := w.dump(j)
	w.wipe()
	if err := errors.Join(w.save(), w.close()); err != nil {
		t.Fatal(err)
	}
	kills := 0
	for n := 1; ; n++ {
		c := exec.CommandContext(t.Context(), os.Args[0])
		c.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d", killVariable, w.dir, n))
		out, err := c.CombinedOutput()
		if err == nil {
			break
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("call %d: %v: %s", n, err, out)
		}
		kills++
	}
	if kills < 8 {
		t.Errorf("killed %d times only", kills)
	}
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	j = w.journeys()
	sameRows(t, w.dump(j), want)
}

// BenchmarkFold folds events of many devices that visit in turn, 20 touches each in the end.
func BenchmarkFold(b *testing.B) {
	w := newWorld(b)
	devices := w.mint(500, "audience")
	types := []string{"page_view", "product_view", "search", "page_view", "cart_add", "page_view", "purchase", "page_view"}
	for i := range 10_000 {
		w.send(devices[(i*7919)%len(devices)], types[i%len(types)], fmt.Sprint(i), w.clock.Now().Add(time.Duration(i)*time.Second))
	}
	for b.Loop() {
		b.StopTimer()
		w.wipe()
		j := w.journeys()
		b.StartTimer()
		w.flush(j)
	}
	b.ReportMetric(float64(len(w.spool.records))*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	cells, touches := 0, 0
	err := w.state.View(func(r state.Reader) error {
		return r.Scan([]byte("j/"), func(key, value []byte) error {
			if strings.HasPrefix(string(key), cellPrefix) {
				cells++
			}
			if strings.HasPrefix(string(key), ownTable) {
				touches += len(key) + len(value)
			}
			return nil
		})
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(touches)/float64(len(w.spool.records)), "bytes/touch")
	b.ReportMetric(float64(cells), "cells")
}
