package sweep

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/octroi/octroi/export"
)

// maxEntry bounds a stream entry's text in bytes, as export does.
const maxEntry = 64 << 10

// stated is what a verified stream entry says of a batch.
type stated struct {
	entry      export.Entry
	id         string
	batch      *export.Batch // nil: no object is left
	prefix     string        // of the names of all its objects
	generation int
}

// destinationOf reads, without believing it, whom an entry is for: VerifyEntry wants to be told.
func destinationOf(token string) string {
	_, rest, _ := strings.Cut(token[:min(len(token), maxEntry)], ".")
	claims, _, _ := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.DecodeString(claims)
	var c struct {
		Destination string `json:"aud"`
	}
	if err != nil || json.Unmarshal(text, &c) != nil {
		return ""
	}
	return c.Destination
}

// published verifies an entry that the gateway sent: signed by its key, of its node, and in the store under its number, as every reader of the
// stream sees it. Its errors are Reasons, or of the store.
func (s *Sweep) published(ctx context.Context, token string) (export.Entry, error) {
	e, err := s.verified(token)
	if err != nil {
		return e, err
	}
	stored, err := s.stored(ctx, export.EntryKey(e.Destination, e.Node, e.Number))
	if err != nil {
		return e, err
	}
	if stored != token {
		return e, refusal(FailedEntry, "another entry is in the store under its number")
	}
	return e, nil
}

func (s *Sweep) verified(token string) (export.Entry, error) {
	e, err := export.VerifyEntry(token, destinationOf(token), s.o.Stream)
	if err != nil {
		return e, refusal(FailedEntry, "%v", err)
	}
	if e.Node != s.node {
		return e, refusal(FailedEntry, "it is of node %q", e.Node)
	}
	return e, nil
}

// stored reads an entry's text from the store.
func (s *Sweep) stored(ctx context.Context, key string) (string, error) {
	r, err := s.o.Archive.Get(ctx, key, "")
	if errors.Is(err, export.ErrNoObject) {
		return "", refusal(FailedEntry, "%s is not in the store", key)
	}
	if err != nil {
		return "", err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxEntry+1))
	return string(text), err
}

// stated verifies the entry that states a batch's present object.
func (s *Sweep) stated(ctx context.Context, id, token string) (st stated, err error) {
	e, err := s.published(ctx, token)
	if err != nil {
		return st, err
	}
	if st, err = statement(e); err != nil {
		return st, err
	}
	if st.id != id {
		return st, refusal(FailedEntry, "it is of another batch")
	}
	if st.batch != nil {
		return st, nil
	}
	// Nothing is left of the batch: its name stands in the entry that this one replaces.
	was, err := s.replaced(ctx, &st)
	if err != nil {
		return st, err
	}
	st.prefix = was.prefix
	return st, nil
}

// statement reads a batch or replace entry; the prefix is missing where there is no object.
func statement(e export.Entry) (stated, error) {
	switch {
	case e.Type == export.BatchEntry && e.Batch != nil:
		prefix, generation, err := nameOf(e, e.Batch)
		return stated{entry: e, id: e.Batch.ID, batch: e.Batch, prefix: prefix, generation: generation}, err
	case e.Type != export.ReplaceEntry || e.Replace == nil:
		return stated{}, refusal(FailedEntry, "it is of type %q", e.Type)
	case e.Replace.Now == nil:
		return stated{entry: e, id: e.Replace.Batch, generation: e.Replace.Generation}, nil
	}
	now := e.Replace.Now
	prefix, generation, err := nameOf(e, now)
	if err == nil && (generation != e.Replace.Generation || now.ID != e.Replace.Batch) {
		err = refusal(FailedEntry, "its object is not of its generation or batch")
	}
	return stated{entry: e, id: e.Replace.Batch, batch: now, prefix: prefix, generation: generation}, err
}

// replaced is what the entry stated that a replace entry replaces, as the store has it.
func (s *Sweep) replaced(ctx context.Context, st *stated) (stated, error) {
	e := st.entry
	if e.Replace == nil || e.Replace.Of == 0 || e.Replace.Of >= e.Number {
		return stated{}, refusal(FailedEntry, "it does not say which entry it replaces")
	}
	token, err := s.stored(ctx, export.EntryKey(e.Destination, e.Node, e.Replace.Of))
	if err != nil {
		return stated{}, err
	}
	before, err := s.verified(token)
	if err != nil {
		return stated{}, err
	}
	was, err := statement(before)
	switch {
	case err != nil:
		return stated{}, err
	case before.Destination != e.Destination, before.Number != e.Replace.Of, was.id != st.id, was.batch == nil:
		return stated{}, refusal(FailedEntry, "what it replaces is not an object of the batch")
	}
	return was, nil
}

var nameEnd = regexp.MustCompile(`^(\d{12,18}-\d{12,18}\.)(\d{1,9})\.parquet\.age$`)

// nameOf cuts an object's key at its generation: <destination>/events/dt=…/hour=…/<node>-<first>-<last>. is the prefix of the batch's objects and of no
// other batch's. (export has checked the folders.)
func nameOf(e export.Entry, b *export.Batch) (prefix string, generation int, err error) {
	at := strings.LastIndexByte(b.Key, '/') + 1
	file, ok := strings.CutPrefix(b.Key[at:], e.Node+"-")
	m := nameEnd.FindStringSubmatch(file) // the numbers are short of what an int holds
	if !ok || m == nil {
		return "", 0, refusal(FailedEntry, "its object has a name that no batch of the node has")
	}
	generation, err = strconv.Atoi(m[2])
	return b.Key[:at] + e.Node + "-" + m[1], generation, err
}

// generationOf is the generation of an object of the prefix's batch.
func generationOf(prefix, key string) (generation int, ok bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	number, suffixed := strings.CutSuffix(rest, objectSuffix)
	generation, err := strconv.Atoi(number)
	return generation, ok && suffixed && err == nil && key == keyOf(prefix, generation)
}

// objectSuffix ends the name of a batch's object, after its generation.
const objectSuffix = ".parquet.age"

func keyOf(prefix string, generation int) string {
	return prefix + strconv.Itoa(generation) + objectSuffix
}

// recipients are those of an entry, where they are pinned for its destination: a gateway that could name others would have the archive read by
// having it rewritten. E has its one place among them: what the custodian could not open again, nobody could erase later.
func (s *Sweep) recipients(destination string, b *export.Batch) (export.Recipients, error) {
	pinned, ok := s.o.Recipients[destination]
	switch {
	case !ok || len(pinned) < 3:
		return export.Recipients{}, refusal(FailedEntry, "destination %s is not in the custodian's settings", destination)
	case len(b.Recipients) != 3:
		return export.Recipients{}, refusal(FailedEntry, "it lists %d recipients and not three", len(b.Recipients))
	}
	for i, name := range b.Recipients {
		if name != pinned[i] && !slices.Contains(pinned[3:], name) || i != 1 && s.o.Identities.Opens(name) {
			return export.Recipients{}, refusal(FailedEntry, "it lists recipients that are not those known for %s: if keys were changed, list them in the custodian's settings", destination)
		}
	}
	if !s.o.Identities.Opens(b.Recipients[1]) {
		return export.Recipients{}, fmt.Errorf("recipient of the custodian at %s: %w", destination, export.ErrIdentity)
	}
	r, err := export.ParseRecipients(b.Recipients[0], b.Recipients[1], b.Recipients[2])
	if err != nil {
		return r, refusal(FailedEntry, "%v", err)
	}
	return r, nil
}

// reasonOf sorts what stopped a batch.
func reasonOf(err error) Reason {
	if err == nil {
		return Reason{}
	}
	var known Reason
	if errors.As(err, &known) {
		return known
	}
	for _, m := range []struct {
		is   error
		code string
	}{
		{export.ErrNoObject, FailedGone},
		{errHash, FailedHash},
		{export.ErrIdentity, FailedIdentity},
		{export.ErrSeal, FailedDamaged},
		{export.ErrSchema, FailedDamaged},
		{errRows, FailedDamaged},
		{export.ErrLocked, FailedLocked},
		{export.ErrUnavailable, FailedStore},
		{export.ErrRefused, FailedStore},
	} {
		if errors.Is(err, m.is) {
			return Reason{Code: m.code, Detail: err.Error()}
		}
	}
	return Reason{Code: FailedStore, Detail: err.Error()}
}
