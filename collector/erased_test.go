package collector_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// erase erases the person with a loyalty card, now, as a rights request does.
func (e *edge) erase(card string) {
	e.t.Helper()
	s, err := e.subjects.Person(e.card(card))
	if err != nil {
		e.t.Fatal(err)
	}
	mark, err := e.subjects.Mark(s)
	if err != nil {
		e.t.Fatal(err)
	}
	err = e.state.Update(context.Background(), func(t *state.Txn) error {
		return errors.Join(e.ledger.Suppress(t, s), e.subjects.Suppress(t, mark, e.clock.now()))
	})
	if err != nil {
		e.t.Fatal(err)
	}
	if _, err := e.ledger.Sever(context.Background(), s); err != nil {
		e.t.Fatal(err)
	}
}

func (e *edge) card(number string) subject.Identifier {
	e.t.Helper()
	id, err := subject.Normalise("loyalty", number, "")
	if err != nil {
		e.t.Fatal(err)
	}
	return id
}

// A back-end that sends its history again brings nobody back: what happened before the erasure is refused and says so to its token; what happens
// later is a new subject's.
func TestErasedStayErased(t *testing.T) {
	e := open(t)
	till := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeEvents}, Declare: []string{"service"}})
	reader := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeEvents}})
	purchase := func(id string, at time.Time) string {
		return fmt.Sprintf(`{"id":%q,"type":"store_purchase","time":%q,"subject":{"loyalty":"77"},"fields":{"order":"o1"}}`, id, at.Format(time.RFC3339Nano))
	}
	start := e.clock.now()
	if n, refused := e.events(purchase("a", start), "Authorization", till); n != 1 {
		t.Fatal(refused)
	}
	e.erase("77")
	erased := e.clock.now()
	e.clock.forward(time.Hour)
	slots := e.subjects.Count()
	for _, token := range []string{till, reader} {
		n, refused := e.events("["+purchase("b", start.Add(-time.Hour))+","+purchase("c", erased)+"]", "Authorization", token)
		if n != 0 || len(refused) != 2 || refused[0].Reason != "erased" || refused[1].Reason != "erased" || refused[0].Purpose != "" {
			t.Fatalf("%d %+v", n, refused)
		}
	}
	if _, err := e.subjects.Person(e.card("77")); !errors.Is(err, subject.ErrUnknown) || e.subjects.Count() != slots {
		t.Fatal("the person is back:", err)
	}
	// Old and new in one post: the new ones create a new subject, and the old ones stay out.
	for range 2 {
		both := "[" + purchase("d", erased) + "," + purchase("e"+e.clock.now().String()[:19], erased.Add(time.Millisecond)) + "]"
		n, refused := e.events(both, "Authorization", till)
		if n != 1 || len(refused) != 1 || refused[0].Index != 0 || refused[0].Reason != "erased" {
			t.Fatalf("%d %+v", n, refused)
		}
		e.clock.forward(time.Minute)
	}
	if e.subjects.Count() <= slots {
		t.Fatal("nobody came back")
	}
	// Who was never erased is refused for another reason.
	n, refused := e.events(strings.ReplaceAll(purchase("f", start), `"77"`, `"78"`), "Authorization", reader)
	if n != 0 || refused[0].Reason != "no_consent" {
		t.Fatalf("%d %+v", n, refused)
	}
	if got := e.edge.Counts().Refused["erased"]; got != 6 {
		t.Errorf("%d were counted", got)
	}
}

// An import of a consent, or of a refusal, from before the erasure is a 422 that names the field and nobody.
func TestErasedConsentIsNotImported(t *testing.T) {
	e := open(t)
	crm := e.token(collector.TokenClaims{Scopes: []string{collector.ScopeConsent, collector.ScopeImport}, Sites: []string{"shop"}})
	body := func(granted bool, at time.Time) string {
		n := e.policy.ChoiceNotice("en")
		return fmt.Sprintf(`{"purposes":{"audience":%v},"subject":{"loyalty":"77"},"given_at":%q,"source":"crm","method":"import","notice":{"text_sha256":%q}}`,
			granted, at.Format(time.RFC3339Nano), n.SHA256())
	}
	e.post("/v1/consents", body(true, e.clock.now().Add(-time.Hour)), "Authorization", crm).want(t, "first", 201, "")
	e.erase("77")
	erased := e.clock.now()
	e.clock.forward(time.Hour)
	for _, granted := range []bool{true, false} {
		a := e.post("/v1/consents", body(granted, erased), "Authorization", crm)
		a.want(t, "again", 422, "erased")
		if !strings.Contains(a.body, `"field":"given_at"`) || strings.Contains(a.body, "77") {
			t.Errorf("%s", a.body)
		}
	}
	if _, err := e.subjects.Person(e.card("77")); !errors.Is(err, subject.ErrUnknown) {
		t.Fatal("the person is back:", err)
	}
	e.post("/v1/consents", body(true, erased.Add(time.Second)), "Authorization", crm).want(t, "later", 201, "")
}
