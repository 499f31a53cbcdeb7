package sweep_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/export/rights/sweep"
	"github.com/octroi/octroi/export/s3test"
)

// TestVersions: in a versioned bucket nothing is left of what was replaced: no version, no delete marker, no part of an unfinished upload; a
// stranger's overwriting is not taken for the batch.
func TestVersions(t *testing.T) {
	server := s3test.Start(t)
	w := newWorld(t, s3test.Open(t, server.Options()))
	g := w.gateway
	b, deleted, other := g.ship("warehouse", 1, 2), g.ship("warehouse", 1, 3), g.ship("warehouse", 4)
	server.Overwrite(b.now.Key, "a stranger's bytes")                                                   // the true object is a version now
	server.Delete(deleted.now.Key, "")                                                                  // so here, under a delete marker
	server.BeginUpload(export.BatchKey("warehouse", node, start, b.first, b.last, 7), "half an object") // what a program that died leaves
	server.BeginUpload(export.BatchKey("warehouse", node, start, other.first, other.last, 7), "another's")
	q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	r := w.sweep()
	if q.certificate == "" || r.Purged != 2 || r.Versions != 4 {
		t.Fatalf("report %+v, failed %v, refused %v", r, g.failed, g.refused)
	}
	w.wantRows(allRows([]int{1}, b, deleted, other))
	for _, prefix := range []string{b.now.Key, deleted.now.Key} {
		prefix = strings.TrimSuffix(prefix, "2.parquet.age")
		if left := server.Versions(prefix); len(left) != 1 || !left[0].Current || left[0].Marker {
			t.Errorf("%s: %+v", prefix, left)
		}
	}
	if left := server.Uploads(); len(left) != 1 || !strings.Contains(left[0], fmt.Sprintf("%012d", other.first)) {
		t.Errorf("uploads that are left: %v", left)
	}
}

// TestLocked: what object lock keeps is told, and purged when it lets go. COMPLIANCE beyond the deadline: a worker does not begin.
func TestLocked(t *testing.T) {
	server := s3test.Start(t)
	w := newWorld(t, s3test.Open(t, server.Options()))
	g := w.gateway
	b := g.ship("warehouse", 1, 2)
	key, version := b.now.Key, b.now.Version
	q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	server.SetLock(server.Bucket, export.Compliance, 29)
	if err := w.custodian(func(o *sweep.Options) { o.State = filepath.Join(w.folder, "worker") }).Run(t.Context()); !errors.Is(err, export.ErrRefused) {
		t.Errorf("Run under COMPLIANCE: %v", err)
	}
	server.SetLock(server.Bucket, export.Governance, 1)
	server.Hold(server.Bucket, key, version, true)
	if r := w.sweep(); r.Failed[sweep.FailedLocked] != 1 || r.Rewritten != 1 || q.certificate != "" {
		t.Fatalf("report %+v", r)
	}
	if versions := server.Versions(key); len(versions) != 1 || versions[0].Version != version {
		t.Errorf("versions %+v", versions)
	}
	server.Hold(server.Bucket, key, version, false)
	if r := w.sweep(); r.Purged != 1 || r.Versions != 1 || q.certificate == "" {
		t.Fatalf("report %+v", r)
	}
	w.wantRows(allRows([]int{1}, b))
}

// TestFaultyStore: a store that fails, stalls, cuts off and damages what it sends can end a pass, and never makes it wrong: the next comes to the
// one end.
func TestFaultyStore(t *testing.T) {
	server := s3test.Start(t)
	for i, x := range []struct {
		name, method, part string
		fault              s3test.Fault
	}{
		{"503 of a get", http.MethodGet, "/events/", s3test.Fault{Status: 503, Code: "SlowDown"}},
		{"a get cut off", http.MethodGet, "/events/", s3test.Fault{Truncate: 100}},
		{"a get damaged", http.MethodGet, "/events/", s3test.Fault{Corrupt: true, Flip: 300}},
		{"a get that stalls", http.MethodGet, "/events/", s3test.Fault{Truncate: 10, Stall: 2 * time.Second}},
		{"503 of a put", http.MethodPut, "/events/", s3test.Fault{Status: 503, Code: "SlowDown"}},
		{"a put without an answer", http.MethodPut, "/events/", s3test.Fault{CutAfter: true}},
		{"a put with a false answer", http.MethodPut, "/events/", s3test.Fault{LoseAfter: true, Status: 500, Code: "InternalError"}},
		{"503 of a delete", http.MethodDelete, "/events/", s3test.Fault{Status: 503, Code: "SlowDown"}},
		{"a delete without an answer", http.MethodDelete, "/events/", s3test.Fault{CutAfter: true}},
		{"an entry cut off", http.MethodGet, "/stream/", s3test.Fault{Truncate: 20}},
	} {
		t.Run(x.name, func(t *testing.T) {
			bucket := fmt.Sprintf("faulty-%d", i)
			server.MakeBucket(bucket, true)
			direct, faulty := server.Options(), server.ProxyOptions()
			direct.Bucket, faulty.Bucket, faulty.Timeout = bucket, bucket, time.Second
			w := newWorld(t, s3test.Open(t, direct))
			g := w.gateway
			b := g.ship("warehouse", 1, 2)
			q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
			s := w.custodian(func(o *sweep.Options) { o.Archive = s3test.Open(t, faulty) })
			server.Proxy.Once(x.method, x.part, x.fault)
			r, err := s.Once(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Failed) == 0 {
				t.Errorf("nothing is told: %+v", r)
			}
			server.Proxy.Hook(nil)
			if r, err = s.Once(t.Context()); err != nil || q.certificate == "" {
				t.Fatalf("%v, report %+v, failed %v", err, r, g.failed)
			}
			w.wantRows(allRows([]int{1}, b))
		})
	}
}

// prefix is how the names of all of a batch's objects begin.
func (b *batch) prefix() string {
	return strings.TrimSuffix(export.BatchKey(b.destination, node, start, b.first, b.last, 1), "1.parquet.age")
}

// TestLake: of a lake of two thousand objects, with a person in seven of them, an erasure touches those seven, and looks for nothing else.
func TestLake(t *testing.T) {
	server := s3test.Start(t)
	w := newWorld(t, s3test.Open(t, server.Options()))
	g := w.gateway
	filler := w.seal("accounting", rowsOf("accounting", 1, 9))
	var lake errgroup.Group
	lake.SetLimit(8)
	for n := range 393 {
		key := fmt.Sprintf("warehouse/events/dt=2026-11-21/hour=18/n1-9%011d-9%011d.1.parquet.age", n, n)
		lake.Go(func() error {
			_, err := w.store.Put(t.Context(), key, bytes.NewReader(filler), int64(len(filler)), sha256.Sum256(filler))
			return err
		})
	}
	if err := lake.Wait(); err != nil {
		t.Fatal(err)
	}
	var mine []*batch
	for range 7 {
		mine = append(mine, g.ship("warehouse", 1, 2))
	}
	q := g.ask(g.job(1, proof.Erasure, proof.ByPerson, 1), nil)
	server.Proxy.Hook(func(r *http.Request) s3test.Fault {
		if q := r.URL.Query(); (q.Has("versions") || q.Has("uploads")) && !slices.ContainsFunc(mine, func(b *batch) bool { return strings.HasPrefix(q.Get("prefix"), b.prefix()) }) {
			t.Errorf("it lists what begins with %q", q.Get("prefix"))
		}
		return s3test.Fault{}
	})
	server.Proxy.Forget()
	began := time.Now()
	r := w.sweep(func(o *sweep.Options) { o.Archive = s3test.Open(t, server.ProxyOptions()) })
	if r.Purged != 7 || q.certificate == "" {
		t.Fatalf("report %+v, failed %v", r, g.failed)
	}
	requests := server.Proxy.Requests()
	t.Logf("%d requests in %v", len(requests), time.Since(began).Round(time.Millisecond))
	if len(requests) > 7*20 {
		t.Errorf("%d requests for seven batches", len(requests))
	}
	touched := map[string]bool{}
	for _, x := range requests {
		if x.Kind == s3test.List {
			t.Errorf("it lists %q", x.Key)
		}
		if !strings.Contains(x.Key, "/events/") {
			continue
		}
		touched[x.Key] = true
		ours := slices.ContainsFunc(mine, func(b *batch) bool { return strings.HasPrefix(x.Key, b.prefix()) })
		if !ours {
			t.Errorf("%s %s of another batch", x.Method, x.Key)
		}
	}
	if len(touched) != 14 {
		t.Errorf("%d objects touched, want the seven and their successors", len(touched))
	}
}
