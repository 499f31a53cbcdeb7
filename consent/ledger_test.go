package consent

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

var (
	ctx       = context.Background()
	noSubject subject.Subject
)

func TestConsentWithdrawConsent(t *testing.T) {
	g := openGateway(t)
	g.want(g.query("page_view", noSubject, noSubject), NoConsent) // G1
	s, r := g.mint(map[string]bool{"audience": true, "personal": false})
	if r.State != ConsentGiven || !maps.Equal(r.Purposes, map[string]bool{"audience": true, "personal": false}) ||
		!r.ValidUntil.Equal(testStart.AddDate(0, 6, 0)) || r.Receipt == "" || r.Notice.ID != "choice" {
		t.Fatalf("%+v", r)
	}
	grants := g.want(g.query("page_view", s, noSubject), "", "audience")
	if x := grants.List()[0]; x.Slot != s.Slot() || x.Record != 1 || grants.Device().Slot() != s.Slot() || grants.Person().Exists() {
		t.Fatalf("%+v", x)
	}
	g.want(g.query("search", s, noSubject), NoConsent)

	g.forward(time.Minute)
	early := g.query("page_view", s, noSubject)
	w, err := g.Withdraw(ctx, s, Withdrawal{Site: testSite, Method: "banner"})
	if err != nil || w.State != ConsentWithdrawn || w.RecordID == "" || !maps.Equal(w.Purposes, map[string]bool{"audience": false}) {
		t.Fatalf("%+v %v", w, err)
	}
	if !g.RevokedAfter(s.Slot(), "audience", grants.Sequence()) || g.RevokedAfter(s.Slot(), "personal", grants.Sequence()) {
		t.Fatal("what was granted before the withdrawal must be revoked, and nothing else")
	}
	g.want(g.query("page_view", s, noSubject), Withdrawn)
	again, err := g.Withdraw(ctx, s, Withdrawal{Site: testSite})
	if err != nil || again.RecordID != "" || again.State != ConsentWithdrawn {
		t.Fatalf("nothing stands any more: %+v %v", again, err)
	}

	g.forward(time.Minute)
	if r := g.choose(s, allPurposes); r.State != ConsentGiven {
		t.Fatal("given again after a withdrawal is given anew, not renewed")
	}
	g.want(g.query("page_view", s, noSubject), "", "audience")
	early.Received = g.now()
	g.want(early, BeforeConsent) // G3, G14: events from before stay dropped
	early.Imported = true
	g.want(early, BeforeConsent)
}

// C1: after a withdrawal the old record's bytes are unchanged, and all verify.
func TestHistoryIsAppendOnly(t *testing.T) {
	g := openGateway(t)
	s, _ := g.mint(allPurposes)
	before, err := g.History(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Withdraw(ctx, s, Withdrawal{Site: testSite, Purposes: []string{"audience"}}); err != nil {
		t.Fatal(err)
	}
	g.choose(s, allPurposes)
	after, err := g.History(s)
	if err != nil || len(after) != 3 {
		t.Fatal(len(after), err)
	}
	if !bytes.Equal(before[0].Record, after[0].Record) {
		t.Fatal("the first record has changed")
	}
	prev := ""
	for i, p := range after {
		if err := VerifyProven(p, g.signer.Verifier()); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		var c core
		if err := decodeCanonical(p.Opening.Core, &c); err != nil || c.PrevRecordID != prev {
			t.Fatalf("record %d does not follow the one before it: %v", i, err)
		}
		prev = c.RecordID
	}
	one, err := g.Resolve(s.Slot(), 2) // G4
	if err != nil || !bytes.Equal(one.Record, after[1].Record) {
		t.Fatal("another record is resolved", err)
	}
	if _, err := g.Resolve(s.Slot(), 4); !errors.Is(err, ErrNoRecord) {
		t.Fatal(err)
	}
}

// C6, C7: validity ends, a renewal is a new record, a new version of the purpose is not covered.
func TestValidityRenewalVersion(t *testing.T) {
	g := openGateway(t)
	s, _ := g.mint(allPurposes)
	first := g.now()
	g.forward(100 * 24 * time.Hour)
	if r := g.choose(s, allPurposes); r.State != RenewedConsentGiven {
		t.Fatalf("%+v", r)
	}
	q := g.query("page_view", s, noSubject)
	if grants := g.want(q, "", "audience"); grants.List()[0].Record != 2 {
		t.Fatal("the grant rests on the renewed record")
	}
	q.Time = first.Add(time.Hour) // the span before the renewal is unbroken
	if grants := g.want(q, "", "audience"); grants.List()[0].Record != 1 {
		t.Fatal("an event from before the renewal rests on the first record")
	}
	g.reopen(nil)
	g.want(g.query("page_view", s, noSubject), "", "audience")
	g.forward(200 * 24 * time.Hour)
	g.want(g.query("page_view", s, noSubject), Expired)
	if current, err := g.Current(s); err != nil || len(current) != 1 || current[0].State != ConsentExpired || current[0].Granted {
		t.Fatalf("%+v %v", current, err)
	}
	q = g.query("page_view", s, noSubject)
	q.Time, q.Imported = first.Add(time.Hour), true // C6: history is judged at its own time
	g.want(q, "", "audience")

	g.choose(s, allPurposes)
	files := testFiles()
	files["audience.yaml"].Data = []byte(purposeYAML("audience", "consent", 2, "page_view, purchase", "validity: P6M\n"))
	old := g.policy.ChoiceNotice("en")
	g.reopen(files)
	g.want(g.query("page_view", s, noSubject), PurposeVersion)
	if n, err := g.NoticeText(old.SHA256()); err != nil || n.Text != old.Text {
		t.Fatal("the old text must stay, byte for byte", err)
	}
	history, err := g.History(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range history {
		if err := VerifyProven(p, g.signer.Verifier()); err != nil {
			t.Fatal(err)
		}
	}
	if r := g.choose(s, allPurposes); r.State != ConsentGiven {
		t.Fatalf("a consent to another version is no renewal: %+v", r)
	}
	g.want(g.query("page_view", s, noSubject), "", "audience")
}

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
	g.forward(SnapshotLife - time.Second)
	snapshot.Site, snapshot.Who.Mint, snapshot.Purposes = testSite, true, map[string]bool{"marketing": true}
	for range 2 { // C4: a repeat within its life is a retry, not a replay
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

// C8: a browser's refusal creates nobody; a back-end's is stored with the person.
func TestRefusals(t *testing.T) {
	g := openGateway(t)
	c := g.banner(map[string]bool{"audience": false, "marketing": false})
	c.Who.Mint = true
	r, err := g.Record(ctx, c)
	if err != nil || r.Minted != nil || r.Receipt != "" || r.State != ConsentRefused || g.subjects.Count() != 0 {
		t.Fatalf("%+v %v, %d subjects", r, err, g.subjects.Count())
	}
	if r.Notice.SHA256 != c.Notice.SHA256 || !r.Until.Equal(testStart.AddDate(0, 3, 0)) {
		t.Fatalf("%+v", r)
	}
	p, err := g.Refused(r.RecordID)
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyProven(p, g.signer.Verifier()); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(p.Record, []byte("principal")) {
		t.Fatalf("a refusal names somebody: %s", p.Record)
	}
	if _, err := g.Refused("00000000-0000-4000-8000-000000000000"); !errors.Is(err, ErrNoRecord) {
		t.Fatal(err)
	}

	c.Who = Who{Persons: []subject.Identifier{loyalty(t, "4711")}}
	if r, err = g.Record(ctx, c); err != nil || r.Receipt == "" || g.subjects.Count() != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	person, err := g.subjects.Person(loyalty(t, "4711"))
	if err != nil {
		t.Fatal(err)
	}
	g.want(g.query("page_view", noSubject, person), NoConsent)
	if history, err := g.History(person); err != nil || len(history) != 1 {
		t.Fatal(len(history), err)
	}
	c.Who, c.Purposes = Who{}, allPurposes
	if _, err := g.Record(ctx, c); !errors.Is(err, ErrNoSubject) {
		t.Fatal(err)
	}
}

// Imports: the record's time is now, its standing that of given_at; a newer choice wins over an older import.
func TestImports(t *testing.T) {
	g := openGateway(t)
	c := g.banner(allPurposes)
	c.Who.Persons, c.GivenAt, c.Source = []subject.Identifier{loyalty(t, "1")}, testStart.AddDate(-1, 0, 0), "crm"
	r, err := g.Record(ctx, c)
	if err != nil || !r.ValidUntil.Equal(testStart.AddDate(0, -6, 0)) {
		t.Fatalf("%+v %v", r, err)
	}
	person, err := g.subjects.Person(loyalty(t, "1"))
	if err != nil {
		t.Fatal(err)
	}
	q := g.query("page_view", noSubject, person)
	q.Time = testStart.AddDate(0, -9, 0)
	g.want(q, Expired)
	q.Imported = true
	grants := g.want(q, "", "audience")
	if grants.Person().Slot() != person.Slot() || grants.Device().Exists() {
		t.Fatal("the grant is the person's")
	}
	q.Time = testStart.AddDate(-2, 0, 0)
	g.want(q, BeforeConsent)

	c.Purposes, c.GivenAt = map[string]bool{"audience": false}, testStart.AddDate(-1, 1, 0)
	if _, err = g.Record(ctx, c); err != nil {
		t.Fatal(err)
	}
	q.Time = testStart.AddDate(0, -9, 0)
	g.want(q, Withdrawn)
	c.Purposes, c.GivenAt = allPurposes, testStart.AddDate(-1, 0, 5)
	if _, err = g.Record(ctx, c); err != nil {
		t.Fatal(err)
	}
	g.want(q, Withdrawn) // an older import does not override
	history, err := g.History(person)
	if err != nil || len(history) != 3 {
		t.Fatal(len(history), err)
	}
	var last core
	if err := decodeCanonical(history[2].Opening.Core, &last); err != nil || !last.Event.Time.Equal(g.now()) ||
		!last.Event.GivenAt.Equal(c.GivenAt) || last.Event.Source != "crm" {
		t.Fatalf("%+v %v", last, err)
	}
	for _, at := range []time.Time{g.now().Add(time.Second), time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)} {
		c.GivenAt = at
		if _, err := g.Record(ctx, c); !errors.Is(err, ErrGivenAt) {
			t.Fatalf("given_at %v: %v", at, err)
		}
	}
}

// C2: the client's time is apart, and flagged where it is far off; one that cannot be written does no harm.
func TestClientTimeIsApart(t *testing.T) {
	g := openGateway(t)
	for _, x := range []struct {
		client  time.Time
		skewed  bool
		written bool
	}{
		{testStart.Add(23 * time.Hour), false, true},
		{testStart.Add(-25 * time.Hour), true, true},
		{time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC), true, false},
		{time.Time{}, false, false},
	} {
		c := g.banner(allPurposes)
		c.Who.Mint, c.ClientTime = true, x.client
		r, err := g.Record(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		s, err := g.subjects.Device(*r.Minted)
		if err != nil {
			t.Fatal(err)
		}
		p, err := g.Resolve(s.Slot(), 1)
		if err != nil {
			t.Fatal(err)
		}
		var rest strippable
		var kept core
		if err := errors.Join(decodeCanonical(p.Opening.Strippable, &rest), decodeCanonical(p.Opening.Core, &kept)); err != nil {
			t.Fatal(err)
		}
		if rest.ClockSkew != x.skewed || (rest.ClientTime != nil) != x.written || !kept.Event.Time.Equal(g.now()) {
			t.Errorf("client time %v: %+v", x.client, rest)
		}
	}
}

func TestDeclare(t *testing.T) {
	g := openGateway(t)
	d := Declaration{Site: testSite, Persons: []subject.Identifier{loyalty(t, "9")}, Purposes: []string{"service", "fraud"}, Language: "fr"}
	s, err := g.Declare(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	grants := g.want(g.query("purchase", noSubject, s), "", "service")
	if grants.List()[0].Slot != s.Slot() || grants.Person().Slot() != s.Slot() {
		t.Fatal("the grant is the person's")
	}
	g.want(g.query("checkout_start", noSubject, s), "", "fraud")
	size := g.leaves()
	g.forward(time.Hour)
	for range 3 {
		if again, err := g.Declare(ctx, d); err != nil || again.Slot() != s.Slot() {
			t.Fatal(err)
		}
	}
	if g.leaves() != size {
		t.Fatal("a declaration that stands was recorded again")
	}
	d.Since = testStart.AddDate(-2, 0, 0)
	if _, err := g.Declare(ctx, d); err != nil || g.leaves() != size+2 {
		t.Fatal(g.leaves(), err)
	}
	q := g.query("purchase", noSubject, s)
	q.Time = testStart.AddDate(-1, 0, 0)
	g.want(q, "", "service")
	q = g.query("checkout_start", noSubject, s)
	q.Time = testStart.AddDate(-3, 0, 0)
	g.want(q, BeforeConsent)
	history, err := g.History(s)
	if err != nil || len(history) != 4 {
		t.Fatal(len(history), err)
	}
	var c core
	if err := decodeCanonical(history[0].Opening.Core, &c); err != nil || c.Event.Type != "declaration" || c.Event.State != "" ||
		c.Notice.Language != "fr" || !c.Purposes[0].Granted {
		t.Fatalf("%+v %v", c, err)
	}
	// A new identifier of the person is added by the writer although everything stands.
	email, err := subject.Normalise("email", "a@example.org", "FR")
	if err != nil {
		t.Fatal(err)
	}
	d.Persons = append(d.Persons, email)
	if x, err := g.Declare(ctx, d); err != nil || x.Slot() != s.Slot() {
		t.Fatal(err)
	}
	if x, err := g.subjects.Person(email); err != nil || x.Slot() != s.Slot() {
		t.Fatal(err)
	}
	for purpose, want := range map[string]error{"audience": ErrBasis, "nothing": ErrUnknownPurpose} {
		d.Purposes = []string{purpose}
		if _, err := g.Declare(ctx, d); !errors.Is(err, want) {
			t.Errorf("%s: %v", purpose, err)
		}
	}
	if _, err := g.Withdraw(ctx, s, Withdrawal{Purposes: []string{"service"}}); !errors.Is(err, ErrBasis) {
		t.Fatal(err)
	}
}

func (g *gateway) leaves() int64 {
	size, _, err := g.state.Tree()
	if err != nil {
		g.t.Fatal(err)
	}
	return size
}

// Both kinds of subject in one query: the device's consent for consents, the person's declaration for declared bases; a subject that no
// grant rests on is not carried.
func TestTwoSubjects(t *testing.T) {
	g := openGateway(t)
	device, _ := g.mint(allPurposes)
	person, err := g.Declare(ctx, Declaration{Site: testSite, Persons: []subject.Identifier{loyalty(t, "2")}, Purposes: []string{"service"}})
	if err != nil {
		t.Fatal(err)
	}
	grants := g.want(g.query("purchase", device, person), "", "audience", "service")
	if list := grants.List(); list[0].Slot != device.Slot() || list[1].Slot != person.Slot() {
		t.Fatalf("%+v", list)
	}
	grants = g.want(g.query("page_view", device, person), "", "audience")
	if grants.Person().Exists() {
		t.Fatal("an event ties the device to a person who stands under nothing here")
	}
	g.want(g.query("purchase", noSubject, person), "", "service")
	g.want(g.query("page_view", noSubject, person), NoConsent)
	grants = g.want(g.query("cart_add", device, person), "", "counting") // `subject: none`
	if grants.List()[0].Slot != 0 || grants.Device().Exists() || grants.Person().Exists() {
		t.Fatal("a purpose without subject carries one")
	}
}

// G3: of a thousand checks that race one withdrawal each was refused, or is known to be revoked by whoever seals it later.
func TestWithdrawalRace(t *testing.T) {
	for _, cache := range []int{0, 1} { // 1: a page that other subjects keep throwing out
		g := openGatewayWith(t, testFiles(), cache)
		s, _ := g.mint(allPurposes)
		r := race{g: g, q: g.query("page_view", s, noSubject), done: make(chan struct{})}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { r.check(t) })
		}
		if cache == 1 {
			wg.Go(func() {
				for n := 0; !r.finished(); n++ {
					g.warm.put(subject.Slot(1+n%3)<<pageBits, nobody)
				}
			})
		}
		for r.checks.Load() < 300 {
			runtime.Gosched()
		}
		if _, err := g.Withdraw(ctx, s, Withdrawal{Site: testSite}); err != nil {
			t.Error(err)
		}
		close(r.done)
		wg.Wait()
		for _, grants := range r.granted {
			if !g.RevokedAfter(s.Slot(), "audience", grants.Sequence()) {
				t.Fatalf("a grant of sequence %d survives the withdrawal of sequence %d", grants.Sequence(), g.Sequence())
			}
		}
		if len(r.granted) == 0 || r.refused == 0 || len(r.granted)+r.refused < 1000 {
			t.Fatalf("%d granted, %d refused: not a race", len(r.granted), r.refused)
		}
		t.Logf("cache %d: %d granted and revoked, %d refused", cache, len(r.granted), r.refused)
		g.want(r.q, Withdrawn)
	}
}

// race is what checks find that run beside a withdrawal.
type race struct {
	g      *gateway
	q      *Query
	checks atomic.Int64
	done   chan struct{} // closed when Withdraw has returned

	mu      sync.Mutex
	granted []Grants
	refused int
}

func (r *race) finished() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// check asks at least 250 times, and 50 times after the withdrawal.
func (r *race) check(t *testing.T) {
	for n, after := 0, 0; n < 250 || after < 50; n++ {
		finished := r.finished()
		if finished {
			after++
		}
		grants, refused, err := r.g.Check(r.q)
		r.checks.Add(1)
		r.mu.Lock()
		switch {
		case err != nil:
			t.Error(err)
			after = 50
		case grants.Valid() && finished:
			t.Error("admitted after the withdrawal had answered")
		case grants.Valid():
			r.granted = append(r.granted, grants)
		case refused.Reason == Withdrawn:
			r.refused++
		default:
			t.Errorf("refused for %q", refused.Reason)
		}
		r.mu.Unlock()
	}
}

// The revocations survive a restart, are seen inside the writer before they are committed, and can be dropped.
func TestRevocations(t *testing.T) {
	g := openGateway(t)
	a, _ := g.mint(map[string]bool{"audience": true, "personal": true})
	b, _ := g.mint(allPurposes)
	if _, err := g.Withdraw(ctx, a, Withdrawal{Site: testSite}); err != nil {
		t.Fatal(err)
	}
	g.choose(b, map[string]bool{"audience": false})
	g.choose(b, map[string]bool{"audience": false}) // nothing stands: nothing to revoke
	if g.Sequence() != 3 {
		t.Fatalf("sequence %d", g.Sequence())
	}
	g.reopen(nil)
	if g.Sequence() != 3 || !g.RevokedAfter(a.Slot(), "audience", 0) || !g.RevokedAfter(a.Slot(), "personal", 1) ||
		g.RevokedAfter(a.Slot(), "audience", 1) || !g.RevokedAfter(b.Slot(), "audience", 2) || g.RevokedAfter(b.Slot(), "audience", 3) {
		t.Fatal("the set is another after a restart")
	}
	since := func(sequence uint64) (out []revocation, err error) {
		err = g.state.Update(ctx, func(tx *state.Txn) error {
			out = nil
			if err := g.revoke(tx, 77, []string{"x"}); err != nil {
				return err
			}
			if err := g.RevokedSince(tx, sequence, func(slot subject.Slot, purpose string) error {
				out = append(out, revocation{slot, purpose})
				return nil
			}); err != nil {
				return err
			}
			return errors.New("nothing of this is kept")
		})
		return out, err
	}
	got, _ := since(1)
	want := []revocation{{a.Slot(), "personal"}, {b.Slot(), "audience"}, {77, "x"}}
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || g.Sequence() != 3 {
		t.Fatalf("%v, sequence %d", got, g.Sequence())
	}
	if err := g.ForgetRevocations(ctx, 2); err != nil {
		t.Fatal(err)
	}
	if g.RevokedAfter(a.Slot(), "personal", 1) || !g.RevokedAfter(b.Slot(), "audience", 2) {
		t.Fatal("what was dropped is still there, or more was dropped")
	}
	if got, _ = since(2); len(got) != 2 {
		t.Fatalf("%v", got)
	}
	if _, err := since(1); !errors.Is(err, ErrForgotten) {
		t.Fatal("a batch older than what is remembered must not commit:", err)
	}
	g.reopen(nil)
	if g.Sequence() != 3 {
		t.Fatal("the sequence goes back")
	}
}

func TestForget(t *testing.T) {
	g := openGateway(t)
	other, _ := g.mint(allPurposes)
	s, r := g.mint(allPurposes)
	for range 3 {
		g.choose(s, allPurposes)
	}
	grants := g.want(g.query("page_view", s, noSubject), "", "audience")
	slot, prefix := s.Slot(), s.RowKey(recordTable, nil)
	if err := g.Forget(ctx, s); err != nil {
		t.Fatal(err)
	}
	g.want(g.query("page_view", s, noSubject), NoConsent)
	if !g.RevokedAfter(slot, "audience", grants.Sequence()) {
		t.Fatal("spooled events of an erased subject must be dropped")
	}
	if _, err := g.subjects.Device(*r.Minted); !errors.Is(err, subject.ErrUnknown) {
		t.Fatal("the credential still finds a subject:", err)
	}
	if _, err := g.Resolve(slot, 1); !errors.Is(err, subject.ErrShredded) {
		t.Fatal(err)
	}
	err := g.state.View(func(r state.Reader) error {
		return r.Scan(prefix, func(key, _ []byte) error { return errors.New("a record is left") })
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.History(s); !errors.Is(err, ErrNoRecord) {
		t.Fatal(err)
	}
	c := g.banner(allPurposes)
	c.Who.Device = s // a request that found the subject before it was erased
	if _, err := g.Record(ctx, c); !errors.Is(err, subject.ErrShredded) {
		t.Fatal(err)
	}
	sequence := g.Sequence()
	if err := g.Forget(ctx, s); err != nil || g.Sequence() != sequence {
		t.Fatal("erasing again must do nothing:", err)
	}
	g.want(g.query("page_view", other, noSubject), "", "audience")
	deletions := 0
	err = g.Openings(func(_ int64, o evidence.Opening) error {
		var c core
		if err := decodeCanonical(o.Core, &c); err != nil {
			return err
		}
		if c.Event.Type == "deletion" && c.Counts["records"] == 4 {
			deletions++
		}
		return nil
	})
	if err != nil || deletions != 1 {
		t.Fatal(deletions, err)
	}
}

// What an export of the log shows of the ledger: leaves without a subject, in order, each as it is in the log.
func TestOpeningsAreInTheLog(t *testing.T) {
	g := openGateway(t)
	s, _ := g.mint(allPurposes)
	c := g.banner(map[string]bool{"audience": false})
	if _, err := g.Record(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := g.CountRefused(ctx, testStart.Add(30*time.Minute), map[string]int{"shop page_view no_consent": 7}); err != nil {
		t.Fatal(err)
	}
	if err := g.Forget(ctx, s); err != nil {
		t.Fatal(err)
	}
	leaves, err := g.state.Leaves(0, g.leaves())
	if err != nil {
		t.Fatal(err)
	}
	last, seen := int64(-1), 0
	err = g.Openings(func(index int64, o evidence.Opening) error {
		if index <= last || leaves[index] != o.Leaf() {
			t.Errorf("leaf %d is out of order or another one", index)
		}
		last, seen = index, seen+1
		return nil
	})
	if err != nil || seen != 3 || len(leaves) != 4 {
		t.Fatal(seen, len(leaves), err)
	}
}

// G2: a row that cannot be read is an error, not an answer.
func TestCheckFailsClosed(t *testing.T) {
	g := openGateway(t)
	s, _ := g.mint(allPurposes)
	err := g.state.Update(ctx, func(tx *state.Txn) error {
		tx.Set(s.RowKey(standingTable, nil), []byte("damaged"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	g.reopen(nil)
	for range 2 {
		if grants, _, err := g.Check(g.query("page_view", s, noSubject)); err == nil || grants.Valid() {
			t.Fatal("a damaged standing was answered")
		}
	}
	if err := g.Forget(ctx, s); err != nil {
		t.Fatal("a damaged standing stops an erasure:", err)
	}
}

// G14: the tolerated skew lets a clock that is behind through, and nothing more.
func TestSkew(t *testing.T) {
	g := openGateway(t)
	o := g.options()
	o.Skew = 2 * time.Second
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := g.mint(allPurposes)
	q := g.query("page_view", s, noSubject)
	for behind, want := range map[time.Duration]Reason{2 * time.Second: "", 2*time.Second + time.Millisecond: BeforeConsent} {
		q.Time = g.now().Add(-behind)
		if _, refused, err := l.Check(q); err != nil || refused.Reason != want {
			t.Errorf("%v behind: %q %v", behind, refused.Reason, err)
		}
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

func TestOpenRefusesMissingOptions(t *testing.T) {
	g := openGateway(t)
	for name, spoil := range map[string]func(*Options){
		"state": func(o *Options) { o.State = nil }, "policy": func(o *Options) { o.Policy = nil },
		"snapshot key": func(o *Options) { o.SnapshotKey = o.SnapshotKey[:31] }, "receipts": func(o *Options) { o.Receipts = nil },
		"checkpoints": func(o *Options) { o.Checkpoints = nil }, "skew": func(o *Options) { o.Skew = -1 },
		"subjects": func(o *Options) { o.Subjects = nil },
	} {
		o := g.options()
		spoil(&o)
		if _, err := Open(o); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
