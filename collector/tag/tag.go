// Package tag is the two scripts that a site puts on its pages: tag.js, which sends a person's choice, and events once there is one, and banner.js, which
// asks for the choice where the site has no banner of its own. They are plain JavaScript without a build step: what stands in the files is what is
// served, without the lines that are comments alone.
//
// Scripts makes them ready to serve, Register (http.go) serves each at two addresses:
//
//	/v1/tag.js            the gateway's own version, kept for an hour
//	/v1/tag-<version>.js  that version for ever, for a page that pins it by its Integrity (W3C Subresource Integrity); the version is of the content
//
// A gateway serves one version: a page that pins another gets 404, runs without the tag, and sends nothing.
package tag

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

//go:embed tag.js
var tagSource []byte

//go:embed banner.js
var bannerSource []byte

// Stub stands in a page before the scripts: it keeps the calls that are made until tag.js has come.
const Stub = `window.octroi=window.octroi||function(){(octroi.q=octroi.q||[]).push(arguments)}`

// Script is one of the two. Its slices are shared and read-only.
type Script struct {
	Name      string // "tag" or "banner"
	Body      []byte // as served
	Gzip      []byte // Body, compressed
	Version   string // of Body: the beginning of its SHA-256
	Integrity string // of Body, for the attribute integrity
}

// Scripts are tag.js and banner.js.
func Scripts() (tag, banner Script, err error) {
	if tag, err = newScript("tag", tagSource); err != nil {
		return tag, banner, err
	}
	banner, err = newScript("banner", bannerSource)
	return tag, banner, err
}

// Path is where the gateway's own version is served.
func (s *Script) Path() string { return "/v1/" + s.Name + ".js" }

// VersionedPath is where this version is served, and nothing else ever.
func (s *Script) VersionedPath() string { return "/v1/" + s.Name + "-" + s.Version + ".js" }

func newScript(name string, source []byte) (Script, error) {
	body := withoutComments(source)
	short, long := sha256.Sum256(body), sha512.Sum384(body)
	s := Script{
		Name: name, Body: body, Version: hex.EncodeToString(short[:6]),
		Integrity: "sha384-" + base64.StdEncoding.EncodeToString(long[:]),
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return Script{}, fmt.Errorf("compressing %s.js: %w", name, err)
	}
	s.Gzip = b.Bytes()
	return s, nil
}

// withoutComments drops the lines that hold nothing but a comment. The scripts have no text of several lines in which such a line could mean
// something else; a test holds them to that.
func withoutComments(source []byte) []byte {
	var out []byte
	for line := range bytes.Lines(source) {
		if !bytes.HasPrefix(bytes.TrimLeft(line, " "), []byte("//")) {
			out = append(out, line...)
		}
	}
	return out
}
