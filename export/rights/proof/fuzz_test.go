package proof_test

import (
	"crypto/ed25519"
	"testing"

	"github.com/octroi/octroi/export/rights/proof"
)

// fuzz: what a token that anybody signs again says is what is read, and it has one text; what is not signed is never read.
func fuzz[T any](f *testing.F, typ string, k ed25519.PrivateKey, verify func(string, ed25519.PublicKey) (T, error), sign func(T, ed25519.PrivateKey) (string, error)) {
	for _, s := range statements(f) {
		token, err := s.sign(k)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(claimsOf(f, token), token)
	}
	f.Fuzz(func(t *testing.T, claims, unsigned string) {
		if _, err := verify(unsigned, public(stranger)); err == nil {
			t.Fatal("nobody's signature holds")
		}
		token := forge(t, headerOf(typ), claims, k)
		v, err := verify(token, public(k))
		if err != nil {
			return
		}
		if again, err := sign(v, k); err != nil || again != token {
			t.Fatalf("%q is read and signed again as %q, %v", claims, again, err)
		}
	})
}

func FuzzVerifyApproval(f *testing.F) { fuzz(f, "approval", dpo, proof.VerifyApproval, proof.Approve) }

func FuzzVerifySchedule(f *testing.F) {
	fuzz(f, "schedule", dpo, proof.VerifySchedule, proof.ApproveSchedule)
}

func FuzzVerifyRewrite(f *testing.F) {
	fuzz(f, "rewrite", custodian, proof.VerifyRewrite, proof.SignRewrite)
}

func FuzzVerifyPurge(f *testing.F) { fuzz(f, "purge", custodian, proof.VerifyPurge, proof.SignPurge) }

func FuzzVerifyCollected(f *testing.F) {
	fuzz(f, "collected", custodian, proof.VerifyCollected, proof.SignCollected)
}

func FuzzVerifyCertificate(f *testing.F) {
	facts, v := gateway(f, steps()...)
	token, err := proof.SignCertificate(certificate(facts), custodian)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(claimsOf(f, token), token)
	verify := func(s string, k ed25519.PublicKey) (proof.Certificate, error) {
		return proof.VerifyCertificate(s, k, v)
	}
	fuzz(f, "certificate", custodian, verify, proof.SignCertificate)
}

func FuzzParseLeaf(f *testing.F) {
	for _, leaf := range steps() {
		o, err := proof.NewLeaf(leaf)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(o.Core)
	}
	f.Fuzz(func(t *testing.T, core []byte) {
		l, err := proof.ParseLeaf(core)
		if err != nil {
			return
		}
		if again, err := proof.NewLeaf(l); err != nil || string(again.Core) != string(core) {
			t.Fatalf("%q is read and written as %q, %v", core, again.Core, err)
		}
	})
}
