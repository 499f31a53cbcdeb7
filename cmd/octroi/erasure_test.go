package main

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/collector"
)

// canaries are what only the erased persons' events and identifiers hold.
var canaries = []string{"canary-path", "canary-campaign", "canary-product", "CANARY-CARD", "canary.anna"}

// visit sends page views of the visitor, with canaries or without.
func (e *estate) visit(n int, campaign string) {
	e.t.Helper()
	for i := range n {
		e.post("/v1/events?k=demo", map[string]any{
			"id": fmt.Sprintf("%s-%d", campaign, i), "type": "product_view",
			"fields": map[string]any{"url": "https://shop.example/" + strings.Replace(campaign, "campaign", "path", 1), "campaign": campaign, "product": campaign},
		})
	}
}

// shipped waits until both destinations have loaded that many rows in all.
func (e *estate) shipped(want int) {
	e.t.Helper()
	for range 100 {
		e.load()
		if len(e.rows("warehouse"))+len(e.rows("accounting")) >= want {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	e.t.Fatalf("%d rows are loaded, want %d", len(e.rows("warehouse"))+len(e.rows("accounting")), want)
}

// pseudonyms are those of the rows that hold a canary.
func pseudonyms(rows map[string]string) (found []string) {
	for _, row := range rows {
		var r struct{ Device, Person string }
		if strings.Contains(row, "canary") && json.Unmarshal([]byte(row), &r) == nil {
			for _, p := range []string{r.Device, r.Person} {
				if p != "" && !slices.Contains(found, p) {
					found = append(found, p)
				}
			}
		}
	}
	return found
}

// without are the rows that hold no canary.
func without(rows map[string]string) map[string]string {
	out := map[string]string{}
	for id, row := range rows {
		if !strings.Contains(row, "canary") {
			out[id] = row
		}
	}
	return out
}

// The canary test of rights.md: unique values of two subjects, one a browser, one a customer with a card, across channels and destinations;
// both are erased; nothing that anybody holds shows any of it, with every key that is left, and others' rows have equal values.
func TestErasureReachesEverything(t *testing.T) {
	t.Parallel()
	e := newEstate(t)
	e.start()
	anna := map[string]string{"loyalty": "CANARY-CARD-1", "email": "canary.anna@example.org"}
	e.consent()
	browser := e.cookie
	e.visit(3, "canary-campaign")
	e.sell("canary-sale-1", "canary-product", anna, time.Now())
	for i := range 4 {
		e.sell(fmt.Sprintf("sale-%d", i), "product", map[string]string{"loyalty": fmt.Sprintf("card-%d", i)}, time.Now())
	}
	e.cookie = nil
	e.consent()
	e.visit(2, "spring-campaign")
	e.shipped(10)
	backup := e.backup()
	e.sell("canary-sale-2", "canary-product", anna, time.Now())
	e.shipped(11)

	before := map[string]map[string]string{"warehouse": e.rows("warehouse"), "accounting": e.rows("accounting")}
	needles := canaries
	for _, d := range destinations {
		found := pseudonyms(before[d])
		if len(found) != 1 {
			t.Fatalf("%s: %d pseudonyms of the subject", d, len(found))
		}
		needles = append(needles, found...)
	}
	other := e.cookie
	e.cookie = browser
	mine := e.mine("erasure")
	theirs := e.ofPerson("erasure", anna)
	e.carryOut(mine.ID, theirs.ID)

	for _, d := range destinations {
		e.same(d, e.rows(d), without(before[d]))
		if archived := e.archived(d); len(archived) != len(without(before[d])) {
			t.Errorf("%s: the archive holds %d rows, want %d", d, len(archived), len(without(before[d])))
		}
	}
	e.certified(mine.ID, theirs.ID)
	e.comesNot(anna, browser)
	e.stop()
	e.nowhere(needles)
	e.fromBackup(backup, anna, needles)
	e.cookie = other
	if answer := e.post("/v1/events?k=demo", map[string]any{"id": "after", "type": "page_view"}); !bytes.Contains(answer, []byte(`"accepted":1`)) {
		t.Errorf("the other visitor is not known any more: %s", answer)
	}
}

// same holds loaded rows against what they must be.
func (e *estate) same(destination string, got, want map[string]string) {
	e.t.Helper()
	if len(got) != len(want) {
		e.t.Errorf("%s: %d rows are loaded, want %d", destination, len(got), len(want))
	}
	for id, row := range want {
		if got[id] != row {
			e.t.Errorf("%s: another's row changed from %s to %s", destination, row, got[id])
		}
	}
}

// certified checks each certificate offline, and that one changed byte anywhere in it is seen.
func (e *estate) certified(ids ...string) {
	e.t.Helper()
	for _, id := range ids {
		text := e.ask(http.MethodGet, e.private+"/v1/rights/requests/"+id+"/certificate", e.officer, nil, http.StatusOK)
		file := filepath.Join(e.t.TempDir(), "certificate.jwt")
		verify := func(text []byte) ([]byte, error) {
			if err := os.WriteFile(file, text, 0o600); err != nil {
				e.t.Fatal(err)
			}
			return exec.Command(filepath.Join(binaries, "octroi"), "verify", "certificate", file, "--key", filepath.Join(e.dir, dpoDir, "log.key.pub"),
				"--custodian-key", filepath.Join(e.dir, dpoDir, "custodian.key.pub")).CombinedOutput()
		}
		if out, err := verify(text); err != nil {
			e.t.Errorf("certificate of %s: %v\n%s", id, err, out)
		}
		for _, at := range []int{len(text) / 3, len(text) / 2, len(text) - 20} {
			forged := bytes.Clone(text)
			if forged[at] = 'A'; text[at] == 'A' {
				forged[at] = 'B'
			}
			if out, err := verify(forged); err == nil {
				e.t.Errorf("a certificate with another byte %d is taken:\n%s", at, out)
			}
		}
	}
}

// comesNot: neither the old cookie nor last night's import brings an erased subject back; what happens later makes a new one.
func (e *estate) comesNot(anna map[string]string, browser *http.Cookie) {
	e.t.Helper()
	e.cookie = browser
	if answer := e.post("/v1/events?k=demo", map[string]any{"id": "canary-late", "type": "page_view"}); !bytes.Contains(answer, []byte(`"accepted":0`)) {
		e.t.Errorf("the old cookie still counts: %s", answer)
	}
	if answer := e.ask(http.MethodPost, e.public+"/v1/me/requests?k=demo", "", map[string]any{"right": "access"}, http.StatusOK); e.asked(answer).Result != "no_match" {
		e.t.Errorf("the old cookie is somebody's: %s", answer)
	}
	event := map[string]any{
		"id": "canary-import", "type": "store_purchase", "time": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "subject": anna,
		"fields": map[string]any{"product": "canary-product"},
	}
	if answer := e.ask(http.MethodPost, e.public+"/v1/events?k=demo", e.till, event, http.StatusAccepted); !bytes.Contains(answer, []byte(`"reason":"erased"`)) {
		e.t.Errorf("an import brought the person back: %s", answer)
	}
	choice := map[string]any{
		"subject": anna, "purposes": map[string]bool{"audience": false}, "method": "import", "source": "crm",
		"given_at": time.Now().Add(-24 * time.Hour).UTC().Format(time.RFC3339), "site": "shop",
	}
	e.ask(http.MethodPost, e.public+"/v1/consents?k=demo", e.till, choice, http.StatusUnprocessableEntity)
}

// nowhere looks for the needles in every file of every holder, and in every row of the state with its key.
func (e *estate) nowhere(needles []string) {
	e.t.Helper()
	var raw [][]byte
	for _, n := range needles {
		raw = append(raw, []byte(n))
	}
	search(e.t, e.dir, raw)
	k, err := ReadKeys(filepath.Join(e.dir, gatewayDir, "keys"))
	if err != nil {
		e.t.Fatal(err)
	}
	searchRows(e.t, filepath.Join(e.dir, gatewayDir, "state"), k.State, raw, nil)
}

// backup takes both parts, as an operator does.
func (e *estate) backup() string {
	e.t.Helper()
	into := e.t.TempDir()
	e.token("backup", collector.TokenClaims{Scopes: []string{"backup"}})
	for _, part := range [][]string{nil, {"--slots"}} {
		run(e.t, "octroi", append([]string{"backup", "--url", "http://" + e.private, "--token-file", e.tokenFile("backup"), "--into", into}, part...)...)
	}
	return into
}

// fromBackup replaces state and slots by what they were before the erasure: the erased stay erased, and the gateway goes on.
func (e *estate) fromBackup(backup string, anna map[string]string, needles []string) {
	e.t.Helper()
	for _, lost := range []string{"state", "slots"} {
		if err := os.RemoveAll(filepath.Join(e.dir, gatewayDir, lost)); err != nil {
			e.t.Fatal(err)
		}
	}
	name := func(part string) string {
		found, err := filepath.Glob(filepath.Join(backup, "*-"+part+".zst.age"))
		if err != nil || len(found) != 1 {
			e.t.Fatalf("backups of %s: %v (%v)", part, found, err)
		}
		return found[0]
	}
	run(e.t, "octroi", "restore", "--config", filepath.Join(e.dir, gatewayDir, "octroi.yaml"), "--identity", filepath.Join(e.dir, offlineDir, "identity.txt"),
		"--state", name("state"), "--slots", name("slots"))
	e.start()
	answer := e.ask(http.MethodPost, e.private+"/v1/rights/requests", e.officer, map[string]any{"right": "access", "subject": anna}, http.StatusOK)
	if e.asked(answer).Result != "no_match" {
		e.t.Errorf("the backup brought the person back: %s", answer)
	}
	rows := len(e.rows("accounting"))
	e.sell("after-restore", "product", map[string]string{"loyalty": "card-0"}, time.Now())
	for range 100 {
		if e.load(); len(e.rows("accounting")) == rows+1 {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if got := len(e.rows("accounting")); got != rows+1 {
		e.t.Errorf("after the restore %d rows are loaded, want %d", got, rows+1)
	}
	e.stop()
	e.nowhere(needles)
	e.start()
}

// Access shows everything that was received under a cookie, and nothing of anybody else; it opens once, by whom it is of.
func TestAccessShowsWhatIsOnesOwn(t *testing.T) {
	t.Parallel()
	e := newEstate(t)
	e.start()
	e.consent()
	e.visit(3, "mine-campaign")
	mine := e.cookie
	e.cookie = nil
	e.consent()
	e.visit(2, "others-campaign")
	other := e.cookie
	bert := map[string]string{"loyalty": "card-bert"}
	e.sell("sale-bert", "bert-product", bert, time.Now())
	e.sell("sale-cleo", "cleo-product", map[string]string{"loyalty": "card-cleo"}, time.Now())
	e.shipped(7)

	e.cookie = mine
	asked := e.mine("access")
	officer := e.ofPerson("access", bert)
	e.carryOut(asked.ID, officer.ID)

	e.cookie = other
	e.ask(http.MethodGet, e.public+"/v1/me/requests/"+asked.ID+"/package?k=demo", "", nil, http.StatusNotFound)
	e.ask(http.MethodGet, e.public+"/v1/me/requests/"+asked.ID+"?k=demo", "", nil, http.StatusNotFound)
	e.cookie = nil
	e.ask(http.MethodGet, e.public+"/v1/me/requests/"+asked.ID+"/package?k=demo", "", nil, http.StatusNotFound)
	e.cookie = mine
	page := e.ask(http.MethodGet, e.public+"/v1/me/requests/"+asked.ID+"/package?k=demo", "", nil, http.StatusOK)
	if n := bytes.Count(page, []byte("shop.example/mine-path")); n < 3 || bytes.Contains(page, []byte("others-")) || bytes.Contains(page, []byte("-product")) {
		t.Errorf("the page shows %d of 3 rows, or another's", n)
	}
	e.ask(http.MethodGet, e.public+"/v1/me/requests/"+asked.ID+"/package?k=demo", "", nil, http.StatusGone)

	sealed := e.ask(http.MethodGet, e.private+"/v1/rights/requests/"+officer.ID+"/package?format=zip", e.officer, nil, http.StatusOK)
	rows := unzip(t, sealed, "events.csv")
	if !strings.Contains(rows, "bert-product") || strings.Contains(rows, "cleo") || strings.Contains(rows, "campaign-") {
		t.Errorf("the officer's package holds\n%s", rows)
	}
}

func unzip(t *testing.T, archive []byte, name string) string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := z.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := new(bytes.Buffer)
	if _, err := b.ReadFrom(f); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A withdrawal of a purpose that erases reaches what was shipped and loaded (GDPR Art. 17(1)(b)), and what is agreed to afterwards stays.
func TestWithdrawalErases(t *testing.T) {
	t.Parallel()
	e := newEstate(t)
	e.start()
	e.consent()
	e.visit(3, "before-campaign")
	e.shipped(3)
	e.post("/v1/consents/withdraw", map[string]any{"k": "demo"})
	e.consent()
	e.visit(2, "after-campaign")
	id := e.requestBy("withdrawal")
	e.carryOut(id)
	e.shipped(2)
	for range 50 {
		if e.load(); len(e.rows("warehouse")) == 2 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	for id, row := range e.rows("warehouse") {
		if !strings.Contains(row, "after-campaign") {
			t.Errorf("row %s is still loaded: %s", id, row)
		}
	}
	if n := len(e.archived("warehouse")); n != 2 {
		t.Errorf("the archive holds %d rows, want 2", n)
	}
}
