package access

import (
	"crypto/sha256"
	_ "embed" // template and style
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/language"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/export/rights/letter"
)

//go:embed page/index.html.tmpl
var pageText string

//go:embed page/style.css
var style string

// layout is the page's template, read once.
var layout = sync.OnceValues(func() (*template.Template, error) {
	return template.New(PageFile).Option("missingkey=error").Parse(pageText)
})

// contentPolicy is the page's Content-Security-Policy, which stands in it: nothing runs, and nothing is fetched.
func contentPolicy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
}

// page is index.html.
type page struct {
	Language string // the first
	Policy   string
	Style    template.CSS
	Parts    []part
	Files    []download
}

// download is a machine-readable file of the package.
type download struct {
	Name string
	Size int
	Href template.URL // empty: too large for the page
}

// part is the whole content in one language.
type part struct {
	*words
	Place        string // first | second
	Material     *Material
	At           time.Time
	Authority    letter.Authority
	Destinations []shownDestination
	Choices      []shownChoice
	Texts        []shownText
	titles       map[string]map[string]string // purpose → language → title
}

// shownDestination is what one destination has of the person.
type shownDestination struct {
	Part   *part
	Name   string // legal names of the recipients, else the destination's
	Newest []record
	Total  int
	Others int // rows that name somebody else, and are withheld
	Chart  chart
}

// shownChoice is a choice on the timeline.
type shownChoice struct {
	choice
	Answers    []answer
	TextNumber int // 0: no text is known
}

// answer is what a choice says of one purpose.
type answer struct {
	Purpose string
	Word    string // granted | refused | withdrawn
	Until   time.Time
}

// Circumstances says that there is more to tell than what was answered.
func (c shownChoice) Circumstances() bool { return c.Method != "" || c.Site != "" || c.TextNumber != 0 }

// Told is the state of the consent, unless what happened says it already.
func (c shownChoice) Told() string {
	switch consent.State(c.State) {
	case consent.ConsentWithdrawn, consent.ConsentRefused:
		return ""
	}
	return c.State
}

// shownText is a text of a notice, once for all choices that were made under it.
type shownText struct {
	Number                  int
	Version, Language, Text string
}

// detail is one field of an event.
type detail struct{ Name, Text string }

// Sections names the parts of the page, as words and anchors.
func (*part) Sections() []string {
	return []string{"who", "data", "purposes", "rights", "consents", "links", "requests", "files"}
}

// Others names the rights beside access.
func (*part) Others() []string {
	return []string{"right_16", "right_17", "right_18", "right_20", "right_21", "right_7"}
}

// writePage writes index.html.
func (b *bundle) writePage(w io.Writer) error {
	all, err := vocabulary()
	if err != nil {
		return err
	}
	t, err := layout()
	if err != nil {
		return err
	}
	p := page{Language: b.language, Policy: contentPolicy(), Style: template.CSS(style), Files: []download{
		b.data.download(DataFile, "application/json"), b.events.download(EventsFile, "text/csv"), b.agreed.download(ConsentsFile, "text/csv"),
		b.linked.download(LinksFile, "text/csv"),
		newDownload(SchemaFile, "application/schema+json", schema),
	}}
	p.Parts = append(p.Parts, b.part(all[b.language], "first"))
	for _, l := range letter.Languages() {
		if l != b.language {
			p.Parts = append(p.Parts, b.part(all[l], "second"))
		}
	}
	return t.Execute(w, &p)
}

func (f *inline) download(name, kind string) download {
	if !f.whole() {
		return download{Name: name, Size: int(f.size)}
	}
	return newDownload(name, kind, f.bytes)
}

func newDownload(name, kind string, content []byte) download {
	return download{name, len(content), template.URL("data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(content))}
}

// part is the page in one language.
func (b *bundle) part(w *words, place string) part {
	p := part{
		words: w, Place: place, Material: &b.material, At: b.found.At, Authority: letter.CNIL(), titles: map[string]map[string]string{},
	}
	for _, x := range b.material.Purposes {
		p.titles[x.ID] = x.Title
	}
	p.addChoices(b.choices)
	for _, d := range b.tally.destinations {
		p.Destinations = append(p.Destinations, shownDestination{
			Part: &p, Name: b.material.recipients(d.name), Newest: d.newest, Total: d.total, Others: b.found.Withheld[d.name],
			Chart: newChart(d.months),
		})
	}
	return p
}

// recipients are the legal names of a destination, or its own name.
func (m *Material) recipients(destination string) string {
	var names []string
	for _, p := range m.Purposes {
		for _, r := range p.Recipients {
			if r.Destination == destination && !slices.Contains(names, visible(r.Name)) {
				names = append(names, visible(r.Name))
			}
		}
	}
	if len(names) == 0 {
		return visible(destination)
	}
	return strings.Join(names, ", ")
}

func (p *part) addChoices(choices []choice) {
	for _, c := range choices {
		x := shownChoice{choice: c}
		for _, purpose := range slices.Sorted(maps.Keys(c.Purposes)) {
			word := "refused"
			switch {
			case c.Purposes[purpose]:
				word = "granted"
			case c.Event == "withdrawal":
				word = "withdrawn"
			}
			x.Answers = append(x.Answers, answer{purpose, word, c.until[purpose]})
		}
		if c.Text != "" {
			x.TextNumber = 1 + slices.IndexFunc(p.Texts, func(t shownText) bool { return t.Text == c.Text })
			if x.TextNumber == 0 {
				x.TextNumber = len(p.Texts) + 1
				p.Texts = append(p.Texts, shownText{x.TextNumber, c.Notice.Version, tagged(c.Notice.Language), c.Text})
			}
		}
		p.Choices = append(p.Choices, x)
	}
}

// tagged is the language tag (BCP 47), or nothing where it is none.
func tagged(text string) string {
	tag, err := language.Parse(text)
	if err != nil {
		return ""
	}
	return tag.String()
}

// Kind says what the data was received under.
func (p *part) Kind() (string, error) {
	switch p.Material.Kind {
	case "device", "person":
		return p.Say("kind_" + p.Material.Kind)
	case "":
		return "", nil
	}
	return "", fmt.Errorf("%w: kind", ErrMaterial)
}

// LinksIntro says what the links are of.
func (p *part) LinksIntro() (string, error) {
	if p.Material.Kind == "" {
		return "", nil
	}
	return p.Say("links_" + p.Material.Kind)
}

// PurposeTitle is the title of a purpose, or its id.
func (p *part) PurposeTitle(id string) string {
	if title := p.Pick(p.titles[id]); title != "" {
		return title
	}
	return visible(id)
}

// Amount is the amount of an event, or nothing.
func (p *part) Amount(r record) string {
	if r.Value == nil {
		return ""
	}
	return p.Money(r.Value.money)
}

// Details are the fields of an event by name, those that have columns first.
func (p *part) Details(r record) []detail {
	var details []detail
	for _, x := range []detail{{"campaign", r.Campaign}, {"source", r.Source}, {"medium", r.Medium}} {
		if x.Text != "" {
			details = append(details, detail{p.Word(p.Fields, x.Name), visible(x.Text)})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Properties)) {
		details = append(details, detail{p.Word(p.Fields, name), visible(r.Properties[name])})
	}
	if r.Site != "" {
		details = append(details, detail{p.Word(p.Fields, "site"), visible(r.Site)})
	}
	return details
}

// link is text that leads somewhere.
type link struct {
	Text string
	Href template.URL
}

// Mail is an e-mail address as a link, or text that is none.
func (*part) Mail(text string) link { return link{visible(text), mail(text)} }

// Web is an address of the web, or nothing where text is none: no other scheme becomes a link.
func (*part) Web(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return ""
	}
	return u.String()
}
