package evidence

import (
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Frontier is the right edge of a log: the roots of its complete subtrees, of which a log of n leaves has one for each bit set in n. It is
// all that appending and the root need. The zero value is the empty log. It is not safe for concurrent use.
type Frontier struct {
	size  int64
	roots []tlog.Hash // largest subtree first
}

// NewFrontier reads the right edge of a log of size leaves from its stored hashes (tlog.StoredHashIndex).
func NewFrontier(size int64, stored tlog.HashReader) (Frontier, error) {
	if size < 0 || size > maxSize {
		return Frontier{}, fmt.Errorf("%w: size of the log", ErrFormat)
	}
	var indexes []int64
	for at, left := int64(0), uint64(size); left != 0; {
		level := bits.Len64(left) - 1
		indexes = append(indexes, tlog.StoredHashIndex(level, at>>level))
		at += 1 << level
		left &^= 1 << level
	}
	if len(indexes) == 0 {
		return Frontier{}, nil
	}
	roots, err := stored.ReadHashes(indexes)
	if err != nil {
		return Frontier{}, fmt.Errorf("reading the right edge of the log: %w", err)
	}
	return Frontier{size: size, roots: roots}, nil
}

// Size is the number of leaves.
func (f *Frontier) Size() int64 { return f.size }

// Clone is a copy that shares nothing with f.
func (f *Frontier) Clone() Frontier {
	return Frontier{size: f.size, roots: append(make([]tlog.Hash, 0, len(f.roots)+1), f.roots...)}
}

// Append adds a leaf and calls store, if not nil, for each hash that the log must keep (1 + trailing ones of the old size, on average two).
func (f *Frontier) Append(leaf Leaf, store func(index int64, hash tlog.Hash)) {
	hash, index := leaf.Hash(), tlog.StoredHashIndex(0, f.size)
	for i := 0; ; i++ {
		if store != nil {
			store(index+int64(i), hash)
		}
		if f.size>>i&1 == 0 {
			break
		}
		last := len(f.roots) - 1
		hash = tlog.NodeHash(f.roots[last], hash)
		f.roots = f.roots[:last]
	}
	f.roots = append(f.roots, hash)
	f.size++
}

// Root is the root of the log, RFC 6962 section 2.1.
func (f *Frontier) Root() tlog.Hash {
	if len(f.roots) == 0 {
		empty, _ := tlog.TreeHash(0, nil)
		return empty
	}
	hash := f.roots[len(f.roots)-1]
	for i := len(f.roots) - 2; i >= 0; i-- {
		hash = tlog.NodeHash(f.roots[i], hash)
	}
	return hash
}
