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
// Measured on a busy 2-core machine, processor time a row: 2.5 µs to decode, 3.2 µs to encode, 7.5 µs to do both and cut in between, and 1.0 µs to cut
// three visitors, with 30 rows everywhere, by pages: of this, a third is compressing again (dictionaries of pseudonyms and references, and pages that
// lost a row), a quarter taking pages apart.
func BenchmarkRewrite(b *testing.B) {
	rows := shopRows(100_000)
	cut := Cut{Devices: map[[16]byte]bool{*rows[0].Device: true, *rows[30_000].Device: true, *rows[60_000].Device: true}}
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
		{"cut", func() {
			left, err := CutRows(io.Discard, bytes.NewReader(file), int64(len(file)), Pseudonyms{Devices: cut.Devices}, cut.Row)
			if err != nil || left.Rows == len(rows) {
				b.Fatal(left, err)
			}
		}},
		{"all", func() {
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
