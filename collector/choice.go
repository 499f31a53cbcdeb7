package collector

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The states of a browser's choice as a whole.
const (
	choiceNone      = "none"
	choiceGiven     = "given" // something stands
	choiceRefused   = "refused"
	choiceWithdrawn = "withdrawn"
)

// readsAPost is how many choices a network may read for each consent it may post: every page that is loaded reads one.
const readsAPost = 20

// browserChoice is what a browser chose, as a page is told when it loads, so that no script reads a cookie or any storage to know it (G13).
type browserChoice struct {
	State      string          `json:"state"`
	Purposes   map[string]bool `json:"purposes"`             // those of the policy that are decided, in their present version
	ValidUntil time.Time       `json:"valid_until,omitzero"` // the first end of what stands
	Ask        bool            `json:"ask"`                  // some purpose is not decided: the person may be asked (C8)
	Exempt     []string        `json:"exempt"`               // event types that need no choice (G11)
	ExemptFor  []string        `json:"exempt_purposes"`      // the purposes of those: what an objection names
	Objected   bool            `json:"objected"`             // to those, by this browser: they are refused
	Linked     bool            `json:"linked"`               // to a person who has signed in
	Time       time.Time       `json:"time"`                 // the gateway's clock: an event's time is held against the consent's (G14)
}

// getChoice is what came with the request to say of this browser's choice. Nobody known is no error: it is the usual visitor.
func (c *Collector) getChoice(r *request) (reply, error) {
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
	if wait, ok := c.reads.allow(r.address, c.o.Now()); !ok {
		return reply{}, tooSoon{wait}
	}
	device, err := c.device(who.credential, who.has)
	if err != nil {
		return reply{}, err
	}
	now := c.o.Now().UTC()
	out := browserChoice{State: choiceNone, Purposes: map[string]bool{}, Exempt: c.o.Policy.Exempt(), Objected: r.objected, Time: now}
	out.ExemptFor, _ = c.objections(nil)
	switch {
	case device.Exists():
		err = c.readChoice(&out, device, now)
	case r.refused != "" && r.refused == c.o.Policy.ChoiceNotice(site.Language).Version:
		out.State = choiceRefused
		for _, id := range c.o.Policy.ChoiceNotice(site.Language).Purposes {
			out.Purposes[id] = false
		}
	}
	if err != nil {
		return reply{}, err
	}
	out.Ask = slices.ContainsFunc(c.o.Policy.Purposes(), func(p *policies.Purpose) bool {
		_, decided := out.Purposes[p.ID]
		return p.Basis == policies.Consent && !decided
	})
	return jsonReply(http.StatusOK, out)
}

// readChoice reads a device's choice. One that is being erased has none.
func (c *Collector) readChoice(out *browserChoice, device subject.Subject, now time.Time) error {
	list, err := c.o.Ledger.Current(device)
	if errors.Is(err, consent.ErrNoRecord) || errors.Is(err, subject.ErrShredded) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading current state: %w", err)
	}
	for i := range list {
		out.decide(&list[i], c.o.Policy, now)
	}
	person, err := c.o.Ledger.Linked(device)
	if err != nil && !errors.Is(err, subject.ErrShredded) {
		return fmt.Errorf("reading link: %w", err)
	}
	out.Linked = person.Exists()
	return nil
}

// decide adds one purpose that the device has a record of. Of another version of it nothing was decided (C7), and a refusal is remembered for as long
// as a consent would hold (C8).
func (out *browserChoice) decide(s *consent.Standing, policy *policies.Policy, now time.Time) {
	p, ok := policy.Purpose(s.Purpose)
	if !ok || p.Basis != policies.Consent || s.Basis != p.Basis || s.Version != p.Version || s.State == consent.ConsentExpired {
		return
	}
	if s.Granted {
		out.State, out.Purposes[p.ID] = choiceGiven, true
		if out.ValidUntil.IsZero() || s.ValidUntil.Before(out.ValidUntil) {
			out.ValidUntil = s.ValidUntil
		}
		return
	}
	if !p.Validity.AddTo(s.GivenAt).After(now) {
		return
	}
	out.Purposes[p.ID] = false
	switch {
	case out.State == choiceGiven:
	case s.State == consent.ConsentWithdrawn || s.State == consent.ConsentRevoked:
		out.State = choiceWithdrawn
	case out.State == choiceNone:
		out.State = choiceRefused
	}
}
