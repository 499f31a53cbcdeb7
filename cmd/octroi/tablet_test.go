package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/export/journey"
	"github.com/octroi/octroi/export/rights/access"
	"github.com/octroi/octroi/policies"
)

// claim is what the shop's back-end signs of who has signed in.
func (e *estate) claim(who map[string]string) map[string]string {
	e.t.Helper()
	key, err := readLoginKey(filepath.Join(e.dir, siteDir, loginKeyFile))
	if err != nil {
		e.t.Fatal(err)
	}
	now := time.Now()
	claim, err := collector.MakeClaim(collector.LoginClaim{
		Site: "shop", Node: "n1", Identifiers: who, ID: uuid.NewString(), Issued: now, Expires: now.Add(time.Minute),
	}, key)
	if err != nil {
		e.t.Fatal(err)
	}
	return map[string]string{"claim": claim}
}

// signIn is a login on the shop, whose page hands the claim on.
func (e *estate) signIn(who map[string]string) {
	e.t.Helper()
	if answer := string(e.post("/v1/identify?k=demo", e.claim(who))); !strings.Contains(answer, `"linked":true`) {
		e.t.Fatalf("not linked: %s", answer)
	}
}

func (e *estate) signOut() {
	e.t.Helper()
	e.ask(http.MethodDelete, e.public+"/v1/identify?k=demo", "", nil, http.StatusOK)
}

// loadedRow is a row of the warehouse, as far as this test looks into it.
type loadedRow struct {
	Campaign, Device, Person string
	Grants                   []struct{ Purpose string }
}

// byCampaign are the warehouse's rows.
func (e *estate) byCampaign() map[string]loadedRow {
	e.t.Helper()
	rows := map[string]loadedRow{}
	for _, text := range e.rows("warehouse") {
		var r loadedRow
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			e.t.Fatal(err)
		}
		rows[r.Campaign] = r
	}
	return rows
}

// shown is what a package tells of the rows of a destination.
func (e *estate) shown(text, destination string) (campaigns []string, withheld int) {
	e.t.Helper()
	var data struct {
		Destinations []struct {
			Destination string
			Withheld    int
			Events      []struct{ Campaign string }
		}
	}
	if err := json.Unmarshal([]byte(text), &data); err != nil {
		e.t.Fatal(err)
	}
	for _, d := range data.Destinations {
		if d.Destination != destination {
			continue
		}
		withheld = d.Withheld
		for _, x := range d.Events {
			campaigns = append(campaigns, x.Campaign)
		}
	}
	slices.Sort(campaigns)
	return campaigns, withheld
}

// wantShown holds a package against the campaigns that it is to show and the rows that it is to withhold, and answers its page.
func (e *estate) wantShown(name string, archive []byte, withheld int, campaigns ...string) (page string) {
	e.t.Helper()
	for _, destination := range []string{"warehouse", journey.Destination} {
		got, held := e.shown(unzip(e.t, archive, access.DataFile), destination)
		if !slices.Equal(got, campaigns) || held != withheld {
			e.t.Errorf("%s of %s: %q are shown and %d withheld, want %q and %d", destination, name, got, held, campaigns, withheld)
		}
	}
	return unzip(e.t, archive, access.PageFile)
}

// The family tablet: one browser, of which Anna and Bert each sign in and out. What is received carries whoever is signed in, and nobody before or
// after; an access shows each their own and says what it withholds; an erasure of one leaves the other's rows as they were; and without linking
// the device's rows carry nobody. Every program is the real one.
func TestFamilyTablet(t *testing.T) {
	t.Parallel()
	anna, bert := map[string]string{"user": "anna", "loyalty": "A-1"}, map[string]string{"user": "bert"}
	e := newEstate(t, "--login")
	e.start()
	e.consent(policies.Linking)
	e.view("none-1", "none-2")
	e.signIn(anna)
	e.view("anna-1")
	e.post("/v1/events?k=demo", map[string]any{
		"id": "anna-2", "type": "purchase", "fields": map[string]any{"campaign": "anna-2", "value": map[string]string{"amount": "12.30", "currency": "EUR"}},
	})
	e.signIn(bert)
	e.view("bert-1", "bert-2")
	whileBert := e.mine("access")
	e.signOut()
	e.view("none-3")
	whileNobody := e.mine("access")
	e.shipped(7)
	e.tabletRows()

	ofAnna, ofBert := e.ofPerson("access", map[string]string{"loyalty": "A-1"}), e.ofPerson("access", bert)
	e.carryOut(whileBert.ID, whileNobody.ID, ofAnna.ID, ofBert.ID)
	e.tabletPackages(whileBert, whileNobody, ofAnna, ofBert, bert)

	before := e.rows("warehouse")
	e.carryOut(e.ofPerson("erasure", anna).ID)
	maps.DeleteFunc(before, func(_, row string) bool { return strings.Contains(row, `"anna-`) })
	e.same("warehouse", e.rows("warehouse"), before)
	if left := e.archived("warehouse"); len(left) != len(before) || len(before) != 5 {
		t.Errorf("the archive holds %d rows, the warehouse is to hold %d", len(left), len(before))
	}

	e.post("/v1/consents/withdraw", map[string]any{"k": "demo", "purposes": []string{policies.Linking}})
	e.carryOut(e.requestBy("withdrawal"))
	for id, row := range before {
		before[id] = unlinkedRow(t, row)
	}
	after := e.rows("warehouse")
	for id, row := range after {
		after[id] = canonicalRow(t, row)
	}
	e.same("warehouse", after, before)
	e.ask(http.MethodPost, e.public+"/v1/identify?k=demo", "", e.claim(bert), http.StatusConflict)
	e.view("none-4")
	e.shipped(6)
	if row := e.byCampaign()["none-4"]; row.Device == "" || row.Person != "" {
		t.Errorf("after the withdrawal: %+v", row)
	}

	e.carryOut(e.mine("erasure").ID)
	if rows := e.rows("warehouse"); len(rows) != 0 || len(e.archived("warehouse")) != 0 {
		t.Errorf("the tablet is erased, and %d of its rows are left", len(rows))
	}
}

// tabletRows: none, Anna, Bert, none; one device throughout.
func (e *estate) tabletRows() {
	e.t.Helper()
	rows := e.byCampaign()
	anna, bert, device := rows["anna-1"].Person, rows["bert-1"].Person, rows["none-1"].Device
	if anna == "" || bert == "" || anna == bert || device == "" {
		e.t.Fatalf("Anna is %q, Bert %q, the device %q", anna, bert, device)
	}
	for campaign, person := range map[string]string{
		"none-1": "", "none-2": "", "anna-1": anna, "anna-2": anna, "bert-1": bert, "bert-2": bert, "none-3": "",
	} {
		row, loaded := rows[campaign]
		linked := slices.ContainsFunc(row.Grants, func(g struct{ Purpose string }) bool { return g.Purpose == policies.Linking })
		if !loaded || row.Device != device || row.Person != person || linked != (person != "") {
			e.t.Errorf("%s: %+v, want device %s and person %q", campaign, row, device, person)
		}
	}
}

func (e *estate) tabletPackages(whileBert, whileNobody, ofAnna, ofBert asked, bert map[string]string) {
	e.t.Helper()
	officer := func(a asked) []byte {
		return e.ask(http.MethodGet, e.private+"/v1/rights/requests/"+a.ID+"/package?format=zip", e.officer, nil, http.StatusOK)
	}
	own := func(a asked, want int) []byte {
		return e.ask(http.MethodGet, e.public+"/v1/me/requests/"+a.ID+"/package?k=demo&format=zip", "", nil, want)
	}
	e.wantShown("Anna", officer(ofAnna), 0, "anna-1", "anna-2")
	e.wantShown("Bert", officer(ofBert), 0, "bert-1", "bert-2")
	page := e.wantShown("the tablet", own(whileNobody, http.StatusOK), 4, "none-1", "none-2", "none-3")
	for _, sentence := range []string{"4 événements de ce navigateur ne sont pas montrés", "4 events of this browser are not shown"} {
		if !strings.Contains(page, sentence) {
			e.t.Errorf("the page does not say %q", sentence)
		}
	}
	for _, other := range []string{"anna-", "bert-"} {
		if strings.Contains(page, other) {
			e.t.Errorf("the page shows %q", other)
		}
	}
	own(whileBert, http.StatusConflict) // he has signed out: whoever holds the tablet now may be somebody else
	e.signIn(bert)
	got, withheld := e.shown(unzip(e.t, own(whileBert, http.StatusOK), access.DataFile), "warehouse")
	got = slices.DeleteFunc(got, func(c string) bool { return c == "none-3" }) // after he asked: it is there where it was sealed before the package
	if want := []string{"bert-1", "bert-2", "none-1", "none-2"}; !slices.Equal(got, want) || withheld != 2 {
		e.t.Errorf("the tablet while Bert is signed in: %q are shown and %d withheld, want %q and 2", got, withheld, want)
	}
}

// unlinkedRow is a row without what linking adds to it: its grant, and the person.
func unlinkedRow(t *testing.T, text string) string {
	t.Helper()
	row := decodeRow(t, text)
	delete(row, "person")
	grants, _ := row["grants"].([]any)
	row["grants"] = slices.DeleteFunc(grants, func(g any) bool { return g.(map[string]any)["purpose"] == policies.Linking })
	return encodeRow(t, row)
}

// canonicalRow is a row with its columns in one order, and without those that are empty.
func canonicalRow(t *testing.T, text string) string { return encodeRow(t, decodeRow(t, text)) }

func decodeRow(t *testing.T, text string) (row map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &row); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(row, func(_ string, v any) bool { return v == nil })
	return row
}

func encodeRow(t *testing.T, row map[string]any) string {
	t.Helper()
	text, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
