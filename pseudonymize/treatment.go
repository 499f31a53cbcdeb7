package pseudonymize

import (
	"bytes"
	"net/netip"
	"net/url"
	"strings"

	"github.com/octroi/octroi/policies"
)

// Treat is text after a treatment; empty where nothing may be kept, which is also the answer for a treatment that is not known.
func Treat(t policies.Treatment, text string) string {
	switch t {
	case policies.Keep:
		return text
	case policies.URLPath:
		return URLPath(text)
	case policies.TruncateIP:
		return TruncateIP(text)
	case policies.UAFamily:
		return UAFamily(text)
	}
	return ""
}

// URLPath is an http(s) or relative URL without user, query and fragment (consent.md C9); empty where text is neither.
func URLPath(text string) string {
	if i := strings.IndexAny(text, "?#"); i >= 0 {
		text = text[:i]
	}
	if plainURL(text) {
		return text
	}
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" {
		return ""
	}
	switch u.Scheme {
	case "http", "https":
		u.User = nil
		return u.String()
	case "":
		if u.Host == "" && strings.HasPrefix(u.Path, "/") {
			return u.EscapedPath()
		}
	}
	return ""
}

// plainURL is true for the URLs that nearly every event has: http(s), a host name without user or port, and a path in which nothing needs
// escaping. url.Parse would give them back unchanged, for five times the work.
func plainURL(text string) bool {
	rest, ok := strings.CutPrefix(text, "https://")
	if !ok {
		if rest, ok = strings.CutPrefix(text, "http://"); !ok {
			return false
		}
	}
	if rest == "" || rest[0] == '/' {
		return false
	}
	for i := range len(rest) {
		switch c := rest[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '/', c == '_', c == '~':
		default:
			return false
		}
	}
	return true
}

// TruncateIP is the network of an address: /24 of IPv4, /48 of IPv6 (C9: never a whole address); empty where text is no address.
func TruncateIP(text string) string {
	a, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil {
		return ""
	}
	a = a.Unmap().WithZone("")
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return ""
	}
	return string(p.AppendTo(make([]byte, 0, len("ffff:ffff:ffff::/48"))))
}

// uaFamilies maps a mark in a User-Agent to its family, most specific first: Edge and Opera also say Chrome, Chrome also says Safari.
var uaFamilies = [...]struct{ mark, family string }{
	{"bot", "bot"},
	{"crawl", "bot"},
	{"spider", "bot"},
	{"edg", "Edge"},
	{"opr/", "Opera"},
	{"opera", "Opera"},
	{"samsungbrowser", "Samsung Internet"},
	{"fxios", "Firefox"},
	{"firefox", "Firefox"},
	{"crios", "Chrome"},
	{"chrome", "Chrome"},
	{"chromium", "Chrome"},
	{"safari", "Safari"},
}

// UAFamily is the family of a User-Agent, without version or device (C9): one of a closed list, "other" beyond it, empty for none.
func UAFamily(text string) string {
	if text == "" {
		return ""
	}
	var buf [512]byte // no allocation for what browsers send
	lower := buf[:0]
	for i := range min(len(text), len(buf)) {
		c := text[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower = append(lower, c)
	}
	for i := range uaFamilies {
		if bytes.Contains(lower, []byte(uaFamilies[i].mark)) {
			return uaFamilies[i].family
		}
	}
	return "other"
}
