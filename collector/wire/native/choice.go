package native

import (
	"strconv"
	"time"

	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/collector/wire/ijson"
	"github.com/octroi/octroi/consent"
)

// Limits of a choice. Sizes in bytes.
const (
	MaxChoiceBytes = 16 << 10 // the whole body (G12)
	maxChoiceDepth = 4
	maxPurposes    = 64
	maxSignal      = 8 << 10 // a TC or GPP string
	maxURL         = 2048
	maxSections    = 32
	maxModes       = 16
)

// Choice is the body of POST /v1/consents, as it came.
type Choice struct {
	Key        string // site key
	Site       string // name of the site, from a back-end
	Snapshot   string
	Purposes   map[string]bool
	Notice     *consent.NoticeRef
	Method     string
	Language   string
	Signals    consent.Signals
	Time       time.Time // the client's clock
	Credential bool      // the answer's body shall hold the credential: apps have no cookies

	Subject []wire.Identity // from a back-end
	Device  string          // from a back-end: text of a credential
	GivenAt time.Time       // imports
	Source  string          // imports
}

// Withdrawal is the body of POST /v1/consents/withdraw, as it came.
type Withdrawal struct {
	Key      string
	Site     string
	Purposes []string // none: all
	Method   string
	Time     time.Time
	Subject  []wire.Identity
	Device   string
}

// DecodeChoice reads the body of a choice. It fails with an error of ijson, with wire.ErrForm, wire.ErrDuplicate, or a wire.FieldError.
func DecodeChoice(body string) (Choice, error) {
	var c Choice
	err := object(body, func(m ijson.Value) error {
		switch m.Name() {
		case "k":
			return text(m, &c.Key, wire.MaxWordBytes)
		case "site":
			return text(m, &c.Site, wire.MaxWordBytes)
		case "snapshot":
			return text(m, &c.Snapshot, MaxChoiceBytes)
		case "purposes":
			return choices(m, &c.Purposes)
		case "notice":
			c.Notice = new(consent.NoticeRef)
			return notice(m, c.Notice)
		case "method":
			return label(m, &c.Method)
		case "language":
			return label(m, &c.Language)
		case "signals":
			return signals(m, &c.Signals)
		case "time":
			return instant(m, &c.Time)
		case "credential":
			return boolean(m, &c.Credential)
		case "subject":
			return identities(m, &c.Subject)
		case "device":
			return text(m, &c.Device, wire.MaxWordBytes)
		case "given_at":
			return instant(m, &c.GivenAt)
		case "source":
			return label(m, &c.Source)
		}
		return unknownMember(m)
	})
	if err == nil && len(c.Purposes) == 0 {
		err = &wire.FieldError{Field: "purposes", Right: "an object of purposes, each true or false"}
	}
	return c, err
}

// DecodeWithdrawal reads the body of a withdrawal. An empty body withdraws all. Errors as of DecodeChoice.
func DecodeWithdrawal(body string) (Withdrawal, error) {
	var w Withdrawal
	if body == "" {
		return w, nil
	}
	return w, object(body, func(m ijson.Value) error {
		switch m.Name() {
		case "k":
			return text(m, &w.Key, wire.MaxWordBytes)
		case "site":
			return text(m, &w.Site, wire.MaxWordBytes)
		case "purposes":
			return names(m, &w.Purposes)
		case "method":
			return label(m, &w.Method)
		case "time":
			return instant(m, &w.Time)
		case "subject":
			return identities(m, &w.Subject)
		case "device":
			return text(m, &w.Device, wire.MaxWordBytes)
		}
		return unknownMember(m)
	})
}

// DecodeSubject reads {"subject":{…}} or {"device":"…"}, by which the private listener is asked about someone. Errors as of DecodeChoice.
func DecodeSubject(body string) (list []wire.Identity, device, region string, err error) {
	err = object(body, func(m ijson.Value) error {
		switch m.Name() {
		case "subject":
			return identities(m, &list)
		case "device":
			return text(m, &device, wire.MaxWordBytes)
		case "region":
			return text(m, &region, 2)
		}
		return unknownMember(m)
	})
	if err == nil && (len(list) == 0) == (device == "") {
		err = &wire.FieldError{Field: "subject", Right: "an object of identifiers by namespace, or \"device\" instead"}
	}
	return list, device, region, err
}

// object reads a JSON object, strict and closed, a member at a time. A member that is null is absent.
func object(body string, member func(ijson.Value) error) error {
	var d ijson.Document
	if err := d.Parse(body); err != nil {
		return err
	}
	root := d.Root()
	switch {
	case root.Kind() != ijson.Object || root.Flaws()&ijson.Wide != 0:
		return wire.ErrForm
	case root.Height() > maxChoiceDepth:
		return ijson.ErrDepth
	case root.Flaws()&ijson.Duplicate != 0:
		return wire.ErrDuplicate
	}
	for m := range root.All() {
		if m.Kind() == ijson.Null {
			continue
		}
		if err := member(m); err != nil {
			return err
		}
	}
	return nil
}

// unknownMember does not name the member: its name came from outside.
func unknownMember(ijson.Value) error {
	return &wire.FieldError{Field: "body", Right: "made of the members of the format only"}
}

func wrong(m ijson.Value, right string) error { return &wire.FieldError{Field: m.Name(), Right: right} }

func text(m ijson.Value, into *string, limit int) error {
	if word(m, into, limit, wire.NotObject) != "" {
		return wrong(m, "a text of 1 to "+strconv.Itoa(limit)+" bytes without control characters")
	}
	return nil
}

// label reads a short name such as "banner" or "fr". It stands in the part of a record that outlives an erasure, so it has no room for an
// address or a phone number.
func label(m ijson.Value, into *string) error {
	const right = "1 to 32 letters, digits, - and _, beginning with a letter"
	s := m.Text()
	if !m.IsString() || s == "" || len(s) > 32 || !letter(s[0]) {
		return wrong(m, right)
	}
	for i := range len(s) {
		if c := s[i]; !letter(c) && (c < '0' || c > '9') && c != '-' && c != '_' {
			return wrong(m, right)
		}
	}
	*into = s
	return nil
}

func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func boolean(m ijson.Value, into *bool) error {
	if m.Kind() != ijson.Bool {
		return wrong(m, "true or false")
	}
	*into = m.True()
	return nil
}

func instant(m ijson.Value, into *time.Time) error {
	if moment(m, into) != "" {
		return wrong(m, "RFC 3339 with a zone, 1970 or later")
	}
	return nil
}

func identities(m ijson.Value, into *[]wire.Identity) error {
	list, ok := Identities(nil, m)
	if !ok {
		return wrong(m, "an object of 1 to 8 identifiers by namespace")
	}
	*into = list
	return nil
}

func choices(m ijson.Value, into *map[string]bool) error {
	if m.Kind() != ijson.Object || m.Len() > maxPurposes {
		return wrong(m, "an object of purposes, each true or false")
	}
	*into = make(map[string]bool, m.Len())
	for p := range m.All() {
		if p.Kind() != ijson.Bool || len(p.Name()) > wire.MaxWordBytes { // never one boolean for everything (C7), nor a text
			return wrong(m, "an object of purposes, each true or false")
		}
		(*into)[p.Name()] = p.True()
	}
	return nil
}

func names(m ijson.Value, into *[]string) error {
	if m.Kind() != ijson.Array || m.Len() > maxPurposes {
		return wrong(m, "an array of purposes")
	}
	for p := range m.All() {
		if !p.IsString() || p.Text() == "" || len(p.Text()) > wire.MaxWordBytes {
			return wrong(m, "an array of purposes")
		}
		*into = append(*into, p.Text())
	}
	return nil
}

func notice(m ijson.Value, into *consent.NoticeRef) error {
	const right = `{"id","version","url","language","text_sha256"}, all texts`
	if m.Kind() != ijson.Object {
		return wrong(m, right)
	}
	for p := range m.All() {
		target, limit := map[string]*string{
			"id": &into.ID, "version": &into.Version, "url": &into.URL, "language": &into.Language, "text_sha256": &into.SHA256,
		}[p.Name()], 256
		if p.Name() == "url" {
			limit = maxURL
		}
		if target == nil || word(p, target, limit, wire.NotObject) != "" {
			return wrong(m, right)
		}
	}
	if into.SHA256 == "" {
		return wrong(m, right)
	}
	return nil
}

// signals are kept raw but bounded: what they mean is decided elsewhere.
func signals(m ijson.Value, into *consent.Signals) error {
	if m.Kind() != ijson.Object {
		return wrong(m, "an object of privacy signals")
	}
	for s := range m.All() {
		var err error
		switch {
		case s.Kind() == ijson.Null:
		case s.Name() == "gpc":
			err = boolean(s, &into.GPC)
		case s.Name() == "tc_string":
			err = text(s, &into.TCString, maxSignal)
		case s.Name() == "gpp_string":
			err = text(s, &into.GPPString, maxSignal)
		case s.Name() == "gpp_sid":
			err = sections(s, &into.GPPSID)
		case s.Name() == "gcm":
			err = modes(s, &into.GCM)
		default:
			err = wrong(m, "an object of gpc, tc_string, gpp_string, gpp_sid, gcm")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func sections(m ijson.Value, into *[]int) error {
	if m.Kind() != ijson.Array || m.Len() > maxSections {
		return wrong(m, "an array of section numbers")
	}
	for s := range m.All() {
		n, err := strconv.Atoi(s.Text())
		if s.Kind() != ijson.Number || err != nil || n < -1 || n > 1000 {
			return wrong(m, "an array of section numbers")
		}
		*into = append(*into, n)
	}
	return nil
}

// modes reads Consent Mode's signals: granted or denied, nothing else (G8).
func modes(m ijson.Value, into *map[string]string) error {
	const right = "an object of consent types, each granted or denied"
	if m.Kind() != ijson.Object || m.Len() > maxModes {
		return wrong(m, right)
	}
	*into = make(map[string]string, m.Len())
	for s := range m.All() {
		if !s.IsString() || s.Text() != "granted" && s.Text() != "denied" || !modeName(s.Name()) {
			return wrong(m, right)
		}
		(*into)[s.Name()] = s.Text()
	}
	return nil
}

func modeName(s string) bool {
	for i := range len(s) {
		if (s[i] < 'a' || s[i] > 'z') && s[i] != '_' {
			return false
		}
	}
	return s != "" && len(s) <= wire.MaxWordBytes
}
