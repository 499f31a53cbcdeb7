package access

import (
	"embed"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"github.com/octroi/octroi/export/rights/letter"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// words are what the page says in one language. What a list does not know is shown as it is.
type words struct {
	Language string            `json:"-"`
	Text     map[string]string `json:"text"`
	Types    map[string]string `json:"types"`    // of events
	Channels map[string]string `json:"channels"` //
	Fields   map[string]string `json:"fields"`
	Bases    map[string]string `json:"bases"`
	Roles    map[string]string `json:"roles"`    // of recipients
	Acts     map[string]string `json:"acts"`     // events of consent records
	States   map[string]string `json:"states"`   // of consents (W3C DPV)
	Methods  map[string]string `json:"methods"`  // of choices
	Rights   map[string]string `json:"rights"`   //
	Progress map[string]string `json:"progress"` // states of requests

	Units map[string][2]string `json:"units"` // of time: one, several
}

//go:embed words
var wordFiles embed.FS

// vocabulary is the words of both languages, read once.
var vocabulary = sync.OnceValues(func() (map[string]*words, error) {
	all, err := letter.Words[words](wordFiles)
	for l, w := range all {
		w.Language = l
	}
	return all, err
})

// Say is the page's text of that name.
func (w *words) Say(name string) (string, error) {
	text, ok := w.Text[name]
	if !ok {
		return "", fmt.Errorf("no words for %q in %q", name, w.Language)
	}
	return text, nil
}

// Colon stands between a name and what it names.
func (w *words) Colon() string {
	if w.Language == letter.French {
		return "\u00a0: "
	}
	return ": "
}

// Word is the word of a list for a name, or the name.
func (*words) Word(list map[string]string, name string) string {
	if word, ok := list[name]; ok {
		return word
	}
	return visible(name)
}

// Pick is the text in this language, else in any.
func (w *words) Pick(texts map[string]string) string {
	if text, ok := texts[w.Language]; ok {
		return visible(text)
	}
	var languages []string
	for l := range texts {
		languages = append(languages, l)
	}
	if len(languages) == 0 {
		return ""
	}
	slices.Sort(languages)
	return visible(texts[languages[0]])
}

// Number groups the digits by three.
func (w *words) Number(n int) string { return letter.Decimal(strconv.Itoa(n), "", w.Language) }

// Money is the amount as the language writes it: 1 234,50 €, €1,234.50.
func (w *words) Money(m pseudonymize.Money) string {
	sign, whole, fraction := m.Parts()
	if sign != "" {
		sign = "\u2212"
	}
	symbol, known := map[string]string{"EUR": "€", "USD": "$", "GBP": "£"}[m.Currency]
	if !known {
		symbol = visible(m.Currency)
	}
	amount := letter.Decimal(whole, fraction, w.Language)
	if w.Language == letter.French {
		return sign + amount + "\u00a0" + symbol
	}
	if !known {
		symbol += "\u00a0"
	}
	return sign + symbol + amount
}

// Date is the day, Moment the day with the time, both in UTC.
func (w *words) Date(t time.Time) string { return letter.Date(t, w.Language) }

// Moment is the day and the time of day, in UTC.
func (w *words) Moment(t time.Time) string { return w.Date(t) + t.UTC().Format(", 15:04") }

// Month is the month and the year.
func (w *words) Month(t time.Time) string {
	_, month, _ := strings.Cut(w.Date(t), " ")
	return month
}

// Machine is the time as a machine reads it.
func (*words) Machine(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Period is an ISO 8601 period in words.
func (w *words) Period(text string) string {
	p, err := policies.ParsePeriod(text)
	if err != nil || p.IsZero() {
		return visible(text)
	}
	var parts []string
	for _, x := range []struct {
		n    int
		unit string
	}{{p.Years, "Y"}, {p.Months, "M"}, {p.Days, "D"}, {p.Hours, "h"}, {p.Minutes, "m"}} {
		switch {
		case x.n == 1:
			parts = append(parts, "1\u00a0"+w.Units[x.unit][0])
		case x.n > 1:
			parts = append(parts, strconv.Itoa(x.n)+"\u00a0"+w.Units[x.unit][1])
		}
	}
	if last := len(parts) - 1; last > 0 {
		return strings.Join(parts[:last], ", ") + " " + w.Units["and"][0] + " " + parts[last]
	}
	return parts[0]
}

// Country is the name of a country (ISO 3166-1 alpha-2).
func (w *words) Country(code string) string {
	region, err := language.ParseRegion(code)
	if err != nil {
		return visible(code)
	}
	name := display.Regions(language.Make(w.Language)).Name(region)
	if name == "" {
		return visible(code)
	}
	return name
}

// Shown is a person's or a site's text as the page shows it.
func (*words) Shown(text string) string { return visible(text) }

// visible shows what a reader could not see or what would turn the text around it: control characters and marks of direction, by their number.
func visible(text string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(text, "\ufffd") {
		if r != '\n' && r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			fmt.Fprintf(&b, "[U+%04X]", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// mail is where an address leads, or nothing where it is none.
func mail(address string) template.URL {
	local, domain, ok := strings.Cut(address, "@")
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_+", r)
	}
	if !ok || local == "" || domain == "" || strings.TrimFunc(local, plain)+strings.TrimFunc(domain, plain) != "" {
		return ""
	}
	return template.URL("mailto:" + address)
}
