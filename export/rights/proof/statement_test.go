package proof_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/octroi/octroi/export/rights/proof"
)

// statementOf is one kind of statement, for tests that hold of each.
type statementOf struct {
	typ    string
	key    ed25519.PrivateKey
	valid  any
	sign   func(ed25519.PrivateKey) (string, error)
	verify func(string, ed25519.PublicKey) (any, error)
}

func statements(t testing.TB) []statementOf {
	facts, log := gateway(t, steps()...)
	c := certificate(facts)
	any2 := func(v any, err error) (any, error) { return v, err }
	return []statementOf{
		{
			"approval", dpo, job(), func(k ed25519.PrivateKey) (string, error) { return proof.Approve(job(), k) },
			func(s string, k ed25519.PublicKey) (any, error) {
				v, err := proof.VerifyApproval(s, k)
				return any2(v, err)
			},
		},
		{
			"schedule", dpo, schedule(), func(k ed25519.PrivateKey) (string, error) { return proof.ApproveSchedule(schedule(), k) },
			func(s string, k ed25519.PublicKey) (any, error) {
				v, err := proof.VerifySchedule(s, k)
				return any2(v, err)
			},
		},
		{
			"rewrite", custodian, rewrite(), func(k ed25519.PrivateKey) (string, error) { return proof.SignRewrite(rewrite(), k) },
			func(s string, k ed25519.PublicKey) (any, error) {
				v, err := proof.VerifyRewrite(s, k)
				return any2(v, err)
			},
		},
		{
			"purge", custodian, purge(), func(k ed25519.PrivateKey) (string, error) { return proof.SignPurge(purge(), k) },
			func(s string, k ed25519.PublicKey) (any, error) {
				v, err := proof.VerifyPurge(s, k)
				return any2(v, err)
			},
		},
		{
			"collected", custodian, collected(), func(k ed25519.PrivateKey) (string, error) { return proof.SignCollected(collected(), k) },
			func(s string, k ed25519.PublicKey) (any, error) {
				v, err := proof.VerifyCollected(s, k)
				return any2(v, err)
			},
		},
		{
			"certificate", custodian, c, func(k ed25519.PrivateKey) (string, error) { return proof.SignCertificate(c, k) },
			func(s string, k ed25519.PublicKey) (any, error) {
				v, err := proof.VerifyCertificate(s, k, log)
				return any2(v, err)
			},
		},
	}
}

func TestStatements(t *testing.T) {
	for _, s := range statements(t) {
		t.Run(s.typ, func(t *testing.T) {
			token, err := s.sign(s.key)
			if err != nil {
				t.Fatal(err)
			}
			again, err := s.sign(s.key)
			if err != nil || again != token {
				t.Errorf("the same statement has another text: %v", err)
			}
			back, err := s.verify(token, public(s.key))
			if err != nil {
				t.Fatal(err)
			}
			want := s.valid
			if c, ok := want.(proof.Certificate); ok {
				c.Custodian = back.(proof.Certificate).Custodian
				want = c
			}
			if marshal(t, back) != marshal(t, want) {
				t.Errorf("signed %s, verified %s", marshal(t, want), marshal(t, back))
			}
			t.Run("keys", func(t *testing.T) { s.otherKeys(t, token) })
			t.Run("headers", func(t *testing.T) { s.otherHeaders(t, token) })
			t.Run("spellings", func(t *testing.T) { s.otherSpellings(t, token) })
			t.Run("bytes", func(t *testing.T) { s.flips(t, token) })
		})
	}
}

func (s *statementOf) refuses(t *testing.T, what, token string, k ed25519.PublicKey, want error) {
	t.Helper()
	v, err := s.verify(token, k)
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
	if err != nil && !reflect.ValueOf(v).IsZero() {
		t.Errorf("%s: refused, and answered all the same", what)
	}
}

func (s *statementOf) otherKeys(t *testing.T, token string) {
	s.refuses(t, "stranger's key", token, public(stranger), proof.ErrSignature)
	s.refuses(t, "no key", token, nil, proof.ErrSignature)
	s.refuses(t, "half a key", token, public(s.key)[:16], proof.ErrSignature)
	for _, bad := range []ed25519.PrivateKey{nil, s.key[:32]} {
		if _, err := s.sign(bad); !errors.Is(err, proof.ErrStatement) {
			t.Errorf("signed with no key: %v", err)
		}
	}
}

// RFC 8725 section 2.1 and 2.8: whoever writes the token chooses neither algorithm, nor key, nor kind.
func (s *statementOf) otherHeaders(t *testing.T, token string) {
	claims, pub := claimsOf(t, token), public(s.key)
	unsigned := func(header string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "."
	}
	typ := `"typ":"octroi-` + s.typ + `+jwt"}`
	for _, alg := range []string{"none", "None", ""} {
		s.refuses(t, "alg "+alg, unsigned(`{"alg":"`+alg+`",`+typ), pub, proof.ErrSignature)
	}
	confused := unsigned(`{"alg":"HS256",` + typ)
	mac := hmac.New(sha256.New, pub)
	mac.Write([]byte(strings.TrimSuffix(confused, ".")))
	s.refuses(t, "HS256 with the public key", confused+base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), pub, proof.ErrSignature)
	for _, header := range []string{
		`{"alg":"EdDSA"}`, `{"alg":"EdDSA","typ":"JWT"}`, headerOf("stream"), headerOf("access"), headerOf("receipt"), ` ` + headerOf(s.typ),
		`{"typ":"octroi-` + s.typ + `+jwt","alg":"EdDSA"}`, `{"alg":"EdDSA","jwk":{},` + typ, `{"alg":"EdDSA","crit":["x"],` + typ,
	} {
		s.refuses(t, header, forge(t, header, claims, s.key), pub, proof.ErrSignature)
	}
	// A statement of any other kind by the same key is none of this one.
	for _, other := range statements(t) {
		if other.typ != s.typ {
			swapped, err := other.sign(s.key)
			if err != nil {
				t.Fatal(err)
			}
			s.refuses(t, "a "+other.typ, swapped, pub, proof.ErrSignature)
		}
	}
}

// The same claims spelled otherwise, signed by the right key.
func (s *statementOf) otherSpellings(t *testing.T, token string) {
	claims, pub := claimsOf(t, token), public(s.key)
	for what, other := range map[string]string{
		"white space":     " " + claims,
		"line end":        claims + "\n",
		"unknown member":  `{"x":1,` + claims[1:],
		"repeated member": `{"v":1,` + claims[1:],
		"other case":      strings.Replace(claims, `"v":1`, `"V":1`, 1),
		"escape":          strings.Replace(claims, `"v":1`, `"\u0076":1`, 1),
		"number":          strings.Replace(claims, `"v":1`, `"v":1.0`, 1),
		"offset":          strings.Replace(claims, `00Z"`, `00+00:00"`, 1),
		"two values":      claims + claims,
		"array":           "[" + claims + "]",
		"null":            "null",
		"nothing":         "",
		"deep":            strings.Repeat("[", 20_000),
	} {
		if other == claims {
			t.Fatalf("%s changes nothing", what)
		}
		s.refuses(t, what, forge(t, headerOf(s.typ), other, s.key), pub, proof.ErrStatement)
	}
	s.refuses(t, "version 2", forge(t, headerOf(s.typ), strings.Replace(claims, `"v":1`, `"v":2`, 1), s.key), pub, proof.ErrStatement)
	s.refuses(t, "too long", token+strings.Repeat("A", 1<<20), pub, proof.ErrStatement)
	s.refuses(t, "no dots", strings.ReplaceAll(token, ".", ""), pub, proof.ErrStatement)
	s.refuses(t, "line break", token[:len(token)-4]+"\n"+token[len(token)-4:], pub, proof.ErrStatement)
	s.refuses(t, "padding", token+"=", pub, proof.ErrStatement)
	s.refuses(t, "a fourth part", token+".AAAA", pub, proof.ErrStatement)
}

// A bit of a statement does not change unseen, wherever it is.
func (s *statementOf) flips(t *testing.T, token string) {
	step := max(1, len(token)/200)
	for i := 0; i < len(token); i += step {
		flipped := []byte(token)
		flipped[i] ^= 1 << (i / step % 7)
		if _, err := s.verify(string(flipped), public(s.key)); err == nil {
			t.Fatalf("a bit of byte %d is not seen", i)
		}
	}
}
