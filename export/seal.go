package export

import (
	"io"

	"filippo.io/age"
)

// Recipients are the keys a batch is encrypted to: the destination's W, E (custodian), R (recovery). All are of one class.
type Recipients struct {
	Class string   // "X25519" or "hybrid"
	Names []string // the age1… texts, W first
	list  []age.Recipient
}

// ParseRecipients reads the three age recipients. Another class beside the first is an error that names the odd one.
func ParseRecipients(destination, custodian, recovery string) (Recipients, error) { panic("skeleton") }

// Seal encrypts what is written to the returned writer. Closing it ends the age file; its error must be checked.
func Seal(w io.Writer, r Recipients) (io.WriteCloser, error) { panic("skeleton") }

// Identities are age identities, from an identity file as age-keygen writes it (several lines, comments).
type Identities struct{ list []age.Identity }

// ParseIdentities reads an identity file's text; errors never hold a line of it.
func ParseIdentities(text []byte) (Identities, error) { panic("skeleton") }

// Unseal decrypts; reading to EOF authenticates the whole.
func Unseal(r io.Reader, ids Identities) (io.Reader, error) { panic("skeleton") }

// NewIdentity makes an identity of a class ("X25519", "hybrid"): the text for its file, and its recipient.
func NewIdentity(class string) (identity, recipient string, err error) { panic("skeleton") }
