package rights

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export/rights/proof"
)

// Actors of leaves that are no access token.
const (
	person    = "person"
	gateway   = "gateway"
	custodian = "custodian"
)

// note appends, inside t, the evidence leaf of a step of q, and keeps its opening. The caller sets Event, Actor and what else there is to say;
// the time is now unless it is given.
func (r *Requests) note(t *state.Txn, q *requestRow, l proof.Leaf) error {
	l.Request, l.Right, l.Origin = q.ID, q.Right, q.Origin
	if l.Time.IsZero() {
		l.Time = r.now()
	}
	opening, err := proof.NewLeaf(l)
	if err != nil {
		return fmt.Errorf("noting %s: %w", l.Event, err)
	}
	index := t.Append(opening.Leaf())
	q.Leaves = append(q.Leaves, index)
	return setRow(t, leafKey(index), opening)
}

// Openings calls fn for each leaf of this package, by index ascending: they hold nothing of a person, and an export of the evidence log shows
// them (evidence.WriteFolder).
func (r *Requests) Openings(fn func(index int64, o evidence.Opening) error) error {
	return r.o.State.View(func(v reader) error {
		return v.Scan([]byte(leafPrefix), func(key, value []byte) error {
			var o evidence.Opening
			if len(key) != len(leafPrefix)+8 || json.Unmarshal(value, &o) != nil {
				return fmt.Errorf("reading opening: %w", ErrStored)
			}
			return fn(int64(binary.BigEndian.Uint64(key[len(leafPrefix):])), o)
		})
	})
}

// proven opens and proves the leaves of a request under one head of the log.
func (r *Requests) proven(leaves []int64) ([]proof.Fact, error) {
	size, root, err := r.o.State.Tree()
	if err != nil {
		return nil, fmt.Errorf("reading head of the log: %w", err)
	}
	note, err := r.o.Checkpoints.SignCheckpoint(size, root)
	if err != nil {
		return nil, fmt.Errorf("signing head of the log: %w", err)
	}
	facts := make([]proof.Fact, len(leaves))
	for i, index := range slices.Sorted(slices.Values(leaves)) {
		hashes, err := r.o.State.Inclusion(index, size)
		if err != nil {
			return nil, fmt.Errorf("proving leaf: %w", err)
		}
		facts[i].Proof = evidence.Proof{Index: index, Size: size, Hashes: hashes, Checkpoint: note}
		err = r.o.State.View(func(v reader) error {
			found, err := readRow(v, leafKey(index), &facts[i].Opening)
			if err == nil && !found {
				err = fmt.Errorf("%w: opening of leaf %d", ErrStored, index)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return facts, nil
}
