package collector

import (
	"context"
	"errors"
	"fmt"
	"net/http"

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
	return c.withdraw(device, w)
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
	if !s.Exists() {
		return reply{}, errNoSubject
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.o.Deadline)
	defer cancel()
	rec, err := c.o.Ledger.Withdraw(ctx, s, w)
	if errors.Is(err, subject.ErrShredded) { // erased meanwhile: nothing of it stands
		return reply{}, errNoSubject
	}
	if err != nil {
		return reply{}, fmt.Errorf("recording withdrawal: %w", err)
	}
	return c.recordedReply(http.StatusOK, rec.State, answerOf(rec))
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
