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
	if n := d.shopLine.Load(); n != nil {
		fmt.Fprintf(t, "sent by the shop\t%d events, %d visitors\n", n.Sent, n.Visitors)
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

// explain says what runs and what to try next.
func (d *demo) explain() {
	fmt.Fprintf(d.out, `
Octroi demo: everything runs on this machine, on loopback only. Nobody else can reach it.

  public listener    http://%[1]s      sites send consents and events here (site key: demo)
  private listener   http://%[2]s      DPO and data team
  kept in            %[3]s               one folder a holder of secrets; %[3]s/objects is the object store
  loaded rows        %[3]s/loaded/warehouse, %[3]s/loaded/accounting   (NDJSON)

Try, in another terminal:

  # 1. an event without consent is refused
  curl -s 'http://%[1]s/v1/events?k=demo' --json '{"id":"1","type":"page_view","fields":{"url":"https://shop.example/?q=x"}}'

  # 2. read the notice, consent to it, keep the cookie
  SNAPSHOT=$(curl -s 'http://%[1]s/v1/notice?k=demo&language=en' | sed 's/.*"snapshot":"\([^"]*\)".*/\1/')
  curl -s -c jar 'http://%[1]s/v1/consents' --json "{\"k\":\"demo\",\"snapshot\":\"$SNAPSHOT\",\"purposes\":{\"audience\":true}}"

  # 3. now the event is accepted, and its row is loaded within 10 seconds, without the query of its URL
  curl -s -b jar 'http://%[1]s/v1/events?k=demo' --json '{"id":"2","type":"page_view","fields":{"url":"https://shop.example/me?q=x"}}'
  grep -h shop.example/me -r %[3]s/loaded/warehouse

  # 4. ask for everything that is kept under this cookie; some seconds later open it, once: access.html in a browser
  ID=$(curl -s -b jar 'http://%[1]s/v1/me/requests?k=demo' --json '{"right":"access"}' | sed 's/.*"id":"\([^"]*\)".*/\1/')
  sleep 20; curl -s -b jar "http://%[1]s/v1/me/requests/$ID/package?k=demo" -o access.html

  # 5. be erased: the cookie is dead at once, the row leaves the objects and the loaded files, and a certificate says so
  curl -s -b jar 'http://%[1]s/v1/me/requests?k=demo' --json '{"right":"erasure"}' -o erasure.json; sleep 30
  ID=$(sed 's/.*"id":"\([^"]*\)".*/\1/' erasure.json); SECRET=$(sed 's/.*"secret":"\([^"]*\)".*/\1/' erasure.json)
  curl -s -H "Authorization: Bearer $SECRET" "http://%[1]s/v1/me/requests/$ID/certificate?k=demo" -o certificate.jwt
  %[4]s verify certificate certificate.jwt --key %[3]s/dpo/log.key.pub --custodian-key %[3]s/dpo/custodian.key.pub
  grep -h shop.example/me -r %[3]s/loaded/warehouse || echo gone

  # 6. or only withdraw (with a new cookie): the next event is refused, and what was kept for that purpose is erased
  curl -s -b jar 'http://%[1]s/v1/consents/withdraw' --json '{"k":"demo"}'

  # 7. what was shipped opens only with a recipient's key, and the evidence verifies offline
  %[4]s evidence --url http://%[2]s --token-file %[3]s/gateway/admin.token --out /tmp/octroi-log
  %[4]s verify log /tmp/octroi-log --key %[3]s/dpo/log.key.pub
  %[4]s verify stream %[3]s/objects --destination warehouse --key %[3]s/dpo/signing.key.pub

Ctrl-C stops it.
`, d.public, d.private, d.dir, os.Args[0])
}
