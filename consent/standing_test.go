package consent

import (
	"bytes"
	"cmp"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/octroi/octroi/policies"
)

var tenStates = []State{
	ConsentUnknown, ConsentRequested, ConsentRequestDeferred, ConsentRefused, ConsentGiven, RenewedConsentGiven, ConsentExpired,
	ConsentInvalidated, ConsentRevoked, ConsentWithdrawn,
}

// grantingStates weigh the draw towards what may grant, and hold two that only look so.
var grantingStates = []State{
	"", "", "", "", "", "", ConsentGiven, ConsentGiven, ConsentGiven, ConsentGiven, RenewedConsentGiven, RenewedConsentGiven, "consentgiven", "Granted",
}

var fourBases = []policies.Basis{policies.Consent, policies.Contract, policies.LegalObligation, policies.LegitimateInterest}

// C5: whatever a row says, a grant needs one of two states of a consent, or a declared basis, and the version and basis of the policy.
func TestOnlyTwoStatesGrant(t *testing.T) {
	policy := testPolicy(t)
	granted := 0
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom(policy.Purposes()).Draw(t, "purpose")
		h := hold{
			Purpose: p.ID, Version: p.Version + rapid.SampledFrom([]int{0, 0, 0, 0, 0, 1, -1}).Draw(t, "version"),
			Basis:   rapid.SampledFrom(append(fourBases, p.Basis, p.Basis, p.Basis, p.Basis, p.Basis)).Draw(t, "basis"),
			State:   rapid.SampledFrom(append(grantingStates, tenStates...)).Draw(t, "state"),
			Granted: rapid.IntRange(0, 4).Draw(t, "granted") > 0,
		}
		if rapid.IntRange(0, 4).Draw(t, "span") > 0 {
			h.Spans = []span{{0, 1000, 1}}
		}
		row := roundTrip(t, &standing{Holds: []hold{h}})
		record, reason := verdicts(policy, row).judge(p.Index, moment{event: 10, received: 10})
		may := h.Granted && len(h.Spans) > 0 && h.Version == p.Version && h.Basis == p.Basis
		if h.Basis == policies.Consent {
			may = may && (h.State == "ConsentGiven" || h.State == "RenewedConsentGiven")
		} else {
			may = may && h.State == ""
		}
		if (reason == "") != may || (record != 0) != may {
			t.Fatalf("hold %+v: record %d, reason %q, want granted %v", h, record, reason, may)
		}
		if may {
			granted++
		}
	})
	if granted == 0 {
		t.Fatal("no case granted anything: the property was not tested")
	}
}

func roundTrip(t interface{ Fatal(...any) }, s *standing) *standing {
	text := s.encode()
	back, err := decodeStanding(text)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back.encode(), text) {
		t.Fatal("standing does not survive its row")
	}
	return back
}

// past is one act of a history, as the oracle below reads it.
type past struct {
	at      int64
	granted bool
	number  uint32
}

// C6, G14, imports: the verdict equals what the definition says of the whole history, in whatever order a back-end imports it.
func TestVerdictFollowsHistory(t *testing.T) {
	policy := testPolicy(t)
	p, _ := policy.Purpose("audience")
	const day = int64(24 * time.Hour / time.Millisecond)
	rapid.Check(t, func(t *rapid.T) {
		days := rapid.SliceOfNDistinct(rapid.Int64Range(1, 900), 0, 12, rapid.ID).Draw(t, "days")
		row, history := &standing{}, []past{}
		for i, d := range days {
			a := past{d * day, rapid.Float64().Draw(t, "grant") < 0.7, uint32(i + 1)}
			history = append(history, a)
			row.apply(chosen{purpose: p.ID, version: p.Version, basis: p.Basis, granted: a.granted, validity: p.Validity},
				instant{given: a.at, imported: true, record: a.number, id: "id"})
		}
		row = roundTrip(t, row)
		m := moment{
			event: rapid.Int64Range(0, 1200).Draw(t, "event") * day, received: rapid.Int64Range(0, 1200).Draw(t, "received") * day,
			skew: rapid.SampledFrom([]int64{0, day}).Draw(t, "skew"), imported: rapid.Bool().Draw(t, "imported"),
		}
		record, reason := verdicts(policy, row).judge(p.Index, m)
		wantRecord, wantReason := define(history, p, m)
		if record != wantRecord || reason != wantReason {
			t.Fatalf("history %v at %+v: record %d %q, want %d %q", history, m, record, reason, wantRecord, wantReason)
		}
	})
}

// define answers from the history alone, by the words of consent.md.
func define(history []past, p *policies.Purpose, m moment) (uint32, Reason) {
	slices.SortFunc(history, func(a, b past) int { return cmp.Compare(a.at, b.at) })
	if len(history) == 0 {
		return 0, NoConsent
	}
	last := history[len(history)-1]
	if !last.granted {
		return 0, refusalOf(history)
	}
	end := func(a past) int64 { return p.Validity.AddTo(time.UnixMilli(a.at).UTC()).UnixMilli() }
	if !m.imported && m.received >= end(last) {
		return 0, Expired // C6
	}
	for i := len(history) - 1; i >= 0 && history[i].granted; i-- { // back to the last refusal: G3, from before it nothing counts
		if a := history[i]; m.event+m.skew >= a.at {
			if m.event < end(a) {
				return a.number, ""
			}
			return 0, Expired
		}
	}
	return 0, BeforeConsent // G14
}

// refusalOf is only the reason's name: it depends on whether the purpose stood when the last refusal was recorded.
func refusalOf(history []past) Reason {
	last := history[len(history)-1]
	stood, newest := false, int64(-1)
	byNumber := slices.Clone(history)
	slices.SortFunc(byNumber, func(a, b past) int { return cmp.Compare(a.number, b.number) })
	for _, a := range byNumber {
		if a.number == last.number {
			break
		}
		if a.at > newest {
			newest, stood = a.at, a.granted
		}
	}
	if stood {
		return Withdrawn
	}
	return NoConsent
}

// GDPR Art. 7(3): after a live withdrawal nothing from before it counts, whatever was given, and however often again (G3).
func TestWithdrawalClearsSpans(t *testing.T) {
	policy := testPolicy(t)
	p, _ := policy.Purpose("audience")
	give := chosen{purpose: p.ID, version: 1, basis: p.Basis, granted: true, validity: p.Validity}
	refuse := chosen{purpose: p.ID, version: 1, basis: p.Basis, withdraw: true}
	row := &standing{}
	for i, step := range []struct {
		c       chosen
		at      int64
		state   State
		revoked bool
	}{
		{refuse, 10, ConsentWithdrawn, false},
		{give, 20, ConsentGiven, false},
		{give, 30, RenewedConsentGiven, false},
		{refuse, 40, ConsentWithdrawn, true},
		{refuse, 45, ConsentWithdrawn, false},
		{give, 50, ConsentGiven, false},
	} {
		state, revoked := row.apply(step.c, instant{given: step.at, record: uint32(i + 1)})
		if state != step.state || revoked != step.revoked {
			t.Fatalf("step %d: %s revoked %v", i, state, revoked)
		}
	}
	for event, want := range map[int64]Reason{25: BeforeConsent, 35: BeforeConsent, 45: BeforeConsent, 50: "", 60: ""} {
		record, reason := verdicts(policy, row).judge(p.Index, moment{event: event, received: 60})
		if reason != want || (reason == "") != (record == 6) {
			t.Errorf("event at %d: record %d, %q, want %q", event, record, reason, want)
		}
	}
}

// C7: a consent to another version, or from when the purpose had another basis, covers nothing of this one.
func TestOtherVersionDoesNotCover(t *testing.T) {
	policy := testPolicy(t)
	p, _ := policy.Purpose("audience")
	row := &standing{}
	row.apply(chosen{purpose: p.ID, version: 7, basis: p.Basis, granted: true, validity: p.Validity}, instant{given: 10, record: 1})
	if _, reason := verdicts(policy, row).judge(p.Index, moment{event: 20, received: 20}); reason != PurposeVersion {
		t.Fatalf("reason %q", reason)
	}
	row.apply(chosen{purpose: p.ID, version: 1, basis: p.Basis, granted: true, validity: p.Validity}, instant{given: 30, record: 2})
	if _, reason := verdicts(policy, row).judge(p.Index, moment{event: 20, received: 40}); reason != BeforeConsent {
		t.Fatalf("an event from the time of the other version: %q", reason)
	}
	if record, reason := verdicts(policy, row).judge(p.Index, moment{event: 35, received: 40}); record != 2 || reason != "" {
		t.Fatalf("record %d, %q", record, reason)
	}
}

// A subject who renews without end stores a bounded row, and loses the oldest spans first.
func TestSpansAreBounded(t *testing.T) {
	policy := testPolicy(t)
	p, _ := policy.Purpose("audience")
	row := &standing{}
	for i := range 10 * maxSpans {
		row.apply(chosen{purpose: p.ID, version: 1, basis: p.Basis, granted: true, validity: p.Validity},
			instant{given: int64(i), record: uint32(i + 1)})
	}
	if n := len(row.Holds[0].Spans); n != maxSpans {
		t.Fatalf("%d spans", n)
	}
	if record, reason := verdicts(policy, row).judge(p.Index, moment{event: 10*maxSpans - 1, received: 1 << 30}); record != 10*maxSpans {
		t.Fatalf("record %d, %q", record, reason)
	}
	if _, reason := verdicts(policy, row).judge(p.Index, moment{event: 1, received: 1 << 30}); reason != BeforeConsent {
		t.Fatalf("a dropped span still grants, or for another reason: %q", reason)
	}
}

// A declared basis reaches back to the earliest time that was declared, and has no end.
func TestDeclarationReachesBack(t *testing.T) {
	policy := testPolicy(t)
	p, _ := policy.Purpose("service")
	row := &standing{}
	c := chosen{purpose: p.ID, version: 1, basis: p.Basis, granted: true}
	row.apply(c, instant{given: 1000, imported: true, record: 1})
	row.apply(c, instant{given: 500, imported: true, record: 2})
	row.apply(c, instant{given: 700, imported: true, record: 3})
	row = roundTrip(t, row)
	for event, want := range map[int64]Reason{499: BeforeConsent, 500: "", 600: "", 1 << 50: ""} {
		if _, reason := verdicts(policy, row).judge(p.Index, moment{event: event, received: 1 << 50}); reason != want {
			t.Errorf("event at %d: %q, want %q", event, reason, want)
		}
	}
}

func FuzzDecodeStanding(f *testing.F) {
	f.Add((&standing{Records: 2, Last: "x", Holds: []hold{{Purpose: "audience", Spans: []span{{1, noEnd, 1}}}}}).encode())
	f.Add([]byte(`{"v":1,"purposes":[{"spans":[[1,2,4294967296]]}]}`))
	f.Add([]byte(`{"v":2}`))
	policy := testPolicy(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decodeStanding(text)
		if err != nil {
			return
		}
		roundTrip(t, s)
		for _, p := range policy.Purposes() {
			verdicts(policy, s).judge(p.Index, moment{event: 1, received: 1})
		}
	})
}
