package consent

import (
	"net/netip"
	"strings"
	"time"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Site is what the ledger must know of a site.
type Site struct {
	Name         string
	Jurisdiction string // ISO 3166-1 alpha-2
	Controller   string
	PolicyURL    string
	Contact      Contact
}

// Contact is how a person reaches the controller (GDPR Art. 13(1)(a)); a receipt names it.
type Contact struct {
	Name, Email, Phone                string
	Street, PostalCode, City, Country string
}

// Who a choice is of: exactly one of Device, Mint, Persons, or none of them (a browser's refusal, C8).
type Who struct {
	Device  subject.Subject
	Mint    bool // create a device-level subject and its credential, if the choice grants anything
	Persons []subject.Identifier
}

// Choice is one post of a person's choice.
type Choice struct {
	Site       Site
	Who        Who
	Purposes   map[string]bool
	Snapshot   string // signed snapshot, or empty
	Notice     *NoticeRef
	Method     string // banner, form, till, import, …
	Language   string
	Signals    Signals
	Evidence   Circumstances
	ClientTime time.Time
	GivenAt    time.Time // imports only; zero: now
	Source     string    // imports only
	Entity     string    // who recorded it: the site, or a token's subject
}

// NoticeRef names the notice that was shown.
type NoticeRef struct {
	ID       string `json:"id"`
	Version  string `json:"version"`
	URL      string `json:"url,omitempty"`
	Language string `json:"language"`
	SHA256   string `json:"text_sha256"`
}

// Signals are the privacy signals that came with a choice, kept raw.
type Signals struct {
	GPC       bool              `json:"gpc,omitempty"`
	TCString  string            `json:"tc_string,omitempty"`
	GPPString string            `json:"gpp_string,omitempty"`
	GPPSID    []int             `json:"gpp_sid,omitempty"`
	GCM       map[string]string `json:"gcm,omitempty"`
}

// orNil is nil where no signal came.
func (s Signals) orNil() *Signals {
	if !s.GPC && s.TCString == "" && s.GPPString == "" && len(s.GPPSID) == 0 && len(s.GCM) == 0 {
		return nil
	}
	return &s
}

// Circumstances of a choice, already minimised (C9): no query, no whole address, no full user agent.
type Circumstances struct {
	URLPath  string `json:"url_path,omitempty"`
	UAFamily string `json:"ua_family,omitempty"`
	IPPrefix string `json:"ip_prefix,omitempty"`
}

// orNil is nil where there is none. What is not minimised is dropped here too: the ledger keeps it for years (C9).
func (c Circumstances) orNil() *Circumstances {
	c.URLPath, _, _ = strings.Cut(c.URLPath, "?")
	c.URLPath, _, _ = strings.Cut(c.URLPath, "#")
	if strings.ContainsAny(c.UAFamily, "/(;") {
		c.UAFamily = ""
	}
	p, err := netip.ParsePrefix(c.IPPrefix)
	most := 48
	if p.Addr().Is4() {
		most = 24
	}
	if err != nil || p.Bits() > most || p.Masked() != p {
		c.IPPrefix = ""
	}
	if c == (Circumstances{}) {
		return nil
	}
	return &c
}

// Recorded is the ledger's answer to a choice.
type Recorded struct {
	RecordID   string
	State      State
	Purposes   map[string]bool
	ValidUntil time.Time // the earliest end of what was granted; zero where nothing was
	Receipt    string    // JWT (C11); empty where there is no subject
	Minted     *subject.Credential
	Notice     NoticeRef
	Until      time.Time // how long a browser remembers a refusal
}

// Standing is the current state of one purpose of one subject.
type Standing struct {
	Purpose    string         `json:"purpose"`
	Version    int            `json:"version"`
	Basis      policies.Basis `json:"legal_basis"`
	State      State          `json:"state,omitempty"` // none for a declared basis
	Granted    bool           `json:"granted"`
	GivenAt    time.Time      `json:"given_at"`
	ValidUntil time.Time      `json:"valid_until,omitzero"`
	RecordID   string         `json:"record_id"`
}
