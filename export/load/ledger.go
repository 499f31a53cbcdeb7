package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// ownFolder holds the loader's state inside the folder it loads into.
const ownFolder = ".octroi-load"

// ledger is what the loader of a folder remembers, in <folder>/.octroi-load/state.db (bbolt), version 2:
//
//	about    "version" → "2", "destination", "format"
//	position <node> → position as JSON
//	seen     "site:" <site> → bucket of 16-byte event ids → 0x01; about 100 bytes an event
//	output   <batch id> → record as JSON
//	failure  <node> → failure as JSON; only while the node's stream stands still
//	staged   <path below the folder> → name of the file below .octroi-load/staged that comes there; empty: what is there goes
//
// One transaction an entry writes position, seen, output and staged together, and the files move after it: see folder. Version 1 had
// neither staged nor what a record has for replaced and restricted rows; it is read as it is. The file is the only memory of what was
// loaded: with it lost, load into an empty folder.
type ledger struct{ db *bolt.DB }

// The versions of ledgers.
const (
	ledgerVersion       = "2"
	ledgerVersionBefore = "1"
)

var (
	bucketAbout    = []byte("about")
	bucketPosition = []byte("position")
	bucketSeen     = []byte("seen")
	bucketOutput   = []byte("output")
	bucketFailure  = []byte("failure")
	bucketStaged   = []byte("staged")
	seenMark       = []byte{1}
)

func openLedger(folder, destination, format string) (*ledger, error) {
	path := filepath.Join(folder, ownFolder, "state.db")
	o := bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType}
	if err := createBolt(path, &o); err != nil {
		return nil, fmt.Errorf("creating %s: %w", path, err)
	}
	db, err := openBolt(path, &o)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w; restore it from a backup of the folder, or load into an empty folder", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketAbout, bucketPosition, bucketSeen, bucketOutput, bucketFailure, bucketStaged} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return describe(tx.Bucket(bucketAbout), destination, format)
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &ledger{db: db}, nil
}

// describe writes what the folder is, or checks that it is so already.
func describe(about *bolt.Bucket, destination, format string) error {
	for _, a := range []struct{ name, value string }{{"version", ledgerVersion}, {"destination", destination}, {"format", format}} {
		kept := string(about.Get([]byte(a.name)))
		switch {
		case kept == a.value:
		case kept == "", a.name == "version" && kept == ledgerVersionBefore:
			if err := about.Put([]byte(a.name), []byte(a.value)); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: its %s is %q, not %q: name another folder", ErrFolder, a.name, kept, a.value)
		}
	}
	return nil
}

// createBolt makes an empty bbolt file where there is none. It gets its name when it is whole: of one that a crash or a full disk has cut
// off while it was made, nobody could say that it never held anything.
func createBolt(path string, o *bolt.Options) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	draft := path + ".new"
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := openBolt(draft, o)
	if err == nil {
		err = db.Close()
	}
	if err == nil {
		err = os.Rename(draft, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	return syncFolder(filepath.Dir(path))
}

// openBolt opens a bbolt file. Of a damaged one bbolt may panic instead of saying so, and of a shortened one it reads, through its memory map,
// what is not there.
func openBolt(path string, o *bolt.Options) (db *bolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, errors.New("it is damaged")
		}
	}()
	if db, err = bolt.Open(path, 0o600, o); err != nil {
		return nil, err
	}
	about, err := os.Stat(path)
	if err == nil {
		err = db.View(func(tx *bolt.Tx) error {
			if tx.Size() > about.Size() {
				return errors.New("it is damaged: its end is missing")
			}
			return nil
		})
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (l *ledger) close() error { return l.db.Close() }

func (l *ledger) positions() (all map[string]position, err error) {
	all = map[string]position{}
	err = l.db.View(func(tx *bolt.Tx) error {
		return eachJSON(tx.Bucket(bucketPosition), func(node []byte, p position) { all[string(node)] = p })
	})
	if err != nil {
		return nil, fmt.Errorf("reading positions: %w", err)
	}
	return all, nil
}

func (l *ledger) record(id string) (r record, known bool, err error) {
	err = l.db.View(func(tx *bolt.Tx) error {
		text := tx.Bucket(bucketOutput).Get([]byte(id))
		if known = text != nil; !known {
			return nil
		}
		return json.Unmarshal(text, &r)
	})
	if err != nil {
		return r, false, fmt.Errorf("reading the record of batch %q: %w", id, err)
	}
	return r.named(id), known, nil
}

// named completes what is read: the id is the key, and version 1 had no Stated.
func (r record) named(id string) record {
	r.ID, r.Stated = id, max(r.Stated, r.Number)
	return r
}

func (l *ledger) records(fn func(record)) error {
	err := l.db.View(func(tx *bolt.Tx) error {
		return eachJSON(tx.Bucket(bucketOutput), func(id []byte, r record) { fn(r.named(string(id))) })
	})
	if err != nil {
		return fmt.Errorf("reading the records of batches: %w", err)
	}
	return nil
}

func (l *ledger) fail(node string, f failure) error {
	return l.db.Update(func(tx *bolt.Tx) error { return putJSON(tx.Bucket(bucketFailure), node, f) })
}

// staged are the moves of the last transaction, by path below the folder.
func (l *ledger) staged() (moves map[string]string, err error) {
	moves = map[string]string{}
	err = l.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketStaged).ForEach(func(path, name []byte) error {
			moves[string(path)] = string(name)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading what is staged: %w", err)
	}
	return moves, nil
}

// marks are event ids by site.
type marks map[string]map[[16]byte]struct{}

func (m marks) add(site string, id [16]byte) {
	if m[site] == nil {
		m[site] = map[[16]byte]struct{}{}
	}
	m[site][id] = struct{}{}
}

func (m marks) has(site string, id [16]byte) bool {
	_, ok := m[site][id]
	return ok
}

// siteBucket has a prefix, since bbolt has no bucket of an empty name.
func siteBucket(site string) []byte { return append([]byte("site:"), site...) }

// seen says whether an event is loaded.
func seen(tx *bolt.Tx, site string, id [16]byte) bool {
	b := tx.Bucket(bucketSeen).Bucket(siteBucket(site))
	return b != nil && b.Get(id[:]) != nil
}

func remember(b *bolt.Bucket, id []byte) error { return b.Put(id, seenMark) }
func forget(b *bolt.Bucket, id []byte) error   { return b.Delete(id) }

// mark calls put, which is remember or forget, for each id in order: bbolt splits a node only at commit, so that ids put as they come, which
// are random, would each move half of all those before them (measured: 100,000 took 32 s).
func mark(tx *bolt.Tx, m marks, put func(b *bolt.Bucket, id []byte) error) error {
	for _, site := range slices.Sorted(maps.Keys(m)) {
		b, err := tx.Bucket(bucketSeen).CreateBucketIfNotExists(siteBucket(site))
		if err != nil {
			return err
		}
		ids := slices.SortedFunc(maps.Keys(m[site]), func(x, y [16]byte) int { return bytes.Compare(x[:], y[:]) })
		for _, id := range ids {
			if err := put(b, id[:]); err != nil {
				return err
			}
		}
	}
	return nil
}

func putJSON(b *bolt.Bucket, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), text)
}

// folderLock is held while a process loads into the folder.
type folderLock struct{ f *os.File }

func lockFolder(folder string) (*folderLock, error) {
	own := filepath.Join(folder, ownFolder)
	if err := os.MkdirAll(own, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(own, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w: wait for it or stop it", folder, ErrLocked)
		}
		return nil, fmt.Errorf("locking %s: %w", folder, err)
	}
	return &folderLock{f: f}, nil
}

func (l *folderLock) release() error { return l.f.Close() }
