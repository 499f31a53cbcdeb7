package pseudonymize

import (
	"bytes"
	"net/netip"
	"net/url"
	"strings"

	"github.com/octroi/octroi/policies"
)

// Treat is text after a treatment; empty where nothing may be kept, which is also the answer for a treatment that is not known. To treat again what is
// treated changes nothing: a row that loses a purpose has its fields treated a second time, as those that stay allow (export.Cut). Whoever does that has
// no key, so of Pseudonymise it keeps what has the form of its result and drops all else; the result itself only Apply and Project make.
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
	case policies.Round:
		return Round(text)
	case policies.Pseudonymise:
		if Pseudonymised(text) {
			return text
		}
	}
	return ""
}

// URLPath is an http(s) or relative URL without user, query and fragment (consent.md C9); empty where text is neither.
func URLPath(text string) string {
	if plain, ok := plainURL(text); ok {
		return plain
	}
	if i := strings.IndexAny(text, "?#"); i >= 0 {
		text = text[:i]
	}
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" {
		return ""
	}
	switch u.Scheme {
	case "http", "https":
		if u.Host == "" {
			return ""
		}
		u.User = nil
		return u.String()
	case "":
		if u.Host == "" && strings.HasPrefix(u.Path, "/") {
			return u.EscapedPath()
		}
	}
	return ""
}

// plainURL cuts the URLs that nearly every event has: http(s), a host name without user or port, and a path in which nothing needs
// escaping. url.Parse would give the rest back unchanged, for five times the work.
func plainURL(text string) (cut string, ok bool) {
	const web, secure = "http://", "https://"
	i := len(web)
	switch {
	case strings.HasPrefix(text, secure):
		i = len(secure)
	case !strings.HasPrefix(text, web):
		return "", false
	}
	if i == len(text) || !plainByte(text[i]) || text[i] == '/' {
		return "", false
	}
	for ; i < len(text) && plainByte(text[i]); i++ {
	}
	if i < len(text) && text[i] != '?' && text[i] != '#' {
		return "", false
	}
	return text[:i], true
}

func plainByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '/' || c == '_' || c == '~'
}

// TruncateIP is the network of an address: /24 of IPv4, /48 of IPv6 (C9: never a whole address); empty where text is no address.
func TruncateIP(text string) string {
	a, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil {
		return truncated(text)
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

// truncated is text where it is such a network already, as the collector cuts an address once for all events of a request.
func truncated(text string) string {
	p, err := netip.ParsePrefix(text)
	if err != nil || p != p.Masked() || p.Addr().Is4() != (p.Bits() == 24) || p.Addr().Is6() != (p.Bits() == 48) {
		return ""
	}
	return text
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

// UAFamily is the family of a User-Agent, without version or device (C9): one of a closed list, "other" beyond it, empty for none. The name of a
// family is that family.
func UAFamily(text string) string {
	if text == "" {
		return ""
	}
	for i := range uaFamilies { // a family's name need not hold the mark it is known by
		if text == uaFamilies[i].family {
			return text
		}
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
