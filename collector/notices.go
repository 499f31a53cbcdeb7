package collector

import (
	"fmt"
	"net/http"
	"strings"
)

// getNotice is what a banner shows, with the signed snapshot that a choice hands back (C4). Nobody is recorded (C8).
func (c *Collector) getNotice(r *request) (reply, error) {
	site := c.keys[r.key]
	if site == nil {
		return reply{}, errKey
	}
	if err := c.sameOrigin(r, site); err != nil {
		return reply{}, err
	}
	language := strings.Clone(cut(r.query("language"), 35)) // BCP 47: RFC 5646 section 4.4.1
	if language == "" {
		language = site.Language
	}
	served, err := c.o.Ledger.Snapshot(site.ledger, language)
	if err != nil {
		return reply{}, fmt.Errorf("serving notice: %w", err)
	}
	c.tally.notice(site)
	return jsonReply(http.StatusOK, served)
}

// getNoticeText is a published text byte for byte, for as long as a record names it (C3).
func (c *Collector) getNoticeText(r *request) (reply, error) {
	if !isHash(r.parameter) {
		return reply{}, errNotFound
	}
	hash := strings.Clone(r.parameter)
	n, err := c.o.Ledger.NoticeText(hash)
	if err != nil {
		return reply{}, noText(err)
	}
	return reply{
		status: http.StatusOK, media: "text/plain; charset=utf-8", body: []byte(n.Text), language: n.Language, etag: `"` + hash + `"`, public: true,
	}, nil
}

// noText makes of a hash that no notice has a 404: here it is the address, not a claim.
func noText(err error) error {
	if problemOf(err).Code == "notice" {
		return errNotFound
	}
	return fmt.Errorf("reading notice: %w", err)
}

func isHash(s string) bool {
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'f') {
			return false
		}
	}
	return len(s) == 64
}

// getKeys is the key that receipts are checked with (C11).
func (c *Collector) getKeys(*request) (reply, error) {
	return reply{status: http.StatusOK, media: "application/jwk-set+json", body: c.jwks}, nil
}
