package privacy

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// mac is what only this gateway can make of parts. Between them stands a zero byte, which the gateway puts into none but a mark, and marks are of one
// length.
func (p *Pages) mac(use string, parts ...string) []byte {
	h := hmac.New(sha256.New, p.seal)
	h.Write([]byte(use))
	for _, part := range parts {
		h.Write([]byte{0})
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}

// token is what a form of this page hands back: it belongs to the cookie that the page was made for, and on the page of a request that is followed to
// its code (CWE-352).
func (v *visit) token() string {
	mark := v.person.Mark()
	followed := ""
	if v.follow.id != "" && v.follow.id == v.param("id") {
		followed = v.follow.text()
	}
	return base64.RawURLEncoding.EncodeToString(v.p.mac("token", string(mark[:]), followed))
}

// checkToken fails where the form is not one of a page that this cookie was shown.
func (v *visit) checkToken() error {
	if subtle.ConstantTimeCompare([]byte(v.form.Get("token")), []byte(v.token())) != 1 {
		return errStale
	}
	return nil
}

// sameOrigin refuses what a page of another origin sent. Browsers say where a request comes from: Sec-Fetch-Site on every secure origin, else
// Origin on every POST (G12). What says neither is no browser that holds other pages.
func sameOrigin(host, origin, fetchSite string) bool {
	if fetchSite != "" {
		return fetchSite == "same-origin"
	}
	if origin == "" {
		return true
	}
	_, from, ok := strings.Cut(origin, "://")
	return ok && from != "" && strings.EqualFold(from, host)
}

// The message after a post travels in the address of the page that follows it, for as long as doneLife, and belongs to the cookies that the post left:
// whoever sends somebody a link must not be able to say that a consent was withdrawn, nor have the gateway say it to him first.
const doneLife = 10 // minutes

// doneText is the parameter that makes the page say what was done.
func (v *visit) doneText(code string) string {
	minute := strconv.FormatInt(v.p.o.Now().Unix()/60, 36)
	return code + "." + minute + "." + v.doneMark(code, minute)
}

func (v *visit) doneMark(code, minute string) string {
	mark := v.person.Mark()
	return base64.RawURLEncoding.EncodeToString(v.p.mac("done", string(mark[:]), v.follow.text(), code, minute)[:12])
}

// done is what was done, by the parameter; empty where it is none, or old, or was done elsewhere.
func (v *visit) done(text string) string {
	parts := strings.Split(text, ".")
	if len(parts) != 3 || subtle.ConstantTimeCompare([]byte(parts[2]), []byte(v.doneMark(parts[0], parts[1]))) != 1 {
		return ""
	}
	minute, err := strconv.ParseInt(parts[1], 36, 64)
	if err != nil || v.p.o.Now().Sub(time.Unix(minute*60, 0)) > doneLife*time.Minute {
		return ""
	}
	return parts[0]
}
