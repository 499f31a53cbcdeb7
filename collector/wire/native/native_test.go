package native

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/collector/wire/ijson"
	"github.com/octroi/octroi/pseudonymize"
)

const example = `{"id":"0190", "type":"page_view", "time":"2026-11-21T18:00:01.250Z", "site":"shop", "channel":"web",
 "fields":{"url":"https://shop.example/p/1?gclid=x","campaign":"spring","n":3,"b":true,"none":null,"value":{"amount":"12.30","currency":"EUR"}}}`

// oneLine is the example as NDJSON needs it.
var oneLine = strings.ReplaceAll(example, "\n", "")

func TestDecodeForms(t *testing.T) {
	tests := []struct {
		name, body string
		form       Form
		events     int
		key        string
	}{
		{"one", example, Document, 1, ""},
		{"one with a key", `{"k":"demo",` + example[1:], Document, 1, "demo"},
		{"array", "[" + example + "," + example + "]", Document, 2, ""},
		{"empty array", "[]", Document, 0, ""},
		{"batch", `{"batch":[` + example + `]}`, Document, 1, ""},
		{"batch with a key", `{"batch":[` + example + `],"k":"demo"}`, Document, 1, "demo"},
		{"lines", oneLine + "\n\r\n" + oneLine + "\n", Lines, 2, ""},
		{"one line", oneLine, Lines, 1, ""},
		{"plain text with one", example, Either, 1, ""},
		{"plain text with an array", "[" + example + "]", Either, 1, ""},
		{"plain text with lines", oneLine + "\n" + oneLine, Either, 2, ""},
	}
	var d Decoder
	for _, test := range tests {
		b, err := d.Decode(test.body, test.form)
		if err != nil || len(b.Submissions) != test.events || b.Key != test.key {
			t.Errorf("%s: %d events, key %q, error %v; want %d, %q", test.name, len(b.Submissions), b.Key, err, test.events, test.key)
			continue
		}
		for i, s := range b.Submissions {
			checkExample(t, test.name, i, s)
		}
	}
}

func checkExample(t *testing.T, name string, i int, s wire.Submission) {
	t.Helper()
	p := s.Touchpoint
	want := []pseudonymize.Field{{Name: "url", Text: "https://shop.example/p/1?gclid=x"}, {Name: "campaign", Text: "spring"}, {Name: "n", Text: "3"}, {Name: "b", Text: "true"}}
	switch {
	case s.Flaw != "" || s.Index != i || s.Type != "page_view" || p.ID != "0190" || p.Site != "shop" || p.Channel != "web":
	case !p.Time.Equal(time.Date(2026, 11, 21, 18, 0, 1, 250e6, time.UTC)):
	case p.Value != pseudonymize.Money{Minor: 1230, Currency: "EUR"}:
	case fmt.Sprint(p.Fields) != fmt.Sprint(want):
	default:
		return
	}
	t.Errorf("%s: event %d reads %+v", name, i, s)
}

func TestDecodeRefusesTheWhole(t *testing.T) {
	many := "[" + strings.Repeat("{},", wire.MaxEvents) + "{}]"
	tests := []struct {
		name, body string
		form       Form
		want       error
	}{
		{"empty", "", Document, ijson.ErrSyntax},
		{"empty lines", "\n\n", Lines, ijson.ErrSyntax},
		{"cut off", example[:40], Document, ijson.ErrSyntax},
		{"a number", "1", Document, wire.ErrForm},
		{"a text", `"x"`, Document, wire.ErrForm},
		{"two documents as JSON", oneLine + "\n" + oneLine, Document, ijson.ErrSyntax},
		{"two documents on a line", oneLine + oneLine, Either, ijson.ErrSyntax},
		{"batch is no array", `{"batch":{}}`, Document, wire.ErrForm},
		{"batch with a stranger", `{"batch":[],"x":1}`, Document, wire.ErrForm},
		{"batch twice", `{"batch":[],"batch":[]}`, Document, wire.ErrForm},
		{"key is no text", `{"batch":[],"k":1}`, Document, wire.ErrForm},
		{"too many", many, Document, wire.ErrTooMany},
		{"too many in a batch", `{"batch":` + many + `}`, Document, wire.ErrTooMany},
		{"too many lines", strings.Repeat("{}\n", wire.MaxEvents+1), Lines, wire.ErrTooMany},
		{"too deep", strings.Repeat("[", 100000), Document, ijson.ErrDepth},
		{"not UTF-8", "{\"id\":\"\xff\"}", Document, ijson.ErrEncoding},
		{"no line can be read", "x\ny\n", Lines, ijson.ErrSyntax},
	}
	var d Decoder
	for _, test := range tests {
		if _, err := d.Decode(test.body, test.form); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

func TestFlawsOfOneEvent(t *testing.T) {
	fields := func(n int) string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf(`"f%d":"x"`, i)
		}
		return `{` + strings.Join(list, ",") + `}`
	}
	ok := `{"id":"1","type":"page_view"`
	tests := []struct {
		name, event string
		want        wire.Flaw
	}{
		{"the least", ok + `}`, ""},
		{"nulls are absent", ok + `,"time":null,"channel":null,"fields":null}`, ""},
		{"64 fields", ok + `,"fields":` + fields(64) + `}`, ""},
		{"zone", ok + `,"time":"2026-11-21T18:00:01+02:00"}`, ""},
		{"amount as a number", ok + `,"fields":{"value":{"amount":12.30,"currency":"EUR"}}}`, ""},
		{"no object", `7`, wire.NotObject},
		{"no id", `{"type":"page_view"}`, wire.BadID},
		{"id is a number", `{"id":1,"type":"page_view"}`, wire.BadID},
		{"id too long", `{"id":"` + strings.Repeat("x", 129) + `","type":"page_view"}`, wire.BadID},
		{"id with a control character", `{"id":"a\u0000","type":"page_view"}`, wire.BadID},
		{"no type", `{"id":"1"}`, wire.BadType},
		{"empty type", `{"id":"1","type":""}`, wire.BadType},
		{"stranger", ok + `,"visitor":"x"}`, wire.UnknownMember},
		{"key in an event of many", ok + `,"k":"demo"}`, wire.UnknownMember},
		{"duplicate", ok + `,"id":"2"}`, wire.Duplicates},
		{"duplicate field", ok + `,"fields":{"a":"1","\u0061":"2"}}`, wire.Duplicates},
		{"deep", ok + `,"fields":{"a":` + strings.Repeat("[", 7) + strings.Repeat("]", 7) + `}}`, wire.TooDeep},
		{"nested field", ok + `,"fields":{"a":{"b":1}}}`, wire.BadFields},
		{"65 fields", ok + `,"fields":` + fields(65) + `}`, wire.BadFields},
		{"200 fields", ok + `,"fields":` + fields(200) + `}`, wire.BadFields},
		{"fields is an array", ok + `,"fields":[]}`, wire.BadFields},
		{"long name", ok + `,"fields":{"` + strings.Repeat("n", 65) + `":"x"}}`, wire.BadName},
		{"empty name", ok + `,"fields":{"":"x"}}`, wire.BadName},
		{"long text", ok + `,"fields":{"a":"` + strings.Repeat("x", 2049) + `"}}`, wire.BadText},
		{"large", ok + `,"fields":{"a":"` + strings.Repeat("x", wire.MaxEventBytes) + `"}}`, wire.TooBig},
		{"time without a zone", ok + `,"time":"2026-11-21T18:00:01"}`, wire.BadTime},
		{"time is a number", ok + `,"time":1763748001}`, wire.BadTime},
		{"time before 1970", ok + `,"time":"1969-12-31T23:59:59Z"}`, wire.BadTime},
		{"no such day", ok + `,"time":"2026-02-30T18:00:01Z"}`, wire.BadTime},
		{"value is a text", ok + `,"fields":{"value":"12"}}`, wire.BadValue},
		{"value without currency", ok + `,"fields":{"value":{"amount":"12"}}}`, wire.BadValue},
		{"value with a stranger", ok + `,"fields":{"value":{"amount":"12","currency":"EUR","x":1}}}`, wire.BadValue},
		{"value that is no amount", ok + `,"fields":{"value":{"amount":"a lot","currency":"EUR"}}}`, wire.BadValue},
		{"value of too many digits", ok + `,"fields":{"value":{"amount":"` + strings.Repeat("9", 30) + `","currency":"EUR"}}}`, wire.BadValue},
		{"subject is a text", ok + `,"subject":"me"}`, wire.BadSubject},
		{"empty subject", ok + `,"subject":{}}`, wire.BadSubject},
		{"subject with a number", ok + `,"subject":{"loyalty":7}}`, wire.BadSubject},
		{"channel too long", ok + `,"channel":"` + strings.Repeat("c", 65) + `"}`, wire.BadChannel},
		{"site is an object", ok + `,"site":{}}`, wire.BadSite},
	}
	var d Decoder
	for _, test := range tests {
		b, err := d.Decode("["+ok+"},"+test.event+"]", Document)
		if err != nil || len(b.Submissions) != 2 {
			t.Errorf("%s: %d events, error %v", test.name, len(b.Submissions), err)
			continue
		}
		if b.Submissions[0].Flaw != "" {
			t.Errorf("%s: its neighbour is refused: %s", test.name, b.Submissions[0].Flaw)
		}
		if got := b.Submissions[1].Flaw; got != test.want {
			t.Errorf("%s: flaw %q, want %q", test.name, got, test.want)
		}
	}
}

func TestBadLineIsRefusedAlone(t *testing.T) {
	var d Decoder
	b, err := d.Decode(oneLine+"\n{\"id\":\n"+oneLine, Lines)
	if err != nil || len(b.Submissions) != 3 {
		t.Fatalf("%d events, error %v", len(b.Submissions), err)
	}
	for i, want := range []wire.Flaw{"", wire.NotObject, ""} {
		if b.Submissions[i].Flaw != want || b.Submissions[i].Index != i {
			t.Errorf("line %d: index %d, flaw %q, want %q", i, b.Submissions[i].Index, b.Submissions[i].Flaw, want)
		}
	}
}

func TestIdentitiesDoNotPrint(t *testing.T) {
	var d Decoder
	b, err := d.Decode(`{"id":"1","type":"purchase","subject":{"email":"canary@mail.example","loyalty":"4711"}}`, Document)
	if err != nil || len(b.Submissions[0].Subject) != 2 {
		t.Fatalf("%+v, %v", b, err)
	}
	if s := fmt.Sprintf("%v %+v %#v", b.Submissions[0].Subject, b.Submissions[0].Subject, b.Submissions[0].Subject); strings.Contains(s, "canary") || strings.Contains(s, "4711") {
		t.Error("an identity prints its value")
	}
	if namespace, value := b.Submissions[0].Subject[0].Raw(); namespace != "email" || value != "canary@mail.example" {
		t.Error("Raw does not read the identity")
	}
}

func TestResetForgets(t *testing.T) {
	var d Decoder
	if _, err := d.Decode(`{"id":"1","type":"t","subject":{"user":"canary"},"fields":{"a":"canary","b":"x\u0041"}}`, Document); err != nil {
		t.Fatal(err)
	}
	d.Reset()
	for _, f := range d.fields[:cap(d.fields)] {
		if f.Text != "" {
			t.Error("a field stays in a pooled decoder")
		}
	}
	for _, s := range d.submissions[:cap(d.submissions)] {
		if s.Touchpoint.ID != "" {
			t.Error("an event stays in a pooled decoder")
		}
	}
}

func TestDecodeChoice(t *testing.T) {
	c, err := DecodeChoice(`{"k":"demo","snapshot":"eyJ","purposes":{"audience":true,"marketing":false},"method":"banner","language":"fr",
	 "signals":{"gpc":true,"tc_string":"CP","gpp_sid":[2,7],"gcm":{"ad_storage":"denied"}},"time":"2026-11-21T18:00:00Z","credential":true,
	 "notice":{"id":"choice","version":"audience.1","language":"fr","text_sha256":"ab"},"subject":{"loyalty":"1"},"given_at":"2020-01-01T00:00:00Z","source":"crm"}`)
	if err != nil {
		t.Fatal(err)
	}
	if c.Key != "demo" || len(c.Purposes) != 2 || !c.Purposes["audience"] || c.Purposes["marketing"] || !c.Signals.GPC || c.Signals.GPPSID[1] != 7 ||
		c.Signals.GCM["ad_storage"] != "denied" || !c.Credential || c.Notice.SHA256 != "ab" || len(c.Subject) != 1 || c.GivenAt.IsZero() || c.Source != "crm" {
		t.Errorf("reads %+v", c)
	}
}

func TestDecodeChoiceRefuses(t *testing.T) {
	tests := []struct{ name, body, field string }{
		{"no purposes", `{}`, "purposes"},
		{"purposes is true", `{"purposes":true}`, "purposes"},
		{"a purpose is a text", `{"purposes":{"audience":"true"}}`, "purposes"},
		{"a purpose is 1", `{"purposes":{"audience":1}}`, "purposes"},
		{"stranger", `{"purposes":{"a":true},"canary":1}`, "body"},
		{"time", `{"purposes":{"a":true},"time":"yesterday"}`, "time"},
		{"signal", `{"purposes":{"a":true},"signals":{"canary":1}}`, "signals"},
		{"mode", `{"purposes":{"a":true},"signals":{"gcm":{"ad_storage":"maybe"}}}`, "gcm"},
		{"section", `{"purposes":{"a":true},"signals":{"gpp_sid":[2.5]}}`, "gpp_sid"},
		{"notice without a hash", `{"purposes":{"a":true},"notice":{"id":"x"}}`, "notice"},
		{"notice with a stranger", `{"purposes":{"a":true},"notice":{"text_sha256":"x","canary":"y"}}`, "notice"},
		{"empty method", `{"purposes":{"a":true},"method":""}`, "method"},
		{"an address as method", `{"purposes":{"a":true},"method":"canary@mail.example"}`, "method"},
		{"a number as source", `{"purposes":{"a":true},"source":"0033612345678"}`, "source"},
		{"a sentence as language", `{"purposes":{"a":true},"language":"canary french"}`, "language"},
		{"credential", `{"purposes":{"a":true},"credential":"yes"}`, "credential"},
	}
	for _, test := range tests {
		_, err := DecodeChoice(test.body)
		var field *wire.FieldError
		if !errors.As(err, &field) || field.Field != test.field {
			t.Errorf("%s: %v, want an error of field %s", test.name, err, test.field)
			continue
		}
		if strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error repeats what came in: %v", test.name, err)
		}
	}
	for body, want := range map[string]error{
		`[]`:                                             wire.ErrForm,
		`{"purposes":{"a":true,"a":false}}`:              wire.ErrDuplicate,
		`{"purposes":{"a":[[[[]]]]}}`:                    ijson.ErrDepth,
		`{"purposes":{"a":true}} {}`:                     ijson.ErrSyntax,
		"{\"purposes\":{\"\xff\":true}}":                 ijson.ErrEncoding,
		`{"purposes":{"a":true},"purposes":{"b":false}}`: wire.ErrDuplicate,
	} {
		if _, err := DecodeChoice(body); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", body, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		example, oneLine + "\n" + oneLine, "[" + example + "]", `{"k":"demo","batch":[` + example + `]}`, "[1,{}]", "{}\n{}\n", `{"batch":[],"batch":1}`,
		`{"id":"1","type":"t","subject":{"user":"u"},"device":"x"}`, `{"id":"\ud800","type":"t","fields":{"value":{"amount":1e3,"currency":"EUR"}}}`,
	} {
		for form := Document; form <= Either; form++ {
			f.Add(s, int(form))
		}
	}
	var d Decoder
	f.Fuzz(func(t *testing.T, body string, form int) {
		b, err := d.Decode(body, Form(form))
		if err != nil {
			if len(b.Submissions) != 0 {
				t.Fatalf("an error and %d events", len(b.Submissions))
			}
			return
		}
		if len(b.Submissions) > wire.MaxEvents {
			t.Fatalf("%d events", len(b.Submissions))
		}
		for i, s := range b.Submissions {
			p := s.Touchpoint
			switch {
			case s.Index != i:
				t.Fatalf("event %d has index %d", i, s.Index)
			case len(p.ID) > wire.MaxIDBytes || len(s.Type) > wire.MaxWordBytes || len(p.Fields) > wire.MaxFields || len(s.Subject) > wire.MaxIdentities:
				t.Fatalf("event %d is beyond a limit", i)
			case s.Flaw == "" && (p.ID == "" || s.Type == ""):
				t.Fatalf("event %d has neither flaw nor id and type", i)
			}
			for _, field := range p.Fields {
				if len(field.Name) > wire.MaxNameBytes || len(field.Text) > wire.MaxTextBytes {
					t.Fatalf("event %d has a field beyond a limit", i)
				}
			}
		}
	})
}

func FuzzDecodeChoice(f *testing.F) {
	f.Add(`{"k":"demo","purposes":{"audience":true},"signals":{"gpc":true,"gcm":{"ad_storage":"denied"},"gpp_sid":[2]},"notice":{"text_sha256":"x"}}`)
	f.Add(`{"purposes":{"a":null}}`)
	f.Fuzz(func(t *testing.T, body string) {
		if c, err := DecodeChoice(body); err == nil && (len(c.Purposes) == 0 || len(c.Purposes) > maxPurposes) {
			t.Fatalf("%d purposes", len(c.Purposes))
		}
		if w, err := DecodeWithdrawal(body); err == nil && len(w.Purposes) > maxPurposes {
			t.Fatalf("%d purposes withdrawn", len(w.Purposes))
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	twenty := "[" + strings.TrimSuffix(strings.Repeat(example+",", 20), ",") + "]"
	for name, body := range map[string]string{"one": example, "twenty": twenty} {
		b.Run(name, func(b *testing.B) {
			var d Decoder
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := d.Decode(body, Document); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestDecodeIdentification(t *testing.T) {
	i, err := DecodeIdentification(`{"k":"demo","claim":"a.b.c","site":"shop","device":"x","subject":{"user":"anna"}}`)
	if err != nil || i.Key != "demo" || i.Claim != "a.b.c" || i.Site != "shop" || i.Device != "x" || len(i.Subject) != 1 {
		t.Errorf("%+v %v", i, err)
	}
	if i, err := DecodeIdentification(""); err != nil || i.Claim != "" {
		t.Errorf("an empty body: %v", err)
	}
	for _, body := range []string{
		`[]`, `{"claim":1}`, `{"claim":""}`, `{"claim":"` + strings.Repeat("x", MaxClaimBytes+1) + `"}`, `{"claim":"a","claim":"b"}`, `{"visitor":"x"}`,
		`{"subject":{}}`, `{"subject":"anna"}`, `{"subject":{"user":"a","user":"b"}}`, `{"subject":{"user":{"a":{"b":{"c":1}}}}}`, `{} {}`, `{"k":"\u0000"}`,
	} {
		if _, err := DecodeIdentification(body); err == nil {
			t.Errorf("taken: %.40s", body)
		}
	}
}

func FuzzDecodeIdentification(f *testing.F) {
	f.Add(`{"k":"demo","claim":"a.b.c"}`)
	f.Add(`{"device":"x","subject":{"user":"anna"},"site":"shop"}`)
	f.Fuzz(func(t *testing.T, body string) {
		i, err := DecodeIdentification(body)
		if err == nil && (len(i.Claim) > MaxClaimBytes || len(i.Subject) > wire.MaxIdentities || len(i.Device) > wire.MaxWordBytes) {
			t.Fatal("beyond a limit")
		}
	})
}

func FuzzDecodeLogin(f *testing.F) {
	f.Add(`{"iss":"shop","aud":["node"],"iat":1,"nbf":2,"exp":3,"jti":"x","identifiers":{"user":"anna"}}`)
	f.Add(`{"alg":"EdDSA","typ":"octroi-login+jwt","kid":"1"}`)
	f.Fuzz(func(t *testing.T, text string) {
		l, err := DecodeLogin(text)
		if err == nil && (len(l.Identifiers) > maxLoginNames || len(l.ID) > maxLoginID || l.Expires.Year() > 9999) {
			t.Fatal("beyond a limit")
		}
		if kind, err := DecodeLoginHeader(text); err == nil && len(kind) > wire.MaxWordBytes {
			t.Fatal("beyond a limit")
		}
	})
}
