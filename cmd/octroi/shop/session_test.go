package shop

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Who logs in gets a new session, an id that the shop did not give out never becomes one, and an old id opens nothing (session fixation).
func TestSessions(t *testing.T) {
	x := openTown(t, nil)
	b := x.browser()
	b.post("/en/basket", http.StatusOK, "product", "cup", "pieces", "1")
	first := b.cookie()
	if len(first) < 26 {
		t.Fatalf("%d characters are too few to be random", len(first))
	}
	b.post("/en/card", http.StatusOK, "number", "2026-0001", "code", "1234")
	second := b.cookie()
	b.post("/en/leave", http.StatusOK)
	third := b.cookie()
	if first == second || second == third || first == third {
		t.Error("a session kept its id over a login or a logout")
	}
	for _, id := range []string{first, second, "planted", ""} {
		thief := x.browser()
		req := thief.request(http.MethodGet, "/en/basket", nil)
		req.AddCookie(&http.Cookie{Name: CookieName, Value: id})
		if page, _ := thief.do(req, http.StatusOK); strings.Contains(page, "€14.00") || strings.Contains(page, "Camille") {
			t.Error("an id that leads nowhere led somewhere")
		}
	}
	if !strings.Contains(b.get("/en/basket", http.StatusOK), "€14.00") {
		t.Error("the basket is lost")
	}
	planted := x.browser()
	u, err := url.Parse(x.url)
	if err != nil {
		t.Fatal(err)
	}
	planted.client.Jar.SetCookies(u, []*http.Cookie{{Name: CookieName, Value: "planted", Path: "/"}})
	planted.post("/en/basket", http.StatusOK, "product", "cup", "pieces", "1")
	if planted.cookie() == "planted" {
		t.Error("a planted id became a session")
	}

	x.mu.Lock()
	x.now = x.now.Add(sessionLife + time.Second)
	x.mu.Unlock()
	if strings.Contains(b.get("/en/basket", http.StatusOK), "€14.00") {
		t.Error("a session outlives its time")
	}

	req := b.request(http.MethodPost, "/en/basket", strings.NewReader("product=cup&pieces=1"))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	_, header := b.do(req, http.StatusSeeOther)
	if k := header.Get("Set-Cookie"); !strings.Contains(k, "HttpOnly") || !strings.Contains(k, "SameSite=Lax") || strings.Contains(k, "Max-Age") || strings.Contains(k, "Domain") {
		t.Errorf("the cookie is %s", k)
	}
}

// However many come, the shop remembers so many, the newest.
func TestSessionsAreBounded(t *testing.T) {
	now := time.Now()
	s := newSessions(func() time.Time { now = now.Add(time.Millisecond); return now })
	var last *http.Request
	for range maxSessions + 10 {
		w := httptest.NewRecorder()
		s.change(w, httptest.NewRequest(http.MethodPost, "/", nil), func(*session) {})
		last = httptest.NewRequest(http.MethodGet, "/", nil)
		last.AddCookie(w.Result().Cookies()[0])
	}
	if len(s.byID) > maxSessions {
		t.Errorf("%d sessions", len(s.byID))
	}
	s.look(last, func(x *session) {
		if x == nil {
			t.Error("the newest is forgotten")
		}
	})
}

// The login claim says who, to whom and until when, is signed by the site's key, and is new on every page; a wrong code gets none.
func TestClaim(t *testing.T) {
	x := openTown(t, nil)
	b := x.browser()
	if page := b.post("/en/card", http.StatusUnprocessableEntity, "number", "2026-0001", "code", "0000"); attribute(page, "data-claim") != "" || b.cookie() != "" {
		t.Error("a wrong code logs in")
	}
	b.post("/en/card", http.StatusUnprocessableEntity, "number", "", "code", "")
	page := b.post("/en/card", http.StatusOK, "number", "2026-0001", "code", "1234")
	if attribute(page, "data-identify") != "login" || !slices.Contains(b.told(page), "login <nil>") {
		t.Errorf("the page does not tell of the login: %q", b.told(page))
	}
	ids := map[string]bool{}
	for range 3 {
		parsed, err := jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithTimeFunc(x.clock), jwt.WithIssuer("shop"), jwt.WithAudience("n1"), jwt.WithIssuedAt()).
			Parse(attribute(page, "data-claim"), func(*jwt.Token) (any, error) { return x.login, nil })
		if err != nil {
			t.Fatal(err)
		}
		claims := parsed.Claims.(jwt.MapClaims)
		if parsed.Header["typ"] != "octroi-login+jwt" || claims["sub"] != nil {
			t.Errorf("%v %v", parsed.Header, claims)
		}
		if who := claims["identifiers"].(map[string]any); len(who) != 2 || who["user"] != "camille" || who["loyalty"] != "2026-0001" {
			t.Errorf("it says %v", who)
		}
		if life := claims["exp"].(float64) - claims["iat"].(float64); life <= 0 || life > 600 {
			t.Errorf("it lives for %v s", life)
		}
		ids[claims["jti"].(string)] = true
		if page = b.get("/en/card", http.StatusOK); attribute(page, "data-identify") != "" {
			t.Error("a page that is loaded again logs in again")
		}
	}
	if len(ids) != 3 {
		t.Errorf("%d different claims on three pages", len(ids))
	}
	page = b.post("/en/leave", http.StatusOK)
	if attribute(page, "data-claim") != "" || attribute(page, "data-identify") != "logout" {
		t.Error("a claim after the logout, or none that tells of it")
	}
}
