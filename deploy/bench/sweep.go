package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/export/s3test"
	"github.com/octroi/octroi/policies"
	"github.com/octroi/octroi/pseudonymize"
)

const (
	lakeObjects  = 6
	lakeRows     = 200_000          // of an object, which has some 6 MB: an hour of a busy shop
	lakeVisits   = 10               // rows of one visitor,
	lakeSession  = 10 * time.Minute // within this time
	lakeSubjects = 3                // erased from each object
	lakeAtOnce   = 2                // as a pass of the custodian does
)

// lake is a bucket of sealed batches, each with rows of the subjects to be erased.
type lake struct {
	dir        string
	store      *export.S3
	identities export.Identities
	recipients export.Recipients
	objects    []stored
	subjects   export.Pseudonyms
	cut        export.Cut
}

type stored struct {
	key, version string
	sum          [32]byte
	size         int64
}

// measureSweep is the budget row of the erasure sweep: every object of the lake is read by version, decrypted, freed of a few subjects' rows, encrypted
// and put, beside the same objects read and put as they are. Both do as many at once, by way of files, as the custodian does.
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
		c, err := l.pass(func(o object) (object, error) { return o, nil })
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
	l := &lake{dir: b.TempDir(), store: s3test.Open(b, server.Options())}
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
	l.subjects.Devices = map[[16]byte]bool{}
	for i := range lakeObjects {
		rows := shopRows(rng)
		for j := range lakeSubjects {
			l.subjects.Devices[*rows[(2*j+1)*lakeRows/(2*lakeSubjects)].Device] = true
		}
		made, err := l.seal(func(w io.Writer) error { return export.EncodeRows(w, rows) })
		if err != nil {
			return err
		}
		o, err := l.put(context.Background(), fmt.Sprintf("bench/%d.1.parquet.age", i), made)
		if err != nil {
			return err
		}
		l.objects = append(l.objects, o)
	}
	l.cut = export.Cut{Devices: l.subjects.Devices}
	return nil
}

// object is one on its way, in a file.
type object struct {
	file *os.File
	sum  [32]byte
}

// receive brings what fill writes into a file without a name, as the custodian has them.
func (l *lake) receive(fill func(io.Writer) error) (object, error) {
	f, err := os.CreateTemp(l.dir, "")
	if err != nil {
		return object{}, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return object{}, err
	}
	h := sha256.New()
	err = fill(io.MultiWriter(f, h))
	return object{f, [32]byte(h.Sum(nil))}, err
}

func (l *lake) seal(write func(io.Writer) error) (object, error) {
	return l.receive(func(to io.Writer) error {
		sealed, err := export.Seal(to, l.recipients)
		if err != nil {
			return err
		}
		if err := write(sealed); err != nil {
			return err
		}
		return sealed.Close()
	})
}

// put puts an object, and closes its file.
func (l *lake) put(ctx context.Context, key string, from object) (o stored, err error) {
	defer from.file.Close()
	about, err := from.file.Stat()
	if err != nil {
		return o, err
	}
	o = stored{key: key, sum: from.sum, size: about.Size()}
	o.version, err = l.store.Put(ctx, o.key, from.file, o.size, o.sum)
	return o, err
}

// pass reads every object, and puts what change makes of it.
func (l *lake) pass(change func(object) (object, error)) (Figures, error) {
	group, ctx := errgroup.WithContext(context.Background())
	group.SetLimit(lakeAtOnce)
	made := make([]stored, len(l.objects))
	var total int64
	start := time.Now()
	for i, o := range l.objects {
		total += o.size
		group.Go(func() error {
			f, err := l.get(ctx, o)
			if err == nil {
				f, err = change(f)
			}
			if err == nil {
				made[i], err = l.put(ctx, fmt.Sprintf("bench/%d.2.parquet.age", i), f)
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

func (l *lake) get(ctx context.Context, o stored) (object, error) {
	r, err := l.store.Get(ctx, o.key, o.version)
	if err != nil {
		return object{}, err
	}
	defer r.Close()
	got, err := l.receive(func(w io.Writer) error { _, err := io.Copy(w, r); return err })
	if err == nil && got.sum != o.sum {
		err = fmt.Errorf("object %s has changed", o.key)
	}
	return got, err
}

// rewrite is what the custodian does with an object.
func (l *lake) rewrite(o object) (object, error) {
	defer o.file.Close()
	opened, err := export.Unseal(io.NewSectionReader(o.file, 0, 1<<40), l.identities)
	if err != nil {
		return object{}, err
	}
	plain, err := l.receive(func(w io.Writer) error { _, err := io.Copy(w, opened); return err })
	if err != nil {
		return object{}, err
	}
	defer plain.file.Close()
	about, err := plain.file.Stat()
	if err != nil {
		return object{}, err
	}
	gone := 0
	var left export.Remains
	made, err := l.seal(func(w io.Writer) (err error) {
		left, err = export.CutRows(w, plain.file, about.Size(), l.subjects, func(row *pseudonymize.Row) (keep, changed bool) {
			gone++
			return l.cut.Row(row)
		})
		return err
	})
	if err == nil && (gone == 0 || left.Rows != lakeRows-gone) {
		err = fmt.Errorf("%d rows are left of %d without %d", left.Rows, lakeRows, gone)
	}
	return made, err
}

// shopRows are a batch as a shop makes it: a few hundred pages, visitors with some ten events each in a few minutes, one purchase in twenty events.
func shopRows(rng *rand.Rand) []pseudonymize.Row {
	random := func() (b [16]byte) {
		binary.LittleEndian.PutUint64(b[:], rng.Uint64())
		binary.LittleEndian.PutUint64(b[8:], rng.Uint64())
		return b
	}
	start := time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
	rows := make([]pseudonymize.Row, 0, lakeRows)
	for len(rows) < lakeRows {
		device, ref, from := random(), random(), start.Add(time.Duration(rng.Int64N(int64(time.Hour))))
		for range min(1+rng.IntN(2*lakeVisits-1), lakeRows-len(rows)) {
			at := from.Add(time.Duration(rng.Int64N(int64(lakeSession)))).Truncate(time.Second)
			rows = append(rows, visit(rng, pseudonymize.Row{
				EventID: random(), Time: at, ReceivedAt: at.Truncate(pseudonymize.ReceiptGrid), Device: &device,
				Grants: []pseudonymize.RowGrant{{Purpose: "audience", Version: 1, Basis: policies.Consent, Ref: ref}},
			}))
		}
	}
	slices.SortFunc(rows, func(a, b pseudonymize.Row) int { return a.Time.Compare(b.Time) })
	return rows
}

// visit fills in what a visitor does.
func visit(rng *rand.Rand, row pseudonymize.Row) pseudonymize.Row {
	row.Type, row.Channel, row.Stage, row.Site, row.Policy = "page_view", "web", "discover", "shop", [32]byte{7}
	row.Properties = map[string]string{"url": fmt.Sprintf("https://shop.example/p/%d", rng.IntN(400)), "user_agent": "Firefox"}
	if rng.IntN(3) == 0 {
		row.Campaign, row.Source, row.Medium = fmt.Sprintf("spring-%d", rng.IntN(8)), "newsletter", "email"
	}
	if rng.IntN(20) == 0 {
		row.Type, row.Stage, row.Value = "purchase", "buy", pseudonymize.Money{Minor: rng.Int64N(20_000), Currency: "EUR"}
	}
	return row
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
