// Package letter writes what a person is told about a request, in French and in English: that it arrived, what is missing, why it takes
// longer, why it is refused, and that it is done (GDPR Art. 12(1): concise, intelligible, in clear and plain language).
//
// A letter is plain text, one line a paragraph. It holds no identifier of the person, only the number of the request: whoever sends it adds the
// address. Call the function named after the letter with the Facts that its comment asks for.
package letter

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/template"
	"time"
	"unicode"
)

// The errors of this package.
var (
	ErrReason = errors.New("reason is not of the list")
	ErrFacts  = errors.New("letter lacks a fact") // the text names it
)

// The languages of letters.
const (
	French  = "fr"
	English = "en"
)

// Languages lists them, that of the authority by default first.
func Languages() []string { return []string{French, English} }

// The reasons of a denial (rights.md D4).
const (
	NotIdentified  = "not_identified"   // GDPR Art. 11(2), 12(2)
	Unfounded      = "unfounded"        // Art. 12(5)
	Excessive      = "excessive"        // Art. 12(5)
	LegalDuty      = "exception_17_3_b" // Art. 17(3)(b), of erasure
	LegalClaims    = "exception_17_3_e" // Art. 17(3)(e), of erasure
	RightsOfOthers = "rights_of_others" // Art. 15(4), of access
)

// The reasons of an extension (GDPR Art. 12(3)).
const (
	Complexity   = "complexity"
	ManyRequests = "number_of_requests"
)

// maxAsked bounds a question, in bytes.
const maxAsked = 2000

// Denials lists the reasons for which a request of that right can be denied: an exception of one right is none of another.
func Denials(right string) []string {
	reasons := []string{NotIdentified, Unfounded, Excessive}
	switch right {
	case "access":
		return append(reasons, RightsOfOthers)
	case "erasure":
		return append(reasons, LegalDuty, LegalClaims)
	}
	return nil
}

// Extensions lists the reasons of an extension.
func Extensions() []string { return []string{Complexity, ManyRequests} }

// Facts are what a letter says. Every letter needs Request, Right, Controller, Received and At; what else one needs stands at its function.
type Facts struct {
	Request    string // number of the request, a UUID
	Right      string // access | erasure
	Controller Controller
	Authority  Authority // zero: CNIL
	Received   time.Time // arrival of the request
	At         time.Time // day of the letter
	Due        time.Time
	Reason     string
	Asked      map[string]string // language → what is asked, of the DPO
	Until      time.Time         // an access package can be opened up to here
	Partial    bool              // an erasure of some purposes, not of everything
	Remains    []Remainder       // of an erasure
}

// Controller is who answers (GDPR Art. 13(1)(a), (b)).
type Controller struct {
	Name    string // legal name
	Address string // one line; optional
	DPO     string // how to reach the data protection officer: an e-mail address, as a rule
}

// Authority is the supervisory authority that a complaint may go to (GDPR Art. 77).
type Authority struct {
	Name, Address, URL string
}

// CNIL is the French authority.
func CNIL() Authority {
	return Authority{
		Name:    "Commission nationale de l'informatique et des libertés (CNIL)",
		Address: "3 place de Fontenoy, TSA 80715, 75334 Paris Cedex 07, France",
		URL:     "https://www.cnil.fr/",
	}
}

// Remainder is what an erasure leaves, and until when (GDPR Art. 17(3)): consent_proofs, import_suppression, key_copies or
// downstream_unconfirmed, which has no end.
type Remainder struct {
	What  string
	Until time.Time
}

// Texts is one letter, by language.
type Texts map[string]string

// Acknowledgement says that the request arrived and by when it is answered. It needs Due.
func Acknowledgement(f Facts) (Texts, error) {
	return f.write("acknowledgement", f.needs("Due", f.Due))
}

// Question asks for information that is needed to identify the person (GDPR Art. 12(6)); the time stands until the answer. It needs Asked
// in both languages.
func Question(f Facts) (Texts, error) {
	for _, l := range Languages() {
		if text := strings.TrimSpace(f.Asked[l]); text == "" || len(text) > maxAsked {
			return nil, fmt.Errorf("writing question: %w: Asked in %q, of at most %d bytes", ErrFacts, l, maxAsked)
		}
	}
	return f.write("question", nil)
}

// Extension says that the answer takes longer (GDPR Art. 12(3)). It needs Due, the new day, and a Reason of Extensions.
func Extension(f Facts) (Texts, error) {
	if !slices.Contains(Extensions(), f.Reason) {
		return nil, fmt.Errorf("writing extension: %q: %w", f.Reason, ErrReason)
	}
	return f.write("extension", f.needs("Due", f.Due))
}

// Denial says why the request is refused, and what can be done against it (GDPR Art. 12(4)). It needs a Reason of Denials(Right).
func Denial(f Facts) (Texts, error) {
	if !slices.Contains(Denials(f.Right), f.Reason) {
		return nil, fmt.Errorf("writing denial: %q: %w", f.Reason, ErrReason)
	}
	return f.write("denial", nil)
}

// Erased says that an erasure is complete, and what remains.
func Erased(f Facts) (Texts, error) {
	for _, r := range f.Remains {
		if !slices.Contains(remainders(), r.What) {
			return nil, fmt.Errorf("writing completion: %w: what remains is %q", ErrFacts, r.What)
		}
		if err := f.needs("Until of "+r.What, r.Until); err != nil && r.What != unconfirmed {
			return nil, fmt.Errorf("writing completion: %w", err)
		}
	}
	return f.write("erased", nil)
}

// Ready says that the access package can be opened. It needs Until.
func Ready(f Facts) (Texts, error) { return f.write("ready", f.needs("Until", f.Until)) }

const unconfirmed = "downstream_unconfirmed"

func remainders() []string {
	return []string{"consent_proofs", "import_suppression", "key_copies", unconfirmed}
}

func (f *Facts) needs(name string, t time.Time) error {
	if t.IsZero() {
		return fmt.Errorf("%w: %s", ErrFacts, name)
	}
	return nil
}

// check finds what every letter needs.
func (f *Facts) check() error {
	switch {
	case f.Request == "":
		return fmt.Errorf("%w: Request", ErrFacts)
	case f.Right != "access" && f.Right != "erasure":
		return fmt.Errorf("%w: Right", ErrFacts)
	case f.Controller.Name == "":
		return fmt.Errorf("%w: Controller.Name", ErrFacts)
	case f.Controller.DPO == "":
		return fmt.Errorf("%w: Controller.DPO", ErrFacts)
	}
	return errors.Join(f.needs("Received", f.Received), f.needs("At", f.At))
}

//go:embed texts
var texts embed.FS

// letters are the templates by language, each read once.
var letters = sync.OnceValues(func() (map[string]*template.Template, error) {
	all := map[string]*template.Template{}
	for _, l := range Languages() {
		t := template.New(l).Option("missingkey=error").Funcs(template.FuncMap{
			"date": func(t time.Time) string { return Date(t, l) },
			"line": line,
		})
		t, err := t.ParseFS(texts, "texts/"+l+"/*.txt")
		if err != nil {
			return nil, fmt.Errorf("reading letters: %w", err)
		}
		all[l] = t
	}
	return all, nil
})

// write makes the letter in each language, unless a fact that it needs is missing.
func (f Facts) write(name string, missing error) (Texts, error) {
	if err := errors.Join(f.check(), missing); err != nil {
		return nil, fmt.Errorf("writing %s: %w", name, err)
	}
	if f.Authority == (Authority{}) {
		f.Authority = CNIL()
	}
	all, err := letters()
	if err != nil {
		return nil, err
	}
	written := Texts{}
	for _, l := range Languages() {
		var b bytes.Buffer
		told := struct {
			Facts
			Question string
		}{f, f.Asked[l]}
		if err := all[l].ExecuteTemplate(&b, name+".txt", told); err != nil {
			return nil, fmt.Errorf("writing %s: %w", name, err)
		}
		written[l] = paragraphs(b.String())
	}
	return written, nil
}

// paragraphs parts the lines of text by at most one empty line.
func paragraphs(text string) string {
	for strings.Contains(text, "\n\n\n") {
		text = strings.ReplaceAll(text, "\n\n\n", "\n\n")
	}
	return strings.TrimSpace(text) + "\n"
}

// line makes text from a setting or a person one line, without control characters and marks of direction: it cannot pass for another part of the
// letter.
func line(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
	}), " ")
}
