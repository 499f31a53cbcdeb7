package consent

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
	"pgregory.net/rapid"
)

// The definition that the gate and the rows of links are compared with: what is true of a device and of a card's holder, without rows and verdicts.
type (
	modelDevice struct {
		s        subject.Subject
		given    map[string]int64 // purposes that stand, since when
		link     *modelLink
		past     []*modelLink
		admitted []admission
	}
	modelPerson struct {
		s       subject.Subject
		parted  int64
		erased  bool
		revoked uint64 // sequence of the last withdrawal of linking while a link was remembered
	}
	modelLink struct {
		person       *modelPerson
		since, until int64
	}
	admission struct {
		grants Grants
		person *modelPerson
	}
)

// household is some devices and cards in one gateway.
type household struct {
	*gateway
	name    string
	devices []*modelDevice
	cards   map[string]*modelPerson
	revoked map[subject.Slot]uint64 // by device: the sequence after its last withdrawal of linking
}

func (h *household) device(r *rapid.T) *modelDevice {
	return h.devices[rapid.IntRange(0, len(h.devices)-1).Draw(r, "device")]
}

func (h *household) card(r *rapid.T) string {
	return fmt.Sprintf("%s-%d", h.name, rapid.IntRange(0, 1).Draw(r, "card"))
}

func (h *household) at() int64 { return h.now().UnixMilli() }

func (h *household) mintInto(i int) {
	s, _ := h.mint(audienceAndLinking)
	h.devices[i] = &modelDevice{s: s, given: map[string]int64{"audience": h.at(), policies.Linking: h.at()}}
}

// end ends the device's link.
func (h *household) end(d *modelDevice, until int64) {
	if d.link != nil {
		if d.link.since <= d.link.person.parted {
			until = min(until, d.link.person.parted)
		}
		d.link.until = until
		d.past, d.link = append(d.past, d.link), nil
	}
}

func (h *household) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"choose": func(r *rapid.T) {
			d := h.device(r)
			choice := map[string]bool{}
			for _, p := range []string{"audience", policies.Linking} {
				switch rapid.SampledFrom([]string{"yes", "yes", "yes", "no", "unasked"}).Draw(r, p) {
				case "yes":
					choice[p] = true
				case "no":
					choice[p] = false
				}
			}
			if len(choice) > 0 {
				h.choose(d.s, choice)
			}
			for p, yes := range choice {
				h.chosen(d, p, yes)
			}
		},
		"withdraw": func(r *rapid.T) {
			d := h.device(r)
			purposes := rapid.SampledFrom([][]string{{policies.Linking}, {"audience"}, nil}).Draw(r, "purposes")
			if _, err := h.Withdraw(ctx, d.s, Withdrawal{Site: testSite, Purposes: purposes}); err != nil {
				r.Fatal(err)
			}
			if purposes == nil {
				purposes = slices.Collect(maps.Keys(d.given))
			}
			for _, p := range purposes {
				h.chosen(d, p, false)
			}
		},
		"log in":       h.logIn,
		"log in again": h.logIn,
		"log out":      h.logOut,
		"person consents": func(r *rapid.T) { // which is nothing to a device
			c, card := h.banner(audienceAndLinking), h.card(r)
			c.Who.Persons = []subject.Identifier{loyalty(r, card)}
			if _, err := h.Record(ctx, c); err != nil {
				r.Fatal(err)
			}
			s, err := h.Declare(ctx, Declaration{Site: testSite, Persons: c.Who.Persons, Purposes: []string{"service"}})
			if err != nil {
				r.Fatal(err)
			}
			h.known(card, s)
		},
		"person withdraws": h.part,
		"erase a person":   h.erasePerson,
		"erase a device": func(r *rapid.T) {
			i := rapid.IntRange(0, len(h.devices)-1).Draw(r, "device")
			if rapid.Bool().Draw(r, "suppressed only") {
				h.suppress(h.devices[i].s)
				h.want(h.query("page_view", h.devices[i].s, noSubject), NoConsent)
			}
			h.sever(h.devices[i].s)
			h.mintInto(i)
		},
		"wait":     func(r *rapid.T) { h.forward(time.Duration(rapid.IntRange(0, 1500).Draw(r, "ms")) * time.Millisecond) },
		"an event": h.event,
		"":         h.check,
	}
}

// known notes the person of a card.
func (h *household) known(card string, s subject.Subject) {
	if h.cards[card] == nil {
		h.cards[card] = &modelPerson{s: s, parted: math.MinInt64}
	}
}

func (h *household) chosen(d *modelDevice, purpose string, yes bool) {
	_, stood := d.given[purpose]
	switch {
	case yes && !stood:
		d.given[purpose] = h.at()
	case !yes:
		delete(d.given, purpose)
		if purpose == policies.Linking {
			if stood {
				h.revoked[d.s.Slot()] = h.Sequence()
			}
			h.end(d, h.at())
		}
	}
}

func (h *household) logIn(r *rapid.T) {
	d, card := h.device(r), h.card(r)
	link, err := h.Identify(ctx, h.identification(d.s, card))
	if _, consents := d.given[policies.Linking]; !consents {
		if !errors.Is(err, ErrNoLinking) {
			r.Fatal(err)
		}
		return
	}
	if err != nil {
		r.Fatal(err)
	}
	h.known(card, link.Person)
	p := h.cards[card]
	if link.Person.Slot() != p.s.Slot() {
		r.Fatal("another person")
	}
	if d.link == nil || d.link.person != p || d.link.since <= p.parted {
		h.end(d, h.at())
		since := h.at()
		if p.parted != math.MinInt64 {
			since = max(since, p.parted+1)
		}
		d.link = &modelLink{person: p, since: since}
	}
	if link.Since.UnixMilli() != d.link.since {
		r.Fatalf("since %d, want %d", link.Since.UnixMilli(), d.link.since)
	}
}

func (h *household) logOut(r *rapid.T) {
	d := h.device(r)
	if ended, err := h.Unlink(ctx, testSite, d.s, "shop"); err != nil || ended != (d.link != nil) {
		r.Fatal(ended, err)
	}
	h.end(d, h.at())
}

// part is a person's withdrawal by a back-end.
func (h *household) part(r *rapid.T) {
	p := h.cards[h.card(r)]
	if p == nil {
		return
	}
	if _, err := h.Withdraw(ctx, p.s, Withdrawal{Site: testSite, Purposes: []string{policies.Linking}}); err != nil {
		r.Fatal(err)
	}
	for _, d := range h.devices {
		if d.link != nil && d.link.person == p || slices.ContainsFunc(d.past, func(l *modelLink) bool { return l.person == p }) {
			p.parted, p.revoked = h.at(), h.Sequence()
		}
	}
}

func (h *household) erasePerson(r *rapid.T) {
	card := h.card(r)
	p := h.cards[card]
	if p == nil {
		return
	}
	if rapid.Bool().Draw(r, "suppressed first") {
		h.suppress(p.s)
		p.erased = true
		h.check(r)
	}
	h.sever(p.s)
	p.erased = true
	delete(h.cards, card)
	for _, d := range h.devices {
		if d.link != nil && d.link.person == p {
			d.link = nil
		}
		d.past = slices.DeleteFunc(d.past, func(l *modelLink) bool { return l.person == p })
		h.wantNoTrace(p.s, d.s)
	}
}

// event is admitted or not, and carries a person or not, by the definition; now, around each of the device's times, and received before the link.
func (h *household) event(r *rapid.T) {
	d := h.device(r)
	q := h.query("page_view", d.s, noSubject)
	times := []int64{h.at()}
	for _, since := range d.given {
		times = append(times, since, since-1)
	}
	if d.link != nil {
		times = append(times, d.link.since, d.link.since-1)
	}
	q.Time = time.UnixMilli(rapid.SampledFrom(times).Draw(r, "time"))
	q.Received = time.UnixMilli(rapid.SampledFrom(times).Draw(r, "received"))
	h.compare(r, d, q)
}

func (h *household) compare(r *rapid.T, d *modelDevice, q *Query) {
	grants, _, err := h.Check(q)
	if err != nil {
		r.Fatal(err)
	}
	at, received := q.Time.UnixMilli(), q.Received.UnixMilli()
	audience, ok := d.given["audience"]
	if admitted := ok && at >= audience; grants.Valid() != admitted {
		r.Fatalf("admitted %v, want %v", grants.Valid(), admitted)
	}
	if !grants.Valid() {
		return
	}
	var person *modelPerson
	linking, ok := d.given[policies.Linking]
	if l := d.link; ok && l != nil && at >= linking && at >= l.since && received >= l.since && l.since > l.person.parted && !l.person.erased {
		person = l.person
	}
	want := []string{"audience"}
	slot := subject.Slot(0)
	if person != nil {
		want, slot = append(want, policies.Linking), person.s.Slot()
	}
	var got []string
	for _, x := range grants.List() {
		got = append(got, x.Purpose.ID)
		if x.Slot != d.s.Slot() {
			r.Fatal("a grant of somebody else's")
		}
	}
	if !slices.Equal(got, want) || grants.Person().Slot() != slot || grants.Device().Slot() != d.s.Slot() {
		r.Fatalf("grants %v, person in slot %d; want %v, %d", got, grants.Person().Slot(), want, slot)
	}
	d.admitted = append(d.admitted, admission{grants, person})
}

// check compares all that can be asked now.
func (h *household) check(r *rapid.T) {
	for _, d := range h.devices {
		h.compare(r, d, h.query("page_view", d.s, noSubject))
		for _, x := range d.admitted {
			if x.person == nil {
				continue
			}
			sequence := x.grants.Sequence()
			if h.RevokedAfter(d.s.Slot(), policies.Linking, sequence) != (h.revoked[d.s.Slot()] > sequence) ||
				h.RevokedAfter(x.person.s.Slot(), policies.Linking, sequence) != (x.person.erased || x.person.revoked > sequence) {
				r.Fatal("what was admitted is revoked, or is not, otherwise than it was withdrawn")
			}
		}
		list := h.links(d.s)
		want := d.past
		if d.link != nil {
			want = append(slices.Clone(want), d.link)
		}
		if len(list) != len(want) {
			r.Fatalf("%d links, want %d", len(list), len(want))
		}
		for i, l := range want {
			until := l.until
			if until == 0 && l.since <= l.person.parted {
				until = l.person.parted
			}
			x := list[i]
			if x.Person.Slot() != l.person.s.Slot() || x.Since.UnixMilli() != l.since || !x.Until.IsZero() != (until != 0) || until != 0 && x.Until.UnixMilli() != until {
				r.Fatalf("link %d: %v to %v, want %d to %d", i, x.Since, x.Until, l.since, until)
			}
		}
	}
	var all []subject.Subject
	for _, d := range h.devices {
		all = append(all, d.s)
	}
	for _, p := range h.cards {
		all = append(all, p.s)
	}
	h.checkSides(r, all)
}

// checkSides compares both sides of every link among all, and the standing of each device: whatever was done, or cut off by a crash, they agree.
func (g *gateway) checkSides(t failing, all []subject.Subject) {
	type side struct {
		device, person subject.Slot
		record         uint32
	}
	devices, persons := map[side]linkTime{}, map[side]linkTime{}
	open := map[side]bool{}
	for _, s := range all {
		slot := s.Slot()
		list, err := g.rowsOf(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range list {
			if s.Kind() == subject.Device {
				devices[side{slot, x.Other, x.Record}] = x
			} else {
				persons[side{x.Other, slot, x.Record}] = x
			}
		}
		if row, err := g.openStanding(s); err == nil && row.Link != nil {
			open[side{slot, row.Link.Person, row.Link.Record}] = true
		}
	}
	for k, x := range devices {
		y, ok := persons[k]
		if !ok || x.Since != y.Since || x.Until != y.Until || open[k] != (x.Until == 0) {
			t.Fatal("device", x, "person", y, "standing", open[k])
		}
	}
	if len(devices) != len(persons) {
		t.Fatal(len(devices), "links of devices", len(persons), "of persons")
	}
	for k := range open {
		if _, ok := devices[k]; !ok {
			t.Fatal("a link stands that no row has")
		}
	}
}

// Whatever devices and persons do, in whatever order: a person is carried between the begin and the end of a link and never else, never two, nothing
// backwards, nothing by anybody else's consent; and who is erased is nowhere.
func TestLinksFollowTheirDefinition(t *testing.T) {
	g := openLinkGateway(t)
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		h := &household{gateway: g, name: fmt.Sprint("h", n), cards: map[string]*modelPerson{}, revoked: map[subject.Slot]uint64{}, devices: make([]*modelDevice, 2)}
		for i := range h.devices {
			h.mintInto(i)
		}
		r.Repeat(h.actions())
	})
}
