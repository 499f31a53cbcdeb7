package main

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/octroi/octroi/export"
)

// minRate is the least bytes a second that end a month's work within the month.
const minRate = 64 << 10

// slowed reads no more than rate bytes a second from a store, all readers together: a sweep must not take the line from what is shipped.
type slowed struct {
	export.Archive
	rate int64

	mu   sync.Mutex
	free time.Time // when the next byte may be read; guarded by mu
}

// Get is the store's, slowed.
func (s *slowed) Get(ctx context.Context, key, version string) (io.ReadCloser, error) {
	r, err := s.Archive.Get(ctx, key, version)
	if err != nil {
		return nil, err
	}
	return &slowedReader{ReadCloser: r, of: s, ctx: ctx}, nil
}

type slowedReader struct {
	io.ReadCloser
	of  *slowed
	ctx context.Context
}

// Read waits for what was read before.
func (r *slowedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p[:min(len(p), 32<<10)])
	select {
	case <-time.After(r.of.book(n)):
		return n, err
	case <-r.ctx.Done():
		return n, r.ctx.Err()
	}
}

// book takes the time of n bytes, and says how long it is until they are due.
func (s *slowed) book(n int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.free.Before(now) {
		s.free = now
	}
	s.free = s.free.Add(time.Duration(n) * time.Second / time.Duration(s.rate))
	return s.free.Sub(now)
}
