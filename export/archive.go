package export

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ErasureDeadline is how long object lock may keep what a person asks to have erased: a month has 28 days or more (GDPR Art. 12(3)).
const ErasureDeadline = 28 * 24 * time.Hour

// Archive is an object store as the custodian uses it: it can also look at versions and delete them. S3 and Dir are Archives; the gateway's
// credentials need none of these rights, but for that to ask for the retention. Safe for concurrent use.
//
// A prefix is the beginning of a key, or a key.
type Archive interface {
	Objects
	// Versions calls fn once for every version and delete marker of every key that begins with prefix; the order is the server's. A store without
	// versions has one version "" of each object. It returns fn's error.
	Versions(ctx context.Context, prefix string, fn func(ObjectVersion) error) error
	// DeleteVersion deletes one version, or a delete marker, for good. One that is gone already is no error. ErrLocked where object lock keeps it.
	DeleteVersion(ctx context.Context, key, version string) error
	// AbortUploads ends unfinished multipart uploads of keys that begin with prefix: their parts hold bytes as well. MinIO lists them by whole keys
	// only, so ask it for each key that was in use.
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

// The modes of object lock: rights can overrule the first, and nothing the second.
const (
	Governance = "GOVERNANCE"
	Compliance = "COMPLIANCE"
)

// within refuses a retention that keeps objects beyond the deadline whatever anybody does.
func (l ObjectLock) within(deadline time.Duration) error {
	days := int(deadline.Hours() / 24)
	if l.Mode == "" || l.Mode == Governance || l.Days <= days {
		return nil
	}
	return fmt.Errorf("%w: its default retention keeps every object for %d days (%s), and what a person asks to have erased must be gone in %d: "+
		"use a bucket without it, or set GOVERNANCE or at most %d days (aws s3api put-object-lock-configuration)", ErrRefused, l.Days, l.Mode, days, days)
}

// CheckArchive says whether the custodian can do its work in a: it writes a probe and deletes it by version. ErrRefused, with the next step, where
// object lock keeps objects longer than the deadline, or a right is missing. GOVERNANCE is accepted from credentials that may bypass it.
func CheckArchive(ctx context.Context, a Archive, deadline time.Duration) error {
	lock, err := a.Lock(ctx)
	if err != nil {
		return fmt.Errorf("checking archive: %w", err)
	}
	if err := lock.within(deadline); err != nil {
		return fmt.Errorf("checking archive: %w", err)
	}
	err = probe(ctx, a)
	if errors.Is(err, ErrLocked) && lock.Mode != "" && lock.Days <= int(deadline.Hours()/24) {
		return nil // it will go in time
	}
	if errors.Is(err, ErrLocked) {
		return fmt.Errorf("checking archive: %w: %w", ErrRefused, err)
	}
	if err != nil {
		return fmt.Errorf("checking archive: %w", err)
	}
	return nil
}

// probe puts an object and does to it all that a sweep does. A crash in between leaves one small object.
func probe(ctx context.Context, a Archive) error {
	const text = "octroi-custodian may delete this\n"
	key := "octroi-check/delete-" + rand.Text()
	version, err := a.Put(ctx, key, strings.NewReader(text), int64(len(text)), sha256.Sum256([]byte(text)))
	if err != nil {
		return err
	}
	seen := 0
	count := func(v ObjectVersion) error { seen++; return nil }
	if err := a.Versions(ctx, key, count); err != nil {
		return err
	}
	if seen != 1 {
		return fmt.Errorf("%w: it lists %d versions of an object that was put once: use a store that lists them", ErrRefused, seen)
	}
	if err := a.DeleteVersion(ctx, key, version); err != nil {
		return err
	}
	if _, err := a.AbortUploads(ctx, key); err != nil {
		return err
	}
	if err := a.Versions(ctx, key, count); err != nil {
		return err
	}
	r, err := a.Get(ctx, key, version)
	if err == nil {
		_, _ = io.Copy(io.Discard, r)
		r.Close()
	}
	if seen != 1 || !errors.Is(err, ErrNoObject) {
		return fmt.Errorf("%w: a version that was deleted is still there: use a store that deletes versions", ErrRefused)
	}
	return nil
}
