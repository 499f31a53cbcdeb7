package consent

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// G3: of a thousand checks that race one withdrawal each was refused, or is known to be revoked by whoever seals it later.
func TestWithdrawalRace(t *testing.T) {
	raceChecks(t, Withdrawn, func(g *gateway, s subject.Subject) error {
		_, err := g.Withdraw(ctx, s, Withdrawal{Site: testSite})
		return err
	})
}

// The same of an erasure, whose subject has a standing to the end.
func TestSuppressionRace(t *testing.T) {
	raceChecks(t, NoConsent, func(g *gateway, s subject.Subject) error {
		return g.state.Update(ctx, func(tx *state.Txn) error { return g.Suppress(tx, s) })
	})
}

func raceChecks(t *testing.T, reason Reason, revoke func(*gateway, subject.Subject) error) {
	for _, cache := range []int{0, 1} { // 1: a page that other subjects keep throwing out
		g := openGatewayWith(t, testFiles(), cache)
		s, _ := g.mint(allPurposes)
		r := race{g: g, q: g.query("page_view", s, noSubject), reason: reason, done: make(chan struct{})}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { r.check(t) })
		}
		if cache == 1 {
			wg.Go(func() {
				for n := 0; !r.finished(); n++ {
					g.warm.put(subject.Slot(1+n%3)<<pageBits, nobody)
				}
			})
		}
		for r.checks.Load() < 300 {
			runtime.Gosched()
		}
		if err := revoke(g, s); err != nil {
			t.Error(err)
		}
		close(r.done)
		wg.Wait()
		for _, grants := range r.granted {
			if !g.RevokedAfter(s.Slot(), "audience", grants.Sequence()) {
				t.Fatalf("a grant of sequence %d survives the revocation of sequence %d", grants.Sequence(), g.Sequence())
			}
		}
		if len(r.granted) == 0 || r.refused == 0 || len(r.granted)+r.refused < 1000 {
			t.Fatalf("%d granted, %d refused: not a race", len(r.granted), r.refused)
		}
		t.Logf("cache %d: %d granted and revoked, %d refused", cache, len(r.granted), r.refused)
		g.want(r.q, reason)
	}
}

// race is what checks find that run beside a withdrawal.
type race struct {
	g      *gateway
	q      *Query
	reason Reason // of a refusal
	checks atomic.Int64
	done   chan struct{} // closed when it was revoked

	mu      sync.Mutex
	granted []Grants
	refused int
}

func (r *race) finished() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// check asks at least 250 times, and 50 times after the revocation.
func (r *race) check(t *testing.T) {
	for n, after := 0, 0; n < 250 || after < 50; n++ {
		finished := r.finished()
		if finished {
			after++
		}
		grants, refused, err := r.g.Check(r.q)
		r.checks.Add(1)
		r.mu.Lock()
		switch {
		case err != nil:
			t.Error(err)
			after = 50
		case grants.Valid() && finished:
			t.Error("admitted after the revocation had answered")
		case grants.Valid():
			r.granted = append(r.granted, grants)
		case refused.Reason == r.reason:
			r.refused++
		default:
			t.Errorf("refused for %q", refused.Reason)
		}
		r.mu.Unlock()
	}
}

// The revocations survive a restart, are seen inside the writer before they are committed, and can be dropped.
func TestRevocations(t *testing.T) {
	g := openGateway(t)
	a, _ := g.mint(map[string]bool{"audience": true, "personal": true})
	b, _ := g.mint(allPurposes)
	if _, err := g.Withdraw(ctx, a, Withdrawal{Site: testSite}); err != nil {
		t.Fatal(err)
	}
	g.choose(b, map[string]bool{"audience": false})
	g.choose(b, map[string]bool{"audience": false}) // nothing stands: nothing to revoke
	if g.Sequence() != 3 {
		t.Fatalf("sequence %d", g.Sequence())
	}
	g.reopen(nil)
	if g.Sequence() != 3 || !g.RevokedAfter(a.Slot(), "audience", 0) || !g.RevokedAfter(a.Slot(), "personal", 1) ||
		g.RevokedAfter(a.Slot(), "audience", 1) || !g.RevokedAfter(b.Slot(), "audience", 2) || g.RevokedAfter(b.Slot(), "audience", 3) {
		t.Fatal("the set is another after a restart")
	}
	since := func(sequence uint64) (out []revocation, err error) {
		err = g.state.Update(ctx, func(tx *state.Txn) error {
			out = nil
			if err := g.revoke(tx, 77, []string{"x"}); err != nil {
				return err
			}
			if err := g.RevokedSince(tx, sequence, func(slot subject.Slot, purpose string) error {
				out = append(out, revocation{slot, purpose})
				return nil
			}); err != nil {
				return err
			}
			return errors.New("nothing of this is kept")
		})
		return out, err
	}
	got, _ := since(1)
	want := []revocation{{a.Slot(), "personal"}, {b.Slot(), "audience"}, {77, "x"}}
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || g.Sequence() != 3 {
		t.Fatalf("%v, sequence %d", got, g.Sequence())
	}
	if err := g.ForgetRevocations(ctx, 2); err != nil {
		t.Fatal(err)
	}
	if g.RevokedAfter(a.Slot(), "personal", 2) || !g.RevokedAfter(b.Slot(), "audience", 2) {
		t.Fatal("what was dropped is still there, or more was dropped")
	}
	if !g.RevokedAfter(a.Slot(), "personal", 1) {
		t.Fatal("an event older than what was dropped: its revocation is unknown, and was taken for none")
	}
	if got, _ = since(2); len(got) != 2 {
		t.Fatalf("%v", got)
	}
	if _, err := since(1); !errors.Is(err, ErrForgotten) {
		t.Fatal("a batch older than what is remembered must not commit:", err)
	}
	g.reopen(nil)
	if g.Sequence() != 3 {
		t.Fatal("the sequence goes back")
	}
	if !g.RevokedAfter(a.Slot(), "personal", 1) || g.RevokedAfter(a.Slot(), "personal", 2) {
		t.Fatal("after a restart, what was dropped is taken for not revoked")
	}
	if err := g.ForgetRevocations(ctx, 3); err != nil {
		t.Fatal(err)
	}
	g.reopen(nil)
	if !g.RevokedAfter(b.Slot(), "audience", 2) || g.RevokedAfter(b.Slot(), "audience", 3) {
		t.Fatal("with every row dropped, what is older is taken for not revoked")
	}
}

// What is forgotten of some is nothing against the others: everybody can still choose, withdraw and be declared.
func TestForgettingRevokesNobody(t *testing.T) {
	g := openGateway(t)
	a, _ := g.mint(allPurposes)
	b, _ := g.mint(allPurposes)
	if _, err := g.Withdraw(ctx, a, Withdrawal{Site: testSite}); err != nil {
		t.Fatal(err)
	}
	if err := g.ForgetRevocations(ctx, g.Sequence()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		g.choose(a, allPurposes)
		g.want(g.query("page_view", a, noSubject), "", "audience")
		if r, err := g.Withdraw(ctx, b, Withdrawal{Site: testSite}); err != nil || r.State != ConsentWithdrawn {
			t.Fatal("who withdraws after others were forgotten:", r.State, err)
		}
		if _, err := g.Declare(ctx, Declaration{Site: testSite, Persons: []subject.Identifier{loyalty(t, "1")}, Purposes: []string{"service"}}); err != nil {
			t.Fatal(err)
		}
		g.reopen(nil)
	}
}
