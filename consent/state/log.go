package state

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/octroi/octroi/consent/evidence"
	"golang.org/x/mod/sumdb/tlog"
)

// The rows of the evidence log; Store draws them.
const (
	rowHash = "e/h"
	rowLeaf = "e/l"
	rowHead = "e/n"
)

func logRow(prefix string, index int64) []byte {
	return binary.BigEndian.AppendUint64([]byte(prefix), uint64(index))
}

// Append adds a leaf to the evidence log and returns its index. The leaf is in the log if and only if the change is.
func (t *Txn) Append(leaf evidence.Leaf) (index int64) {
	index = t.frontier.Size()
	t.rows.set(logRow(rowLeaf, index), leaf[:])
	t.frontier.Append(leaf, func(stored int64, hash tlog.Hash) {
		t.rows.set(logRow(rowHash, stored), hash[:])
	})
	return index
}

// Leaves reads the leaves [from, to) of the log (ErrOutside).
func (s *Store) Leaves(from, to int64) ([]evidence.Leaf, error) {
	if size := s.head.Load().size; from < 0 || to < from || to > size {
		return nil, fmt.Errorf("reading leaves %d to %d of %d: %w", from, to, size, ErrOutside)
	}
	leaves := make([]evidence.Leaf, 0, to-from)
	err := s.View(func(r Reader) error {
		return r.(snapshot).scan([]byte(rowLeaf), logRow(rowLeaf, from), nil, func(key, value []byte) error {
			if int64(len(leaves)) == to-from {
				return ErrStop
			}
			leaf := evidence.Leaf{}
			if string(key) != string(logRow(rowLeaf, from+int64(len(leaves)))) || copy(leaf[:], value) != len(leaf) || len(value) != len(leaf) {
				return fmt.Errorf("reading leaf %d: %w", from+int64(len(leaves)), ErrDamaged)
			}
			leaves = append(leaves, leaf)
			return nil
		})
	})
	if err == nil && int64(len(leaves)) != to-from {
		err = fmt.Errorf("reading leaf %d: %w", from+int64(len(leaves)), ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	return leaves, nil
}

// Inclusion proves that leaf index is in the log of the given size (ErrOutside).
func (s *Store) Inclusion(index, size int64) (hashes []tlog.Hash, err error) {
	if index < 0 || index >= size || size > s.head.Load().size {
		return nil, fmt.Errorf("proving leaf %d of %d: %w", index, size, ErrOutside)
	}
	err = s.View(func(r Reader) error {
		hashes, err = tlog.ProveRecord(size, index, storedHashes{r})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("proving leaf %d of %d: %w", index, size, err)
	}
	return hashes, nil
}

// Consistency proves that the log of size older is a prefix of that of size newer (ErrOutside). It is empty where older is empty or
// the same.
func (s *Store) Consistency(older, newer int64) (hashes []tlog.Hash, err error) {
	if older < 0 || older > newer || newer > s.head.Load().size {
		return nil, fmt.Errorf("proving log %d in %d: %w", older, newer, ErrOutside)
	}
	if older == 0 || older == newer {
		return []tlog.Hash{}, nil
	}
	err = s.View(func(r Reader) error {
		hashes, err = tlog.ProveTree(newer, older, storedHashes{r})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("proving log %d in %d: %w", older, newer, err)
	}
	return hashes, nil
}

// storedHashes reads the log's hashes from rows.
type storedHashes struct{ Reader }

func (s storedHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		value, err := s.Get(logRow(rowHash, index))
		if errors.Is(err, ErrNotFound) || err == nil && len(value) != tlog.HashSize {
			return nil, fmt.Errorf("hash %d of the evidence log: %w", index, ErrDamaged)
		}
		if err != nil {
			return nil, err
		}
		copy(hashes[i][:], value)
	}
	return hashes, nil
}

// readHead reads the log's head and checks its root against the right edge.
func readHead(r Reader) (*head, error) {
	row, err := r.Get([]byte(rowHead))
	if errors.Is(err, ErrNotFound) {
		return newHead(evidence.Frontier{}), nil
	}
	if err != nil {
		return nil, err
	}
	if len(row) != 8+tlog.HashSize {
		return nil, fmt.Errorf("head of the evidence log: %w", ErrDamaged)
	}
	frontier, err := evidence.NewFrontier(int64(binary.BigEndian.Uint64(row)), storedHashes{r})
	if err != nil {
		return nil, fmt.Errorf("head of the evidence log: %w: %w", ErrDamaged, err)
	}
	h := newHead(frontier)
	if string(h.root[:]) != string(row[8:]) {
		return nil, fmt.Errorf("head of the evidence log: %w", ErrDamaged)
	}
	return h, nil
}
