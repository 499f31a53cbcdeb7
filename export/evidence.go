package export

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
)

// batchCore is the core of the evidence leaf of what the stream states of a batch, as JSON in this order. It has no strippable part and holds
// nothing of a person. Its salts are random and are kept with it: see Openings.
//
//	intent   the batch is sealed
//	replace  another object holds its rows: Of and Generation as in Replace; no hash, size and rows where none is left
//	adopt    a restored gateway found the entry, of a batch or a replacement, in the store
//	move     a restored gateway found another entry under the number Of: the statement now has Number; 0: its object was lost with the disk
type batchCore struct {
	Kind        string   `json:"kind"`
	Format      int      `json:"v"` // 1
	Destination string   `json:"destination"`
	Node        string   `json:"node"`
	Number      uint64   `json:"number"` // in the stream
	Batch       string   `json:"batch"`
	SHA256      string   `json:"sha256"` // of the sealed object
	Size        int64    `json:"size"`
	Rows        int      `json:"rows"`
	Purposes    []string `json:"purposes"`
	Policy      string   `json:"policy"`
	Time        string   `json:"time"` // RFC 3339, UTC
	Of          uint64   `json:"of,omitempty"`
	Generation  int      `json:"generation,omitempty"`
}

// coreOf is what the entry of that number states of row: as an intent, or of its present object.
func coreOf(kind string, row *BatchRow, number uint64, now time.Time) batchCore {
	core := batchCore{
		Kind: kind, Format: rowFormat, Destination: row.Destination, Node: row.Node, Number: number, Batch: row.Batch.ID,
		Purposes: []string{}, Time: now.UTC().Format(time.RFC3339),
	}
	if !row.Empty {
		core.SHA256, core.Size, core.Rows = row.Batch.SHA256, row.Batch.Size, row.Batch.Rows
		core.Purposes, core.Policy = row.Batch.Purposes, row.Batch.PolicyHash
	}
	return core
}

// prove appends an evidence leaf with random salts and keeps its opening.
func prove(t *state.Txn, core any) (leaf int64, err error) {
	text, err := json.Marshal(core)
	if err != nil {
		return 0, fmt.Errorf("encoding evidence: %w", err)
	}
	opening := evidence.Opening{Core: text}
	rand.Read(opening.Salt[:])
	rand.Read(opening.StrippableSalt[:])
	leaf = t.Append(opening.Leaf())
	return leaf, setRow(t, leafKey(leaf), opening)
}

// SealedBatches are the objects of a destination's batches that an evidence log's openings know of, for StreamCheck.Sealed: an opening is
// of a batch where its core says so.
func SealedBatches(openings map[int64]evidence.Opening, destination string) (out []SealedBatch) {
	type place struct {
		node   string
		number uint64
	}
	stated := map[place]batchCore{}
	for _, index := range slices.Sorted(maps.Keys(openings)) {
		var core batchCore
		if json.Unmarshal(openings[index].Core, &core) != nil || core.Destination != destination {
			continue
		}
		at := place{core.Node, core.Number}
		switch core.Kind {
		case "intent", "replace", "adopt":
			stated[at] = core
		case "move":
			if from := (place{core.Node, core.Of}); stated[from].Batch == core.Batch {
				delete(stated, from)
			}
			if core.Number != 0 {
				stated[at] = core
			}
		}
	}
	for _, core := range stated {
		out = append(out, SealedBatch{core.Node, core.Number, core.SHA256, core.Time})
	}
	return out
}
