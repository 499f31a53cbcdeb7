package sweep_test

import (
	"maps"
	"testing"

	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
)

// TestPreview: what it says is what the pass then does, and nobody is told and nothing is touched before.
func TestPreview(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	one, two := g.ship("warehouse", 1, 2, 3, 1), g.ship("warehouse", 2)
	broken := g.ship("warehouse", 1)
	g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	g.ask(g.job(2, proof.Erasure, proof.ByDPO, 2), g.approve)
	g.ask(g.job(3, proof.Erasure, proof.ByDPO, 3), nil) // nobody approved it
	g.ask(g.job(4, proof.Access, proof.ByPerson, 3), nil)
	if err := w.store.DeleteVersion(t.Context(), broken.now.Key, broken.now.Version); err != nil {
		t.Fatal(err)
	}
	s := w.custodian()
	previews := map[string]sweep.Preview{}
	err := s.Preview(t.Context(), func(x sweep.Preview) error { previews[x.Batch] = x; return nil })
	if err != nil {
		t.Fatal(err)
	}
	request := func(n int) string { j := g.job(n, proof.Erasure, proof.ByDPO); return j.Request }
	x := previews[one.id]
	if x.Rows != 4 || x.Object != one.now.Key || !maps.Equal(x.Cut, map[string]proof.Cut{request(1): {Erased: 2}, request(2): {Erased: 1}}) {
		t.Errorf("%+v", x)
	}
	if x := previews[two.id]; !maps.Equal(x.Cut, map[string]proof.Cut{request(2): {Erased: 1}}) {
		t.Errorf("%+v", x)
	}
	if x := previews[broken.id]; x.Failed == nil || x.Failed.Code != sweep.FailedGone {
		t.Errorf("%+v", x)
	}
	if len(previews) != 3 || len(g.answers) != 1 || g.answers["GET work 200"] != 1 {
		t.Errorf("%d batches; the gateway was asked %v", len(previews), g.answers)
	}
	w.wantRows(allRows(nil, one, two))
	r, err := s.Once(t.Context())
	if err != nil || r.Erased != 4 {
		t.Errorf("%+v, %v", r, err)
	}
}
