// Package consent is the ledger of choices and the only maker of Grants.
//
// Record, Withdraw and Declare append records (never update or delete one, C1), each with its evidence leaf in the same
// transaction. Check answers, for one event, which purposes hold; without it nothing can be admitted, because
// pseudonymize.Apply takes Grants and only this package can make them.
package consent

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The errors of this package.
var (
	ErrUnknownPurpose = errors.New("unknown purpose")
	ErrUnknownNotice  = errors.New("no published notice has this hash")             // 422, C3
	ErrProof          = errors.New("the proof is below the minimum of the purpose") // 409, C4
	ErrSnapshot       = errors.New("the snapshot is forged, or of another site")    // 409
	ErrSnapshotOld    = errors.New("the snapshot has expired")                      // 409
	ErrNoRecord       = errors.New("no such consent record")
	ErrBasis          = errors.New("the purpose has another legal basis")
	ErrErased         = errors.New("the person was erased after this consent was given")
)

// State is a consent state by its W3C DPV name.
type State string

// The ten DPV states. Only ConsentGiven and RenewedConsentGiven make a Grant (C5).
const (
	ConsentUnknown         State = "ConsentUnknown"
	ConsentRequested       State = "ConsentRequested"
	ConsentRequestDeferred State = "ConsentRequestDeferred"
	ConsentRefused         State = "ConsentRefused"
	ConsentGiven           State = "ConsentGiven"
	RenewedConsentGiven    State = "RenewedConsentGiven"
	ConsentExpired         State = "ConsentExpired"
	ConsentInvalidated     State = "ConsentInvalidated"
	ConsentRevoked         State = "ConsentRevoked"
	ConsentWithdrawn       State = "ConsentWithdrawn"
)

// Reason is why no purpose of an event holds; the closed list of consent.md.
type Reason string

// The reasons that consent knows; the collector adds those of form.
const (
	NoConsent      Reason = "no_consent"
	Expired        Reason = "consent_expired"
	Withdrawn      Reason = "consent_withdrawn"
	PurposeVersion Reason = "purpose_version"
	Restricted     Reason = "restricted"
	Objected       Reason = "objected"
	BeforeConsent  Reason = "before_consent"
)

// Refusal is why an event has no Grants, by the first of its purposes.
type Refusal struct {
	Reason  Reason
	Purpose string
}

// Grant is one purpose that holds, and the record it rests on.
type Grant struct {
	Purpose *policies.Purpose
	Slot    subject.Slot // of the subject whose record it is; 0 where the purpose declares `subject: none`
	Record  uint32       // number of the record among the subject's
}

// Grants is the ledger's answer for one event: every purpose that holds. Only Check makes a valid one; the zero value is
// refused by pseudonymize.Apply. It is a value and allocates nothing.
type Grants struct {
	policy   *policies.Policy
	typ      *policies.EventType
	device   subject.Subject
	person   subject.Subject
	sequence uint64
	n        int
	list     [MaxPurposes]Grant
}

// MaxPurposes bounds the purposes that one event type may serve.
const MaxPurposes = 16

func (g *Grants) Valid() bool                    { return g.n > 0 }
func (g *Grants) List() []Grant                  { return g.list[:g.n] }
func (g *Grants) Sequence() uint64               { return g.sequence } // the ledger's revocation sequence, read before the check
func (g *Grants) Policy() *policies.Policy       { return g.policy }
func (g *Grants) EventType() *policies.EventType { return g.typ }
func (g *Grants) Device() subject.Subject        { return g.device }
func (g *Grants) Person() subject.Subject        { return g.person }

// Query is what Check is asked.
type Query struct {
	Type     *policies.EventType
	Device   subject.Subject // zero: none
	Person   subject.Subject // zero: none
	Time     time.Time       // the event's own time (C6, G14)
	Received time.Time
	Imported bool // a back-end's history: the consent is judged at the event's own time and must not be revoked now (C6)
}

// Site is what the ledger must know of a site.
type Site struct {
	Name         string
	Jurisdiction string // ISO 3166-1 alpha-2
	Controller   string
	PolicyURL    string
}

// Who a choice is of: exactly one of Device, Mint, Persons, or none of them (a browser's refusal, C8).
type Who struct {
	Device  subject.Subject
	Mint    bool // create a device-level subject and its credential, if the choice grants anything
	Persons []subject.Identifier
}

// Choice is one post of a person's choice.
type Choice struct {
	Site       Site
	Who        Who
	Purposes   map[string]bool
	Snapshot   string // signed snapshot, or empty
	Notice     *NoticeRef
	Method     string // banner, form, till, import, …
	Language   string
	Signals    Signals
	Evidence   Circumstances
	ClientTime time.Time
	GivenAt    time.Time // imports only; zero: now
	Source     string    // imports only
	Entity     string    // who recorded it: the site, or a token's subject
}

// NoticeRef names the notice that was shown.
type NoticeRef struct {
	ID       string `json:"id"`
	Version  string `json:"version"`
	URL      string `json:"url,omitempty"`
	Language string `json:"language"`
	SHA256   string `json:"text_sha256"`
}

// Signals are the privacy signals that came with a choice, kept raw.
type Signals struct {
	GPC       bool              `json:"gpc,omitempty"`
	TCString  string            `json:"tc_string,omitempty"`
	GPPString string            `json:"gpp_string,omitempty"`
	GPPSID    []int             `json:"gpp_sid,omitempty"`
	GCM       map[string]string `json:"gcm,omitempty"`
}

// Circumstances of a choice, already minimised (C9): no query, no whole address, no full user agent.
type Circumstances struct {
	URLPath  string `json:"url_path,omitempty"`
	UAFamily string `json:"ua_family,omitempty"`
	IPPrefix string `json:"ip_prefix,omitempty"`
}

// Recorded is the ledger's answer to a choice.
type Recorded struct {
	RecordID   string
	State      State
	Purposes   map[string]bool
	ValidUntil time.Time // the earliest end of what was granted; zero where nothing was
	Receipt    string    // JWT (C11); empty where there is no subject
	Minted     *subject.Credential
	Notice     NoticeRef
	Until      time.Time // how long a browser remembers a refusal
}

// Proven is a record with what proves it, as a DPO gets it and `octroi verify record` reads it.
type Proven struct {
	Record  json.RawMessage  `json:"record"` // core and strippable parts, schema_version inside
	Opening evidence.Opening `json:"opening"`
	Proof   evidence.Proof   `json:"proof"`
	Notice  string           `json:"notice_text,omitempty"` // the exact text the person saw
}

// Options configure Open.
type Options struct {
	State       *state.Store
	Subjects    *subject.Registry
	Policy      *policies.Policy
	SnapshotKey []byte             // 32 bytes, HS256
	Receipts    ed25519.PrivateKey // signs receipts; kid is its RFC 7638 thumbprint
	Checkpoints CheckpointSigner
	Skew        time.Duration // tolerated clock skew between a choice and an event (G14); default 0
	Now         func() time.Time
}

// CheckpointSigner signs the evidence log's head.
type CheckpointSigner interface {
	SignCheckpoint(size int64, root [32]byte) (note string, err error)
}

// Ledger is the consent ledger. Safe for concurrent use.
type Ledger struct{}

// Open publishes the policy's notice texts and rebuilds the set of recent revocations.
func Open(o Options) (*Ledger, error) { panic("skeleton") }

// Check answers which purposes of q.Type hold. It fails closed: an unreadable row is an error (503), never a grant (G2).
func (l *Ledger) Check(q *Query) (Grants, Refusal, error) { panic("skeleton") }

// Record appends a choice. A refusal is never answered with ErrProof, ErrSnapshot or ErrSnapshotOld (C4).
func (l *Ledger) Record(ctx context.Context, c Choice) (Recorded, error) { panic("skeleton") }

// Withdraw appends a withdrawal of the purposes (none: all that stand). When it has returned, no later event is admitted and no
// intent commits with what was withdrawn (G3).
func (l *Ledger) Withdraw(ctx context.Context, s subject.Subject, w Withdrawal) (Recorded, error) {
	panic("skeleton")
}

// Withdrawal says what is withdrawn, where and how.
type Withdrawal struct {
	Site       Site
	Purposes   []string // none: all
	Method     string
	Evidence   Circumstances
	Entity     string
	ClientTime time.Time
}

// Declare records that persons stand under purposes with a declared basis (contract, legal obligation), creating the person. It writes nothing where
// the standing record already says so. The answer carries the person.
func (l *Ledger) Declare(ctx context.Context, d Declaration) (subject.Subject, error) {
	panic("skeleton")
}

// Declaration of a declared basis by a back-end's token.
type Declaration struct {
	Site     Site
	Persons  []subject.Identifier
	Purposes []string
	Entity   string
	Language string
	Since    time.Time // zero: now; a back-end's history may begin earlier
}

// Standing is the current state of one purpose of one subject.
type Standing struct {
	Purpose    string         `json:"purpose"`
	Version    int            `json:"version"`
	Basis      policies.Basis `json:"legal_basis"`
	State      State          `json:"state"`
	Granted    bool           `json:"granted"`
	GivenAt    time.Time      `json:"given_at"`
	ValidUntil time.Time      `json:"valid_until,omitzero"`
	RecordID   string         `json:"record_id"`
}

// Current lists the standing purposes of a subject; ErrNoRecord where there is none.
func (l *Ledger) Current(s subject.Subject) ([]Standing, error) { panic("skeleton") }

// History lists a subject's records, oldest first, each with its proof.
func (l *Ledger) History(s subject.Subject) ([]Proven, error) { panic("skeleton") }

// Resolve is the record that a Grant rests on, with its proof (G4).
func (l *Ledger) Resolve(slot subject.Slot, record uint32) (Proven, error) { panic("skeleton") }

// Snapshot is the notice of a site as GET /v1/notice serves it, with the signed proof of what was served (C4; at most 1 h).
func (l *Ledger) Snapshot(site Site, language string) (ServedNotice, error) { panic("skeleton") }

// ServedNotice is what a banner shows.
type ServedNotice struct {
	Notice   NoticeRef       `json:"notice"`
	Text     string          `json:"text"`
	Purposes []ServedPurpose `json:"purposes"`
	Snapshot string          `json:"snapshot"`
	Expires  time.Time       `json:"expires"`
}

// ServedPurpose is one purpose as a banner shows it.
type ServedPurpose struct {
	ID      string         `json:"id"`
	Version int            `json:"version"`
	Basis   policies.Basis `json:"legal_basis"`
	Title   string         `json:"title"`
	Text    string         `json:"text"`
}

// NoticeText is a published text by its hash, byte for byte as published, also when the policy has moved on.
func (l *Ledger) NoticeText(sha256 string) (policies.NoticeText, error) { panic("skeleton") }

// Sequence is the revocation sequence: it grows by one with each withdrawal, refusal of what stood, objection, and erasure.
func (l *Ledger) Sequence() uint64 { panic("skeleton") }

// RevokedAfter says whether purpose was revoked for the subject in slot after sequence. Lock-free look in a small set.
func (l *Ledger) RevokedAfter(slot subject.Slot, purpose string, sequence uint64) bool {
	panic("skeleton")
}

// RevokedSince calls fn, inside the writer, for each revocation after sequence; a batch's intent fails on one that is its own.
// purpose "" stands for all purposes.
func (l *Ledger) RevokedSince(t *state.Txn, sequence uint64, fn func(slot subject.Slot, purpose string) error) error {
	panic("skeleton")
}

// ForgetRevocations drops the rows of revocations up to and including sequence: no spooled event is older.
func (l *Ledger) ForgetRevocations(ctx context.Context, sequence uint64) error { panic("skeleton") }

// Forget erases the subject inside the gateway: revokes everything, deletes its rows with a deletion leaf, and shreds its slot.
func (l *Ledger) Forget(ctx context.Context, s subject.Subject) error { panic("skeleton") }

// CountRefused appends the leaf of an hour's refused events: counts by site, type, reason, without subjects (architecture.md "State").
func (l *Ledger) CountRefused(ctx context.Context, hour time.Time, counts map[string]int) error {
	panic("skeleton")
}
