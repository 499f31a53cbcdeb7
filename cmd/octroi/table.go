package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/octroi/octroi/export/rights"
)

// status reads the gateway's figures from its private listener.
func (d *demo) status() (Status, error) {
	var s Status
	token, err := os.ReadFile(d.path(gatewayDir, "admin.token"))
	if err != nil {
		return s, err
	}
	req, err := http.NewRequest(http.MethodGet, "http://"+d.private+"/v1/status", nil)
	if err != nil {
		return s, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("status answered %d", resp.StatusCode)
	}
	return s, json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&s)
}

// table prints what has happened since the start, in the order of the data path. After the gateway has stopped it prints what stands.
func (d *demo) table() {
	t := tabwriter.NewWriter(d.out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "\n%s\t\n", time.Now().Format("15:04:05"))
	if n := d.crowdLine.Load(); n != nil {
		fmt.Fprintf(t, "sent by simulation\t%d events, %d visitors\n", n.Sent, n.Visitors)
	}
	if s, err := d.status(); err == nil {
		fmt.Fprintf(t, "choices\t%s\n", tally(s.Consents))
		fmt.Fprintf(t, "accepted\t%s\n", tally(s.Accepted))
		fmt.Fprintf(t, "refused, and why\t%s\n", tally(s.Refused))
		fmt.Fprintf(t, "spooled\t%d events, waiting to be sealed\n", s.Spooled)
		for _, x := range s.Destinations {
			fmt.Fprintf(t, "shipped to %s\t%d batches with %d rows this run%s\n", x.Name, x.Batches, x.Rows, x.trouble())
		}
		for i, line := range requests(s.Rights) {
			fmt.Fprintf(t, "%s\t%s\n", []string{"requests", ""}[min(i, 1)], line)
		}
	}
	for _, name := range demoDestinations {
		objects, size := count(d.path("objects", name, "events"))
		fmt.Fprintf(t, "%s\t%d objects (%d KiB, encrypted), %d rows loaded\n", name, objects, size/1024, d.rows(name))
	}
	_ = t.Flush()
}

// requests are the requests of data subjects by right, origin and state, with the first date on which one is due.
func requests(f rights.Figures) (lines []string) {
	for _, x := range f.Open {
		state := string(x.State)
		if x.Step != "" {
			state += ", " + x.Step
		}
		lines = append(lines, fmt.Sprintf("%d %s by %s: %s, due from %s", x.Count, x.Right, x.Origin, state, x.Due.Local().Format(time.DateOnly)))
	}
	for _, x := range f.Closed {
		lines = append(lines, fmt.Sprintf("%d %s by %s: %s", x.Count, x.Right, x.Origin, x.State))
	}
	if f.Overdue+f.Refused+f.Failed+f.Stuck > 0 {
		lines = append(lines, fmt.Sprintf("to be looked at: %d overdue, %d refused by the custodian, %d batches failed, %d stuck", f.Overdue, f.Refused, f.Failed, f.Stuck))
	}
	if len(lines) == 0 {
		return []string{"none yet"}
	}
	return lines
}

// rows counts the lines of what was loaded. A loaded file never changes, so each is read once.
func (d *demo) rows(destination string) (rows int) {
	_ = filepath.WalkDir(d.path("loaded", destination, "events"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".ndjson") {
			return nil // a folder that is not there yet has no rows
		}
		n, known := d.counted[path]
		if !known {
			b, err := os.ReadFile(path)
			if err != nil {
				return nil
			}
			n = bytes.Count(b, []byte("\n"))
			d.counted[path] = n
		}
		rows += n
		return nil
	})
	return rows
}

// tally renders counts as "12 (a 7, b 5)".
func tally(counts map[string]uint64) string {
	var sum uint64
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] > 0 {
			sum += counts[name]
			parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
		}
	}
	if len(parts) == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", sum, strings.Join(parts, ", "))
}

func count(dir string) (files int, bytes int64) {
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			files, bytes = files+1, bytes+info.Size()
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0
	}
	return files, bytes
}

// explain says what to open first.
func (d *demo) explain() {
	fmt.Fprintf(d.out, `
Octroi demo: everything runs on this machine, on loopback only. Nobody else can reach it.

Open, in this order:

  1. http://%[4]s            the shop: click, refuse, agree, buy, log in; beside each page stands what the gateway made of it
  2. http://%[1]s/privacy    what the gateway keeps of this browser, and the rights: withdraw, ask for a copy, be erased
  3. http://%[2]s/console    the other side, DPO and analyst: requests, consent rates, journeys
                                     sign in with what stands in %[3]s/dpo/officer.token

  loaded rows        %[3]s/loaded/warehouse, %[3]s/loaded/accounting   (NDJSON)
  object store       %[3]s/objects   (encrypted: the gateway cannot open it either)
  the rest of        %[3]s   is one folder for each holder of secrets

%[5]sThe same by hand, with curl: README.md, "By hand". Ctrl-C stops everything.
`, d.public, d.private, d.dir, d.storefront, d.company())
}

// company says who else is in the shop.
func (d *demo) company() string {
	if d.visitors == 0 {
		return "Nobody else is in the shop: --visitors 1 gives the reports some numbers.\n"
	}
	return fmt.Sprintf("Simulated visitors come beside you (%v a second), so that the reports have numbers; --visitors 0: nobody but you; --table: figures.\n", d.visitors)
}
