package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/cmd/octroi/openapi"
)

// described holds the answers of the gateways of these tests against their OpenAPI documents. It is the transport of every client that has none of its
// own; what is not of a gateway that is known passes as it is.
type described struct {
	http.RoundTripper
	public, private routers.Router

	mu       sync.Mutex
	gateways map[string]routers.Router // by address; guarded by mu
	wrong    []string                  // guarded by mu
}

func newDescribed(next http.RoundTripper) (*described, error) {
	d := &described{RoundTripper: next, gateways: map[string]routers.Router{}}
	for to, document := range map[*routers.Router]func() ([]byte, error){&d.public: openapi.Public, &d.private: openapi.Private} {
		text, err := document()
		if err != nil {
			return nil, err
		}
		doc, err := openapi3.NewLoader().LoadFromData(text)
		if err != nil {
			return nil, err
		}
		if *to, err = gorillamux.NewRouter(doc); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// answers holds the answers of all gateways of a run; testMain makes it.
var answers *described

// add makes the two listeners of a gateway known.
func (d *described) add(public, private string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gateways[public], d.gateways[private] = d.public, d.private
}

// RoundTrip fails where the answer is not one that the document describes. Some tests take a failed request for a gateway that is down: the run of all
// fails too, by report.
func (d *described) RoundTrip(r *http.Request) (*http.Response, error) {
	a, err := d.RoundTripper.RoundTrip(r)
	if err != nil {
		return a, err
	}
	d.mu.Lock()
	router := d.gateways[r.URL.Host]
	d.mu.Unlock()
	if router == nil || r.Method == http.MethodHead { // which is the answer of GET without its body
		return a, nil
	}
	err = check(router, r, a)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("%s %s answered %s, which OpenAPI does not describe: %w", r.Method, r.URL.Path, a.Status, err)
		d.wrong = append(d.wrong, err.Error())
		return nil, errors.Join(err, a.Body.Close())
	}
	return a, nil
}

// report is what was wrong, for the end of the run.
func (d *described) report() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.wrong)
}

// check holds one answer against the document. What is no route of it is answered by a problem document, 404 or 405.
func check(router routers.Router, r *http.Request, a *http.Response) error {
	route, params, err := router.FindRoute(r)
	if err != nil {
		if a.StatusCode != http.StatusNotFound && a.StatusCode != http.StatusMethodNotAllowed {
			return err
		}
		return nil
	}
	body := []byte(nil)
	if holds := route.Operation.Responses.Status(a.StatusCode); holds != nil {
		media, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
		if m := holds.Value.Content.Get(media); m != nil && m.Schema != nil { // others may be long, and go on while they are read
			var rest io.Reader = bytes.NewReader(nil)
			body, err = io.ReadAll(a.Body)
			if err != nil { // the connection broke
				rest = iotest.ErrReader(err)
			}
			a.Body = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(bytes.NewReader(body), rest), a.Body}
			if err != nil {
				return nil
			}
		}
	}
	return openapi3filter.ValidateResponse(context.WithoutCancel(r.Context()), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 a.StatusCode, Header: a.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	})
}

// A document describes every route of its listener, and none that is not there.
func TestOpenAPIDescribesEveryRoute(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	run(t, "octroi", "init", "--dir", dir)
	c, err := ReadConfig(filepath.Join(dir, gatewayDir, "octroi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := ReadKeys(c.path(c.Keys))
	if err != nil {
		t.Fatal(err)
	}
	g, err := openGateway(t.Context(), c, k, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	for name, x := range map[string]struct {
		app      *fiber.App
		document func() ([]byte, error)
	}{"public": {g.public, openapi.Public}, "private": {g.private, openapi.Private}} {
		served, told := routesOf(x.app), describedBy(t, x.document)
		for route := range served {
			if !told[route] {
				t.Errorf("%s: %s is not described", name, route)
			}
		}
		for route := range told {
			if !served[route] {
				t.Errorf("%s: %s is described, and not there", name, route)
			}
		}
		if len(served) < 20 {
			t.Errorf("%s has %d routes: were all looked at?", name, len(served))
		}
	}
}

// version is the digest in the name of a script.
var version = regexp.MustCompile(`-[0-9a-f]{12}\.js$`)

// routesOf are the routes of an app as a document writes them. A preflight of all that lies below a path is that of each path there.
func routesOf(app *fiber.App) map[string]bool {
	routes, below := map[string]bool{}, []string{}
	for _, r := range app.GetRoutes(true) {
		path := version.ReplaceAllString(r.Path, "-{version}.js")
		path = regexp.MustCompile(`:([a-z0-9]+)`).ReplaceAllString(path, "{$1}")
		switch {
		case r.Method == http.MethodHead: // of every GET
		case r.Method == http.MethodOptions && strings.HasSuffix(path, "/*"):
			below = append(below, strings.TrimSuffix(path, "*"))
		default:
			routes[r.Method+" "+path] = true
		}
	}
	for route := range routes {
		method, path, _ := strings.Cut(route, " ")
		if method != http.MethodOptions && slices.ContainsFunc(below, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
			routes[http.MethodOptions+" "+path] = true
		}
	}
	return routes
}

func describedBy(t *testing.T, document func() ([]byte, error)) map[string]bool {
	t.Helper()
	text, err := document()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	routes := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			routes[method+" "+path] = true
		}
	}
	return routes
}

// What checks answers sees a wrong one.
func TestOpenAPISeesWrongAnswers(t *testing.T) {
	d, err := newDescribed(http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	problem := `{"type":"about:blank","title":"Conflict","status":409,"code":"state"}`
	for name, x := range map[string]struct {
		method, path, media, body string
		status                    int
		right                     bool
	}{
		"right":              {"GET", "/v1/me/requests", "application/json", `{"requests":[]}`, 200, true},
		"a problem":          {"POST", "/v1/me/requests/x/cancel", "application/problem+json", problem, 409, true},
		"no route":           {"GET", "/v1/none", "application/problem+json", problem, 404, true},
		"a member too many":  {"GET", "/v1/me/requests", "application/json", `{"requests":[],"x":1}`, 200, false},
		"a member missing":   {"GET", "/v1/me/requests", "application/json", `{}`, 200, false},
		"of another type":    {"GET", "/v1/me/requests", "application/json", `{"requests":{}}`, 200, false},
		"deep inside":        {"POST", "/v1/events", "application/json", `{"accepted":1,"refused":[{"index":0,"reason":"because"}]}`, 202, false},
		"of another media":   {"GET", "/v1/me/requests", "text/html", `<p>`, 200, false},
		"another status":     {"GET", "/v1/me/requests", "application/json", `{"requests":[]}`, 201, false},
		"no JSON":            {"GET", "/v1/me/requests", "application/json", `{"requests":`, 200, false},
		"without its header": {"GET", "/v1/me/requests", "application/problem+json", strings.ReplaceAll(problem, "409", "429"), 429, false},
		"an unknown success": {"GET", "/v1/none", "application/json", `{}`, 200, false},
	} {
		r, err := http.NewRequest(x.method, "http://gateway.example"+x.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		a := &http.Response{StatusCode: x.status, Header: http.Header{"Content-Type": {x.media}}, Body: io.NopCloser(strings.NewReader(x.body))}
		if err := check(d.public, r, a); (err == nil) != x.right {
			t.Errorf("%s: %v", name, err)
		}
		if text, err := io.ReadAll(a.Body); err != nil || string(text) != x.body {
			t.Errorf("%s: the body is left as %q", name, text)
		}
	}
}
