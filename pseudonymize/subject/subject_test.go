package subject_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/octroi/octroi/pseudonymize/subject"
	"pgregory.net/rapid"
)

func drawSubject(t *rapid.T, name string) subject.Subject {
	key := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, name)
	return subject.WithKey(subject.Slot(rapid.Uint32Range(1, 1<<31).Draw(t, name+" slot")), subject.Person, [32]byte(key))
}

// The standard library's HMAC is the reference.
func TestDeriveIsHMAC(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key")
		use := rapid.StringN(0, 400, 700).Draw(t, "use")
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(use))
		got := subject.WithKey(1, subject.Device, [32]byte(key)).Derive(use)
		if !bytes.Equal(got[:], mac.Sum(nil)) {
			t.Fatal("Derive is not HMAC-SHA256")
		}
	})
}

// RFC 4231, test case 2, has a short key; HMAC pads keys with zeros, so it is the same vector.
func TestDeriveVector(t *testing.T) {
	var key [32]byte
	copy(key[:], "Jefe")
	got := subject.WithKey(1, subject.Device, key).Derive("what do ya want for nothing?")
	if hex.EncodeToString(got[:]) != "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" {
		t.Fatalf("%x", got)
	}
}

// Vectors computed with another implementation (Python's hmac).
func TestStoredFormats(t *testing.T) {
	var key [32]byte
	for i := range key {
		key[i] = byte(i)
	}
	s := subject.WithKey(9, subject.Person, key)
	if got := s.ID(); got != "8adc89f941958303437a8bc95f97f9cf" {
		t.Errorf("ID is %s", got)
	}
	if got := hex.EncodeToString(s.RowKey("s/tags/", []byte{1, 2})); got != "732f746167732f6a9e5199bd5581f5ec71f18847eab94b0102" {
		t.Errorf("row key is %s", got)
	}
	if r := subject.ForTags(key); hex.EncodeToString(subject.Bytes(r.Tag(mustNormalise(t, "email", "jane@example.com")))) != "82ddaac7535824dd05d2113901269cea" {
		t.Errorf("tag is %x", subject.Bytes(r.Tag(mustNormalise(t, "email", "jane@example.com"))))
	}
}

func mustNormalise(t testing.TB, namespace, raw string) subject.Identifier {
	t.Helper()
	id, err := subject.Normalise(namespace, raw, "")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestTagIsNamespaced(t *testing.T) {
	r := subject.ForTags([32]byte{1})
	other := subject.ForTags([32]byte{2})
	seen := map[string]string{}
	for _, ns := range []string{"user", "loyalty", "receipt"} {
		tag := string(subject.Bytes(r.Tag(mustNormalise(t, ns, "1234567890123456"))))
		if before, ok := seen[tag]; ok {
			t.Errorf("%s and %s share a tag", ns, before)
		}
		seen[tag] = ns
		if string(subject.Bytes(other.Tag(mustNormalise(t, ns, "1234567890123456")))) == tag {
			t.Error("two lookup keys share a tag")
		}
	}
	c, _ := subject.ParseCredential("MTIzNDU2Nzg5MDEyMzQ1Ng") // the same 16 bytes
	if _, ok := seen[string(subject.Bytes(r.TagOf(c)))]; ok {
		t.Error("a credential shares a tag with an identifier")
	}
}

func TestSealedRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, other := drawSubject(t, "key"), drawSubject(t, "other")
		table := rapid.SampledFrom([]string{"s/tags/", "c/record/", "x"}).Draw(t, "table")
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		key := s.RowKey(table, []byte("1"))
		sealed := s.Seal(table, key, plain)
		got, err := s.Open(table, key, sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("round trip: %v", err)
		}
		if bytes.Equal(sealed, s.Seal(table, key, plain)) {
			t.Fatal("sealed twice to the same bytes")
		}
		flipped := bytes.Clone(sealed)
		flipped[rapid.IntRange(0, len(sealed)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		for name, open := range map[string]func() ([]byte, error){
			"flipped": func() ([]byte, error) { return s.Open(table, key, flipped) },
			"cut": func() ([]byte, error) {
				return s.Open(table, key, sealed[:rapid.IntRange(0, len(sealed)-1).Draw(t, "cut")])
			},
			"another row":     func() ([]byte, error) { return s.Open(table, s.RowKey(table, []byte("2")), sealed) },
			"another table":   func() ([]byte, error) { return s.Open(table+"/", key, sealed) },
			"another subject": func() ([]byte, error) { return other.Open(table, key, sealed) },
		} {
			if s == other && name == "another subject" {
				continue
			}
			if got, err := open(); !errors.Is(err, subject.ErrSealed) || got != nil {
				t.Fatalf("%s opened: %v", name, err)
			}
		}
	})
}

func TestRowKeyShape(t *testing.T) {
	s := subject.WithKey(1, subject.Device, [32]byte{1})
	key := s.RowKey("c/record/", []byte("suffix"))
	own := s.Derive("row:c/record/")
	if want := "c/record/" + string(own[:16]) + "suffix"; string(key) != want {
		t.Errorf("%x, want %x", key, want)
	}
	if bytes.Contains(key, []byte(s.ID())) {
		t.Error("the row key holds the subject's id")
	}
}

func TestNoSubjectDerivesNothing(t *testing.T) {
	defer func() {
		if text, ok := recover().(string); !ok || !strings.Contains(text, "no subject") {
			t.Errorf("recovered %q", text)
		}
	}()
	subject.Subject{}.Derive("id")
	t.Error("derived something from no key")
}
