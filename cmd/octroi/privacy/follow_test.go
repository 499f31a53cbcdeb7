package privacy_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/octroi/octroi/export/rights"
)

// The code of an erasure is shown once in a page, leads to the request without the cookie, and stands in no address.
func TestErasureIsFollowedByItsCode(t *testing.T) {
	d := openDoor(t)
	b := d.agreed("audience")
	b.press(b.get("/privacy"), "/privacy/requests", "right", "access").wants(200)
	p := b.get("/privacy/erasure").wants(200, "it cannot be undone", "also ends these requests", "Access to your data")
	lacking := b.press(p, "/privacy/requests", "scope", "some").wants(422, "Something is missing", "Tick at least one purpose", "Confirm that you have read")
	whole(t, lacking)
	p = b.press(p, "/privacy/requests", "scope", "all", "confirm", "yes").wants(200, "Your request has been received", "Keep this code")
	whole(t, p)
	id, _, _ := strings.Cut(strings.TrimPrefix(p.at, "/privacy/requests/"), "?")
	code := ""
	for _, e := range p.elements("p") {
		if attribute(e, "class") == "code" {
			code = words(e)
		}
	}
	if len(code) != 64 || strings.Count(code, "-") != 12 {
		t.Fatalf("code %q", code)
	}
	if held := b.cookies("/"); held["octroi-dev"] != "" || held["octroi-follow"] != "" || b.cookies("/privacy/follow")["octroi-follow"] == "" {
		t.Errorf("cookies %v, below the pages %v", held, b.cookies("/privacy"))
	}
	secret := strings.Split(b.cookies("/privacy")["octroi-follow"], ".")[2]
	for _, address := range b.been {
		if strings.Contains(address, secret) || strings.Contains(address, code) {
			t.Errorf("the code stands in an address: %s", address)
		}
	}
	if strings.Contains(d.logs.String(), secret) || strings.Contains(d.logs.String(), code) {
		t.Error("the code stands in the log")
	}
	b.press(b.get(p.at).wants(200, "Keep this code"), "/privacy/requests/"+id+"/forget").wants(200, "has forgotten the code", "Nothing is known about you here")
	b.get("/privacy/requests/"+id).wants(404, "no such request")

	other := d.browser()
	form := other.get("/privacy/follow").wants(200)
	for _, typed := range []string{code, strings.ToLower(code), strings.ReplaceAll(code, "-", " "), "  " + strings.ReplaceAll(code, "-", "") + "\n"} {
		p := other.press(form, "/privacy/follow", "code", typed).wants(200, "Erasure of your data", "in progress", "Nothing more about you leaves us").lacks(secret)
		if strings.Contains(p.at, "code") || strings.Contains(p.text, code) {
			t.Errorf("the code is shown again at %s", p.at)
		}
		form = other.get("/privacy/follow")
	}
	for _, typed := range []string{"", "x", code[:60], code + "A", strings.Repeat("A", 52), swap(code), strings.Repeat("1", 5000)} {
		other.press(form, "/privacy/follow", "code", typed).wants(422, "No request has this code")
	}
	page := other.get("/privacy/requests/" + id).wants(200)
	if strings.Contains(page.text, "/cancel") {
		t.Error("an erasure that has begun is offered to be taken back")
	}
	stale := d.browser()
	stale.send(http.MethodPost, "/privacy/requests/"+id+"/cancel", url.Values{"token": {page.form("/privacy/requests/" + id + "/forget").Get("token")}}).wants(403)
}

// swap changes one letter of a code.
func swap(code string) string {
	if code[0] == '0' {
		return "1" + code[1:]
	}
	return "0" + code[1:]
}

// The cookie that follows a request is for these pages, for half an hour, and for no script.
func TestFollowCookie(t *testing.T) {
	d := openDoor(t)
	b := d.agreed("audience")
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	p := b.get("/privacy/erasure")
	a := b.press(p, "/privacy/requests", "scope", "all", "confirm", "yes")
	if a.status != http.StatusSeeOther {
		t.Fatal(a.status, a.text)
	}
	var kept, dropped bool
	for _, c := range a.header.Values("Set-Cookie") {
		lower := strings.ToLower(c)
		switch {
		case strings.HasPrefix(c, "octroi-follow="):
			kept = strings.Contains(lower, "path=/privacy") && strings.Contains(lower, "httponly") && strings.Contains(lower, "samesite=strict") && strings.Contains(lower, "max-age=1800")
		case strings.HasPrefix(c, "octroi-dev=;"):
			dropped = strings.Contains(lower, "max-age=0")
		}
	}
	if !kept || !dropped {
		t.Errorf("%v", a.header.Values("Set-Cookie"))
	}
}

// Requests of the cookie: asked for once, seen by nobody else, taken back while that is possible; some purposes leave the cookie.
func TestRequests(t *testing.T) {
	d := openDoor(t)
	b, other := d.agreed("audience", "marketing"), d.agreed("audience")
	p := b.press(b.get("/privacy"), "/privacy/requests", "right", "access").wants(200, "Your request has been received", "Your request is being carried out", "Take this request back")
	id, _, _ := strings.Cut(strings.TrimPrefix(p.at, "/privacy/requests/"), "?")
	b.press(b.get("/privacy"), "/privacy/requests", "right", "access").wants(200, "You had already asked for this", id)
	other.get("/privacy/requests/"+id).wants(404, "no such request")
	token := p.form("/privacy/requests/" + id + "/cancel").Get("token")
	b.send(http.MethodPost, "/privacy/requests/"+id+"/package", url.Values{"token": {token}, "format": {"html"}}).wants(404, "not ready yet")
	b.get("/privacy/requests/"+id+"/certificate").wants(404, "not ready yet")
	b.press(p, "/privacy/requests/"+id+"/cancel").wants(200, "The request was taken back", "taken back")
	b.get("/privacy").wants(200, "taken back")
	b.send(http.MethodPost, "/privacy/requests/"+id+"/cancel", url.Values{"token": {token}}).wants(409, "gone too far")

	b.press(b.get("/privacy/erasure"), "/privacy/requests", "scope", "some", "purpose", "audience", "confirm", "yes").wants(200, "Only what was recorded for", "Audience measurement").lacks("Keep this code")
	if b.cookies("/")["octroi-dev"] == "" {
		t.Error("the cookie went with some purposes")
	}
	list, err := d.rights.Self(rights.Visitor{Subject: b.device()}, "").Requests()
	if err != nil || len(list) != 2 || len(list[1].Purposes) != 1 || list[1].Purposes[0] != "audience" {
		t.Errorf("%+v %v", list, err)
	}
}
