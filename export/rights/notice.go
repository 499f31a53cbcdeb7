package rights

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// The bounds of one entry: with the rows and leaves of its requests it is one change of state.
const (
	entryBytes    = 512 << 10 // of sealed notices, unless one alone is longer
	entryRequests = 100
)

// announce writes, inside t, that the request's notices wait for the next entry of each destination.
func (r *Requests) announce(t *state.Txn, q *requestRow) error {
	now := r.now()
	for i := range q.Notices {
		n := &q.Notices[i]
		t.Set(timedKey(waitingNotices(n.Destination, n.Type), now, q.ID), nil)
	}
	return nil
}

func waitingNotices(destination string, typ export.EntryType) string {
	return noticePrefix + destination + "/" + string(typ) + "/"
}

// tell enters the notices that wait into the streams: those of one destination and type together, at most once in an interval, so that an entry
// tells nobody of the one person who asked at that hour (rights.md D12).
func (r *Requests) tell(ctx context.Context) error {
	for _, destination := range r.destinations {
		for _, typ := range []export.EntryType{export.EraseEntry, export.WithdrawEntry} {
			if err := r.tellOf(ctx, destination, typ); err != nil {
				return fmt.Errorf("%s: %w", destination, err)
			}
		}
	}
	return nil
}

func (r *Requests) tellOf(ctx context.Context, destination string, typ export.EntryType) error {
	prefix := waitingNotices(destination, typ)
	waiting, err := r.timed(prefix, r.now())
	if err != nil || len(waiting) == 0 {
		return err
	}
	if waiting, err = r.stillKnown(ctx, waiting); err != nil || len(waiting) == 0 {
		return err
	}
	oldest := time.UnixMilli(int64(binary.BigEndian.Uint64(waiting[0][len(prefix):])))
	if r.now().Before(oldest.Add(r.o.Notices)) {
		return nil
	}
	for len(waiting) > 0 {
		m := &message{destination: destination, typ: typ}
		for _, key := range waiting {
			fits, err := r.add(m, key)
			if err != nil {
				return err
			}
			if !fits {
				break
			}
		}
		if err := r.enterMessage(ctx, m); err != nil {
			return err
		}
		waiting = waiting[m.finished:]
	}
	return nil
}

// stillKnown drops the notices of requests that were given up: what they said is destroyed.
func (r *Requests) stillKnown(ctx context.Context, waiting [][]byte) (known [][]byte, err error) {
	for _, key := range waiting {
		id, err := idOf(key)
		if err != nil {
			return nil, err
		}
		q, err := r.request(id)
		if err != nil {
			return nil, err
		}
		if _, err = r.own(q); err == nil {
			known = append(known, key)
			continue
		}
		if !errors.Is(err, subject.ErrShredded) {
			return nil, err
		}
		if err := r.o.State.Update(ctx, func(t *state.Txn) error { t.Delete(key); return nil }); err != nil {
			return nil, err
		}
	}
	return known, nil
}

// message is one entry in the making.
type message struct {
	destination string
	typ         export.EntryType
	sealed      [][]byte
	size        int
	parts       []messagePart
	finished    int // of the waiting requests: all their notices are in this entry or earlier ones
}

// messagePart is what the message takes of one request's notices.
type messagePart struct {
	key     []byte // of the row that waits
	request string
	upTo    int // notices of the request that are entered with this message
	whole   bool
}

// add takes the notices of one waiting request into m; fits is false where m is full. A subject with very many batches is told in
// several notices, which may need several entries.
func (r *Requests) add(m *message, key []byte) (fits bool, err error) {
	id, err := idOf(key)
	if err != nil {
		return false, err
	}
	q, err := r.request(id)
	if err != nil {
		return false, err
	}
	own, err := r.own(q)
	if err != nil {
		return false, err
	}
	var sealed [][]byte
	if found, err := r.thaw(own, frozenNotices+m.destination, &sealed); err != nil || !found {
		return false, fmt.Errorf("%w: notices of request %s: %w", ErrStored, id, err)
	}
	from := 0
	if n := q.notice(m.destination); n != nil {
		from = n.Parts
	}
	p := messagePart{key: key, request: id, upTo: from}
	for _, one := range sealed[min(from, len(sealed)):] {
		if len(m.sealed) > 0 && m.size+len(one)+4 > entryBytes {
			break
		}
		m.sealed, m.size, p.upTo = append(m.sealed, one), m.size+len(one)+4, p.upTo+1
	}
	if p.upTo == from && from < len(sealed) || len(m.parts) == entryRequests {
		return false, nil
	}
	p.whole = p.upTo == len(sealed)
	m.parts = append(m.parts, p)
	if p.whole {
		m.finished++
	}
	return p.whole, nil
}

func (q *requestRow) notice(destination string) *noticeRow {
	for i := range q.Notices {
		if q.Notices[i].Destination == destination {
			return &q.Notices[i]
		}
	}
	return nil
}

// enterMessage puts the message into the stream, and says so of every request in the same change.
func (r *Requests) enterMessage(ctx context.Context, m *message) error {
	err := r.o.State.Update(ctx, func(t *state.Txn) error {
		number, err := r.exits[m.destination].Shipper.Enter(t, export.Statement{Type: m.typ, Notices: export.PackNotices(m.sealed)})
		if err != nil {
			return err
		}
		t.Set(binary.BigEndian.AppendUint64([]byte(sentPrefix+m.destination+"/"), number), nil)
		for _, p := range m.parts {
			if err := r.entered(t, m, &p, number); err != nil {
				return err
			}
		}
		return nil
	})
	// Crash here: entered, or not at all; the shipper publishes what was.
	if err != nil {
		return fmt.Errorf("entering notices: %w", err)
	}
	return nil
}

func (r *Requests) entered(t *state.Txn, m *message, p *messagePart, number uint64) error {
	q, err := readRequest(t, p.request)
	if err != nil {
		return err
	}
	n := q.notice(m.destination)
	if n == nil {
		return fmt.Errorf("%w: notices of request %s", ErrStored, p.request)
	}
	n.Parts = p.upTo
	if p.whole {
		t.Delete(p.key)
		n.Number, n.Entered = number, r.now()
		leaf := proof.Leaf{Event: proof.EventNotified, Actor: gateway, Time: n.Entered, Destination: n.Destination, Number: number}
		if err := r.note(t, q, leaf); err != nil {
			return err
		}
	}
	return q.set(t)
}

// forgetNotices drops the memory of notice objects that the custodian has deleted.
func (r *Requests) forgetNotices(ctx context.Context) error {
	for _, destination := range r.destinations {
		numbers, err := r.acknowledged(destination)
		if err != nil {
			return err
		}
		for _, n := range numbers {
			if gone, err := r.vanished(ctx, export.NoticeKey(destination, r.o.Node, n), ""); err != nil || !gone {
				return err
			}
			err := r.o.State.Update(ctx, func(t *state.Txn) error {
				t.Delete(binary.BigEndian.AppendUint64([]byte(sentPrefix+destination+"/"), n))
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
