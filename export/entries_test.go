package export

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"
)

// replaceEntry states another object of the batch of entry 1; noticeEntry carries notices.
func replaceEntry(number uint64, previous string) Entry {
	e := batchEntry(1, "")
	now := *e.Batch
	now.Key = BatchKey("warehouse", "gw1", now.From, 10, 19, 2)
	now.SHA256, now.Rows = strings.Repeat("ef", 32), 9
	return Entry{
		Destination: "warehouse", Node: "gw1", Number: number, Type: ReplaceEntry, IssuedAt: e.IssuedAt.Add(time.Hour), Previous: previous,
		Replace: &Replace{Batch: now.ID, Of: 1, Generation: 2, Now: &now},
	}
}

func noticeEntry(number uint64, previous string, typ EntryType) Entry {
	return Entry{
		Destination: "warehouse", Node: "gw1", Number: number, Type: typ, IssuedAt: batchEntry(1, "").IssuedAt.Add(time.Hour), Previous: previous,
		Notice: &NoticeRef{Key: NoticeKey("warehouse", "gw1", number), Version: "v2", SHA256: strings.Repeat("12", 32), Size: 400},
	}
}

// The stored formats of the entries beside batches: change them and every destination's loader breaks.
func TestStatementVectors(t *testing.T) {
	previous := strings.Repeat("00", 32)
	const begins = `{"aud":"warehouse","iss":"gw1","num":3,"evt":`
	rest := `,"iat":1795287660,"prev":"` + previous + `",`
	empty := replaceEntry(3, previous)
	empty.Replace.Now = nil
	for want, e := range map[string]Entry{
		begins + `"replace"` + rest + `"replace":{"batch":"gw1-1","of":1,"generation":2,"now":{"id":"gw1-1",` +
			`"key":"warehouse/events/dt=2026-11-21/hour=18/gw1-000000000010-000000000019.2.parquet.age","version":"v1",` +
			`"sha256":"efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef","size":1000,"rows":9,` +
			`"from":"2026-11-21T18:00:00.000Z","to":"2026-11-21T18:15:00.000Z","purposes":["audience"],` +
			`"policy":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd","recipients":["age1w","age1e","age1r"],"schema":"octroi.events.v1"}}}`: replaceEntry(3, previous),
		begins + `"replace"` + rest + `"replace":{"batch":"gw1-1","of":1,"generation":2}}`: empty,
		begins + `"erase"` + rest + `"notice":{"key":"warehouse/notices/gw1/000000000003.age","version":"v2",` +
			`"sha256":"1212121212121212121212121212121212121212121212121212121212121212","size":400}}`: noticeEntry(3, previous, EraseEntry),
	} {
		claims, err := base64.RawURLEncoding.DecodeString(strings.Split(signed(t, e), ".")[1])
		if err != nil || string(claims) != want {
			t.Errorf("claims %s\nwant   %s", claims, want)
		}
	}
}

func TestStatementsComeBack(t *testing.T) {
	_, public := gatewayKey()
	rapid.Check(t, func(r *rapid.T) {
		number := rapid.Uint64Range(2, 1e12-1).Draw(r, "number")
		e := noticeEntry(number, strings.Repeat("0f", 32), rapid.SampledFrom([]EntryType{EraseEntry, WithdrawEntry, RestrictEntry, LiftEntry}).Draw(r, "type"))
		if rapid.Bool().Draw(r, "replace") {
			e = replaceEntry(number, e.Previous)
			e.Replace.Of = rapid.Uint64Range(1, number-1).Draw(r, "of")
			e.Replace.Now.Version = rapid.StringMatching(`[!-~]{0,40}`).Draw(r, "version")
			if rapid.Bool().Draw(r, "empty") {
				e.Replace.Now = nil
			}
		} else if generation := rapid.IntRange(1, 20).Draw(r, "generation"); generation > 1 {
			e.Notice.Key = noticeKey("warehouse", "gw1", number, generation)
		}
		token := signed(t, e)
		got, err := VerifyEntry(token, "warehouse", public)
		if err != nil {
			r.Fatal(err)
		}
		if !reflect.DeepEqual(got, e) || signed(t, got) != token {
			r.Fatalf("got %+v", got)
		}
	})
}

// TestStatementsAreChecked: what an entry must not say is neither signed nor, as the claims of a valid signature, read.
func TestStatementsAreChecked(t *testing.T) {
	previous := strings.Repeat("00", 32)
	replace := func(change func(*Replace)) Entry {
		e := replaceEntry(3, previous)
		change(e.Replace)
		return e
	}
	notice := func(change func(*NoticeRef)) Entry {
		e := noticeEntry(3, previous, EraseEntry)
		change(e.Notice)
		return e
	}
	both := replaceEntry(3, previous)
	both.Notice = noticeEntry(3, previous, EraseEntry).Notice
	other := noticeEntry(3, previous, EraseEntry)
	other.Type = ReplaceEntry
	bare := noticeEntry(3, previous, LiftEntry)
	bare.Notice = nil
	for name, e := range map[string]Entry{
		"two statements":         both,
		"another's statement":    other,
		"no statement":           bare,
		"replaces itself":        replace(func(r *Replace) { r.Of = 3 }),
		"replaces nothing":       replace(func(r *Replace) { r.Of = 0 }),
		"first generation":       replace(func(r *Replace) { r.Generation, r.Now = 1, nil }),
		"another id":             replace(func(r *Replace) { r.Now.ID = "gw1-2" }),
		"id with a slash":        replace(func(r *Replace) { r.Batch, r.Now = "../gw1", nil }),
		"key of a generation":    replace(func(r *Replace) { r.Generation = 3 }),
		"key of another":         replace(func(r *Replace) { r.Now.Key = strings.Replace(r.Now.Key, "warehouse", "accounting", 1) }),
		"no rows in an object":   replace(func(r *Replace) { r.Now.Rows = 0 }),
		"notice of a number":     notice(func(n *NoticeRef) { n.Key = NoticeKey("warehouse", "gw1", 4) }),
		"notice of a node":       notice(func(n *NoticeRef) { n.Key = NoticeKey("warehouse", "gw2", 3) }),
		"notice of another":      notice(func(n *NoticeRef) { n.Key = NoticeKey("accounting", "gw1", 3) }),
		"notice key with more":   notice(func(n *NoticeRef) { n.Key += "/x" }),
		"notice of generation 0": notice(func(n *NoticeRef) { n.Key = strings.Replace(n.Key, ".age", ".0.age", 1) }),
		"notice without a size":  notice(func(n *NoticeRef) { n.Size = 0 }),
		"notice too large":       notice(func(n *NoticeRef) { n.Size = NoticesMax + 1 }),
		"notice without a hash":  notice(func(n *NoticeRef) { n.SHA256 = "" }),
		"notice's version":       notice(func(n *NoticeRef) { n.Version = "a b" }),
	} {
		key, public := gatewayKey()
		if _, err := SignEntry(e, key); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: signed: %v", name, err)
		}
		if _, err := VerifyEntry(forced(t, e), "warehouse", public); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: read: %v", name, err)
		}
	}
}

// forced signs what SignEntry refuses.
func forced(t testing.TB, e Entry) string {
	t.Helper()
	key, _ := gatewayKey()
	text, err := e.claims().signingText()
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(text)))
}

func mapFS(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

// TestVerifyReplacedStream: of each batch the present object must be there, and no other; a replacement is of the object before.
func TestVerifyReplacedStream(t *testing.T) {
	text := "sealed bytes, rewritten"
	stream := func(change func(*Entry)) (fs map[string]string) {
		fs = map[string]string{}
		first := signed(t, batchEntry(1, ""))
		erase := signed(t, noticeEntry(2, EntryHash(first), EraseEntry))
		e := replaceEntry(3, EntryHash(erase))
		e.Replace.Now.Size, e.Replace.Now.SHA256 = int64(len(text)), EntryHash(text)
		change(&e)
		for i, token := range []string{first, erase, signed(t, e)} {
			fs[EntryKey("warehouse", "gw1", uint64(i+1))] = token
		}
		if e.Replace != nil && e.Replace.Now != nil {
			fs[e.Replace.Now.Key] = text
		}
		return fs
	}
	objects := func(c *StreamCheck) { c.Objects = true }
	replaced := stream(func(*Entry) {})
	if report, err := verified(mapFS(replaced), objects); err != nil || report.Entries != 3 || report.Rows != 9 || report.Objects != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	sum := EntryHash(text)
	if _, err := verified(mapFS(replaced), func(c *StreamCheck) {
		c.Sealed = []SealedBatch{{"gw1", 1, strings.Repeat("ab", 32), ""}, {"gw1", 3, sum, ""}}
	}); err != nil {
		t.Errorf("evidence of both objects: %v", err)
	}
	for name, sealed := range map[string]SealedBatch{"notices": {"gw1", 2, sum, ""}, "object": {"gw1", 3, "", ""}, "hash": {"gw1", 3, strings.Repeat("ab", 32), ""}} {
		if _, err := verified(mapFS(replaced), func(c *StreamCheck) { c.Sealed = []SealedBatch{sealed} }); !errors.Is(err, ErrChain) {
			t.Errorf("evidence of another %s: %v", name, err)
		}
	}
	missing := stream(func(*Entry) {})
	delete(missing, replaceEntry(3, "").Replace.Now.Key)
	if _, err := verified(mapFS(missing), objects); !errors.Is(err, ErrObject) || !strings.Contains(err.Error(), "000000000003.jws") {
		t.Errorf("the present object is missing: %v", err)
	}
	empty := stream(func(e *Entry) { e.Replace.Now = nil })
	report, err := verified(mapFS(empty), func(c *StreamCheck) {
		c.Objects, c.Sealed = true, []SealedBatch{{"gw1", 3, "", ""}}
	})
	if err != nil || report.Rows != 0 || report.Objects != 0 {
		t.Errorf("left empty: %+v, %v", report, err)
	}
	for name, change := range map[string]func(*Entry){
		"of notices": func(e *Entry) { e.Replace.Of = 2 },
		"of another batch": func(e *Entry) {
			e.Replace.Batch, e.Replace.Now = "gw1-7", nil
		},
		"the same batch again": func(e *Entry) {
			again := batchEntry(3, e.Previous)
			again.Batch.ID = "gw1-1"
			*e = again
		},
	} {
		if _, err := verified(mapFS(stream(change)), nil); !errors.Is(err, ErrChain) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
