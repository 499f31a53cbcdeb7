package pseudonymize

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"math/bits"
	"strings"

	"github.com/octroi/octroi/pseudonymize/subject"
)

// A field that is pseudonymised is a number that says nothing and is unique to something: of an order, a receipt, a voucher, a message. It is kept for
// one use, to tell which events of one subject speak of the same thing: the return of that purchase, the click in that e-mail. So it is made in two steps:
//
//	in the spool       HMAC(subject key, "value:" ‖ field ‖ 0x00 ‖ text)[:16]
//	at a destination   "p1:" ‖ hex of HMAC(HMAC(export key, "value:" ‖ destination), that)[:16]
//
// The raw text never reaches the spool. Equal texts join within one subject, one field and one destination. Nothing joins two subjects, because no use
// needs it and a number that two of them share would be a link that nobody agreed to; how often a voucher was used is asked of `campaign`. Nothing joins
// two destinations, whose keys differ. The numbers of a shop are short enough to be tried one by one: who tries needs the subject's key, which no
// destination has and which an erasure destroys, so that what is left then is noise for everybody. Of a device and a person that a destination sees in one
// row the device's key is taken, as for the event id: when a link is undone, the device's rows must not be known by a value of the person's.

// pseudonymMark begins every pseudonymised value, with the version of how it is made.
const pseudonymMark = "p1:"

// Pseudonymised reports whether text has the form of a pseudonymised field.
func Pseudonymised(text string) bool {
	digits, ok := strings.CutPrefix(text, pseudonymMark)
	if !ok || len(digits) != 2*pseudonymBytes {
		return false
	}
	for _, c := range []byte(digits) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

const pseudonymBytes = 16

// blind is the first step, for the subject in slot; empty for none: without a subject's key all rows of one number would join.
func (e *Event) blind(slot subject.Slot, f Field) string {
	owner := e.device
	if slot != owner.Slot() {
		owner = e.person
	}
	if f.Text == "" || slot == 0 || slot != owner.Slot() {
		return ""
	}
	sum := owner.Derive("value:" + f.Name + "\x00" + f.Text)
	return string(sum[:pseudonymBytes])
}

// restsOn is the slot of the subject with whose key a pseudonymised value was made.
func (e *Event) restsOn(v *value) subject.Slot {
	return e.grants[bits.TrailingZeros64(v.grants)].slot
}

// pseudonymised is the second step.
func (d *Destination) pseudonymised(blind string) string {
	h := hmac.New(sha256.New, d.valueKey[:])
	h.Write([]byte(blind))
	return pseudonymMark + hex.EncodeToString(h.Sum(nil)[:pseudonymBytes])
}
