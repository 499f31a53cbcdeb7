package sweep_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
	"github.com/octroi/octroi/export/s3test"
	"github.com/octroi/octroi/pseudonymize"
)

// wantIn checks that the rows that nobody asked to have erased are somewhere in the store.
func (w *world) wantIn(want []pseudonymize.Row) {
	w.Helper()
	var got []string
	for key, versions := range w.objects() {
		for _, v := range versions {
			if !v.Marker {
				got = append(got, texts(w.open("E", key, v.Version))...)
			}
		}
	}
	for _, text := range texts(want) {
		if !slices.Contains(got, text) {
			w.Fatal("a row that nobody asked to have erased is gone")
		}
	}
}

// restate signs what the gateway says a batch is from now on.
func (g *gateway) restate(b *batch, now export.Batch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := export.Entry{Destination: b.destination, Type: export.ReplaceEntry, Replace: &export.Replace{
		Batch: b.id, Of: b.stated, Generation: b.generation, Now: &now,
	}}
	if b.generation == 1 {
		e = export.Entry{Destination: b.destination, Type: export.BatchEntry, Batch: &now}
	}
	b.entry, b.stated = g.enter(e)
	b.now = &now
}

// TestVersionByAnotherName: in a versioned bucket an object is also read without the name of its version. That makes the version that stays none of
// those that go.
func TestVersionByAnotherName(t *testing.T) {
	server := s3test.Start(t)
	w := newWorld(t, s3test.Open(t, server.Options()))
	g := w.gateway
	b := g.ship("warehouse", 1, 2, 3)
	q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	g.late = true
	w.sweep()
	now := *b.now
	now.Version = ""
	g.restate(b, now)
	g.mu.Lock()
	b.pending, b.stage, g.late = nil, proof.BatchPurge, false
	g.mu.Unlock()
	if r := w.sweep(); r.Purged != 0 || r.Failed[sweep.FailedEntry] == 0 || q.certificate != "" {
		t.Errorf("report %+v", r)
	}
	w.wantIn(without(b.rows, "warehouse", 1))
}

// TestSecondBatchOfAName: a gateway denies that it took a report, has the former object purged as that of another batch with the same name, and then
// says that the former object is the batch's.
func TestSecondBatchOfAName(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, 2, 3)
	q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	first, answer := b.entry, http.StatusInternalServerError
	g.refuse = func(what, id string) int {
		if what == "rewritten" {
			return answer
		}
		return 0
	}
	s := w.custodian()
	if _, err := s.Once(t.Context()); err == nil {
		t.Fatal("the lost answer ends no pass")
	}
	answer = http.StatusConflict
	made := b.now
	for key, v := range w.objects() {
		if key != b.now.Key {
			object := w.read(key, v[0].Version)
			made = w.describe("warehouse", "", key, v[0].Version, object, without(b.rows, "warehouse", 1))
		}
	}
	if made == b.now {
		t.Fatal("nothing was put")
	}
	alias := fmt.Sprintf("%032x", 0xa11a5)
	was, now := *b.now, *made
	was.ID, now.ID = alias, alias
	g.mu.Lock()
	_, of := g.enter(export.Entry{Destination: "warehouse", Type: export.BatchEntry, Batch: &was})
	second, _ := g.enter(export.Entry{Destination: "warehouse", Type: export.ReplaceEntry, Replace: &export.Replace{Batch: alias, Of: of, Generation: 2, Now: &now}})
	purging := true
	g.lie = func(work *proof.Work) {
		work.Items[0].Batches = []string{alias, b.id}
		if !slices.IsSorted(work.Items[0].Batches) {
			slices.Reverse(work.Items[0].Batches)
		}
		request := []string{q.item.Job.Request}
		work.Batches = []proof.WorkBatch{{ID: b.id, Entry: first, Stage: proof.BatchRewrite, Items: request}}
		if purging {
			work.Batches = []proof.WorkBatch{{ID: alias, Entry: second, Stage: proof.BatchPurge, Items: request}}
		}
	}
	g.mu.Unlock()
	for range 2 {
		if _, err := s.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.mu.Lock()
		purging = false
		g.mu.Unlock()
	}
	w.wantIn(without(b.rows, "warehouse", 1))
}

// TestNameOfTwoBatches: in one pass a name belongs to one batch: what is put for it and what is purged of it never run side by side.
func TestNameOfTwoBatches(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, 2, 3)
	q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	alias := fmt.Sprintf("%032x", 0xa11a5)
	was := *b.now
	was.ID = alias
	g.mu.Lock()
	second, _ := g.enter(export.Entry{Destination: "warehouse", Type: export.BatchEntry, Batch: &was})
	g.lie = func(work *proof.Work) {
		work.Items[0].Batches = []string{alias, b.id}
		work.Batches = append(work.Batches, proof.WorkBatch{ID: alias, Entry: second, Stage: proof.BatchRewrite, Items: []string{q.item.Job.Request}})
	}
	g.mu.Unlock()
	if r := w.sweep(); r.Failed[sweep.FailedEntry] != 1 {
		t.Errorf("report %+v", r)
	}
	w.wantIn(without(b.rows, "warehouse", 1))
}

// TestDestinationOfTheGatewaysOwn: batches of another's are not encrypted anew to recipients of a destination that only the gateway knows.
func TestDestinationOfTheGatewaysOwn(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	secret := g.ship("warehouse", 1, 2, 3)
	object := w.read(secret.now.Key, secret.now.Version)
	g.mu.Lock()
	now := *secret.now
	now.ID, now.Key = fmt.Sprintf("%032x", 0xe1), export.BatchKey("mine", node, start, 1, 2, 1)
	now.Recipients = slices.Clone(now.Recipients)
	now.Recipients[0] = w.keys.Recipients["stranger"]
	now.Version = g.put(now.Key, object)
	entry, _ := g.enter(export.Entry{Destination: "mine", Type: export.BatchEntry, Batch: &now})
	g.claimed = func(string) *sweep.Claim {
		return &sweep.Claim{Generation: 2, Key: export.BatchKey("mine", node, start, 1, 2, 2)}
	}
	job := g.job(1, proof.Erasure, proof.ByPerson, 1)
	job.Destinations = []proof.Whose{{Destination: "mine", Devices: []string{pseudonym("warehouse", 1)}}}
	g.lie = func(work *proof.Work) {
		work.Items = []proof.Item{{Job: job, Stage: proof.StageRewrite, Batches: []string{now.ID}}}
		work.Batches = []proof.WorkBatch{{ID: now.ID, Entry: entry, Stage: proof.BatchRewrite, Items: []string{job.Request}}}
	}
	g.batches[now.ID] = &batch{id: now.ID, destination: "mine", first: 1, last: 2, now: &now, wants: map[string]bool{job.Request: true}}
	g.mu.Unlock()
	if r := w.sweep(); r.Rewritten != 0 || r.Failed[sweep.FailedEntry] != 1 {
		t.Errorf("report %+v", r)
	}
	err := w.store.Versions(t.Context(), "mine/events/", func(v export.ObjectVersion) error {
		if v.Key != now.Key {
			t.Errorf("%s was put", v.Key)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestScheduleOfAFormerPolicy: what rows were received under stands in them; a gateway that says otherwise has nothing cut by a shorter schedule.
func TestScheduleOfAFormerPolicy(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, 2)
	now := *b.now
	now.PolicyHash = strings.Repeat("01", 32)
	g.restate(b, now)
	g.pass(48 * time.Hour)
	former := w.schedule(func(s *proof.Schedule) {
		s.Policy, s.Retention = now.PolicyHash, map[string]string{"audience": "P1D", "service": "P1D"}
	})
	g.retention(1, former, "audience", "service")
	if r := w.sweep(); r.Erased+r.Reduced != 0 || r.Failed[sweep.FailedDamaged] != 1 {
		t.Errorf("report %+v", r)
	}
	w.wantRows(b.rows)
}

// TestFormerVersionOfAnotherPolicy: nor has it a version deleted, as long as no object holds what it holds.
func TestFormerVersionOfAnotherPolicy(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, 2)
	rows := rowsOf("warehouse", 7, 9)
	for i := range rows {
		rows[i].Policy = [32]byte(bytes.Repeat([]byte{1}, 32))
	}
	object := w.seal("warehouse", rows)
	key := export.BatchKey("warehouse", node, start, b.first, b.last, 5)
	g.mu.Lock()
	now := w.describe("warehouse", b.id, key, g.put(key, object), object, rows)
	now.PolicyHash = strings.Repeat("01", 32)
	was := *b.now
	was.PolicyHash = now.PolicyHash
	g.mu.Unlock()
	g.restate(b, was)
	b.generation = 5
	g.restate(b, *now)
	g.pass(48 * time.Hour)
	former := w.schedule(func(s *proof.Schedule) {
		s.Policy, s.Retention = now.PolicyHash, map[string]string{"audience": "P1D", "service": "P1D"}
	})
	q := g.retention(1, former, "audience", "service")
	g.mu.Lock()
	b.stage = proof.BatchPurge
	g.mu.Unlock()
	if r := w.sweep(); r.Purged != 0 || r.Failed[sweep.FailedDamaged] == 0 || q.certificate != "" {
		t.Errorf("report %+v", r)
	}
	w.wantIn(b.rows)
}

// TestRecipientsInTheirPlaces: a rewritten object is always one that the custodian can open again.
func TestRecipientsInTheirPlaces(t *testing.T) {
	for name, order := range map[string][]string{
		"E left out":       {"warehouse", "former", "R"},
		"R left out":       {"warehouse", "E", "formerE"},
		"W left out":       {"R", "E", "former"},
		"in another order": {"E", "warehouse", "R"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			g := w.gateway
			b := g.ship("warehouse", 1, 2)
			w.keys.Recipients["former"] = w.keys.Recipients["stranger"]
			identity, recipient, err := export.NewIdentity(export.ClassX25519)
			if err != nil {
				t.Fatal(err)
			}
			w.keys.Recipients["formerE"] = recipient
			now := *b.now
			now.Recipients = nil
			for _, role := range order {
				now.Recipients = append(now.Recipients, w.keys.Recipients[role])
			}
			g.restate(b, now)
			g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
			r := w.sweep(func(o *sweep.Options) {
				both, err := export.ParseIdentities([]byte(w.keys.Identities["E"] + "\n" + identity + "\n"))
				if err != nil {
					t.Fatal(err)
				}
				o.Identities = both
				o.Recipients = map[string][]string{"warehouse": {
					w.keys.Recipients["warehouse"], w.keys.Recipients["E"], w.keys.Recipients["R"], w.keys.Recipients["former"], recipient,
				}}
			})
			if r.Scanned != 0 || r.Failed[sweep.FailedEntry]+r.Failed[sweep.FailedIdentity] != 1 {
				t.Errorf("report %+v", r)
			}
		})
	}
}

// TestRewrapOfAnotherStream: between the walk over a stream and the reading of its batches, a gateway puts other entries in their place.
func TestRewrapOfAnotherStream(t *testing.T) {
	for name, swap := range map[string]func(g *gateway, b, other *batch) (entry, id string){
		"another destination's": func(g *gateway, b, other *batch) (string, string) {
			now := *other.now
			now.Recipients = b.now.Recipients
			g.restate(other, now)
			return other.entry, other.id
		},
		"an empty batch's": func(g *gateway, b, _ *batch) (string, string) {
			text, err := export.SignEntry(export.Entry{
				Destination: "warehouse", Node: node, Number: 2, Type: export.ReplaceEntry, IssuedAt: start, Previous: strings.Repeat("0", 64),
				Replace: &export.Replace{Batch: b.id, Of: 1, Generation: 2},
			}, private(g.w.keys.Stream))
			if err != nil {
				g.t.Fatal(err)
			}
			return text, b.id
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			g := w.gateway
			b, other := g.ship("warehouse", 1), g.ship("accounting", 7)
			g.restate(b, *b.now) // entry 2
			former := w.rotate("warehouse")
			to, err := w.keys.recipients("warehouse")
			if err != nil {
				t.Fatal(err)
			}
			ids, err := export.ParseIdentities([]byte(w.keys.Identities["E"] + "\n" + w.keys.Identities["former E"] + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			store := &watched{Archive: w.store, read: map[string]bool{}}
			s := w.custodian(func(o *sweep.Options) {
				o.Archive, o.Recipients, o.Identities = store, map[string][]string{"warehouse": append(slices.Clone(to.Names), former...)}, ids
			})
			what, err := s.Outdated(t.Context(), "warehouse", to)
			if err != nil || len(what.Batches) != 1 || what.Batches[0].Number != 2 {
				t.Fatalf("%+v, %v", what, err)
			}
			entry, id := swap(g, b, other)
			key := export.EntryKey("warehouse", node, 2)
			if err := w.store.DeleteVersion(t.Context(), key, ""); err != nil {
				t.Fatal(err)
			}
			g.put(key, []byte(entry))
			what.Batches[0].ID = id
			r, err := s.Rewrap(t.Context(), what)
			if err != nil || r.Rewritten != 0 || r.Failed[sweep.FailedEntry] != 1 || store.read[other.now.Key] {
				t.Errorf("%+v, %v, read %v", r, err, store.read)
			}
		})
	}
}

// TestFalseLineage: what a gateway says that an object was made from is no record of the custodian's, by which a version could go unread. No job is
// needed to try.
func TestFalseLineage(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	victim := g.ship("warehouse", 1, 2, 3)
	id := fmt.Sprintf("%032x", 0xc0)
	rows := rowsOf("warehouse", 9, 9)
	object := w.seal("warehouse", rows)
	key := export.BatchKey("warehouse", node, start, 1, 2, 2)
	own := w.describe("warehouse", id, key, "", object, rows)
	stolen := *victim.now
	stolen.ID = id
	g.mu.Lock()
	defer g.mu.Unlock()
	_, of := g.enter(export.Entry{Destination: "warehouse", Type: export.BatchEntry, Batch: &stolen})
	replaced := func(of uint64, generation int, now *export.Batch) (string, uint64) {
		return g.enter(export.Entry{Destination: "warehouse", Type: export.ReplaceEntry, Replace: &export.Replace{
			Batch: id, Of: of, Generation: generation, Now: now,
		}})
	}
	second, number := replaced(of, 2, own)
	third, _ := replaced(number, 3, nil)
	last, _ := replaced(of, 3, nil)
	entry := third // 3 is left of an object that is not there: nothing is to be deleted
	g.lie = func(work *proof.Work) {
		work.Batches = []proof.WorkBatch{{ID: id, Entry: entry, Stage: proof.BatchPurge}}
	}
	s := w.custodian()
	for _, next := range []string{second, last, ""} {
		g.mu.Unlock()
		_, err := s.Once(t.Context())
		g.mu.Lock()
		if err != nil {
			t.Fatal(err)
		}
		if entry = next; entry == second {
			own.Version = g.put(key, object) // 2 is made of the victim: nothing has its name
		}
	}
	w.wantIn(victim.rows)
}

// read is an object as it is stored.
func (w *world) read(key, version string) []byte {
	w.Helper()
	r, err := w.store.Get(w.Context(), key, version)
	if err != nil {
		w.Fatal(err)
	}
	defer r.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		w.Fatal(err)
	}
	return b.Bytes()
}

// TestLateObject: what is put for a batch that another custodian has finished meanwhile goes, since the batch's object holds its rows.
func TestLateObject(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, 2, 3)
	g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	g.refuse = func(what, _ string) int {
		if what == "rewritten" {
			return http.StatusInternalServerError
		}
		return 0
	}
	late := w.custodian(func(o *sweep.Options) { o.State += "-late" })
	if _, err := late.Once(t.Context()); err == nil {
		t.Fatal("the lost answer ends no pass")
	}
	key := export.BatchKey("warehouse", node, start, b.first, b.last, 2)
	object := w.read(key, "")
	g.refuse = nil
	g.pass(time.Hour)
	w.sweep()
	g.put(key, object)
	g.lie = func(work *proof.Work) {
		work.Batches = []proof.WorkBatch{{ID: b.id, Entry: b.entry, Stage: proof.BatchDone}}
	}
	for range 2 {
		if _, err := late.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.wantRows(without(b.rows, "warehouse", 1))
}

// TestPlaces: a job takes a place for each pseudonym that it names at one destination: a gateway that puts many persons into one request gains nothing.
func TestPlaces(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	subjects := []int{1, 2, 3, 4, 5, 6, 7, 8}
	b := g.ship("warehouse", append(subjects, 9, -10)...)
	many := g.ask(g.job(1, proof.Erasure, proof.ByPerson, subjects...), nil)
	two := g.ask(g.job(2, proof.Erasure, proof.ByPerson, 9, -10), nil)
	s := w.custodian(func(o *sweep.Options) { o.DailyCap = 8 })
	if r, err := s.Once(t.Context()); err != nil || r.Erased != 8 || r.Refused[sweep.RefusedCap] != 1 || many.certificate == "" {
		t.Fatalf("%v, report %+v", err, r)
	}
	w.wantRows(without(b.rows, "warehouse", subjects...))
	g.pass(24 * time.Hour)
	if r, err := s.Once(t.Context()); err != nil || r.Erased != 2 || two.certificate == "" {
		t.Fatalf("%v, report %+v", err, r)
	}
}

// TestRulesOfTheApproval: what rows keep of an erasure of some purposes is a part of what was approved.
func TestRulesOfTheApproval(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, 2)
	j := g.job(1, proof.Erasure, proof.ByDPO, 1)
	j.Purposes, j.Rules = []string{"audience"}, rules()
	q := g.ask(j, g.approve)
	g.lie = func(work *proof.Work) { work.Items[0].Job.Rules = export.PurposeRules{"service": {}} }
	if r := w.sweep(); r.Refused[sweep.RefusedApproval] != 1 || q.certificate != "" {
		t.Errorf("report %+v", r)
	}
	w.wantRows(b.rows)
}

// TestTimesOfTheCertificate: a certificate bears the time of receipt that was approved, whatever the gateway logs later, and none that is still to come.
func TestTimesOfTheCertificate(t *testing.T) {
	for name, c := range map[string]struct {
		received, ahead time.Duration
	}{
		"received later": {received: 30 * time.Minute},
		"purged ahead":   {ahead: -time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			g := w.gateway
			g.ship("warehouse", 1, 2)
			g.late = true
			q := g.ask(g.job(1, proof.Erasure, proof.ByDPO, 1), g.approve)
			g.mu.Lock()
			l := proof.Leaf{Event: proof.EventReceived, Actor: "person"}
			q.item.Job.Received = q.item.Job.Received.Add(c.received)
			q.leaves, q.openings = nil, map[int64]evidence.Opening{}
			q.leaf(g, l)
			q.item.Job.Received = q.item.Job.Received.Add(-c.received)
			q.leaf(g, proof.Leaf{Event: proof.EventApproved, Actor: "dpo", SHA256: proof.Digest(q.item.Approval)})
			q.leaf(g, proof.Leaf{Event: proof.EventSuppressed})
			q.leaf(g, proof.Leaf{Event: proof.EventSevered})
			g.late = false
			g.mu.Unlock()
			r := w.sweep(func(o *sweep.Options) { o.Now = func() time.Time { return w.gateway.now().Add(c.ahead) } })
			if r.Purged != 1 || r.Certificates != 0 || r.Refused[sweep.RefusedFacts] != 1 {
				t.Errorf("report %+v, refused %v", r, g.refused)
			}
		})
	}
}
