package rights

import (
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/export/rights/proof"
)

// Rows whose retention is over go, once the officer has approved the schedule; younger ones stay.
func TestRetention(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Notices = time.Minute })
	d := openDoor(t, w)
	_, s := w.mint(t)
	w.pages(t, s, 2, "old")
	w.ship(t)
	purpose, _ := w.policy.Purpose("audience")
	over := purpose.Retention.AddTo(w.at)
	w.forward(over.Sub(w.at) - 24*time.Hour)
	w.grant(t, s)
	w.forward(time.Minute)
	w.pages(t, s, 1, "young")
	w.ship(t)
	w.KeepHouse(t.Context())
	if n := len(w.opened(t)); n != 0 {
		t.Fatalf("%d jobs before anything is over", n)
	}
	w.forward(26 * time.Hour)
	w.KeepHouse(t.Context())
	w.Pass(t.Context())
	if n := len(w.opened(t)); n != 0 || w.Figures().Unscheduled != 1 {
		t.Fatalf("without a schedule: %d jobs, %d wait", n, w.Figures().Unscheduled)
	}

	schedule := proof.NewSchedule("a", w.policy, w.now())
	d.officer("GET", "/schedule", nil).want(t, 200, "in_force", "false", "waiting", "1")
	post := func(s proof.Schedule, key []byte) answer {
		text, err := proof.ApproveSchedule(s, key)
		if err != nil {
			t.Fatal(err)
		}
		return d.officer("POST", "/schedule", map[string]string{"schedule": text})
	}
	other := proof.NewSchedule("a", w.policy, w.now())
	other.Retention["audience"] = "P1D"
	post(other, approvalKey).want(t, 422, "code", "schedule")
	post(proof.NewSchedule("b", w.policy, w.now()), approvalKey).want(t, 422, "code", "schedule")
	post(schedule, custodianKey).want(t, 422, "code", "schedule")
	former := other // what was shipped under a policy that is no more can end too: the officer says how long it was kept
	former.Policy = strings.Repeat("0", 64)
	post(former, approvalKey).want(t, 200, "in_force", "false", "waiting", "1", "without", "["+schedule.Policy+"]")
	post(schedule, approvalKey).want(t, 200, "in_force", "true", "waiting", "0")

	open := w.opened(t)
	if len(open) != 1 {
		t.Fatalf("%d jobs, want 1", len(open))
	}
	w.KeepHouse(t.Context())
	if n := len(w.opened(t)); n != 1 {
		t.Fatalf("%d jobs of the same batches", n)
	}
	q := w.end(t, &servant{w: w, name: "custodian-one"}, open[0])
	if q.State != Completed || q.Origin != proof.ByRetention || q.Batches != 1 || len(q.Notices) != 0 {
		t.Fatalf("%+v", q)
	}
	if rows := w.everyRow(t, "warehouse"); len(rows) != 1 {
		t.Errorf("%d rows are left, want the young one", len(rows))
	}
	text, err := w.Certificate(q.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proof.VerifyCertificate(text, w.o.Custodian, w.signer.Verifier()); err != nil {
		t.Error(err)
	}
	if n := w.count(t, withdrawnPrefix) + w.count(t, noticePrefix); n != 0 {
		t.Error("somebody is told of the end of a retention")
	}
}

// A job that does not come to an end is made again: its rows are beyond their retention still.
func TestRetentionIsMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, s := w.mint(t)
	w.pages(t, s, 1, "old")
	w.ship(t)
	purpose, _ := w.policy.Purpose("audience")
	w.forward(purpose.Retention.AddTo(w.at).Sub(w.at) + 26*time.Hour)
	text, err := proof.ApproveSchedule(proof.NewSchedule("a", w.policy, w.now()), approvalKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.keepSchedule(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	first := w.opened(t)
	if len(first) != 1 {
		t.Fatalf("%d jobs, want 1", len(first))
	}
	w.forward(hardLimit + time.Hour)
	w.Pass(t.Context())
	if q := w.row(t, first[0]); q.State != Failed {
		t.Fatalf("%+v", q)
	}
	w.KeepHouse(t.Context())
	again := w.opened(t)
	if len(again) != 1 || again[0] == first[0] {
		t.Fatalf("%d jobs, want another one", len(again))
	}
	w.Pass(t.Context())
	if q := w.end(t, &servant{w: w, name: "custodian-one"}, again[0]); q.State != Completed || q.Batches != 1 {
		t.Fatalf("%+v", q)
	}
	if rows := w.everyRow(t, "warehouse"); len(rows) != 0 {
		t.Errorf("%d rows are left", len(rows))
	}
}
