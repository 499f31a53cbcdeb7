package consent

import (
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/octroi/octroi/policies"
)

// SnapshotLife is how long a snapshot proves what was served (C4: at most 1 h).
const SnapshotLife = time.Hour

// snapshotType is the typ of snapshots, so that no token of another kind passes for one (RFC 8725 §3.11).
const snapshotType = "octroi-snapshot+jwt"

// snapshotClaims are the claims of a snapshot: JWT, HS256, typ octroi-snapshot+jwt, aud the site's name.
type snapshotClaims struct {
	Notice       NoticeRef      `json:"notice"`
	Purposes     map[string]int `json:"purposes"` // id → version
	Jurisdiction string         `json:"jurisdiction"`
	jwt.RegisteredClaims
}

// ServedNotice is what a banner shows.
type ServedNotice struct {
	Notice   NoticeRef       `json:"notice"`
	Text     string          `json:"text"`
	Purposes []ServedPurpose `json:"purposes"`
	Snapshot string          `json:"snapshot"`
	Expires  time.Time       `json:"expires"`
}

// ServedPurpose is one purpose as a banner shows it.
type ServedPurpose struct {
	ID      string         `json:"id"`
	Version int            `json:"version"`
	Basis   policies.Basis `json:"legal_basis"`
	Title   string         `json:"title"`
	Text    string         `json:"text"`
}

// Snapshot is the notice of a site as GET /v1/notice serves it, with the signed proof of what was served (C4; at most 1 h).
// ErrUnknownNotice where no purpose of the policy rests on consent.
func (l *Ledger) Snapshot(site Site, language string) (ServedNotice, error) {
	n := l.policy.ChoiceNotice(language)
	if n.Text == "" {
		return ServedNotice{}, ErrUnknownNotice
	}
	now := l.now().UTC().Truncate(time.Second)
	notice := l.noticeOf(n)
	served := ServedNotice{Notice: notice.ref(n.SHA256()), Text: n.Text, Expires: now.Add(SnapshotLife)}
	for _, id := range n.Purposes {
		p, _ := l.policy.Purpose(id)
		served.Purposes = append(served.Purposes, ServedPurpose{p.ID, p.Version, p.Basis, p.Titles[n.Language], p.Texts[n.Language]})
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, &snapshotClaims{
		Notice: served.Notice, Purposes: notice.Versions, Jurisdiction: site.Jurisdiction,
		RegisteredClaims: jwt.RegisteredClaims{
			Audience: jwt.ClaimStrings{site.Name}, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(served.Expires),
		},
	})
	token.Header["typ"] = snapshotType
	var err error
	if served.Snapshot, err = token.SignedString(l.snapshotKey); err != nil {
		return ServedNotice{}, fmt.Errorf("signing snapshot: %w", err)
	}
	return served, nil
}

// readSnapshot checks a snapshot: ErrSnapshotOld where only its time has passed, ErrSnapshot otherwise.
func (l *Ledger) readSnapshot(site, text string) (*snapshotClaims, error) {
	claims := new(snapshotClaims)
	// RFC 8725 §3.1: the algorithm is ours to choose, not the token's. The claims are checked below.
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithStrictDecoding(),
		jwt.WithoutClaimsValidation())
	token, err := parser.ParseWithClaims(text, claims, func(*jwt.Token) (any, error) { return l.snapshotKey, nil })
	if err != nil || token.Header["typ"] != snapshotType || claims.ExpiresAt == nil ||
		len(claims.Audience) != 1 || claims.Audience[0] != site {
		return nil, ErrSnapshot
	}
	if !l.now().Before(claims.ExpiresAt.Time) {
		return nil, ErrSnapshotOld
	}
	return claims, nil
}
