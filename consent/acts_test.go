package consent

import (
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// C11: whoever lost a receipt gets it again, and it says what the first one said; also after the policy went on.
func TestReceiptAgain(t *testing.T) {
	g := openGateway(t)
	s, first := g.mint(allPurposes)
	other, _ := g.mint(allPurposes)
	withdrawn, err := g.Withdraw(ctx, s, Withdrawal{Site: testSite, Purposes: []string{"audience"}, Method: "privacy_page"})
	if err != nil {
		t.Fatal(err)
	}
	public := receiptKey.Public().(ed25519.PublicKey)
	for n, given := range map[uint32]string{1: first.Receipt, 2: withdrawn.Receipt} {
		want, err := VerifyReceipt(given, public, g.signer.Verifier())
		if err != nil {
			t.Fatal(err)
		}
		text, err := g.Receipt(s, n, testSite)
		if err != nil {
			t.Fatal(err)
		}
		got, err := VerifyReceipt(text, public, g.signer.Verifier())
		if err != nil {
			t.Fatalf("receipt %d: %v", n, err)
		}
		got.Octroi.Proof = want.Octroi.Proof // that of the present head
		if a, b := string(canonical(got)), string(canonical(want)); a != b {
			t.Errorf("receipt %d says\n%s\nand said\n%s", n, a, b)
		}
	}
	if _, err := g.Receipt(s, 3, testSite); !errors.Is(err, ErrNoRecord) {
		t.Error(err)
	}
	if _, err := g.Receipt(other, 2, testSite); !errors.Is(err, ErrNoRecord) {
		t.Error(err)
	}
	if _, err := g.Receipt(subject.Subject{}, 1, testSite); !errors.Is(err, ErrNoRecord) {
		t.Error(err)
	}
	files := testFiles()
	files["audience.yaml"].Data = []byte(purposeYAML("audience", "consent", 2, "page_view, purchase", "validity: P6M\n"))
	g.reopen(files)
	text, err := g.Receipt(s, 1, testSite)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyReceipt(text, public, g.signer.Verifier()); err != nil {
		t.Error("after the policy went on: ", err)
	}
}

func TestActs(t *testing.T) {
	g := openGateway(t)
	s, first := g.mint(allPurposes)
	for range 5 {
		g.choose(s, map[string]bool{"audience": false})
		g.choose(s, map[string]bool{"audience": true})
	}
	list, total, err := g.Acts(s, 4)
	if err != nil || total != 11 || len(list) != 4 {
		t.Fatal(len(list), total, err)
	}
	if !slices.IsSortedFunc(list, func(a, b Act) int { return int(b.Number) - int(a.Number) }) || list[0].Number != 11 {
		t.Errorf("not the newest first: %v", list)
	}
	if a := list[0]; a.Type != eventConsent || a.State != ConsentGiven || !a.HasReceipt || a.Notice == nil || a.Site != testSite.Name ||
		len(a.Purposes) != 1 || !a.Purposes[0].Granted || a.Purposes[0].ValidUntil.IsZero() {
		t.Errorf("%+v", a)
	}
	if a := list[1]; a.State != ConsentWithdrawn || a.Purposes[0].Granted || !a.Purposes[0].ValidUntil.IsZero() {
		t.Errorf("%+v", a)
	}
	a, p, err := g.Prove(s, 1)
	if err != nil || a.RecordID != first.RecordID || VerifyProven(p, g.signer.Verifier()) != nil || p.Notice == "" {
		t.Errorf("%+v %v", a, err)
	}
	if _, _, err := g.Prove(s, 12); !errors.Is(err, ErrNoRecord) {
		t.Error(err)
	}
	if _, _, err := g.Acts(subject.Subject{}, 4); !errors.Is(err, ErrNoRecord) {
		t.Error(err)
	}
}

// C10: a page must not pass over what was removed.
func TestActsMissARemovedRecord(t *testing.T) {
	g := openGateway(t)
	s, _ := g.mint(allPurposes)
	g.choose(s, map[string]bool{"audience": true})
	err := g.state.Update(ctx, func(t *state.Txn) error {
		t.Delete(s.RowKey(recordTable, be32(1)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.Acts(s, 4); !errors.Is(err, ErrStored) {
		t.Error(err)
	}
}
