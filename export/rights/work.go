package rights

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The bounds of one answer. The first item is whole however large it is.
const (
	workItems   = 200
	workBatches = 500
	workBytes   = 8 << 20
)

// work is what the custodian is asked to do: the open jobs by their due dates, and their batches.
func (r *Requests) work() (*proof.Work, error) {
	now := r.now()
	r.mu.Lock()
	r.custody = now
	r.mu.Unlock()
	w := &proof.Work{Node: r.o.Node, Time: now, Items: []proof.Item{}, Batches: []proof.WorkBatch{}}
	open, err := r.atCustodian()
	if err != nil {
		return nil, err
	}
	a := assignment{r: r, work: w, position: map[string]int{}, listed: map[export.BatchID]bool{}}
	for _, q := range open {
		if len(w.Items) == workItems || a.bytes > workBytes || len(w.Batches) >= workBatches {
			break
		}
		if err := a.add(q); err != nil && !errors.Is(err, ErrNotReady) {
			return nil, fmt.Errorf("request %s: %w", q.ID, err)
		}
	}
	if err := a.addWanted(); err != nil {
		return nil, err
	}
	return w, r.addOld(w)
}

// atCustodian lists the requests that are the custodian's turn, the most urgent first.
func (r *Requests) atCustodian() (open []*requestRow, err error) {
	err = r.o.State.View(func(v reader) error {
		ids, err := openRequests(v)
		if err != nil {
			return err
		}
		for _, id := range ids {
			q, err := readRequest(v, id)
			if err != nil {
				return err
			}
			if q.Step == rewriting || q.Step == certifying || q.Step == collecting {
				open = append(open, q)
			}
		}
		return nil
	})
	now := r.now()
	slices.SortStableFunc(open, func(a, b *requestRow) int { return a.Clock.due(now).Compare(b.Clock.due(now)) })
	return open, err
}

// assignment is an answer in the making.
type assignment struct {
	r        *Requests
	work     *proof.Work
	position map[string]int // of a request among the items
	listed   map[export.BatchID]bool
	bytes    int
}

// add adds the item of a request; ErrNotReady where it must wait.
func (a *assignment) add(q *requestRow) error {
	item, ids, err := a.r.item(q)
	if err != nil {
		return err
	}
	if q.Step == collecting {
		// The package is made of the present objects of all its batches.
		var batches []proof.WorkBatch
		for _, id := range ids {
			b, err := a.r.workBatch(id)
			if err != nil {
				return err
			}
			if b.Stage == proof.BatchPublish {
				return ErrNotReady // its present object is not yet stated
			}
			batches = append(batches, b)
		}
		for i, b := range batches {
			if !a.listed[ids[i]] && b.Entry != "" {
				a.list(ids[i], b)
			}
		}
	}
	a.position[q.ID] = len(a.work.Items)
	a.work.Items = append(a.work.Items, *item)
	a.bytes += len(item.Material) + 40*len(item.Batches)
	return nil
}

func (a *assignment) list(id export.BatchID, b proof.WorkBatch) {
	a.listed[id] = true
	a.bytes += len(b.Entry) + len(b.Replaced)
	a.work.Batches = append(a.work.Batches, b)
}

// addWanted adds the batches that the items want rewritten or purged, those of the most urgent first.
func (a *assignment) addWanted() error {
	type wanted struct {
		id    export.BatchID
		by    []string
		first int
	}
	var all []*wanted
	err := a.r.eachWant(func(id export.BatchID, request string, _ byte) error {
		at, ok := a.position[request]
		if !ok {
			return nil
		}
		if len(all) == 0 || all[len(all)-1].id != id {
			all = append(all, &wanted{id: id, first: at})
		}
		last := all[len(all)-1]
		last.by, last.first = append(last.by, request), min(last.first, at)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(x, y *wanted) int { return x.first - y.first })
	for _, x := range all {
		if len(a.work.Batches) >= workBatches || a.bytes > workBytes {
			return nil
		}
		b, err := a.r.workBatch(x.id)
		if errors.Is(err, ErrNotReady) {
			continue
		}
		if err != nil {
			return err
		}
		b.Items = x.by
		if a.listed[x.id] {
			i := slices.IndexFunc(a.work.Batches, func(w proof.WorkBatch) bool { return w.ID == b.ID })
			a.work.Batches[i] = b
			continue
		}
		a.list(x.id, b)
	}
	return a.addRewrapped()
}

// addRewrapped adds the batches that nobody wants rewritten, and whose former object is to be purged: they were encrypted to other recipients.
func (a *assignment) addRewrapped() error {
	var ids []export.BatchID
	err := a.r.o.State.View(func(v reader) error {
		return v.Scan([]byte(batchPrefix), func(key, value []byte) error {
			var row batchRow
			if json.Unmarshal(value, &row) != nil || len(key) != len(batchPrefix)+16 {
				return fmt.Errorf("%w: batch", ErrStored)
			}
			if id := export.BatchID(key[len(batchPrefix):]); row.Number != 0 && !a.listed[id] {
				ids = append(ids, id)
			}
			return nil
		})
	})
	for _, id := range ids {
		if err != nil || len(a.work.Batches) >= workBatches {
			break
		}
		var b proof.WorkBatch
		if b, err = a.r.workBatch(id); err == nil {
			a.list(id, b)
		}
		err = ignore(err, ErrNotReady)
	}
	return err
}

// workBatch is a batch as the custodian is asked to do it; ErrNotReady where its object is not yet in the store.
func (r *Requests) workBatch(id export.BatchID) (b proof.WorkBatch, err error) {
	row, err := r.batch(id)
	if err != nil {
		return b, err
	}
	current, err := r.o.Index.Batch(id)
	if err != nil {
		return b, err
	}
	b = proof.WorkBatch{ID: id.String(), Stage: proof.BatchRewrite, Items: []string{}}
	x, known := r.exits[current.Destination]
	if !known {
		return b, ErrNotReady // the destination was taken out of the configuration: it waits until it is back
	}
	published := x.Shipper.Published()
	stated := current.StatedBy()
	switch {
	case row.Number != 0 && published < row.Number:
		b.Stage, stated = proof.BatchPublish, row.Of
	case stated > published:
		return b, ErrNotReady
	case row.Number != 0:
		b.Stage = proof.BatchPurge
		if b.Replaced, err = r.o.Streams.EntryText(current.Destination, row.Of); err != nil {
			return b, err
		}
	case row.Format == 0:
		b.Stage = proof.BatchDone
	}
	b.Entry, err = r.o.Streams.EntryText(current.Destination, stated)
	return b, err
}

// item is the job of a request with what the custodian needs for its stage, and its batches.
func (r *Requests) item(q *requestRow) (*proof.Item, []export.BatchID, error) {
	own, err := r.own(q)
	if errors.Is(err, subject.ErrShredded) {
		return nil, nil, ErrNotReady
	}
	if err != nil {
		return nil, nil, err
	}
	job, err := r.jobOf(q)
	if err != nil {
		return nil, nil, err
	}
	item := &proof.Item{Job: *job, Stage: proof.StageRewrite, Batches: []string{}}
	var batches map[string][]string
	if _, err := r.thaw(own, frozenBatches, &batches); err != nil {
		return nil, nil, err
	}
	for _, ids := range batches {
		item.Batches = append(item.Batches, ids...)
	}
	slices.Sort(item.Batches)
	ids := make([]export.BatchID, len(item.Batches))
	for i, text := range item.Batches {
		if ids[i], err = export.ParseBatchID(text); err != nil {
			return nil, nil, err
		}
	}
	if item.Approval, err = r.approvalOf(q, own); err != nil {
		return nil, nil, err
	}
	return item, ids, r.complement(item, q, own)
}

// complement adds what the stage asks for.
func (r *Requests) complement(item *proof.Item, q *requestRow, own subject.Subject) (err error) {
	switch q.Step {
	case collecting:
		item.Stage = proof.StageCollect
		var material json.RawMessage
		_, err = r.thaw(own, frozenMaterial, &material)
		item.Material = material
	case certifying:
		item.Stage = proof.StageCertify
		item.Facts, err = r.offered(q)
	}
	return err
}

// approvalOf is what the custodian is shown of the officer's leave. A retention waits until its schedule is in force.
func (r *Requests) approvalOf(q *requestRow, own subject.Subject) (text string, err error) {
	if q.Origin == proof.ByRetention {
		text, err := r.scheduleText(q.Policy)
		if err == nil && text == "" {
			err = ErrNotReady
		}
		return text, err
	}
	_, err = r.thaw(own, frozenApproval, &text)
	return text, err
}

// addOld adds what can be deleted from the store: notices that all have acknowledged, and suppressions whose time is over.
func (r *Requests) addOld(w *proof.Work) error {
	for _, destination := range r.destinations {
		numbers, err := r.acknowledged(destination)
		if err != nil {
			return err
		}
		for _, n := range numbers {
			text, err := r.o.Streams.EntryText(destination, n)
			if err != nil {
				return err
			}
			w.Notices = append(w.Notices, proof.OldNotice{Entry: text})
		}
	}
	keys, _, err := r.overdueJournal()
	for _, key := range keys {
		w.Journal = append(w.Journal, proof.OldJournal{Key: key})
	}
	return err
}
