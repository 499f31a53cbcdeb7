package proof_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/policies"
	"pgregory.net/rapid"
)

// drawJob is any job that may be approved.
func drawJob(t *rapid.T) proof.Job {
	j := proof.Job{
		Version: 1, Node: "n1", Request: request, Right: rapid.SampledFrom([]proof.Right{proof.Access, proof.Erasure}).Draw(t, "right"),
		Origin: rapid.SampledFrom([]proof.Origin{proof.ByPerson, proof.ByDPO}).Draw(t, "origin"), Received: drawTime(t).Truncate(1e9),
		Language: rapid.SampledFrom([]string{"", "fr", "en"}).Draw(t, "language"),
	}
	if j.Right == proof.Erasure {
		j.Purposes = drawSet(t, `[a-z][a-z0-9_-]{0,8}`, 0, 5)
	}
	for _, name := range drawSet(t, `[a-z][a-z0-9-]{0,8}`, 0, 4) {
		j.Destinations = append(j.Destinations, proof.Whose{
			Destination: name, Devices: drawSet(t, `[0-9a-f]{32}`, 1, 40), Persons: drawSet(t, `[0-9a-f]{32}`, 0, 20),
		})
	}
	return j
}

func drawSet(t *rapid.T, form string, least, most int) []string {
	list := rapid.SliceOfNDistinct(rapid.StringMatching(form), least, most, func(s string) string { return s }).Draw(t, "list")
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	return list
}

func TestApprovalRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := drawJob(t)
		token, err := proof.Approve(j, dpo)
		if err != nil {
			t.Fatal(err)
		}
		back, err := proof.VerifyApproval(token, public(dpo))
		if err != nil || !back.Same(&j) {
			t.Fatalf("%+v came back as %+v, %v", j, back, err)
		}
	})
}

// The largest job that is allowed fits into an approval.
func TestLargestApproval(t *testing.T) {
	j := job()
	j.Destinations = nil
	for d := range 64 {
		w := proof.Whose{Destination: fmt.Sprintf("d%063d", d)[:63]}
		w.Destination = fmt.Sprintf("%s-%02d", w.Destination[:60], d)
		for p := range proof.MaxPseudonyms {
			w.Devices = append(w.Devices, fmt.Sprintf("%032x", p))
		}
		j.Destinations = append(j.Destinations, w)
	}
	token, err := proof.Approve(j, dpo)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proof.VerifyApproval(token, public(dpo)); err != nil {
		t.Fatal(err)
	}
}

func TestRewriteRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rewrite()
		r.Cut, r.At = map[string]proof.Cut{}, drawTime(t)
		r.Scanned = rapid.IntRange(1, 1e6).Draw(t, "scanned")
		left := rapid.IntRange(0, r.Scanned).Draw(t, "left")
		erased := r.Scanned - left
		for i := range rapid.IntRange(1, 5).Draw(t, "jobs") {
			c := proof.Cut{Erased: rapid.IntRange(0, erased).Draw(t, "erased")}
			c.Reduced = rapid.IntRange(0, r.Scanned-c.Erased).Draw(t, "reduced")
			r.Cut[fmt.Sprintf("%s%02d", request[:34], i)] = c
		}
		r.Cut[another] = proof.Cut{Erased: erased}
		if r.Now.Rows = left; left == 0 {
			r.Now = nil
		}
		token, err := proof.SignRewrite(r, custodian)
		if err != nil {
			t.Fatal(err)
		}
		back, err := proof.VerifyRewrite(token, public(custodian))
		if err != nil || len(back.Cut) != len(r.Cut) || back.Scanned != r.Scanned || (back.Now == nil) != (r.Now == nil) {
			t.Fatalf("%+v came back as %+v, %v", r, back, err)
		}
	})
}

// The schedule of the policies that come with the program can be approved.
func TestScheduleOfDefaultPolicy(t *testing.T) {
	p, err := policies.Load(policies.Default())
	if err != nil {
		t.Fatal(err)
	}
	s := proof.NewSchedule("n1", p, at(1))
	token, err := proof.ApproveSchedule(s, dpo)
	if err != nil {
		t.Fatal(err)
	}
	back, err := proof.VerifySchedule(token, public(dpo))
	if err != nil || len(back.Retention) != len(p.Purposes()) || back.Retention["audience"] != "P13M" {
		t.Errorf("%+v, %v", back, err)
	}
	if hash := p.Hash(); back.Policy != fmt.Sprintf("%x", hash) {
		t.Error("another policy's")
	}
}
