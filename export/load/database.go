package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DefaultSchema is where a database's tables are, unless Options say otherwise.
const DefaultSchema = "octroi"

// ErrDenied is a database that is there and does not do what it is asked: the login, the database's name, or rights.
var ErrDenied = errors.New("database denied it")

// database is the sink in PostgreSQL 12 or later: the tables of databaseMigrations, in one schema. An entry is one transaction there, with its
// position in it: whatever crashes, it is carried out once.
//
// All goes over one connection, which holds an advisory lock of the schema: a second loader is ErrLocked. A connection that breaks is made
// anew. PostgreSQL keeps the old versions of rows in its files until a vacuum, and in its write-ahead log and backups for as long as these
// are kept.
type database struct {
	config              *pgx.ConnConfig
	schema, destination string
	conn                *pgx.Conn
	again               bool // it was connected before
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

func openDatabase(ctx context.Context, dsn, schema, destination string) (*database, error) {
	d, err := newDatabase(dsn, schema)
	if err != nil {
		return nil, err
	}
	d.destination = destination
	return d, d.ready(ctx)
}

func newDatabase(dsn, schema string) (*database, error) {
	if !schemaName.MatchString(schema) {
		return nil, fmt.Errorf("%w: schema %q: lower-case letters, digits and _ only, at most 63", ErrDenied, schema)
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil { // the cause may quote the password
		return nil, fmt.Errorf("%w: the connection string is not one: expected postgres://user:password@host:5432/database?sslmode=verify-full "+
			"or host=… user=… password=… dbname=…", ErrDenied)
	}
	config.RuntimeParams["application_name"] = "octroi-load"
	config.RuntimeParams["search_path"] = schema
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 10 * time.Second
	}
	return &database{config: config, schema: schema}, nil
}

// DatabaseName is the name of the database that a connection string names.
func DatabaseName(dsn string) (string, error) {
	d, err := newDatabase(dsn, DefaultSchema)
	if err != nil {
		return "", err
	}
	return d.config.Database, nil
}

// ready connects where there is no connection: every use begins with it.
func (d *database) ready(ctx context.Context) error {
	if d.conn != nil && !d.conn.IsClosed() {
		return nil
	}
	conn, err := pgx.ConnectConfig(ctx, d.config)
	if err != nil {
		return databaseError("connecting", err)
	}
	d.conn = conn
	if err := d.prepare(ctx); err != nil {
		return errors.Join(err, d.close())
	}
	d.again = true
	return nil
}

// prepare takes the lock, brings the schema to this version, and makes what a session has of its own.
func (d *database) prepare(ctx context.Context) error {
	locked, err := d.lock(ctx)
	switch {
	case err != nil:
		return databaseError("locking", err)
	case !locked && d.again: // a server that has not yet seen the end of the connection before
		return fmt.Errorf("%w: schema %s is locked, by the connection before or by another octroi-load", ErrDatabase, d.schema)
	case !locked:
		return fmt.Errorf("schema %s: %w: wait for it or stop it", d.schema, ErrLocked)
	}
	if err := pgx.BeginFunc(ctx, d.conn, func(tx pgx.Tx) error { return d.migrate(ctx, tx) }); err != nil {
		return databaseError("preparing the schema", err)
	}
	// What comes by COPY; it is emptied with every transaction.
	_, err = d.conn.Exec(ctx, `CREATE TEMPORARY TABLE incoming (LIKE events) ON COMMIT DELETE ROWS`)
	return databaseError("preparing the session", err)
}

// lockPatience is how long a lock is tried for: a server needs a moment to see that the process before was killed.
const lockPatience = 3 * time.Second

func (d *database) lock(ctx context.Context) (locked bool, err error) {
	for began := time.Now(); ; {
		err = d.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended($1, 0))`, "octroi-load:"+d.schema).Scan(&locked)
		if err != nil || locked || time.Since(began) > lockPatience {
			return locked, err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return false, err
		}
	}
}

// migrate creates the schema where it is missing, and brings it to the newest version.
func (d *database) migrate(ctx context.Context, tx pgx.Tx) error {
	var version int
	var there bool
	err := tx.QueryRow(ctx, `SELECT to_regnamespace($1) IS NOT NULL`, d.schema).Scan(&there)
	if err == nil && !there { // IF NOT EXISTS would ask for the right to create even where it exists
		_, err = tx.Exec(ctx, `CREATE SCHEMA `+pgx.Identifier{d.schema}.Sanitize())
	}
	if err == nil {
		err = tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, d.schema+".about").Scan(&there)
	}
	if err != nil {
		return err
	}
	if there {
		var destination string
		err := tx.QueryRow(ctx, `SELECT version, destination FROM about`).Scan(&version, &destination)
		switch {
		case err != nil:
			return err
		case version > len(databaseMigrations):
			return fmt.Errorf("%w: schema %s is of version %d, this octroi-load knows %d: update it", ErrFolder, d.schema, version, len(databaseMigrations))
		case destination != d.destination:
			return fmt.Errorf("%w: schema %s is of destination %q, not %q: name another schema", ErrFolder, d.schema, destination, d.destination)
		}
	}
	for _, migration := range databaseMigrations[version:] {
		if _, err := tx.Exec(ctx, migration); err != nil {
			return err
		}
	}
	if !there {
		_, err := tx.Exec(ctx, `INSERT INTO about (version, destination) VALUES ($1, $2)`, len(databaseMigrations), d.destination)
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE about SET version = $1 WHERE version <> $1`, len(databaseMigrations))
	return err
}

func (d *database) close() error {
	if d.conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if !d.conn.IsClosed() { // the server ends a session in its own time
		_, _ = d.conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
	}
	return d.conn.Close(ctx)
}

func (d *database) scratch() string { return os.TempDir() }

func (d *database) positions(ctx context.Context) (map[string]position, error) {
	all := map[string]position{}
	err := d.each(ctx, `SELECT node, number, sha256, applied_at FROM positions WHERE number > 0`, nil, func(rows pgx.Rows) error {
		var node string
		var p position
		err := rows.Scan(&node, &p.Number, &p.Previous, &p.At)
		all[node] = p
		return err
	})
	return all, databaseError("reading positions", err)
}

const recordColumns = `batch, node, number, stated, rows, duplicates, restricted, restricted_devices, restricted_persons`

func scanRecord(rows pgx.Rows) (r record, err error) {
	var devices, persons []string
	if err := rows.Scan(&r.ID, &r.Node, &r.Number, &r.Stated, &r.Rows, &r.Duplicates, &r.Hidden, &devices, &persons); err != nil {
		return r, err
	}
	r.Restricted, err = peopleOf(devices, persons)
	return r, err
}

func (d *database) batch(ctx context.Context, id string) (r record, known bool, err error) {
	err = d.each(ctx, `SELECT `+recordColumns+` FROM batches WHERE batch = $1`, []any{id}, func(rows pgx.Rows) (err error) {
		r, err = scanRecord(rows)
		known = true
		return err
	})
	return r, known, databaseError("reading the record of a batch", err)
}

func (d *database) batches(ctx context.Context, node string, fn func(record)) error {
	err := d.each(ctx, `SELECT `+recordColumns+` FROM batches WHERE node = $1`, []any{node}, func(rows pgx.Rows) error {
		r, err := scanRecord(rows)
		if err == nil {
			fn(r)
		}
		return err
	})
	return databaseError("reading the records of batches", err)
}

func (d *database) each(ctx context.Context, query string, arguments []any, fn func(pgx.Rows) error) error {
	if err := d.ready(ctx); err != nil {
		return err
	}
	rows, err := d.conn.Query(ctx, query, arguments...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (d *database) fail(ctx context.Context, node string, f failure) error {
	if err := d.ready(ctx); err != nil {
		return err
	}
	_, err := d.conn.Exec(ctx, `INSERT INTO positions (node, number, sha256, failed_number, failure, failed_at) VALUES ($1, 0, '', $2, $3, $4)
		ON CONFLICT (node) DO UPDATE SET failed_number = $2, failure = $3, failed_at = $4`, node, f.Number, f.Text, f.At)
	return databaseError("recording a failure", err)
}

// databaseError sorts an error of PostgreSQL. Of those that could quote a row only the code is kept.
func databaseError(doing string, err error) error {
	var answer *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, ErrDatabase), errors.Is(err, ErrDenied), errors.Is(err, ErrFolder), errors.Is(err, ErrLocked),
		errors.Is(err, ErrStatement):
		return err
	case errors.Is(err, errLine):
		return fmt.Errorf("%s: %w", doing, ErrChanged)
	case !errors.As(err, &answer):
		if strings.Contains(err.Error(), "password") { // pgx hides it; nobody shall have to believe that
			return fmt.Errorf("%s: %w", doing, ErrDatabase)
		}
		return fmt.Errorf("%s: %w: %w", doing, ErrDatabase, err)
	}
	class := answer.Code[:min(2, len(answer.Code))]
	switch class {
	case "08", "53", "57", "40": // connection, resources such as disk and connections, shutdown, serialization
		return fmt.Errorf("%s: %w: %s (SQLSTATE %s)", doing, ErrDatabase, answer.Message, answer.Code)
	case "28", "3D", "3F", "42": // login, database, schema, rights and names
		return fmt.Errorf("%s: %w: %s (SQLSTATE %s); next: check the user, its rights and the database in the file of the connection string",
			doing, ErrDenied, answer.Message, answer.Code)
	}
	return fmt.Errorf("%s: %w (SQLSTATE %s)", doing, ErrDenied, answer.Code)
}
