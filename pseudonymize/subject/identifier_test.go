package subject_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"
	"github.com/octroi/octroi/pseudonymize/subject"
	"pgregory.net/rapid"
)

func TestNormaliseVectors(t *testing.T) {
	var file struct {
		Vectors []struct{ Namespace, Raw, Region, Want, Fault string }
	}
	text, err := os.ReadFile("testdata/normalise.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) < 50 {
		t.Fatalf("only %d vectors", len(file.Vectors))
	}
	for _, v := range file.Vectors {
		id, err := subject.Normalise(v.Namespace, v.Raw, v.Region)
		if v.Fault == "" {
			if err != nil || subject.Value(id) != v.Want || id.Namespace() != v.Namespace {
				t.Errorf("%s %q: got %s %q, %v; want %q", v.Namespace, v.Raw, id.Namespace(), subject.Value(id), err, v.Want)
			}
			continue
		}
		want := "normalising " + v.Namespace + ": " + v.Fault + ": " + subject.ErrIdentifier.Error()
		if err == nil || err.Error() != want || !errors.Is(err, subject.ErrIdentifier) {
			t.Errorf("%s %q: got %q, %v; want %q", v.Namespace, v.Raw, subject.Value(id), err, want)
		}
		if id != (subject.Identifier{}) {
			t.Errorf("%s %q: an identifier beside an error", v.Namespace, v.Raw)
		}
	}
}

func TestNormaliseLengths(t *testing.T) {
	label := strings.Repeat("a", 60)
	for _, c := range []struct {
		namespace, raw string
		ok             bool
	}{
		{"email", strings.Repeat("a", 64) + "@example.com", true},
		{"email", strings.Repeat("a", 65) + "@example.com", false},
		{"email", strings.Repeat("é", 33) + "@example.com", false}, // 66 bytes
		{"email", "a@" + label + "." + label + "." + label + "." + strings.Repeat("a", 60) + ".com", true},
		{"email", "abcdefg@" + label + "." + label + "." + label + "." + strings.Repeat("a", 60) + ".com", false}, // 255
		{"email", "a@" + strings.Repeat("a", 64) + ".com", false},                                                 // RFC 1035, 2.3.4
		{"user", strings.Repeat("a", 256), true},
		{"user", strings.Repeat("a", 257), false},
		{"user", strings.Repeat("ﷺ", 40), false}, // 120 bytes that NFKC makes 1320
		{"loyalty", strings.Repeat(" ", 2000) + "1", false},
		{"receipt", "\xff", false},
		{"phone", "+" + strings.Repeat("3", 900), false},
	} {
		_, err := subject.Normalise(c.namespace, c.raw, "")
		if (err == nil) != c.ok {
			t.Errorf("%s of %d bytes: %v", c.namespace, len(c.raw), err)
		}
	}
}

func TestNormaliseUnknownNamespace(t *testing.T) {
	for _, name := range []string{"", "device", "Email", "jane@example.com", "email\x00"} {
		_, err := subject.Normalise(name, "x", "")
		if !errors.Is(err, subject.ErrNamespace) {
			t.Errorf("namespace %q: %v", name, err)
		}
		if strings.Contains(err.Error(), "jane") {
			t.Errorf("the error holds what was sent: %v", err)
		}
	}
}

// Errors may not hold what was sent, whole or in part.
func TestNormaliseErrorsHoldNoValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		canary := "zq" + rapid.StringMatching(`[0-9]{8}`).Draw(t, "canary")
		raw := rapid.String().Draw(t, "before") + canary + rapid.SampledFrom([]string{"", "@", "@@", "@x", " ", "\x00", "@xn--" + canary + ".com"}).Draw(t, "after")
		for _, ns := range []string{"email", "phone", "user", "loyalty", "receipt", canary} {
			if _, err := subject.Normalise(ns, raw, "FR"); err != nil && strings.Contains(err.Error(), canary) {
				t.Fatalf("%v", err)
			}
		}
	})
}

// People type one address in many ways: case, spaces and composition do not matter.
func TestNormaliseVariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local := rapid.StringMatching(`[a-z0-9éüøñ][a-z0-9.+_éüøñ-]{0,20}`).Draw(t, "local")
		address := local + "@shop.example"
		want, err := subject.Normalise("email", address, "")
		if err != nil {
			t.Fatal(err)
		}
		got, err := subject.Normalise("email", " "+strings.ToUpper(address)+"\t", "")
		if err != nil || got != want {
			t.Fatalf("upper case: %v, %q", err, subject.Value(got))
		}
	})
}

// Whatever character a value holds, the normalised form is its own normalised form.
func TestNormaliseEveryCharacter(t *testing.T) {
	accepted := 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) || (r > 0x3000 && r < 0xf900 && r%128 != 0) || (r > 0xffff && r%8 != 0) || (r > 0x1ffff && r%4096 != 0) { // ideographs: a sample
			continue
		}
		for namespace, raw := range map[string]string{"user": "a" + string(r) + "\u0301", "email": string(r) + "a\u0345@shop.example"} {
			id, err := subject.Normalise(namespace, raw, "")
			if err != nil {
				continue
			}
			accepted++
			if again, err := subject.Normalise(namespace, subject.Value(id), ""); err != nil || again != id {
				t.Fatalf("%s with %U: once %q, twice %q, %v", namespace, r, subject.Value(id), subject.Value(again), err)
			}
		}
	}
	if accepted < 10_000 {
		t.Fatalf("only %d accepted", accepted)
	}
}

// The example number of every region, as people of the region write it.
func TestNormalisePhoneOfEveryRegion(t *testing.T) {
	regions := 0
	for region := range phonenumbers.GetSupportedRegions() {
		number := phonenumbers.GetExampleNumber(region)
		if number == nil || !phonenumbers.IsValidNumber(number) {
			continue
		}
		regions++
		want := phonenumbers.Format(number, phonenumbers.E164)
		for _, format := range []phonenumbers.PhoneNumberFormat{phonenumbers.E164, phonenumbers.INTERNATIONAL, phonenumbers.NATIONAL} {
			id, err := subject.Normalise("phone", phonenumbers.Format(number, format), region)
			if err != nil || subject.Value(id) != want {
				t.Errorf("%s, format %d: %q, %v; want %q", region, format, subject.Value(id), err, want)
			}
		}
	}
	if regions < 200 {
		t.Fatalf("only %d regions", regions)
	}
}

func FuzzNormalise(f *testing.F) {
	for _, raw := range []string{
		"jane@example.com", "JOSÉ@Bücher.example", "ｊ＠ｅ．ｃ", "İ@x.fr", "ǰ@x.fr", "ᾳ@x.fr", "+33 6 12 34 56 78", "06 12 34 56 78", "tel:+33-6-12-34-56-78;ext=1",
		"1-800-FLOWERS", "0042", "ﬁ", "\u00a8x", "a\u0345\u0301@b.fr", "+54 9 11 1234 5678", "+52 1 55 1234 5678", "\xff", "",
		"٠٦١٢٣٤٥٦٧٨",
	} {
		for ns := range uint8(5) {
			f.Add(ns, raw, "FR")
		}
	}
	names := []string{"email", "phone", "user", "loyalty", "receipt"}
	f.Fuzz(func(t *testing.T, ns uint8, raw, region string) {
		name := names[int(ns)%len(names)]
		id, err := subject.Normalise(name, raw, region)
		if err != nil {
			if !errors.Is(err, subject.ErrIdentifier) {
				t.Fatalf("not ErrIdentifier: %v", err)
			}
			return
		}
		value := subject.Value(id)
		if value == "" || len(value) > 256 || !utf8.ValidString(value) {
			t.Fatalf("normalised to %q", value)
		}
		again, err := subject.Normalise(name, value, region)
		if err != nil || again != id {
			t.Fatalf("%q, normalised once: %q, twice: %q, %v", raw, value, subject.Value(again), err)
		}
	})
}
