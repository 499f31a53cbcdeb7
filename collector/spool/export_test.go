package spool

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"sync"

	"github.com/octroi/octroi/pseudonymize"
)

// entry is a sealed event as Append hands it to the writer.
type entry struct {
	id     string // of the site "shop"
	sealed pseudonymize.Sealed
}

// put appends sealed events.
func (s *Spool) put(ctx context.Context, entries ...entry) ([]bool, error) {
	r := s.newRequest()
	for i := range entries {
		r.add(&entries[i].sealed, s.hash("shop", entries[i].id))
	}
	return s.store(ctx, r)
}

// openDisk opens a spool on a disk that is not a directory. Nothing locks it.
func openDisk(o Options, d disk) (*Spool, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s, err := start(o, d)
	if err == nil {
		s.closing = sync.OnceValue(s.close)
	}
	return s, err
}

// queued is what waits for the writer, in bytes.
func (s *Spool) queued() int64 {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return s.queue.bytes
}

// putHeaderCheck makes the checksum of a block's header right.
func putHeaderCheck(b []byte) {
	binary.LittleEndian.PutUint32(b[40:], crc32.Checksum(b[:40], castagnoli))
}

// withCheck appends the checksum of an index.
func withCheck(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(slices.Clone(b), crc32.Checksum(b, castagnoli))
}

// LeastSequence is spooledLeast for a test that holds no lock.
func (s *Spool) LeastSequence() (sequence uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spooledLeast()
}
