package shop

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// town is a shop that is served, and what it told.
type town struct {
	*Shop
	t      *testing.T
	url    string
	login  ed25519.PublicKey
	orders []Order
	mu     sync.Mutex
	now    time.Time // guarded by mu
}

func (x *town) Placed(o Order) { x.orders = append(x.orders, o) }

func (x *town) clock() time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.now
}

func openTown(t *testing.T, stage *Backstage) *town {
	t.Helper()
	x := &town{t: t, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { x.ServeHTTP(w, r) }))
	x.url, x.login = "http://"+server.Listener.Addr().String(), public
	x.Shop, err = New(Options{
		Origin: x.url, Gateway: "http://127.0.0.1:1", Console: "http://127.0.0.1:2/console", Key: "demo", Site: "shop", Node: "n1", Login: private,
		Orders: x, Stage: stage, Now: x.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(server.Close)
	return x
}

// browser keeps cookies, follows redirects, and says where it comes from.
type browser struct {
	*town
	client *http.Client
}

func (x *town) browser() *browser {
	x.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		x.t.Fatal(err)
	}
	return &browser{x, &http.Client{Jar: jar}}
}

func (b *browser) do(req *http.Request, want int) (string, http.Header) {
	b.t.Helper()
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		b.t.Fatalf("%s %s answered %d, want %d: %.300s", req.Method, req.URL, resp.StatusCode, want, body)
	}
	return string(body), resp.Header
}

func (b *browser) request(method, path string, body io.Reader) *http.Request {
	b.t.Helper()
	req, err := http.NewRequest(method, b.url+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	return req
}

func (b *browser) get(path string, want int) string {
	b.t.Helper()
	page, _ := b.do(b.request(http.MethodGet, path, nil), want)
	return page
}

// post submits a form of the shop's own pages, and answers the page that it leads to.
func (b *browser) post(path string, want int, form ...string) string {
	b.t.Helper()
	values := url.Values{}
	for i := 0; i < len(form); i += 2 {
		values.Set(form[i], form[i+1])
	}
	req := b.request(http.MethodPost, path, strings.NewReader(values.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", b.url)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	page, _ := b.do(req, want)
	return page
}

// cookie is the shop's own cookie; empty: none.
func (b *browser) cookie() string {
	b.t.Helper()
	u, err := url.Parse(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, k := range b.client.Jar.Cookies(u) {
		if k.Name == CookieName {
			return k.Value
		}
	}
	return ""
}

// attribute is a data attribute of a page; empty: it has none.
func attribute(page, name string) string {
	if m := regexp.MustCompile(name + `="([^"]*)"`).FindStringSubmatch(page); m != nil {
		return html.UnescapeString(m[1])
	}
	return ""
}

// told is what a page tells the gateway, as "type quantity".
func (b *browser) told(page string) (out []string) {
	b.t.Helper()
	text := attribute(page, "data-events")
	if text == "" {
		return nil
	}
	var events []announced
	if err := json.Unmarshal([]byte(text), &events); err != nil {
		b.t.Fatal(err)
	}
	for _, e := range events {
		out = append(out, fmt.Sprintf("%s %v", e.Type, e.Fields["quantity"]))
	}
	return out
}

// Every page exists in both languages, names itself in the other, holds the snippet, and sets no cookie.
func TestPages(t *testing.T) {
	x := openTown(t, new(Backstage))
	paths := []string{"/", "/search", "/search?q=tea", "/basket", "/card", "/cookies"}
	for _, c := range categories() {
		paths = append(paths, "/c/"+c.Name)
	}
	for _, p := range products() {
		paths = append(paths, "/p/"+p.Name)
	}
	sum := sha256.Sum256([]byte(stub))
	for _, l := range languages {
		for _, path := range paths {
			b := x.browser()
			page, header := b.do(b.request(http.MethodGet, "/"+l+path, nil), http.StatusOK)
			other := map[string]string{"fr": "en", "en": "fr"}[l]
			for _, want := range []string{
				`<html lang="` + l + `">`, `hreflang="` + other + `" href="` + x.url + "/" + other + strings.SplitN(path, "?", 2)[0], `hreflang="` + l + `" href="` + x.url + "/" + l,
				"<script>" + stub + "</script>", `<script async src="http://127.0.0.1:1/v1/tag.js" data-key="demo"></script>`,
				`<script async src="http://127.0.0.1:1/v1/banner.js"></script>`, `data-octroi-choices`, `http://127.0.0.1:1/privacy/erasure?k=demo`,
			} {
				if !strings.Contains(page, want) {
					t.Errorf("/%s%s lacks %s", l, path, want)
				}
			}
			if strings.Count(page, "<h1") != 1 {
				t.Errorf("/%s%s has %d headings of the first order", l, path, strings.Count(page, "<h1"))
			}
			if len(header.Values("Set-Cookie")) > 0 || header.Get("Cache-Control") != "no-store" || header.Get("Content-Language") != l {
				t.Errorf("/%s%s: %v", l, path, header)
			}
			if csp := header.Get("Content-Security-Policy"); !strings.Contains(csp, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") || strings.Contains(csp, "unsafe") {
				t.Errorf("/%s%s: %s", l, path, csp)
			}
			if strings.Contains(page, " style=") || strings.Contains(page, " onclick=") {
				t.Errorf("/%s%s holds what its own policy forbids", l, path)
			}
		}
		b := x.browser()
		b.get("/"+l+"/p/nothing", http.StatusNotFound)
		b.get("/"+l+"/c/nothing", http.StatusNotFound)
		b.get("/"+l+"/order/nothing", http.StatusNotFound)
		b.get("/"+l+"/nothing", http.StatusNotFound)
	}
	b := x.browser()
	for accept, want := range map[string]string{"en-GB,en;q=0.9,fr;q=0.5": "en", "de, fr;q=0.8": "fr", "": "fr", "pt": "fr", strings.Repeat("x,", 5000): "fr"} {
		req := b.request(http.MethodGet, "/?utm_source=x", nil)
		req.Header.Set("Accept-Language", accept)
		if page, _ := b.do(req, http.StatusOK); !strings.Contains(page, `<html lang="`+want+`">`) {
			t.Errorf("%.20q does not lead to %s", accept, want)
		}
	}
	if files, err := fs.ReadDir(files, "assets"); err != nil || len(files) < 4 {
		t.Fatal(files, err)
	} else {
		for _, f := range files {
			b.get("/assets/"+f.Name(), http.StatusOK)
		}
	}
	b.get("/assets/shop.go", http.StatusNotFound)
}

// Both languages say the same things, and nothing is said that no page or script asks for.
func TestWords(t *testing.T) {
	words, err := readWords()
	if err != nil {
		t.Fatal(err)
	}
	var source bytes.Buffer
	for _, pattern := range []string{"pages/*", "assets/*.js"} {
		names, err := fs.Glob(files, pattern)
		if err != nil || len(names) == 0 {
			t.Fatal(pattern, err)
		}
		for _, name := range names {
			b, err := files.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(b)
		}
	}
	code, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range code {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(b)
	}
	keys := func(l string) []string { return slices.Sorted(maps.Keys(words[l])) }
	if !slices.Equal(keys("fr"), keys("en")) {
		t.Error("the languages do not have the same words")
	}
	built := regexp.MustCompile(`^(panel_(type|purpose|status|why|bar|basis)_|shelf_)`) // of a name that is known only then
	for _, key := range keys("fr") {
		if built.MatchString(key) {
			continue
		}
		if !strings.Contains(source.String(), `"`+strings.TrimPrefix(key, "panel_")+`"`) {
			t.Errorf("nobody says %q", key)
		}
	}
	for key, fr := range words["fr"] {
		if a, b := strings.Count(fr, "%"), strings.Count(words["en"][key], "%"); a != b || fr == "" || words["en"][key] == "" {
			t.Errorf("%s: %d and %d places to fill", key, a, b)
		}
	}
}

// What is searched for is found whatever its case, accents and language, and never becomes a part of the page.
func TestSearch(t *testing.T) {
	x := openTown(t, nil)
	b := x.browser()
	for query, want := range map[string]string{"thé": "spring-tea", "THEIERE": "teapot", "honey": "honey", "miel lavande": "honey", "épicerie": "jam"} {
		if page := b.get("/fr/search?q="+url.QueryEscape(query), http.StatusOK); !strings.Contains(page, "/fr/p/"+want+`"`) {
			t.Errorf("%q does not find %s", query, want)
		}
	}
	for _, query := range []string{
		`"><script>alert(1)</script>`, `'-alert(1)-'`, `{{.Key}}`, "</script><script>x", "%0d%0aSet-Cookie: a=b", "\x00\xff", strings.Repeat("é", 5000), `%s%d%[99]s`,
	} {
		page, header := b.do(b.request(http.MethodGet, "/en/search?q="+url.QueryEscape(query), nil), http.StatusOK)
		if strings.Contains(page, "<script>alert") || strings.Contains(page, "<script>x") || strings.Contains(page, "'-alert(1)-'") || header.Get("Set-Cookie") != "" {
			t.Errorf("%.40q is a part of the page", query)
		}
		if strings.Contains(page, "%!") || len(page) > 60_000 {
			t.Errorf("%.40q: %d bytes, or a broken text", query, len(page))
		}
		var events []announced
		if err := json.Unmarshal([]byte(attribute(page, "data-events")), &events); err != nil || len(events) != 1 || events[0].Type != "search" {
			t.Errorf("%.40q: %v %v", query, events, err)
		}
	}
	if page := b.get("/en/search?q=", http.StatusOK); attribute(page, "data-events") != "" {
		t.Error("no search was told")
	}
}

// A basket holds what the shop sells, so much of it, and tells each change once.
func TestBasket(t *testing.T) {
	x := openTown(t, nil)
	b := x.browser()
	if page := b.post("/en/basket", http.StatusOK, "product", "cup", "pieces", "2"); !slices.Equal(b.told(page), []string{"cart_add 2"}) || !strings.Contains(page, "€28.00") {
		t.Errorf("told %q", b.told(page))
	}
	if page := b.get("/en/basket", http.StatusOK); b.told(page) != nil {
		t.Errorf("a page that is loaded again tells %q", b.told(page))
	}
	if page := b.post("/en/basket", http.StatusOK, "product", "cup", "pieces", "9"); !slices.Equal(b.told(page), []string{"cart_add 7"}) {
		t.Errorf("told %q", b.told(page))
	}
	if page := b.post("/en/basket", http.StatusOK, "product", "cup", "pieces", "9"); b.told(page) != nil {
		t.Errorf("a full basket tells %q", b.told(page))
	}
	if page := b.post("/en/basket", http.StatusOK, "product", "cup", "pieces", "4", "do", "set"); !slices.Equal(b.told(page), []string{"cart_remove 5"}) {
		t.Errorf("told %q", b.told(page))
	}
	if page := b.post("/en/basket", http.StatusOK, "product", "cup", "pieces", "6", "do", "set"); !slices.Equal(b.told(page), []string{"cart_add 2"}) {
		t.Errorf("told %q", b.told(page))
	}
	if page := b.post("/en/basket", http.StatusOK, "product", "cup", "pieces", "0", "do", "set"); !slices.Equal(b.told(page), []string{"cart_remove 6"}) || !strings.Contains(page, "empty") {
		t.Errorf("told %q", b.told(page))
	}
	for _, form := range [][]string{
		{"product", "nothing", "pieces", "1"},
		{"product", "cup", "pieces", "10"},
		{"product", "cup", "pieces", "-1"},
		{"product", "cup", "pieces", "0"},
		{"product", "cup", "pieces", "1e3"},
		{"product", "cup"},
		{"product", "cup", "pieces", "99999999999999999999"},
		{"product", strings.Repeat("x", 2*maxBody), "pieces", "1"},
	} {
		b.post("/en/basket", http.StatusBadRequest, form...)
	}
	for _, p := range products() { // all that there is
		b.post("/en/basket", http.StatusOK, "product", p.Name, "pieces", "9")
	}
	if page := b.get("/fr/basket", http.StatusOK); !strings.Contains(page, "<b>108</b>") {
		t.Error("a basket of everything is not whole")
	}
}

// An order empties the basket, is told to the back-end once, and belongs to who placed it.
func TestOrder(t *testing.T) {
	x := openTown(t, new(Backstage))
	b := x.browser()
	b.get("/en/checkout", http.StatusOK) // leads to the basket
	b.post("/en/basket", http.StatusOK, "product", "teapot", "pieces", "1")
	if page := b.get("/en/checkout", http.StatusOK); !slices.Equal(b.told(page), []string{"checkout_start 1"}) {
		t.Errorf("told %q", b.told(page))
	}
	for _, form := range [][]string{
		{"name", "", "email", "a@b.example", "delivery", "post"},
		{"name", "A", "email", "a", "delivery", "post"},
		{"name", "A", "email", "A <a@b.example>", "delivery", "post"},
		{"name", "A", "email", "a@b.example", "delivery", "teleport"},
		{"name", strings.Repeat("A", 81), "email", "a@b.example", "delivery", "post"},
		{"name", "A", "email", strings.Repeat("a", 120) + "@b.example", "delivery", "post"},
	} {
		b.post("/en/checkout", http.StatusUnprocessableEntity, form...)
	}
	if page := b.post("/en/checkout", http.StatusUnprocessableEntity, "name", `"><script>x`, "email", `"><script>y`); strings.Contains(page, "<script>x") || strings.Contains(page, "<script>y") {
		t.Error("a form's text is a part of the page")
	}
	if len(x.orders) != 0 {
		t.Fatal("an order that cannot be was placed")
	}
	page := b.post("/en/checkout", http.StatusOK, "name", "A", "email", "a@b.example", "delivery", "collect")
	if !slices.Equal(b.told(page), []string{"purchase 1"}) || !strings.Contains(page, "€38.00") {
		t.Errorf("told %q", b.told(page))
	}
	if attribute(page, "data-order") == "" || strings.Contains(page, "a@b.example") {
		t.Error("the page does not tell the panel of the order, or tells whose it is")
	}
	if len(x.orders) != 1 || x.orders[0].Subject["email"] != "a@b.example" || x.orders[0].Cents != 3800 || x.orders[0].Delivery != "collect" {
		t.Fatalf("%+v", x.orders)
	}
	b.post("/en/checkout", http.StatusOK, "name", "A", "email", "a@b.example", "delivery", "collect") // the form again
	if len(x.orders) != 1 {
		t.Error("a form that was sent twice bought twice")
	}
	x.browser().get("/en/order/"+x.orders[0].ID, http.StatusNotFound)

	b.post("/fr/card", http.StatusOK, "number", "2026-0002", "code", "5678")
	b.post("/fr/basket", http.StatusOK, "product", "cup", "pieces", "1")
	b.post("/fr/checkout", http.StatusOK, "name", "A", "email", "a@b.example", "delivery", "post")
	if len(x.orders) != 2 || !maps.Equal(x.orders[1].Subject, map[string]string{"loyalty": "2026-0002"}) {
		t.Errorf("%+v", x.orders[1:])
	}
	b.post("/fr/leave", http.StatusOK)
	b.get("/fr/order/"+x.orders[1].ID, http.StatusNotFound)
}

// A post that another page sent changes nothing, whatever browser it went through (CSRF); nor does a request by another name (DNS rebinding).
func TestOtherOrigins(t *testing.T) {
	x := openTown(t, new(Backstage))
	b := x.browser()
	b.post("/en/basket", http.StatusOK, "product", "cup", "pieces", "1")
	before := b.cookie()
	for _, header := range []map[string]string{
		{"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
		{"Origin": "http://evil.example"},
		{"Origin": "null"},
		{"Sec-Fetch-Site": "same-site"},
		{"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"}, // another port of this machine
	} {
		for path, form := range map[string]string{
			"/en/basket": "product=cup&pieces=0&do=set", "/en/checkout": "name=A&email=a@b.example&delivery=post", "/en/card": "number=2026-0001&code=1234", "/en/leave": "",
			"/panel/trace": `{"id":"1"}`, "/panel/rows": `{"rows":[]}`,
		} {
			req := b.request(http.MethodPost, path, strings.NewReader(form))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			for name, value := range header {
				req.Header.Set(name, value)
			}
			b.do(req, http.StatusForbidden)
		}
	}
	if len(x.orders) != 0 || b.cookie() != before || !strings.Contains(b.get("/en/basket", http.StatusOK), "€14.00") {
		t.Error("another page changed something")
	}
	for path := range map[string]bool{"/en/basket": true, "/en/checkout": true, "/en/card": true, "/en/leave": true} {
		b.do(b.request(http.MethodDelete, path, nil), http.StatusMethodNotAllowed)
	}
	for host, want := range map[string]int{"evil.example": http.StatusMisdirectedRequest, "127.0.0.1": http.StatusMisdirectedRequest, "localhost.evil.example:80": http.StatusMisdirectedRequest} {
		req := b.request(http.MethodGet, "/en/", nil)
		req.Host = host
		b.do(req, want)
	}
	req := b.request(http.MethodGet, "/en/p/cup?utm_source=x", nil)
	req.Host = "localhost:1"
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if _, header := b.do(req, http.StatusFound); header.Get("Location") != x.url+"/en/p/cup?utm_source=x" {
		t.Errorf("localhost leads to %s", header.Get("Location"))
	}
}
