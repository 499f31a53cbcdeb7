package native

import (
	"time"

	"github.com/octroi/octroi/collector/wire"
	"github.com/octroi/octroi/collector/wire/ijson"
	"github.com/octroi/octroi/pseudonymize"
)

// member decodes one member of an event. An optional member that is null is absent.
func (d *Decoder) member(s *wire.Submission, m ijson.Value, key *string) wire.Flaw {
	t := &s.Touchpoint
	switch m.Name() {
	case "id":
		return word(m, &t.ID, wire.MaxIDBytes, wire.BadID)
	case "type":
		return word(m, &s.Type, wire.MaxWordBytes, wire.BadType)
	case "site":
		return word(m, &t.Site, wire.MaxWordBytes, wire.BadSite)
	case "k":
		if key == nil {
			return wire.UnknownMember
		}
		return word(m, key, wire.MaxWordBytes, wire.BadSite)
	}
	if m.Kind() == ijson.Null && optional(m.Name()) {
		return ""
	}
	switch m.Name() {
	case "channel":
		return word(m, &t.Channel, wire.MaxWordBytes, wire.BadChannel)
	case "device":
		return word(m, &s.Device, wire.MaxWordBytes, wire.BadDevice)
	case "time":
		return moment(m, &t.Time)
	case "fields":
		return d.texts(s, m)
	case "subject":
		return d.subject(s, m)
	}
	return wire.UnknownMember
}

func optional(name string) bool {
	switch name {
	case "channel", "device", "time", "fields", "subject":
		return true
	}
	return false
}

// word reads a short text without control characters.
func word(v ijson.Value, into *string, limit int, flaw wire.Flaw) wire.Flaw {
	s := v.Text()
	if !v.IsString() || s == "" || len(s) > limit || !printable(s) {
		return flaw
	}
	*into = s
	return ""
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// moment reads a time. Years before 1970 and beyond 9999 fit neither the spool nor Parquet's readers.
func moment(v ijson.Value, into *time.Time) wire.Flaw {
	if !v.IsString() || len(v.Text()) > 40 {
		return wire.BadTime
	}
	t, err := time.Parse(time.RFC3339Nano, v.Text())
	if err != nil || t.Unix() < 0 || t.UTC().Year() > 9999 {
		return wire.BadTime
	}
	*into = t.UTC()
	return ""
}

// texts reads the fields. A field that is null is absent.
func (d *Decoder) texts(s *wire.Submission, v ijson.Value) wire.Flaw {
	if v.Kind() != ijson.Object || v.Len() > wire.MaxFields {
		return wire.BadFields
	}
	from := len(d.fields)
	for m := range v.All() {
		switch {
		case m.Kind() == ijson.Null:
			continue
		case m.Name() == "value":
			if flaw := money(m, &s.Touchpoint.Value); flaw != "" {
				return flaw
			}
			continue
		case m.Name() == "" || len(m.Name()) > wire.MaxNameBytes || !printable(m.Name()):
			return wire.BadName
		case m.Kind() >= ijson.Array:
			return wire.BadFields
		case len(m.Text()) > wire.MaxTextBytes:
			return wire.BadText
		}
		d.fields = append(d.fields, pseudonymize.Field{Name: m.Name(), Text: m.Text()})
	}
	s.Touchpoint.Fields = d.fields[from:len(d.fields):len(d.fields)]
	return ""
}

// money reads {"amount":"12.30","currency":"EUR"}; the amount may be a number as it is written, which is never made a float.
func money(v ijson.Value, into *pseudonymize.Money) wire.Flaw {
	if v.Kind() != ijson.Object {
		return wire.BadValue
	}
	var amount, currency string
	for m := range v.All() {
		switch {
		case m.Name() == "amount" && (m.IsString() || m.Kind() == ijson.Number):
			amount = m.Text()
		case m.Name() == "currency" && m.IsString():
			currency = m.Text()
		default:
			return wire.BadValue
		}
	}
	if len(amount) > 32 || len(currency) != 3 {
		return wire.BadValue
	}
	parsed, err := pseudonymize.ParseMoney(amount, currency)
	if err != nil {
		return wire.BadValue
	}
	*into = parsed
	return ""
}

// subject reads whom the event is of, {"loyalty":"…"}: for back-ends only, which the collector checks.
func (d *Decoder) subject(s *wire.Submission, v ijson.Value) wire.Flaw {
	from := len(d.identities)
	list, ok := Identities(d.identities, v)
	if !ok {
		return wire.BadSubject
	}
	d.identities = list
	s.Subject = list[from:len(list):len(list)]
	return ""
}

// Identities appends the identifiers of an object {"namespace":"value",…} to list: 1 to 8 texts.
func Identities(list []wire.Identity, v ijson.Value) ([]wire.Identity, bool) {
	if v.Kind() != ijson.Object || v.Len() == 0 || v.Len() > wire.MaxIdentities || v.Flaws() != 0 {
		return list, false
	}
	for m := range v.All() {
		if !m.IsString() || m.Text() == "" || len(m.Text()) > wire.MaxIdentity || len(m.Name()) > wire.MaxWordBytes {
			return list, false
		}
		list = append(list, wire.NewIdentity(m.Name(), m.Text()))
	}
	return list, true
}
