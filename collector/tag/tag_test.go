package tag_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/octroi/octroi/collector/tag"
)

func scripts(t *testing.T) map[string]tag.Script {
	t.Helper()
	one, two, err := tag.Scripts()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]tag.Script{"tag": one, "banner": two}
}

// The weight of the scripts on the wire.
func TestSize(t *testing.T) {
	for name, most := range map[string]int{"tag": 4 << 10, "banner": 8 << 10} {
		s := scripts(t)[name]
		if len(s.Gzip) > most {
			t.Errorf("%s.js has %d bytes compressed, at most %d", name, len(s.Gzip), most)
		}
		t.Logf("%s.js: %d bytes, %d compressed", name, len(s.Body), len(s.Gzip))
	}
}

// What is served is the file without its lines of comments: nothing in the files makes such a line anything else.
func TestBody(t *testing.T) {
	for name, s := range scripts(t) {
		for line := range bytes.Lines(s.Body) {
			if strings.HasPrefix(strings.TrimSpace(string(line)), "//") {
				t.Errorf("%s.js serves the comment %q", name, line)
			}
		}
		for what, pattern := range map[string]string{
			"a text of several lines": "`", "a comment of several lines": `/\*(?s:[^*]|\*[^/])*\n`, "a continued line": `\\\n`,
		} {
			if m := regexp.MustCompile(pattern).Find(s.Body); m != nil {
				t.Errorf("%s.js has %s, which dropping lines could change: %q", name, what, m)
			}
		}
	}
}

// What the tag must never name (G13), and what a strict Content-Security-Policy forbids.
func TestForbidden(t *testing.T) {
	for name, s := range scripts(t) {
		for _, word := range []string{
			"document.cookie", "d.cookie", "localStorage", "sessionStorage", "indexedDB", "caches", "cookieStore", "window.name", "w.name", "storage",
			"eval(", "new Function", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", ".style.", "userAgent", "screen.", "plugins", "canvas",
			"importScripts", "XMLHttpRequest", "console.",
		} {
			if bytes.Contains(s.Body, []byte(word)) {
				t.Errorf("%s.js says %s", name, word)
			}
		}
	}
}

func TestIntegrity(t *testing.T) {
	for name, s := range scripts(t) {
		sum := sha512.Sum384(s.Body)
		if want := "sha384-" + base64.StdEncoding.EncodeToString(sum[:]); s.Integrity != want {
			t.Errorf("%s: integrity %s, want %s", name, s.Integrity, want)
		}
		if !regexp.MustCompile(`^/v1/` + name + `-[0-9a-f]{12}\.js$`).MatchString(s.VersionedPath()) {
			t.Errorf("%s is served at %s", name, s.VersionedPath())
		}
	}
}

func answer(t *testing.T, path string, header ...string) (*http.Response, []byte) {
	t.Helper()
	app := fiber.New(fiber.Config{StrictRouting: true, CaseSensitive: true})
	if err := tag.Register(app); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := app.Test(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

func TestServed(t *testing.T) {
	for name, s := range scripts(t) {
		for path, cache := range map[string]string{
			"/v1/" + name + ".js": "public, max-age=3600", s.VersionedPath(): "public, max-age=31536000, immutable",
		} {
			resp, body := answer(t, path, "Origin", "https://any.example")
			if resp.StatusCode != 200 || !bytes.Equal(body, s.Body) {
				t.Fatalf("%s: %d, %d bytes", path, resp.StatusCode, len(body))
			}
			for header, want := range map[string]string{
				"Content-Type": "text/javascript; charset=utf-8", "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "",
				"Cache-Control": cache, "ETag": `"` + s.Version + `"`, "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff", "Content-Encoding": "",
				"Cross-Origin-Resource-Policy": "cross-origin", "Set-Cookie": "",
			} {
				if got := resp.Header.Get(header); got != want {
					t.Errorf("%s: %s %q, want %q", path, header, got, want)
				}
			}
		}
	}
}

func TestCompressed(t *testing.T) {
	for name, s := range scripts(t) {
		for accepted, want := range map[string]string{"gzip, deflate, br": "gzip", "br": "", "gzip;q=0": "", "identity": ""} {
			resp, body := answer(t, s.Path(), "Accept-Encoding", accepted)
			if got := resp.Header.Get("Content-Encoding"); got != want {
				t.Errorf("%s to %q: encoding %q, want %q", name, accepted, got, want)
			}
			if want == "gzip" {
				r, err := gzip.NewReader(bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if body, err = io.ReadAll(r); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(body, s.Body) {
				t.Errorf("%s to %q: another script", name, accepted)
			}
		}
	}
}

func TestNotModified(t *testing.T) {
	s := scripts(t)["tag"]
	for validators, want := range map[string]int{
		`"` + s.Version + `"`: 304, `W/"` + s.Version + `"`: 304, `"a", "` + s.Version + `"`: 304, "*": 304, `"a"`: 200, s.Version: 200, "": 200,
	} {
		resp, body := answer(t, s.Path(), "If-None-Match", validators)
		if resp.StatusCode != want || (want == 304) != (len(body) == 0) || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("If-None-Match %s: %d with %d bytes, want %d", validators, resp.StatusCode, len(body), want)
		}
	}
}

// Another version than the gateway's own is never answered under its name.
func TestOtherVersion(t *testing.T) {
	for _, path := range []string{"/v1/tag-000000000000.js", "/v1/tag-.js", "/v1/tag.js/", "/v1/Tag.js", "/v1/tag"} {
		if resp, _ := answer(t, path); resp.StatusCode != 404 {
			t.Errorf("%s: %d, want 404", path, resp.StatusCode)
		}
	}
}
