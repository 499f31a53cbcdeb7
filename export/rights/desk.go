package rights

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Visitor is who a browser or an app speaks for: the subject of the credential that came with the request, or nobody.
type Visitor struct {
	Subject  subject.Subject
	Language string // that the person reads, BCP 47
}

// call is a request as the desk reads it.
type call struct {
	ctx     context.Context
	actor   string // name of the access token
	visitor Visitor
	bearer  string // Authorization, without its scheme
	id      string // of the path
	action  string // of the path
	region  string // of phone numbers without a country code
	query   func(name string) string
	body    func(most int) ([]byte, error)
	stream  io.Reader // the body, where it is long
	report  string    // X-Octroi-Report
}

// reply is what is answered: value as JSON, or text, or file.
type reply struct {
	status int
	value  any
	text   string
	file   *opened
	forget bool // the browser is to forget its credential
}

// The bounds of bodies, in bytes.
const (
	maxBody      = 64 << 10
	maxStatement = 2 << 20 // one signed statement
)

// wish is the body of a new request.
type wish struct {
	Right     proof.Right       `json:"right"`
	Purposes  []string          `json:"purposes"`
	Language  string            `json:"language"`
	Subject   map[string]string `json:"subject"`     // namespace → identifier
	Device    string            `json:"device"`      // a credential
	Received  time.Time         `json:"received_at"` // where it arrived elsewhere before
	Recipient string            `json:"recipient"`   // age recipient of an access package
}

// noMatch is the answer where nobody is known (rights.md D14): no 404, and how to supply more.
type noMatch struct {
	Result string            `json:"result"`
	Supply map[string]string `json:"supply"` // language → what would help
}

func unknownSubject() reply {
	return reply{status: http.StatusOK, value: noMatch{"no_match", map[string]string{
		"en": "Nothing is known under what was given. Ask from the browser or app whose data it is: its own cookie is proof enough. " +
			"Or give another identifier: an e-mail address, a phone number, a customer, loyalty or receipt number.",
		"fr": "Rien n'est connu sous ce qui a été donné. Faites la demande depuis le navigateur ou l'application dont ce sont les données : " +
			"son propre cookie suffit comme preuve. Ou donnez un autre identifiant : adresse électronique, téléphone, numéro de client, de fidélité ou de ticket.",
	}}}
}

// postMine opens a request of the person whose cookie came along.
func (r *Requests) postMine(c *call) (reply, error) {
	var in struct {
		wish
		Key string `json:"k"` // of the site: Visitor has looked at it
	}
	body, err := c.body(maxBody)
	if err != nil {
		return reply{}, err
	}
	if err := decode(body, &in); err != nil {
		return reply{}, err
	}
	if len(in.Subject) > 0 || in.Device != "" || !in.Received.IsZero() { // a body proves nothing (D5)
		return reply{}, fmt.Errorf("%w: only right, purposes, language and recipient", ErrInput)
	}
	b, created, err := c.self(r).Ask(c.ctx, Wish{in.Right, in.Purposes, in.Language, in.Recipient})
	if errors.Is(err, ErrNoMatch) {
		return unknownSubject(), nil
	}
	if err != nil || !created {
		return reply{status: http.StatusOK, value: b}, err
	}
	return reply{status: http.StatusCreated, value: b, forget: b.Right == proof.Erasure && len(b.Purposes) == 0}, nil
}

// self is the person whose call it is.
func (c *call) self(r *Requests) Self { return r.Self(c.visitor, c.bearer) }

func languageOr(first, second string) string {
	if l := languageOf(first); l != "" {
		return l
	}
	return languageOf(second)
}

func hashSecret(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// followedWith says whether a text is the secret that the request is followed with. It takes as long where there is no request.
func (q *requestRow) followedWith(text string) bool {
	kept := make([]byte, sha256.Size)
	if q != nil && len(q.Secret) == sha256.Size {
		kept = q.Secret
	}
	return subtle.ConstantTimeCompare(kept, hashSecret(text)) == 1 && q != nil
}

// mine is the request of the path, if it is the caller's: by the cookie of its subject, or by its secret. ErrNoRequest otherwise, and in the
// same words where there is none.
func (r *Requests) mine(c *call) (*requestRow, error) {
	q, err := r.request(c.id)
	if err != nil && !errors.Is(err, ErrNoRequest) {
		return nil, err
	}
	if q.followedWith(c.bearer) {
		return q, nil
	}
	if q == nil || !c.visitor.Subject.Exists() {
		return nil, ErrNoRequest
	}
	err = r.o.State.View(func(v reader) error {
		_, err := v.Get(c.visitor.Subject.RowKey(ownTable, idKey("", q.ID)))
		return err
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, ErrNoRequest
	}
	return q, err
}

func (r *Requests) listMine(c *call) (reply, error) {
	list, err := c.self(r).Requests()
	return reply{status: http.StatusOK, value: map[string]any{"requests": list}}, err
}

func (r *Requests) getMine(c *call) (reply, error) {
	b, err := c.self(r).Request(c.id)
	return reply{status: http.StatusOK, value: b}, err
}

func (r *Requests) openMine(c *call) (reply, error) {
	f, err := c.self(r).Open(c.ctx, c.id, c.query("format"))
	return reply{status: http.StatusOK, file: f}, err
}

func (r *Requests) certificateOfMine(c *call) (reply, error) {
	text, err := c.self(r).Certificate(c.id)
	return reply{status: http.StatusOK, text: text}, err
}

func (r *Requests) cancelMine(c *call) (reply, error) {
	b, err := c.self(r).Cancel(c.ctx, c.id)
	return reply{status: http.StatusOK, value: b}, err
}

// post opens a request that an officer enters for somebody. Who it is must still be verified, and the job approved.
func (r *Requests) post(c *call) (reply, error) {
	var in wish
	body, err := c.body(maxBody)
	if err != nil {
		return reply{}, err
	}
	if err := decode(body, &in); err != nil {
		return reply{}, err
	}
	s, err := r.find(&in, c.region)
	if errors.Is(err, ErrNoMatch) {
		return unknownSubject(), nil
	}
	if err != nil {
		return reply{}, err
	}
	q, created, err := r.submit(c.ctx, submission{
		right: in.Right, origin: proof.ByDPO, actor: c.actor, subject: s, purposes: in.Purposes, received: in.Received,
		language: languageOf(in.Language), recipient: in.Recipient,
	})
	if errors.Is(err, subject.ErrShredded) {
		return unknownSubject(), nil
	}
	if err != nil {
		return reply{}, err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return r.show(q, status)
}

// maxIdentifiers bounds the identifiers of a request; there are fewer namespaces.
const maxIdentifiers = 8

// find is the subject that a request names: ErrNoMatch where nobody is known.
func (r *Requests) find(in *wish, region string) (s subject.Subject, err error) {
	switch {
	case in.Device != "" && len(in.Subject) == 0:
		credential, ok := subject.ParseCredential(in.Device)
		if !ok {
			return s, fmt.Errorf("%w: device is a credential as the gateway gave it out", ErrInput)
		}
		s, err = r.o.Subjects.Device(credential)
	case in.Device == "" && len(in.Subject) > 0 && len(in.Subject) <= maxIdentifiers:
		var ids []subject.Identifier
		for _, namespace := range slices.Sorted(maps.Keys(in.Subject)) {
			id, err := subject.Normalise(namespace, in.Subject[namespace], region)
			if err != nil {
				return s, err
			}
			ids = append(ids, id)
		}
		s, err = r.o.Subjects.Person(ids...)
	default:
		return s, fmt.Errorf("%w: subject or device, one of the two", ErrInput)
	}
	if errors.Is(err, subject.ErrUnknown) || errors.Is(err, subject.ErrShredded) {
		return s, ErrNoMatch
	}
	return s, err
}

func (r *Requests) show(q *requestRow, status int) (reply, error) {
	f, err := r.filed(q)
	return reply{status: status, value: f}, err
}

func (r *Requests) getList(c *call) (reply, error) {
	f := filter{state: State(c.query("state")), overdue: c.query("overdue") == "true", after: c.query("after")}
	if f.state != "" && f.state != "open" && !slices.Contains(States(), f.state) {
		return reply{}, fmt.Errorf("%w: state is open, or one of the states", ErrInput)
	}
	p, err := r.list(f)
	return reply{status: http.StatusOK, value: p}, err
}

func (r *Requests) getOne(c *call) (reply, error) {
	q, err := r.request(c.id)
	if err != nil {
		return reply{}, err
	}
	return r.show(q, http.StatusOK)
}

// getJob is the text that the officer approves.
func (r *Requests) getJob(c *call) (reply, error) {
	q, err := r.request(c.id)
	if err != nil {
		return reply{}, err
	}
	j, err := r.jobOf(q)
	return reply{status: http.StatusOK, value: j}, err
}

func (r *Requests) getPackage(c *call) (reply, error) {
	f, err := r.openPackage(c.ctx, c.id, c.actor, c.query("format"))
	return reply{status: http.StatusOK, file: f}, err
}

func (r *Requests) getCertificate(c *call) (reply, error) {
	text, err := r.Certificate(c.id)
	return reply{status: http.StatusOK, text: text}, err
}

func (r *Requests) postDecision(c *call) (reply, error) {
	var d Decision
	body, err := c.body(maxStatement)
	if err != nil {
		return reply{}, err
	}
	if err := decode(body, &d); err != nil {
		return reply{}, err
	}
	if !slices.Contains(Actions(), Action(c.action)) {
		return reply{}, ErrNoRequest
	}
	d.Approval = strings.TrimSpace(d.Approval)
	done, err := r.decide(c.ctx, c.id, Action(c.action), c.actor, d)
	if err != nil {
		return reply{}, err
	}
	f := r.full(done.request)
	f.Letter = done.letter
	return reply{status: http.StatusOK, value: f}, nil
}

// scheduled says what may be cut by retention.
type scheduled struct {
	InForce  bool           `json:"in_force"`
	Schedule proof.Schedule `json:"schedule"` // of the policy in force, to be approved
	Waiting  int            `json:"waiting"`  // destinations and purposes whose batches are over and wait for a schedule
	Without  []string       `json:"without"`  // hashes of the policies that these were shipped under, and whose schedule nobody has approved
}

func (r *Requests) getSchedule(*call) (reply, error) {
	s := proof.NewSchedule(r.o.Node, r.o.Policy, r.now())
	kept, err := r.schedule(s.Policy)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, value: scheduled{kept != nil, s, r.Figures().Unscheduled, r.unapproved()}}, nil
}

// unapproved are the policies whose schedule is missing.
func (r *Requests) unapproved() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.without)
}

func (r *Requests) postSchedule(c *call) (reply, error) {
	var in struct {
		Schedule string `json:"schedule"`
	}
	body, err := c.body(maxStatement)
	if err != nil {
		return reply{}, err
	}
	if err := decode(body, &in); err != nil {
		return reply{}, err
	}
	if err := r.keepSchedule(c.ctx, strings.TrimSpace(in.Schedule)); err != nil {
		return reply{}, err
	}
	return r.getSchedule(c)
}
