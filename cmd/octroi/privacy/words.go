package privacy

import (
	"cmp"
	"embed"
	"strconv"
	"strings"

	"github.com/octroi/octroi/export/rights/letter"
	"github.com/octroi/octroi/policies"
	"golang.org/x/text/language"
)

// words are what the pages say in one language. What a list does not know is shown as it is.
type words struct {
	Language string            `json:"-"`
	Name     string            `json:"name"`   // of the language, in itself
	Text     map[string]string `json:"text"`   // %s: what the page puts in
	Faults   map[string]string `json:"faults"` // why something could not be done
	Done     map[string]string `json:"done"`   // what was done
	Choices  map[string]string `json:"choices"`
	Bases    map[string]string `json:"bases"`
	Roles    map[string]string `json:"roles"`
	Acts     map[string]string `json:"acts"`
	Methods  map[string]string `json:"methods"`
	Proofs   map[string]string `json:"proofs"`
	Rights   map[string]string `json:"rights"`
	States   map[string]string `json:"states"`
	Next     map[string]string `json:"next"` // "<right> <state>": what happens next

	Units map[string][2]string `json:"units"` // of time: one, several
}

//go:embed words
var wordFiles embed.FS

// readWords reads the words of every language.
func readWords() (map[string]*words, error) {
	all, err := letter.Words[words](wordFiles)
	for l, w := range all {
		w.Language = l
	}
	return all, err
}

// of is the word of a list, or what was looked for.
func of(list map[string]string, key string) string { return cmp.Or(list[key], key) }

// chooseLanguage is the language of a page: the one that was asked for, else the browser's (RFC 9110 section 12.5.4), else the site's.
func chooseLanguage(wanted, accepted, site string) string {
	offered := letter.Languages()
	for _, l := range offered {
		if wanted == l {
			return l
		}
	}
	var tags []language.Tag
	for _, l := range offered {
		tags = append(tags, language.Make(l))
	}
	if len(accepted) <= maxAccept {
		if preferred, _, err := language.ParseAcceptLanguage(accepted); err == nil && len(preferred) > 0 {
			if _, i, sure := language.NewMatcher(tags).Match(preferred...); sure != language.No {
				return offered[i]
			}
		}
	}
	site, _, _ = strings.Cut(strings.ToLower(site), "-")
	for _, l := range offered {
		if site == l {
			return l
		}
	}
	return letter.English
}

// maxAccept bounds an Accept-Language that is read, in bytes.
const maxAccept = 500

// period is a span of time in words: "13 mois".
func (w *words) period(p policies.Period) string {
	var parts []string
	for _, x := range []struct {
		n    int
		unit string
	}{{p.Years, "year"}, {p.Months, "month"}, {p.Days, "day"}, {p.Hours, "hour"}, {p.Minutes, "minute"}} {
		if x.n != 0 {
			parts = append(parts, w.count(x.n, x.unit))
		}
	}
	return strings.Join(parts, " ")
}

// count is a number of units. In French what is below two is one.
func (w *words) count(n int, unit string) string {
	several := n != 1
	if w.Language == letter.French {
		several = n > 1 || n < -1
	}
	names := w.Units[unit]
	if several {
		return strconv.Itoa(n) + " " + names[1]
	}
	return strconv.Itoa(n) + " " + names[0]
}
