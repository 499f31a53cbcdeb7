//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/export/load/pgtest"
)

// estate is an installation whose programs all run: the gateway, the custodian, and a loader that follows into a database.
type estate struct {
	t                     *testing.T
	data, public, private string
	server                *pgtest.Server
}

func newEstate(t *testing.T) *estate {
	e := &estate{t: t, data: filepath.Join(t.TempDir(), "data"), public: freeAddress(t), private: freeAddress(t), server: pgtest.Start(t)}
	command(t, binary(t, "octroi"), "init", "--dir", e.data, "--site-key", "demo", "--origin", "http://"+e.public, "--interval", "200ms")
	config := e.change("gateway/octroi.yaml", "127.0.0.1:8080", e.public, "127.0.0.1:8081", e.private, "notices: 24h", "notices: 1s",
		"dir: spool", "dir: spool\n  segment_age: 1s")
	e.run("octroi", "serve", "--config", config)
	awaitReady(t, e.private)
	custody := e.token("custodian", "custody")
	e.run("octroi-custodian", "run", "--config",
		e.change("custodian/custodian.yaml", "127.0.0.1:8081", e.private, "poll: 5s", "poll: 200ms", "token: custody.token", "token: "+custody))
	folder := filepath.Join(e.data, "warehouse", "warehouse")
	dsn := filepath.Join(e.data, "dsn")
	e.write(dsn, e.server.DSN+"\n")
	e.run("octroi-load", "follow", "--from", filepath.Join(e.data, "objects"), "--destination", "warehouse", "--identity", filepath.Join(folder, "identity.txt"),
		"--gateway-key", filepath.Join(folder, "signing.key.pub"), "--into-postgres", dsn, "--poll", "200ms",
		"--ack-url", "http://"+e.private, "--ack-token-file", e.token("loader", "stream:warehouse"))
	return e
}

func (e *estate) write(path, text string) {
	e.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// change replaces pairs of text in a configuration, and answers its path.
func (e *estate) change(name string, pairs ...string) string {
	e.t.Helper()
	path := filepath.Join(e.data, filepath.FromSlash(name))
	b, err := os.ReadFile(path)
	if err != nil {
		e.t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(b), pairs[i]) {
			e.t.Fatalf("%s does not hold %q", name, pairs[i])
		}
	}
	e.write(path, strings.NewReplacer(pairs...).Replace(string(b)))
	return path
}

// run starts a program that runs until the test ends.
func (e *estate) run(program string, args ...string) {
	e.t.Helper()
	c := exec.Command(binary(e.t, program), args...)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
}

// token is the file of an access token.
func (e *estate) token(name, scopes string) string {
	e.t.Helper()
	path := filepath.Join(e.data, name+".token")
	e.write(path, string(command(e.t, binary(e.t, "octroi"), "token", "--config", filepath.Join(e.data, "gateway", "octroi.yaml"), "--name", name, "--scope", scopes)))
	return path
}

// visitor is a browser that has consented.
func (e *estate) visitor() *http.Client {
	e.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		e.t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	resp, err := browser.Get("http://" + e.public + "/v1/notice?k=demo&language=fr")
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	var notice struct{ Snapshot string }
	if err := json.NewDecoder(resp.Body).Decode(&notice); err != nil {
		e.t.Fatal(err)
	}
	post(e.t, browser, "http://"+e.public, "/v1/consents", http.StatusCreated,
		map[string]any{"k": "demo", "snapshot": notice.Snapshot, "purposes": map[string]bool{"audience": true}})
	return browser
}

func (e *estate) view(browser *http.Client, campaign string, n int) {
	e.t.Helper()
	for i := range n {
		post(e.t, browser, "http://"+e.public, "/v1/events?k=demo", http.StatusAccepted, map[string]any{
			"id": fmt.Sprintf("%s-%d", campaign, i), "type": "product_view",
			"fields": map[string]any{"url": "https://shop.example/" + campaign, "campaign": campaign, "product": campaign},
		})
	}
}

// rows are the loaded rows, as they stand in the database, in the order of their text.
func (e *estate) rows() (all []string) {
	e.t.Helper()
	text := e.server.SQL("SET timezone = 'UTC'; SELECT to_jsonb(e) FROM octroi.events e")
	for line := range strings.Lines(text) {
		all = append(all, strings.TrimSpace(line))
	}
	slices.Sort(all)
	return all
}

// await waits until so many rows are loaded.
func (e *estate) await(rows int) []string {
	e.t.Helper()
	for range 300 {
		if e.server.SQL("SELECT count(*) FROM pg_tables WHERE schemaname = 'octroi' AND tablename = 'events'") == "1" {
			if all := e.rows(); len(all) == rows {
				return all
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	e.t.Fatalf("not %d rows: %v", rows, e.rows())
	return nil
}

// dump is everything that the database holds, as its own program writes it out.
func (e *estate) dump() string {
	e.t.Helper()
	programs, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_dump")
	if err != nil || len(programs) == 0 {
		e.t.Fatal("no pg_dump in /usr/lib/postgresql: apt-get install postgresql")
	}
	return string(command(e.t, slices.Max(programs), e.server.DSN))
}

// completed waits until the only request is.
func (e *estate) completed() {
	e.t.Helper()
	token, err := os.ReadFile(e.token("officer", "rights:read"))
	if err != nil {
		e.t.Fatal(err)
	}
	var list struct{ Requests []struct{ State string } }
	for range 300 {
		req, err := http.NewRequest(http.MethodGet, "http://"+e.private+"/v1/rights/requests", nil)
		if err != nil {
			e.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			e.t.Fatal(err)
		}
		err = json.NewDecoder(resp.Body).Decode(&list)
		_ = resp.Body.Close()
		if err != nil || len(list.Requests) != 1 {
			e.t.Fatalf("%d requests (%v)", len(list.Requests), err)
		}
		if list.Requests[0].State == "completed" {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	e.t.Fatalf("the request is %s", list.Requests[0].State)
}

// The canary test of rights.md over PostgreSQL: who is erased is in no table of the database any more, and everybody else's rows are as they were.
func TestErasureReachesPostgreSQL(t *testing.T) {
	e := newEstate(t)
	erased, other := e.visitor(), e.visitor()
	e.view(erased, "canary", 3)
	e.view(other, "spring", 2)
	e.await(5)
	e.view(other, "summer", 2) // in another batch
	e.view(erased, "canary-late", 1)
	before := e.await(8)
	var others []string
	needles := []string{"canary"}
	for _, row := range before {
		if !strings.Contains(row, "canary") {
			others = append(others, row)
			continue
		}
		var r struct{ Device string }
		if err := json.Unmarshal([]byte(row), &r); err != nil || len(r.Device) < 32 {
			t.Fatalf("a row without a pseudonym: %s (%v)", row, err)
		}
		if pseudonym := strings.TrimPrefix(r.Device, `\x`); !slices.Contains(needles, pseudonym) {
			needles = append(needles, pseudonym)
		}
	}
	dump := e.dump()
	for _, n := range needles {
		if !strings.Contains(dump, n) {
			t.Fatalf("the database did not hold %q, so that its absence would prove nothing", n)
		}
	}

	post(t, erased, "http://"+e.public, "/v1/me/requests", http.StatusCreated, map[string]string{"k": "demo", "right": "erasure"})
	e.completed()
	if got := e.rows(); !slices.Equal(got, others) {
		t.Errorf("the others' rows are\n%s\nand were\n%s", strings.Join(got, "\n"), strings.Join(others, "\n"))
	}
	dump = e.dump()
	for _, n := range needles {
		if strings.Contains(dump, n) {
			t.Errorf("the database still holds %q", n)
		}
	}
}
