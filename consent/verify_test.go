package consent

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/octroi/octroi/pseudonymize/subject"
)

// provenFiles are records of each kind, as files.
func provenFiles(t *testing.T, g *gateway) map[string][]byte {
	t.Helper()
	c := g.banner(map[string]bool{"audience": true, "personal": false})
	c.Who.Mint, c.Signals, c.ClientTime = true, Signals{GPC: true, GCM: map[string]string{"ad_storage": "denied"}}, testStart
	c.Evidence = Circumstances{URLPath: "/p/1", UAFamily: "Firefox", IPPrefix: "192.0.2.0/24"}
	r, err := g.Record(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := g.subjects.Device(*r.Minted)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Withdraw(ctx, s, Withdrawal{Site: testSite, Method: "banner"}); err != nil {
		t.Fatal(err)
	}
	person, err := g.Declare(ctx, Declaration{Site: testSite, Persons: []subject.Identifier{loyalty(t, "5")}, Purposes: []string{"service"}})
	if err != nil {
		t.Fatal(err)
	}
	r, err = g.Record(ctx, g.banner(map[string]bool{"audience": false}))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]Proven{}
	if files["refusal"], err = g.Refused(r.RecordID); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		slot   subject.Slot
		number uint32
	}{"consent": {s.Slot(), 1}, "withdrawal": {s.Slot(), 2}, "declaration": {person.Slot(), 1}} {
		if files[name], err = g.Resolve(x.slot, x.number); err != nil {
			t.Fatal(err)
		}
	}
	stripped := files["consent"]
	stripped.Opening = stripped.Opening.Strip()
	stripped.Record = readable(&stripped.Opening)
	files["stripped"] = stripped
	out := map[string][]byte{}
	for name, p := range files {
		if out[name], err = json.Marshal(p); err != nil {
			t.Fatal(err)
		}
		out[name] = append(out[name], '\n')
	}
	return out
}

// C10: one flipped, removed or added byte anywhere in the file of a record is an error.
func TestEveryByteOfARecordCounts(t *testing.T) {
	t.Parallel()
	g := openGateway(t)
	verify := func(text []byte) error {
		p, err := ParseProven(text)
		if err != nil {
			return err
		}
		return VerifyProven(p, g.signer.Verifier())
	}
	for name, text := range provenFiles(t, g) {
		if err := verify(text); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range text {
			if name != "consent" && i%10 != 0 { // every byte of one kind, some of each other
				continue
			}
			changed := bytes.Clone(text)
			changed[i] ^= 1 << (i % 8)
			if verify(changed) == nil {
				t.Errorf("%s: byte %d of %d, flipped, is not found: %q", name, i, len(text), around(text, i))
			}
			if name != "consent" || i%10 != 0 {
				continue
			}
			changed[i] = text[i] ^ 0x20 // the other case of a letter
			if verify(changed) == nil {
				t.Errorf("%s: byte %d in another case is not found: %q", name, i, around(text, i))
			}
			if i < len(text)-1 && verify(append(bytes.Clone(text[:i]), text[i+1:]...)) == nil {
				t.Errorf("%s: byte %d removed is not found: %q", name, i, around(text, i))
			}
			if verify(bytes.Join([][]byte{text[:i], {' '}, text[i:]}, nil)) == nil {
				t.Errorf("%s: a space before byte %d is not found", name, i)
			}
		}
	}
}

func around(text []byte, i int) []byte { return text[max(0, i-20):min(len(text), i+20)] }

// A record that is whole but is not what the log holds does not verify.
func TestVerifyProvenRefusesMixtures(t *testing.T) {
	g := openGateway(t)
	s, _ := g.mint(allPurposes)
	g.choose(s, allPurposes)
	records, err := g.History(s)
	if err != nil {
		t.Fatal(err)
	}
	a, b := records[0], records[1]
	for name, p := range map[string]Proven{
		"proof of another":  {a.Record, a.Opening, b.Proof, a.Notice},
		"record of another": {b.Record, a.Opening, a.Proof, a.Notice},
		"no notice":         {a.Record, a.Opening, a.Proof, ""},
		"other notice":      {a.Record, a.Opening, a.Proof, a.Notice + " "},
	} {
		if VerifyProven(p, g.signer.Verifier()) == nil {
			t.Errorf("%s: verified", name)
		}
	}
	if err := VerifyProven(a, g.signer.Verifier()); err != nil {
		t.Fatal(err)
	}
}

// C10: the proofs are those of RFC 6962, by an independent implementation.
func TestProofsByAnotherImplementation(t *testing.T) {
	g := openGateway(t)
	s, _ := g.mint(allPurposes)
	for range 12 {
		g.choose(s, allPurposes)
	}
	records, err := g.History(s)
	if err != nil || len(records) != 13 {
		t.Fatal(len(records), err)
	}
	for i, p := range records {
		head, err := g.signer.Verifier().Open(p.Proof.Checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		leaf := p.Opening.Leaf()
		hashes := make([][]byte, len(p.Proof.Hashes))
		for j := range hashes {
			hashes[j] = p.Proof.Hashes[j][:]
		}
		err = proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(p.Proof.Index), uint64(head.Size),
			rfc6962.DefaultHasher.HashLeaf(leaf[:]), hashes, head.Root[:])
		if err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
}

// C11: the receipt is a Kantara 1.1.0 object that proves itself, and names neither the subject nor what strips with it.
func TestReceipt(t *testing.T) {
	g := openGateway(t)
	s, r := g.mint(allPurposes)
	public := receiptKey.Public().(ed25519.PublicKey)
	claims, err := VerifyReceipt(r.Receipt, public, g.signer.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	if claims.ConsentReceiptID == r.RecordID || claims.Version != "KI-CR-v1.1.0" || claims.Services[0].Purposes[0].Purpose != "audience" ||
		claims.Services[0].Purposes[0].Termination != "2026-09-01" || claims.PIIControllers[0].Controller != "Shop SA" ||
		claims.Services[0].Purposes[0].PIICategory[0] != "url" || len(claims.Services[0].Purposes[0].PIICategory) != 1 {
		t.Fatalf("%+v", claims)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(r.Receipt, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(payload, []byte(s.ID())) || claims.PIIPrincipalID == s.ID() || !claims.Octroi.Opening.Stripped() {
		t.Fatal("the receipt names the subject")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(payload, &members); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"version", "jurisdiction", "consentTimestamp", "collectionMethod", "consentReceiptID", "publicKey", "language", "piiPrincipalId",
		"piiControllers", "policyUrl", "services", "sensitive", "spiCat",
	} {
		if members[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	other := g.choose(s, allPurposes)
	again, err := VerifyReceipt(other.Receipt, public, g.signer.Verifier())
	if err != nil || again.PIIPrincipalID == claims.PIIPrincipalID || again.Octroi.Secret == claims.Octroi.Secret {
		t.Fatal("two receipts share what should be each one's own", err)
	}
	w, err := g.Withdraw(ctx, s, Withdrawal{Site: testSite})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyReceipt(w.Receipt, public, g.signer.Verifier()); err != nil {
		t.Fatal(err)
	}
}

func TestEveryByteOfAReceiptCounts(t *testing.T) {
	t.Parallel()
	g := openGateway(t)
	_, r := g.mint(allPurposes)
	public := receiptKey.Public().(ed25519.PublicKey)
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i := range len(r.Receipt) {
		x := strings.IndexByte(alphabet, r.Receipt[i])
		if x < 0 || i%9 != 0 && i < len(r.Receipt)-90 { // each character of the signature, each ninth of what it signs
			continue
		}
		changed := r.Receipt[:i] + string(alphabet[x^1<<(i%6)]) + r.Receipt[i+1:]
		if _, err := VerifyReceipt(changed, public, g.signer.Verifier()); err == nil {
			t.Fatalf("character %d changed from %q is not found", i, r.Receipt[i])
		}
		if last := i == len(r.Receipt)-1; last { // it has bits to spare
			changed = r.Receipt[:i] + string(alphabet[x^1])
			if _, err := VerifyReceipt(changed, public, g.signer.Verifier()); err == nil {
				t.Fatal("a padding bit is not found")
			}
		}
	}
}

// RFC 8725: no other algorithm, key, kind of token, and no claims beside the record.
func TestForgedReceipts(t *testing.T) {
	g := openGateway(t)
	_, r := g.mint(allPurposes)
	public := receiptKey.Public().(ed25519.PublicKey)
	good, err := VerifyReceipt(r.Receipt, public, g.signer.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	sign := func(method jwt.SigningMethod, key any, typ, kid string, change func(*ReceiptClaims)) string {
		claims := *good
		change(&claims)
		token := jwt.NewWithClaims(method, &claims)
		token.Header["typ"], token.Header["kid"] = typ, kid
		text, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	same := func(*ReceiptClaims) {}
	kid, typ := KeyID(public), receiptType
	eddsa := jwt.SigningMethodEdDSA
	if _, err := VerifyReceipt(sign(eddsa, receiptKey, typ, kid, same), public, g.signer.Verifier()); err != nil {
		t.Fatal("the forger cannot even copy:", err)
	}
	for name, token := range map[string]string{
		"none":      sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, typ, kid, same),
		"HMAC":      sign(jwt.SigningMethodHS256, []byte(public), typ, kid, same),
		"other key": sign(eddsa, logKey, typ, kid, same),
		"typ":       sign(eddsa, receiptKey, "octroi-stream+jwt", kid, same),
		"kid":       sign(eddsa, receiptKey, typ, "x", same),
		"id":        sign(eddsa, receiptKey, typ, kid, func(c *ReceiptClaims) { c.ConsentReceiptID = "x" }),
		"secret":    sign(eddsa, receiptKey, typ, kid, func(c *ReceiptClaims) { c.Octroi.Secret = "AAAAAAAAAAAAAAAAAAAAAA" }),
		"time":      sign(eddsa, receiptKey, typ, kid, func(c *ReceiptClaims) { c.ConsentTimestamp++ }),
		"purposes":  sign(eddsa, receiptKey, typ, kid, func(c *ReceiptClaims) { c.Services = nil }),
		"leaf":      sign(eddsa, receiptKey, typ, kid, func(c *ReceiptClaims) { c.Octroi.Proof.Index++ }),
		"empty":     "",
	} {
		if _, err := VerifyReceipt(token, public, g.signer.Verifier()); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

// RFC 8037 appendix A.3.
func TestKeyID(t *testing.T) {
	key, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	if got := KeyID(key); got != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Fatal(got)
	}
}

// RFC 8725: a snapshot is of one algorithm, kind and site, and has an end.
func TestForgedSnapshots(t *testing.T) {
	g := openGateway(t)
	served, err := g.Snapshot(testSite, "en")
	if err != nil {
		t.Fatal(err)
	}
	good, err := g.readSnapshot("shop", served.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(method jwt.SigningMethod, key any, typ string, change func(*snapshotClaims)) string {
		claims := *good
		change(&claims)
		token := jwt.NewWithClaims(method, &claims)
		token.Header["typ"] = typ
		text, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	same := func(*snapshotClaims) {}
	key := bytes.Repeat([]byte{5}, 32)
	if _, err := g.readSnapshot("shop", sign(jwt.SigningMethodHS256, key, snapshotType, same)); err != nil {
		t.Fatal("the forger cannot even copy:", err)
	}
	for name, text := range map[string]string{
		"none":      sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, snapshotType, same),
		"HS512":     sign(jwt.SigningMethodHS512, key, snapshotType, same),
		"EdDSA":     sign(jwt.SigningMethodEdDSA, receiptKey, snapshotType, same),
		"other key": sign(jwt.SigningMethodHS256, make([]byte, 32), snapshotType, same),
		"typ":       sign(jwt.SigningMethodHS256, key, "JWT", same),
		"no end":    sign(jwt.SigningMethodHS256, key, snapshotType, func(c *snapshotClaims) { c.ExpiresAt = nil }),
		"two sites": sign(jwt.SigningMethodHS256, key, snapshotType, func(c *snapshotClaims) { c.Audience = append(c.Audience, "other") }),
		"no site":   sign(jwt.SigningMethodHS256, key, snapshotType, func(c *snapshotClaims) { c.Audience = nil }),
		"empty":     "",
	} {
		if _, err := g.readSnapshot("shop", text); err != ErrSnapshot {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadSnapshot(f *testing.F) {
	g := openGateway(f)
	served, err := g.Snapshot(testSite, "en")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(served.Snapshot)
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := g.readSnapshot("shop", text); err == nil && text != served.Snapshot {
			t.Fatal("forged")
		}
	})
}
