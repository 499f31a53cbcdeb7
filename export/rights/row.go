package rights

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// requestRow is a request as the gateway remembers it. It holds nothing of a person: whose it is, and what leads to them, is sealed under
// the request's own slot.
//
// The rows of this package in state, version 1 (numbers big endian, rows JSON with "v" unless said otherwise; uuid: 16 bytes):
//
//	q/request/<uuid>                     requestRow
//	q/open/<uuid>                        empty: the request is not closed
//	q/own/ ‖ HMAC(subject key) ‖ <uuid>  empty: the subject's requests; the key dies with the subject (subject.RowKey)
//	q/beside/ ‖ HMAC(subject key) ‖ <uuid>  empty: accesses of devices that show what was received while the subject was signed in there
//	q/frozen/ ‖ HMAC(request key) ‖ …    sealed: see freeze
//	q/batch/<batch id (16)>              batchRow: there while a request wants the batch rewritten or purged
//	q/want/<batch id (16)><uuid>         0x01: the request waits for the batch to be rewritten; 0x02: to be purged
//	q/withdrawn/<slot (4)><uuid>         withdrawnRow: a withdrawal that erases, of which no request is made yet
//	q/notice/<destination>/<type>/<time (8, ms)><uuid>   empty: a notice that the next entry of that type takes along
//	q/sent/<destination>/<number (8)>    empty: an entry whose notices are still in the store
//	q/journal/<time (8, ms)><uuid>       object key of a suppression in the journal
//	q/forget/<time (8, ms)><uuid>        empty: from then on the slot of a closed request is to be overwritten
//	q/facts/<uuid>                       proof.Facts as they were offered for the certificate
//	q/certificate/<uuid>                 text of the certificate
//	q/schedule/<policy hash, hex>        text of the approved retention schedule of a policy
//	q/replayed/<uuid>                    id (text) of the request that a replay made of a suppression, by the request of the suppression
//	q/retention/<destination>/<purpose>  number (8) of the last stream entry whose batch's time is over for the purpose
//	q/leaf/<leaf index (8)>              evidence.Opening of a leaf of this package
type requestRow struct {
	Format int          `json:"v"` // 1
	ID     string       `json:"id"`
	Right  proof.Right  `json:"right"`
	Origin proof.Origin `json:"origin"`
	State  State        `json:"state"`
	Before State        `json:"before,omitempty"` // awaiting_information: the state it goes back to
	Step   step         `json:"step,omitempty"`   // in_progress: how far
	Slot   subject.Slot `json:"slot"`             // the request's own; 0 once it is overwritten

	Opened   time.Time `json:"opened"` // when it reached the gateway
	Closed   time.Time `json:"closed,omitzero"`
	Clock    clock     `json:"clock"`
	Purposes []string  `json:"purposes,omitempty"` // of an erasure; none: everything
	Language string    `json:"language,omitempty"`
	Sealed   bool      `json:"sealed,omitempty"`   // of an access: its package is to be sealed to the person's own key, which stands in the job
	Secret   []byte    `json:"secret,omitempty"`   // SHA-256 of what the person follows the request with
	Reason   string    `json:"reason,omitempty"`   // of a denial, or of an end without completion
	Approved string    `json:"approved,omitempty"` // SHA-256 of the approval, hex

	Destination string `json:"destination,omitempty"` // of a retention
	Policy      string `json:"policy,omitempty"`      // of a retention: hash of its batches' policy, hex

	Tail    uint64            `json:"tail,omitempty"`  // spool position at the freeze: nothing of the request is at or above it
	Heads   map[string]uint64 `json:"heads,omitempty"` // by destination: stream numbers at the freeze
	Batches int               `json:"batches,omitempty"`
	Done    int               `json:"done,omitempty"` // of the batches: rewritten and purged
	Notices []noticeRow       `json:"notices,omitempty"`

	Suppressed time.Time `json:"suppressed,omitzero"`
	Severed    time.Time `json:"severed,omitzero"`
	Journaled  bool      `json:"journaled,omitempty"`
	SpoolGone  time.Time `json:"spool_gone,omitzero"`
	Purged     time.Time `json:"purged,omitzero"`
	Kept       int       `json:"kept,omitempty"` // stripped proofs of consent
	KeptUntil  time.Time `json:"kept_until,omitzero"`

	Package *packageRow `json:"package,omitempty"`
	Refused *Refusal    `json:"refused,omitempty"`
	Leaves  []int64     `json:"leaves"` // indexes in the evidence log
}

// noticeRow is how far one destination has been told.
type noticeRow struct {
	Destination string           `json:"destination"`
	Type        export.EntryType `json:"type"`
	Parts       int              `json:"parts,omitempty"`  // of its notices that are entered; nearly always there is one
	Number      uint64           `json:"number,omitempty"` // of the entry with the last of them; 0: not yet entered
	Entered     time.Time        `json:"entered,omitzero"`
	Confirmed   time.Time        `json:"confirmed,omitzero"`
	GivenUp     time.Time        `json:"given_up,omitzero"` // the limit passed without acknowledgement
}

// settled says whether nothing more is awaited of the destination.
func (n *noticeRow) settled() bool { return !n.Confirmed.IsZero() || !n.GivenUp.IsZero() }

// packageRow is an access package that the gateway keeps.
type packageRow struct {
	SHA256 string    `json:"sha256"`
	Size   int64     `json:"size"`
	Sealed bool      `json:"sealed"` // to the request's recipient
	Until  time.Time `json:"until"`
	Opened time.Time `json:"opened,omitzero"`
	Gone   bool      `json:"gone,omitempty"` // the file is deleted
}

// Refusal is why the custodian does not carry out a job, or could not do a batch.
type Refusal struct {
	Code   string    `json:"code"`
	Detail string    `json:"detail,omitempty"`
	At     time.Time `json:"at"`
}

// batchRow is a batch while somebody wants it rewritten or purged.
type batchRow struct {
	Format      int    `json:"v"` // 1
	Destination string `json:"destination"`

	Custodian  string    `json:"custodian,omitempty"`  // run that claimed it
	Generation int       `json:"generation,omitempty"` // that was claimed
	Key        string    `json:"key,omitempty"`        // of that generation's object
	Lease      time.Time `json:"lease,omitzero"`

	Number     uint64 `json:"number,omitempty"` // of the replace entry whose purge is outstanding; 0: none
	Of         uint64 `json:"of,omitempty"`     // of the entry that stated the object before
	OldKey     string `json:"old_key,omitempty"`
	OldVersion string `json:"old_version,omitempty"`

	Report string   `json:"report,omitempty"` // digest of the last rewrite report that was taken
	Failed *Refusal `json:"failed,omitempty"`
}

const rowFormat = 1

// The prefixes of the rows that requestRow draws.
const (
	requestPrefix     = "q/request/"
	openPrefix        = "q/open/"
	ownTable          = "q/own/"
	besideTable       = "q/beside/"
	frozenTable       = "q/frozen/"
	batchPrefix       = "q/batch/"
	wantPrefix        = "q/want/"
	withdrawnPrefix   = "q/withdrawn/"
	noticePrefix      = "q/notice/"
	sentPrefix        = "q/sent/"
	journalPrefix     = "q/journal/"
	forgetPrefix      = "q/forget/"
	factsPrefix       = "q/facts/"
	certificatePrefix = "q/certificate/"
	schedulePrefix    = "q/schedule/"
	replayedPrefix    = "q/replayed/"
	retentionPrefix   = "q/retention/"
	leafPrefix        = "q/leaf/"
)

// What a row under "q/want/" says.
const (
	wantsRewrite byte = 1
	wantsPurge   byte = 2
)

// reader is what state.Txn and state.Reader share.
type reader = state.Reader

// parseID reads a request's id in its one spelling: ErrNoRequest otherwise.
func parseID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || id.String() != text {
		return uuid.UUID{}, ErrNoRequest
	}
	return id, nil
}

// idKey is a row of a request, of which id was checked.
func idKey(prefix, id string) []byte {
	u := uuid.MustParse(id)
	return append([]byte(prefix), u[:]...)
}

// idOf is the request whose id ends a key.
func idOf(key []byte) (string, error) {
	if len(key) < 16 {
		return "", fmt.Errorf("%w: key", ErrStored)
	}
	return uuid.UUID(key[len(key)-16:]).String(), nil
}

func batchKey(id export.BatchID) []byte { return append([]byte(batchPrefix), id[:]...) }

func wantKey(batch export.BatchID, request string) []byte {
	u := uuid.MustParse(request)
	return append(append([]byte(wantPrefix), batch[:]...), u[:]...)
}

func leafKey(index int64) []byte {
	return binary.BigEndian.AppendUint64([]byte(leafPrefix), uint64(index))
}

// readRow fills row from a JSON row; found is false where there is none.
func readRow(r interface{ Get([]byte) ([]byte, error) }, key []byte, row any) (found bool, err error) {
	text, err := r.Get(key)
	switch {
	case errors.Is(err, state.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading row: %w", err)
	case json.Unmarshal(text, row) != nil:
		return false, ErrStored
	}
	return true, nil
}

func setRow(t *state.Txn, key []byte, row any) error {
	text, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("encoding row: %w", err)
	}
	t.Set(key, text)
	return nil
}

// readRequest is ErrNoRequest where there is none.
func readRequest(r interface{ Get([]byte) ([]byte, error) }, id string) (*requestRow, error) {
	if _, err := parseID(id); err != nil {
		return nil, err
	}
	row := new(requestRow)
	found, err := readRow(r, idKey(requestPrefix, id), row)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, ErrNoRequest
	case row.Format != rowFormat || row.ID != id:
		return nil, fmt.Errorf("%w: request %s", ErrStored, id)
	}
	return row, nil
}

// set writes the row.
func (q *requestRow) set(t *state.Txn) error { return setRow(t, idKey(requestPrefix, q.ID), q) }

// request reads a request outside the writer.
func (r *Requests) request(id string) (q *requestRow, err error) {
	err = r.o.State.View(func(v reader) error {
		q, err = readRequest(v, id)
		return err
	})
	return q, err
}

// openRequests lists the ids of the requests that are not closed.
func openRequests(v reader) (ids []string, err error) {
	err = v.Scan([]byte(openPrefix), func(key, _ []byte) error {
		id, err := idOf(bytes.TrimPrefix(key, []byte(openPrefix)))
		ids = append(ids, id)
		return err
	})
	return ids, err
}

// readBatch is the zero row where nobody wants the batch.
func readBatch(r interface{ Get([]byte) ([]byte, error) }, id export.BatchID) (row batchRow, err error) {
	found, err := readRow(r, batchKey(id), &row)
	if err == nil && found && row.Format != rowFormat {
		err = fmt.Errorf("%w: batch %s", ErrStored, id)
	}
	return row, err
}
