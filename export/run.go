package export

import (
	"context"
	"fmt"
	"time"
)

// runSealing seals batches as they become due, until ctx ends.
func (s *Shipper) runSealing(ctx context.Context) error {
	return s.work(ctx, "sealing", &s.seal, func(ctx context.Context) error {
		if err := s.awaitDue(ctx); err != nil {
			return err
		}
		_, err := s.sealOne(ctx, s.o.Spool.Tail())
		return err
	})
}

// spoolPause is how long to wait for a record that the spool counts and does not show.
const spoolPause = 100 * time.Millisecond

// awaitDue returns when a batch is due: Interval after its first event was received, or when the spool has enough to fill an object.
func (s *Shipper) awaitDue(ctx context.Context) error {
	cursor := s.cursor.Load()
	if err := s.o.Spool.Wait(ctx, cursor); err != nil {
		return fmt.Errorf("waiting for the spool: %w", err)
	}
	head, err := s.o.Spool.Peek(ctx, cursor, 1)
	if err != nil {
		return fmt.Errorf("reading spool: %w", err)
	}
	if len(head) == 0 {
		// What lies between here and the tail is not durable yet, or was skipped. The cursor waits for a record that it can see.
		return sleep(ctx, min(s.o.Interval/10, spoolPause))
	}
	age := s.o.Now().Sub(time.UnixMilli(head[0].Event.ReceivedMillis))
	due := min(s.o.Interval-age, s.o.Interval) // a clock that was set back must not stretch it
	if due <= 0 {
		return nil
	}
	enough, err := s.enough(ctx)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, due)
	defer cancel()
	err = s.o.Spool.Wait(wait, head[0].Position+enough-1)
	if err != nil && wait.Err() == nil {
		return fmt.Errorf("waiting for the spool: %w", err)
	}
	return ctx.Err()
}

// enough is the number of spooled events that fill an object, by what earlier batches were. It waits for a seal that a Flush has going on
// beside: what it reads is that one's to change.
func (s *Shipper) enough(ctx context.Context) (uint64, error) {
	if err := s.sealing.take(ctx); err != nil {
		return 0, err
	}
	defer s.sealing.give()
	return uint64(float64(s.rowLimit()) / max(s.keptShare, 0.001)), nil
}

// sealUpTo seals everything below upTo, due or not.
func (s *Shipper) sealUpTo(ctx context.Context, upTo uint64) error {
	r := s.newRetry()
	for {
		moved, err := s.sealOne(ctx, upTo)
		switch {
		case err == nil && !moved:
			return nil
		case err == nil:
			r.failed = 0
			s.report(ctx, "sealing", &s.seal, nil)
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case noMoreState(err):
			return err
		}
		s.report(ctx, "sealing", &s.seal, err)
		if err := r.pause(ctx, err); err != nil {
			return err
		}
	}
}
