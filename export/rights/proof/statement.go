package proof

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// kind is one sort of statement: its typ, and the most bytes that its text takes.
type kind struct {
	typ  string
	most int
}

// The kinds. A statement of one never passes for another: the typ stands in the pinned header.
var (
	approvalKind    = kind{"octroi-approval+jwt", 256 << 10}
	scheduleKind    = kind{"octroi-schedule+jwt", 256 << 10}
	rewriteKind     = kind{"octroi-rewrite+jwt", 256 << 10}
	purgeKind       = kind{"octroi-purge+jwt", 1 << 20}
	collectedKind   = kind{"octroi-collected+jwt", 64 << 10}
	certificateKind = kind{"octroi-certificate+jwt", 1 << 20}
)

// header is the one header that a statement of the kind may have. Pinning its bytes leaves nothing of a header to interpret: no other
// algorithm, no "none", no key or URL inside the token (RFC 8725 sections 3.1 and 3.11).
func (k kind) header() string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","typ":"` + k.typ + `"}`))
}

// statement is a pointer to claims that know their own shape.
type statement[T any] interface {
	*T
	check() error // ErrStatement, naming the field
}

// sign is the signed text of v:
//
//	stored form, version 1:  b64url(header) "." b64url(claims) "." b64url(signature)
//	claims                   the JSON of T as encoding/json writes it
//
// The same claims and key give the same text.
func sign[T any, P statement[T]](k kind, v P, key ed25519.PrivateKey) (string, error) {
	if len(key) != ed25519.PrivateKeySize {
		return "", fmt.Errorf("signing %s: %w: no signing key", k.typ, ErrStatement)
	}
	if err := v.check(); err != nil {
		return "", fmt.Errorf("signing %s: %w", k.typ, err)
	}
	claims, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("signing %s: %w", k.typ, err)
	}
	text := k.header() + "." + base64.RawURLEncoding.EncodeToString(claims)
	signature, err := jwt.SigningMethodEdDSA.Sign(text, key)
	if err != nil {
		return "", fmt.Errorf("signing %s: %w", k.typ, err)
	}
	text += "." + base64.RawURLEncoding.EncodeToString(signature)
	if len(text) > k.most {
		return "", fmt.Errorf("signing %s: %w: longer than %d bytes", k.typ, ErrStatement, k.most)
	}
	return text, nil
}

// verify opens a statement of the kind. The signature comes first: nothing of what anybody else wrote is interpreted.
func verify[T any, P statement[T]](k kind, token string, key ed25519.PublicKey) (v T, err error) {
	defer func() {
		if err != nil {
			var none T
			v, err = none, fmt.Errorf("verifying %s: %w", k.typ, err)
		}
	}()
	if len(token) > k.most {
		return v, fmt.Errorf("%w: longer than %d bytes", ErrStatement, k.most)
	}
	claims, err := k.open(token, key)
	if err != nil {
		return v, err
	}
	if err := read(claims, &v); err != nil {
		return v, err
	}
	return v, P(&v).check()
}

// open checks header and signature, and answers the claims' bytes.
func (k kind) open(token string, key ed25519.PublicKey) ([]byte, error) {
	header, rest, _ := strings.Cut(token, ".")
	claims, signature, ok := strings.Cut(rest, ".")
	switch {
	case len(key) != ed25519.PublicKeySize:
		return nil, fmt.Errorf("%w: no public key", ErrSignature)
	case !ok:
		return nil, fmt.Errorf("%w: not three parts", ErrStatement)
	case header != k.header():
		return nil, fmt.Errorf("%w: it is not of this kind", ErrSignature)
	}
	sum, err := decode(signature)
	if err != nil {
		return nil, err
	}
	if jwt.SigningMethodEdDSA.Verify(header+"."+claims, sum, key) != nil {
		return nil, ErrSignature
	}
	return decode(claims)
}

// decode reads unpadded base64url in its one spelling; the decoder itself passes over line breaks and, unless strict, spare bits.
func decode(text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("%w: not base64url", ErrStatement) // the cause would quote the text
	}
	return b, nil
}

// read fills v from JSON that is spelled as encoding/json writes v: duplicate, unknown or reordered members, white space, other cases and
// escapes end here.
func read(text []byte, v any) error {
	if json.Unmarshal(text, v) != nil {
		return fmt.Errorf("%w: not JSON of the expected form", ErrStatement)
	}
	again, err := json.Marshal(v)
	if err != nil || !bytes.Equal(again, text) {
		return fmt.Errorf("%w: not in canonical form", ErrStatement)
	}
	return nil
}

// Digest names a signed text in leaves and certificates: its SHA-256, hex.
func Digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
