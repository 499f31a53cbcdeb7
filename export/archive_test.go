package export_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/s3test"
)

func versions(t testing.TB, a export.Archive, prefix string) (all []export.ObjectVersion) {
	t.Helper()
	if err := a.Versions(t.Context(), prefix, func(v export.ObjectVersion) error { all = append(all, v); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// Both stores keep the contract of Archive.
func TestArchive(t *testing.T) {
	server := s3test.Start(t)
	for name, store := range map[string]export.Archive{"folder": newDir(t), "S3": s3test.Open(t, server.Options())} {
		t.Run(name, func(t *testing.T) {
			if err := export.CheckArchive(t.Context(), store, export.ErasureDeadline); err != nil {
				t.Fatal(err)
			}
			if left := versions(t, store, "octroi-check/"); len(left) != 0 {
				t.Errorf("the check left %+v", left)
			}
			t.Run("delete", func(t *testing.T) { testDeleteVersion(t, store) })
			t.Run("keys", func(t *testing.T) { testArchiveKeys(t, store) })
			t.Run("cancelled", func(t *testing.T) { testArchiveCancelled(t, store) })
			if lock, err := store.Lock(t.Context()); err != nil || lock != (export.ObjectLock{}) {
				t.Errorf("lock: %+v, %v", lock, err)
			}
		})
	}
}

func testDeleteVersion(t *testing.T, store export.Archive) {
	all := []string{"d/a.1", "d/a/1", "d/b"}
	ids := map[string]string{}
	for _, key := range all {
		ids[key] = mustPut(t, store, key, "text of "+key)
	}
	var want []export.ObjectVersion
	for _, key := range all {
		want = append(want, export.ObjectVersion{Key: key, Version: ids[key], Current: true, Size: int64(len("text of " + key))})
	}
	if got := versions(t, store, "d/"); !slices.Equal(got, want) {
		t.Errorf("versions: %+v, want %+v", got, want)
	}
	if got := versions(t, store, "d/a/"); !slices.Equal(got, want[1:2]) {
		t.Errorf("versions below a prefix: %+v", got)
	}
	stop, seen := errors.New("enough"), 0
	if err := store.Versions(t.Context(), "d/", func(export.ObjectVersion) error { seen++; return stop }); !errors.Is(err, stop) || seen != 1 {
		t.Errorf("stopping: %d, %v", seen, err)
	}
	for range 2 { // the second time it is gone
		if err := store.DeleteVersion(t.Context(), "d/a/1", ids["d/a/1"]); err != nil {
			t.Fatal(err)
		}
		if _, err := get(t, store, "d/a/1", ids["d/a/1"]); !errors.Is(err, export.ErrNoObject) {
			t.Errorf("get of a deleted version: %v", err)
		}
	}
	if got := versions(t, store, "d/"); !slices.Equal(got, []export.ObjectVersion{want[0], want[2]}) {
		t.Errorf("versions after a delete: %+v", got)
	}
	for _, none := range []string{"d/none/x", "d/b/below", "d/a"} {
		if err := store.DeleteVersion(t.Context(), none, ids["d/b"]); err != nil {
			t.Errorf("delete of %q, which is not there: %v", none, err)
		}
	}
	if text, err := get(t, store, "d/b", ids["d/b"]); text != "text of d/b" || err != nil {
		t.Errorf("another object: %q, %v", text, err)
	}
	again := mustPut(t, store, "d/a/1", "other text")
	if text, err := get(t, store, "d/a/1", again); text != "other text" || err != nil {
		t.Errorf("put after a delete: %q, %v", text, err)
	}
}

func testArchiveKeys(t *testing.T, store export.Archive) {
	for _, key := range []string{"/", "../x", "a//b", "a/./b", ".hidden", ".octroi-tmp/x", "a b", "a?versionId=1"} {
		err1 := store.DeleteVersion(t.Context(), key, "")
		err2 := store.Versions(t.Context(), key, func(export.ObjectVersion) error { return nil })
		_, err3 := store.AbortUploads(t.Context(), key)
		for i, err := range []error{err1, err2, err3} {
			if !errors.Is(err, export.ErrRefused) {
				t.Errorf("%d: %q: %v", i, key, err)
			}
		}
	}
}

func testArchiveCancelled(t *testing.T, store export.Archive) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	version := mustPut(t, store, "c/one", "x")
	err1 := store.DeleteVersion(ctx, "c/one", version)
	err2 := store.Versions(ctx, "c/", func(export.ObjectVersion) error { return nil })
	_, err3 := store.AbortUploads(ctx, "c/")
	_, err4 := store.Lock(ctx)
	for i, err := range []error{err1, err2, err3, err4, export.CheckArchive(ctx, store, export.ErasureDeadline)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if _, err := get(t, store, "c/one", version); err != nil {
		t.Error(err)
	}
}

// A plain DELETE and an overwrite leave the bytes: the archive sees each version and marker, and deletes them all.
func TestS3DeletesEveryVersion(t *testing.T) {
	server := s3test.Start(t)
	store := s3test.Open(t, server.Options())
	first := mustPut(t, store, "w/one", "first")
	server.Overwrite("w/one", "second")
	server.Delete("w/one", "")
	server.Overwrite("w/one", "third")
	server.Delete("w/one", "")
	mustPut(t, store, "w/one.other", "x")
	all := versions(t, store, "w/one")
	markers := 0
	for _, v := range all {
		if v.Marker {
			markers++
		}
	}
	if len(all) != 6 || markers != 2 {
		t.Fatalf("versions: %+v", all)
	}
	if err := store.DeleteVersion(t.Context(), "w/one", ""); !errors.Is(err, export.ErrRefused) {
		t.Errorf("delete without a version: %v", err)
	}
	for _, v := range all {
		if v.Key == "w/one" {
			if err := store.DeleteVersion(t.Context(), v.Key, v.Version); err != nil {
				t.Fatal(err)
			}
		}
	}
	if left := server.Versions("w/one"); len(left) != 1 || left[0].Key != "w/one.other" {
		t.Errorf("left: %+v", left)
	}
	if _, err := get(t, store, "w/one", first); !errors.Is(err, export.ErrNoObject) {
		t.Errorf("get of a deleted version: %v", err)
	}
}

// A listing of more than one page has each version once.
func TestS3VersionsInPages(t *testing.T) {
	server := s3test.Start(t)
	store := s3test.Open(t, server.Options())
	const objects, writers = 1010, 8
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			for i := w; i < objects; i += writers {
				if _, err := put(t, store, fmt.Sprintf("many/%04d", i), "x"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	server.Overwrite("many/0500", "again")
	all := versions(t, store, "many/")
	different := map[export.ObjectVersion]bool{}
	for _, v := range all {
		different[v] = true
	}
	if len(all) != objects+1 || len(different) != objects+1 {
		t.Errorf("%d versions, %d different", len(all), len(different))
	}
}

func TestS3AbortsUploads(t *testing.T) {
	server := s3test.Start(t)
	store := s3test.Open(t, server.Options())
	for _, key := range []string{"w/one", "w/one", "w/one.2", "w/two", "w/o"} {
		server.BeginUpload(key, "bytes that are nowhere listed")
	}
	if n, err := store.AbortUploads(t.Context(), "w/one"); n != 3 || err != nil {
		t.Errorf("aborted %d, %v", n, err)
	}
	if left := server.Uploads(); !slices.Equal(left, []string{"w/o", "w/two"}) {
		t.Errorf("left: %q", left)
	}
	if n, err := store.AbortUploads(t.Context(), "w/one"); n != 0 || err != nil {
		t.Errorf("aborted again: %d, %v", n, err)
	}
	if _, err := store.AbortUploads(t.Context(), ""); !errors.Is(err, export.ErrRefused) {
		t.Errorf("without a prefix: %v", err)
	}
}

// COMPLIANCE beyond the deadline: neither gateway nor custodian begins. GOVERNANCE gives way to the custodian.
func TestS3ObjectLock(t *testing.T) {
	server := s3test.Start(t)
	store := s3test.Open(t, server.Options())
	check := func() error { return export.CheckArchive(t.Context(), store, export.ErasureDeadline) }
	free, held := mustPut(t, store, "w/free", "x"), mustPut(t, store, "w/held", "x")

	server.SetLock(server.Bucket, export.Compliance, 29)
	if lock, err := store.Lock(t.Context()); err != nil || lock != (export.ObjectLock{Mode: export.Compliance, Days: 29}) {
		t.Errorf("lock: %+v, %v", lock, err)
	}
	refusedBy(t, check(), export.ErrRefused, "29 days (COMPLIANCE)")
	refusedBy(t, store.Check(t.Context()), export.ErrRefused, "29 days (COMPLIANCE)")
	refusedBy(t, store.DeleteVersion(t.Context(), "w/free", free), export.ErrLocked, "nobody can delete it before")

	server.SetLock(server.Bucket, export.Compliance, 28)
	if err := errors.Join(check(), store.Check(t.Context())); err != nil {
		t.Errorf("COMPLIANCE that ends in time: %v", err)
	}

	server.SetLock(server.Bucket, export.Governance, 3650)
	if err := errors.Join(check(), store.Check(t.Context()), store.DeleteVersion(t.Context(), "w/free", free)); err != nil {
		t.Errorf("GOVERNANCE: %v", err)
	}
	server.Hold(server.Bucket, "w/held", held, true)
	refusedBy(t, store.DeleteVersion(t.Context(), "w/held", held), export.ErrLocked, "legal hold")
	server.Hold(server.Bucket, "w/held", held, false)
	if err := store.DeleteVersion(t.Context(), "w/held", held); err != nil {
		t.Error(err)
	}
}

// Whoever lacks a right is told which, and one that the gateway has is not enough for the custodian.
func TestS3Rights(t *testing.T) {
	server := s3test.Start(t)
	gateway := []string{"s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:GetBucketVersioning", "s3:GetBucketObjectLockConfiguration"}
	custodian := append([]string{
		"s3:GetObjectVersion", "s3:DeleteObjectVersion", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads", "s3:AbortMultipartUpload",
	}, gateway...)
	check := func(rights []string) (gateway, custodian error) {
		store := s3test.Open(t, server.Limited(rights...))
		return store.Check(t.Context()), export.CheckArchive(t.Context(), store, export.ErasureDeadline)
	}
	asGateway, asCustodian := check(gateway)
	if asGateway != nil {
		t.Errorf("the gateway's rights: %v", asGateway)
	}
	refusedBy(t, asCustodian, export.ErrRefused, "s3:DeleteObjectVersion")
	if _, err := check(custodian); err != nil {
		t.Errorf("the custodian's rights: %v", err)
	}
	for i, right := range custodian {
		if slices.Contains([]string{"s3:GetBucketVersioning", "s3:ListBucket", "s3:GetObject", "s3:AbortMultipartUpload"}, right) {
			continue // what the gateway's check is for, and what shows only when there is an upload
		}
		if _, err := check(slices.Delete(slices.Clone(custodian), i, i+1)); !errors.Is(err, export.ErrRefused) {
			t.Errorf("without %s: %v", right, err)
		}
	}
	version := mustPut(t, s3test.Open(t, server.Options()), "w/one", "x")
	store := s3test.Open(t, server.Limited(gateway...))
	refusedBy(t, store.DeleteVersion(t.Context(), "w/one", version), export.ErrRefused, "grant these credentials s3:DeleteObjectVersion")

	server.SetLock(server.Bucket, export.Governance, 3650)
	_, err := check(custodian)
	refusedBy(t, err, export.ErrRefused, "s3:BypassGovernanceRetention")
	if _, err := check(append(custodian, "s3:BypassGovernanceRetention")); err != nil {
		t.Errorf("with the right to bypass: %v", err)
	}
}

// Faults of the archive's requests: each is worth another try, or says what to do, and none passes for a success.
func TestS3ArchiveFaults(t *testing.T) {
	server := s3test.Start(t)
	options := server.ProxyOptions()
	options.Timeout = 300 * time.Millisecond
	store := s3test.Open(t, options)
	version := mustPut(t, store, "w/one", "x")
	server.BeginUpload("w/one", "part")
	calls := map[string]func() error{
		"delete": func() error { return store.DeleteVersion(t.Context(), "w/one", version) },
		"versions": func() error {
			return store.Versions(t.Context(), "w/", func(export.ObjectVersion) error { return nil })
		},
		"uploads": func() error { _, err := store.AbortUploads(t.Context(), "w/one"); return err },
		"lock":    func() error { _, err := store.Lock(t.Context()); return err },
	}
	for name, c := range map[string]struct {
		fault s3test.Fault
		want  error
		hint  string
	}{
		"503":  {s3test.Fault{Status: 503, Code: "SlowDown"}, export.ErrUnavailable, "503"},
		"slow": {s3test.Fault{Delay: 600 * time.Millisecond}, export.ErrUnavailable, "no answer in time"},
		"cut":  {s3test.Fault{CutBefore: true}, export.ErrUnavailable, "broke off"},
		"404":  {s3test.Fault{Status: 404, Code: "NoSuchBucket"}, export.ErrRefused, "create it"},
		"key":  {s3test.Fault{Status: 403, Code: "InvalidAccessKeyId"}, export.ErrRefused, "aws_access_key_id"},
	} {
		for call, try := range calls {
			t.Run(name+" "+call, func(t *testing.T) {
				server.Proxy.Hook(func(*http.Request) s3test.Fault { return c.fault })
				defer server.Proxy.Hook(nil)
				refusedBy(t, try(), c.want, c.hint)
			})
		}
	}
	server.Proxy.Hook(func(*http.Request) s3test.Fault { return s3test.Fault{Truncate: 100, Stall: 2 * time.Second} })
	refusedBy(t, calls["versions"](), export.ErrUnavailable, "nothing came")
	refusedBy(t, calls["uploads"](), export.ErrUnavailable, "nothing came")
	server.Proxy.Hook(func(*http.Request) s3test.Fault { return s3test.Fault{Status: 405, Code: "MethodNotAllowed"} })
	refusedBy(t, calls["delete"](), export.ErrRefused, "lets nobody delete")
	server.Proxy.Hook(func(*http.Request) s3test.Fault { return s3test.Fault{Status: 501, Code: "NotImplemented"} })
	if err := calls["lock"](); err != nil {
		t.Errorf("a server that knows of no object lock: %v", err)
	}
	server.Proxy.Hook(nil)
	if text, err := get(t, store, "w/one", version); text != "x" || err != nil || len(server.Uploads()) != 1 {
		t.Errorf("after all that: %q, %v, %q", text, err, server.Uploads())
	}
	for call, try := range calls {
		if err := try(); err != nil {
			t.Errorf("%s at last: %v", call, err)
		}
	}
}

// A reader may take its time between two reads: only what the store keeps waiting counts.
func TestS3SlowReader(t *testing.T) {
	server := s3test.Start(t)
	options := server.Options()
	options.Timeout = 200 * time.Millisecond
	store := s3test.Open(t, options)
	mustPut(t, store, "w/large", strings.Repeat("x", 8<<20))
	r, err := store.Get(t.Context(), "w/large", "")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	total, p := 0, make([]byte, 4<<20)
	for {
		n, err := r.Read(p)
		if total += n; err != nil {
			break
		}
		if total == n {
			time.Sleep(500 * time.Millisecond)
		}
	}
	if total != 8<<20 {
		t.Errorf("%d bytes came", total)
	}
}

// The temporary file of a writer that died goes with the first AbortUploads or Check; that of one at work stays.
func TestDirAbandonedFiles(t *testing.T) {
	folder := t.TempDir()
	d, err := export.OpenDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	mustPut(t, d, "w/one", "one")
	held := filepath.Join(folder, ".octroi-tmp", "HELD")
	f, err := os.Create(held)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	for name, sweep := range map[string]func() error{
		"AbortUploads": func() error {
			n, err := d.AbortUploads(t.Context(), "w/one")
			if n != 1 {
				t.Errorf("%d were removed", n)
			}
			return err
		},
		"Check": func() error { return d.Check(t.Context()) },
	} {
		left := filepath.Join(folder, ".octroi-tmp", "LEFT")
		if err := os.Link(filepath.Join(folder, "w/one"), left); err != nil { // a crash after the link: the object's bytes by another name
			t.Fatal(err)
		}
		if err := sweep(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: an abandoned file is left: %v", name, err)
		}
		if _, err := os.Lstat(held); err != nil {
			t.Errorf("%s: the file of a writer at work is gone: %v", name, err)
		}
	}
}

// Writers and sweeps at the same time: no put is lost.
func TestDirPutsWhileSwept(t *testing.T) {
	d := newDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	var sweeps sync.WaitGroup
	sweeps.Go(func() {
		for ctx.Err() == nil {
			if _, err := d.AbortUploads(t.Context(), "w"); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range 200 {
		mustPut(t, d, fmt.Sprintf("w/%d", i), "text")
	}
	cancel()
	sweeps.Wait()
	if n := len(versions(t, d, "w/")); n != 200 {
		t.Errorf("%d objects", n)
	}
}
