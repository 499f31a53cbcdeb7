package export

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// key is a fixed secret: tests compare what two processes make of it.
func key(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

var (
	testSigner = ed25519.NewKeyFromSeed(key(7))
	testSite   = consent.Site{Name: "shop", Jurisdiction: "FR", Controller: "Demonstration Shop"}
	testStart  = time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
)

// world is a gateway without its edges: real state, subjects, ledger, policy and object store below dir, and a spool that the test fills.
type world struct {
	dir      string
	now      time.Time
	policy   *policies.Policy
	state    *state.Store
	subjects *subject.Registry
	ledger   *consent.Ledger
	spool    *listSpool
	objects  Objects
	keys     worldKeys
	devices  []subject.Subject
	persons  []subject.Subject
}

// worldKeys are what a second process needs to go on.
type worldKeys struct {
	Identities map[string]string // by destination: age identity
	Recipients map[string]string
	Spooled    []Spooled
}

// openWorld opens or creates what is below dir.
func openWorld(dir string) (w *world, err error) {
	w = &world{dir: dir, now: testStart.Add(-time.Hour), spool: newListSpool()}
	if w.policy, err = policies.Load(policies.Default()); err != nil {
		return nil, err
	}
	if w.state, err = state.Open(state.Options{Dir: filepath.Join(dir, "state"), Key: key(1)}); err != nil {
		return nil, err
	}
	w.subjects, err = subject.OpenRegistry(subject.Options{State: w.state, SlotFile: filepath.Join(dir, "slots"), LookupKey: key(2), CacheSize: 4096})
	if err != nil {
		return nil, errors.Join(err, w.state.Close())
	}
	signer, err := evidence.NewSigner("octroi/test", ed25519.NewKeyFromSeed(key(8)))
	if err != nil {
		return nil, err
	}
	w.ledger, err = consent.Open(consent.Options{
		State: w.state, Subjects: w.subjects, Policy: w.policy, SnapshotKey: key(3), Receipts: testSigner, Checkpoints: signer,
		CacheSize: 4096, Now: func() time.Time { return w.now },
	})
	if err != nil {
		return nil, err
	}
	if err = os.MkdirAll(filepath.Join(dir, "objects"), 0o750); err != nil {
		return nil, err
	}
	if w.objects, err = OpenDir(filepath.Join(dir, "objects")); err != nil {
		return nil, err
	}
	if f, err := os.Open(filepath.Join(dir, "keys")); err == nil {
		defer f.Close()
		if err := gob.NewDecoder(f).Decode(&w.keys); err != nil {
			return nil, err
		}
		w.spool.add(w.keys.Spooled...)
	}
	return w, nil
}

func (w *world) close() error { return errors.Join(w.subjects.Close(), w.state.Close()) }

// newWorld is an empty world with the recipients of two destinations; it is closed with the test.
func newWorld(t testing.TB) *world {
	t.Helper()
	w, err := createWorld(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func createWorld(dir string) (*world, error) {
	w, err := openWorld(dir)
	if err != nil {
		return nil, err
	}
	w.keys = worldKeys{Identities: map[string]string{}, Recipients: map[string]string{}}
	for _, name := range []string{"warehouse", "accounting", "custodian", "recovery"} {
		if w.keys.Identities[name], w.keys.Recipients[name], err = NewIdentity(ClassX25519); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// save writes what openWorld needs.
func (w *world) save() error {
	w.keys.Spooled = w.spool.records
	f, err := os.Create(filepath.Join(w.dir, "keys"))
	if err != nil {
		return err
	}
	return errors.Join(gob.NewEncoder(f).Encode(w.keys), f.Close())
}

// mint makes n devices that agreed to audience measurement.
func (w *world) mint(t testing.TB, n int) []subject.Subject {
	t.Helper()
	return w.mintWith(t, n, "audience")
}

func (w *world) mintWith(t testing.TB, n int, purposes ...string) []subject.Subject {
	t.Helper()
	agreed := map[string]bool{}
	for _, p := range purposes {
		agreed[p] = true
	}
	served, err := w.ledger.Snapshot(testSite, "en")
	if err != nil {
		t.Fatal(err)
	}
	var made []subject.Subject
	for range n {
		r, err := w.ledger.Record(t.Context(), consent.Choice{
			Site: testSite, Who: consent.Who{Mint: true}, Purposes: agreed,
			Snapshot: served.Snapshot, Method: "banner", Language: "en",
		})
		if err != nil {
			t.Fatal(err)
		}
		s, err := w.subjects.Device(*r.Minted)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, s)
	}
	w.devices = append(w.devices, made...)
	return made
}

// declare makes n persons who stand under the contract.
func (w *world) declare(t testing.TB, n int) []subject.Subject {
	t.Helper()
	var made []subject.Subject
	for range n {
		id, err := subject.Normalise("loyalty", fmt.Sprintf("card-%d", len(w.persons)), "FR")
		if err != nil {
			t.Fatal(err)
		}
		s, err := w.ledger.Declare(t.Context(), consent.Declaration{
			Site: testSite, Persons: []subject.Identifier{id}, Purposes: []string{"service"}, Entity: "shop", Language: "en",
		})
		if err != nil {
			t.Fatal(err)
		}
		w.persons = append(w.persons, s)
		made = append(made, s)
	}
	return made
}

// visit is an event to admit.
type visit struct {
	device, person subject.Subject
	typ, id        string
	at             time.Time
}

// order is the number of the visit's order: ids that differ behind a slash are of one order.
func (v visit) order() string {
	number, _, _ := strings.Cut(v.id, "/")
	return "o-" + number
}

// admit does what the collector does, up to the sealed event of the spool.
func (w *world) admit(t testing.TB, v visit) pseudonymize.Sealed {
	t.Helper()
	typ, ok := w.policy.EventType(v.typ)
	if !ok {
		t.Fatalf("no event type %q", v.typ)
	}
	g, refusal, err := w.ledger.Check(&consent.Query{Type: typ, Device: v.device, Person: v.person, Time: v.at, Received: v.at})
	if err != nil || !g.Valid() {
		t.Fatalf("event %s refused: %v %v", v.id, refusal, err)
	}
	e, err := pseudonymize.Apply(&g, &pseudonymize.Touchpoint{
		ID: v.id, Site: "shop", Time: v.at, Received: v.at,
		Fields: []pseudonymize.Field{
			{Name: "url", Text: "https://shop.example/p/" + v.id + "?q=1"},
			{Name: "campaign", Text: "spring"},
			{Name: "product", Text: "p-" + v.id},
			{Name: "order", Text: v.order()},
		},
		Value: pseudonymize.Money{Minor: int64(len(v.id)) * 100, Currency: "EUR"},
	})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := e.Seal(key(4))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// send admits and spools.
func (w *world) send(t testing.TB, visits ...visit) {
	t.Helper()
	for _, v := range visits {
		w.spool.append(w.admit(t, v))
	}
}

// pages are n page views of the devices in turn, a second apart, from an instant on.
func pages(devices []subject.Subject, n int, name string, from time.Time) []visit {
	visits := make([]visit, n)
	for i := range visits {
		visits[i] = visit{
			device: devices[i%len(devices)], typ: "page_view", id: fmt.Sprintf("%s-%d", name, i), at: from.Add(time.Duration(i) * time.Second),
		}
	}
	return visits
}

func (w *world) destination(t testing.TB, name string) *pseudonymize.Destination {
	t.Helper()
	d, err := w.makeDestination(name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (w *world) makeDestination(name string) (*pseudonymize.Destination, error) {
	purposes := map[string][]string{"warehouse": {"audience", policies.Linking}, "accounting": {"service"}}[name]
	return pseudonymize.NewDestination(name, purposes, key(5))
}

// options are a destination's, as a gateway would have them; tests change what they are about.
func (w *world) options(name string) (ShipperOptions, error) {
	d, err := w.makeDestination(name)
	if err != nil {
		return ShipperOptions{}, err
	}
	recipients, err := ParseRecipients(w.keys.Recipients[name], w.keys.Recipients["custodian"], w.keys.Recipients["recovery"])
	return ShipperOptions{
		Node: "a", Destination: d, Name: name, Recipients: recipients, Spool: w.spool, SpoolKey: key(4),
		Revocations: w.ledger, Subjects: w.subjects, State: w.state, Objects: w.objects, Signer: testSigner,
		OutboxDir: filepath.Join(w.dir, "outbox", name), Interval: 20 * time.Millisecond,
		RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond, Now: func() time.Time { return w.now },
	}, err
}

// shipper is a destination's shipper; change (may be nil) edits its options.
func (w *world) shipper(t testing.TB, name string, change func(*ShipperOptions)) *Shipper {
	t.Helper()
	o, err := w.options(name)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&o)
	}
	s, err := NewShipper(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func flush(t testing.TB, s *Shipper) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// listSpool is a spool in memory.
type listSpool struct {
	mu      sync.Mutex
	records []Spooled
	changed bell
}

func newListSpool() *listSpool { return &listSpool{} }

func (l *listSpool) append(sealed ...pseudonymize.Sealed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range sealed {
		l.records = append(l.records, Spooled{Position: uint64(len(l.records)) + 1, Event: s})
	}
	l.changed.ring()
}

func (l *listSpool) add(records ...Spooled) { l.records = append(l.records, records...) }

func (l *listSpool) Peek(_ context.Context, position uint64, max int) ([]Spooled, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearchFunc(l.records, position, func(r Spooled, p uint64) int { return int(int64(r.Position) - int64(p)) })
	return slices.Clone(l.records[i:min(len(l.records), i+max)]), nil
}

func (l *listSpool) Tail() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.records)) + 1
}

func (l *listSpool) Wait(ctx context.Context, position uint64) error {
	for {
		changed := l.changed.next()
		if l.Tail() > position {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
