package consent

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

// given says whether the state is one of the two that make a Grant (C5).
func (s State) given() bool { return s == ConsentGiven || s == RenewedConsentGiven }

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
