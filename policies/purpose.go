package policies

import (
	"slices"
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

// Declared reports whether the basis rests on a declaration of the controller and not on a choice of the person.
func (b Basis) Declared() bool {
	return b == Contract || b == LegalObligation || b == LegitimateInterest
}

// Proof is how good the proof of a choice is, weakest first, so that proofs compare with < (consent.md C4).
type Proof int

// The proofs of a choice.
const (
	Asserted Proof = iota + 1
	RegisteredBanner
	Snapshot
)

// proofNames are the names of the proofs in documents and records, in the order of the constants.
var proofNames = [...]string{"asserted", "registered_banner", "snapshot"}

// String is the name of the proof in documents and records; "none" for what is no proof.
func (p Proof) String() string {
	if p < Asserted || p > Snapshot {
		return "none"
	}
	return proofNames[p-1]
}

// ParseProof finds a proof by its name.
func ParseProof(name string) (Proof, bool) {
	i := slices.Index(proofNames[:], name)
	return Proof(i + 1), i >= 0
}

// Linking is the purpose under which a device is joined to a person (architecture.md "Link, not merge"). It rests on the device's consent, lets nothing
// in by itself and allows no field: an event that another purpose lets in carries the person's pseudonym while this one holds and a link stands.
const Linking = "linking"

// Treatment is what becomes of one field before it is stored.
type Treatment string

// The treatments, from the least to the most revealing: of two that hold for one field, the later one wins.
const (
	Drop         Treatment = "drop"
	Pseudonymise Treatment = "pseudonymise" // equal values of one subject at one destination stay equal; nothing else is left
	Round        Treatment = "round"        // a number to two significant digits
	TruncateIP   Treatment = "truncate_ip"
	UAFamily     Treatment = "ua_family"
	URLPath      Treatment = "url_path"
	Keep         Treatment = "keep"
)

// treatments is the closed list; the index is what Reveals answers.
var treatments = [...]Treatment{Drop, Pseudonymise, Round, TruncateIP, UAFamily, URLPath, Keep}

// Reveals ranks the treatment by how much of a field it lets through: 0 for Drop and for what is no treatment.
func (t Treatment) Reveals() int { return max(0, slices.Index(treatments[:], t)) }

// OnWithdrawal says what a withdrawal does with what is already stored.
type OnWithdrawal string

// Erase is the default of consent (GDPR Art. 17(1)(b)) and of legitimate interest (an objection, Art. 17(1)(c)); Stop, which
// ends the processing and leaves what is stored until its retention ends, is that of the others. A consent purpose may say Stop
// only where another purpose with a declared basis covers the same data.
const (
	Erase OnWithdrawal = "erase"
	Stop  OnWithdrawal = "stop"
)

// Recipient is a destination that receives what a purpose allows (GDPR Art. 13(1)(e): named).
type Recipient struct {
	Destination string // name of the destination in the gateway's configuration
	Name        string // legal name, as shown to persons
	Country     string // ISO 3166-1 alpha-2
	Role        string // controller | processor | joint; default processor
}

// Purpose is one purpose of processing. Fields are read-only.
type Purpose struct {
	Index         int // position in Policy.Purposes: the bit of a Mask
	ID            string
	Version       int
	Basis         Basis
	Titles        map[string]string // language → short name
	NoticeURL     string
	Texts         map[string]string // language → information text of this purpose
	Validity      Period            // of a consent (C6); default P6M; zero for the other bases
	MinimumProof  Proof             // C4; default RegisteredBanner; Asserted for the other bases
	OnWithdrawal  OnWithdrawal
	Retention     Period
	SubjectNone   bool // the purpose declares `subject: none`: rows without a subject are allowed
	Sharing       bool // G5: a GPC signal refuses it
	Advertising   bool
	EventTypes    []string             // by name
	Fields        map[string]Treatment // unnamed fields are dropped
	Recipients    []Recipient          // by destination
	Assessment    string               // reference of the legitimate-interest or impact assessment
	Transfers     string               // safeguard of transfers outside the EEA (GDPR Art. 13(1)(f))
	Roles         map[string]string    // role (controller, dpo, …) → who (GDPR Art. 30(1)(a))
	TimePrecision time.Duration        // event time is truncated to it; default 1 s

	// Exemption names the ePrivacy exemption (Art. 5(3)) under which the purpose reads what a browser tells of itself without a choice (G11); empty for
	// none. Such a purpose has a legitimate interest and no subject: its rows are nobody's.
	Exemption string

	// AutomatedDecisions says that decisions of GDPR Art. 22(1) are made of the data, by automated means alone (Art. 15(1)(h)).
	AutomatedDecisions bool
}

// Bit is the purpose's bit in a Mask of its Policy.
func (p *Purpose) Bit() Mask { return 1 << p.Index }
