package rights

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// door is both listeners of a world over real HTTP. In place of the gateway's cookie a header carries the credential, in place of a token its scopes.
type door struct {
	t               *testing.T
	w               *world
	public, private string
}

func openDoor(t *testing.T, w *world) *door {
	t.Helper()
	fail := func(c *fiber.Ctx, status int, code, detail string) error {
		return c.Status(status).JSON(map[string]string{"code": code, "detail": detail})
	}
	o := RouteOptions{
		Actor: func(c *fiber.Ctx, scope string) (string, error) {
			if !strings.Contains(c.Get("X-Scopes"), scope) {
				return "", fiber.ErrForbidden
			}
			return "officer", nil
		},
		Visitor: func(c *fiber.Ctx, _ string) (Visitor, error) {
			credential, ok := subject.ParseCredential(c.Get("X-Cookie"))
			if !ok {
				return Visitor{Language: "fr"}, nil
			}
			s, err := w.subjects.Device(credential)
			if err != nil {
				return Visitor{}, nil // nobody
			}
			return Visitor{s, "fr"}, nil
		},
		Fail:         fail,
		ForgetCookie: func(c *fiber.Ctx) { c.Set("X-Forget", "yes") },
		Region:       "FR",
	}
	apps := []*fiber.App{
		fiber.New(fiber.Config{DisableStartupMessage: true}),
		fiber.New(fiber.Config{DisableStartupMessage: true, StreamRequestBody: true, BodyLimit: 64 << 10}),
	}
	Routes(apps[0], apps[1], w.Requests, o)
	urls := make([]string, len(apps))
	for i, app := range apps {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = app.Listener(l) }()
		t.Cleanup(func() { _ = app.Shutdown() })
		urls[i] = "http://" + l.Addr().String()
	}
	return &door{t, w, urls[0], urls[1]}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	text   string
	json   map[string]any
}

func (d *door) do(method, url string, body any, header ...string) answer {
	d.t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	case []byte:
		r = bytes.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			d.t.Fatal(err)
		}
		r = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(d.t.Context(), method, url, r)
	if err != nil {
		d.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	a := answer{status: response.StatusCode, header: response.Header, text: string(text)}
	_ = json.Unmarshal(text, &a.json)
	return a
}

// mine is a request of the person with the credential.
func (d *door) mine(c subject.Credential, method, path string, body any, header ...string) answer {
	d.t.Helper()
	return d.do(method, d.public+"/v1/me/requests"+path, body, append(header, "X-Cookie", c.Text())...)
}

// officer is a request by a token with the scope.
func (d *door) officer(method, path string, body any) answer {
	d.t.Helper()
	return d.do(method, d.private+"/v1/rights"+path, body, "X-Scopes", "rights:manage rights:read")
}

func (a answer) want(t *testing.T, status int, members ...string) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("answered %d, want %d: %s", a.status, status, a.text)
	}
	for i := 0; i < len(members); i += 2 {
		if got := fmt.Sprint(a.json[members[i]]); got != members[i+1] {
			t.Fatalf("%s is %q, want %q: %s", members[i], got, members[i+1], a.text)
		}
	}
	return a
}

func (a answer) id() string { id, _ := a.json["id"].(string); return id }

func TestPersonFollowsErasureBySecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := openDoor(t, w)
	c, s := w.mint(t)
	other, _ := w.mint(t)
	w.pages(t, s, 1, "a")
	first := d.mine(c, "POST", "", map[string]any{"right": "erasure"}).want(t, 201, "state", "in_progress", "right", "erasure")
	secret, _ := first.json["secret"].(string)
	if len(secret) != 22 || first.header.Get("X-Forget") != "yes" || first.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("secret %q, headers %v", secret, first.header)
	}
	again := d.mine(c, "POST", "", map[string]any{"right": "erasure"}).want(t, 200, "id", first.id())
	if again.json["secret"] != nil {
		t.Error("the secret is told twice")
	}
	w.Pass(t.Context())
	d.mine(c, "GET", "/"+first.id(), nil).want(t, 404) // the cookie is dead
	d.mine(c, "GET", "/"+first.id(), nil, "Authorization", "Bearer "+secret).want(t, 200, "state", "in_progress")

	// Another's id, a wrong secret, and an id that nobody has are answered alike.
	unknown := d.mine(other, "GET", "/3f0c8a52-0d6c-4a53-9a53-6b1a2f1d7c10", nil).want(t, 404)
	for name, a := range map[string]answer{
		"another's":    d.mine(other, "GET", "/"+first.id(), nil),
		"wrong secret": d.mine(other, "GET", "/"+first.id(), nil, "Authorization", "Bearer AAAAAAAAAAAAAAAAAAAAAA"),
		"no id":        d.mine(other, "GET", "/x", nil),
		"cancel":       d.mine(other, "POST", "/"+first.id()+"/cancel", nil),
		"package":      d.mine(other, "GET", "/"+first.id()+"/package", nil),
		"certificate":  d.mine(other, "GET", "/"+first.id()+"/certificate", nil),
	} {
		if a.status != unknown.status || a.text != unknown.text {
			t.Errorf("%s: %d %s, want %d %s", name, a.status, a.text, unknown.status, unknown.text)
		}
	}
	d.mine(c, "POST", "/"+first.id()+"/cancel", nil, "Authorization", "Bearer "+secret).want(t, 409, "code", "state")
	w.end(t, &servant{w: w, name: "custodian-one"}, first.id())
	d.mine(c, "GET", "/"+first.id(), nil, "Authorization", "Bearer "+secret).want(t, 200, "state", "completed")
	text := d.mine(c, "GET", "/"+first.id()+"/certificate", nil, "Authorization", "Bearer "+secret).want(t, 200).text
	if _, err := proof.VerifyCertificate(text, w.o.Custodian, w.signer.Verifier()); err != nil {
		t.Error(err)
	}
}

func TestNobodyIsKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := openDoor(t, w)
	for name, a := range map[string]answer{
		"no cookie": d.do("POST", d.public+"/v1/me/requests", map[string]any{"right": "access"}),
		"identifier": d.officer("POST", "/requests", map[string]any{
			"right": "erasure", "subject": map[string]string{"loyalty": "nobody-has-this"},
		}),
		"device": d.officer("POST", "/requests", map[string]any{"right": "erasure", "device": "AAAAAAAAAAAAAAAAAAAAAA"}),
	} {
		a.want(t, 200, "result", "no_match")
		if supply, _ := a.json["supply"].(map[string]any); supply["fr"] == nil || supply["en"] == nil {
			t.Errorf("%s: it does not say what would help: %s", name, a.text)
		}
	}
	if n := w.count(t, "q/request/"); n != 0 {
		t.Errorf("%d requests of nobody", n)
	}
	list := d.do("GET", d.public+"/v1/me/requests", nil).want(t, 200)
	if list.text != `{"requests":[]}` {
		t.Error(list.text)
	}
}

func TestWrongBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := openDoor(t, w)
	c, _ := w.mint(t)
	for body, status := range map[string]int{
		`{"right":"access"`:                                            422,
		`{"right":"portability"}`:                                      422,
		`{"right":"access","right2":1}`:                                422,
		`{"right":"access"} {}`:                                        422,
		`{"right":"access","purposes":["audience"]}`:                   422,
		`{"right":"erasure","purposes":["service"]}`:                   422, // no consent
		`{"right":"erasure","purposes":["unknown"]}`:                   422,
		`{"right":"erasure","subject":{"email":"v@x.test"}}`:           422, // D5: a body proves nothing
		`{"right":"erasure","device":"AAAAAAAAAAAAAAAAAAAA"}`:          422,
		`{"right":"erasure","recipient":"age1x"}`:                      422,
		`{"right":"access","x":"` + strings.Repeat("a", 70<<10) + `"}`: 413,
	} {
		if a := d.mine(c, "POST", "", body); a.status != status || strings.Contains(a.text, "v@x.test") {
			t.Errorf("%.60s: %d %s", body, a.status, a.text)
		}
	}
	for body, status := range map[string]int{
		`{"right":"access"}`: 422,
		`{"right":"access","subject":{"loyalty":"a"},"device":"x"}`:                     422,
		`{"right":"access","subject":{"shoe":"44"}}`:                                    422,
		`{"right":"access","subject":{"email":"no address"}}`:                           422,
		`{"right":"access","device":"short"}`:                                           422,
		`{"right":"access","device":"AAAAAAAAAAAAAAAAAAAAAA","received_at":"tomorrow"}`: 422,
	} {
		if a := d.officer("POST", "/requests", body); a.status != status {
			t.Errorf("%.60s: %d %s", body, a.status, a.text)
		}
	}
	w.declare(t, "card-1")
	for _, at := range []time.Time{w.now().Add(time.Hour), w.now().AddDate(-2, 0, 0)} {
		d.officer("POST", "/requests", map[string]any{
			"right": "access", "subject": map[string]string{"loyalty": "card-1"}, "received_at": at,
		}).want(t, 422)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err1 := z.Write([]byte(`{"right":"access"}`))
	if err := errors.Join(err1, z.Close()); err != nil {
		t.Fatal(err)
	}
	// Fiber would unpack it, without a bound: a kilobyte that becomes a gigabyte (CWE-409).
	if a := d.mine(c, "POST", "", packed.Bytes(), "Content-Encoding", "gzip"); a.status != 422 {
		t.Error("a packed body was unpacked:", a.status, a.text)
	}
	if a := d.do("GET", d.private+"/v1/rights/requests", nil, "X-Scopes", "custody"); a.status != 403 {
		t.Error("a custodian reads the requests:", a.status)
	}
	if a := d.do("GET", d.private+"/v1/custody/work", nil, "X-Scopes", "rights:manage"); a.status != 403 {
		t.Error("an officer takes the custodian's work:", a.status)
	}
}

// The officer's way: enter, verify, approve by signature, follow, certificate.
func TestOfficer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Notices = time.Minute })
	d := openDoor(t, w)
	buyer := w.declare(t, "card-1")
	w.visit(t, subject.Subject{}, buyer, "purchase", "p1", w.at)
	w.ship(t)
	card := map[string]string{"loyalty": "card-1"}
	a := d.officer("POST", "/requests", map[string]any{"right": "erasure", "subject": card, "received_at": w.now().AddDate(0, 0, -3)})
	a.want(t, 201, "state", "identity_unverified", "origin", "dpo", "possible", "[verify deny extend ask cancel]")
	path := "/requests/" + a.id()
	d.officer("POST", "/requests", map[string]any{"right": "erasure", "subject": card}).want(t, 200, "id", a.id())
	d.officer("POST", path+"/approve", map[string]any{"approval": "x"}).want(t, 409, "code", "state")
	d.officer("POST", path+"/complete", nil).want(t, 404) // the machine's own
	d.officer("POST", path+"/verify", nil).want(t, 200, "state", "pending")
	d.officer("POST", path+"/verify", nil).want(t, 409, "code", "state")

	var job proof.Job
	if err := json.Unmarshal([]byte(d.officer("GET", path+"/job", nil).want(t, 200).text), &job); err != nil {
		t.Fatal(err)
	}
	approve := func(change func(*proof.Job), key []byte) answer {
		j := job
		change(&j)
		signed, err := proof.Approve(j, key)
		if err != nil {
			t.Fatal(err)
		}
		return d.officer("POST", path+"/approve", map[string]any{"approval": signed})
	}
	same := func(*proof.Job) {}
	approve(same, custodianKey).want(t, 422, "code", "approval")
	approve(func(j *proof.Job) { j.Request = "3f0c8a52-0d6c-4a53-9a53-6b1a2f1d7c10" }, approvalKey).want(t, 422, "code", "approval")
	approve(func(j *proof.Job) { j.Destinations = j.Destinations[:1] }, approvalKey).want(t, 422, "code", "approval")
	approve(func(j *proof.Job) { j.Purposes = []string{"audience"} }, approvalKey).want(t, 422, "code", "approval")
	approve(same, approvalKey).want(t, 200, "state", "approved")

	d.officer("GET", path+"/certificate", nil).want(t, 404, "code", "not_ready")
	q := w.end(t, &servant{w: w, name: "custodian-one"}, a.id())
	if q.State != Completed {
		t.Fatalf("%+v", q)
	}
	text := d.officer("GET", path+"/certificate", nil).want(t, 200).text
	c, err := proof.VerifyCertificate(text, w.o.Custodian, w.signer.Verifier())
	if err != nil || c.Approved != q.Approved || c.Origin != proof.ByDPO {
		t.Fatal(c, err)
	}
	d.officer("POST", path+"/cancel", nil).want(t, 409)
	d.officer("GET", path+"/job", nil).want(t, 404) // nobody knows any more whose it was
	if _, gone, err := w.subjects.ErasedAt(reading{w}, loyalty(t, "card-1")); err != nil || !gone {
		t.Error("an import may bring the person back:", err)
	}
	list := d.officer("GET", "/requests?state=completed", nil).want(t, 200)
	if n := len(list.json["requests"].([]any)); n != 1 {
		t.Errorf("%d completed requests", n)
	}
	d.officer("GET", "/requests?state=nonsense", nil).want(t, 422)
}

// reading reads rows outside of a transaction.
type reading struct{ w *world }

func (r reading) Get(key []byte) (value []byte, err error) {
	err = r.w.state.View(func(v reader) error {
		value, err = v.Get(key)
		return err
	})
	return value, err
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := openDoor(t, w)
	w.declare(t, "card-1")
	a := d.officer("POST", "/requests", map[string]any{"right": "access", "subject": map[string]string{"loyalty": "card-1"}})
	path := "/requests/" + a.want(t, 201).id()
	due := w.row(t, a.id()).Clock.due(w.now())

	d.officer("POST", path+"/extend", map[string]any{"reason": "holidays"}).want(t, 422)
	letter := d.officer("POST", path+"/extend", map[string]any{"reason": "complexity"}).want(t, 200).json["letter"].(map[string]any)
	if letter["fr"] == "" || letter["en"] == "" {
		t.Error("the person is not told of the extension")
	}
	d.officer("POST", path+"/extend", map[string]any{"reason": "complexity"}).want(t, 409)
	if got := w.row(t, a.id()).Clock.due(w.now()); got.Sub(due) < 58*24*time.Hour {
		t.Error("extended to", got)
	}
	d.officer("POST", path+"/ask", map[string]any{"asked": map[string]string{"fr": "Quand ?"}}).want(t, 422)
	d.officer("POST", path+"/ask", map[string]any{"asked": map[string]string{"fr": "Quand ?", "en": "When?"}}).want(t, 200, "state", "awaiting_information")
	d.officer("POST", path+"/verify", nil).want(t, 409)
	w.forward(5 * 24 * time.Hour)
	d.officer("POST", path+"/answer", nil).want(t, 200, "state", "identity_unverified")
	if q := w.row(t, a.id()); q.Clock.Stood != 5*24*time.Hour {
		t.Error("the clock stood for", q.Clock.Stood)
	}
	d.officer("POST", path+"/deny", map[string]any{"reason": "because"}).want(t, 422)
	d.officer("POST", path+"/deny", map[string]any{"reason": "exception_17_3_b"}).want(t, 422) // of erasure
	denied := d.officer("POST", path+"/deny", map[string]any{"reason": "not_identified"}).want(t, 200, "state", "denied", "possible", "[]")
	for language, remedy := range map[string]string{"fr": "CNIL", "en": "CNIL"} { // GDPR Art. 12(4)
		if text := denied.json["letter"].(map[string]any)[language].(string); !strings.Contains(text, remedy) {
			t.Errorf("%s: the letter does not say where to complain", language)
		}
	}
	// Whose it was is known for a while, and then not.
	q := w.row(t, a.id())
	w.forward(29 * 24 * time.Hour)
	w.Pass(t.Context())
	if _, err := w.subjects.BySlot(q.Slot); err != nil {
		t.Error(err)
	}
	w.forward(2 * 24 * time.Hour)
	w.Pass(t.Context())
	if _, err := w.subjects.BySlot(q.Slot); err == nil || w.row(t, a.id()).Slot != 0 {
		t.Error("whose it was is still known")
	}
}
