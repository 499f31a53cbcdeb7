package consent

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
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
		var rest strippable
		if err := errors.Join(decodeCanonical(p.Opening.Core, &c), decodeCanonical(p.Opening.Strippable, &rest)); err != nil || rest.PrevRecordID != prev {
			t.Fatalf("record %d does not follow the one before it: %v", i, err)
		}
		if prev = rest.RecordID; prev == "" || c.RecordID != "" {
			t.Fatalf("record %d: its id stands in the part that outlives the subject", i)
		}
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

// C8: a browser's refusal creates nobody; a back-end's is stored with the person.
func TestRefusals(t *testing.T) {
	g := openGateway(t)
	c := g.banner(map[string]bool{"audience": false, "marketing": false})
	c.Who.Mint = true
	c.Signals = Signals{GPC: true, TCString: "anna@mail.example", GPPString: "anna@mail.example"}
	c.Evidence = Circumstances{URLPath: "https://shop.example/account/anna", UAFamily: "Firefox", IPPrefix: "203.0.113.0/24"}
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
	for _, trace := range []string{"principal", "anna", "203.0", "Firefox"} { // nobody could ever have it erased
		if bytes.Contains(p.Record, []byte(trace)) {
			t.Fatalf("a refusal holds %q of somebody: %s", trace, p.Record)
		}
	}
	if !bytes.Contains(p.Record, []byte(`"gpc":true`)) {
		t.Fatalf("a refusal lost its signal: %s", p.Record)
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
	c.GivenAt = testStart.AddDate(-1, 1, 0)
	if _, err = g.Record(ctx, c); err != nil {
		t.Fatal(err)
	}
	g.want(q, Withdrawn) // nor does one of the refusal's own instant, as histories that know only days have them
	history, err := g.History(person)
	if err != nil || len(history) != 4 {
		t.Fatal(len(history), err)
	}
	var last core
	if err := decodeCanonical(history[3].Opening.Core, &last); err != nil || !last.Event.Time.Equal(g.now()) ||
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

func (g *gateway) leaves() int64 {
	size, _, err := g.state.Tree()
	if err != nil {
		g.t.Fatal(err)
	}
	return size
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
	g.sever(s)
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
	if _, err := g.Sever(ctx, s); err != nil {
		t.Fatal("a damaged standing stops an erasure:", err)
	}
}

// G2: a state that takes no more changes can record no withdrawal; what is in memory of a standing is then no answer either.
func TestCheckFailsWithTheState(t *testing.T) {
	g := openGateway(t)
	s, _ := g.mint(allPurposes)
	q := g.query("page_view", s, noSubject)
	g.want(q, "", "audience")
	err := g.state.Update(ctx, func(tx *state.Txn) error {
		tx.Set([]byte("c/x"), nil)
		tx.OnCommit(func() { panic("what is in memory is behind what is on disk") })
		return nil
	})
	if err == nil {
		t.Fatal("the state did not fail")
	}
	if grants, _, err := g.Check(q); !errors.Is(err, state.ErrFailed) || grants.Valid() {
		t.Fatalf("a failed state was answered from memory: %v", err)
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
