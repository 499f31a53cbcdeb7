package sweep

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// Error makes a Reason an error.
func (r Reason) Error() string { return r.Code + ": " + r.Detail }

func refusal(code, format string, values ...any) error {
	return Reason{Code: code, Detail: fmt.Sprintf(format, values...)}
}

// maxBatches bounds the batches of one job.
const maxBatches = 100_000

// order is a job that is obeyed.
type order struct {
	item     *proof.Item
	batches  map[string]bool
	whose    map[string]whose // by destination
	approved string           // SHA-256 of the approval, hex
	schedule *schedule        // of retention
	row      requestRow
}

func (o *order) request() string { return o.item.Job.Request }

// whose are the pseudonyms of a job at one destination.
type whose struct{ devices, persons, with map[[16]byte]bool }

// shows says what an access does with a row: it shows it; or withholds it, which is one of the devices' and names somebody who is neither of the
// persons nor signed in there (GDPR Art. 15(4)); or, neither, it is somebody else's.
func (w whose) shows(r *pseudonymize.Row) (shown, withheld bool) {
	switch {
	case r.Person != nil && w.persons[*r.Person]:
		return true, false
	case r.Device == nil || !w.devices[*r.Device]:
		return false, false
	}
	shown = r.Person == nil || w.with[*r.Person]
	return shown, !shown
}

// judge says whether a job is obeyed; the error is a Reason, or of the memory. With dry nothing is remembered.
func (s *Sweep) judge(item *proof.Item, dry bool) (*order, error) {
	j := &item.Job
	if err := s.checkItem(item); err != nil {
		return nil, err
	}
	o := &order{item: item, batches: make(map[string]bool, len(item.Batches)), whose: map[string]whose{}}
	for _, id := range item.Batches {
		if _, err := export.ParseBatchID(id); err != nil || o.batches[id] {
			return nil, refusal(RefusedPseudonyms, "the list of batches is malformed")
		}
		o.batches[id] = true
	}
	for _, w := range j.Destinations {
		devices, err1 := parsePseudonyms(w.Devices)
		persons, err2 := parsePseudonyms(w.Persons)
		with, err3 := parsePseudonyms(w.With)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, err
		}
		o.whose[w.Destination] = whose{devices, persons, with}
	}
	free, err := s.approved(o)
	if err != nil {
		return nil, err
	}
	now := s.o.Now().UTC()
	x := taking{job: j, approved: free, batches: item.Batches, day: now.Format(time.DateOnly), cap: s.o.DailyCap, at: now}
	if dry {
		o.row, err = s.memory.mayTake(x)
	} else {
		o.row, err = s.memory.take(x)
	}
	return o, s.taken(o, err)
}

// taken turns what the memory said of a job into what to do.
func (s *Sweep) taken(o *order, err error) error {
	switch {
	case errors.Is(err, errOtherJob):
		return refusal(RefusedReplay, "the request was taken up with another job")
	case errors.Is(err, errCompleted) && o.item.Stage == proof.StageCertify && o.row.Certificate != "":
		return nil // answered from the row
	case errors.Is(err, errCompleted):
		return refusal(RefusedReplay, "the request was completed at %s", o.row.Completed.Format(time.RFC3339))
	case errors.Is(err, errCap):
		return refusal(RefusedCap, "of the day's %d places for jobs without an approval, too few are left; it waits for tomorrow, or for an approval", s.o.DailyCap)
	case err != nil:
		return fmt.Errorf("taking up a job: %w", err)
	}
	return nil
}

func (s *Sweep) checkItem(item *proof.Item) error {
	j := &item.Job
	if err := j.Check(); err != nil {
		return refusal(RefusedPseudonyms, "%v", err)
	}
	switch {
	case j.Node != s.node:
		return refusal(RefusedPseudonyms, "the job is of another node than %q", s.node)
	case (j.Right == proof.Access) != (item.Stage == proof.StageCollect),
		j.Right == proof.Erasure && item.Stage != proof.StageRewrite && item.Stage != proof.StageCertify:
		return refusal(RefusedPseudonyms, "stage %.20q is not one of its right", item.Stage)
	case len(item.Batches) > maxBatches:
		return refusal(RefusedPseudonyms, "it has more than %d batches", maxBatches)
	}
	return nil
}

func parsePseudonyms(list []string) (map[[16]byte]bool, error) {
	all := make(map[[16]byte]bool, len(list))
	for _, text := range list {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != 16 {
			return nil, refusal(RefusedPseudonyms, "a pseudonym is malformed")
		}
		all[[16]byte(b)] = true
	}
	return all, nil
}

// approved checks what the job rests on. free says that it needs no place under the cap.
func (s *Sweep) approved(o *order) (free bool, err error) {
	item := o.item
	if item.Approval != "" {
		sum := sha256.Sum256([]byte(item.Approval))
		o.approved = hex.EncodeToString(sum[:])
	}
	switch {
	case item.Job.Origin == proof.ByRetention:
		o.schedule, err = s.scheduled(item)
		return true, err
	case item.Approval == "" && item.Job.Origin == proof.ByDPO:
		return false, refusal(RefusedApproval, "the DPO's approval is missing")
	case item.Approval == "": // by the person's cookie, or a withdrawal
		return false, nil
	}
	// The gateway could sign anything it likes but this.
	job, err := proof.VerifyApproval(item.Approval, s.o.Approval)
	switch {
	case err != nil:
		return false, refusal(RefusedApproval, "%v", err)
	case !job.Same(&item.Job):
		return false, refusal(RefusedApproval, "what was approved is another job")
	}
	return true, nil
}

// schedule is what retention may cut.
type schedule struct {
	policy  string
	periods map[string]policies.Period // of the job's purposes
	rules   export.PurposeRules
}

// scheduled checks the schedule that a job of retention rests on.
func (s *Sweep) scheduled(item *proof.Item) (*schedule, error) {
	approved, err := proof.VerifySchedule(item.Approval, s.o.Approval)
	switch {
	case err != nil:
		return nil, refusal(RefusedSchedule, "%v", err)
	case approved.Node != s.node:
		return nil, refusal(RefusedSchedule, "the schedule is of another node")
	}
	of := &schedule{policy: approved.Policy, periods: map[string]policies.Period{}, rules: approved.Rules}
	for _, purpose := range item.Job.Purposes {
		period, err := policies.ParsePeriod(approved.Retention[purpose])
		if err != nil || period.IsZero() {
			return nil, refusal(RefusedSchedule, "purpose %q has no period in the schedule", purpose)
		}
		of.periods[purpose] = period
	}
	return of, nil
}

// expired is, for each purpose, the time before which rows must have been received to be over at now.
func (of *schedule) expired(now time.Time) map[string]time.Time {
	all := make(map[string]time.Time, len(of.periods))
	for purpose, period := range of.periods {
		all[purpose] = before(now, period)
	}
	return all
}

// before is a time t so that everything received before it is over: period.AddTo(t) is not after now. Going back by the calendar may overshoot,
// where a month is shorter than another.
func before(now time.Time, p policies.Period) time.Time {
	t := now.UTC().AddDate(-p.Years, -p.Months, -p.Days).Add(-time.Duration(p.Hours)*time.Hour - time.Duration(p.Minutes)*time.Minute)
	for p.AddTo(t).After(now) {
		t = t.Add(-time.Hour)
	}
	return t
}

// cut is what the order takes out of a batch. A Reason of the job where it may not: retention that is not due.
func (o *order) cut(destination string, b *export.Batch, now time.Time) (export.Cut, error) {
	if of := o.schedule; of != nil {
		if b.PolicyHash != of.policy {
			return export.Cut{}, refusal(RefusedSchedule, "no schedule is approved for the policy of batch %s", b.ID)
		}
		for purpose, period := range of.periods {
			if slices.Contains(b.Purposes, purpose) && period.AddTo(b.To).After(now) {
				return export.Cut{}, refusal(RefusedSchedule, "batch %s is not over for purpose %q yet", b.ID, purpose)
			}
		}
		return export.Cut{Expired: of.expired(now), Rules: of.rules}, nil
	}
	w := o.whose[destination]
	cut := export.Cut{Devices: w.devices, Persons: w.persons, Rules: o.item.Job.Rules}
	for _, purpose := range o.item.Job.Purposes {
		if cut.Purposes == nil {
			cut.Purposes = map[string]bool{}
		}
		cut.Purposes[purpose] = true
	}
	return cut, nil
}
