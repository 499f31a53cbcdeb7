package main

import (
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/export/rights/proof"
)

// The words hold every fact of a certificate; TestFields and TestForgedFacts of export/rights/proof forge them.
func TestPrintCertificate(t *testing.T) {
	at := time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
	c := proof.Certificate{
		Request: "3f6b2a8e-1c4d-4e5f-8a9b-0c1d2e3f4a5b", Origin: proof.ByDPO, Method: "by version", Completed: at.Add(5 * time.Minute),
		Custodian: "thumbprint", Approved: "abcd",
		Facts: proof.Facts{
			Received: at, Suppressed: at.Add(time.Minute), Severed: at.Add(2 * time.Minute), SpoolGone: at.Add(3 * time.Minute), Purged: at.Add(4 * time.Minute),
			Recipients: []proof.Confirmation{
				{Destination: "accounting", Number: 8}, {Destination: "marketing"}, {Destination: "warehouse", Number: 12, Confirmed: true, At: at.Add(time.Hour)},
			},
			Exceptions: []proof.Exception{
				{What: proof.RemainsConsentProofs, Count: 3, Until: at.AddDate(5, 0, 0), Basis: "GDPR Art. 17(3)(e)"}, {What: proof.RemainsDownstream, Count: 1},
			},
		},
		Systems: []proof.System{{Destination: "warehouse", Objects: 7, Rewritten: 6, Deleted: 1, Rows: 20, Reduced: 2, Versions: 9}},
	}
	const want = `the certificate holds: erasure 3f6b2a8e-1c4d-4e5f-8a9b-0c1d2e3f4a5b

of               everything of one subject
asked for by     the data protection officer
received         2026-11-21 18:00:00 UTC
suppressed       2026-11-21 18:01:00 UTC: nothing more was sealed
severed          2026-11-21 18:02:00 UTC: the key that leads to the subject was overwritten
spool gone       2026-11-21 18:03:00 UTC: nothing that waited at the gateway was left
purged           2026-11-21 18:04:00 UTC: every version of every former object was deleted
completed        2026-11-21 18:05:00 UTC
in warehouse     7 objects looked at, 6 rewritten, 1 deleted; 20 rows erased, 2 reduced; 9 versions deleted
told accounting  entry 8 of its stream, not confirmed
told marketing   it never received a row
told warehouse   entry 12 of its stream, confirmed 2026-11-21 19:00:00 UTC
remains          3 proofs of consent, without the person, until 2031-11-21 18:00:00 UTC (GDPR Art. 17(3)(e))
remains          1 recipients that have not confirmed
method           by version
signed by        custodian key thumbprint
approval         SHA-256 abcd
`
	var b strings.Builder
	if err := printCertificate(&b, &c); err != nil || b.String() != want {
		t.Errorf("%s, %v, want %s", b.String(), err, want)
	}
	c.Purposes, c.Facts.Severed = []string{"audience", "offers"}, time.Time{}
	b.Reset()
	if err := printCertificate(&b, &c); err != nil || !strings.Contains(b.String(), "what rested on audience, offers") || strings.Contains(b.String(), "severed") {
		t.Errorf("%s, %v", b.String(), err)
	}
}
