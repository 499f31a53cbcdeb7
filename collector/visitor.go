package collector

import (
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Visitor is who asks for a right of theirs. What the cookie proves is what was received under it, and no more (rights.md D5; GDPR Art. 11): a site
// key alone, which everybody can read, proves nothing (D6).
type Visitor struct {
	Device   subject.Subject // zero: nobody is known by what came with the request
	Site     consent.Site
	Language string // the site's
}

// visitor copies nothing of the request: what it answers is the configuration's and the registry's. key is the site key that the body names.
func (c *Collector) visitor(r *request, key string) (Visitor, error) {
	who, err := c.caller(r)
	if err != nil {
		return Visitor{}, err
	}
	if who.token != nil {
		return Visitor{}, errScope // whose? a back-end's requests go to the private listener
	}
	if r.key == "" && key == "" && len(c.o.Sites) == 1 { // the only site there is: a link in a letter needs no key
		r.key = c.o.Sites[0].Key
	}
	site, err := c.site(r, who, key)
	if err != nil {
		return Visitor{}, err
	}
	if err := c.throttle(r, who); err != nil {
		return Visitor{}, err
	}
	device, err := c.device(who.credential, who.has)
	if err != nil {
		return Visitor{}, err
	}
	return Visitor{device, site.ledger, site.Language}, nil
}
