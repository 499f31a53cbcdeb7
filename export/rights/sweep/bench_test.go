package sweep_test

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
)

// BenchmarkSweep rewrites one batch of 100,000 rows, for one request of a person with ten of them and for twenty requests at once.
func BenchmarkSweep(b *testing.B) {
	for _, requests := range []int{1, 20} {
		b.Run(strconv.Itoa(requests), func(b *testing.B) {
			const rows = 100_000
			subjects := make([]int, rows)
			for i := range subjects {
				subjects[i] = 1 + i%10_000
			}
			var bytes int64
			for b.Loop() {
				b.StopTimer()
				w := newWorld(b, nil)
				batch := w.gateway.ship("warehouse", subjects...)
				for n := range requests {
					w.gateway.ask(w.gateway.job(n+1, proof.Erasure, proof.ByPerson, n+1), nil)
				}
				bytes = batch.now.Size
				s := w.custodian(func(o *sweep.Options) { o.State = filepath.Join(w.folder, "bench") })
				b.StartTimer()
				r, err := s.Once(b.Context())
				if err != nil || r.Erased != 10*requests || r.Certificates != requests {
					b.Fatalf("%v, report %+v", err, r)
				}
			}
			b.SetBytes(bytes)
			b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
