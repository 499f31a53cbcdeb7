package spool_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/octroi/octroi/collector/spool"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// shop is a real ledger with one device that has consented to audience.
type shop struct {
	policy   *policies.Policy
	subjects *subject.Registry
	ledger   *consent.Ledger
	visitor  subject.Subject
}

func openShop(t testing.TB) *shop {
	t.Helper()
	policy, err := policies.Load(fstest.MapFS{
		"audience.yaml": {Data: []byte(`purpose: audience
version: 1
basis: consent
title: {en: Audience}
notice: {url: "https://shop.example/privacy", text: {en: "We measure our audience."}}
validity: P6M
minimum_proof: asserted
retention: P13M
event_types: [page_view]
fields: {landing: url_path, campaign: keep}
recipients: [{destination: warehouse, name: Shop SA, country: FR, role: controller}]
`)},
		"events.yaml": {Data: []byte("event_types:\n  page_view: {channel: web, stage: awareness}\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	sh := &shop{policy: policy}
	rows, err := state.Open(state.Options{Dir: t.TempDir(), Key: bytes.Repeat([]byte{1}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rows.Close() })
	sh.subjects, err = subject.OpenRegistry(subject.Options{State: rows, SlotFile: filepath.Join(t.TempDir(), "slots"), LookupKey: bytes.Repeat([]byte{2}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sh.subjects.Close() })
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))
	signer, err := evidence.NewSigner("octroi/test", key)
	if err != nil {
		t.Fatal(err)
	}
	sh.ledger, err = consent.Open(consent.Options{
		State: rows, Subjects: sh.subjects, Policy: policy, SnapshotKey: bytes.Repeat([]byte{4}, 32), Receipts: key, Checkpoints: signer,
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := sh.ledger.Record(t.Context(), consent.Choice{
		Site: consent.Site{Name: "shop", Jurisdiction: "FR", Controller: "Shop SA"}, Who: consent.Who{Mint: true},
		Purposes: map[string]bool{"audience": true}, Method: "banner", Language: "en", Entity: "shop",
	})
	if err != nil {
		t.Fatal(err)
	}
	if sh.visitor, err = sh.subjects.Device(*r.Minted); err != nil {
		t.Fatal(err)
	}
	return sh
}

func (sh *shop) event(t testing.TB, id string) pseudonymize.Event {
	t.Helper()
	typ, _ := sh.policy.EventType("page_view")
	now := time.Now().Add(time.Millisecond)
	grants, refusal, err := sh.ledger.Check(&consent.Query{Type: typ, Device: sh.visitor, Time: now, Received: now})
	if err != nil || !grants.Valid() {
		t.Fatalf("no grants: %v, %v", refusal, err)
	}
	e, err := pseudonymize.Apply(&grants, &pseudonymize.Touchpoint{
		ID: id, Site: "shop", Time: now, Received: now,
		Fields: []pseudonymize.Field{{Name: "campaign", Text: "spring"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var spoolKey = bytes.Repeat([]byte{7}, 32)

// An event that the gate let in comes out of the spool as it went in, across a restart, until its subject's key is destroyed.
func TestAppendRealEvents(t *testing.T) {
	sh := openShop(t)
	o := spool.Options{Dir: t.TempDir(), Key: spoolKey}
	s, err := spool.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	a, b := sh.event(t, "order-a"), sh.event(t, "order-b")
	duplicates, err := s.Append(t.Context(), []pseudonymize.Event{a, b, a})
	if err != nil || fmt.Sprint(duplicates) != "[false false true]" {
		t.Fatalf("%v, %v", duplicates, err)
	}
	if _, err := s.Append(t.Context(), []pseudonymize.Event{sh.event(t, "order-c"), {}}); !errors.Is(err, spool.ErrEvent) {
		t.Fatalf("with a zero event: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = spool.Open(o); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	records, err := s.Peek(t.Context(), 0, 10)
	if err != nil || len(records) != 2 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for i, want := range []pseudonymize.Event{a, b} {
		got, err := records[i].Event.Open(sh.subjects, spoolKey)
		if err != nil || got.ID() != want.ID() || got.Site() != "shop" || got.Device() != sh.visitor.Slot() {
			t.Fatalf("event %d: %v", i, err)
		}
	}
	if least, ok := s.LeastSequence(); !ok || least != min(a.Sequence(), b.Sequence()) {
		t.Fatalf("least sequence: %d, %v", least, ok)
	}
	if err := sh.subjects.Shred(t.Context(), sh.visitor); err != nil {
		t.Fatal(err)
	}
	if records, err = s.Peek(t.Context(), 0, 10); err != nil || len(records) != 2 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	if _, err := records[0].Event.Open(sh.subjects, spoolKey); !errors.Is(err, subject.ErrShredded) {
		t.Fatalf("an event of a destroyed subject: %v", err)
	}
	// No part of an event is on the disk in the clear.
	files, err := filepath.Glob(filepath.Join(o.Dir, "*.segment"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"order-a", "spring", "shop", "audience"} {
		if bytes.Contains(raw, []byte(secret)) {
			t.Errorf("%q is on the disk", secret)
		}
	}
}
