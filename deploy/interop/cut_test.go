//go:build interop

package interop

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// DuckDB reads what the custodian leaves of a batch: pages as they were, pages without a row, and rows that were changed.
func TestOthersOpenWhatWasCut(t *testing.T) {
	const rows, visitors = 20_000, 500
	var whole bytes.Buffer
	if err := export.EncodeRows(&whole, visits(rows, visitors)); err != nil {
		t.Fatal(err)
	}
	of := export.Pseudonyms{Devices: map[[16]byte]bool{{7}: true, {8}: true}}
	identity, object := sealed(t, func(w *bytes.Buffer) error {
		_, err := export.CutRows(w, bytes.NewReader(whole.Bytes()), int64(whole.Len()), of, func(row *pseudonymize.Row) (keep, changed bool) {
			row.Campaign = "changed"
			return *row.Device == [16]byte{8}, true
		})
		return err
	})
	opened := openWithNode(t, identity, object, filepath.Join(t.TempDir(), "cut.parquet"))
	changed, want := 0, map[string]string{}
	for _, row := range visits(rows, visitors) {
		want[fmt.Sprintf("%x", row.EventID)] = fmt.Sprintf("%x %s %d", *row.Device, row.Type, row.Value.Minor)
	}
	for _, row := range opened {
		if row["campaign"] == "changed" {
			changed++
		}
		if got := fmt.Sprint(row["device"], " ", row["type"], " ", row["value_minor"]); got != want[fmt.Sprint(row["event_id"])] {
			t.Fatalf("event %v: DuckDB read %q, want %q", row["event_id"], got, want[fmt.Sprint(row["event_id"])])
		}
	}
	if len(opened) != rows-rows/visitors || changed != rows/visitors {
		t.Errorf("DuckDB read %d rows, %d of them changed", len(opened), changed)
	}
}

// visits are n events, of each visitor one in turn.
func visits(n, visitors int) []pseudonymize.Row {
	start := time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
	rows := make([]pseudonymize.Row, n)
	for i := range rows {
		device := [16]byte{byte(i % visitors), byte(i % visitors >> 8)}
		rows[i] = pseudonymize.Row{
			EventID: [16]byte{byte(i), byte(i >> 8), byte(i >> 16)}, Time: start.Add(time.Duration(i) * time.Millisecond), ReceivedAt: start, Device: &device,
			Type: "page_view", Channel: "web", Stage: "discover", Site: "shop",
			Grants:     []pseudonymize.RowGrant{{Purpose: "audience", Version: 1, Basis: policies.Consent, Ref: device}},
			Value:      pseudonymize.Money{Minor: int64(i), Currency: "EUR"},
			Properties: map[string]string{"url": fmt.Sprintf("https://shop.example/p/%d", i%400)},
		}
	}
	return rows
}

// sealed encrypts what write does, to a new identity.
func sealed(t *testing.T, write func(*bytes.Buffer) error) (identityFile, objectFile string) {
	identity, recipient, err := export.NewIdentity(export.ClassX25519)
	if err != nil {
		t.Fatal(err)
	}
	to, err := export.ParseRecovery(recipient)
	if err != nil {
		t.Fatal(err)
	}
	var plain, object bytes.Buffer
	if err := write(&plain); err != nil {
		t.Fatal(err)
	}
	w, err := export.Seal(&object, to)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(plain.Bytes())
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	identityFile, objectFile = filepath.Join(dir, "identity.txt"), filepath.Join(dir, "object.age")
	if err := errors.Join(os.WriteFile(identityFile, []byte(identity+"\n"), 0o600), os.WriteFile(objectFile, object.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return identityFile, objectFile
}
