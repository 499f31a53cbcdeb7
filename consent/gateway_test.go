package consent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// gateway is a ledger over a real database and slot file, with a clock that the test moves.
type gateway struct {
	*Ledger
	t        testing.TB
	dir      string
	policy   *policies.Policy
	state    *state.Store
	subjects *subject.Registry
	signer   *evidence.Signer
	millis   atomic.Int64
	cache    int
	revoked  func(*state.Txn, subject.Subject, []string) error // Options.Revoked
}

var (
	testSite    = Site{Name: "shop", Jurisdiction: "FR", Controller: "Shop SA", PolicyURL: "https://shop.example/privacy"}
	receiptKey  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))
	logKey      = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{4}, 32))
	testStart   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	allPurposes = map[string]bool{"audience": true}
)

func openGateway(t testing.TB) *gateway { return openGatewayWith(t, testFiles(), 0) }

func openGatewayWith(t testing.TB, files fs.FS, cache int) *gateway {
	t.Helper()
	policy, err := policies.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := evidence.NewSigner("octroi.example/test", logKey)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{t: t, dir: t.TempDir(), policy: policy, signer: signer, cache: cache}
	g.millis.Store(testStart.UnixMilli())
	g.open()
	t.Cleanup(g.close)
	return g
}

func (g *gateway) now() time.Time          { return time.UnixMilli(g.millis.Load()).UTC() }
func (g *gateway) forward(d time.Duration) { g.millis.Add(d.Milliseconds()) }

func (g *gateway) open() {
	g.t.Helper()
	var err error
	if g.state, err = state.Open(state.Options{Dir: filepath.Join(g.dir, "state"), Key: make([]byte, 32)}); err != nil {
		g.t.Fatal(err)
	}
	g.subjects, err = subject.OpenRegistry(subject.Options{
		State: g.state, SlotFile: filepath.Join(g.dir, "slots"), LookupKey: make([]byte, 32), SuppressionKey: bytes.Repeat([]byte{6}, 32), CacheSize: 2_000_000,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.Ledger, err = Open(g.options())
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) options() Options {
	return Options{
		State: g.state, Subjects: g.subjects, Policy: g.policy, SnapshotKey: bytes.Repeat([]byte{5}, 32), Receipts: receiptKey,
		Checkpoints: g.signer, CacheSize: g.cache, Now: g.now, Revoked: g.revoked,
	}
}

func (g *gateway) close() {
	g.t.Helper()
	if err := g.subjects.Close(); err != nil {
		g.t.Error(err)
	}
	if err := g.state.Close(); err != nil {
		g.t.Error(err)
	}
}

// reopen is a restart, possibly with another policy.
func (g *gateway) reopen(files fs.FS) {
	g.t.Helper()
	g.close()
	if files != nil {
		policy, err := policies.Load(files)
		if err != nil {
			g.t.Fatal(err)
		}
		g.policy = policy
	}
	g.open()
}

// banner is a choice by the registered notice.
func (g *gateway) banner(purposes map[string]bool) Choice {
	n := g.policy.ChoiceNotice("en")
	return Choice{
		Site: testSite, Purposes: purposes, Method: "banner", Language: "en", Entity: "shop",
		Notice: &NoticeRef{ID: n.ID, Version: n.Version, Language: n.Language, SHA256: n.SHA256()},
	}
}

// mint makes a device that consented to the purposes.
func (g *gateway) mint(purposes map[string]bool) (subject.Subject, Recorded) {
	g.t.Helper()
	c := g.banner(purposes)
	c.Who.Mint = true
	r, err := g.Record(context.Background(), c)
	if err != nil {
		g.t.Fatal(err)
	}
	if r.Minted == nil {
		g.t.Fatal("no credential was minted")
	}
	s, err := g.subjects.Device(*r.Minted)
	if err != nil {
		g.t.Fatal(err)
	}
	return s, r
}

func (g *gateway) choose(s subject.Subject, purposes map[string]bool) Recorded {
	g.t.Helper()
	c := g.banner(purposes)
	c.Who.Device = s
	r, err := g.Record(context.Background(), c)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

func (g *gateway) query(typ string, device, person subject.Subject) *Query {
	g.t.Helper()
	x, ok := g.policy.EventType(typ)
	if !ok {
		g.t.Fatalf("no event type %q", typ)
	}
	return &Query{Type: x, Device: device, Person: person, Time: g.now(), Received: g.now()}
}

// want checks one answer of the gate: the purposes that hold, or the reason why none does.
func (g *gateway) want(q *Query, reason Reason, purposes ...string) Grants {
	g.t.Helper()
	grants, refused, err := g.Check(q)
	if err != nil {
		g.t.Fatal(err)
	}
	if grants.Valid() != (len(purposes) > 0) || refused.Reason != reason {
		g.t.Fatalf("valid %v, refused %+v; want %v %q", grants.Valid(), refused, purposes, reason)
	}
	got := grants.List()
	if len(got) != len(purposes) {
		g.t.Fatalf("%d grants, want %v", len(got), purposes)
	}
	for i, x := range got {
		if x.Purpose.ID != purposes[i] {
			g.t.Fatalf("grant %d is %q, want %q", i, x.Purpose.ID, purposes[i])
		}
	}
	return grants
}

// failing is what testing's and rapid's T share.
type failing interface {
	Helper()
	Fatal(args ...any)
}

func loyalty(t failing, card string) subject.Identifier {
	t.Helper()
	id, err := subject.Normalise("loyalty", card, "FR")
	if err != nil {
		t.Fatal(err)
	}
	return id
}
