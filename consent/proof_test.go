package consent

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/policies"
)

// C4: each level of proof, against each minimum.
func TestProofLevels(t *testing.T) {
	g := openGateway(t)
	served, err := g.Snapshot(testSite, "en")
	if err != nil {
		t.Fatal(err)
	}
	other, err := g.Snapshot(Site{Name: "other"}, "en")
	if err != nil {
		t.Fatal(err)
	}
	snapshot := Choice{Snapshot: served.Snapshot}
	forged := Choice{Snapshot: served.Snapshot[:len(served.Snapshot)-2] + "AA"}
	for name, c := range map[string]struct {
		choice  Choice
		purpose string
		want    error
	}{
		"snapshot where it is asked for":     {snapshot, "marketing", nil},
		"snapshot where a banner would do":   {snapshot, "audience", nil},
		"banner where a snapshot is asked":   {g.banner(nil), "marketing", ErrProof},
		"banner":                             {g.banner(nil), "audience", nil},
		"assertion where a banner is asked":  {Choice{}, "audience", ErrProof},
		"assertion":                          {Choice{}, "personal", nil},
		"forged snapshot":                    {forged, "marketing", ErrSnapshot},
		"forged snapshot, not asked for":     {forged, "personal", nil},
		"snapshot of another site":           {Choice{Snapshot: other.Snapshot}, "audience", ErrSnapshot},
		"not a token":                        {Choice{Snapshot: "x"}, "audience", ErrSnapshot},
		"unknown notice":                     {Choice{Notice: &NoticeRef{SHA256: strings.Repeat("0", 64)}}, "personal", ErrUnknownNotice},
		"notice of another purpose":          {Choice{Notice: g.information("service")}, "audience", ErrProof},
		"notice with a version it never had": {Choice{Notice: &NoticeRef{SHA256: g.information("audience").SHA256, Version: "audience.9"}}, "personal", ErrUnknownNotice},
		"unknown purpose":                    {snapshot, "nothing", ErrUnknownPurpose},
		"declared basis":                     {snapshot, "service", ErrBasis},
	} {
		t.Run(name, func(t *testing.T) {
			c.choice.Site, c.choice.Who.Mint = testSite, true
			c.choice.Purposes = map[string]bool{c.purpose: true}
			r, err := g.Record(ctx, c.choice)
			if !errors.Is(err, c.want) || (err == nil) != (r.Minted != nil) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if problem := new(ProofError); errors.As(err, &problem) && problem.Purpose != c.purpose {
				t.Fatalf("the error names %q", problem.Purpose)
			}
			// A refusal of the same post is recorded, whatever its proof.
			if c.want == ErrUnknownPurpose || c.want == ErrBasis {
				return
			}
			c.choice.Purposes = map[string]bool{c.purpose: false}
			if r, err = g.Record(ctx, c.choice); err != nil || r.State != ConsentRefused || r.Minted != nil || r.Receipt != "" {
				t.Fatalf("a refusal: %+v %v", r, err)
			}
		})
	}
}

// C4: a snapshot holds for an hour; a repeat within its life is a retry, not a replay.
func TestSnapshotLife(t *testing.T) {
	g := openGateway(t)
	served, err := g.Snapshot(testSite, "en")
	if err != nil {
		t.Fatal(err)
	}
	snapshot := Choice{Snapshot: served.Snapshot}
	g.forward(SnapshotLife - time.Second)
	snapshot.Site, snapshot.Who.Mint, snapshot.Purposes = testSite, true, map[string]bool{"marketing": true}
	for range 2 {
		if _, err := g.Record(ctx, snapshot); err != nil {
			t.Fatal(err)
		}
	}
	g.forward(time.Second)
	if _, err := g.Record(ctx, snapshot); !errors.Is(err, ErrSnapshotOld) {
		t.Fatalf("a snapshot of an hour ago: %v", err)
	}
}

func (g *gateway) information(purpose string) *NoticeRef {
	n, ok := g.policy.InformationNotice(purpose, "en")
	if !ok {
		g.t.Fatalf("no notice of %q", purpose)
	}
	return &NoticeRef{SHA256: n.SHA256()}
}

// C4: what is refused in a post whose grants lack proof is recorded, and takes effect.
func TestMixedPostKeepsItsRefusals(t *testing.T) {
	g := openGateway(t)
	s, _ := g.mint(allPurposes)
	grants := g.want(g.query("page_view", s, noSubject), "", "audience")
	c := g.banner(map[string]bool{"audience": false, "marketing": true, "personal": true})
	c.Who.Device = s
	r, err := g.Record(ctx, c)
	problem := new(ProofError)
	if !errors.As(err, &problem) || problem.Purpose != "marketing" || !errors.Is(err, ErrProof) {
		t.Fatal(err)
	}
	if r.State != ConsentWithdrawn || !maps.Equal(r.Purposes, map[string]bool{"audience": false}) {
		t.Fatalf("%+v", r)
	}
	g.want(g.query("page_view", s, noSubject), Withdrawn)
	g.want(g.query("search", s, noSubject), NoConsent)
	if !g.RevokedAfter(s.Slot(), "audience", grants.Sequence()) {
		t.Fatal("a refusal of what stood must revoke it")
	}
}

func TestSnapshotServesTheNotice(t *testing.T) {
	g := openGateway(t)
	served, err := g.Snapshot(testSite, "fr-CA")
	if err != nil {
		t.Fatal(err)
	}
	n := g.policy.ChoiceNotice("fr")
	if served.Text != n.Text || served.Notice.SHA256 != n.SHA256() || served.Notice.Language != "fr" || len(served.Purposes) != 3 ||
		!served.Expires.Equal(testStart.Add(SnapshotLife)) {
		t.Fatalf("%+v", served)
	}
	for _, p := range served.Purposes {
		if p.Basis != policies.Consent || p.Title == "" || p.Text == "" {
			t.Errorf("%+v", p)
		}
	}
}
