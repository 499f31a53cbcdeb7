package console

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"strings"
	"sync"
	"time"
)

//go:embed words
var wordFiles embed.FS

// languages are those of the pages, the first for who reads none.
var languages = [...]string{"en", "fr"}

// words are what the pages say in one language: by name, and by name within a closed list. What a list does not know is shown as it is.
type words struct {
	Language string                       `json:"-"`
	Text     map[string]string            `json:"text"`
	Lists    map[string]map[string]string `json:"lists"`
}

var vocabulary = sync.OnceValues(func() (map[string]*words, error) {
	all := map[string]*words{}
	for _, l := range languages {
		text, err := wordFiles.ReadFile("words/" + l + ".json")
		if err != nil {
			return nil, fmt.Errorf("reading words: %w", err)
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		w := &words{Language: l}
		if err := d.Decode(w); err != nil {
			return nil, fmt.Errorf("reading words of %q: %w", l, err)
		}
		all[l] = w
	}
	return all, nil
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
func (w *words) Date(t time.Time) string {
	if w.Language == "fr" {
		return t.UTC().Format("02/01/2006")
	}
	return t.UTC().Format("2 Jan 2006")
}

// Moment is a minute, UTC.
func (w *words) Moment(t time.Time) string { return w.Date(t) + t.UTC().Format(" 15:04") }

// Number is a whole number with its thousands apart.
func (w *words) Number(n int64) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	digits := fmt.Sprint(n)
	apart := ","
	if w.Language == "fr" {
		apart = "\u202f"
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + apart + digits[i:]
	}
	return sign + digits
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
	if w.Language == "fr" {
		return strings.Replace(text, ".", ",", 1) + "\u00a0%"
	}
	return text + "%"
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
