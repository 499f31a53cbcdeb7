package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// tallied is what deploy/real/tally counts from the text file.
type tallied struct {
	Rows      int            `json:"rows"`
	Customers int            `json:"customers"`
	Cents     map[string]int `json:"cents"`
}

// compare holds what was loaded, and what stands in the bucket, against the text file.
func (r *run) compare(ctx context.Context) error {
	want, err := r.tally(ctx)
	if err != nil {
		return err
	}
	r.held = holdings{}
	if err := r.readFolders(r.held); err != nil {
		return err
	}
	warehouse, accounting := r.held["folder of warehouse"], r.held["folder of accounting"]
	fmt.Printf("warehouse:  %6d rows of %6d customers (text file: %d of %d)\n", warehouse.Rows, warehouse.Customers, want["consenting"].Rows, want["consenting"].Customers)
	fmt.Printf("accounting: %6d rows of %6d customers (text file: %d of %d)\n", accounting.Rows, accounting.Customers, want["all"].Rows, want["all"].Customers)
	err = errors.Join(
		equal("warehouse", warehouse.tallied, want["consenting"]), equal("accounting", accounting.tallied, want["all"]),
		r.sameHistories("warehouse", warehouse, true), r.sameHistories("accounting", accounting, false),
		disjoint("event ids", warehouse.rows, accounting.rows), disjoint("pseudonyms", warehouse.persons, accounting.persons),
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

// tally asks the separate program, which leaves out the customers of these numbers.
func (r *run) tally(ctx context.Context, without ...string) (map[string]tallied, error) {
	out, err := r.output(ctx, "go", "run", "./deploy/real/tally", "--file", r.data, "--shift", fmt.Sprint(r.shift), "--without", strings.Join(without, ","))
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

func disjoint[V any](what string, a, b map[string]V) error {
	if len(a) == 0 || len(b) == 0 {
		return fmt.Errorf("no %s to compare", what)
	}
	for x := range a {
		if _, shared := b[x]; shared {
			return fmt.Errorf("the two destinations share %s", what)
		}
	}
	return nil
}

// sameHistories compares the purchase histories as sets: every pseudonym's is one customer's, and every customer's is there. So no other
// customer's purchase is in it, under whatever name.
func (r *run) sameHistories(name string, l *loaded, consentingOnly bool) error {
	bag := map[string]int{}
	for _, h := range r.histories(consentingOnly) {
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

// histories are the purchases in the text file by card, each as "date cents".
func (r *run) histories(consentingOnly bool) map[string][]string {
	all := map[string][]string{}
	for _, s := range r.sales {
		if !consentingOnly || s.customer%3 != 0 {
			cents := strings.Replace(s.amount, ".", "", 1)
			all[s.card] = append(all[s.card], s.time.Format(time.DateOnly)+" "+strings.TrimLeft(cents, "0"))
		}
	}
	return all
}

// historyKey is the same for the same purchases in any order.
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

// compareObjects opens every object of the warehouse with its key: it must hold only persons that were loaded, and no card number.
func (r *run) compareObjects(ctx context.Context, warehouse *loaded) error {
	rows := newLoaded()
	versions, err := r.readObjects(ctx, "warehouse", r.path("warehouse", "warehouse", "identity.txt"), rows)
	if err != nil {
		return err
	}
	if len(versions) == 0 || rows.Rows != warehouse.Rows || !maps.Equal(rows.persons, warehouse.persons) {
		return fmt.Errorf("the %d objects hold %d rows of %d customers, the folder %d of %d", len(versions), rows.Rows, rows.Customers, warehouse.Rows, warehouse.Customers)
	}
	fmt.Printf("all %d objects of the warehouse hold these customers only, and no card number\n", len(versions))
	return nil
}

// verify checks the streams and their objects in a copy of the bucket, as an auditor would.
func (r *run) verify(ctx context.Context) error {
	dir := r.path("bucket-copy")
	if err := os.RemoveAll(dir); err != nil { // of the time before
		return err
	}
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
