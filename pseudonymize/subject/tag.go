package subject

import (
	"crypto/rand"
	"encoding/base64"
)

// Tag is an identifier's lookup tag: HMAC-SHA256(lookup key, namespace ‖ 0x00 ‖ normalised)[:16], of a credential with the
// namespace "device" and the 16 secret bytes. It formats as "[tag]".
type Tag [16]byte

// Credential is the secret of a device: 128 random bits, minted by the gateway, as the cookie or the app's credential carries it
// (base64url). It formats as "[credential]". The zero value is the credential of no device.
type Credential struct{ secret [16]byte }

// credentialText is base64url without padding (RFC 4648, section 5), strict: one secret has one text.
var credentialText = base64.RawURLEncoding.Strict()

const credentialLength = 22

// ParseCredential reads a cookie's or app credential's text.
func ParseCredential(text string) (Credential, bool) {
	var c Credential
	if len(text) != credentialLength {
		return Credential{}, false
	}
	var src [credentialLength]byte
	copy(src[:], text)
	if n, err := credentialText.Decode(c.secret[:], src[:]); err != nil || n != len(c.secret) {
		return Credential{}, false
	}
	return c, true
}

// Text is what goes into the cookie or the app's answer.
func (c Credential) Text() string { return credentialText.EncodeToString(c.secret[:]) }

// mintCredential draws a credential. crypto/rand does not fail: it ends the program first.
func mintCredential() (c Credential) {
	_, _ = rand.Read(c.secret[:])
	return c
}

// Tag computes an identifier's lookup tag. It panics on the zero Identifier, which no person has.
func (r *Registry) Tag(id Identifier) Tag {
	if id.namespace == 0 {
		panic("subject: Tag of no identifier")
	}
	return lookupTag(&r.lookupKey, id.namespace, id.value)
}

// TagOf computes a credential's lookup tag.
func (r *Registry) TagOf(c Credential) Tag {
	return lookupTag(&r.lookupKey, device, string(c.secret[:]))
}

// tagPrefixes are namespace ‖ 0x00; a namespace holds no 0x00, so no two of them with a value are the same message.
var tagPrefixes = [...]string{
	email: "email\x00", phone: "phone\x00", user: "user\x00", loyalty: "loyalty\x00", receipt: "receipt\x00", device: "device\x00",
}

func lookupTag(key *[32]byte, ns namespace, value string) Tag {
	sum := authenticate(key, tagPrefixes[ns], value)
	return Tag(sum[:16])
}
