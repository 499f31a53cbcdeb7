// Package proof holds the signed statements that pass between the data protection officer, the gateway, the custodian and whoever checks
// them later: the job, its approval, the custodian's reports, and the certificate. It has no state and does no I/O.
//
// Every statement is a JWT (RFC 7519, EdDSA of RFC 8037) of a typ of its own (RFC 8725 section 3.11), with one spelling: a pinned header, claims
// in the order of the struct without white space, no unknown member. No statement holds an identifier; pseudonyms stand in jobs and approvals only.
package proof

import (
	"crypto/ed25519"
	"errors"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/export"
)

// The errors of this package.
var (
	ErrSignature = errors.New("statement's signature is not the expected holder's")
	ErrStatement = errors.New("statement is malformed")
	ErrMismatch  = errors.New("statement does not say what was observed") // the text names the fact
)

// Right is a right of GDPR chapter III that a job carries out.
type Right string

// The rights in force.
const (
	Access  Right = "access"  // Art. 15
	Erasure Right = "erasure" // Art. 17
)

// Origin says what a job rests on.
type Origin string

// The origins of jobs. Those of the person and of a withdrawal are obeyed under the custodian's daily cap; those of the DPO need an Approval;
// retention needs an approved Schedule.
const (
	ByPerson     Origin = "person"
	ByDPO        Origin = "dpo"
	ByWithdrawal Origin = "withdrawal"
	ByRetention  Origin = "retention"
)

// Job is what is to be done, as it is approved: the pseudonyms are those whose rows may be read or cut, and no others.
type Job struct {
	Version      int       `json:"v"` // 1
	Node         string    `json:"node"`
	Request      string    `json:"request"` // UUID
	Right        Right     `json:"right"`
	Origin       Origin    `json:"origin"`
	Received     time.Time `json:"received"` // UTC, seconds
	Purposes     []string  `json:"purposes,omitempty"`
	Language     string    `json:"language,omitempty"`  // of an access package: fr or en first
	Recipient    string    `json:"recipient,omitempty"` // age recipient that an access package is sealed to
	Destinations []Whose   `json:"destinations"`
}

// Whose are the pseudonyms of one person at one destination, 32 hex digits each.
type Whose struct {
	Destination string   `json:"destination"`
	Devices     []string `json:"devices,omitempty"`
	Persons     []string `json:"persons,omitempty"`
}

// Pseudonyms is how many a job names in all; MaxPseudonyms bounds what one approval, or one place under the cap, can reach.
func (j *Job) Pseudonyms() (n int) {
	for _, w := range j.Destinations {
		n += len(w.Devices) + len(w.Persons)
	}
	return n
}

// MaxPseudonyms bounds the pseudonyms of a job at each destination.
const MaxPseudonyms = 64

// Schedule is the retention that a DPO approved for a policy: what the custodian may cut by its own clock.
type Schedule struct {
	Version   int               `json:"v"`
	Node      string            `json:"node"`
	Policy    string            `json:"policy"`    // hex hash of the policy
	Retention map[string]string `json:"retention"` // purpose → ISO 8601 period
	IssuedAt  time.Time         `json:"iat"`
}

// Work is what the gateway asks of the custodian: GET /v1/custody/work. Nothing in it is believed that the custodian can check itself.
type Work struct {
	Node    string       `json:"node"`
	Time    time.Time    `json:"time"`
	Items   []Item       `json:"items"`
	Batches []WorkBatch  `json:"batches"`
	Notices []OldNotice  `json:"notices,omitempty"` // acknowledged by all: to be deleted
	Journal []OldJournal `json:"journal,omitempty"` // suppressions that are over: to be deleted
}

// The stages of an item.
const (
	StageCollect = "collect" // access: make the package
	StageRewrite = "rewrite" // erasure: cut the rows
	StageCertify = "certify" // erasure: everything is observed, sign the certificate
)

// Item is one open job.
type Item struct {
	Job      Job                 `json:"job"`
	Approval string              `json:"approval,omitempty"` // of the job, or of the schedule
	Stage    string              `json:"stage"`
	Batches  []string            `json:"batches"`            // ids of all batches concerned, those that are done included
	Rules    export.PurposeRules `json:"rules,omitempty"`    // erasure of some purposes
	Material []byte              `json:"material,omitempty"` // access: what the gateway itself knows, JSON of access.Material
	Facts    *Facts              `json:"facts,omitempty"`    // certify
}

// WorkBatch is a batch of some items.
type WorkBatch struct {
	ID       string   `json:"id"`
	Entry    string   `json:"entry"`              // signed text of the stream entry that states its present object
	Replaced string   `json:"replaced,omitempty"` // stage purge: signed text of the entry that stated the object before
	Stage    string   `json:"stage"`              // rewrite | publish | purge | done
	Items    []string `json:"items"`              // requests that still want it rewritten, or purged
}

// The stages of a batch.
const (
	BatchRewrite = "rewrite" // read, cut, put, report
	BatchPublish = "publish" // reported; wait for the replace entry
	BatchPurge   = "purge"   // the replace entry is published: delete every other version and prove it
	BatchDone    = "done"
)

// OldNotice is a notice object that every loader has acknowledged.
type OldNotice struct {
	Entry string `json:"entry"` // signed text of its stream entry
}

// OldJournal is a suppression whose time is over.
type OldJournal struct {
	Key string `json:"key"`
}

// Rewrite is the custodian's report of one rewritten batch.
type Rewrite struct {
	Version    int            `json:"v"`
	Batch      string         `json:"batch"`
	Generation int            `json:"generation"` // claimed
	Before     string         `json:"before"`     // SHA-256 of the object that was read, hex
	Scanned    int            `json:"scanned"`    // rows
	Cut        map[string]Cut `json:"cut"`        // by request
	Now        *export.Batch  `json:"now,omitempty"`
	Unchanged  bool           `json:"unchanged"` // no row was concerned: nothing was put
	At         time.Time      `json:"at"`
}

// Cut counts what one job took out of one batch.
type Cut struct {
	Erased  int `json:"erased"`  // rows that are gone
	Reduced int `json:"reduced"` // rows that lost a purpose
}

// Purge is the custodian's report that no version of a batch's former objects is left.
type Purge struct {
	Version  int       `json:"v"`
	Batch    string    `json:"batch"`
	Current  string    `json:"current"`  // key of the object that stays; empty: none
	Deleted  []Gone    `json:"deleted"`  // versions and delete markers
	Uploads  int       `json:"uploads"`  // unfinished multipart uploads that were aborted
	Verified time.Time `json:"verified"` // when a listing showed none of them and a read answered that there is none
}

// Gone is one version that was deleted.
type Gone struct {
	Key     string `json:"key"`
	Version string `json:"version"`
	Marker  bool   `json:"marker,omitempty"`
}

// Collected is the custodian's report that accompanies an access package.
type Collected struct {
	Version int            `json:"v"`
	Request string         `json:"request"`
	SHA256  string         `json:"sha256"` // of the package as it is uploaded
	Size    int64          `json:"size"`
	Sealed  bool           `json:"sealed"`  // to the job's recipient
	Objects int            `json:"objects"` // scanned
	Rows    map[string]int `json:"rows"`    // by destination
	At      time.Time      `json:"at"`
}

// Leaf is the core of the evidence leaf of one step of a request. It has random salts and no strippable part, and holds nothing of a person.
type Leaf struct {
	Kind        string         `json:"kind"` // "rights"
	Version     int            `json:"v"`
	Request     string         `json:"request"`
	Right       Right          `json:"right"`
	Origin      Origin         `json:"origin"`
	Event       string         `json:"event"` // see the constants
	Actor       string         `json:"actor"` // person, gateway, custodian, or the name of an access token
	Time        time.Time      `json:"time"`  // UTC, milliseconds
	Due         time.Time      `json:"due,omitzero"`
	Reason      string         `json:"reason,omitempty"` // of a closed list
	Destination string         `json:"destination,omitempty"`
	Number      uint64         `json:"number,omitempty"` // of a stream entry
	SHA256      string         `json:"sha256,omitempty"` // of an approval, a report, a package, a certificate
	Counts      map[string]int `json:"counts,omitempty"`
}

// The events of leaves.
const (
	EventReceived   = "received"
	EventVerified   = "verified"
	EventApproved   = "approved"
	EventDenied     = "denied"
	EventExtended   = "extended"
	EventAsked      = "asked"    // information was asked for: the clock stands
	EventAnswered   = "answered" // and goes on
	EventCancelled  = "cancelled"
	EventExpired    = "expired"
	EventFailed     = "failed"
	EventSuppressed = "suppressed"
	EventSevered    = "severed"    // tags deleted, slot overwritten
	EventNotified   = "notified"   // a destination's stream has the entry: Destination, Number
	EventSpoolGone  = "spool_gone" // nothing that was spooled before the freeze is left
	EventPurged     = "purged"     // the custodian proved every former object gone
	EventConfirmed  = "confirmed"  // a destination acknowledged: Destination, Number
	EventPackaged   = "packaged"   // an access package is there: SHA256
	EventOpened     = "opened"     // and was opened
	EventCertified  = "certified"  // SHA256 of the certificate
	EventCompleted  = "completed"
	EventForgotten  = "forgotten" // the request's identity was purged
)

// Fact is one statement of the gateway's evidence log, opened and proven under a signed head.
type Fact struct {
	Opening evidence.Opening `json:"opening"`
	Proof   evidence.Proof   `json:"proof"`
}

// Facts are what the gateway observed of an erasure, each proven: the certificate repeats nothing else of the gateway's.
type Facts struct {
	Received   time.Time      `json:"received"`
	Suppressed time.Time      `json:"suppressed"`
	Severed    time.Time      `json:"severed,omitzero"` // of a whole subject only
	KeyCopies  time.Time      `json:"key_copies,omitzero"`
	SpoolGone  time.Time      `json:"spool_gone"` // when nothing spooled before the freeze was left
	Purged     time.Time      `json:"purged"`
	Recipients []Confirmation `json:"recipients"`
	Exceptions []Exception    `json:"exceptions,omitempty"`
	Evidence   []Fact         `json:"evidence"` // a Leaf for each of the above: one that is missing is a mismatch
}

// Confirmation is whether a destination has applied the erasure.
type Confirmation struct {
	Destination string    `json:"destination"`
	Node        string    `json:"node"`
	Number      uint64    `json:"number"` // of the erase or withdraw entry; 0: it never received a row
	Confirmed   bool      `json:"confirmed"`
	At          time.Time `json:"at,omitzero"`
}

// Exception is what remains, and until when (GDPR Art. 17(3)).
type Exception struct {
	What  string    `json:"what"` // consent_proofs | import_suppression | key_copies | downstream_unconfirmed
	Count int       `json:"count,omitempty"`
	Until time.Time `json:"until,omitzero"`
	Basis string    `json:"basis,omitempty"` // article
}

// Certificate is what the custodian signs of an erasure: facts that it observed itself, and facts that the gateway's evidence proves.
type Certificate struct {
	Version   int       `json:"v"`
	Node      string    `json:"node"`
	Request   string    `json:"request"`
	Right     Right     `json:"right"`
	Origin    Origin    `json:"origin"`
	Purposes  []string  `json:"purposes,omitempty"`
	Facts     Facts     `json:"facts"`
	Systems   []System  `json:"systems"`
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

// Approve signs a job with the DPO's approval key.
func Approve(j Job, key ed25519.PrivateKey) (string, error) { panic("not yet") }

// VerifyApproval opens an approval: the job that was signed. ErrSignature, ErrStatement.
func VerifyApproval(token string, key ed25519.PublicKey) (Job, error) { panic("not yet") }

// ApproveSchedule signs a retention schedule with the DPO's approval key.
func ApproveSchedule(s Schedule, key ed25519.PrivateKey) (string, error) { panic("not yet") }

// VerifySchedule opens an approved schedule.
func VerifySchedule(token string, key ed25519.PublicKey) (Schedule, error) { panic("not yet") }

// SignRewrite, SignPurge, SignCollected and SignCertificate sign with the custodian's key.
func SignRewrite(r Rewrite, key ed25519.PrivateKey) (string, error) { panic("not yet") }

// VerifyRewrite opens a rewrite report.
func VerifyRewrite(token string, key ed25519.PublicKey) (Rewrite, error) { panic("not yet") }

// SignPurge signs a purge report.
func SignPurge(p Purge, key ed25519.PrivateKey) (string, error) { panic("not yet") }

// VerifyPurge opens a purge report.
func VerifyPurge(token string, key ed25519.PublicKey) (Purge, error) { panic("not yet") }

// SignCollected signs the report of an access package.
func SignCollected(c Collected, key ed25519.PrivateKey) (string, error) { panic("not yet") }

// VerifyCollected opens the report of an access package.
func VerifyCollected(token string, key ed25519.PublicKey) (Collected, error) { panic("not yet") }

// SignCertificate signs a certificate.
func SignCertificate(c Certificate, key ed25519.PrivateKey) (string, error) { panic("not yet") }

// VerifyCertificate checks a certificate offline: signature, shape, and that every fact of the gateway's is in the log whose heads v's key
// signed and says what the certificate says. ErrMismatch names the fact.
func VerifyCertificate(token string, custodian ed25519.PublicKey, v *evidence.Verifier) (Certificate, error) {
	panic("not yet")
}
