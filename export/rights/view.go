package rights

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/access"
	"github.com/octroi/octroi/export/rights/letter"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// answers is the one table from errors to answers. What is not in it is a 503: it fails closed.
var answers = [...]struct {
	err    error
	status int
	code   string
	detail string // empty: the error's own text, which holds nothing of a person
}{
	{ErrNoRequest, http.StatusNotFound, "not_found", "no such request"},
	{ErrTransition, http.StatusConflict, "state", ""},
	{ErrApproval, http.StatusUnprocessableEntity, "approval", ""},
	{ErrSchedule, http.StatusUnprocessableEntity, "schedule", ""},
	{ErrNotReady, http.StatusNotFound, "not_ready", ""},
	{ErrSignedOut, http.StatusConflict, "signed_out", ""},
	{ErrOpened, http.StatusGone, "opened", ""},
	{ErrTooMany, http.StatusServiceUnavailable, "busy", ""},
	{ErrUnproven, http.StatusUnprocessableEntity, "signature", ""},
	{ErrClaimed, http.StatusConflict, "claimed", ""},
	{export.ErrClaim, http.StatusConflict, "claimed_again", ""},
	{export.ErrPending, http.StatusConflict, "pending", ""},
	{ErrReport, http.StatusConflict, "report", ""},
	{export.ErrNoDestination, http.StatusConflict, "destination", ""},
	{export.ErrNoBatch, http.StatusNotFound, "no_batch", "no such batch"},
	{subject.ErrTwoPersons, http.StatusUnprocessableEntity, "two_persons", "the identifiers name two different persons"},
	{subject.ErrIdentifier, http.StatusUnprocessableEntity, "identifier", "an identifier cannot be normalised in its namespace"},
	{subject.ErrNamespace, http.StatusUnprocessableEntity, "namespace", "an identifier's namespace is unknown"},
	{access.ErrPackage, http.StatusServiceUnavailable, "package", ""},
	{ErrInput, http.StatusUnprocessableEntity, "field", ""},
}

// problemOf is the answer to an error; a 5xx says nothing of its reason.
func problemOf(err error) (status int, code, detail string) {
	for _, a := range answers {
		if !errors.Is(err, a.err) {
			continue
		}
		switch {
		case a.status >= http.StatusInternalServerError:
			return a.status, a.code, ""
		case a.detail == "":
			return a.status, a.code, err.Error()
		}
		return a.status, a.code, a.detail
	}
	return http.StatusServiceUnavailable, "unavailable", ""
}

// decode reads a JSON body strictly; an empty body is an empty object.
func decode(body []byte, into any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: the body is not JSON of the expected members", ErrInput) // the cause may quote it
	}
	if d.More() {
		return fmt.Errorf("%w: something follows the JSON of the body", ErrInput)
	}
	return onlyOnce(json.NewDecoder(bytes.NewReader(body)))
}

// onlyOnce refuses JSON, which is known to be well-formed and not deep, of which an object names a member twice: proxies, logs and this package
// would each take another of the two.
func onlyOnce(d *json.Decoder) error {
	open, err := d.Token()
	if err != nil || open != json.Delim('{') && open != json.Delim('[') {
		return err
	}
	seen := map[string]bool{}
	for d.More() {
		if open == json.Delim('{') {
			name, err := d.Token()
			if err != nil {
				return err
			}
			text := strings.ToLower(name.(string)) // encoding/json takes any case
			if seen[text] {
				return fmt.Errorf("%w: the body names a member twice", ErrInput)
			}
			seen[text] = true
		}
		if err := onlyOnce(d); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// brief is a request as the person sees it.
type brief struct {
	ID       string       `json:"id"`
	Right    proof.Right  `json:"right"`
	State    State        `json:"state"`
	Received time.Time    `json:"received"`
	Due      time.Time    `json:"due"`
	DaysLeft int          `json:"days_left"`
	Overdue  bool         `json:"overdue"`
	Purposes []string     `json:"purposes,omitempty"`
	Reason   string       `json:"reason,omitempty"`
	Closed   time.Time    `json:"closed,omitzero"`
	Package  *parcel      `json:"package,omitempty"`
	Letter   letter.Texts `json:"letter,omitempty"`
	Secret   string       `json:"secret,omitempty"` // of a new request: follows it when the cookie is gone
}

// parcel is what is told of an access package.
type parcel struct {
	Until  time.Time `json:"until"`
	Opened time.Time `json:"opened,omitzero"`
	Open   bool      `json:"open"` // it can be opened
	Sealed bool      `json:"sealed"`
}

// full is a request as the officer sees it.
type full struct {
	brief
	Origin      proof.Origin `json:"origin"`
	Step        step         `json:"step,omitempty"`
	Possible    []string     `json:"possible"`
	Extended    int          `json:"extended_months,omitempty"`
	Approved    string       `json:"approved,omitempty"` // SHA-256 of the approval
	Destination string       `json:"destination,omitempty"`
	Batches     int          `json:"batches"`
	Done        int          `json:"done"`
	Notices     []noticeRow  `json:"notices,omitempty"`
	Suppressed  time.Time    `json:"suppressed,omitzero"`
	Severed     time.Time    `json:"severed,omitzero"`
	SpoolGone   time.Time    `json:"spool_gone,omitzero"`
	Purged      time.Time    `json:"purged,omitzero"`
	Refused     *Refusal     `json:"refused,omitempty"` // why the custodian does not carry it out
	Failed      []failure    `json:"failed,omitempty"`  // the batches that it could not do; of one request that is shown, some of them
	Evidence    []int64      `json:"evidence"`          // leaves of the log
}

// failure is why the custodian could not do a batch that a request waits for.
type failure struct {
	Batch       string `json:"batch"`
	Destination string `json:"destination"`
	Refusal
}

// maxFailures bounds those that are shown of one request.
const maxFailures = 20

// failuresOf are those that a request waits for.
func (r *Requests) failuresOf(request string) (list []failure, err error) {
	err = r.o.State.View(func(v reader) error {
		return v.Scan([]byte(batchPrefix), func(key, value []byte) error {
			var row batchRow
			if json.Unmarshal(value, &row) != nil || len(key) != len(batchPrefix)+16 {
				return fmt.Errorf("%w: batch", ErrStored)
			}
			id := export.BatchID(key[len(batchPrefix):])
			if row.Failed == nil {
				return nil
			}
			_, err := v.Get(wantKey(id, request))
			switch {
			case errors.Is(err, state.ErrNotFound):
				return nil
			case err != nil:
				return err
			case len(list) == maxFailures:
				return state.ErrStop
			}
			list = append(list, failure{id.String(), row.Destination, *row.Failed})
			return nil
		})
	})
	return list, err
}

func (r *Requests) brief(q *requestRow) brief {
	now := r.now()
	at := now
	if q.State.Final() {
		at = q.Closed
	}
	due := q.Clock.due(at)
	b := brief{
		ID: q.ID, Right: q.Right, State: q.State, Received: q.Clock.Received, Due: due, DaysLeft: daysLeft(due, at), Overdue: at.After(due),
		Purposes: q.Purposes, Reason: q.Reason, Closed: q.Closed,
	}
	if p := q.Package; p != nil {
		b.Package = &parcel{Until: p.Until, Opened: p.Opened, Open: p.Opened.IsZero() && !p.Gone && now.Before(p.Until), Sealed: p.Sealed}
	}
	return b
}

// told is brief with the letter of the present state.
func (r *Requests) told(q *requestRow) (brief, error) {
	b := r.brief(q)
	var err error
	b.Letter, err = r.letterOf(q)
	return b, err
}

func (r *Requests) full(q *requestRow) full {
	return full{
		brief: r.brief(q), Origin: q.Origin, Step: q.Step, Possible: append([]string{}, q.possible()...), Extended: q.Clock.Months,
		Approved: q.Approved, Destination: q.Destination, Batches: q.Batches, Done: q.Done, Notices: q.Notices, Suppressed: q.Suppressed,
		Severed: q.Severed, SpoolGone: q.SpoolGone, Purged: q.Purged, Refused: q.Refused, Evidence: q.Leaves,
	}
}

// filter is what a list of requests is asked for.
type filter struct {
	state   State // empty: any; "open": every state that is not final
	overdue bool
	after   string // of the last answer
	limit   int
}

// page is a part of the list of requests, the earliest due first.
type page struct {
	Requests []full `json:"requests"`
	After    string `json:"after,omitempty"` // of the next page; empty: this is the last
}

const maxPage = 200

// list is one page of the requests that the filter asks for. Its order is that of due dates, which change only by a decision.
func (r *Requests) list(f filter) (*page, error) {
	if f.limit <= 0 || f.limit > maxPage {
		f.limit = maxPage
	}
	now := r.now()
	var rows []*requestRow
	err := r.o.State.View(func(v reader) error {
		return v.Scan([]byte(requestPrefix), func(_, text []byte) error {
			q := new(requestRow)
			if json.Unmarshal(text, q) != nil || q.Format != rowFormat {
				return ErrStored
			}
			if f.wants(q, now) && f.place(q) > f.after {
				rows = append(rows, q)
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing requests: %w", err)
	}
	slices.SortFunc(rows, func(a, b *requestRow) int { return cmp.Compare(f.place(a), f.place(b)) })
	p := &page{Requests: []full{}}
	for _, q := range rows {
		if len(p.Requests) == f.limit {
			p.After = f.place(rows[f.limit-1])
			break
		}
		p.Requests = append(p.Requests, r.full(q))
	}
	return p, nil
}

func (f *filter) wants(q *requestRow, now time.Time) bool {
	switch {
	case f.state == "open" && q.State.Final():
		return false
	case f.state != "" && f.state != "open" && q.State != f.state:
		return false
	}
	return !f.overdue || !q.State.Final() && now.After(q.Clock.due(now))
}

// place is where a request stands in the list. A clock that stands is taken as it was when it stopped, so that pages do not shift.
func (f *filter) place(q *requestRow) string {
	return q.Clock.due(time.Time{}).Format("20060102150405") + "." + q.ID
}

// languageOf is the language of packages and letters nearest to a tag, or none.
func languageOf(tag string) string {
	tag, _, _ = strings.Cut(strings.ToLower(tag), "-")
	if slices.Contains(letter.Languages(), tag) {
		return tag
	}
	return ""
}
