package native

import (
	"strconv"
	"time"

	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/collector/wire/ijson"
)

// Limits of a login claim. Sizes in bytes.
const (
	MaxClaimBytes  = 4 << 10      // the whole token
	maxLoginNames  = 5            // identifiers: one of each namespace
	maxLoginID     = 128          // jti
	maxLoginMoment = 253402300799 // seconds since 1970: the end of the year 9999
)

// Identification is the body of POST and DELETE /v1/identify, as it came.
type Identification struct {
	Key     string // site key
	Claim   string // of the site: who has signed in
	Site    string // name of the site, from a back-end
	Device  string // from a back-end: text of a credential
	Subject []wire.Identity
}

// DecodeIdentification reads the body of POST or DELETE /v1/identify; an empty body is one without members. Errors as of DecodeChoice.
func DecodeIdentification(body string) (i Identification, err error) {
	if body == "" {
		return i, nil
	}
	err = object(body, func(m ijson.Value) error {
		switch m.Name() {
		case "k":
			return text(m, &i.Key, wire.MaxWordBytes)
		case "claim":
			return text(m, &i.Claim, MaxClaimBytes)
		case "site":
			return text(m, &i.Site, wire.MaxWordBytes)
		case "device":
			return text(m, &i.Device, wire.MaxWordBytes)
		case "subject":
			return identities(m, &i.Subject)
		}
		return unknownMember(m)
	})
	return i, err
}

// Login is the payload of a login claim, as the site wrote it: a closed list of members, so that nothing of the person comes along unasked.
type Login struct {
	Issuer      string
	Audience    string
	ID          string // jti
	Identifiers []wire.Identity
	Issued      time.Time
	NotBefore   time.Time // zero: none
	Expires     time.Time
}

// DecodeLogin reads the payload of a login claim. It checks the form alone: that every member is there is the caller's to see. Errors as of
// DecodeChoice.
func DecodeLogin(payload string) (l Login, err error) {
	err = object(payload, func(m ijson.Value) error {
		switch m.Name() {
		case "iss":
			return text(m, &l.Issuer, wire.MaxWordBytes)
		case "aud":
			return audience(m, &l.Audience)
		case "jti":
			return text(m, &l.ID, maxLoginID)
		case "identifiers":
			if m.Len() > maxLoginNames {
				return wrong(m, "an object of 1 to 5 identifiers by namespace")
			}
			return identities(m, &l.Identifiers)
		case "iat":
			return seconds(m, &l.Issued)
		case "nbf":
			return seconds(m, &l.NotBefore)
		case "exp":
			return seconds(m, &l.Expires)
		}
		return unknownMember(m)
	})
	return l, err
}

// DecodeLoginHeader reads the header of a login claim and answers its type. What is not in the list may change what the token means (crit, b64,
// a key of its own), and is refused (RFC 8725 section 3.10). Errors as of DecodeChoice.
func DecodeLoginHeader(header string) (kind string, err error) {
	var algorithm, key string
	err = object(header, func(m ijson.Value) error {
		switch m.Name() {
		case "alg":
			return text(m, &algorithm, wire.MaxWordBytes)
		case "typ":
			return text(m, &kind, wire.MaxWordBytes)
		case "kid":
			return text(m, &key, maxLoginID)
		}
		return unknownMember(m)
	})
	return kind, err
}

// audience is one text, also as an array of one (RFC 7519 section 4.1.3).
func audience(m ijson.Value, into *string) error {
	const right = "one text, also in an array"
	if m.Kind() != ijson.Array {
		return text(m, into, wire.MaxWordBytes)
	}
	if m.Len() != 1 {
		return wrong(m, right)
	}
	for one := range m.All() {
		if word(one, into, wire.MaxWordBytes, wire.NotObject) != "" {
			return wrong(m, right)
		}
	}
	return nil
}

// seconds reads a NumericDate (RFC 7519 section 2) of whole seconds.
func seconds(m ijson.Value, into *time.Time) error {
	n, err := strconv.ParseInt(m.Text(), 10, 64)
	if m.Kind() != ijson.Number || err != nil || n < 0 || n > maxLoginMoment {
		return wrong(m, "whole seconds since 1970")
	}
	*into = time.Unix(n, 0).UTC()
	return nil
}
