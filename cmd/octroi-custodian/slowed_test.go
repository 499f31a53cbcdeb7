package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/octroi/octroi/export"
)

// bytesStore answers every key with the same bytes.
type bytesStore struct {
	export.Archive
	body []byte
}

func (s bytesStore) Get(context.Context, string, string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s.body)), nil
}

// Two readers at once get no more than the rate between them, and all of their bytes.
func TestSlowed(t *testing.T) {
	body := bytes.Repeat([]byte("octroi"), 20_000) // 120 kB
	s := &slowed{Archive: bytesStore{body: body}, rate: 1_000_000}
	begun := time.Now()
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			r, err := s.Get(t.Context(), "k", "")
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	group.Wait()
	if took := time.Since(begun); took < 230*time.Millisecond || took > 5*time.Second {
		t.Errorf("240 kB at 1 MB/s took %s", took)
	}
}

// A stop is not held up.
func TestSlowedStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &slowed{Archive: bytesStore{body: make([]byte, 1<<20)}, rate: minRate}
	r, err := s.Get(ctx, "k", "")
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, cancel)
	begun := time.Now()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) || time.Since(begun) > 2*time.Second {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
}
