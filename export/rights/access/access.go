// Package access makes what a person gets who asks for access (GDPR Art. 15): one page for people in French and English, JSON and CSV for
// machines, in one package. It does no I/O; the custodian calls Write with what it found and what the gateway knows.
package access

import (
	"encoding/json"
	"io"
	"time"

	"github.com/octroi/octroi/pseudonymize"
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
	Kind       string            `json:"kind"` // device | person: what the data was received under
}

// Controller is who is responsible, and how to reach it (13(1)(a), (b)).
type Controller struct {
	Name, Contact, Email, Phone, Address, PolicyURL string
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

// Rows gives the person's rows at one destination, in any order, some at a time.
type Rows func(destination string, fn func([]pseudonymize.Row) error) error

// Found is what the custodian found.
type Found struct {
	Destinations []string // in order
	Rows         Rows
	Own          map[[16]byte]bool // the person's pseudonyms: of a row that also carries another subject's, that one is not shown
	Objects      int
	At           time.Time
}

// Counts are the rows of a package by destination.
type Counts map[string]int

// Write writes the package as a zip: index.html (one page, both languages, no script, nothing fetched, the machine-readable files embedded as
// downloads where they are small enough), package.json, events.csv, consents.csv. language ("fr", "en") comes first on the page.
func Write(w io.Writer, m Material, f Found, language string) (Counts, error) { panic("not yet") }
