package rights

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Once a person is erased, no other request of the same person knows anything of them either: not a package that nobody opened, not an access that
// the custodian works on, not what an officer has entered or denied, not the job of a withdrawal.
func TestErasureEndsEveryOtherRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Notices = time.Minute })
	_, s := w.mint(t)
	w.pages(t, s, 2, "a")
	w.ship(t)
	custody := &servant{w: w, name: "custodian-one"}
	packed := w.end(t, custody, w.ask(t, proof.Access, s).ID)
	if packed.Package == nil {
		t.Fatalf("%+v", packed)
	}
	if _, err := w.ledger.Withdraw(t.Context(), s, consent.Withdrawal{Site: testSite, Purposes: []string{"audience"}}); err != nil {
		t.Fatal(err)
	}
	w.Pass(t.Context())
	w.Pass(t.Context())
	withdrawn := w.opened(t)[0]
	var officers []string
	for _, right := range []proof.Right{proof.Access, proof.Erasure} {
		q, _, err := w.submit(t.Context(), submission{right: right, origin: proof.ByDPO, actor: "token:officer", subject: s})
		if err != nil {
			t.Fatal(err)
		}
		officers = append(officers, q.ID)
	}
	if _, err := w.decide(t.Context(), officers[0], Deny, "token:officer", Decision{Reason: "unfounded"}); err != nil {
		t.Fatal(err)
	}
	running := w.ask(t, proof.Access, s).ID
	w.Pass(t.Context())
	w.ship(t)
	w.Pass(t.Context())
	if a, b := w.row(t, running), w.row(t, withdrawn); a.Step != collecting || b.Step != rewriting {
		t.Fatalf("not the world that this test is about: %s, %s", a.Step, b.Step)
	}
	work, err := w.work() // the custodian's answer to it comes too late
	if err != nil {
		t.Fatal(err)
	}

	erasure := w.end(t, custody, w.ask(t, proof.Erasure, s).ID)
	if erasure.State != Completed || erasure.Batches != 1 {
		t.Fatalf("%+v", erasure)
	}
	for i := range work.Items {
		if item := &work.Items[i]; item.Job.Request == running {
			report, object, err := custody.makePackage(t.Context(), item, work)
			if err != nil {
				continue // the object is gone
			}
			text, err := proof.SignCollected(report, custodianKey)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.receive(t.Context(), running, text, bytes.NewReader(object)); err == nil {
				t.Error("a package of an erased person was taken")
			}
		}
	}
	for _, id := range append(officers, packed.ID, withdrawn, running, erasure.ID) {
		q := w.row(t, id)
		if !q.State.Final() || q.Slot != 0 {
			t.Errorf("%s of %s: %s, slot %d", q.Right, q.Origin, q.State, q.Slot)
		}
		if _, err := w.openPackage(t.Context(), id, person, ""); err == nil {
			t.Error("a package still opens")
		}
	}
	if q := w.row(t, running); q.State != Cancelled || q.Reason != "erased" {
		t.Errorf("the access: %s %s", q.State, q.Reason)
	}
	for _, prefix := range []string{frozenTable, ownTable, wantPrefix, batchPrefix, noticePrefix} {
		if n := w.count(t, prefix); n != 0 {
			t.Errorf("%d rows are left under %s", n, prefix)
		}
	}
	if files, err := os.ReadDir(w.o.Packages); err != nil || len(files) != 0 {
		t.Error("something is left:", files, err)
	}
}

// Between suppression and destruction nobody can ask for more: what a new request would freeze would outlive the person.
func TestNoRequestOfTheSuppressed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, s := w.mint(t)
	w.ask(t, proof.Erasure, s)
	for _, in := range []submission{
		{right: proof.Access, origin: proof.ByPerson, actor: person, proven: true},
		{right: proof.Erasure, origin: proof.ByPerson, actor: person, proven: true, purposes: []string{"audience"}},
		{right: proof.Access, origin: proof.ByDPO, actor: "token:officer"},
	} {
		in.subject = s
		if _, _, err := w.submit(t.Context(), in); !errors.Is(err, subject.ErrShredded) {
			t.Errorf("%s by %s: %v", in.right, in.origin, err)
		}
	}
}
