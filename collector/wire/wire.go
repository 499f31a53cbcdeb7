// Package wire is what all wire formats of the collector have in common: the Submission that each of them decodes into, and the
// limits that hold for every one. A format stands in a package of its own below this one and knows neither HTTP nor consent.
package wire

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/octroi/octroi/pseudonymize"
)

// Limits of what is decoded. Sizes in bytes, of the text before it was escaped unless said otherwise.
const (
	MaxEvents     = 1000      // a request
	MaxEventBytes = 32 << 10  // an event as it was written
	MaxEventDepth = 8         // containers nested in an event, itself included
	MaxFields     = 64        // an event
	MaxNameBytes  = 64        // a field's name
	MaxTextBytes  = 2048      // a field's text
	MaxIDBytes    = 128       // an event's id
	MaxIdentities = 8         // identifiers that name one subject
	MaxIdentity   = 320       // one identifier: RFC 3696 errata 1690, the longest e-mail address
	MaxWordBytes  = 64        // type, site, channel, method and the like
	MaxBody       = 1 << 20   // a request as it was sent
	MaxPlain      = 4 << 20   // a request after decompression
	MaxRatio      = 100       // of decompression, once FreeRatio is passed
	FreeRatio     = 256 << 10 // bytes that may come out of a body of any size
)

// The errors of decoding a whole request. They hold nothing of it.
var (
	ErrForm      = errors.New("neither an event, an array of events, a batch, nor lines of events")
	ErrTooMany   = errors.New("more than 1,000 events")
	ErrDuplicate = errors.New("a name occurs twice in one object")
)

// Flaw is why one event cannot be read; the others of its request can. The texts are a closed list and hold nothing of the event.
type Flaw string

// The flaws of an event.
const (
	NotObject     Flaw = "not a JSON object"
	Duplicates    Flaw = "a name occurs twice in one object"
	TooDeep       Flaw = "nested more than 8 deep"
	TooBig        Flaw = "larger than 32 KiB"
	UnknownMember Flaw = "a member that is not part of the format"
	BadID         Flaw = "id: 1 to 128 bytes of text without control characters"
	BadType       Flaw = "type: a text of 1 to 64 bytes"
	BadSite       Flaw = "site: a text of 1 to 64 bytes"
	BadChannel    Flaw = "channel: a text of 1 to 64 bytes"
	BadTime       Flaw = "time: RFC 3339 with a zone, 1970 or later"
	TimeAhead     Flaw = "time: more than 5 minutes ahead of the gateway's clock"
	BadFields     Flaw = "fields: an object of texts, numbers and booleans, at most 64"
	BadName       Flaw = "fields: a name of 1 to 64 bytes without control characters"
	BadText       Flaw = "fields: a text of at most 2,048 bytes"
	BadValue      Flaw = "value: {\"amount\":\"12.30\",\"currency\":\"EUR\"}"
	BadSubject    Flaw = "subject: an object of 1 to 8 identifiers by namespace"
	BadDevice     Flaw = "device: the credential of a device"
	TwoPersons    Flaw = "subject: the identifiers name two different persons"
	OtherValue    Flaw = "subject: the person has another identifier in one of the namespaces"
)

// Identity is an identifier as a client wrote it. It formats as "[identity]"; only Raw reads it.
type Identity struct{ namespace, raw string }

// NewIdentity names someone by a value in a namespace such as email or loyalty.
func NewIdentity(namespace, raw string) Identity { return Identity{namespace, raw} }

// Raw is the namespace and the value as written.
func (i Identity) Raw() (namespace, value string) { return i.namespace, i.raw }

// Format writes "[identity]" for every verb.
func (Identity) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[identity]") }

// LogValue is "[identity]".
func (Identity) LogValue() slog.Value { return slog.StringValue("[identity]") }

// MarshalText is "[identity]".
func (Identity) MarshalText() ([]byte, error) { return []byte("[identity]"), nil }

// Submission is one event as a client sent it, in whatever wire format, before anything was decided. Its texts do not change when the
// request's buffers are reused.
type Submission struct {
	Index      int                     // in the request, from 0
	Type       string                  //
	Touchpoint pseudonymize.Touchpoint // Time is zero where the client named none; Received is the collector's to set
	Subject    []Identity              // whom a back-end names
	Device     string                  // text of the credential that a back-end hands on; empty: none
	Flaw       Flaw                    // empty: the event can be read
}

// FieldError is one member of a body that cannot be used. It says what would be right, and nothing of what came.
type FieldError struct{ Field, Right string }

func (e *FieldError) Error() string { return e.Field + ": must be " + e.Right }
