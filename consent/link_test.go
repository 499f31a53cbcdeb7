package consent

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/fstest"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// linkingYAML is the purpose of links, which has neither event types nor fields.
const linkingYAML = `purpose: linking
version: %d
basis: consent
title: {en: One account, fr: Un compte}
notice:
  url: https://shop.example/privacy
  text: {en: We join what you do on this device to your account., fr: Nous relions cet appareil à votre compte.}
validity: P3M
retention: P13M
event_types: []
recipients:
  - {destination: warehouse, name: "Shop data department", country: FR, role: controller}
roles: {controller: Shop, dpo: dpo@shop.example}
`

func linkFiles(version int) fstest.MapFS {
	files := testFiles()
	files["linking.yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, linkingYAML, version)}
	return files
}

var audienceAndLinking = map[string]bool{"audience": true, policies.Linking: true}

func openLinkGateway(t testing.TB) *gateway { return openGatewayWith(t, linkFiles(1), 0) }

func (g *gateway) identification(device subject.Subject, cards ...string) Identification {
	i := Identification{Site: testSite, Device: device, Method: "login_claim", Entity: "shop"}
	for _, card := range cards {
		i.Persons = append(i.Persons, loyalty(g.t, card))
	}
	return i
}

func (g *gateway) identify(device subject.Subject, card string) Link {
	g.t.Helper()
	link, err := g.Identify(ctx, g.identification(device, card))
	if err != nil {
		g.t.Fatal(err)
	}
	return link
}

func (g *gateway) unlink(device subject.Subject) bool {
	g.t.Helper()
	ended, err := g.Unlink(ctx, testSite, device, "shop")
	if err != nil {
		g.t.Fatal(err)
	}
	return ended
}

// wantLinked checks that a page view of the device carries the person and nothing but consents of the device, and that Linked says so.
func (g *gateway) wantLinked(device, person subject.Subject) {
	g.t.Helper()
	grants := g.want(g.query("page_view", device, noSubject), "", "audience", policies.Linking)
	if grants.Device().Slot() != device.Slot() || grants.Person().Slot() != person.Slot() {
		g.t.Fatalf("device %d, person %d", grants.Device().Slot(), grants.Person().Slot())
	}
	for _, x := range grants.List() {
		if x.Slot != device.Slot() || x.Record == 0 {
			g.t.Fatalf("%+v", x)
		}
	}
	if s, err := g.Linked(device); err != nil || s.Slot() != person.Slot() {
		g.t.Fatal(s.Slot(), err)
	}
}

// wantUnlinked checks that a page view is admitted without a person.
func (g *gateway) wantUnlinked(device subject.Subject) {
	g.t.Helper()
	g.wantPlain(g.query("page_view", device, noSubject))
	if s, err := g.Linked(device); err != nil || s.Exists() {
		g.t.Fatal(s.Slot(), err)
	}
}

func (g *gateway) wantPlain(q *Query) {
	g.t.Helper()
	if grants := g.want(q, "", "audience"); grants.Person().Exists() {
		g.t.Fatal("a person is carried without a link")
	}
}

func (g *gateway) links(s subject.Subject) []Link {
	g.t.Helper()
	list, err := g.Links(s)
	if err != nil {
		g.t.Fatal(err)
	}
	return list
}

func TestIdentify(t *testing.T) {
	g := openLinkGateway(t)
	unasked, _ := g.mint(allPurposes)
	if _, err := g.Identify(ctx, g.identification(unasked, "1")); !errors.Is(err, ErrNoLinking) {
		t.Fatal(err)
	}
	if _, err := g.subjects.Person(loyalty(t, "1")); !errors.Is(err, subject.ErrUnknown) {
		t.Fatal("somebody was created for a link that is refused:", err)
	}
	device, _ := g.mint(audienceAndLinking)
	before := g.query("page_view", device, noSubject)
	g.forward(time.Minute)
	link := g.identify(device, "1")
	person := link.Person
	if link.Device.Slot() != device.Slot() || person.Kind() != subject.Person || !link.Since.Equal(g.now()) || !link.Until.IsZero() || link.Method != "login_claim" {
		t.Fatalf("%+v", link)
	}
	g.wantLinked(device, person)
	g.wantUnlinked(unasked)

	// Nothing backwards: neither by its own time nor by its receipt.
	late, early := *before, *g.query("page_view", device, noSubject)
	late.Received, early.Received = g.now(), before.Received
	for _, q := range []*Query{before, &late, &early} {
		g.wantPlain(q)
	}
	// A token that names somebody is judged by what it names.
	g.wantPlain(g.query("page_view", device, g.person("2")))
	// No event rests on linking alone.
	g.want(g.query("search", device, noSubject), NoConsent)
	g.want(g.query("cart_add", device, noSubject), "", "counting")
	if grants := g.want(g.query("cart_add", device, noSubject), "", "counting"); grants.Person().Exists() || grants.Device().Exists() {
		t.Fatal("a row without a subject got one")
	}

	// Again: it goes on, and nothing is written.
	leaves, since := g.leaves(), link.Since
	g.forward(time.Minute)
	if again := g.identify(device, "1"); !again.Since.Equal(since) || again.Person.Slot() != person.Slot() || g.leaves() != leaves {
		t.Fatalf("%+v, %d leaves", again, g.leaves()-leaves)
	}
	g.reopen(nil)
	g.wantLinked(device, person)
	if !g.unlink(device) || g.unlink(device) {
		t.Fatal("a link ends once")
	}
	g.wantUnlinked(device)
	g.reopen(nil)
	g.wantUnlinked(device)
	for _, s := range []subject.Subject{device, person} {
		list := g.links(s)
		if len(list) != 1 || !list[0].Since.Equal(since) || !list[0].Until.Equal(g.now()) || list[0].Device.Slot() != device.Slot() || list[0].Person.Slot() != person.Slot() {
			t.Fatalf("%+v", list)
		}
	}
}

// Each begin and end is a record of the device whose proof verifies (architecture.md, invariant 7), and says nothing of the person.
func TestLinksAreProven(t *testing.T) {
	g := openLinkGateway(t)
	device, _ := g.mint(audienceAndLinking)
	g.identify(device, "1")
	g.identify(device, "2") // ends the first
	g.unlink(device)
	records, err := g.History(device)
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, p := range records {
		if err := VerifyProven(p, g.signer.Verifier()); err != nil {
			t.Fatal(err)
		}
		c, err := readOpening(&p.Opening)
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, c.Event.Type)
	}
	if want := []string{"consent", "link", "unlink", "link", "unlink"}; !slices.Equal(types, want) {
		t.Fatal(types)
	}
}

// Consents do not travel, in neither direction, nor do declared bases.
func TestConsentsDoNotTravel(t *testing.T) {
	g := openLinkGateway(t)
	device, _ := g.mint(map[string]bool{"audience": true, policies.Linking: true})
	person := g.identify(device, "1").Person
	c := g.banner(map[string]bool{"personal": true})
	c.Who.Persons = []subject.Identifier{loyalty(t, "1")}
	if _, err := g.Record(ctx, c); err != nil {
		t.Fatal(err)
	}
	g.want(g.query("search", device, noSubject), NoConsent) // the person's personal is not the device's
	if s, err := g.Declare(ctx, Declaration{Site: testSite, Persons: c.Who.Persons, Purposes: []string{"service"}}); err != nil || s.Slot() != person.Slot() {
		t.Fatal(err)
	}
	g.want(g.query("purchase", device, noSubject), "", "audience", policies.Linking) // without service
	g.want(g.query("page_view", noSubject, person), NoConsent)                       // the device's audience is not the person's
}

// A link ends with the consent that it rests on, and a later consent does not revive it.
func TestLinkEndsWithItsConsent(t *testing.T) {
	for name, end := range map[string]func(g *gateway, device subject.Subject){
		"withdrawn": func(g *gateway, device subject.Subject) {
			if _, err := g.Withdraw(ctx, device, Withdrawal{Site: testSite, Purposes: []string{policies.Linking}}); err != nil {
				g.t.Fatal(err)
			}
		},
		"all withdrawn": func(g *gateway, device subject.Subject) {
			if _, err := g.Withdraw(ctx, device, Withdrawal{Site: testSite}); err != nil {
				g.t.Fatal(err)
			}
			g.choose(device, allPurposes)
		},
		"refused":         func(g *gateway, device subject.Subject) { g.choose(device, map[string]bool{policies.Linking: false}) },
		"expired":         func(g *gateway, _ subject.Subject) { g.millis.Store(testStart.AddDate(0, 3, 0).UnixMilli()) },
		"another version": func(g *gateway, _ subject.Subject) { g.reopen(linkFiles(2)) },
		"no such purpose": func(g *gateway, device subject.Subject) {
			g.reopen(testFiles())
			g.wantUnlinked(device)
			g.choose(device, allPurposes)
			g.reopen(linkFiles(1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := openLinkGateway(t)
			device, _ := g.mint(audienceAndLinking)
			link := g.identify(device, "1")
			admitted := g.want(g.query("page_view", device, noSubject), "", "audience", policies.Linking)
			g.forward(time.Minute)
			end(g, device)
			ended := g.now()
			g.wantUnlinked(device)
			revoked := name == "withdrawn" || name == "all withdrawn" || name == "refused"
			if got := g.RevokedAfter(device.Slot(), policies.Linking, admitted.Sequence()); got != revoked {
				t.Fatalf("revoked %v", got)
			}
			g.forward(time.Minute)
			g.choose(device, audienceAndLinking)
			g.wantUnlinked(device)
			list := g.links(link.Person)
			if len(list) != 1 || list[0].Until.IsZero() || list[0].Until.After(ended.Add(time.Minute)) || revoked && !list[0].Until.Equal(ended) {
				t.Fatalf("%+v, ended %v", list, ended)
			}
			if name == "expired" && !list[0].Until.Equal(testStart.AddDate(0, 3, 0)) {
				t.Fatal(list[0].Until)
			}
			g.forward(time.Minute)
			g.wantLinked(device, g.identify(device, "1").Person)
		})
	}
}

// A person who withdraws linking, by a back-end that names him, or who withdraws all, ends every link to him; the devices' consents stay.
func TestPersonEndsLinks(t *testing.T) {
	for _, purposes := range [][]string{{policies.Linking}, nil} {
		g := openLinkGateway(t)
		a, _ := g.mint(audienceAndLinking)
		b, _ := g.mint(audienceAndLinking)
		other, _ := g.mint(audienceAndLinking)
		person := g.identify(a, "1").Person
		g.identify(b, "1")
		else2 := g.identify(other, "2").Person
		admitted := g.want(g.query("page_view", a, noSubject), "", "audience", policies.Linking)
		g.forward(time.Second)
		r, err := g.Withdraw(ctx, person, Withdrawal{Site: testSite, Purposes: purposes})
		if err != nil || r.RecordID == "" {
			t.Fatal(r, err)
		}
		for range 2 {
			g.wantUnlinked(a)
			g.wantUnlinked(b)
			g.wantLinked(other, else2)
			for _, x := range append(g.links(person), g.links(a)...) {
				if !x.Until.Equal(g.now()) {
					t.Fatalf("%+v", x)
				}
			}
			g.reopen(nil)
		}
		if !g.RevokedAfter(person.Slot(), policies.Linking, admitted.Sequence()) || g.RevokedAfter(a.Slot(), policies.Linking, admitted.Sequence()) {
			t.Fatal("what is spooled loses this person, and the device keeps its consent")
		}
		ended := g.now()
		if again := g.identify(a, "1"); again.Since.Before(ended) { // in the same millisecond
			t.Fatal(again)
		}
		g.forward(time.Second)
		g.wantLinked(a, person)
		g.wantUnlinked(b)
		if list := g.links(a); len(list) != 2 || !list[0].Until.Equal(ended) || !list[1].Until.IsZero() {
			t.Fatalf("%+v", list)
		}
	}
}

// The family tablet: each login ends the one before; two persons are never joined.
func TestFamilyTablet(t *testing.T) {
	g := openLinkGateway(t)
	tablet, _ := g.mint(audienceAndLinking)
	one := g.identify(tablet, "1").Person
	g.wantLinked(tablet, one)
	g.forward(time.Second)
	two := g.identify(tablet, "2").Person
	if one.Slot() == two.Slot() {
		t.Fatal("two cards, one person")
	}
	g.wantLinked(tablet, two)
	if _, err := g.Identify(ctx, g.identification(tablet, "1", "2")); !errors.Is(err, subject.ErrNamespaceTaken) {
		t.Fatal(err)
	}
	g.wantLinked(tablet, two)
	list := g.links(tablet)
	if len(list) != 2 || !list[0].Until.Equal(g.now()) || !list[1].Until.IsZero() || !list[1].Since.Equal(g.now()) {
		t.Fatalf("%+v", list)
	}
}

// Whoever is erased leaves nothing on the other side: not in its rows, and not in what the gate reads.
func TestErasureOfOneSide(t *testing.T) {
	for _, cache := range []int{0, 1} {
		g := openGatewayWith(t, linkFiles(1), cache)
		a, _ := g.mint(audienceAndLinking)
		b, _ := g.mint(audienceAndLinking)
		one := g.identify(a, "1").Person
		g.identify(b, "1")
		g.unlink(a)
		two := g.identify(a, "2").Person
		g.unlink(a)
		g.identify(a, "1")

		g.suppress(one)
		for range 2 {
			g.wantUnlinked(a)
			g.wantUnlinked(b)
			if _, err := g.Identify(ctx, g.identification(b, "1")); !errors.Is(err, subject.ErrShredded) {
				t.Fatal(err)
			}
			g.warm.put(subject.Slot(1)<<pageBits, nobody)
			g.wantUnlinked(a)
			g.reopen(nil)
		}
		g.sever(one)
		g.wantNoTrace(one, a, b, two)
		g.wantUnlinked(a)
		if list := g.links(a); len(list) != 1 || list[0].Person.Slot() != two.Slot() {
			t.Fatalf("%+v", list)
		}
		g.wantLinked(b, g.identify(b, "2").Person)
		g.identify(a, "2")

		g.suppress(a)
		g.sever(a)
		g.wantNoTrace(a, b, two)
		if list := g.links(two); len(list) != 1 || list[0].Device.Slot() != b.Slot() {
			t.Fatalf("%+v", list)
		}
		g.wantLinked(b, two)
	}
}

// Of two who are linked and both erased the first leaves nothing with the second, of whom nothing is recorded any more.
func TestErasureOfBothSides(t *testing.T) {
	for _, deviceFirst := range []bool{true, false} {
		g := openLinkGateway(t)
		device, _ := g.mint(audienceAndLinking)
		person := g.identify(device, "1").Person
		first, second := person, device
		if deviceFirst {
			first, second = device, person
		}
		g.suppress(first)
		g.suppress(second)
		leaves := g.leaves()
		g.sever(first)
		g.wantNoTrace(first, second)
		if g.leaves() != leaves+1 { // of the deletion
			t.Fatal("something was recorded of whoever is suppressed")
		}
		g.sever(second)
		if n := g.rowsUnder([]byte(linkTable)) + g.rowsUnder([]byte(standingTable)) + g.rowsUnder([]byte(recordTable)); n != 0 {
			t.Fatalf("%d rows are left", n)
		}
	}
}

// wantNoTrace reads every row of the subjects that are left with their keys, and looks for the slot of one that is gone.
func (g *gateway) wantNoTrace(erased subject.Subject, left ...subject.Subject) {
	g.t.Helper()
	for _, s := range left {
		list, err := g.rowsOf(s)
		if err != nil {
			g.t.Fatal(err)
		}
		if slices.ContainsFunc(list, func(x linkTime) bool { return x.Other == erased.Slot() }) {
			g.t.Fatalf("slot %d is left in the links of %d", erased.Slot(), s.Slot())
		}
		row, err := g.openStanding(s)
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			g.t.Fatal(err)
		}
		if err == nil && row.Link != nil && row.Link.Person == erased.Slot() {
			g.t.Fatalf("slot %d is left in the standing of %d", erased.Slot(), s.Slot())
		}
	}
	if n := g.rowsUnder(erased.RowKey(linkTable, nil)); n != 0 {
		g.t.Fatal("its own row is left")
	}
}

func (g *gateway) rowsOf(s subject.Subject) (list []linkTime, err error) {
	err = g.state.View(func(r state.Reader) error {
		list, err = readLinks(r, s)
		return err
	})
	return list, err
}

// The times kept of a subject are bounded, on both sides alike; of a person whom more devices are linked to, the oldest link ends.
func TestLinksAreBounded(t *testing.T) {
	g := openLinkGateway(t)
	device, _ := g.mint(audienceAndLinking)
	for n := range maxLinks + 3 {
		g.forward(time.Second)
		g.identify(device, strconv.Itoa(n%2))
	}
	list := g.links(device)
	if len(list) != maxLinks || !list[0].Since.Equal(g.now().Add(-(maxLinks-1)*time.Second)) || !list[maxLinks-1].Until.IsZero() {
		t.Fatalf("%d links since %v", len(list), list[0].Since)
	}
	if n := len(g.links(list[0].Person)) + len(g.links(list[1].Person)); n != maxLinks {
		t.Fatalf("%d times of persons, %d of the device", n, maxLinks)
	}

	devices := make([]subject.Subject, maxLinks+1)
	for i := range devices {
		devices[i], _ = g.mint(audienceAndLinking)
		g.forward(time.Second)
		g.identify(devices[i], "crowd")
	}
	g.wantUnlinked(devices[0])
	g.wantLinked(devices[1], g.links(devices[1])[0].Person)
	if crowd := g.links(devices[1])[0].Person; len(g.links(crowd)) != maxLinks || len(g.links(devices[0])) != 0 {
		t.Fatal("the oldest stays")
	}
}
