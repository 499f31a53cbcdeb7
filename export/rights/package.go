package rights

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/octroi/octroi/consent/state"
	"github.com/octroi/octroi/export/rights/access"
	"github.com/octroi/octroi/export/rights/proof"
	"github.com/octroi/octroi/pseudonymize/subject"
)

// maxPackage bounds an access package, in bytes.
const maxPackage = 1 << 30

// Packages lie in a folder of their own, sealed under their request's slot, so that they end with it:
//
//	<request>.package   "OCTP" ‖ 0x01 ‖ part*
//	part                subject.Seal of packagePart bytes, of the last part of what is left; its row key is RowKey("q/package/", number (4))
//	<request>.partial   one that is being received
const (
	packageMagic = "OCTP\x01"
	packageTable = "q/package/"
	packagePart  = 1 << 20
	sealedPart   = packagePart + 1 + 12 + 16 // version, nonce, tag
)

func (r *Requests) packagePath(id, ext string) string {
	return filepath.Join(r.o.Packages, id+ext)
}

// receive takes an access package with the custodian's report. The same package again changes nothing.
func (r *Requests) receive(ctx context.Context, id, text string, body io.Reader) error {
	report, err := proof.VerifyCollected(text, r.o.Custodian)
	if err != nil {
		return unproven(err)
	}
	if !r.beginReceiving(id) {
		return fmt.Errorf("%w: another custodian sends a package", ErrReport)
	}
	defer r.endReceiving(id)
	q, err := r.request(id)
	if err != nil {
		return err
	}
	switch {
	case report.Request != id:
		return fmt.Errorf("%w: it is of another request", ErrReport)
	case q.Package != nil && q.Package.SHA256 == report.SHA256:
		return nil
	case q.State != InProgress || q.Step != collecting:
		return fmt.Errorf("%w: no package is awaited", ErrReport)
	case report.Sealed != q.Sealed:
		return fmt.Errorf("%w: sealed", ErrReport)
	case report.Size > maxPackage:
		return fmt.Errorf("%w: size", ErrReport)
	case report.Objects > q.Batches:
		return fmt.Errorf("%w: objects", ErrReport)
	}
	own, err := r.own(q)
	if err != nil {
		return err
	}
	if err := r.savePackage(own, &report, body); err != nil {
		return err
	}
	// Crash here: the file is there and the request does not say so. The custodian, which was not answered, sends it again.
	_, err = r.change(ctx, id, func(t *state.Txn, q *requestRow) error { return r.packaged(t, q, &report) })
	if errors.Is(err, ErrReport) { // it ended meanwhile
		return errors.Join(err, r.dropPackage(q))
	}
	if err == nil {
		r.stir()
	}
	return err
}

// beginReceiving is false while a package of the request is on its way: two would write one file.
func (r *Requests) beginReceiving(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.receiving[id] {
		return false
	}
	r.receiving[id] = true
	return true
}

func (r *Requests) endReceiving(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.receiving, id)
}

func (r *Requests) packaged(t *state.Txn, q *requestRow, report *proof.Collected) error {
	if q.Step != collecting {
		return fmt.Errorf("%w: no package is awaited", ErrReport)
	}
	q.Package = &packageRow{SHA256: report.SHA256, Size: report.Size, Sealed: report.Sealed, Until: r.now().Add(r.o.PackageKept)}
	q.Done = q.Batches
	leaf := proof.Leaf{Event: proof.EventPackaged, Actor: custodian, SHA256: report.SHA256, Counts: map[string]int{"objects": report.Objects}}
	if err := r.note(t, q, leaf); err != nil {
		return err
	}
	if err := q.move(complete); err != nil {
		return err
	}
	r.close(t, q)
	return r.note(t, q, proof.Leaf{Event: proof.EventCompleted, Actor: gateway})
}

// savePackage seals what it reads into the package's file, which is there only when it is whole and the bytes are those of the report.
func (r *Requests) savePackage(own subject.Subject, report *proof.Collected, body io.Reader) (err error) {
	partial := r.packagePath(report.Request, ".partial")
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("saving package: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(partial))
		}
	}()
	h := sha256.New()
	n, err := sealPackage(f, own, io.TeeReader(io.LimitReader(body, report.Size+1), h))
	if err != nil {
		return fmt.Errorf("saving package: %w", err)
	}
	if n != report.Size || hex.EncodeToString(h.Sum(nil)) != report.SHA256 {
		return fmt.Errorf("%w: the package has other bytes", ErrReport)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("saving package: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("saving package: %w", err)
	}
	if err := os.Rename(partial, r.packagePath(report.Request, ".package")); err != nil {
		return fmt.Errorf("saving package: %w", err)
	}
	return syncFolder(r.o.Packages)
}

func sealPackage(w io.Writer, own subject.Subject, body io.Reader) (n int64, err error) {
	if _, err := io.WriteString(w, packageMagic); err != nil {
		return 0, err
	}
	plain := make([]byte, packagePart)
	for part := uint32(0); ; part++ {
		read, err := io.ReadFull(body, plain)
		n += int64(read)
		if read > 0 {
			if _, err := w.Write(own.Seal(packageTable, partKey(own, part), plain[:read])); err != nil {
				return n, err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func partKey(own subject.Subject, part uint32) []byte {
	return own.RowKey(packageTable, binary.BigEndian.AppendUint32(nil, part))
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sealedPackage reads a package from its file. It is not safe for concurrent use: it remembers the last part.
type sealedPackage struct {
	file *os.File
	own  subject.Subject
	size int64
	part int64 // that is in plain; -1: none
	text []byte
}

// ReadAt implements io.ReaderAt.
func (p *sealedPackage) ReadAt(b []byte, at int64) (n int, err error) {
	for n < len(b) && at < p.size {
		if err := p.load(at / packagePart); err != nil {
			return n, err
		}
		c := copy(b[n:], p.text[at%packagePart:])
		n, at = n+c, at+int64(c)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (p *sealedPackage) load(part int64) error {
	if part == p.part {
		return nil
	}
	begin := part * packagePart
	sealed := make([]byte, min(packagePart, p.size-begin)+sealedPart-packagePart)
	if _, err := p.file.ReadAt(sealed, int64(len(packageMagic))+part*sealedPart); err != nil {
		return fmt.Errorf("reading package: %w", err)
	}
	text, err := p.own.Open(packageTable, partKey(p.own, uint32(part)), sealed)
	if err != nil {
		return fmt.Errorf("reading package: %w", err)
	}
	p.text, p.part = text, part
	return nil
}

// opened is a package, or a file of it, on its way to the person.
type opened struct {
	io.Reader
	size  int64
	media string
	name  string // for a download; empty: to be shown
	close func() error
}

// Close implements io.Closer: what was opened once is deleted.
func (o *opened) Close() error { return o.close() }

// openPackage opens a package the one time that it can be (rights.md D7). That it was opened is durable before the first byte leaves; a package
// that cannot be read is not taken for opened.
func (r *Requests) openPackage(ctx context.Context, id, actor, format string) (*opened, error) {
	q, err := r.request(id)
	if err != nil {
		return nil, err
	}
	if q.Right != proof.Access || q.Package == nil {
		return nil, ErrNotReady
	}
	out, err := r.readPackage(q, format)
	if err != nil {
		return nil, err
	}
	_, err = r.change(ctx, id, func(t *state.Txn, q *requestRow) error {
		if q.Package == nil || !q.Package.Opened.IsZero() || q.Package.Gone || !r.now().Before(q.Package.Until) {
			return ErrOpened
		}
		q.Package.Opened = r.now()
		return r.note(t, q, proof.Leaf{Event: proof.EventOpened, Actor: actor})
	})
	// Crash here: opened, and nobody saw it. The person asks again; that is better than a package that two may open.
	if err != nil {
		return nil, errors.Join(err, out.close())
	}
	file := out.close
	out.close = func() error {
		err := file()
		q.Package.Opened = r.now()
		return errors.Join(err, r.dropPackage(q))
	}
	return out, nil
}

func (r *Requests) readPackage(q *requestRow, format string) (*opened, error) {
	if !q.Package.Opened.IsZero() || q.Package.Gone || !r.now().Before(q.Package.Until) {
		return nil, ErrOpened
	}
	own, err := r.own(q)
	if errors.Is(err, subject.ErrShredded) {
		return nil, ErrOpened
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(r.packagePath(q.ID, ".package"))
	if err != nil {
		return nil, fmt.Errorf("opening package: %w", err)
	}
	p := &sealedPackage{file: f, own: own, size: q.Package.Size, part: -1}
	out, err := p.view(format, q.Package.Sealed)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return out, nil
}

// view is what a format shows. One that is sealed to the person's own key is whole or nothing.
func (p *sealedPackage) view(format string, sealed bool) (*opened, error) {
	if sealed {
		if format != "" && format != "age" {
			return nil, fmt.Errorf("%w: format is age: the package is sealed to the recipient that was given", ErrInput)
		}
		return &opened{io.NewSectionReader(p, 0, p.size), p.size, "application/octet-stream", "package.zip.age", p.file.Close}, nil
	}
	if format == "zip" {
		return &opened{io.NewSectionReader(p, 0, p.size), p.size, "application/zip", "package.zip", p.file.Close}, nil
	}
	name, known := map[string]string{"": access.PageFile, "html": access.PageFile, "json": access.DataFile, "csv": access.EventsFile}[format]
	if !known {
		return nil, fmt.Errorf("%w: format is html, json, csv or zip", ErrInput)
	}
	one, err := access.Open(p, p.size, name)
	if err != nil {
		return nil, err
	}
	out := &opened{one, one.Size, one.Type, name, func() error { return errors.Join(one.Close(), p.file.Close()) }}
	if name == access.PageFile {
		out.name = ""
	}
	return out, nil
}

// dropPackage deletes a package's file, which need not be there.
func (r *Requests) dropPackage(q *requestRow) error {
	if err := os.Remove(r.packagePath(q.ID, ".package")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deleting package: %w", err)
	}
	return nil
}

// sweepPackages deletes what nobody may open any more, and what a crash or a broken transfer left.
func (r *Requests) sweepPackages(ctx context.Context) error {
	files, err := os.ReadDir(r.o.Packages)
	if err != nil {
		return fmt.Errorf("listing packages: %w", err)
	}
	for _, f := range files {
		if err := r.sweepPackage(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func (r *Requests) sweepPackage(ctx context.Context, f fs.DirEntry) error {
	const receiving = time.Hour // longer than any transfer
	id, partial := strings.CutSuffix(f.Name(), ".partial")
	if partial {
		if info, err := f.Info(); err != nil || time.Since(info.ModTime()) < receiving {
			return nil // gone meanwhile, or still on its way
		}
		return os.Remove(r.packagePath(id, ".partial"))
	}
	id, ours := strings.CutSuffix(f.Name(), ".package")
	if !ours {
		return nil
	}
	q, err := r.request(id)
	if errors.Is(err, ErrNoRequest) {
		return nil // nobody's of ours: an operator put it there
	}
	if err != nil || q.Package == nil || q.Package.Opened.IsZero() && r.now().Before(q.Package.Until) {
		return err
	}
	if err := r.dropPackage(q); err != nil {
		return err
	}
	_, err = r.change(ctx, id, func(_ *state.Txn, q *requestRow) error { q.Package.Gone = true; return nil })
	return err
}
