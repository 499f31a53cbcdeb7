//go:build interop

// Package interop opens what the real gateway has shipped with programs that are not ours: Debian's age, npm's age-encryption, DuckDB.
package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/export/s3test/freeport"
)

// events is what the test sends: enough rows for every column to have a value somewhere.
const events = 50

func TestOthersOpenWhatWasShipped(t *testing.T) {
	for _, class := range []string{"X25519", "hybrid"} {
		t.Run(class, func(t *testing.T) {
			data := ship(t, class)
			objects := find(t, filepath.Join(data, "objects", "warehouse", "events"), ".parquet.age")
			identity := filepath.Join(data, "warehouse", "warehouse", "identity.txt")
			var opened []map[string]any
			for i, object := range objects {
				parquet := filepath.Join(t.TempDir(), fmt.Sprintf("%d.parquet", i))
				opened = append(opened, openWithNode(t, identity, object, parquet)...)
				if class == "X25519" { // Debian's age reads no hybrid keys
					openWithDebian(t, identity, object, parquet)
				}
			}
			same(t, opened, loadFolder(t, data, identity))
		})
	}
}

// openWithNode decrypts by age-encryption into the file parquet and reads it by DuckDB.
func openWithNode(t *testing.T, identity, object, parquet string) []map[string]any {
	var answer struct {
		Columns [][2]string
		Rows    []map[string]any
	}
	if err := json.Unmarshal(command(t, "node", "open.mjs", identity, object, parquet), &answer); err != nil {
		t.Fatal(err)
	}
	types := map[string]string{}
	for _, c := range answer.Columns {
		types[c[0]] = c[1]
	}
	for column, want := range map[string]string{
		"time": "TIMESTAMP WITH TIME ZONE", "received_at": "TIMESTAMP WITH TIME ZONE", "type": "VARCHAR", "value_minor": "BIGINT",
		"properties": "MAP(VARCHAR, VARCHAR)",
	} {
		if types[column] != want {
			t.Errorf("DuckDB reads column %s as %q, want %q", column, types[column], want)
		}
	}
	if !strings.HasPrefix(types["grants"], "STRUCT(") || !strings.HasSuffix(types["grants"], "[]") {
		t.Errorf("DuckDB reads column grants as %q, want a list of structs", types["grants"])
	}
	return answer.Rows
}

// openWithDebian decrypts by Debian's age; the bytes must be those that the other implementation gave.
func openWithDebian(t *testing.T, identity, object, parquet string) {
	want, err := os.ReadFile(parquet)
	if err != nil {
		t.Fatal(err)
	}
	if got := command(t, "age", "-d", "-i", identity, object); !bytes.Equal(got, want) {
		t.Errorf("Debian's age and npm's give different bytes")
	}
}

// same holds the rows that DuckDB read against those that octroi-load loaded.
func same(t *testing.T, opened, loaded []map[string]any) {
	if len(opened) != events || len(loaded) != events {
		t.Fatalf("DuckDB read %d rows, octroi-load %d, of %d events", len(opened), len(loaded), events)
	}
	key := func(rows []map[string]any) []string {
		out := make([]string, len(rows))
		for i, r := range rows {
			value := r["value_minor"]
			if value == nil {
				value = 0
			}
			out[i] = fmt.Sprint(r["event_id"], " ", r["device"], " ", r["type"], " ", value)
		}
		slices.Sort(out)
		return out
	}
	if a, b := key(opened), key(loaded); !slices.Equal(a, b) {
		t.Errorf("DuckDB and octroi-load read different rows:\n%s\n%s", a[0], b[0])
	}
}

// ship runs the real gateway, has a visitor consent and send events, and stops it; it returns the installation's folder.
func ship(t *testing.T, class string) string {
	data := filepath.Join(t.TempDir(), "data")
	public, private := freeAddress(t), freeAddress(t)
	command(t, binary(t, "octroi"), "init", "--dir", data, "--class", class, "--site-key", "demo", "--origin", "http://"+public)
	config := filepath.Join(data, "gateway", "octroi.yaml")
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	b = []byte(strings.NewReplacer("127.0.0.1:8080", public, "127.0.0.1:8081", private).Replace(string(b)))
	if err := os.WriteFile(config, b, 0o600); err != nil {
		t.Fatal(err)
	}
	gateway := exec.Command(binary(t, "octroi"), "serve", "--config", config)
	gateway.Stderr = os.Stderr
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gateway.Process.Kill() })
	awaitReady(t, private)
	visit(t, "http://"+public)
	if err := gateway.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := gateway.Wait(); err != nil {
		t.Fatalf("gateway did not stop cleanly: %v", err)
	}
	return data
}

func visit(t *testing.T, url string) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	resp, err := browser.Get(url + "/v1/notice?k=demo&language=fr")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var notice struct{ Snapshot string }
	if err := json.NewDecoder(resp.Body).Decode(&notice); err != nil {
		t.Fatal(err)
	}
	post(t, browser, url, "/v1/consents", http.StatusCreated, map[string]any{"k": "demo", "snapshot": notice.Snapshot, "purposes": map[string]bool{"audience": true}})
	for i := range events {
		post(t, browser, url, "/v1/events?k=demo", http.StatusAccepted, map[string]any{
			"id": fmt.Sprint("e", i), "type": "purchase",
			"fields": map[string]any{"url": "https://shop.example/thanks?order=1", "campaign": "été", "value": map[string]string{"amount": fmt.Sprintf("%d.50", i), "currency": "EUR"}},
		})
	}
}

func post(t *testing.T, browser *http.Client, url, path string, want int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, url+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Origin", url)
	resp, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		t.Fatalf("%s answered %s", path, resp.Status)
	}
}

// loadFolder runs octroi-load on what was shipped.
func loadFolder(t *testing.T, data, identity string) (rows []map[string]any) {
	into := filepath.Join(t.TempDir(), "loaded")
	command(t, binary(t, "octroi-load"), "once", "--from", filepath.Join(data, "objects"), "--destination", "warehouse", "--identity", identity,
		"--gateway-key", filepath.Join(data, "warehouse", "warehouse", "signing.key.pub"), "--into", into, "--format", "ndjson")
	for _, file := range find(t, into, ".ndjson") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			var row map[string]any
			if err := json.Unmarshal(line, &row); err != nil {
				t.Fatal(err)
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func find(t *testing.T, dir, suffix string) (files []string) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, suffix) {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s below %s (%v)", suffix, dir, err)
	}
	return files
}

func binary(t *testing.T, name string) string {
	dir := os.Getenv("OCTROI_BIN")
	if dir == "" {
		t.Fatal("OCTROI_BIN does not name the folder of the programs: run `make test-interop`")
	}
	return filepath.Join(dir, name)
}

func command(t *testing.T, name string, args ...string) []byte {
	cmd := exec.Command(name, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, complaint.Bytes())
	}
	return out
}

func freeAddress(t *testing.T) string {
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func awaitReady(t *testing.T, private string) {
	for range 200 {
		if resp, err := http.Get("http://" + private + "/readyz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the gateway is not ready")
}
