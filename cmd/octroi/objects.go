package main

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/octroi/octroi/export"
)

// checkedStore puts nothing into a store that has not passed its check: one that was out of reach at the start may come back without
// versioning, or ignore If-None-Match. It is safe for concurrent use.
type checkedStore struct {
	export.Objects
	passed atomic.Bool
}

func (s *checkedStore) Check(ctx context.Context) error {
	err := s.Objects.Check(ctx)
	s.passed.Store(err == nil)
	return err
}

func (s *checkedStore) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, sum [32]byte) (string, error) {
	if !s.passed.Load() {
		if err := s.Check(ctx); err != nil {
			return "", fmt.Errorf("checking object store: %w", err)
		}
	}
	return s.Objects.Put(ctx, key, body, size, sum)
}
