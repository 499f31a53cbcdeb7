package sweep_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// allRows are the rows of the batches without those of some subjects.
func allRows(gone []int, batches ...*batch) (all []pseudonymize.Row) {
	for _, b := range batches {
		all = append(all, without(b.rows, b.destination, gone...)...)
	}
	return all
}

// TestErasure: one pass takes two people's rows out of every batch that holds them, leaves all others as they are, and certifies it.
func TestErasure(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	batches := []*batch{
		g.ship("warehouse", 1, 2, 3, -1), g.ship("warehouse", 4, 5), g.ship("accounting", -1, 1, 6), g.ship("warehouse", 2, 2), g.ship("accounting", 7),
	}
	one := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	two := g.ask(g.job(2, proof.Erasure, proof.ByDPO, 2, -1), g.approve)
	before := len(w.objects())
	r := w.sweep()
	w.wantRows(allRows([]int{1, 2, -1}, batches...))
	w.wantHolders()
	if one.certificate == "" || two.certificate == "" {
		t.Fatalf("certificates are missing: refused %v, failed %v", g.refused, g.failed)
	}
	if len(w.objects()) != before-1 { // one is left empty
		t.Errorf("%d objects of %d", len(w.objects()), before)
	}
	want := sweep.Report{Jobs: 2, Scanned: 3, Rewritten: 2, Emptied: 1, Erased: 7, Purged: 3, Versions: 3, Certificates: 2}
	r.Bytes, r.Refused, r.Failed = 0, nil, nil
	if !equal(r, want) {
		t.Errorf("report %+v\n  want %+v", r, want)
	}
	c := w.certificate(two)
	wantSystems := []proof.System{
		{Destination: "accounting", Objects: 1, Rewritten: 1, Rows: 1, Versions: 1},
		{Destination: "warehouse", Objects: 2, Rewritten: 1, Deleted: 1, Rows: 4, Versions: 2},
	}
	if !slices.Equal(c.Systems, wantSystems) || c.Approved == "" {
		t.Errorf("systems %+v", c.Systems)
	}
	if r := w.sweep(); !equal(r, sweep.Report{}) {
		t.Errorf("a second pass did something: %+v", r)
	}
}

func equal(a, b sweep.Report) bool {
	a.Refused, a.Failed, b.Refused, b.Failed, a.Bytes, b.Bytes = nil, nil, nil, nil, 0, 0
	return a.Jobs == b.Jobs && a.Scanned == b.Scanned && a.Unchanged == b.Unchanged && a.Rewritten == b.Rewritten && a.Emptied == b.Emptied &&
		a.Erased == b.Erased && a.Reduced == b.Reduced && a.Purged == b.Purged && a.Versions == b.Versions && a.Packages == b.Packages &&
		a.Certificates == b.Certificates && a.Notices == b.Notices && a.Journal == b.Journal && a.Waiting == b.Waiting
}

func (w *world) certificate(q *request) proof.Certificate {
	w.Helper()
	signer, err := w.keys.signer()
	if err != nil {
		w.Fatal(err)
	}
	c, err := proof.VerifyCertificate(q.certificate, public(w.keys.Custodian), signer.Verifier())
	if err != nil {
		w.Fatal(err)
	}
	return c
}

// TestAccess: the package holds the person's rows and nobody else's, and nothing in the store changes.
func TestAccess(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	batches := []*batch{g.ship("warehouse", 1, 2, 3), g.ship("warehouse", 1, 1), g.ship("accounting", 1, 4), g.ship("accounting", 5)}
	q := g.ask(g.job(1, proof.Access, proof.ByPerson, 1), nil)
	sealed := g.ask(g.job(2, proof.Access, proof.ByDPO, 4), func(item *proof.Item) {
		item.Job.Recipient = w.keys.Recipients["stranger"]
		g.approve(item)
	})
	erased := g.ask(g.job(3, proof.Erasure, proof.ByPerson, 2), nil) // of a batch that the access reads in the same pass
	r := w.sweep()
	if r.Packages != 2 || r.Certificates != 1 || r.Scanned != 3 {
		t.Errorf("report %+v", r)
	}
	counts := readPackage(t, q.pack)
	if !maps.Equal(counts, map[string]int{"warehouse": 3, "accounting": 1}) || !maps.Equal(q.collected.Rows, counts) || q.collected.Objects != 3 {
		t.Errorf("the package has %v, the report says %v of %d objects", counts, q.collected.Rows, q.collected.Objects)
	}
	if !sealed.collected.Sealed || bytes.HasPrefix(sealed.pack, []byte("PK")) || sealed.collected.Rows["accounting"] != 1 {
		t.Errorf("the package for a recipient: %+v", sealed.collected)
	}
	if erased.certificate == "" {
		t.Error("the erasure was held up")
	}
	w.wantRows(allRows([]int{2}, batches...))
}

// readPackage counts the rows of events.csv by destination.
func readPackage(t *testing.T, pack []byte) map[string]int {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(pack), int64(len(pack)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := z.Open("events.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff")))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.Index(lines[0], "destination")
	if at < 0 {
		t.Fatalf("columns %v", lines[0])
	}
	counts := map[string]int{}
	for _, line := range lines[1:] {
		counts[line[at]]++
	}
	return counts
}

// rules are what the purposes of the tests' rows allow.
func rules() export.PurposeRules {
	return export.PurposeRules{"audience": {"url": policies.Keep, "campaign": policies.Keep}, "service": {"basket": policies.Keep, "value": policies.Keep}}
}

// TestPurposes: rows of the person lose one purpose, and what it alone allowed.
func TestPurposes(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, 2)
	j := g.job(1, proof.Erasure, proof.ByWithdrawal, 1)
	j.Purposes = []string{"audience"}
	j.Rules = rules()
	q := g.ask(j, nil)
	r := w.sweep()
	if r.Reduced != 1 || r.Erased != 0 || q.certificate == "" {
		t.Errorf("report %+v", r)
	}
	want := slices.Clone(b.rows)
	want[0].Grants, want[0].Campaign, want[0].Properties = want[0].Grants[1:], "", map[string]string{"basket": "3"}
	w.wantRows(want)
	if c := w.certificate(q); c.Systems[1].Reduced != 1 || c.Systems[1].Rows != 0 || !slices.Equal(c.Purposes, j.Purposes) {
		t.Errorf("certificate %+v", c)
	}
}

// schedule is what the DPO approved.
func (w *world) schedule(change func(*proof.Schedule)) string {
	w.Helper()
	s := proof.Schedule{
		Version: 1, Node: node, Policy: strings.Repeat("00", 32), Retention: map[string]string{"audience": "P1M", "service": "P1Y"},
		Rules: rules(), IssuedAt: start,
	}
	if change != nil {
		change(&s)
	}
	text, err := proof.ApproveSchedule(s, private(w.keys.Approval))
	if err != nil {
		w.Fatal(err)
	}
	return text
}

func (g *gateway) retention(id int, schedule string, purposes ...string) *request {
	j := proof.Job{
		Version: 1, Node: node, Request: fmt.Sprintf("%08x-0000-4000-8000-000000000000", id), Right: proof.Erasure, Origin: proof.ByRetention,
		Received: start.Add(time.Hour), Purposes: purposes,
	}
	return g.ask(j, func(item *proof.Item) { item.Approval, item.Batches = schedule, slices.Clone(g.order) })
}

// TestOrderOfCuts: who asked for everything gets it, also where another job of the pass takes off the pseudonym by which a row is theirs.
func TestOrderOfCuts(t *testing.T) {
	for name, other := range map[string]func(w *world) *request{
		"purposes": func(w *world) *request {
			j := w.gateway.job(1, proof.Erasure, proof.ByWithdrawal, 1)
			j.Purposes, j.Rules = []string{"audience"}, rules()
			return w.gateway.ask(j, nil)
		},
		"retention": func(w *world) *request {
			w.gateway.pass(40 * 24 * time.Hour)
			return w.gateway.retention(1, w.schedule(nil), "audience")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			g := w.gateway
			row := rowsOf("warehouse", 7, 1)[0]
			person := subject("warehouse", -2)
			row.Person, row.Grants[1].Basis, row.Grants[1].Ref = &person, policies.Contract, person
			g.more = []pseudonymize.Row{row}
			b := g.ship("warehouse", 1, 2)
			other(w)
			g.ask(g.job(2, proof.Erasure, proof.ByPerson, 1), nil)
			w.sweep()
			if got := w.open("E", b.now.Key, b.now.Version); slices.ContainsFunc(got, func(r pseudonymize.Row) bool { return r.EventID == row.EventID }) || len(got) != 1 {
				t.Errorf("%d rows are left, and a row of the erased person is among them, or it should be one", len(got))
			}
		})
	}
}

// TestRetention: what is over by the custodian's own clock goes, whosever it is; what is not stays, whatever the gateway says.
func TestRetention(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, -2)
	q := g.retention(1, w.schedule(nil), "audience")
	g.pass(30 * 24 * time.Hour) // 21 December, 22 h: received on 21 November, 18 h; a month is over, but not by the custodian's clock
	early := func(o *sweep.Options) { o.Now = func() time.Time { return start.AddDate(0, 1, 0).Add(-time.Second) } }
	if r := w.sweep(early); r.Refused[sweep.RefusedSchedule] != 1 || r.Rewritten != 0 {
		t.Fatalf("too early: %+v", r)
	}
	w.wantRows(b.rows)
	if r := w.sweep(); r.Reduced != 2 || q.certificate == "" {
		t.Fatalf("report %+v, refused %v", r, g.refused)
	}
	want := slices.Clone(b.rows)
	for i := range want {
		want[i].Grants, want[i].Campaign, want[i].Properties = want[i].Grants[1:], "", map[string]string{"basket": "3"}
	}
	w.wantRows(want)
}

// TestCap: no more jobs than the cap are taken up in a day; an approval lifts it for its job, and tomorrow is another day.
func TestCap(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, 2, 3, 4, 5)
	var all []*request
	for n := 1; n <= 4; n++ {
		right := proof.Erasure
		if n == 2 { // accesses count as well
			right = proof.Access
		}
		all = append(all, g.ask(g.job(n, right, proof.ByPerson, n), nil))
	}
	two := func(o *sweep.Options) { o.DailyCap = 2 }
	if r := w.sweep(two); r.Refused[sweep.RefusedCap] != 2 || r.Certificates != 1 || r.Packages != 1 {
		t.Fatalf("first day: %+v", r)
	}
	w.wantRows(allRows([]int{1}, b))
	if why := g.refused[all[2].item.Job.Request]; len(why) != 1 || why[0].Code != sweep.RefusedCap {
		t.Errorf("the gateway was told %v", why)
	}
	g.mu.Lock()
	g.approve(&all[2].item)
	sum := sha256.Sum256([]byte(all[2].item.Approval))
	all[2].leaf(g, proof.Leaf{Event: proof.EventApproved, Actor: "dpo", SHA256: hex.EncodeToString(sum[:])})
	g.mu.Unlock()
	if r := w.sweep(two); r.Refused[sweep.RefusedCap] != 1 || r.Certificates != 1 {
		t.Fatalf("with an approval: %+v", r)
	}
	w.wantRows(allRows([]int{1, 3}, b))
	g.pass(24 * time.Hour)
	if r := w.sweep(two); len(r.Refused) != 0 || r.Certificates != 1 {
		t.Fatalf("next day: %+v", r)
	}
	w.wantRows(allRows([]int{1, 3, 4}, b))
}

// TestReplay: a request that was carried out is not carried out again, nor with another job.
func TestReplay(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, 2, 3)
	access := g.ask(g.job(1, proof.Access, proof.ByPerson, 1), nil)
	erasure := g.ask(g.job(2, proof.Erasure, proof.ByPerson, 2), nil)
	w.sweep()
	certificate := erasure.certificate
	if access.pack == nil || certificate == "" {
		t.Fatal("nothing was done")
	}
	access.finished, access.pack = false, nil
	erasure.finished = false // asks for the certificate again
	r := w.sweep()
	if r.Refused[sweep.RefusedReplay] != 1 || access.pack != nil || erasure.certificate != certificate || r.Certificates != 1 {
		t.Errorf("replayed: %+v", r)
	}
	erasure.finished, erasure.item.Stage = false, proof.StageRewrite
	g.batches[b.id].wants[erasure.item.Job.Request], g.batches[b.id].stage = true, proof.BatchRewrite
	erasure.item.Job.Destinations[1].Devices = []string{pseudonym("warehouse", 3)}
	if r := w.sweep(); r.Refused[sweep.RefusedReplay] != 2 || r.Scanned != 0 {
		t.Errorf("with another job: %+v", r)
	}
	w.wantRows(allRows([]int{2}, b))
}

// TestUnchanged: a batch without a row of the job is read and left as it is, to the byte.
func TestUnchanged(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	g.ship("warehouse", 1, 2)
	b := g.ship("warehouse", 3, 4)
	q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), func(item *proof.Item) { item.Batches = append(item.Batches, b.id) })
	r := w.sweep()
	if r.Unchanged != 1 || r.Rewritten != 1 || q.certificate == "" || b.generation != 1 {
		t.Errorf("report %+v", r)
	}
	if s := w.certificate(q).Systems[1]; s.Objects != 2 || s.Rewritten != 1 {
		t.Errorf("certificate %+v", s)
	}
}

// TestLateEntry: nothing is deleted before the entry that states the new object is in the store.
func TestLateEntry(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, 2)
	q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	g.late = true
	if r := w.sweep(); r.Rewritten != 1 || r.Purged != 0 || len(w.objects()) != 2 {
		t.Fatalf("before the entry: %+v", r)
	}
	g.late = false
	if r := w.sweep(); r.Purged != 1 || q.certificate == "" {
		t.Fatalf("after it: %+v", r)
	}
	w.wantRows(allRows([]int{1}, b))
}

// TestLostAnswers: whichever answer is lost on the way, the next pass comes to the same end, and no object is left over.
func TestLostAnswers(t *testing.T) {
	for _, call := range []string{"work", "claim", "rewritten", "purged", "package", "certificate"} {
		t.Run(call, func(t *testing.T) {
			w := newWorld(t, nil)
			g := w.gateway
			b := g.ship("warehouse", 1, 2)
			erasure, access := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil), g.ask(g.job(2, proof.Access, proof.ByPerson, 2), nil)
			g.lose = call
			s := w.custodian()
			if _, err := s.Once(t.Context()); !errors.Is(err, sweep.ErrAway) {
				t.Fatalf("%v, want %v", err, sweep.ErrAway)
			}
			if _, err := s.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
			if erasure.certificate == "" || access.pack == nil {
				t.Error("it did not come to an end")
			}
			w.wantRows(allRows([]int{1}, b))
		})
	}
}

// TestMemoryLost: a custodian that has lost its state certifies what it can see with its own eyes, and nothing else.
func TestMemoryLost(t *testing.T) {
	for _, x := range []struct {
		name  string
		spoil func(w *world, b *batch)
		ok    bool
	}{
		{"as it was", func(*world, *batch) {}, true},
		{"a version is left", func(w *world, b *batch) {
			w.gateway.put(export.BatchKey("warehouse", node, start, b.first, b.last, 9), w.seal("warehouse", b.rows))
		}, false},
		{"a row is left", func(w *world, b *batch) {
			object := w.seal("warehouse", b.rows)
			key := export.BatchKey("warehouse", node, start, b.first, b.last, 8)
			now := w.describe("warehouse", b.id, key, w.gateway.put(key, object), object, b.rows)
			if err := w.store.DeleteVersion(w.Context(), b.now.Key, b.now.Version); err != nil {
				w.Fatal(err)
			}
			b.entry, b.stated = w.gateway.enter(export.Entry{
				Destination: "warehouse", Type: export.ReplaceEntry, Replace: &export.Replace{Batch: b.id, Of: b.stated, Generation: 8, Now: now},
			})
			b.now, b.generation = now, 8
		}, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, nil)
			g := w.gateway
			b := g.ship("warehouse", 1, 2)
			q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
			g.lie = func(w *proof.Work) { // the certificate is not asked for yet
				w.Items = slices.DeleteFunc(w.Items, func(i proof.Item) bool { return i.Stage == proof.StageCertify })
			}
			if r := w.sweep(); r.Purged != 1 {
				t.Fatalf("report %+v", r)
			}
			g.lie = nil
			x.spoil(w, b)
			r := w.sweep(func(o *sweep.Options) { o.State = filepath.Join(w.folder, "new state") })
			if x.ok != (q.certificate != "") || x.ok == (r.Refused[sweep.RefusedFacts] > 0) {
				t.Fatalf("certificate %t, report %+v, refused %v", q.certificate != "", r, g.refused)
			}
			if x.ok && w.certificate(q).Systems[1].Objects != 1 {
				t.Errorf("systems %+v", w.certificate(q).Systems)
			}
		})
	}
}

// TestPurgeWithoutMemory: a custodian that did not make the new object purges, where it sees that nobody's row is lost.
func TestPurgeWithoutMemory(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b, empty := g.ship("warehouse", 1, 2, 3), g.ship("warehouse", 1)
	q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	g.late = true
	w.sweep()
	g.late = false
	r := w.sweep(func(o *sweep.Options) { o.State = filepath.Join(w.folder, "another") })
	if r.Purged != 2 || q.certificate == "" {
		t.Fatalf("report %+v, failed %v, refused %v", r, g.failed, g.refused)
	}
	w.wantRows(allRows([]int{1}, b, empty))
	if s := w.certificate(q).Systems[1]; s.Rows != 2 || s.Rewritten != 1 || s.Deleted != 1 || s.Versions != 2 {
		t.Errorf("certificate %+v", s)
	}
}

// TestTwoCustodians: two at once, each with a memory of its own, come to the same end as one.
func TestTwoCustodians(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	var batches []*batch
	for n := range 5 {
		batches = append(batches, g.ship("warehouse", 1, 2, n+10))
	}
	one, two := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil), g.ask(g.job(2, proof.Erasure, proof.ByPerson, 2), nil)
	var both errgroup.Group
	for i := range 2 {
		s := w.custodian(func(o *sweep.Options) { o.State = filepath.Join(w.folder, fmt.Sprint("state", i)) })
		both.Go(func() error {
			for range 3 {
				if _, err := s.Once(t.Context()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := both.Wait(); err != nil {
		t.Fatal(err)
	}
	if one.certificate == "" || two.certificate == "" {
		t.Errorf("certificates are missing: %v %v", g.refused, g.failed)
	}
	w.wantRows(allRows([]int{1, 2}, batches...))
}

// TestOld: notices and suppressions go when they may, and nothing else by their way.
func TestOld(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1)
	notice := func(destination string, number uint64, change func(*export.Entry)) (key, entry string) {
		key = export.NoticeKey(destination, node, number)
		body := []byte("sealed " + destination)
		sum := sha256.Sum256(body)
		e := export.Entry{Destination: destination, Type: export.EraseEntry, Notice: &export.NoticeRef{
			Key: key, Version: g.put(key, body), SHA256: hex.EncodeToString(sum[:]), Size: int64(len(body)),
		}}
		if change != nil {
			change(&e)
		}
		entry, _ = g.enter(e)
		return key, entry
	}
	gone, entry := notice("warehouse", 2, nil)
	kept, _ := notice("accounting", 1, nil)
	over, young := "suppressions/n1/dt=2026-08-15/00000001-0000-4000-8000-000000000000.bin", "suppressions/n1/dt=2026-08-16/00000001-0000-4000-8000-000000000000.bin"
	foreign := "suppressions/n2/dt=2020-01-01/00000001-0000-4000-8000-000000000000.bin"
	for _, key := range []string{over, young, foreign} {
		g.put(key, []byte(key))
	}
	g.notices = []proof.OldNotice{{Entry: entry}, {Entry: b.entry}, {Entry: entry + "A"}}
	for _, key := range []string{over, young, foreign, b.now.Key, "suppressions/n1/../" + b.now.Key, kept} {
		g.journals = append(g.journals, proof.OldJournal{Key: key})
	}
	if r := w.sweep(); r.Notices != 1 || r.Journal != 1 {
		t.Errorf("report %+v", r)
	}
	for key, want := range map[string]bool{gone: false, kept: true, over: false, young: true, foreign: true, b.now.Key: true} {
		o, err := w.store.Get(t.Context(), key, "")
		if err == nil {
			o.Close()
		}
		if want != (err == nil) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// TestDryRun: what would be done is told, and nothing is.
func TestDryRun(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, 2, 3)
	g.ship("warehouse", 4, 4)
	g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	g.ask(g.job(2, proof.Access, proof.ByPerson, 4), nil)
	g.ask(g.job(3, proof.Erasure, proof.ByDPO, 2), nil)
	s := w.custodian(func(o *sweep.Options) { o.DailyCap = 1 })
	plan, err := s.DryRun(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Jobs) != 3 || plan.Rewrite != 1 || plan.Read != 1 || plan.Bytes <= b.now.Size || plan.Jobs[2].Refused == nil || plan.Jobs[0].Refused != nil {
		t.Errorf("plan %+v", plan)
	}
	if len(g.answers) != 1 || g.answers["GET work 200"] != 1 {
		t.Errorf("the gateway was asked %v", g.answers)
	}
	w.wantRows(allRows(nil, g.batches[g.order[0]], g.batches[g.order[1]]))
	if r, err := s.Once(t.Context()); err != nil || r.Refused[sweep.RefusedCap] != 1 { // the plan has taken no place
		t.Errorf("%+v %v", r, err)
	}
}

// TestInUse: one process at a time has a state folder.
func TestInUse(t *testing.T) {
	w := newWorld(t, nil)
	s := w.custodian()
	if _, err := sweep.Open(w.options()); !errors.Is(err, sweep.ErrInUse) {
		t.Fatalf("%v, want %v", err, sweep.ErrInUse)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	w.custodian()
}

// TestRun: the worker waits for a gateway that is away, goes on when it is back, and ends with its context.
func TestRun(t *testing.T) {
	w := newWorld(t, nil)
	g := w.gateway
	b := g.ship("warehouse", 1, 2)
	q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	g.lose = "work"
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	ended := make(chan error)
	s := w.custodian()
	go func() { ended <- s.Run(ctx) }()
	for ctx.Err() == nil {
		g.mu.Lock()
		done := q.finished
		g.mu.Unlock()
		if done {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if q.certificate == "" {
		t.Error("it did not come to an end")
	}
	w.wantRows(allRows([]int{1}, b))
}
