package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
)

// holdings are what each place holds, by names such as "folder of warehouse".
type holdings map[string]*loaded

// loaded is what a place holds of a destination.
type loaded struct {
	tallied
	rows                    map[string]row // by event id
	persons, refs, receipts map[string]bool
	histories               map[string][]string // person → "date cents"
}

func newLoaded() *loaded {
	return &loaded{
		tallied: tallied{Cents: map[string]int{}}, rows: map[string]row{}, persons: map[string]bool{}, refs: map[string]bool{},
		receipts: map[string]bool{}, histories: map[string][]string{},
	}
}

// row is a loaded row, as far as it is compared.
type row struct {
	id, person, receipt string
	refs                []string
	time                time.Time
	cents               int64
	text                [sha256.Size]byte // of all its columns
}

func (l *loaded) add(r row) error {
	if _, twice := l.rows[r.id]; twice {
		return fmt.Errorf("event %s is there twice", r.id)
	}
	if r.person == "" {
		return fmt.Errorf("event %s has no person", r.id)
	}
	l.rows[r.id] = r
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

// readFolders reads what the loaders wrote.
func (r *run) readFolders(into holdings) error {
	warehouse, accounting := newLoaded(), newLoaded()
	into["folder of warehouse"], into["folder of accounting"] = warehouse, accounting
	return errors.Join(readParquet(r.path("loaded", "warehouse"), warehouse), readNDJSON(r.path("loaded", "accounting"), accounting))
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
		text, err := json.Marshal(x)
		if err != nil {
			return err
		}
		r := row{
			id: hex.EncodeToString(x.EventID[:]), receipt: x.ReceivedAt.Format(time.RFC3339Nano), time: x.Time, cents: x.Value.Minor,
			text: sha256.Sum256(text),
		}
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
			if err := addLine(lines.Bytes(), l); err != nil {
				return err
			}
		}
		return lines.Err()
	})
}

func addLine(line []byte, l *loaded) error {
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
	if err := json.Unmarshal(line, &x); err != nil {
		return err
	}
	r := row{
		id: x.EventID, person: x.Person, receipt: x.ReceivedAt.Format(time.RFC3339Nano), time: x.Time, cents: x.ValueMinor, text: sha256.Sum256(line),
	}
	for _, g := range x.Grants {
		r.refs = append(r.refs, g.Ref)
	}
	return l.add(r)
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

// versions are the versions of objects, by key and version id.
type versions map[string]bool

// readAll reads what stands in the bucket, with the custodian's identity, and what the lake has after a load. The folders are read apart.
func (r *run) readAll(ctx context.Context, into holdings) (map[string]versions, error) {
	all := map[string]versions{}
	for _, d := range destinations {
		held := newLoaded()
		v, err := r.readObjects(ctx, d.name, r.path("custodian", "identity.txt"), held)
		if err != nil {
			return nil, err
		}
		all[d.name], into["objects of "+d.name] = v, held
	}
	return all, r.lake.load(ctx, into)
}

// readObjects opens every version of every object of a destination with the identity in a file: what was superseded would be there twice. It
// answers the versions that it read; a delete marker is an error.
func (r *run) readObjects(ctx context.Context, destination, identity string, into *loaded) (versions, error) {
	text, err := os.ReadFile(identity)
	if err != nil {
		return nil, err
	}
	ids, err := export.ParseIdentities(text)
	if err != nil {
		return nil, err
	}
	found := versions{}
	for o := range r.bucket.client.ListObjects(ctx, bucketName, minio.ListObjectsOptions{Prefix: destination + "/events/", Recursive: true, WithVersions: true}) {
		switch {
		case o.Err != nil:
			return nil, o.Err
		case o.IsDeleteMarker:
			return nil, fmt.Errorf("%s has a delete marker", o.Key)
		}
		found[o.Key+" "+o.VersionID] = true
		if err := r.openObject(ctx, o, ids, into); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Key, err)
		}
	}
	return found, nil
}

func (r *run) openObject(ctx context.Context, listed minio.ObjectInfo, ids export.Identities, rows *loaded) error {
	o, err := r.bucket.client.GetObject(ctx, bucketName, listed.Key, minio.GetObjectOptions{VersionID: listed.VersionID})
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
