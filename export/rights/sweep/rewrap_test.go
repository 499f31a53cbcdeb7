package sweep_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
)

// offerAll makes the gateway take reports of batches that nobody wants rewritten, to the recipients it is configured with now, and offer them
// to be purged.
func (g *gateway) offerAll(to export.Recipients) {
	for _, b := range g.batches {
		if b.stage = proof.BatchRewrite; b.now != nil {
			now := *b.now
			now.Recipients = to.Names
			b.now = &now
		}
	}
	g.lie = func(w *proof.Work) {
		for _, id := range g.order {
			listed := slices.ContainsFunc(w.Batches, func(b proof.WorkBatch) bool { return b.ID == id })
			if b := g.batches[id]; !listed && (b.stage == proof.BatchPurge || b.stage == proof.BatchPublish) {
				w.Batches = append(w.Batches, proof.WorkBatch{ID: id, Entry: b.entry, Replaced: b.replaced, Stage: b.stage})
			}
		}
	}
}

// rotate gives the custodian a new E, and a destination a new W, and answers the recipients of before.
func (w *world) rotate(destination string) (former []string) {
	w.Helper()
	for _, holder := range []string{"E", destination} {
		identity, recipient, err := export.NewIdentity(export.ClassX25519)
		if err != nil {
			w.Fatal(err)
		}
		former = append(former, w.keys.Recipients[holder])
		w.keys.Identities["former "+holder] = w.keys.Identities[holder]
		w.keys.Identities[holder], w.keys.Recipients[holder] = identity, recipient
	}
	return former
}

// TestRewrap: what was encrypted to former keys is encrypted to those of now, row by row, and nothing is left that the former keys open.
func TestRewrap(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	old := []*batch{g.ship("warehouse", 1, 2, 3), g.ship("warehouse", 4), g.ship("warehouse", 5)}
	q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 5), nil) // leaves the third batch empty: a replace entry without an object
	w.sweep()
	if q.certificate == "" {
		t.Fatal("no certificate")
	}
	before := w.keys.Identities["E"]
	former := w.rotate("warehouse")
	fresh := g.ship("warehouse", 6, -7)
	to, err := w.keys.recipients("warehouse")
	if err != nil {
		t.Fatal(err)
	}
	g.offerAll(to)
	both, err := export.ParseIdentities([]byte(w.keys.Identities["E"] + "\n" + before + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := w.custodian(func(o *sweep.Options) {
		o.Identities, o.Recipients = both, map[string][]string{"warehouse": append(slices.Clone(to.Names), former...)}
	})
	what, err := s.Outdated(t.Context(), "warehouse", to)
	if err != nil || what.Of != 3 || len(what.Batches) != 2 || what.Batches[0].ID != old[0].id || what.Bytes == 0 {
		t.Fatalf("outdated %+v, %v", what, err)
	}
	r, err := s.Rewrap(t.Context(), what)
	if err != nil || r.Rewritten != 2 || len(r.Failed) != 0 {
		t.Fatalf("%+v, %v: failed %v", r, err, g.failed)
	}
	if r, err = s.Once(t.Context()); err != nil || r.Purged != 2 || r.Versions != 2 {
		t.Fatalf("%+v, %v: failed %v", r, err, g.failed)
	}
	w.wantRows(allRows([]int{5}, append(old, fresh)...)) // by the keys of now alone
	if what, err = s.Outdated(t.Context(), "warehouse", to); err != nil || len(what.Batches) != 0 || what.Of != 3 {
		t.Errorf("still outdated: %+v, %v", what, err)
	}
}

// TestRewrapRefuses: recipients that the custodian does not know are not read for, and a stream with a gap is not walked.
func TestRewrapRefuses(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1)
	g.ship("warehouse", 2)
	w.rotate("warehouse")
	to, err := w.keys.recipients("warehouse")
	if err != nil {
		t.Fatal(err)
	}
	g.offerAll(to)
	s := w.custodian(func(o *sweep.Options) { o.Recipients = map[string][]string{"warehouse": to.Names} })
	what, err := s.Outdated(t.Context(), "warehouse", to)
	if err != nil || len(what.Batches) != 2 {
		t.Fatalf("%+v, %v", what, err)
	}
	r, err := s.Rewrap(t.Context(), what)
	if err != nil || r.Rewritten != 0 || r.Failed[sweep.FailedEntry] != 2 || len(g.failed[b.id]) != 1 {
		t.Errorf("%+v, %v: %v", r, err, g.failed)
	}
	if err := w.store.DeleteVersion(t.Context(), export.EntryKey("warehouse", node, 1), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Outdated(t.Context(), "warehouse", to); !errors.Is(err, export.ErrChain) {
		t.Errorf("a gap: %v", err)
	}
}
