package rights

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export/rights/access"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// signIn joins a device to whoever has a card.
func (w *world) signIn(t testing.TB, device subject.Subject, card string) subject.Subject {
	t.Helper()
	w.forward(time.Second)
	l, err := w.ledger.Identify(t.Context(), consent.Identification{
		Site: testSite, Device: device, Persons: []subject.Identifier{loyalty(t, card)}, Method: "login_claim", Entity: "shop",
	})
	if err != nil {
		t.Fatal(err)
	}
	return l.Person
}

func (w *world) signOut(t testing.TB, device subject.Subject) {
	t.Helper()
	w.forward(time.Second)
	if _, err := w.ledger.Unlink(t.Context(), testSite, device, "shop"); err != nil {
		t.Fatal(err)
	}
}

// with are the pseudonyms beside which a request's job shows the rows of its device.
func (w *world) with(t testing.TB, id string) (all []string) {
	t.Helper()
	j, err := w.jobOf(w.row(t, id))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range j.Destinations {
		all = append(all, x.With...)
	}
	return all
}

func (w *world) pseudonyms(s subject.Subject) (all []string) {
	for _, name := range w.destinations {
		p := w.Requests.exits[name].Destination.Pseudonym(s)
		all = append(all, hex.EncodeToString(p[:]))
	}
	return all
}

// The job names whoever is signed in when it is asked for, and nobody else; what another asks for on the same device is another request.
func TestAccessIsOfWhoIsSignedIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, s := w.mint(t, policies.Linking)
	nobody := w.ask(t, proof.Access, s).ID
	anna := w.signIn(t, s, "anna")
	hers := w.ask(t, proof.Access, s).ID
	if again := w.ask(t, proof.Access, s).ID; hers == nobody || again != hers {
		t.Errorf("requests %s, %s, %s", nobody, hers, again)
	}
	bert := w.signIn(t, s, "bert")
	his := w.ask(t, proof.Access, s).ID
	w.signOut(t, s)
	if again := w.ask(t, proof.Access, s).ID; his == hers || again != nobody {
		t.Errorf("requests %s, %s, %s", hers, his, again)
	}
	for id, want := range map[string][]string{nobody: nil, hers: w.pseudonyms(anna), his: w.pseudonyms(bert)} {
		if got := w.with(t, id); !slices.Equal(got, want) {
			t.Errorf("beside %q, want %q", got, want)
		}
	}
	w.signIn(t, s, "anna")
	if q := w.ask(t, proof.Erasure, s, "audience"); len(w.with(t, q.ID)) != 0 {
		t.Error("an erasure is of the device alone")
	}
	q, _, err := w.submit(t.Context(), submission{right: proof.Access, origin: proof.ByDPO, actor: "token:officer", subject: anna})
	if err != nil || len(w.with(t, q.ID)) != 0 {
		t.Error("the access of a person needs nobody beside", err)
	}
}

// A package opens with the cookie only while the one is signed in who was when it was asked for; with the request's secret at any time.
func TestPackageOfWhoIsSignedIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := openDoor(t, w)
	c, s := w.mint(t, policies.Linking)
	w.pages(t, s, 1, "nobody")
	w.signIn(t, s, "anna")
	w.pages(t, s, 1, "anna")
	a := d.mine(c, "POST", "", map[string]any{"right": "access"}).want(t, 201)
	w.signIn(t, s, "bert")
	w.pages(t, s, 2, "bert")
	w.ship(t)
	w.end(t, &servant{w: w, name: "custodian-one"}, a.id())

	d.mine(c, "GET", "/"+a.id()+"/package", nil).want(t, 409, "code", "signed_out")
	w.signOut(t, s)
	d.mine(c, "GET", "/"+a.id()+"/package", nil).want(t, 409, "code", "signed_out")
	w.signIn(t, s, "anna")
	page := d.mine(c, "GET", "/"+a.id()+"/package?format=json", nil).want(t, 200)
	for part, want := range map[string]bool{"/p/nobody-0": true, "/p/anna-0": true, "/p/bert-0": false, "/p/bert-1": false} {
		if strings.Contains(page.text, part) != want {
			t.Errorf("%s: %t", part, !want)
		}
	}
	if begun, ended := strings.Count(page.text, `"since":`), strings.Count(page.text, `"until":`); begun != 2 || ended != 1 { // when it was made
		t.Errorf("%d links, of which %d have ended", begun, ended)
	}

	b := d.mine(c, "POST", "", map[string]any{"right": "access"}).want(t, 201)
	w.end(t, &servant{w: w, name: "custodian-one"}, b.id())
	w.signOut(t, s)
	secret, _ := b.json["secret"].(string)
	d.do("GET", d.public+"/v1/me/requests/"+b.id()+"/package?format=json", nil, "Authorization", "Bearer "+secret).want(t, 200)
}

// With a person goes what was made for them on a device: a package, and a request that is under way. The device's own requests stay.
func TestErasureEndsPackagesBeside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Notices = time.Minute })
	_, s := w.mint(t, policies.Linking)
	custody := &servant{w: w, name: "custodian-one"}
	w.pages(t, s, 1, "nobody")
	anna := w.signIn(t, s, "anna")
	w.pages(t, s, 1, "anna")
	w.ship(t)
	packed := w.end(t, custody, w.ask(t, proof.Access, s).ID)
	if packed.Package == nil {
		t.Fatalf("%+v", packed)
	}
	running := w.ask(t, proof.Access, s).ID
	w.pages(t, s, 1, "spooled")
	w.signOut(t, s)
	own := w.ask(t, proof.Access, s).ID
	if n := w.count(t, besideTable); n != 2 {
		t.Fatalf("%d accesses show what is Anna's", n)
	}

	if q := w.end(t, custody, w.ask(t, proof.Erasure, anna).ID); q.State != Completed {
		t.Fatalf("%+v", q)
	}
	for _, id := range []string{packed.ID, running} {
		if q := w.row(t, id); !q.State.Final() || q.Slot != 0 {
			t.Errorf("a request that shows what was Anna's: %s, slot %d", q.State, q.Slot)
		}
		if _, err := w.openPackage(t.Context(), id, person, ""); err == nil {
			t.Error("a package of hers still opens")
		}
	}
	if q := w.row(t, own); q.State == Cancelled {
		t.Error("the device's own request has ended")
	}
	if n := w.count(t, besideTable); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	files, err := os.ReadDir(w.o.Packages)
	if err != nil || slices.ContainsFunc(files, func(f os.DirEntry) bool { return strings.HasPrefix(f.Name(), packed.ID) }) {
		t.Error("her package is left:", files, err)
	}
	for _, row := range w.everyRow(t, "warehouse") {
		if row.Person != nil || row.DeviceSlot != 0 {
			t.Errorf("a row of hers is left: %+v", row)
		}
	}
	if n := len(w.everyRow(t, "warehouse")); n != 1 {
		t.Errorf("%d rows are left, want the one from before she signed in", n)
	}
}

// window is a journey window that keeps these rows, by subject.
type window struct {
	rows   map[subject.Slot][]pseudonymize.Row
	cursor uint64
	err    error
}

func (w window) Erase(*state.Txn, subject.Subject, []string) error { return nil }
func (w window) Cursor() uint64                                    { return w.cursor }
func (w window) FoldThrough(context.Context, uint64) error         { return nil }
func (w window) Window(s subject.Subject) ([]pseudonymize.Row, error) {
	return w.rows[s.Slot()], w.err
}

// A package waits for what the journey window has not yet folded.
func TestAccessAwaitsWindow(t *testing.T) {
	t.Parallel()
	own := new(window)
	w := newWorld(t, func(o *Options) { o.Journeys = own })
	_, s := w.mint(t)
	w.pages(t, s, 1, "mine")
	id := w.ask(t, proof.Access, s).ID
	for range 3 {
		w.Pass(t.Context())
		w.ship(t)
	}
	if q := w.row(t, id); q.Step != spooled {
		t.Fatalf("it did not wait: %s", q.Step)
	}
	own.cursor = w.spool.Tail()
	if q := w.end(t, &servant{w: w, name: "custodian-one"}, id); q.State != Completed {
		t.Errorf("%+v", q)
	}
}

// What the gateway's own journey window keeps is shown by the same rule, without anybody else's pseudonym, and without slots.
func TestWindowOfPackage(t *testing.T) {
	t.Parallel()
	own := new(window)
	w := newWorld(t, func(o *Options) { o.Journeys = own })
	_, s := w.mint(t, policies.Linking)
	bert, anna := w.signIn(t, s, "bert"), w.signIn(t, s, "anna")
	w.signIn(t, s, "bert") // a second time: his are counted once
	w.signIn(t, s, "anna")
	device := &[16]byte{0xd0}
	touch := func(id byte, p subject.Subject) pseudonymize.Row {
		row := pseudonymize.Row{
			EventID: [16]byte{id}, Type: "page_view", Device: device, DeviceSlot: s.Slot(), PersonSlot: p.Slot(),
			Grants: []pseudonymize.RowGrant{{Purpose: "audience", Version: 1, Basis: policies.Consent, Ref: [16]byte{7}, Slot: s.Slot()}},
		}
		if p.Exists() {
			row.Person = &[16]byte{byte(p.Slot())}
		}
		return row
	}
	elsewhere := touch(5, anna)
	elsewhere.DeviceSlot++
	own.rows = map[subject.Slot][]pseudonymize.Row{
		s.Slot(): {touch(1, subject.Subject{})}, anna.Slot(): {touch(2, anna), elsewhere}, bert.Slot(): {touch(3, bert), touch(4, bert)},
	}
	look := func(s subject.Subject) *access.Window {
		q, _, err := w.submit(t.Context(), submission{right: proof.Access, origin: proof.ByDPO, actor: "token:officer", subject: s})
		if err != nil {
			t.Fatal(err)
		}
		m, err := w.material(q, s)
		if err != nil || m.Window == nil {
			t.Fatal(m, err)
		}
		for _, row := range m.Window.Rows {
			if row.DeviceSlot != 0 || row.PersonSlot != 0 || row.Grants[0].Slot != 0 {
				t.Error("a slot leaves the gateway")
			}
		}
		return m.Window
	}
	if x := look(s); len(x.Rows) != 2 || x.Withheld != 2 || x.Rows[1].Person == nil || x.Rows[0].Grants[0].Ref == [16]byte{} {
		t.Errorf("of the device while Anna is signed in: %+v", x)
	}
	w.signOut(t, s)
	if x := look(s); len(x.Rows) != 1 || x.Withheld != 3 {
		t.Errorf("of the device: %+v", x)
	}
	if x := look(anna); len(x.Rows) != 2 || x.Withheld != 0 || x.Rows[0].Device != nil || x.Rows[0].Grants[0].Ref != [16]byte{} {
		t.Errorf("of Anna: %+v", x)
	}
	if kept := own.rows[anna.Slot()][0].Grants[0]; kept.Slot == 0 || kept.Ref == [16]byte{} {
		t.Error("the window's own rows were changed")
	}
	own.err = errors.New("the window is away")
	if _, err := w.material(w.ask(t, proof.Access, anna), anna); !errors.Is(err, own.err) {
		t.Errorf("a package without the window: %v", err)
	}
}
