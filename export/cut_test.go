package export

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// cutPurposes are purposes of one destination: two that rest on the device where there is one, one on the person, one on nobody. Each field
// has keep, one treatment beside it, and drop among them.
var cutPurposes = map[string]string{
	"audience": "basis: consent\nvalidity: P6M\nminimum_proof: asserted\nfields: {page: url_path, net: truncate_ip, agent: ua_family, campaign: keep, value: keep, own_audience: keep, score: round, order: pseudonymise, receipt: pseudonymise}",
	"quality":  "basis: consent\nvalidity: P6M\nminimum_proof: asserted\nfields: {page: keep, net: truncate_ip, agent: drop, campaign: keep, source: keep, own_quality: keep, score: keep, order: pseudonymise}",
	"service":  "basis: contract\nfields: {page: url_path, net: keep, agent: keep, medium: keep, value: keep, own_service: keep, receipt: keep}",
	"fraud":    "basis: legitimate_interest\nassessment: LIA-1\nsubject: none\nfields: {page: url_path, agent: ua_family, own_fraud: keep}",
	"linking":  "basis: consent\nvalidity: P6M\nminimum_proof: asserted",
}

// gate is a real ledger with two device-level subjects who consented to everything, of which one is linked, and a person under the contract: to
// whom it is linked.
type gate struct {
	policy                 *policies.Policy
	ledger                 *consent.Ledger
	device, linked, person subject.Subject
	destination            *pseudonymize.Destination
	now                    time.Time
}

func openGate(t testing.TB) *gate {
	t.Helper()
	files := fstest.MapFS{"events.yaml": {Data: []byte("event_types:\n  purchase: {channel: web, stage: purchase}\n  page_view: {channel: web, stage: awareness}\n")}}
	for id, text := range cutPurposes {
		types := "purchase, page_view"
		switch id {
		case policies.Linking:
			types = ""
		case "fraud": // which nobody can take from a row
			types = "purchase"
		}
		files[id+".yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, "purpose: %s\nversion: 1\ntitle: {en: %[1]s}\n"+
			"notice: {url: \"https://shop.example/privacy\", text: {en: \"For %[1]s.\"}}\nretention: P13M\nevent_types: [%s]\n"+
			"recipients: [{destination: lake, name: Shop SA, country: FR, role: controller}]\n%s\n", id, types, text)}
	}
	g := &gate{now: time.Now()}
	var err error
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	g.policy, err = policies.Load(files)
	check(err)
	st, err := state.Open(state.Options{Dir: t.TempDir(), Key: key(1)})
	check(err)
	t.Cleanup(func() { _ = st.Close() })
	subjects, err := subject.OpenRegistry(subject.Options{State: st, SlotFile: filepath.Join(t.TempDir(), "slots"), LookupKey: key(2)})
	check(err)
	t.Cleanup(func() { _ = subjects.Close() })
	signer, err := evidence.NewSigner("octroi/test", ed25519.NewKeyFromSeed(key(8)))
	check(err)
	g.ledger, err = consent.Open(consent.Options{State: st, Subjects: subjects, Policy: g.policy, SnapshotKey: key(3), Receipts: testSigner, Checkpoints: signer})
	check(err)
	for _, device := range []*subject.Subject{&g.device, &g.linked} {
		r, err := g.ledger.Record(t.Context(), consent.Choice{
			Site: testSite, Who: consent.Who{Mint: true}, Purposes: map[string]bool{"audience": true, "quality": true, "linking": true},
			Method: "banner", Language: "en", Entity: "shop",
		})
		check(err)
		*device, err = subjects.Device(*r.Minted)
		check(err)
	}
	card, err := subject.Normalise("loyalty", "4711", "FR")
	check(err)
	g.person, err = g.ledger.Declare(t.Context(), consent.Declaration{
		Site: testSite, Persons: []subject.Identifier{card}, Purposes: []string{"service"}, Entity: "till",
	})
	check(err)
	_, err = g.ledger.Identify(t.Context(), consent.Identification{
		Site: testSite, Device: g.linked, Persons: []subject.Identifier{card}, Method: "login_claim", Entity: "shop",
	})
	check(err)
	g.destination, err = pseudonymize.NewDestination("lake", slices.Collect(maps.Keys(cutPurposes)), key(5))
	check(err)
	return g
}

// owner is whose an event is.
type owner string

// drawOwner draws a purchase of the device, the person, both as a back-end names them, the linked device, or nobody; or a view of the linked device.
func drawOwner(r *rapid.T) owner {
	return rapid.SampledFrom([]owner{"device", "person", "device and person", "linked device", "linked device's view", "nobody"}).Draw(r, "owner")
}

func (o owner) is(whose string) bool { return strings.Contains(string(o), whose) }

// event is one of its owner.
func (g *gate) event(t testing.TB, o owner, fields ...pseudonymize.Field) pseudonymize.Event {
	t.Helper()
	name := "purchase"
	if o.is("view") {
		name = "page_view"
	}
	typ, _ := g.policy.EventType(name)
	at := g.now.Add(time.Minute)
	q := consent.Query{Type: typ, Time: at, Received: at, Imported: true}
	switch {
	case o.is("linked"):
		q.Device = g.linked
	case o.is("device"):
		q.Device = g.device
	}
	if o.is("person") {
		q.Person = g.person
	}
	grants, refusal, err := g.ledger.Check(&q)
	if err != nil || !grants.Valid() {
		t.Fatalf("refused: %v %v", refusal, err)
	}
	e, err := pseudonymize.Apply(&grants, &pseudonymize.Touchpoint{
		ID: "e1", Site: "shop", Time: at, Received: at, Fields: fields, Value: pseudonymize.Money{Minor: 1230, Currency: "EUR"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (g *gate) project(t testing.TB, e *pseudonymize.Event) pseudonymize.Row {
	t.Helper()
	row, ok := g.destination.Project(e)
	if !ok {
		t.Fatal("no row")
	}
	return row
}

// cutOf takes purposes from the gate's devices, person, or all.
func (g *gate) cutOf(device, person bool, purposes ...string) Cut {
	c := Cut{Devices: map[[16]byte]bool{}, Persons: map[[16]byte]bool{}, Rules: g.rules()}
	if device {
		c.Devices[g.destination.Pseudonym(g.device)] = true
		c.Devices[g.destination.Pseudonym(g.linked)] = true
	}
	if person {
		c.Persons[g.destination.Pseudonym(g.person)] = true
	}
	for _, p := range purposes {
		if c.Purposes == nil {
			c.Purposes = map[string]bool{}
		}
		c.Purposes[p] = true
	}
	return c
}

func (g *gate) rules() PurposeRules {
	rules := PurposeRules{}
	for id := range cutPurposes {
		p, _ := g.policy.Purpose(id)
		rules[id] = p.Fields
	}
	return rules
}

func drawFields(r *rapid.T) (fields []pseudonymize.Field) {
	texts := rapid.OneOf(
		rapid.SampledFrom([]string{
			"https://shop.example/p?q=1", "/p?q=secret", "203.0.113.77", "2001:db8::1", "Mozilla/5.0 SamsungBrowser/28.0 Chrome/130.0 Safari/537.36", "Edg/1", "4.65", "-1234", "A-1001", "p1:00112233445566778899aabbccddeeff",
		}), rapid.StringN(0, 20, 60))
	for _, name := range []string{"page", "net", "agent", "campaign", "source", "medium", "own_audience", "own_quality", "own_service", "own_fraud", "unnamed", "score", "order"} {
		if rapid.Bool().Draw(r, name) {
			fields = append(fields, pseudonymize.Field{Name: name, Text: texts.Draw(r, name+" text")})
		}
	}
	return fields
}

func drawPurposes(r *rapid.T, label string) []string {
	return rapid.SliceOfDistinct(rapid.SampledFrom([]string{"audience", "quality", "service", "fraud", "linking", "unknown"}), rapid.ID[string]).Draw(r, label)
}

// The invariant of `on_withdrawal: erase`: to cut a purpose from a row that was shipped gives the row that is made of the event without it.
func TestCutIsTheRowWithoutThePurpose(t *testing.T) {
	g := openGate(t)
	rapid.Check(t, func(r *rapid.T) {
		e := g.event(t, drawOwner(r), drawFields(r)...)
		ofDevice, ofPerson := rapid.Bool().Draw(r, "of the device"), rapid.Bool().Draw(r, "of the person")
		purposes := append(drawPurposes(r, "purposes"), "none of these") // never empty: that would be the whole row
		cut := g.cutOf(ofDevice, ofPerson, purposes...)
		row := g.project(t, &e)
		id := row.EventID

		without, left := e.Without(func(slot subject.Slot, purpose string, _ uint64) bool {
			whose := ofDevice && (slot == g.device.Slot() || slot == g.linked.Slot()) || ofPerson && slot == g.person.Slot()
			return whose && slices.Contains(purposes, purpose)
		})
		keep, changed := cut.Row(&row)
		if keep != left {
			r.Fatalf("keep is %v", keep)
		}
		if !keep {
			return
		}
		want := g.project(t, &without)
		want.EventID = id // what the loader knows the row by stays
		if !reflect.DeepEqual(row, want) {
			r.Fatalf("cut: %+v\nwant %+v", row, want)
		}
		whole := g.project(t, &e)
		if changed == reflect.DeepEqual(row, whole) {
			r.Fatalf("changed is %v", changed)
		}
	})
}

// What one purpose kept as it was cannot be pseudonymised for another when the first one goes: nobody who cuts has a key. It goes too.
func TestCutOfWhatWouldNeedAKey(t *testing.T) {
	g := openGate(t)
	receipt := pseudonymize.Field{Name: "receipt", Text: "R-1"}
	e := g.event(t, "device and person", receipt)
	row, cut := g.project(t, &e), g.cutOf(false, true, "service")
	if row.Properties["receipt"] != "R-1" {
		t.Fatalf("the row reads %v", row.Properties)
	}
	if keep, _ := cut.Row(&row); !keep || row.Properties["receipt"] != "" || len(row.Grants) != 3 {
		t.Errorf("kept %v: %+v", keep, row)
	}
	e = g.event(t, "device", receipt)
	row, cut = g.project(t, &e), g.cutOf(true, false, "quality")
	before := row.Properties["receipt"]
	if keep, changed := cut.Row(&row); !keep || !changed || !pseudonymize.Pseudonymised(before) || row.Properties["receipt"] != before {
		t.Errorf("%q became %q", before, row.Properties["receipt"])
	}
}

// What each of both takes from a linked device's row, and what is left of it.
func TestCutOfLinkedRow(t *testing.T) {
	g := openGate(t)
	for _, x := range []struct {
		owner            owner
		device, person   bool
		purposes         []string
		left             string
		deviceIs, linked bool
	}{
		{"linked device", true, false, []string{"linking"}, "audience fraud quality", true, false},
		{"linked device", false, true, []string{"linking"}, "audience fraud quality", true, false},
		{"linked device", true, false, []string{"audience"}, "fraud linking quality", true, true},
		{"linked device", false, true, []string{"audience"}, "fraud linking quality", true, true},
		{"linked device", true, false, []string{"audience", "quality"}, "fraud", false, false},
		{"linked device", false, true, []string{"audience", "quality"}, "fraud", false, false},
		{"linked device", true, true, []string{"audience", "linking"}, "fraud quality", true, false},
		{"linked device", false, true, nil, "", false, false},
		{"linked device", true, false, nil, "", false, false},
		{"linked device's view", true, false, []string{"audience", "quality"}, "", false, false},
		{"linked device's view", false, true, []string{"audience", "quality"}, "", false, false},
		{"linked device's view", false, true, []string{"quality"}, "audience linking", true, true},
		{"device and person", false, true, []string{"audience", "quality"}, "audience fraud quality service", true, false}, // the device's, who is not linked
	} {
		e := g.event(t, x.owner)
		row := g.project(t, &e)
		cut := g.cutOf(x.device, x.person, x.purposes...)
		keep, _ := cut.Row(&row)
		if x.purposes != nil {
			_, left := e.Without(func(slot subject.Slot, purpose string, _ uint64) bool {
				whose := x.device && (slot == g.device.Slot() || slot == g.linked.Slot()) || x.person && slot == g.person.Slot()
				return whose && slices.Contains(x.purposes, purpose)
			})
			if left != keep {
				t.Errorf("%+v: kept %v, at the seal %v", x, keep, left)
			}
		}
		var left []string
		for i := range row.Grants {
			left = append(left, row.Grants[i].Purpose)
		}
		slices.Sort(left)
		switch {
		case keep != (x.left != ""):
			t.Errorf("%+v: kept %v", x, keep)
		case !keep:
		case strings.Join(left, " ") != x.left, (row.Device != nil) != x.deviceIs, row.Linked() != x.linked,
			(row.Person != nil) != (x.linked || slices.Contains(left, "service")):
			t.Errorf("%+v: left is %q, device %v, person %v", x, left, row.Device, row.Person)
		}
	}
}

// Retention takes a purpose from whoever's row, and only from rows received before its time.
func TestCutOfRetention(t *testing.T) {
	g := openGate(t)
	rapid.Check(t, func(r *rapid.T) {
		e := g.event(t, drawOwner(r), drawFields(r)...)
		row := g.project(t, &e)
		whole := g.project(t, &e)
		cut := Cut{Rules: g.rules(), Expired: map[string]time.Time{}}
		var over []string
		for _, p := range drawPurposes(r, "purposes") {
			after := rapid.SampledFrom([]time.Duration{-time.Hour, 0, time.Millisecond, time.Hour}).Draw(r, p)
			cut.Expired[p] = row.ReceivedAt.Add(after)
			if after > 0 {
				over = append(over, p)
			}
		}
		keep, changed := cut.Row(&row)
		has := func(rg pseudonymize.RowGrant) bool { return slices.Contains(over, rg.Purpose) }
		if !keep {
			if slices.ContainsFunc(whole.Grants, func(rg pseudonymize.RowGrant) bool { return !has(rg) && rg.Purpose != policies.Linking }) {
				r.Fatal("a row with a purpose that is not over is gone")
			}
			return
		}
		if (row.Person != nil && !slices.ContainsFunc(row.Grants, func(rg pseudonymize.RowGrant) bool { return rg.Purpose == "service" })) != row.Linked() {
			r.Fatalf("linked %v, left is %+v", row.Linked(), row)
		}
		if slices.ContainsFunc(row.Grants, has) || changed != slices.ContainsFunc(whole.Grants, has) {
			r.Fatalf("over are %q, left is %+v, changed %v", over, row.Grants, changed)
		}
		for name := range row.Properties {
			for _, p := range over {
				if name == "own_"+p {
					r.Fatalf("a field of %q is left", p)
				}
			}
		}
	})
}

// cutRow draws rows of a few pseudonyms and purposes, as another gateway's policy may have made them.
func cutRow(r *rapid.T) pseudonymize.Row {
	pseudonym := func(label string) *[16]byte {
		if n := rapid.IntRange(0, 3).Draw(r, label); n > 0 {
			return &[16]byte{byte(n)}
		}
		return nil
	}
	row := pseudonymize.Row{
		EventID: [16]byte{9}, Type: "purchase", Site: "shop", ReceivedAt: testStart.Add(time.Duration(rapid.IntRange(-1, 1).Draw(r, "received")) * time.Hour),
		Device: pseudonym("device"), Person: pseudonym("person"),
		Campaign: rapid.SampledFrom([]string{"", "spring"}).Draw(r, "campaign"), Value: pseudonymize.Money{Minor: 5, Currency: "EUR"},
		Properties: map[string]string{},
	}
	for _, p := range drawPurposes(r, "grants") {
		basis := policies.Consent
		if p != policies.Linking {
			basis = rapid.SampledFrom([]policies.Basis{policies.Consent, policies.Contract}).Draw(r, p)
		}
		row.Grants = append(row.Grants, pseudonymize.RowGrant{Purpose: p, Version: 1, Basis: basis, Ref: [16]byte{byte(rapid.IntRange(0, 1).Draw(r, "reference"))}})
	}
	for _, f := range drawFields(r) {
		if f.Text != "" {
			row.Properties[f.Name] = f.Text
		}
	}
	return row
}

func anyCut(r *rapid.T, rules PurposeRules) Cut {
	set := func(label string) map[[16]byte]bool {
		out := map[[16]byte]bool{}
		for _, n := range rapid.SliceOfN(rapid.IntRange(1, 3), 0, 2).Draw(r, label) {
			out[[16]byte{byte(n)}] = true
		}
		return out
	}
	c := Cut{Devices: set("devices"), Persons: set("persons"), Rules: rules, Expired: map[string]time.Time{}}
	if rapid.Bool().Draw(r, "some purposes") {
		c.Purposes = map[string]bool{}
		for _, p := range drawPurposes(r, "purposes") {
			c.Purposes[p] = true
		}
	}
	for _, p := range drawPurposes(r, "expired") {
		c.Expired[p] = testStart
	}
	return c
}

func cloneRow(row *pseudonymize.Row) pseudonymize.Row {
	out := *row
	out.Grants, out.Properties = slices.Clone(row.Grants), maps.Clone(row.Properties)
	return out
}

func cutRows(rows []pseudonymize.Row, cuts ...Cut) (kept []pseudonymize.Row) {
	for i := range rows {
		row, keep := cloneRow(&rows[i]), true
		for j := range cuts {
			if keep {
				keep, _ = cuts[j].Row(&row)
			}
		}
		if keep {
			kept = append(kept, row)
		}
	}
	return kept
}

// What a cut does to any rows: it leaves the others as they were, nothing of whom it names, and can be repeated.
func TestCutOfAnyRows(t *testing.T) {
	g := openGate(t)
	rapid.Check(t, func(r *rapid.T) {
		rows := rapid.SliceOfN(rapid.Custom(cutRow), 1, 8).Draw(r, "rows")
		cut := anyCut(r, g.rules())
		for i := range rows {
			before, row := cloneRow(&rows[i]), cloneRow(&rows[i])
			keep, changed := cut.Row(&row)
			if !changed && (!keep || !reflect.DeepEqual(row, before)) {
				r.Fatalf("said to be unchanged: %+v\nbecame %+v, kept %v", before, row, keep)
			}
			if keep && len(row.Grants) == 0 {
				r.Fatal("a row without a grant is kept")
			}
			named := before.Device != nil && cut.Devices[*before.Device] || before.Person != nil && cut.Persons[*before.Person]
			if named && cut.Purposes == nil && keep {
				r.Fatal("a row of whom it names is left")
			}
			over := slices.ContainsFunc(before.Grants, func(rg pseudonymize.RowGrant) bool { return before.ReceivedAt.Before(cut.Expired[rg.Purpose]) })
			if changed && !named && !over && len(before.Grants) > 0 {
				r.Fatalf("another's row %+v\nbecame %+v", before, row)
			}
		}
		once := cutRows(rows, cut)
		if twice := cutRows(once, cut); !reflect.DeepEqual(once, twice) {
			r.Fatalf("once: %+v\ntwice: %+v", once, twice)
		}
	})
}

// A cut of linking comes after the others. Where it came before, a row has what it would have, and perhaps more: nothing that the other order lacks
// and has something else in its place, which a loader would take for a row that came back.
func TestLinkingIsCutLast(t *testing.T) {
	g := openGate(t)
	rapid.Check(t, func(r *rapid.T) {
		rows := rapid.SliceOfN(rapid.Custom(cutRow), 1, 8).Draw(r, "rows")
		a, b := anyCut(r, g.rules()), anyCut(r, g.rules())
		delete(a.Purposes, policies.Linking)
		delete(a.Expired, policies.Linking)
		if b.Purposes == nil {
			b.Purposes = map[string]bool{}
		}
		b.Purposes[policies.Linking] = true
		if a.Purposes == nil {
			a.Purposes = map[string]bool{}
		}
		for i := range rows {
			last, first := cutRows(rows[i:i+1], a, b), cutRows(rows[i:i+1], b, a)
			if len(last) == 0 {
				continue
			}
			if len(first) == 0 {
				r.Fatalf("gone in one order, in the other %+v", last[0])
			}
			for _, grant := range last[0].Grants {
				if !slices.Contains(first[0].Grants, grant) {
					r.Fatalf("last: %+v\nfirst: %+v", last[0], first[0])
				}
			}
		}
	})
}

// Subjects may be cut together or one after another, and cuts of purposes, but for linking, or of whole rows, in any order.
func TestCutsAdd(t *testing.T) {
	g := openGate(t)
	rapid.Check(t, func(r *rapid.T) {
		rows := rapid.SliceOfN(rapid.Custom(cutRow), 1, 8).Draw(r, "rows")
		for i := range rows { // as they were shipped: treated as their purposes allow
			g.rules().retreat(&rows[i])
		}
		a, b := anyCut(r, g.rules()), anyCut(r, g.rules())
		if a.Purposes == nil || b.Purposes == nil {
			a.Purposes, b.Purposes, a.Expired, b.Expired = nil, nil, nil, nil
		}
		for _, c := range []*Cut{&a, &b} {
			delete(c.Purposes, policies.Linking)
			delete(c.Expired, policies.Linking)
		}
		if ab, ba := cutRows(rows, a, b), cutRows(rows, b, a); !reflect.DeepEqual(ab, ba) {
			r.Fatalf("one way: %+v\nthe other: %+v", ab, ba)
		}
		b.Purposes = a.Purposes
		both := a
		both.Devices, both.Persons, both.Expired = maps.Clone(a.Devices), maps.Clone(a.Persons), maps.Clone(a.Expired)
		maps.Copy(both.Devices, b.Devices)
		maps.Copy(both.Persons, b.Persons)
		if a.Purposes != nil {
			maps.Copy(both.Expired, b.Expired)
		}
		if one, two := cutRows(rows, both), cutRows(rows, a, b); !reflect.DeepEqual(one, two) {
			r.Fatalf("together: %+v\none after another: %+v", one, two)
		}
	})
}

func TestCutOfNotice(t *testing.T) {
	p := [16]byte{1, 2, 0xab}
	text := hex.EncodeToString(p[:])
	rules := PurposeRules{"service": {"value": policies.Keep}}
	c, err := CutOf(Notice{Version: 1, Devices: []string{text}, Purposes: []string{"audience"}, Rules: rules})
	want := Cut{Devices: map[[16]byte]bool{p: true}, Persons: map[[16]byte]bool{}, Purposes: map[string]bool{"audience": true}, Rules: rules}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, %v", c, err)
	}
	if c, err = CutOf(Notice{Version: 1, Persons: []string{text}}); err != nil || c.Purposes != nil || !c.Persons[p] {
		t.Errorf("whole rows: %+v, %v", c, err)
	}
	for name, n := range map[string]Notice{
		"nobody":     {Version: 1},
		"version":    {Version: 2, Devices: []string{text}},
		"short":      {Version: 1, Devices: []string{text[:30]}},
		"long":       {Version: 1, Devices: []string{text + "00"}},
		"upper case": {Version: 1, Persons: []string{"AB" + text[2:]}},
		"no hex":     {Version: 1, Persons: []string{"xy" + text[2:]}},
		"purpose":    {Version: 1, Persons: []string{text}, Purposes: []string{""}},
	} {
		if _, err := CutOf(n); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
