package collector

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/octroi/octroi/collector/wire/native"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// A login claim is a token in which a site says who has signed in on a browser (JWS, RFC 7515):
//
//	header   {"alg":"EdDSA","typ":"octroi-login+jwt"}                        ES256 or RS256 where the site's key is of that kind; kid is allowed
//	payload  {"iss":"<site's name>","aud":"<node's name>","iat":…,"exp":…,"jti":"<once>","identifiers":{"user":"…","loyalty":"…"}}
//
// It holds for ten minutes at most and for one browser. The browser carries it and cannot change it; the gateway keeps nothing of it.
const (
	claimType    = "octroi-login+jwt"
	maxClaimLife = 10 * time.Minute
	maxClaimSkew = time.Minute // between the site's clock and the gateway's
)

var (
	// ErrClaim: the login claim is forged, expired, used, of another site or for another gateway. It does not say which to a client.
	ErrClaim = errors.New("login claim is not valid")
	// ErrLoginKey: a file is not a public key that login claims can be checked with.
	ErrLoginKey = errors.New("not a PEM file of one public key: Ed25519, P-256 or RSA of 2048 to 8192 bits")

	errClaimsFull = errors.New("more login claims are in use than can be remembered")
)

// LoginClaim is what a site says of who has signed in.
type LoginClaim struct {
	Site        string            // its name
	Node        string            // the gateway's
	Identifiers map[string]string // of the person, by namespace: user, email, phone, loyalty, receipt
	ID          string            // never used before
	Issued      time.Time
	Expires     time.Time // at most ten minutes later
}

// MakeClaim signs a login claim, as a site's back-end does. Any library of JSON Web Tokens can.
func MakeClaim(c LoginClaim, key crypto.Signer) (string, error) {
	method, err := claimMethod(key.Public())
	if err != nil {
		return "", fmt.Errorf("making login claim: %w", err)
	}
	t := jwt.NewWithClaims(method, jwt.MapClaims{
		"iss": c.Site, "aud": c.Node, "jti": c.ID, "iat": c.Issued.Unix(), "exp": c.Expires.Unix(), "identifiers": c.Identifiers,
	})
	t.Header["typ"] = claimType
	text, err := t.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("signing login claim: %w", err)
	}
	return text, nil
}

// ParseLoginKey reads the public key with which a site's login claims are checked: PEM, SubjectPublicKeyInfo. ErrLoginKey.
func ParseLoginKey(text []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || strings.TrimSpace(string(rest)) != "" {
		return nil, ErrLoginKey
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, ErrLoginKey
	}
	if _, err := claimMethod(key); err != nil {
		return nil, err
	}
	return key, nil
}

// claimMethod is the one algorithm of a key: what the token says of it is not asked (RFC 8725 section 3.1).
func claimMethod(key crypto.PublicKey) (jwt.SigningMethod, error) {
	switch k := key.(type) {
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return jwt.SigningMethodEdDSA, nil
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return jwt.SigningMethodES256, nil
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits >= 2048 && bits <= 8192 { // a larger one is work for whoever posts
			return jwt.SigningMethodRS256, nil
		}
	}
	return nil, ErrLoginKey
}

// login is what the gateway takes of a login claim.
type login struct {
	id      string
	issued  time.Time
	expires time.Time
	persons []subject.Identifier
}

// claimVerifier checks the login claims of one site. Safe for concurrent use.
type claimVerifier struct {
	key    crypto.PublicKey
	region string
	now    func() time.Time
	parser *jwt.Parser
}

// newClaimVerifier is for the site of that name and region, at the node.
func newClaimVerifier(s *Site, node string, now func() time.Time) (*claimVerifier, error) {
	method, err := claimMethod(s.Login)
	if err != nil {
		return nil, err
	}
	return &claimVerifier{s.Login, s.Region, now, jwt.NewParser(
		jwt.WithValidMethods([]string{method.Alg()}), // neither none, nor a MAC under the public key
		jwt.WithAudience(node), jwt.WithIssuer(s.Name), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(maxClaimSkew),
		jwt.WithTimeFunc(now), jwt.WithStrictDecoding(),
	)}, nil
}

// loginClaims make the parser read the payload strictly, and see its times.
type loginClaims struct{ native.Login }

func (l *loginClaims) UnmarshalJSON(text []byte) (err error) {
	l.Login, err = native.DecodeLogin(string(text))
	return err
}

func date(t time.Time) (*jwt.NumericDate, error) {
	if t.IsZero() {
		return nil, nil
	}
	return jwt.NewNumericDate(t), nil
}

func (l *loginClaims) GetExpirationTime() (*jwt.NumericDate, error) { return date(l.Expires) }
func (l *loginClaims) GetIssuedAt() (*jwt.NumericDate, error)       { return date(l.Issued) }
func (l *loginClaims) GetNotBefore() (*jwt.NumericDate, error)      { return date(l.NotBefore) }
func (l *loginClaims) GetIssuer() (string, error)                   { return l.Issuer, nil }
func (l *loginClaims) GetSubject() (string, error)                  { return "", nil }
func (l *loginClaims) GetAudience() (jwt.ClaimStrings, error) {
	return jwt.ClaimStrings{l.Audience}, nil
}

// check reads a login claim. A failure is ErrClaim alone, or that of an identifier that cannot be normalised.
func (v *claimVerifier) check(text string) (*login, error) {
	if len(text) > native.MaxClaimBytes || strings.ContainsAny(text, "\r\n") { // Go's base64 skips line ends, also when it is strict
		return nil, ErrClaim
	}
	l := new(loginClaims)
	t, err := v.parser.ParseWithClaims(text, l, func(*jwt.Token) (any, error) {
		header, _, _ := strings.Cut(text, ".")
		plain, err := base64.RawURLEncoding.Strict().DecodeString(header)
		if err != nil {
			return nil, ErrClaim
		}
		if kind, err := native.DecodeLoginHeader(string(plain)); err != nil || kind != claimType {
			return nil, ErrClaim
		}
		return v.key, nil
	})
	life := l.Expires.Sub(l.Issued)
	if err != nil || !t.Valid || l.Issued.IsZero() || life <= 0 || life > maxClaimLife || l.ID == "" || len(l.Identifiers) == 0 {
		return nil, ErrClaim
	}
	ids, err := persons(l.Identifiers, v.region)
	if err != nil {
		return nil, err
	}
	return &login{l.ID, l.Issued, l.Expires, ids}, nil
}

// maxClaims bounds the login claims that are remembered: nearly 200 logins a second for as long as a claim can hold. Measured: 19 MiB when full, and 10 ms
// to look through.
const maxClaims = 1 << 17

// claimed remembers which device used a login claim, so that no other does: for as long as the claim could be used, in memory. A claim that was
// issued before this process began may have been used before; nobody knows, so it counts as used. Safe for concurrent use.
type claimed struct {
	began time.Time // in whole seconds, as claims have it
	most  int

	mu     sync.Mutex
	used   map[[16]byte]use          // by the claim's key; guarded by mu
	latest map[subject.Slot][16]byte // of each device, the claim that it may send again; guarded by mu
	swept  time.Time                 // guarded by mu

	turns [1024]sync.Mutex // by slot; taken before mu
}

// use is who used a claim, and until when it matters.
type use struct {
	device subject.Slot
	until  time.Time
}

func newClaimed(most int, now time.Time) *claimed {
	return &claimed{
		began: now.Truncate(time.Second), most: most, used: map[[16]byte]use{}, latest: map[subject.Slot][16]byte{}, swept: now,
	}
}

// turn waits until nobody else uses or ends a claim of the device, nor changes its link by it, until over is called: the last of several logins and logouts
// at once is the same to claims and to the ledger.
func (c *claimed) turn(device subject.Slot) (over func()) {
	m := &c.turns[int(device)%len(c.turns)]
	m.Lock()
	return m.Unlock
}

// take uses a claim for a device. The same device may send its latest claim again, which is a retry, until it has signed out; ErrClaim for every
// other second use. errClaimsFull where no more can be remembered: then none is taken (G2).
func (c *claimed) take(site string, l *login, device subject.Slot, now time.Time) error {
	if l.issued.Before(c.began) {
		return ErrClaim
	}
	key := claimKey(site, l.id)
	c.mu.Lock()
	defer c.mu.Unlock()
	if since := now.Sub(c.swept); since >= time.Minute || since >= time.Second && len(c.used) >= c.most {
		c.sweep(now)
	}
	if before, known := c.used[key]; known {
		if before.device != device || c.latest[device] != key {
			return ErrClaim
		}
		return nil
	}
	if len(c.used) >= c.most {
		return errClaimsFull
	}
	c.used[key], c.latest[device] = use{device, l.expires.Add(maxClaimSkew)}, key
	return nil
}

// end makes every claim of a device a used one: whoever signed out, or was signed in by a back-end, does not come back with an old claim.
func (c *claimed) end(device subject.Slot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.latest, device)
}

// sweep forgets the claims that nobody can use any more. c.mu is held.
func (c *claimed) sweep(now time.Time) {
	c.swept = now
	for key, u := range c.used {
		if now.Before(u.until) {
			continue
		}
		delete(c.used, key)
		if c.latest[u.device] == key {
			delete(c.latest, u.device)
		}
	}
}

// claimKey stands for a claim's id: nothing that the site wrote is kept.
func claimKey(site, id string) [16]byte {
	sum := sha256.Sum256([]byte(site + "\x00" + id))
	return [16]byte(sum[:16])
}
