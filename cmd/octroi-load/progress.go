package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/octroi/octroi/export/load"
)

// progress shows how a load goes on: one line that changes, on a terminal; else a line every ten seconds.
type progress struct {
	w        io.Writer
	terminal bool
	quiet    bool
	begun    time.Time
	shown    time.Time
	open     bool // the terminal's line has no end yet
}

func newProgress(w *os.File, quiet bool) *progress {
	about, err := w.Stat()
	now := time.Now()
	return &progress{w: w, quiet: quiet, terminal: err == nil && about.Mode()&os.ModeCharDevice != 0, begun: now, shown: now}
}

// log is where the loader warns of waits; it shares the screen with progress.
func (p *progress) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(p.w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func (p *progress) show(now load.Progress) {
	interval := 10 * time.Second
	if p.terminal {
		interval = 200 * time.Millisecond
	}
	if p.quiet || time.Since(p.shown) < interval {
		return
	}
	p.shown = time.Now()
	seconds := time.Since(p.begun).Seconds()
	line := fmt.Sprintf("%d batches, %d events, %d known before, %.1f MB read (%.1f MB/s); last entry %d of %s",
		now.Batches, now.Rows, now.Duplicates, float64(now.Bytes)/1e6, float64(now.Bytes)/1e6/seconds, now.Number, now.Node)
	if !p.terminal {
		fmt.Fprintln(p.w, line)
		return
	}
	fmt.Fprint(p.w, "\r\x1b[K", line)
	p.open = true
}

func (p *progress) end() {
	if p.open {
		fmt.Fprintln(p.w)
		p.open = false
	}
}
