// Package access makes what a person gets who asks for access (GDPR Art. 15): one page for people in French and English, JSON and CSV for
// machines, in one package. It does no I/O; the custodian calls Write with what it found and what the gateway knows, and the gateway opens single
// files of the package with Open.
//
// A package is a zip of exactly these files:
//
//	index.html           one page in both languages, no script, nothing fetched; printable
//	package.json         everything, as package.schema.json says; format "octroi.access", v 1
//	package.schema.json  JSON Schema 2020-12, the same in every package of this version (Schema)
//	events.csv           a line an event and destination
//	consents.csv         a line a choice and purpose
//	links.csv            a line a time during which device and person were joined
//
// CSV is that of RFC 4180 in UTF-8 with a byte order mark, which spreadsheets need. A cell whose text begins with = + - @, a tab or a line end is
// preceded by an apostrophe, since a spreadsheet would carry it out as a formula; package.json has it as it is.
package access

import (
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/octroi/octroi/pseudonymize"
)

// The errors of this package. None holds anything of a row.
var (
	ErrLanguage = errors.New("language is neither fr nor en")
	ErrMaterial = errors.New("material of the access package is malformed")
	ErrRows     = errors.New("rows changed while the package was written")
	ErrName     = errors.New("no such file in an access package")
	ErrPackage  = errors.New("access package is damaged")
)

// The files of a package.
const (
	PageFile     = "index.html"
	DataFile     = "package.json"
	SchemaFile   = "package.schema.json"
	EventsFile   = "events.csv"
	ConsentsFile = "consents.csv"
	LinksFile    = "links.csv"
)

// Material is what the gateway knows of the person (rights.md D7): everything of the package but the rows of batches.
type Material struct {
	Version    int               `json:"v"` // 1
	Request    string            `json:"request"`
	Received   time.Time         `json:"received"`
	Controller Controller        `json:"controller"`
	Purposes   []Purpose         `json:"purposes"`
	Source     map[string]string `json:"source"` // language → text: where the data comes from (15(1)(g))
	Consents   []Consent         `json:"consents"`
	Requests   []PastRequest     `json:"requests"`
	Kind       string            `json:"kind"`            // device | person: what the data was received under
	Links      []Link            `json:"links,omitempty"` // oldest first
	Window     *Window           `json:"window,omitempty"`
}

// Link is a time during which the device was joined to a person, or the person to a device. Who the other is, is not said.
type Link struct {
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // none: it stands
	Method string    `json:"method"`
}

// Window is what the gateway itself keeps of the person's journey, beside the batches. Its rows hold nobody else's pseudonym.
type Window struct {
	Destination string             `json:"destination"` // the recipient that it is
	Rows        []pseudonymize.Row `json:"rows"`
	Withheld    int                `json:"withheld"`
}

// materialVersion is the version of Material and of package.json.
const materialVersion = 1

// Controller is who is responsible, and how to reach it (13(1)(a), (b)).
type Controller struct {
	Name      string `json:"name"`
	DPO       string `json:"dpo,omitempty"` // how to reach the data protection officer
	Contact   string `json:"contact,omitempty"`
	Email     string `json:"email,omitempty"`
	Phone     string `json:"phone,omitempty"`
	Address   string `json:"address,omitempty"`
	PolicyURL string `json:"policy_url,omitempty"`
}

// Purpose is what is processed for what (15(1)(a)–(d), (h)).
type Purpose struct {
	ID         string            `json:"id"`
	Title      map[string]string `json:"title"` // language → text
	Text       map[string]string `json:"text"`
	Basis      string            `json:"legal_basis"`
	Categories []string          `json:"categories"` // fields
	Recipients []Recipient       `json:"recipients"` // named (C-154/21)
	Retention  string            `json:"retention"`  // ISO 8601
	Transfers  string            `json:"transfers,omitempty"`
	Automated  bool              `json:"automated_decisions"`
}

// Recipient receives what a purpose allows.
type Recipient struct {
	Destination string `json:"destination"`
	Name        string `json:"name"`
	Country     string `json:"country"`
	Role        string `json:"role"`
}

// Consent is one record of the person's history with its proof.
type Consent struct {
	Time     time.Time       `json:"time"`
	Event    string          `json:"event"`
	State    string          `json:"state,omitempty"`
	Purposes map[string]bool `json:"purposes"`
	Proven   json.RawMessage `json:"proven"` // consent.Proven: record, opening, proof, text of the notice
}

// PastRequest is an earlier request of the person, or this one.
type PastRequest struct {
	ID       string    `json:"id"`
	Right    string    `json:"right"`
	State    string    `json:"state"`
	Received time.Time `json:"received"`
	Closed   time.Time `json:"closed,omitzero"`
}

// Rows gives the person's rows at one destination, in any order, some at a time. Write calls it once for each destination and, where there is
// too much to hold, twice more; it must give the same rows in the same order each time.
type Rows func(destination string, fn func([]pseudonymize.Row) error) error

// Found is what the custodian found.
type Found struct {
	Destinations []string // in order
	Rows         Rows
	Withheld     map[string]int    // rows that are not given, since they name somebody else (GDPR Art. 15(4)), by destination
	Own          map[[16]byte]bool // the person's pseudonyms: of a row that also carries another subject's, that one is not shown
	Objects      int
	At           time.Time
}

// Counts are the rows of a package by destination.
type Counts map[string]int

// Write writes the package. language ("fr", "en") comes first on the page. Equal input gives equal bytes. It holds at most a few MiB of rows in
// memory, however many there are: the page shows the newest, and files that are small enough are downloads in it. ErrLanguage, ErrMaterial,
// ErrRows, the errors of Rows and of w.
func Write(w io.Writer, m Material, f Found, language string) (Counts, error) {
	b, err := newBundle(m, f, language)
	if err != nil {
		return nil, err
	}
	if err := b.gather(); err != nil {
		return nil, err
	}
	if err := b.write(w); err != nil {
		return nil, err
	}
	return b.counts, nil
}
