package access

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// byteOrderMark tells spreadsheets that what follows is UTF-8.
const byteOrderMark = "\ufeff"

// csvLine writes one line of RFC 4180: every cell as it is, quoted where it must be, CRLF at the end. (encoding/csv changes the line ends
// within cells.)
func csvLine(w io.Writer, cells ...string) error {
	var b strings.Builder
	for i, cell := range cells {
		if i > 0 {
			b.WriteByte(',')
		}
		if strings.ContainsAny(cell, ",\"\r\n") {
			cell = `"` + strings.ReplaceAll(cell, `"`, `""`) + `"`
		}
		b.WriteString(cell)
	}
	b.WriteString("\r\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// guarded is text that no spreadsheet takes for a formula (OWASP, CSV injection).
func guarded(text string) string {
	if text != "" && strings.IndexByte("=+-@\t\r\n", text[0]) >= 0 {
		return "'" + text
	}
	return text
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// eventsCSV writes events.csv.
type eventsCSV struct {
	w           io.Writer
	destination string
}

func newEventsCSV(w io.Writer) (*eventsCSV, error) {
	if _, err := io.WriteString(w, byteOrderMark); err != nil {
		return nil, err
	}
	return &eventsCSV{w: w}, csvLine(w, "destination", "event_id", "time", "received_at", "device", "person", "type", "channel", "stage", "site",
		"purposes", "amount", "currency", "campaign", "source", "medium", "properties")
}

func (e *eventsCSV) begin(destination string) error { e.destination = destination; return nil }

func (e *eventsCSV) event(r *record) error {
	purposes := make([]string, len(r.Grants))
	for i, g := range r.Grants {
		purposes[i] = g.Purpose
	}
	var value recordValue
	if r.Value != nil {
		value = *r.Value
	}
	properties := ""
	if len(r.Properties) > 0 {
		text, err := json.Marshal(r.Properties)
		if err != nil {
			return err
		}
		properties = string(text)
	}
	return csvLine(e.w, guarded(e.destination), r.EventID, instant(r.Time), instant(r.ReceivedAt), r.Device, r.Person, guarded(r.Type),
		guarded(r.Channel), guarded(r.Stage), guarded(r.Site), guarded(strings.Join(purposes, " ")), value.Amount, guarded(value.Currency),
		guarded(r.Campaign), guarded(r.Source), guarded(r.Medium), properties)
}

func (*eventsCSV) end() error { return nil }

// writeLinks writes links.csv: a line for each time during which device and person were joined.
func writeLinks(w io.Writer, links []Link) error {
	if _, err := io.WriteString(w, byteOrderMark); err != nil {
		return err
	}
	err := csvLine(w, "since", "until", "method")
	for _, l := range links {
		if err != nil {
			return err
		}
		err = csvLine(w, instant(l.Since), instant(l.Until), guarded(l.Method))
	}
	return err
}

// writeConsents writes consents.csv: a line for each purpose of each choice.
func writeConsents(w io.Writer, consents []choice) error {
	if _, err := io.WriteString(w, byteOrderMark); err != nil {
		return err
	}
	err := csvLine(w, "time", "event", "state", "purpose", "granted", "valid_until", "site", "method", "record_id", "notice", "notice_version",
		"notice_language", "notice_text_sha256")
	for i := range consents {
		c := &consents[i]
		for _, purpose := range slices.Sorted(maps.Keys(c.Purposes)) {
			if err != nil {
				return err
			}
			n := c.Notice
			err = csvLine(w, instant(c.Time), guarded(c.Event), guarded(c.State), guarded(purpose), strconv.FormatBool(c.Purposes[purpose]),
				instant(c.until[purpose]), guarded(c.Site), guarded(c.Method), guarded(c.ID), guarded(n.ID), guarded(n.Version),
				guarded(n.Language), guarded(n.SHA256))
		}
	}
	return err
}
