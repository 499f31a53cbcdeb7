package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/octroi/octroi/export/rights/sweep"
)

// progress shows how a pass goes on: one line that changes, on a terminal; else a line every ten seconds.
type progress struct {
	w        io.Writer
	terminal bool
	quiet    bool
	begun    time.Time

	mu    sync.Mutex
	shown time.Time // guarded by mu
	open  bool      // the terminal's line has no end yet; guarded by mu
}

func newProgress(w *os.File, quiet bool) *progress {
	about, err := w.Stat()
	now := time.Now()
	return &progress{w: w, quiet: quiet, terminal: err == nil && about.Mode()&os.ModeCharDevice != 0, begun: now, shown: now}
}

// log is where a pass warns; it shares the screen with progress.
func (p *progress) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(p.w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func (p *progress) show(now sweep.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	interval := 10 * time.Second
	if p.terminal {
		interval = 200 * time.Millisecond
	}
	if p.quiet || time.Since(p.shown) < interval {
		return
	}
	p.shown = time.Now()
	line := fmt.Sprintf("%d of %d batches, %.1f MB read (%.1f MB/s)",
		now.Objects, now.Of, float64(now.Bytes)/1e6, float64(now.Bytes)/1e6/time.Since(p.begun).Seconds())
	if !p.terminal {
		fmt.Fprintln(p.w, line)
		return
	}
	fmt.Fprint(p.w, "\r\x1b[K", line)
	p.open = true
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open {
		fmt.Fprintln(p.w)
		p.open = false
	}
}
