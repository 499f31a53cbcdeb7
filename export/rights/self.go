package rights

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"time"

	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Self is a person at the desk for a right of theirs: whom the credential of a browser or an app speaks for, or who holds the secret of a request.
// Routes and the privacy page serve persons by these methods, and by no others.
type Self struct {
	r       *Requests
	visitor Visitor
	secret  string
}

// Self is whoever the visitor is, or whoever holds the secret, which may be empty.
func (r *Requests) Self(v Visitor, secret string) Self { return Self{r, v, secret} }

// Brief is a request as its person sees it.
type Brief = brief

// Package is an access package, or a file of it, on its way to the person. It must be closed.
type Package = opened

// Wish is what a person asks for.
type Wish struct {
	Right     proof.Right
	Purposes  []string // of an erasure; none: everything
	Language  string   // of packages and letters; empty: the visitor's
	Recipient string   // age recipient of an access package
}

// Milestones are how far a request is. The zero time: not so far yet.
type Milestones struct {
	Suppressed time.Time // nothing of the person leaves any more
	Severed    time.Time // the person's key is destroyed
	Purged     time.Time // no former object is left
	Batches    int       // objects to be read or rewritten
	Done       int       // of them
	Notices    int       // destinations that were told
	Confirmed  int       // of them
}

// Ask opens the request, or finds the open one of that right. created tells which; then it has the secret that follows it, which is never told again.
// ErrNoMatch where nobody is known by what came with the visitor.
func (s Self) Ask(ctx context.Context, w Wish) (b Brief, created bool, err error) {
	if !s.visitor.Subject.Exists() {
		return Brief{}, false, ErrNoMatch
	}
	var secret [16]byte
	rand.Read(secret[:])
	text := base64.RawURLEncoding.EncodeToString(secret[:])
	q, created, err := s.r.submit(ctx, submission{
		right: w.Right, origin: proof.ByPerson, actor: person, subject: s.visitor.Subject, purposes: w.Purposes,
		language: languageOr(w.Language, s.visitor.Language), recipient: w.Recipient, secret: hashSecret(text), proven: true,
	})
	if errors.Is(err, subject.ErrShredded) {
		return Brief{}, false, ErrNoMatch // erased meanwhile
	}
	if err != nil {
		return Brief{}, false, err
	}
	if b, err = s.r.told(q); err == nil && created {
		b.Secret = text
	}
	return b, created, err
}

// Requests lists the person's requests, oldest first: those of the credential.
func (s Self) Requests() ([]Brief, error) {
	list := []Brief{}
	if !s.visitor.Subject.Exists() {
		return list, nil
	}
	var rows []*requestRow
	err := s.r.o.State.View(func(v reader) (err error) {
		rows, err = requestsOf(v, s.visitor.Subject)
		return err
	})
	for _, q := range rows {
		list = append(list, s.r.brief(q))
	}
	return list, err
}

// Request is one of the person's requests with its letter. ErrNoRequest where it is another's, and where there is none.
func (s Self) Request(id string) (Brief, error) {
	q, err := s.mine(id)
	if err != nil {
		return Brief{}, err
	}
	return s.r.told(q)
}

// Milestones are how far one of the person's requests is.
func (s Self) Milestones(id string) (Milestones, error) {
	q, err := s.mine(id)
	if err != nil {
		return Milestones{}, err
	}
	m := Milestones{
		Suppressed: q.Suppressed, Severed: q.Severed, Purged: q.Purged, Batches: q.Batches, Done: q.Done, Notices: len(q.Notices),
	}
	for _, n := range q.Notices {
		if !n.Confirmed.IsZero() {
			m.Confirmed++
		}
	}
	return m, nil
}

// Open opens the package of an access, the one time that it can be: ErrNotReady before, ErrOpened after; ErrSignedOut where the credential is all that
// came, and somebody else may use the browser now. format is html (the default), json, csv or zip.
func (s Self) Open(ctx context.Context, id, format string) (*Package, error) {
	q, err := s.mine(id)
	if err == nil && !q.followedWith(s.secret) {
		err = s.r.stillSignedIn(q)
	}
	if err != nil {
		return nil, err
	}
	return s.r.openPackage(ctx, q.ID, person, format)
}

// Certificate is the text of an erasure's certificate: ErrNotReady where there is none yet.
func (s Self) Certificate(id string) (string, error) {
	q, err := s.mine(id)
	if err != nil {
		return "", err
	}
	return s.r.Certificate(q.ID)
}

// Cancel takes a request back: ErrTransition where its state does not allow that any more.
func (s Self) Cancel(ctx context.Context, id string) (Brief, error) {
	q, err := s.mine(id)
	if err != nil {
		return Brief{}, err
	}
	d, err := s.r.decide(ctx, q.ID, Cancel, person, Decision{})
	if err != nil {
		return Brief{}, err
	}
	return s.r.brief(d.request), nil
}

// Cancellable says whether Cancel would take the request back now. A page asks it; Cancel decides.
func (s Self) Cancellable(id string) bool {
	q, err := s.mine(id)
	return err == nil && q.can(Cancel)
}

// mine is the request of that id, if it is the person's.
func (s Self) mine(id string) (*requestRow, error) {
	return s.r.mine(&call{visitor: s.visitor, bearer: s.secret, id: id})
}
