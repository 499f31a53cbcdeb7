package proof_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/policies"
)

// broken lists, for each statement, values of its fields that no holder signs and nobody accepts. A path is the names of members, and indexes.
func broken() map[string]map[string][]any {
	const early, offset, fine = "1969-12-31T23:59:59Z", "2026-11-21T19:00:00+01:00", "2026-11-21T18:00:00.0001Z"
	times := []any{early, offset, fine, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "tomorrow", 3}
	ids := []any{"", strings.ToUpper(request), "3f6b2a8e-1c4d-1e5f-8a9b-0c1d2e3f4a5b", request + "0", "not-an-id", request + "\n"}
	hashes := []any{"", strings.ToUpper(sum), sum[1:], sum + "0", strings.Repeat("g", 64), sum + "\n"}
	batches := []any{"", strings.ToUpper("aa" + batch[2:]), batch[2:], batch + "00", "../" + batch}
	names := []any{"", "Warehouse", "../etc", "a b", strings.Repeat("a", 64), "é", "a\n"}
	numbers := []any{-1, 1 << 50, "1", 1.5}
	pseudonyms := strings.Repeat("01", 16)
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf("%032x", i)
	}
	return map[string]map[string][]any{
		"approval": {
			"v": {0, 2}, "node": names, "request": ids, "right": {"", "portability"}, "origin": {"", "gateway", "retention"},
			"received": append(times, "2026-11-21T18:00:00.001Z"),
			"purposes": {[]string{"b", "a"}, []string{"a", "a"}, []string{""}, []string{"A"}}, "language": {"de", "FR", "french"},
			"recipient":                  {"age1" + strings.Repeat("q", 58), "age1", "AGE-SECRET-KEY-1" + strings.Repeat("Q", 58)},
			"destinations":               {[]proof.Whose{job().Destinations[1], job().Destinations[0]}, []proof.Whose{job().Destinations[0], job().Destinations[0]}},
			"destinations.0.destination": names, "destinations.0.persons": {nil, []string{}, many, []string{strings.ToUpper(strings.Repeat("ab", 16))}, []string{"ab"}},
			"destinations.1.devices": {[]string{pseudonyms, pseudonyms}, []string{strings.Repeat("02", 16), pseudonyms}, many[:64]},
		},
		"schedule": {
			"v": {0, 2}, "node": names, "policy": hashes, "iat": times,
			"rules": {
				map[string]any{"marketing": map[string]string{"url": "keep"}},
				map[string]any{"audience": map[string]string{"url": "encrypt"}},
				map[string]any{"audience": map[string]string{"u\n": "keep"}},
				map[string]any{"audience": "keep"},
			},
			"retention": {
				nil,
				map[string]string{},
				map[string]string{"a": ""},
				map[string]string{"a": "P0D"},
				map[string]string{"a": "13 months"},
				map[string]string{"a": "P2W"},
				map[string]string{"a": "PT0.5S"},
				map[string]string{"A": "P1D"},
				map[string]string{"": "P1D"},
			},
		},
		"rewrite": {
			"v": {0, 2}, "batch": append(batches, strings.Repeat("00", 16)), "generation": append(numbers, 0, 1), "before": hashes, "at": times,
			"scanned":   append(numbers, 0, 6, 11),
			"unchanged": {true}, "cut": {map[string]any{}, map[string]proof.Cut{"x": {Erased: 3}}, map[string]proof.Cut{request: {Erased: 4}}, map[string]proof.Cut{request: {Erased: 3, Reduced: 8}}},
			"cut." + request + ".erased": append(numbers, 1), "cut." + request + ".reduced": append(numbers, 9),
			"now": {map[string]any{}}, "now.id": append(batches, strings.Repeat("00", 16)), "now.key": {"", "/a", "a b", strings.Repeat("a", 901), ".a"},
			"now.version": {"a b", strings.Repeat("v", 1001), "é"}, "now.sha256": hashes, "now.size": append(numbers, 0), "now.rows": append(numbers, 0, 11),
			"now.from": times, "now.to": append(times, "2026-11-21T17:59:59Z"), "now.purposes": {nil, []string{}, []string{"b", "a"}}, "now.policy": hashes,
			"now.recipients": {nil, []string{}, []string{"age1"}, []string{"age1" + strings.Repeat("w", 58), "age1" + strings.Repeat("w", 58)}},
			"now.schema":     {"", "a\n", strings.Repeat("a", 201)},
		},
		"purge": {
			"v": {0, 2}, "batch": batches, "current": {"/a", "a b"}, "uploads": numbers, "verified": times,
			"deleted": {
				[]proof.Gone{{Key: "b", Version: "1"}, {Key: "a", Version: "1"}},
				[]proof.Gone{{Key: "a", Version: "1"}, {Key: "a", Version: "1", Marker: true}},
				[]proof.Gone{{Key: "a", Version: "2"}, {Key: "a", Version: "1"}},
				[]proof.Gone{{Key: "warehouse/events/b.2.parquet.age"}},
			},
			"deleted.0.key": {"", "/a"}, "deleted.0.version": {"a b"},
		},
		"collected": {
			"v": {0, 2}, "request": ids, "sha256": hashes, "size": append(numbers, 0), "objects": numbers, "at": times,
			"rows": {map[string]int{"A": 1}, map[string]int{"": 1}}, "rows.warehouse": numbers, "sealed": {"yes"},
		},
		"certificate": {
			"v": {0, 2}, "node": names, "request": ids, "right": {"", "access"}, "origin": {"", "withdrawal", "retention"},
			"purposes": {[]string{"b", "a"}, []string{}}, "method": {"", "a\x00", strings.Repeat("a", 201)}, "completed": times,
			"custodian": {"", "x", strings.Repeat("a", 44)}, "approved": hashes,
			"systems":             {[]proof.System{}, []proof.System{{Destination: "b"}, {Destination: "a"}}, []proof.System{{Destination: "a"}, {Destination: "a"}}},
			"systems.0.objects":   append(numbers, 0), // one was told, so its objects were looked at
			"systems.0.rewritten": append(numbers, 2), "systems.0.deleted": append(numbers, 2), "systems.0.rows": numbers, "systems.0.reduced": numbers,
			"systems.0.versions": numbers, "systems.0.destination": names,
			"facts.received": times, "facts.suppressed": times, "facts.severed": times, "facts.key_copies": times, "facts.spool_gone": times, "facts.purged": times,
			"facts.recipients.0.destination": names, "facts.recipients.0.node": names, "facts.recipients.0.number": append(numbers, 1_000_000_000_000),
			"facts.recipients.0.confirmed": {true}, "facts.recipients.2.confirmed": {false}, "facts.recipients.2.at": times,
			"facts.exceptions.0.what": {"", "backups"}, "facts.exceptions.0.count": numbers, "facts.exceptions.0.until": times,
			"facts.exceptions.0.basis": {"a\n"}, "facts.exceptions": {[]proof.Exception{}},
			"facts.evidence": {nil, []proof.Fact{}, "x"},
		},
	}
}

// Every field of every statement, forged by whoever has the key: refused, and by its own holder not even signed.
func TestFields(t *testing.T) {
	for _, s := range statements(t) {
		token, err := s.sign(s.key)
		if err != nil {
			t.Fatal(err)
		}
		claims := claimsOf(t, token)
		fields := broken()[s.typ]
		for member := range decode(t, claims).(map[string]any) {
			if member != "facts" && fields[member] == nil {
				t.Errorf("%s: no forgery of %s", s.typ, member)
			}
		}
		for path, values := range fields {
			for _, value := range values {
				changed := replace(decode(t, claims), strings.Split(path, "."), value)
				// Through the statement's own type, where it fits: only the value is wrong, not the spelling.
				text := respell(t, s.valid, marshal(t, changed))
				if text == claims {
					continue
				}
				_, err := s.verify(forge(t, headerOf(s.typ), text, s.key), public(s.key))
				if !errors.Is(err, proof.ErrStatement) && !errors.Is(err, proof.ErrMismatch) {
					t.Errorf("%s: %s = %.60v: %v", s.typ, path, value, err)
				}
				if err != nil && strings.Contains(err.Error(), pseudonymOf(value)) {
					t.Errorf("%s: %s: the error quotes the value: %v", s.typ, path, err)
				}
			}
		}
	}
}

// A list that is empty is not written: written as empty, it is another spelling.
func TestEmptyLists(t *testing.T) {
	p := purge()
	p.Deleted = nil
	token, err := proof.SignPurge(p, custodian)
	if err != nil {
		t.Fatal(err)
	}
	for _, empty := range []string{"[]", "null"} {
		claims := strings.Replace(claimsOf(t, token), `"uploads"`, `"deleted":`+empty+`,"uploads"`, 1)
		if _, err := proof.VerifyPurge(forge(t, headerOf("purge"), claims, custodian), public(custodian)); !errors.Is(err, proof.ErrStatement) {
			t.Errorf("%s: %v", empty, err)
		}
	}
}

// pseudonymOf is a text that errors must not hold.
func pseudonymOf(value any) string {
	if s, ok := value.(string); ok && len(s) >= 32 {
		return s
	}
	return "\x00"
}

func decode(t testing.TB, text string) (v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// replace puts value at path.
func replace(v any, path []string, value any) any {
	if len(path) == 0 {
		return value
	}
	switch v := v.(type) {
	case map[string]any:
		v[path[0]] = replace(v[path[0]], path[1:], value)
	case []any:
		var i int
		fmt.Sscan(path[0], &i)
		v[i] = replace(v[i], path[1:], value)
	default:
		return map[string]any{path[0]: replace(nil, path[1:], value)}
	}
	return v
}

// respell writes text as the type of like writes it, where text fits the type.
func respell(t testing.TB, like any, text string) string {
	t.Helper()
	var err error
	switch v := like.(type) {
	case proof.Job:
		err = json.Unmarshal([]byte(text), zero(&v))
		like = v
	case proof.Schedule:
		err = json.Unmarshal([]byte(text), zero(&v))
		like = v
	case proof.Rewrite:
		err = json.Unmarshal([]byte(text), zero(&v))
		like = v
	case proof.Purge:
		err = json.Unmarshal([]byte(text), zero(&v))
		like = v
	case proof.Collected:
		err = json.Unmarshal([]byte(text), zero(&v))
		like = v
	case proof.Certificate:
		err = json.Unmarshal([]byte(text), zero(&v))
		like = v
	default:
		t.Fatalf("%T", like)
	}
	if err != nil {
		return text
	}
	return marshal(t, like)
}

func zero[T any](v *T) *T {
	*v = *new(T)
	return v
}

// Sign refuses the same, and brings times of signing into their form.
func TestSignChecks(t *testing.T) {
	j := job()
	j.Destinations[0].Persons[0] = "x"
	if token, err := proof.Approve(j, dpo); !errors.Is(err, proof.ErrStatement) || token != "" {
		t.Errorf("signed %q, %v", token, err)
	}
	r := rewrite()
	r.At = time.Date(2026, 11, 21, 19, 0, 0, 1234567, time.FixedZone("CET", 3600))
	token, err := proof.SignRewrite(r, custodian)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := proof.VerifyRewrite(token, public(custodian)); err != nil || !back.At.Equal(at(0).Add(time.Millisecond)) {
		t.Errorf("%v, %v", back.At, err)
	}
	// Nothing was taken, and the rows are encrypted to others: a rewrap.
	r.Cut, r.Now.Rows = nil, 10
	if token, err = proof.SignRewrite(r, custodian); err != nil {
		t.Fatal(err)
	}
	if _, err := proof.VerifyRewrite(token, public(custodian)); err != nil {
		t.Error(err)
	}
	// Nothing was left.
	r.Cut, r.Now = map[string]proof.Cut{request: {Erased: 10}, another: {Erased: 1}}, nil
	if _, err := proof.SignRewrite(r, custodian); err != nil {
		t.Error(err)
	}
	// Nothing was concerned.
	r.Cut, r.Unchanged, r.Generation = map[string]proof.Cut{request: {}}, true, 0
	if _, err := proof.SignRewrite(r, custodian); err != nil {
		t.Error(err)
	}
	big := proof.Purge{Version: 1, Batch: batch, Verified: at(1)}
	for i := range 2000 {
		big.Deleted = append(big.Deleted, proof.Gone{Key: strings.Repeat("k", 800), Version: fmt.Sprintf("%05d", i)})
	}
	if _, err := proof.SignPurge(big, custodian); !errors.Is(err, proof.ErrStatement) {
		t.Errorf("signed more than may be read: %v", err)
	}
}

// What right and origin rule out, and what they allow.
func TestJobsAgree(t *testing.T) {
	many := make([]string, 62)
	for i := range many {
		many[i] = fmt.Sprintf("%032x", i)
	}
	for name, c := range map[string]struct {
		change func(*proof.Job)
		ok     bool
	}{
		"access by the person": {func(j *proof.Job) { j.Right, j.Origin, j.Purposes = proof.Access, proof.ByPerson, nil }, true},
		"access sealed": {func(j *proof.Job) {
			j.Right, j.Purposes, j.Recipient = proof.Access, nil, "age1"+strings.Repeat("q", 58)
		}, true},
		"access without rows":       {func(j *proof.Job) { j.Right, j.Purposes, j.Destinations = proof.Access, nil, nil }, true},
		"erasure of all":            {func(j *proof.Job) { j.Purposes = nil }, true},
		"erasure with rules":        {func(j *proof.Job) { j.Rules = schedule().Rules }, true},
		"erasure of all with rules": {func(j *proof.Job) { j.Purposes, j.Rules = nil, schedule().Rules }, false},
		"retention with rules": {func(j *proof.Job) {
			j.Origin, j.Destinations, j.Rules = proof.ByRetention, nil, schedule().Rules
		}, false},
		"rules of no purpose": {func(j *proof.Job) { j.Rules = export.PurposeRules{"A": {}} }, false},
		"rules of no field":   {func(j *proof.Job) { j.Rules = export.PurposeRules{"a": {"u\n": policies.Keep}} }, false},
		"rules of no treatment": {func(j *proof.Job) {
			j.Rules = export.PurposeRules{"a": {"url": "encrypt"}}
		}, false},
		"withdrawal":                    {func(j *proof.Job) { j.Origin = proof.ByWithdrawal }, true},
		"retention":                     {func(j *proof.Job) { j.Origin, j.Destinations = proof.ByRetention, nil }, true},
		"access of a purpose":           {func(j *proof.Job) { j.Right = proof.Access }, false},
		"access by retention":           {func(j *proof.Job) { j.Right, j.Origin, j.Purposes = proof.Access, proof.ByRetention, nil }, false},
		"withdrawal of nothing":         {func(j *proof.Job) { j.Origin, j.Purposes = proof.ByWithdrawal, nil }, false},
		"retention of nothing":          {func(j *proof.Job) { j.Origin, j.Purposes, j.Destinations = proof.ByRetention, nil, nil }, false},
		"retention with pseudonyms":     {func(j *proof.Job) { j.Origin = proof.ByRetention }, false},
		"erasure with a recipient":      {func(j *proof.Job) { j.Recipient = "age1" + strings.Repeat("q", 58) }, false},
		"access with who is signed in":  {func(j *proof.Job) { accessWith(j, []string{strings.Repeat("0a", 16)}) }, true},
		"access with two, unsorted":     {func(j *proof.Job) { accessWith(j, []string{strings.Repeat("0b", 16), strings.Repeat("0a", 16)}) }, false},
		"access with no pseudonym":      {func(j *proof.Job) { accessWith(j, []string{"0a"}) }, false},
		"access with too many":          {func(j *proof.Job) { accessWith(j, many[:62]) }, false},
		"access with as many as can be": {func(j *proof.Job) { accessWith(j, many[:61]) }, true},
		"signed in where no device is": {func(j *proof.Job) {
			accessWith(j, nil)
			j.Destinations[0].With = []string{strings.Repeat("0a", 16)}
		}, false},
		"erasure with who is signed in": {func(j *proof.Job) { j.Destinations[1].With = []string{strings.Repeat("0a", 16)} }, false},
		"a destination with nothing":    {func(j *proof.Job) { j.Destinations[0].Persons = nil }, false},
	} {
		j := job()
		c.change(&j)
		if err := j.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	j := job()
	if j.Pseudonyms() != 4 || j.Places() != 3 {
		t.Error(j.Pseudonyms(), j.Places())
	}
	if accessWith(&j, many[:2]); j.Pseudonyms() != 6 || j.Places() != 3 { // an officer sees them; they reach no more rows
		t.Error(j.Pseudonyms(), j.Places())
	}
}

// accessWith makes of j the access of a device on which somebody is signed in.
func accessWith(j *proof.Job, with []string) {
	j.Right, j.Purposes = proof.Access, nil
	j.Destinations[1].With = with
}

// Same sees every field.
func TestSame(t *testing.T) {
	a, b := job(), job()
	if !a.Same(&b) {
		t.Fatal("equal jobs differ")
	}
	for path, values := range broken()["approval"] {
		for _, value := range values {
			text := marshal(t, replace(decode(t, marshal(t, job())), strings.Split(path, "."), value))
			var other proof.Job
			if json.Unmarshal([]byte(text), &other) != nil || marshal(t, other) == marshal(t, a) {
				continue
			}
			if a.Same(&other) {
				t.Errorf("%s = %v is not seen", path, value)
			}
		}
	}
}
