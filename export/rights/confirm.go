package rights

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export/rights/proof"
)

// reached is the number up to which every loader of a destination has acknowledged this node's stream; 0 where none ever did.
func (r *Requests) reached(destination string) (number uint64, err error) {
	acks, err := r.o.Acks.List(destination)
	if err != nil {
		return 0, err
	}
	first := true
	for _, a := range acks {
		if a.Node != r.o.Node {
			continue
		}
		if first || a.Number < number {
			number = a.Number
		}
		first = false
	}
	return number, nil
}

// endNotices notes who acknowledged, and who did not within the limit; when all did and everything is purged, the facts go to the custodian.
func (r *Requests) endNotices(ctx context.Context, q *requestRow) error {
	news := make(map[string]bool, len(q.Notices)) // destination → acknowledged; false: the limit has passed
	now := r.now()
	for i := range q.Notices {
		n := &q.Notices[i]
		if n.settled() || n.Number == 0 {
			continue
		}
		number, err := r.reached(n.Destination)
		if err != nil {
			return err
		}
		if acknowledged := number >= n.Number; acknowledged || now.Sub(n.Entered) > r.o.AckLimit {
			news[n.Destination] = acknowledged
		}
	}
	if len(news) == 0 && (q.Step != purged || !q.allSettled()) {
		return nil
	}
	q, err := r.change(ctx, q.ID, func(t *state.Txn, q *requestRow) error { return r.confirm(t, q, news) })
	if err != nil || q.Step != purged || !q.allSettled() {
		return err
	}
	if q.Batches == 0 && q.Origin == proof.ByWithdrawal {
		return r.endEmpty(ctx, q)
	}
	return r.offerFacts(ctx, q)
}

// endEmpty completes the erasure of a withdrawal by somebody of whom nothing was ever shipped: there is nothing that a custodian could have
// seen, and most visitors who change their mind must not use up its daily cap.
func (r *Requests) endEmpty(ctx context.Context, q *requestRow) error {
	_, err := r.change(ctx, q.ID, func(t *state.Txn, q *requestRow) error {
		if q.Step != purged {
			return nil
		}
		if err := q.move(complete); err != nil {
			return err
		}
		r.close(t, q)
		return r.note(t, q, proof.Leaf{Event: proof.EventCompleted, Actor: gateway})
	})
	return err
}

func (r *Requests) confirm(t *state.Txn, q *requestRow, news map[string]bool) error {
	for i := range q.Notices {
		n := &q.Notices[i]
		acknowledged, known := news[n.Destination]
		if !known || n.settled() {
			continue
		}
		if !acknowledged {
			n.GivenUp = r.now()
			r.o.Log.Warn("a destination has not acknowledged an erasure in time", "alarm", true, "request", q.ID, "destination", n.Destination)
			continue
		}
		n.Confirmed = r.now()
		leaf := proof.Leaf{Event: proof.EventConfirmed, Actor: gateway, Time: n.Confirmed, Destination: n.Destination, Number: n.Number}
		if err := r.note(t, q, leaf); err != nil {
			return err
		}
	}
	return nil
}

func (q *requestRow) allSettled() bool {
	for i := range q.Notices {
		if !q.Notices[i].settled() {
			return false
		}
	}
	return true
}

// maxOld bounds what is offered to the custodian for deletion at one time, of each destination.
const maxOld = 100

// acknowledged are the numbers of entries with notices that every loader of a destination has acknowledged: nobody needs the objects any more.
func (r *Requests) acknowledged(destination string) (numbers []uint64, err error) {
	upTo, err := r.reached(destination)
	if err != nil || upTo == 0 {
		return nil, err
	}
	prefix := sentPrefix + destination + "/"
	err = r.o.State.View(func(v reader) error {
		return v.Scan([]byte(prefix), func(key, _ []byte) error {
			if len(key) != len(prefix)+8 {
				return fmt.Errorf("%w: entry with notices", ErrStored)
			}
			n := binary.BigEndian.Uint64(key[len(prefix):])
			if n > upTo || len(numbers) == maxOld {
				return state.ErrStop
			}
			numbers = append(numbers, n)
			return nil
		})
	})
	return numbers, err
}
