package collector

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// What an access token is and may say. The type and the audience are fixed, so that no other token of the gateway (a receipt, a
// snapshot, a stream entry) can be used as one (RFC 8725 section 3.11 and 3.9).
const (
	tokenType     = "octroi-access+jwt"
	tokenAudience = "octroi"
	maxTokenBytes = 4 << 10
)

// The scopes of an access token. ScopeStream + a destination's name reads that destination's stream.
const (
	ScopeEvents   = "events:write"   // send events, for any subject it names
	ScopeConsent  = "consent:write"  // record choices and withdrawals of persons it names
	ScopeImport   = "consent:import" // beside consent:write: say when and where a choice was given
	ScopeIdentify = "identify:write" // link devices to persons it names
	ScopeRights   = "rights:read"    // read records and proofs
	ScopeManage   = "rights:manage"  // open and decide requests of data subjects
	ScopeJourneys = "journeys:read"  // read reports of journeys
	ScopeCustody  = "custody"        // the custodian's work list
	ScopeBackup   = "backup"         // take encrypted copies of state and slots
	ScopeAdmin    = "admin"          // read the gateway's figures and its evidence log
	ScopeStream   = "stream:"
)

// Scopes lists them all but those of streams, of which there is one for each destination.
func Scopes() []string {
	return []string{
		ScopeEvents, ScopeConsent, ScopeImport, ScopeIdentify, ScopeRights, ScopeManage, ScopeJourneys, ScopeCustody, ScopeBackup, ScopeAdmin,
	}
}

func knownScope(s string) bool {
	destination, stream := strings.CutPrefix(s, ScopeStream)
	return stream && destination != "" && !strings.ContainsRune(destination, ' ') || slices.Contains(Scopes(), s)
}

// ErrToken: the access token is forged, expired, of another kind or of another gateway. It does not say which to a client.
var ErrToken = errors.New("access token is not valid")

// TokenClaims are what an access token says.
type TokenClaims struct {
	ID        string    // jti
	Issuer    string    // the node's name
	Subject   string    // who holds the token; stands as the entity in consent records
	Scopes    []string  //
	Sites     []string  // names of the sites it may speak for; none: all
	Declare   []string  // purposes of which it may declare the basis for the persons it names
	NotBefore time.Time // zero: at once
	Expires   time.Time // needed
}

// Can says whether the token has a scope.
func (c *TokenClaims) Can(scope string) bool { return slices.Contains(c.Scopes, scope) }

// For says whether the token may speak for a site.
func (c *TokenClaims) For(site string) bool {
	return len(c.Sites) == 0 || slices.Contains(c.Sites, site)
}

// payload is the token's JSON: RFC 7519, and RFC 9068's scope.
type payload struct {
	jwt.RegisteredClaims
	Scope   string   `json:"scope"`
	Sites   []string `json:"site,omitempty"`
	Declare []string `json:"declare,omitempty"`
}

// MakeToken signs an access token (JWT, EdDSA).
func MakeToken(c TokenClaims, key ed25519.PrivateKey) (string, error) {
	if c.Expires.IsZero() || c.Issuer == "" {
		return "", errors.New("making access token: it needs an issuer and an end")
	}
	for _, scope := range c.Scopes {
		if !knownScope(scope) {
			return "", fmt.Errorf("making access token: unknown scope %q", scope)
		}
	}
	p := payload{
		RegisteredClaims: jwt.RegisteredClaims{
			ID: c.ID, Issuer: c.Issuer, Subject: c.Subject, Audience: jwt.ClaimStrings{tokenAudience}, ExpiresAt: jwt.NewNumericDate(c.Expires),
		},
		Scope: strings.Join(c.Scopes, " "), Sites: c.Sites, Declare: c.Declare,
	}
	if !c.NotBefore.IsZero() {
		p.RegisteredClaims.NotBefore = jwt.NewNumericDate(c.NotBefore)
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, p)
	t.Header["typ"] = tokenType
	text, err := t.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("signing access token: %w", err)
	}
	if len(text) > maxTokenBytes {
		return "", errors.New("making access token: longer than 4 KiB")
	}
	return text, nil
}

// verifier checks access tokens. Safe for concurrent use.
type verifier struct {
	key    ed25519.PublicKey
	parser *jwt.Parser
}

func newVerifier(key ed25519.PublicKey, issuer string, now func() time.Time) *verifier {
	return &verifier{key, jwt.NewParser(
		jwt.WithValidMethods([]string{"EdDSA"}), // RFC 8725 section 3.1: neither none nor a MAC under the public key
		jwt.WithAudience(tokenAudience), jwt.WithIssuer(issuer), jwt.WithExpirationRequired(), jwt.WithTimeFunc(now), jwt.WithStrictDecoding(),
	)}
}

// check reads a token; every failure is ErrToken alone.
func (v *verifier) check(text string) (*TokenClaims, error) {
	if len(text) > maxTokenBytes || strings.ContainsAny(text, "\r\n") { // Go's base64 skips line ends, also when it is strict
		return nil, ErrToken
	}
	var p payload
	t, err := v.parser.ParseWithClaims(text, &p, func(t *jwt.Token) (any, error) {
		if t.Header["typ"] != tokenType {
			return nil, ErrToken
		}
		return v.key, nil
	})
	if err != nil || !t.Valid {
		return nil, ErrToken
	}
	return &TokenClaims{
		ID: p.ID, Issuer: p.Issuer, Subject: p.Subject, Scopes: strings.Fields(p.Scope), Sites: p.Sites, Declare: p.Declare,
		Expires: p.ExpiresAt.Time,
	}, nil
}

// Token reads an access token that came otherwise than in a header, as by a page where somebody signs in; every failure is ErrToken alone.
func (c *Collector) Token(text string) (*TokenClaims, error) { return c.tokens.check(text) }

// jwks is the key that receipts are checked with, as a JSON Web Key set (RFC 7517, RFC 8037); its kid is the RFC 7638 thumbprint.
func jwks(key ed25519.PublicKey) []byte {
	x := base64.RawURLEncoding.EncodeToString(key)
	thumbprint := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	kid := base64.RawURLEncoding.EncodeToString(thumbprint[:])
	return []byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + x + `","kid":"` + kid + `","use":"sig","alg":"EdDSA"}]}`)
}
