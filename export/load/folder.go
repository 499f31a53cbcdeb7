package load

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
)

// folder is the sink of files:
//
//	events/dt=YYYY-MM-DD/hour=HH/<batch>.<format>   what everybody reads
//	.octroi-load/restricted/<batch>.<format>        rows under restriction (GDPR Art. 18)
//	.octroi-load/staged/<random>                    on their way to one of the two
//	.octroi-load/state.db, lock                     see ledger
//
// An entry's files are written and synced below staged; one transaction of the ledger then records the entry and where each file goes; then
// they are renamed there, over what stood there before. A crash before the transaction leaves staged files that the next Open removes, one
// after it leaves moves that the next Open makes. So an entry that touches many batches is carried out whole or not at all.
//
// A file that is rewritten or removed is gone from the folder, and its bytes are the file system's: they may stand on the disk until they
// are written over, and stay in snapshots and backups.
type folder struct {
	dir, format string
	files       files
	ledger      *ledger
	lock        *folderLock
	unfinished  bool  // moves of the last transaction are left to make
	broken      error // of a transaction that is in doubt
}

// Below the folder.
const (
	stagedFolder     = ownFolder + "/staged"
	restrictedFolder = ownFolder + "/restricted"
)

func openFolder(o Options) (*folder, error) {
	lock, err := lockFolder(o.Dir)
	if err != nil {
		return nil, err
	}
	ledger, err := openLedger(o.Dir, o.Destination, o.Format)
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	f := &folder{dir: o.Dir, format: o.Format, files: o.files, ledger: ledger, lock: lock}
	if err := f.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("finishing the entry before: %w", err), f.close())
	}
	return f, nil
}

func (f *folder) close() error { return errors.Join(f.ledger.close(), f.lock.release()) }

func (f *folder) scratch() string { return filepath.Join(f.dir, ownFolder) }

func (f *folder) positions(context.Context) (map[string]position, error) { return f.ledger.positions() }

func (f *folder) batch(_ context.Context, id string) (record, bool, error) {
	return f.ledger.record(id)
}

func (f *folder) batches(_ context.Context, node string, fn func(record)) error {
	return f.ledger.records(func(r record) {
		if r.Node == node {
			fn(r)
		}
	})
}

func (f *folder) fail(_ context.Context, node string, x failure) error {
	return f.ledger.fail(node, x)
}

// recover makes the moves of the last transaction, and removes what is left of changes that had none.
func (f *folder) recover() error {
	for _, name := range []string{stagedFolder, restrictedFolder} {
		if err := os.MkdirAll(filepath.Join(f.dir, name), 0o700); err != nil {
			return err
		}
	}
	moves, err := f.ledger.staged()
	if err == nil {
		err = f.move(moves)
	}
	if err != nil {
		return err
	}
	left, err := os.ReadDir(filepath.Join(f.dir, stagedFolder))
	for _, e := range left {
		err = errors.Join(err, f.files.Remove(filepath.Join(f.dir, stagedFolder, e.Name())))
	}
	f.unfinished = err != nil
	return err
}

// move brings staged files to their paths.
func (f *folder) move(moves map[string]string) error {
	for _, path := range slices.Sorted(maps.Keys(moves)) {
		to := filepath.Join(f.dir, path)
		if moves[path] == "" {
			if err := f.files.Remove(to); err != nil {
				return fmt.Errorf("removing %s: %w", path, err)
			}
			continue
		}
		if err := makeFolders(f.dir, filepath.Dir(path)); err != nil {
			return fmt.Errorf("creating partition: %w", err)
		}
		// Crash here: some files are moved and some are not. Those that are staged no more were moved.
		err := f.files.Rename(filepath.Join(f.dir, stagedFolder, moves[path]), to)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("renaming output: %w", err)
		}
	}
	return nil
}

// content calls fn with what is loaded of a batch; hidden are the rows under restriction.
func (f *folder) content(r record, fn func(row *pseudonymize.Row, hidden bool) error) error {
	for _, part := range []struct {
		path, sum string
		hidden    bool
	}{{r.Path, r.SHA256, false}, {f.restrictedPath(r), r.HiddenSHA256, true}} {
		if part.sum == "" {
			continue
		}
		err := f.readRows(part.path, part.sum, func(rows []pseudonymize.Row) error {
			for i := range rows {
				if err := fn(&rows[i], part.hidden); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *folder) restrictedPath(r record) string {
	return restrictedFolder + "/" + r.ID + "." + f.format
}

// folderChange is a change of a folder.
type folderChange struct {
	f     *folder
	at    place
	tx    *bolt.Tx
	fresh marks // of rows that come
	gone  marks // of rows that go

	records   []record
	staged    []*stagedFile
	moves     map[string]string // see bucketStaged
	committed bool              // or in doubt
}

func (f *folder) begin(_ context.Context, at place) (change, error) {
	if f.broken != nil {
		return nil, fmt.Errorf("beginning an entry: an earlier one is in doubt; run octroi-load again: %w", f.broken)
	}
	if f.unfinished {
		if err := f.recover(); err != nil {
			return nil, fmt.Errorf("finishing the entry before: %w", err)
		}
	}
	tx, err := f.ledger.db.Begin(true)
	if err != nil {
		return nil, fmt.Errorf("beginning an entry: %w", err)
	}
	return &folderChange{f: f, at: at, tx: tx, fresh: marks{}, gone: marks{}, moves: map[string]string{}}, nil
}

func (c *folderChange) load(_ context.Context, b *export.Batch, r record, rows source) (record, error) {
	date, hour := b.Partition()
	r.Path = "events/dt=" + date + "/hour=" + hour + "/" + r.ID + "." + c.f.format
	w := content{c: c}
	err := rows(func(rows []pseudonymize.Row) error {
		for i := range rows {
			row := &rows[i]
			if seen(c.tx, row.Site, row.EventID) || c.fresh.has(row.Site, row.EventID) {
				r.Duplicates++
				continue
			}
			c.fresh.add(row.Site, row.EventID)
			if err := w.put(row, false); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	return c.keep(r, &w)
}

func (c *folderChange) carryOut(_ context.Context, o order) (effect, error) {
	r := o.batch
	r.Restricted = o.restricted()
	w := content{c: c, restricted: r.Restricted}
	if o.newest != nil {
		r.Stated = o.stated
		m := merge{content: func(fn func(*pseudonymize.Row, bool) error) error { return c.f.content(o.batch, fn) }, newest: o.newest}
		if err := m.run(&w); err != nil {
			return effect{}, err
		}
		_, err := c.keep(r, &w)
		return w.effect, err
	}
	// Most notices come when their batches were brought to their new objects already: a look costs less than a rewrite.
	look := content{c: c, restricted: r.Restricted, dry: true}
	if err := look.cut(&o); err != nil {
		return effect{}, err
	}
	if look.effect == (effect{}) {
		c.records = append(c.records, r)
		return effect{}, nil
	}
	if err := w.cut(&o); err != nil {
		return effect{}, err
	}
	_, err := c.keep(r, &w)
	return w.effect, err
}

// keep makes w the content of the batch.
func (c *folderChange) keep(r record, w *content) (record, error) {
	for _, part := range []struct {
		s    *stagedFile
		path string
		rows *int
		sum  *string
	}{{w.shown, r.Path, &r.Rows, &r.SHA256}, {w.hidden, c.f.restrictedPath(r), &r.Hidden, &r.HiddenSHA256}} {
		if part.s == nil {
			// Also where nothing is recorded there: the ledger may be a new one, and the file from before.
			*part.rows, *part.sum, c.moves[part.path] = 0, "", ""
			continue
		}
		sum, err := part.s.finish()
		if err != nil {
			return r, err
		}
		*part.rows, *part.sum, c.moves[part.path] = part.s.count, sum, part.s.name
	}
	c.records = append(c.records, r)
	return r, nil
}

func (c *folderChange) commit(context.Context) error {
	if err := syncFolder(filepath.Join(c.f.dir, stagedFolder)); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	// Crash here: files are staged that nothing points to. The next Open removes them, and the entry is carried out again.
	err := c.write()
	if err == nil {
		c.committed = true
		err = c.tx.Commit()
		if err != nil {
			c.f.broken = err
		}
	}
	if err != nil {
		return fmt.Errorf("recording entry %d: %w", c.at.Number, err)
	}
	c.f.unfinished = true
	// Crash here: the entry is recorded and its files are not moved. The next Open moves them.
	if err := c.f.move(c.moves); err != nil {
		return fmt.Errorf("finishing entry %d: %w", c.at.Number, err)
	}
	c.f.unfinished = false
	return nil
}

func (c *folderChange) write() error {
	err := errors.Join(
		mark(c.tx, c.fresh, remember),
		mark(c.tx, c.gone, forget),
		putJSON(c.tx.Bucket(bucketPosition), c.at.node, c.at.position),
		c.tx.Bucket(bucketFailure).Delete([]byte(c.at.node)),
		c.tx.DeleteBucket(bucketStaged),
	)
	for _, r := range c.records {
		err = errors.Join(err, putJSON(c.tx.Bucket(bucketOutput), r.ID, r))
	}
	staged, made := c.tx.CreateBucket(bucketStaged)
	if err = errors.Join(err, made); err != nil {
		return err
	}
	for path, name := range c.moves {
		err = errors.Join(err, staged.Put([]byte(path), []byte(name)))
	}
	return err
}

// rollback forgets the change. What is in doubt stays staged until the next Open knows.
func (c *folderChange) rollback() {
	c.tx.Rollback()
	if c.committed {
		return
	}
	for _, s := range c.staged {
		s.file.Close() // again, where it is finished
		os.Remove(filepath.Join(c.f.dir, stagedFolder, s.name))
	}
}
