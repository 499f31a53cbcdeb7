package collector

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var tokenNow = time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)

func tokenKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(n)), ed25519.SeedSize)))
}

func testVerifier() *verifier {
	return newVerifier(tokenKey('k').Public().(ed25519.PublicKey), "node", func() time.Time { return tokenNow })
}

func goodClaims() TokenClaims {
	return TokenClaims{
		ID: "1", Issuer: "node", Subject: "till", Scopes: []string{ScopeEvents, ScopeConsent}, Sites: []string{"shop"}, Declare: []string{"service"},
		Expires: tokenNow.Add(time.Hour),
	}
}

func TestTokenRoundTrip(t *testing.T) {
	text, err := MakeToken(goodClaims(), tokenKey('k'))
	if err != nil {
		t.Fatal(err)
	}
	c, err := testVerifier().check(text)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Can(ScopeEvents) || !c.Can(ScopeConsent) || c.Can(ScopeImport) || c.Can(ScopeRights) || !c.For("shop") || c.For("other") ||
		c.Subject != "till" || len(c.Declare) != 1 || !c.Expires.Equal(tokenNow.Add(time.Hour)) {
		t.Errorf("reads %+v", c)
	}
	all := goodClaims()
	all.Sites = nil
	if !all.For("anything") {
		t.Error("a token without sites speaks for none")
	}
}

func TestMakeTokenRefuses(t *testing.T) {
	for name, change := range map[string]func(*TokenClaims){
		"no end":        func(c *TokenClaims) { c.Expires = time.Time{} },
		"no issuer":     func(c *TokenClaims) { c.Issuer = "" },
		"unknown scope": func(c *TokenClaims) { c.Scopes = []string{"everything"} },
		"stream of two": func(c *TokenClaims) { c.Scopes = []string{"stream:a admin"} },
		"too long":      func(c *TokenClaims) { c.Sites = []string{strings.Repeat("s", maxTokenBytes)} },
	} {
		c := goodClaims()
		change(&c)
		if _, err := MakeToken(c, tokenKey('k')); err == nil {
			t.Errorf("%s: a token was made", name)
		}
	}
}

// TestTokenRefuses: each forgery that RFC 8725 warns of, and each claim that must hold.
func TestTokenRefuses(t *testing.T) {
	public := tokenKey('k').Public().(ed25519.PublicKey)
	tests := []struct {
		name   string
		method jwt.SigningMethod
		key    any
		change func(header map[string]any, p *payload)
	}{
		{"another key", jwt.SigningMethodEdDSA, tokenKey('x'), nil},
		{"alg none", jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil},
		{"HS256 under the public key", jwt.SigningMethodHS256, []byte(public), nil},
		{"HS512 under the public key", jwt.SigningMethodHS512, []byte(public), nil},
		{"expired", jwt.SigningMethodEdDSA, tokenKey('k'), func(_ map[string]any, p *payload) { p.ExpiresAt = jwt.NewNumericDate(tokenNow) }},
		{"no end", jwt.SigningMethodEdDSA, tokenKey('k'), func(_ map[string]any, p *payload) { p.ExpiresAt = nil }},
		{"not yet", jwt.SigningMethodEdDSA, tokenKey('k'), func(_ map[string]any, p *payload) { p.NotBefore = jwt.NewNumericDate(tokenNow.Add(time.Minute)) }},
		{"another issuer", jwt.SigningMethodEdDSA, tokenKey('k'), func(_ map[string]any, p *payload) { p.Issuer = "other" }},
		{"no issuer", jwt.SigningMethodEdDSA, tokenKey('k'), func(_ map[string]any, p *payload) { p.Issuer = "" }},
		{"another audience", jwt.SigningMethodEdDSA, tokenKey('k'), func(_ map[string]any, p *payload) { p.Audience = jwt.ClaimStrings{"shop"} }},
		{"no audience", jwt.SigningMethodEdDSA, tokenKey('k'), func(_ map[string]any, p *payload) { p.Audience = nil }},
		{"a receipt", jwt.SigningMethodEdDSA, tokenKey('k'), func(h map[string]any, _ *payload) { h["typ"] = "octroi-receipt+jwt" }},
		{"type JWT", jwt.SigningMethodEdDSA, tokenKey('k'), func(h map[string]any, _ *payload) { h["typ"] = "JWT" }},
		{"no type", jwt.SigningMethodEdDSA, tokenKey('k'), func(h map[string]any, _ *payload) { delete(h, "typ") }},
		{"type is a number", jwt.SigningMethodEdDSA, tokenKey('k'), func(h map[string]any, _ *payload) { h["typ"] = 1 }},
	}
	for _, test := range tests {
		p := payload{
			RegisteredClaims: jwt.RegisteredClaims{
				Issuer: "node", Audience: jwt.ClaimStrings{tokenAudience}, ExpiresAt: jwt.NewNumericDate(tokenNow.Add(time.Hour)),
			},
			Scope: ScopeEvents,
		}
		token := jwt.NewWithClaims(test.method, &p)
		token.Header["typ"] = tokenType
		if test.change != nil {
			test.change(token.Header, &p)
		}
		text, err := token.SignedString(test.key)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := testVerifier().check(text); !errors.Is(err, ErrToken) || c != nil {
			t.Errorf("%s: %v, want ErrToken", test.name, err)
		}
	}
}

func TestTokenRefusesChangedBytes(t *testing.T) {
	text, err := MakeToken(goodClaims(), tokenKey('k'))
	if err != nil {
		t.Fatal(err)
	}
	v := testVerifier()
	for i := range text {
		changed := []byte(text)
		changed[i] ^= 1
		if _, err := v.check(string(changed)); err == nil {
			t.Errorf("byte %d was changed and the token holds", i)
		}
	}
	for _, s := range []string{"", ".", "..", text + ".", "." + text, text + "=", text + "\n", strings.Repeat("a", maxTokenBytes+1) + ".."} {
		if _, err := v.check(s); !errors.Is(err, ErrToken) {
			t.Errorf("%.20q: %v", s, err)
		}
	}
}

// FuzzToken: nothing but what the key signed is a token, and nothing makes the check panic.
func FuzzToken(f *testing.F) {
	text, err := MakeToken(goodClaims(), tokenKey('k'))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("eyJhbGciOiJub25lIiwidHlwIjoib2N0cm9pLWFjY2Vzcytqd3QifQ.eyJzY29wZSI6ImV2ZW50czp3cml0ZSJ9.")
	f.Add("..")
	v := testVerifier()
	signed := text[strings.LastIndexByte(text, '.'):]
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := v.check(s); err == nil && (s != text || c == nil || !strings.HasSuffix(s, signed)) {
			t.Fatalf("%q is taken for a token", s)
		}
	})
}

func TestKeySet(t *testing.T) {
	// RFC 8037, appendix A.2 and A.3: a public key and its thumbprint.
	key, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(jwks(key), &set); err != nil || len(set.Keys) != 1 {
		t.Fatalf("%v in %s", err, jwks(key))
	}
	want := map[string]string{
		"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
		"use": "sig", "alg": "EdDSA",
	}
	for name, value := range want {
		if set.Keys[0][name] != value {
			t.Errorf("%s is %q, want %q", name, set.Keys[0][name], value)
		}
	}
}
