package collector

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/octroi/octroi/collector/wire/native"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// signers are a site's keys of each kind, made once.
var signers = sync.OnceValue(func() map[string]crypto.Signer {
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	large, err2 := rsa.GenerateKey(rand.Reader, 2048)
	if err := errors.Join(err1, err2); err != nil {
		panic(err)
	}
	return map[string]crypto.Signer{"EdDSA": tokenKey('s'), "ES256": p256, "RS256": large}
})

func testClaims(t testing.TB, key crypto.PublicKey) *claimVerifier {
	t.Helper()
	v, err := newClaimVerifier(&Site{Name: "shop", Region: "FR", Login: key}, "node", func() time.Time { return tokenNow })
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// goodClaim is the payload of a claim that is believed.
func goodClaim() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": "shop", "aud": "node", "jti": "login-1", "iat": tokenNow.Unix(), "exp": tokenNow.Add(5 * time.Minute).Unix(),
		"identifiers": map[string]string{"user": "anna", "phone": "06 12 34 56 78"},
	}
}

func signClaim(t testing.TB, method jwt.SigningMethod, key any, header map[string]any, payload jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, payload)
	token.Header["typ"] = claimType
	for name, value := range header {
		if token.Header[name] = value; value == nil {
			delete(token.Header, name)
		}
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Whatever kind of key a site has, its claims are believed, in that key's algorithm; and MakeClaim makes such.
func TestClaim(t *testing.T) {
	for algorithm, key := range signers() {
		text, err := MakeClaim(LoginClaim{
			Site: "shop", Node: "node", ID: "login-1", Issued: tokenNow, Expires: tokenNow.Add(5 * time.Minute),
			Identifiers: map[string]string{"phone": "06 12 34 56 78", "user": "anna"},
		}, key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := testClaims(t, key.Public()).check(text)
		if err != nil {
			t.Errorf("%s: %v", algorithm, err)
			continue
		}
		phone, err := subject.Normalise("phone", "+33612345678", "")
		if err != nil {
			t.Fatal(err)
		}
		if got.id != "login-1" || len(got.persons) != 2 || got.persons[0] != phone && got.persons[1] != phone ||
			!got.issued.Equal(tokenNow) || !got.expires.Equal(tokenNow.Add(5*time.Minute)) {
			t.Errorf("%s: %+v", algorithm, got)
		}
	}
}

// The other kinds of key, and the other spellings of a claim, that a site may use.
func TestClaimVariants(t *testing.T) {
	key := tokenKey('s')
	for name, x := range map[string]struct {
		header map[string]any
		change func(jwt.MapClaims)
	}{
		"with a key id":              {map[string]any{"kid": "2026"}, func(jwt.MapClaims) {}},
		"the audience as a list":     {nil, func(p jwt.MapClaims) { p["aud"] = []string{"node"} }},
		"not before":                 {nil, func(p jwt.MapClaims) { p["nbf"] = tokenNow.Unix() }},
		"ten minutes":                {nil, func(p jwt.MapClaims) { p["exp"] = tokenNow.Add(10 * time.Minute).Unix() }},
		"the site's clock is ahead":  {nil, func(p jwt.MapClaims) { p["iat"] = tokenNow.Add(time.Minute).Unix() }},
		"the site's clock is behind": {nil, func(p jwt.MapClaims) { p["iat"], p["exp"] = tokenNow.Unix()-600, tokenNow.Unix()-59 }},
		"five identifiers": {nil, func(p jwt.MapClaims) {
			p["identifiers"] = map[string]string{"user": "u", "email": "a@example.org", "phone": "+33612345678", "loyalty": "l", "receipt": "r"}
		}},
	} {
		p := goodClaim()
		x.change(p)
		if _, err := testClaims(t, key.Public()).check(signClaim(t, jwt.SigningMethodEdDSA, key, x.header, p)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is wrong with a claim is never told, and never believed.
func TestClaimRefused(t *testing.T) {
	key := tokenKey('s')
	for name, change := range map[string]func(jwt.MapClaims){
		"another site":              func(p jwt.MapClaims) { p["iss"] = "other" },
		"no site":                   func(p jwt.MapClaims) { delete(p, "iss") },
		"another gateway":           func(p jwt.MapClaims) { p["aud"] = "node2" },
		"no gateway":                func(p jwt.MapClaims) { delete(p, "aud") },
		"several gateways":          func(p jwt.MapClaims) { p["aud"] = []string{"node", "node2"} },
		"an empty list of gateways": func(p jwt.MapClaims) { p["aud"] = []string{} },
		"expired":                   func(p jwt.MapClaims) { p["iat"], p["exp"] = tokenNow.Unix()-300, tokenNow.Unix()-61 },
		"no end":                    func(p jwt.MapClaims) { delete(p, "exp") },
		"an end that is null":       func(p jwt.MapClaims) { p["exp"] = nil },
		"longer than ten minutes":   func(p jwt.MapClaims) { p["exp"] = tokenNow.Unix() + 601 },
		"it ends as it begins":      func(p jwt.MapClaims) { p["exp"] = tokenNow.Unix() },
		"an end in text":            func(p jwt.MapClaims) { p["exp"] = "2026-11-21T18:05:00Z" },
		"an end with a fraction":    func(p jwt.MapClaims) { p["exp"] = float64(tokenNow.Unix()) + 300.5 },
		"an end beyond the years":   func(p jwt.MapClaims) { p["exp"] = int64(1) << 60 },
		"issued in the future":      func(p jwt.MapClaims) { p["iat"], p["exp"] = tokenNow.Unix()+61, tokenNow.Unix()+120 },
		"never issued":              func(p jwt.MapClaims) { delete(p, "iat") },
		"issued before 1970":        func(p jwt.MapClaims) { p["iat"] = -1 },
		"not yet":                   func(p jwt.MapClaims) { p["nbf"] = tokenNow.Unix() + 61 },
		"no jti":                    func(p jwt.MapClaims) { delete(p, "jti") },
		"an empty jti":              func(p jwt.MapClaims) { p["jti"] = "" },
		"a jti that is a number":    func(p jwt.MapClaims) { p["jti"] = 1 },
		"a jti too long":            func(p jwt.MapClaims) { p["jti"] = strings.Repeat("x", 129) },
		"nobody":                    func(p jwt.MapClaims) { delete(p, "identifiers") },
		"an empty person":           func(p jwt.MapClaims) { p["identifiers"] = map[string]string{} },
		"a list of persons":         func(p jwt.MapClaims) { p["identifiers"] = []string{"user"} },
		"six identifiers": func(p jwt.MapClaims) {
			p["identifiers"] = map[string]string{"user": "u", "email": "a@b.fr", "phone": "+33612345678", "loyalty": "l", "receipt": "r", "other": "o"}
		},
		"an identifier too long": func(p jwt.MapClaims) { p["identifiers"] = map[string]string{"user": strings.Repeat("x", 321)} },
		"a subject":              func(p jwt.MapClaims) { p["sub"] = "anna" },
		"an unknown member":      func(p jwt.MapClaims) { p["name"] = "Anna" },
	} {
		p := goodClaim()
		change(p)
		if _, err := testClaims(t, key.Public()).check(signClaim(t, jwt.SigningMethodEdDSA, key, nil, p)); err != ErrClaim { // alone: nothing around it
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Identifiers are normalised as tokens' are, and refused with the same words.
func TestClaimIdentifiers(t *testing.T) {
	key := tokenKey('s')
	for name, x := range map[string]struct {
		ids  map[string]string
		want error
	}{
		"an unknown namespace": {map[string]string{"passport": "canary"}, subject.ErrNamespace},
		"a device":             {map[string]string{"device": "canary"}, subject.ErrNamespace},
		"no address":           {map[string]string{"email": "canary"}, subject.ErrIdentifier},
	} {
		p := goodClaim()
		p["identifiers"] = x.ids
		_, err := testClaims(t, key.Public()).check(signClaim(t, jwt.SigningMethodEdDSA, key, nil, p))
		if !errors.Is(err, x.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// RFC 8725: none, key confusion, other types, other keys, headers that change the meaning.
func TestClaimForged(t *testing.T) {
	key, other := tokenKey('s'), tokenKey('x')
	public := key.Public().(ed25519.PublicKey)
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	file := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	good := signClaim(t, jwt.SigningMethodEdDSA, key, nil, goodClaim())
	parts := strings.Split(good, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	again := func(header, payload string) string { // signed over whatever text
		text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
		return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(text)))
	}
	header := `{"alg":"EdDSA","typ":"octroi-login+jwt"}`
	if _, err := testClaims(t, public).check(again(header, string(payload))); err != nil {
		t.Fatal("what the cases below change is not believed itself:", err)
	}
	expected := map[string]string{
		"empty": "", "no token": "a.b.c", "two parts": parts[0] + "." + parts[1], "four parts": good + ".x",
		"none":                     signClaim(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, goodClaim()),
		"none, signature kept":     base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"octroi-login+jwt"}`)) + "." + parts[1] + "." + parts[2],
		"no signature":             parts[0] + "." + parts[1] + ".",
		"HS256 under the key":      signClaim(t, jwt.SigningMethodHS256, []byte(public), nil, goodClaim()),
		"HS256 under the file":     signClaim(t, jwt.SigningMethodHS256, file, nil, goodClaim()),
		"HS256 under the SPKI":     signClaim(t, jwt.SigningMethodHS256, spki, nil, goodClaim()),
		"another key":              signClaim(t, jwt.SigningMethodEdDSA, other, nil, goodClaim()),
		"another algorithm":        signClaim(t, jwt.SigningMethodES256, signers()["ES256"], nil, goodClaim()),
		"no type":                  signClaim(t, jwt.SigningMethodEdDSA, key, map[string]any{"typ": nil}, goodClaim()),
		"an access token's type":   signClaim(t, jwt.SigningMethodEdDSA, key, map[string]any{"typ": tokenType}, goodClaim()),
		"a critical extension":     signClaim(t, jwt.SigningMethodEdDSA, key, map[string]any{"crit": []string{"x"}, "x": 1}, goodClaim()),
		"a key of its own":         signClaim(t, jwt.SigningMethodEdDSA, key, map[string]any{"jwk": map[string]string{"kty": "OKP"}}, goodClaim()),
		"a line end":               parts[0] + "." + parts[1] + "." + parts[2] + "\n",
		"padding":                  parts[0] + "=." + parts[1] + "." + parts[2],
		"another payload":          parts[0] + "." + base64.RawURLEncoding.EncodeToString(bytes.Replace(payload, []byte("anna"), []byte("bert"), 1)) + "." + parts[2],
		"a member twice":           again(header, strings.Replace(string(payload), `"iss":"shop"`, `"iss":"other","iss":"shop"`, 1)),
		"an identifier twice":      again(header, strings.Replace(string(payload), `"user":"anna"`, `"user":"bert","user":"anna"`, 1)),
		"a header's member twice":  again(`{"alg":"none","alg":"EdDSA","typ":"octroi-login+jwt"}`, string(payload)),
		"the type twice":           again(`{"alg":"EdDSA","typ":"x","typ":"octroi-login+jwt"}`, string(payload)),
		"not JSON":                 again(header, "{"),
		"two documents":            again(header, string(payload)+"{}"),
		"a payload that is a list": again(header, "["+string(payload)+"]"),
		"not UTF-8":                again(header, strings.Replace(string(payload), "anna", "ann\xff", 1)),
		"too long":                 again(header, string(payload)+strings.Repeat(" ", native.MaxClaimBytes)),
	}
	for i := range good { // one changed character anywhere
		if good[i] != '.' {
			changed := []byte(good)
			if changed[i] = 'A'; good[i] == 'A' {
				changed[i] = 'B'
			}
			expected[fmt.Sprintf("character %d changed", i)] = string(changed)
		}
	}
	for name, text := range expected {
		if _, err := testClaims(t, public).check(text); err != ErrClaim {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := testClaims(t, tokenKey('t').Public()).check(good); err != ErrClaim {
		t.Error("under another site's key:", err)
	}
}

func TestParseLoginKey(t *testing.T) {
	encode := func(kind string, der []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	spki := func(key any) []byte {
		der, err := x509.MarshalPKIXPublicKey(key)
		return encode("PUBLIC KEY", der, err)
	}
	for name, key := range signers() {
		got, err := ParseLoginKey(append(spki(key.Public()), '\n'))
		if err != nil || !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(got) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(tokenKey('s'))
	good := spki(tokenKey('s').Public())
	short := &rsa.PublicKey{N: signers()["RS256"].Public().(*rsa.PublicKey).N, E: 65537}
	short.N = short.N.Rsh(short.N, 1100) // 948 bits
	for name, text := range map[string][]byte{
		"nothing": nil, "no PEM": []byte("ssh-ed25519 AAAA"), "a curve too many": spki(p384.Public()), "a short modulus": spki(short),
		"a private key": encode("PRIVATE KEY", private, err), "two keys": append(bytes.Clone(good), good...), "no key": encode("PUBLIC KEY", []byte{1}, nil),
	} {
		if _, err := ParseLoginKey(text); !errors.Is(err, ErrLoginKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A claim is used once: by one device, which may say it again until it has signed out or somebody else has signed in there.
func TestClaimIsUsedOnce(t *testing.T) {
	now := tokenNow
	c := newClaimed(100, now)
	claim := func(id string) *login { return &login{id: id, issued: now, expires: now.Add(10 * time.Minute)} }
	take := func(site, id string, device subject.Slot, want error) {
		t.Helper()
		if err := c.take(site, claim(id), device, now); err != want {
			t.Errorf("%s of %s by %d: %v, want %v", id, site, device, err, want)
		}
	}
	take("shop", "a", 1, nil)
	take("shop", "a", 1, nil)
	take("shop", "a", 2, ErrClaim)
	take("other", "a", 2, nil) // ids are a site's own
	take("shop", "b", 1, nil)
	take("shop", "a", 1, ErrClaim) // somebody else has signed in since
	take("shop", "b", 1, nil)
	c.end(1)
	take("shop", "b", 1, ErrClaim)
	take("shop", "b", 2, ErrClaim)
	take("shop", "c", 1, nil)
	old := claim("d")
	old.issued = now.Add(-time.Second)
	if err := c.take("shop", old, 3, now); err != ErrClaim {
		t.Errorf("a claim from before the start: %v", err)
	}
}

// What is remembered is bounded by count and time; where there is no room, nothing is taken.
func TestClaimedIsBounded(t *testing.T) {
	now := tokenNow
	c := newClaimed(3, now)
	take := func(id string, device subject.Slot) error {
		return c.take("shop", &login{id: id, issued: now, expires: now.Add(time.Minute)}, device, now)
	}
	for i, id := range []string{"a", "b", "c"} {
		if err := take(id, subject.Slot(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := take("d", 4); err != errClaimsFull {
		t.Errorf("a fourth: %v", err)
	}
	if err := take("a", 1); err != nil {
		t.Errorf("a retry: %v", err)
	}
	if p := problemOf(errClaimsFull); p.Status != 503 || p.retry == 0 {
		t.Errorf("answered %+v", p)
	}
	now = now.Add(time.Minute + maxClaimSkew) // the first moment at which no clock takes them any more
	if err := take("d", 4); err != nil || len(c.used) != 1 || len(c.latest) != 1 {
		t.Errorf("%v; %d claims and %d devices are remembered", err, len(c.used), len(c.latest))
	}
}

func FuzzClaim(f *testing.F) {
	key := tokenKey('s')
	good := signClaim(f, jwt.SigningMethodEdDSA, key, nil, goodClaim())
	f.Add(good)
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	v := testClaims(f, key.Public())
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := v.check(text); err == nil && text != good {
			t.Fatal("believed, and never signed")
		}
	})
}
