package native

import (
	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/collector/wire/ijson"
)

// Trace is the body of POST /v1/trace, as it came: whose event, and how the site named it.
type Trace struct {
	Device  string          // text of a credential
	Subject []wire.Identity // of a person, instead
	Site    string          // name
	ID      string          // of the event
}

// DecodeTrace reads {"device":"…","site":"shop","id":"…"}, or {"subject":{…},…}. Errors as of DecodeChoice.
func DecodeTrace(body string) (Trace, error) {
	var t Trace
	err := object(body, func(m ijson.Value) error {
		switch m.Name() {
		case "device":
			return text(m, &t.Device, wire.MaxWordBytes)
		case "subject":
			return identities(m, &t.Subject)
		case "site":
			return text(m, &t.Site, wire.MaxWordBytes)
		case "id":
			return text(m, &t.ID, wire.MaxIDBytes)
		}
		return unknownMember(m)
	})
	switch {
	case err != nil:
		return Trace{}, err
	case (len(t.Subject) == 0) == (t.Device == ""):
		return Trace{}, &wire.FieldError{Field: "device", Right: "the credential of a device, or \"subject\" instead"}
	case t.Site == "":
		return Trace{}, &wire.FieldError{Field: "site", Right: "the name of a configured site"}
	case t.ID == "":
		return Trace{}, &wire.FieldError{Field: "id", Right: "the id that the site gave the event"}
	}
	return t, nil
}
