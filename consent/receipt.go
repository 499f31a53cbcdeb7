package consent

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/policies"
)

// receiptType is the typ of receipts, so that no token of another kind passes for one (RFC 8725 §3.11).
const receiptType = "octroi-receipt+jwt"

// ReceiptClaims are the claims of a receipt (C11): JWT, EdDSA, kid the RFC 7638 thumbprint of the key. They are a Kantara Consent
// Receipt 1.1.0 object, whose members are all written, with what proves it beside. It names no subject: piiPrincipalId is made for this
// receipt alone and dies with the subject's key.
type ReceiptClaims struct {
	Version          string              `json:"version"`
	Jurisdiction     string              `json:"jurisdiction"`
	ConsentTimestamp int64               `json:"consentTimestamp"` // Unix seconds
	CollectionMethod string              `json:"collectionMethod"`
	ConsentReceiptID string              `json:"consentReceiptID"` // UUID version 8, made of the secret: see receiptID
	PublicKey        string              `json:"publicKey"`        // Ed25519, base64url
	Language         string              `json:"language"`
	PIIPrincipalID   string              `json:"piiPrincipalId"`
	PIIControllers   []ReceiptController `json:"piiControllers"`
	PolicyURL        string              `json:"policyUrl"`
	Services         []ReceiptService    `json:"services"`
	Sensitive        bool                `json:"sensitive"`
	SPICat           []string            `json:"spiCat"`
	Octroi           ReceiptProof        `json:"octroi"`
}

// ReceiptController is who is responsible.
type ReceiptController struct {
	Controller string         `json:"piiController"`
	OnBehalf   bool           `json:"onBehalf"`
	Contact    string         `json:"contact"`
	Address    ReceiptAddress `json:"address"`
	Email      string         `json:"email"`
	Phone      string         `json:"phone"`
}

// ReceiptAddress is a postal address.
type ReceiptAddress struct {
	Street     string `json:"streetAddress,omitempty"`
	PostalCode string `json:"postalCode,omitempty"`
	Locality   string `json:"addressLocality,omitempty"`
	Country    string `json:"addressCountry,omitempty"`
}

// ReceiptService is one site with the purposes of its notice.
type ReceiptService struct {
	Service  string           `json:"service"`
	Purposes []ReceiptPurpose `json:"purposes"`
}

// ReceiptPurpose is one purpose that was granted.
type ReceiptPurpose struct {
	Purpose              string   `json:"purpose"`
	PurposeCategory      []string `json:"purposeCategory"`
	ConsentType          string   `json:"consentType"`
	PIICategory          []string `json:"piiCategory"`
	PrimaryPurpose       bool     `json:"primaryPurpose"`
	Termination          string   `json:"termination"`
	ThirdPartyDisclosure bool     `json:"thirdPartyDisclosure"`
	ThirdPartyName       string   `json:"thirdPartyName,omitempty"`
}

// ReceiptProof shows that the record is in the evidence log. The opening is stripped: it proves what was asked and answered and says
// nothing of the person. Secret is the holder's: a proof that outlives erasure goes under a hash of it (rights.md), and Ledger.Kept finds it.
type ReceiptProof struct {
	Opening evidence.Opening `json:"opening"`
	Proof   evidence.Proof   `json:"proof"`
	Secret  string           `json:"secret"` // 128 bits, base64url
}

// GetExpirationTime and the others make ReceiptClaims jwt.Claims: a receipt does not expire and is for whoever holds it.
func (*ReceiptClaims) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }
func (*ReceiptClaims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (*ReceiptClaims) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (*ReceiptClaims) GetIssuer() (string, error)                   { return "", nil }
func (*ReceiptClaims) GetSubject() (string, error)                  { return "", nil }
func (*ReceiptClaims) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }

// KeyID is the RFC 7638 thumbprint of an Ed25519 key (RFC 8037 §2: its required members are crv, kty, x).
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(key) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// receipt makes the receipt of a record that was just appended.
func (l *Ledger) receipt(w *written, a *act) (string, error) {
	proof, err := l.proof(w.leaf)
	if err != nil {
		return "", err
	}
	n := strconv.FormatUint(uint64(w.number), 10)
	principal := w.subject.Derive("principal:" + n)
	claims := ReceiptClaims{
		Version: "KI-CR-v1.1.0", Jurisdiction: a.site.Jurisdiction, ConsentTimestamp: w.core.givenAt(),
		CollectionMethod: a.method, ConsentReceiptID: w.core.ReceiptID, PublicKey: l.publicKey, Language: a.language,
		PIIPrincipalID: hex.EncodeToString(principal[:16]), PIIControllers: []ReceiptController{controllerOf(&a.site)},
		PolicyURL: a.site.PolicyURL, Services: l.services(&w.core, a), SPICat: []string{},
		Octroi: ReceiptProof{
			Opening: w.opening.Strip(), Proof: proof, Secret: base64.RawURLEncoding.EncodeToString(receiptSecret(w.subject, w.number)),
		},
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, &claims)
	token.Header["typ"], token.Header["kid"] = receiptType, l.keyID
	return token.SignedString(l.receipts)
}

func controllerOf(s *Site) ReceiptController {
	c := &s.Contact
	return ReceiptController{
		Controller: s.Controller, Contact: c.Name, Email: c.Email, Phone: c.Phone,
		Address: ReceiptAddress{c.Street, c.PostalCode, c.City, c.Country},
	}
}

// services lists what was granted, with the fields that each purpose lets through as its categories of data. Of a version that the policy no longer
// has, it says what the record says.
func (l *Ledger) services(c *core, a *act) []ReceiptService {
	s := ReceiptService{Service: a.site.Name, Purposes: []ReceiptPurpose{}}
	for _, x := range c.Purposes {
		if !x.Granted {
			continue
		}
		r := ReceiptPurpose{Purpose: x.ID, PurposeCategory: []string{}, ConsentType: "EXPLICIT", PIICategory: []string{}, PrimaryPurpose: true}
		if x.ValidUntil != nil {
			r.Termination = x.ValidUntil.Format("2006-01-02")
		}
		if p, ok := l.policy.Purpose(x.ID); ok && p.Version == x.Version {
			r.PIICategory, r.PrimaryPurpose = categories(p), !p.Advertising
			for _, to := range p.Recipients {
				if r.ThirdPartyDisclosure {
					r.ThirdPartyName += ", "
				}
				r.ThirdPartyDisclosure, r.ThirdPartyName = true, r.ThirdPartyName+to.Name
			}
		} else {
			r.ThirdPartyDisclosure, r.ThirdPartyName = len(c.Recipients) > 0, strings.Join(c.Recipients, ", ")
		}
		s.Purposes = append(s.Purposes, r)
	}
	return []ReceiptService{s}
}

// categories names the data that a purpose lets through.
func categories(p *policies.Purpose) []string {
	out := []string{}
	for _, field := range slices.Sorted(maps.Keys(p.Fields)) {
		if p.Fields[field] != policies.Drop {
			out = append(out, field)
		}
	}
	return out
}

// givenAt is when what the record says happened, in Unix seconds.
func (c *core) givenAt() int64 {
	if c.Event.GivenAt != nil {
		return c.Event.GivenAt.Unix()
	}
	return c.Event.Time.Unix()
}

// VerifyReceipt checks a receipt offline: that key signed it, that its proof holds under v, and that its claims say what the record in the
// log says. ErrReceipt, or evidence's errors.
func VerifyReceipt(token string, key ed25519.PublicKey, v *evidence.Verifier) (*ReceiptClaims, error) {
	claims := new(ReceiptClaims)
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithStrictDecoding(),
		jwt.WithoutClaimsValidation())
	parsed, err := parser.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return key, nil })
	if err != nil || parsed.Header["typ"] != receiptType || parsed.Header["kid"] != KeyID(key) {
		return nil, fmt.Errorf("verifying receipt: %w", ErrReceipt)
	}
	c, err := readOpening(&claims.Octroi.Opening)
	if err != nil {
		return nil, fmt.Errorf("verifying receipt: %w", err)
	}
	if _, err := claims.Octroi.Proof.Verify(claims.Octroi.Opening.Leaf(), v); err != nil {
		return nil, fmt.Errorf("verifying receipt: %w", err)
	}
	if !claims.agree(c) {
		return nil, fmt.Errorf("verifying receipt: the claims are not those of the record: %w", ErrReceipt)
	}
	return claims, nil
}

// agree says whether the claims are what the record says.
func (r *ReceiptClaims) agree(c *core) bool {
	var claimed, granted []string
	for _, s := range r.Services {
		for _, p := range s.Purposes {
			claimed = append(claimed, p.Purpose)
		}
	}
	for _, p := range c.Purposes {
		if p.Granted {
			granted = append(granted, p.ID)
		}
	}
	secret, err := base64.RawURLEncoding.Strict().DecodeString(r.Octroi.Secret)
	return err == nil && r.ConsentReceiptID == c.ReceiptID && c.ReceiptID == uuidText(receiptID(secret)) && r.Jurisdiction == c.Jurisdiction && r.ConsentTimestamp == c.givenAt() &&
		r.CollectionMethod == c.Event.Method && slices.Equal(claimed, granted)
}

// textHash is the hash by which a record names a text.
func textHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
