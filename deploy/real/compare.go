package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
)

// tallied is what deploy/real/tally counts from the text file.
type tallied struct {
	Rows      int            `json:"rows"`
	Customers int            `json:"customers"`
	Cents     map[string]int `json:"cents"`
}

// loaded is what a destination holds.
type loaded struct {
	tallied
	ids, persons, refs, receipts map[string]bool
	histories                    map[string][]string // person → "date cents"
}

func newLoaded() *loaded {
	return &loaded{
		tallied: tallied{Cents: map[string]int{}}, ids: map[string]bool{}, persons: map[string]bool{}, refs: map[string]bool{},
		receipts: map[string]bool{}, histories: map[string][]string{},
	}
}

// row is a loaded row, as far as it is compared.
type row struct {
	id, person, receipt string
	refs                []string
	time                time.Time
	cents               int64
}

func (l *loaded) add(r row) error {
	if l.ids[r.id] {
		return fmt.Errorf("event %s was loaded twice", r.id)
	}
	if r.person == "" {
		return fmt.Errorf("event %s has no person", r.id)
	}
	l.ids[r.id] = true
	if !l.persons[r.person] {
		l.persons[r.person] = true
		l.Customers++
	}
	l.Rows++
	l.Cents[r.time.UTC().Format("2006-01")] += int(r.cents)
	l.receipts[r.receipt] = true
	for _, ref := range r.refs {
		l.refs[ref] = true
	}
	l.histories[r.person] = append(l.histories[r.person], fmt.Sprintf("%s %d", r.time.UTC().Format(time.DateOnly), r.cents))
	return nil
}

// compare holds what was loaded, and what stands in the bucket, against the text file.
func (r *run) compare(ctx context.Context) error {
	want, err := r.tally(ctx)
	if err != nil {
		return err
	}
	warehouse, accounting := newLoaded(), newLoaded()
	if err := errors.Join(readParquet(r.path("loaded", "warehouse"), warehouse), readNDJSON(r.path("loaded", "accounting"), accounting)); err != nil {
		return err
	}
	fmt.Printf("warehouse:  %6d rows of %6d customers (text file: %d of %d)\n", warehouse.Rows, warehouse.Customers, want["consenting"].Rows, want["consenting"].Customers)
	fmt.Printf("accounting: %6d rows of %6d customers (text file: %d of %d)\n", accounting.Rows, accounting.Customers, want["all"].Rows, want["all"].Customers)
	err = errors.Join(
		equal("warehouse", warehouse.tallied, want["consenting"]), equal("accounting", accounting.tallied, want["all"]),
		r.sameHistories("warehouse", warehouse, true), r.sameHistories("accounting", accounting, false),
		disjoint("event ids", warehouse.ids, accounting.ids), disjoint("pseudonyms", warehouse.persons, accounting.persons),
		disjoint("references", warehouse.refs, accounting.refs), disjoint("receipt times", warehouse.receipts, accounting.receipts),
	)
	if err != nil {
		return err
	}
	fmt.Println("rows, customers and cents of each month are equal; the two share no event id, pseudonym, reference or receipt time")
	if err := r.compareObjects(ctx, warehouse); err != nil {
		return err
	}
	return r.verify(ctx)
}

// tally asks the separate program.
func (r *run) tally(ctx context.Context) (map[string]tallied, error) {
	out, err := r.output(ctx, "go", "run", "./deploy/real/tally", "--file", r.data, "--shift", fmt.Sprint(r.shift))
	if err != nil {
		return nil, err
	}
	var t map[string]tallied
	if err := json.Unmarshal([]byte(out), &t); err != nil {
		return nil, err
	}
	if t["all"].Rows == 0 || t["consenting"].Rows == 0 {
		return nil, errors.New("the tally counted nothing")
	}
	return t, nil
}

func equal(name string, got, want tallied) error {
	if got.Rows != want.Rows || got.Customers != want.Customers || !maps.Equal(got.Cents, want.Cents) {
		return fmt.Errorf("%s differs: %+v, want %+v", name, got, want)
	}
	return nil
}

func disjoint(what string, a, b map[string]bool) error {
	if len(a) == 0 || len(b) == 0 {
		return fmt.Errorf("no %s to compare", what)
	}
	for x := range a {
		if b[x] {
			return fmt.Errorf("the two destinations share %s", what)
		}
	}
	return nil
}

// sameHistories compares the purchase histories as sets: every pseudonym's is one customer's, and every customer's is there. So no other
// customer's purchase is in it, under whatever name.
func (r *run) sameHistories(name string, l *loaded, consentingOnly bool) error {
	want := map[string][]string{}
	for _, s := range r.sales {
		if !consentingOnly || s.customer%3 != 0 {
			cents := strings.Replace(s.amount, ".", "", 1)
			want[s.card] = append(want[s.card], s.time.Format(time.DateOnly)+" "+strings.TrimLeft(cents, "0"))
		}
	}
	bag := map[string]int{}
	for _, h := range want {
		bag[historyKey(h)]++
	}
	for _, h := range l.histories {
		key := historyKey(h)
		if bag[key]--; bag[key] < 0 {
			return fmt.Errorf("%s holds a purchase history that no customer has", name)
		}
	}
	return nil
}

func historyKey(h []string) string {
	h = slices.Clone(h)
	for i := range h {
		if day, cents, _ := strings.Cut(h[i], " "); cents == "" || cents == "0" {
			h[i] = day + " 0"
		}
	}
	slices.Sort(h)
	return strings.Join(h, "|")
}

func readParquet(dir string, l *loaded) error {
	return eachFile(dir, ".parquet", func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		return export.DecodeRows(f, info.Size(), func(rows []pseudonymize.Row) error { return addRows(rows, l) })
	})
}

func addRows(rows []pseudonymize.Row, l *loaded) error {
	for i := range rows {
		x := &rows[i]
		r := row{id: hex.EncodeToString(x.EventID[:]), receipt: x.ReceivedAt.Format(time.RFC3339Nano), time: x.Time, cents: x.Value.Minor}
		if x.Person != nil {
			r.person = hex.EncodeToString(x.Person[:])
		}
		for _, g := range x.Grants {
			r.refs = append(r.refs, hex.EncodeToString(g.Ref[:]))
		}
		if err := l.add(r); err != nil {
			return err
		}
	}
	return nil
}

func readNDJSON(dir string, l *loaded) error {
	return eachFile(dir, ".ndjson", func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var x struct {
				EventID    string    `json:"event_id"`
				Person     string    `json:"person"`
				Time       time.Time `json:"time"`
				ReceivedAt time.Time `json:"received_at"`
				ValueMinor int64     `json:"value_minor"`
				Grants     []struct {
					Ref string `json:"ref"`
				} `json:"grants"`
			}
			if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
				return err
			}
			r := row{id: x.EventID, person: x.Person, receipt: x.ReceivedAt.Format(time.RFC3339Nano), time: x.Time, cents: x.ValueMinor}
			for _, g := range x.Grants {
				r.refs = append(r.refs, g.Ref)
			}
			if err := l.add(r); err != nil {
				return err
			}
		}
		return lines.Err()
	})
}

// eachFile calls fn for the files of a folder with a suffix; none is an error. A loader's own folder is left out.
func eachFile(dir, suffix string, fn func(path string) error) error {
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && path != dir {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, suffix) {
			return nil
		}
		n++
		return fn(path)
	})
	if err == nil && n == 0 {
		err = fmt.Errorf("no %s file in %s", suffix, dir)
	}
	return err
}

// compareObjects opens every object of the warehouse with its key: it must hold only persons that were loaded, and no card number.
func (r *run) compareObjects(ctx context.Context, warehouse *loaded) error {
	text, err := os.ReadFile(r.path("warehouse", "warehouse", "identity.txt"))
	if err != nil {
		return err
	}
	ids, err := export.ParseIdentities(text)
	if err != nil {
		return err
	}
	objects, rows := 0, newLoaded()
	for o := range r.bucket.client.ListObjects(ctx, bucketName, minio.ListObjectsOptions{Prefix: "warehouse/events/", Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			return o.Err
		}
		objects++
		if err := r.openObject(ctx, o.Key, o.VersionID, ids, rows); err != nil {
			return fmt.Errorf("%s: %w", o.Key, err)
		}
	}
	if objects == 0 || rows.Rows != warehouse.Rows || !maps.Equal(rows.persons, warehouse.persons) {
		return fmt.Errorf("the %d objects hold %d rows of %d customers, the folder %d of %d", objects, rows.Rows, rows.Customers, warehouse.Rows, warehouse.Customers)
	}
	fmt.Printf("all %d objects of the warehouse hold these customers only, and no card number\n", objects)
	return nil
}

func (r *run) openObject(ctx context.Context, key, version string, ids export.Identities, rows *loaded) error {
	o, err := r.bucket.client.GetObject(ctx, bucketName, key, minio.GetObjectOptions{VersionID: version})
	if err != nil {
		return err
	}
	defer o.Close()
	plain, err := export.Unseal(o, ids)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(plain)
	if err != nil {
		return err
	}
	if bytes.Contains(b, []byte("cdnow-")) {
		return errors.New("holds a card number or an event id of the shop")
	}
	return export.DecodeRows(bytes.NewReader(b), int64(len(b)), func(page []pseudonymize.Row) error { return addRows(page, rows) })
}

// verify checks the streams and their objects in a copy of the bucket, as an auditor would.
func (r *run) verify(ctx context.Context) error {
	dir := r.path("bucket-copy")
	for o := range r.bucket.client.ListObjects(ctx, bucketName, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			return o.Err
		}
		if err := r.bucket.client.FGetObject(ctx, bucketName, o.Key, filepath.Join(dir, o.Key), minio.GetObjectOptions{}); err != nil {
			return err
		}
	}
	for _, d := range destinations {
		out, err := r.output(ctx, filepath.Join(r.bin, "octroi"), "verify", "stream", dir, "--destination", d.name, "--key", r.path("dpo", "signing.key.pub"))
		if err != nil {
			return err
		}
		fmt.Println(out)
	}
	return nil
}
