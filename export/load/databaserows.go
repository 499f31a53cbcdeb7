package load

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/octroi/octroi/pseudonymize"
)

// rollbackTimeout ends a rollback whose server does not answer.
const rollbackTimeout = 5 * time.Second

// copyIn makes rows the content of the table incoming, and counts them.
func (c *databaseChange) copyIn(ctx context.Context, batch string, rows source) (total int, err error) {
	if _, err := c.tx.Exec(ctx, `TRUNCATE incoming`); err != nil {
		return 0, databaseError("copying rows", err)
	}
	err = rows(func(rows []pseudonymize.Row) error {
		n, err := c.tx.CopyFrom(ctx, pgx.Identifier{"incoming"}, columns, pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
			return valuesOf(&rows[i], batch)
		}))
		total += int(n)
		return databaseError("copying rows", err)
	})
	return total, err
}

// valuesOf are a row's values in the order of columns.
func valuesOf(row *pseudonymize.Row, batch string) ([]any, error) {
	grants, err := asJSON(grantsOf(row))
	if err != nil {
		return nil, err
	}
	named := make(map[string]string, len(row.Properties))
	for name, text := range row.Properties {
		named[storable(name)] = storable(text)
	}
	properties, err := asJSON(named)
	if err != nil {
		return nil, err
	}
	var minor *int64
	if row.Value.Currency != "" {
		minor = &row.Value.Minor
	}
	return []any{
		idText(&row.EventID), row.Time, row.ReceivedAt, storable(row.Type), storable(row.Channel), storable(row.Stage), row.Site,
		hex.EncodeToString(row.Policy[:]), batch,
		nullable(idText(row.Device)), nullable(idText(row.Person)), grants, nullable(row.Campaign), nullable(row.Source), nullable(row.Medium),
		minor, nullable(row.Value.Currency), properties,
	}, nil
}

func asJSON(value any) (json.RawMessage, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return text.Bytes(), err
}

// storable is what PostgreSQL takes for text: U+0000 it does not.
func storable(text string) string { return strings.ReplaceAll(text, "\x00", "\uFFFD") }

func nullable(text string) *string {
	if text == "" {
		return nil
	}
	text = storable(text)
	return &text
}

// query reads rows; what it selects is columns.
func (c *databaseChange) query(ctx context.Context, query string, arguments ...any) (all []pseudonymize.Row, err error) {
	found, err := c.tx.Query(ctx, query, arguments...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, func(r pgx.CollectableRow) (row pseudonymize.Row, err error) {
		var j jsonRow
		var at, received time.Time
		var batch string
		var device, person, campaign, source, medium, currency *string
		err = r.Scan(&j.EventID, &at, &received, &j.Type, &j.Channel, &j.Stage, &j.Site, &j.Policy, &batch,
			&device, &person, &j.Grants, &campaign, &source, &medium, &j.ValueMinor, &currency, &j.Properties)
		if err != nil {
			return row, err
		}
		j.Time, j.ReceivedAt = at.UTC().Format(jsonTime), received.UTC().Format(jsonTime)
		for _, f := range []struct{ to, from *string }{
			{&j.Device, device}, {&j.Person, person}, {&j.Campaign, campaign}, {&j.Source, source}, {&j.Medium, medium}, {&j.Currency, currency},
		} {
			if f.from != nil {
				*f.to = *f.from
			}
		}
		return j.row()
	})
}
