package consent

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/octroi/octroi/policies"
)

// standing is what the gate and the writer must know of one subject. It is one sealed row, JSON, and follows from the records.
//
//	{"v":1,"records":3,"last_record_id":uuid,"purposes":[{"id","version","legal_basis","state","granted","record_id","given_at",
//	 "cleared_at","spans":[[given_at,until,record],…]}],         times: Unix milliseconds; until 0: no end
//	 "link":{"person","since","record"},"parted_at"}             link: a device's; parted_at: a person's
type standing struct {
	Version int    `json:"v"`
	Records uint32 `json:"records"` // the subject's records so far: the number of the last
	Last    string `json:"last_record_id"`
	Holds   []hold `json:"purposes"`
	Link    *joint `json:"link,omitempty"`      // nil: the device is joined to nobody
	Parted  int64  `json:"parted_at,omitempty"` // up to and including then no link to the person counts any more
}

// standingVersion is the version of the row's format.
const standingVersion = 1

// hold is one purpose of one subject.
type hold struct {
	Purpose  string         `json:"id"`
	Version  int            `json:"version"`
	Basis    policies.Basis `json:"legal_basis"`
	State    State          `json:"state,omitempty"` // none for a declared basis
	Granted  bool           `json:"granted"`
	RecordID string         `json:"record_id"` // of the newest choice, by the time it was given
	GivenAt  int64          `json:"given_at"`  // of the newest choice
	Cleared  int64          `json:"cleared_at,omitempty"`
	Spans    []span         `json:"spans,omitempty"` // since the last refusal or withdrawal, by given
}

// span is the time one record covers.
type span struct {
	given, until int64 // Unix milliseconds, [given, until); until noEnd: no end
	record       uint32
}

// noEnd is the until of a declared basis.
const noEnd = math.MaxInt64

// maxSpans bounds what a subject who renews every day can store; the oldest spans go first, which fails closed.
const maxSpans = 32

func (s span) MarshalJSON() ([]byte, error) {
	until := s.until
	if until == noEnd {
		until = 0
	}
	return fmt.Appendf(nil, "[%d,%d,%d]", s.given, until, s.record), nil
}

func (s *span) UnmarshalJSON(text []byte) error {
	var x [3]int64
	if err := json.Unmarshal(text, &x); err != nil {
		return err
	}
	if x[2] <= 0 || x[2] > math.MaxUint32 {
		return ErrStored
	}
	*s = span{x[0], x[1], uint32(x[2])}
	if s.until == 0 {
		s.until = noEnd
	}
	return nil
}

// stands says whether the newest choice of the purpose permits it, whether or not it has expired since (C5).
func (h *hold) stands() bool {
	if h.Basis == policies.Consent {
		return h.Granted && h.State.given() && len(h.Spans) > 0
	}
	return h.Basis.Declared() && h.Granted && h.State == "" && len(h.Spans) > 0
}

// ended are those of the purposes that do not stand. An older refusal that is imported late takes a span away and leaves a newer consent.
func (s *standing) ended(purposes []string) (out []string) {
	for _, id := range purposes {
		if !slices.ContainsFunc(s.Holds, func(h hold) bool { return h.Purpose == id && h.stands() }) {
			out = append(out, id)
		}
	}
	return out
}

// chosen is one purpose of an act: what is recorded of it.
type chosen struct {
	purpose  string
	version  int
	basis    policies.Basis
	granted  bool
	withdraw bool // a withdrawal, not a refusal
	validity policies.Period
}

// instant is when an act happened and how it reached the ledger.
type instant struct {
	given    int64 // Unix milliseconds
	imported bool  // given elsewhere and earlier: it does not override a newer choice
	record   uint32
	id       string
}

// until is the end of what is granted at the instant.
func (c *chosen) until(at instant) int64 {
	if c.basis != policies.Consent {
		return noEnd
	}
	return c.validity.AddTo(time.UnixMilli(at.given).UTC()).UnixMilli() // C6
}

// apply brings one purpose up to date with an act. It returns the DPV state that the act has for the purpose, and whether it took away
// something that events may rest on.
func (s *standing) apply(c chosen, at instant) (state State, revoked bool) {
	i := slices.IndexFunc(s.Holds, func(h hold) bool { return h.Purpose == c.purpose })
	if i < 0 {
		i = len(s.Holds)
		s.Holds = append(s.Holds, hold{Purpose: c.purpose, Basis: c.basis, Version: c.version, GivenAt: math.MinInt64})
	}
	h := &s.Holds[i]
	if h.Basis != c.basis {
		revoked = h.stands()
		*h = hold{Purpose: c.purpose, Basis: c.basis, Version: c.version, GivenAt: math.MinInt64}
	}
	switch {
	case c.basis != policies.Consent:
		h.declare(c, at)
		return "", revoked
	case c.granted:
		return h.give(c, at), revoked
	}
	state, took := h.refuse(c, at)
	return state, revoked || took
}

// give records a consent.
func (h *hold) give(c chosen, at instant) State {
	sp := span{at.given, c.until(at), at.record}
	// Of a consent and a refusal of one instant the refusal stands, in whatever order they are imported: a doubt may lower permission, never raise it.
	if at.imported && (at.given < h.GivenAt || h.Cleared != 0 && at.given <= h.Cleared) {
		// An older import fills in history, where nothing newer contradicts it; it never changes what stands now.
		if h.stands() && h.Version == c.version && at.given > h.Cleared {
			h.insert(sp)
		}
		return ConsentGiven
	}
	state := ConsentGiven
	if h.stands() && h.Version == c.version {
		state = RenewedConsentGiven // C6: a new record and a new span; the old span keeps its own end
	} else {
		h.Spans = nil // C7: what was given for another version covers nothing of this one
	}
	h.Version, h.State, h.Granted = c.version, state, true
	h.GivenAt, h.RecordID = at.given, at.id
	h.insert(sp)
	return state
}

// refuse records a refusal or a withdrawal. Either takes away what stood: to refuse what one has given is to withdraw it (GDPR Art. 7(3)).
func (h *hold) refuse(c chosen, at instant) (state State, revoked bool) {
	state = ConsentRefused
	if c.withdraw || h.stands() {
		state = ConsentWithdrawn
	}
	stood := len(h.Spans)
	h.Cleared = max(h.Cleared, at.given)
	if at.imported && at.given < h.GivenAt {
		h.Spans = slices.DeleteFunc(h.Spans, func(sp span) bool { return sp.given <= at.given })
		return ConsentRefused, len(h.Spans) < stood
	}
	h.Version, h.State, h.Granted = c.version, state, false
	h.GivenAt, h.RecordID = at.given, at.id
	h.Spans = nil
	return state, stood > 0
}

// declare records that the subject stands under the purpose by a declared basis, from the earliest time that was ever declared.
func (h *hold) declare(c chosen, at instant) {
	since := at.given
	if h.Version == c.version && len(h.Spans) > 0 {
		since = min(since, h.Spans[0].given)
	}
	h.Version, h.State, h.Granted = c.version, "", true
	h.GivenAt, h.RecordID = since, at.id
	h.Spans = []span{{since, noEnd, at.record}}
}

// insert keeps the spans by given; the record that came last stands for its instant.
func (h *hold) insert(sp span) {
	i, same := slices.BinarySearchFunc(h.Spans, sp.given, func(x span, given int64) int {
		switch {
		case x.given < given:
			return -1
		case x.given > given:
			return 1
		}
		return 0
	})
	if same {
		h.Spans[i] = sp
		return
	}
	h.Spans = slices.Insert(h.Spans, i, sp)
	if over := len(h.Spans) - maxSpans; over > 0 {
		h.Spans = slices.Delete(h.Spans, 0, over)
	}
}

// list is the standing as Current answers it: a state that has lapsed reads ConsentExpired (C6).
func (s *standing) list(policy *policies.Policy, now time.Time) []Standing {
	out := make([]Standing, 0, len(s.Holds))
	for i := range s.Holds {
		h := &s.Holds[i]
		x := Standing{
			Purpose: h.Purpose, Version: h.Version, Basis: h.Basis, State: h.State, Granted: h.stands(),
			GivenAt: time.UnixMilli(h.GivenAt).UTC(), RecordID: h.RecordID,
		}
		if x.Granted && h.Basis == policies.Consent {
			until := h.Spans[len(h.Spans)-1].until
			x.ValidUntil = time.UnixMilli(until).UTC()
			if until <= now.UnixMilli() {
				x.State, x.Granted = ConsentExpired, false
			}
		}
		if p, ok := policy.Purpose(h.Purpose); !ok || p.Version != h.Version || p.Basis != h.Basis {
			x.Granted = false // C7
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Standing) int { return cmp.Compare(a.Purpose, b.Purpose) })
	return out
}

func (s *standing) encode() []byte {
	s.Version = standingVersion
	return canonical(s)
}

func decodeStanding(text []byte) (*standing, error) {
	s := new(standing)
	if err := json.Unmarshal(text, s); err != nil || s.Version != standingVersion {
		return nil, fmt.Errorf("decoding standing: %w", ErrStored)
	}
	return s, nil
}
