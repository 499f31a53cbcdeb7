package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/octroi/octroi/cmd/internal/keyfile"
	"github.com/octroi/octroi/export/rights/proof"
)

const theRequest = "3f6b2a8e-1c4d-4e5f-8a9b-0c1d2e3f4a5b"

// gateway is the private API as an officer and an idle custodian meet it: one request of a job, and no work.
type gateway struct {
	t        testing.TB
	folder   string
	server   *httptest.Server
	recovery string // age recipient R of what is in the store

	mu   sync.Mutex
	got  []string // what was approved; guarded by mu
	lies string   // guarded by mu
}

func newGateway(t testing.TB, folder string) *gateway {
	g := &gateway{t: t, folder: folder}
	g.server = httptest.NewServer(g)
	t.Cleanup(g.server.Close)
	g.recovery = newCustodian(t, folder, g.server.URL)
	return g
}

// theJob is the job of the request.
func theJob() proof.Job {
	return proof.Job{
		Version: 1, Node: "n1", Request: theRequest, Right: proof.Erasure, Origin: proof.ByDPO, Received: time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC),
		Purposes: []string{"audience", "offers"},
		Destinations: []proof.Whose{
			{Destination: "accounting", Persons: []string{strings.Repeat("ab", 16)}},
			{Destination: "warehouse", Devices: []string{strings.Repeat("01", 16), strings.Repeat("02", 16)}},
		},
	}
}

// ServeHTTP answers strictly: what an honest program never sends fails the test.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	token := "dpo.token.text"
	if strings.HasPrefix(r.URL.Path, "/v1/custody/") {
		token = "custody.token.text"
	}
	if r.Header.Get("Authorization") != "Bearer "+token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	job := theJob()
	switch what := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/v1/"); {
	case g.lies == "redirect":
		http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
	case g.lies == "down":
		w.WriteHeader(http.StatusServiceUnavailable)
	case g.lies == "conflict" && r.Method == http.MethodPost:
		w.WriteHeader(http.StatusConflict)
		w.Write([]byte(`{"code":"transition","detail":"it is denied"}`))
	case what == "GET custody/work":
		g.answer(w, proof.Work{Node: "n1", Time: time.Now(), Items: []proof.Item{}, Batches: []proof.WorkBatch{}})
	case what == "GET rights/requests/"+theRequest+"/job":
		switch g.lies {
		case "other":
			job.Request = "9a6b2a8e-1c4d-4e5f-8a9b-0c1d2e3f4a5b"
		case "many":
			job.Destinations[0].Persons = make([]string, 100)
		}
		g.answer(w, job)
	case what == "GET rights/requests/"+theRequest && g.lies == "manage":
		w.WriteHeader(http.StatusForbidden)
	case what == "GET rights/requests/"+theRequest:
		w.Write([]byte(`{"id":"` + theRequest + `","state":"pending","due":"2026-12-21T18:00:00Z","days_left":30,"batches":7,"possible":[]}`))
	case what == "POST rights/requests/"+theRequest+"/approve", what == "POST rights/schedule":
		g.take(w, r, what)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (g *gateway) answer(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		g.t.Error(err)
	}
}

// take checks an approval as a gateway does.
func (g *gateway) take(w http.ResponseWriter, r *http.Request, what string) {
	key, err := keyfile.ReadPublic(filepath.Join(g.folder, "dpo/approval.key.pub"), "approval")
	if err != nil {
		g.t.Error(err)
	}
	var sent struct{ Approval, Schedule string }
	if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
		g.t.Error(err)
	}
	if strings.HasSuffix(what, "schedule") {
		s, err := proof.VerifySchedule(sent.Schedule, key)
		if err != nil || s.Node != "n1" {
			g.t.Errorf("the schedule: %+v, %v", s, err)
		}
		g.got = append(g.got, "schedule "+s.Retention["audience"])
		return
	}
	j, err := proof.VerifyApproval(sent.Approval, key)
	if job := theJob(); err != nil || !j.Same(&job) {
		g.t.Errorf("the approval: %+v, %v", j, err)
	}
	g.got = append(g.got, "approval "+j.Request)
	w.WriteHeader(http.StatusNoContent)
}

// got TEXT… says what the gateway was sent since the last time; without TEXT, nothing.
func got(ts *testscript.TestScript, neg bool, args []string) {
	g := ts.Value("gateway").(*gateway)
	g.mu.Lock()
	defer g.mu.Unlock()
	if have, want := strings.Join(g.got, ","), strings.Join(args, " "); have != want {
		ts.Fatalf("the gateway got %q, want %q", have, want)
	}
	g.got = nil
}

// lie WHAT makes the gateway a false one; "lie no" ends it.
func lie(ts *testscript.TestScript, neg bool, args []string) {
	g := ts.Value("gateway").(*gateway)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lies = args[0]
}
