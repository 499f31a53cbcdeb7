package pseudonymize

import (
	"net/url"
	"strings"
	"testing"

	"github.com/octroi/octroi/policies"
)

func TestTreat(t *testing.T) {
	for _, c := range []struct {
		treatment  policies.Treatment
		text, want string
	}{
		{policies.Keep, "spring", "spring"},
		{policies.Drop, "spring", ""},
		{"", "spring", ""},
		{"unheard_of", "spring", ""},
		{policies.URLPath, "https://shop.example/p/1?gclid=x#top", "https://shop.example/p/1"},
		{policies.URLPath, "https://user:secret@shop.example/p", "https://shop.example/p"},
		{policies.URLPath, "/p/1?mail=a@b.example", "/p/1"},
		{policies.URLPath, "javascript:alert(1)", ""},
		{policies.URLPath, "mailto:a@b.example", ""},
		{policies.URLPath, "//other.example/x", ""},
		{policies.URLPath, "%zz", ""},
		{policies.TruncateIP, "203.0.113.77", "203.0.113.0/24"},
		{policies.TruncateIP, "::ffff:203.0.113.77", "203.0.113.0/24"},
		{policies.TruncateIP, "2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"},
		{policies.TruncateIP, "fe80::1%eth0", "fe80::/48"},
		{policies.TruncateIP, "203.0.113.77, 10.0.0.1", ""},
		{policies.TruncateIP, "203.0.113.0/24", "203.0.113.0/24"},
		{policies.TruncateIP, "2001:db8:1::/48", "2001:db8:1::/48"},
		{policies.TruncateIP, "203.0.113.77/24", ""},
		{policies.TruncateIP, "203.0.113.77/32", ""},
		{policies.TruncateIP, "2001:db8:1:2::/64", ""},
		{policies.TruncateIP, "2001::/24", ""},
		{policies.TruncateIP, "16.0.0.0/8", ""},
		{policies.URLPath, "http://", ""},
		{policies.URLPath, "https:///p", ""},
		{policies.UAFamily, "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/150.0 Safari/537.36", "Chrome"},
		{policies.UAFamily, "Mozilla/5.0 Chrome/150.0 Safari/537.36 Edg/150.0", "Edge"},
		{policies.UAFamily, "Mozilla/5.0 (iPhone) Version/17 Safari/605", "Safari"},
		{policies.UAFamily, "my-secret-agent/1", "other"},
		{policies.UAFamily, "Googlebot/2.1", "bot"},
		{policies.UAFamily, "Mozilla/5.0 (Linux; Android 15) SamsungBrowser/28.0 Chrome/130.0 Mobile Safari/537.36", "Samsung Internet"},
		{policies.Pseudonymise, "A-1001", ""},
		{policies.Pseudonymise, "p1:00112233445566778899aabbccddeeff", "p1:00112233445566778899aabbccddeeff"},
		{policies.Pseudonymise, "p1:00112233445566778899AABBCCDDEEFF", ""},
		{policies.Pseudonymise, "p1:00112233445566778899aabbccddeef", ""},
		{policies.Pseudonymise, "p1:00112233445566778899aabbccddeeff0", ""},
		{policies.Pseudonymise, "p2:00112233445566778899aabbccddeeff", ""},
		{policies.Pseudonymise, "00112233445566778899aabbccddeeff", ""},
		{policies.Round, "4.65", "4.7"},
		{policies.Round, "4 stars", ""},
		{policies.UAFamily, "Samsung Internet", "Samsung Internet"},
		{policies.UAFamily, "other", "other"},
	} {
		if got := Treat(c.treatment, c.text); got != c.want {
			t.Errorf("%s of %q: %q, want %q", c.treatment, c.text, got, c.want)
		}
	}
}

// FuzzTreatAgain: a treatment of what it has treated changes nothing. Rows that lose a purpose rest on that.
func FuzzTreatAgain(f *testing.F) {
	for _, text := range []string{
		"https://u:p@h.example:80/a%2Fb?c#d", "HTTP://H.example", "/p/ä b;c?d", "///p", "http://[::1%25en0]/", "http://h\xff/%FF",
		"203.0.113.77", "::ffff:1.2.3.4", "fe80::1%eth0", "Mozilla/5.0 SamsungBrowser/28.0 Safari/537.36", "OPR/1", "my agent", "-4.650", "99.99", "p1:00112233445566778899aabbccddeeff",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, treatment := range []policies.Treatment{policies.Keep, policies.URLPath, policies.UAFamily, policies.TruncateIP, policies.Round, policies.Pseudonymise, policies.Drop} {
			once := Treat(treatment, text)
			if again := Treat(treatment, once); again != once {
				t.Errorf("%s of %q is %q, and of that %q", treatment, text, once, again)
			}
		}
	})
}

func FuzzURLPath(f *testing.F) {
	f.Add("https://u:p@h.example/a?b#c")
	f.Add("//x/?")
	f.Fuzz(func(t *testing.T, text string) {
		got := URLPath(text)
		if strings.ContainsAny(got, "?#") || (strings.HasPrefix(got, "http") && strings.Contains(strings.SplitN(got, "/", 4)[min(2, strings.Count(got, "/"))], "@")) {
			t.Fatalf("%q became %q", text, got)
		}
	})
}

// FuzzPlainURL: the short way gives what url.Parse gives.
func FuzzPlainURL(f *testing.F) {
	f.Add("https://shop.example/p/1")
	f.Add("http://a_b.example//x/~y")
	f.Fuzz(func(t *testing.T, text string) {
		cut, ok := plainURL(text)
		if !ok {
			return
		}
		if u, err := url.Parse(cut); err != nil || u.String() != cut || u.User != nil || u.RawQuery != "" || !strings.HasPrefix(text, cut) {
			t.Fatalf("%q is not plain: %v", text, err)
		}
		if rest := text[len(cut):]; rest != "" && rest[0] != '?' && rest[0] != '#' {
			t.Fatalf("%q was cut to %q", text, cut)
		}
	})
}

func FuzzTruncateIP(f *testing.F) {
	f.Add("203.0.113.77")
	f.Add("2001:db8::1")
	f.Fuzz(func(t *testing.T, text string) {
		if got := TruncateIP(text); got != "" && !strings.HasSuffix(got, "/24") && !strings.HasSuffix(got, "/48") {
			t.Fatalf("%q became %q", text, got)
		}
	})
}
