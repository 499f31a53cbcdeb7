package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/octroi/octroi/export/rights/sweep"
)

// access lets customers ask for what is held of them, and compares each package with the text file.
func (r *run) access(ctx context.Context, o *office, asking []customer) (err error) {
	gateway := r.serve()
	defer func() { err = errors.Join(err, gateway.end()) }()
	if err := r.awaitReady(ctx); err != nil {
		return err
	}
	whose, err := o.ask(ctx, "access", asking)
	if err != nil {
		return err
	}
	if err := o.approve(ctx, ids(whose)); err != nil {
		return err
	}
	var spent time.Duration
	var done sweep.Report
	err = o.await(ctx, whose, func() error {
		start := time.Now()
		err := r.sweep(ctx, &done)
		spent += time.Since(start)
		return errors.Join(err, wait(ctx, 300*time.Millisecond))
	})
	if err != nil {
		return err
	}
	purchases := 0
	for id, c := range whose {
		answer, err := o.call(ctx, http.MethodGet, r.private+"/v1/rights/requests/"+id+"/package?format=zip", o.token, nil, http.StatusOK)
		if err != nil {
			return err
		}
		n, err := r.comparePackage(answer, c)
		if err != nil {
			return fmt.Errorf("package of %s: %w", c.card, err)
		}
		purchases += n
	}
	fmt.Printf("access:     %d customers; the custodian's sweep took %.1f s and read %d of %d objects\n", len(asking), spent.Seconds(), done.Scanned,
		len(r.versions["warehouse"])+len(r.versions["accounting"]))
	fmt.Printf("each package holds exactly the customer's purchases, at the destinations that received them: %d rows in all\n", purchases)
	return nil
}

// sweep is one pass of the custodian; it adds what was done.
func (r *run) sweep(ctx context.Context, done *sweep.Report) error {
	out, err := r.output(ctx, filepath.Join(r.bin, "octroi-custodian"), "sweep", "--json", "--quiet", "--config", r.path("custodian", "custodian.yaml"))
	if err != nil {
		return err
	}
	var pass sweep.Report
	if err := json.Unmarshal([]byte(out), &pass); err != nil {
		return err
	}
	done.Scanned += pass.Scanned
	return nil
}

func ids(whose map[string]customer) (all []string) {
	for id := range maps.Keys(whose) {
		all = append(all, id)
	}
	return all
}

// comparePackage holds a package's two lists of events against the text file: the customer's purchases at each destination that received them,
// as the folder has them, and nobody else's. It answers how many rows there are.
func (r *run) comparePackage(archive []byte, c customer) (rows int, err error) {
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return 0, err
	}
	for name, read := range map[string]func(io.Reader) (holdings, error){"events.csv": readEvents, "package.json": readPackage} {
		f, err := z.Open(name)
		if err != nil {
			return 0, err
		}
		shown, err := read(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		rows = 0
		for _, d := range destinations {
			if err := r.compareShown(shown[d.name], d, c); err != nil {
				return 0, fmt.Errorf("%s at %s: %w", name, d.name, err)
			}
			if shown[d.name] != nil {
				rows += shown[d.name].Rows
			}
			delete(shown, d.name)
		}
		if len(shown) > 0 {
			return 0, fmt.Errorf("%s names other destinations", name)
		}
	}
	return rows, nil
}

func (r *run) compareShown(shown *loaded, d destination, c customer) error {
	if shown == nil {
		shown = newLoaded()
	}
	if d.consenting && !c.consents {
		if shown.Rows > 0 {
			return fmt.Errorf("%d rows of a customer who did not consent", shown.Rows)
		}
		return nil
	}
	if len(shown.persons) != 1 {
		return fmt.Errorf("%d persons", len(shown.persons))
	}
	folder := r.held["folder of "+d.name]
	for person, h := range shown.histories {
		if historyKey(h) != historyKey(r.histories(d.consenting)[c.card]) {
			return errors.New("not the purchases of the text file")
		}
		if len(h) != len(folder.histories[person]) {
			return fmt.Errorf("%d rows, the folder has %d", len(h), len(folder.histories[person]))
		}
	}
	for id, x := range shown.rows {
		if folder.rows[id].person != x.person {
			return errors.New("an event is another's in the folder")
		}
	}
	return nil
}

// readEvents reads events.csv.
func readEvents(f io.Reader) (holdings, error) {
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	lines, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff")))).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(lines) < 2 {
		return nil, errors.New("no event")
	}
	column := map[string]int{}
	for i, name := range lines[0] {
		column[name] = i
	}
	shown := holdings{}
	for _, line := range lines[1:] {
		x := event{ID: line[column["event_id"]], Person: line[column["person"]]}
		x.Value.Amount, x.Value.Currency = line[column["amount"]], line[column["currency"]]
		if x.Time, err = time.Parse(time.RFC3339Nano, line[column["time"]]); err != nil {
			return nil, err
		}
		if err := shown.show(line[column["destination"]], x); err != nil {
			return nil, err
		}
	}
	return shown, nil
}

// event is one of package.json.
type event struct {
	ID     string `json:"event_id"`
	Person string
	Time   time.Time
	Value  struct{ Amount, Currency string }
}

// readPackage reads package.json.
func readPackage(f io.Reader) (holdings, error) {
	var p struct {
		Destinations []struct {
			Destination string
			Events      []event
		}
	}
	if err := json.NewDecoder(f).Decode(&p); err != nil {
		return nil, err
	}
	shown := holdings{}
	for _, d := range p.Destinations {
		for _, x := range d.Events {
			if err := shown.show(d.Destination, x); err != nil {
				return nil, err
			}
		}
	}
	return shown, nil
}

// show adds an event of a package. Its amount is dollars and cents.
func (h holdings) show(destination string, x event) error {
	whole, cents, point := strings.Cut(x.Value.Amount, ".")
	n, err := strconv.ParseInt(whole+cents, 10, 64)
	if err != nil || !point || len(cents) != 2 || x.Value.Currency != "USD" {
		return fmt.Errorf("%q %q is not an amount in dollars", x.Value.Amount, x.Value.Currency)
	}
	if h[destination] == nil {
		h[destination] = newLoaded()
	}
	return h[destination].add(row{id: x.ID, person: x.Person, time: x.Time, cents: n})
}
