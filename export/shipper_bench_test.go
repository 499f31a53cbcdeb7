package export

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/pseudonymize"
)

// shopSpool is n spooled page views and purchases of n/100 visitors, within one hour.
func shopSpool(b *testing.B, w *world, n int) {
	b.Helper()
	devices := w.mint(b, n/100+1)
	for i := range n {
		v := visit{device: devices[(i*7919)%len(devices)], typ: "page_view", id: fmt.Sprintf("0190-%08d", i), at: testStart.Add(time.Duration(i) * 30 * time.Minute / time.Duration(n))}
		if i%20 == 0 {
			v.typ = "purchase"
		}
		w.spool.append(w.admit(b, v))
	}
}

// shippedRows are the rows of everything spooled, as parquet-go takes them.
func shippedRows(b *testing.B, w *world) []eventColumns {
	b.Helper()
	d := w.destination(b, "warehouse")
	rows := make([]pseudonymize.Row, 0, len(w.spool.records))
	for i := range w.spool.records {
		e, err := w.spool.records[i].Event.Open(w.subjects, key(4))
		if err != nil {
			b.Fatal(err)
		}
		row, ok := d.Project(&e)
		if !ok {
			b.Fatal("not a row of this destination")
		}
		rows = append(rows, row)
	}
	return plainRows(rows)
}

// BenchmarkShip is the ship row of performance.md, from the spool to the sealed, durable, indexed batch with its intent; "baseline" is
// parquet-go writing the same rows to a discard writer.
func BenchmarkShip(b *testing.B) {
	const events = 100_000
	w := newWorld(b)
	shopSpool(b, w, events)
	rows := shippedRows(b, w)
	b.Run("baseline", func(b *testing.B) {
		for b.Loop() {
			pw := parquet.NewGenericWriter[eventColumns](io.Discard)
			if _, err := pw.Write(rows); err != nil {
				b.Fatal(err)
			}
			if err := pw.Close(); err != nil {
				b.Fatal(err)
			}
		}
		report(b, events)
	})
	b.Run("shipper", func(b *testing.B) {
		var size int64
		for i := 0; b.Loop(); i++ {
			s := benchShipper(b, w)
			moved, err := s.sealOne(b.Context(), w.spool.Tail())
			if err != nil || !moved {
				b.Fatal(moved, err)
			}
			_, size = s.outbox.waiting()
			b.StopTimer()
			w.forget(b, s)
			b.StartTimer()
		}
		report(b, events)
		b.ReportMetric(float64(size)/events, "bytes/event")
	})
	b.Run("open and project", func(b *testing.B) {
		s := benchShipper(b, w)
		for b.Loop() {
			n := 0
			err := s.gate().regate(b.Context(), 0, w.spool.Tail(), func(c *chunk) (bool, error) {
				n += len(c.rows)
				return true, nil
			})
			if err != nil || n != events {
				b.Fatal(n, err)
			}
		}
		report(b, events)
	})
}

func benchShipper(b *testing.B, w *world) *Shipper {
	return w.shipper(b, "warehouse", func(o *ShipperOptions) { o.MaxRows, o.TargetBytes = 1_000_000, 1<<30 })
}

// forget puts the cursor back to the beginning, so that the next round ships the same.
func (w *world) forget(b *testing.B, s *Shipper) {
	b.Helper()
	err := w.state.Update(context.Background(), func(t *state.Txn) error {
		t.Set(cursorKey("warehouse"), cursorRow{}.encode())
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := os.RemoveAll(s.outbox.dir); err != nil {
		b.Fatal(err)
	}
}
