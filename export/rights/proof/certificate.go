package proof

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/evidence"
)

// Fact is one statement of the gateway's evidence log, opened and proven under a signed head.
type Fact struct {
	Opening evidence.Opening `json:"opening"`
	Proof   evidence.Proof   `json:"proof"`
}

// Facts are what the gateway observed of an erasure, each proven: the certificate repeats nothing else of the gateway's.
//
//	Received, Suppressed, Severed, SpoolGone, Purged   the Time of the leaf of that event
//	Recipients                                         an EventNotified leaf where Number > 0, an EventConfirmed leaf where Confirmed: its Time is At
//	Exceptions                                         what the leaves of EventSuppressed and EventSevered say Remains, and downstream_unconfirmed
//	KeyCopies                                          Until of the exception key_copies
type Facts struct {
	Received   time.Time      `json:"received"`
	Suppressed time.Time      `json:"suppressed,omitzero"` // retention has no subject to suppress
	Severed    time.Time      `json:"severed,omitzero"`    // of a whole subject only
	KeyCopies  time.Time      `json:"key_copies,omitzero"`
	SpoolGone  time.Time      `json:"spool_gone,omitzero"` // when nothing spooled before the freeze was left; retention waits for none
	Purged     time.Time      `json:"purged"`
	Recipients []Confirmation `json:"recipients,omitempty"` // by destination
	Exceptions []Exception    `json:"exceptions,omitempty"` // by what
	Evidence   []Fact         `json:"evidence"`             // by index, all under one head; a Leaf for each of the above: one that is missing is a mismatch
}

// Confirmation is whether a destination has applied the erasure.
type Confirmation struct {
	Destination string    `json:"destination"`
	Node        string    `json:"node"`
	Number      uint64    `json:"number"` // of the erase or withdraw entry; 0: it never received a row
	Confirmed   bool      `json:"confirmed"`
	At          time.Time `json:"at,omitzero"`
}

// The exceptions.
const (
	RemainsConsentProofs = "consent_proofs"         // stripped, GDPR Art. 17(3)(e)
	RemainsSuppression   = "import_suppression"     // keyed hashes, so that neither import nor backup brings the person back
	RemainsKeyCopies     = "key_copies"             // copies of the slot file
	RemainsDownstream    = "downstream_unconfirmed" // destinations that have not acknowledged: Count
)

// Exception is what remains, and until when (GDPR Art. 17(3)).
type Exception struct {
	What  string    `json:"what"` // consent_proofs | import_suppression | key_copies | downstream_unconfirmed
	Count int       `json:"count,omitempty"`
	Until time.Time `json:"until,omitzero"`  // UTC, milliseconds
	Basis string    `json:"basis,omitempty"` // article
}

// Certificate is what the custodian signs of an erasure: facts that it observed itself, and facts that the gateway's evidence proves.
type Certificate struct {
	Version   int       `json:"v"` // 1
	Node      string    `json:"node"`
	Request   string    `json:"request"`
	Right     Right     `json:"right"` // erasure
	Origin    Origin    `json:"origin"`
	Purposes  []string  `json:"purposes,omitempty"` // none: the whole subject
	Facts     Facts     `json:"facts"`
	Systems   []System  `json:"systems,omitempty"` // by destination
	Method    string    `json:"method"`
	Completed time.Time `json:"completed"`
	Custodian string    `json:"custodian"`          // key id: RFC 7638 thumbprint
	Approved  string    `json:"approved,omitempty"` // SHA-256 of the approval, hex
}

// System counts what the custodian saw in one destination's objects.
type System struct {
	Destination string `json:"destination"`
	Objects     int    `json:"objects"` // scanned
	Rewritten   int    `json:"rewritten"`
	Deleted     int    `json:"deleted"`  // objects that were left empty
	Rows        int    `json:"rows"`     // erased
	Reduced     int    `json:"reduced"`  // lost a purpose
	Versions    int    `json:"versions"` // deleted by version id, and proven gone
}

func (c *Certificate) check() error {
	err := all(
		field{"v", c.Version == 1}, field{"node", name.MatchString(c.Node)}, field{"request", requestID.MatchString(c.Request)},
		field{"right", c.Right == Erasure}, field{"origin", c.Origin.known()}, field{"purposes", set(c.Purposes, name, maxPurposes)},
		field{"method", c.Method != "" && plain(c.Method)}, field{"completed", whole(c.Completed, time.Millisecond)},
		field{"custodian", keyID.MatchString(c.Custodian)}, field{"approved", c.Approved == "" || digest.MatchString(c.Approved)},
		field{"systems", len(c.Systems) <= maxDestinations && ascending(c.Systems, func(a, b System) int {
			return strings.Compare(a.Destination, b.Destination)
		})},
	)
	if err != nil {
		return err
	}
	for i := range c.Systems {
		if err := c.Systems[i].check(); err != nil {
			return err
		}
	}
	switch {
	case len(c.Purposes) == 0 && (c.Origin == ByWithdrawal || c.Origin == ByRetention):
		return malformed("purposes are missing")
	case c.Approved == "" && (c.Origin == ByDPO || c.Origin == ByRetention): // architecture.md: nothing of these without the DPO's signature
		return malformed("approved is missing")
	}
	return c.Facts.check()
}

func (s *System) check() error {
	return all(
		field{"destination of a system", name.MatchString(s.Destination)}, field{"objects", count(s.Objects)},
		field{"rewritten", count(s.Rewritten)}, field{"deleted", count(s.Deleted) && s.Rewritten+s.Deleted <= s.Objects},
		field{"rows", count(s.Rows)}, field{"reduced", count(s.Reduced)}, field{"versions", count(s.Versions)},
	)
}

func (f *Facts) check() error {
	const unit = time.Millisecond
	err := all(
		field{"received", whole(f.Received, unit)}, field{"suppressed", wholeOrNone(f.Suppressed, unit)},
		field{"severed", wholeOrNone(f.Severed, unit)}, field{"key_copies", wholeOrNone(f.KeyCopies, unit)},
		field{"spool_gone", wholeOrNone(f.SpoolGone, unit)}, field{"purged", whole(f.Purged, unit)},
		field{"evidence", len(f.Evidence) <= maxFacts},
		field{"recipients", len(f.Recipients) <= maxDestinations && ascending(f.Recipients, func(a, b Confirmation) int {
			return strings.Compare(a.Destination, b.Destination)
		})},
	)
	if err != nil {
		return err
	}
	for _, r := range f.Recipients {
		err := all(
			field{"recipient", name.MatchString(r.Destination) && name.MatchString(r.Node)}, field{"number of a recipient", r.Number < 1e12},
			field{"confirmation of a recipient", whole(r.At, unit) == r.Confirmed && r.At.IsZero() != r.Confirmed},
		)
		if err != nil {
			return err
		}
	}
	return checkExceptions(f.Exceptions)
}

func checkExceptions(list []Exception) error {
	known := map[string]bool{RemainsConsentProofs: true, RemainsSuppression: true, RemainsKeyCopies: true, RemainsDownstream: true}
	for _, x := range list {
		err := all(
			field{"exception", known[x.What]}, field{"count of an exception", count(x.Count)},
			field{"end of an exception", wholeOrNone(x.Until, time.Millisecond)}, field{"basis of an exception", plain(x.Basis)},
		)
		if err != nil {
			return err
		}
	}
	return all(field{"exceptions", ascending(list, Exception.compare)})
}

func (x Exception) compare(other Exception) int { return strings.Compare(x.What, other.What) }

// SignCertificate signs a certificate with the custodian's key, whose id it bears. Prove comes before: a custodian signs nothing that it has
// not seen proven.
func SignCertificate(c Certificate, key ed25519.PrivateKey) (string, error) {
	if len(key) == ed25519.PrivateKeySize {
		c.Custodian = consent.KeyID(key.Public().(ed25519.PublicKey))
	}
	c.Completed = stamp(c.Completed)
	return sign(certificateKind, &c, key)
}

// VerifyCertificate checks a certificate offline: signature, shape, and that every fact of the gateway's is in the log whose heads v's key
// signed and says what the certificate says. ErrMismatch names the fact.
func VerifyCertificate(token string, custodian ed25519.PublicKey, v *evidence.Verifier) (Certificate, error) {
	c, err := verify[Certificate](certificateKind, token, custodian)
	if err != nil {
		return Certificate{}, err
	}
	if c.Custodian != consent.KeyID(custodian) {
		return Certificate{}, fmt.Errorf("verifying certificate: %w: custodian", ErrMismatch)
	}
	if err := c.Prove(v); err != nil {
		return Certificate{}, fmt.Errorf("verifying certificate: %w", err)
	}
	return c, nil
}
