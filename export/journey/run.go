package journey

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/octroi/octroi/consent/state"
)

// The pauses of Run.
const (
	retryMin   = 200 * time.Millisecond // after a first failure, doubled with each
	retryMax   = 30 * time.Second
	restFactor = 9 // times what a step took, Run rests after it: a tenth of one processor
)

// Run folds what is spooled, publishes what is due and lets fall out what is old, until ctx ends, and then returns nil. Failures are logged, counted and
// tried again: nothing is dropped because of one. It returns an error only when state is closed under it, or has failed.
func (j *Journeys) Run(ctx context.Context) error {
	pause := retryMin
	covered := j.o.Now()
	for ctx.Err() == nil {
		began := time.Now()
		more, err := j.step(ctx, &covered)
		took := time.Since(began)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, state.ErrClosed), errors.Is(err, state.ErrFailed):
			return err
		case err != nil:
			j.failed(ctx, err)
			if sleep(ctx, pause) != nil {
				return nil
			}
			pause = min(2*pause, retryMax)
			continue
		}
		pause = retryMin
		j.failed(ctx, nil)
		if !more && j.wait(ctx) != nil || j.rest(ctx, took) != nil {
			return nil
		}
	}
	return nil
}

// rest leaves the processors to the door, whose answers somebody waits for: nobody waits for a report. Where the spool fills up there is no rest.
func (j *Journeys) rest(ctx context.Context, took time.Duration) error {
	if j.o.Pressed != nil && j.o.Pressed() {
		return nil
	}
	return sleep(ctx, restFactor*took)
}

// step does one piece of what there is to do: folding before all else. more says that there may be another.
func (j *Journeys) step(ctx context.Context, covered *time.Time) (more bool, err error) {
	if err := j.take(ctx); err != nil {
		return false, err
	}
	defer j.give()
	if now := j.o.Now(); now.Sub(*covered) >= coverInterval || now.Before(*covered) {
		if err := j.cover(ctx); err != nil {
			return false, err
		}
		*covered = now
	}
	// Everything that was received before a period closes is folded before it is published.
	if tail := j.o.Spool.Tail(); j.cursor.Load() < tail {
		if moved, err := j.foldSome(ctx, tail); err != nil || moved {
			return moved, err
		}
	}
	published, err := j.publishDue(ctx)
	if err != nil {
		return false, err
	}
	fallen, err := j.fallOut(ctx)
	return published || fallen, err
}

// Flush folds everything that is spooled now, and keeps what the door has counted; used at a graceful stop, beside or after Run. It tries until ctx ends.
func (j *Journeys) Flush(ctx context.Context) error {
	upTo := j.o.Spool.Tail()
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		err := j.flush(ctx, upTo)
		if err == nil && j.cursor.Load() >= upTo {
			return nil
		}
		if err == nil {
			err = errors.New("the spool does not show all that it counts")
		}
		if errors.Is(err, state.ErrClosed) || errors.Is(err, state.ErrFailed) {
			return fmt.Errorf("flushing journeys: %w", err)
		}
		j.failed(ctx, err)
		if sleep(ctx, pause) != nil {
			return fmt.Errorf("flushing journeys: %w", err)
		}
	}
}

// FoldThrough folds what is spooled below upTo now: somebody waits for it.
func (j *Journeys) FoldThrough(ctx context.Context, upTo uint64) error {
	if err := j.take(ctx); err != nil {
		return err
	}
	defer j.give()
	return j.foldUpTo(ctx, upTo)
}

func (j *Journeys) flush(ctx context.Context, upTo uint64) error {
	if err := j.take(ctx); err != nil {
		return err
	}
	defer j.give()
	if err := j.foldUpTo(ctx, upTo); err != nil {
		return err
	}
	return j.cover(ctx)
}

func (j *Journeys) take(ctx context.Context) error {
	select {
	case <-j.folding:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (j *Journeys) give() { j.folding <- struct{}{} }

// wake ends a wait of Run: there is something to do that is not in the spool.
func (j *Journeys) wake() {
	select {
	case j.woken <- struct{}{}:
	default:
	}
}

// wait returns Settings.Interval after something was spooled, since what is gathered is folded at once, or when it is woken, or when the clock is to
// be looked at.
func (j *Journeys) wait(ctx context.Context) error {
	spooled, cancel := context.WithTimeout(ctx, coverInterval)
	defer cancel()
	arrived := make(chan struct{})
	go func() {
		defer close(arrived)
		_ = j.o.Spool.Wait(spooled, j.cursor.Load()) // whatever it says, the next step looks
	}()
	select {
	case <-arrived:
	case <-j.woken:
		cancel()
		<-arrived
		return ctx.Err()
	}
	gathered := time.NewTimer(j.o.Settings.Interval)
	defer gathered.Stop()
	select {
	case <-gathered.C:
	case <-j.woken:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// failed makes a failure visible until the next success.
func (j *Journeys) failed(ctx context.Context, err error) {
	j.mu.Lock()
	had := j.stats.LastError
	if err == nil {
		j.stats.LastError = ""
	} else {
		j.stats.Failures++
		j.stats.LastError = err.Error()
	}
	j.mu.Unlock()
	switch {
	case err == nil && had != "":
		j.o.Log.InfoContext(ctx, "journeys are folded again")
	case err != nil && had != err.Error():
		j.o.Log.ErrorContext(ctx, "journeys are not folded: trying again", "alarm", true, "error", err)
	}
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
