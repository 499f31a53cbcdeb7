package pseudonymize_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// linkPolicy has two consents with coarse times, and a purpose without a subject.
func linkPolicy(t testing.TB) *policies.Policy {
	t.Helper()
	const head = "version: 1\ntitle: {en: X}\nnotice: {url: \"https://shop.example/privacy\", text: {en: \"We use it.\"}}\nretention: P13M\n" +
		"recipients: [{destination: warehouse, name: Shop SA, country: FR, role: controller}]\n"
	const consents = "basis: consent\nminimum_proof: asserted\ntime_precision: %s\nevent_types: [page_view]\n"
	p, err := policies.Load(fstest.MapFS{
		"audience.yaml": {Data: fmt.Appendf(nil, "purpose: audience\n"+head+consents+"fields: {campaign: keep}\n", "PT1H")},
		"quality.yaml":  {Data: fmt.Appendf(nil, "purpose: quality\n"+head+consents, "PT1M")},
		"linking.yaml":  {Data: []byte("purpose: linking\n" + head + "basis: consent\nminimum_proof: asserted\nevent_types: []\n")},
		"counting.yaml": {Data: []byte("purpose: counting\n" + head + "basis: legitimate_interest\nassessment: LIA-1\nsubject: none\ntime_precision: P1D\nevent_types: [page_view]\n")},
		"events.yaml":   {Data: []byte("event_types:\n  page_view: {channel: web, stage: awareness}\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// linkedEvent is an event of a device that is linked to a person.
func linkedEvent(t *testing.T) (g *gate, e pseudonymize.Event, device, person subject.Subject) {
	g = openGateOf(t, linkPolicy(t))
	site := consent.Site{Name: "shop", Jurisdiction: "FR", Controller: "Shop SA"}
	r, err := g.ledger.Record(t.Context(), consent.Choice{
		Site: site, Who: consent.Who{Mint: true}, Purposes: map[string]bool{"audience": true, "quality": true, "linking": true},
		Method: "banner", Language: "en", Entity: "shop",
	})
	if err != nil {
		t.Fatal(err)
	}
	device, err = g.subjects.Device(*r.Minted)
	if err != nil {
		t.Fatal(err)
	}
	card, err := subject.Normalise("loyalty", "4711", "FR")
	if err != nil {
		t.Fatal(err)
	}
	link, err := g.ledger.Identify(t.Context(), consent.Identification{Site: site, Device: device, Persons: []subject.Identifier{card}, Method: "login_claim"})
	if err != nil {
		t.Fatal(err)
	}
	return g, g.event(t, device, pseudonymize.Field{Name: "campaign", Text: "spring"}), device, link.Person
}

func linkDestination(t *testing.T) *pseudonymize.Destination {
	t.Helper()
	d, err := pseudonymize.NewDestination("warehouse", []string{"audience", "quality", "linking", "counting"}, bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A linked event is sealed under the keys of both, and opens with neither alone.
func TestLinkedEventDiesWithEither(t *testing.T) {
	for _, ofPerson := range []bool{false, true} {
		g, e, device, person := linkedEvent(t)
		sealed, err := e.Seal(spoolKey)
		if err != nil {
			t.Fatal(err)
		}
		if sealed.Device != device.Slot() || sealed.Person != person.Slot() {
			t.Fatalf("slots %d and %d", sealed.Device, sealed.Person)
		}
		back, err := sealed.Open(g.subjects, spoolKey)
		if err != nil {
			t.Fatal(err)
		}
		if row, ok := linkDestination(t).Project(&back); !ok || !row.Linked() || row.PersonSlot != person.Slot() || row.DeviceSlot != device.Slot() {
			t.Fatalf("%v %+v", ok, row)
		}
		one := sealed
		one.Person = 0
		if _, err := one.Open(g.subjects, spoolKey); !errors.Is(err, pseudonymize.ErrSealed) {
			t.Fatal("it opens under the device's key alone:", err)
		}
		s := device
		if ofPerson {
			s = person
		}
		if _, err := g.ledger.Sever(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if _, err := sealed.Open(g.subjects, spoolKey); !errors.Is(err, subject.ErrShredded) {
			t.Fatal(err)
		}
	}
}

// Linking allows nothing but the person: no finer time, no field; and stands beside a consent of the device only.
func TestLinkingAddsThePersonOnly(t *testing.T) {
	_, e, device, person := linkedEvent(t)
	d := linkDestination(t)
	for _, x := range []struct {
		revoked string // of the device, or "person's …"
		left    string
	}{
		{"", "audience counting linking quality"},
		{"linking", "audience counting quality"},
		{"person's linking", "audience counting quality"},
		{"audience", "counting linking quality"},
		{"person's audience", "counting linking quality"},
		{"quality", "audience counting linking"},
		{"audience quality", "counting"},
		{"person's audience quality", "counting"},
		{"person's counting", "audience counting linking quality"},
	} {
		purposes, ofPerson := strings.CutPrefix(x.revoked, "person's ")
		kept, ok := e.Without(func(slot subject.Slot, purpose string, _ uint64) bool {
			return (slot == device.Slot() && !ofPerson || slot == person.Slot() && ofPerson) && slices.Contains(strings.Fields(purposes), purpose)
		})
		if !ok {
			t.Fatalf("%q: nothing is left", x.revoked)
		}
		row, _ := d.Project(&kept)
		var left []string
		for _, g := range row.Grants {
			left = append(left, g.Purpose)
		}
		slices.Sort(left)
		linked, ofDevice := slices.Contains(left, "linking"), x.left != "counting"
		if strings.Join(left, " ") != x.left || row.Linked() != linked || (row.Person != nil) != linked || (row.Device != nil) != ofDevice {
			t.Errorf("%q: left is %q, device %v, person %v", x.revoked, left, row.Device, row.Person)
		}
		if linked && *row.Person != d.Pseudonym(person) {
			t.Error("another's pseudonym")
		}
		precision := time.Minute
		switch {
		case !ofDevice:
			precision = 24 * time.Hour
		case !slices.Contains(left, "quality"):
			precision = time.Hour
		}
		if !row.Time.Equal(row.Time.Truncate(precision)) || (row.Campaign == "spring") != slices.Contains(left, "audience") {
			t.Errorf("%q: time %v, campaign %q", x.revoked, row.Time, row.Campaign)
		}
	}
	if _, ok := e.Without(func(slot subject.Slot, purpose string, _ uint64) bool { return slot == device.Slot() }); !ok {
		t.Error("what rests on nobody is gone")
	}
}

// An erased person's slot is in the event, for whoever regates it.
func TestLinkedEventNamesItsPerson(t *testing.T) {
	g, e, device, person := linkedEvent(t)
	if e.Device() != device.Slot() || e.Person() != person.Slot() {
		t.Fatal(e.Device(), e.Person())
	}
	if err := g.state.Update(t.Context(), func(tx *state.Txn) error { return g.ledger.Suppress(tx, person) }); err != nil {
		t.Fatal(err)
	}
	if !g.ledger.RevokedAfter(e.Person(), "", e.Sequence()) {
		t.Fatal("its person's erasure is not seen")
	}
}
