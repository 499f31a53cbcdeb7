package journey

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// key is a fixed secret: tests compare what two processes make of it.
func key(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

var (
	testStart = time.Date(2026, 11, 18, 12, 0, 0, 0, time.UTC) // a Wednesday: 2026-W47
	testSite  = consent.Site{Name: "shop", Jurisdiction: "FR", Controller: "Demonstration Shop"}
)

// world is a gateway as far as journeys see it: real state, subjects, ledger and policy below dir, and a spool that the test fills.
type world struct {
	t        testing.TB
	dir      string
	clock    *clock
	policy   *policies.Policy
	state    *state.Store
	subjects *subject.Registry
	ledger   *consent.Ledger
	spool    *listSpool
	settings Settings
	coverage Coverage
	restored bool
}

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: &clock{now: testStart}, spool: &listSpool{}}
	w.settings = Settings{Interval: time.Millisecond, Segments: map[string][]string{"variant": {"a", "b"}}}
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) open() (err error) {
	if w.policy, err = policies.Load(receiving("audience", "personalisation")); err != nil {
		return err
	}
	if w.state, err = state.Open(state.Options{Dir: filepath.Join(w.dir, "state"), Key: key(1)}); err != nil {
		return err
	}
	w.subjects, err = subject.OpenRegistry(subject.Options{State: w.state, SlotFile: filepath.Join(w.dir, "slots"), LookupKey: key(2), CacheSize: 4096})
	if err != nil {
		return errors.Join(err, w.state.Close())
	}
	signer, err := evidence.NewSigner("octroi/test", ed25519.NewKeyFromSeed(key(8)))
	if err != nil {
		return err
	}
	w.ledger, err = consent.Open(consent.Options{
		State: w.state, Subjects: w.subjects, Policy: w.policy, SnapshotKey: key(3), Receipts: ed25519.NewKeyFromSeed(key(7)), Checkpoints: signer,
		CacheSize: 4096, Now: w.clock.Now,
	})
	return err
}

// receiving is the default policy, where journeys are a recipient of these two purposes or one of them.
func receiving(purposes ...string) fs.FS {
	files := fstest.MapFS{}
	names, err := fs.Glob(policies.Default(), "*.yaml")
	if err != nil {
		panic(err) // the files are embedded
	}
	for _, name := range names {
		b, err := fs.ReadFile(policies.Default(), name)
		if err != nil {
			panic(err)
		}
		files[name] = &fstest.MapFile{Data: b}
	}
	const journeys = "  - destination: journeys\n    name: Boutique\n    country: FR\n    role: controller\n"
	for _, id := range []string{"audience", "personalisation"} {
		before, after, _ := strings.Cut(string(files[id+".yaml"].Data), "\nrecipients:\n")
		before, list := before+"\nrecipients:\n", ""
		list, after, _ = strings.Cut(after, "\nroles:")
		list, _, _ = strings.Cut(list+"\n", "  - destination: journeys")
		if slices.Contains(purposes, id) {
			list += journeys
		}
		files[id+".yaml"] = &fstest.MapFile{Data: []byte(before + list + "\nroles:" + after)}
	}
	return files
}

func (w *world) close() error { return errors.Join(w.subjects.Close(), w.state.Close()) }

func (w *world) options() Options {
	var purposes []string
	for _, p := range w.policy.Purposes() {
		if w.policy.RecipientOf(Destination)&p.Bit() != 0 {
			purposes = append(purposes, p.ID)
		}
	}
	d, err := pseudonymize.NewDestination(Destination, purposes, key(5))
	if err != nil {
		w.t.Fatal(err)
	}
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		w.t.Fatal(err)
	}
	return Options{
		State: w.state, Subjects: w.subjects, Spool: w.spool, SpoolKey: key(4), Revocations: w.ledger, Destination: d, Policy: w.policy,
		Sites: []Site{{"shop", paris}, {"outlet", nil}}, Settings: w.settings, Coverage: w.coverage, Restored: w.restored, Now: w.clock.Now,
	}
}

func (w *world) journeys() *Journeys {
	w.t.Helper()
	j, err := Open(context.Background(), w.options())
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// people makes n devices and as many persons, nobody of whom ever agreed to anything.
func (w *world) people(n int) (devices, persons []subject.Subject) {
	w.t.Helper()
	err := w.state.Update(context.Background(), func(t *state.Txn) error {
		for i := range n {
			_, d, err := w.subjects.MintDevice(t)
			if err != nil {
				return err
			}
			id, err := subject.Normalise("loyalty", fmt.Sprintf("card-%d-%d", w.subjects.Count(), i), "FR")
			if err != nil {
				return err
			}
			p, _, err := w.subjects.EnsurePerson(t, id)
			if err != nil {
				return err
			}
			devices, persons = append(devices, d), append(persons, p)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return devices, persons
}

// occurrence is an event as the gate would leave it.
type occurrence struct {
	n        int // event id
	device   subject.Subject
	person   subject.Subject
	purposes []string // of the device: audience, personalisation, linking; of the person: service
	site     string
	typ      string
	at       time.Time
	variant  string
	minor    int64
}

// row is the row of an occurrence.
func (w *world) row(d *pseudonymize.Destination, o occurrence) pseudonymize.Row {
	typ, ok := w.policy.EventType(o.typ)
	if !ok {
		w.t.Fatalf("no event type %q", o.typ)
	}
	r := pseudonymize.Row{
		Time: o.at, ReceivedAt: o.at.Truncate(15 * time.Minute), Type: o.typ, Channel: typ.Channel, Stage: typ.Stage, Site: o.site,
		Policy: w.policy.Hash(), Campaign: "spring",
	}
	binary.BigEndian.PutUint64(r.EventID[:], uint64(o.n)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(r.EventID[8:], uint64(o.n))
	if o.variant != "" {
		r.Properties = map[string]string{"variant": o.variant, "product": "kept out"}
	}
	if o.minor != 0 {
		r.Value = pseudonymize.Money{Minor: o.minor, Currency: "EUR"}
	}
	if o.device.Exists() {
		p := d.Pseudonym(o.device)
		r.Device, r.DeviceSlot = &p, o.device.Slot()
	}
	if o.person.Exists() {
		p := d.Pseudonym(o.person)
		r.Person, r.PersonSlot = &p, o.person.Slot()
	}
	for _, id := range o.purposes {
		purpose, _ := w.policy.Purpose(id)
		g := pseudonymize.RowGrant{Purpose: id, Version: purpose.Version, Basis: purpose.Basis, Ref: [16]byte{1}, Slot: r.DeviceSlot}
		if purpose.Basis.Declared() || r.Device == nil {
			g.Slot = r.PersonSlot
		}
		r.Grants = append(r.Grants, g)
	}
	return r
}

// foldRows folds rows that are not in the spool, in changes of at most chunk.
func foldRows(t testing.TB, j *Journeys, rows []pseudonymize.Row, chunk int) {
	t.Helper()
	for part := range slices.Chunk(rows, chunk) {
		f, err := j.fold(part)
		if err != nil {
			t.Fatal(err)
		}
		f.next, f.sequence = f.from, j.o.Revocations.Sequence()
		if err := j.commit(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
}

// erase is what rights does, without the request.
func (w *world) erase(j *Journeys, s subject.Subject, purposes ...string) {
	w.t.Helper()
	err := w.state.Update(context.Background(), func(t *state.Txn) error { return j.Erase(t, s, purposes) })
	if err != nil {
		w.t.Fatal(err)
	}
}

// dump is every row of the package: cells as they are, rows of subjects by key, opened by who they are of.
func (w *world) dump(j *Journeys) map[string]string {
	w.t.Helper()
	rows := map[string]string{}
	err := w.state.View(func(r state.Reader) error {
		err := r.Scan([]byte("j/"), func(key, value []byte) error {
			if k := string(key); k != string(cursorKey) && k != string(generationKey) {
				rows[k] = string(value)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for s, ok := w.subjects.Next(0); ok; s, ok = w.subjects.Next(s.Slot()) {
			if err := w.openRows(j, r, s, rows); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return rows
}

// openRows replaces the sealed rows of s by what they hold.
func (w *world) openRows(j *Journeys, r state.Reader, s subject.Subject, rows map[string]string) error {
	v, err := j.revise(r)
	if err != nil {
		return err
	}
	x, err := v.with(s.Slot())
	if err != nil {
		return err
	}
	if len(x.slots) > 0 {
		rows[string(s.RowKey(withTable, nil))] = fmt.Sprint("opened: ", x.slots)
	}
	places, err := v.places(s)
	if err != nil {
		return err
	}
	for _, p := range places {
		l, err := v.list(p)
		if err != nil {
			return err
		}
		key, _, err := v.opener(p)
		if err != nil {
			return err
		}
		if len(l.touches) > 0 {
			rows[string(key)] = "opened: " + string(encodeTouches(l.touches))
		}
	}
	return nil
}

// sealedLeft lists the rows of subjects in a dump that nobody's key has opened.
func sealedLeft(rows map[string]string) (left []string) {
	for k, v := range rows {
		for _, table := range []string{ownTable, bothTable, withTable} {
			if strings.HasPrefix(k, table) && !strings.HasPrefix(v, "opened: ") {
				left = append(left, table)
			}
		}
	}
	return left
}

// sameRows fails where two dumps differ in a key or a byte.
func sameRows(t testing.TB, got, want map[string]string) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			t.Errorf("row %q is %q, want %q", k, got[k], want[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[k]; !ok {
			t.Errorf("row %q is there (%q), and should not", k, got[k])
		}
	}
}

// wipe deletes every row of the package.
func (w *world) wipe() {
	w.t.Helper()
	for more := true; more; {
		err := w.state.Update(context.Background(), func(t *state.Txn) (err error) {
			more, err = deletePrefix(t, "j/")
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// listSpool is a spool in memory.
type listSpool struct {
	mu      sync.Mutex
	records []export.Spooled
	changed chan struct{}
}

func (l *listSpool) append(sealed ...pseudonymize.Sealed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range sealed {
		l.records = append(l.records, export.Spooled{Position: uint64(len(l.records)), Event: s})
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

func (l *listSpool) Peek(_ context.Context, position uint64, max int) ([]export.Spooled, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := min(int(position), len(l.records))
	return slices.Clone(l.records[from:min(len(l.records), from+max)]), nil
}

func (l *listSpool) Tail() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.records))
}

func (l *listSpool) Wait(ctx context.Context, position uint64) error {
	for {
		l.mu.Lock()
		if uint64(len(l.records)) > position {
			l.mu.Unlock()
			return nil
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
