package export

import (
	"bytes"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/octroi/octroi/pseudonymize"
)

// BenchmarkRewrite is what an erasure does to one object of 100,000 rows, in memory: see the sweep's row in deploy/bench. Processor time is
// reported too, since wall time tells little beside other work.
//
// Measured on a busy 2-core machine: 2.2 µs a row to decode, 3.4 µs to encode. Nothing stands out: of the encoding, bringing rows to columns is a third,
// looking values up in dictionaries a quarter, zstd an eighth, page bounds a tenth; of the decoding, no part is above a quarter. At some 32 stored
// bytes a row that is 5 MB/s a core.
func BenchmarkRewrite(b *testing.B) {
	rows := shopRows(100_000)
	cut := Cut{Devices: map[[16]byte]bool{*rows[0].Device: true}}
	file := encoded(b, rows)
	decode := func(fn func([]pseudonymize.Row) error) {
		if err := DecodeRows(bytes.NewReader(file), int64(len(file)), fn); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"decode", func() { decode(func([]pseudonymize.Row) error { return nil }) }},
		{"encode", func() {
			if err := EncodeRows(io.Discard, rows); err != nil {
				b.Fatal(err)
			}
		}},
		{"rewrite", func() {
			w := NewRowWriter(io.Discard)
			decode(func(rows []pseudonymize.Row) error {
				kept := rows[:0]
				for i := range rows {
					if keep, _ := cut.Row(&rows[i]); keep {
						kept = append(kept, rows[i])
					}
				}
				return w.Write(kept)
			})
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(file)))
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				c.run()
			}
			b.ReportMetric(float64((processorTime(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
