package rights

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/access"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

func key(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

var (
	signingKey   = ed25519.NewKeyFromSeed(key(7))
	logKey       = ed25519.NewKeyFromSeed(key(8))
	approvalKey  = ed25519.NewKeyFromSeed(key(9))
	custodianKey = ed25519.NewKeyFromSeed(key(10))
	testSite     = consent.Site{Name: "shop", Jurisdiction: "FR", Controller: "Demonstration Shop"}
	testStart    = time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
)

// world is a gateway without its edges: real state, subjects, ledger, policy, shippers and object store below dir, and a spool in memory.
type world struct {
	*Requests
	dir      string
	policy   *policies.Policy
	state    *state.Store
	subjects *subject.Registry
	ledger   *consent.Ledger
	spool    *listSpool
	objects  export.Objects // as the gateway uses it
	archive  export.Archive
	exits    []Exit
	signer   *evidence.Signer
	keys     worldKeys
	tick     func() // called whenever the clock is read

	mu  sync.Mutex
	at  time.Time // guarded by mu
	low *uint64   // what LowWater answers; nil: the least cursor; guarded by mu
}

// worldKeys are what a second process needs to go on.
type worldKeys struct {
	Identities, Recipients map[string]string
	Spooled                []export.Spooled
	At                     time.Time
	Slots                  []subject.Slot
}

func (w *world) now() time.Time {
	if w.tick != nil {
		w.tick()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *world) forward(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

// openParts opens or creates what is below dir, all but the requests.
func openParts(dir string) (w *world, err error) {
	w = &world{dir: dir, at: testStart.Add(-time.Hour), spool: &listSpool{}}
	if w.policy, err = policies.Load(policies.Default()); err != nil {
		return nil, err
	}
	if w.state, err = state.Open(state.Options{Dir: filepath.Join(dir, "state"), Key: key(1), ReserveBytes: 1}); err != nil {
		return nil, err
	}
	w.subjects, err = subject.OpenRegistry(subject.Options{
		State: w.state, SlotFile: filepath.Join(dir, "slots"), LookupKey: key(2), SuppressionKey: key(6), CacheSize: 4096,
	})
	if err != nil {
		return nil, errors.Join(err, w.state.Close())
	}
	if w.signer, err = evidence.NewSigner("octroi/a", logKey); err != nil {
		return nil, err
	}
	withdrawals := NewWithdrawals(w.policy, []string{"warehouse", "accounting"})
	withdrawals.now = w.now
	w.ledger, err = consent.Open(consent.Options{
		State: w.state, Subjects: w.subjects, Policy: w.policy, SnapshotKey: key(3), Receipts: signingKey, Checkpoints: w.signer,
		CacheSize: 4096, Now: w.now, Revoked: withdrawals.Revoked,
	})
	if err != nil {
		return nil, err
	}
	if err = os.MkdirAll(filepath.Join(dir, "objects"), 0o750); err != nil {
		return nil, err
	}
	store, err := export.OpenDir(filepath.Join(dir, "objects"))
	if err != nil {
		return nil, err
	}
	w.objects, w.archive = store, store
	return w, w.load()
}

// load reads what a former process left, or makes keys.
func (w *world) load() (err error) {
	w.keys = worldKeys{Identities: map[string]string{}, Recipients: map[string]string{}}
	f, err := os.Open(filepath.Join(w.dir, "keys"))
	if errors.Is(err, os.ErrNotExist) {
		for _, name := range []string{"warehouse", "accounting", "custodian", "recovery"} {
			if w.keys.Identities[name], w.keys.Recipients[name], err = export.NewIdentity(export.ClassX25519); err != nil {
				return err
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := gob.NewDecoder(f).Decode(&w.keys); err != nil {
		return err
	}
	w.spool.records, w.at = w.keys.Spooled, w.keys.At
	return nil
}

// save writes what load reads.
func (w *world) save() error {
	w.keys.Spooled, w.keys.At = w.spool.records, w.at
	f, err := os.Create(filepath.Join(w.dir, "keys"))
	if err != nil {
		return err
	}
	return errors.Join(gob.NewEncoder(f).Encode(w.keys), f.Close())
}

func (w *world) recipients(name string) export.Recipients {
	r, err := export.ParseRecipients(w.keys.Recipients[name], w.keys.Recipients["custodian"], w.keys.Recipients["recovery"])
	if err != nil {
		panic(err)
	}
	return r
}

func (w *world) identities(name string) export.Identities {
	ids, err := export.ParseIdentities([]byte(w.keys.Identities[name]))
	if err != nil {
		panic(err)
	}
	return ids
}

// openExits makes the shippers.
func (w *world) openExits(ctx context.Context) error {
	for name, purposes := range map[string][]string{"warehouse": {"audience", policies.Linking}, "accounting": {"service"}} {
		d, err := pseudonymize.NewDestination(name, purposes, key(5))
		if err != nil {
			return err
		}
		s, err := export.NewShipper(ctx, export.ShipperOptions{
			Node: "a", Destination: d, Name: name, Recipients: w.recipients(name), Spool: w.spool, SpoolKey: key(4),
			Revocations: w.ledger, Subjects: w.subjects, State: w.state, Objects: w.objects, Signer: signingKey,
			OutboxDir: filepath.Join(w.dir, "outbox", name), Interval: 20 * time.Millisecond,
			RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond, Now: w.now,
		})
		if err != nil {
			return err
		}
		w.exits = append(w.exits, Exit{Destination: d, Shipper: s, Recipients: w.recipients(name)})
	}
	slices.SortFunc(w.exits, func(a, b Exit) int { return bytes.Compare([]byte(b.Destination.Name()), []byte(a.Destination.Name())) })
	return nil
}

func (w *world) options() Options {
	return Options{
		Node: "a", State: w.state, Subjects: w.subjects, Ledger: w.ledger, Policy: w.policy, Exits: w.exits, Objects: w.objects,
		Acks: export.NewAcks(w.state), Streams: export.NewStreams(w.state, "a", "warehouse", "accounting"), Index: export.NewIndex(w.state),
		Tail: w.spool.Tail, LowWater: w.lowWater,
		Approval: approvalKey.Public().(ed25519.PublicKey), Custodian: custodianKey.Public().(ed25519.PublicKey), Checkpoints: w.signer,
		SuppressionKey: key(6), Packages: filepath.Join(w.dir, "packages"), KeyCopies: 7 * 24 * time.Hour,
		Controller: access.Controller{Name: "Demonstration Shop SAS", Email: "dpo@shop.example"},
		Now:        w.now, Log: slog.New(slog.DiscardHandler),
	}
}

func (w *world) lowWater() uint64 {
	w.mu.Lock()
	fixed := w.low
	w.mu.Unlock()
	if fixed != nil {
		return *fixed
	}
	low := w.spool.Tail()
	for _, x := range w.exits {
		low = min(low, x.Shipper.Cursor())
	}
	return low
}

func (w *world) close() error { return errors.Join(w.subjects.Close(), w.state.Close()) }

// newWorld is an empty world; it is closed with the test.
func newWorld(t testing.TB, change ...func(*Options)) *world {
	t.Helper()
	return openWorld(t, t.TempDir(), change...)
}

func openWorld(t testing.TB, dir string, change ...func(*Options)) *world {
	t.Helper()
	return openStored(t, dir, nil, nil, change...)
}

// openStored has other stores than a folder: as the gateway may use it, and as the custodian may.
func openStored(t testing.TB, dir string, gateway export.Objects, custodian export.Archive, change ...func(*Options)) *world {
	t.Helper()
	w, err := openParts(dir)
	if err != nil {
		t.Fatal(err)
	}
	if gateway != nil {
		w.objects, w.archive = gateway, custodian
	}
	t.Cleanup(func() {
		if err := w.close(); err != nil && !errors.Is(err, state.ErrClosed) && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	if err := w.openExits(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := w.options()
	for _, c := range change {
		c(&o)
	}
	if w.Requests, err = Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return w
}

// mint makes a device that agreed to audience measurement, and to more.
func (w *world) mint(t testing.TB, more ...string) (subject.Credential, subject.Subject) {
	t.Helper()
	served, err := w.ledger.Snapshot(testSite, "en")
	if err != nil {
		t.Fatal(err)
	}
	purposes := map[string]bool{"audience": true}
	for _, id := range more {
		purposes[id] = true
	}
	r, err := w.ledger.Record(t.Context(), consent.Choice{
		Site: testSite, Who: consent.Who{Mint: true}, Purposes: purposes,
		Snapshot: served.Snapshot, Method: "banner", Language: "en",
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.subjects.Device(*r.Minted)
	if err != nil {
		t.Fatal(err)
	}
	return *r.Minted, s
}

// declare makes a person who stands under the contract.
func (w *world) declare(t testing.TB, card string) subject.Subject {
	t.Helper()
	s, err := w.ledger.Declare(t.Context(), consent.Declaration{
		Site: testSite, Persons: []subject.Identifier{loyalty(t, card)}, Purposes: []string{"service"}, Entity: "shop", Language: "en",
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func loyalty(t testing.TB, card string) subject.Identifier {
	t.Helper()
	id, err := subject.Normalise("loyalty", card, "FR")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// visit is an event to admit and spool.
func (w *world) visit(t testing.TB, device, person subject.Subject, typ, id string, at time.Time) {
	t.Helper()
	kind, ok := w.policy.EventType(typ)
	if !ok {
		t.Fatalf("no event type %q", typ)
	}
	g, refusal, err := w.ledger.Check(&consent.Query{Type: kind, Device: device, Person: person, Time: at, Received: at})
	if err != nil || !g.Valid() {
		t.Fatalf("event %s refused: %v %v", id, refusal, err)
	}
	e, err := pseudonymize.Apply(&g, &pseudonymize.Touchpoint{
		ID: id, Site: "shop", Time: at, Received: at,
		Fields: []pseudonymize.Field{{Name: "url", Text: "https://shop.example/p/" + id}, {Name: "order", Text: "o-" + id}},
	})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := e.Seal(key(4))
	if err != nil {
		t.Fatal(err)
	}
	w.spool.append(sealed)
}

// pages are n page views of a device.
func (w *world) pages(t testing.TB, device subject.Subject, n int, name string) {
	t.Helper()
	for i := range n {
		w.visit(t, device, subject.Subject{}, "page_view", fmt.Sprintf("%s-%d", name, i), w.at.Add(time.Duration(i)*time.Millisecond))
	}
}

func (w *world) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, x := range w.exits {
		if err := x.Shipper.Flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ship seals and publishes all that is spooled or entered.
func (w *world) ship(t testing.TB) {
	t.Helper()
	if err := w.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// acknowledge is what a loader of each destination does that has applied all that is published.
func (w *world) acknowledge(ctx context.Context) error {
	streams := export.NewStreams(w.state, "a", "warehouse", "accounting")
	for _, x := range w.exits {
		name := x.Destination.Name()
		h, err := streams.Head(name)
		if err != nil {
			return err
		}
		if h.Number == 0 {
			continue
		}
		err = export.NewAcks(w.state).Record(ctx, name, export.Ack{Loader: "main", Node: "a", Number: h.Number, SHA256: h.SHA256, At: w.now()})
		if err != nil {
			return err
		}
	}
	return nil
}

// row reads a request, which must be there.
func (w *world) row(t testing.TB, id string) *requestRow {
	t.Helper()
	q, err := w.request(id)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// ask opens a request of the person behind a device's cookie.
func (w *world) ask(t testing.TB, right proof.Right, s subject.Subject, purposes ...string) *requestRow {
	t.Helper()
	q, _, err := w.submit(t.Context(), submission{
		right: right, origin: proof.ByPerson, actor: person, subject: s, purposes: purposes, language: "fr", proven: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// listSpool is a spool in memory.
type listSpool struct {
	mu      sync.Mutex
	records []export.Spooled
}

func (l *listSpool) append(s pseudonymize.Sealed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, export.Spooled{Position: uint64(len(l.records)), Event: s})
}

func (l *listSpool) Peek(_ context.Context, position uint64, max int) ([]export.Spooled, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearchFunc(l.records, position, func(r export.Spooled, p uint64) int { return int(int64(r.Position) - int64(p)) })
	return slices.Clone(l.records[i:min(len(l.records), i+max)]), nil
}

func (l *listSpool) Tail() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.records))
}

func (l *listSpool) Wait(ctx context.Context, position uint64) error {
	for l.Tail() <= position {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
