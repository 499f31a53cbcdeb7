package rights

import (
	"errors"
	"fmt"

	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Of a device that several persons use, an access shows what names nobody, and what was received while the one who asks was signed in: whoever is
// signed in when it is asked for. What names anybody else is withheld, and counted (GDPR Art. 15(4)). The same holds for the package: it opens
// for nobody else of that browser, and ends when the one whom it names is erased.

// ErrSignedOut: the package shows what was received under an account, and its person is not signed in now.
var ErrSignedOut = errors.New("the package is for whoever was signed in when it was asked for: sign in again, or ask anew")

// signedIn finds who is signed in on the device whose access is asked for.
func (r *Requests) signedIn(in *submission) (err error) {
	if in.right != proof.Access || in.subject.Kind() != subject.Device {
		return nil
	}
	if in.with, err = r.o.Ledger.Linked(in.subject); err != nil {
		return fmt.Errorf("finding who is signed in: %w", err)
	}
	return nil
}

// identity is whose request it is, as it was frozen; the zero row once that is forgotten.
func (r *Requests) identity(q *requestRow) (id identityRow, err error) {
	own, err := r.own(q)
	if errors.Is(err, subject.ErrShredded) {
		return id, nil
	}
	if err == nil {
		_, err = r.thaw(own, frozenIdentity, &id)
	}
	return id, err
}

// beside is who was signed in when a request was made; the zero subject: nobody, or somebody who was erased since.
func (r *Requests) beside(q *requestRow) (with subject.Subject, err error) {
	id, err := r.identity(q)
	if err != nil || id.With == 0 {
		return with, err
	}
	with, err = r.o.Subjects.BySlot(id.With)
	if errors.Is(err, subject.ErrShredded) {
		return subject.Subject{}, nil
	}
	return with, err
}

// stillSignedIn fails with ErrSignedOut where a request's package shows what another than the present user of the device may see.
func (r *Requests) stillSignedIn(q *requestRow) error {
	id, err := r.identity(q)
	if err != nil || id.With == 0 {
		return err
	}
	device, err := r.whose(q)
	if errors.Is(err, subject.ErrShredded) {
		return nil // there is nothing to be opened any more
	}
	if err != nil {
		return err
	}
	now, err := r.o.Ledger.Linked(device)
	if err == nil && now.Slot() != id.With {
		err = ErrSignedOut
	}
	return err
}

// besides lists the requests of devices during which s was signed in there.
func besides(v reader, s subject.Subject) (rows []*requestRow, err error) {
	prefix := s.RowKey(besideTable, nil)
	var ids []string
	err = v.Scan(prefix, func(key, _ []byte) error {
		id, err := idOf(key[len(prefix):])
		ids = append(ids, id)
		return err
	})
	for _, id := range ids {
		if err != nil {
			return nil, err
		}
		var q *requestRow
		q, err = readRequest(v, id)
		rows = append(rows, q)
	}
	return rows, err
}
