package s3test_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/s3test"
)

// The log tells what each call of a store asks of the server, and of which objects.
func TestRequests(t *testing.T) {
	server := s3test.Start(t)
	store := s3test.Open(t, server.ProxyOptions())
	version, err := store.Put(t.Context(), "w/one", strings.NewReader("x"), 1, sha256.Sum256([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	server.BeginUpload("w/one", "part") // not by the proxy
	for name, c := range map[string]struct {
		call func() error
		want []string
	}{
		"get": {func() error {
			r, err := store.Get(t.Context(), "w/one", version)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, r)
			return err
		}, []string{"get w/one " + version}},
		"list": {func() error { return store.List(t.Context(), "w/", "", func(string, int64) error { return nil }) }, []string{"list  "}},
		"versions": {func() error {
			return store.Versions(t.Context(), "w/", func(export.ObjectVersion) error { return nil })
		}, []string{"versions  "}},
		"uploads": {func() error { _, err := store.AbortUploads(t.Context(), "w/one"); return err }, []string{"uploads  ", "abort w/one "}},
		"lock":    {func() error { _, err := store.Lock(t.Context()); return err }, []string{"setting  "}},
		"check":   {func() error { return store.Check(t.Context()) }, []string{"setting  ", "setting  ", "put octroi-check/write ", "put octroi-check/write "}},
	} {
		server.Proxy.Forget()
		if err := c.call(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := asked(server.Proxy); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	server.Proxy.Forget()
	server.SetLock(server.Bucket, export.Governance, 1)
	if err := store.DeleteVersion(t.Context(), "w/one", version); err != nil {
		t.Fatal(err)
	}
	if got, want := asked(server.Proxy), []string{"delete w/one " + version, "delete w/one " + version}; !slices.Equal(got, want) {
		t.Errorf("delete under GOVERNANCE: %q, want %q", got, want)
	}
}

func asked(p *s3test.Proxy) (lines []string) {
	for _, r := range p.Requests() {
		lines = append(lines, fmt.Sprintf("%s %s %s", r.Kind, r.Key, r.Version))
	}
	return lines
}
