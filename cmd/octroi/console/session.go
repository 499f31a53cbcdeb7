package console

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"sync"
	"time"

	"github.com/octroi/octroi/collector"
)

// The bounds of sessions.
const (
	idleLimit   = 30 * time.Minute
	lifeLimit   = 8 * time.Hour
	maxSessions = 1000 // at once; the one that was idle for longest makes room
)

// session is somebody who has signed in. Its secret stands in a cookie and nowhere else; the other end keeps its hash.
type session struct {
	name   string // the token's
	scopes []string
	csrf   string
	until  time.Time
	seen   time.Time // guarded by sessions.mu
}

func (s *session) can(scope string) bool { return slices.Contains(s.scopes, scope) }

// sent says whether a form carries the session's own token (CWE-352).
func (s *session) sent(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.csrf)) == 1
}

// sessions are those that stand, by the SHA-256 of their secret: to look one up tells nothing of the others by its time. Safe for concurrent use.
type sessions struct {
	now func() time.Time
	mu  sync.Mutex
	by  map[[32]byte]*session // guarded by mu
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, by: map[[32]byte]*session{}}
}

// begin makes a session of a token. Its secret is always new, whatever the browser had before (session fixation, CWE-384).
func (x *sessions) begin(t *collector.TokenClaims) (secret string, until time.Time) {
	now := x.now()
	until = now.Add(lifeLimit)
	if t.Expires.Before(until) {
		until = t.Expires
	}
	secret = random()
	s := &session{name: t.Subject, scopes: slices.Clone(t.Scopes), csrf: random(), until: until, seen: now}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.tidy(now)
	if len(x.by) >= maxSessions {
		x.dropIdlest()
	}
	x.by[sha256.Sum256([]byte(secret))] = s
	return secret, until
}

// find is the session of a secret; nil: there is none, or its time is over.
func (x *sessions) find(secret string) *session {
	key, now := sha256.Sum256([]byte(secret)), x.now()
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.by[key]
	if s == nil {
		return nil
	}
	if s.over(now) {
		delete(x.by, key)
		return nil
	}
	s.seen = now
	return s
}

// end ends a session.
func (x *sessions) end(secret string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.by, sha256.Sum256([]byte(secret)))
}

func (s *session) over(now time.Time) bool {
	return !now.Before(s.until) || now.Sub(s.seen) >= idleLimit
}

func (x *sessions) tidy(now time.Time) {
	for key, s := range x.by {
		if s.over(now) {
			delete(x.by, key)
		}
	}
}

func (x *sessions) dropIdlest() {
	var idlest [32]byte
	var seen time.Time
	for key, s := range x.by {
		if seen.IsZero() || s.seen.Before(seen) {
			idlest, seen = key, s.seen
		}
	}
	delete(x.by, idlest)
}

// random is a secret of 128 bits.
func random() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
