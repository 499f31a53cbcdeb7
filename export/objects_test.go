package export_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/s3test"
)

func put(t testing.TB, o export.Objects, key, text string) (version string, err error) {
	t.Helper()
	return o.Put(t.Context(), key, strings.NewReader(text), int64(len(text)), sha256.Sum256([]byte(text)))
}

func mustPut(t testing.TB, o export.Objects, key, text string) string {
	t.Helper()
	version, err := put(t, o, key, text)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func get(t testing.TB, o export.Objects, key, version string) (string, error) {
	t.Helper()
	r, err := o.Get(t.Context(), key, version)
	if err != nil {
		return "", err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	return string(text), err
}

func keys(t testing.TB, o export.Objects, prefix, after string) (all []string) {
	t.Helper()
	err := o.List(t.Context(), prefix, after, func(key string, size int64) error {
		all = append(all, fmt.Sprintf("%s:%d", key, size))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func newDir(t testing.TB) *export.Dir {
	t.Helper()
	d, err := export.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// Both stores keep the contract of Objects.
func TestObjects(t *testing.T) {
	server := s3test.Start(t)
	for name, store := range map[string]export.Objects{"folder": newDir(t), "S3": s3test.Open(t, server.Options())} {
		t.Run(name, func(t *testing.T) {
			if err := store.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Run("put and get", func(t *testing.T) { testPutGet(t, store) })
			t.Run("list", func(t *testing.T) { testList(t, store) })
			t.Run("keys", func(t *testing.T) { testKeys(t, store) })
			t.Run("race", func(t *testing.T) { testRace(t, store) })
			t.Run("wrong hash", func(t *testing.T) { testWrongHash(t, store) })
			t.Run("cancelled", func(t *testing.T) { testCancelled(t, store) })
			if err := store.Check(t.Context()); err != nil {
				t.Fatalf("second check: %v", err)
			}
		})
	}
}

func testPutGet(t *testing.T, store export.Objects) {
	version := mustPut(t, store, "w/events/dt=2026-11-21/hour=18/a-1.0.parquet.age", "first")
	if text, err := get(t, store, "w/events/dt=2026-11-21/hour=18/a-1.0.parquet.age", version); text != "first" || err != nil {
		t.Fatalf("got %q, %v", text, err)
	}
	again, err := put(t, store, "w/events/dt=2026-11-21/hour=18/a-1.0.parquet.age", "first")
	if err != nil || again != version {
		t.Fatalf("a repeat with the same bytes: version %q instead of %q, %v", again, version, err)
	}
	for _, other := range []string{"other", "first and more", "firs"} {
		if _, err := put(t, store, "w/events/dt=2026-11-21/hour=18/a-1.0.parquet.age", other); !errors.Is(err, export.ErrExists) {
			t.Fatalf("put %q over it: %v", other, err)
		}
	}
	if text, _ := get(t, store, "w/events/dt=2026-11-21/hour=18/a-1.0.parquet.age", ""); text != "first" {
		t.Fatalf("the object became %q", text)
	}
	for _, missing := range []string{"w/none", "w/events", "w/events/dt=2026-11-21/hour=18/a-1.0.parquet.age/below"} {
		if _, err := get(t, store, missing, ""); !errors.Is(err, export.ErrNoObject) {
			t.Fatalf("get %q: %v", missing, err)
		}
	}
	large := strings.Repeat("0123456789abcdef", 1<<16)
	mustPut(t, store, "w/large", large)
	if text, err := get(t, store, "w/large", ""); text != large || err != nil {
		t.Fatalf("large: %d bytes, %v", len(text), err)
	}
}

func testList(t *testing.T, store export.Objects) {
	all := []string{"l/a.b", "l/a/1", "l/a/2", "l/a/b/c", "l/a=c", "l/b", "m/a"}
	for i, k := range []int{3, 0, 6, 2, 5, 1, 4} {
		mustPut(t, store, all[k], strings.Repeat("x", i+1))
	}
	for _, c := range []struct {
		prefix, after string
		want          []string
	}{
		{"l/", "", all[:6]},
		{"l/a/", "", all[1:4]},
		{"l/a", "", all[:5]},
		{"l/", "l/a/1", all[2:6]},
		{"l/a/", "l/a/b/c", nil},
		{"l/", "l/a~", all[5:6]},
		{"none/", "", nil},
	} {
		var got []string
		for _, k := range keys(t, store, c.prefix, c.after) {
			got = append(got, strings.Split(k, ":")[0])
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("prefix %q after %q: got %q, want %q", c.prefix, c.after, got, c.want)
		}
	}
	if got := keys(t, store, "l/b", ""); !slices.Equal(got, []string{"l/b:5"}) {
		t.Errorf("size: %q", got)
	}
	stop := errors.New("enough")
	seen := 0
	err := store.List(t.Context(), "l/", "", func(string, int64) error { seen++; return stop })
	if !errors.Is(err, stop) || seen != 1 {
		t.Errorf("stopping: %d, %v", seen, err)
	}
}

func testKeys(t *testing.T, store export.Objects) {
	for _, key := range []string{
		"", "/", "/etc/passwd", "../x", "a/../b", "a//b", "a/./b", "a/", ".hidden", "a/.hidden", ".octroi-tmp/x", "a b", "a\\b", "a\x00b", "é", "a?b",
		"a%2f..", strings.Repeat("x/", 500) + "x",
	} {
		if _, err := put(t, store, key, "text"); !errors.Is(err, export.ErrRefused) {
			t.Errorf("put %q: %v", key, err)
		}
		if _, err := get(t, store, key, ""); !errors.Is(err, export.ErrRefused) {
			t.Errorf("get %q: %v", key, err)
		}
	}
}

// Of many writers of one key with different bytes one wins, and its bytes stay.
func testRace(t *testing.T, store export.Objects) {
	const writers = 8
	errs := make([]error, writers)
	var wait sync.WaitGroup
	for i := range writers {
		wait.Go(func() {
			for { // a real server may answer 409 or 503 to one of two at the same time: worth another try
				if _, errs[i] = put(t, store, "race/one", fmt.Sprintf("writer %d", i)); !errors.Is(errs[i], export.ErrUnavailable) {
					return
				}
			}
		})
	}
	wait.Wait()
	won := 0
	text, err := get(t, store, "race/one", "")
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range errs {
		switch {
		case err == nil:
			won++
			if text != fmt.Sprintf("writer %d", i) {
				t.Errorf("writer %d won, but the object is %q", i, text)
			}
		case !errors.Is(err, export.ErrExists):
			t.Errorf("writer %d: %v", i, err)
		}
	}
	if won != 1 {
		t.Errorf("%d writers won", won)
	}
}

func testWrongHash(t *testing.T, store export.Objects) {
	sum := sha256.Sum256([]byte("what was meant"))
	if _, err := store.Put(t.Context(), "wrong/one", strings.NewReader("what is there!"), 14, sum); !errors.Is(err, export.ErrDigest) {
		t.Fatalf("got %v", err)
	}
	if _, err := get(t, store, "wrong/one", ""); !errors.Is(err, export.ErrNoObject) {
		t.Fatalf("it was stored: %v", err)
	}
}

func testCancelled(t *testing.T, store export.Objects) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err1 := store.Put(ctx, "c/one", strings.NewReader("x"), 1, sha256.Sum256([]byte("x")))
	_, err2 := store.Get(ctx, "c/one", "")
	err3 := store.List(ctx, "c/", "", func(string, int64) error { return nil })
	err4 := store.Check(ctx)
	for i, err := range []error{err1, err2, err3, err4} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// The order and the limits of a folder's listing are those of whole keys, whatever the tree.
func TestDirListsLikeABucket(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		d, err := export.OpenDir(t.TempDir())
		if err != nil {
			r.Fatal(err)
		}
		defer d.Close()
		segment := rapid.StringMatching(`[ab=_-][ab.=]{0,2}`)
		var all []string
		for range rapid.IntRange(0, 12).Draw(r, "n") {
			key := strings.Join(rapid.SliceOfN(segment, 1, 3).Draw(r, "key"), "/")
			if _, err := put(t, d, key, "x"); err == nil {
				all = append(all, key)
			}
		}
		slices.Sort(all)
		all = slices.Compact(all)
		prefix, after := rapid.StringMatching(`[ab]?/?[ab]?`).Draw(r, "prefix"), rapid.StringMatching(`[ab]{0,2}/?[ab]?`).Draw(r, "after")
		var want, got []string
		for _, key := range all {
			if strings.HasPrefix(key, prefix) && key > after {
				want = append(want, key)
			}
		}
		if err := d.List(t.Context(), prefix, after, func(key string, _ int64) error { got = append(got, key); return nil }); err != nil {
			r.Fatal(err)
		}
		if !slices.Equal(got, want) {
			r.Fatalf("prefix %q after %q of %q: got %q, want %q", prefix, after, all, got, want)
		}
	})
}

func TestDirKeepsInsideItsFolder(t *testing.T) {
	folder, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(folder, "out")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := export.OpenDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if text, err := get(t, d, "out/secret", ""); err == nil {
		t.Errorf("read %q through a link", text)
	}
	if _, err := put(t, d, "out/new", "x"); err == nil {
		t.Error("wrote through a link")
	}
	if got := keys(t, d, "", ""); len(got) != 0 {
		t.Errorf("listed %q", got)
	}
}

func TestDirErrorsSayWhatToDo(t *testing.T) {
	if _, err := export.OpenDir(filepath.Join(t.TempDir(), "none")); !errors.Is(err, export.ErrRefused) || !strings.Contains(err.Error(), "create or mount") {
		t.Errorf("missing folder: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := export.OpenDir(file); err == nil {
		t.Error("a file passed for a folder")
	}
	d := newDir(t)
	mustPut(t, d, "a", "x")
	if _, err := put(t, d, "a/b", "x"); !errors.Is(err, export.ErrRefused) {
		t.Errorf("an object below an object: %v", err)
	}
	if _, err := get(t, d, "a", "some-version"); !errors.Is(err, export.ErrNoObject) {
		t.Errorf("a version in a folder: %v", err)
	}
}

// What a crash before the link leaves is in no listing, and Put of the same object goes through.
func TestDirAfterACrash(t *testing.T) {
	folder := t.TempDir()
	d, err := export.OpenDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	mustPut(t, d, "w/one", "one")
	if err := os.WriteFile(filepath.Join(folder, ".octroi-tmp", "LEFT"), []byte("tw"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustPut(t, d, "w/two", "two")
	if got := keys(t, d, "", ""); !slices.Equal(got, []string{"w/one:3", "w/two:3"}) {
		t.Errorf("listed %q", got)
	}
	left, err := os.ReadDir(filepath.Join(folder, ".octroi-tmp"))
	if err != nil || len(left) != 1 {
		t.Errorf("temporary files: %v, %v", left, err)
	}
}

// A full disk is worth another try: /dev/full answers as one does.
func TestDirOnAFullDisk(t *testing.T) {
	if err := export.DirError(fmt.Errorf("write: %w", enospc())); !errors.Is(err, export.ErrUnavailable) || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("got %v", err)
	}
}

func enospc() error {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write([]byte("x"))
	return err
}

func hexOf(b []byte) string    { return hex.EncodeToString(b) }
func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
