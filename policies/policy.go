// Package policies reads the purposes of processing and decides what each allows.
//
// A policy is a folder: one YAML document per purpose, and one (events.yaml) that lists the event types with their channel and
// stage. Load parses and validates all of it at once; a Policy is immutable and safe for concurrent use. The package does no I/O
// but through the fs.FS it is given.
package policies

import (
	"io/fs"
	"time"
)

// Basis is the legal basis of a purpose (GDPR Art. 6(1)).
type Basis string

// The bases a purpose may declare.
const (
	Consent            Basis = "consent"
	Contract           Basis = "contract"
	LegalObligation    Basis = "legal_obligation"
	LegitimateInterest Basis = "legitimate_interest"
)

// Proof is how good the proof of a choice is, weakest first, so that proofs compare with < (consent.md C4).
type Proof int

// The proofs of a choice.
const (
	Asserted Proof = iota + 1
	RegisteredBanner
	Snapshot
)

// Treatment is what becomes of one field before it is stored.
type Treatment string

// The treatments, from the least to the most revealing: of two that hold for one field, the later one wins.
const (
	Drop       Treatment = "drop"
	TruncateIP Treatment = "truncate_ip"
	UAFamily   Treatment = "ua_family"
	URLPath    Treatment = "url_path"
	Keep       Treatment = "keep"
)

// OnWithdrawal says what a withdrawal does with what is already stored.
type OnWithdrawal string

// Erase is the default of consent purposes (GDPR Art. 17(1)(b)); Stop needs another declared basis.
const (
	Erase OnWithdrawal = "erase"
	Stop  OnWithdrawal = "stop"
)

// Period is a calendar span (ISO 8601 duration such as P6M or PT24H).
type Period struct{ Years, Months, Days, Hours, Minutes int }

// Mask is a set of purposes by their Index in one Policy. It is never stored: indexes change with the policy.
type Mask uint64

// Recipient is a destination that receives what a purpose allows (GDPR Art. 13(1)(e): named).
type Recipient struct {
	Destination string // name of the destination in the gateway's configuration
	Name        string // legal name, as shown to persons
	Country     string // ISO 3166-1 alpha-2
	Role        string // controller | processor | joint
}

// NoticeText is one exact information text in one language (GDPR Art. 13). Its hash is what a consent record names (C3).
type NoticeText struct {
	ID       string // "choice" for the text of all consent purposes together, else the purpose's id
	Version  string // of every purpose in it: "audience.1+marketing.2"
	Language string // BCP 47
	URL      string
	Text     string   // exact bytes as shown
	Purposes []string // ids, in order
}

// SHA256 is the lower-case hex hash of Text.
func (n NoticeText) SHA256() string { panic("skeleton") }

// Purpose is one purpose of processing. Fields are read-only.
type Purpose struct {
	Index         int // position in Policy.Purposes: the bit of a Mask
	ID            string
	Version       int
	Basis         Basis
	Titles        map[string]string // language → short name
	NoticeURL     string
	Texts         map[string]string // language → information text of this purpose
	Validity      Period            // of a consent (C6); default P6M
	MinimumProof  Proof             // C4; default RegisteredBanner
	OnWithdrawal  OnWithdrawal
	Retention     Period
	SubjectNone   bool // the purpose declares `subject: none`: rows without a subject are allowed
	Sharing       bool // G5: a GPC signal refuses it
	Advertising   bool
	EventTypes    []string
	Fields        map[string]Treatment // unnamed fields are dropped
	Recipients    []Recipient
	Assessment    string // reference of the legitimate-interest or impact assessment
	Transfers     string
	TimePrecision time.Duration // event time is truncated to it; default 1 s
}

// Bit is the purpose's bit in a Mask of its Policy.
func (p *Purpose) Bit() Mask { return 1 << p.Index }

// EventType is a kind of touchpoint with the place it has in a journey.
type EventType struct {
	Name     string
	Channel  string // default channel; an event may name another of the closed list
	Stage    string
	Purposes Mask // every purpose that names the type
}

// Policy is one validated set of documents.
type Policy struct {
	purposes []*Purpose
	byID     map[string]*Purpose
	types    map[string]*EventType
	hash     [32]byte
}

// Load reads every *.yaml of fsys. On failure the error is a Problems.
func Load(fsys fs.FS) (*Policy, error) { panic("skeleton") }

// Default is the policy that comes with the program: purposes service (contract) and audience (consent).
func Default() fs.FS { panic("skeleton") }

// Problem is one thing wrong in a document.
type Problem struct {
	File, Field string
	Line        int
	Wrong       string // what is wrong
	Right       string // what would be right
}

// Problems is all that is wrong in a policy, by file and line; it renders one line each.
type Problems []Problem

func (p Problems) Error() string { panic("skeleton") }

// Hash is the SHA-256 of the policy's canonical content. It travels in Grant, receipt, Event and stream.
func (p *Policy) Hash() [32]byte { return p.hash }

// Purposes lists the purposes by ID; the slice is shared and read-only.
func (p *Policy) Purposes() []*Purpose { return p.purposes }

// Purpose finds a purpose by its id.
func (p *Policy) Purpose(id string) (*Purpose, bool) { x, ok := p.byID[id]; return x, ok }

// EventType finds an event type by its name.
func (p *Policy) EventType(name string) (*EventType, bool) { x, ok := p.types[name]; return x, ok }

// EventTypes lists the event types by name.
func (p *Policy) EventTypes() []*EventType { panic("skeleton") }

// ChoiceNotice is the text a banner shows: all consent purposes, in order, in one language (falls back to the first language).
func (p *Policy) ChoiceNotice(language string) NoticeText { panic("skeleton") }

// InformationNotice is one purpose's text, as given to a person under a declared basis.
func (p *Policy) InformationNotice(purpose, language string) (NoticeText, bool) { panic("skeleton") }

// NoticeTexts lists every text of the policy, for publication.
func (p *Policy) NoticeTexts() []NoticeText { panic("skeleton") }

// Channel returns name if it is in the closed list, else "other".
func Channel(name string) string { panic("skeleton") }

// RecipientOf is the set of purposes whose data destination receives.
func (p *Policy) RecipientOf(destination string) Mask { panic("skeleton") }

// Treatment is the most revealing treatment that the purposes in m have for field; Drop where none names it.
func (p *Policy) Treatment(m Mask, field string) Treatment { panic("skeleton") }

// FieldNames lists every field that some purpose treats otherwise than by Drop, by name.
func (p *Policy) FieldNames() []string { panic("skeleton") }

// AddTo is t plus the period by the calendar, in UTC; a day that the month lacks becomes the month's last.
func (p Period) AddTo(t time.Time) time.Time { panic("skeleton") }
