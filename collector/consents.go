package collector

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/collector/wire/native"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// recorded is the answer to a choice or a withdrawal.
type recorded struct {
	RecordID   string          `json:"record_id,omitempty"` // none where there was nothing to withdraw
	State      consent.State   `json:"state"`
	Purposes   map[string]bool `json:"purposes"`
	ValidUntil time.Time       `json:"valid_until,omitzero"`
	Receipt    string          `json:"receipt,omitempty"`
	Credential string          `json:"credential,omitempty"` // for apps, when asked for
	Objected   []string        `json:"objected,omitempty"`   // purposes that need no consent, to which the browser objects from now on (G11)
}

// consentBody is the text of a consent post (G12: at most 16 KiB, also decompressed).
func (c *Collector) consentBody(r *request) (string, error) {
	if len(r.body) > native.MaxChoiceBytes {
		return "", errSize
	}
	if len(r.body) == 0 && (r.route == routeWithdraw || r.route == routeUnlink) {
		return "", nil
	}
	if layout, err := form(r.contentType); err != nil || layout == native.Lines {
		return "", errMedia
	}
	body, err := plain(r.body, r.encoding)
	if err == nil && len(body) > native.MaxChoiceBytes {
		err = errSize
	}
	return body, err
}

// throttle bounds the consent posts of a network (G12). Back-ends prove who they are instead.
func (c *Collector) throttle(r *request, who caller) error {
	if who.token != nil {
		return nil
	}
	if wait, ok := c.limit.allow(r.address, c.o.Now()); !ok {
		return tooSoon{wait}
	}
	return nil
}

// postConsents records a choice.
func (c *Collector) postConsents(r *request) (reply, error) {
	who, err := c.caller(r)
	if err != nil {
		return reply{}, err
	}
	if err := c.throttle(r, who); err != nil {
		return reply{}, err
	}
	body, err := c.consentBody(r)
	if err != nil {
		return reply{}, err
	}
	in, err := native.DecodeChoice(body)
	if err != nil {
		return reply{}, fmt.Errorf("decoding choice: %w", err)
	}
	site, err := c.site(r, who, in.Key)
	if err != nil {
		return reply{}, err
	}
	choice := consent.Choice{
		Purposes: in.Purposes, Snapshot: in.Snapshot, Notice: in.Notice, Method: in.Method, Language: in.Language,
		Signals: in.Signals, ClientTime: in.Time, GivenAt: in.GivenAt, Source: in.Source,
	}
	choice.Signals.GPC = choice.Signals.GPC || r.gpc // G5
	if who.token != nil {
		return c.recordNamed(who, site, in, choice)
	}
	return c.recordOwn(r, who, site, in, choice)
}

// recordOwn records a choice that a browser or an app makes for itself.
func (c *Collector) recordOwn(r *request, who caller, site *source, in native.Choice, choice consent.Choice) (reply, error) {
	if len(in.Subject) > 0 || in.Device != "" || in.Site != "" && in.Site != site.Name || in.Source != "" || !in.GivenAt.IsZero() {
		return reply{}, errSpeaks // G15
	}
	device, err := c.device(who.credential, who.has)
	if err != nil {
		return reply{}, err
	}
	choice.Site, choice.Entity, choice.Evidence = site.ledger, site.Name, r.circumstances()
	choice.Who = consent.Who{Device: device}
	if !device.Exists() {
		choice.Who.Mint = anyTrue(in.Purposes) // C8: a refusal makes no subject
	}
	if choice.Language == "" {
		choice.Language = site.Language
	}
	rec, answer, err := c.record(choice)
	if err != nil {
		return reply{}, err
	}
	credential, known := who.credential, device.Exists()
	if rec.Minted != nil {
		credential, known = *rec.Minted, true
	}
	if in.Credential && rec.Minted != nil {
		answer.Credential = credential.Text()
	}
	out, err := c.recordedReply(http.StatusCreated, rec.State, answer)
	if !in.Credential && r.authorization == "" {
		out.cookies = c.choiceCookies(r, rec, credential, known)
	}
	return out, err
}

// choiceCookies are the cookies after a browser's choice: the credential for as long as a consent holds, which a repeated consent makes
// longer; after a refusal only the version of what was refused, the same for everybody (C8).
func (c *Collector) choiceCookies(r *request, rec consent.Recorded, credential subject.Credential, known bool) []cookie {
	now := c.o.Now()
	var cookies []cookie
	switch {
	case known && anyTrue(rec.Purposes):
		cookies = append(cookies, cookie{name: c.cookieName(), value: credential.Text(), age: c.latest(rec, now).Sub(now)})
	case !known && rec.State == consent.ConsentRefused:
		version := cmp.Or(rec.Notice.Version, c.o.Policy.ChoiceNotice("").Version) // a refusal without any proof is of what is asked now
		if cookieSafe(version) {
			return append(cookies, cookie{name: refusedName, value: version, age: rec.Until.Sub(now), script: true})
		}
	}
	if r.refused != "" {
		cookies = append(cookies, cookie{name: refusedName, script: true})
	}
	return cookies
}

// latest is when the last of the granted purposes ends. The record's own ValidUntil is the first.
func (c *Collector) latest(rec consent.Recorded, now time.Time) time.Time {
	end := rec.ValidUntil
	for id, granted := range rec.Purposes {
		if p, ok := c.o.Policy.Purpose(id); ok && granted {
			if t := p.Validity.AddTo(now); t.After(end) {
				end = t
			}
		}
	}
	return end
}

// cookieSafe says whether s is made of cookie octets (RFC 6265 section 4.1.1).
func cookieSafe(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= 0x20 || c >= 0x7f || strings.IndexByte("\",;\\", c) >= 0 {
			return false
		}
	}
	return s != ""
}

func anyTrue(m map[string]bool) bool {
	for _, granted := range m {
		if granted {
			return true
		}
	}
	return false
}

// recordNamed records a choice of somebody whom a back-end names.
func (c *Collector) recordNamed(who caller, site *source, in native.Choice, choice consent.Choice) (reply, error) {
	if !who.token.Can(ScopeConsent) || (!in.GivenAt.IsZero() || in.Source != "") && !who.token.Can(ScopeImport) {
		return reply{}, errScope
	}
	site, err := c.siteOf(who.token, site, in.Site)
	if err != nil {
		return reply{}, err
	}
	if choice.Who, err = c.somebody(site, in.Subject, in.Device); err != nil {
		return reply{}, err
	}
	if in.GivenAt.After(c.o.Now()) {
		return reply{}, &wire.FieldError{Field: "given_at", Right: "in the past"}
	}
	choice.Site, choice.Entity = site.ledger, who.token.Subject
	if choice.Language == "" {
		choice.Language = site.Language
	}
	rec, answer, err := c.record(choice)
	if err != nil {
		return reply{}, err
	}
	return c.recordedReply(http.StatusCreated, rec.State, answer)
}

// record hands a choice to the ledger. Of one that grants what cannot be granted, the refusals are recorded nevertheless: halfRecorded.
func (c *Collector) record(choice consent.Choice) (consent.Recorded, recorded, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.o.Deadline)
	defer cancel()
	rec, err := c.o.Ledger.Record(ctx, choice)
	answer := answerOf(rec)
	if err != nil && rec.RecordID != "" {
		c.tally.consent(rec.State)
		err = &halfRecorded{answer, err}
	}
	if err != nil {
		return rec, answer, fmt.Errorf("recording choice: %w", err)
	}
	return rec, answer, nil
}

func answerOf(rec consent.Recorded) recorded {
	return recorded{RecordID: rec.RecordID, State: rec.State, Purposes: rec.Purposes, ValidUntil: rec.ValidUntil, Receipt: rec.Receipt}
}

// somebody is whom a back-end names: a person by identifiers, or a device by its credential.
func (c *Collector) somebody(site *source, list []wire.Identity, device string) (consent.Who, error) {
	if (len(list) == 0) == (device == "") {
		return consent.Who{}, &wire.FieldError{Field: "subject", Right: "an object of identifiers by namespace, or \"device\" instead"}
	}
	if device == "" {
		ids, err := persons(list, site.Region)
		return consent.Who{Persons: ids}, err
	}
	s, err := c.deviceText(device)
	return consent.Who{Device: s}, err
}

// deviceText is the device of a credential that a back-end hands on; errNoSubject where there is none.
func (c *Collector) deviceText(text string) (subject.Subject, error) {
	credential, ok := subject.ParseCredential(text)
	if !ok {
		return subject.Subject{}, &wire.FieldError{Field: "device", Right: "the credential of a device"}
	}
	s, err := c.device(credential, true)
	if err == nil && !s.Exists() {
		err = errNoSubject
	}
	return s, err
}

func (c *Collector) recordedReply(status int, state consent.State, answer recorded) (reply, error) {
	c.tally.consent(state)
	return jsonReply(status, answer)
}

func jsonReply(status int, v any) (reply, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return reply{}, fmt.Errorf("encoding answer: %w", err)
	}
	return reply{status: status, media: "application/json", body: body}, nil
}
