package collector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/collector/wire/native"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// How a link came about, as its record names it.
const (
	byClaim = "login_claim"
	byToken = "token"
)

// linked is the answer about a device's link.
type linked struct {
	Linked bool      `json:"linked"`
	Since  time.Time `json:"since,omitzero"`
}

// noConsent is what stands in the way of a link, as a site key reads it: one answer for every reason that is the person's (G15).
type noConsent struct{ error }

func (e noConsent) Unwrap() error { return e.error }

// postIdentify joins the visitor's device to the person who has signed in, from now on (architecture.md "Link, not merge").
func (c *Collector) postIdentify(r *request) (reply, error) {
	who, err := c.caller(r)
	if err != nil {
		return reply{}, err
	}
	if err := c.throttle(r, who); err != nil {
		return reply{}, err
	}
	in, site, err := c.identification(r, who)
	if err != nil {
		return reply{}, err
	}
	if who.token != nil {
		return c.identifyNamed(who.token, site, &in)
	}
	return c.identifyOwn(who, site, &in)
}

// identification reads the body, and finds the site.
func (c *Collector) identification(r *request, who caller) (in native.Identification, site *source, err error) {
	body, err := c.consentBody(r)
	if err != nil {
		return in, nil, err
	}
	if in, err = native.DecodeIdentification(body); err != nil {
		return in, nil, fmt.Errorf("decoding identification: %w", err)
	}
	if site, err = c.site(r, who, in.Key); err != nil {
		return in, nil, err
	}
	if who.token != nil {
		if !who.token.Can(ScopeIdentify) {
			return in, nil, errScope
		}
		site, err = c.siteOf(who.token, site, in.Site)
		return in, site, err
	}
	if len(in.Subject) > 0 || in.Device != "" || in.Site != "" && in.Site != site.Name {
		return in, nil, errSpeaks // G15
	}
	return in, site, nil
}

// identifyOwn is by the visitor's cookie, or the app's credential, and the claim of the site.
func (c *Collector) identifyOwn(who caller, site *source, in *native.Identification) (reply, error) {
	if in.Claim == "" {
		return reply{}, &wire.FieldError{Field: "claim", Right: "a login claim that the site has signed"}
	}
	if site.claims == nil {
		return reply{}, errNoLogin
	}
	claim, err := site.claims.check(in.Claim)
	if err != nil {
		return reply{}, err
	}
	device, err := c.device(who.credential, who.has)
	if err != nil {
		return reply{}, err
	}
	if !device.Exists() { // nobody has agreed to anything here
		return reply{}, noConsent{errNoSubject}
	}
	defer c.claimed.turn(device.Slot())()
	if err := c.claimed.take(site.Name, claim, device.Slot(), c.o.Now()); err != nil {
		return reply{}, err
	}
	out, err := c.identify(consent.Identification{
		Site: site.ledger, Device: device, Persons: claim.persons, Method: byClaim, Entity: site.Name, Said: claim.issued,
	})
	if errors.Is(err, consent.ErrNoLinking) || errors.Is(err, subject.ErrShredded) || errors.Is(err, consent.ErrErased) {
		err = noConsent{err}
	}
	return out, err
}

// identifyNamed is by a back-end, which hands on the device's credential.
func (c *Collector) identifyNamed(token *TokenClaims, site *source, in *native.Identification) (reply, error) {
	if in.Claim != "" {
		return reply{}, &wire.FieldError{Field: "claim", Right: "left out: a token names the subject itself"}
	}
	if in.Device == "" || len(in.Subject) == 0 {
		return reply{}, &wire.FieldError{Field: "device", Right: "the credential of a device, beside a subject"}
	}
	ids, err := persons(in.Subject, site.Region)
	if err != nil {
		return reply{}, err
	}
	device, err := c.deviceText(in.Device)
	if err != nil {
		return reply{}, err
	}
	defer c.claimed.turn(device.Slot())()
	c.claimed.end(device.Slot())
	return c.identify(consent.Identification{Site: site.ledger, Device: device, Persons: ids, Method: byToken, Entity: token.Subject})
}

func (c *Collector) identify(i consent.Identification) (reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.o.Deadline)
	defer cancel()
	link, err := c.o.Ledger.Identify(ctx, i)
	if err != nil {
		return reply{}, fmt.Errorf("linking: %w", err)
	}
	return jsonReply(http.StatusOK, linked{true, link.Since})
}

// deleteIdentify ends the link of the visitor's device: who signs out is followed no further. It is an answer of 200 also where there was none.
func (c *Collector) deleteIdentify(r *request) (reply, error) {
	who, err := c.caller(r)
	if err != nil {
		return reply{}, err
	}
	device, err := c.device(who.credential, who.has)
	if err != nil {
		return reply{}, err
	}
	if !device.Exists() { // a known credential is never kept from signing out, whoever else posts from its network
		if err := c.throttle(r, who); err != nil {
			return reply{}, err
		}
	}
	in, site, err := c.identification(r, who)
	if err != nil {
		return reply{}, err
	}
	if in.Claim != "" || len(in.Subject) > 0 {
		return reply{}, &wire.FieldError{Field: "body", Right: "without claim and subject: whoever is signed in is signed out"}
	}
	entity := site.Name
	if who.token != nil {
		entity = who.token.Subject
		if device, err = c.deviceText(in.Device); err != nil {
			return reply{}, err
		}
	}
	if !device.Exists() {
		return jsonReply(http.StatusOK, linked{})
	}
	return c.unlink(site, device, entity)
}

func (c *Collector) unlink(site *source, device subject.Subject, entity string) (reply, error) {
	defer c.claimed.turn(device.Slot())()
	c.claimed.end(device.Slot())
	ctx, cancel := context.WithTimeout(context.Background(), c.o.Deadline)
	defer cancel()
	_, err := c.o.Ledger.Unlink(ctx, site.ledger, device, entity)
	if err != nil && !errors.Is(err, subject.ErrShredded) { // erased meanwhile: nothing of it stands
		return reply{}, fmt.Errorf("ending link: %w", err)
	}
	return jsonReply(http.StatusOK, linked{})
}
