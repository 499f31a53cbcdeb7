package collector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/collector/wire/native"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// maxAhead is how far an event's time may lie ahead of the gateway's clock.
const maxAhead = 5 * time.Minute

// bench is what the admission of one request works on, pooled.
type bench struct {
	decoder native.Decoder
	items   []item
	fields  []pseudonymize.Field
	applier pseudonymize.Applier
	events  []pseudonymize.Event
	at      []int // position among items of each event
}

// item is one submission on its way.
type item struct {
	site    *source
	kind    *kind
	device  subject.Subject
	person  subject.Subject
	named   *named        // whom a back-end names; nil: nobody
	granted policies.Mask // the purposes that let it in
	reason  Reason        // empty: not refused so far
	purpose string
	flaw    wire.Flaw
}

func (it *item) refuse(reason Reason, flaw wire.Flaw) { it.reason, it.flaw = reason, flaw }

func (c *Collector) takeBench() *bench {
	if b, ok := c.benches.Get().(*bench); ok {
		return b
	}
	return new(bench)
}

// putBench keeps nothing of anybody in the pool, and no bench that one large request made.
func (c *Collector) putBench(b *bench) {
	if cap(b.items) > 128 || cap(b.fields) > 2048 {
		return
	}
	b.decoder.Reset()
	clear(b.items)
	clear(b.fields)
	clear(b.events)
	b.applier.Reset()
	b.items, b.fields, b.events, b.at = b.items[:0], b.fields[:0], b.events[:0], b.at[:0]
	c.benches.Put(b)
}

// admission is one request for the admission of events.
type admission struct {
	*bench
	c        *Collector
	who      caller
	site     *source         // of the key or the token; nil: each event names its own
	device   subject.Subject // whose credential came with the request
	agent    string
	network  string // the client's
	objected policies.Mask
	received time.Time
	ctx      context.Context
}

// postEvents takes events in. It is the only reader of a raw body.
func (c *Collector) postEvents(r *request) (reply, error) {
	who, err := c.caller(r)
	if err != nil {
		return reply{}, err
	}
	if who.token != nil && !who.token.Can(ScopeEvents) {
		return reply{}, errScope
	}
	layout, err := form(r.contentType)
	if err != nil {
		return reply{}, err
	}
	if r.key != "" { // refused before anything is decompressed
		if _, err := c.site(r, who, ""); err != nil {
			return reply{}, err
		}
	}
	body, err := plain(r.body, r.encoding)
	if err != nil {
		return reply{}, err
	}
	b := c.takeBench()
	batch, err := b.decoder.Decode(body, layout)
	if err != nil {
		c.putBench(b)
		return reply{}, fmt.Errorf("decoding events: %w", err)
	}
	a := &admission{bench: b, c: c, who: who, received: c.o.Now().UTC(), ctx: c.deadline.context()}
	answer, err := a.run(r, batch)
	if !errors.Is(err, context.DeadlineExceeded) { // else the spool's writer may still read the events
		c.putBench(b)
	}
	return answer, err
}

// run takes one decoded request through the whole path.
func (a *admission) run(r *request, batch native.Batch) (reply, error) {
	var err error
	if a.site, err = a.c.site(r, a.who, batch.Key); err != nil {
		return reply{}, err
	}
	if a.device, err = a.c.device(a.who.credential, a.who.has); err != nil {
		return reply{}, err
	}
	if r.objected && a.who.token == nil {
		a.objected = a.c.exempt
	}
	a.connection(r)
	for i := range batch.Submissions {
		a.items = append(a.items, item{device: a.device})
		if err := a.look(&batch.Submissions[i], &a.items[i]); err != nil {
			return reply{}, err
		}
	}
	if a.who.token != nil {
		if err := a.findPersons(batch.Submissions); err != nil {
			return reply{}, err
		}
	}
	for i := range batch.Submissions {
		if err := a.admit(i, &batch.Submissions[i]); err != nil {
			return reply{}, err
		}
	}
	if err := a.store(); err != nil {
		return reply{}, err
	}
	return a.answer(batch.Submissions), nil
}

// connection takes from the connection what a purpose keeps something of. A back-end's connection says nothing of a person. The address is
// cut to its network here already (C9).
func (a *admission) connection(r *request) {
	if a.who.token != nil {
		return
	}
	if a.c.agent {
		a.agent = strings.Clone(cut(r.agent, wire.MaxTextBytes))
	}
	if a.c.address && r.address.IsValid() {
		a.network = pseudonymize.TruncateIP(r.address.String())
	}
}

// look judges what needs neither subject nor ledger. An error refuses the request as a whole.
func (a *admission) look(s *wire.Submission, it *item) error {
	if a.who.token == nil && (len(s.Subject) > 0 || s.Device != "") {
		return errSpeaks // G15
	}
	if err := a.lookSite(s, it); err != nil {
		return err
	}
	it.kind = a.c.kinds[s.Type]
	switch {
	case s.Flaw != "":
		it.refuse(Invalid, s.Flaw)
		return nil
	case it.reason != "":
		return nil
	case it.kind == nil:
		it.refuse(UnknownType, "")
		return nil
	}
	t := &s.Touchpoint
	t.Site, t.Received = it.site.Name, a.received
	if t.Time.IsZero() {
		t.Time = a.received
	}
	if t.Channel != "" {
		t.Channel = policies.Channel(t.Channel)
	}
	switch {
	case t.Time.After(a.received.Add(maxAhead)):
		it.refuse(Invalid, wire.TimeAhead)
	case it.site.tooOld(t.Time, a.received):
		it.refuse(TooOld, "")
	}
	a.fill(t)
	return nil
}

// lookSite finds the site of an event. To name one that the token may not speak for refuses the request.
func (a *admission) lookSite(s *wire.Submission, it *item) error {
	name := s.Touchpoint.Site
	it.site = a.site
	switch {
	case name == "" && a.site != nil || a.site != nil && name == a.site.Name:
		return nil
	case a.who.token != nil && name != "" && !a.who.token.For(name):
		return errSite
	case a.who.token != nil && a.site == nil:
		it.site = a.c.names[name]
	default:
		it.site = nil
	}
	if it.site == nil {
		it.refuse(UnknownSite, "")
	}
	return nil
}

// fill puts what the connection says in the place of what the client says of it.
func (a *admission) fill(t *pseudonymize.Touchpoint) {
	if a.who.token != nil || !a.c.address && !a.c.agent {
		return
	}
	from := len(a.fields)
	for _, f := range t.Fields {
		if f.Name != "ip" && f.Name != "user_agent" {
			a.fields = append(a.fields, f)
		}
	}
	if a.network != "" {
		a.fields = append(a.fields, pseudonymize.Field{Name: "ip", Text: a.network})
	}
	if a.agent != "" {
		a.fields = append(a.fields, pseudonymize.Field{Name: "user_agent", Text: a.agent})
	}
	t.Fields = a.fields[from:len(a.fields):len(a.fields)]
}

// admit asks the ledger about one event, and makes of it an Event that holds only what the grants allow.
func (a *admission) admit(i int, s *wire.Submission) error {
	it := &a.items[i]
	if it.reason != "" {
		return nil
	}
	grants, refusal, err := a.c.o.Ledger.Check(&consent.Query{
		Type: it.kind.EventType, Device: it.device, Person: it.person,
		Time: s.Touchpoint.Time, Received: a.received, Imported: a.who.token != nil, Objected: a.objected,
	})
	if err != nil {
		return fmt.Errorf("checking consent: %w", err) // G2
	}
	if !grants.Valid() { // G1: nothing of the event is kept
		it.reason, it.purpose = refusal.Reason, refusal.Purpose
		return a.lookErased(it, s.Touchpoint.Time)
	}
	event, err := a.applier.Apply(&grants, &s.Touchpoint)
	if err != nil {
		return fmt.Errorf("pseudonymising event: %w", err)
	}
	for _, x := range grants.List() {
		it.granted |= x.Purpose.Bit()
	}
	a.events, a.at = append(a.events, event), append(a.at, i)
	return nil
}

// store makes the events of the request durable, all at once.
func (a *admission) store() error {
	if len(a.events) == 0 {
		return nil
	}
	duplicates, err := a.c.o.Spool.Append(a.ctx, a.events)
	if err != nil {
		return fmt.Errorf("spooling events: %w", err)
	}
	for i, duplicate := range duplicates {
		if duplicate {
			a.items[a.at[i]].reason = Duplicate
		}
	}
	return nil
}

// answer counts and tells what became of each event. To a site key every refusal that concerns consent or rights reads no_consent (G15).
func (a *admission) answer(submissions []wire.Submission) reply {
	accepted := 0
	var refused []byte
	for i := range a.items {
		it := &a.items[i]
		a.c.tally.event(it.site, it.kind, it.reason)
		a.c.coverage.event(it, submissions[i].Touchpoint.Channel)
		if it.reason == "" {
			accepted++
			continue
		}
		if len(refused) > 0 {
			refused = append(refused, ',')
		}
		refused = appendRefusal(refused, &submissions[i], it, a.who.token != nil)
	}
	body := make([]byte, 0, 32+len(refused))
	body = append(body, `{"accepted":`...)
	body = strconv.AppendInt(body, int64(accepted), 10)
	body = append(body, `,"refused":[`...)
	body = append(body, refused...)
	body = append(body, `]}`...)
	return reply{status: http.StatusAccepted, media: "application/json", body: body}
}

// appendRefusal appends {"index":1,"id":"…","reason":"…","purpose":"…","detail":"…"}.
func appendRefusal(b []byte, s *wire.Submission, it *item, token bool) []byte {
	reason := it.reason
	if i := reasonIndex(reason); !token && i > 0 && i <= reasonIndex(Erased) {
		reason = consent.NoConsent
	}
	b = append(b, `{"index":`...)
	b = strconv.AppendInt(b, int64(s.Index), 10)
	if s.Touchpoint.ID != "" {
		b = append(b, `,"id":`...)
		b = appendText(b, s.Touchpoint.ID)
	}
	b = append(b, `,"reason":`...)
	b = appendText(b, string(reason))
	if it.purpose != "" {
		b = append(b, `,"purpose":`...)
		b = appendText(b, it.purpose)
	}
	if it.flaw != "" {
		b = append(b, `,"detail":`...)
		b = appendText(b, string(it.flaw))
	}
	return append(b, '}')
}

// appendText appends a JSON string of a text without control characters.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}
