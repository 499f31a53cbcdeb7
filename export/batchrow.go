package export

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/octroi/octroi/consent/state"
)

// BatchID names one draft of a batch: 128 random bits. A batch that is regated gets another.
type BatchID [16]byte

func newBatchID() (id BatchID) {
	rand.Read(id[:])
	return id
}

// String is the id as 32 lower-case hex digits.
func (id BatchID) String() string { return hex.EncodeToString(id[:]) }

// ParseBatchID reads what String wrote.
func ParseBatchID(text string) (id BatchID, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) || hex.EncodeToString(b) != text {
		return id, fmt.Errorf("%w: not a batch id", ErrNoBatch)
	}
	return BatchID(b), nil
}

// BatchRow is a batch as the gateway remembers it, from its intent on: batch id → current object. A rewrite changes only this row.
//
// The shipper's rows in state (numbers big endian, JSON rows with "v"):
//
//	x/:batch/<id (16)>                  BatchRow as JSON; ":" is in no destination's name
//	x/:unindexed/<id (16)>              empty; of a batch that is Unindexed and not Empty
//	x/<destination>/cursor              0x01 ‖ spool position (8) ‖ last stream number (8)
//	x/<destination>/published           0x01 ‖ last published stream number (8)
//	x/<destination>/reused              0x01 ‖ spool position (8): those below it may have been sealed before the spool was lost
//	x/<destination>/stream/<n (8)>      streamRow as JSON
//	x/<destination>/notices/<n (8)>     the notice object of entry n, until the entry is published
//	x/<destination>/ack/<node>/<loader> Ack as JSON
//	i/…                                 index: see Index
//	x/:leaf/<leaf index (8)>            evidence.Opening of a leaf of the shipper's, as JSON: see batchCore, ackCore
type BatchRow struct {
	Format      int       `json:"v"` // 1
	Batch       Batch     `json:"batch"`
	Destination string    `json:"destination"`
	Node        string    `json:"node"`
	Number      uint64    `json:"number"` // in the stream
	First       uint64    `json:"first"`  // spool positions
	Last        uint64    `json:"last"`
	Hour        time.Time `json:"hour"`       // of receipt, UTC
	Generation  int       `json:"generation"` // of the object, from 1
	Leaf        int64     `json:"leaf"`       // index of the intent in the evidence log, or of the adoption

	Name      string `json:"name,omitempty"`      // stands in object keys instead of Node where the positions were sealed before: see objectName
	Claimed   int    `json:"claimed,omitempty"`   // the highest generation ever given out for a rewrite
	Stated    uint64 `json:"stated,omitempty"`    // number of the replace entry that states the object; 0: Number does
	Empty     bool   `json:"empty,omitempty"`     // a rewrite left no row and no object; Batch is what it was before
	Unindexed bool   `json:"unindexed,omitempty"` // adopted from the store after a restore: the index does not know whose rows it holds
}

// StatedBy is the number of the entry that states the batch's present object, or that there is none.
func (row *BatchRow) StatedBy() uint64 { return max(row.Number, row.Stated) }

// key is the object key of a generation.
func (row *BatchRow) key(generation int) string {
	name := row.Name
	if name == "" {
		name = row.Node
	}
	return BatchKey(row.Destination, name, row.Hour, row.First, row.Last, generation)
}

// objectName stands in object keys instead of the node where a spool that was lost had the same positions: no two batches may share the
// names of their generations, since those of a rewritten batch are deleted. A node's name has no dot.
func objectName(node string, number uint64) string { return fmt.Sprintf("%s.r%d", node, number) }

// streamRow is one entry of a stream. What it states stands there until Signed does, which never changes afterwards.
type streamRow struct {
	Format  int        `json:"v"`                 // 1
	Type    EntryType  `json:"type,omitempty"`    // none: batch
	Node    string     `json:"node,omitempty"`    // of all but batch entries: the batch has it
	Batch   string     `json:"batch,omitempty"`   // id, of batch and replace entries
	Replace *Replace   `json:"replace,omitempty"` // of a replace entry that is not signed
	Notice  *NoticeRef `json:"notice,omitempty"`  // of an entry that is not signed: without Version
	Notices int        `json:"notices,omitempty"` // generation of the notice object's key, from 1
	Signed  string     `json:"signed,omitempty"`  // set once the object is stored
}

// kind is the row's type.
func (row *streamRow) kind() EntryType {
	if row.Type == "" {
		return BatchEntry
	}
	return row.Type
}

// node whose stream the row is in.
func (row *streamRow) node(r getter) (string, error) {
	if row.Node != "" {
		return row.Node, nil
	}
	id, err := ParseBatchID(row.Batch)
	if err != nil {
		return "", fmt.Errorf("%w: batch of a stream entry", ErrRow)
	}
	batch, err := readBatchRow(r, id)
	return batch.Node, err
}

// cursorRow says how far a destination's intents have come. One row, so that no range is ever sealed under two numbers.
type cursorRow struct{ cursor, number uint64 }

const rowFormat = 1

func batchKey(id BatchID) []byte { return append([]byte("x/:batch/"), id[:]...) }

func cursorKey(destination string) []byte { return []byte("x/" + destination + "/cursor") }

func publishedKey(destination string) []byte { return []byte("x/" + destination + "/published") }

func streamKey(destination string, number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("x/"+destination+"/stream/"), number)
}

func noticesKey(destination string, number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("x/"+destination+"/notices/"), number)
}

func reusedKey(destination string) []byte { return []byte("x/" + destination + "/reused") }

const unindexedPrefix = "x/:unindexed/"

func unindexedKey(id BatchID) []byte { return append([]byte(unindexedPrefix), id[:]...) }

const leafPrefix = "x/:leaf/"

func leafKey(index int64) []byte {
	return binary.BigEndian.AppendUint64([]byte(leafPrefix), uint64(index))
}

func (c cursorRow) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{rowFormat}, c.cursor), c.number)
}

// encodeNumber is the value of the rows that hold one number.
func encodeNumber(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{rowFormat}, number)
}

// getter is what Txn and Reader share.
type getter interface {
	Get(key []byte) ([]byte, error)
}

// readCursor is the zero cursor where nothing was sealed yet.
func readCursor(r getter, destination string) (c cursorRow, err error) {
	v, err := r.Get(cursorKey(destination))
	switch {
	case errors.Is(err, state.ErrNotFound):
		return c, nil
	case err != nil:
		return c, fmt.Errorf("reading cursor: %w", err)
	case len(v) != 17 || v[0] != rowFormat:
		return c, fmt.Errorf("%w: cursor of %s", ErrRow, destination)
	}
	return cursorRow{binary.BigEndian.Uint64(v[1:]), binary.BigEndian.Uint64(v[9:])}, nil
}

func readPublished(r getter, destination string) (uint64, error) {
	return readNumber(r, publishedKey(destination), "published number")
}

func readReused(r getter, destination string) (uint64, error) {
	return readNumber(r, reusedKey(destination), "reused positions")
}

// readNumber is 0 where there is no row.
func readNumber(r getter, key []byte, what string) (uint64, error) {
	v, err := r.Get(key)
	switch {
	case errors.Is(err, state.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("reading %s: %w", what, err)
	case len(v) != 9 || v[0] != rowFormat:
		return 0, fmt.Errorf("%w: %s", ErrRow, what)
	}
	return binary.BigEndian.Uint64(v[1:]), nil
}

func readStreamRow(r getter, destination string, number uint64) (row streamRow, err error) {
	v, err := r.Get(streamKey(destination, number))
	if errors.Is(err, state.ErrNotFound) {
		return row, fmt.Errorf("%w: stream entry %d of %s is missing", ErrRow, number, destination)
	}
	if err != nil {
		return row, fmt.Errorf("reading stream entry: %w", err)
	}
	if json.Unmarshal(v, &row) != nil || row.Format != rowFormat {
		return row, fmt.Errorf("%w: stream entry %d of %s", ErrRow, number, destination)
	}
	return row, nil
}

func readBatchRow(r getter, id BatchID) (row BatchRow, err error) {
	v, err := r.Get(batchKey(id))
	switch {
	case errors.Is(err, state.ErrNotFound):
		return row, fmt.Errorf("%w: %s", ErrNoBatch, id)
	case err != nil:
		return row, fmt.Errorf("reading batch: %w", err)
	case json.Unmarshal(v, &row) != nil || row.Format != rowFormat:
		return row, fmt.Errorf("%w: batch %s", ErrRow, id)
	}
	return row, nil
}

// setRow writes a JSON row.
func setRow(t *state.Txn, key []byte, row any) error {
	value, err := encodeRow(row)
	if err == nil {
		t.Set(key, value)
	}
	return err
}

func encodeRow(row any) ([]byte, error) {
	b, err := json.Marshal(row)
	if err != nil {
		return nil, fmt.Errorf("encoding row: %w", err)
	}
	return b, nil
}
