package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/collector"
	"golang.org/x/net/html"
)

// surfer is somebody's browser on the privacy page of an estate. Scripts it has none.
type surfer struct {
	*estate
	client *http.Client
	header http.Header // of the last answer
	at     string      // address of the last page
}

func (e *estate) surfer() *surfer {
	e.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		e.t.Fatal(err)
	}
	return &surfer{estate: e, client: &http.Client{Jar: jar, Timeout: 30 * time.Second}}
}

// open is a page, or a file.
func (s *surfer) open(method, path string, form url.Values, want int) string {
	s.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequest(method, "http://"+s.public+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	a, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != want {
		s.t.Fatalf("%s %s answered %s, want %d: %v\n%.3000s", method, path, a.Status, want, err, seen(string(text)))
	}
	s.header, s.at = a.Header, a.Request.URL.Path
	return string(text)
}

// press sends the form of a page that goes to a path, with what is put in.
func (s *surfer) press(page, path string, put url.Values, want int) string {
	s.t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		s.t.Fatal(err)
	}
	for n := range root.Descendants() {
		if to, _, _ := strings.Cut(attr(n, "action"), "?"); n.Data != "form" || to != path || attr(n, "method") != "post" {
			continue
		}
		form := url.Values{}
		for x := range n.Descendants() {
			if x.Data == "input" && attr(x, "type") == "hidden" {
				form.Set(attr(x, "name"), attr(x, "value"))
			}
		}
		for name, list := range put {
			form[name] = list
		}
		return s.open(http.MethodPost, attr(n, "action"), form, want)
	}
	s.t.Fatalf("no form to %s: %.3000s", path, seen(page))
	return ""
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// seen is the text of a page as somebody reads it.
func seen(page string) string {
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		return page
	}
	var b strings.Builder
	for n := range root.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "style" {
			b.WriteString(n.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func (s *surfer) says(page string, texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		if !strings.Contains(seen(page), text) {
			s.t.Fatalf("%s does not say %q: %.3000s", s.at, text, seen(page))
		}
	}
}

// save puts a file of the page into the estate's folder.
func (s *surfer) save(path, name string) string {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), name)
	if err := os.WriteFile(file, []byte(s.open(http.MethodGet, path, nil, http.StatusOK)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// credential makes the surfer's device the one that the estate's visitor speaks for.
func (s *surfer) credential() string {
	s.t.Helper()
	for _, c := range s.client.Jar.Cookies(&url.URL{Scheme: "http", Host: s.public, Path: "/"}) {
		if c.Name == "octroi-dev" {
			s.cookie = &http.Cookie{Name: c.Name, Value: c.Value}
			return c.Value
		}
	}
	s.t.Fatal("the browser holds no credential")
	return ""
}

// The whole story of a person without a script: agrees on the page, saves a receipt that verifies with the keys of the page, is joined to an account and
// parted, withdraws, asks for the data and opens it once, has everything erased, follows that by its code, and verifies the certificate.
func TestPersonUsesThePrivacyPage(t *testing.T) {
	t.Parallel()
	e := newEstate(t)
	shop := e.token("shop", collector.TokenClaims{Scopes: []string{"identify:write"}, Sites: []string{"shop"}})
	e.start()
	s := e.surfer()
	page := s.open(http.MethodGet, "/privacy?language=en", nil, http.StatusOK)
	s.says(page, "Nothing is known about you here")
	page = s.press(page, "/privacy/choices", url.Values{"act": {"all"}}, http.StatusOK)
	s.says(page, "Your consent is recorded", "This browser is not connected with a customer account")
	keys := map[string]string{}
	for _, name := range []string{"log", "signing", "custodian"} {
		keys[name] = s.save("/privacy/keys/"+name+".key.pub", name+".key.pub")
	}
	run(t, "octroi", "verify", "record", s.save("/privacy/records/1/receipt.jwt", "receipt.jwt"), "--key", keys["log"], "--signing-key", keys["signing"])
	run(t, "octroi", "verify", "record", s.save("/privacy/records/1/record.json", "record.json"), "--key", keys["log"])

	device := s.credential()
	e.visit(3, "privacy-campaign")
	e.ask(http.MethodPost, e.public+"/v1/identify?k=demo", shop, map[string]any{"device": device, "subject": map[string]string{"user": "u-7"}}, http.StatusOK)
	page = s.open(http.MethodGet, "/privacy?language=en", nil, http.StatusOK)
	s.says(page, "this browser has been connected with the customer account")
	page = s.press(page, "/privacy/link", nil, http.StatusOK)
	s.says(page, "The connection with the account has ended", "This browser is not connected with a customer account", "Earlier connections")
	page = s.press(page, "/privacy/withdrawal", url.Values{"purpose": {"marketing"}}, http.StatusOK)
	s.says(page, "Your consent is withdrawn")

	s.opensOnce()
	s.isErased(keys)
}

// opensOnce asks for access, and opens the package.
func (s *surfer) opensOnce() {
	s.t.Helper()
	page := s.press(s.open(http.MethodGet, "/privacy?language=fr", nil, http.StatusOK), "/privacy/requests", nil, http.StatusOK)
	s.says(page, "Votre demande est reçue", "Accès à vos données")
	at, id := s.at, strings.TrimPrefix(s.at, "/privacy/requests/")
	s.carryOut(id)
	page = s.open(http.MethodGet, at+"?language=fr", nil, http.StatusOK)
	s.says(page, "Vos données sont prêtes", "une seule fois")
	s.open(http.MethodGet, at+"/package", nil, http.StatusNotFound) // looking does not open it
	s.open(http.MethodHead, at+"/package", nil, http.StatusNotFound)
	data := s.press(page, at+"/package", url.Values{"format": {"html"}}, http.StatusOK)
	if !strings.Contains(data, "privacy-campaign") || !strings.Contains(s.header.Get("Content-Security-Policy"), "sandbox") || s.header.Get("Cache-Control") != "no-store" {
		s.t.Fatalf("the package is not the person's: %v\n%.500s", s.header, data)
	}
	s.says(s.press(page, at+"/package", url.Values{"format": {"html"}}, http.StatusGone), "ne s'ouvrent qu'une fois")
	s.says(s.open(http.MethodGet, at+"?language=fr", nil, http.StatusOK), "Vous avez ouvert vos données")
}

// isErased has everything erased, and follows it by its code from another browser.
func (s *surfer) isErased(keys map[string]string) {
	s.t.Helper()
	page := s.open(http.MethodGet, "/privacy/erasure?language=en", nil, http.StatusOK)
	page = s.press(page, "/privacy/requests", url.Values{"scope": {"all"}, "confirm": {"yes"}}, http.StatusOK)
	s.says(page, "Keep this code")
	code := regexp.MustCompile(`[0-9A-Z]{4}(-[0-9A-Z]{4}){12}`).FindString(page)
	id := strings.TrimPrefix(s.at, "/privacy/requests/")
	s.says(s.open(http.MethodGet, "/privacy?language=en", nil, http.StatusOK), "Nothing is known about you here", "The request that you follow by its code")
	s.carryOut(id)

	other := s.surfer()
	page = other.press(other.open(http.MethodGet, "/privacy/follow?language=en", nil, http.StatusOK), "/privacy/follow", url.Values{"code": {strings.ToLower(code)}}, http.StatusOK)
	other.says(page, "Erasure of your data", "Your data is erased", "The certificate is signed", "octroi verify certificate")
	file := other.save("/privacy/requests/"+id+"/certificate", "certificate.jwt")
	run(s.t, "octroi", "verify", "certificate", file, "--key", keys["log"], "--custodian-key", keys["custodian"])
	for _, d := range destinations {
		for id, row := range s.rows(d) {
			if strings.Contains(row, "privacy-campaign") {
				s.t.Errorf("%s still has row %s", d, id)
			}
		}
	}
	log, err := os.ReadFile(filepath.Join(s.dir, "gateway.log"))
	if err != nil || strings.Contains(string(log), code) || strings.Contains(string(log), "u-7") {
		s.t.Errorf("the log tells of the person: %v", err)
	}
}
