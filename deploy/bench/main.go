// Command bench measures the budget of admission: what the gateway's whole path costs beside the least that any durable collector must do.
// Both run as processes of their own on this machine, under the same load, in turn, in one run; the ratios are what counts. And that of erasure: a
// sweep over objects of a real S3 server beside copying them.
//
//	go run ./deploy/bench --bin ./bin --json bench.json
//
// It is not a test and fails on no figure.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// connections is the number of keep-alive connections of the load.
const connections = 64

// Figures are what one server did under one load; of several runs, the medians.
type Figures struct {
	EventsPerSecond float64 `json:"events_per_second"`
	P99Millis       float64 `json:"p99_ms"`
	CPUMicros       float64 `json:"cpu_us_per_event"` // of the server's process; 0 where the system does not tell
	// Of a sweep, and instead of those above: bytes read from the store a second.
	BytesPerSecond float64 `json:"bytes_per_second,omitempty"`
}

func (f Figures) String() string {
	if f.BytesPerSecond > 0 {
		return fmt.Sprintf("%.1f MB/s", f.BytesPerSecond/1e6)
	}
	return fmt.Sprintf("%.0f/s, p99 %.1f ms, %.1f µs CPU", f.EventsPerSecond, f.P99Millis, f.CPUMicros)
}

// Row is a line of the budget table.
type Row struct {
	What     string  `json:"what"`
	Budget   string  `json:"budget"`
	Gateway  Figures `json:"gateway"`
	Baseline Figures `json:"baseline"`
	Ratio    float64 `json:"ratio"`
	Met      bool    `json:"met"`
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "baseline" {
		exit(baseline(os.Args[2]))
	}
	bin := flag.String("bin", "bin", "folder of octroi")
	out := flag.String("json", "bench.json", "file for the figures")
	each := flag.Duration("each", 5*time.Second, "length of a measurement")
	runs := flag.Int("runs", 3, "measurements of each kind; medians are shown")
	flag.Parse()
	exit(bench(*bin, *out, *each, *runs))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func bench(bin, out string, each time.Duration, runs int) error {
	dir, err := os.MkdirTemp("", "octroi-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	gateway, err := startGateway(bin, dir)
	if err != nil {
		return err
	}
	defer gateway.stop()
	base, err := startBaseline(dir)
	if err != nil {
		return err
	}
	defer base.stop()
	var rows []Row
	for _, batch := range []int{1, 20} {
		g, b, err := measure(gateway, base, batch, each, runs)
		if err != nil {
			return err
		}
		least, name := 0.8, "one event a POST"
		if batch > 1 {
			least, name = 0.7, fmt.Sprintf("batches of %d", batch)
		}
		ratio := g.EventsPerSecond / b.EventsPerSecond
		rows = append(rows, Row{"whole admission, " + name + " ÷ parse + group-committed fsync", fmt.Sprintf("≥ %.1f", least), g, b, ratio, ratio >= least})
		if batch == 1 {
			p99 := g.P99Millis / b.P99Millis
			rows = append(rows, Row{fmt.Sprintf("p99 at %d connections ÷ the baseline's", connections), "≤ 1.5", g, b, p99, p99 <= 1.5})
		}
	}
	sweep, err := measureSweep(dir, runs)
	if err != nil {
		return err
	}
	return show(append(rows, sweep), out)
}

// measure alternates the two servers and takes medians.
func measure(gateway, base *server, batch int, each time.Duration, runs int) (g, b Figures, err error) {
	var gs, bs []Figures
	for i := range runs + 1 {
		for _, s := range []*server{gateway, base} {
			f, err := load(s, batch, each)
			if err != nil {
				return g, b, fmt.Errorf("%s: %w", s.name, err)
			}
			if i == 0 {
				continue // warm-up
			}
			if s == gateway {
				gs = append(gs, f)
			} else {
				bs = append(bs, f)
			}
		}
	}
	return median(gs), median(bs), nil
}

func median(f []Figures) Figures {
	pick := func(get func(Figures) float64) float64 {
		v := make([]float64, len(f))
		for i := range f {
			v[i] = get(f[i])
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return Figures{
		pick(func(x Figures) float64 { return x.EventsPerSecond }), pick(func(x Figures) float64 { return x.P99Millis }),
		pick(func(x Figures) float64 { return x.CPUMicros }), pick(func(x Figures) float64 { return x.BytesPerSecond }),
	}
}

func show(rows []Row, out string) error {
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tOCTROI\tBASELINE\tRATIO\tBUDGET\t")
	for _, r := range rows {
		met := "met"
		if !r.Met {
			met = "NOT MET"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.2f\t%s\t%s\n", r.What, r.Gateway, r.Baseline, r.Ratio, r.Budget, met)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	b, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(b, '\n'), 0o644)
}
