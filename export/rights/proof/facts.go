package proof

import (
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/octroi/octroi/consent/evidence"
)

// maxFacts bounds the evidence of one certificate: some 2 KB each.
const maxFacts = 200

// Prove holds the facts of a certificate, signed or not yet, against the leaves that prove them: every leaf is in the log under one head that
// v's key signed, is of this request, comes in the order of the steps, and says what the facts say; every fact has its leaf, and every leaf of a
// step its fact. ErrMismatch names the first that fails.
func (c *Certificate) Prove(v *evidence.Verifier) error {
	if path.Base(v.Origin()) != c.Node {
		return mismatch("node: the log is another's")
	}
	s, err := c.steps(v)
	if err != nil {
		return err
	}
	for _, check := range []func(*steps) error{c.proveTimes, c.proveApproval, c.proveRecipients, c.proveExceptions, c.proveSystems} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func mismatch(format string, values ...any) error {
	return fmt.Errorf("%w: %s", ErrMismatch, fmt.Sprintf(format, values...))
}

// steps are the proven leaves of one request.
type steps struct {
	once      map[string]Leaf // by event, of those that happen once
	approvals map[string]bool // hashes
	notified  map[string]Leaf // by destination
	confirmed map[string]Leaf
}

// steps proves each leaf of the evidence, and sorts them.
func (c *Certificate) steps(v *evidence.Verifier) (*steps, error) {
	s := &steps{once: map[string]Leaf{}, approvals: map[string]bool{}, notified: map[string]Leaf{}, confirmed: map[string]Leaf{}}
	for i, f := range c.Facts.Evidence {
		l, err := f.leaf(v)
		switch {
		case err != nil:
			return nil, mismatch("evidence %d: %v", i, err)
		case f.Proof.Checkpoint != c.Facts.Evidence[0].Proof.Checkpoint:
			return nil, mismatch("evidence %d: it is under another head than the first", i)
		case i > 0 && f.Proof.Index <= c.Facts.Evidence[i-1].Proof.Index:
			return nil, mismatch("evidence %d: it does not come after the one before", i)
		case l.Request != c.Request || l.Right != c.Right || l.Origin != c.Origin:
			return nil, mismatch("evidence %d: it is of another request", i)
		}
		if err := s.add(l); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// leaf proves one fact.
func (f *Fact) leaf(v *evidence.Verifier) (Leaf, error) {
	if f.Opening.Stripped() || len(f.Opening.Strippable) > 0 {
		return Leaf{}, mismatch("a step has no strippable part")
	}
	if _, err := f.Proof.Verify(f.Opening.Leaf(), v); err != nil {
		return Leaf{}, err
	}
	return ParseLeaf(f.Opening.Core)
}

// add takes the leaves in the order of the log.
func (s *steps) add(l Leaf) error {
	switch l.Event {
	case EventDenied, EventCancelled, EventExpired:
		return mismatch("%s: such a request ends without a certificate", l.Event)
	case EventApproved:
		s.approvals[l.SHA256] = true
		return nil
	case EventNotified, EventConfirmed:
		return s.addRecipient(l)
	case EventReceived, EventSuppressed, EventSevered, EventSpoolGone, EventPurged:
	default:
		return nil // says nothing that a certificate repeats
	}
	if _, twice := s.once[l.Event]; twice {
		return mismatch("%s: it is proven twice", l.Event)
	}
	for _, later := range followers(l.Event) {
		if _, early := s.once[later]; early {
			return mismatch("%s: it comes after %s in the log", l.Event, later)
		}
	}
	s.once[l.Event] = l
	return nil
}

// followers are the steps that cannot come before a step.
func followers(event string) []string {
	switch event {
	case EventReceived:
		return []string{EventSuppressed, EventSevered, EventSpoolGone, EventPurged}
	case EventSuppressed:
		return []string{EventSevered, EventSpoolGone, EventPurged}
	case EventSevered, EventSpoolGone:
		return []string{EventPurged}
	}
	return nil
}

func (s *steps) addRecipient(l Leaf) error {
	to, needs := s.notified, s.once[EventSuppressed].Event != ""
	if l.Event == EventConfirmed {
		to, needs = s.confirmed, s.notified[l.Destination].Event != ""
	}
	if _, twice := to[l.Destination]; twice {
		return mismatch("%s of %s: it is proven twice", l.Event, l.Destination)
	}
	if !needs {
		return mismatch("%s of %s: the step before it is not in the log before it", l.Event, l.Destination)
	}
	to[l.Destination] = l
	return nil
}

// proveTimes: each time is that of its leaf, and those that the sort of erasure must have are there.
func (c *Certificate) proveTimes(s *steps) error {
	f, retention, whole := &c.Facts, c.Origin == ByRetention, len(c.Purposes) == 0
	for _, x := range []struct {
		event    string
		at       time.Time
		required bool
		allowed  bool
	}{
		{EventReceived, f.Received, true, true},
		{EventSuppressed, f.Suppressed, !retention, true},
		{EventSevered, f.Severed, whole, whole},
		{EventSpoolGone, f.SpoolGone, !retention, true},
		{EventPurged, f.Purged, true, true},
	} {
		l, proven := s.once[x.event]
		switch {
		case x.at.IsZero() && x.required:
			return mismatch("%s: it is missing", x.event)
		case !x.at.IsZero() && !x.allowed:
			return mismatch("%s: an erasure of some purposes ends no subject", x.event)
		case proven && x.at.IsZero():
			return mismatch("%s: the log has it, the facts do not", x.event)
		case !proven && !x.at.IsZero():
			return mismatch("%s: no evidence", x.event)
		case !l.Time.Equal(x.at):
			return mismatch("%s: the log has another time", x.event)
		}
	}
	return nil
}

// proveApproval: what the custodian obeyed is what the gateway logged. The schedule of retention is approved once for many jobs and stands in
// none of their logs.
func (c *Certificate) proveApproval(s *steps) error {
	if c.Approved != "" && c.Origin != ByRetention && !s.approvals[c.Approved] {
		return mismatch("approved: no evidence of this approval")
	}
	return nil
}

func (c *Certificate) proveRecipients(s *steps) error {
	for _, r := range c.Facts.Recipients {
		told, notified := s.notified[r.Destination]
		acknowledged, confirmed := s.confirmed[r.Destination]
		switch {
		case r.Node != c.Node:
			return mismatch("recipient %s: its stream is another node's", r.Destination)
		case notified != (r.Number > 0) || told.Number != r.Number:
			return mismatch("recipient %s: the log has another entry", r.Destination)
		case confirmed != r.Confirmed || !acknowledged.Time.Equal(r.At):
			return mismatch("recipient %s: the log has another confirmation", r.Destination)
		case confirmed && acknowledged.Number < r.Number: // an acknowledgement is of everything up to its number
			return mismatch("recipient %s: it acknowledged less", r.Destination)
		}
		delete(s.notified, r.Destination)
	}
	for destination := range s.notified {
		return mismatch("recipient %s: it was told of the erasure and is missing", destination)
	}
	return nil
}

// proveExceptions: what remains is what the steps left, and who has not acknowledged.
func (c *Certificate) proveExceptions(s *steps) error {
	var remains []Exception
	for _, event := range []string{EventSuppressed, EventSevered} {
		remains = append(remains, s.once[event].Remains...)
	}
	if x, ok := Unconfirmed(c.Facts.Recipients); ok {
		remains = append(remains, x)
	}
	slices.SortFunc(remains, Exception.compare)
	if !slices.EqualFunc(remains, c.Facts.Exceptions, Exception.same) {
		return mismatch("exceptions: the log has others")
	}
	var copies time.Time
	for _, x := range remains {
		if x.What == RemainsKeyCopies {
			copies = x.Until
		}
	}
	if !copies.Equal(c.Facts.KeyCopies) {
		return mismatch("key_copies: the log has another time")
	}
	return nil
}

func (x Exception) same(other Exception) bool {
	return x.What == other.What && x.Count == other.Count && x.Until.Equal(other.Until) && x.Basis == other.Basis
}

// Unconfirmed is the exception that counts the destinations that were told and have not acknowledged; ok is false where there is none.
func Unconfirmed(recipients []Confirmation) (x Exception, ok bool) {
	n := 0
	for _, r := range recipients {
		if r.Number > 0 && !r.Confirmed {
			n++
		}
	}
	return Exception{What: RemainsDownstream, Count: n, Basis: "GDPR Art. 19"}, n > 0
}

// proveSystems: whoever had rows that were taken was told, and whoever was told had its objects looked at. Retention is told by the replace entries
// alone.
func (c *Certificate) proveSystems(*steps) error {
	if c.Origin == ByRetention {
		return nil
	}
	told, seen := map[string]bool{}, map[string]bool{}
	for _, r := range c.Facts.Recipients {
		told[r.Destination] = r.Number > 0
	}
	for _, s := range c.Systems {
		seen[s.Destination] = s.Objects > 0
		if s.Rows+s.Reduced > 0 && !told[s.Destination] {
			return mismatch("recipient %s: it had rows and was not told", s.Destination)
		}
	}
	for _, r := range c.Facts.Recipients {
		if r.Number > 0 && !seen[r.Destination] {
			return mismatch("system %s: none of its objects was looked at", r.Destination)
		}
	}
	return nil
}
