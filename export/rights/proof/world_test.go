package proof_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/policies"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	request = "3f6b2a8e-1c4d-4e5f-8a9b-0c1d2e3f4a5b"
	another = "9a6b2a8e-1c4d-4e5f-8a9b-0c1d2e3f4a5b"
	batch   = "00112233445566778899aabbccddeeff"
)

var (
	sum      = strings.Repeat("0123456789abcdef", 4)
	received = time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
)

// key is the n-th signing key of the tests.
func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), n))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

var (
	dpo, custodian, logKey = key(1), key(2), key(3)
	stranger               = key(9)
)

// at is a time some minutes after the request.
func at(minutes int) time.Time { return received.Add(time.Duration(minutes) * time.Minute) }

// forge signs any JSON under any header: what somebody who has the key, and no scruples, can make.
func forge(t testing.TB, header, claims string, k ed25519.PrivateKey) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(k, []byte(text)))
}

func headerOf(typ string) string { return `{"alg":"EdDSA","typ":"octroi-` + typ + `+jwt"}` }

func marshal(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// claimsOf is the JSON of a token.
func claimsOf(t testing.TB, token string) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func job() proof.Job {
	return proof.Job{
		Version: 1, Node: "n1", Request: request, Right: proof.Erasure, Origin: proof.ByDPO, Received: received, Purposes: []string{"audience", "service"},
		Language: "fr",
		Destinations: []proof.Whose{
			{Destination: "accounting", Persons: []string{strings.Repeat("ab", 16)}},
			{Destination: "warehouse", Devices: []string{strings.Repeat("01", 16), strings.Repeat("02", 16)}, Persons: []string{strings.Repeat("03", 16)}},
		},
	}
}

func schedule() proof.Schedule {
	return proof.Schedule{
		Version: 1, Node: "n1", Policy: sum, Retention: map[string]string{"audience": "P13M", "service": "P5Y"},
		Rules: export.PurposeRules{"audience": {"url": policies.URLPath, "referrer": policies.Drop}, "service": {}}, IssuedAt: at(1),
	}
}

func rewrite() proof.Rewrite {
	return proof.Rewrite{
		Version: 1, Batch: batch, Generation: 2, Before: sum, Scanned: 10,
		Cut: map[string]proof.Cut{request: {Erased: 2, Reduced: 3}, another: {Erased: 1}},
		Now: &export.Batch{
			ID: batch, Key: "warehouse/events/dt=2026-11-21/hour=18/n1-000000000001-000000000010.2.parquet.age", Version: "v2", SHA256: sum, Size: 4000,
			Rows: 7, From: at(0), To: at(9), Purposes: []string{"audience", "service"}, PolicyHash: sum,
			Recipients: []string{"age1" + strings.Repeat("w", 58), "age1" + strings.Repeat("e", 58), "age1" + strings.Repeat("r", 58)}, Schema: "octroi.events.v1",
		},
		At: at(20),
	}
}

func purge() proof.Purge {
	return proof.Purge{
		Version: 1, Batch: batch, Current: "warehouse/events/b.2.parquet.age", Uploads: 1, Verified: at(30),
		Deleted: []proof.Gone{{Key: "warehouse/events/b.1.parquet.age", Version: "v1"}, {Key: "warehouse/events/b.1.parquet.age", Version: "v3", Marker: true}},
	}
}

func collected() proof.Collected {
	return proof.Collected{
		Version: 1, Request: request, SHA256: sum, Size: 100, Sealed: true, Objects: 3, Rows: map[string]int{"accounting": 0, "warehouse": 7}, At: at(5),
	}
}

// evidenceLog is a gateway's log in memory.
type evidenceLog struct {
	t      testing.TB
	signer *evidence.Signer
	size   int64
	stored []tlog.Hash
}

func newLog(t testing.TB, node string) *evidenceLog {
	t.Helper()
	signer, err := evidence.NewSigner("octroi/"+node, logKey)
	if err != nil {
		t.Fatal(err)
	}
	return &evidenceLog{t: t, signer: signer}
}

// ReadHashes is tlog.HashReader.
func (l *evidenceLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		hashes[i] = l.stored[x]
	}
	return hashes, nil
}

// append answers the index.
func (l *evidenceLog) append(o evidence.Opening) int64 {
	l.t.Helper()
	hashes, err := tlog.StoredHashesForRecordHash(l.size, o.Leaf().Hash(), l)
	if err != nil {
		l.t.Fatal(err)
	}
	l.stored = append(l.stored, hashes...)
	l.size++
	return l.size - 1
}

// prove shows the openings under the head of now.
func (l *evidenceLog) prove(of map[int64]evidence.Opening, order ...int64) (facts []proof.Fact) {
	l.t.Helper()
	root, err := tlog.TreeHash(l.size, l)
	if err != nil {
		l.t.Fatal(err)
	}
	head, err := l.signer.SignCheckpoint(l.size, root)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, index := range order {
		hashes, err := tlog.ProveRecord(l.size, index, l)
		if err != nil {
			l.t.Fatal(err)
		}
		facts = append(facts, proof.Fact{Opening: of[index], Proof: evidence.Proof{Index: index, Size: l.size, Hashes: hashes, Checkpoint: head}})
	}
	return facts
}

// gateway logs leaves of a request and shows them: what is true, and what is not.
func gateway(t testing.TB, leaves ...proof.Leaf) (facts []proof.Fact, v *evidence.Verifier) {
	t.Helper()
	l, openings, order := newLog(t, "n1"), map[int64]evidence.Opening{}, []int64(nil)
	for _, leaf := range leaves {
		l.append(evidence.Opening{Core: []byte(`{"kind":"other"}`)}) // other entries lie between
		o, err := proof.NewLeaf(leaf)
		if err != nil {
			t.Fatal(err)
		}
		index := l.append(o)
		openings[index], order = o, append(order, index)
	}
	return l.prove(openings, order...), l.signer.Verifier()
}

// steps are the leaves of an erasure of a whole subject by the DPO, told to one destination of two that has confirmed and one that has not.
func steps() []proof.Leaf {
	step := func(event string, minutes int) proof.Leaf {
		return proof.Leaf{Request: request, Right: proof.Erasure, Origin: proof.ByDPO, Event: event, Actor: "gateway", Time: at(minutes)}
	}
	list := []proof.Leaf{
		step(proof.EventReceived, 0), step(proof.EventVerified, 1), step(proof.EventApproved, 2), step(proof.EventSuppressed, 3),
		step(proof.EventSevered, 4), step(proof.EventNotified, 5), step(proof.EventNotified, 6), step(proof.EventSpoolGone, 7), step(proof.EventPurged, 8),
		step(proof.EventConfirmed, 9),
	}
	list[0].Actor, list[0].Due = "dpo", at(30*24*60)
	list[2].Actor, list[2].SHA256 = "dpo", sum
	list[3].Remains = []proof.Exception{{What: proof.RemainsSuppression, Count: 2, Until: at(90 * 24 * 60), Basis: "GDPR Art. 17(3)(b)"}}
	list[4].Remains = []proof.Exception{
		{What: proof.RemainsConsentProofs, Count: 3, Until: at(5 * 365 * 24 * 60), Basis: "GDPR Art. 17(3)(e)"},
		{What: proof.RemainsKeyCopies, Until: at(7 * 24 * 60)},
	}
	list[5].Destination, list[5].Number = "accounting", 8
	list[6].Destination, list[6].Number = "warehouse", 12
	list[9].Destination, list[9].Number = "warehouse", 14
	return list
}

// certificate is what the leaves of steps prove.
func certificate(evidence []proof.Fact) proof.Certificate {
	leaves := steps()
	return proof.Certificate{
		Version: 1, Node: "n1", Request: request, Right: proof.Erasure, Origin: proof.ByDPO,
		Facts: proof.Facts{
			Received: at(0), Suppressed: at(3), Severed: at(4), KeyCopies: at(7 * 24 * 60), SpoolGone: at(7), Purged: at(8),
			Recipients: []proof.Confirmation{
				{Destination: "accounting", Node: "n1", Number: 8},
				{Destination: "marketing", Node: "n1"},
				{Destination: "warehouse", Node: "n1", Number: 12, Confirmed: true, At: at(9)},
			},
			Exceptions: []proof.Exception{
				leaves[4].Remains[0], {What: proof.RemainsDownstream, Count: 1, Basis: "GDPR Art. 19"}, leaves[3].Remains[0], leaves[4].Remains[1],
			},
			Evidence: evidence,
		},
		Systems: []proof.System{
			{Destination: "accounting", Objects: 1}, {Destination: "warehouse", Objects: 7, Rewritten: 6, Deleted: 1, Rows: 20, Reduced: 1, Versions: 8},
		},
		Method: "rewritten by version, former versions deleted and listed", Completed: at(10), Approved: sum,
	}
}
