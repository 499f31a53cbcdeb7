package privacy

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/octroi/octroi/policies"
)

func TestCode(t *testing.T) {
	w := follow{id: uuid.UUID{1, 2, 0xab, 15: 9}.String(), secret: "AAECAwQFBgcICQoLDA0ODw"}
	got, ok := parseCode(strings.ReplaceAll(strings.ToLower(w.code()), "0", "o"))
	if !ok || got != w {
		t.Fatalf("%+v of %q", got, w.code())
	}
	w.fresh = true
	if parseFollow(w.text()) != w || parseFollow("new.x.y") != (follow{}) || parseFollow("") != (follow{}) {
		t.Error("the cookie is not read as it was written")
	}
	if parseFollow(strings.ToUpper(w.id)+"."+w.secret) != (follow{}) {
		t.Error("an id in another spelling is taken")
	}
}

// FuzzCode: whatever is typed is a code of one request or none, and written again it is the same.
func FuzzCode(f *testing.F) {
	f.Add(follow{id: uuid.UUID{15: 9}.String(), secret: "AAECAwQFBgcICQoLDA0ODw"}.code())
	f.Add("0000-oooo-ILIL")
	f.Add(strings.Repeat("Z", 52))
	f.Fuzz(func(t *testing.T, typed string) {
		w, ok := parseCode(typed)
		if !ok {
			return
		}
		again, ok := parseCode(w.code())
		if !ok || again != w || parseFollow(w.text()) != w {
			t.Fatalf("%+v and %+v", w, again)
		}
	})
}

// FuzzFollow: the cookie's value is read or is none; it never leads to another text.
func FuzzFollow(f *testing.F) {
	f.Add("new.00000000-0000-0000-0000-000000000009.AAECAwQFBgcICQoLDA0ODw")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		if w := parseFollow(text); w != (follow{}) && w.text() != text {
			t.Fatalf("%q is read as %q", text, w.text())
		}
	})
}

func FuzzLanguage(f *testing.F) {
	f.Add("", "fr-CA, en;q=0.5", "en")
	f.Fuzz(func(t *testing.T, wanted, accepted, site string) {
		if l := chooseLanguage(wanted, accepted, site); l != "fr" && l != "en" {
			t.Fatal(l)
		}
	})
}

// Both languages say the same things, and all that the pages ask for; nothing is left over.
func TestWords(t *testing.T) {
	lists := func(language string) map[string][]string {
		text, err := wordFiles.ReadFile("words/" + language + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal(text, &all); err != nil {
			t.Fatal(err)
		}
		out := map[string][]string{}
		for list, raw := range all {
			var m map[string]json.RawMessage
			if list == "name" || json.Unmarshal(raw, &m) != nil {
				continue
			}
			for key, value := range m {
				out[list] = append(out[list], key)
				if n := strings.Count(string(value), "%"); n > 0 {
					out[list+" puts"] = append(out[list+" puts"], key+strings.Join(regexp.MustCompile(`%[sd]`).FindAllString(string(value), -1), ""))
				}
			}
			slices.Sort(out[list])
			slices.Sort(out[list+" puts"])
		}
		return out
	}
	fr, en := lists("fr"), lists("en")
	for list := range en {
		if !slices.Equal(fr[list], en[list]) {
			t.Errorf("%s: %v in French, %v in English", list, fr[list], en[list])
		}
	}
	var asked strings.Builder
	for _, name := range []string{"page/frame.tmpl", "page/home.tmpl", "page/record.tmpl", "page/request.tmpl", "requests.go", "frame.go"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		asked.Write(b)
	}
	for _, key := range en["text"] {
		if !strings.Contains(asked.String(), `"`+key+`"`) {
			t.Errorf("nobody asks for %q", key)
		}
	}
}

func TestPeriods(t *testing.T) {
	all, err := readWords()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][2]string{"P6M": {"6 mois", "6 months"}, "P1Y": {"1 an", "1 year"}, "P1Y1D": {"1 an 1 jour", "1 year 1 day"}, "PT24H": {"24 heures", "24 hours"}} {
		p, err := policies.ParsePeriod(text)
		if err != nil {
			t.Fatal(err)
		}
		if fr, en := all["fr"].period(p), all["en"].period(p); fr != want[0] || en != want[1] {
			t.Errorf("%s: %s, %s", text, fr, en)
		}
	}
	if got := all["fr"].count(0, "day") + all["en"].count(0, "day"); got != "0 jour0 days" {
		t.Error(got)
	}
}
