package sweep_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
)

// watched is an archive that notes which batches are read and what is put and deleted.
type watched struct {
	export.Archive

	mu      sync.Mutex
	read    map[string]bool // keys of batches
	put     []string
	deleted []string
}

func (a *watched) Get(ctx context.Context, key, version string) (io.ReadCloser, error) {
	if strings.Contains(key, "/events/") {
		a.mu.Lock()
		a.read[key] = true
		a.mu.Unlock()
	}
	return a.Archive.Get(ctx, key, version)
}

func (a *watched) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, sum [32]byte) (string, error) {
	a.mu.Lock()
	a.put = append(a.put, key)
	a.mu.Unlock()
	return a.Archive.Put(ctx, key, body, size, sum)
}

func (a *watched) DeleteVersion(ctx context.Context, key, version string) error {
	a.mu.Lock()
	a.deleted = append(a.deleted, key)
	a.mu.Unlock()
	return a.Archive.DeleteVersion(ctx, key, version)
}

// lie is one field in which a captured gateway, which has the signing key of its stream, does not tell the truth.
type lie struct {
	name string
	// tell changes what the custodian is asked for; set up before the first pass.
	tell func(g *gateway, l *liar) func(*proof.Work)
	// what the gateway is told of it
	refused, failed string
	quiet           bool // nothing is told: it asks for nothing
}

// liar is the world that a lie is told in: subject 1 has asked, with the DPO's approval; 2 and 3 have not.
type liar struct {
	*world
	asked *request
	one   *batch // warehouse: 1, 2, 3
	other *batch // accounting: 2, 3
}

func batchOf(w *proof.Work, id string) *proof.WorkBatch {
	for i := range w.Batches {
		if w.Batches[i].ID == id {
			return &w.Batches[i]
		}
	}
	return &proof.WorkBatch{}
}

// forge states a batch as the gateway's own key can, at the next number of the stream.
func (l *liar) forge(b *export.Batch) string {
	l.Helper()
	text, _ := l.gateway.enter(export.Entry{Destination: b.Key[:strings.IndexByte(b.Key, '/')], Type: export.BatchEntry, Batch: b})
	return text
}

// approved is an approval of another job by the true key.
func (l *liar) approved(change func(*proof.Job)) string {
	l.Helper()
	item := proof.Item{Job: l.asked.item.Job}
	item.Job.Destinations = slices.Clone(item.Job.Destinations)
	change(&item.Job)
	l.gateway.approve(&item)
	return item.Approval
}

func jobLies() []lie {
	both := func(change func(l *liar, item *proof.Item)) func(*gateway, *liar) func(*proof.Work) {
		return func(_ *gateway, l *liar) func(*proof.Work) {
			return func(w *proof.Work) { change(l, &w.Items[0]) }
		}
	}
	return []lie{
		{name: "no approval", refused: sweep.RefusedApproval, tell: both(func(_ *liar, i *proof.Item) { i.Approval = "" })},
		{name: "an approval by another key", refused: sweep.RefusedApproval, tell: both(func(l *liar, i *proof.Item) {
			i.Approval, _ = proof.Approve(i.Job, private(l.keys.Stream))
		})},
		{name: "the approval of another request", refused: sweep.RefusedApproval, tell: both(func(l *liar, i *proof.Item) {
			i.Approval = l.approved(func(j *proof.Job) { j.Request = "00000009-0000-4000-8000-000000000000" })
		})},
		{name: "a pseudonym added", refused: sweep.RefusedApproval, tell: both(func(_ *liar, i *proof.Item) {
			i.Job.Destinations[1].Persons = []string{pseudonym("warehouse", 2)}
		})},
		{name: "a destination added", refused: sweep.RefusedApproval, tell: both(func(_ *liar, i *proof.Item) {
			i.Job.Destinations[0].Devices = []string{pseudonym("accounting", 2)}
		})},
		{name: "an erasure made of an access", refused: sweep.RefusedApproval, tell: both(func(l *liar, i *proof.Item) {
			i.Approval = l.approved(func(j *proof.Job) { j.Right = proof.Access })
		})},
		{name: "the purposes left out", refused: sweep.RefusedApproval, tell: both(func(l *liar, i *proof.Item) {
			i.Approval = l.approved(func(j *proof.Job) { j.Purposes = []string{"audience"} })
		})},
		{name: "another recipient of the package", refused: sweep.RefusedApproval, tell: both(func(l *liar, i *proof.Item) {
			i.Approval = l.approved(func(j *proof.Job) { j.Right = proof.Access })
			i.Job.Right, i.Job.Recipient, i.Stage, i.Material = proof.Access, l.keys.Recipients["stranger"], proof.StageCollect, material(i.Job.Request)
		})},
		{name: "a schedule as an approval", refused: sweep.RefusedApproval, tell: both(func(l *liar, i *proof.Item) { i.Approval = l.schedule(nil) })},
		{name: "an approval as a schedule", refused: sweep.RefusedSchedule, tell: both(func(_ *liar, i *proof.Item) {
			i.Job.Origin, i.Job.Destinations, i.Job.Purposes = proof.ByRetention, nil, []string{"audience"}
		})},
		{name: "another node", refused: sweep.RefusedPseudonyms, tell: both(func(_ *liar, i *proof.Item) { i.Job.Node = "n2" })},
		{name: "an origin that is none", refused: sweep.RefusedPseudonyms, tell: both(func(_ *liar, i *proof.Item) { i.Job.Origin = "gateway" })},
		{name: "a thousand pseudonyms", refused: sweep.RefusedPseudonyms, tell: both(func(_ *liar, i *proof.Item) {
			for n := range 1000 {
				i.Job.Destinations[1].Persons = append(i.Job.Destinations[1].Persons, fmt.Sprintf("%032x", n))
			}
		})},
		{name: "a pseudonym twice", refused: sweep.RefusedPseudonyms, tell: both(func(_ *liar, i *proof.Item) {
			i.Job.Destinations[1].Devices = append(i.Job.Destinations[1].Devices, i.Job.Destinations[1].Devices...)
		})},
		{name: "a stage that is not its right's", refused: sweep.RefusedPseudonyms, tell: both(func(_ *liar, i *proof.Item) { i.Stage = proof.StageCollect })},
		{name: "certified at once", refused: sweep.RefusedFacts, tell: both(func(_ *liar, i *proof.Item) { i.Stage = proof.StageCertify })},
		{name: "certified without batches", refused: sweep.RefusedFacts, tell: both(func(_ *liar, i *proof.Item) {
			i.Stage, i.Batches, i.Facts = proof.StageCertify, nil, &proof.Facts{Received: start, Suppressed: start, Severed: start, SpoolGone: start, Purged: start}
		})},
		{name: "another's batches", quiet: true, tell: both(func(l *liar, i *proof.Item) { i.Batches = []string{l.other.id} })},
		{name: "a retention without leave", refused: sweep.RefusedSchedule, tell: both(func(l *liar, i *proof.Item) {
			i.Job.Origin, i.Job.Destinations, i.Job.Purposes = proof.ByRetention, nil, []string{"audience", "service"}
			i.Approval, _ = proof.ApproveSchedule(proof.Schedule{
				Version: 1, Node: node, Policy: strings.Repeat("00", 32), Retention: map[string]string{"audience": "PT1M", "service": "PT1M"}, IssuedAt: start,
			}, private(l.keys.Stream))
		})},
		{name: "a retention that is not due", refused: sweep.RefusedSchedule, tell: both(func(l *liar, i *proof.Item) {
			i.Job.Origin, i.Job.Destinations, i.Job.Purposes, i.Approval = proof.ByRetention, nil, []string{"audience"}, l.schedule(nil)
		})},
		{name: "a retention of a purpose without a period", refused: sweep.RefusedSchedule, tell: both(func(l *liar, i *proof.Item) {
			i.Job.Origin, i.Job.Destinations, i.Job.Purposes = proof.ByRetention, nil, []string{"audience"}
			i.Approval = l.schedule(func(s *proof.Schedule) {
				s.Retention, s.Rules = map[string]string{"service": "PT1M"}, export.PurposeRules{}
			})
		})},
		{name: "the schedule of another policy", refused: sweep.RefusedSchedule, tell: both(func(l *liar, i *proof.Item) {
			i.Job.Origin, i.Job.Destinations, i.Job.Purposes = proof.ByRetention, nil, []string{"audience"}
			i.Approval = l.schedule(func(s *proof.Schedule) {
				s.Policy, s.Retention["audience"] = strings.Repeat("01", 32), "PT1M"
			})
		})},
	}
}

func batchLies() []lie {
	entry := func(change func(l *liar, b *export.Batch)) func(*gateway, *liar) func(*proof.Work) {
		return func(_ *gateway, l *liar) func(*proof.Work) {
			b := *l.one.now
			change(l, &b)
			text := l.forge(&b)
			return func(w *proof.Work) { batchOf(w, l.one.id).Entry = text }
		}
	}
	return []lie{
		{name: "the entry of another destination", failed: sweep.FailedEntry, tell: func(_ *gateway, l *liar) func(*proof.Work) {
			return func(w *proof.Work) { batchOf(w, l.one.id).Entry = l.other.entry }
		}},
		{name: "an entry by another key", failed: sweep.FailedEntry, tell: func(_ *gateway, l *liar) func(*proof.Work) {
			text, err := export.SignEntry(export.Entry{
				Destination: "warehouse", Node: node, Number: 1, Type: export.BatchEntry, IssuedAt: start, Batch: l.one.now,
			}, private(l.keys.Approval))
			if err != nil {
				l.Fatal(err)
			}
			return func(w *proof.Work) { batchOf(w, l.one.id).Entry = text }
		}},
		{name: "an entry that is not in the store", failed: sweep.FailedEntry, tell: func(_ *gateway, l *liar) func(*proof.Work) {
			text, err := export.SignEntry(export.Entry{
				Destination: "warehouse", Node: node, Number: 77, Type: export.BatchEntry, IssuedAt: start, Batch: l.one.now,
				Previous: strings.Repeat("0", 64),
			}, private(l.keys.Stream))
			if err != nil {
				l.Fatal(err)
			}
			return func(w *proof.Work) { batchOf(w, l.one.id).Entry = text }
		}},
		{name: "the hash of another object", failed: sweep.FailedHash, tell: entry(func(l *liar, b *export.Batch) { b.SHA256 = l.other.now.SHA256 })},
		{name: "a false size", failed: sweep.FailedHash, tell: entry(func(_ *liar, b *export.Batch) { b.Size-- })},
		{name: "false rows", failed: sweep.FailedDamaged, tell: entry(func(_ *liar, b *export.Batch) { b.Rows = 2 })},
		{name: "another batch's object", failed: sweep.FailedGone, tell: entry(func(_ *liar, b *export.Batch) {
			b.Key = export.BatchKey("warehouse", node, start, 1, 2, 1)
		})},
		{name: "a name of another node", failed: sweep.FailedEntry, tell: entry(func(_ *liar, b *export.Batch) {
			b.Key = strings.Replace(b.Key, "/n1-", "/n2-", 1)
		})},
		{name: "a name that begins like others", failed: sweep.FailedEntry, tell: entry(func(_ *liar, b *export.Batch) {
			b.Key = "warehouse/events/dt=2026-11-21/hour=18/n1-0.1.parquet.age"
		})},
		{name: "a recipient of the gateway's own", failed: sweep.FailedEntry, tell: entry(func(l *liar, b *export.Batch) {
			b.Recipients = slices.Clone(b.Recipients)
			b.Recipients[0] = l.keys.Recipients["stranger"]
		})},
		{name: "E left out", failed: sweep.FailedEntry, tell: entry(func(_ *liar, b *export.Batch) { b.Recipients = b.Recipients[:1] })},
		{name: "another schema", failed: sweep.FailedDamaged, tell: entry(func(_ *liar, b *export.Batch) { b.Schema = "octroi.events.v9" })},
		{name: "a purge of what nothing replaced", failed: sweep.FailedEntry, tell: func(_ *gateway, l *liar) func(*proof.Work) {
			return func(w *proof.Work) { batchOf(w, l.one.id).Stage = proof.BatchPurge }
		}},
		{name: "the claim of another batch's name", failed: sweep.FailedEntry, tell: func(g *gateway, l *liar) func(*proof.Work) {
			g.claimed = func(string) *sweep.Claim { return &sweep.Claim{Generation: 2, Key: l.other.now.Key} }
			return nil
		}},
		{name: "the claim of the object itself", failed: sweep.FailedEntry, tell: func(g *gateway, l *liar) func(*proof.Work) {
			g.claimed = func(string) *sweep.Claim { return &sweep.Claim{Generation: 1, Key: l.one.now.Key} }
			return nil
		}},
	}
}

// TestLies: a gateway that lies in any field has nothing read that it may not have read, and nothing put or deleted; once it tells the truth, the
// same custodian carries the job out.
func TestLies(t *testing.T) {
	for _, x := range append(jobLies(), batchLies()...) {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			g := w.gateway
			l := &liar{world: w, one: g.ship("warehouse", 1, 2, 3), other: g.ship("accounting", 2, 3)}
			l.asked = g.ask(g.job(1, proof.Erasure, proof.ByDPO, 1), g.approve)
			r, err := w.keys.recipients("warehouse")
			if err != nil {
				t.Fatal(err)
			}
			g.lie = x.tell(g, l)
			store := &watched{Archive: w.store, read: map[string]bool{}}
			s := w.custodian(func(o *sweep.Options) { o.Archive, o.Recipients = store, map[string][]string{"warehouse": r.Names} })
			report, err := s.Once(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			why := slices.Concat(g.refused[l.asked.item.Job.Request], g.failed[l.one.id])
			if code := x.refused + x.failed; !x.quiet && (len(why) != 1 || why[0].Code != code) {
				t.Errorf("the gateway is told %v, want %s", why, code)
			}
			if len(store.put)+len(store.deleted) > 0 || report.Packages+report.Certificates > 0 {
				t.Errorf("put %v, deleted %v, report %+v", store.put, store.deleted, report)
			}
			if store.read[l.other.now.Key] || x.refused != "" && len(store.read) > 0 {
				t.Errorf("it read %v", store.read)
			}
			w.wantRows(allRows(nil, l.one, l.other))
			g.lie, g.claimed = nil, nil
			if _, err := s.Once(t.Context()); err != nil || l.asked.certificate == "" {
				t.Errorf("after the truth: %v, refused %v, failed %v", err, g.refused, g.failed)
			}
			w.wantRows(allRows([]int{1}, l.one, l.other))
		})
	}
}

// TestSelfService: of thousands of requests that a captured gateway makes up, no more than the cap lets pass are carried out, whichever right they name.
func TestSelfService(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	subjects := make([]int, 400)
	for i := range subjects {
		subjects[i] = i + 1
	}
	b := g.ship("warehouse", subjects...)
	g.lie = func(work *proof.Work) { // another five hundred in each answer
		for n := range 500 {
			origin := []proof.Origin{proof.ByPerson, proof.ByWithdrawal}[n%2]
			j := g.job(g.answers["GET work 200"]*1000+n, proof.Erasure, origin, n%400+1)
			if origin == proof.ByWithdrawal {
				j.Purposes = []string{"audience", "service"}
			}
			work.Items = append(work.Items, proof.Item{Job: j, Stage: proof.StageRewrite, Batches: []string{b.id}})
			g.batches[b.id].wants[j.Request] = true
		}
		wants := []string{}
		for _, i := range work.Items {
			wants = append(wants, i.Job.Request)
		}
		g.batches[b.id].stage = proof.BatchRewrite
		work.Batches = []proof.WorkBatch{{ID: b.id, Entry: b.entry, Stage: proof.BatchRewrite, Items: wants}}
	}
	s := w.custodian(func(o *sweep.Options) { o.DailyCap = 20 })
	erased, obeyed := 0, 0
	for range 3 {
		r, err := s.Once(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		erased, obeyed = erased+r.Erased, obeyed+r.Jobs
	}
	if obeyed != 20 || erased > 20 || erased == 0 {
		t.Errorf("%d jobs obeyed and %d rows erased under a cap of 20", obeyed, erased)
	}
}

// TestPoorerObject: a gateway with a job in hand states an object of its own making as the batch's, has it cut, and asks for the purge of all others.
// The rows that its object lacks are not deleted.
func TestPoorerObject(t *testing.T) {
	for _, x := range []struct {
		name   string
		poorer func(rows []int) []int
	}{
		{"fewer rows", func([]int) []int { return []int{1, 2} }},
		{"the job's rows alone", func([]int) []int { return []int{1} }},
		{"other rows", func([]int) []int { return []int{1, 8, 9} }},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, nil)
			g := w.gateway
			b := g.ship("warehouse", 1, 2, 3)
			q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
			rows := rowsOf("warehouse", 1, x.poorer(nil)...)
			object := w.seal("warehouse", rows)
			key := export.BatchKey("warehouse", node, start, b.first, b.last, 5)
			g.mu.Lock()
			genuine := b.now
			b.now, b.claimed, b.generation = w.describe("warehouse", b.id, key, g.put(key, object), object, rows), 5, 5
			b.entry, b.stated = g.enter(export.Entry{Destination: "warehouse", Type: export.BatchEntry, Batch: b.now})
			g.mu.Unlock()
			r := w.sweep()
			if r.Purged != 0 || r.Failed[sweep.FailedDamaged] == 0 || q.certificate != "" {
				t.Errorf("report %+v", r)
			}
			if got := w.open("E", genuine.Key, genuine.Version); !slices.Equal(texts(got), texts(b.rows)) {
				t.Error("the genuine object was changed")
			}
		})
	}
}

// TestPoorerAgain: what the custodian has made itself once is no leave to delete it later for another object.
func TestPoorerAgain(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, 2, 3)
	g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	g.late = true
	w.sweep() // 2 and 3 are in generation 2
	rows := rowsOf("warehouse", 1, 1)
	object := w.seal("warehouse", rows)
	key := export.BatchKey("warehouse", node, start, b.first, b.last, 5)
	g.mu.Lock()
	made := b.now
	b.pending, b.stage, b.claimed, b.generation = nil, proof.BatchRewrite, 5, 5
	b.now = w.describe("warehouse", b.id, key, g.put(key, object), object, rows)
	b.entry, b.stated = g.enter(export.Entry{Destination: "warehouse", Type: export.BatchEntry, Batch: b.now})
	g.late = false
	g.mu.Unlock()
	r := w.sweep()
	if r.Emptied != 1 || r.Purged != 0 || r.Failed[sweep.FailedDamaged] == 0 {
		t.Errorf("report %+v", r)
	}
	if got := w.open("E", made.Key, made.Version); !slices.Equal(texts(got), texts(without(b.rows, "warehouse", 1))) {
		t.Error("what the custodian made was changed")
	}
}

// TestFailures: what is wrong with one batch is told, and does not stop the others.
func TestFailures(t *testing.T) {
	for _, x := range []struct {
		name  string
		code  string
		spoil func(w *world, o *sweep.Options, b *batch)
	}{
		{"without E", sweep.FailedIdentity, func(_ *world, o *sweep.Options, _ *batch) { o.Identities = export.Identities{} }},
		{"the wrong E", sweep.FailedIdentity, func(w *world, o *sweep.Options, _ *batch) {
			o.Identities, _ = export.ParseIdentities([]byte(w.keys.Identities["stranger"]))
		}},
		{"object gone", sweep.FailedGone, func(w *world, _ *sweep.Options, b *batch) {
			if err := w.store.DeleteVersion(w.Context(), b.now.Key, b.now.Version); err != nil {
				w.Fatal(err)
			}
		}},
		{"object of a stranger", sweep.FailedHash, func(w *world, _ *sweep.Options, b *batch) {
			if err := w.store.DeleteVersion(w.Context(), b.now.Key, b.now.Version); err != nil {
				w.Fatal(err)
			}
			w.gateway.put(b.now.Key, []byte("something else"))
		}},
		{"the store is away", sweep.FailedStore, func(_ *world, o *sweep.Options, b *batch) {
			o.Archive = &broken{Archive: o.Archive, key: b.now.Key, err: export.ErrUnavailable}
		}},
		{"the store refuses", sweep.FailedStore, func(_ *world, o *sweep.Options, b *batch) {
			o.Archive = &broken{Archive: o.Archive, key: b.now.Key, err: export.ErrRefused}
		}},
		{"locked", sweep.FailedLocked, func(_ *world, o *sweep.Options, b *batch) {
			o.Archive = &broken{Archive: o.Archive, key: b.now.Key, locked: true}
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			g := w.gateway
			b, fine := g.ship("warehouse", 1, 2), g.ship("warehouse", 1, 3)
			access := g.ship("accounting", 4)
			q, read := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil), g.ask(g.job(2, proof.Access, proof.ByPerson, 4), nil)
			r := w.sweep(func(o *sweep.Options) { x.spoil(w, o, b) })
			if why := g.failed[b.id]; len(why) != 1 || why[0].Code != x.code {
				t.Fatalf("the gateway is told %v, report %+v", why, r)
			}
			if q.certificate != "" {
				t.Error("it was certified")
			}
			if x.code != sweep.FailedIdentity && (fine.generation != 2 || fine.stage != proof.BatchDone || read.pack == nil) {
				t.Errorf("the others were held up: %+v", r)
			}
			if bytes.Contains(fmt.Append(nil, g.failed, g.refused), []byte(pseudonym("warehouse", 1))) {
				t.Error("a reason holds a pseudonym")
			}
			_ = access
		})
	}
}

// broken is an archive that fails for one object.
type broken struct {
	export.Archive
	key    string
	err    error // of Get
	locked bool  // DeleteVersion
}

func (a *broken) Get(ctx context.Context, key, version string) (io.ReadCloser, error) {
	if key == a.key && a.err != nil {
		return nil, fmt.Errorf("getting object: %w", a.err)
	}
	return a.Archive.Get(ctx, key, version)
}

func (a *broken) DeleteVersion(ctx context.Context, key, version string) error {
	if key == a.key && a.locked {
		return fmt.Errorf("deleting version: %w", export.ErrLocked)
	}
	return a.Archive.DeleteVersion(ctx, key, version)
}

// TestStoreAway: a store that answers for nothing ends the pass, and the next one carries on.
func TestStoreAway(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	var batches []*batch
	for range 8 {
		batches = append(batches, g.ship("warehouse", 1, 2))
	}
	q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	away := &down{Archive: w.store, down: true}
	s := w.custodian(func(o *sweep.Options) { o.Archive = away })
	if _, err := s.Once(t.Context()); err == nil || away.asked > 5 {
		t.Fatalf("%v after %d requests", err, away.asked)
	}
	away.down = false
	if _, err := s.Once(t.Context()); err != nil || q.certificate == "" {
		t.Fatal(err)
	}
	w.wantRows(allRows([]int{1}, batches...))
}

// down is an archive that may be away.
type down struct {
	export.Archive
	mu    sync.Mutex
	down  bool
	asked int
}

func (a *down) Get(ctx context.Context, key, version string) (io.ReadCloser, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked++; a.down {
		return nil, fmt.Errorf("getting object: %w", export.ErrUnavailable)
	}
	return a.Archive.Get(ctx, key, version)
}

// TestClaimedNameTaken: a name that the gateway gives out twice is not deleted with what somebody else put there.
func TestClaimedNameTaken(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, 2, 3)
	g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	object := w.seal("warehouse", rowsOf("warehouse", 1, 1, 2))
	g.mu.Lock()
	genuine := b.now
	// It says that the batch is a poorer object of a lower generation, and claims the genuine one's name.
	key := export.BatchKey("warehouse", node, start, b.first, b.last, 0)
	b.now = w.describe("warehouse", b.id, key, g.put(key, object), object, rowsOf("warehouse", 1, 1, 2))
	b.entry, b.stated = g.enter(export.Entry{Destination: "warehouse", Type: export.BatchEntry, Batch: b.now})
	g.claimed = func(string) *sweep.Claim { return &sweep.Claim{Generation: 1, Key: genuine.Key} }
	g.mu.Unlock()
	for range 2 {
		if r := w.sweep(); r.Failed[sweep.FailedEntry] == 0 {
			t.Errorf("report %+v", r)
		}
	}
	if got := w.open("E", genuine.Key, genuine.Version); !slices.Equal(texts(got), texts(b.rows)) {
		t.Error("the genuine object was changed")
	}
}

// TestForgedFacts: no fact of the gateway's can be changed without losing the certificate, and none that the custodian saw otherwise is believed.
func TestForgedFacts(t *testing.T) {
	for name, change := range map[string]func(*proof.Facts){
		"received":    func(f *proof.Facts) { f.Received = f.Received.Add(time.Hour) },
		"severed":     func(f *proof.Facts) { f.Severed = f.Severed.Add(-time.Minute) },
		"not severed": func(f *proof.Facts) { f.Severed = time.Time{} },
		"spool gone":  func(f *proof.Facts) { f.SpoolGone = f.SpoolGone.Add(time.Minute) },
		"purged":      func(f *proof.Facts) { f.Purged = f.Purged.Add(time.Minute) },
		"confirmed":   func(f *proof.Facts) { f.Recipients[0].Number++ },
		"recipient":   func(f *proof.Facts) { f.Recipients = nil },
		"exception":   func(f *proof.Facts) { f.Exceptions = []proof.Exception{{What: proof.RemainsKeyCopies}} },
		"evidence":    func(f *proof.Facts) { f.Evidence = f.Evidence[1:] },
		"a leaf": func(f *proof.Facts) {
			f.Evidence[0].Opening.Core = bytes.Replace(f.Evidence[0].Opening.Core, []byte("person"), []byte("nobody"), 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			g := w.gateway
			g.ship("warehouse", 1, 2)
			q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
			g.lie = func(work *proof.Work) {
				for i := range work.Items {
					if f := work.Items[i].Facts; f != nil {
						change(f)
					}
				}
			}
			if r := w.sweep(); r.Certificates != 0 || r.Refused[sweep.RefusedFacts] != 1 {
				t.Fatalf("report %+v", r)
			}
			g.lie = nil
			if r := w.sweep(); r.Certificates != 1 || q.certificate == "" {
				t.Fatalf("after the truth: %+v", r)
			}
		})
	}
}
