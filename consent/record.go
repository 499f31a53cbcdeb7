package consent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// recordVersion is the schema_version of records.
const recordVersion = 1

// core is the part of a record that outlives the subject: what was asked and answered, when and where, under which notice, and how good
// the proof is. It holds nothing that leads to the person, nor from one record of a subject to another. Field names: ISO/IEC TS 27560 as W3C DPV maps it.
//
// As JSON, core and strippable have one spelling: these members in this order, as encoding/json writes them. The bytes are
// hashed and kept; they are never written again from the struct.
type core struct {
	Version          int               `json:"schema_version"`
	RecordID         string            `json:"record_id,omitempty"`  // UUID; of a subject's record it strips with the subject
	ReceiptID        string            `json:"receipt_id,omitempty"` // of a subject's record: see receiptID
	Site             string            `json:"site,omitempty"`
	Notice           *NoticeRef        `json:"notice,omitempty"`
	Proof            string            `json:"proof,omitempty"` // snapshot | registered_banner | asserted
	Purposes         []recordedPurpose `json:"purposes,omitempty"`
	Event            recordedEvent     `json:"event"`
	Jurisdiction     string            `json:"jurisdiction,omitempty"`
	WithdrawalMethod string            `json:"withdrawal_method,omitempty"`
	Recipients       []string          `json:"recipients,omitempty"`        // legal names (C-154/21)
	StorageLocations []string          `json:"storage_locations,omitempty"` // countries of the recipients
	Retention        map[string]string `json:"retention,omitempty"`         // purpose → ISO 8601
	Policy           string            `json:"policy_sha256,omitempty"`
	Counts           map[string]int    `json:"counts,omitempty"` // of refused events or of deleted rows
}

// recordedPurpose is one purpose of a record.
type recordedPurpose struct {
	ID         string         `json:"id"`
	Version    int            `json:"version"`
	Basis      policies.Basis `json:"legal_basis"`
	Granted    bool           `json:"granted"`
	ValidUntil *time.Time     `json:"valid_until,omitempty"` // C6
}

// recordedEvent is what happened.
type recordedEvent struct {
	Type     string     `json:"type"` // consent | refusal | withdrawal | declaration | link | unlink; without a subject also deletion | refused_events
	State    State      `json:"state,omitempty"`
	Time     time.Time  `json:"time"`               // C2: the server's, UTC, milliseconds
	GivenAt  *time.Time `json:"given_at,omitempty"` // differs from time only for what was given elsewhere or earlier
	Validity string     `json:"validity,omitempty"` // the shortest of the granted purposes, ISO 8601
	EntityID string     `json:"entity_id,omitempty"`
	Method   string     `json:"method,omitempty"`
	Source   string     `json:"source,omitempty"` // of an import
}

// The types of a record's event.
const (
	eventConsent     = "consent"
	eventRefusal     = "refusal"
	eventWithdrawal  = "withdrawal"
	eventDeclaration = "declaration"
	eventLink        = "link"
	eventUnlink      = "unlink"
	eventDeletion    = "deletion"
	eventRefused     = "refused_events"
)

// withdrawalMethod is how what a record grants is taken back (GDPR Art. 7(3): as easy as giving).
const withdrawalMethod = "POST /v1/consents/withdraw"

// strippable is the part of a record that dies with its subject.
type strippable struct {
	RecordID      string         `json:"record_id,omitempty"` // UUID
	PrevRecordID  string         `json:"prev_record_id,omitempty"`
	PrincipalID   string         `json:"pii_principal_id,omitempty"`
	PrincipalKind string         `json:"principal_kind,omitempty"` // device | person
	Language      string         `json:"language,omitempty"`
	Signals       *Signals       `json:"signals,omitempty"`
	Evidence      *Circumstances `json:"evidence,omitempty"`
	ClientTime    *time.Time     `json:"client_time,omitempty"` // C2
	ClockSkew     bool           `json:"clock_skew,omitempty"`  // client_time is more than 24 h off
}

// recordRow is a record as its sealed row holds it, JSON v1. The salts are not stored: they derive from the subject's key.
type recordRow struct {
	Version    int             `json:"v"`
	Leaf       int64           `json:"leaf"` // index in the evidence log
	Core       json.RawMessage `json:"core"`
	Strippable json.RawMessage `json:"strippable"`
}

// The tables of a subject's rows.
const (
	recordTable   = "c/record/"
	standingTable = "c/standing/"
)

// opening opens the leaf of the subject's record of that number.
func (r *recordRow) opening(s subject.Subject, number uint32) evidence.Opening {
	salt, strippableSalt := salts(s, number)
	return evidence.Opening{Salt: salt, Core: r.Core, StrippableSalt: strippableSalt, Strippable: r.Strippable}
}

// salts are those of one record. They die with the subject's key: afterwards its leaf says nothing (C10).
func salts(s subject.Subject, number uint32) (salt, strippableSalt [16]byte) {
	n := strconv.FormatUint(uint64(number), 10)
	a, b := s.Derive("salt:"+n), s.Derive("salt':"+n)
	return [16]byte(a[:16]), [16]byte(b[:16])
}

// provenRecord is a record as Proven shows it: the very bytes that the leaf hashes.
type provenRecord struct {
	Core       json.RawMessage `json:"core"`
	Strippable json.RawMessage `json:"strippable,omitempty"`
}

// canonical writes v in the one spelling.
func canonical(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("consent: writing a record: %v", err)) // plain structs of strings, numbers and times in range
	}
	return validText(text)
}

// badText is how encoding/json writes a byte that is not UTF-8. Read and written again it would be U+FFFD itself: two spellings.
const badText = `\ufffd`

// validText makes text, as encoding/json wrote it, what it would be if every string had been UTF-8.
func validText(text []byte) []byte {
	if !bytes.Contains(text, []byte(badText)) {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != '\\':
			out = append(out, text[i])
		case bytes.HasPrefix(text[i:], []byte(badText)):
			out = utf8.AppendRune(out, utf8.RuneError)
			i += len(badText) - 1
		default: // any other escape: its first two bytes go together
			out = append(out, text[i], text[i+1])
			i++
		}
	}
	return out
}

// decodeCanonical reads v and refuses every other spelling of it.
func decodeCanonical(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return ErrRecord
	}
	again, err := json.Marshal(v)
	if err != nil || !bytes.Equal(again, text) {
		return ErrRecord
	}
	return nil
}

// newRecordID is a random UUID (RFC 9562 version 4).
func newRecordID(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("making a record id: %w", err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return uuidText(b), nil
}

// writable says whether a record can hold the time: RFC 3339 has years of four digits, and no choice is older than 1970.
func writable(t time.Time) bool { return t.Year() >= 1970 && t.Year() <= 9999 }

// utcMillis is the precision of all times in records.
func utcMillis(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
