package rights

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// D5: a request that nobody has verified neither blocks nor absorbs one that is.
func TestUnverifiedBlocksNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, s := w.mint(t)
	var unverified []string
	for range 3 {
		q, _, err := w.submit(t.Context(), submission{right: proof.Access, origin: proof.ByDPO, actor: "token:officer", subject: s})
		if err != nil {
			t.Fatal(err)
		}
		unverified = append(unverified, q.ID)
	}
	if unverified[0] != unverified[2] {
		t.Error("an officer's repeat is a second request")
	}
	mine := w.ask(t, proof.Access, s)
	if mine.ID == unverified[0] || mine.State != Approved {
		t.Error("absorbed by an unverified one")
	}
	again, created, err := w.submit(t.Context(), submission{right: proof.Access, origin: proof.ByDPO, actor: "token:officer", subject: s})
	if err != nil || created || again.State.Final() {
		t.Error(created, err)
	}
	// Whoever wants the package sealed must not be given a plain one.
	_, _, err = w.submit(t.Context(), submission{right: proof.Access, origin: proof.ByDPO, actor: "token:officer", subject: s, recipient: "age1x"})
	if !errors.Is(err, ErrTransition) {
		t.Errorf("another recipient: %v", err)
	}
}

// Nor does one whose identity is asked for, or one that waits for an officer's leave, which a person with the cookie does not need.
func TestUndecidedBlocksNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, a := range []Action{Ask, Verify} {
		_, s := w.mint(t)
		entered, _, err := w.submit(t.Context(), submission{right: proof.Erasure, origin: proof.ByDPO, actor: "token:officer", subject: s})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.decide(t.Context(), entered.ID, a, "token:officer", Decision{}); err != nil {
			t.Fatal(err)
		}
		if mine := w.ask(t, proof.Erasure, s); mine.ID == entered.ID || mine.State != InProgress {
			t.Errorf("after %s: absorbed", a)
		}
	}
}

func TestTooManyRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, s := w.mint(t)
	w.ask(t, proof.Access, s)
	w.Requests.open.Store(maxOpen)
	_, other := w.mint(t)
	_, _, err := w.submit(t.Context(), submission{right: proof.Access, origin: proof.ByPerson, actor: person, subject: other, proven: true})
	if !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
	if status, code, detail := problemOf(err); status != 503 || code != "busy" || detail != "" {
		t.Error(status, code, detail)
	}
	if q := w.ask(t, proof.Access, s); q.State != Approved { // the one that is open is found all the same
		t.Error(q.State)
	}
	// What comes by itself keeps nobody out, nor do persons the officer.
	if _, _, err := w.submit(t.Context(), submission{right: proof.Access, origin: proof.ByDPO, actor: "token:officer", subject: other}); err != nil {
		t.Error(err)
	}
	if _, err := w.ledger.Withdraw(t.Context(), s, consent.Withdrawal{Site: testSite, Purposes: []string{"audience"}}); err != nil {
		t.Fatal(err)
	}
	w.Requests.open.Store(maxWithdrawals)
	if err := w.convertWithdrawals(t.Context()); !errors.Is(err, ErrTooMany) || w.count(t, withdrawnPrefix) != 1 {
		t.Error("a withdrawal takes the place of a request:", err)
	}
	w.Requests.open.Store(maxWithdrawals - 1)
	if err := w.convertWithdrawals(t.Context()); err != nil || w.count(t, withdrawnPrefix) != 0 {
		t.Error("it is not made up for:", err)
	}
}

// One cookie cannot use up the custodian's day, whether its requests are open or done; and nothing keeps anybody from being erased.
func TestOneCookieAsksAgainAndAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, s := w.mint(t)
	again := submission{right: proof.Access, origin: proof.ByPerson, actor: person, subject: s, proven: true}
	for range maxOpenOf {
		q, _, err := w.submit(t.Context(), again)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.decide(t.Context(), q.ID, Cancel, person, Decision{}); err != nil {
			t.Fatal(err)
		}
		w.forward(time.Hour)
	}
	if _, _, err := w.submit(t.Context(), again); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
	w.forward(24 * time.Hour)
	if q := w.ask(t, proof.Access, s); q.State != Approved {
		t.Errorf("%+v", q)
	}
	for range maxOpenOf { // withdrawals are nobody's requests
		if _, err := w.ledger.Withdraw(t.Context(), s, consent.Withdrawal{Site: testSite, Purposes: []string{"audience"}}); err != nil {
			t.Fatal(err)
		}
		w.grant(t, s)
	}
	if err := w.convertWithdrawals(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.ask(t, proof.Erasure, s, "audience")
	if q := w.ask(t, proof.Erasure, s); q.State != InProgress {
		t.Errorf("%+v", q)
	}
}

// A person asks with a recipient that no package could be sealed to.
func TestRecipientIsChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, s := w.mint(t)
	for _, recipient := range []string{"age1", "AGE-SECRET-KEY-1ABC", "age1" + fmt.Sprint(make([]byte, 20))} {
		_, _, err := w.submit(t.Context(), submission{
			right: proof.Access, origin: proof.ByPerson, actor: person, subject: s, recipient: recipient, proven: true,
		})
		if !errors.Is(err, ErrInput) {
			t.Errorf("%.10s: %v", recipient, err)
		}
	}
	if n := w.count(t, requestPrefix); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// Two erasures of one subject: the first ends the other, which says why. A subject without a row is erased as well.
func TestErasedTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Notices = time.Minute })
	s := w.declare(t, "card-1")
	byOfficer, _, err := w.submit(t.Context(), submission{right: proof.Erasure, origin: proof.ByDPO, actor: "token:officer", subject: s})
	if err != nil {
		t.Fatal(err)
	}
	first := w.ask(t, proof.Erasure, s)
	if q := w.end(t, &servant{w: w, name: "custodian-one"}, first.ID); q.State != Completed || q.Batches != 0 {
		t.Errorf("%+v", q)
	}
	if _, err := w.decide(t.Context(), byOfficer.ID, Verify, "token:officer", Decision{}); !errors.Is(err, ErrTransition) {
		t.Error(err)
	}
	if q := w.row(t, byOfficer.ID); q.State != Cancelled || q.Reason != "erased" {
		t.Errorf("%s %s", q.State, q.Reason)
	}
	if _, err := w.subjects.Person(loyalty(t, "card-1")); !errors.Is(err, subject.ErrUnknown) {
		t.Error(err)
	}
}

// Open severs whoever a crash left suppressed, before it returns.
func TestOpenSevers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openWorld(t, dir)
	_, s := w.mint(t)
	w.pages(t, s, 1, "a")
	w.ship(t)
	q := w.ask(t, proof.Erasure, s)
	if err := errors.Join(w.save(), w.close()); err != nil {
		t.Fatal(err)
	}
	w, err := openParts(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.close() }()
	w.objects = away{w.objects} // also when the store is away
	if err := w.openExits(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.Requests, err = Open(t.Context(), w.options()); err != nil {
		t.Fatal(err)
	}
	if got := w.row(t, q.ID); got.Severed.IsZero() {
		t.Errorf("%+v", got)
	}
	if _, err := w.subjects.BySlot(s.Slot()); !errors.Is(err, subject.ErrShredded) {
		t.Error(err)
	}
}
