package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/octroi/octroi/consent/state"
)

// The errors of acknowledgements.
var (
	ErrAck      = errors.New("acknowledged entry is not the published one")
	ErrAckField = errors.New("acknowledgement is malformed")
)

// loadersMax bounds the names of loaders that a destination may use for each node: each is a row that stays.
const loadersMax = 64

// Acks are the positions that a destination's loaders have acknowledged (rights.md D12). Safe for concurrent use.
type Acks struct{ state *state.Store }

// NewAcks reads and writes the acknowledgements in st.
func NewAcks(st *state.Store) *Acks { return &Acks{st} }

// Ack is one loader's acknowledgement: everything up to Number is applied and durable on its side.
type Ack struct {
	Loader string    `json:"loader"` // its name; a destination may have several
	Node   string    `json:"node"`
	Number uint64    `json:"number"`
	SHA256 string    `json:"sha256"` // EntryHash of that entry: it was read, and not guessed
	At     time.Time `json:"at"`
	Leaf   int64     `json:"leaf"` // index in the evidence log
}

// ackRow is an Ack as it stands in state.
type ackRow struct {
	Format int `json:"v"` // 1
	Ack
}

// ackCore is the core of an acknowledgement's evidence leaf, as JSON in this order. It has no strippable part and holds nothing of a person.
type ackCore struct {
	Kind        string `json:"kind"` // "ack"
	Format      int    `json:"v"`    // 1
	Destination string `json:"destination"`
	Loader      string `json:"loader"`
	Node        string `json:"node"`
	Number      uint64 `json:"number"`
	SHA256      string `json:"sha256"` // of the entry
	Time        string `json:"time"`   // RFC 3339, UTC
}

func acksPrefix(destination string) string { return "x/" + destination + "/ack/" }

func ackKey(destination string, a *Ack) []byte {
	return []byte(acksPrefix(destination) + a.Node + "/" + a.Loader)
}

func (a *Ack) check() error {
	switch {
	case !streamName.MatchString(a.Loader):
		return fmt.Errorf("%w: loader: a name of letters, digits, '_' and '-', at most 63", ErrAckField)
	case !streamName.MatchString(a.Node):
		return fmt.Errorf("%w: node", ErrAckField)
	case a.Number == 0 || a.Number >= 1e12:
		return fmt.Errorf("%w: number", ErrAckField)
	case !hexDigest.MatchString(a.SHA256):
		return fmt.Errorf("%w: sha256: 64 lower-case hex digits", ErrAckField)
	}
	return nil
}

// Record keeps an acknowledgement, with an evidence leaf; an older one than what is kept changes nothing. ErrAck where the entry is not
// published or its hash is another, ErrAckField where a is not well formed or is of one loader too many.
func (x *Acks) Record(ctx context.Context, destination string, a Ack) error {
	if err := a.check(); err != nil {
		return fmt.Errorf("recording acknowledgement: %w", err)
	}
	err := x.state.Update(ctx, func(t *state.Txn) error { return recordAck(t, destination, a) })
	if err != nil {
		return fmt.Errorf("recording acknowledgement: %w", err)
	}
	return nil
}

func recordAck(t *state.Txn, destination string, a Ack) error {
	if err := checkAcked(t, destination, &a); err != nil {
		return err
	}
	var loaders int
	var before Ack
	err := eachAck(t, acksPrefix(destination)+a.Node+"/", func(known Ack) {
		if loaders++; known.Loader == a.Loader {
			before = known
		}
	})
	switch {
	case err != nil:
		return err
	case before.Number >= a.Number:
		return nil
	case before.Number == 0 && loaders >= loadersMax:
		return fmt.Errorf("%w: the destination has %d other loaders", ErrAckField, loaders)
	}
	a.At = a.At.UTC()
	a.Leaf, err = prove(t, ackCore{
		Kind: "ack", Format: rowFormat, Destination: destination, Loader: a.Loader, Node: a.Node, Number: a.Number, SHA256: a.SHA256,
		Time: a.At.Format(time.RFC3339),
	})
	if err != nil {
		return err
	}
	return setRow(t, ackKey(destination, &a), ackRow{rowFormat, a})
}

// checkAcked compares with what is published.
func checkAcked(r getter, destination string, a *Ack) error {
	published, err := readPublished(r, destination)
	if err != nil {
		return err
	}
	if a.Number > published {
		return fmt.Errorf("%w: %d entries are published", ErrAck, published)
	}
	entry, err := readStreamRow(r, destination, a.Number)
	if err != nil {
		return err
	}
	node, err := entry.node(r)
	if err != nil {
		return err
	}
	if node != a.Node || EntryHash(entry.Signed) != a.SHA256 {
		return fmt.Errorf("%w: its hash or node is another", ErrAck)
	}
	return nil
}

// List is the last acknowledgement of each loader of the destination, by node and name.
func (x *Acks) List(destination string) (all []Ack, err error) {
	err = x.state.View(func(r state.Reader) error {
		return eachAck(r, acksPrefix(destination), func(a Ack) { all = append(all, a) })
	})
	if err != nil {
		return nil, fmt.Errorf("listing acknowledgements: %w", err)
	}
	return all, nil
}

func eachAck(r state.Reader, prefix string, fn func(Ack)) error {
	return r.Scan([]byte(prefix), func(key, value []byte) error {
		var row ackRow
		if json.Unmarshal(value, &row) != nil || row.Format != rowFormat || !strings.HasSuffix(string(key), "/"+row.Loader) {
			return fmt.Errorf("%w: acknowledgement", ErrRow)
		}
		fn(row.Ack)
		return nil
	})
}
