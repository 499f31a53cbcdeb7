package collector

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/collector/wire/native"
)

// The errors of reading a body.
var (
	errMedia    = errors.New("media type is not application/json, text/plain or application/x-ndjson in UTF-8")
	errEncoding = errors.New("content encoding is not gzip")
	errGzip     = errors.New("body is not gzip")
	errBomb     = errors.New("body is too large once decompressed")
)

// form is the layout that a content type allows. The two usual spellings are not parsed.
func form(contentType string) (native.Form, error) {
	switch contentType {
	case "application/json":
		return native.Document, nil
	case "text/plain;charset=UTF-8": // what browsers make of a string
		return native.Either, nil
	}
	media, parameters, err := mime.ParseMediaType(contentType)
	if err != nil {
		return 0, errMedia
	}
	if charset, ok := parameters["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return 0, errMedia
	}
	switch media {
	case "application/json":
		return native.Document, nil
	case "text/plain":
		return native.Either, nil
	case "application/x-ndjson":
		return native.Lines, nil
	}
	return 0, errMedia
}

// plain is the body as text: a copy, since the server reuses its buffers, decompressed within limits.
func plain(body []byte, encoding string) (string, error) {
	switch {
	case encoding == "" || strings.EqualFold(encoding, "identity"):
		return string(body), nil
	case strings.EqualFold(encoding, "gzip"):
		return gunzip(body)
	}
	return "", errEncoding
}

// gunzipper is what decompression reuses.
type gunzipper struct {
	r   gzip.Reader
	out bytes.Buffer
	buf [16 << 10]byte
}

var gunzippers = sync.Pool{New: func() any { return new(gunzipper) }}

// gunzip stops at wire.MaxPlain, and at wire.MaxRatio times the body once more than wire.FreeRatio came out: deflate makes a
// thousand bytes of one, and no honest batch of events does.
func gunzip(body []byte) (string, error) {
	limit := min(wire.MaxPlain, max(wire.FreeRatio, wire.MaxRatio*len(body)))
	g := gunzippers.Get().(*gunzipper)
	defer func() {
		clear(g.out.Bytes())
		if g.out.Reset(); g.out.Cap() <= wire.FreeRatio {
			gunzippers.Put(g)
		}
	}()
	if err := g.r.Reset(bytes.NewReader(body)); err != nil {
		return "", errGzip
	}
	for {
		n, err := g.r.Read(g.buf[:])
		g.out.Write(g.buf[:n])
		switch {
		case g.out.Len() > limit:
			return "", errBomb
		case err == io.EOF:
			return g.out.String(), nil
		case err != nil:
			return "", errGzip
		}
	}
}
