package consent

import (
	"math"

	"github.com/octroi/octroi/policies"
)

// verdict is one span, or one reason why a purpose does not stand, as the gate reads it: 32 bytes, immutable, chained newest first
// within a purpose. It is made from a standing for one policy and lives in memory only.
type verdict struct {
	next         *verdict
	given, until int64 // Unix milliseconds
	record       uint32
	purpose      uint8 // Purpose.Index
	code         code
}

// code says what a verdict is.
type code uint8

const (
	nothing  code = iota // the end of a subject that stands under nothing
	loading              // a place kept for who reads the row at this moment
	holds                // a span
	joined               // a device's link, before all spans: given is since when, record the person's slot
	parted               // of a person, before all spans: links up to given count no more
	noChoice             // reasons from here
	lapsed
	withdrawn
	otherVersion
)

// reasons by code.
var reasons = [...]Reason{
	nothing: NoConsent, loading: NoConsent, noChoice: NoConsent, lapsed: Expired, withdrawn: Withdrawn, otherVersion: PurposeVersion,
}

// noPurpose is the purpose of a verdict that is about none: above every index.
const noPurpose = policies.MaxPurposes

var (
	// nobody is the verdict of a subject without a standing, and of no subject.
	nobody = &verdict{code: nothing}
	// gone is the verdict of a subject whose erasure has begun: it stands under nothing, and nobody is linked to it.
	gone = &verdict{given: math.MaxInt64, purpose: noPurpose, code: parted}
)

// verdicts prepares a standing for the gate. What was recorded for another basis than the policy's is another version (C7).
func verdicts(policy *policies.Policy, s *standing) *verdict {
	n := 0
	if s.Link != nil || s.Parted != 0 {
		n = 1
	}
	for i := range s.Holds {
		n += max(1, len(s.Holds[i].Spans))
	}
	all := make([]verdict, 0, n) // one allocation: they are read together
	switch {
	case s.Link != nil:
		all = append(all, verdict{given: s.Link.Since, record: uint32(s.Link.Person), purpose: noPurpose, code: joined})
	case s.Parted != 0:
		all = append(all, verdict{given: s.Parted, purpose: noPurpose, code: parted})
	}
	for i := range s.Holds {
		h := &s.Holds[i]
		p, ok := policy.Purpose(h.Purpose)
		if !ok {
			continue
		}
		if c := h.code(p); c != holds {
			all = append(all, verdict{purpose: uint8(p.Index), code: c})
			continue
		}
		for j := len(h.Spans) - 1; j >= 0; j-- {
			sp := h.Spans[j]
			all = append(all, verdict{given: sp.given, until: sp.until, record: sp.record, purpose: uint8(p.Index), code: holds})
		}
	}
	if len(all) == 0 {
		return nobody
	}
	for i := 1; i < len(all); i++ {
		all[i-1].next = &all[i]
	}
	return &all[0]
}

// code judges what does not depend on time.
func (h *hold) code(p *policies.Purpose) code {
	switch {
	case h.State == ConsentWithdrawn || h.State == ConsentRevoked:
		return withdrawn
	case h.State == ConsentExpired:
		return lapsed
	case !h.stands():
		return noChoice
	case h.Version != p.Version || h.Basis != p.Basis: // C7
		return otherVersion
	}
	return holds
}

// moment is when an event happened and when it came, in Unix milliseconds.
type moment struct {
	event, received, skew int64
	imported              bool
}

// judge says which record covers the purpose at the moment, or why none does.
func (v *verdict) judge(purpose int, at moment) (record uint32, reason Reason) {
	reason = NoConsent
	for ; v != nil; v = v.next {
		if int(v.purpose) != purpose {
			continue
		}
		if v.code != holds {
			return 0, reasons[v.code]
		}
		// C6: after its validity a consent is as none. A back-end's history is judged at the event's own time alone.
		if reason == NoConsent && !at.imported && at.received >= v.until {
			return 0, Expired
		}
		if at.event+at.skew >= v.given {
			if at.event >= v.until {
				return 0, Expired // between two spans
			}
			return v.record, ""
		}
		reason = BeforeConsent // G14: a later opt-in does not revive an earlier event
	}
	return 0, reason
}
