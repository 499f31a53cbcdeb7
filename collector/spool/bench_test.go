package spool

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/wal"

	"github.com/octroi/octroi/pseudonymize"
)

// benchClients wait for their own append each, as 64 connections do.
const benchClients = 64

// benchAppend measures durable appends of one event of 600 bytes by 64 goroutines. Run it on a real disk: TMPDIR says where.
func benchAppend(b *testing.B, appendOne func(id string, payload []byte) error) {
	payload := make([]byte, 600-recordHeader)
	times := make([][]time.Duration, benchClients)
	var next atomic.Int64
	var clients sync.WaitGroup
	b.ResetTimer()
	for c := range benchClients {
		clients.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				begun := time.Now()
				if err := appendOne(fmt.Sprintf("event-%d", n), payload); err != nil {
					b.Error(err)
					return
				}
				times[c] = append(times[c], time.Since(begun))
			}
		})
	}
	clients.Wait()
	b.StopTimer()
	all := slices.Concat(times...)
	slices.Sort(all)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(b.N)*600/b.Elapsed().Seconds()/1e6, "MB/s")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
}

func BenchmarkAppend(b *testing.B) {
	b.Run("segment", func(b *testing.B) {
		s, err := Open(Options{Dir: b.TempDir(), Key: make([]byte, 32), MaxBytes: 64 << 30})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		benchAppend(b, func(id string, payload []byte) error {
			_, err := s.put(b.Context(), entry{id, pseudonymize.Sealed{Device: 1, Payload: payload}})
			return err
		})
		b.ReportMetric(float64(b.N)/float64(s.Stats().Groups), "events/fsync")
	})
	// The other candidate, with the same queue and the same group commit, but without duplicate detection.
	b.Run("tidwall-wal", func(b *testing.B) {
		log, err := wal.Open(b.TempDir(), &wal.Options{SegmentSize: 64 << 20, DirPerms: 0o700, FilePerms: 0o600, NoCopy: true})
		if err != nil {
			b.Fatal(err)
		}
		defer log.Close()
		q := &queue{limit: 64 << 20, wake: make(chan struct{}, 1)}
		defer q.close()
		go func() {
			var block []byte
			for n := uint64(1); ; n++ {
				group := q.take(nil)
				if len(group) == 0 {
					return
				}
				block = block[:0]
				var bytes int64
				for _, r := range group {
					block, bytes = append(block, r.records...), bytes+r.bytes()
				}
				err := log.Write(n, block)
				q.answered(bytes)
				for _, r := range group {
					r.done <- err
				}
			}
		}()
		benchAppend(b, func(id string, payload []byte) error {
			r := &request{done: make(chan error, 1)}
			r.add(&pseudonymize.Sealed{Device: 1, Payload: payload}, hash([]byte("0123456789abcdef")))
			if err := q.push(r, 1<<40); err != nil {
				return err
			}
			return <-r.done
		})
	})
}

// BenchmarkOpen measures the start with a full spool.
func BenchmarkOpen(b *testing.B) {
	o := Options{Dir: b.TempDir(), Key: make([]byte, 32)}
	s, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, 600-recordHeader)
	events := 0
	for s.Stats().Bytes < 1<<30 {
		batch := make([]entry, 2000)
		for i := range batch {
			batch[i] = entry{fmt.Sprintf("event-%d", events+i), pseudonymize.Sealed{Device: 1, Payload: payload}}
		}
		if _, err := s.put(b.Context(), batch...); err != nil {
			b.Fatal(err)
		}
		events += len(batch)
	}
	for b.Loop() {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		if s, err = Open(o); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(s.Stats().Bytes)/1e6, "MB")
	b.ReportMetric(float64(events), "events")
	s.Close()
}

// BenchmarkPeek measures reading, in portions of 1,000.
func BenchmarkPeek(b *testing.B) {
	s, err := Open(Options{Dir: b.TempDir(), Key: make([]byte, 32)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	payload := make([]byte, 600-recordHeader)
	for i := range 1000 {
		batch := make([]entry, 64)
		for j := range batch {
			batch[j] = entry{fmt.Sprintf("event-%d-%d", i, j), pseudonymize.Sealed{Device: 1, Payload: payload}}
		}
		if _, err := s.put(b.Context(), batch...); err != nil {
			b.Fatal(err)
		}
	}
	var position uint64
	events := 0
	for b.Loop() {
		records, err := s.Peek(b.Context(), position, 1000)
		if err != nil {
			b.Fatal(err)
		}
		events += len(records)
		if position += uint64(len(records)); position >= s.Tail() {
			position = 0
		}
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}
