package tag

import (
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// Register serves the scripts. Any page may load them (CORS *: integrity is checked only on what may be read); they hold nothing of anybody.
func Register(r fiber.Router) error {
	tag, banner, err := Scripts()
	if err != nil {
		return err
	}
	for _, s := range []*Script{&tag, &banner} {
		r.Get(s.Path(), s.serve("public, max-age=3600"))
		r.Get(s.VersionedPath(), s.serve("public, max-age=31536000, immutable"))
	}
	return nil
}

// serve answers with the script, 304 to whoever has it already.
func (s *Script) serve(cache string) fiber.Handler {
	etag := `"` + s.Version + `"`
	return func(f *fiber.Ctx) error {
		f.Set(fiber.HeaderAccessControlAllowOrigin, "*")
		f.Set("Cross-Origin-Resource-Policy", "cross-origin") // for pages that isolate themselves by COEP
		f.Set(fiber.HeaderCacheControl, cache)
		f.Set(fiber.HeaderETag, etag)
		f.Set(fiber.HeaderVary, fiber.HeaderAcceptEncoding)
		f.Set(fiber.HeaderXContentTypeOptions, "nosniff")
		if matches(f.Get(fiber.HeaderIfNoneMatch), etag) {
			return f.SendStatus(http.StatusNotModified)
		}
		f.Set(fiber.HeaderContentType, "text/javascript; charset=utf-8") // RFC 9239
		body := s.Body
		if f.Get(fiber.HeaderAcceptEncoding) != "" && f.AcceptsEncodings("gzip") != "" {
			f.Set(fiber.HeaderContentEncoding, "gzip")
			body = s.Gzip
		}
		f.Response().SetBodyRaw(body)
		return nil
	}
}

// matches says whether a list of validators has etag, compared weakly (RFC 9110 section 13.1.2): a proxy that compresses anew makes W/ of it.
func matches(list, etag string) bool {
	for x := range strings.SplitSeq(list, ",") {
		if x = strings.TrimSpace(x); x == "*" || strings.TrimPrefix(x, "W/") == etag {
			return true
		}
	}
	return false
}
