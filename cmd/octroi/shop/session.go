package shop

import (
	"crypto/rand"
	"net/http"
	"slices"
	"sync"
	"time"
)

// CookieName is the shop's own cookie. Basket and login cannot be without it (ePrivacy Art. 5(3): strictly necessary for a service that the user
// asks for), so it needs no consent; that is why it is set no earlier than it is needed.
const CookieName = "shop-basket"

// The bounds of what the shop remembers.
const (
	maxSessions  = 10_000
	sessionLife  = 2 * time.Hour // unused
	maxOrders    = 20            // of a session
	maxAnnounced = 20            // events that wait for the next page
)

// session is what the shop remembers of one browser.
type session struct {
	card     string // number of who is logged in; empty: nobody
	basket   basket
	orders   []Order
	announce []announced // for the next page to send
	identify identifying // for the next page to tell the gateway
	used     time.Time
}

// identifying is what the next page tells the gateway about who is here.
type identifying string

const (
	nothing   identifying = ""
	loggedIn  identifying = "login"
	loggedOut identifying = "logout"
)

// announced is an event that a page sends for the post that led to it.
type announced struct {
	Type   string         `json:"type"`
	Fields map[string]any `json:"fields,omitempty"`
}

func (s *session) tell(e announced) {
	if len(s.announce) < maxAnnounced {
		s.announce = append(s.announce, e)
	}
}

// sessions are known by 128 random bits. An id that the shop did not give out is nobody's, and never becomes anybody's (session fixation).
type sessions struct {
	now func() time.Time

	mu   sync.Mutex
	byID map[string]*session // guarded by mu, sessions too
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, byID: map[string]*session{}}
}

// look calls fn with the request's session, which it may change; nil where there is none.
func (s *sessions) look(r *http.Request, fn func(*session)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s.of(r))
}

// of is the request's session.
func (s *sessions) of(r *http.Request) *session {
	k, err := r.Cookie(CookieName)
	if err != nil {
		return nil
	}
	x := s.byID[k.Value]
	if x == nil || s.now().Sub(x.used) > sessionLife {
		return nil
	}
	x.used = s.now()
	return x
}

// change calls fn with the request's session, or a new one, whose cookie it sets.
func (s *sessions) change(w http.ResponseWriter, r *http.Request, fn func(*session)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.of(r)
	if x == nil {
		x = &session{}
		s.put(w, x)
	}
	fn(x)
}

// renew is change under a new id: whoever knew the old one knows nothing of who logged in.
func (s *sessions) renew(w http.ResponseWriter, r *http.Request, fn func(*session)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.of(r)
	if x == nil {
		x = &session{}
	} else if k, err := r.Cookie(CookieName); err == nil {
		delete(s.byID, k.Value)
	}
	s.put(w, x)
	fn(x)
}

func (s *sessions) put(w http.ResponseWriter, x *session) {
	s.makeRoom()
	x.used = s.now()
	id := rand.Text()
	s.byID[id] = x
	http.SetCookie(w, &http.Cookie{Name: CookieName, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// makeRoom forgets who was here longest ago.
func (s *sessions) makeRoom() {
	if len(s.byID) < maxSessions {
		return
	}
	ids := make([]string, 0, len(s.byID))
	for id := range s.byID {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int { return s.byID[a].used.Compare(s.byID[b].used) })
	for _, id := range ids[:len(ids)/10] {
		delete(s.byID, id)
	}
}
