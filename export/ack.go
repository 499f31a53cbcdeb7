package export

import (
	"context"
	"time"

	"github.com/octroi/octroi/consent/state"
)

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

// Record keeps an acknowledgement, with an evidence leaf; an older one than what is kept changes nothing. ErrAck where the entry is not
// published or its hash is another.
func (x *Acks) Record(ctx context.Context, destination string, a Ack) error { panic("not yet") }

// List is the last acknowledgement of each loader of the destination.
func (x *Acks) List(destination string) ([]Ack, error) { panic("not yet") }
