package proof

import (
	"cmp"
	"crypto/ed25519"
	"strings"
	"time"

	"github.com/octroi/octroi/export"
)

// Rewrite is the custodian's report of one rewritten batch. One that takes nothing out of the batch and states a new object encrypts the same
// rows to other recipients (octroi-custodian rewrap).
type Rewrite struct {
	Version    int            `json:"v"` // 1
	Batch      string         `json:"batch"`
	Generation int            `json:"generation"`    // claimed; 0 where nothing was put
	Before     string         `json:"before"`        // SHA-256 of the object that was read, hex
	Scanned    int            `json:"scanned"`       // rows
	Cut        map[string]Cut `json:"cut,omitempty"` // by request: every one whose job was carried out here, also where it met no row
	Now        *export.Batch  `json:"now,omitempty"` // none: no row is left, or unchanged
	Unchanged  bool           `json:"unchanged"`     // no row was concerned: nothing was put
	At         time.Time      `json:"at"`
}

// Cut counts what one job took out of one batch.
type Cut struct {
	Erased  int `json:"erased"`  // rows that are gone
	Reduced int `json:"reduced"` // rows that lost a purpose
}

func (r *Rewrite) check() error {
	err := all(
		field{"v", r.Version == 1}, field{"batch", batchID.MatchString(r.Batch)}, field{"before", digest.MatchString(r.Before)},
		field{"scanned", r.Scanned > 0 && count(r.Scanned)}, field{"cut", len(r.Cut) <= maxRequests}, field{"at", whole(r.At, time.Millisecond)},
		field{"generation", r.Generation == 0 && r.Unchanged || r.Generation > 1 && count(r.Generation) && !r.Unchanged},
		field{"now", r.Now == nil || !r.Unchanged && r.Now.ID == r.Batch},
	)
	if err != nil {
		return err
	}
	if r.Now != nil {
		if err := checkBatch(r.Now); err != nil {
			return err
		}
	}
	return r.checkRows()
}

// checkRows: the rows that are gone are those that the jobs took, of which two may have met the same.
func (r *Rewrite) checkRows() error {
	gone := r.Scanned
	switch {
	case r.Unchanged:
		gone = 0
	case r.Now != nil:
		gone = r.Scanned - r.Now.Rows
	}
	erased := 0
	for request, cut := range r.Cut {
		switch {
		case !requestID.MatchString(request):
			return malformed("request of a cut")
		case !count(cut.Erased) || !count(cut.Reduced) || cut.Erased > gone || cut.Reduced > r.Scanned-cut.Erased:
			return malformed("rows of a cut")
		case r.Unchanged && cut != Cut{}:
			return malformed("rows of a cut where nothing changed")
		}
		erased += cut.Erased
	}
	if gone < 0 || gone > erased {
		return malformed("rows that are gone")
	}
	return nil
}

// checkBatch bounds what a report says of a new object; the gateway compares it with the object and the batch.
func checkBatch(b *export.Batch) error {
	return all(
		field{"now.id", batchID.MatchString(b.ID)}, field{"now.key", isKey(b.Key)}, field{"now.version", isVersion(b.Version)},
		field{"now.sha256", digest.MatchString(b.SHA256)}, field{"now.size", b.Size > 0 && b.Size <= maxCount},
		field{"now.rows", b.Rows > 0 && count(b.Rows)}, field{"now.from", whole(b.From, time.Millisecond)},
		field{"now.to", whole(b.To, time.Millisecond) && !b.To.Before(b.From)},
		field{"now.purposes", len(b.Purposes) > 0 && set(b.Purposes, name, maxPurposes)}, field{"now.policy", digest.MatchString(b.PolicyHash)},
		field{"now.recipients", checkRecipients(b.Recipients)}, field{"now.schema", b.Schema != "" && plain(b.Schema)},
	)
}

// checkRecipients: the destination's comes first, so they are in no order of their own.
func checkRecipients(list []string) bool {
	seen := map[string]bool{}
	for _, r := range list {
		if !recipient.MatchString(r) || seen[r] {
			return false
		}
		seen[r] = true
	}
	return len(list) > 0 && len(list) <= 8
}

// SignRewrite signs a rewrite report with the custodian's key.
func SignRewrite(r Rewrite, key ed25519.PrivateKey) (string, error) {
	r.At = stamp(r.At)
	return sign(rewriteKind, &r, key)
}

// VerifyRewrite opens a rewrite report.
func VerifyRewrite(token string, key ed25519.PublicKey) (Rewrite, error) {
	return verify[Rewrite](rewriteKind, token, key)
}

// Purge is the custodian's report that no version of a batch's former objects is left.
type Purge struct {
	Version  int       `json:"v"` // 1
	Batch    string    `json:"batch"`
	Current  string    `json:"current"`           // key of the object that stays; empty: none
	Deleted  []Gone    `json:"deleted,omitempty"` // versions and delete markers, by key and version
	Uploads  int       `json:"uploads"`           // unfinished multipart uploads that were aborted
	Verified time.Time `json:"verified"`          // when a listing showed none of them and a read answered that there is none
}

// Gone is one version that was deleted.
type Gone struct {
	Key     string `json:"key"`
	Version string `json:"version"`
	Marker  bool   `json:"marker,omitempty"`
}

// Compare orders versions by key, then by version.
func (g Gone) Compare(other Gone) int {
	return cmp.Or(strings.Compare(g.Key, other.Key), strings.Compare(g.Version, other.Version))
}

func (p *Purge) check() error {
	err := all(
		field{"v", p.Version == 1}, field{"batch", batchID.MatchString(p.Batch)},
		field{"current", p.Current == "" || isKey(p.Current)}, field{"uploads", count(p.Uploads)},
		field{"verified", whole(p.Verified, time.Millisecond)},
		field{"deleted", len(p.Deleted) <= maxVersions && ascending(p.Deleted, Gone.Compare)},
	)
	if err != nil {
		return err
	}
	for _, g := range p.Deleted {
		if !isKey(g.Key) || !isVersion(g.Version) {
			return malformed("key or version of what was deleted")
		}
		if g.Key == p.Current && g.Version == "" { // a store without versions has one object of a key: the one that stays
			return malformed("what stays was deleted")
		}
	}
	return nil
}

// SignPurge signs a purge report with the custodian's key.
func SignPurge(p Purge, key ed25519.PrivateKey) (string, error) {
	p.Verified = stamp(p.Verified)
	return sign(purgeKind, &p, key)
}

// VerifyPurge opens a purge report.
func VerifyPurge(token string, key ed25519.PublicKey) (Purge, error) {
	return verify[Purge](purgeKind, token, key)
}

// Collected is the custodian's report that accompanies an access package.
type Collected struct {
	Version int            `json:"v"` // 1
	Request string         `json:"request"`
	SHA256  string         `json:"sha256"` // of the package as it is uploaded
	Size    int64          `json:"size"`
	Sealed  bool           `json:"sealed"`         // to the job's recipient
	Objects int            `json:"objects"`        // scanned
	Rows    map[string]int `json:"rows,omitempty"` // by destination
	At      time.Time      `json:"at"`
}

func (c *Collected) check() error {
	return all(
		field{"v", c.Version == 1}, field{"request", requestID.MatchString(c.Request)}, field{"sha256", digest.MatchString(c.SHA256)},
		field{"size", c.Size > 0 && c.Size <= maxCount}, field{"objects", count(c.Objects)}, field{"rows", counts(c.Rows, name, maxDestinations)},
		field{"at", whole(c.At, time.Millisecond)},
	)
}

// SignCollected signs the report of an access package with the custodian's key.
func SignCollected(c Collected, key ed25519.PrivateKey) (string, error) {
	c.At = stamp(c.At)
	return sign(collectedKind, &c, key)
}

// VerifyCollected opens the report of an access package.
func VerifyCollected(token string, key ed25519.PublicKey) (Collected, error) {
	return verify[Collected](collectedKind, token, key)
}
