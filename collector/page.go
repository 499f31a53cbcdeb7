package collector

import (
	"crypto/sha256"
	"time"

	"github.com/octroi/octroi/collector/wire/native"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// pageMethod is how a choice came about that was made on the privacy page.
const pageMethod = "privacy_page"

// Person is a browser on a page of the gateway's own, for as long as its request lasts. Whoever serves the page has made sure that no other page sent
// what changes something: the origin is the gateway's, which no site lists.
type Person struct {
	Device  subject.Subject // of the cookie; zero: nobody is known by it
	Site    consent.Site
	Refused bool // the browser remembers that it refused what is asked now (C8)
	Objects bool // it remembers an objection to what needs no choice (G11)

	c    *Collector
	r    *request
	who  caller
	site *source
	give func(cookie) // sets it
}

// onPage is who sent r. An unknown cookie is nobody's.
func (c *Collector) onPage(r *request, site *source) (Person, error) {
	r.authorization = "" // a page speaks for cookies alone
	who, err := c.caller(r)
	if err != nil {
		return Person{}, err
	}
	device, err := c.device(who.credential, who.has)
	if err != nil {
		return Person{}, err
	}
	version := c.o.Policy.ChoiceNotice(site.Language).Version
	return Person{
		Device: device, Site: site.ledger, Refused: !device.Exists() && r.refused != "" && r.refused == version,
		Objects: r.objected, c: c, r: r, who: who, site: site,
	}, nil
}

// Throttle bounds what the person's network sends, as it does consent posts (G12).
func (p *Person) Throttle() error { return p.c.throttle(p.r, p.who) }

// Mark tells this cookie from every other, and does not lead back to it; that of nobody is everybody's.
func (p *Person) Mark() [sha256.Size]byte {
	if !p.who.has {
		return sha256.Sum256([]byte("octroi-page/nobody"))
	}
	return sha256.Sum256([]byte("octroi-page/" + p.who.credential.Text()))
}

// Choose records a choice with the snapshot of what the page showed (C4), as POST /v1/consents does, and sets its cookies.
func (p *Person) Choose(purposes map[string]bool, snapshot, language string) error {
	in := native.Choice{Purposes: purposes, Snapshot: snapshot, Method: pageMethod, Language: language}
	out, err := p.c.recordOwn(p.r, p.who, p.site, in, consent.Choice{
		Purposes: purposes, Snapshot: snapshot, Method: pageMethod, Language: language, Signals: consent.Signals{GPC: p.r.gpc}, // G5
	})
	p.take(out)
	return err
}

// Withdraw withdraws the purposes, or everything where none is named, as POST /v1/consents/withdraw does (G3: one call, no login).
func (p *Person) Withdraw(purposes ...string) error {
	out, err := p.c.withdraw(p.Device, consent.Withdrawal{
		Site: p.Site, Purposes: purposes, Method: pageMethod, Entity: p.site.Name, Evidence: p.r.circumstances(),
	})
	p.take(out)
	return err
}

// Object objects to a purpose that needs no choice, as POST /v1/consents/withdraw does (GDPR Art. 21(1)): the browser remembers it, whoever it is of.
func (p *Person) Object(purpose string) error {
	out, err := p.c.withdrawOrObject(subject.Subject{}, consent.Withdrawal{Purposes: []string{purpose}})
	p.take(out)
	return err
}

// Allow takes an objection back: the browser forgets it.
func (p *Person) Allow() { p.give(cookie{name: objectedName}) }

// Unlink ends the link of the browser with whoever is signed in, as DELETE /v1/identify does.
func (p *Person) Unlink() error {
	out, err := p.c.unlink(p.site, p.Device, p.site.Name)
	p.take(out)
	return err
}

// Forget makes the browser forget who it is: the subject is being erased.
func (p *Person) Forget() { p.set(cookie{name: p.c.cookieName()}) }

func (p *Person) take(out reply) {
	for _, k := range out.cookies {
		p.set(k)
	}
}

// set gives a cookie; with that of a credential the browser is who it is from now on, also to Mark.
func (p *Person) set(k cookie) {
	p.give(k)
	if k.name == p.c.cookieName() {
		p.who.credential, p.who.has = subject.ParseCredential(k.value)
	}
}

// Failure is what is said of an error that Person or Visitor failed with.
type Failure struct {
	Status   int
	Code     string
	Incident string        // of a 5xx: the id that its log line has too
	Wait     time.Duration // before the same is tried again; 0: none
}

// Explain makes of an error what Problem would say of it, and logs what is the gateway's own fault.
func (c *Collector) Explain(route string, err error) Failure {
	p := c.explained(route, err)
	return Failure{p.Status, p.Code, p.Instance, p.retry}
}
