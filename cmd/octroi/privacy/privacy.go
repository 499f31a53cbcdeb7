// Package privacy serves the pages on which a person sees what was agreed to, takes it back, and uses the rights of access and erasure: /privacy on
// the public listener.
//
// Who a person is, the cookie of the browser says, or the code of one request (rights.md D5); the pages work without a script, in French and in
// English, and are recorded as they were shown: a consent given here carries the snapshot of the text beside its button (consent.md C4). What is
// guaranteed:
//
//   - A GET changes nothing. What changes something is a POST of a page of this origin, with a token that belongs to this very cookie.
//   - Nothing that a browser or a proxy writes down holds what proves who somebody is: codes come in bodies, and go in a cookie of half an hour that is
//     sent to /privacy alone.
//   - Pages load nothing, run nothing, are kept by no cache and shown in no frame; what they show is bounded, and escaped where it stands.
//   - Whoever has no cookie is told so, and by whom to be found (D14), and can refuse: nobody is made of that (C8).
//
// Open makes the pages, Routes adds them.
package privacy

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"time"

	"github.com/octroi/octroi/collector"
	"github.com/octroi/octroi/consent"
	"github.com/octroi/octroi/export/rights"
	"github.com/octroi/octroi/policies"
)

// Options configure Open. All but Keys, Log and Now are needed.
type Options struct {
	Edge     *collector.Collector
	Ledger   *consent.Ledger
	Rights   *rights.Requests
	Policy   *policies.Policy
	Sites    []collector.Site
	Secret   []byte      // 32 bytes: the keys of the pages' tokens are derived from it
	Keys     []PublicKey // what receipts and certificates are verified with, for download
	Loopback bool        // http on a loopback address: cookies are not Secure
	Log      *slog.Logger
	Now      func() time.Time
}

// PublicKey is a file that `octroi verify` reads.
type PublicKey struct {
	Name string // log.key.pub
	Text string
}

// Pages are the pages. Safe for concurrent use.
type Pages struct {
	o      Options
	keys   map[string]*collector.Site // by site key
	seal   []byte                     // of tokens and marks
	layout *template.Template
	words  map[string]*words // by language
	policy string            // Content-Security-Policy
}

var errOptions = errors.New("the privacy page lacks a part of the gateway")

// Open reads what the pages are made of.
func Open(o Options) (*Pages, error) {
	if o.Edge == nil || o.Ledger == nil || o.Rights == nil || o.Policy == nil || len(o.Sites) == 0 || len(o.Secret) != sha256.Size {
		return nil, errOptions
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Pages{o: o, keys: make(map[string]*collector.Site, len(o.Sites))}
	for i := range o.Sites {
		p.keys[o.Sites[i].Key] = &o.Sites[i]
	}
	var err error
	if p.seal, err = hkdf.Key(sha256.New, o.Secret, nil, "octroi privacy page v1", sha256.Size); err != nil {
		return nil, fmt.Errorf("deriving key of the privacy page: %w", err)
	}
	if p.words, err = readWords(); err != nil {
		return nil, err
	}
	if p.layout, p.policy, err = readLayout(); err != nil {
		return nil, err
	}
	return p, nil
}
