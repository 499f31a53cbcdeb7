package main

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"net"
	"net/url"
	"strings"

	"github.com/octroi/octroi/collector/tag"
	"github.com/spf13/cobra"
	"golang.org/x/net/publicsuffix"
)

// snippet is what `octroi snippet` is asked for.
type snippet struct {
	path, site, url string
	banner, latest  bool
}

func newSnippetCommand() *cobra.Command {
	var s snippet
	cmd := &cobra.Command{
		Use:   "snippet",
		Short: "print the lines that put the tag on a site's pages",
		Long: `Prints the HTML to paste into the <head> of every page of a site, with the lines that a
Content-Security-Policy needs. All of it may be pasted: what is not HTML stands in comments.

The addresses hold the version of the scripts, and integrity makes browsers refuse anything
else. A gateway serves one version: print the snippet again after an upgrade that says so, or
take --latest, which follows the gateway and pins nothing.

The gateway must be of the site's own domain (octroi.shop.example for www.shop.example), or
browsers send it no cookie, and nobody's choice is known.`,
		Example: `  octroi snippet --url https://octroi.shop.example
  octroi snippet --url https://octroi.shop.example --site shop --banner=false   the site has a banner
  octroi snippet --config gateway/octroi.yaml                                   on this machine`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := ReadConfig(s.path)
			if err != nil {
				return err
			}
			return s.print(cmd.OutOrStdout(), c)
		},
	}
	configFlag(cmd, &s.path)
	f := cmd.Flags()
	f.StringVar(&s.site, "site", "", "name of the site (default: the only one)")
	f.StringVar(&s.url, "url", "", "address of the public listener, as browsers reach it (default: that of the configuration, where it is loopback)")
	f.BoolVar(&s.banner, "banner", true, "with the banner; a site that has its own calls octroi(\"consent\", …)")
	f.BoolVar(&s.latest, "latest", false, "follow the gateway's version, without integrity")
	return cmd
}

func (s *snippet) print(w io.Writer, c *Config) error {
	site, err := s.find(c)
	if err != nil {
		return usageError{err}
	}
	gate, err := s.gate(c)
	if err != nil {
		return usageError{err}
	}
	one, two, err := tag.Scripts()
	if err != nil {
		return err
	}
	stub := sha256.Sum256([]byte(tag.Stub))
	fmt.Fprintf(w, "<!-- Octroi, site %s: in the <head> of every page -->\n", site.Name)
	fmt.Fprintf(w, "<script>%s</script>\n", tag.Stub)
	fmt.Fprintf(w, "<script async %s data-key=\"%s\"></script>\n", s.source(gate, &one), html.EscapeString(site.Key))
	if s.banner {
		fmt.Fprintf(w, "<script async %s></script>\n", s.source(gate, &two))
	}
	fmt.Fprintf(w, `
<!-- at the foot of every page: opens the choices again, which must be as easy as to have made them (GDPR Art. 7(3)) -->
<a href="%s/privacy" data-octroi-choices>My choices</a>

<!-- Content-Security-Policy, where the site has one; no style-src is needed:
     script-src %s 'sha256-%s';
     connect-src %s;
-->
`, gate, gate, base64.StdEncoding.EncodeToString(stub[:]), gate)
	for _, origin := range site.Origins {
		if !sameSite(gate, origin) {
			fmt.Fprintf(w, "<!-- beware: to a page of %s this gateway is another site's; browsers will send it no cookie -->\n", origin)
		}
	}
	return nil
}

func (s *snippet) source(gate string, x *tag.Script) string {
	if s.latest {
		return fmt.Sprintf(`src="%s%s"`, gate, x.Path())
	}
	return fmt.Sprintf(`src="%s%s" integrity="%s" crossorigin="anonymous"`, gate, x.VersionedPath(), x.Integrity)
}

func (s *snippet) find(c *Config) (SiteConfig, error) {
	var names []string
	for _, x := range c.Sites {
		if x.Name == s.site || s.site == "" && len(c.Sites) == 1 {
			return x, nil
		}
		names = append(names, x.Name)
	}
	return SiteConfig{}, fmt.Errorf("name one of the configured sites with --site: %s", strings.Join(names, ", "))
}

// gate is the origin of the public listener, as browsers reach it.
func (s *snippet) gate(c *Config) (string, error) {
	if s.url == "" {
		if !isLoopback(c.Listen.Public) {
			return "", fmt.Errorf("name the public listener as browsers reach it with --url, such as https://octroi.shop.example")
		}
		return "http://" + c.Listen.Public, nil
	}
	u, err := url.Parse(strings.TrimSuffix(s.url, "/"))
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.Opaque != "" ||
		u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(net.JoinHostPort(u.Hostname(), "80"))) {
		return "", fmt.Errorf("--url is not https://host[:port]")
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

// sameSite says whether a page of origin is of the same site as the gateway, so that a SameSite cookie goes along (RFC 6265bis section 5.2).
func sameSite(gate, origin string) bool {
	a, errA := url.Parse(gate)
	b, errB := url.Parse(origin)
	if errA != nil || errB != nil || a.Scheme != b.Scheme {
		return false
	}
	if a.Hostname() == b.Hostname() {
		return true
	}
	x, errX := publicsuffix.EffectiveTLDPlusOne(a.Hostname())
	y, errY := publicsuffix.EffectiveTLDPlusOne(b.Hostname())
	return errX == nil && errY == nil && x == y && net.ParseIP(a.Hostname()) == nil
}
