package evidence_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/octroi/octroi/consent/evidence"
	"golang.org/x/mod/sumdb/tlog"
)

const origin = "octroi.example/node-1"

// newSigner is the signer of the tests' log.
func newSigner(t testing.TB) *evidence.Signer {
	t.Helper()
	signer, err := evidence.NewSigner(origin, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// memoryLog is a log in memory; every third leaf has no subject.
type memoryLog struct {
	leaves   []evidence.Leaf
	stored   []tlog.Hash
	openings []evidence.Opening // of all leaves
	frontier evidence.Frontier
}

func newLog(t testing.TB, size int) *memoryLog {
	t.Helper()
	log := &memoryLog{}
	for i := range size {
		log.append(t, opening(i))
	}
	return log
}

// opening is the i-th record of the tests: some have no strippable part, some are stripped.
func opening(i int) evidence.Opening {
	o := evidence.Opening{Core: fmt.Appendf(nil, `{"record":%d}`, i)}
	seed := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	copy(o.Salt[:], seed[:16])
	copy(o.StrippableSalt[:], seed[16:])
	if i%2 == 0 {
		o.Strippable = fmt.Appendf(nil, "strippable %d", i)
	}
	if i%5 == 3 {
		o = o.Strip()
	}
	return o
}

func (l *memoryLog) append(t testing.TB, o evidence.Opening) {
	t.Helper()
	leaf := o.Leaf()
	l.leaves, l.openings = append(l.leaves, leaf), append(l.openings, o)
	l.frontier.Append(leaf, func(index int64, hash tlog.Hash) {
		if index != int64(len(l.stored)) {
			t.Fatalf("stored hash %d is written as number %d", index, len(l.stored))
		}
		l.stored = append(l.stored, hash)
	})
}

func (l *memoryLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		hashes[i] = l.stored[index]
	}
	return hashes, nil
}

func (l *memoryLog) Tree() (int64, tlog.Hash, error) {
	return l.frontier.Size(), l.frontier.Root(), nil
}

func (l *memoryLog) Leaves(from, to int64) ([]evidence.Leaf, error) { return l.leaves[from:to], nil }

func (l *memoryLog) Openings(fn func(int64, evidence.Opening) error) error {
	for i := 0; i < len(l.openings); i += 3 {
		if err := fn(int64(i), l.openings[i]); err != nil {
			return err
		}
	}
	return nil
}

// checkpoint signs the log's head at size.
func (l *memoryLog) checkpoint(t testing.TB, size int64) string {
	t.Helper()
	root, err := tlog.TreeHash(size, l)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := newSigner(t).SignCheckpoint(size, root)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
