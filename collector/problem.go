package collector

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/octroi/octroi/collector/spool"
	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/collector/wire/ijson"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The errors of the edge itself.
var (
	errKey       = errors.New("the site key is missing or unknown")
	errAuth      = errors.New("the authorization header is neither a token nor a credential")
	errScope     = errors.New("the token lacks the scope")
	errActor     = errors.New("the token does not say who holds it")
	errSite      = errors.New("the token may not speak for this site")
	errOrigin    = errors.New("the origin is not one of the site")
	errSpeaks    = errors.New("a site key speaks only for the device whose credential comes with the request")
	errNoLogin   = errors.New("the site has no login key, so no claim of it can be believed")
	errSize      = errors.New("body is too large")
	errNoSubject = errors.New("nobody is known by what came with the request")
	errNotFound  = errors.New("no such thing here")
)

// tooSoon is the answer to a network that posts too often.
type tooSoon struct{ wait time.Duration }

func (tooSoon) Error() string { return "too many requests from this network" }

// halfRecorded is a choice whose refusals were recorded and whose grants could not be.
type halfRecorded struct {
	recorded recorded
	err      error
}

func (e *halfRecorded) Error() string { return "recording the granted part: " + e.err.Error() }
func (e *halfRecorded) Unwrap() error { return e.err }

// problem is an RFC 9457 problem document. It never repeats what the client sent.
type problem struct {
	Type     string `json:"type"`  // about:blank: the status says what kind it is, code which
	Title    string `json:"title"` // of the status
	Status   int    `json:"status"`
	Code     string `json:"code,omitempty"`
	Detail   string `json:"detail,omitempty"`
	Field    string `json:"field,omitempty"`
	Instance string `json:"instance,omitempty"` // of a 5xx: the id that its log line has too

	// Recorded is what the same post refused, which was recorded although nothing of what it granted was (C4).
	Recorded *recorded `json:"recorded,omitempty"`

	retry time.Duration // Retry-After; 0: none
}

// answers is the one table from errors to answers. What is not in it is a 503: the gateway fails closed (G2).
var answers = [...]struct {
	err    error
	status int
	code   string
	detail string // empty: the error's own text
}{
	{errKey, http.StatusUnauthorized, "site_key", "give a known site key as ?k= or as \"k\" in the body, or an access token"},
	{errAuth, http.StatusUnauthorized, "authorization", "Authorization is \"Bearer \" and an access token or a device's credential"},
	{ErrToken, http.StatusUnauthorized, "token", ""},
	{errScope, http.StatusForbidden, "scope", ""},
	{errActor, http.StatusForbidden, "actor", ""},
	{errSite, http.StatusForbidden, "site", ""},
	{errOrigin, http.StatusForbidden, "origin", ""},
	{errSpeaks, http.StatusForbidden, "subject", ""},
	{errNoLogin, http.StatusForbidden, "login_key", ""},
	{ErrClaim, http.StatusForbidden, "claim", ""},
	{consent.ErrNoLinking, http.StatusConflict, "no_linking", "the device does not consent to linking"},
	{errNoSubject, http.StatusNotFound, "no_record", ""},
	{errNotFound, http.StatusNotFound, "not_found", ""},
	{pseudonymize.ErrReference, http.StatusNotFound, "reference", ""},
	{errSize, http.StatusRequestEntityTooLarge, "size", ""},
	{errBomb, http.StatusRequestEntityTooLarge, "decompressed_size", ""},
	{wire.ErrTooMany, http.StatusRequestEntityTooLarge, "too_many", ""},
	{errMedia, http.StatusUnsupportedMediaType, "media_type", ""},
	{errEncoding, http.StatusUnsupportedMediaType, "content_encoding", ""},
	{errGzip, http.StatusBadRequest, "gzip", ""},
	{ijson.ErrSyntax, http.StatusBadRequest, "json", ""},
	{ijson.ErrDepth, http.StatusBadRequest, "depth", ""},
	{ijson.ErrEncoding, http.StatusBadRequest, "utf8", ""},
	{wire.ErrForm, http.StatusBadRequest, "form", ""},
	{ijson.ErrTooMany, http.StatusRequestEntityTooLarge, "too_many", ""},
	{wire.ErrDuplicate, http.StatusBadRequest, "duplicate_name", ""},
	{subject.ErrIdentifier, http.StatusBadRequest, "identifier", "an identifier cannot be normalised in its namespace"},
	{subject.ErrNamespace, http.StatusBadRequest, "namespace", "an identifier's namespace is unknown"},
	{subject.ErrTwoPersons, http.StatusUnprocessableEntity, "two_persons", "the identifiers name two different persons"},
	{subject.ErrNamespaceTaken, http.StatusUnprocessableEntity, "namespace_taken", "the person has another identifier in one of the namespaces"},
	{consent.ErrProof, http.StatusConflict, "proof", "a purpose asks for better proof: read GET /v1/notice and send its snapshot"},
	{consent.ErrSnapshotOld, http.StatusConflict, "snapshot_expired", "the snapshot has expired: read GET /v1/notice again"},
	{consent.ErrSnapshot, http.StatusConflict, "snapshot", "the snapshot is forged, or of another site"},
	{consent.ErrUnknownNotice, http.StatusUnprocessableEntity, "notice", "no published notice has this hash"},
	{consent.ErrUnknownPurpose, http.StatusUnprocessableEntity, "purpose", "a purpose is unknown"},
	{consent.ErrBasis, http.StatusUnprocessableEntity, "basis", "a purpose does not rest on consent"},
	{consent.ErrNoChoice, http.StatusUnprocessableEntity, "no_choice", ""},
	{consent.ErrGivenAt, http.StatusUnprocessableEntity, "given_at", ""},
	{consent.ErrNoRecord, http.StatusNotFound, "no_record", ""},
	{spool.ErrFull, http.StatusServiceUnavailable, "busy", ""},
	{spool.ErrClosed, http.StatusServiceUnavailable, "stopping", ""},
	{state.ErrClosed, http.StatusServiceUnavailable, "stopping", ""},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "busy", ""},
}

// retryAfter is how long a client shall wait after a 503.
const retryAfter = 5 * time.Second

// problemOf is the answer to an error.
func problemOf(err error) problem {
	var field *wire.FieldError
	var soon tooSoon
	var half *halfRecorded
	var closed noConsent
	switch {
	case errors.As(err, &closed):
		return blank(http.StatusConflict, string(consent.NoConsent), "this browser has not agreed to be linked", "")
	case errors.As(err, &half):
		p := problemOf(half.err)
		p.Recorded = &half.recorded
		return p
	case errors.As(err, &field):
		return blank(http.StatusBadRequest, "field", field.Right, field.Field)
	case errors.As(err, &soon):
		p := blank(http.StatusTooManyRequests, "rate", soon.Error(), "")
		p.retry = soon.wait
		return p
	}
	if errors.Is(err, consent.ErrErased) { // not 409: a refusal is never answered so (C4)
		const detail = "a person of these identifiers was erased after this time: say no more of what was before"
		return blank(http.StatusUnprocessableEntity, "erased", detail, "given_at")
	}
	for _, a := range answers {
		if !errors.Is(err, a.err) {
			continue
		}
		if a.status >= 500 {
			return failure(a.status, a.code)
		}
		detail := a.detail
		if detail == "" {
			detail = a.err.Error()
		}
		return blank(a.status, a.code, detail, "")
	}
	return failure(http.StatusServiceUnavailable, "unavailable")
}

func blank(status int, code, detail, field string) problem {
	return problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail, Field: field}
}

// failure is a 5xx: its id and no reason.
func failure(status int, code string) problem {
	p := blank(status, code, "", "")
	p.Instance = "urn:uuid:" + uuid.NewString()
	if status == http.StatusServiceUnavailable {
		p.retry = retryAfter
	}
	return p
}

// reply is the problem as an answer.
func (p problem) reply() reply {
	body, _ := json.Marshal(p) // a struct of texts and a number cannot fail
	r := reply{status: p.Status, media: "application/problem+json", body: body}
	if p.retry > 0 {
		r.retryAfter = strconv.Itoa(int(math.Ceil(p.retry.Seconds())))
	}
	if p.Status == http.StatusUnauthorized {
		r.authenticate = "Bearer"
	}
	return r
}
