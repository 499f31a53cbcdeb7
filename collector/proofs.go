package collector

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/octroi/octroi/collector/wire/native"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// authorise says whether a request's token has a scope; an error where not.
func (c *Collector) authorise(r *request, scope string) (*TokenClaims, error) {
	who, err := c.caller(r)
	if err != nil {
		return nil, err
	}
	if who.token == nil {
		return nil, ErrToken
	}
	if !who.token.Can(scope) {
		return nil, errScope
	}
	return who.token, nil
}

// getProof is the consent record behind a reference in a destination's rows, with its proof (G4).
func (c *Collector) getProof(r *request) (reply, error) {
	if _, err := c.authorise(r, ScopeRights); err != nil {
		return reply{}, err
	}
	if c.o.Resolve == nil {
		return reply{}, errNotFound
	}
	proven, err := c.o.Resolve(r.query("destination"), r.query("ref"))
	if errors.Is(err, subject.ErrShredded) || errors.Is(err, subject.ErrUnknown) {
		return reply{}, errNoSubject
	}
	if err != nil {
		return reply{}, fmt.Errorf("resolving reference: %w", err)
	}
	return jsonReply(http.StatusOK, proven)
}

// postHistory lists the records of somebody, oldest first, each with its proof. It is a POST so that no identifier stands in a URL.
func (c *Collector) postHistory(r *request) (reply, error) {
	s, err := c.asked(r)
	if err != nil {
		return reply{}, err
	}
	records, err := c.o.Ledger.History(s)
	if err != nil {
		return reply{}, fmt.Errorf("reading history: %w", err)
	}
	if records == nil {
		records = []consent.Proven{}
	}
	return jsonReply(http.StatusOK, records)
}

// postStanding is the current state of somebody's purposes.
func (c *Collector) postStanding(r *request) (reply, error) {
	s, err := c.asked(r)
	if err != nil {
		return reply{}, err
	}
	return c.standing(s)
}

// asked is whom a request of the private listener is about.
func (c *Collector) asked(r *request) (subject.Subject, error) {
	if _, err := c.authorise(r, ScopeRights); err != nil {
		return subject.Subject{}, err
	}
	body, err := c.consentBody(r)
	if err != nil {
		return subject.Subject{}, err
	}
	list, device, region, err := native.DecodeSubject(body)
	if err != nil {
		return subject.Subject{}, fmt.Errorf("decoding subject: %w", err)
	}
	if device != "" {
		return c.deviceText(device)
	}
	if region == "" && len(c.o.Sites) > 0 {
		region = c.o.Sites[0].Region
	}
	ids, err := persons(list, region)
	if err != nil {
		return subject.Subject{}, err
	}
	return c.person(ids)
}
