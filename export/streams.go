package export

import (
	"errors"
	"fmt"

	"github.com/octroi/octroi/consent/state"
)

// ErrNoDestination: the gateway has no such destination.
var ErrNoDestination = errors.New("no such destination")

// Streams reads the published entries that the gateway keeps: the mirror of what is in the store. Safe for concurrent use.
type Streams struct {
	state *state.Store
	node  string
	known map[string]bool
}

// NewStreams reads the streams of the named destinations in st.
func NewStreams(st *state.Store, node string, destinations ...string) *Streams {
	known := make(map[string]bool, len(destinations))
	for _, d := range destinations {
		known[d] = true
	}
	return &Streams{st, node, known}
}

// Entries are the signed texts of the published entries after number `after`, in order, at most limit.
func (x *Streams) Entries(destination string, after uint64, limit int) (texts []string, err error) {
	if !x.known[destination] {
		return nil, fmt.Errorf("%w: %q", ErrNoDestination, destination)
	}
	err = x.state.View(func(r state.Reader) error {
		published, err := readPublished(r, destination)
		if err != nil {
			return err
		}
		for n := after; n < published && len(texts) < limit; n++ {
			row, err := readStreamRow(r, destination, n+1)
			if err != nil {
				return err
			}
			texts = append(texts, row.Signed)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading stream: %w", err)
	}
	return texts, nil
}

// EntryText is the signed text of a published entry: ErrGap where none has the number.
func (x *Streams) EntryText(destination string, number uint64) (string, error) {
	if number == 0 {
		return "", fmt.Errorf("reading stream: %w: 0 of %q", ErrGap, destination)
	}
	texts, err := x.Entries(destination, number-1, 1)
	if err == nil && len(texts) == 0 {
		err = fmt.Errorf("reading stream: %w: %d of %q is not published", ErrGap, number, destination)
	}
	if err != nil {
		return "", err
	}
	return texts[0], nil
}

// Head is the end of a stream.
type Head struct {
	Destination string `json:"destination"`
	Node        string `json:"node"`
	Number      uint64 `json:"number"` // of the last published entry; 0: there is none
	SHA256      string `json:"sha256"` // EntryHash of it; empty where there is none
}

// Head is the end of the destination's stream.
func (x *Streams) Head(destination string) (Head, error) {
	if !x.known[destination] {
		return Head{}, fmt.Errorf("%w: %q", ErrNoDestination, destination)
	}
	h := Head{Destination: destination, Node: x.node}
	err := x.state.View(func(r state.Reader) (err error) {
		if h.Number, err = readPublished(r, destination); err != nil || h.Number == 0 {
			return err
		}
		row, err := readStreamRow(r, destination, h.Number)
		h.SHA256 = EntryHash(row.Signed)
		return err
	})
	if err != nil {
		return Head{}, fmt.Errorf("reading stream: %w", err)
	}
	return h, nil
}
