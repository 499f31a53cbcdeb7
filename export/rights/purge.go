package rights

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
)

// purgedBatch takes the report that no former object of a batch is left. The gateway looks for the last of them itself, as far as its rights go.
func (r *Requests) purgedBatch(ctx context.Context, id export.BatchID, text string) error {
	report, err := proof.VerifyPurge(text, r.o.Custodian)
	if err != nil {
		return unproven(err)
	}
	if report.Batch != id.String() {
		return fmt.Errorf("%w: it is of another batch", ErrReport)
	}
	current, err := r.o.Index.Batch(id)
	if err != nil {
		return err
	}
	row, err := r.batch(id)
	switch {
	case err != nil:
		return err
	case report.Current != current.Batch.Key && !current.Empty, report.Current != "" && current.Empty:
		return fmt.Errorf("%w: current is not the batch's object", ErrReport)
	case row.Number == 0:
		return nil // told before
	case r.exits[row.Destination].Shipper == nil:
		return fmt.Errorf("%w: %s", export.ErrNoDestination, row.Destination)
	case r.exits[row.Destination].Shipper.Published() < row.Number:
		return fmt.Errorf("%w: the entry that replaces the object is not yet published", ErrReport)
	case report.Verified.After(r.now().Add(clockSkew)) || report.Verified.Before(r.now().Add(-staleReport)):
		return fmt.Errorf("%w: verified is not a time of today", ErrReport)
	}
	if err := r.checkGone(ctx, &row); err != nil {
		return err
	}
	for more := true; more; {
		// Crash here: some of the requests, or none, do not wait for the batch any more; the custodian, which was not answered, reports again.
		err = r.o.State.Update(ctx, func(t *state.Txn) error {
			more, err = r.purge(t, id, row.Number, current.Empty)
			return err
		})
		if err != nil {
			return err
		}
	}
	r.stir()
	return nil
}

// staleReport is the age of a verification beyond which it is made again.
const staleReport = 24 * time.Hour

// checkGone: the object that was replaced must not be there for the gateway to read.
func (r *Requests) checkGone(ctx context.Context, row *batchRow) error {
	gone, err := r.vanished(ctx, row.OldKey, row.OldVersion)
	if err != nil {
		return fmt.Errorf("looking for the former object: %w", err)
	}
	if !gone {
		return fmt.Errorf("%w: the former object is still there", ErrReport)
	}
	return nil
}

// purgeChunk bounds the requests that stop to wait for a batch in one change.
const purgeChunk = 100

// purge makes the report true inside t, for some of the requests at a time. Of a batch that is empty nobody wants anything any more.
func (r *Requests) purge(t *state.Txn, id export.BatchID, number uint64, empty bool) (more bool, err error) {
	row, err := readBatch(t, id)
	if err != nil || row.Number != number {
		return false, err
	}
	prefix := append([]byte(wantPrefix), id[:]...)
	var done []string
	err = t.Scan(prefix, func(key, value []byte) error {
		if !empty && !bytes.Equal(value, []byte{wantsPurge}) {
			return nil
		}
		if len(done) == purgeChunk {
			more = true
			return state.ErrStop
		}
		request, err := idOf(key)
		done = append(done, request)
		return err
	})
	if err != nil {
		return false, err
	}
	for _, request := range done {
		q, err := readRequest(t, request)
		if err != nil {
			return false, err
		}
		if err := r.batchDone(t, id, q); err != nil {
			return false, err
		}
	}
	if more {
		return true, nil
	}
	row.Number, row.Of, row.OldKey, row.OldVersion, row.Failed = 0, 0, "", "", nil
	return false, r.tidy(t, id, row)
}

// batch reads a batch's row; zero where nobody wants anything of it.
func (r *Requests) batch(id export.BatchID) (row batchRow, err error) {
	err = r.o.State.View(func(v reader) error {
		row, err = readBatch(v, id)
		return err
	})
	return row, err
}

// maxDetail bounds what a custodian may say of a failure, in bytes.
const maxDetail = 500

// failures are the codes of a batch that could not be done, refusals those of a job that is not obeyed.
func failures() []string {
	return []string{"gone", "hash", "identity", "entry", "damaged", "locked", "store"}
}

func refusals() []string {
	return []string{"cap", "approval", "pseudonyms", "schedule", "replay", "facts"}
}

// failed remembers why a batch could not be done. It stays to be done.
func (r *Requests) failed(ctx context.Context, id export.BatchID, why Refusal) error {
	return r.o.State.Update(ctx, func(t *state.Txn) error {
		row, err := readBatch(t, id)
		if err != nil {
			return err
		}
		if row.Format == 0 {
			return export.ErrNoBatch // nobody wants anything of it
		}
		why.At = r.now()
		row.Failed = &why
		r.o.Log.Error("the custodian could not rewrite a batch", "alarm", true, "batch", id.String(), "code", why.Code)
		return setRow(t, batchKey(id), row)
	})
}

// refused remembers why the custodian does not carry out a job: it waits, and says why.
func (r *Requests) refused(ctx context.Context, id string, why Refusal) error {
	_, err := r.change(ctx, id, func(_ *state.Txn, q *requestRow) error {
		if q.State != InProgress {
			return fmt.Errorf("%w: it is %s", ErrTransition, q.State)
		}
		why.At = r.now()
		q.Refused = &why
		r.o.Log.Error("the custodian does not carry out a request", "alarm", true, "request", id, "code", why.Code)
		return nil
	})
	return err
}

// unwant takes back, some at a time, everything that a request wants of batches: it ends without.
func (r *Requests) unwant(ctx context.Context, request string) error {
	const chunk = 500 // batches a change
	wanted, err := r.wantedBy(request)
	if err != nil {
		return err
	}
	for len(wanted) > 0 {
		part := wanted[:min(len(wanted), chunk)]
		wanted = wanted[len(part):]
		err := r.o.State.Update(ctx, func(t *state.Txn) error {
			for _, id := range part {
				t.Delete(wantKey(id, request))
				row, err := readBatch(t, id)
				if err != nil {
					return err
				}
				if err := r.tidy(t, id, row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("taking back what was wanted: %w", err)
		}
	}
	return nil
}

func (r *Requests) wantedBy(request string) (ids []export.BatchID, err error) {
	err = r.eachWant(func(batch export.BatchID, who string, _ byte) error {
		if who == request {
			ids = append(ids, batch)
		}
		return nil
	})
	return ids, err
}

// eachWant calls fn for everything that requests want of batches, in the order of batches.
func (r *Requests) eachWant(fn func(batch export.BatchID, request string, what byte) error) error {
	return r.o.State.View(func(v reader) error {
		return v.Scan([]byte(wantPrefix), func(key, value []byte) error {
			request, err := idOf(key)
			if err != nil || len(key) != len(wantPrefix)+32 || len(value) != 1 {
				return errors.Join(err, fmt.Errorf("%w: want", ErrStored))
			}
			return fn(export.BatchID(key[len(wantPrefix):len(wantPrefix)+16]), request, value[0])
		})
	})
}
