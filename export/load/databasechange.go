package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
)

// databaseChange is a change of a database: one transaction.
type databaseChange struct {
	d  *database
	at place
	tx pgx.Tx
}

func (d *database) begin(ctx context.Context, at place) (change, error) {
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	tx, err := d.conn.Begin(ctx)
	if err != nil {
		return nil, databaseError("beginning an entry", err)
	}
	c := &databaseChange{d, at, tx}
	// The lock should be enough. This holds whatever became of it: an entry is carried out after the one before it, and once.
	var number uint64
	err = tx.QueryRow(ctx, `SELECT number FROM positions WHERE node = $1 FOR UPDATE`, at.node).Scan(&number)
	switch {
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		err = databaseError("reading the position", err)
	case number+1 != at.Number:
		err = fmt.Errorf("schema %s: %w: it has moved node %q to entry %d", d.schema, ErrLocked, at.node, number)
	default:
		return c, nil
	}
	c.rollback()
	return nil, err
}

func (c *databaseChange) rollback() {
	// Where this fails the connection is broken, and the server rolls back.
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
	defer cancel()
	_ = c.tx.Rollback(ctx)
}

func (c *databaseChange) commit(ctx context.Context) error {
	_, err := c.tx.Exec(ctx, `INSERT INTO positions (node, number, sha256, applied_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (node) DO UPDATE SET number = $2, sha256 = $3, applied_at = $4, failed_number = NULL, failure = NULL, failed_at = NULL`,
		c.at.node, c.at.Number, c.at.Previous, c.at.At)
	if err == nil {
		// Crash here, on either side: the server has committed all of it, or nothing. The next round reads the position.
		err = c.tx.Commit(ctx)
	}
	return databaseError("recording an entry", err)
}

func (c *databaseChange) exec(ctx context.Context, query string, arguments ...any) (rows int, err error) {
	tag, err := c.tx.Exec(ctx, query, arguments...)
	return int(tag.RowsAffected()), err
}

// load brings the rows by COPY, and takes those that are nowhere yet: a restricted event that comes again stays restricted.
func (c *databaseChange) load(ctx context.Context, _ *export.Batch, r record, rows source) (record, error) {
	total, err := c.copyIn(ctx, r.ID, rows)
	if err != nil {
		return r, err
	}
	r.Rows, err = c.exec(ctx, `INSERT INTO events (`+columnList("")+`) SELECT `+columnList("")+` FROM incoming i
		WHERE NOT EXISTS (SELECT FROM restricted r WHERE r.site = i.site AND r.event_id = i.event_id) ON CONFLICT DO NOTHING`)
	if err != nil {
		return r, databaseError("loading rows", err)
	}
	r.Duplicates = total - r.Rows
	return r, c.record(ctx, r)
}

func (c *databaseChange) record(ctx context.Context, r record) error {
	devices, persons := r.Restricted.texts()
	_, err := c.tx.Exec(ctx, `INSERT INTO batches (`+recordColumns+`, changed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now())
		ON CONFLICT (batch) DO UPDATE SET stated = $4, rows = $5, restricted = $7, restricted_devices = $8, restricted_persons = $9, changed_at = now()`,
		r.ID, r.Node, r.Number, r.Stated, r.Rows, r.Duplicates, r.Hidden, devices, persons)
	return databaseError("recording a batch", err)
}

func (c *databaseChange) carryOut(ctx context.Context, o order) (e effect, err error) {
	r := o.batch
	r.Restricted = o.restricted()
	if o.newest != nil {
		r.Stated = o.stated
		if _, err := c.copyIn(ctx, r.ID, o.newest); err != nil {
			return e, err
		}
		// One of each, the first, as it was loaded.
		_, err := c.exec(ctx, `DELETE FROM incoming a USING incoming b WHERE a.site = b.site AND a.event_id = b.event_id AND a.ctid > b.ctid`)
		if err != nil {
			return e, databaseError("comparing rows", err)
		}
	}
	for _, table := range []string{"events", "restricted"} {
		work := c.cut
		if o.newest != nil {
			work = c.merge
		}
		done, err := work(ctx, table, &o)
		if err != nil {
			return e, databaseError("changing rows", err)
		}
		e.add(done)
	}
	moved, err := c.divide(ctx, o.batch, r.Restricted)
	if err != nil {
		return e, databaseError("restricting rows", err)
	}
	if e.add(moved); e != (effect{}) || o.newest != nil {
		err := c.tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM events WHERE batch = $1), (SELECT count(*) FROM restricted WHERE batch = $1)`, r.ID).
			Scan(&r.Rows, &r.Hidden)
		if err != nil {
			return e, databaseError("counting rows", err)
		}
	}
	return e, c.record(ctx, r)
}

// merge is merge of a folder: of a batch's rows those stay that the newest object has, as it has them, unless a notice cut them further.
func (c *databaseChange) merge(ctx context.Context, table string, o *order) (e effect, err error) {
	if e.gone, err = c.exec(ctx, `DELETE FROM `+table+` t WHERE batch = $1
		AND NOT EXISTS (SELECT FROM incoming i WHERE i.site = t.site AND i.event_id = t.event_id)`, o.batch.ID); err != nil {
		return e, err
	}
	const same = ` WHERE t.batch = $1 AND i.site = t.site AND i.event_id = t.event_id AND `
	var back bool
	err = c.tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+table+` t, incoming i`+same+`NOT `+incomingWithin+` AND NOT `+loadedWithin+`)`,
		o.batch.ID).Scan(&back)
	if err == nil && back {
		err = errBack
	}
	if err != nil {
		return e, err
	}
	e.reduced, err = c.exec(ctx, `UPDATE `+table+` t SET (`+changingList("")+`) = (`+changingList("i.")+`) FROM incoming i`+same+incomingWithin+`
		AND ROW(`+changingList("t.")+`) IS DISTINCT FROM ROW(`+changingList("i.")+`)`, o.batch.ID)
	return e, err
}

// Whether one of incoming and loaded rows has no purpose that the other lacks.
const (
	incomingWithin = `jsonb_path_query_array(i.grants, '$[*].purpose') <@ jsonb_path_query_array(t.grants, '$[*].purpose')`
	loadedWithin   = `jsonb_path_query_array(t.grants, '$[*].purpose') <@ jsonb_path_query_array(i.grants, '$[*].purpose')`
)

// cut applies an order's cuts to the rows that they can concern.
func (c *databaseChange) cut(ctx context.Context, table string, o *order) (e effect, err error) {
	var who people
	for i := range o.cuts {
		who = who.with(people{o.cuts[i].Devices, o.cuts[i].Persons})
	}
	if who.IsZero() {
		return e, nil
	}
	devices, persons := who.texts()
	rows, err := c.query(ctx, `SELECT `+columnList("")+` FROM `+table+` WHERE batch = $1 AND (device = ANY($2) OR person = ANY($3))`,
		o.batch.ID, devices, persons)
	if err != nil {
		return e, err
	}
	return c.alter(ctx, table, rows, o)
}

// alter deletes and updates the rows of a table as the order's cuts say of each.
func (c *databaseChange) alter(ctx context.Context, table string, rows []pseudonymize.Row, o *order) (e effect, err error) {
	var queue pgx.Batch
	for i := range rows {
		row := &rows[i]
		keep, changed := o.cut(row)
		switch {
		case !keep:
			e.gone++
			queue.Queue(`DELETE FROM `+table+` WHERE site = $1 AND event_id = $2`, row.Site, idText(&row.EventID))
		case changed:
			e.reduced++
			values, err := valuesOf(row, o.batch.ID)
			if err != nil {
				return e, err
			}
			queue.Queue(`UPDATE `+table+` SET (`+changingList("")+`) = ROW(`+changingPlaces+`) WHERE site = $1 AND event_id = $2`,
				append([]any{row.Site, idText(&row.EventID)}, changing(values)...)...)
		}
	}
	if queue.Len() == 0 {
		return e, nil
	}
	return e, c.tx.SendBatch(ctx, &queue).Close()
}

// divide moves rows between events and restricted, so that those of the restricted people are hidden and no others.
func (c *databaseChange) divide(ctx context.Context, r record, restricted people) (e effect, err error) {
	if r.Restricted.IsZero() && restricted.IsZero() {
		return e, nil
	}
	devices, persons := restricted.texts()
	const theirs = `(coalesce(device = ANY($2), false) OR coalesce(person = ANY($3), false))`
	if e.hidden, err = c.exec(ctx, moving("events", "restricted", theirs), r.ID, devices, persons); err != nil {
		return e, err
	}
	e.shown, err = c.exec(ctx, moving("restricted", "events", `NOT `+theirs), r.ID, devices, persons)
	return e, err
}

func moving(from, to, which string) string {
	return `WITH moved AS (DELETE FROM ` + from + ` WHERE batch = $1 AND ` + which + ` RETURNING ` + columnList("") + `)
		INSERT INTO ` + to + ` (` + columnList("") + `) SELECT ` + columnList("") + ` FROM moved`
}

// columns are those of events, as valuesOf gives their values and query reads them; the changing ones are what a cut can change.
var (
	columns = []string{
		"event_id", "time", "received_at", "type", "channel", "stage", "site", "policy", "batch",
		"device", "person", "grants", "campaign", "source", "medium", "value_minor", "currency", "properties",
	}
	changingPlaces = "$3, $4, $5, $6, $7, $8, $9, $10, $11"
)

const firstChanging = 9

func changing[T any](all []T) []T { return all[firstChanging:] }

func columnList(prefix string) string { return prefixed(prefix, columns) }

func changingList(prefix string) string { return prefixed(prefix, changing(columns)) }

func prefixed(prefix string, names []string) string {
	all := slices.Clone(names)
	for i := range all {
		all[i] = prefix + all[i]
	}
	return strings.Join(all, ", ")
}
