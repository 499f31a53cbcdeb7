package load

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	bolt "go.etcd.io/bbolt"
)

// Status is what a folder or a database holds.
type Status struct {
	Destination, Format       string       // Format is "postgresql" of a database
	Nodes                     []NodeStatus // by name
	Batches, Rows, Duplicates uint64       // Rows: that everybody sees
	Restricted                uint64       // rows under restriction
}

// NodeStatus is how far one node's stream was applied.
type NodeStatus struct {
	Node    string
	Number  uint64 // last entry
	At      time.Time
	Failure string // why it stands still before the next entry; "" where it does not
	Since   time.Time
}

// ReadStatus reads a folder's state: ErrLocked while a loader has it, fs.ErrNotExist where nothing was loaded.
func ReadStatus(folder string) (s Status, err error) {
	path := filepath.Join(folder, ownFolder, "state.db")
	if _, err := os.Stat(path); err != nil {
		return s, fmt.Errorf("reading status of %s: %w", folder, err)
	}
	lock, err := lockFolder(folder)
	if err != nil {
		return s, fmt.Errorf("reading status: %w", err)
	}
	defer lock.release()
	db, err := openBolt(path, &bolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return s, fmt.Errorf("reading status: opening %s: %w", path, err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error { return s.read(tx) })
	if err != nil {
		return s, fmt.Errorf("reading status: %w", err)
	}
	return s, nil
}

func (s *Status) read(tx *bolt.Tx) error {
	about := tx.Bucket(bucketAbout)
	if about == nil {
		return fs.ErrNotExist
	}
	s.Destination, s.Format = string(about.Get([]byte("destination"))), string(about.Get([]byte("format")))
	nodes := map[string]*NodeStatus{}
	at := func(node []byte) *NodeStatus {
		if nodes[string(node)] == nil {
			nodes[string(node)] = &NodeStatus{Node: string(node)}
		}
		return nodes[string(node)]
	}
	err := errors.Join(
		eachJSON(tx.Bucket(bucketPosition), func(node []byte, p position) { at(node).Number, at(node).At = p.Number, p.At }),
		eachJSON(tx.Bucket(bucketFailure), func(node []byte, f failure) { at(node).Failure, at(node).Since = f.Text, f.At }),
		eachJSON(tx.Bucket(bucketOutput), func(_ []byte, r record) {
			s.Batches, s.Rows, s.Duplicates = s.Batches+1, s.Rows+uint64(r.Rows), s.Duplicates+uint64(r.Duplicates)
			s.Restricted += uint64(r.Hidden)
		}),
	)
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		s.Nodes = append(s.Nodes, *nodes[name])
	}
	return err
}

func eachJSON[T any](b *bolt.Bucket, fn func(key []byte, value T)) error {
	if b == nil {
		return nil
	}
	return b.ForEach(func(key, text []byte) error {
		var value T
		if err := json.Unmarshal(text, &value); err != nil {
			return err
		}
		fn(key, value)
		return nil
	})
}

// ReadDatabaseStatus reads a database's state, also while a loader is at work: fs.ErrNotExist where nothing was loaded.
func ReadDatabaseStatus(ctx context.Context, dsn, schema string) (s Status, err error) {
	d, err := newDatabase(dsn, cmp.Or(schema, DefaultSchema))
	if err != nil {
		return s, fmt.Errorf("reading status: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, d.config)
	if err != nil {
		return s, fmt.Errorf("reading status: %w", databaseError("connecting", err))
	}
	d.conn = conn
	err = d.status(ctx, &s)
	if !errors.Is(err, fs.ErrNotExist) {
		err = databaseError("reading tables", err)
	}
	if err = errors.Join(err, d.close()); err != nil {
		return s, fmt.Errorf("reading status: %w", err)
	}
	return s, nil
}

func (d *database) status(ctx context.Context, s *Status) error {
	var there bool
	if err := d.conn.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, d.schema+".about").Scan(&there); err != nil {
		return err
	}
	if !there {
		return fs.ErrNotExist
	}
	s.Format = "postgresql"
	err := d.conn.QueryRow(ctx, `SELECT destination, (SELECT count(*) FROM batches), (SELECT coalesce(sum(rows), 0)::bigint FROM batches),
		(SELECT coalesce(sum(duplicates), 0)::bigint FROM batches), (SELECT coalesce(sum(restricted), 0)::bigint FROM batches) FROM about`).
		Scan(&s.Destination, &s.Batches, &s.Rows, &s.Duplicates, &s.Restricted)
	if err != nil {
		return err
	}
	return d.each(ctx, `SELECT node, number, coalesce(applied_at, 'epoch'), coalesce(failure, ''), coalesce(failed_at, 'epoch') FROM positions ORDER BY node`,
		nil, func(rows pgx.Rows) error {
			var n NodeStatus
			err := rows.Scan(&n.Node, &n.Number, &n.At, &n.Failure, &n.Since)
			n.At, n.Since = n.At.UTC(), n.Since.UTC()
			s.Nodes = append(s.Nodes, n)
			return err
		})
}
