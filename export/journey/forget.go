package journey

import (
	"context"
	"fmt"

	"github.com/octroi/octroi/consent/state"
)

// Forget deletes all that this package ever kept in state: no purpose is for journeys any more, so none of it may be kept (GDPR Art. 5(1)(b), (e)). It is
// done in as many changes as it takes; one that a crash cut short is gone on with at the next call.
func Forget(ctx context.Context, s *state.Store) error {
	for more := true; more; {
		err := s.Update(ctx, func(t *state.Txn) (err error) {
			more, err = deletePrefix(t, allPrefix)
			return err
		})
		if err != nil {
			return fmt.Errorf("forgetting journeys: %w", err)
		}
	}
	return nil
}
