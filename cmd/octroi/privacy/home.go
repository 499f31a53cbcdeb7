package privacy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The bounds of what one page shows. An access package has all of it.
const (
	shownActs     = 20
	searchedActs  = 100 // for the text that a purpose was agreed to under
	shownLinks    = 10
	shownRequests = 20
	shownTexts    = 3
)

// homePage is the first page.
type homePage struct {
	Known    bool // somebody is known by the cookie
	Refused  bool
	Objects  bool   // to what needs no choice
	Snapshot string // what proves that the texts below were shown (C4)
	Choices  []choiceView
	Agreed   bool         // something stands that can be withdrawn
	Texts    []agreedText // as they were agreed to
	Declared []purposeView
	Linking  bool // the policy knows of links
	Links    []linkView
	Linked   *linkView
	Requests []requestView
	Acts     []actView
	Older    int // acts that are not shown
	Follows  string
}

// purposeView is a purpose of the policy in force.
type purposeView struct {
	ID         string
	Title      string
	Language   string // of title and text
	Lead       string // the first paragraph of Text
	Text       string
	Basis      string
	Retention  string
	Recipients []string
	Automated  bool
	Exemption  string // it needs no choice, and can be objected to (G11)
}

// choiceView is a purpose with what this browser has chosen.
type choiceView struct {
	purposeView
	State   string // key of words.Choices
	Word    string
	Granted bool
	Asked   bool // it can be agreed to: it is part of the text that the page shows
	Since   time.Time
	Until   time.Time
	Record  uint32 // number of the record that names the text it was agreed to under; 0: none of those looked at
	Lasts   string // how long an agreement would hold
	Erases  bool   // a withdrawal erases what was collected
}

// agreedText is a text as it was agreed to, byte for byte (C3).
type agreedText struct {
	Language string
	SHA256   string
	Text     string
	At       time.Time
}

// linkView is a time during which the browser was joined to somebody who had signed in; not to whom.
type linkView struct{ Since, Until time.Time }

// showHome is the first page: what is known, what was chosen, and what can be done.
func (v *visit) showHome() error {
	if v.site == nil {
		return v.show("sites", nil)
	}
	h := &homePage{Known: v.person.Device.Exists(), Refused: v.person.Refused, Objects: v.person.Objects, Follows: v.follow.id}
	for _, fill := range []func(*homePage) error{v.fillPurposes, v.fillActs, v.fillChoices, v.fillLinks, v.fillRequests} {
		if err := fill(h); err != nil {
			return err
		}
	}
	return v.show("home", h)
}

// fillPurposes shows the texts of the policy in force, with the proof that they were shown.
func (v *visit) fillPurposes(h *homePage) error {
	served, err := v.p.o.Ledger.Snapshot(v.person.Site, v.words.Language)
	if err != nil && !errors.Is(err, consent.ErrUnknownNotice) { // no purpose rests on consent
		return fmt.Errorf("showing the texts of consents: %w", err)
	}
	h.Snapshot = served.Snapshot
	for _, p := range v.p.o.Policy.Purposes() {
		if p.ID == policies.Linking {
			h.Linking = true
		}
		x := v.purpose(p)
		if p.Basis != policies.Consent {
			h.Declared = append(h.Declared, x)
			continue
		}
		for _, s := range served.Purposes { // word for word what the snapshot says was shown
			if s.ID == p.ID {
				x.Title, x.Text, x.Lead, x.Language = s.Title, s.Text, lead(s.Text), served.Notice.Language
			}
		}
		h.Choices = append(h.Choices, choiceView{
			purposeView: x, State: "none", Word: of(v.words.Choices, "none"), Asked: true, Lasts: v.words.period(p.Validity),
			Erases: p.OnWithdrawal == policies.Erase,
		})
	}
	return nil
}

func (v *visit) purpose(p *policies.Purpose) purposeView {
	notice, _ := v.p.o.Policy.InformationNotice(p.ID, v.words.Language)
	x := purposeView{
		ID: p.ID, Title: cmp.Or(p.Titles[notice.Language], p.ID), Language: notice.Language, Text: notice.Text, Lead: lead(notice.Text),
		Basis: of(v.words.Bases, string(p.Basis)), Retention: v.words.period(p.Retention), Automated: p.AutomatedDecisions,
		Exemption: p.Exemption,
	}
	for _, r := range p.Recipients {
		x.Recipients = append(x.Recipients, fmt.Sprintf("%s (%s, %s)", r.Name, r.Country, of(v.words.Roles, r.Role)))
	}
	return x
}

// lead is the first paragraph of a text.
func lead(text string) string {
	first, _, _ := strings.Cut(text, "\n\n")
	return strings.TrimSpace(first)
}

// fillActs shows the newest records, and finds the texts they name.
func (v *visit) fillActs(h *homePage) error {
	acts, total, err := v.p.o.Ledger.Acts(v.person.Device, searchedActs)
	if errors.Is(err, consent.ErrNoRecord) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("showing records: %w", err)
	}
	for i := range acts {
		h.Acts = append(h.Acts, v.actOf(&acts[i]))
	}
	h.Older = total - min(len(acts), shownActs)
	return nil
}

// fillChoices says what stands.
func (v *visit) fillChoices(h *homePage) error {
	standing, err := v.p.o.Ledger.Current(v.person.Device)
	if errors.Is(err, consent.ErrNoRecord) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("showing choices: %w", err)
	}
	for i := range standing {
		s := &standing[i]
		if s.Basis != policies.Consent {
			continue
		}
		c := h.choice(s.Purpose)
		v.stand(c, s)
		h.Agreed = h.Agreed || c.Granted
		if err := v.fillText(h, c, s.RecordID); err != nil {
			return err
		}
	}
	h.Acts = h.Acts[:min(len(h.Acts), shownActs)]
	return nil
}

// choice is the view of a purpose. One that the policy no longer has can still be withdrawn.
func (h *homePage) choice(id string) *choiceView {
	for i := range h.Choices {
		if h.Choices[i].ID == id {
			return &h.Choices[i]
		}
	}
	h.Choices = append(h.Choices, choiceView{purposeView: purposeView{ID: id, Title: id}})
	return &h.Choices[len(h.Choices)-1]
}

// stand says of a choice what the ledger says.
func (v *visit) stand(c *choiceView, s *consent.Standing) {
	given := s.State == consent.ConsentGiven || s.State == consent.RenewedConsentGiven
	switch {
	case s.Granted:
		c.State, c.Granted = "agreed", true
	case s.State == consent.ConsentExpired:
		c.State = "expired"
	case given: // C7: of a version that is no longer asked
		c.State, c.Granted = "outdated", true
	case s.State == consent.ConsentWithdrawn:
		c.State = "withdrawn"
	case s.State == consent.ConsentRefused:
		c.State = "refused"
	}
	c.Word, c.Since = of(v.words.Choices, c.State), s.GivenAt
	if c.Granted || c.State == "expired" {
		c.Until = s.ValidUntil
	}
}

// fillText adds the text that a purpose was agreed to under, once for all that were.
func (v *visit) fillText(h *homePage, c *choiceView, record string) error {
	i := slices.IndexFunc(h.Acts, func(a actView) bool { return a.RecordID == record })
	if !c.Granted || i < 0 || h.Acts[i].Notice == nil {
		return nil
	}
	c.Record = h.Acts[i].Number
	hash := h.Acts[i].Notice.SHA256
	if len(h.Texts) == shownTexts || slices.ContainsFunc(h.Texts, func(t agreedText) bool { return t.SHA256 == hash }) {
		return nil
	}
	n, err := v.p.o.Ledger.NoticeText(hash)
	if err != nil {
		return fmt.Errorf("showing a text: %w", err)
	}
	h.Texts = append(h.Texts, agreedText{n.Language, hash, n.Text, h.Acts[i].Time})
	return nil
}

// fillLinks says since when the browser has been joined to an account.
func (v *visit) fillLinks(h *homePage) error {
	links, err := v.p.o.Ledger.Links(v.person.Device)
	if errors.Is(err, consent.ErrNoRecord) || !v.person.Device.Exists() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("showing links: %w", err)
	}
	person, err := v.p.o.Ledger.Linked(v.person.Device)
	if err != nil && !errors.Is(err, subject.ErrShredded) { // whoever has signed in is being erased
		return fmt.Errorf("showing links: %w", err)
	}
	slices.Reverse(links) // the newest first
	for i, l := range links {
		x := linkView{l.Since, l.Until}
		if i == 0 && person.Exists() && l.Until.IsZero() {
			h.Linked = &x
			continue
		}
		if len(h.Links) < shownLinks {
			h.Links = append(h.Links, x)
		}
	}
	return nil
}

// fillRequests lists the newest requests.
func (v *visit) fillRequests(h *homePage) error {
	list, err := v.self("").Requests()
	if err != nil {
		return fmt.Errorf("showing requests: %w", err)
	}
	slices.Reverse(list)
	for i := range list[:min(len(list), shownRequests)] {
		h.Requests = append(h.Requests, v.requestOf(&list[i]))
	}
	return nil
}
