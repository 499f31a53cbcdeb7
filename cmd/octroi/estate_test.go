package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
)

// estate is a site with everybody who has a part in a person's rights: the custodian, a loader for each destination, a till, an officer.
// Each is the real program with its own holder's folder.
type estate struct {
	*site
	till, officer string // tokens
}

func newEstate(t *testing.T, flags ...string) *estate {
	t.Helper()
	e := &estate{site: newSite(t, flags...)}
	e.edit("dir: spool", "dir: spool\n  segment_age: 1s", "notices: 24h", "notices: 1s")
	e.till = e.token("till", collector.TokenClaims{Scopes: []string{"events:write", "consent:write", "consent:import"}, Declare: []string{"service"}})
	e.officer = e.token("officer", collector.TokenClaims{Scopes: []string{"rights:manage", "rights:read", "admin"}})
	e.token("custody", collector.TokenClaims{Scopes: []string{"custody"}})
	for _, d := range destinations {
		e.token("load-"+d, collector.TokenClaims{Scopes: []string{"stream:" + d}})
	}
	e.custodian()
	return e
}

var destinations = []string{"warehouse", "accounting"}

// token writes a token of a holder into the estate's folder, and answers it.
func (e *estate) token(name string, claims collector.TokenClaims) string {
	e.t.Helper()
	return e.tokenUntil(name, claims, time.Now().Add(time.Hour))
}

func (e *estate) tokenUntil(name string, claims collector.TokenClaims, expires time.Time) string {
	e.t.Helper()
	k, err := ReadKeys(filepath.Join(e.dir, gatewayDir, "keys"))
	if err != nil {
		e.t.Fatal(err)
	}
	claims.Subject, claims.Expires = name, expires
	text, err := mintToken(k.Token, "n1", claims)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := os.WriteFile(e.tokenFile(name), []byte(text+"\n"), 0o600); err != nil {
		e.t.Fatal(err)
	}
	return text
}

func (e *estate) tokenFile(name string) string { return filepath.Join(e.dir, name+".token") }

// custodian makes the configuration that init wrote that of this site.
func (e *estate) custodian() {
	e.t.Helper()
	file := filepath.Join(e.dir, custodianDir, "custodian.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		e.t.Fatal(err)
	}
	text := strings.NewReplacer(
		"127.0.0.1:8081", e.private, "directory: ../objects", fmt.Sprintf("s3:\n    endpoint: %s\n    bucket: %s\n    credentials: %s", e.s3.Proxy.Endpoint, e.s3.Bucket, e.s3.Credentials),
		"token: custody.token", "token: "+e.tokenFile("custody"),
	).Replace(string(b))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// sweep is one pass of the custodian; what it says of failures is told by err.
func (e *estate) sweep() (string, error) {
	out, err := exec.Command(filepath.Join(binaries, "octroi-custodian"), "sweep", "--config", filepath.Join(e.dir, custodianDir, "custodian.yaml")).CombinedOutput()
	return string(out), err
}

// load loads what each destination's stream has, and acknowledges.
func (e *estate) load() {
	e.t.Helper()
	for _, d := range destinations {
		w := filepath.Join(e.dir, warehouseDir, d)
		run(e.t, "octroi-load", "once", "--from", "s3://"+e.s3.Bucket, "--s3-endpoint", e.s3.Endpoint, "--s3-credentials", e.s3.Credentials,
			"--destination", d, "--identity", filepath.Join(w, "identity.txt"), "--gateway-key", filepath.Join(w, "signing.key.pub"),
			"--into", e.loaded(d), "--format", "ndjson", "--ack-url", "http://"+e.private, "--ack-token-file", e.tokenFile("load-"+d))
	}
}

func (e *estate) loaded(destination string) string {
	return filepath.Join(e.dir, "loaded", destination)
}

// rows are the loaded rows of a destination by event id.
func (e *estate) rows(destination string) map[string]string {
	e.t.Helper()
	rows := map[string]string{}
	paths, err := filepath.Glob(filepath.Join(e.loaded(destination), "events", "*", "*", "*.ndjson"))
	if err != nil {
		e.t.Fatal(err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			e.t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			var row struct {
				ID string `json:"event_id"`
			}
			if err := json.Unmarshal(line, &row); err != nil {
				e.t.Fatal(err)
			}
			rows[row.ID] = string(line)
		}
	}
	return rows
}

// ask is a request to either listener by a token or the visitor's cookie.
func (e *estate) ask(method, address, bearer string, body any, want int) []byte {
	e.t.Helper()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			e.t.Fatal(err)
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://"+address, in)
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	switch {
	case bearer != "":
		req.Header.Set("Authorization", "Bearer "+bearer)
	case e.cookie != nil:
		req.AddCookie(e.cookie)
		req.Header.Set("Origin", "http://"+e.public)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		e.t.Fatalf("%s %s answered %s, want %d: %s", method, address, resp.Status, want, answer)
	}
	return answer
}

// asked is what is said of a request.
type asked struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Result string `json:"result"`
	Secret string `json:"secret"`
	Due    string `json:"due"`
}

func (e *estate) asked(answer []byte) (a asked) {
	e.t.Helper()
	if err := json.Unmarshal(answer, &a); err != nil {
		e.t.Fatalf("%v: %s", err, answer)
	}
	return a
}

// mine asks for a right with the visitor's cookie.
func (e *estate) mine(right string) asked {
	e.t.Helper()
	return e.asked(e.ask(http.MethodPost, e.public+"/v1/me/requests?k=demo", "", map[string]any{"right": right}, http.StatusCreated))
}

// ofPerson asks for a right as the officer, who verifies who it is and signs with the approval key.
func (e *estate) ofPerson(right string, who map[string]string) asked {
	e.t.Helper()
	a := e.asked(e.ask(http.MethodPost, e.private+"/v1/rights/requests", e.officer, map[string]any{"right": right, "subject": who, "language": "fr"}, http.StatusCreated))
	e.ask(http.MethodPost, e.private+"/v1/rights/requests/"+a.ID+"/verify", e.officer, map[string]any{}, http.StatusOK)
	run(e.t, "octroi-custodian", "approve", "--url", "http://"+e.private, "--token-file", e.tokenFile("officer"),
		"--key", filepath.Join(e.dir, dpoDir, "approval.key"), "--yes", "--confirm", a.ID[:8], a.ID)
	return a
}

func (e *estate) state(id string) string {
	e.t.Helper()
	return e.asked(e.ask(http.MethodGet, e.private+"/v1/rights/requests/"+id, e.officer, nil, http.StatusOK)).State
}

// carryOut lets custodian and loaders work until the requests are completed.
func (e *estate) carryOut(ids ...string) {
	e.t.Helper()
	last := ""
	for began := time.Now(); time.Since(began) < 90*time.Second; time.Sleep(300 * time.Millisecond) {
		if !slices.ContainsFunc(ids, func(id string) bool { return e.state(id) != "completed" }) {
			return
		}
		last, _ = e.sweep()
		e.load()
	}
	for _, id := range ids {
		e.t.Logf("%s", e.ask(http.MethodGet, e.private+"/v1/rights/requests/"+id, e.officer, nil, http.StatusOK))
	}
	log, _ := os.ReadFile(filepath.Join(e.dir, "gateway.log"))
	e.t.Fatalf("not completed; the custodian's last words:\n%s\nthe gateway's:\n%s", last, log[max(0, len(log)-4000):])
}

// sell sends a purchase at the till.
func (e *estate) sell(id, campaign string, who map[string]string, at time.Time) {
	e.t.Helper()
	answer := e.ask(http.MethodPost, e.public+"/v1/events?k=demo", e.till, map[string]any{
		"id": id, "type": "store_purchase", "time": at.UTC().Format(time.RFC3339Nano), "subject": who,
		"fields": map[string]any{"value": map[string]string{"amount": "12.30", "currency": "EUR"}, "campaign": campaign, "product": campaign},
	}, http.StatusAccepted)
	if !bytes.Contains(answer, []byte(`"accepted":1`)) {
		e.t.Fatalf("not accepted: %s", answer)
	}
}

// archived are the rows of every version of every batch object in the bucket, by event id, opened with E. Each version is also opened with
// every other key that is left, and must hold the same.
func (e *estate) archived(destination string) map[string]pseudonymize.Row {
	e.t.Helper()
	rows := map[string]pseudonymize.Row{}
	for _, v := range e.s3.Versions(destination + "/events/") {
		if v.Marker {
			e.t.Errorf("%s has a delete marker", v.Key)
			continue
		}
		object := e.object(v.Key, v.Version)
		for _, holder := range []string{
			filepath.Join(custodianDir, "identity.txt"), filepath.Join(warehouseDir, destination, "identity.txt"), filepath.Join(offlineDir, "identity.txt"),
		} {
			for _, r := range e.open(holder, object) {
				rows[fmt.Sprintf("%x", r.EventID)] = r
			}
		}
	}
	return rows
}

func (e *estate) open(identity string, object []byte) (rows []pseudonymize.Row) {
	e.t.Helper()
	text, err := os.ReadFile(filepath.Join(e.dir, identity))
	if err != nil {
		e.t.Fatal(err)
	}
	ids, err := export.ParseIdentities(text)
	if err != nil {
		e.t.Fatal(err)
	}
	plain, err := export.Unseal(bytes.NewReader(object), ids)
	if err != nil {
		e.t.Fatal(err)
	}
	b, err := io.ReadAll(plain)
	if err != nil {
		e.t.Fatal(err)
	}
	err = export.DecodeRows(bytes.NewReader(b), int64(len(b)), func(part []pseudonymize.Row) error {
		rows = append(rows, slices.Clone(part)...)
		return nil
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return rows
}

// object reads one version of an object.
func (e *estate) object(key, version string) []byte {
	e.t.Helper()
	store, err := export.OpenS3(e.s3.Options())
	if err != nil {
		e.t.Fatal(err)
	}
	r, err := store.Get(context.Background(), key, version)
	if err != nil {
		e.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		e.t.Fatal(err)
	}
	return b
}

// requestBy waits for a request of an origin, and answers its id.
func (e *estate) requestBy(origin string) string {
	e.t.Helper()
	var list struct {
		Requests []struct{ ID, Origin string }
	}
	for range 100 {
		if err := json.Unmarshal(e.ask(http.MethodGet, e.private+"/v1/rights/requests", e.officer, nil, http.StatusOK), &list); err != nil {
			e.t.Fatal(err)
		}
		for _, r := range list.Requests {
			if r.Origin == origin {
				return r.ID
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	e.t.Fatalf("no request by %s", origin)
	return ""
}
