package load

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/octroi/octroi/pseudonymize"
)

// Sleep is how a Loader waits; SetSleep replaces it.
var Sleep = sleep

func SetSleep(l *Loader, f func(ctx context.Context, d time.Duration) error) { l.sleep = f }

// SetMortal has at called before everything that changes the folder, with the name of what is about to happen.
func SetMortal(o *Options, at func(what string)) { o.files = mortalFiles{disk{}, at} }

type mortalFiles struct {
	files
	at func(what string)
}

func (m mortalFiles) Create(path string) (file, error) {
	m.at("create")
	f, err := m.files.Create(path)
	return mortalFile{f, m.at}, err
}

func (m mortalFiles) Rename(from, to string) error {
	m.at("rename to " + kind(to))
	return m.files.Rename(from, to)
}

func (m mortalFiles) Remove(path string) error {
	m.at("remove from " + kind(path))
	return m.files.Remove(path)
}

// kind is the part of the folder that a file is in.
func kind(path string) string {
	for _, name := range []string{"staged", "restricted"} {
		if strings.Contains(filepath.ToSlash(path), ownFolder+"/"+name) {
			return name
		}
	}
	return "events"
}

type mortalFile struct {
	file
	at func(what string)
}

func (m mortalFile) Write(b []byte) (int, error) {
	n, err := m.file.Write(b[:len(b)/2])
	if err != nil {
		return n, err
	}
	m.at("write the other half")
	rest, err := m.file.Write(b[n:])
	return n + rest, err
}

func (m mortalFile) Sync() error {
	m.at("sync")
	return m.file.Sync()
}

// ParseLines reads NDJSON as a folder's files are read back; WriteLines writes it.
func ParseLines(r io.Reader, fn func([]pseudonymize.Row) error) error { return readLines(r, fn) }

func WriteLines(w io.Writer, rows []pseudonymize.Row) error {
	return (&lineWriter{w: w}).Write(rows)
}
