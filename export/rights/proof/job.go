package proof

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/policies"
)

// Job is what is to be done, as it is approved: the pseudonyms are those whose rows may be read or cut, and no others; and the rules say what rows
// keep, so that nobody can choose later what else they lose.
type Job struct {
	Version      int                 `json:"v"` // 1
	Node         string              `json:"node"`
	Request      string              `json:"request"` // UUID
	Right        Right               `json:"right"`
	Origin       Origin              `json:"origin"`
	Received     time.Time           `json:"received"` // UTC, seconds
	Purposes     []string            `json:"purposes,omitempty"`
	Rules        export.PurposeRules `json:"rules,omitempty"`        // where Purposes go: what those that stay allow of rows
	Language     string              `json:"language,omitempty"`     // of an access package: fr or en first
	Recipient    string              `json:"recipient,omitempty"`    // age recipient that an access package is sealed to
	Destinations []Whose             `json:"destinations,omitempty"` // by name; retention has none
}

// Whose are the pseudonyms of one person at one destination, 32 hex digits each.
type Whose struct {
	Destination string   `json:"destination"`
	Devices     []string `json:"devices,omitempty"`
	Persons     []string `json:"persons,omitempty"`
	// With are persons whose rows are shown too where they stand under one of the devices: of an access, the one who is signed in there. Rows of a
	// device that name anybody else are not shown (GDPR Art. 15(4)).
	With []string `json:"with,omitempty"`
}

// MaxPseudonyms bounds the pseudonyms of a job at each destination.
const MaxPseudonyms = 64

// Pseudonyms is how many a job names in all; MaxPseudonyms bounds what one approval can reach.
func (j *Job) Pseudonyms() (n int) {
	for _, w := range j.Destinations {
		n += len(w.Devices) + len(w.Persons) + len(w.With)
	}
	return n
}

// Places is how many places a job takes under the daily cap: one for each pseudonym at the destination where it names most. A subject has one at
// each; nobody but the gateway knows which of two destinations are the same subject's. With takes none: it shows no row that is not one of the
// devices'.
func (j *Job) Places() (n int) {
	for _, w := range j.Destinations {
		n = max(n, len(w.Devices)+len(w.Persons))
	}
	return max(n, 1)
}

// Same says whether two jobs are the same in every field: what an approval is held against.
func (j *Job) Same(other *Job) bool {
	one, err1 := json.Marshal(j)
	two, err2 := json.Marshal(other)
	return err1 == nil && err2 == nil && bytes.Equal(one, two)
}

// Check says whether a job that came unsigned could be signed: ErrStatement.
func (j *Job) Check() error { return j.check() }

func (j *Job) check() error {
	err := all(
		field{"v", j.Version == 1}, field{"node", name.MatchString(j.Node)}, field{"request", requestID.MatchString(j.Request)},
		field{"right", j.Right.known()}, field{"origin", j.Origin.known()}, field{"received", whole(j.Received, time.Second)},
		field{"purposes", set(j.Purposes, name, maxPurposes)}, field{"rules", len(j.Rules) <= maxPurposes},
		field{"language", j.Language == "" || j.Language == "fr" || j.Language == "en"},
		field{"recipient", j.Recipient == "" || recipient.MatchString(j.Recipient)},
		field{"destinations", len(j.Destinations) <= maxDestinations && ascending(j.Destinations, func(a, b Whose) int {
			return strings.Compare(a.Destination, b.Destination)
		})},
	)
	if err != nil {
		return err
	}
	for i := range j.Destinations {
		if err := j.Destinations[i].check(); err != nil {
			return fmt.Errorf("%w of a destination", err)
		}
	}
	for purpose, fields := range j.Rules {
		if !name.MatchString(purpose) {
			return malformed("rules of a purpose")
		}
		if err := checkRules(fields); err != nil {
			return err
		}
	}
	return j.agree()
}

// agree: what right and origin leave of the other fields.
func (j *Job) agree() error {
	switch {
	case j.Right == Access && len(j.Purposes) > 0: // all of Art. 15(1), or nothing
		return malformed("purposes of an access")
	case j.Right == Access && (j.Origin == ByWithdrawal || j.Origin == ByRetention):
		return malformed("origin of an access")
	case j.Right == Erasure && slices.ContainsFunc(j.Destinations, func(w Whose) bool { return len(w.With) > 0 }):
		return malformed("with of an erasure")
	case j.Right == Erasure && j.Recipient != "":
		return malformed("recipient of an erasure")
	case (j.Origin == ByWithdrawal || j.Origin == ByRetention) && len(j.Purposes) == 0:
		return malformed("purposes are missing")
	case j.Origin == ByRetention && len(j.Destinations) > 0:
		return malformed("pseudonyms of a retention")
	case len(j.Rules) > 0 && (len(j.Purposes) == 0 || j.Origin == ByRetention): // the schedule has those of a retention
		return malformed("rules of a job that needs none")
	}
	return nil
}

func (w *Whose) check() error {
	n := len(w.Devices) + len(w.Persons)
	return all(
		field{"name", name.MatchString(w.Destination)}, field{"number of pseudonyms", n > 0 && n+len(w.With) <= MaxPseudonyms},
		field{"devices", set(w.Devices, pseudonym, MaxPseudonyms)}, field{"persons", set(w.Persons, pseudonym, MaxPseudonyms)},
		field{"with", set(w.With, pseudonym, MaxPseudonyms) && (len(w.With) == 0 || len(w.Devices) > 0)},
	)
}

// Approve signs a job with the DPO's approval key.
func Approve(j Job, key ed25519.PrivateKey) (string, error) { return sign(approvalKind, &j, key) }

// VerifyApproval opens an approval: the job that was signed. ErrSignature, ErrStatement.
func VerifyApproval(token string, key ed25519.PublicKey) (Job, error) {
	return verify[Job](approvalKind, token, key)
}

// Schedule is the retention that a DPO approved for a policy: what the custodian may cut by its own clock, and what rows keep for the purposes
// that are not over yet. Without Rules a false gateway could have every field of old rows wiped.
type Schedule struct {
	Version   int                 `json:"v"` // 1
	Node      string              `json:"node"`
	Policy    string              `json:"policy"`    // hex hash of the policy
	Retention map[string]string   `json:"retention"` // purpose → ISO 8601 period
	Rules     export.PurposeRules `json:"rules"`     // of the same purposes
	IssuedAt  time.Time           `json:"iat"`
}

// NewSchedule is the retention of every purpose of a policy, to be approved for a node.
func NewSchedule(node string, p *policies.Policy, at time.Time) Schedule {
	hash := p.Hash()
	s := Schedule{
		Version: 1, Node: node, Policy: fmt.Sprintf("%x", hash), IssuedAt: stamp(at),
		Retention: map[string]string{}, Rules: export.PurposeRules{},
	}
	for _, purpose := range p.Purposes() {
		s.Retention[purpose.ID] = purpose.Retention.String()
		s.Rules[purpose.ID] = map[string]policies.Treatment{} // never null: a purpose may keep no field
		maps.Copy(s.Rules[purpose.ID], purpose.Fields)
	}
	return s
}

func (s *Schedule) check() error {
	err := all(
		field{"v", s.Version == 1}, field{"node", name.MatchString(s.Node)}, field{"policy", digest.MatchString(s.Policy)},
		field{"iat", whole(s.IssuedAt, time.Millisecond)}, field{"retention", len(s.Retention) > 0 && len(s.Retention) <= maxPurposes},
	)
	if err != nil {
		return err
	}
	for purpose, text := range s.Retention {
		period, err := policies.ParsePeriod(text)
		// One spelling, and never at once: a schedule that is nothing but a wipe is no retention.
		if !name.MatchString(purpose) || err != nil || period.IsZero() || period.String() != text {
			return malformed("retention of a purpose")
		}
	}
	for purpose, fields := range s.Rules {
		if _, ok := s.Retention[purpose]; !ok {
			return malformed("rules of a purpose")
		}
		if err := checkRules(fields); err != nil {
			return err
		}
	}
	return nil
}

// checkRules checks the fields that one purpose allows.
func checkRules(fields map[string]policies.Treatment) error {
	if len(fields) > policies.MaxFields {
		return malformed("rules of a purpose")
	}
	for field, treatment := range fields {
		if !plain(field) || treatment != policies.Drop && treatment.Reveals() == 0 {
			return malformed("rules of a field")
		}
	}
	return nil
}

// ApproveSchedule signs a retention schedule with the DPO's approval key.
func ApproveSchedule(s Schedule, key ed25519.PrivateKey) (string, error) {
	s.IssuedAt = stamp(s.IssuedAt)
	return sign(scheduleKind, &s, key)
}

// VerifySchedule opens an approved schedule.
func VerifySchedule(token string, key ed25519.PublicKey) (Schedule, error) {
	return verify[Schedule](scheduleKind, token, key)
}
