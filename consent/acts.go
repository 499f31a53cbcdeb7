package consent

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// Act is one record as the person whose it is reads it: what was chosen, when, where, and under which text.
type Act struct {
	Number     uint32 // among the subject's records, from 1
	RecordID   string
	Type       string // consent | refusal | withdrawal | declaration | …
	State      State  // none for a declaration
	Time       time.Time
	GivenAt    time.Time // zero: at Time
	Site       string
	Method     string
	Proof      string
	Language   string
	Notice     *NoticeRef // nil: the record names none
	Purposes   []ActPurpose
	Recipients []string
	Evidence   Circumstances
	HasReceipt bool // Receipt makes one
}

// ActPurpose is one purpose of an Act.
type ActPurpose struct {
	ID         string
	Version    int
	Basis      policies.Basis
	Granted    bool
	ValidUntil time.Time // zero: nothing was granted, or for as long as the basis lasts
}

// Acts lists the subject's newest records, the newest first, at most that many, and says how many there are in all. It proves nothing: that is
// Prove's. ErrNoRecord where there is none.
func (l *Ledger) Acts(s subject.Subject, most int) (list []Act, total int, err error) {
	if !s.Exists() {
		return nil, 0, ErrNoRecord
	}
	err = l.state.View(func(r state.Reader) error {
		row, err := readStandingRow(r, s)
		if err != nil {
			return err
		}
		total = int(row.Records)
		for n := row.Records; n > 0 && len(list) < most; n-- {
			record, err := readRecord(r, s, n)
			if errors.Is(err, state.ErrNotFound) {
				return ErrStored // C10: it was removed
			}
			if err != nil {
				return err
			}
			a, err := record.act(n)
			if err != nil {
				return err
			}
			list = append(list, a)
		}
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return nil, 0, ErrNoRecord
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading acts: %w", err)
	}
	return list, total, nil
}

// Prove is one of the subject's records with its proof, by its number; ErrNoRecord where there is none.
func (l *Ledger) Prove(s subject.Subject, number uint32) (Act, Proven, error) {
	record, err := l.recordOf(s, number)
	if err != nil {
		return Act{}, Proven{}, fmt.Errorf("proving record: %w", err)
	}
	a, err := record.act(number)
	if err != nil {
		return Act{}, Proven{}, fmt.Errorf("proving record: %w", err)
	}
	p, err := l.proven(record.Leaf, record.opening(s, number))
	return a, p, err
}

// Receipt makes the receipt of one of the subject's records again (C11), by its number: it says what the first one said, with the log's present
// head. site says how the controller of the record's site is reached now. ErrNoRecord where there is no such record, or it is no choice of the
// person.
func (l *Ledger) Receipt(s subject.Subject, number uint32, site Site) (string, error) {
	record, err := l.recordOf(s, number)
	if err != nil {
		return "", fmt.Errorf("making receipt: %w", err)
	}
	w := written{subject: s, number: number, leaf: record.Leaf, opening: record.opening(s, number)}
	var rest strippable
	if json.Unmarshal(record.Core, &w.core) != nil || json.Unmarshal(record.Strippable, &rest) != nil {
		return "", fmt.Errorf("making receipt: %w", ErrStored)
	}
	if !w.core.receipted() {
		return "", fmt.Errorf("making receipt: %w", ErrNoRecord)
	}
	site.Name, site.Jurisdiction = w.core.Site, w.core.Jurisdiction
	return l.receipt(&w, &act{site: site, method: w.core.Event.Method, language: rest.Language})
}

// receipted says whether the record is a choice of the person, of which it gets a receipt.
func (c *core) receipted() bool {
	return c.Event.Type == eventConsent || c.Event.Type == eventRefusal || c.Event.Type == eventWithdrawal
}

// recordOf reads one of a subject's records: ErrNoRecord.
func (l *Ledger) recordOf(s subject.Subject, number uint32) (record recordRow, err error) {
	if !s.Exists() {
		return recordRow{}, ErrNoRecord
	}
	err = l.state.View(func(r state.Reader) error {
		record, err = readRecord(r, s, number)
		return err
	})
	if errors.Is(err, state.ErrNotFound) {
		return recordRow{}, ErrNoRecord
	}
	return record, err
}

// act is the record as its person reads it.
func (r *recordRow) act(number uint32) (Act, error) {
	var c core
	var rest strippable
	if json.Unmarshal(r.Core, &c) != nil || json.Unmarshal(r.Strippable, &rest) != nil {
		return Act{}, ErrStored
	}
	a := Act{
		Number: number, RecordID: rest.RecordID, Type: c.Event.Type, State: c.Event.State, Time: c.Event.Time, Site: c.Site, Method: c.Event.Method,
		Proof: c.Proof, Language: rest.Language, Notice: c.Notice, Recipients: c.Recipients, HasReceipt: c.receipted(),
	}
	if c.Event.GivenAt != nil {
		a.GivenAt = *c.Event.GivenAt
	}
	if rest.Evidence != nil {
		a.Evidence = *rest.Evidence
	}
	for _, p := range c.Purposes {
		x := ActPurpose{ID: p.ID, Version: p.Version, Basis: p.Basis, Granted: p.Granted}
		if p.ValidUntil != nil {
			x.ValidUntil = *p.ValidUntil
		}
		a.Purposes = append(a.Purposes, x)
	}
	return a, nil
}
