package sweep

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize"
)

// The methods that a certificate names. Which batches the gateway's index has is the gateway's knowledge: the custodian speaks of those it was named.
const (
	methodWhole    = "rows dropped from every batch that the gateway named, former versions deleted by id and proven absent"
	methodPurposes = "purposes taken out of rows of every batch that the gateway named, former versions deleted by id and proven absent"
	methodReread   = "; some batches were read again: none of the rows is left"
)

// clockSkew is how far the gateway's clock may be ahead.
const clockSkew = 5 * time.Minute

// finish does what an item needs once its batches are done: the package of an access, the certificate of an erasure.
func (p *pass) finish(ctx context.Context, o *order, work *proof.Work) (err error) {
	switch o.item.Stage {
	case proof.StageCollect:
		err = p.collect(ctx, o)
	case proof.StageCertify:
		if !p.first("certify " + o.request()) {
			return nil
		}
		err = p.certify(ctx, o, work)
	}
	var why Reason
	switch {
	case err == nil, fatal(ctx, err):
		return err
	case errors.As(err, &why):
	case errors.Is(err, proof.ErrMismatch), errors.Is(err, proof.ErrStatement), errors.Is(err, proof.ErrSignature):
		why = Reason{Code: RefusedFacts, Detail: err.Error()}
	default:
		why = reasonOf(err)
	}
	return p.refuse(ctx, o.request(), Reason{Code: RefusedFacts, Detail: why.Detail})
}

// certify signs what this custodian saw, and what the gateway's evidence proves; otherwise nothing.
func (p *pass) certify(ctx context.Context, o *order, work *proof.Work) error {
	token := o.row.Certificate // of a request that is completed: the answer is what it was
	if token == "" {
		var err error
		if token, err = p.certificate(ctx, o, work); err != nil {
			return err
		}
	}
	// Crash here: it is made again.
	err := p.s.o.Gateway.Certificate(ctx, o.request(), token)
	if errors.Is(err, ErrRejected) { // another custodian was faster
		p.waits()
		return nil
	}
	if err != nil {
		return fmt.Errorf("sending a certificate: %w", err)
	}
	if err := p.s.memory.complete(o.request(), token, o.item.Batches, p.s.o.Now().UTC()); err != nil {
		return err
	}
	p.count(func(r *Report) { r.Certificates++ })
	return nil
}

func (p *pass) certificate(ctx context.Context, o *order, work *proof.Work) (string, error) {
	j, facts := &o.item.Job, o.item.Facts
	switch {
	case facts == nil:
		return "", refusal(RefusedFacts, "the gateway states no facts")
	case !facts.Received.Equal(j.Received): // the deadline runs from there: it is what was taken up, or approved
		return "", refusal(RefusedFacts, "it was received at another time than the job says")
	case facts.Purged.After(p.s.o.Now().Add(clockSkew)):
		return "", refusal(RefusedFacts, "it will be purged in the future")
	}
	c := proof.Certificate{
		Version: 1, Node: j.Node, Request: j.Request, Right: j.Right, Origin: j.Origin, Purposes: j.Purposes, Facts: *facts,
		Method: methodWhole, Completed: p.s.o.Now().UTC(), Approved: o.approved,
	}
	if len(j.Purposes) > 0 {
		c.Method = methodPurposes
	}
	reread, err := p.systems(ctx, o, work, &c)
	if err != nil {
		return "", err
	}
	if reread {
		c.Method += methodReread
	}
	// Prove comes before the signature: nothing is signed that was not seen or proven.
	if err := c.Prove(p.s.o.Log); err != nil {
		return "", err
	}
	return proof.SignCertificate(c, p.s.o.Key)
}

// systems adds up what this custodian remembers of the job's batches. One that it does not remember is read again.
func (p *pass) systems(ctx context.Context, o *order, work *proof.Work, c *proof.Certificate) (reread bool, err error) {
	all := map[string]*proof.System{}
	for _, w := range o.item.Job.Destinations {
		all[w.Destination] = &proof.System{Destination: w.Destination}
	}
	for _, id := range o.item.Batches {
		row, found, err := p.s.memory.done(id, o.request())
		if err != nil {
			return false, err
		}
		if !found || row.Generation > 0 && !row.Purged {
			if row, err = p.reread(ctx, o, id, work); err != nil {
				return false, err
			}
			reread = true
		}
		s := all[row.Destination]
		if s == nil {
			s = &proof.System{Destination: row.Destination}
			all[row.Destination] = s
		}
		tally(s, row)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c.Systems = append(c.Systems, *all[name])
	}
	return reread, nil
}

func tally(s *proof.System, row doneRow) {
	s.Objects++
	switch {
	case row.Emptied:
		s.Deleted++
	case row.Generation > 0:
		s.Rewritten++
	}
	s.Rows, s.Reduced, s.Versions = s.Rows+row.Erased, s.Reduced+row.Reduced, s.Versions+row.Versions
}

// reread looks whether a batch is as if this custodian had swept it: no row of the job, and no version of another object.
func (p *pass) reread(ctx context.Context, o *order, id string, work *proof.Work) (doneRow, error) {
	token, err := p.entryOf(ctx, o, id, work)
	if err != nil {
		return doneRow{}, err
	}
	st, err := p.s.stated(ctx, id, token)
	if err != nil {
		return doneRow{}, err
	}
	if err := o.concerns(st.entry.Destination); err != nil {
		return doneRow{}, err
	}
	row := doneRow{Destination: st.entry.Destination}
	if st.batch != nil {
		row.Scanned = st.batch.Rows
		c, err := p.due(ctx, &st, []*order{o})
		if err != nil {
			return doneRow{}, err
		}
		if len(c.orders) == 0 {
			return doneRow{}, refusal(RefusedFacts, "batch %s is not over yet", id)
		}
		err = p.rows(ctx, st.batch, func(rows []pseudonymize.Row) error {
			for i := range rows {
				if c.row(&rows[i]); c.changed() {
					return refusal(RefusedFacts, "batch %s still holds rows of the job", id)
				}
			}
			return nil
		})
		if err != nil {
			return doneRow{}, err
		}
	}
	others, err := p.others(ctx, &st)
	if err != nil {
		return doneRow{}, err
	}
	if len(others) > 0 {
		return doneRow{}, refusal(RefusedFacts, "%d other versions of batch %s are left", len(others), id)
	}
	return row, nil
}

// entryOf is the entry that states a batch: as the gateway gives it, else from the streams of the job's destinations, which are read once a pass.
func (p *pass) entryOf(ctx context.Context, o *order, id string, work *proof.Work) (string, error) {
	for _, w := range work.Batches {
		if w.ID == id {
			return w.Entry, nil
		}
	}
	for _, destination := range slices.Sorted(maps.Keys(o.whose)) {
		if p.streams[destination] == nil {
			present := map[string]uint64{}
			err := p.s.walk(ctx, destination, func(e export.Entry) {
				switch {
				case e.Batch != nil:
					present[e.Batch.ID] = e.Number
				case e.Replace != nil:
					present[e.Replace.Batch] = e.Number
				}
			})
			if err != nil {
				return "", err
			}
			p.streams[destination] = present
		}
		if number, ok := p.streams[destination][id]; ok {
			return p.s.stored(ctx, export.EntryKey(destination, p.s.node, number))
		}
	}
	return "", refusal(RefusedFacts, "batch %s is not in the custodian's records, and no stream states it", id)
}
