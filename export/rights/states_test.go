package rights

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/export/rights/proof"
	"pgregory.net/rapid"
)

// model is rights.md D2, written down once more: what each state allows, and where it leads.
func model() map[State]map[Action]State {
	return map[State]map[Action]State{
		IdentityUnverified:  {Verify: Pending, Deny: Denied, Extend: IdentityUnverified, Ask: AwaitingInformation, Cancel: Cancelled},
		Pending:             {Approve: Approved, Deny: Denied, Extend: Pending, Ask: AwaitingInformation, Cancel: Cancelled},
		Approved:            {Extend: Approved, Cancel: Cancelled},
		AwaitingInformation: {Answer: "", Deny: Denied, Cancel: Cancelled},
	}
}

// Random decisions about requests: what the model allows happens, everything else is refused and changes nothing; final states stay; every
// transition is one leaf with its actor; the identity outlives no closed request for longer than it may.
func TestTransitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.declare(t, "card-1")
	rapid.Check(t, func(t *rapid.T) {
		right := rapid.SampledFrom([]proof.Right{proof.Access, proof.Erasure}).Draw(t, "right")
		q, created, err := w.submit(t.Context(), submission{right: right, origin: proof.ByDPO, actor: "token:officer", subject: s})
		if err != nil || !created {
			t.Fatal(created, err)
		}
		state, before := q.State, State("")
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			a := rapid.SampledFrom(append(Actions(), begin, complete, fail, expire)).Draw(t, "action")
			d := Decision{Reason: "not_identified", Months: 1}
			if a == Extend {
				d.Reason = "complexity"
			}
			if a == Approve {
				d.Approval = w.approvalOfTest(t, q)
			}
			was := w.requestOfTest(t, q.ID)
			done, err := w.decide(t.Context(), q.ID, a, "token:officer", d)
			to, allowed := model()[state][a]
			if allowed && a == Extend && was.Clock.Months == maxExtension {
				allowed = false
			}
			switch {
			case allowed && err != nil:
				t.Fatalf("%s of %s: %v", a, state, err)
			case !allowed && err == nil && !(a == Approve && state == Approved && was.Approved == ""):
				t.Fatalf("%s of %s was allowed", a, state)
			case err != nil:
				if !errors.Is(err, ErrTransition) && !errors.Is(err, ErrNoRequest) {
					t.Fatalf("%s of %s: %v", a, state, err)
				}
				if now := w.requestOfTest(t, q.ID); !same(was, now) {
					t.Fatalf("%s of %s was refused and changed something", a, state)
				}
				continue
			}
			if a == Ask {
				before = state
			}
			if a == Answer {
				to = before
			}
			if state = done.request.State; state != to {
				t.Fatalf("%s leads to %s, want %s", a, state, to)
			}
			if len(done.request.Leaves) != len(was.Leaves)+1 {
				t.Fatalf("%s left %d leaves", a, len(done.request.Leaves)-len(was.Leaves))
			}
			if state.Final() == (len(done.request.possible()) > 0) {
				t.Fatalf("%s allows %v", state, done.request.possible())
			}
		}
		if !state.Final() {
			if _, err := w.decide(t.Context(), q.ID, Cancel, person, Decision{}); err != nil {
				t.Fatal(err)
			}
		}
	})
	if len(w.opened(t)) != 0 || w.open.Load() != 0 {
		t.Error("closed requests count as open")
	}
	w.eachLeafIsProven(t)
	w.forward(31 * 24 * time.Hour)
	w.Pass(t.Context())
	w.Pass(t.Context()) // a pass forgets a bounded number
	if n := w.count(t, frozenTable); n != 0 {
		t.Errorf("%d sealed rows of closed requests are left", n)
	}
}

func same(a, b *requestRow) bool {
	one, err1 := json.Marshal(a)
	two, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(one) == string(two)
}

func (w *world) requestOfTest(t *rapid.T, id string) *requestRow {
	q, err := w.request(id)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func (w *world) approvalOfTest(t *rapid.T, q *requestRow) string {
	j, err := w.jobOf(q)
	if err != nil {
		t.Fatal(err)
	}
	text, err := proof.Approve(*j, approvalKey)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// eachLeafIsProven: every opening opens a leaf that is in the log, and says who did what.
func (w *world) eachLeafIsProven(t *testing.T) {
	t.Helper()
	var indexes []int64
	err := w.Openings(func(index int64, o evidence.Opening) error {
		leaves, err := w.state.Leaves(index, index+1)
		if err != nil {
			return err
		}
		l, err := proof.ParseLeaf(o.Core)
		if err != nil {
			return err
		}
		if o.Leaf() != leaves[0] || l.Actor == "" {
			t.Errorf("leaf %d is not what the log has", index)
		}
		indexes = append(indexes, index)
		return nil
	})
	if err != nil || len(indexes) == 0 || !slices.IsSorted(indexes) {
		t.Fatal(len(indexes), err)
	}
}

// The machine's own ends: nobody answers; an erasure does not come to an end.
func TestOvertime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.declare(t, "card-1")
	asked, _, err := w.submit(t.Context(), submission{right: proof.Access, origin: proof.ByDPO, actor: "token:officer", subject: s})
	if err != nil {
		t.Fatal(err)
	}
	_, device := w.mint(t)
	w.pages(t, device, 1, "a")
	w.ship(t)
	erasure := w.ask(t, proof.Erasure, device)
	w.Pass(t.Context())
	w.forward(61 * 24 * time.Hour)
	w.Pass(t.Context())
	if f := w.Figures(); f.Overdue != 2 || f.Stuck != 2 || f.Custodian != 1 {
		t.Errorf("%+v", f)
	}
	w.forward(30 * 24 * time.Hour)
	w.Pass(t.Context())
	w.Pass(t.Context())
	if q := w.row(t, asked.ID); q.State != Expired {
		t.Error(q.State)
	}
	q := w.row(t, erasure.ID)
	if q.State != Failed || q.Slot != 0 || w.count(t, wantPrefix) != 0 || w.count(t, batchPrefix) != 0 {
		t.Errorf("%+v", q)
	}
	if _, err := w.subjects.BySlot(erasure.Slot); err == nil {
		t.Error("what leads to the person is kept for ever")
	}
	if f := w.Figures(); f.Troubles != 0 {
		t.Errorf("%+v", f)
	}
}
