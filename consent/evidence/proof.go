package evidence

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Verify checks offline that leaf is in the log whose head p.Checkpoint is: the signature, the size and the audit path (ErrSignature,
// ErrFormat, ErrProof).
func (p Proof) Verify(leaf Leaf, v *Verifier) (Checkpoint, error) {
	c, err := v.Open(p.Checkpoint)
	if err != nil {
		return Checkpoint{}, err
	}
	if p.Size != c.Size || p.Index < 0 || p.Index >= p.Size {
		return Checkpoint{}, fmt.Errorf("%w: it is not about a leaf of its checkpoint's log", ErrProof)
	}
	if err := tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Index, leaf.Hash()); err != nil {
		return Checkpoint{}, fmt.Errorf("%w: the leaf is not in the log at index %d", ErrProof, p.Index)
	}
	return c, nil
}

// VerifyConsistency checks that the log of head older is a prefix of that of head newer, by a consistency proof of RFC 6962
// section 2.1.2 (ErrProof). An empty log is a prefix of every log.
func VerifyConsistency(older, newer Checkpoint, hashes []tlog.Hash) error {
	if older.Origin != newer.Origin {
		return fmt.Errorf("%w: the checkpoints are of two logs", ErrProof)
	}
	if older.Size < 0 || older.Size > newer.Size || newer.Size > maxSize {
		return fmt.Errorf("%w: the log has shrunk", ErrProof)
	}
	switch {
	case older.Size == 0:
		if empty, _ := tlog.TreeHash(0, nil); older.Root != empty || len(hashes) != 0 {
			return fmt.Errorf("%w: the older log is not empty", ErrProof)
		}
	case older.Size == newer.Size:
		if older.Root != newer.Root || len(hashes) != 0 {
			return fmt.Errorf("%w: two heads of the same size differ", ErrProof)
		}
	default:
		if err := tlog.CheckTree(hashes, newer.Size, newer.Root, older.Size, older.Root); err != nil {
			return fmt.Errorf("%w: the older log is not a prefix of the newer", ErrProof)
		}
	}
	return nil
}
