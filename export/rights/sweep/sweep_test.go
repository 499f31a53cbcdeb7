package sweep_test

import (
	"slices"
	"testing"

	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
	"github.com/octroi/octroi/pseudonymize"
)

// allRows are the rows of the batches without those of some subjects.
func allRows(gone []int, batches ...*batch) (all []pseudonymize.Row) {
	for _, b := range batches {
		all = append(all, without(b.rows, b.destination, gone...)...)
	}
	return all
}

// TestErasure: one pass takes two people's rows out of every batch that holds them, leaves all others as they are, and certifies it.
func TestErasure(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	batches := []*batch{
		g.ship("warehouse", 1, 2, 3, -1), g.ship("warehouse", 4, 5), g.ship("accounting", -1, 1, 6), g.ship("warehouse", 2, 2), g.ship("accounting", 7),
	}
	one := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	two := g.ask(g.job(2, proof.Erasure, proof.ByDPO, 2, -1), g.approve)
	before := len(w.objects())
	r := w.sweep()
	w.wantRows(allRows([]int{1, 2, -1}, batches...))
	if one.certificate == "" || two.certificate == "" {
		t.Fatalf("certificates are missing: refused %v, failed %v", g.refused, g.failed)
	}
	if len(w.objects()) != before-1 { // one is left empty
		t.Errorf("%d objects of %d", len(w.objects()), before)
	}
	want := sweep.Report{Jobs: 2, Scanned: 3, Rewritten: 2, Emptied: 1, Erased: 7, Purged: 3, Versions: 3, Certificates: 2}
	r.Bytes, r.Refused, r.Failed = 0, nil, nil
	if !equal(r, want) {
		t.Errorf("report %+v\n  want %+v", r, want)
	}
	c := w.certificate(two)
	wantSystems := []proof.System{
		{Destination: "accounting", Objects: 1, Rewritten: 1, Rows: 1, Versions: 1},
		{Destination: "warehouse", Objects: 2, Rewritten: 1, Deleted: 1, Rows: 4, Versions: 2},
	}
	if !slices.Equal(c.Systems, wantSystems) || c.Approved == "" {
		t.Errorf("systems %+v", c.Systems)
	}
	if r := w.sweep(); !equal(r, sweep.Report{}) {
		t.Errorf("a second pass did something: %+v", r)
	}
}

func equal(a, b sweep.Report) bool {
	a.Refused, a.Failed, b.Refused, b.Failed, a.Bytes, b.Bytes = nil, nil, nil, nil, 0, 0
	return a.Jobs == b.Jobs && a.Scanned == b.Scanned && a.Unchanged == b.Unchanged && a.Rewritten == b.Rewritten && a.Emptied == b.Emptied &&
		a.Erased == b.Erased && a.Reduced == b.Reduced && a.Purged == b.Purged && a.Versions == b.Versions && a.Packages == b.Packages &&
		a.Certificates == b.Certificates && a.Notices == b.Notices && a.Journal == b.Journal && a.Waiting == b.Waiting
}

func (w *world) certificate(q *request) proof.Certificate {
	w.Helper()
	signer, err := w.keys.signer()
	if err != nil {
		w.Fatal(err)
	}
	c, err := proof.VerifyCertificate(q.certificate, public(w.keys.Custodian), signer.Verifier())
	if err != nil {
		w.Fatal(err)
	}
	return c
}
