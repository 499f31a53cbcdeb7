package load_test

import (
	"testing"

	"github.com/octroi/octroi/export/load"
	"github.com/octroi/octroi/export/load/loadtest"
)

// BenchmarkLoad is one batch of 100,000 events from a folder into a new one: fetch, hash, decrypt, decode, uniqueness, encode, sync.
func BenchmarkLoad(b *testing.B) {
	for _, format := range []string{load.Parquet, load.NDJSON} {
		b.Run(format, func(b *testing.B) {
			objects, _ := newStore(b)
			g := loadtest.New(b, objects)
			const rows = 100_000
			g.Publish("gw1", g.Rows("gw1", rows))
			for b.Loop() {
				o := options(b, g, b.TempDir())
				o.Format = format
				if p, err := once(b, o); err != nil || p.Rows != rows {
					b.Fatal(p, err)
				}
			}
			b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
