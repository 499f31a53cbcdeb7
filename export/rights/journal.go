package rights

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// suppressionKept is how long an erasure is remembered, in state and in the journal: longer than any backup of the gateway and any lag of an
// import (rights.md "What may remain").
const suppressionKept = 90 * 24 * time.Hour

// suppression is one entry of the journal: what a gateway that is restored from a backup must do again before it serves.
type suppression struct {
	Version  int          `json:"v"` // 1
	Request  string       `json:"request"`
	Origin   proof.Origin `json:"origin"`
	Received time.Time    `json:"received"`
	Mark     subject.Mark `json:"mark"`
	Purposes []string     `json:"purposes,omitempty"` // withdrawn; none: the whole subject is erased
	At       time.Time    `json:"at"`
}

// journal seals suppressions for the object store, where they outlive the gateway's disk.
//
//	key      suppressions/<node>/dt=YYYY-MM-DD/<request>.bin                 the day of the suppression, UTC
//	object   "OCTS" ‖ 0x01 ‖ nonce (12) ‖ AES-256-GCM(suppression as JSON)   the key of the object is the additional data
//	keys     HMAC-SHA256(suppression key, "journal seal"), HMAC-SHA256(suppression key, "journal nonce")
//
// The same suppression gives the same bytes, so that a put that a crash cut off is put again. The nonce is HMAC(nonce key, object key ‖ 0x00 ‖
// plaintext)[:12], as in a synthetic-IV mode: it repeats only where key and content do.
type journal struct {
	prefix string
	seal   cipher.AEAD
	nonce  []byte
}

// journalMagic begins an object of the journal, version 1. An object is at most journalMax bytes.
const (
	journalMagic = "OCTS\x01"
	journalMax   = 1 << 20
)

func newJournal(node string, key []byte) (*journal, error) {
	block, err := aes.NewCipher(hmacOf(key, "journal seal"))
	if err != nil {
		return nil, fmt.Errorf("preparing journal: %w", err)
	}
	seal, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("preparing journal: %w", err)
	}
	return &journal{prefix: "suppressions/" + node + "/", seal: seal, nonce: hmacOf(key, "journal nonce")}, nil
}

func hmacOf(key []byte, message string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(message))
	return mac.Sum(nil)
}

func (j *journal) key(x *suppression) string {
	return j.prefix + x.At.UTC().Format("dt=2006-01-02/") + x.Request + ".bin"
}

func (j *journal) encode(x *suppression) (key string, object []byte, err error) {
	plain, err := json.Marshal(x)
	if err != nil {
		return "", nil, fmt.Errorf("encoding suppression: %w", err)
	}
	key = j.key(x)
	nonce := hmacOf(j.nonce, key+"\x00"+string(plain))[:j.seal.NonceSize()]
	return key, j.seal.Seal(append([]byte(journalMagic), nonce...), nonce, plain, []byte(key)), nil
}

func (j *journal) decode(key string, object []byte) (x suppression, err error) {
	rest, ok := bytes.CutPrefix(object, []byte(journalMagic))
	if !ok || len(rest) < j.seal.NonceSize() || len(object) > journalMax {
		return x, fmt.Errorf("%w: journal entry %s", ErrStored, key)
	}
	nonce := rest[:j.seal.NonceSize()]
	plain, err := j.seal.Open(nil, nonce, rest[len(nonce):], []byte(key))
	if err != nil || json.Unmarshal(plain, &x) != nil || x.Version != rowFormat || j.key(&x) != key {
		return suppression{}, fmt.Errorf("%w: journal entry %s", ErrStored, key)
	}
	return x, nil
}

// read is one entry of the journal in the store.
func (j *journal) read(ctx context.Context, store export.Objects, key string) (suppression, error) {
	body, err := store.Get(ctx, key, "")
	if err != nil {
		return suppression{}, fmt.Errorf("reading journal: %w", err)
	}
	defer body.Close()
	object, err := io.ReadAll(io.LimitReader(body, journalMax+1))
	if err != nil {
		return suppression{}, fmt.Errorf("reading journal: %w", err)
	}
	return j.decode(key, object)
}

// suppressionOf is what the request freezes for the journal.
func (r *Requests) suppressionOf(q *requestRow) (*suppression, error) {
	own, err := r.own(q)
	if err != nil {
		return nil, err
	}
	x := new(suppression)
	found, err := r.thaw(own, frozenMark, x)
	if err == nil && !found {
		err = errNoMark
	}
	return x, err
}

// errNoMark: the subject was destroyed before it was marked, as this state sees it (see everyBatch). Then it was marked, and its suppression put, by the
// gateway that destroyed it.
var errNoMark = errors.New("nothing marks whom the request erases")

// keepMark makes the gateway itself remember whom it erases: a nightly import must not bring the person back.
func (r *Requests) keepMark(ctx context.Context, q *requestRow) error {
	if len(q.Purposes) > 0 {
		return nil
	}
	x, err := r.suppressionOf(q)
	if errors.Is(err, errNoMark) {
		return nil // a replay has read it in the journal
	}
	if err != nil {
		return err
	}
	return r.o.State.Update(ctx, func(t *state.Txn) error { return r.o.Subjects.Suppress(t, x.Mark, x.At) })
}

// journalTimeout bounds one put: severing does not wait for a store that is away.
const journalTimeout = 10 * time.Second

// journalise puts the request's suppression into the store, once it is frozen. Nothing but the end of the erasure waits for it; a store that is
// away is left alone for a while.
func (r *Requests) journalise(ctx context.Context, q *requestRow) error {
	if q.Journaled || q.Right != proof.Erasure || q.Origin == proof.ByRetention || q.State != InProgress || q.Step == suppressed {
		return nil
	}
	if time.Now().Before(r.storeAway) {
		return nil
	}
	err := r.putJournal(ctx, q)
	if errors.Is(err, errNoMark) {
		_, err = r.change(ctx, q.ID, func(_ *state.Txn, q *requestRow) error { q.Journaled = true; return nil })
		return err
	}
	if err != nil {
		r.storeAway = time.Now().Add(journalTimeout)
		return err
	}
	r.stir()
	return nil
}

// putJournal puts the suppression; done once q.Journaled.
func (r *Requests) putJournal(ctx context.Context, q *requestRow) error {
	x, err := r.suppressionOf(q)
	if err != nil {
		return err
	}
	key, object, err := r.journal.encode(x)
	if err != nil {
		return err
	}
	attempt, cancel := context.WithTimeout(ctx, journalTimeout)
	defer cancel()
	if _, err := r.o.Objects.Put(attempt, key, bytes.NewReader(object), int64(len(object)), sha256.Sum256(object)); err != nil {
		return fmt.Errorf("putting suppression into the journal: %w", err)
	}
	// Crash here: the entry is in the store and nobody knows. The next pass puts the same bytes, which is a success.
	_, err = r.change(ctx, q.ID, func(t *state.Txn, q *requestRow) error {
		q.Journaled = true
		t.Set(timedKey(journalPrefix, x.At, q.ID), []byte(key))
		return nil
	})
	return err
}

// overdueJournal are the keys of suppressions whose time is over, for the custodian to delete, with their rows.
func (r *Requests) overdueJournal() (objects []string, rows [][]byte, err error) {
	rows, err = r.timed(journalPrefix, r.now().Add(-suppressionKept))
	if err != nil {
		return nil, nil, err
	}
	rows = rows[:min(len(rows), maxOld)]
	err = r.o.State.View(func(v reader) error {
		for _, row := range rows {
			key, err := v.Get(row)
			if err != nil {
				return err
			}
			objects = append(objects, string(key))
		}
		return nil
	})
	return objects, rows, err
}

// forgetJournal drops the memory of suppressions that the custodian has deleted.
func (r *Requests) forgetJournal(ctx context.Context) error {
	objects, rows, err := r.overdueJournal()
	if err != nil {
		return err
	}
	for i, key := range objects {
		if gone, err := r.vanished(ctx, key, ""); err != nil || !gone {
			return err
		}
		if err := r.o.State.Update(ctx, func(t *state.Txn) error { t.Delete(rows[i]); return nil }); err != nil {
			return err
		}
	}
	return nil
}

// timedKey is prefix ‖ time (8, ms) ‖ request id.
func timedKey(prefix string, at time.Time, id string) []byte {
	key := binary.BigEndian.AppendUint64([]byte(prefix), uint64(at.UnixMilli()))
	return append(key, idKey("", id)...)
}
