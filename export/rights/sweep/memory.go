package sweep

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/octroi/octroi/export/rights/proof"
)

// memory is what a custodian remembers, in <State>/custodian.db (bbolt), version 1. It holds no pseudonym. Values are JSON but for "about".
//
//	about       "version" → "1", "custodian" → the random name under which batches are claimed
//	request     <request id> → requestRow       kept for good: a request is carried out once
//	day         <YYYY-MM-DD, UTC> → number of places (proof.Job.Places) of jobs that were taken up without an approval
//	open        <batch id>/<generation> → rewriteRow of an object that is, or may be, put and of which no answer is known
//	rewrite     <batch id>/<generation> → rewriteRow that the gateway accepted; until a later one of the batch is purged
//	done        <batch id>/<request id> → doneRow; until the request is completed
//
// <generation> has six digits. The file may be lost: then jobs of the day count again, completed requests are known to the gateway alone, and what
// the custodian would sign is read again from the store.
type memory struct {
	db   *bolt.DB
	lock *os.File
	name string // of the custodian: the next process that has this state may go on with what this one has claimed
}

// requestRow is a job that was taken up.
type requestRow struct {
	Digest      string    `json:"digest"` // of the job
	Taken       time.Time `json:"taken"`
	Completed   time.Time `json:"completed,omitzero"`
	Certificate string    `json:"certificate,omitempty"` // of an erasure
}

// object names one version of one object.
type object struct {
	Key     string `json:"key"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// rewriteRow is one rewritten batch.
type rewriteRow struct {
	Batch       string               `json:"batch"`
	Destination string               `json:"destination"`
	Generation  int                  `json:"generation"`
	Key         string               `json:"key,omitempty"` // that may be put; empty: no row is left
	Before      object               `json:"before"`
	Now         *object              `json:"now,omitempty"`
	Report      string               `json:"report,omitempty"` // signed; empty: not sent yet
	Scanned     int                  `json:"scanned"`
	Cut         map[string]proof.Cut `json:"cut"`
	Deleting    []proof.Gone         `json:"deleting,omitempty"` // what a purge deletes: written before it begins
}

func (r *rewriteRow) id() []byte { return rewriteID(r.Batch, r.Generation) }

func rewriteID(batch string, generation int) []byte {
	return fmt.Appendf(nil, "%s/%06d", batch, generation)
}

// doneRow is what one request met in one batch.
type doneRow struct {
	Destination string `json:"destination"`
	Scanned     int    `json:"scanned"` // rows
	Erased      int    `json:"erased"`
	Reduced     int    `json:"reduced"`
	Generation  int    `json:"generation"` // of the rewritten object; 0: nothing was rewritten
	Emptied     bool   `json:"emptied,omitempty"`
	Purged      bool   `json:"purged,omitempty"`
	Versions    int    `json:"versions,omitempty"` // that were deleted
}

func doneID(batch, request string) []byte { return []byte(batch + "/" + request) }

var (
	bucketAbout   = []byte("about")
	bucketRequest = []byte("request")
	bucketDay     = []byte("day")
	bucketOpen    = []byte("open")
	bucketRewrite = []byte("rewrite")
	bucketDone    = []byte("done")
	keyVersion    = []byte("version")
	keyCustodian  = []byte("custodian")
)

const memoryVersion = "1"

func openMemory(folder string) (m *memory, err error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFolder(folder)
	if err != nil {
		return nil, err
	}
	db, err := openDatabase(filepath.Join(folder, "custodian.db"))
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	m = &memory{db: db, lock: lock}
	if err := db.Update(m.prepare); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// prepare makes what a new file lacks, and reads what an old one says of itself.
func (m *memory) prepare(tx *bolt.Tx) error {
	for _, name := range [][]byte{bucketAbout, bucketRequest, bucketDay, bucketOpen, bucketRewrite, bucketDone} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	about := tx.Bucket(bucketAbout)
	switch version := string(about.Get(keyVersion)); version {
	case memoryVersion:
		m.name = string(about.Get(keyCustodian))
		return nil
	case "":
		m.name = rand.Text()
		return errors.Join(about.Put(keyVersion, []byte(memoryVersion)), about.Put(keyCustodian, []byte(m.name)))
	default:
		return fmt.Errorf("%w: its version is %q, not %s", ErrMemory, version, memoryVersion)
	}
}

func lockFolder(folder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w: wait for it, stop it, or name another folder", folder, ErrInUse)
		}
		return nil, fmt.Errorf("locking %s: %w", folder, err)
	}
	return f, nil
}

// openDatabase makes the file where there is none. It gets its name when it is whole: of one that a crash cut off while it was made, nobody could
// say that it never held anything.
func openDatabase(path string) (*bolt.DB, error) {
	o := bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		draft := path + ".new"
		if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		db, err := bolt.Open(draft, 0o600, &o)
		if err == nil {
			err = db.Close()
		}
		if err == nil {
			err = os.Rename(draft, path)
		}
		if err == nil {
			err = syncFolder(filepath.Dir(path))
		}
		if err != nil {
			return nil, fmt.Errorf("creating %s: %w", path, err)
		}
	}
	db, err := bolt.Open(path, 0o600, &o)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w: %w; move it away to begin anew", path, ErrMemory, err)
	}
	return db, nil
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (m *memory) close() error { return errors.Join(m.db.Close(), m.lock.Close()) }

func putRow(tx *bolt.Tx, bucket, key []byte, row any) error {
	text, err := json.Marshal(row)
	if err != nil {
		return err
	}
	return tx.Bucket(bucket).Put(key, text)
}

// getRow leaves row as it is where there is none.
func getRow(tx *bolt.Tx, bucket, key []byte, row any) (found bool, err error) {
	text := tx.Bucket(bucket).Get(key)
	if text == nil {
		return false, nil
	}
	if err := json.Unmarshal(text, row); err != nil {
		return false, fmt.Errorf("%w: a row of %q", ErrMemory, bucket)
	}
	return true, nil
}

func (m *memory) update(doing string, fn func(*bolt.Tx) error) error {
	if err := m.db.Update(fn); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// digestOf is what the custodian remembers of a job: its pseudonyms are random, so that the digest tells nobody's.
func digestOf(j *proof.Job) string {
	text, err := json.Marshal(j)
	if err != nil {
		return "" // no time of a checked job is outside what JSON can write
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Why take does not take a job up.
var (
	errOtherJob  = errors.New("the request was taken up with another job")
	errCompleted = errors.New("the request is completed")
	errCap       = errors.New("the places of the day are used up")
)

// taking is a job that asks to be taken up.
type taking struct {
	job      *proof.Job
	approved bool // by the DPO's key: it needs no place under the cap, and counts for more than what the request was taken up with before
	batches  []string
	day      string // YYYY-MM-DD, UTC
	cap      int
	at       time.Time
}

// look says whether a job may be taken up, and changes nothing. today is how many places of the day are taken.
func (x *taking) look(tx *bolt.Tx) (row requestRow, known bool, today int, err error) {
	known, err = getRow(tx, bucketRequest, []byte(x.job.Request), &row)
	if err == nil && !x.approved {
		_, err = getRow(tx, bucketDay, []byte(x.day), &today)
	}
	other := known && row.Digest != digestOf(x.job)
	switch {
	case err != nil:
	case other && (!x.approved || !row.Completed.IsZero()):
		err = errOtherJob
	case other:
		known = false
	case known && !row.Completed.IsZero():
		err = errCompleted
	case !known && !x.approved && today+x.job.Places() > x.cap:
		err = errCap
	}
	return row, known, today, err
}

// mayTake is look, by itself.
func (m *memory) mayTake(x taking) (row requestRow, err error) {
	err = m.db.View(func(tx *bolt.Tx) error {
		row, _, _, err = x.look(tx)
		return err
	})
	return row, err
}

// take takes a job up, once: errOtherJob, errCompleted with its row, errCap. A job that was taken up keeps its place.
func (m *memory) take(x taking) (row requestRow, err error) {
	err = m.db.Update(func(tx *bolt.Tx) error {
		var known bool
		var today int
		if row, known, today, err = x.look(tx); err != nil || known {
			return err
		}
		if !x.approved {
			if err := countDay(tx, x.day, today+x.job.Places()); err != nil {
				return err
			}
		}
		for _, id := range x.batches { // what another job of this request met
			if err := tx.Bucket(bucketDone).Delete(doneID(id, x.job.Request)); err != nil {
				return err
			}
		}
		row = requestRow{Digest: digestOf(x.job), Taken: x.at}
		return putRow(tx, bucketRequest, []byte(x.job.Request), row)
	})
	return row, err
}

// countDay keeps the count of one day, and forgets those of the days before.
func countDay(tx *bolt.Tx, day string, n int) error {
	b := tx.Bucket(bucketDay)
	c := b.Cursor()
	for k, _ := c.First(); k != nil && string(k) < day; k, _ = c.First() {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return putRow(tx, bucketDay, []byte(day), n)
}

// complete ends a request and forgets what it met in batches.
func (m *memory) complete(request, certificate string, batches []string, at time.Time) error {
	return m.update("completing a request", func(tx *bolt.Tx) error {
		var row requestRow
		if _, err := getRow(tx, bucketRequest, []byte(request), &row); err != nil {
			return err
		}
		row.Completed, row.Certificate = at, certificate
		for _, id := range batches {
			if err := tx.Bucket(bucketDone).Delete(doneID(id, request)); err != nil {
				return err
			}
		}
		return putRow(tx, bucketRequest, []byte(request), row)
	})
}

// opened are the rewrites of which no answer is known.
func (m *memory) opened() (rows []rewriteRow, err error) {
	err = m.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketOpen).ForEach(func(_, text []byte) error {
			var row rewriteRow
			if json.Unmarshal(text, &row) != nil {
				return fmt.Errorf("%w: a row of %q", ErrMemory, bucketOpen)
			}
			rows = append(rows, row)
			return nil
		})
	})
	return rows, err
}

// open remembers a rewrite before its object is put, and again before its report is sent.
func (m *memory) open(row *rewriteRow) error {
	return m.update("remembering a rewrite", func(tx *bolt.Tx) error { return putRow(tx, bucketOpen, row.id(), row) })
}

// forget is for a rewrite that was not accepted, and whose object is deleted.
func (m *memory) forget(row *rewriteRow) error {
	return m.update("forgetting a rewrite", func(tx *bolt.Tx) error { return tx.Bucket(bucketOpen).Delete(row.id()) })
}

// accepted remembers that the gateway took a report, and what each request met.
func (m *memory) accepted(row *rewriteRow) error {
	return m.update("remembering a rewrite", func(tx *bolt.Tx) error {
		if err := tx.Bucket(bucketOpen).Delete(row.id()); err != nil {
			return err
		}
		for request, cut := range row.Cut {
			done := doneRow{
				Destination: row.Destination, Scanned: row.Scanned, Erased: cut.Erased, Reduced: cut.Reduced,
				Generation: row.Generation, Emptied: row.Now == nil,
			}
			if err := putRow(tx, bucketDone, doneID(row.Batch, request), done); err != nil {
				return err
			}
		}
		return putRow(tx, bucketRewrite, row.id(), row)
	})
}

// met remembers what requests met in a batch that was not rewritten here. A row that says more is kept.
func (m *memory) met(batch string, row doneRow, requests ...string) error {
	return m.update("remembering a batch", func(tx *bolt.Tx) error {
		for _, request := range requests {
			if tx.Bucket(bucketDone).Get(doneID(batch, request)) != nil {
				continue
			}
			if err := putRow(tx, bucketDone, doneID(batch, request), row); err != nil {
				return err
			}
		}
		return nil
	})
}

func (m *memory) done(batch, request string) (row doneRow, found bool, err error) {
	err = m.db.View(func(tx *bolt.Tx) error {
		found, err = getRow(tx, bucketDone, doneID(batch, request), &row)
		return err
	})
	return row, found, err
}

// rewrites are the accepted rewrites of a batch, by generation.
func (m *memory) rewrites(batch string) (rows []rewriteRow, err error) {
	err = m.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketRewrite).Cursor()
		prefix := batch + "/"
		for k, text := c.Seek([]byte(prefix)); strings.HasPrefix(string(k), prefix); k, text = c.Next() {
			var row rewriteRow
			if json.Unmarshal(text, &row) != nil {
				return fmt.Errorf("%w: a row of %q", ErrMemory, bucketRewrite)
			}
			rows = append(rows, row)
		}
		return nil
	})
	return rows, err
}

// deleting remembers what is about to be deleted, so that a purge that is cut off can say all of it.
func (m *memory) deleting(row *rewriteRow) error {
	return m.update("remembering a purge", func(tx *bolt.Tx) error { return putRow(tx, bucketRewrite, row.id(), row) })
}

// purged remembers that nothing but a batch's object of this generation is left, and forgets its former rewrites.
func (m *memory) purged(batch string, generation, versions int) error {
	return m.update("remembering a purge", func(tx *bolt.Tx) error {
		if err := forgetBefore(tx.Bucket(bucketRewrite), batch, generation); err != nil {
			return err
		}
		done := tx.Bucket(bucketDone)
		prefix := batch + "/"
		rows := map[string]doneRow{}
		c := done.Cursor()
		for k, text := c.Seek([]byte(prefix)); strings.HasPrefix(string(k), prefix); k, text = c.Next() {
			var row doneRow
			if json.Unmarshal(text, &row) != nil {
				return fmt.Errorf("%w: a row of %q", ErrMemory, bucketDone)
			}
			if row.Generation > 0 && row.Generation <= generation && !row.Purged {
				row.Purged, row.Versions = true, versions
				rows[string(k)] = row
			}
		}
		for key, row := range rows {
			if err := putRow(tx, bucketDone, []byte(key), row); err != nil {
				return err
			}
		}
		return nil
	})
}

func forgetBefore(b *bolt.Bucket, batch string, generation int) error {
	c := b.Cursor()
	until := string(rewriteID(batch, generation))
	for k, _ := c.Seek([]byte(batch + "/")); k != nil && string(k) < until; k, _ = c.Seek([]byte(batch + "/")) {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}
