package consent

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

func (g *gateway) update(fn func(*state.Txn) error) {
	g.t.Helper()
	if err := g.state.Update(ctx, fn); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) suppress(s subject.Subject) {
	g.t.Helper()
	g.update(func(t *state.Txn) error { return g.Suppress(t, s) })
}

func (g *gateway) sever(s subject.Subject) Severance {
	g.t.Helper()
	x, err := g.Sever(ctx, s)
	if err != nil {
		g.t.Fatal(err)
	}
	return x
}

// person is a person who consented and is declared.
func (g *gateway) person(card string) subject.Subject {
	g.t.Helper()
	c := g.banner(allPurposes)
	c.Who.Persons = []subject.Identifier{loyalty(g.t, card)}
	if _, err := g.Record(ctx, c); err != nil {
		g.t.Fatal(err)
	}
	s, err := g.Declare(ctx, Declaration{Site: testSite, Persons: c.Who.Persons, Purposes: []string{"service"}})
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

// refusesAll checks that nothing is admitted or recorded of a person whose erasure has begun.
func (g *gateway) refusesAll(s subject.Subject, card string) {
	g.t.Helper()
	g.want(g.query("page_view", noSubject, s), NoConsent)
	g.want(g.query("purchase", noSubject, s), NoConsent)
	g.want(g.query("page_view", s, noSubject), NoConsent)
	byCard, own := g.banner(allPurposes), g.banner(allPurposes)
	byCard.Who.Persons, own.Who.Device = []subject.Identifier{loyalty(g.t, card)}, s
	for _, c := range []Choice{byCard, own} {
		if _, err := g.Record(ctx, c); !errors.Is(err, subject.ErrShredded) {
			g.t.Fatal("a choice was recorded:", err)
		}
	}
	if _, err := g.Withdraw(ctx, s, Withdrawal{Site: testSite}); !errors.Is(err, subject.ErrShredded) {
		g.t.Fatal("a withdrawal was recorded:", err)
	}
	_, err := g.Declare(ctx, Declaration{Site: testSite, Persons: byCard.Who.Persons, Purposes: []string{"service"}})
	if !errors.Is(err, subject.ErrShredded) {
		g.t.Fatal("a declaration was recorded:", err)
	}
}

// From Suppress on nothing of the subject is admitted or recorded: with its revocation forgotten, over restarts, and with a page of standings
// that is read again. Its own history is there still.
func TestSuppress(t *testing.T) {
	for _, cache := range []int{0, 1} {
		g := openGatewayWith(t, testFiles(), cache)
		s := g.person("1")
		other, _ := g.mint(allPurposes)
		grants := g.want(g.query("page_view", noSubject, s), "", "audience")
		g.suppress(s)
		if !g.RevokedAfter(s.Slot(), "audience", grants.Sequence()) || !g.RevokedAfter(s.Slot(), "service", grants.Sequence()) {
			t.Fatal("spooled events must be dropped")
		}
		sequence, leaves := g.Sequence(), g.leaves()
		g.suppress(s)
		if g.Sequence() != sequence {
			t.Fatal("it was revoked twice")
		}
		if err := g.ForgetRevocations(ctx, sequence); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			g.refusesAll(s, "1")
			g.warm.put(subject.Slot(1)<<pageBits, nobody) // with a cache of one page the subject's is thrown out
			g.refusesAll(s, "1")
			g.want(g.query("page_view", other, noSubject), "", "audience")
			records, err := g.History(s)
			if err != nil || len(records) != 2 || g.leaves() != leaves {
				t.Fatal(len(records), err)
			}
			if _, err := g.Current(s); err != nil {
				t.Fatal(err)
			}
			if _, ok, err := g.Severed(ctx, s.Slot()); ok || err != nil {
				t.Fatal("not severed yet:", ok, err)
			}
			g.update(func(t *state.Txn) error { return g.ForgetSevered(t, s.Slot()) }) // in vain: it is not severed
			g.reopen(nil)
		}
	}
}

// What comes in one group with the suppression finds it, though nothing of it is in memory yet.
func TestSuppressInOneGroup(t *testing.T) {
	g := openGateway(t)
	s, _ := g.mint(allPurposes)
	g.update(func(tx *state.Txn) error {
		if err := g.Suppress(tx, s); err != nil {
			return err
		}
		if err := g.alive(tx, s.Slot()); !errors.Is(err, subject.ErrShredded) {
			return fmt.Errorf("alive: %w", err)
		}
		return nil
	})
}

func TestSever(t *testing.T) {
	g := openGateway(t)
	other, _ := g.mint(allPurposes)
	s, r := g.mint(allPurposes)
	for range 3 {
		g.choose(s, allPurposes)
	}
	grants := g.want(g.query("page_view", s, noSubject), "", "audience")
	g.choose(s, map[string]bool{"audience": false}) // no consent: no proof of it is kept
	slot, prefix := s.Slot(), s.RowKey(recordTable, nil)
	g.suppress(s)
	g.forward(time.Hour)
	x := g.sever(s)
	if until := testStart.AddDate(5, 0, 0); x.Kept != 4 || !x.Until.Equal(until) || x.Leaf != g.leaves()-1 {
		t.Fatalf("%+v, want until %v", x, until)
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
	if n := g.rowsUnder(prefix); n != 0 {
		t.Fatalf("%d records are left", n)
	}
	if _, err := g.History(s); !errors.Is(err, ErrNoRecord) {
		t.Fatal(err)
	}
	sequence, leaves := g.Sequence(), g.leaves()
	for range 2 { // again, and after a restart, where nobody finds the subject any more
		c := g.banner(allPurposes)
		c.Who.Device = s // a request that found the subject before it was erased
		if _, err := g.Record(ctx, c); !errors.Is(err, subject.ErrShredded) {
			t.Fatal(err)
		}
		if again := g.sever(s); again != x {
			t.Fatalf("%+v, first %+v", again, x)
		}
		if again, ok, err := g.Severed(ctx, slot); again != x || !ok || err != nil {
			t.Fatalf("%+v %v %v", again, ok, err)
		}
		g.reopen(nil)
	}
	g.update(func(tx *state.Txn) error { return g.ForgetSevered(tx, slot) })
	if _, ok, err := g.Severed(ctx, slot); ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := g.Sever(ctx, s); !errors.Is(err, subject.ErrShredded) {
		t.Fatal(err)
	}
	c := g.banner(allPurposes)
	c.Who.Device = s
	if _, err := g.Record(ctx, c); !errors.Is(err, subject.ErrShredded) || g.Sequence() != sequence || g.leaves() != leaves {
		t.Fatal("something was recorded after the end:", err)
	}
	g.want(g.query("page_view", other, noSubject), "", "audience")
	if _, err := g.Sever(ctx, subject.Subject{}); !errors.Is(err, subject.ErrUnknown) {
		t.Fatal(err)
	}
	g.wantDeletion(x.Leaf, map[string]int{"records": 5, "proofs_kept": 4})
}

// wantDeletion checks a deletion's leaf (C10).
func (g *gateway) wantDeletion(leaf int64, counts map[string]int) {
	g.t.Helper()
	found := false
	err := g.Openings(func(index int64, o evidence.Opening) error {
		if index != leaf {
			return nil
		}
		found = true
		var c core
		if err := decodeCanonical(o.Core, &c); err != nil || c.Event.Type != eventDeletion || fmt.Sprint(c.Counts) != fmt.Sprint(counts) {
			g.t.Errorf("leaf %d: %+v %v", index, c, err)
		}
		return nil
	})
	if err != nil || !found {
		g.t.Fatal(found, err)
	}
}

// A subject of thousands of records: its history is read one by one, and a crash after any of the changes that sever it ends in the same state.
func TestSeverThousandsOfRecords(t *testing.T) {
	const records = 601 // of which a change strips severChunk
	for crash := range 4 {
		g := openGateway(t)
		s, r := g.mint(allPurposes)
		c := g.banner(allPurposes)
		again := act{event: eventConsent, site: testSite, proof: policies.RegisteredBanner, notice: c.Notice, purposes: g.weigh(&c).granted}
		for range records / 100 {
			g.update(func(tx *state.Txn) error {
				for range 100 {
					if _, err := g.append(tx, s, &again); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if crash == 0 {
			seen := 0
			if err := g.Records(s, func(p Proven) error { seen++; return VerifyProven(p, g.signer.Verifier()) }); err != nil || seen != records {
				t.Fatal(seen, err)
			}
		}
		g.suppress(s)
		until := g.now().AddDate(5, 0, 0)
		for range crash { // chunks that were durable when the crash came
			g.update(func(tx *state.Txn) error {
				e, err := g.Ledger.suppress(tx, s)
				if err != nil {
					return err
				}
				return g.severSome(tx, s, &e)
			})
		}
		if crash > 0 {
			g.forward(24 * time.Hour)
			g.reopen(nil)
			g.refusesDevice(s)
		}
		x := g.sever(s)
		if x.Kept != records || !x.Until.Equal(until) {
			t.Fatalf("%d changes before the crash: %+v", crash, x)
		}
		g.wantDeletion(x.Leaf, map[string]int{"records": records, "proofs_kept": records})
		if n := g.rowsUnder([]byte(keptPrefix)); n != records {
			t.Fatalf("%d proofs are kept", n)
		}
		if n := g.rowsUnder(s.RowKey(recordTable, nil)) + g.rowsUnder(s.RowKey(standingTable, nil)); n != 0 {
			t.Fatalf("%d rows are left", n)
		}
		if _, err := g.subjects.Device(*r.Minted); !errors.Is(err, subject.ErrUnknown) {
			t.Fatal(err)
		}
	}
}

func (g *gateway) refusesDevice(s subject.Subject) {
	g.t.Helper()
	g.want(g.query("page_view", s, noSubject), NoConsent)
	c := g.banner(allPurposes)
	c.Who.Device = s
	if _, err := g.Record(ctx, c); !errors.Is(err, subject.ErrShredded) {
		g.t.Fatal(err)
	}
	if _, err := g.History(s); !errors.Is(err, ErrNoRecord) {
		g.t.Fatal(err)
	}
}

// receiptOf opens a receipt.
func (g *gateway) receiptOf(r Recorded) *ReceiptClaims {
	g.t.Helper()
	claims, err := VerifyReceipt(r.Receipt, receiptKey.Public().(ed25519.PublicKey), g.signer.Verifier())
	if err != nil {
		g.t.Fatal(err)
	}
	return claims
}

// Art. 17(3)(e): who has the receipt finds the proof when the subject is gone. It verifies, and leads to no one and to no other record.
func TestKept(t *testing.T) {
	g := openGateway(t)
	c := g.banner(allPurposes)
	c.Who.Mint, c.Signals, c.Evidence = true, Signals{TCString: "CANARY"}, Circumstances{URLPath: "/canary", UAFamily: "Firefox"}
	r, err := g.Record(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := g.subjects.Device(*r.Minted)
	if err != nil {
		t.Fatal(err)
	}
	second := g.choose(s, allPurposes)
	secret := g.receiptOf(r).Octroi.Secret
	if _, err := g.Kept(secret); !errors.Is(err, ErrNoRecord) {
		t.Fatal("kept before the erasure:", err)
	}
	id := s.ID()
	x := g.sever(s)
	g.reopen(nil)
	p, err := g.Kept(secret)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = ParseProven(text); err != nil {
		t.Fatal(err)
	}
	if err := VerifyProven(p, g.signer.Verifier()); err != nil || !p.Opening.Stripped() || p.Notice == "" {
		t.Fatal("the kept proof does not verify:", err)
	}
	for _, x := range []string{"CANARY", "canary", "Firefox", id, r.RecordID, second.RecordID, g.receiptOf(second).ConsentReceiptID} {
		if bytes.Contains(p.Record, []byte(x)) || bytes.Contains(p.Opening.Core, []byte(x)) {
			t.Errorf("the kept proof holds %q", x)
		}
	}
	if !bytes.Contains(p.Opening.Core, []byte(g.receiptOf(r).ConsentReceiptID)) {
		t.Error("the kept proof is not that of the receipt")
	}
	for _, wrong := range []string{"", "x", secret[:21], secret + "A", "AAAAAAAAAAAAAAAAAAAAAA"} {
		if _, err := g.Kept(wrong); !errors.Is(err, ErrNoRecord) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	g.millis.Store(x.Until.UnixMilli()) // its time is over, dropped or not
	if _, err := g.Kept(secret); !errors.Is(err, ErrNoRecord) {
		t.Fatal(err)
	}
}

// C12: proofs go when their time is over, not before, with one leaf that counts them.
func TestForgetKept(t *testing.T) {
	g := openGateway(t)
	var ends []time.Time
	var secrets []string
	for range 3 {
		s, r := g.mint(allPurposes)
		secrets = append(secrets, g.receiptOf(r).Octroi.Secret)
		for range 3 {
			g.choose(s, allPurposes)
		}
		ends = append(ends, g.sever(s).Until)
		g.forward(24 * time.Hour)
	}
	if n, err := g.ForgetKept(ctx, ends[0]); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	leaves := g.leaves()
	if n, err := g.ForgetKept(ctx, ends[1].Add(time.Millisecond)); n != 8 || err != nil || g.leaves() != leaves+1 {
		t.Fatal(n, err, g.leaves()-leaves)
	}
	g.wantDeletion(leaves, map[string]int{"kept_proofs": 8})
	for i, secret := range secrets {
		if _, err := g.Kept(secret); (err == nil) != (i == 2) {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if n, err := g.ForgetKept(ctx, ends[1]); n != 0 || err != nil || g.leaves() != leaves+1 {
		t.Fatal(n, err)
	}
}

func TestForgetManyKept(t *testing.T) {
	g := openGateway(t)
	const n = deleteChunk + 700
	for from := 0; from < n; from += 500 {
		g.update(func(tx *state.Txn) error {
			for i := from; i < min(n, from+500); i++ {
				tx.Set(keptKey(receiptID(be32(uint32(i)))), canonical(keptRow{
					Version: 1, Until: 5, Salt: make([]byte, 16), StrippableHash: make([]byte, 32), Core: json.RawMessage("{}"),
				}))
			}
			return nil
		})
	}
	leaves := g.leaves()
	if dropped, err := g.ForgetKept(ctx, g.now()); dropped != n || err != nil || g.leaves() != leaves+2 {
		t.Fatal(dropped, err, g.leaves()-leaves)
	}
	if n := g.rowsUnder([]byte(keptPrefix)); n != 0 {
		t.Fatalf("%d are left", n)
	}
}

// Records so large that fewer than a chunk of them fit into one change.
func TestSeverLargeRecords(t *testing.T) {
	g := openGateway(t)
	s, _ := g.mint(allPurposes)
	c := g.banner(allPurposes)
	large := act{
		event: eventConsent, site: testSite, proof: policies.RegisteredBanner, notice: c.Notice, purposes: g.weigh(&c).granted,
		entity: strings.Repeat("x", 200<<10),
	}
	for range 9 {
		g.update(func(tx *state.Txn) error { _, err := g.append(tx, s, &large); return err })
	}
	if x := g.sever(s); x.Kept != 10 || g.rowsUnder([]byte(keptPrefix)) != 10 {
		t.Fatalf("%+v", x)
	}
}

// A record that does not open any more keeps nobody from being erased.
func TestSeverPassesOverDamage(t *testing.T) {
	g := openGateway(t)
	s, _ := g.mint(allPurposes)
	g.choose(s, allPurposes)
	g.update(func(tx *state.Txn) error {
		tx.Set(s.RowKey(recordTable, be32(1)), []byte("damaged"))
		tx.Set(s.RowKey(recordTable, []byte("longer")), []byte("damaged"))
		return nil
	})
	if x := g.sever(s); x.Kept != 1 || g.rowsUnder(s.RowKey(recordTable, nil)) != 0 {
		t.Fatalf("%+v", x)
	}
}
