package privacy

import (
	"encoding/base32"
	"encoding/base64"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
)

// follow is the request that a browser follows by its code, since its own cookie is gone or was never here.
type follow struct {
	id     string // of the request
	secret string // base64url, as the desk gave it out
	fresh  bool   // the code was not kept yet: the page shows it
}

// The cookie of what is followed: "<id>.<secret>", and "new." before it while the page shows the code. It is sent to these pages alone.
const (
	followName = "octroi-follow"
	followPath = "/privacy"
	followLife = 30 * time.Minute
	freshMark  = "new."
	secretSize = 16
)

// text is the cookie's value; empty where nothing is followed.
func (w follow) text() string {
	switch {
	case w.id == "":
		return ""
	case w.fresh:
		return freshMark + w.id + "." + w.secret
	}
	return w.id + "." + w.secret
}

// parseFollow reads the cookie.
func parseFollow(text string) follow {
	rest, fresh := strings.CutPrefix(text, freshMark)
	id, secret, _ := strings.Cut(rest, ".")
	w := follow{id: id, secret: secret, fresh: fresh}
	if _, ok := w.bytes(); !ok {
		return follow{}
	}
	return w
}

// bytes are id and secret, if they are such.
func (w follow) bytes() (both []byte, ok bool) {
	id, err := uuid.Parse(w.id)
	if err != nil || id.String() != w.id {
		return nil, false
	}
	secret, err := base64.RawURLEncoding.Strict().DecodeString(w.secret)
	if err != nil || len(secret) != secretSize {
		return nil, false
	}
	return append(id[:], secret...), true
}

// codeText is how codes are written: Crockford's alphabet, in which nothing looks like something else, in groups of four.
var codeText = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// code is what a person keeps to follow the request: its number and its secret.
func (w follow) code() string {
	both, ok := w.bytes()
	if !ok {
		return ""
	}
	text := codeText.EncodeToString(both)
	var groups []string
	for ; len(text) > 4; text = text[4:] {
		groups = append(groups, text[:4])
	}
	return strings.Join(append(groups, text), "-")
}

// maxCode bounds what somebody types as a code, in bytes.
const maxCode = 200

// parseCode reads a code as somebody types it: in any case, with any spaces and dashes, and with the letters that look like digits.
func parseCode(typed string) (w follow, ok bool) {
	if len(typed) > maxCode {
		return follow{}, false
	}
	typed = strings.Map(func(r rune) rune {
		switch r {
		case ' ', '-', '\t', '\n', '\r', '\u00a0', '\u2010', '\u2011', '\u2013':
			return -1
		case 'O':
			return '0'
		case 'I', 'L':
			return '1'
		}
		return r
	}, strings.ToUpper(typed))
	both, err := codeText.DecodeString(typed)
	if err != nil || len(both) != 16+secretSize || codeText.EncodeToString(both) != typed {
		return follow{}, false
	}
	return follow{id: uuid.UUID(both[:16]).String(), secret: base64.RawURLEncoding.EncodeToString(both[16:])}, true
}

// keep makes the browser follow w; the zero follow, nothing any more.
func (v *visit) keep(w follow) {
	c := &fiber.Cookie{
		Name: followName, Value: w.text(), Path: followPath, MaxAge: int(followLife / time.Second), HTTPOnly: true, Secure: !v.p.o.Loopback,
		SameSite: fiber.CookieSameSiteStrictMode,
	}
	if w.id == "" {
		c.MaxAge, c.Expires = 0, time.Unix(0, 0)
	}
	v.f.Cookie(c)
	v.follow = w
}
