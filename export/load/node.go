package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/octroi/octroi/export"
)

// follower is what is known of one node's stream: how far it is applied, and what was read beyond.
type follower struct {
	at     export.Chain         // the last applied entry
	read   export.Chain         // the last entry that was read ahead
	newest map[string]statement // by batch id: of the entries beyond at, the last that replaces the batch's object
	texts  map[uint64]string    // of entries beyond at, as many as aheadBytes hold
	bytes  int                  // of texts
}

// statement is an object as an entry states it; nil: no row is left.
type statement struct {
	number uint64
	object *export.Batch
}

// aheadBytes bounds the entries that are kept between reading ahead and applying; what does not fit is read again.
const aheadBytes = 8 << 20

// node applies the entries of one node in order, from the position on.
func (l *Loader) node(ctx context.Context, node string) error {
	f, err := l.follow(ctx, node)
	if err != nil {
		return err
	}
	for {
		more, err := l.next(ctx, f)
		if err == nil && more {
			continue
		}
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		// What a sink did before its error may be in doubt: the position is read again.
		delete(l.followers, node)
		number := f.at.Number + 1
		err = fmt.Errorf("node %q stands still before entry %d: %w%s", node, number, err, nextStep(err))
		if !passing(err) {
			err = errors.Join(err, l.into.fail(ctx, node, failure{Number: number, Text: err.Error(), At: time.Now().UTC()}))
		}
		return err
	}
}

func (l *Loader) follow(ctx context.Context, node string) (*follower, error) {
	if f := l.followers[node]; f != nil {
		return f, nil
	}
	positions, err := l.into.positions(ctx)
	if err != nil {
		return nil, err
	}
	at := positions[node]
	f := &follower{newest: map[string]statement{}, texts: map[uint64]string{}}
	f.at = export.Chain{Destination: l.o.Destination, Node: node, Gateway: l.o.Gateway, Number: at.Number, Previous: at.Previous}
	f.read = f.at
	l.followers[node] = f
	return f, nil
}

// next applies one entry; more is false at the stream's end.
func (l *Loader) next(ctx context.Context, f *follower) (more bool, err error) {
	if f.read.Number == f.at.Number {
		// An entry that cannot be read ahead is met again when those before it are applied.
		if err := l.lookAhead(ctx, f); err != nil && (passing(err) || ctx.Err() != nil || f.read.Number == f.at.Number) {
			return false, err
		}
		if f.read.Number == f.at.Number {
			return false, nil
		}
	}
	number := f.at.Number + 1
	token, kept := f.texts[number]
	if !kept {
		var found bool
		token, found, err = l.entry(ctx, f.at.Node, number)
		if err == nil && !found {
			err = fmt.Errorf("%w: it was there a moment ago", export.ErrGap)
		}
		if err != nil {
			return false, err
		}
	}
	chain := f.at
	e, err := chain.Next(token)
	if err != nil {
		return false, err
	}
	if err := l.apply(ctx, f, e, place{e.Node, position{Number: chain.Number, Previous: chain.Previous, At: time.Now().UTC()}}); err != nil {
		return false, err
	}
	f.pass(chain, e)
	l.progress.Node, l.progress.Number = e.Node, e.Number
	l.report()
	if l.o.Applied != nil {
		l.o.Applied(e.Node, chain.Number, chain.Previous)
	}
	return true, nil
}

func (l *Loader) report() {
	if l.o.Progress != nil {
		l.o.Progress(l.progress)
	}
}

// pass moves beyond an applied entry.
func (f *follower) pass(at export.Chain, e export.Entry) {
	f.at = at
	if r := e.Replace; r != nil && f.newest[r.Batch].number == e.Number {
		delete(f.newest, r.Batch)
	}
	f.bytes -= len(f.texts[at.Number])
	delete(f.texts, at.Number)
}

// lookAhead reads and checks what the stream has beyond what was read. Of replace entries it keeps which object they state, so that a batch
// is loaded from its newest: an erased row does not come back with an older one.
func (l *Loader) lookAhead(ctx context.Context, f *follower) error {
	for {
		token, found, err := l.entry(ctx, f.read.Node, f.read.Number+1)
		if err != nil || !found {
			return err
		}
		e, err := f.read.Next(token)
		if err != nil {
			return err
		}
		if r := e.Replace; r != nil {
			if r.Now != nil {
				r.Now.Recipients, r.Now.Purposes = nil, nil // there may be many, and nobody here asks
			}
			f.newest[r.Batch] = statement{e.Number, r.Now}
		}
		if f.bytes+len(token) <= aheadBytes {
			f.texts[e.Number], f.bytes = token, f.bytes+len(token)
		}
	}
}

// passing says whether an error may end by itself.
func passing(err error) bool {
	return errors.Is(err, export.ErrUnavailable) || errors.Is(err, ErrDatabase)
}

// nextStep is what to do about an error that does not pass by itself, where the error does not say so.
func nextStep(err error) string {
	for _, s := range []struct {
		is   error
		step string
	}{
		{export.ErrSignature, "check that --gateway-key is the gateway's signing.key.pub; if it is, somebody else wrote this entry: tell the gateway's operator"},
		{export.ErrChain, "entries were replaced or reordered: have the gateway's operator run octroi verify stream, then restore them"},
		{export.ErrGap, "have the gateway's operator restore the entry, then run octroi-load again"},
		{export.ErrEntry, "update octroi-load if the gateway is newer; else have the gateway's operator restore the entry"},
		{export.ErrIdentity, "give the identity file of this destination (the key pair whose age1… the gateway has as its recipient W)"},
		{ErrNotice, "have the gateway's operator restore the notice object from its versions or a backup, then run octroi-load again"},
		{ErrStatement, "tell the gateway's operator: the stream contradicts itself"},
		{ErrChanged, "put the files back as octroi-load wrote them, with " + ownFolder + " from the same backup, or load into an empty folder"},
		{ErrLost, "have the gateway's operator restore the object from its versions or a backup, then run octroi-load again"},
		{ErrHash, "have the gateway's operator restore the object from its versions or a backup, then run octroi-load again"},
		{ErrRows, "tell the gateway's operator: what was sealed is not what was signed"},
		{export.ErrSchema, "update octroi-load; if it is new, tell the gateway's operator"},
		{export.ErrSeal, "tell the gateway's operator: the object was stored as it was signed, and cannot be opened"},
	} {
		if errors.Is(err, s.is) {
			return "; next: " + s.step
		}
	}
	return ""
}

// entry is the text of an entry; found is false where the stream ends before it. Where later entries exist it is missing: export.ErrGap.
func (l *Loader) entry(ctx context.Context, node string, number uint64) (token string, found bool, err error) {
	key := export.EntryKey(l.o.Destination, node, number)
	read := func() error {
		r, err := l.o.Objects.Get(ctx, key, "")
		if err != nil {
			return err
		}
		defer r.Close()
		text, err := io.ReadAll(io.LimitReader(r, 1<<20))
		token = string(text)
		return err
	}
	err = l.try(ctx, read)
	if !errors.Is(err, export.ErrNoObject) {
		return token, true, err
	}
	later := false
	err = l.try(ctx, func() error {
		err := l.o.Objects.List(ctx, l.o.Destination+"/stream/"+node+"/", key, func(string, int64) error { later = true; return errEnough })
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
	if err != nil || !later {
		return "", false, err
	}
	// It may have been published between the two looks.
	if err = l.try(ctx, read); errors.Is(err, export.ErrNoObject) {
		return "", false, fmt.Errorf("%s: %w: later ones are there", key, export.ErrGap)
	}
	return token, true, err
}
