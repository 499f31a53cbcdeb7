package load

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/octroi/octroi/export"
	"github.com/octroi/octroi/pseudonymize"
)

// outputFile is one batch's file on its way into the folder:
// <folder>/events/dt=YYYY-MM-DD/hour=HH/<batch>.<format>, the partition being that of the object.
type outputFile struct {
	folder string
	path   string // below folder
	file   *os.File
	buffer *bufio.Writer
	hash   hash.Hash
	rows   rowSink
}

// rowSink writes rows in one format.
type rowSink interface {
	Write(rows []pseudonymize.Row) error
	Close() error
}

// temporaryPrefix marks unfinished files; DuckDB and Spark pass over names with a dot first.
const temporaryPrefix = ".octroi-"

func newOutputFile(folder, format string, b *export.Batch) (*outputFile, error) {
	date, hour := b.Partition()
	o := &outputFile{folder: folder, path: filepath.Join("events", "dt="+date, "hour="+hour, b.ID+"."+format), hash: sha256.New()}
	partition := filepath.Join(folder, filepath.Dir(o.path))
	if err := makeFolders(folder, filepath.Dir(o.path)); err != nil {
		return nil, fmt.Errorf("creating partition: %w", err)
	}
	// The name is the batch's own, so that what a crash left is overwritten and not kept beside.
	f, err := os.OpenFile(filepath.Join(partition, temporaryPrefix+b.ID), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return nil, fmt.Errorf("creating output: %w", err)
	}
	o.file = f
	o.buffer = bufio.NewWriterSize(io.MultiWriter(f, o.hash), 256<<10)
	if format == Parquet {
		o.rows = export.NewRowWriter(o.buffer)
	} else {
		o.rows = &lineWriter{w: o.buffer}
	}
	return o, nil
}

func (o *outputFile) write(rows []pseudonymize.Row) error {
	if err := o.rows.Write(rows); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}

// finish makes the file durable under its name. A batch without new rows has none, and one that a crash left is removed: its rows came
// with another batch meanwhile.
func (o *outputFile) finish(rows int) (path, sum string, err error) {
	name := filepath.Join(o.folder, o.path)
	if rows == 0 {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", "", fmt.Errorf("removing output: %w", err)
		}
		return "", "", syncFolder(filepath.Dir(name))
	}
	err = errors.Join(o.rows.Close(), o.buffer.Flush())
	if err == nil {
		err = o.file.Sync()
	}
	if err == nil {
		err = os.Rename(o.file.Name(), name)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(name))
	}
	if err != nil {
		return "", "", fmt.Errorf("writing output: %w", err)
	}
	return filepath.ToSlash(o.path), hex.EncodeToString(o.hash.Sum(nil)), nil
}

// discard closes the file, and removes it where it has not got its name.
func (o *outputFile) discard() {
	o.file.Close()
	os.Remove(o.file.Name())
}

// makeFolders makes folders below root one by one and syncs each into the one above.
func makeFolders(root, below string) error {
	at := root
	for part := range strings.SplitSeq(filepath.ToSlash(below), "/") {
		parent := at
		at = filepath.Join(at, part)
		err := os.Mkdir(at, 0o750)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := syncFolder(parent); err != nil {
			return err
		}
	}
	return nil
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// lineWriter writes NDJSON: the columns of the Parquet schema, those without a value left out.
type lineWriter struct {
	w    io.Writer
	line bytes.Buffer
}

type jsonRow struct {
	EventID    string            `json:"event_id"`
	Time       string            `json:"time"`
	ReceivedAt string            `json:"received_at"`
	Device     string            `json:"device,omitempty"`
	Person     string            `json:"person,omitempty"`
	Type       string            `json:"type"`
	Channel    string            `json:"channel"`
	Stage      string            `json:"stage"`
	Site       string            `json:"site"`
	Grants     []jsonGrant       `json:"grants"`
	Policy     string            `json:"policy"`
	Campaign   string            `json:"campaign,omitempty"`
	Source     string            `json:"source,omitempty"`
	Medium     string            `json:"medium,omitempty"`
	ValueMinor *int64            `json:"value_minor,omitempty"`
	Currency   string            `json:"currency,omitempty"`
	Properties map[string]string `json:"properties"`
}

type jsonGrant struct {
	Purpose string `json:"purpose"`
	Version int    `json:"version"`
	Basis   string `json:"basis"`
	Ref     string `json:"ref,omitempty"`
}

const jsonTime = "2006-01-02T15:04:05.000Z"

func (l *lineWriter) Write(rows []pseudonymize.Row) error {
	l.line.Reset()
	encoder := json.NewEncoder(&l.line)
	encoder.SetEscapeHTML(false)
	for i := range rows {
		if err := encoder.Encode(lineOf(&rows[i])); err != nil {
			return err
		}
	}
	_, err := l.w.Write(l.line.Bytes())
	return err
}

func (l *lineWriter) Close() error { return nil }

func lineOf(r *pseudonymize.Row) jsonRow {
	at := func(t time.Time) string { return t.UTC().Format(jsonTime) }
	text := func(p *[16]byte) string {
		if p == nil {
			return ""
		}
		return hex.EncodeToString(p[:])
	}
	j := jsonRow{
		EventID: text(&r.EventID), Time: at(r.Time), ReceivedAt: at(r.ReceivedAt), Device: text(r.Device), Person: text(r.Person),
		Type: r.Type, Channel: r.Channel, Stage: r.Stage, Site: r.Site, Grants: make([]jsonGrant, len(r.Grants)),
		Policy: hex.EncodeToString(r.Policy[:]), Campaign: r.Campaign, Source: r.Source, Medium: r.Medium,
		Currency: r.Value.Currency, Properties: r.Properties,
	}
	if j.Properties == nil {
		j.Properties = map[string]string{}
	}
	if r.Value.Currency != "" {
		j.ValueMinor = &r.Value.Minor
	}
	for i := range r.Grants {
		g := &r.Grants[i]
		j.Grants[i] = jsonGrant{Purpose: g.Purpose, Version: g.Version, Basis: string(g.Basis)}
		if g.Ref != [16]byte{} {
			j.Grants[i].Ref = hex.EncodeToString(g.Ref[:])
		}
	}
	return j
}
