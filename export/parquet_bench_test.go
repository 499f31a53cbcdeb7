package export

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// shopRows are events as a shop makes them: a few hundred pages, visitors with some ten events each, one purchase in twenty events.
func shopRows(n int) []pseudonymize.Row {
	rng := rand.New(rand.NewChaCha8([32]byte{1}))
	bytes16 := func() (b [16]byte) {
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	type visitor struct{ device, ref [16]byte }
	visitors := make([]visitor, n/10+1)
	for i := range visitors {
		visitors[i] = visitor{bytes16(), bytes16()}
	}
	start := time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
	types := []struct{ name, stage string }{{"page_view", "discover"}, {"search", "discover"}, {"product_view", "consider"}, {"cart_add", "intend"}, {"purchase", "buy"}}
	rows := make([]pseudonymize.Row, n)
	for i := range rows {
		v := &visitors[rng.IntN(len(visitors))]
		at := start.Add(time.Duration(i) * time.Hour / time.Duration(n)).Truncate(time.Millisecond)
		k := min(int(rng.ExpFloat64()*1.2), 4)
		row := pseudonymize.Row{
			EventID: bytes16(), Time: at, ReceivedAt: at.Truncate(15 * time.Minute), Device: &v.device,
			Type: types[k].name, Channel: "web", Stage: types[k].stage, Site: "shop",
			Grants:     []pseudonymize.RowGrant{{Purpose: "audience", Version: 1, Basis: policies.Consent, Ref: v.ref}},
			Policy:     [32]byte{7},
			Properties: map[string]string{"url": fmt.Sprintf("https://shop.example/p/%d", rng.IntN(400)), "ua": "Firefox"},
		}
		if rng.IntN(3) == 0 {
			row.Campaign, row.Source, row.Medium = fmt.Sprintf("spring-%d", rng.IntN(8)), "newsletter", "email"
		}
		if k == 4 {
			row.Value = pseudonymize.Money{Minor: int64(rng.IntN(20000)), Currency: "EUR"}
		}
		rows[i] = row
	}
	return rows
}

// plainRows are the same rows in parquet-go's own form.
func plainRows(rows []pseudonymize.Row) []eventColumns {
	text := func(b []byte) string { return hex.EncodeToString(b) }
	optional := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	out := make([]eventColumns, len(rows))
	for i := range rows {
		r := &rows[i]
		device := text(r.Device[:])
		c := eventColumns{
			EventID: text(r.EventID[:]), Time: r.Time.UnixMilli(), ReceivedAt: r.ReceivedAt.UnixMilli(), Device: &device,
			Type: r.Type, Channel: r.Channel, Stage: r.Stage, Site: r.Site, Policy: text(r.Policy[:]),
			Campaign: optional(r.Campaign), Source: optional(r.Source), Medium: optional(r.Medium), Properties: r.Properties,
		}
		for _, g := range r.Grants {
			ref := text(g.Ref[:])
			c.Grants = append(c.Grants, grantColumns{g.Purpose, int32(g.Version), string(g.Basis), &ref})
		}
		if r.Value.Currency != "" {
			c.ValueMinor, c.Currency = &r.Value.Minor, &r.Value.Currency
		}
		out[i] = c
	}
	return out
}

func report(b *testing.B, rows int) {
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkPlainParquet is the baseline of the ship row of performance.md: parquet-go writing the same rows to a discard writer.
func BenchmarkPlainParquet(b *testing.B) {
	rows := plainRows(shopRows(100_000))
	for b.Loop() {
		w := parquet.NewGenericWriter[eventColumns](io.Discard)
		if _, err := w.Write(rows); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	report(b, len(rows))
}

// BenchmarkSealedParquet is the measured side: encode, compress, encrypt.
func BenchmarkSealedParquet(b *testing.B) {
	rows := shopRows(100_000)
	recipients := Recipients{}
	for i := range 3 {
		_ = i
		_, name, err := NewIdentity(ClassX25519)
		if err != nil {
			b.Fatal(err)
		}
		_, r, _ := parseRecipient(name)
		recipients.list = append(recipients.list, r)
	}
	var size bytes.Buffer
	for b.Loop() {
		size.Reset()
		w, err := Seal(&size, recipients)
		if err != nil {
			b.Fatal(err)
		}
		if err := EncodeRows(w, rows); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	report(b, len(rows))
	b.ReportMetric(float64(size.Len())/float64(len(rows)), "bytes/event")
}
