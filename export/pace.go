package export

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/octroi/octroi/consent/state"
)

// turn is a lock whose waiting ends with a context.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }

// bell wakes everybody who waits. The zero value is ready.
type bell struct {
	mu sync.Mutex
	ch chan struct{} // guarded by mu; closed by ring
}

// next is closed by the next ring. Take it before looking at what may have changed.
func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// retry paces attempts: from min, doubled with each failure up to max, each with jitter so that destinations do not knock together.
type retry struct {
	min, max time.Duration
	failed   int
}

func (s *Shipper) newRetry() retry { return retry{min: s.o.RetryMin, max: s.o.RetryMax} }

func (r *retry) pause(ctx context.Context, err error) error {
	d := r.max
	if !needsOperator(err) && r.failed < 30 {
		d = min(r.max, r.min<<r.failed)
	}
	r.failed++
	return sleep(ctx, d/2+rand.N(d/2+1))
}

// needsOperator: trying again soon would not help.
func needsOperator(err error) bool {
	return errors.Is(err, ErrRefused) || errors.Is(err, ErrExists) || errors.Is(err, ErrOutbox) || errors.Is(err, ErrRow)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// noMoreState: state takes no change until it is opened anew, so that nothing can go on in this process.
func noMoreState(err error) bool {
	return errors.Is(err, state.ErrClosed) || errors.Is(err, state.ErrFailed)
}

// work runs step until ctx ends (nil) or there is no more state (that error). A step that fails is reported and tried again after a pause.
func (s *Shipper) work(ctx context.Context, what string, trouble *string, step func(context.Context) error) error {
	r := s.newRetry()
	for {
		err := step(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case noMoreState(err):
			return err
		case err == nil:
			r.failed = 0
			s.report(ctx, what, trouble, nil)
			continue
		}
		s.report(ctx, what, trouble, err)
		if r.pause(ctx, err) != nil {
			return nil
		}
	}
}

// report makes a failure visible: logged, counted, and shown by Stats until the next success.
func (s *Shipper) report(ctx context.Context, what string, trouble *string, err error) {
	s.mu.Lock()
	had := *trouble != ""
	if err == nil {
		*trouble = ""
		s.mu.Unlock()
		if had {
			s.log.InfoContext(ctx, "works again", "step", what)
		}
		return
	}
	// An unavailable store mends itself; everything else stops this destination until somebody looks.
	alarm := !errors.Is(err, ErrUnavailable)
	s.stats.Failures++
	if alarm {
		s.stats.Alarms++
	}
	*trouble = what + ": " + err.Error()
	s.mu.Unlock()
	level := slog.LevelWarn
	if alarm {
		level = slog.LevelError
	}
	s.log.Log(ctx, level, "shipping failed, will try again", "step", what, "alarm", alarm, "error", err)
}
