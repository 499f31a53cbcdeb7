package rights

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
)

// custodyCall posts what a custodian posts.
func (d *door) custodyCall(path string, body any) answer {
	d.t.Helper()
	return d.do("POST", d.private+"/v1/custody/"+path, body, "X-Scopes", "custody")
}

// wanting is a world with one batch of five rows that an erasure wants rewritten: two are the subject's.
func wanting(t *testing.T) (w *world, d *door, request string, b proof.WorkBatch, items map[string]*proof.Item) {
	t.Helper()
	w = newWorld(t, func(o *Options) { o.Notices = time.Minute })
	_, s := w.mint(t)
	_, other := w.mint(t)
	w.pages(t, s, 2, "gone")
	w.pages(t, other, 3, "kept")
	w.ship(t)
	request = w.ask(t, proof.Erasure, s).ID
	w.Pass(t.Context())
	work, err := w.Work()
	if err != nil || len(work.Batches) != 1 || work.Batches[0].Stage != proof.BatchRewrite {
		t.Fatal(work, err)
	}
	return w, openDoor(t, w), request, work.Batches[0], map[string]*proof.Item{request: &work.Items[0]}
}

// everything is all rows of state, to see that nothing changed.
func (w *world) everything(t *testing.T) string {
	t.Helper()
	h := sha256.New()
	err := w.state.View(func(v reader) error {
		return v.Scan(nil, func(key, value []byte) error {
			fmt.Fprintf(h, "%x=%x\n", key, value)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Each fact of a rewrite report that the gateway can check is forged, one at a time: nothing changes. Then the true one is taken, twice.
func TestForgedRewrite(t *testing.T) {
	t.Parallel()
	w, d, request, b, items := wanting(t)
	custody := &servant{w: w, name: "custodian-one"}
	truth, err := custody.rewrite(t.Context(), &b, items)
	if err != nil {
		t.Fatal(err)
	}
	before := w.everything(t)
	refuse := func(name string, key []byte, status int, forge func(r *proof.Rewrite, now *export.Batch)) {
		t.Helper()
		r, now := truth, *truth.Now
		r.Cut = map[string]proof.Cut{request: truth.Cut[request]}
		r.Now = &now
		forge(&r, &now)
		text, err := proof.SignRewrite(r, key)
		if err != nil {
			t.Errorf("%s: no such report can be signed: %v", name, err)
			return
		}
		if a := d.custodyCall("batches/"+b.ID+"/rewritten", map[string]string{"report": text}); a.status != status {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
		if w.everything(t) != before {
			t.Fatalf("%s: something changed", name)
		}
	}
	honest := func(*proof.Rewrite, *export.Batch) {}
	refuse("another's key", approvalKey, 422, honest)
	for name, forge := range map[string]func(r *proof.Rewrite, now *export.Batch){
		"batch":      func(r *proof.Rewrite, now *export.Batch) { r.Batch = strings.Repeat("0", 32); now.ID = r.Batch },
		"before":     func(r *proof.Rewrite, _ *export.Batch) { r.Before = strings.Repeat("0", 64) },
		"generation": func(r *proof.Rewrite, _ *export.Batch) { r.Generation++ },
		"scanned":    func(r *proof.Rewrite, now *export.Batch) { r.Scanned, now.Rows = 6, 4 },
		"more rows erased": func(r *proof.Rewrite, _ *export.Batch) {
			r.Now = nil
			r.Scanned = 4
			r.Cut[request] = proof.Cut{Erased: 4}
		},
		"another request": func(r *proof.Rewrite, _ *export.Batch) {
			r.Cut = map[string]proof.Cut{"3f0c8a52-0d6c-4a53-9a53-6b1a2f1d7c10": r.Cut[request]}
		},
		"a request beside": func(r *proof.Rewrite, _ *export.Batch) { r.Cut["3f0c8a52-0d6c-4a53-9a53-6b1a2f1d7c10"] = proof.Cut{} },
		"ahead of time":    func(r *proof.Rewrite, _ *export.Batch) { r.At = r.At.Add(time.Hour) },
		"key":              func(_ *proof.Rewrite, now *export.Batch) { now.Key = strings.Replace(now.Key, ".2.", ".3.", 1) },
		"hash":             func(_ *proof.Rewrite, now *export.Batch) { now.SHA256 = strings.Repeat("0", 64) },
		"size":             func(_ *proof.Rewrite, now *export.Batch) { now.Size-- },
		"version":          func(_ *proof.Rewrite, now *export.Batch) { now.Version = "another" },
		"purposes":         func(_ *proof.Rewrite, now *export.Batch) { now.Purposes = []string{"audience", "profiling"} },
		"from":             func(_ *proof.Rewrite, now *export.Batch) { now.From = now.From.Add(-time.Hour) },
		"to":               func(_ *proof.Rewrite, now *export.Batch) { now.To = now.To.Add(time.Hour) },
		"policy":           func(_ *proof.Rewrite, now *export.Batch) { now.PolicyHash = strings.Repeat("0", 64) },
		"schema":           func(_ *proof.Rewrite, now *export.Batch) { now.Schema = "another" },
		"fewer recipients": func(_ *proof.Rewrite, now *export.Batch) { now.Recipients = now.Recipients[:2] },
		"nothing was to be cut": func(r *proof.Rewrite, now *export.Batch) {
			r.Cut, now.Rows, now.Recipients = nil, 5, now.Recipients[1:]
		},
	} {
		refuse(name, custodianKey, 409, forge)
	}
	text, err := proof.SignRewrite(truth, custodianKey)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is a repeat after a crash
		d.custodyCall("batches/"+b.ID+"/rewritten", map[string]string{"report": text}).want(t, 200, "number", "2")
	}
	d.custodyCall("batches/"+b.ID+"/rewritten", map[string]string{"report": "x"}).want(t, 409)
	d.custodyCall("batches/"+b.ID+"/rewritten", map[string]string{"rapport": text}).want(t, 422)
	d.custodyCall("batches/nonsense/rewritten", map[string]string{"report": text}).want(t, 404)
}

// The same for the report that nothing is left.
func TestForgedPurge(t *testing.T) {
	t.Parallel()
	w, d, request, b, items := wanting(t)
	custody := &servant{w: w, name: "custodian-one"}
	report, err := custody.rewrite(t.Context(), &b, items)
	if err != nil {
		t.Fatal(err)
	}
	if err := custody.report(t.Context(), &b, report); err != nil {
		t.Fatal(err)
	}
	current := report.Now.Key
	early, err := proof.SignPurge(proof.Purge{Version: 1, Batch: b.ID, Current: current, Verified: w.now()}, custodianKey)
	if err != nil {
		t.Fatal(err)
	}
	d.custodyCall("batches/"+b.ID+"/purged", map[string]string{"report": early}).want(t, 409) // the entry is not published
	w.ship(t)
	before := w.everything(t)
	for name, x := range map[string]struct {
		key    []byte
		status int
		forge  func(p *proof.Purge)
	}{
		"still there":   {custodianKey, 409, func(*proof.Purge) {}},
		"another's key": {approvalKey, 422, func(*proof.Purge) {}},
		"batch":         {custodianKey, 409, func(p *proof.Purge) { p.Batch = strings.Repeat("0", 32) }},
		"current":       {custodianKey, 409, func(p *proof.Purge) { p.Current = strings.Replace(current, ".2.", ".1.", 1) }},
		"none":          {custodianKey, 409, func(p *proof.Purge) { p.Current = "" }},
		"ahead of time": {custodianKey, 409, func(p *proof.Purge) { p.Verified = p.Verified.Add(time.Hour) }},
		"long ago":      {custodianKey, 409, func(p *proof.Purge) { p.Verified = p.Verified.Add(-48 * time.Hour) }},
	} {
		p := proof.Purge{Version: 1, Batch: b.ID, Current: current, Verified: w.now()}
		x.forge(&p)
		text, err := proof.SignPurge(p, x.key)
		if err != nil {
			t.Fatal(name, err)
		}
		if a := d.custodyCall("batches/"+b.ID+"/purged", map[string]string{"report": text}); a.status != x.status {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
		if w.everything(t) != before {
			t.Fatalf("%s: something changed", name)
		}
	}
	if q := w.row(t, request); q.Done != 0 {
		t.Error("done without a purge")
	}
	work, err := w.Work()
	if err != nil || len(work.Batches) != 1 || work.Batches[0].Stage != proof.BatchPurge {
		t.Fatal(work, err)
	}
	text, err := custody.purge(t.Context(), &work.Batches[0])
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d.custodyCall("batches/"+b.ID+"/purged", map[string]string{"report": text}).want(t, 204)
	}
	if q := w.row(t, request); q.Done != 1 {
		t.Errorf("%d batches are done", q.Done)
	}
}

// A certificate that says anything else than what was offered is none.
func TestForgedCertificate(t *testing.T) {
	t.Parallel()
	w, d, request, _, _ := wanting(t)
	custody := &servant{w: w, name: "custodian-one"}
	var item *proof.Item
	for turn := 0; item == nil; turn++ {
		w.Pass(t.Context())
		w.ship(t)
		work, err := w.Work()
		if err != nil || turn == 20 {
			t.Fatal(turn, err)
		}
		if len(work.Items) == 1 && work.Items[0].Stage == proof.StageCertify {
			item = &work.Items[0]
			continue
		}
		if err := custody.serve(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.acknowledge(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.forward(time.Minute)
	}
	before := w.everything(t)
	for name, forge := range map[string]func(c *proof.Certificate){
		"node":             func(c *proof.Certificate) { c.Node = "b" },
		"request":          func(c *proof.Certificate) { c.Request = "3f0c8a52-0d6c-4a53-9a53-6b1a2f1d7c10" },
		"origin":           func(c *proof.Certificate) { c.Origin, c.Approved = proof.ByDPO, strings.Repeat("0", 64) },
		"purposes":         func(c *proof.Certificate) { c.Purposes = []string{"audience"} },
		"approved":         func(c *proof.Certificate) { c.Approved = strings.Repeat("0", 64) },
		"before the purge": func(c *proof.Certificate) { c.Completed = c.Facts.Purged.Add(-time.Second) },
		"ahead of time":    func(c *proof.Certificate) { c.Completed = c.Completed.Add(time.Hour) },
		"severed":          func(c *proof.Certificate) { c.Facts.Severed = c.Facts.Severed.Add(-time.Second) },
		"no exception":     func(c *proof.Certificate) { c.Facts.Exceptions = nil },
		"confirmed":        func(c *proof.Certificate) { c.Facts.Recipients = nil },
		"less evidence":    func(c *proof.Certificate) { c.Facts.Evidence = c.Facts.Evidence[:3] },
	} {
		text, err := custody.certificate(item, forge)
		if err != nil {
			t.Errorf("%s: no such certificate can be signed: %v", name, err)
			continue
		}
		if a := d.custodyCall("requests/"+request+"/certificate", map[string]string{"certificate": text}); a.status != 409 {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
		if w.everything(t) != before {
			t.Fatalf("%s: something changed", name)
		}
	}
	text, err := custody.certificate(item, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d.custodyCall("requests/"+request+"/certificate", map[string]string{"certificate": text}).want(t, 204)
	}
	if q := w.row(t, request); q.State != Completed {
		t.Error(q.State)
	}
}

// Two custodians: the second waits for the lease, and then the first has lost its generation.
func TestTwoCustodians(t *testing.T) {
	t.Parallel()
	w, d, _, b, items := wanting(t)
	claim := func(who string) answer {
		return d.custodyCall("batches/"+b.ID+"/claim", map[string]string{"custodian": who})
	}
	claim("short").want(t, 422)
	first := &servant{w: w, name: "custodian-one"}
	report, err := first.rewrite(t.Context(), &b, items) // claims and puts
	if err != nil {
		t.Fatal(err)
	}
	held := claim("custodian-two").want(t, 409, "code", "claimed")
	if until, err := time.Parse(time.RFC3339, fmt.Sprint(held.json["until"])); err != nil || !until.Equal(w.now().Add(lease)) {
		t.Error("held until", held.json["until"], err)
	}
	w.forward(lease)
	claim("custodian-two").want(t, 200, "generation", "3")
	text, err := proof.SignRewrite(report, custodianKey)
	if err != nil {
		t.Fatal(err)
	}
	d.custodyCall("batches/"+b.ID+"/rewritten", map[string]string{"report": text}).want(t, 409)
	second := &servant{w: w, name: "custodian-two"}
	if err := second.serve(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id := w.opened(t)[0]; w.end(t, second, id).State != Completed {
		t.Error("it does not end")
	}
	if keys := w.objectsUnder(t, "warehouse/events/"); len(keys) != 1 {
		t.Errorf("what the first one put is left: %v", keys)
	}
}

// What the custodian cannot do, or will not, is shown, and stays to be done.
func TestCustodianSaysWhy(t *testing.T) {
	t.Parallel()
	w, d, request, b, _ := wanting(t)
	for _, wrong := range []map[string]string{
		{"code": "because"}, {"code": "hash", "detail": strings.Repeat("x", maxDetail+1)}, {"code": "hash", "detail": "two\nlines"}, {},
	} {
		d.custodyCall("batches/"+b.ID+"/failed", wrong).want(t, 422)
	}
	d.custodyCall("batches/"+strings.Repeat("0", 32)+"/failed", map[string]string{"code": "gone"}).want(t, 404)
	d.custodyCall("batches/"+b.ID+"/failed", map[string]string{"code": "hash", "detail": "bytes are others"}).want(t, 204)
	d.custodyCall("requests/"+request+"/refused", map[string]string{"code": "hash"}).want(t, 422)
	d.custodyCall("requests/"+request+"/refused", map[string]string{"code": "cap", "detail": "100 today"}).want(t, 204)
	w.Pass(t.Context())
	if f := w.Figures(); f.Failed != 1 || f.Refused != 1 || f.Custodian != 1 || f.LastContact.IsZero() {
		t.Errorf("%+v", f)
	}
	shown := d.officer("GET", "/requests/"+request, nil).want(t, 200)
	if why, _ := shown.json["refused"].(map[string]any); why["code"] != "cap" {
		t.Error("the officer does not see why it waits:", shown.text)
	}
	// The officer's approval lifts the cap.
	j, err := w.jobOf(w.row(t, request))
	if err != nil {
		t.Fatal(err)
	}
	approval, err := proof.Approve(*j, approvalKey)
	if err != nil {
		t.Fatal(err)
	}
	d.officer("POST", "/requests/"+request+"/approve", map[string]string{"approval": approval}).want(t, 200, "state", "in_progress")
	work, err := w.Work()
	if err != nil || work.Items[0].Approval != approval {
		t.Fatal("the custodian does not see the approval", err)
	}
	if q := w.end(t, &servant{w: w, name: "custodian-one"}, request); q.State != Completed {
		t.Errorf("%+v", q)
	}
}

// A batch is encrypted to other recipients: its rows stay, the recipients must be those of the configuration.
func TestRewrap(t *testing.T) {
	t.Parallel()
	w, d, request, b, items := wanting(t)
	custody := &servant{w: w, name: "custodian-one"}
	if w.end(t, custody, request).State != Completed {
		t.Fatal("it does not end")
	}
	id, err := export.ParseBatchID(b.ID)
	if err != nil {
		t.Fatal(err)
	}
	current, err := w.o.Index.Batch(id)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := custody.rows(t.Context(), &current.Batch)
	if err != nil {
		t.Fatal(err)
	}
	claim, err := w.claim(t.Context(), id, "custodian-one")
	if err != nil {
		t.Fatal(err)
	}
	now, err := custody.put(t.Context(), "warehouse", &current.Batch, claim.Key, rows)
	if err != nil {
		t.Fatal(err)
	}
	r := proof.Rewrite{
		Version: 1, Batch: b.ID, Generation: claim.Generation, Before: current.Batch.SHA256, Scanned: len(rows), Now: now, At: w.now(),
	}
	text, err := proof.SignRewrite(r, custodianKey)
	if err != nil {
		t.Fatal(err)
	}
	d.custodyCall("batches/"+b.ID+"/rewritten", map[string]string{"report": text}).want(t, 200)
	w.ship(t)
	work, err := w.Work()
	if err != nil || len(work.Batches) != 1 || work.Batches[0].Stage != proof.BatchPurge {
		t.Fatal(work, err)
	}
	if err := custody.batch(t.Context(), &work.Batches[0], items); err != nil {
		t.Fatal(err)
	}
	if keys := w.objectsUnder(t, "warehouse/events/"); len(keys) != 1 || keys[0] != now.Key {
		t.Error(keys)
	}
}

// A stranger's object under the claimed key is no object of the custodian's.
func TestStrangersObject(t *testing.T) {
	t.Parallel()
	w, d, _, b, items := wanting(t)
	custody := &servant{w: w, name: "custodian-one"}
	r, err := custody.rewrite(t.Context(), &b, items)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.archive.DeleteVersion(t.Context(), r.Now.Key, r.Now.Version); err != nil {
		t.Fatal(err)
	}
	text, err := proof.SignRewrite(r, custodianKey)
	if err != nil {
		t.Fatal(err)
	}
	d.custodyCall("batches/"+b.ID+"/rewritten", map[string]string{"report": text}).want(t, 409) // gone
	other := []byte("a stranger's bytes")
	if _, err := w.archive.Put(t.Context(), r.Now.Key, bytes.NewReader(other), int64(len(other)), sha256.Sum256(other)); err != nil {
		t.Fatal(err)
	}
	d.custodyCall("batches/"+b.ID+"/rewritten", map[string]string{"report": text}).want(t, 409) // others
}

// A batch that is left empty ends the wait of every request for it, however many there are: a change of state is bounded.
func TestPurgeOfMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, s := w.mint(t)
	w.pages(t, s, 1, "x")
	w.ship(t)
	q := w.ask(t, proof.Erasure, s)
	w.Pass(t.Context())
	const many = 2000
	for range many / 100 { // that ask for the same batch
		err := w.state.Update(t.Context(), func(txn *state.Txn) error {
			for range 100 {
				other := *w.row(t, q.ID)
				other.ID = uuid.NewString()
				txn.Set(wantKey(w.onlyBatch(t), other.ID), []byte{wantsRewrite})
				if err := other.set(txn); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	custody := &servant{w: w, name: "custodian-one"}
	for range 2 { // rewritten, and purged
		if err := custody.serve(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.ship(t)
	}
	if n := w.count(t, wantPrefix) + w.count(t, batchPrefix); n != 0 {
		t.Errorf("%d still wait", n)
	}
	if q := w.row(t, q.ID); q.Done != 1 {
		t.Errorf("%+v", q)
	}
}

func (w *world) onlyBatch(t *testing.T) export.BatchID {
	t.Helper()
	rows, _, err := w.o.Index.Sealed("warehouse", 0, 2)
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	id, err := export.ParseBatchID(rows[0].Batch.ID)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
