package pseudonymize_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
	"pgregory.net/rapid"
)

// gate is a real ledger with one device-level subject who has consented to audience.
type gate struct {
	policy   *policies.Policy
	state    *state.Store
	subjects *subject.Registry
	ledger   *consent.Ledger
	visitor  subject.Subject
}

var spoolKey = bytes.Repeat([]byte{7}, 32)

func openGate(t testing.TB) *gate {
	t.Helper()
	return openGateOf(t, loadPolicy(t))
}

func openGateOf(t testing.TB, policy *policies.Policy) *gate {
	t.Helper()
	g := &gate{policy: policy}
	var err error
	if g.state, err = state.Open(state.Options{Dir: t.TempDir(), Key: bytes.Repeat([]byte{1}, 32)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.state.Close() })
	g.subjects, err = subject.OpenRegistry(subject.Options{State: g.state, SlotFile: filepath.Join(t.TempDir(), "slots"), LookupKey: bytes.Repeat([]byte{2}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.subjects.Close() })
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))
	signer, err := evidence.NewSigner("octroi/test", key)
	if err != nil {
		t.Fatal(err)
	}
	g.ledger, err = consent.Open(consent.Options{
		State: g.state, Subjects: g.subjects, Policy: g.policy, SnapshotKey: bytes.Repeat([]byte{4}, 32), Receipts: key, Checkpoints: signer,
	})
	if err != nil {
		t.Fatal(err)
	}
	g.visitor = g.consentingDevice(t)
	return g
}

// loadPolicy is a policy of two consent purposes that treat the same field differently, for two destinations.
func loadPolicy(t testing.TB) *policies.Policy {
	t.Helper()
	purpose := func(id, destination, url, extra string) *fstest.MapFile {
		return &fstest.MapFile{Data: fmt.Appendf(nil, `purpose: %s
version: 1
basis: consent
title: {en: %[1]s}
notice: {url: "https://shop.example/privacy", text: {en: "We use what you do for %[1]s."}}
validity: P6M
minimum_proof: asserted
retention: P13M
event_types: [page_view, purchase]
fields: {landing: %[3]s, campaign: keep%[4]s}
recipients: [{destination: %[2]s, name: Shop SA, country: FR, role: controller}]
`, id, destination, url, extra)}
	}
	p, err := policies.Load(fstest.MapFS{
		"audience.yaml": purpose("audience", "warehouse", "url_path", ", value: keep"),
		"quality.yaml":  purpose("quality", "lab", "keep", ""),
		"service.yaml": {Data: []byte(`purpose: service
version: 1
basis: contract
title: {en: Order}
notice: {url: "https://shop.example/privacy", text: {en: "We need it for your order."}}
retention: P5Y
event_types: [purchase]
fields: {value: keep}
recipients: [{destination: accounting, name: Shop SA, country: FR, role: controller}]
`)},
		"events.yaml": {Data: []byte(`event_types:
  page_view: {channel: web, stage: awareness}
  purchase: {channel: web, stage: purchase}
`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (g *gate) consentingDevice(t testing.TB) subject.Subject {
	t.Helper()
	r, err := g.ledger.Record(context.Background(), consent.Choice{
		Site: consent.Site{Name: "shop", Jurisdiction: "FR", Controller: "Shop SA"}, Who: consent.Who{Mint: true},
		Purposes: map[string]bool{"audience": true, "quality": true}, Method: "banner", Language: "en", Entity: "shop",
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := g.subjects.Device(*r.Minted)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (g *gate) check(t testing.TB, s subject.Subject) consent.Grants {
	t.Helper()
	typ, _ := g.policy.EventType("page_view")
	grants, refusal, err := g.ledger.Check(&consent.Query{Type: typ, Device: s, Time: time.Now().Add(time.Millisecond), Received: time.Now().Add(time.Millisecond)})
	if err != nil || !grants.Valid() {
		t.Fatalf("no grants: %v %v", refusal, err)
	}
	return grants
}

func (g *gate) event(t *testing.T, s subject.Subject, fields ...pseudonymize.Field) pseudonymize.Event {
	t.Helper()
	grants := g.check(t, s)
	e, err := pseudonymize.Apply(&grants, &pseudonymize.Touchpoint{
		ID: "e1", Site: "shop", Time: time.Now(), Received: time.Now(), Fields: fields, Value: pseudonymize.Money{Minor: 1230, Currency: "EUR"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func destination(t *testing.T, name, purpose string) *pseudonymize.Destination {
	t.Helper()
	d, err := pseudonymize.NewDestination(name, []string{purpose}, bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestZeroValuesAreRefused(t *testing.T) {
	if _, err := pseudonymize.Apply(nil, &pseudonymize.Touchpoint{}); !errors.Is(err, pseudonymize.ErrNoGrants) {
		t.Errorf("Apply without grants: %v", err)
	}
	if _, err := pseudonymize.Apply(new(consent.Grants), &pseudonymize.Touchpoint{}); !errors.Is(err, pseudonymize.ErrNoGrants) {
		t.Errorf("Apply with zero grants: %v", err)
	}
	var e pseudonymize.Event
	if _, err := e.Seal(spoolKey); !errors.Is(err, pseudonymize.ErrNoGrants) || e.Valid() {
		t.Errorf("sealing the zero Event: %v", err)
	}
}

func TestEachDestinationSeesItsPurposesOnly(t *testing.T) {
	g := openGate(t)
	e := g.event(t, g.visitor, pseudonymize.Field{Name: "landing", Text: "https://shop.example/p?q=secret"}, pseudonymize.Field{Name: "campaign", Text: "spring"}, pseudonymize.Field{Name: "unnamed", Text: "x"})
	warehouse, lab := destination(t, "warehouse", "audience"), destination(t, "lab", "quality")
	w, ok := warehouse.Project(&e)
	if !ok {
		t.Fatal("warehouse receives nothing")
	}
	l, ok := lab.Project(&e)
	if !ok {
		t.Fatal("lab receives nothing")
	}
	if w.Properties["landing"] != "https://shop.example/p" || l.Properties["landing"] != "https://shop.example/p?q=secret" {
		t.Errorf("treatments: warehouse %q, lab %q", w.Properties["landing"], l.Properties["landing"])
	}
	if w.Value.Minor != 1230 || l.Value.Currency != "" {
		t.Errorf("the amount is audience's alone: warehouse %v, lab %v", w.Value, l.Value)
	}
	if _, ok := w.Properties["unnamed"]; ok || w.Campaign != "spring" || len(w.Grants) != 1 || w.Grants[0].Purpose != "audience" {
		t.Errorf("warehouse row %+v", w)
	}
	if w.EventID == l.EventID || *w.Device == *l.Device || w.Grants[0].Ref == l.Grants[0].Ref || w.ReceivedAt.Equal(l.ReceivedAt) {
		t.Error("two destinations share an event id, pseudonym, reference or receipt time")
	}
	if d := time.Since(w.ReceivedAt); d < 0 || d > pseudonymize.ReceiptGrid+time.Minute {
		t.Errorf("receipt time is off by %s", d)
	}
	slot, record, err := warehouse.Resolve(w.Grants[0].Ref)
	if err != nil || slot != g.visitor.Slot() {
		t.Fatalf("resolving: %v %v", slot, err)
	}
	if _, err := g.ledger.Resolve(slot, record); err != nil {
		t.Errorf("a row's reference leads to no record: %v", err)
	}
	if _, _, err := lab.Resolve(w.Grants[0].Ref); !errors.Is(err, pseudonymize.ErrReference) {
		t.Errorf("another destination resolves the reference: %v", err)
	}
}

// A destination sees the pseudonyms of those whose grants open it, and no others: one that the device's consent opens does not learn whose device
// it is, nor one that a person's contract opens which device the person has.
func TestDestinationsLearnNoLink(t *testing.T) {
	g := openGate(t)
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
	typ, _ := g.policy.EventType("purchase")
	now := time.Now().Add(time.Second)
	grants, refusal, err := g.ledger.Check(&consent.Query{Type: typ, Device: g.visitor, Person: person, Time: now, Received: now, Imported: true})
	if err != nil || len(grants.List()) != 3 {
		t.Fatal(len(grants.List()), refusal, err)
	}
	e, err := pseudonymize.Apply(&grants, &pseudonymize.Touchpoint{ID: "e1", Site: "shop", Time: now, Received: now})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		purposes       []string
		device, person bool
	}{{[]string{"audience"}, true, false}, {[]string{"service"}, false, true}, {[]string{"audience", "service"}, true, true}} {
		d, err := pseudonymize.NewDestination("d", test.purposes, bytes.Repeat([]byte{9}, 32))
		if err != nil {
			t.Fatal(err)
		}
		row, ok := d.Project(&e)
		if !ok || (row.Device != nil) != test.device || (row.Person != nil) != test.person ||
			(row.DeviceSlot != 0) != test.device || (row.PersonSlot != 0) != test.person {
			t.Errorf("%v: device %v in slot %d, person %v in slot %d", test.purposes, row.Device, row.DeviceSlot, row.Person, row.PersonSlot)
		}
	}
	// What a withdrawal strips, it strips of its pseudonym too.
	kept, ok := e.Without(func(slot subject.Slot, _ string, _ uint64) bool { return slot == g.visitor.Slot() })
	d, err := pseudonymize.NewDestination("d", []string{"audience", "service"}, bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if row, sees := d.Project(&kept); !ok || !sees || row.Device != nil || row.Person == nil {
		t.Errorf("after the device's withdrawal its pseudonym is still there: %v", row.Device)
	}
}

func TestSealedEventsOpenAndDieWithTheirSubject(t *testing.T) {
	g := openGate(t)
	e := g.event(t, g.visitor, pseudonymize.Field{Name: "campaign", Text: "spring"})
	sealed, err := e.Seal(spoolKey)
	if err != nil {
		t.Fatal(err)
	}
	back, err := sealed.Open(g.subjects, spoolKey)
	if err != nil {
		t.Fatal(err)
	}
	d := destination(t, "warehouse", "audience")
	a, _ := d.Project(&e)
	b, _ := d.Project(&back)
	if fmt.Sprintf("%+v %v", a.Properties, a.Grants) != fmt.Sprintf("%+v %v", b.Properties, b.Grants) || a.EventID != b.EventID || !a.Time.Equal(b.Time) || a.Campaign != b.Campaign {
		t.Errorf("opened event differs: %+v, %+v", a, b)
	}
	for i := range sealed.Payload {
		changed := sealed
		changed.Payload = bytes.Clone(sealed.Payload)
		changed.Payload[i] ^= 1
		if _, err := changed.Open(g.subjects, spoolKey); !errors.Is(err, pseudonymize.ErrSealed) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	other := g.consentingDevice(t)
	for name, change := range map[string]func(*pseudonymize.Sealed){
		"sequence": func(s *pseudonymize.Sealed) { s.Sequence++ },
		"received": func(s *pseudonymize.Sealed) { s.ReceivedMillis++ },
		"device":   func(s *pseudonymize.Sealed) { s.Device = other.Slot() },
		"person":   func(s *pseudonymize.Sealed) { s.Person = other.Slot() },
	} {
		changed := sealed
		change(&changed)
		if _, err := changed.Open(g.subjects, spoolKey); !errors.Is(err, pseudonymize.ErrSealed) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
	if _, err := g.ledger.Sever(context.Background(), g.visitor); err != nil {
		t.Fatal(err)
	}
	if _, err := sealed.Open(g.subjects, spoolKey); !errors.Is(err, subject.ErrShredded) {
		t.Errorf("after the subject's key was destroyed: %v", err)
	}
}

// Invariant 1: after a revocation no row of the purpose is left, and the other purposes' rows stay.
func TestWithoutStripsWhatWasRevoked(t *testing.T) {
	g := openGate(t)
	e := g.event(t, g.visitor, pseudonymize.Field{Name: "campaign", Text: "spring"})
	if _, err := g.ledger.Withdraw(context.Background(), g.visitor, consent.Withdrawal{Site: consent.Site{Name: "shop"}, Purposes: []string{"audience"}}); err != nil {
		t.Fatal(err)
	}
	kept, ok := e.Without(g.ledger.RevokedAfter)
	if !ok {
		t.Fatal("quality was not revoked")
	}
	if _, ok := destination(t, "warehouse", "audience").Project(&kept); ok {
		t.Error("a row for a revoked purpose")
	}
	if _, ok := destination(t, "lab", "quality").Project(&kept); !ok {
		t.Error("the other purpose's row is gone")
	}
	if _, err := g.ledger.Withdraw(context.Background(), g.visitor, consent.Withdrawal{Site: consent.Site{Name: "shop"}}); err != nil {
		t.Fatal(err)
	}
	if _, ok := e.Without(g.ledger.RevokedAfter); ok {
		t.Error("an event is left with every purpose revoked")
	}
}

// What is applied, sealed, opened and projected is what the purposes allow, whatever the fields hold.
func TestAnyFieldsSurviveTheSpool(t *testing.T) {
	g := openGate(t)
	d := destination(t, "lab", "quality")
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringN(1, 200, 800).Draw(rt, "text")
		name := rapid.SampledFrom([]string{"landing", "campaign", "other", "value", ""}).Draw(rt, "name")
		e := g.event(t, g.visitor, pseudonymize.Field{Name: name, Text: text})
		sealed, err := e.Seal(spoolKey)
		if err != nil {
			rt.Fatal(err)
		}
		back, err := sealed.Open(g.subjects, spoolKey)
		if err != nil {
			rt.Fatal(err)
		}
		row, ok := d.Project(&back)
		if !ok {
			rt.Fatal("no row")
		}
		want := map[string]string{}
		if name == "landing" {
			want["landing"] = text
		}
		if fmt.Sprint(row.Properties) != fmt.Sprint(want) || (name == "campaign") != (row.Campaign == text && text != "") {
			rt.Fatalf("field %q: %q became %v, campaign %q", name, text, row.Properties, row.Campaign)
		}
	})
}

func BenchmarkApplySeal(b *testing.B) {
	g := openGate(b)
	grants := g.check(b, g.visitor)
	fields := []pseudonymize.Field{{Name: "landing", Text: "https://shop.example/p/1?gclid=x"}, {Name: "campaign", Text: "spring"}}
	now := time.Now()
	for b.Loop() {
		e, err := pseudonymize.Apply(&grants, &pseudonymize.Touchpoint{ID: "e1", Site: "shop", Time: now, Received: now, Fields: fields})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.Seal(spoolKey); err != nil {
			b.Fatal(err)
		}
	}
}

func TestNothingPrintsKeys(t *testing.T) {
	g := openGate(t)
	grants := g.check(t, g.visitor)
	e := g.event(t, g.visitor)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		if got := fmt.Sprintf(verb+verb, e, &e); strings.ReplaceAll(got, "[event]", "") != "" {
			t.Errorf("%s prints an event as %q", verb, got)
		}
		if got := fmt.Sprintf(verb+verb, grants, &grants); strings.ReplaceAll(got, "[grants]", "") != "" {
			t.Errorf("%s prints grants as %q", verb, got)
		}
	}
}

// A Sealer's events open, each under a nonce of its own, whoever came before them in the same request.
func TestSealerChangesSubjects(t *testing.T) {
	g := openGate(t)
	other := g.consentingDevice(t)
	sealer, nonces := &pseudonymize.Sealer{None: spoolKey}, map[string]bool{}
	for i, s := range []subject.Subject{g.visitor, g.visitor, other, g.visitor, other, other} {
		if i == 4 {
			sealer.Forget()
		}
		e := g.event(t, s, pseudonymize.Field{Name: "campaign", Text: fmt.Sprint("c", i)})
		sealed, err := sealer.Seal(&e)
		if err != nil {
			t.Fatal(err)
		}
		sealed.Payload = bytes.Clone(sealed.Payload)
		nonces[string(sealed.Payload[1:13])] = true
		back, err := sealed.Open(g.subjects, spoolKey)
		if err != nil || back.Device() != s.Slot() {
			t.Fatalf("event %d: %v", i, err)
		}
		if row, _ := destination(t, "warehouse", "audience").Project(&back); row.Campaign != fmt.Sprint("c", i) {
			t.Errorf("event %d became %q", i, row.Campaign)
		}
	}
	if len(nonces) != 6 {
		t.Errorf("%d nonces for 6 events", len(nonces))
	}
}
