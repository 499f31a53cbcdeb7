package rights

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// suppress begins an erasure inside t: of everything by revoking the subject, of some purposes by withdrawing them. From the commit on no intent can
// hold what is erased, so every batch that does has a number up to the heads; and what is agreed to anew comes after both.
func (r *Requests) suppress(t *state.Txn, q *requestRow, s subject.Subject) error {
	if err := r.revoke(t, q, s); err != nil {
		return err
	}
	if r.o.Journeys != nil {
		if err := r.o.Journeys.Erase(t, s, q.Purposes); err != nil {
			return fmt.Errorf("subtracting journeys: %w", err)
		}
	}
	heads, err := export.Heads(t, r.destinations...)
	if err != nil {
		return err
	}
	if err := q.move(begin); err != nil {
		return err
	}
	q.Step, q.Heads, q.Suppressed = suppressed, heads, r.now()
	return r.note(t, q, proof.Leaf{Event: proof.EventSuppressed, Actor: gateway, Time: q.Suppressed})
}

func (r *Requests) revoke(t *state.Txn, q *requestRow, s subject.Subject) error {
	if len(q.Purposes) == 0 {
		return r.o.Ledger.Suppress(t, s)
	}
	if q.Origin != proof.ByWithdrawal {
		err := r.o.Ledger.WithdrawIn(t, s, consent.Withdrawal{Purposes: q.Purposes, Method: "request", Entity: gateway})
		if err != nil {
			return err
		}
	}
	// The withdrawal just made left a job of its own: this request is that job.
	return dropWithdrawn(t, s.Slot(), q.Purposes)
}

// freezeSubject seals under the request's slot what must be known of the subject after its key is gone: the batches that hold its rows, the
// notices to the destinations that received them, and what tells a restored backup of the erasure (rights.md step 1).
func (r *Requests) freezeSubject(ctx context.Context, q *requestRow) error {
	own, err := r.own(q)
	if err != nil {
		return err
	}
	batches, err := r.batchesOfOwner(ctx, q, own)
	if err != nil {
		return err
	}
	if err := r.freeze(ctx, own, frozenBatches, batches); err != nil {
		return err
	}
	var told []noticeRow
	for _, destination := range slices.Sorted(maps.Keys(batches)) {
		if _, known := r.exits[destination]; !known {
			continue // taken out of the configuration since: severing does not wait for it, the rewriting does
		}
		n, err := r.freezeNotices(ctx, q, own, destination, batches[destination])
		if err != nil {
			return err
		}
		told = append(told, n)
	}
	// Crash here: all of it is done again; nothing of it was shown to anybody.
	_, err = r.change(ctx, q.ID, func(_ *state.Txn, q *requestRow) error {
		if q.Step != suppressed {
			return nil
		}
		q.Step, q.Notices = frozen, told
		for _, ids := range batches {
			q.Batches += len(ids)
		}
		return nil
	})
	return err
}

// batchesOfOwner are the batches of whose request it is. On the way it freezes the mark, which needs the subject's key as well.
func (r *Requests) batchesOfOwner(ctx context.Context, q *requestRow, own subject.Subject) (map[string][]string, error) {
	s, err := r.whose(q)
	if errors.Is(err, subject.ErrShredded) && len(q.Purposes) == 0 {
		return r.everyBatch(ctx, q)
	}
	if err != nil {
		return nil, err
	}
	mark, err := r.o.Subjects.Mark(s)
	if err != nil {
		return nil, fmt.Errorf("marking subject: %w", err)
	}
	x := suppression{
		Version: rowFormat, Request: q.ID, Origin: q.Origin, Received: q.Clock.Received, Mark: mark, Purposes: q.Purposes, At: q.Suppressed,
	}
	if err := r.freeze(ctx, own, frozenMark, x); err != nil {
		return nil, err
	}
	return r.batchesOf(s, q.Heads)
}

// everyBatch is for a gateway whose state was restored beside a slot file that is newer: the subject is destroyed, and with its key went the index of
// its rows. Its pseudonyms are in the job, so the custodian looks through everything.
func (r *Requests) everyBatch(ctx context.Context, q *requestRow) (map[string][]string, error) {
	r.o.Log.WarnContext(ctx, "it is not known which batches hold rows of an erased subject: all are looked through", "alarm", true, "request", q.ID)
	ids := map[string][]string{}
	for destination, head := range q.Heads {
		rows, _, err := r.o.Index.Sealed(destination, 0, int(head))
		if err != nil {
			return nil, err
		}
		for i := range rows {
			left, err := r.leftOf(&rows[i])
			if err != nil {
				return nil, err
			}
			if left {
				ids[destination] = append(ids[destination], rows[i].Batch.ID)
			}
		}
		slices.Sort(ids[destination])
	}
	return ids, nil
}

// batchesOf are the ids of the batches that may hold rows of s, by destination: those of the index that were sealed up to heads, and those that a
// restored gateway adopted without knowing whose rows they hold.
func (r *Requests) batchesOf(s subject.Subject, heads map[string]uint64) (map[string][]string, error) {
	known, err := r.o.Index.Batches(s)
	if err != nil {
		return nil, err
	}
	unknown, err := r.o.Index.Unindexed(r.destinations...)
	if err != nil {
		return nil, err
	}
	ids := map[string][]string{}
	for _, b := range slices.Concat(known, unknown) {
		head, known := heads[b.Destination]
		if !known {
			r.o.Log.Error("a batch is of a destination that is not configured: what it holds stays", "alarm", true, "destination", b.Destination)
			continue
		}
		if b.Number > head {
			continue // sealed since, without what is erased
		}
		left, err := r.leftOf(&b)
		if err != nil {
			return nil, err
		}
		if left {
			ids[b.Destination] = append(ids[b.Destination], b.Batch.ID)
		}
	}
	for d := range ids {
		ids[d] = slices.Compact(slices.Sorted(slices.Values(ids[d])))
	}
	return ids, nil
}

// leftOf says whether something of a batch is in the store: its object, or a former one that is not yet proven gone.
func (r *Requests) leftOf(b *export.BatchRow) (bool, error) {
	if !b.Empty {
		return true, nil
	}
	id, err := export.ParseBatchID(b.Batch.ID)
	if err != nil {
		return false, err
	}
	row, err := r.batch(id)
	return row.Number != 0, err
}

// freezeNotices seals what one destination is told: no more of it than whose rows go from which batches (rights.md D12).
func (r *Requests) freezeNotices(
	ctx context.Context, q *requestRow, own subject.Subject, destination string, batches []string,
) (noticeRow, error) {
	job, err := r.jobOf(q)
	if err != nil {
		return noticeRow{}, err
	}
	n := export.Notice{Version: 1}
	row := noticeRow{Destination: destination, Type: export.EraseEntry}
	for _, w := range job.Destinations {
		if w.Destination == destination {
			n.Devices, n.Persons = w.Devices, w.Persons
		}
	}
	if len(q.Purposes) > 0 {
		row.Type, n.Purposes, n.Rules = export.WithdrawEntry, q.Purposes, r.rulesAt(destination, job.Rules)
	}
	var sealed [][]byte
	for ids := range slices.Chunk(batches, export.NoticeBatches) {
		n.Batches = ids
		one, err := export.SealNotice(n, r.exits[destination].Recipients)
		if err != nil {
			return noticeRow{}, fmt.Errorf("sealing notice: %w", err)
		}
		sealed = append(sealed, one)
	}
	return row, r.freeze(ctx, own, frozenNotices+destination, sealed)
}

// rulesAt are the rules of a job for the purposes that a destination receives: the custodian cuts by the same.
func (r *Requests) rulesAt(destination string, rules export.PurposeRules) export.PurposeRules {
	rules = maps.Clone(rules)
	for _, p := range r.o.Policy.Purposes() {
		if r.o.Policy.RecipientOf(destination)&p.Bit() == 0 {
			delete(rules, p.ID)
		}
	}
	return rules
}

// sever destroys the subject (rights.md step 3). Nothing is waited for: not the journal, whose content is frozen and is put as soon as the
// store answers, nor the custodian.
func (r *Requests) sever(ctx context.Context, q *requestRow) error {
	if err := r.keepMark(ctx, q); err != nil {
		return err
	}
	var slot subject.Slot
	var left consent.Severance
	if len(q.Purposes) == 0 {
		err := r.endOthers(ctx, q)
		if err != nil {
			return err
		}
		if slot, left, err = r.destroy(ctx, q); err != nil {
			return fmt.Errorf("severing: %w", err)
		}
	}
	// Crash here: the subject is destroyed and the request does not say so yet. The next start comes here again.
	_, err := r.change(ctx, q.ID, func(t *state.Txn, q *requestRow) error {
		if q.Step != frozen {
			return nil
		}
		q.Step = severed
		// From here on nothing new of what was erased can be spooled; what is spooled already lies below the tail, and of a whole subject opens
		// to nobody.
		q.Tail = r.o.Tail()
		if len(q.Purposes) > 0 {
			return nil
		}
		q.Severed, q.Kept, q.KeptUntil = r.now(), left.Kept, left.Until
		if err := r.o.Ledger.ForgetSevered(t, slot); err != nil {
			return err
		}
		return r.note(t, q, proof.Leaf{Event: proof.EventSevered, Actor: gateway, Time: q.Severed, Remains: r.remains(q)})
	})
	return err
}

// destroy severs the subject of a request, or learns what a call before a crash left of it.
func (r *Requests) destroy(ctx context.Context, q *requestRow) (slot subject.Slot, left consent.Severance, err error) {
	own, err := r.own(q)
	if err != nil {
		return 0, left, fmt.Errorf("%w: %w", ErrStored, err) // not ErrShredded: the request itself must not be taken for erased
	}
	var id identityRow
	if found, err := r.thaw(own, frozenIdentity, &id); err != nil || !found {
		return 0, left, errors.Join(ErrStored, err)
	}
	left, done, err := r.o.Ledger.Severed(ctx, id.Slot)
	if err != nil || done {
		return id.Slot, left, err
	}
	s, err := r.o.Subjects.BySlot(id.Slot)
	if errors.Is(err, subject.ErrShredded) {
		return id.Slot, left, nil // by a slot file that is newer than the state: see everyBatch
	}
	if err == nil {
		left, err = r.o.Ledger.Sever(ctx, s)
	}
	return id.Slot, left, err
}

// remains is what an erasure of everything leaves, and until when (GDPR Art. 17(3)), in the order that certificates have.
func (r *Requests) remains(q *requestRow) []proof.Exception {
	if q.Severed.IsZero() {
		return nil
	}
	var list []proof.Exception
	if q.Kept > 0 {
		list = append(list, proof.Exception{What: proof.RemainsConsentProofs, Count: q.Kept, Until: q.KeptUntil, Basis: "GDPR Art. 17(3)(e)"})
	}
	list = append(list, proof.Exception{What: proof.RemainsSuppression, Until: q.Suppressed.Add(suppressionKept), Basis: "GDPR Art. 17(3)(b)"})
	if r.o.KeyCopies > 0 {
		list = append(list, proof.Exception{What: proof.RemainsKeyCopies, Until: q.Severed.Add(r.o.KeyCopies), Basis: "GDPR Art. 32(1)(c)"})
	}
	for i := range list {
		list[i].Until = list[i].Until.UTC().Truncate(time.Millisecond)
	}
	return list
}

// enlist asks for the batches to be rewritten. The custodian sees none of them before the request says that all are enlisted.
func (r *Requests) enlist(ctx context.Context, q *requestRow) error {
	const chunk = 1000 // batches a change
	own, err := r.own(q)
	if err != nil {
		return err
	}
	batches := map[string][]string{}
	if _, err := r.thaw(own, frozenBatches, &batches); err != nil {
		return err
	}
	done := 0
	for destination, ids := range batches {
		for part := range slices.Chunk(ids, chunk) {
			gone, err := r.want(ctx, q.ID, destination, part)
			if err != nil {
				return fmt.Errorf("enlisting batches: %w", err)
			}
			done += gone
			// Crash here: some are enlisted. The next pass enlists all of them again, which changes nothing of those.
		}
	}
	_, err = r.change(ctx, q.ID, func(t *state.Txn, q *requestRow) error {
		if q.Step != severed {
			return nil
		}
		q.Step, q.Done = rewriting, done
		return r.announce(t, q)
	})
	return err
}

// want writes that a request wants batches of one destination rewritten, or purged where no row is left of them. It answers how many are gone
// altogether meanwhile.
func (r *Requests) want(ctx context.Context, request, destination string, texts []string) (gone int, err error) {
	type batch struct {
		id    export.BatchID
		empty bool
	}
	var batches []batch
	for _, text := range texts {
		id, err := export.ParseBatchID(text)
		if err != nil {
			return 0, err
		}
		current, err := r.o.Index.Batch(id)
		if err != nil {
			return 0, err
		}
		batches = append(batches, batch{id, current.Empty})
	}
	err = r.o.State.Update(ctx, func(t *state.Txn) error {
		gone = 0
		for _, b := range batches {
			row, err := readBatch(t, b.id)
			if err != nil {
				return err
			}
			what := wantsRewrite
			switch {
			case b.empty && row.Number == 0:
				gone++
				continue
			case b.empty:
				what = wantsPurge
			case row.Format == 0:
				if err := setRow(t, batchKey(b.id), batchRow{Format: rowFormat, Destination: destination}); err != nil {
					return err
				}
			}
			t.Set(wantKey(b.id, request), []byte{what})
		}
		return nil
	})
	return gone, err
}
