package sweep_test

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/octroi/octroi/export/rights/access"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize"
)

// under is a row of a device while a person was signed in there.
func under(destination string, n uint64, device, person int) pseudonymize.Row {
	row, p := rowsOf(destination, n, device)[0], subject(destination, person)
	row.Person = &p
	return row
}

// data is package.json, as far as these tests look at it.
type data struct {
	text         string
	Destinations []struct {
		Destination string
		Withheld    int
		Events      []struct{ Device, Person string }
	}
}

func readData(t *testing.T, pack []byte) (d data) {
	t.Helper()
	f, err := access.Open(bytes.NewReader(pack), int64(len(pack)), access.DataFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil || json.Unmarshal(text, &d) != nil {
		t.Fatal(err, string(text))
	}
	d.text = string(text)
	return d
}

// A tablet of a family: an access of the device shows what names nobody and what is of whoever is signed in, and says how much it withholds; an
// access of a person shows what is theirs, on whatever device, and nothing of the device.
func TestAccessOfSharedDevice(t *testing.T) {
	const tablet, phone, anna, bert = 1, 2, -10, -11
	w := newWorld(t, nil)
	g := w.gateway
	g.more = []pseudonymize.Row{
		under("warehouse", 71, tablet, anna), under("warehouse", 72, tablet, bert), under("warehouse", 73, tablet, bert), under("warehouse", 74, phone, anna),
	}
	b := g.ship("warehouse", tablet, phone, anna, bert)
	whole := func(change func(*proof.Job)) func(*proof.Item) {
		return func(item *proof.Item) {
			change(&item.Job)
			item.Batches = []string{b.id}
			g.approve(item)
		}
	}
	signedIn := func(n int) func(*proof.Job) {
		return func(j *proof.Job) {
			for i := range j.Destinations {
				j.Destinations[i].With = []string{pseudonym(j.Destinations[i].Destination, n)}
			}
		}
	}
	nobody := func(*proof.Job) {}
	type want struct {
		events, withheld int
		devices, persons string // that the events show
	}
	for name, x := range map[string]struct {
		job  proof.Job
		with func(*proof.Job)
		want want
	}{
		"the tablet, nobody signed in": {g.job(1, proof.Access, proof.ByPerson, tablet), nobody, want{1, 3, pseudonym("warehouse", tablet), ""}},
		"the tablet, Anna signed in": {
			g.job(2, proof.Access, proof.ByPerson, tablet), signedIn(anna), want{2, 2, pseudonym("warehouse", tablet), pseudonym("warehouse", anna)},
		},
		"the tablet, Bert signed in": {
			g.job(3, proof.Access, proof.ByPerson, tablet), signedIn(bert), want{3, 1, pseudonym("warehouse", tablet), pseudonym("warehouse", bert)},
		},
		"Anna": {g.job(4, proof.Access, proof.ByDPO, anna), nobody, want{3, 0, "", pseudonym("warehouse", anna)}},
		"Bert": {g.job(5, proof.Access, proof.ByDPO, bert), nobody, want{3, 0, "", pseudonym("warehouse", bert)}},
	} {
		q := g.ask(x.job, whole(x.with))
		w.sweep()
		if q.pack == nil {
			t.Fatalf("%s: no package", name)
		}
		d := readData(t, q.pack)
		i := len(d.Destinations) - 1 // warehouse is the last by name
		got := d.Destinations[i]
		if got.Destination != "warehouse" || len(got.Events) != x.want.events || got.Withheld != x.want.withheld || q.collected.Rows["warehouse"] != x.want.events {
			t.Errorf("%s: %d events are shown and %d withheld, want %d and %d", name, len(got.Events), got.Withheld, x.want.events, x.want.withheld)
		}
		for _, e := range got.Events {
			if e.Device != "" && e.Device != x.want.devices || e.Person != "" && e.Person != x.want.persons {
				t.Errorf("%s: an event shows %s, %s", name, e.Device, e.Person)
			}
		}
		for _, n := range []int{tablet, phone, anna, bert} {
			p := pseudonym("warehouse", n)
			if p != x.want.devices && p != x.want.persons && strings.Contains(d.text, p) {
				t.Errorf("%s: the package holds the pseudonym of somebody else", name)
			}
		}
	}
}
