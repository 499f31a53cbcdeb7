package export_test

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/s3test"
)

// refusedBy fails unless err is the sentinel, says the next step, and holds no secret.
func refusedBy(t *testing.T, err, sentinel error, hint string) {
	t.Helper()
	if !errors.Is(err, sentinel) || !strings.Contains(err.Error(), hint) {
		t.Errorf("got %v, want %v with %q", err, sentinel, hint)
	}
	if err != nil && (strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "never-a-secret") || strings.Contains(err.Error(), "octroi-test")) {
		t.Errorf("the error holds what the server or the file said: %v", err)
	}
}

func TestS3Versions(t *testing.T) {
	server := s3test.Start(t)
	store := s3test.Open(t, server.Options())
	version := mustPut(t, store, "w/one", "first")
	if version == "" {
		t.Fatal("no version id")
	}
	server.Overwrite("w/one", "second")
	if text, err := get(t, store, "w/one", version); text != "first" || err != nil {
		t.Errorf("old version: %q, %v", text, err)
	}
	if text, err := get(t, store, "w/one", ""); text != "second" || err != nil {
		t.Errorf("current version: %q, %v", text, err)
	}
	if _, err := put(t, store, "w/one", "first"); !errors.Is(err, export.ErrExists) {
		t.Errorf("put over an overwritten object: %v", err)
	}
	server.Delete("w/one", "")
	if _, err := get(t, store, "w/one", ""); !errors.Is(err, export.ErrNoObject) {
		t.Errorf("get of a deleted object: %v", err)
	}
	if text, err := get(t, store, "w/one", version); text != "first" || err != nil {
		t.Errorf("old version after a delete: %q, %v", text, err)
	}
	server.Delete("w/one", version)
	if _, err := get(t, store, "w/one", version); !errors.Is(err, export.ErrNoObject) {
		t.Errorf("get of a deleted version: %v", err)
	}
}

// Each fault of a PUT ends in an error of its kind, and trying again stores the object once.
func TestS3PutFaults(t *testing.T) {
	server := s3test.Start(t)
	options := server.ProxyOptions()
	options.Timeout = time.Second
	store := s3test.Open(t, options)
	for name, c := range map[string]struct {
		fault s3test.Fault
		want  error
		hint  string
	}{
		"cut-before":   {s3test.Fault{CutBefore: true}, export.ErrUnavailable, "broke off"},
		"cut-after":    {s3test.Fault{CutAfter: true}, export.ErrUnavailable, "broke off"},
		"500":          {s3test.Fault{Status: 500, Code: "InternalError"}, export.ErrUnavailable, "500 InternalError"},
		"503":          {s3test.Fault{Status: 503, Code: "SlowDown"}, export.ErrUnavailable, "503"},
		"503-after":    {s3test.Fault{Status: 503, Code: "SlowDown", LoseAfter: true}, export.ErrUnavailable, "503"},
		"409":          {s3test.Fault{Status: 409, Code: "ConditionalRequestConflict"}, export.ErrUnavailable, "409"},
		"403":          {s3test.Fault{Status: 403, Code: "AccessDenied"}, export.ErrRefused, "grant these credentials"},
		"404":          {s3test.Fault{Status: 404, Code: "NoSuchBucket"}, export.ErrRefused, "create it"},
		"clock":        {s3test.Fault{Status: 403, Code: "RequestTimeTooSkewed"}, export.ErrRefused, "clock"},
		"501":          {s3test.Fault{Status: 501, Code: "NotImplemented"}, export.ErrRefused, "If-None-Match"},
		"expired":      {s3test.Fault{Status: 400, Code: "ExpiredToken"}, export.ErrRefused, "renew"},
		"slow":         {s3test.Fault{Delay: 1500 * time.Millisecond}, export.ErrUnavailable, "no answer in time"},
		"strange code": {s3test.Fault{Status: 400, Code: "SECRET in a code"}, export.ErrRefused, "(no code)"},
		"412, nothing": {s3test.Fault{Status: 412, Code: "PreconditionFailed"}, export.ErrUnavailable, "another writer"},
		"412, no body": {s3test.Fault{Status: 412}, export.ErrUnavailable, "another writer"},
	} {
		t.Run(name, func(t *testing.T) {
			key := "faults/" + strings.Map(func(r rune) rune {
				if r == ' ' || r == ',' {
					return '-'
				}
				return r
			}, name)
			server.Proxy.Once(http.MethodPut, key, c.fault)
			_, err := put(t, store, key, "text")
			refusedBy(t, err, c.want, c.hint)
			version := mustPut(t, store, key, "text")
			if text, err := get(t, store, key, version); text != "text" || err != nil || version == "" {
				t.Errorf("after another try: %q, version %q, %v", text, version, err)
			}
		})
	}
}

// Credentials that expired or were rotated are written into their file, and are used without a restart.
func TestS3CredentialsRenewed(t *testing.T) {
	server := s3test.Start(t)
	right, err := os.ReadFile(server.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	server.WriteCredentials("octroi-test", "SECRET that has expired")
	store := s3test.Open(t, server.Options())
	_, err = put(t, store, "w/one", "text")
	refusedBy(t, err, export.ErrRefused, "aws_secret_access_key")
	if err := os.Remove(server.Credentials); err != nil {
		t.Fatal(err)
	}
	_, err = put(t, store, "w/one", "text")
	refusedBy(t, err, export.ErrRefused, "credentials file")
	if err := os.WriteFile(server.Credentials, right, 0o600); err != nil {
		t.Fatal(err)
	}
	mustPut(t, store, "w/one", "text")
}

func TestS3GetFaults(t *testing.T) {
	server := s3test.Start(t)
	options := server.ProxyOptions()
	options.Timeout = 500 * time.Millisecond
	store := s3test.Open(t, options)
	text := strings.Repeat("0123456789", 10_000)
	mustPut(t, store, "w/one", text)
	for name, c := range map[string]struct {
		fault s3test.Fault
		hint  string
	}{
		"truncated":  {s3test.Fault{Truncate: 5000}, "broke off"},
		"stalled":    {s3test.Fault{Truncate: 5000, Stall: 3 * time.Second}, "nothing came"},
		"slow":       {s3test.Fault{Delay: time.Second}, "no answer in time"},
		"cut-before": {s3test.Fault{CutBefore: true}, "broke off"},
		"500":        {s3test.Fault{Status: 500, Code: "InternalError"}, "500"},
	} {
		t.Run(name, func(t *testing.T) {
			server.Proxy.Hook(func(*http.Request) s3test.Fault { return c.fault }) // net/http repeats a GET on a connection that was idle
			got, err := get(t, store, "w/one", "")
			server.Proxy.Hook(nil)
			refusedBy(t, err, export.ErrUnavailable, c.hint)
			if len(got) >= len(text) {
				t.Errorf("%d bytes came", len(got))
			}
			if got, err := get(t, store, "w/one", ""); got != text || err != nil {
				t.Errorf("after another try: %d bytes, %v", len(got), err)
			}
		})
	}
	// A repeat whose comparison is cut off knows nothing, and says so.
	server.Proxy.Once(http.MethodGet, "w/one", s3test.Fault{Truncate: 5000})
	_, err := put(t, store, "w/one", text)
	refusedBy(t, err, export.ErrUnavailable, "broke off")
}

func TestS3ListFaults(t *testing.T) {
	server := s3test.Start(t)
	store := s3test.Open(t, server.ProxyOptions())
	mustPut(t, store, "w/one", "x")
	list := func() error { return store.List(t.Context(), "w/", "", func(string, int64) error { return nil }) }
	server.Proxy.Hook(func(*http.Request) s3test.Fault { return s3test.Fault{Status: 503, Code: "SlowDown"} })
	refusedBy(t, list(), export.ErrUnavailable, "503")
	server.Proxy.Hook(func(*http.Request) s3test.Fault { return s3test.Fault{Truncate: 60} })
	refusedBy(t, list(), export.ErrUnavailable, "broke off")
	server.Proxy.Hook(nil)
	if err := list(); err != nil {
		t.Error(err)
	}
}

func TestS3Down(t *testing.T) {
	server := s3test.Start(t)
	store := s3test.Open(t, server.Options())
	mustPut(t, store, "w/one", "x")
	server.Stop()
	_, err := put(t, store, "w/two", "x")
	refusedBy(t, err, export.ErrUnavailable, "connection refused")
	refusedBy(t, store.Check(t.Context()), export.ErrUnavailable, "connection refused")
	server.Restart()
	mustPut(t, store, "w/two", "x")
	if text, err := get(t, store, "w/one", ""); text != "x" || err != nil {
		t.Errorf("after the restart: %q, %v", text, err)
	}
}

func TestS3CheckSaysWhatIsWrong(t *testing.T) {
	server := s3test.Start(t)
	check := func(change func(*export.S3Options)) error {
		o := server.Options()
		change(&o)
		return s3test.Open(t, o).Check(t.Context())
	}
	refusedBy(t, check(func(o *export.S3Options) { o.Bucket = "missing" }), export.ErrRefused, "create it")
	server.MakeBucket("plain", false)
	refusedBy(t, check(func(o *export.S3Options) { o.Bucket = "plain" }), export.ErrRefused, "put-bucket-versioning")
	refusedBy(t, check(func(o *export.S3Options) { o.Endpoint = strings.Replace(o.Endpoint, "http:", "https:", 1) }), export.ErrRefused, "TLS")
	refusedBy(t, check(func(o *export.S3Options) { o.Region = "eu-west-9" }), export.ErrRefused, "region")

	// A store that ignores If-None-Match takes every PUT.
	server.Proxy.Hook(func(r *http.Request) s3test.Fault {
		if r.Method == http.MethodPut {
			return s3test.Fault{Status: http.StatusOK}
		}
		return s3test.Fault{}
	})
	refusedBy(t, s3test.Open(t, server.ProxyOptions()).Check(t.Context()), export.ErrRefused, "If-None-Match")
	server.Proxy.Hook(nil)

	server.WriteCredentials("octroi-test", "wrong")
	refusedBy(t, check(func(*export.S3Options) {}), export.ErrRefused, "aws_secret_access_key")
	server.WriteCredentials("someone", "wrong")
	refusedBy(t, check(func(*export.S3Options) {}), export.ErrRefused, "aws_access_key_id")
}

func TestS3OneRequestPerObject(t *testing.T) {
	server := s3test.Start(t)
	var headers http.Header
	server.Proxy.Hook(func(r *http.Request) s3test.Fault { headers = r.Header.Clone(); return s3test.Fault{} })
	mustPut(t, s3test.Open(t, server.ProxyOptions()), "w/large", strings.Repeat("x", 17<<20)) // minio-go would begin a multipart upload
	if got := server.Proxy.Requests(); !slices.Equal(got, []s3test.Request{{Method: http.MethodPut, Key: "w/large", Kind: s3test.Put}}) {
		t.Errorf("requests: %+v", got)
	}
	sum := sha256.Sum256([]byte(strings.Repeat("x", 17<<20)))
	for name, want := range map[string]string{
		"If-None-Match": "*", "X-Amz-Content-Sha256": hexOf(sum[:]), "X-Amz-Checksum-Sha256": base64Of(sum[:]),
	} {
		if got := headers.Get(name); got != want {
			t.Errorf("%s: %q instead of %q", name, got, want)
		}
	}
}

func TestS3OptionsAreChecked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(text string, mode os.FileMode) export.S3Options {
		os.Remove(file)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return export.S3Options{Endpoint: "http://127.0.0.1:1", Bucket: "b", Credentials: file}
	}
	const good = "# ours\n[default]\naws_access_key_id = octroi-test\naws_secret_access_key=SECRET\n\naws_session_token = SECRET\n"
	if _, err := export.OpenS3(write(good, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		options export.S3Options
		hint    string
	}{
		{write(good, 0o644), "chmod 600"},
	} {
		_, err := export.OpenS3(c.options)
		refusedBy(t, err, export.ErrRefused, c.hint)
	}
	for text, hint := range map[string]string{
		"aws_access_key_id = octroi-test\n": "is missing",
		"":                                  "is missing",
		"aws_access_key_id = octroi-test\nSECRET\n":                        "line 2",
		"aws_access_key_id = a\naws_access_key_id = SECRET\n":              "line 2",
		"[one]\naws_access_key_id = octroi-test\n[two]\n":                  "line 3",
		"aws_access_key_id =\naws_secret_access_key = SECRET\n":            "line 1",
		"aws_access_key_id = octroi-test\nsecret_access_key = SECRET\n":    "line 2",
		"aws_access_key_id = octroi-test\naws_secret_access_key: SECRET\n": "line 2",
	} {
		_, err := export.OpenS3(write(text, 0o600))
		refusedBy(t, err, export.ErrRefused, hint)
	}
	_, err := export.OpenS3(export.S3Options{Endpoint: "http://127.0.0.1:1", Bucket: "b", Credentials: file + "-none"})
	refusedBy(t, err, export.ErrRefused, "no such file")
	for _, endpoint := range []string{"", "127.0.0.1:1", "ftp://host", "https://user:SECRET@host", "https://host/path", "https://host?x=1"} {
		o := write(good, 0o600)
		o.Endpoint = endpoint
		_, err := export.OpenS3(o)
		refusedBy(t, err, export.ErrRefused, "endpoint")
	}
	o := write(good, 0o600)
	o.CA = file
	_, err = export.OpenS3(o)
	refusedBy(t, err, export.ErrRefused, "PEM")
}
