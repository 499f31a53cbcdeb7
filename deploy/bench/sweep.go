package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/s3test"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

const (
	lakeObjects = 8
	lakeRows    = 100_000 // of an object
	lakeVisits  = 10      // rows of one visitor in an object
)

// lake is a bucket of sealed batches, each with rows of one subject.
type lake struct {
	store      *export.S3
	identities export.Identities
	recipients export.Recipients
	objects    []stored
	cut        export.Cut
}

type stored struct {
	key, version string
	sum          [32]byte
	size         int64
}

// measureSweep is the budget row of the erasure sweep: every object of the lake is read by version, decrypted, freed of a subject's rows, encrypted and
// put, beside the same objects read and put as they are. Both do as many at once as there are processors.
func measureSweep(dir string, runs int) (row Row, err error) {
	b := &serverOwner{dir: dir}
	defer b.end()
	defer b.failed(&err)
	l, err := newLake(b)
	if err != nil {
		return Row{}, err
	}
	var swept, copied []Figures
	for i := range runs + 1 {
		c, err := l.pass(func(sealed []byte) ([]byte, error) { return sealed, nil })
		if err != nil {
			return Row{}, fmt.Errorf("copying objects: %w", err)
		}
		s, err := l.pass(l.rewrite)
		if err != nil {
			return Row{}, fmt.Errorf("sweeping objects: %w", err)
		}
		if i > 0 { // the first warms up
			swept, copied = append(swept, s), append(copied, c)
		}
	}
	s, c := median(swept), median(copied)
	ratio := s.BytesPerSecond / c.BytesPerSecond
	return Row{"erasure sweep: rewriting objects ÷ copying them GET→PUT unchanged", "≥ 0.3", s, c, ratio, ratio >= 0.3}, nil
}

// newLake starts an S3 server and fills its bucket.
func newLake(b *serverOwner) (*lake, error) {
	server := s3test.Start(b)
	l := &lake{store: s3test.Open(b, server.Options())}
	var names [3]string // W, E, R
	for i := range names {
		identity, name, err := export.NewIdentity(export.ClassX25519)
		if err != nil {
			return nil, err
		}
		if names[i] = name; i == 1 {
			if l.identities, err = export.ParseIdentities([]byte(identity)); err != nil {
				return nil, err
			}
		}
	}
	var err error
	if l.recipients, err = export.ParseRecipients(names[0], names[1], names[2]); err != nil {
		return nil, err
	}
	return l, l.fill()
}

func (l *lake) fill() error {
	rng := rand.New(rand.NewChaCha8([32]byte{1}))
	subject := [16]byte{0xe5}
	l.cut = export.Cut{Devices: map[[16]byte]bool{subject: true}}
	for i := range lakeObjects {
		rows := shopRows(rng)
		for j := range lakeVisits {
			rows[j*lakeRows/lakeVisits].Device = &subject
		}
		var object bytes.Buffer
		if err := l.seal(&object, func(w *export.RowWriter) error { return w.Write(rows) }); err != nil {
			return err
		}
		o, err := l.put(context.Background(), fmt.Sprintf("bench/%d.1.parquet.age", i), object.Bytes())
		if err != nil {
			return err
		}
		l.objects = append(l.objects, o)
	}
	return nil
}

func (l *lake) seal(to io.Writer, write func(*export.RowWriter) error) error {
	sealed, err := export.Seal(to, l.recipients)
	if err != nil {
		return err
	}
	w := export.NewRowWriter(sealed)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return sealed.Close()
}

func (l *lake) put(ctx context.Context, key string, object []byte) (o stored, err error) {
	o = stored{key: key, sum: sha256.Sum256(object), size: int64(len(object))}
	o.version, err = l.store.Put(ctx, o.key, bytes.NewReader(object), o.size, o.sum)
	return o, err
}

// pass reads every object, and puts what change makes of it.
func (l *lake) pass(change func([]byte) ([]byte, error)) (Figures, error) {
	group, ctx := errgroup.WithContext(context.Background())
	group.SetLimit(runtime.GOMAXPROCS(0))
	made := make([]stored, len(l.objects))
	var total int64
	start := time.Now()
	for i, o := range l.objects {
		total += o.size
		group.Go(func() error {
			object, err := l.get(ctx, o)
			if err == nil {
				object, err = change(object)
			}
			if err == nil {
				made[i], err = l.put(ctx, fmt.Sprintf("bench/%d.2.parquet.age", i), object)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return Figures{}, err
	}
	took := time.Since(start)
	for _, o := range made {
		if err := l.store.DeleteVersion(context.Background(), o.key, o.version); err != nil {
			return Figures{}, err
		}
	}
	return Figures{BytesPerSecond: float64(total) / took.Seconds()}, nil
}

func (l *lake) get(ctx context.Context, o stored) ([]byte, error) {
	r, err := l.store.Get(ctx, o.key, o.version)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	object := bytes.NewBuffer(make([]byte, 0, o.size+bytes.MinRead))
	if _, err := object.ReadFrom(r); err != nil {
		return nil, err
	}
	if sha256.Sum256(object.Bytes()) != o.sum {
		return nil, fmt.Errorf("object %s has changed", o.key)
	}
	return object.Bytes(), nil
}

// rewrite is what the custodian does with an object.
func (l *lake) rewrite(object []byte) ([]byte, error) {
	opened, err := export.Unseal(bytes.NewReader(object), l.identities)
	if err != nil {
		return nil, err
	}
	plain := bytes.NewBuffer(make([]byte, 0, len(object)))
	if _, err := plain.ReadFrom(opened); err != nil {
		return nil, err
	}
	gone, out := 0, bytes.NewBuffer(make([]byte, 0, len(object)))
	err = l.seal(out, func(w *export.RowWriter) error {
		return export.DecodeRows(bytes.NewReader(plain.Bytes()), int64(plain.Len()), func(rows []pseudonymize.Row) error {
			kept := rows[:0]
			for i := range rows {
				if keep, _ := l.cut.Row(&rows[i]); keep {
					kept = append(kept, rows[i])
				}
			}
			gone += len(rows) - len(kept)
			return w.Write(kept)
		})
	})
	if err == nil && gone != lakeVisits {
		err = fmt.Errorf("%d rows are gone instead of %d", gone, lakeVisits)
	}
	return out.Bytes(), err
}

// shopRows are a batch as a shop makes it: a few hundred pages, visitors with some ten events each, one purchase in twenty events.
func shopRows(rng *rand.Rand) []pseudonymize.Row {
	random := func() (b [16]byte) {
		binary.LittleEndian.PutUint64(b[:], rng.Uint64())
		binary.LittleEndian.PutUint64(b[8:], rng.Uint64())
		return b
	}
	type visitor struct{ device, ref [16]byte }
	visitors := make([]visitor, lakeRows/lakeVisits)
	for i := range visitors {
		visitors[i] = visitor{random(), random()}
	}
	start := time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
	rows := make([]pseudonymize.Row, lakeRows)
	for i := range rows {
		v := &visitors[rng.IntN(len(visitors))]
		at := start.Add(time.Duration(i) * time.Hour / lakeRows).Truncate(time.Second)
		rows[i] = pseudonymize.Row{
			EventID: random(), Time: at, ReceivedAt: at.Truncate(pseudonymize.ReceiptGrid), Device: &v.device,
			Type: "page_view", Channel: "web", Stage: "discover", Site: "shop",
			Grants: []pseudonymize.RowGrant{{Purpose: "audience", Version: 1, Basis: policies.Consent, Ref: v.ref}},
			Policy: [32]byte{7},
			Properties: map[string]string{
				"url": fmt.Sprintf("https://shop.example/p/%d", rng.IntN(400)), "user_agent": "Firefox",
			},
		}
		if rng.IntN(3) == 0 {
			rows[i].Campaign, rows[i].Source, rows[i].Medium = fmt.Sprintf("spring-%d", rng.IntN(8)), "newsletter", "email"
		}
		if rng.IntN(20) == 0 {
			rows[i].Type, rows[i].Stage, rows[i].Value = "purchase", "buy", pseudonymize.Money{Minor: rng.Int64N(20_000), Currency: "EUR"}
		}
	}
	return rows
}

// serverOwner stands where s3test expects a test. A failure is a panic of benchFailure, which failed makes an error.
type serverOwner struct {
	dir  string
	ends []func()
}

type benchFailure string

func (*serverOwner) Helper() {}
func (*serverOwner) Errorf(format string, args ...any) {
	panic(benchFailure(fmt.Sprintf(format, args...)))
}

func (*serverOwner) Fatalf(format string, args ...any) {
	panic(benchFailure(fmt.Sprintf(format, args...)))
}
func (*serverOwner) Fatal(args ...any)    { panic(benchFailure(fmt.Sprint(args...))) }
func (b *serverOwner) Cleanup(end func()) { b.ends = append(b.ends, end) }

func (b *serverOwner) TempDir() string {
	dir, err := os.MkdirTemp(b.dir, "s3-")
	if err != nil {
		b.Fatal(err)
	}
	return dir
}

func (*serverOwner) failed(err *error) {
	switch p := recover().(type) {
	case nil:
	case benchFailure:
		*err = fmt.Errorf("S3 server: %s", string(p))
	default:
		panic(p)
	}
}

func (b *serverOwner) end() {
	for _, end := range slices.Backward(b.ends) {
		end()
	}
}
