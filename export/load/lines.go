package load

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

// lineWriter writes NDJSON: the columns of the Parquet schema, those without a value left out.
type lineWriter struct {
	w    io.Writer
	line bytes.Buffer
}

type jsonRow struct {
	EventID    string            `json:"event_id"`
	Time       string            `json:"time"`
	ReceivedAt string            `json:"received_at"`
	Device     string            `json:"device,omitempty"`
	Person     string            `json:"person,omitempty"`
	Type       string            `json:"type"`
	Channel    string            `json:"channel"`
	Stage      string            `json:"stage"`
	Site       string            `json:"site"`
	Grants     []jsonGrant       `json:"grants"`
	Policy     string            `json:"policy"`
	Campaign   string            `json:"campaign,omitempty"`
	Source     string            `json:"source,omitempty"`
	Medium     string            `json:"medium,omitempty"`
	ValueMinor *int64            `json:"value_minor,omitempty"`
	Currency   string            `json:"currency,omitempty"`
	Properties map[string]string `json:"properties"`
}

type jsonGrant struct {
	Purpose string `json:"purpose"`
	Version int    `json:"version"`
	Basis   string `json:"basis"`
	Ref     string `json:"ref,omitempty"`
}

const jsonTime = "2006-01-02T15:04:05.000Z"

// lineMax bounds a line in bytes: a row of export.EncodeRows has at most 8 MiB, each of which JSON writes in up to six.
const lineMax = 64 << 20

// errLine is a line that lineWriter did not write.
var errLine = errors.New("line is not an event")

func (l *lineWriter) Write(rows []pseudonymize.Row) error {
	l.line.Reset()
	encoder := json.NewEncoder(&l.line)
	encoder.SetEscapeHTML(false)
	for i := range rows {
		if err := encoder.Encode(lineOf(&rows[i])); err != nil {
			return err
		}
	}
	_, err := l.w.Write(l.line.Bytes())
	return err
}

func (l *lineWriter) Close() error { return nil }

func lineOf(r *pseudonymize.Row) jsonRow {
	at := func(t time.Time) string { return t.UTC().Format(jsonTime) }
	j := jsonRow{
		EventID: idText(&r.EventID), Time: at(r.Time), ReceivedAt: at(r.ReceivedAt), Device: idText(r.Device), Person: idText(r.Person),
		Type: r.Type, Channel: r.Channel, Stage: r.Stage, Site: r.Site, Grants: grantsOf(r),
		Policy: hex.EncodeToString(r.Policy[:]), Campaign: r.Campaign, Source: r.Source, Medium: r.Medium,
		Currency: r.Value.Currency, Properties: r.Properties,
	}
	if j.Properties == nil {
		j.Properties = map[string]string{}
	}
	if r.Value.Currency != "" {
		j.ValueMinor = &r.Value.Minor
	}
	return j
}

func grantsOf(r *pseudonymize.Row) []jsonGrant {
	grants := make([]jsonGrant, len(r.Grants))
	for i := range r.Grants {
		g := &r.Grants[i]
		grants[i] = jsonGrant{Purpose: g.Purpose, Version: g.Version, Basis: string(g.Basis)}
		if g.Ref != [16]byte{} {
			grants[i].Ref = hex.EncodeToString(g.Ref[:])
		}
	}
	return grants
}

// readLines reads what lineWriter wrote, a thousand rows at a time; errLine where it did not.
func readLines(r io.Reader, fn func([]pseudonymize.Row) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, lineMax)
	rows := make([]pseudonymize.Row, 0, pieceRows)
	for n := 1; lines.Scan(); n++ {
		row, err := parseLine(lines.Bytes())
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if rows = append(rows, row); len(rows) == pieceRows {
			if err := fn(rows); err != nil {
				return err
			}
			rows = rows[:0]
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if len(rows) == 0 {
		return nil
	}
	return fn(rows)
}

// pieceRows are read or written at a time.
const pieceRows = 1024

func parseLine(text []byte) (row pseudonymize.Row, err error) {
	var j jsonRow
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if d.Decode(&j) != nil || d.More() {
		return row, errLine // the cause would quote the line
	}
	return j.row()
}

// row is what lineOf made j of.
func (j *jsonRow) row() (row pseudonymize.Row, err error) {
	row = pseudonymize.Row{
		Type: j.Type, Channel: j.Channel, Stage: j.Stage, Site: j.Site, Campaign: j.Campaign, Source: j.Source, Medium: j.Medium,
	}
	if len(j.Properties) > 0 {
		row.Properties = j.Properties
	}
	if row.Grants, err = parseGrants(j.Grants); err != nil {
		return row, err
	}
	policy, err := hex.DecodeString(j.Policy)
	if err != nil || len(policy) != len(row.Policy) || (j.ValueMinor == nil) != (j.Currency == "") {
		return row, errLine
	}
	row.Policy = [32]byte(policy)
	if j.ValueMinor != nil {
		row.Value = pseudonymize.Money{Minor: *j.ValueMinor, Currency: j.Currency}
	}
	at, err1 := time.Parse(jsonTime, j.Time)
	received, err2 := time.Parse(jsonTime, j.ReceivedAt)
	id, err3 := parseID(j.EventID)
	device, err4 := optionalID(j.Device)
	person, err5 := optionalID(j.Person)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return row, errLine
	}
	row.Time, row.ReceivedAt, row.EventID, row.Device, row.Person = at, received, id, device, person
	return row, nil
}

func parseGrants(texts []jsonGrant) ([]pseudonymize.RowGrant, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	grants := make([]pseudonymize.RowGrant, len(texts))
	for i, g := range texts {
		grants[i] = pseudonymize.RowGrant{Purpose: g.Purpose, Version: g.Version, Basis: policies.Basis(g.Basis)}
		ref, err := optionalID(g.Ref)
		if err != nil {
			return nil, err
		}
		if ref != nil {
			grants[i].Ref = *ref
		}
	}
	return grants, nil
}

// idText is an id as 32 hex digits; "" for none.
func idText(p *[16]byte) string {
	if p == nil {
		return ""
	}
	return hex.EncodeToString(p[:])
}

func parseID(text string) (id [16]byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, errLine
	}
	return [16]byte(b), nil
}

func optionalID(text string) (*[16]byte, error) {
	if text == "" {
		return nil, nil
	}
	id, err := parseID(text)
	return &id, err
}
