package export

import "context"

// Archive is an object store as the custodian uses it: it can also look at versions and delete them. S3 and Dir are Archives; the gateway's
// credentials need none of these rights. Safe for concurrent use.
type Archive interface {
	Objects
	// Versions calls fn for every version and delete marker of every key that begins with prefix, in key order. A store without versions has one
	// version "" of each object.
	Versions(ctx context.Context, prefix string, fn func(ObjectVersion) error) error
	// DeleteVersion deletes one version, or a delete marker, for good. One that is gone already is no error. ErrLocked where object lock keeps it.
	DeleteVersion(ctx context.Context, key, version string) error
	// AbortUploads ends unfinished multipart uploads of keys that begin with prefix: their parts hold bytes as well.
	AbortUploads(ctx context.Context, prefix string) (aborted int, err error)
	// Lock is the bucket's default retention; zero where there is none.
	Lock(ctx context.Context) (ObjectLock, error)
}

// ObjectVersion is one version of an object.
type ObjectVersion struct {
	Key, Version string
	Marker       bool // a delete marker
	Current      bool
	Size         int64
}

// ObjectLock is a bucket's default retention (S3 Object Lock).
type ObjectLock struct {
	Mode string // "", GOVERNANCE or COMPLIANCE
	Days int    // years count 366 days
}
