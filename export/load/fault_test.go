package load_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/load"
	"github.com/octroi/octroi/export/load/loadtest"
	"github.com/octroi/octroi/export/s3test"
	"github.com/octroi/octroi/pseudonymize"
)

func TestS3Faults(t *testing.T) {
	server := s3test.Start(t)
	g := loadtest.New(t, s3test.Open(t, server.Options()))
	rows := g.Rows("gw1", 2000)
	e := g.Publish("gw1", rows)
	viaProxy := server.ProxyOptions()
	viaProxy.Timeout = 300 * time.Millisecond
	for name, fault := range map[string]s3test.Fault{
		"truncated": {Truncate: 1000},
		"stalled":   {Truncate: 1000, Stall: 2 * time.Second},
		"corrupt":   {Corrupt: true, Flip: 5000},
		"503":       {Status: 503, Code: "SlowDown"},
		"cut":       {CutBefore: true},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, g, t.TempDir())
			o.Objects = s3test.Open(t, viaProxy)
			server.Proxy.Once(http.MethodGet, e.Batch.Key, fault)
			if p, err := once(t, o); err != nil || p.Rows != 2000 {
				t.Fatalf("one fault stopped it: %+v, %v", p, err)
			}
			loadtest.CheckExactlyOnce(t, o.Dir, rows)

			o.Dir = t.TempDir()
			server.Proxy.Hook(func(r *http.Request) s3test.Fault {
				if strings.Contains(r.URL.Path, e.Batch.Key) {
					return fault
				}
				return s3test.Fault{}
			})
			if _, err := once(t, o); !errors.Is(err, export.ErrUnavailable) && !errors.Is(err, load.ErrHash) {
				t.Fatalf("a lasting fault: %v", err)
			}
			loadtest.CheckExactlyOnce(t, o.Dir)
			checkOwnFiles(t, o.Dir)
			server.Proxy.Hook(nil)
			if _, err := once(t, o); err != nil {
				t.Fatal(err)
			}
			loadtest.CheckExactlyOnce(t, o.Dir, rows)
		})
	}
}

func TestS3RefusesAndIsDown(t *testing.T) {
	server := s3test.Start(t)
	g := loadtest.New(t, s3test.Open(t, server.Options()))
	rows := g.Rows("gw1", 10)
	g.Publish("gw1", rows)
	o := options(t, g, t.TempDir())

	bad := server.Options()
	bad.Bucket = "missing"
	o.Objects = s3test.Open(t, bad)
	if _, err := once(t, o); !errors.Is(err, export.ErrRefused) || !strings.Contains(err.Error(), "no such bucket") {
		t.Errorf("missing bucket: %v", err)
	}
	right, err := os.ReadFile(server.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	server.WriteCredentials("octroi-test", "wrong")
	o.Objects = g.Objects
	if _, err := once(t, o); !errors.Is(err, export.ErrRefused) || !strings.Contains(err.Error(), "aws_secret_access_key") {
		t.Errorf("wrong credentials: %v", err)
	}
	if err := os.WriteFile(server.Credentials, right, 0o600); err != nil { // read again, without a restart
		t.Fatal(err)
	}
	server.Stop()
	if _, err := once(t, o); !errors.Is(err, export.ErrUnavailable) {
		t.Errorf("down: %v", err)
	}
	server.Restart()
	if _, err := once(t, o); err != nil {
		t.Error(err)
	}
	loadtest.CheckExactlyOnce(t, o.Dir, rows)
}

// Somebody with write rights puts other bytes under a batch's key: its version still is the one that was signed.
func TestS3Overwritten(t *testing.T) {
	server := s3test.Start(t)
	g := loadtest.New(t, s3test.Open(t, server.Options()))
	rows := g.Rows("gw1", 10)
	e := g.Publish("gw1", rows)
	server.Overwrite(e.Batch.Key, "other bytes")
	o := options(t, g, t.TempDir())
	if _, err := once(t, o); err != nil {
		t.Fatal(err)
	}
	loadtest.CheckExactlyOnce(t, o.Dir, rows)
	server.Delete(e.Batch.Key, e.Batch.Version)
	o.Dir = t.TempDir()
	if _, err := once(t, o); !errors.Is(err, load.ErrHash) {
		t.Errorf("the version was deleted: %v", err)
	}
}

// A bucket's objects copied into a folder have no versions there.
func TestCopyOfABucket(t *testing.T) {
	objects, _ := newStore(t)
	g := loadtest.New(t, objects)
	rows := g.Rows("gw1", 10)
	object := g.Seal(rows)
	e := g.PublishObject("gw1", object, len(rows), nil)
	_ = e
	next := g.Next("gw1", object, len(rows))
	next.Batch.Key, next.Batch.Version = e.Batch.Key, "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY"
	g.PublishEntry(next)
	o := options(t, g, t.TempDir())
	if p, err := once(t, o); err != nil || p.Batches != 2 || p.Duplicates != 10 {
		t.Fatalf("%+v, %v", p, err)
	}
}

func TestFollow(t *testing.T) {
	server := s3test.Start(t)
	g := loadtest.New(t, s3test.Open(t, server.Options()))
	var loaded atomic.Uint64
	o := options(t, g, t.TempDir())
	o.Progress = func(p load.Progress) { loaded.Store(p.Rows) }
	l, err := load.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	load.SetSleep(l, func(ctx context.Context, d time.Duration) error {
		return load.Sleep(ctx, min(d, 10*time.Millisecond))
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Follow(ctx) }()
	reach := func(n uint64) {
		t.Helper()
		for range 500 {
			if loaded.Load() == n {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("%d rows instead of %d", loaded.Load(), n)
	}
	a, b, c := g.Rows("gw1", 10), g.Rows("gw2", 10), g.Rows("gw1", 10)
	g.Publish("gw1", a)
	reach(10)
	server.Stop()
	time.Sleep(50 * time.Millisecond)
	server.Restart()
	g.Publish("gw2", b)
	g.Publish("gw1", c)
	reach(30)
	cancel()
	if err := <-ended; err != nil {
		t.Fatalf("after ctx ended: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	loadtest.CheckExactlyOnce(t, o.Dir, a, b, c)
}

// Follow ends on what does not pass by itself, after the other nodes' entries.
func TestFollowEndsOnADamagedStream(t *testing.T) {
	w := newWrong(t)
	w.edit(t, w.files.object, func(b []byte) []byte { b[100] ^= 1; return b })
	l, err := load.Open(t.Context(), w.o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Follow(t.Context()); !errors.Is(err, load.ErrHash) {
		t.Fatalf("got %v", err)
	}
	loadtest.CheckExactlyOnce(t, w.o.Dir, w.rows[0], w.rows[3])
}

func TestCancelled(t *testing.T) {
	w := newWrong(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.o.Progress = func(p load.Progress) {
		if p.Batches == 1 {
			cancel()
		}
	}
	l, err := load.Open(t.Context(), w.o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Once(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	l.Close()
	loadtest.CheckExactlyOnce(t, w.o.Dir, w.rows[0])
	if _, err := once(t, w.o); err != nil {
		t.Fatal(err)
	}
	loadtest.CheckExactlyOnce(t, w.o.Dir, w.rows...)
}

// A crash between the rename and the transaction leaves a file that is not recorded: a state of before stands for it. Whatever is
// published, loaded and lost so, in the end every event is there once.
func TestLostTransactionsProperty(t *testing.T) {
	fewer(t, "15")
	rapid.Check(t, func(r *rapid.T) {
		objects, err := export.OpenDir(t.TempDir())
		if err != nil {
			r.Fatal(err)
		}
		defer objects.Close()
		g := loadtest.New(t, objects)
		o := options(t, g, t.TempDir())
		o.Format = rapid.SampledFrom([]string{load.Parquet, load.NDJSON}).Draw(r, "format")
		var all [][]pseudonymize.Row
		for range rapid.IntRange(1, 8).Draw(r, "steps") {
			switch rapid.IntRange(0, 3).Draw(r, "step") {
			case 0, 1:
				node := rapid.SampledFrom([]string{"gw0", "gw1", "gw2"}).Draw(r, "node")
				rows := g.Rows(node, rapid.IntRange(1, 5).Draw(r, "rows"))
				if len(all) > 0 && rapid.Bool().Draw(r, "again") {
					rows = append(rows, all[rapid.IntRange(0, len(all)-1).Draw(r, "which")]...)
				}
				if len(all) > 0 && rapid.Bool().Draw(r, "only again") {
					rows = all[rapid.IntRange(0, len(all)-1).Draw(r, "which")]
				}
				g.Publish(node, rows)
				all = append(all, rows)
			case 2:
				if _, err := once(t, o); err != nil {
					r.Fatal(err)
				}
			case 3:
				state := filepath.Join(o.Dir, ".octroi-load", "state.db")
				before, err := os.ReadFile(state)
				if err != nil && !os.IsNotExist(err) {
					r.Fatal(err)
				}
				if _, err := once(t, o); err != nil {
					r.Fatal(err)
				}
				if before == nil {
					err = os.Remove(state)
				} else {
					err = os.WriteFile(state, before, 0o600)
				}
				if err != nil {
					r.Fatal(err)
				}
			}
		}
		if _, err := once(t, o); err != nil {
			r.Fatal(err)
		}
		loadtest.CheckExactlyOnce(t, o.Dir, all...)
		checkOwnFiles(t, o.Dir)
		if t.Failed() {
			r.FailNow()
		}
	})
}
