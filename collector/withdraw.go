package collector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/octroi/octroi/collector/wire/native"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// postWithdraw withdraws (GDPR Art. 7(3): as easy as giving; G3: one call, same channel, no login). The credential's cookie stays: it
// is how the person proves who it is when it asks for its data.
func (c *Collector) postWithdraw(r *request) (reply, error) {
	who, err := c.caller(r)
	if err != nil {
		return reply{}, err
	}
	device, err := c.device(who.credential, who.has)
	if err != nil {
		return reply{}, err
	}
	if !device.Exists() { // a known credential is never kept from withdrawing, whoever else posts from its network
		if err := c.throttle(r, who); err != nil {
			return reply{}, err
		}
	}
	body, err := c.consentBody(r)
	if err != nil {
		return reply{}, err
	}
	in, err := native.DecodeWithdrawal(body)
	if err != nil {
		return reply{}, fmt.Errorf("decoding withdrawal: %w", err)
	}
	site, err := c.site(r, who, in.Key)
	if err != nil {
		return reply{}, err
	}
	w := consent.Withdrawal{Purposes: in.Purposes, Method: in.Method, ClientTime: in.Time}
	if who.token != nil {
		return c.withdrawNamed(who, site, in, w)
	}
	if len(in.Subject) > 0 || in.Device != "" || in.Site != "" && in.Site != site.Name {
		return reply{}, errSpeaks // G15
	}
	w.Site, w.Entity, w.Evidence = site.ledger, site.Name, r.circumstances()
	if r.authorization == "" { // an app keeps no cookies: it remembers itself what its user objects to
		return c.withdrawOrObject(device, w)
	}
	return c.withdraw(device, w)
}

// withdrawOrObject withdraws consents and takes objections to what needs none (GDPR Art. 21(1)). An objection has no record, since what is counted of
// nobody has no subject: a cookie that is the same for everybody remembers it, as long as browsers keep one (G11).
func (c *Collector) withdrawOrObject(device subject.Subject, w consent.Withdrawal) (reply, error) {
	objected, consents := c.objections(w.Purposes)
	if len(objected) == 0 {
		return c.withdraw(device, w)
	}
	out := recorded{State: consent.ConsentWithdrawn, Purposes: map[string]bool{}}
	if device.Exists() && (len(w.Purposes) == 0 || len(consents) > 0) {
		w.Purposes = consents
		rec, err := c.recordWithdrawal(device, w)
		if err != nil && !errors.Is(err, errNoSubject) {
			return reply{}, err
		}
		if err == nil {
			out = answerOf(rec)
			c.tally.consent(rec.State)
		}
	}
	out.Objected = objected
	answer, err := jsonReply(http.StatusOK, out)
	answer.cookies = []cookie{{name: objectedName, value: "1", age: maxCookieAge}}
	return answer, err
}

// objections are those of the purposes that need no choice, and the rest; of none named, all of those.
func (c *Collector) objections(named []string) (objected, rest []string) {
	objected = []string{}
	for _, p := range c.o.Policy.Purposes() {
		if c.exempt&p.Bit() != 0 && (len(named) == 0 || slices.Contains(named, p.ID)) {
			objected = append(objected, p.ID)
		}
	}
	for _, id := range named {
		if !slices.Contains(objected, id) {
			rest = append(rest, id)
		}
	}
	return objected, rest
}

func (c *Collector) withdrawNamed(who caller, site *source, in native.Withdrawal, w consent.Withdrawal) (reply, error) {
	if !who.token.Can(ScopeConsent) {
		return reply{}, errScope
	}
	site, err := c.siteOf(who.token, site, in.Site)
	if err != nil {
		return reply{}, err
	}
	whom, err := c.somebody(site, in.Subject, in.Device)
	if err != nil {
		return reply{}, err
	}
	s := whom.Device
	if len(whom.Persons) > 0 {
		if s, err = c.person(whom.Persons); err != nil {
			return reply{}, err
		}
	}
	w.Site, w.Entity = site.ledger, who.token.Subject
	return c.withdraw(s, w)
}

// person is the person that identifiers name; errNoSubject where there is none.
func (c *Collector) person(ids []subject.Identifier) (subject.Subject, error) {
	s, err := c.o.Subjects.Person(ids...)
	if errors.Is(err, subject.ErrUnknown) || errors.Is(err, subject.ErrShredded) {
		return s, errNoSubject
	}
	if err != nil {
		return s, fmt.Errorf("finding person: %w", err)
	}
	return s, nil
}

func (c *Collector) withdraw(s subject.Subject, w consent.Withdrawal) (reply, error) {
	rec, err := c.recordWithdrawal(s, w)
	if err != nil {
		return reply{}, err
	}
	return c.recordedReply(http.StatusOK, rec.State, answerOf(rec))
}

func (c *Collector) recordWithdrawal(s subject.Subject, w consent.Withdrawal) (consent.Recorded, error) {
	if !s.Exists() {
		return consent.Recorded{}, errNoSubject
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.o.Deadline)
	defer cancel()
	rec, err := c.o.Ledger.Withdraw(ctx, s, w)
	if errors.Is(err, subject.ErrShredded) { // erased meanwhile: nothing of it stands
		return rec, errNoSubject
	}
	if err != nil {
		return rec, fmt.Errorf("recording withdrawal: %w", err)
	}
	return rec, nil
}

// getCurrent is what the device's own choices are, or that this browser refused what is still asked.
func (c *Collector) getCurrent(r *request) (reply, error) {
	who, err := c.caller(r)
	if err != nil {
		return reply{}, err
	}
	if who.token != nil {
		return reply{}, errScope // whose? back-ends ask the private listener
	}
	site, err := c.site(r, who, "")
	if err != nil {
		return reply{}, err
	}
	device, err := c.device(who.credential, who.has)
	if err != nil {
		return reply{}, err
	}
	if device.Exists() {
		return c.standing(device)
	}
	version := c.o.Policy.ChoiceNotice(site.Language).Version
	if r.refused == "" || r.refused != version { // other purposes than it refused: it may be asked again (C8)
		return reply{}, errNoSubject
	}
	return jsonReply(http.StatusOK, map[string]any{"state": consent.ConsentRefused, "notice_version": version, "purposes": []consent.Standing{}})
}

// standing is the current state of every purpose of a subject.
func (c *Collector) standing(s subject.Subject) (reply, error) {
	list, err := c.o.Ledger.Current(s)
	if err != nil {
		return reply{}, fmt.Errorf("reading current state: %w", err)
	}
	return jsonReply(http.StatusOK, map[string]any{"purposes": list})
}
