package export

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"
)

// streamKey is a fixed key pair: vectors need one.
func gatewayKey() (ed25519.PrivateKey, ed25519.PublicKey) {
	key := ed25519.NewKeyFromSeed([]byte("octroi stream test key, 32 bytes"))
	return key, key.Public().(ed25519.PublicKey)
}

func batchEntry(number uint64, previous string) Entry {
	hour := time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
	return Entry{
		Destination: "warehouse", Node: "gw1", Number: number, Type: BatchEntry, IssuedAt: hour.Add(time.Minute), Previous: previous,
		Batch: &Batch{
			ID: fmt.Sprintf("gw1-%d", number), Key: BatchKey("warehouse", "gw1", hour, number*10, number*10+9, 0), Version: "v1",
			SHA256: strings.Repeat("ab", 32), Size: 1000, Rows: 10, From: hour, To: hour.Add(15 * time.Minute), Purposes: []string{"audience"},
			PolicyHash: strings.Repeat("cd", 32), Recipients: []string{"age1w", "age1e", "age1r"}, Schema: EventsSchema,
		},
	}
}

func signed(t testing.TB, e Entry) string {
	t.Helper()
	key, _ := gatewayKey()
	token, err := SignEntry(e, key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// chained is n entries of node gw1 as files.
func chained(t testing.TB, n int) fstest.MapFS {
	t.Helper()
	files, previous := fstest.MapFS{}, ""
	for i := range uint64(n) {
		token := signed(t, batchEntry(i+1, previous))
		files[EntryKey("warehouse", "gw1", i+1)] = &fstest.MapFile{Data: []byte(token)}
		previous = EntryHash(token)
	}
	return files
}

// The stored format: change it and every destination's loader breaks.
func TestEntryVector(t *testing.T) {
	const want = `{"aud":"warehouse","iss":"gw1","num":1,"evt":"batch","iat":1795284060,"prev":"","batch":{"id":"gw1-1",` +
		`"key":"warehouse/events/dt=2026-11-21/hour=18/gw1-000000000010-000000000019.0.parquet.age","version":"v1",` +
		`"sha256":"abababababababababababababababababababababababababababababababab","size":1000,"rows":10,` +
		`"from":"2026-11-21T18:00:00.000Z","to":"2026-11-21T18:15:00.000Z","purposes":["audience"],` +
		`"policy":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd","recipients":["age1w","age1e","age1r"],"schema":"octroi.events.v1"}}`
	parts := strings.Split(signed(t, batchEntry(1, "")), ".")
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if string(header) != `{"alg":"EdDSA","typ":"octroi-stream+jwt"}` || string(claims) != want {
		t.Errorf("header %s\nclaims %s\nwant   %s", header, claims, want)
	}
	if key := EntryKey("warehouse", "gw1", 42); key != "warehouse/stream/gw1/000000000042.jws" {
		t.Errorf("entry key %q", key)
	}
	if date, hour := batchEntry(1, "").Batch.Partition(); date != "2026-11-21" || hour != "18" {
		t.Errorf("partition %s %s", date, hour)
	}
}

func TestEntryComesBack(t *testing.T) {
	_, public := gatewayKey()
	rapid.Check(t, func(r *rapid.T) {
		e := batchEntry(rapid.Uint64Range(1, 1e12-1).Draw(r, "number"), "")
		if e.Number > 1 {
			e.Previous = strings.Repeat("0f", 32)
		}
		e.Batch.Rows = rapid.IntRange(1, 1e6).Draw(r, "rows")
		e.Batch.Size = rapid.Int64Range(1, 1<<40).Draw(r, "size")
		e.Batch.Version = rapid.StringMatching(`[!-~]{0,40}`).Draw(r, "version")
		e.Batch.Purposes = rapid.SliceOfN(rapid.String(), 1, 3).Draw(r, "purposes")
		for i, p := range e.Batch.Purposes {
			e.Batch.Purposes[i] = strings.ToValidUTF8(p, "")
		}
		token := signed(t, e)
		got, err := VerifyEntry(token, "warehouse", public)
		if err != nil {
			r.Fatal(err)
		}
		if !reflect.DeepEqual(got, e) || signed(t, got) != token {
			r.Fatalf("got %+v %+v", got, got.Batch)
		}
	})
}

func TestForgedEntries(t *testing.T) {
	key, public := gatewayKey()
	_, other, _ := ed25519.GenerateKey(nil)
	token := signed(t, batchEntry(1, ""))
	parts := strings.Split(token, ".")
	resign := func(header, claims string, by ed25519.PrivateKey) string {
		text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(by, []byte(text)))
	}
	header := `{"alg":"EdDSA","typ":"octroi-stream+jwt"}`
	raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
	claims := string(raw)
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"empty":             {"", ErrEntry},
		"garbage":           {"a.b.c", ErrSignature},
		"two parts":         {parts[0] + "." + parts[1], ErrEntry},
		"line break":        {token[:len(token)-5] + "\n" + token[len(token)-5:], ErrEntry},
		"end of line":       {token + "\n", ErrEntry},
		"too long":          {token + strings.Repeat("A", entryMax), ErrEntry},
		"no signature":      {parts[0] + "." + parts[1] + ".", ErrEntry},
		"another key":       {resign(header, claims, other), ErrSignature},
		"alg none":          {resign(`{"alg":"none","typ":"octroi-stream+jwt"}`, claims, key), ErrSignature},
		"alg HS256":         {resign(`{"alg":"HS256","typ":"octroi-stream+jwt"}`, claims, key), ErrSignature},
		"a receipt":         {resign(`{"alg":"EdDSA","typ":"octroi-receipt+jwt"}`, claims, key), ErrSignature},
		"more header":       {resign(`{"alg":"EdDSA","typ":"octroi-stream+jwt","crit":["x"]}`, claims, key), ErrSignature},
		"header order":      {resign(`{"typ":"octroi-stream+jwt","alg":"EdDSA"}`, claims, key), ErrSignature},
		"another audience":  {resign(header, strings.Replace(claims, "warehouse", "elsewhere", 1), key), ErrEntry},
		"array of audience": {resign(header, strings.Replace(claims, `"warehouse"`, `["warehouse"]`, 1), key), ErrEntry},
		"white space":       {resign(header, strings.Replace(claims, ",", ", ", 1), key), ErrEntry},
		"twice":             {resign(header, strings.Replace(claims, `"num":1`, `"num":7,"num":1`, 1), key), ErrEntry},
		"unknown member":    {resign(header, strings.Replace(claims, `"num":1`, `"num":1,"more":1`, 1), key), ErrEntry},
		"case of a member":  {resign(header, strings.Replace(claims, `"num":1`, `"Num":1`, 1), key), ErrEntry},
		"number zero":       {resign(header, strings.Replace(claims, `"num":1`, `"num":0`, 1), key), ErrEntry},
		"negative number":   {resign(header, strings.Replace(claims, `"num":1`, `"num":-1`, 1), key), ErrEntry},
		"previous of first": {resign(header, strings.Replace(claims, `"prev":""`, `"prev":"`+strings.Repeat("00", 32)+`"`, 1), key), ErrEntry},
		"unknown type":      {resign(header, strings.Replace(claims, `"evt":"batch"`, `"evt":"erase"`, 1), key), ErrEntry},
		"key outside":       {resign(header, strings.Replace(claims, `"key":"warehouse/`, `"key":"../warehouse/`, 1), key), ErrEntry},
		"key of another":    {resign(header, strings.Replace(claims, `"key":"warehouse/`, `"key":"accounting/`, 1), key), ErrEntry},
		"date that is none": {resign(header, strings.Replace(claims, `dt=2026-11-21`, `dt=2026-13-41`, 1), key), ErrEntry},
		"id with a slash":   {resign(header, strings.Replace(claims, `"id":"gw1-1"`, `"id":"../gw1"`, 1), key), ErrEntry},
		"upper-case hash":   {resign(header, strings.Replace(claims, "abab", "ABAB", 1), key), ErrEntry},
		"not an object":     {resign(header, `[]`, key), ErrEntry},
		"not JSON":          {resign(header, `{`, key), ErrEntry},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := VerifyEntry(c.token, "warehouse", public)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if len(c.token) > 40 && strings.Contains(err.Error(), c.token[40:60]) {
				t.Fatalf("the error quotes the entry: %v", err)
			}
		})
	}
	if _, err := VerifyEntry(token, "warehouse", nil); !errors.Is(err, ErrSignature) {
		t.Errorf("without a key: %v", err)
	}
	for i := range token {
		changed := []byte(token)
		if changed[i] = 'A'; token[i] == 'A' {
			changed[i] = 'B'
		}
		if _, err := VerifyEntry(string(changed), "warehouse", public); err == nil {
			t.Errorf("byte %d may be changed", i)
		}
	}
}

func TestSignRefusesWhatCannotBeVerified(t *testing.T) {
	key, _ := gatewayKey()
	for name, change := range map[string]func(*Entry){
		"number":      func(e *Entry) { e.Number = 0 },
		"destination": func(e *Entry) { e.Destination = "a/b" },
		"node":        func(e *Entry) { e.Node = "" },
		"type":        func(e *Entry) { e.Type = "other" },
		"batch":       func(e *Entry) { e.Batch = nil },
		"previous":    func(e *Entry) { e.Number = 2 },
		"time":        func(e *Entry) { e.IssuedAt = time.Time{} },
		"hash":        func(e *Entry) { e.Batch.SHA256 = "ab" },
		"rows":        func(e *Entry) { e.Batch.Rows = 0 },
		"range":       func(e *Entry) { e.Batch.To = e.Batch.From.Add(-1) },
		"recipients":  func(e *Entry) { e.Batch.Recipients = nil },
		"version":     func(e *Entry) { e.Batch.Version = "a b" },
	} {
		e := batchEntry(1, "")
		change(&e)
		if _, err := SignEntry(e, key); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := SignEntry(batchEntry(1, ""), nil); err == nil {
		t.Error("signed without a key")
	}
}

func verified(files fstest.MapFS, change func(*StreamCheck)) (StreamReport, error) {
	_, public := gatewayKey()
	c := StreamCheck{Destination: "warehouse", Gateway: public}
	if change != nil {
		change(&c)
	}
	return VerifyStream(files, c)
}

func TestVerifyStream(t *testing.T) {
	report, err := verified(chained(t, 5), func(c *StreamCheck) { c.Heads = map[string]uint64{"gw1": 5} })
	if err != nil || report.Entries != 5 || report.Rows != 50 || report.Heads["gw1"] != 5 {
		t.Fatalf("%+v, %v", report, err)
	}
	name := func(n uint64) string { return EntryKey("warehouse", "gw1", n) }
	for what, c := range map[string]struct {
		change func(fstest.MapFS)
		want   error
		names  string
	}{
		"flipped": {func(f fstest.MapFS) { f[name(3)].Data[300] ^= 1 }, nil, name(3)},
		"removed": {func(f fstest.MapFS) { delete(f, name(3)) }, ErrGap, name(3)},
		"first":   {func(f fstest.MapFS) { delete(f, name(1)) }, ErrGap, name(1)},
		"swapped": {func(f fstest.MapFS) { f[name(2)], f[name(3)] = f[name(3)], f[name(2)] }, ErrChain, name(2)},
		"renumbered": {func(f fstest.MapFS) {
			f[name(3)] = f[name(4)]
			delete(f, name(4))
			f[name(4)] = f[name(5)]
			delete(f, name(5))
		}, ErrChain, name(3)},
		"resigned": {func(f fstest.MapFS) {
			e := batchEntry(3, strings.Repeat("00", 32))
			f[name(3)].Data = []byte(signed(t, e))
		}, ErrChain, name(3)},
		"another batch": {func(f fstest.MapFS) { // signed by the gateway, in its place; the one after it was signed for another
			e := batchEntry(3, EntryHash(string(f[name(2)].Data)))
			e.Batch.Rows = 11
			f[name(3)].Data = []byte(signed(t, e))
		}, ErrChain, name(4)},
		"of another node": {func(f fstest.MapFS) {
			e := batchEntry(1, "")
			e.Node = "gw2"
			f["warehouse/stream/gw3/000000000001.jws"] = &fstest.MapFile{Data: []byte(signed(t, e))}
		}, ErrChain, "gw3/000000000001.jws"},
		"stray file":   {func(f fstest.MapFS) { f["warehouse/stream/gw1/000000000000.jws"] = &fstest.MapFile{} }, ErrEntry, "000000000000.jws"},
		"later stray":  {func(f fstest.MapFS) { f["warehouse/stream/gw1/notes.txt"] = &fstest.MapFile{} }, ErrGap, "notes.txt"},
		"stray folder": {func(f fstest.MapFS) { f["warehouse/stream/.x/000000000001.jws"] = &fstest.MapFile{} }, ErrEntry, ".x"},
		"truncated":    {func(f fstest.MapFS) { f[name(5)].Data = f[name(5)].Data[:100] }, nil, name(5)},
	} {
		t.Run(what, func(t *testing.T) {
			files := chained(t, 5)
			c.change(files)
			_, err := verified(files, nil)
			if err == nil || (c.want != nil && !errors.Is(err, c.want)) || !strings.Contains(err.Error(), c.names) {
				t.Fatalf("got %v, want %v naming %s", err, c.want, c.names)
			}
		})
	}
}

// What is taken off the end shows against a head or the evidence's intents.
func TestVerifyStreamTail(t *testing.T) {
	files := chained(t, 5)
	delete(files, EntryKey("warehouse", "gw1", 5))
	if _, err := verified(files, nil); err != nil {
		t.Fatalf("the stream alone cannot show it: %v", err)
	}
	hash := strings.Repeat("ab", 32)
	for what, change := range map[string]func(*StreamCheck){
		"head": func(c *StreamCheck) { c.Heads = map[string]uint64{"gw1": 5} },
		"intent": func(c *StreamCheck) {
			c.Sealed = []SealedBatch{{"gw1", 4, hash, ""}, {"gw1", 5, hash, "2026-11-21T18:00:00Z"}}
		},
	} {
		_, err := verified(files, change)
		if !errors.Is(err, ErrGap) || !strings.Contains(err.Error(), "000000000005.jws") {
			t.Errorf("%s: %v", what, err)
		}
		if what == "intent" && (!errors.Is(err, ErrAhead) || !strings.Contains(err.Error(), "sealed at 2026-11-21T18:00:00Z: it was not yet published")) {
			t.Errorf("it may as well not be published yet: %v", err)
		}
	}
	if _, err := verified(fstest.MapFS{}, func(c *StreamCheck) { c.Sealed = []SealedBatch{{"gw1", 1, hash, ""}} }); !errors.Is(err, ErrAhead) {
		t.Errorf("nothing was published yet: %v", err)
	}
	_, err := verified(files, func(c *StreamCheck) { c.Heads = map[string]uint64{"gw2": 1} })
	if !errors.Is(err, ErrGap) || !strings.Contains(err.Error(), "gw2/000000000001.jws") {
		t.Errorf("a whole node: %v", err)
	}
	_, err = verified(files, func(c *StreamCheck) { c.Sealed = []SealedBatch{{"gw1", 2, strings.Repeat("00", 32), ""}} })
	if !errors.Is(err, ErrChain) || !strings.Contains(err.Error(), "000000000002.jws") {
		t.Errorf("another batch than the evidence's: %v", err)
	}
	if _, err := verified(files, func(c *StreamCheck) { c.Destination = "elsewhere" }); err == nil {
		t.Error("a destination that is not there passed")
	}
}

func TestVerifyStreamObjects(t *testing.T) {
	files := fstest.MapFS{}
	text := "sealed bytes"
	e := batchEntry(1, "")
	e.Batch.Size, e.Batch.SHA256 = int64(len(text)), EntryHash(text)
	files[EntryKey("warehouse", "gw1", 1)] = &fstest.MapFile{Data: []byte(signed(t, e))}
	objects := func(c *StreamCheck) { c.Objects = true }
	if _, err := verified(files, objects); !errors.Is(err, ErrObject) {
		t.Errorf("missing: %v", err)
	}
	files[e.Batch.Key] = &fstest.MapFile{Data: []byte(text)}
	if report, err := verified(files, objects); err != nil || report.Objects != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	files[e.Batch.Key].Data = []byte("sealed bytez")
	if _, err := verified(files, objects); !errors.Is(err, ErrObject) || !strings.Contains(err.Error(), "000000000001.jws") {
		t.Errorf("flipped: %v", err)
	}
}

// Whatever is done to the files of a stream, it verifies only if nothing was done.
func TestVerifyStreamProperty(t *testing.T) {
	whole := chained(t, 6)
	names := slices.Sorted(maps.Keys(whole))
	rapid.Check(t, func(r *rapid.T) {
		files := fstest.MapFS{}
		for name, f := range whole {
			files[name] = &fstest.MapFile{Data: slices.Clone(f.Data)}
		}
		for range rapid.IntRange(1, 3).Draw(r, "changes") {
			i, j := rapid.IntRange(0, 5).Draw(r, "file"), rapid.IntRange(0, 5).Draw(r, "other")
			switch rapid.IntRange(0, 3).Draw(r, "kind") {
			case 0:
				delete(files, names[i])
			case 1:
				if f := files[names[i]]; f != nil {
					f.Data[rapid.IntRange(0, len(f.Data)-1).Draw(r, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(r, "bit")
				}
			case 2:
				if files[names[i]] != nil && files[names[j]] != nil {
					files[names[i]], files[names[j]] = files[names[j]], files[names[i]]
				}
			case 3:
				if files[names[i]] != nil {
					files[names[j]] = files[names[i]]
				}
			}
		}
		same := len(files) == len(whole)
		for name, f := range files {
			same = same && string(f.Data) == string(whole[name].Data)
		}
		_, err := verified(files, func(c *StreamCheck) { c.Heads = map[string]uint64{"gw1": 6} })
		if (err == nil) != same {
			r.Fatalf("same %v, error %v", same, err)
		}
	})
}

func FuzzVerifyEntry(f *testing.F) {
	_, public := gatewayKey()
	previous := strings.Repeat("00", 32)
	genuine := []string{
		signed(f, batchEntry(1, "")), signed(f, batchEntry(2, previous)), signed(f, replaceEntry(3, previous)), signed(f, noticeEntry(4, previous, EraseEntry)),
	}
	for _, token := range genuine {
		f.Add(token)
	}
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add(strings.Replace(genuine[0], ".", "..", 1))
	f.Fuzz(func(t *testing.T, text string) {
		e, err := VerifyEntry(text, "warehouse", public)
		if err == nil && !slices.Contains(genuine, text) {
			t.Fatalf("accepted what was never signed: %+v", e)
		}
	})
}
