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

// mac is what only this gateway can make of parts, each of which is of one length or the last.
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

// The message after a post travels in the address of the page that follows it, for as long as doneLife: whoever sends somebody a link must not be able
// to say that a consent was withdrawn.
const doneLife = 10 // minutes

// doneText is the parameter that makes the page say what was done.
func (p *Pages) doneText(code string) string {
	minute := strconv.FormatInt(p.o.Now().Unix()/60, 36)
	return code + "." + minute + "." + p.doneMark(code, minute)
}

func (p *Pages) doneMark(code, minute string) string {
	return base64.RawURLEncoding.EncodeToString(p.mac("done", code, minute)[:12])
}

// done is what was done, by the parameter; empty where it is none, or old.
func (p *Pages) done(text string) string {
	parts := strings.Split(text, ".")
	if len(parts) != 3 || subtle.ConstantTimeCompare([]byte(parts[2]), []byte(p.doneMark(parts[0], parts[1]))) != 1 {
		return ""
	}
	minute, err := strconv.ParseInt(parts[1], 36, 64)
	if err != nil || p.o.Now().Sub(time.Unix(minute*60, 0)) > doneLife*time.Minute {
		return ""
	}
	return parts[0]
}
