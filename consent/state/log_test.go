package state_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/octroi/octroi/consent/evidence"
	"github.com/octroi/octroi/consent/state"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
)

func leaf(i int) evidence.Leaf { return evidence.Opening{Core: fmt.Append(nil, i)}.Leaf() }

// C10: the log's proofs verify with an independent implementation.
func TestProofsByTransparencyDev(t *testing.T) {
	s := open(t, t.TempDir())
	roots := []tlog.Hash{}
	for i := range 70 {
		_, root, err := s.Tree()
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
		update(t, s, func(txn *state.Txn) error {
			if index := txn.Append(leaf(i)); index != int64(i) {
				t.Errorf("index %d, want %d", index, i)
			}
			return nil
		})
	}
	for size := int64(1); size < 70; size += 3 {
		for index := range size {
			hashes, err := s.Inclusion(index, size)
			if err != nil {
				t.Fatal(err)
			}
			l := leaf(int(index))
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), uint64(size), rfc6962.DefaultHasher.HashLeaf(l[:]), slice(hashes), roots[size][:]); err != nil {
				t.Fatalf("leaf %d of %d: %v", index, size, err)
			}
			hashes, err = s.Consistency(index, size)
			if err != nil {
				t.Fatal(err)
			}
			if index == 0 {
				continue // RFC 6962 has no proof from the empty log
			}
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(index), uint64(size), slice(hashes), roots[index][:], roots[size][:]); err != nil {
				t.Fatalf("%d in %d: %v", index, size, err)
			}
		}
	}
	for _, err := range []error{
		errorOf(s.Inclusion(-1, 5)), errorOf(s.Inclusion(5, 5)), errorOf(s.Inclusion(0, 71)),
		errorOf(s.Consistency(-1, 5)), errorOf(s.Consistency(6, 5)), errorOf(s.Consistency(0, 71)),
		errorOf(s.Leaves(-1, 5)), errorOf(s.Leaves(5, 4)), errorOf(s.Leaves(0, 71)),
	} {
		if !errors.Is(err, state.ErrOutside) {
			t.Errorf("%v, want ErrOutside", err)
		}
	}
}

func errorOf[T any](_ T, err error) error { return err }

func slice(hashes []tlog.Hash) (out [][]byte) {
	for i := range hashes {
		out = append(out, hashes[i][:])
	}
	return out
}

func TestConcurrentReadersAndWriters(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, end := context.WithCancel(t.Context())
	var writers, others sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for j := range 30 {
				update(t, s, func(txn *state.Txn) error {
					// Two rows that readers must always see equal.
					value := fmt.Appendf(nil, "%d.%d", i, j)
					txn.Set([]byte("c/left"), value)
					txn.Set([]byte("c/right"), value)
					txn.Append(leaf(i))
					return nil
				})
			}
		})
	}
	for range 4 {
		others.Go(func() {
			for ctx.Err() == nil {
				got := stored(t, s, "c/")
				if len(got) == 2 && strings.TrimPrefix(got[0], "c/left=") != strings.TrimPrefix(got[1], "c/right=") {
					t.Errorf("half a group: %q", got)
				}
				size, root, err := s.Tree()
				if err != nil {
					t.Error(err)
				}
				verifyLog(t, s, size, root)
			}
		})
	}
	writers.Wait()
	end()
	others.Wait()
}

// verifyLog recomputes the root from the leaves.
func verifyLog(t testing.TB, s *state.Store, size int64, root tlog.Hash) {
	leaves, err := s.Leaves(0, size)
	if err != nil {
		t.Error(err)
		return
	}
	var f evidence.Frontier
	for _, l := range leaves {
		f.Append(l, nil)
	}
	if f.Root() != root || f.Size() != size {
		t.Errorf("the leaves have another root than the log of %d", size)
	}
}

func leafOf(name string) evidence.Leaf { return evidence.Opening{Core: []byte(name)}.Leaf() }
