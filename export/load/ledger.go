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

// ledger is what the loader remembers, in <folder>/.octroi-load/state.db (bbolt), version 1:
//
//	about    "version" → "1", "destination", "format"
//	position <node> → position as JSON
//	seen     "site:" <site> → bucket of 16-byte event ids → 0x01; about 100 bytes an event
//	output   <batch id> → output as JSON
//	failure  <node> → failure as JSON; only while the node's stream stands still
//
// One transaction a batch writes position, seen and output together. The file is the only memory of what was loaded: with it lost,
// load into an empty folder.
type ledger struct{ db *bolt.DB }

// position is the last entry that was applied.
type position struct {
	Number   uint64    `json:"number"`
	Previous string    `json:"previous"` // its hash
	At       time.Time `json:"at"`       // when it was applied
}

// output is one loaded batch.
type output struct {
	Path       string `json:"path"`   // below the folder; empty where every row was loaded before
	SHA256     string `json:"sha256"` // of the file, hex
	Rows       int    `json:"rows"`
	Duplicates int    `json:"duplicates"`
	Node       string `json:"node"`
	Number     uint64 `json:"number"`
}

// failure is why a node's stream stands still. The text holds no personal data.
type failure struct {
	Number uint64    `json:"number"`
	Text   string    `json:"text"`
	At     time.Time `json:"at"`
}

var (
	bucketAbout    = []byte("about")
	bucketPosition = []byte("position")
	bucketSeen     = []byte("seen")
	bucketOutput   = []byte("output")
	bucketFailure  = []byte("failure")
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
		for _, name := range [][]byte{bucketAbout, bucketPosition, bucketSeen, bucketOutput, bucketFailure} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		about := tx.Bucket(bucketAbout)
		for _, a := range []struct{ name, value string }{{"version", "1"}, {"destination", destination}, {"format", format}} {
			switch kept := string(about.Get([]byte(a.name))); kept {
			case a.value:
			case "":
				if err := about.Put([]byte(a.name), []byte(a.value)); err != nil {
					return err
				}
			default:
				return fmt.Errorf("%w: its %s is %q, not %q: name another folder", ErrFolder, a.name, kept, a.value)
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &ledger{db: db}, nil
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

func (l *ledger) position(node string) (p position, err error) {
	err = l.db.View(func(tx *bolt.Tx) error {
		text := tx.Bucket(bucketPosition).Get([]byte(node))
		if text == nil {
			return nil
		}
		return json.Unmarshal(text, &p)
	})
	if err != nil {
		return p, fmt.Errorf("reading the position of node %q: %w", node, err)
	}
	return p, nil
}

func (l *ledger) fail(node string, f failure) error {
	return l.db.Update(func(tx *bolt.Tx) error { return putJSON(tx.Bucket(bucketFailure), node, f) })
}

// batch is one batch's transaction. Its owner ends it by commit or rollback.
type batch struct {
	tx    *bolt.Tx
	fresh map[string]map[[16]byte]struct{} // site → ids that are new with this batch, to be put at commit
}

func (l *ledger) begin() (*batch, error) {
	tx, err := l.db.Begin(true)
	if err != nil {
		return nil, fmt.Errorf("beginning a batch: %w", err)
	}
	return &batch{tx: tx, fresh: map[string]map[[16]byte]struct{}{}}, nil
}

// siteBucket has a prefix, since bbolt has no bucket of an empty name.
func siteBucket(site string) []byte { return append([]byte("site:"), site...) }

// first remembers an event, and says whether it was unknown.
func (b *batch) first(site string, id [16]byte) bool {
	if seen := b.tx.Bucket(bucketSeen).Bucket(siteBucket(site)); seen != nil && seen.Get(id[:]) != nil {
		return false
	}
	fresh := b.fresh[site]
	if fresh == nil {
		fresh = map[[16]byte]struct{}{}
		b.fresh[site] = fresh
	}
	if _, known := fresh[id]; known {
		return false
	}
	fresh[id] = struct{}{}
	return true
}

// putSeen puts the ids in order: bbolt splits a node only at commit, so that ids put as they come, which are random, would each move
// half of all those before them (measured: 100,000 took 32 s).
func (b *batch) putSeen() error {
	for _, site := range slices.Sorted(maps.Keys(b.fresh)) {
		seen, err := b.tx.Bucket(bucketSeen).CreateBucketIfNotExists(siteBucket(site))
		if err != nil {
			return err
		}
		ids := slices.SortedFunc(maps.Keys(b.fresh[site]), func(x, y [16]byte) int { return bytes.Compare(x[:], y[:]) })
		for _, id := range ids {
			if err := seen.Put(id[:], seenMark); err != nil {
				return err
			}
		}
	}
	return nil
}

// commit records the batch as loaded.
func (b *batch) commit(id string, o output, p position) error {
	err := errors.Join(
		b.putSeen(),
		putJSON(b.tx.Bucket(bucketOutput), id, o),
		putJSON(b.tx.Bucket(bucketPosition), o.Node, p),
		b.tx.Bucket(bucketFailure).Delete([]byte(o.Node)),
	)
	if err == nil {
		err = b.tx.Commit()
	}
	if err != nil {
		return fmt.Errorf("recording batch %q: %w", id, err)
	}
	return nil
}

// loaded says whether a batch of this id was recorded: two batches of one id would be one file.
func (b *batch) loaded(id string) bool { return b.tx.Bucket(bucketOutput).Get([]byte(id)) != nil }

// rollback forgets the batch; after commit it does nothing.
func (b *batch) rollback() { b.tx.Rollback() }

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
