package rights

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export/rights/proof"
)

// offerFacts states what the gateway observed, proven under one head of its log, for the custodian to sign. They are kept as they are offered:
// a certificate repeats them, or is none.
func (r *Requests) offerFacts(ctx context.Context, q *requestRow) error {
	facts, err := r.facts(q)
	if err != nil {
		return err
	}
	_, err = r.change(ctx, q.ID, func(t *state.Txn, q *requestRow) error {
		if q.Step != purged {
			return nil
		}
		q.Step = certifying
		return setRow(t, idKey(factsPrefix, q.ID), facts)
	})
	if err == nil {
		r.stir()
	}
	return err
}

func (r *Requests) facts(q *requestRow) (*proof.Facts, error) {
	f := &proof.Facts{
		Received: q.Clock.Received, Suppressed: q.Suppressed, Severed: q.Severed, SpoolGone: q.SpoolGone, Purged: q.Purged,
		Exceptions: r.remains(q),
	}
	for _, x := range f.Exceptions {
		if x.What == proof.RemainsKeyCopies {
			f.KeyCopies = x.Until
		}
	}
	for _, n := range q.Notices {
		f.Recipients = append(f.Recipients, proof.Confirmation{
			Destination: n.Destination, Node: r.o.Node, Number: n.Number, Confirmed: !n.Confirmed.IsZero(), At: n.Confirmed,
		})
	}
	if x, ok := proof.Unconfirmed(f.Recipients); ok {
		f.Exceptions = append(f.Exceptions, x)
	}
	slices.SortFunc(f.Recipients, func(a, b proof.Confirmation) int { return strings.Compare(a.Destination, b.Destination) })
	slices.SortFunc(f.Exceptions, func(a, b proof.Exception) int { return strings.Compare(a.What, b.What) })
	var err error
	f.Evidence, err = r.proven(q.Leaves)
	return f, err
}

// offered are the facts as they were offered; nil where none were.
func (r *Requests) offered(q *requestRow) (f *proof.Facts, err error) {
	f = new(proof.Facts)
	found := false
	err = r.o.State.View(func(v reader) error {
		found, err = readRow(v, idKey(factsPrefix, q.ID), f)
		return err
	})
	if err != nil || !found {
		return nil, err
	}
	return f, nil
}

// certify takes the custodian's certificate: its signature and every fact are checked as anybody would offline, and the facts must be those that
// were offered. Then the request is complete. The same certificate again changes nothing.
func (r *Requests) certify(ctx context.Context, id, text string) error {
	switch kept, err := r.Certificate(id); {
	case err == nil && kept == text:
		return nil
	case err != nil && !errors.Is(err, ErrNotReady):
		return err
	}
	c, err := r.checkCertificate(id, text)
	if err != nil {
		return err
	}
	_, err = r.change(ctx, id, func(t *state.Txn, q *requestRow) error {
		if q.Step != certifying {
			return fmt.Errorf("%w: no certificate is awaited", ErrReport)
		}
		t.Set(idKey(certificatePrefix, id), []byte(text))
		t.Delete(idKey(factsPrefix, id)) // they stand in it
		if err := r.note(t, q, proof.Leaf{Event: proof.EventCertified, Actor: custodian, SHA256: proof.Digest(text)}); err != nil {
			return err
		}
		rows := map[string]int{}
		for _, s := range c.Systems {
			rows["rows"] += s.Rows
			rows["reduced"] += s.Reduced
		}
		if err := q.move(complete); err != nil {
			return err
		}
		r.close(t, q)
		return r.note(t, q, proof.Leaf{Event: proof.EventCompleted, Actor: gateway, Counts: rows})
	})
	// Crash here: complete, and the request's slot is there still. The row under "q/forget/" names it.
	if err == nil {
		r.stir()
	}
	return err
}

func (r *Requests) checkCertificate(id, text string) (proof.Certificate, error) {
	c, err := proof.VerifyCertificate(text, r.o.Custodian, r.o.Checkpoints.Verifier())
	switch {
	case errors.Is(err, proof.ErrSignature):
		return c, fmt.Errorf("%w: %w", ErrUnproven, err)
	case err != nil:
		return c, fmt.Errorf("%w: %w", ErrReport, err)
	}
	q, err := r.request(id)
	if err != nil {
		return c, err
	}
	facts, err := r.offered(q)
	if err != nil {
		return c, err
	}
	switch {
	case c.Node != r.o.Node || c.Request != id || c.Right != q.Right || c.Origin != q.Origin || !slices.Equal(c.Purposes, q.Purposes):
		return c, fmt.Errorf("%w: the certificate is of another request", ErrReport)
	case q.Origin != proof.ByRetention && c.Approved != q.Approved:
		return c, fmt.Errorf("%w: approval", ErrReport)
	case c.Custodian != consent.KeyID(r.o.Custodian):
		return c, fmt.Errorf("%w: custodian", ErrReport)
	case facts == nil || !sameFacts(facts, &c.Facts):
		return c, fmt.Errorf("%w: facts", ErrReport)
	case c.Completed.Before(q.Purged) || c.Completed.After(r.now().Add(clockSkew)):
		return c, fmt.Errorf("%w: completed", ErrReport)
	}
	return c, nil
}

// clockSkew is how far the custodian's clock may be ahead.
const clockSkew = 5 * time.Minute

func sameFacts(a, b *proof.Facts) bool {
	one, err1 := json.Marshal(a)
	two, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(one) == string(two)
}

// Certificate is the text of a completed erasure's certificate: ErrNotReady where there is none yet, ErrNoRequest.
func (r *Requests) Certificate(id string) (text string, err error) {
	if _, err := r.request(id); err != nil {
		return "", err
	}
	err = r.o.State.View(func(v reader) error {
		b, err := v.Get(idKey(certificatePrefix, id))
		if errors.Is(err, state.ErrNotFound) {
			return ErrNotReady
		}
		text = string(b)
		return err
	})
	return text, err
}
