package consent

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// Whatever strings a client sends, a record has one spelling, which verification writes again.
func TestRecordsHaveOneSpelling(t *testing.T) {
	any := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.SampledFrom([]string{"\xff", `\ufffd`, `\\ufffd`, "<>&\u2028\ufffd", `\\\ufffd` + "\xc3"}))
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMilli(rapid.Int64Range(0, 4e12).Draw(t, "at")).UTC()
		c := core{
			Version: 1, RecordID: any.Draw(t, "id"), Site: any.Draw(t, "site"), Notice: &NoticeRef{ID: any.Draw(t, "notice")},
			Purposes:  []recordedPurpose{{ID: any.Draw(t, "purpose"), Granted: true, ValidUntil: &at}},
			Event:     recordedEvent{Type: "consent", Time: at, Method: any.Draw(t, "method")},
			Retention: map[string]string{any.Draw(t, "key"): any.Draw(t, "value")},
		}
		text := canonical(c)
		if err := decodeCanonical(text, new(core)); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !utf8.Valid(text) {
			t.Fatal("not UTF-8")
		}
		s := strippable{Language: any.Draw(t, "language"), Signals: &Signals{TCString: any.Draw(t, "tc")}, ClientTime: &at}
		if err := decodeCanonical(canonical(s), new(strippable)); err != nil {
			t.Fatal(err)
		}
		wrapped := canonical(provenRecord{Core: text, Strippable: canonical(s)})
		var back provenRecord
		if err := json.Unmarshal(wrapped, &back); err != nil || string(back.Core) != string(text) {
			t.Fatalf("the bytes of the core change when they are shown: %s", wrapped)
		}
	})
}

func TestDecodeCanonicalRefusesOtherSpellings(t *testing.T) {
	text := string(canonical(core{Version: 1, RecordID: "r", Site: "shop", Event: recordedEvent{Type: "consent", Time: time.UnixMilli(5).UTC()}}))
	if err := decodeCanonical([]byte(text), new(core)); err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]string{
		"white space": text + " ", "line end": text + "\n", "inner space": strings.Replace(text, ":", ": ", 1),
		"case of a key": strings.Replace(text, "site", "Site", 1), "unknown key": strings.Replace(text, `"site"`, `"x":1,"site"`, 1),
		"repeated key": strings.Replace(text, `"site"`, `"site":"x","site"`, 1), "escape": strings.Replace(text, "shop", `\u0073hop`, 1),
		"two values": text + text, "cut": text[:len(text)-1], "empty": "", "null member": strings.Replace(text, `"shop"`, "null", 1),
		"time zone": strings.Replace(text, "00.005Z", "00.005+00:00", 1), "number": strings.Replace(text, `:1,`, `:1.0,`, 1),
	} {
		if other == text {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if err := decodeCanonical([]byte(other), new(core)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestRecordIDIsUUID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		text, err := newRecordID(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		id, err := uuid.Parse(text)
		if err != nil || id.Version() != 4 || id.Variant() != uuid.RFC4122 || id.String() != text || seen[text] {
			t.Fatalf("%q is no new UUID of version 4", text)
		}
		seen[text] = true
	}
	if _, err := newRecordID(strings.NewReader("short")); err == nil {
		t.Fatal("an id without randomness")
	}
}

// C9: what is not minimised is not kept, whoever forgot to.
func TestCircumstancesAreMinimised(t *testing.T) {
	got := Circumstances{URLPath: "/p/1?gclid=x#y", UAFamily: "Firefox", IPPrefix: "192.0.2.0/24"}.orNil()
	if *got != (Circumstances{URLPath: "/p/1", UAFamily: "Firefox", IPPrefix: "192.0.2.0/24"}) {
		t.Fatalf("%+v", *got)
	}
	for _, ip := range []string{"192.0.2.7", "192.0.2.7/32", "192.0.2.0/25", "192.0.2.7/24", "2001:db8::/56", "2001:db8::1/48", "x"} {
		if c := (Circumstances{IPPrefix: ip, UAFamily: "Mozilla/5.0 (X11)"}).orNil(); c != nil {
			t.Errorf("%q is kept: %+v", ip, *c)
		}
	}
	if c := (Circumstances{IPPrefix: "2001:db8:1::/48"}).orNil(); c == nil || c.IPPrefix != "2001:db8:1::/48" {
		t.Error("a /48 is dropped")
	}
}

func FuzzParseProven(f *testing.F) {
	f.Add([]byte(`{"record":{"core":{}},"opening":{"salt":"AAAAAAAAAAAAAAAAAAAAAA==","core":"e30=","strippable_salt":"AAAAAAAAAAAAAAAAAAAAAA==","strippable":""},"proof":{"index":0,"size":1,"hashes":[],"checkpoint":""}}`))
	f.Add([]byte(`{"record":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParseProven(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(p)
		if err != nil || string(again) != strings.TrimSuffix(string(text), "\n") {
			t.Fatalf("accepted in another spelling than %s", again)
		}
	})
}
