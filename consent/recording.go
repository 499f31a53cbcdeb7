package consent

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// act is one thing to record.
type act struct {
	event      string
	site       Site
	notice     *NoticeRef
	proof      policies.Proof
	purposes   []chosen
	method     string
	language   string
	entity     string
	source     string
	signals    *Signals
	evidence   *Circumstances
	clientTime time.Time
	givenAt    time.Time // zero: now
	link       *joint    // what a link begins
}

// written is a record that was appended.
type written struct {
	subject    subject.Subject
	number     uint32
	id         string // UUID
	leaf       int64
	core       core
	opening    evidence.Opening
	validUntil time.Time
}

// Record appends a choice. A refusal is never answered with ErrProof, ErrSnapshot or ErrSnapshotOld (C4).
//
// Where something is to be granted that cannot be (a *ProofError, ErrUnknownNotice, ErrUnknownPurpose, ErrBasis), nothing is granted; what
// the same choice refuses is recorded as a refusal, and both the record and the error are returned. A refusal of what stood is a
// withdrawal: when Record has returned, it holds as after Withdraw. Imports (GivenAt) are appended now; the standing takes their own time, and
// an import older than what stands does not override it. ErrErased: an import that was given before one of the persons was erased; nothing is written.
func (l *Ledger) Record(ctx context.Context, c Choice) (Recorded, error) {
	if len(c.Purposes) == 0 {
		return Recorded{}, ErrNoChoice
	}
	if !c.GivenAt.IsZero() && (c.GivenAt.After(l.now()) || !writable(c.GivenAt)) {
		return Recorded{}, ErrGivenAt
	}
	w := l.weigh(&c)
	if len(w.granted)+len(w.refused) == 0 {
		return Recorded{}, w.problem
	}
	a := act{
		event: eventRefusal, site: c.Site, notice: w.notice, proof: w.proof, purposes: append(w.granted, w.refused...), method: c.Method,
		language: c.Language, entity: c.Entity, source: c.Source, signals: c.Signals.orNil(), evidence: c.Evidence.orNil(),
		clientTime: c.ClientTime, givenAt: c.GivenAt,
	}
	if a.language == "" && w.notice != nil {
		a.language = w.notice.Language
	}
	if len(w.granted) > 0 {
		a.event = eventConsent
	}
	r, err := l.record(ctx, c.Who, &a)
	if err != nil {
		return Recorded{}, fmt.Errorf("recording choice: %w", err)
	}
	return r, w.problem
}

// record writes the act of whoever it is of, and answers it.
func (l *Ledger) record(ctx context.Context, who Who, a *act) (Recorded, error) {
	if !who.Device.Exists() && len(who.Persons) == 0 && a.event != eventConsent {
		return l.recordRefusal(ctx, a) // C8: nobody is created for a refusal
	}
	var w *written
	var minted *subject.Credential
	err := l.state.Update(ctx, func(t *state.Txn) error {
		if err := l.unerased(t, who.Persons, a.givenAt); err != nil {
			return err
		}
		s, credential, err := l.actor(t, who)
		if err != nil {
			return err
		}
		w, err = l.append(t, s, a)
		minted = credential
		return err
	})
	if err != nil {
		return Recorded{}, err
	}
	r := l.answer(&w.core, w.id, w.validUntil)
	r.Minted = minted
	if r.Receipt, err = l.receipt(w, a); err != nil {
		return Recorded{}, fmt.Errorf("making receipt: %w", err)
	}
	return r, nil
}

// actor finds or creates, inside the writer, the subject that acts.
func (l *Ledger) actor(t *state.Txn, who Who) (subject.Subject, *subject.Credential, error) {
	switch {
	case who.Device.Exists():
		return who.Device, nil, l.alive(t, who.Device.Slot())
	case len(who.Persons) > 0:
		s, err := l.ensurePerson(t, who.Persons)
		return s, nil, err
	case who.Mint:
		credential, s, err := l.subjects.MintDevice(t)
		return s, &credential, err
	}
	return subject.Subject{}, nil, ErrNoSubject
}

// ensurePerson finds or creates a person: subject.ErrShredded where its erasure has begun.
func (l *Ledger) ensurePerson(t *state.Txn, persons []subject.Identifier) (subject.Subject, error) {
	s, created, err := l.subjects.EnsurePerson(t, persons...)
	if err == nil && !created {
		err = l.alive(t, s.Slot())
	}
	return s, err
}

// unerased refuses what was said before one of the persons was erased: a back-end's nightly copy must not bring anybody back, nor tell of somebody's
// former life; and neither must the login claim that an open page goes on sending.
func (l *Ledger) unerased(t *state.Txn, persons []subject.Identifier, givenAt time.Time) error {
	if givenAt.IsZero() || len(persons) == 0 {
		return nil
	}
	erased, ok, err := l.subjects.ErasedAt(t, persons...)
	if err == nil && ok && givenAt.UnixMilli() <= erased.UnixMilli() {
		return ErrErased
	}
	return err
}

// ErasedAt is the latest time at which a person with one of the identifiers was erased, as far as is remembered (subject.Registry.ErasedAt).
func (l *Ledger) ErasedAt(persons ...subject.Identifier) (at time.Time, ok bool, err error) {
	err = l.state.View(func(r state.Reader) (err error) {
		at, ok, err = l.subjects.ErasedAt(r, persons...)
		return err
	})
	return at, ok, err
}

// append writes one record of the subject inside the writer: the record, its leaf, the standing, the revocations.
func (l *Ledger) append(t *state.Txn, s subject.Subject, a *act) (*written, error) {
	row, err := standingIn(t, s)
	if err != nil {
		return nil, err
	}
	if row.Records == math.MaxUint32 {
		return nil, fmt.Errorf("numbering record: %w", ErrStored)
	}
	id, err := newRecordID(l.random)
	if err != nil {
		return nil, err
	}
	now := utcMillis(l.now()) // C2
	at := instant{given: now.UnixMilli(), record: row.Records + 1, id: id}
	if !a.givenAt.IsZero() {
		at.given, at.imported = a.givenAt.UnixMilli(), true
	}
	w := &written{subject: s, number: at.record, id: id}
	w.core = l.compose(a, now)
	w.core.ReceiptID = uuidText(receiptID(receiptSecret(s, w.number)))
	linked := l.linkedUntil(row, now)
	revoked := w.settle(row, a, at)
	over := l.settleLink(row, a, now, linked)
	parted, err := l.part(t, s, row, a, now)
	if err != nil {
		return nil, err
	}
	l.write(t, w, row, a, now)
	if err := l.revoke(t, s.Slot(), distinct(slices.Concat(revoked, parted))); err != nil {
		return nil, err
	}
	if ended := row.ended(revoked); len(ended) > 0 && l.onRevoked != nil {
		if err := l.onRevoked(t, s, ended); err != nil {
			return nil, fmt.Errorf("handing on a revocation: %w", err)
		}
	}
	if over != nil {
		err = l.unlinked(t, s, over, a, min(linked, at.given))
	}
	return w, err
}

// write writes the record with its leaf, and the standing.
func (l *Ledger) write(t *state.Txn, w *written, row *standing, a *act, now time.Time) {
	s := w.subject
	rest := compose(a, now)
	rest.RecordID, rest.PrevRecordID, rest.PrincipalID, rest.PrincipalKind = w.id, row.Last, s.ID(), kindName(s.Kind())
	record := recordRow{Version: recordVersion, Core: canonical(&w.core), Strippable: canonical(rest)}
	w.opening = record.opening(s, w.number)
	record.Leaf = t.Append(w.opening.Leaf()) // C10: in the same transaction
	w.leaf = record.Leaf
	recordKey := s.RowKey(recordTable, be32(w.number))
	t.Set(recordKey, s.Seal(recordTable, recordKey, canonical(record)))
	row.Records, row.Last = w.number, w.id
	l.setStanding(t, s, row)
}

// settle brings the standing up to date, completes the record with the state that follows, and lists what was taken away.
func (w *written) settle(row *standing, a *act, at instant) (revoked []string) {
	given, renewed, withdrawn := 0, 0, 0
	for i, c := range a.purposes {
		state, took := row.apply(c, at)
		if took {
			revoked = append(revoked, c.purpose)
		}
		switch state {
		case ConsentGiven:
			given++
		case RenewedConsentGiven:
			renewed++
		case ConsentWithdrawn:
			withdrawn++
		}
		if c.granted && c.basis == policies.Consent {
			until := time.UnixMilli(c.until(at)).UTC()
			w.core.Purposes[i].ValidUntil = &until
			if w.validUntil.IsZero() || until.Before(w.validUntil) {
				w.validUntil, w.core.Event.Validity = until, c.validity.String()
			}
		}
	}
	switch {
	case a.event == eventDeclaration, a.event == eventLink, a.event == eventUnlink: // a DPV consent state would say what is not so
	case given > 0:
		w.core.Event.State = ConsentGiven
	case renewed > 0:
		w.core.Event.State = RenewedConsentGiven
	case withdrawn > 0:
		w.core.Event.State = ConsentWithdrawn
	default:
		w.core.Event.State = ConsentRefused
	}
	return revoked
}

// compose makes the core of a record, but for what follows from the subject's standing.
func (l *Ledger) compose(a *act, now time.Time) core {
	hash := l.policy.Hash()
	c := core{
		Version: recordVersion, Site: a.site.Name, Notice: a.notice, Proof: a.proof.String(),
		Event:            recordedEvent{Type: a.event, Time: now, EntityID: a.entity, Method: a.method, Source: a.source},
		Jurisdiction:     a.site.Jurisdiction,
		WithdrawalMethod: withdrawalMethod,
		Policy:           hex.EncodeToString(hash[:]),
	}
	if !a.givenAt.IsZero() {
		given := utcMillis(a.givenAt)
		c.Event.GivenAt = &given
	}
	for _, x := range a.purposes {
		c.Purposes = append(c.Purposes, recordedPurpose{ID: x.purpose, Version: x.version, Basis: x.basis, Granted: x.granted})
		p, ok := l.policy.Purpose(x.purpose)
		if !ok || !x.granted {
			continue
		}
		for _, r := range p.Recipients {
			c.Recipients, c.StorageLocations = append(c.Recipients, r.Name), append(c.StorageLocations, r.Country)
		}
		if c.Retention == nil {
			c.Retention = map[string]string{}
		}
		c.Retention[p.ID] = p.Retention.String()
	}
	c.Recipients, c.StorageLocations = distinct(c.Recipients), distinct(c.StorageLocations)
	return c
}

// compose makes the strippable part of a record, but for the subject.
func compose(a *act, now time.Time) strippable {
	s := strippable{Language: a.language, Signals: a.signals, Evidence: a.evidence}
	switch {
	case a.clientTime.IsZero():
	case !writable(a.clientTime):
		s.ClockSkew = true
	default:
		client := utcMillis(a.clientTime)
		s.ClientTime, s.ClockSkew = &client, now.Sub(client).Abs() > 24*time.Hour // C2
	}
	return s
}

// answer is what is said of a record to whoever made it.
func (l *Ledger) answer(c *core, id string, validUntil time.Time) Recorded {
	r := Recorded{RecordID: id, State: c.Event.State, Purposes: map[string]bool{}, ValidUntil: validUntil}
	if c.Notice != nil {
		r.Notice = *c.Notice
	}
	for _, p := range c.Purposes {
		r.Purposes[p.ID] = p.Granted
		x, ok := l.policy.Purpose(p.ID)
		if !ok || p.Granted || p.Basis != policies.Consent {
			continue
		}
		if until := x.Validity.AddTo(c.Event.Time); r.Until.IsZero() || until.Before(r.Until) { // C8
			r.Until = until
		}
	}
	return r
}

func distinct(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

func kindName(k subject.Kind) string {
	if k == subject.Device {
		return "device"
	}
	return "person"
}
