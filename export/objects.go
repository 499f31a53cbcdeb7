// Package export ships spooled events as encrypted batches and tells each destination of them in a signed stream.
package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// The errors of object stores. What an Objects returns is one of them, wrapped with what to do next, or the context's error.
var (
	ErrExists      = errors.New("object exists with other content")
	ErrNoObject    = errors.New("no such object")
	ErrUnavailable = errors.New("object store is unavailable")              // worth another try
	ErrRefused     = errors.New("object store refused")                     // credentials, bucket, policy, key: an operator must act
	ErrDigest      = errors.New("bytes to store are not those of the hash") // the caller's file is damaged: another try is no help
	ErrLocked      = errors.New("object lock keeps the version")            // worth another try when its time is over, or an operator has acted
)

// Objects is the store of batches: a directory or S3. Implementations are safe for concurrent use.
//
// A key is one or more segments of [A-Za-z0-9=._-], joined by "/", none beginning with a dot, at most 900 bytes; others are ErrRefused.
type Objects interface {
	// Put stores body under key unless the key exists. When it exists with the same bytes, Put succeeds (a repeat after a crash);
	// with others it is ErrExists. It returns once the object is durable. sha256 is of body, and is sent along to be checked.
	// version is "" in a store without versions.
	Put(ctx context.Context, key string, body io.ReadSeeker, size int64, sha256 [32]byte) (version string, err error)
	// Get reads the object's version ("" is the current one): ErrNoObject where there is none. A transfer that breaks off is
	// ErrUnavailable from Read, never an early EOF. The caller closes.
	Get(ctx context.Context, key, version string) (io.ReadCloser, error)
	// List calls fn for each current object below prefix, in key order, beginning after the key `after`. It returns fn's error.
	List(ctx context.Context, prefix, after string, fn func(key string, size int64) error) error
	// Check says whether the store can be written and, for S3, whether its versioning is on; the error carries the next step.
	Check(ctx context.Context) error
}

var objectSegment = regexp.MustCompile(`^[A-Za-z0-9=_-][A-Za-z0-9=._-]*$`)

// checkKey refuses what could leave the store's folder, hide in it, or be spelled in two ways in a URL.
func checkKey(key string) error {
	if len(key) > 900 {
		return fmt.Errorf("%w: object key is longer than 900 bytes", ErrRefused)
	}
	for segment := range strings.SplitSeq(key, "/") {
		if !objectSegment.MatchString(segment) {
			return fmt.Errorf("%w: object key %q: its segments may hold letters, digits, '=', '_', '-' and, not first, '.'", ErrRefused, key)
		}
	}
	return nil
}

// checkPrefix refuses what no key begins with. Empty is every key.
func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return checkKey(strings.TrimSuffix(prefix, "/"))
}
