package subject

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"
	"golang.org/x/net/idna"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// namespace is what an identifier is, as it stands in stored rows (one byte). Numbers are never reused.
type namespace uint8

const (
	email namespace = iota + 1
	phone
	user
	loyalty
	receipt
	device // a credential; Normalise knows no such namespace, so no back-end can name a device by it
)

// namespaces are the names as they stand in requests and in the message of a tag's HMAC.
var namespaces = [...]string{email: "email", phone: "phone", user: "user", loyalty: "loyalty", receipt: "receipt", device: "device"}

// Identifier is a normalised identifier. It exists only between the HTTP edge and the lookup: it has no String, and formats as
// "[identifier]". Two identifiers are equal if they are the same identifier.
type Identifier struct {
	namespace namespace
	value     string
}

// Namespace is the namespace's name, empty for the zero value.
func (id Identifier) Namespace() string {
	if id.namespace == 0 {
		return ""
	}
	return namespaces[id.namespace]
}

// Bounds of identifiers, in bytes.
const (
	maxRaw    = 1024 // before normalisation; compatibility forms may be longer than their result
	maxOpaque = 256  // user, loyalty, receipt
	maxLocal  = 64   // RFC 5321, 4.5.3.1.1
	maxEmail  = 254  // RFC 5321, 4.5.3.1.3: a path of 256 with its angle brackets
)

// Normalise brings a raw identifier to the form that is looked up (normaliser v1; testdata/normalise.json has its vectors):
//
//   - email: NFKC, trimmed; exactly one @; the local part case-folded and otherwise kept (RFC 5321 lets a host tell "A" from "a", in
//     practice none does, and the same person types both; dots and +suffixes stay, since hosts differ on them); the domain by the IDNA lookup
//     profile (UTS 46, non-transitional) to ASCII, fully qualified; at most 64 and 254 bytes;
//   - phone: a valid number of the numbering plan, without an extension (an extension would make one of many), as E.164;
//   - user, loyalty, receipt: NFKC, trimmed, case kept, 1 to 256 bytes without control characters.
//
// region is the ISO 3166 region of phone numbers without a country code; empty: only numbers with one. Normalising the normalised
// gives the same. Errors wrap ErrNamespace or ErrIdentifier and never hold the value. The answer depends on the version of the
// numbering plan and of Unicode in the build: a tag is looked up as it was made only while both agree on the identifier.
func Normalise(name, raw, region string) (Identifier, error) {
	var ns namespace
	var value, fault string
	switch name {
	case "email":
		ns = email
	case "phone":
		ns = phone
	case "user":
		ns = user
	case "loyalty":
		ns = loyalty
	case "receipt":
		ns = receipt
	default:
		// The name is not quoted: a confused client sends the identifier in its place.
		return Identifier{}, fmt.Errorf("normalising: %w: known are email, phone, user, loyalty, receipt", ErrNamespace)
	}
	text, fault := compose(raw)
	if fault == "" {
		switch ns {
		case email:
			value, fault = normaliseEmail(text)
		case phone:
			value, fault = normalisePhone(text, region)
		default:
			value, fault = normaliseOpaque(text)
		}
	}
	if fault != "" {
		return Identifier{}, fmt.Errorf("normalising %s: %s: %w", name, fault, ErrIdentifier)
	}
	return Identifier{ns, value}, nil
}

// compose is what all namespaces share: NFKC, then trimming, since NFKC makes spaces of other characters.
func compose(raw string) (text, fault string) {
	switch {
	case len(raw) > maxRaw:
		return "", "longer than 1024 bytes"
	case !utf8.ValidString(raw):
		return "", "not UTF-8"
	}
	text = strings.TrimSpace(norm.NFKC.String(raw))
	for _, r := range text {
		switch {
		case r == utf8.RuneError:
			return "", "holds the replacement character U+FFFD" // two damaged names would be one person
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return "", "holds a control character"
		case unicode.Is(unicode.Cf, r) && r != '\u200c' && r != '\u200d': // the joiners are spelling in Persian and Indic scripts
			return "", "holds an invisible character"
		}
	}
	if text == "" {
		return "", "empty"
	}
	return text, ""
}

func normaliseOpaque(text string) (value, fault string) {
	if len(text) > maxOpaque {
		return "", "longer than 256 bytes"
	}
	return text, ""
}

// domains is the IDNA lookup profile (RFC 5891, section 5; UTS 46 non-transitional), with the lengths of DNS.
var domains = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.VerifyDNSLength(true))

func normaliseEmail(text string) (value, fault string) {
	local, domain, found := strings.Cut(text, "@")
	if !found || strings.Contains(domain, "@") {
		return "", "needs exactly one @"
	}
	if local == "" || domain == "" {
		return "", "nothing before or after the @"
	}
	// RFC 5321, 4.1.2: quoted local parts are legal and never seen but as a display name pasted in.
	if strings.ContainsAny(local, " \"(),:;<>[\\]") || strings.ContainsFunc(local, unicode.IsSpace) {
		return "", "space, quote or bracket before the @"
	}
	local, stable := fold(local)
	if !stable {
		return "", "local part has no stable case folding"
	}
	ascii, err := domains.ToASCII(domain)
	switch {
	case err != nil, strings.HasSuffix(ascii, "."): // err holds the domain; a root dot is DNS, not mail (RFC 5321, 4.1.2)
		return "", "not a domain name after the @"
	case !strings.Contains(ascii, "."): // RFC 5321, 2.3.5: only fully-qualified names
		return "", "domain is not fully qualified"
	case len(local) > maxLocal:
		return "", "more than 64 bytes before the @"
	case len(local)+1+len(ascii) > maxEmail:
		return "", "longer than 254 bytes"
	}
	return local + "@" + ascii, ""
}

// fold is the compatibility caseless form (Unicode 3.13, D146): folding may undo NFKC and the reverse, so both to their fixed point.
func fold(s string) (folded string, stable bool) {
	if isASCII(s) {
		return strings.ToLower(s), true
	}
	for range 4 {
		next := norm.NFKC.String(cases.Fold().String(s))
		if next == s {
			return s, true
		}
		s = next
	}
	return "", false
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func normalisePhone(text, region string) (value, fault string) {
	number, err := phonenumbers.Parse(text, strings.ToUpper(region))
	switch {
	case err != nil && region == "":
		return "", "not a phone number with a country code"
	case err != nil:
		return "", "not a phone number"
	case number.GetExtension() != "":
		return "", "has an extension"
	case !phonenumbers.IsValidNumber(number):
		return "", "not a valid number of its numbering plan"
	}
	return phonenumbers.Format(number, phonenumbers.E164), ""
}
