package subject_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/octroi/octroi/pseudonymize/subject"
)

// Nothing that prints shows an identifier, a credential, a tag or a key, by itself or inside something exported.
func TestNothingPrintsASecret(t *testing.T) {
	id, err := subject.Normalise("email", "canary@shop.example", "")
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte("canarycanarycana"))
	credential, ok := subject.ParseCredential(text)
	if !ok {
		t.Fatal("not a credential")
	}
	person := subject.WithKey(7, subject.Person, [32]byte([]byte("canarycanarycanarycanarycanarycc")))
	tag := subject.Tag([]byte("canarycanarycana"))
	for _, c := range []struct {
		value any
		want  string
	}{
		{id, "[identifier]"},
		{&id, "[identifier]"},
		{credential, "[credential]"},
		{&credential, "[credential]"},
		{person, "[subject]"},
		{&person, "[subject]"},
		{tag, "[tag]"},
		{&tag, "[tag]"},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%c", "%08.3f"} {
			if got := fmt.Sprintf(verb, c.value); got != c.want {
				t.Errorf("%s: %q, want %q", verb, got, c.want)
			}
		}
		inside := struct {
			Any  any
			List []any
			Map  map[string]any
		}{c.value, []any{c.value}, map[string]any{"key": c.value}}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			mustHide(t, verb, fmt.Sprintf(verb, inside), c.want)
		}
		mustHide(t, "error", fmt.Errorf("failing on %v", c.value).Error(), c.want)

		encoded, err := json.Marshal(inside)
		if err != nil {
			t.Fatal(err)
		}
		mustHide(t, "json", string(encoded), c.want)
		if encoded, err = json.Marshal(c.value); err != nil || string(encoded) != `"`+c.want+`"` {
			t.Errorf("json: %s, %v", encoded, err)
		}
		if encoded, err = xml.Marshal(element{c.value}); err != nil {
			t.Fatal(err)
		}
		mustHide(t, "xml", string(encoded), c.want)

		var log bytes.Buffer
		for _, handler := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
			log.Reset()
			slog.New(handler).Info("x", "value", c.value)
			mustHide(t, "slog", log.String(), c.want)
			log.Reset()
			slog.New(handler).Info("x", "inside", inside)
			mustHide(t, "slog", log.String(), c.want)
		}
	}
	if key, err := json.Marshal(map[subject.Identifier]int{id: 1}); err != nil || string(key) != `{"[identifier]":1}` {
		t.Errorf("map key: %s, %v", key, err)
	}
}

type element struct{ Any any }

func mustHide(t *testing.T, how, got, want string) {
	t.Helper()
	leaks := []string{"canary", hex.EncodeToString([]byte("canary")), base64.StdEncoding.EncodeToString([]byte("canary")), "99 97 110", "0x63, 0x61"}
	for _, leak := range leaks {
		if strings.Contains(got, leak) {
			t.Errorf("%s shows it: %s", how, got)
		}
	}
	if !strings.Contains(got, want) {
		t.Errorf("%s: %s, want %s in it", how, got, want)
	}
}

func TestCredentialText(t *testing.T) {
	text := "Y2FuYXJ5Y2FuYXJ5Y2FuYQ"
	c, ok := subject.ParseCredential(text)
	if !ok || c.Text() != text {
		t.Fatalf("%v, %q", ok, c.Text())
	}
	for _, bad := range []string{
		"", "Y", text[:21], text + "A", text + "==", "Y2FuYXJ5Y2FuYXJ5Y2FuYR" /* bits beyond the 128th */, "Y2FuYXJ5Y2FuYXJ5Y2Fu+Q",
		"Y2FuYXJ5Y2FuYXJ5Y2Fu\nQ", "Y2FuYXJ5\r\nYXJ5Y2FuYQ", "Y2FuYXJ5Y2FuYXJ5Y2Fu\xffQ", " " + text[1:],
	} {
		if c, ok := subject.ParseCredential(bad); ok || c != (subject.Credential{}) {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzParseCredential(f *testing.F) {
	for _, text := range []string{"", "Y2FuYXJ5Y2FuYXJ5Y2FuYQ", "AAAAAAAAAAAAAAAAAAAAAA", "_____________________w", "Y2FuYXJ5Y2FuYXJ5Y2FuYR", "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := subject.ParseCredential(text)
		if ok && c.Text() != text {
			t.Fatalf("two texts of one credential: %q, %q", text, c.Text())
		}
		if !ok && c != (subject.Credential{}) {
			t.Fatal("a credential beside false")
		}
	})
}
