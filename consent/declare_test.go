package consent

import (
	"errors"
	"testing"
	"time"

	"github.com/octroi/octroi/pseudonymize/subject"
)

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
}

// A new identifier of the person is added by the writer although everything stands; what is no declared basis is refused.
func TestDeclareMore(t *testing.T) {
	g := openGateway(t)
	d := Declaration{Site: testSite, Persons: []subject.Identifier{loyalty(t, "9")}, Purposes: []string{"service"}, Language: "fr"}
	s, err := g.Declare(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
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
