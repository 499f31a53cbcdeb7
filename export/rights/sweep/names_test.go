package sweep_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/sweep"
	"github.com/octroi/octroi/policies"
)

// FuzzStatement: whatever an entry names, a prefix that is derived from it ends before the generation, in the destination's own folder.
func FuzzStatement(f *testing.F) {
	f.Add("warehouse", "n1", "warehouse/events/dt=2026-11-21/hour=18/n1-000000000100-000000000199.1.parquet.age")
	f.Add("warehouse", "n1-a", "warehouse/events/dt=2026-11-21/hour=18/n1-a-000000000100-000000000199.12.parquet.age")
	f.Add("w", "n", "w/events/n-1.1.parquet.age")
	f.Add("w", "n", "/")
	f.Fuzz(func(t *testing.T, destination, node, key string) {
		st, err := sweep.Statement(export.Entry{Destination: destination, Node: node, Type: export.BatchEntry, Batch: &export.Batch{Key: key}})
		if err != nil {
			return
		}
		prefix, generation := st.Prefix()
		if !strings.HasPrefix(key, prefix) || strings.Contains(key[len(prefix):], "/") || !strings.HasSuffix(prefix, ".") {
			t.Errorf("%q has prefix %q", key, prefix)
		}
		first := prefix[strings.LastIndexByte(prefix, '/')+1:]
		if !strings.HasPrefix(first, node+"-") || len(first) < len(node)+len("-000000000100-000000000199.") {
			t.Errorf("prefix %q may be that of other batches", prefix)
		}
		if n, ok := sweep.GenerationOf(prefix, sweep.KeyOf(prefix, generation)); !ok || n != generation {
			t.Errorf("generation %d of %q is read as %d", generation, key, n)
		}
	})
}

// FuzzDestinationOf: a token that is none has no destination, and does no harm.
func FuzzDestinationOf(f *testing.F) {
	f.Add("a.eyJhdWQiOiJ3YXJlaG91c2UifQ.c")
	f.Add("..")
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		if sweep.DestinationOf(token) != "" && strings.Count(token, ".") == 0 {
			t.Errorf("%q has a destination", token)
		}
	})
}

// TestBefore: what was received before the time is over, by the calendar, and not much later it is not.
func TestBefore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policies.Period{
			Years: rapid.IntRange(0, 30).Draw(t, "years"), Months: rapid.IntRange(0, 30).Draw(t, "months"), Days: rapid.IntRange(0, 400).Draw(t, "days"),
			Hours: rapid.IntRange(0, 50).Draw(t, "hours"), Minutes: rapid.IntRange(0, 90).Draw(t, "minutes"),
		}
		now := time.Unix(rapid.Int64Range(1_700_000_000, 2_000_000_000).Draw(t, "now"), 0).UTC()
		before := sweep.Before(now, p)
		if p.AddTo(before).After(now) {
			t.Fatalf("%v before %v: %v is not over", p, now, before)
		}
		if later := before.Add(4 * 24 * time.Hour); !p.AddTo(later).After(now) {
			t.Fatalf("%v before %v: %v is over too", p, now, later)
		}
	})
}
