// Package console is the private listener's pages for the data protection officer and the analyst: requests by due date, how each stands and its
// certificate; how many agree and refuse; journeys; the policies in force. It shows what the private API answers, and changes nothing but its own
// sessions.
//
// Whoever has an access token signs in with it once; from then on a cookie names a session that lives in memory, ends with the process, after half an
// hour of nothing, after eight hours, or with the token. Each page needs the scope of the API it shows. Pages are made here: no script of another
// origin, no font, no picture is fetched, and without script only the Sankey view is missing. French and English.
//
// Call New, then Routes.
package console

import (
	"embed"
	"errors"
	"fmt"
	"html/template"
	"time"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/export/journey"
	"github.com/octroi/octroi/export/rights"
	"github.com/octroi/octroi/policies"
)

// ErrOptions is the error of New.
var ErrOptions = errors.New("console is not configured")

// The scopes that pages need.
const (
	scopeRights   = collector.ScopeRights
	scopeJourneys = collector.ScopeJourneys
)

// Requests are the requests of data subjects. Safe for concurrent use.
type Requests interface {
	List(open bool, after string) (*rights.Page, error)
	Filed(id string) (rights.Filed, error)
	Certificate(id string) (string, error) // rights.ErrNoRequest, rights.ErrNotReady
	Figures() rights.Figures
}

// Journeys are the reports of journeys. Safe for concurrent use.
type Journeys interface {
	Listing() (journey.Listing, error)
	Report(q journey.Query) (journey.Answer, error) // journey.QueryError, journey.ErrCounting
}

// Options configure New. Journeys may be nil: no purpose is for them.
type Options struct {
	Token      func(text string) (*collector.TokenClaims, error) // collector.ErrToken
	Requests   Requests
	Journeys   Journeys
	Policy     *policies.Policy
	Controller string // legal name, in the head of each page
	Node       string
	Loopback   bool // http on a loopback address: the cookie is not Secure
	Now        func() time.Time
}

// Console serves the pages. Safe for concurrent use.
type Console struct {
	o        Options
	sessions *sessions
	pages    map[string]*template.Template // by name
}

//go:embed pages
var pageFiles embed.FS

// New reads the pages that are embedded.
func New(o Options) (*Console, error) {
	if o.Token == nil || o.Requests == nil || o.Policy == nil {
		return nil, fmt.Errorf("%w: token, requests and policy are needed", ErrOptions)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Console{o: o, sessions: newSessions(o.Now)}
	var err error
	if c.pages, err = readPages(); err != nil {
		return nil, fmt.Errorf("opening console: %w", err)
	}
	return c, nil
}
