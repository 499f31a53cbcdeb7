// Package export ships spooled events as encrypted batches and tells each destination of them in a signed stream.
package export

import (
	"context"
	"errors"
	"io"
)

// The errors of object stores.
var (
	ErrExists      = errors.New("object exists with other content")
	ErrNoObject    = errors.New("no such object")
	ErrUnavailable = errors.New("object store is unavailable") // worth another try
	ErrRefused     = errors.New("object store refused")        // credentials, bucket, policy: an operator must act
)

// Objects is the store of batches: a directory or S3. Implementations are safe for concurrent use.
type Objects interface {
	// Put stores body under key unless the key exists. When it exists with the same bytes, Put succeeds (a repeat after a crash);
	// with others it is ErrExists. It returns once the object is durable. sha256 is of body, and is sent along to be checked.
	Put(ctx context.Context, key string, body io.ReadSeeker, size int64, sha256 [32]byte) (version string, err error)
	// Get reads the object's version ("" is the current one). The caller closes.
	Get(ctx context.Context, key, version string) (io.ReadCloser, error)
	// List calls fn for each current object below prefix, in key order, beginning after the key `after`.
	List(ctx context.Context, prefix, after string, fn func(key string, size int64) error) error
	// Check says whether the store can be written and, for S3, whether its versioning is on; the error carries the next step.
	Check(ctx context.Context) error
}
