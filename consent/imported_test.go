package consent

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// erase suppresses and severs a person as a rights request does, and says when.
func (g *gateway) erase(s subject.Subject) time.Time {
	g.t.Helper()
	m, err := g.subjects.Mark(s)
	if err != nil {
		g.t.Fatal(err)
	}
	at := g.now()
	g.update(func(t *state.Txn) error {
		if err := g.Suppress(t, s); err != nil {
			return err
		}
		return g.subjects.Suppress(t, m, at)
	})
	g.sever(s)
	return at
}

// A nightly import brings nobody back: what was given at the time of the erasure or before is refused, and writes nothing. What was given later, and
// what the person says now, makes a new subject.
func TestImportBringsNobodyBack(t *testing.T) {
	g := openGateway(t)
	at := g.erase(g.person("1"))
	g.forward(time.Hour)
	imported := func(given time.Time, granted bool, cards ...string) error {
		c := g.banner(map[string]bool{"audience": granted})
		for _, card := range cards {
			id := loyalty(t, card)
			if card == "user" {
				var err error
				if id, err = subject.Normalise("user", "7", ""); err != nil {
					t.Fatal(err)
				}
			}
			c.Who.Persons = append(c.Who.Persons, id)
		}
		c.GivenAt, c.Source = given, "crm"
		_, err := g.Record(ctx, c)
		return err
	}
	leaves, slots := g.leaves(), g.subjects.Count()
	for _, given := range []time.Time{at, at.Add(time.Millisecond - 1), at.AddDate(-1, 0, 0)} {
		for _, granted := range []bool{true, false} {
			if err := imported(given, granted, "1"); !errors.Is(err, ErrErased) {
				t.Fatalf("%v: %v", given, err)
			}
		}
		if err := imported(given, true, "user", "1"); !errors.Is(err, ErrErased) { // one of several identifiers is enough
			t.Fatal(err)
		}
	}
	if g.leaves() != leaves || g.subjects.Count() != slots {
		t.Fatal("something was written")
	}
	if _, err := g.subjects.Person(loyalty(t, "1")); !errors.Is(err, subject.ErrUnknown) {
		t.Fatal("the person is back:", err)
	}
	if err := imported(at.AddDate(-1, 0, 0), true, "2"); err != nil { // another's
		t.Fatal(err)
	}
	if err := imported(at.Add(time.Millisecond), true, "1"); err != nil {
		t.Fatal(err)
	}
	s, err := g.subjects.Person(loyalty(t, "1"))
	if err != nil {
		t.Fatal(err)
	}
	g.want(g.query("page_view", noSubject, s), "", "audience")
	if err := imported(at, true, "1"); !errors.Is(err, ErrErased) { // of the former life, though the person is back
		t.Fatal(err)
	}
	if dropped, err := g.subjects.ForgetErased(ctx, at.Add(time.Millisecond)); err != nil || dropped != 1 {
		t.Fatal(dropped, err)
	}
	if err := imported(at, true, "1"); err != nil {
		t.Fatal(err)
	}
}

// A declaration of an erased person counts from the moment after the erasure, if any of its events is later; else nobody is created.
func TestDeclareAfterErasure(t *testing.T) {
	g := openGateway(t)
	at := g.erase(g.person("1"))
	g.forward(time.Hour)
	d := Declaration{Site: testSite, Persons: []subject.Identifier{loyalty(t, "1")}, Purposes: []string{"service"}, Since: at.AddDate(0, -1, 0)}
	leaves, slots := g.leaves(), g.subjects.Count()
	for _, until := range []time.Time{at, at.AddDate(0, 0, -1)} {
		d.Until = until
		if _, err := g.Declare(ctx, d); !errors.Is(err, ErrErased) {
			t.Fatalf("%v: %v", until, err)
		}
	}
	if g.leaves() != leaves || g.subjects.Count() != slots {
		t.Fatal("something was written")
	}
	for _, until := range []time.Time{at.Add(time.Millisecond), {}} {
		d.Until = until
		s, err := g.Declare(ctx, d)
		if err != nil {
			t.Fatal(err)
		}
		q := g.query("purchase", noSubject, s)
		q.Imported = true
		for offset, reason := range map[time.Duration]Reason{0: NoConsent, time.Millisecond: "", time.Hour: ""} {
			q.Time = at.Add(offset)
			if _, refused, err := g.Check(q); err != nil || refused.Reason != reason {
				t.Fatalf("%v after: %q %v", offset, refused.Reason, err)
			}
		}
		if g.leaves() != leaves+1 {
			t.Fatal("it was recorded twice")
		}
	}
}

// Options.Revoked hears, in the same change, of what stood and no longer does, and of nothing else; its error fails the change.
func TestRevokedIsHandedOn(t *testing.T) {
	g := openGateway(t)
	var heard [][]string
	var fail error
	g.revoked = func(x *state.Txn, s subject.Subject, purposes []string) error {
		x.Set([]byte("q/heard"), []byte(s.ID()))
		heard = append(heard, purposes)
		return fail
	}
	g.reopen(nil)
	want := func(what string, purposes ...string) {
		t.Helper()
		if len(purposes) == 0 && len(heard) > 0 || len(purposes) > 0 && (len(heard) != 1 || !slices.Equal(heard[0], purposes)) {
			t.Fatalf("%s: heard %v, want %v", what, heard, purposes)
		}
		heard = nil
	}
	both := map[string]bool{"audience": true, "personal": true}
	s, _ := g.mint(both)
	g.choose(s, both)
	want("a consent")
	g.choose(s, map[string]bool{"audience": false, "personal": true})
	want("a refusal of what stood", "audience")
	g.choose(s, map[string]bool{"audience": false})
	want("a refusal of what did not stand")
	fail = errors.New("not now")
	if _, err := g.Withdraw(ctx, s, Withdrawal{Site: testSite}); !errors.Is(err, fail) {
		t.Fatal(err)
	}
	fail, heard = nil, nil
	g.want(g.query("search", s, noSubject), "", "personal")
	if _, err := g.Withdraw(ctx, s, Withdrawal{Site: testSite}); err != nil {
		t.Fatal(err)
	}
	want("a withdrawal of all", "personal")
	if _, err := g.Withdraw(ctx, s, Withdrawal{Site: testSite, Purposes: []string{"audience"}}); err != nil {
		t.Fatal(err)
	}
	want("a withdrawal of what did not stand")

	p := g.person("1")
	g.forward(2 * time.Hour)
	g.choose(p, allPurposes)
	sequence := g.Sequence()
	c := g.banner(map[string]bool{"audience": false})
	c.Who.Persons, c.GivenAt = []subject.Identifier{loyalty(t, "1")}, g.now().Add(-time.Hour)
	if _, err := g.Record(ctx, c); err != nil || g.Sequence() == sequence {
		t.Fatal("a refusal between two consents takes away what rested on the first:", err)
	}
	want("an import of a refusal that is older than the consent that stands")
	g.suppress(p)
	g.sever(p)
	want("an erasure")
	if g.rowsUnder([]byte("q/heard")) != 1 {
		t.Fatal("what was written inside the change is not there")
	}
}
