package privacy

import (
	"errors"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/policies"
)

// choose records what somebody chose of the purposes that the page showed. The button says which: one purpose of whoever is known; or, where nobody is,
// all, none, or those that are ticked. A refusal makes nobody (C8).
func (v *visit) choose() error {
	if err := v.person.Throttle(); err != nil {
		return err
	}
	chosen := map[string]bool{}
	ticked := map[string]bool{}
	for _, id := range v.form["purpose"] {
		ticked[id] = true
	}
	act := v.form.Get("act")
	for _, p := range v.p.o.Policy.Purposes() {
		if p.Basis != policies.Consent {
			continue
		}
		switch act {
		case "all":
			chosen[p.ID] = true
		case "none":
			chosen[p.ID] = false
		case "ticked":
			chosen[p.ID] = ticked[p.ID]
		case "agree", "refuse": // one that is named
			if ticked[p.ID] {
				chosen[p.ID] = act == "agree"
			}
		}
	}
	if len(chosen) == 0 {
		return errForm
	}
	if err := v.person.Choose(chosen, v.form.Get("snapshot"), v.words.Language); err != nil {
		return err
	}
	for _, granted := range chosen {
		if granted {
			return v.next("/privacy", "agreed")
		}
	}
	return v.next("/privacy", "refused")
}

// withdraw takes back a purpose, or everything (GDPR Art. 7(3): as easily as it was given; G3: one call, no login). A known cookie is not throttled.
func (v *visit) withdraw() error {
	if !v.person.Device.Exists() {
		return errNobody
	}
	purposes := v.form["purpose"]
	if v.form.Get("act") == "all" {
		purposes = nil
	} else if len(purposes) == 0 {
		return errForm
	}
	if err := v.person.Withdraw(purposes...); err != nil {
		if errors.Is(err, consent.ErrBasis) {
			return errForm
		}
		return err
	}
	return v.next("/privacy", "withdrawn")
}

// object objects to a purpose that needs no choice (GDPR Art. 21(1)), or takes the objection back. Nobody needs to be known for it.
func (v *visit) object() error {
	if v.form.Get("act") == "allow" {
		v.person.Allow()
		return v.next("/privacy", "allowed")
	}
	p, known := v.p.o.Policy.Purpose(v.form.Get("purpose"))
	if !known || p.Exemption == "" {
		return errForm
	}
	if err := v.person.Object(p.ID); err != nil {
		return err
	}
	return v.next("/privacy", "objected")
}

// unlink ends the link with the account that has signed in on this browser.
func (v *visit) unlink() error {
	if !v.person.Device.Exists() {
		return errNobody
	}
	if err := v.person.Unlink(); err != nil {
		return err
	}
	return v.next("/privacy", "unlinked")
}
