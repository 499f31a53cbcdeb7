package state_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/octroi/octroi/consent/state"
)

// A change as a consent makes one: a record, its standing, a leaf.
func consent(b *testing.B, s *state.Store, i int64) {
	err := s.Update(b.Context(), func(txn *state.Txn) error {
		txn.Set(fmt.Appendf(nil, "c/r/%016x", i), make([]byte, 1200))
		txn.Set(fmt.Appendf(nil, "c/s/%016x", i), make([]byte, 120))
		txn.Append(leaf(int(i)))
		return nil
	})
	if err != nil {
		b.Error(err)
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			s := open(b, b.TempDir())
			var next atomic.Int64
			var wait sync.WaitGroup
			b.ResetTimer()
			for range goroutines {
				wait.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						consent(b, s, i)
					}
				})
			}
			wait.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
		})
	}
}

func BenchmarkProof(b *testing.B) {
	s := open(b, b.TempDir())
	const size = 20000
	for range size / 1000 {
		err := s.Update(b.Context(), func(txn *state.Txn) error {
			for i := range 1000 {
				txn.Append(leaf(i))
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	i := int64(0)
	for b.Loop() {
		if _, err := s.Inclusion(i%size, size); err != nil {
			b.Fatal(err)
		}
		i += 7919
	}
}

func BenchmarkGet(b *testing.B) {
	s := open(b, b.TempDir())
	for i := range int64(1000) {
		consent(b, s, i)
	}
	key := []byte("c/r/0000000000000010")
	for b.Loop() {
		err := s.View(func(r state.Reader) error { _, err := r.Get(key); return err })
		if err != nil {
			b.Fatal(err)
		}
	}
}
