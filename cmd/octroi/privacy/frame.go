package privacy

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/url"
	"time"

	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/export/rights/letter"
)

//go:embed page
var pageFiles embed.FS

// readLayout reads the pages, and makes the policy under which browsers show them: one style, by its hash, and forms to this origin. Nothing is fetched
// and nothing is run.
func readLayout() (layout *template.Template, policy string, err error) {
	style, err := pageFiles.ReadFile("page/style.css")
	if err != nil {
		return nil, "", fmt.Errorf("reading style: %w", err)
	}
	layout, err = template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"style": func() template.CSS { return template.CSS(style) }, // our own file
		"pair":  func(f *frame, item any) pair { return pair{f, item} },
	}).ParseFS(pageFiles, "page/*.tmpl")
	if err != nil {
		return nil, "", fmt.Errorf("reading pages: %w", err)
	}
	sum := sha256.Sum256(style)
	return layout, "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'", nil
}

// frame is what every page has; Body is the page's own.
type frame struct {
	v    *visit
	Body any
}

// pair is what a part of a page is made of: the page and its own item.
type pair struct {
	Frame *frame
	Item  any
}

// faultPage says why something could not be done.
type faultPage struct {
	Key      string
	Incident string
}

// Language is that of the page, BCP 47.
func (p *frame) Language() string { return p.v.words.Language }

// T is a text, with what is put in.
func (p *frame) T(key string, put ...any) (string, error) {
	text, ok := p.v.words.Text[key]
	if !ok {
		return "", fmt.Errorf("no word for %q", key)
	}
	if len(put) == 0 {
		return text, nil
	}
	return fmt.Sprintf(text, put...), nil
}

// Fault is why something could not be done.
func (p *frame) Fault(key string) string { return of(p.v.words.Faults, key) }

// Done is what the post before this page did; empty where there was none.
func (p *frame) Done() string {
	code := p.v.done(p.v.f.Query("done"))
	if code == "" {
		return ""
	}
	return p.v.words.Done[code]
}

// URL is the address of one of the pages.
func (p *frame) URL(parts ...any) string { return p.v.url(fmt.Sprint(parts...)) }

// Token is what forms hand back.
func (p *frame) Token() string { return p.v.token() }

// Date is a day, and Time a time of that day, in UTC.
func (p *frame) Date(t time.Time) string { return letter.Date(t, p.v.words.Language) }

// Time is the minute, in UTC.
func (p *frame) Time(t time.Time) string { return t.UTC().Format("15:04") }

// Stamp is a time as machines read it.
func (p *frame) Stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Controller is who is responsible (GDPR Art. 13(1)(a)).
func (p *frame) Controller() string { return p.v.person.Site.Controller }

// Contact is how it is reached.
func (p *frame) Contact() consent.Contact { return p.v.person.Site.Contact }

// PolicyURL is the privacy policy; empty where it is no page of the web.
func (p *frame) PolicyURL() string {
	u, err := url.Parse(p.v.person.Site.PolicyURL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.String()
}

// Authority is the one that a complaint may go to (GDPR Art. 77).
func (p *frame) Authority() letter.Authority { return letter.CNIL() }

// SiteName is what the site is called; empty where none is chosen.
func (p *frame) SiteName() string {
	if p.v.site == nil {
		return ""
	}
	return p.v.site.Name
}

// Back is the way back to the site.
func (p *frame) Back() string {
	switch {
	case p.v.carry.Get("return") != "":
		return p.v.carry.Get("return")
	case p.v.site != nil && len(p.v.site.Origins) > 0:
		return p.v.site.Origins[0] + "/"
	}
	return ""
}

// tongue is another language of the page.
type tongue struct{ Code, Name, URL string }

// Others are the other languages of this page. After a post that failed it leads to the first page: that one was a GET.
func (p *frame) Others() (list []tongue) {
	path := "/privacy"
	if p.v.f.Method() == "GET" {
		path = p.v.f.Path()
	}
	for _, code := range letter.Languages() {
		if code == p.v.words.Language {
			continue
		}
		to := *p.v
		to.carry = map[string][]string{"language": {code}}
		for _, name := range []string{"k", "return"} {
			if value := p.v.carry.Get(name); value != "" {
				to.carry.Set(name, value)
			}
		}
		list = append(list, tongue{code, p.v.p.words[code].Name, to.url(path)})
	}
	return list
}

// siteLink is a site to choose.
type siteLink struct{ Name, URL string }

// Sites are those that there are pages of.
func (p *frame) Sites() (list []siteLink) {
	for i := range p.v.p.o.Sites {
		s := &p.v.p.o.Sites[i]
		to := *p.v
		to.carry = map[string][]string{"k": {s.Key}}
		if l := p.v.carry.Get("language"); l != "" {
			to.carry.Set("language", l)
		}
		list = append(list, siteLink{s.Name, to.url("/privacy")})
	}
	return list
}
