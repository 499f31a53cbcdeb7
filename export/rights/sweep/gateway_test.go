package sweep_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
	"github.com/octroi/octroi/pseudonymize"
)

const token = "test-token.of.custody"

// gateway is a strict gateway, in memory, over the world's store and behind real HTTP. What it would refuse of an honest custodian fails the test
// unless it is in expected.
type gateway struct {
	t      testing.TB
	w      *world
	server *httptest.Server

	mu       sync.Mutex
	clock    time.Time
	batches  map[string]*batch
	order    []string // of batches
	requests []*request
	streams  map[string]*stream // by destination
	log      evidenceLog
	failed   map[string][]sweep.Reason // by batch
	refused  map[string][]sweep.Reason // by request
	answers  map[string]int            // "METHOD what status"

	late     bool                         // entries are not published until publish
	lie      func(*proof.Work)            // changes what is asked for
	claimed  func(id string) *sweep.Claim // answers a claim in place of the truth, where it is not nil
	lose     string                       // the answer of the next call of this name is lost
	more     []pseudonymize.Row           // of the next batch
	refuse   func(what, id string) int    // the status of a call that is not served, where it is not 0
	notices  []proof.OldNotice
	journals []proof.OldJournal
}

type stream struct {
	number   uint64
	previous string
}

type batch struct {
	id, destination string
	first, last     uint64
	rows            []pseudonymize.Row // as they were shipped
	now             *export.Batch
	generation      int
	claimed         int
	holder          string
	until           time.Time
	stated          uint64
	entry, replaced string
	report          string // last accepted
	pending         *export.Replace
	stage           string
	wants           map[string]bool
	cut             []string // requests that the last report served
}

type request struct {
	item        proof.Item
	leaves      []int64
	openings    map[int64]evidence.Opening
	finished    bool
	pack        []byte
	collected   proof.Collected
	certificate string
	notified    map[string]uint64
}

func newGateway(w *world) *gateway {
	g := &gateway{
		t: w.TB, w: w, clock: start.Add(4 * time.Hour), batches: map[string]*batch{}, streams: map[string]*stream{},
		failed: map[string][]sweep.Reason{}, refused: map[string][]sweep.Reason{}, answers: map[string]int{},
	}
	g.log.gateway = g
	g.server = httptest.NewServer(g)
	w.Cleanup(g.server.Close)
	if err := os.WriteFile(filepath.Join(w.folder, "token"), []byte(token+"\n"), 0o600); err != nil {
		w.Fatal(err)
	}
	return g
}

func (g *gateway) client(t testing.TB) *sweep.Client {
	t.Helper()
	c, err := sweep.NewClient(sweep.ClientOptions{URL: g.server.URL, Token: filepath.Join(g.w.folder, "token"), Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// now is the clock of everybody in the test.
func (g *gateway) now() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.clock
}

func (g *gateway) pass(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clock = g.clock.Add(d)
}

func (g *gateway) put(key string, body []byte) string {
	g.t.Helper()
	version, err := g.w.store.Put(g.t.Context(), key, bytes.NewReader(body), int64(len(body)), sha256.Sum256(body))
	if err != nil {
		g.t.Errorf("putting %s: %v", key, err)
	}
	return version
}

// enter signs and stores the next entry of a stream.
func (g *gateway) enter(e export.Entry) (string, uint64) {
	g.t.Helper()
	s := g.streams[e.Destination]
	if s == nil {
		s = &stream{}
		g.streams[e.Destination] = s
	}
	e.Node, e.Number, e.Previous, e.IssuedAt = node, s.number+1, s.previous, g.clock
	text, err := export.SignEntry(e, private(g.w.keys.Stream))
	if err != nil {
		g.t.Fatal(err)
	}
	g.put(export.EntryKey(e.Destination, node, e.Number), []byte(text))
	s.number, s.previous = e.Number, export.EntryHash(text)
	return text, e.Number
}

// seal is an object of rows.
func (w *world) seal(destination string, rows []pseudonymize.Row) []byte {
	w.Helper()
	r, err := w.keys.recipients(destination)
	if err != nil {
		w.Fatal(err)
	}
	var object bytes.Buffer
	sealed, err := export.Seal(&object, r)
	if err == nil {
		err = export.EncodeRows(sealed, rows)
	}
	if err == nil {
		err = sealed.Close()
	}
	if err != nil {
		w.Fatal(err)
	}
	return object.Bytes()
}

// describe is a batch of an object.
func (w *world) describe(destination, id, key, version string, object []byte, rows []pseudonymize.Row) *export.Batch {
	w.Helper()
	r, err := w.keys.recipients(destination)
	if err != nil {
		w.Fatal(err)
	}
	sum := sha256.Sum256(object)
	return &export.Batch{
		ID: id, Key: key, Version: version, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(object)), Rows: len(rows), From: start, To: start,
		Purposes: []string{"audience", "service"}, PolicyHash: strings.Repeat("00", 32), Recipients: r.Names, Schema: export.EventsSchema,
	}
}

// ship publishes a batch of these subjects' rows.
func (g *gateway) ship(destination string, subjects ...int) *batch {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	n := uint64(len(g.order) + 1)
	b := &batch{
		id: fmt.Sprintf("%032x", 0xba7c00+n), destination: destination, first: n * 100, last: n*100 + 99, rows: rowsOf(destination, n, subjects...),
		generation: 1, claimed: 1, stage: proof.BatchDone, wants: map[string]bool{},
	}
	b.rows, g.more = append(b.rows, g.more...), nil
	object := g.w.seal(destination, b.rows)
	key := export.BatchKey(destination, node, start, b.first, b.last, 1)
	b.now = g.w.describe(destination, b.id, key, g.put(key, object), object, b.rows)
	b.entry, b.stated = g.enter(export.Entry{Destination: destination, Type: export.BatchEntry, Batch: b.now})
	g.batches[b.id], g.order = b, append(g.order, b.id)
	return b
}

// job is one of these subjects at every destination that has rows of theirs.
func (g *gateway) job(id int, right proof.Right, origin proof.Origin, subjects ...int) proof.Job {
	j := proof.Job{
		Version: 1, Node: node, Request: fmt.Sprintf("%08x-0000-4000-8000-000000000000", id), Right: right, Origin: origin, Received: start.Add(time.Hour),
	}
	for _, destination := range []string{"accounting", "warehouse"} {
		w := proof.Whose{Destination: destination}
		for _, n := range subjects {
			if n < 0 {
				w.Persons = append(w.Persons, pseudonym(destination, n))
			} else {
				w.Devices = append(w.Devices, pseudonym(destination, n))
			}
		}
		slices.Sort(w.Persons)
		slices.Sort(w.Devices)
		j.Destinations = append(j.Destinations, w)
	}
	return j
}

// holding are the ids of the batches with rows of a job.
func (g *gateway) holding(j *proof.Job) (ids []string) {
	for _, id := range g.order {
		b := g.batches[id]
		for _, w := range j.Destinations {
			all := append(slices.Clone(w.Devices), w.Persons...)
			has := slices.ContainsFunc(b.rows, func(r pseudonymize.Row) bool {
				p := r.Device
				if p == nil {
					p = r.Person
				}
				return slices.Contains(all, hex.EncodeToString(p[:]))
			})
			if has && w.Destination == b.destination {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// ask opens a request of a job; change changes the item.
func (g *gateway) ask(j proof.Job, change func(*proof.Item)) *request {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	q := &request{item: proof.Item{Job: j, Stage: proof.StageRewrite, Batches: g.holding(&j)}, openings: map[int64]evidence.Opening{}, notified: map[string]uint64{}}
	if j.Right == proof.Access {
		q.item.Stage, q.item.Material = proof.StageCollect, material(j.Request)
	}
	if change != nil {
		change(&q.item)
	}
	q.leaf(g, proof.Leaf{Event: proof.EventReceived, Actor: "person"})
	if q.item.Approval != "" && j.Origin != proof.ByRetention {
		sum := sha256.Sum256([]byte(q.item.Approval))
		q.leaf(g, proof.Leaf{Event: proof.EventApproved, Actor: "dpo", SHA256: hex.EncodeToString(sum[:])})
	}
	if j.Right == proof.Erasure {
		for _, id := range q.item.Batches {
			b := g.batches[id]
			b.wants[j.Request] = true
			if b.stage == proof.BatchDone {
				b.stage = proof.BatchRewrite
			}
		}
		if j.Origin != proof.ByRetention {
			q.leaf(g, proof.Leaf{Event: proof.EventSuppressed})
		}
		if len(j.Purposes) == 0 {
			q.leaf(g, proof.Leaf{Event: proof.EventSevered})
		}
	}
	g.requests = append(g.requests, q)
	g.advance(q)
	return q
}

func material(id string) []byte {
	return fmt.Appendf(nil, `{"v":1,"request":%q,"received":"2026-11-21T19:00:00Z","controller":{"Name":"Shop"},"purposes":[],"source":{},"consents":[],"requests":[],"kind":"device"}`, id)
}

// approve signs what the request asks for.
func (g *gateway) approve(item *proof.Item) {
	g.t.Helper()
	text, err := proof.Approve(item.Job, private(g.w.keys.Approval))
	if err != nil {
		g.t.Fatal(err)
	}
	item.Approval = text
}

func (q *request) leaf(g *gateway, l proof.Leaf) time.Time {
	j := &q.item.Job
	g.clock = g.clock.Add(time.Second)
	l.Request, l.Right, l.Origin, l.Time = j.Request, j.Right, j.Origin, g.clock
	if l.Actor == "" {
		l.Actor = "gateway"
	}
	if l.Event == proof.EventReceived {
		l.Time = j.Received
	}
	o, err := proof.NewLeaf(l)
	if err != nil {
		g.t.Fatal(err)
	}
	index := g.log.append(o)
	q.leaves, q.openings[index] = append(q.leaves, index), o
	return g.clock
}

// advance brings a request on where all of its batches are done. g.mu is held.
func (g *gateway) advance(q *request) {
	if q.item.Stage != proof.StageRewrite || q.finished {
		return
	}
	told := map[string]bool{}
	for _, id := range q.item.Batches {
		b := g.batches[id]
		if b.wants[q.item.Job.Request] {
			return
		}
		told[b.destination] = true
	}
	j := &q.item.Job
	f := &proof.Facts{}
	if j.Origin != proof.ByRetention {
		for _, w := range j.Destinations {
			if told[w.Destination] {
				number := g.streams[w.Destination].number
				q.leaf(g, proof.Leaf{Event: proof.EventNotified, Destination: w.Destination, Number: number})
				f.Recipients = append(f.Recipients, proof.Confirmation{Destination: w.Destination, Node: node, Number: number})
			}
		}
		q.leaf(g, proof.Leaf{Event: proof.EventSpoolGone})
	}
	q.leaf(g, proof.Leaf{Event: proof.EventPurged, Actor: "custodian"})
	for i := range f.Recipients {
		r := &f.Recipients[i]
		r.At, r.Confirmed = q.leaf(g, proof.Leaf{Event: proof.EventConfirmed, Destination: r.Destination, Number: r.Number}), true
	}
	for _, index := range q.leaves {
		l, err := proof.ParseLeaf(q.openings[index].Core)
		if err != nil {
			g.t.Fatal(err)
		}
		switch l.Event {
		case proof.EventReceived:
			f.Received = l.Time
		case proof.EventSuppressed:
			f.Suppressed = l.Time
		case proof.EventSevered:
			f.Severed = l.Time
		case proof.EventSpoolGone:
			f.SpoolGone = l.Time
		case proof.EventPurged:
			f.Purged = l.Time
		}
	}
	f.Evidence = g.log.prove(q.openings, q.leaves)
	q.item.Facts, q.item.Stage = f, proof.StageCertify
}

// publish states what was reported.
func (g *gateway) publish() {
	for _, id := range g.order {
		b := g.batches[id]
		if b.pending == nil {
			continue
		}
		b.replaced = b.entry
		b.entry, b.stated = g.enter(export.Entry{Destination: b.destination, Type: export.ReplaceEntry, Replace: b.pending})
		b.pending, b.stage = nil, proof.BatchPurge
	}
}

func (g *gateway) work() proof.Work {
	w := proof.Work{Node: node, Time: g.clock, Notices: g.notices, Journal: g.journals}
	asked := map[string]bool{}
	for _, q := range g.requests {
		if q.finished {
			continue
		}
		w.Items = append(w.Items, q.item)
		for _, id := range q.item.Batches {
			asked[id] = asked[id] || q.item.Stage != proof.StageCertify
		}
	}
	for _, id := range g.order {
		b := g.batches[id]
		if !asked[id] {
			continue
		}
		wb := proof.WorkBatch{ID: id, Entry: b.entry, Replaced: b.replaced, Stage: b.stage}
		for _, q := range g.requests {
			if b.wants[q.item.Job.Request] {
				wb.Items = append(wb.Items, q.item.Job.Request)
			}
		}
		w.Batches = append(w.Batches, wb)
	}
	if g.lie != nil {
		// A lie must not change what the gateway itself remembers.
		text, err := json.Marshal(w)
		if err == nil {
			w = proof.Work{}
			err = json.Unmarshal(text, &w)
		}
		if err != nil {
			g.t.Error(err)
		}
		g.lie(&w)
	}
	return w
}

// ServeHTTP is the private API.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<20))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	what := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	status, answer := g.serve(r, what, body)
	g.answers[fmt.Sprintf("%s %s %d", r.Method, what, status)]++
	if g.lose == what {
		g.lose = ""
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	if answer != nil {
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			g.t.Error(err)
		}
	}
}

func (g *gateway) serve(r *http.Request, what string, body []byte) (int, any) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/custody/"), "/")
	if r.Method == http.MethodGet && what == "work" {
		if !g.late {
			g.publish()
		}
		return http.StatusOK, g.work()
	}
	if len(parts) != 3 {
		return http.StatusNotFound, nil
	}
	var sent struct {
		Custodian, Report, Certificate, Code, Detail string
	}
	if what != "package" && json.Unmarshal(body, &sent) != nil {
		return http.StatusBadRequest, nil
	}
	if parts[0] == "requests" {
		for _, q := range g.requests {
			if q.item.Job.Request == parts[1] {
				return g.serveRequest(q, what, r, body, sweep.Reason{Code: sent.Code, Detail: sent.Detail}, sent.Certificate)
			}
		}
		return http.StatusNotFound, nil
	}
	if g.refuse != nil {
		if status := g.refuse(what, parts[1]); status != 0 {
			return status, nil
		}
	}
	b := g.batches[parts[1]]
	if b == nil {
		return http.StatusNotFound, nil
	}
	switch what {
	case "claim":
		return g.claim(b, sent.Custodian)
	case "rewritten":
		return g.rewritten(b, sent.Report)
	case "purged":
		return g.purged(b, sent.Report)
	case "failed":
		g.failed[b.id] = append(g.failed[b.id], sweep.Reason{Code: sent.Code, Detail: sent.Detail})
		return http.StatusNoContent, nil
	}
	return http.StatusNotFound, nil
}

func (g *gateway) serveRequest(q *request, what string, r *http.Request, body []byte, why sweep.Reason, certificate string) (int, any) {
	switch what {
	case "refused":
		g.refused[q.item.Job.Request] = append(g.refused[q.item.Job.Request], why)
		return http.StatusNoContent, nil
	case "package":
		c, err := proof.VerifyCollected(r.Header.Get("X-Octroi-Report"), public(g.w.keys.Custodian))
		sum := sha256.Sum256(body)
		if err != nil || q.finished || c.Request != q.item.Job.Request || c.SHA256 != hex.EncodeToString(sum[:]) || c.Size != int64(len(body)) {
			return http.StatusConflict, nil
		}
		q.pack, q.collected, q.finished = body, c, true
		return http.StatusNoContent, nil
	case "certificate":
		signer, err := g.w.keys.signer()
		if err != nil {
			g.t.Error(err)
		}
		c, err := proof.VerifyCertificate(certificate, public(g.w.keys.Custodian), signer.Verifier())
		if err != nil || q.item.Stage != proof.StageCertify || c.Request != q.item.Job.Request {
			g.t.Errorf("certificate: %v", err)
			return http.StatusConflict, nil
		}
		if q.certificate != "" && q.certificate != certificate {
			return http.StatusConflict, nil
		}
		q.certificate, q.finished = certificate, true
		return http.StatusNoContent, nil
	}
	return http.StatusNotFound, nil
}

func (g *gateway) claim(b *batch, custodian string) (int, any) {
	if g.claimed != nil {
		return http.StatusOK, g.claimed(b.id)
	}
	if b.stage != proof.BatchRewrite || b.holder != "" && b.holder != custodian && g.clock.Before(b.until) {
		return http.StatusConflict, map[string]any{"code": "claimed", "until": b.until}
	}
	b.claimed++
	b.holder, b.until = custodian, g.clock.Add(10*time.Minute)
	return http.StatusOK, sweep.Claim{Generation: b.claimed, Key: export.BatchKey(b.destination, node, start, b.first, b.last, b.claimed)}
}

// rewritten checks a report as the gateway must: it is the last one to look before the old object goes.
func (g *gateway) rewritten(b *batch, report string) (int, any) {
	if b.report == report {
		return http.StatusOK, map[string]any{"number": b.stated}
	}
	r, err := proof.VerifyRewrite(report, public(g.w.keys.Custodian))
	switch {
	case err != nil:
		g.t.Errorf("a report was sent that is none: %v", err)
		return http.StatusBadRequest, nil
	case b.stage != proof.BatchRewrite, r.Batch != b.id, r.Before != b.now.SHA256, r.Scanned != b.now.Rows, !r.Unchanged && r.Generation != b.claimed:
		return http.StatusConflict, nil
	}
	for request := range r.Cut {
		if !b.wants[request] {
			return http.StatusConflict, nil
		}
	}
	if r.Now != nil && !g.holds(b, &r) {
		return http.StatusConflict, nil
	}
	b.report, b.holder = report, ""
	if r.Unchanged {
		for request := range r.Cut {
			delete(b.wants, request)
		}
		if len(b.wants) == 0 {
			b.stage = proof.BatchDone
		}
	} else {
		b.pending = &export.Replace{Batch: b.id, Of: b.stated, Generation: r.Generation, Now: r.Now}
		b.now, b.generation, b.stage, b.cut = r.Now, r.Generation, proof.BatchPublish, slices.Collect(maps.Keys(r.Cut))
	}
	for _, q := range g.requests {
		g.advance(q)
	}
	return http.StatusOK, map[string]any{"number": b.stated + 1}
}

// holds reads the object that is reported.
func (g *gateway) holds(b *batch, r *proof.Rewrite) bool {
	now := r.Now
	if now.Key != export.BatchKey(b.destination, node, start, b.first, b.last, r.Generation) || !slices.Equal(now.Recipients, b.now.Recipients) {
		g.t.Errorf("batch %s: its new object has another name or other recipients", b.id)
		return false
	}
	o, err := g.w.store.Get(g.t.Context(), now.Key, now.Version)
	if err != nil {
		g.t.Errorf("batch %s: what is reported is not there: %v", b.id, err)
		return false
	}
	defer o.Close()
	h := sha256.New()
	n, err := io.Copy(h, o)
	return err == nil && n == now.Size && hex.EncodeToString(h.Sum(nil)) == now.SHA256
}

func (g *gateway) purged(b *batch, report string) (int, any) {
	r, err := proof.VerifyPurge(report, public(g.w.keys.Custodian))
	switch {
	case err != nil:
		g.t.Errorf("a purge was reported that is none: %v", err)
		return http.StatusBadRequest, nil
	case b.stage != proof.BatchPurge || r.Batch != b.id || b.now == nil != (r.Current == "") || b.now != nil && r.Current != b.now.Key:
		return http.StatusConflict, nil
	}
	for _, request := range b.cut {
		delete(b.wants, request)
	}
	if b.stage = proof.BatchDone; len(b.wants) > 0 && b.now != nil {
		b.stage = proof.BatchRewrite
	}
	for _, q := range g.requests {
		g.advance(q)
	}
	return http.StatusNoContent, nil
}

// evidenceLog is the gateway's log.
type evidenceLog struct {
	gateway *gateway
	size    int64
	stored  []tlog.Hash
}

// ReadHashes is tlog.HashReader.
func (l *evidenceLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		hashes[i] = l.stored[x]
	}
	return hashes, nil
}

func (l *evidenceLog) append(o evidence.Opening) int64 {
	hashes, err := tlog.StoredHashesForRecordHash(l.size, o.Leaf().Hash(), l)
	if err != nil {
		l.gateway.t.Fatal(err)
	}
	l.stored = append(l.stored, hashes...)
	l.size++
	return l.size - 1
}

func (l *evidenceLog) prove(of map[int64]evidence.Opening, order []int64) (facts []proof.Fact) {
	signer, err := l.gateway.w.keys.signer()
	if err != nil {
		l.gateway.t.Fatal(err)
	}
	root, err := tlog.TreeHash(l.size, l)
	if err != nil {
		l.gateway.t.Fatal(err)
	}
	head, err := signer.SignCheckpoint(l.size, root)
	if err != nil {
		l.gateway.t.Fatal(err)
	}
	for _, index := range order {
		hashes, err := tlog.ProveRecord(l.size, index, l)
		if err != nil {
			l.gateway.t.Fatal(err)
		}
		facts = append(facts, proof.Fact{Opening: of[index], Proof: evidence.Proof{Index: index, Size: l.size, Hashes: hashes, Checkpoint: head}})
	}
	return facts
}
