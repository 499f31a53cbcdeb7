package proof_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/export/rights/proof"
)

// issue signs a certificate of the leaves; verify says what an outsider thinks of it.
func verify(t testing.TB, c proof.Certificate, v *evidence.Verifier) error {
	t.Helper()
	token, err := proof.SignCertificate(c, custodian)
	if err != nil {
		return err
	}
	_, err = proof.VerifyCertificate(token, public(custodian), v)
	return err
}

// A gateway that logged one thing and states another, and a custodian that signs it all the same: no certificate, and the fact is named.
func TestForgedFacts(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*proof.Certificate)
		fact   string
	}{
		"received":           {func(c *proof.Certificate) { c.Facts.Received = at(-1) }, "received: the log has another time"},
		"suppressed":         {func(c *proof.Certificate) { c.Facts.Suppressed = at(1) }, "suppressed: the log has another time"},
		"severed":            {func(c *proof.Certificate) { c.Facts.Severed = at(5) }, "severed: the log has another time"},
		"spool":              {func(c *proof.Certificate) { c.Facts.SpoolGone = at(5) }, "spool_gone: the log has another time"},
		"purged":             {func(c *proof.Certificate) { c.Facts.Purged = at(7) }, "purged: the log has another time"},
		"not suppressed":     {func(c *proof.Certificate) { c.Facts.Suppressed = time.Time{} }, "suppressed: it is missing"},
		"not severed":        {func(c *proof.Certificate) { c.Facts.Severed = time.Time{} }, "severed: it is missing"},
		"spool not gone":     {func(c *proof.Certificate) { c.Facts.SpoolGone = time.Time{} }, "spool_gone: it is missing"},
		"key copies":         {func(c *proof.Certificate) { c.Facts.KeyCopies = at(1) }, "key_copies: the log has another time"},
		"no key copies":      {func(c *proof.Certificate) { c.Facts.KeyCopies = time.Time{} }, "key_copies: the log has another time"},
		"only some purposes": {func(c *proof.Certificate) { c.Purposes = []string{"audience"} }, "severed: an erasure of some purposes"},
		"recipient missing":  {func(c *proof.Certificate) { c.Facts.Recipients = c.Facts.Recipients[1:] }, "recipient accounting: it was told"},
		"confirmed missing":  {func(c *proof.Certificate) { c.Facts.Recipients = c.Facts.Recipients[:2] }, "recipient warehouse: it was told of the erasure and is missing"},
		"recipient invented": {func(c *proof.Certificate) { c.Facts.Recipients[1].Number = 3 }, "recipient marketing: the log has another entry"},
		"other entry":        {func(c *proof.Certificate) { c.Facts.Recipients[2].Number = 11 }, "recipient warehouse: the log has another entry"},
		"never told":         {func(c *proof.Certificate) { c.Facts.Recipients[2].Number = 0 }, "recipient warehouse: the log has another entry"},
		"another node":       {func(c *proof.Certificate) { c.Facts.Recipients[2].Node = "n2" }, "recipient warehouse: its stream is another node's"},
		"confirmed falsely":  {func(c *proof.Certificate) { c.Facts.Recipients[0].Confirmed, c.Facts.Recipients[0].At = true, at(9) }, "recipient accounting: the log has another confirmation"},
		"confirmed earlier":  {func(c *proof.Certificate) { c.Facts.Recipients[2].At = at(7) }, "recipient warehouse: the log has another confirmation"},
		"exception hidden":   {func(c *proof.Certificate) { c.Facts.Exceptions = c.Facts.Exceptions[1:] }, "exceptions: the log has others"},
		"exception invented": {func(c *proof.Certificate) { c.Facts.Exceptions[2].Count = 5 }, "exceptions: the log has others"},
		"exception's end":    {func(c *proof.Certificate) { c.Facts.Exceptions[0].Until = at(1) }, "exceptions: the log has others"},
		"exception's basis":  {func(c *proof.Certificate) { c.Facts.Exceptions[0].Basis = "" }, "exceptions: the log has others"},
		"downstream hidden":  {func(c *proof.Certificate) { c.Facts.Exceptions = slices.Delete(c.Facts.Exceptions, 1, 2) }, "exceptions: the log has others"},
		"another request":    {func(c *proof.Certificate) { c.Request = another }, "evidence 0: it is of another request"},
		"another origin":     {func(c *proof.Certificate) { c.Origin = proof.ByPerson }, "evidence 0: it is of another request"},
		"another approval":   {func(c *proof.Certificate) { c.Approved = strings.Repeat("ab", 32) }, "approved: no evidence"},
		"another node's":     {func(c *proof.Certificate) { c.Node = "n2" }, "node: the log is another's"},
		"rows, and not told": {func(c *proof.Certificate) { c.Systems[0].Destination, c.Systems[0].Rows = "marketing2", 1 }, "recipient marketing2: it had rows and was not told"},
		"rows of the untold": {func(c *proof.Certificate) {
			c.Systems = slices.Insert(c.Systems, 1, proof.System{Destination: "marketing", Objects: 1, Reduced: 1})
		}, "recipient marketing: it had rows"},
		"told, and not looked":  {func(c *proof.Certificate) { c.Systems = c.Systems[1:] }, "system accounting: none of its objects"},
		"leaf of received gone": {func(c *proof.Certificate) { c.Facts.Evidence = c.Facts.Evidence[1:] }, "received: no evidence"},
		"leaf of severed gone":  {func(c *proof.Certificate) { c.Facts.Evidence = slices.Delete(c.Facts.Evidence, 4, 5) }, "severed: no evidence"},
		"leaf of purged gone":   {func(c *proof.Certificate) { c.Facts.Evidence = slices.Delete(c.Facts.Evidence, 8, 9) }, "purged: no evidence"},
		"leaf of notice gone":   {func(c *proof.Certificate) { c.Facts.Evidence = slices.Delete(c.Facts.Evidence, 5, 6) }, "recipient accounting: the log has another entry"},
		"leaf of ack gone":      {func(c *proof.Certificate) { c.Facts.Evidence = c.Facts.Evidence[:9] }, "recipient warehouse: the log has another confirmation"},
		"no evidence":           {func(c *proof.Certificate) { c.Facts.Evidence = nil }, "received: no evidence"},
		"evidence out of order": {func(c *proof.Certificate) {
			c.Facts.Evidence[3], c.Facts.Evidence[4] = c.Facts.Evidence[4], c.Facts.Evidence[3]
		}, "evidence 4: it does not come after the one before"},
		"evidence twice":     {func(c *proof.Certificate) { c.Facts.Evidence = slices.Insert(c.Facts.Evidence, 3, c.Facts.Evidence[3]) }, "evidence 4: it does not come after the one before"},
		"opening of another": {func(c *proof.Certificate) { c.Facts.Evidence[4].Opening = c.Facts.Evidence[3].Opening }, "evidence 4"},
		"opening changed": {func(c *proof.Certificate) {
			c.Facts.Evidence[4].Opening.Core = bytes.ToUpper(c.Facts.Evidence[4].Opening.Core)
		}, "evidence 4"},
		"index changed": {func(c *proof.Certificate) { c.Facts.Evidence[4].Proof.Index-- }, "evidence 4"},
		"stripped":      {func(c *proof.Certificate) { c.Facts.Evidence[4].Opening = c.Facts.Evidence[4].Opening.Strip() }, "evidence 4"},
	} {
		t.Run(name, func(t *testing.T) {
			facts, v := gateway(t, steps()...)
			forged := certificate(facts)
			if err := verify(t, forged, v); err != nil {
				t.Fatalf("the true one: %v", err)
			}
			c.change(&forged)
			err := verify(t, forged, v)
			if !errors.Is(err, proof.ErrMismatch) || !strings.Contains(err.Error(), c.fact) {
				t.Errorf("%v, want %q", err, c.fact)
			}
		})
	}
}

// A gateway whose log itself does not tell what a certificate needs.
func TestForgedLog(t *testing.T) {
	for name, c := range map[string]struct {
		change func([]proof.Leaf) []proof.Leaf
		fact   string
	}{
		"purged before severed":   {func(l []proof.Leaf) []proof.Leaf { return move(l, 8, 4) }, "severed: it comes after purged in the log"},
		"purged before the spool": {func(l []proof.Leaf) []proof.Leaf { return move(l, 8, 7) }, "spool_gone: it comes after purged in the log"},
		"suppressed last":         {func(l []proof.Leaf) []proof.Leaf { return move(l, 3, 9) }, "notified of accounting: the step before it"},
		"received last":           {func(l []proof.Leaf) []proof.Leaf { return move(l, 0, 9) }, "received: it comes after"},
		"confirmed unasked":       {func(l []proof.Leaf) []proof.Leaf { return move(l, 9, 4) }, "confirmed of warehouse: the step before it"},
		"severed twice":           {func(l []proof.Leaf) []proof.Leaf { return append(l, l[4]) }, "severed: it is proven twice"},
		"notified twice":          {func(l []proof.Leaf) []proof.Leaf { return append(l, l[6]) }, "notified of warehouse: it is proven twice"},
		"denied":                  {func(l []proof.Leaf) []proof.Leaf { l[1].Event = proof.EventDenied; return l }, "denied: such a request ends without"},
		"cancelled":               {func(l []proof.Leaf) []proof.Leaf { l[1].Event = proof.EventCancelled; return l }, "cancelled"},
		"another's leaf":          {func(l []proof.Leaf) []proof.Leaf { l[8].Request = another; return l }, "evidence 8: it is of another request"},
		"another right":           {func(l []proof.Leaf) []proof.Leaf { l[8].Right = proof.Access; return l }, "evidence 8: it is of another request"},
		"acknowledged less":       {func(l []proof.Leaf) []proof.Leaf { l[9].Number = 11; return l }, "recipient warehouse: it acknowledged less"},
		"remains more":            {func(l []proof.Leaf) []proof.Leaf { l[4].Remains[0].Count++; return l }, "exceptions: the log has others"},
		"a leaf that is none":     {func(l []proof.Leaf) []proof.Leaf { l[1].Event = proof.EventVerified; return l }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			facts, v := gateway(t, c.change(steps())...)
			err := verify(t, certificate(facts), v)
			if c.fact == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, proof.ErrMismatch) || !strings.Contains(err.Error(), c.fact) {
				t.Errorf("%v, want %q", err, c.fact)
			}
		})
	}
}

func move(l []proof.Leaf, from, to int) []proof.Leaf {
	x := l[from]
	return slices.Insert(slices.Delete(l, from, from+1), to, x)
}

// Leaves under two heads, each of them true; another log's; a head that nobody signed.
func TestHeads(t *testing.T) {
	l, openings, order := newLog(t, "n1"), map[int64]evidence.Opening{}, []int64(nil)
	leaves := steps()
	for i, leaf := range leaves {
		o, err := proof.NewLeaf(leaf)
		if err != nil {
			t.Fatal(err)
		}
		index := l.append(o)
		openings[index], order = o, append(order, index)
		if i == 5 {
			defer func(early []proof.Fact) {
				late := l.prove(openings, order...)
				if err := verify(t, certificate(late), l.signer.Verifier()); err != nil {
					t.Errorf("under one head: %v", err)
				}
				mixed := slices.Concat(early, late[6:])
				if err := verify(t, certificate(mixed), l.signer.Verifier()); !errors.Is(err, proof.ErrMismatch) || !strings.Contains(err.Error(), "another head") {
					t.Errorf("under two heads: %v", err)
				}
			}(l.prove(openings, order...))
		}
	}
	facts, v := gateway(t, leaves...)
	other, err := evidence.NewVerifier("octroi/n1", public(stranger))
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(t, certificate(facts), other); !errors.Is(err, proof.ErrMismatch) {
		t.Errorf("another log's key: %v", err)
	}
	facts[0].Proof.Checkpoint = "octroi/n1\n20\nAAAA\n"
	if err := verify(t, certificate(facts), v); !errors.Is(err, proof.ErrMismatch) {
		t.Errorf("an unsigned head: %v", err)
	}
}

// What other sorts of erasure need, and what they may not say.
func TestOtherErasures(t *testing.T) {
	only := func(origin proof.Origin, which ...int) (list []proof.Leaf) {
		all := steps()
		for _, i := range which {
			x := all[i]
			x.Origin, x.Remains = origin, nil
			list = append(list, x)
		}
		return list
	}
	base := func(origin proof.Origin, leaves []proof.Leaf) (proof.Certificate, *evidence.Verifier) {
		facts, v := gateway(t, leaves...)
		c := certificate(facts)
		c.Origin, c.Purposes, c.Approved = origin, []string{"audience"}, ""
		c.Facts = proof.Facts{Received: at(0), Suppressed: at(3), SpoolGone: at(7), Purged: at(8), Recipients: c.Facts.Recipients[2:], Evidence: facts}
		c.Systems = c.Systems[1:]
		return c, v
	}
	c, v := base(proof.ByWithdrawal, only(proof.ByWithdrawal, 0, 3, 6, 7, 8, 9))
	if err := verify(t, c, v); err != nil {
		t.Errorf("withdrawal: %v", err)
	}
	c, v = base(proof.ByRetention, only(proof.ByRetention, 0, 8))
	c.Approved, c.Facts.Suppressed, c.Facts.SpoolGone, c.Facts.Recipients = sum, time.Time{}, time.Time{}, nil
	if err := verify(t, c, v); err != nil {
		t.Errorf("retention: %v", err)
	}
	c.Facts.SpoolGone = at(7)
	if err := verify(t, c, v); !errors.Is(err, proof.ErrMismatch) {
		t.Errorf("retention with an unproven time: %v", err)
	}
	c.Facts.SpoolGone, c.Approved = time.Time{}, ""
	if err := verify(t, c, v); !errors.Is(err, proof.ErrStatement) {
		t.Errorf("retention that nobody approved: %v", err)
	}
	// By the person: approved at once, without a signature; over the cap, the DPO's comes after.
	leaves := steps()
	for i := range leaves {
		leaves[i].Origin = proof.ByPerson
	}
	first := leaves[2]
	first.SHA256 = ""
	facts, v := gateway(t, slices.Insert(slices.Clone(leaves), 1, first)...)
	c = certificate(facts)
	c.Origin = proof.ByPerson
	if err := verify(t, c, v); err != nil {
		t.Errorf("by the person, approved by the DPO: %v", err)
	}
	c.Approved = ""
	if err := verify(t, c, v); err != nil {
		t.Errorf("by the person: %v", err)
	}
	if token, err := proof.SignCertificate(c, key(4)); err != nil {
		t.Error(err)
	} else if _, err := proof.VerifyCertificate(token, public(custodian), v); !errors.Is(err, proof.ErrSignature) {
		t.Errorf("another custodian's: %v", err)
	}
}
