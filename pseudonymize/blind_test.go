package pseudonymize_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// blindPolicy is a policy whose purposes pseudonymise the number of an order: two consents and a contract, at three destinations.
func blindPolicy(t testing.TB) *policies.Policy {
	t.Helper()
	purpose := func(id, basis, destination string) *fstest.MapFile {
		return &fstest.MapFile{Data: fmt.Appendf(nil, `purpose: %s
version: 1
basis: %s
title: {en: %[1]s}
notice: {url: "https://shop.example/privacy", text: {en: "We use your order for %[1]s."}}
retention: P13M
event_types: [page_view, purchase]
fields: {order: pseudonymise, coupon: pseudonymise}
recipients: [{destination: %[3]s, name: Shop SA, country: FR, role: controller}]
`, id, basis, destination)}
	}
	p, err := policies.Load(fstest.MapFS{
		"audience.yaml": purpose("audience", "consent\nminimum_proof: asserted", "warehouse"),
		"quality.yaml":  purpose("quality", "consent\nminimum_proof: asserted", "lab"),
		"service.yaml":  purpose("service", "contract", "accounting"),
		"events.yaml":   {Data: []byte("event_types:\n  page_view: {channel: web}\n  purchase: {channel: web}\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// seen is a property of the row that a destination with these purposes sees of the event, after the spool.
func (g *gate) seen(t *testing.T, e pseudonymize.Event, name, field string, purposes ...string) string {
	t.Helper()
	sealed, err := e.Seal(spoolKey)
	if err != nil {
		t.Fatal(err)
	}
	back, err := sealed.Open(g.subjects, spoolKey)
	if err != nil {
		t.Fatal(err)
	}
	d, err := pseudonymize.NewDestination(name, purposes, bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	row, ok := d.Project(&back)
	if !ok {
		t.Fatalf("%s receives nothing", name)
	}
	direct, _ := d.Project(&e)
	if row.Properties[field] != direct.Properties[field] {
		t.Errorf("%s is %q before the spool and %q after it", field, direct.Properties[field], row.Properties[field])
	}
	return row.Properties[field]
}

// TestPseudonymise: equal numbers join within one subject, field and destination, and nowhere else; and the number itself is nowhere.
func TestPseudonymise(t *testing.T) {
	g := openGateOf(t, blindPolicy(t))
	other := g.consentingDevice(t)
	const number = "canary-A-1001"
	order, coupon := pseudonymize.Field{Name: "order", Text: number}, pseudonymize.Field{Name: "coupon", Text: number}
	e := g.event(t, g.visitor, order, coupon)
	if plain := e.Encode(); bytes.Contains(plain, []byte(number)) {
		t.Errorf("the spool's record holds the number: %q", plain)
	}
	want := g.seen(t, e, "warehouse", "order", "audience")
	if !pseudonymize.Pseudonymised(want) {
		t.Fatalf("the warehouse sees %q", want)
	}
	if again := g.seen(t, g.event(t, g.visitor, order), "warehouse", "order", "audience"); again != want {
		t.Errorf("one order is %q, then %q", want, again)
	}
	if both := g.seen(t, e, "warehouse", "order", "audience", "quality"); both != want {
		t.Errorf("of two purposes the warehouse sees %q, of one %q", both, want)
	}
	for what, got := range map[string]string{
		"another field":       g.seen(t, e, "warehouse", "coupon", "audience"),
		"another destination": g.seen(t, e, "lab", "order", "quality"),
		"another subject":     g.seen(t, g.event(t, other, order), "warehouse", "order", "audience"),
		"another number":      g.seen(t, g.event(t, g.visitor, pseudonymize.Field{Name: "order", Text: number + "2"}), "warehouse", "order", "audience"),
		"its own result":      g.seen(t, g.event(t, g.visitor, pseudonymize.Field{Name: "order", Text: want}), "warehouse", "order", "audience"),
	} {
		if got == want || !pseudonymize.Pseudonymised(got) {
			t.Errorf("%s is %q", what, got)
		}
	}
	if none := g.seen(t, g.event(t, g.visitor, pseudonymize.Field{Name: "order"}), "warehouse", "order", "audience"); none != "" {
		t.Errorf("an empty number became %q", none)
	}
}

// TestPseudonymiseForDeviceAndPerson: each has a value of its own; who sees both in one row sees the device's, as in the event id.
func TestPseudonymiseForDeviceAndPerson(t *testing.T) {
	g := openGateOf(t, blindPolicy(t))
	card, err := subject.Normalise("loyalty", "4711", "FR")
	if err != nil {
		t.Fatal(err)
	}
	person, err := g.ledger.Declare(context.Background(), consent.Declaration{
		Site: consent.Site{Name: "shop"}, Persons: []subject.Identifier{card}, Purposes: []string{"service"}, Entity: "till",
	})
	if err != nil {
		t.Fatal(err)
	}
	order := pseudonymize.Field{Name: "order", Text: "A-1001"}
	apply := func(device, person subject.Subject) pseudonymize.Event {
		t.Helper()
		typ, _ := g.policy.EventType("purchase")
		now := time.Now().Add(time.Second)
		grants, refusal, err := g.ledger.Check(&consent.Query{Type: typ, Device: device, Person: person, Time: now, Received: now, Imported: true})
		if err != nil || !grants.Valid() {
			t.Fatal(refusal, err)
		}
		e, err := pseudonymize.Apply(&grants, &pseudonymize.Touchpoint{ID: "e1", Site: "shop", Time: now, Received: now, Fields: []pseudonymize.Field{order}})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	both, alone, unnamed := apply(g.visitor, person), apply(subject.Subject{}, person), apply(g.visitor, subject.Subject{})
	device := g.seen(t, unnamed, "d", "order", "audience", "service")
	persons := g.seen(t, alone, "d", "order", "audience", "service")
	if device == persons || !pseudonymize.Pseudonymised(device) || !pseudonymize.Pseudonymised(persons) {
		t.Fatalf("the device's %q, the person's %q", device, persons)
	}
	for _, c := range []struct {
		want     string
		purposes []string
	}{{device, []string{"audience"}}, {persons, []string{"service"}}, {device, []string{"audience", "service"}}, {device, []string{"service", "audience"}}} {
		if got := g.seen(t, both, "d", "order", c.purposes...); got != c.want {
			t.Errorf("%v see %q, want %q", c.purposes, got, c.want)
		}
	}
	kept, ok := both.Without(func(slot subject.Slot, _ string, _ uint64) bool { return slot == g.visitor.Slot() })
	if got := g.seen(t, kept, "d", "order", "service"); !ok || got != persons {
		t.Errorf("after the device's withdrawal: %q, want the person's %q", got, persons)
	}
}
