package rights

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
)

// lease is how long a claim keeps other custodians away. A custodian that works longer claims again, and gets another generation.
const lease = 10 * time.Minute

// Claim is what a custodian may put.
type Claim struct {
	Generation int    `json:"generation"`
	Key        string `json:"key"`
}

// leased is ErrClaimed with its end.
type leased struct{ until time.Time }

func (leased) Error() string { return ErrClaimed.Error() }
func (leased) Unwrap() error { return ErrClaimed }

// claim gives a custodian the next generation of a batch, recorded before anybody puts it. A batch that nobody wants rewritten can be claimed to
// encrypt it to other recipients.
func (r *Requests) claim(ctx context.Context, id export.BatchID, who string) (c Claim, err error) {
	if len(who) < 8 || len(who) > 64 {
		return c, fmt.Errorf("%w: custodian is the random name of a run, 8 to 64 characters", ErrInput)
	}
	current, err := r.o.Index.Batch(id)
	if err != nil {
		return c, err
	}
	x, known := r.exits[current.Destination]
	if !known {
		return c, fmt.Errorf("%w: %s", export.ErrNoDestination, current.Destination)
	}
	err = r.o.State.Update(ctx, func(t *state.Txn) error {
		row, err := readBatch(t, id)
		if err != nil {
			return err
		}
		now := r.now()
		switch {
		case row.Custodian != "" && row.Custodian != who && now.Before(row.Lease):
			return leased{row.Lease}
		case row.Number != 0:
			return fmt.Errorf("%w: its former object is not yet purged", ErrReport)
		}
		if c.Generation, c.Key, err = x.Shipper.Claim(t, id); err != nil {
			return err
		}
		row.Format, row.Destination = rowFormat, current.Destination
		row.Custodian, row.Generation, row.Key, row.Lease = who, c.Generation, c.Key, now.Add(lease)
		return setRow(t, batchKey(id), row)
	})
	// Crash here: claimed, and the custodian was not answered. It claims again and gets the next generation.
	return c, err
}

// rewritten takes the report of a rewritten batch: what it says is held against the batch as the gateway knows it and against the new object in
// the store, and becomes true in one change with its stream entry. It answers the entry's number, 0 where nothing changed.
func (r *Requests) rewritten(ctx context.Context, id export.BatchID, text string) (number uint64, err error) {
	report, err := proof.VerifyRewrite(text, r.o.Custodian)
	if err != nil {
		return 0, unproven(err)
	}
	if report.Batch != id.String() {
		return 0, fmt.Errorf("%w: it is of another batch", ErrReport)
	}
	if number, again, err := r.known(id, text); again || err != nil {
		return number, err
	}
	current, err := r.o.Index.Batch(id)
	if err != nil {
		return 0, err
	}
	// What is checked here and what is read from the store, which the writer must not wait for, stays true until the change: only a report of the
	// generation that was claimed last can replace the batch's object, and only one.
	if err := r.checkRewrite(&current, &report); err != nil {
		return 0, err
	}
	if report.Now != nil {
		if err := r.checkObject(ctx, report.Now); err != nil {
			return 0, err
		}
	}
	err = r.o.State.Update(ctx, func(t *state.Txn) error {
		number, err = r.replace(t, &current, &report, proof.Digest(text))
		return err
	})
	if err != nil {
		return 0, err
	}
	// Crash here: replaced, and the custodian was not answered. It reports again, and known answers the same number.
	r.stir()
	return number, nil
}

func unproven(err error) error {
	if errors.Is(err, proof.ErrSignature) {
		return fmt.Errorf("%w: %w", ErrUnproven, err)
	}
	return fmt.Errorf("%w: %w", ErrReport, err)
}

// known says whether this very report was taken already.
func (r *Requests) known(id export.BatchID, text string) (number uint64, again bool, err error) {
	err = r.o.State.View(func(v reader) error {
		row, err := readBatch(v, id)
		number, again = row.Number, row.Report == proof.Digest(text)
		return err
	})
	return number, again, err
}

// checkRewrite holds a report against the batch as it is.
func (r *Requests) checkRewrite(current *export.BatchRow, report *proof.Rewrite) error {
	switch {
	case current.Empty:
		return fmt.Errorf("%w: no row of the batch is left", ErrReport)
	case report.Before != current.Batch.SHA256:
		return fmt.Errorf("%w: before is not the hash of the batch's object", ErrReport)
	case report.Scanned != current.Batch.Rows:
		return fmt.Errorf("%w: scanned is not the number of its rows", ErrReport)
	case report.At.After(r.now().Add(clockSkew)):
		return fmt.Errorf("%w: at is ahead of the clock", ErrReport)
	case report.Unchanged || report.Now == nil:
		return nil // proof.VerifyRewrite has checked the arithmetic
	}
	was, now := &current.Batch, report.Now
	switch {
	case now.ID != was.ID || now.PolicyHash != was.PolicyHash || now.Schema != was.Schema:
		return fmt.Errorf("%w: id, policy or schema of the new object", ErrReport)
	case now.From.Before(was.From) || now.To.After(was.To):
		return fmt.Errorf("%w: time range of the new object", ErrReport)
	case slices.ContainsFunc(now.Purposes, func(p string) bool { return !slices.Contains(was.Purposes, p) }):
		return fmt.Errorf("%w: purposes of the new object", ErrReport)
	case len(report.Cut) == 0:
		return r.checkRewrap(current, now)
	case !slices.Equal(now.Recipients, was.Recipients):
		return fmt.Errorf("%w: recipients of the new object", ErrReport)
	}
	return nil
}

// checkRewrap: the same rows, for the recipients that are configured now.
func (r *Requests) checkRewrap(current *export.BatchRow, now *export.Batch) error {
	was := &current.Batch
	if now.Rows != was.Rows || !now.From.Equal(was.From) || !now.To.Equal(was.To) || !slices.Equal(now.Purposes, was.Purposes) {
		return fmt.Errorf("%w: nothing was to be cut, and the new object holds other rows", ErrReport)
	}
	if !slices.Equal(now.Recipients, r.exits[current.Destination].Recipients.Names) {
		return fmt.Errorf("%w: recipients of the new object", ErrReport)
	}
	return nil
}

// checkObject reads the new object from the store: its bytes must be those of the report.
func (r *Requests) checkObject(ctx context.Context, b *export.Batch) error {
	body, err := r.o.Objects.Get(ctx, b.Key, b.Version)
	if errors.Is(err, export.ErrNoObject) {
		return fmt.Errorf("%w: the new object is not in the store", ErrReport)
	}
	if err != nil {
		return fmt.Errorf("reading the new object: %w", err)
	}
	defer body.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(body, b.Size+1))
	if err != nil {
		return fmt.Errorf("reading the new object: %w", err)
	}
	if n != b.Size || hex.EncodeToString(h.Sum(nil)) != b.SHA256 {
		return fmt.Errorf("%w: the new object has other bytes", ErrReport)
	}
	return nil
}

// replace makes a checked report true inside t.
func (r *Requests) replace(t *state.Txn, current *export.BatchRow, report *proof.Rewrite, digest string) (number uint64, err error) {
	id, err := export.ParseBatchID(current.Batch.ID)
	if err != nil {
		return 0, err
	}
	row, err := readBatch(t, id)
	switch {
	case err != nil:
		return 0, err
	case row.Number != 0:
		return 0, fmt.Errorf("%w: the batch was rewritten already", ErrReport)
	case r.exits[current.Destination].Shipper == nil:
		return 0, fmt.Errorf("%w: %s", export.ErrNoDestination, current.Destination)
	case !report.Unchanged && (report.Generation != row.Generation || report.Now != nil && report.Now.Key != row.Key):
		return 0, fmt.Errorf("%w: %w", ErrReport, export.ErrClaim)
	}
	if report.Unchanged {
		return 0, r.unchanged(t, id, report, row)
	}
	for request := range report.Cut {
		if err := r.cutDone(t, id, request); err != nil {
			return 0, err
		}
	}
	number, err = r.exits[current.Destination].Shipper.Replace(t, id, report.Generation, report.Now)
	if err != nil {
		return 0, err
	}
	row.Number, row.Of, row.OldKey, row.OldVersion = number, current.StatedBy(), current.Batch.Key, current.Batch.Version
	row.Custodian, row.Lease, row.Report, row.Failed = "", time.Time{}, digest, nil
	return number, setRow(t, batchKey(id), row)
}

// cutDone: a request's rows are cut out of the batch, and its purge is awaited.
func (r *Requests) cutDone(t *state.Txn, id export.BatchID, request string) error {
	q, err := readRequest(t, request)
	if err != nil && !errors.Is(err, ErrNoRequest) {
		return err
	}
	key := wantKey(id, request)
	if v, err2 := t.Get(key); err != nil || q.Step != rewriting || err2 != nil || v[0] != wantsRewrite {
		return fmt.Errorf("%w: a request that it cuts out did not ask for it", ErrReport)
	}
	t.Set(key, []byte{wantsPurge})
	return nil
}

// unchanged: the requests have no row in the batch, and nothing of theirs is to be purged.
func (r *Requests) unchanged(t *state.Txn, id export.BatchID, report *proof.Rewrite, row batchRow) error {
	for request := range report.Cut {
		v, err := t.Get(wantKey(id, request))
		if errors.Is(err, state.ErrNotFound) {
			continue // told before
		}
		if err != nil {
			return err
		}
		q, err := readRequest(t, request)
		if err != nil || q.Step != rewriting || v[0] != wantsRewrite {
			return fmt.Errorf("%w: a request that it names did not ask for it", ErrReport)
		}
		if err := r.batchDone(t, id, q); err != nil {
			return err
		}
	}
	row.Failed = nil
	return r.tidy(t, id, row)
}

// batchDone: one batch less for a request to wait for.
func (r *Requests) batchDone(t *state.Txn, id export.BatchID, q *requestRow) error {
	t.Delete(wantKey(id, q.ID))
	q.Done++
	return q.set(t)
}

// tidy writes the row, or drops it where nobody wants the batch any more.
func (r *Requests) tidy(t *state.Txn, id export.BatchID, row batchRow) error {
	wanted := row.Number != 0
	err := t.Scan(append([]byte(wantPrefix), id[:]...), func([]byte, []byte) error {
		wanted = true
		return state.ErrStop
	})
	if err != nil {
		return err
	}
	if !wanted {
		t.Delete(batchKey(id))
		return nil
	}
	return setRow(t, batchKey(id), row)
}
