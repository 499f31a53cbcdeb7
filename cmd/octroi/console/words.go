package console

import (
	"embed"
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/octroi/octroi/export/journey"
	"github.com/octroi/octroi/export/rights/letter"
	"github.com/octroi/octroi/pseudonymize"
)

//go:embed words
var wordFiles embed.FS

// languages are those of the pages, the first for who reads none of them.
var languages = [...]string{letter.English, letter.French}

// words are what the pages say in one language: by name, and by name within a closed list. What a list does not know is shown as it is.
type words struct {
	Language string                       `json:"-"`
	Text     map[string]string            `json:"text"`
	Lists    map[string]map[string]string `json:"lists"`
}

var vocabulary = sync.OnceValues(func() (map[string]*words, error) {
	all, err := letter.Words[words](wordFiles)
	for l, w := range all {
		w.Language = l
	}
	return all, err
})

// Say is the text of a name, its %s filled in order.
func (w *words) Say(name string, values ...any) (string, error) {
	text, ok := w.Text[name]
	if !ok {
		return "", fmt.Errorf("no words for %q in %q", name, w.Language)
	}
	for _, v := range values {
		text = strings.Replace(text, "%s", fmt.Sprint(v), 1)
	}
	return text, nil
}

// Of is the word of a list for a value.
func (w *words) Of(list string, value any) string {
	text := fmt.Sprint(value)
	if word, ok := w.Lists[list][text]; ok {
		return word
	}
	return text
}

// Date is a day, UTC, as the language writes it.
func (w *words) Date(t time.Time) string { return letter.Date(t, w.Language) }

// Moment is a minute, UTC.
func (w *words) Moment(t time.Time) string { return w.Date(t) + t.UTC().Format(", 15:04") }

// Number is a whole number with its thousands apart.
func (w *words) Number(n int64) string {
	if n < 0 {
		return "-" + letter.Decimal(strings.TrimPrefix(strconv.FormatInt(n, 10), "-"), "", w.Language)
	}
	return letter.Decimal(strconv.FormatInt(n, 10), "", w.Language)
}

// Count is the sum of whole numbers.
func (w *words) Count(n ...int) string {
	sum := 0
	for _, x := range n {
		sum += x
	}
	return w.Number(int64(sum))
}

// Share is a part of a whole in per cent, one digit after the point.
func (w *words) Share(part float64) string {
	text := fmt.Sprintf("%.1f", 100*part)
	if w.Language == letter.French {
		return strings.Replace(text, ".", ",", 1) + "\u00a0%"
	}
	return text + "%"
}

// Maybe is a number, or a dash where it may not be said.
func (w *words) Maybe(n *int64) string {
	if n == nil {
		return "–"
	}
	return w.Number(*n)
}

// MaybeShare is a share, or a dash where it may not be said.
func (w *words) MaybeShare(part *float64) string {
	if part == nil {
		return "–"
	}
	return w.Share(*part)
}

// Long is a part of a length, of at most the whole.
func (w *words) Long(part *float64, whole float64) float64 { return min(max(*part, 0), 1) * whole }

// Width is Long of a share that is known.
func (w *words) Width(part, whole float64) float64 { return w.Long(&part, whole) }

// Figure is a number of a report with what it is measured in.
func (w *words) Figure(f journey.Figure) string {
	switch {
	case f.Share != nil:
		return w.Share(*f.Share)
	case f.Count == nil:
		return "–"
	case f.Currency != "":
		return w.money(pseudonymize.Money{Minor: *f.Count, Currency: f.Currency})
	}
	return w.Number(*f.Count)
}

// money is an amount as the language writes it.
func (w *words) money(m pseudonymize.Money) string {
	sign, whole, fraction := m.Parts()
	return sign + letter.Decimal(whole, fraction, w.Language) + "\u00a0" + m.Currency
}

// ISO is a moment for machines.
func (w *words) ISO(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// readPages parses every page with the layout.
func readPages() (map[string]*template.Template, error) {
	if _, err := vocabulary(); err != nil {
		return nil, err
	}
	entries, err := pageFiles.ReadDir("pages")
	if err != nil {
		return nil, err
	}
	pages := map[string]*template.Template{}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".html")
		if !ok || name == "layout" {
			continue
		}
		t, err := template.New("layout.html").ParseFS(pageFiles, "pages/layout.html", "pages/"+e.Name())
		if err != nil {
			return nil, fmt.Errorf("reading page %q: %w", name, err)
		}
		pages[name] = t
	}
	return pages, nil
}
