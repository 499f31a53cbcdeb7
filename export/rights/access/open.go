package access

import (
	"archive/zip"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

const (
	// maxFileBytes bounds one file of a package; more is no package of ours.
	maxFileBytes = 4 << 30
	// directoryBytes bounds the zip's directory: it has six entries.
	directoryBytes = 4 << 10
	endBytes       = 22 // end of the directory, without a comment
)

// File is one file of a package, to be read to its end and closed.
type File struct {
	io.ReadCloser
	Size int64
	Type string // media type
}

// files lists the files of a package with their types.
func files() map[string]string {
	return map[string]string{
		PageFile: "text/html; charset=utf-8", DataFile: "application/json", SchemaFile: "application/schema+json",
		EventsFile: "text/csv; charset=utf-8", ConsentsFile: "text/csv; charset=utf-8",
		LinksFile: "text/csv; charset=utf-8",
	}
}

// Open opens one file of a package of that size. It believes nothing of the package: not the number and size of its files, nor their names.
// ErrName where a package has no such file; ErrPackage where this is none, here or from Read.
func Open(p io.ReaderAt, size int64, name string) (*File, error) {
	kind, known := files()[name]
	if !known {
		return nil, fmt.Errorf("opening access package: %w", ErrName)
	}
	if err := checkDirectory(p, size); err != nil {
		return nil, err
	}
	z, err := zip.NewReader(p, size)
	if err != nil {
		return nil, fmt.Errorf("opening access package: %w", ErrPackage)
	}
	i := slices.IndexFunc(z.File, func(f *zip.File) bool { return f.Name == name })
	if i < 0 || z.File[i].UncompressedSize64 > maxFileBytes {
		return nil, fmt.Errorf("opening access package: %w", ErrPackage)
	}
	r, err := z.File[i].Open()
	if err != nil {
		return nil, fmt.Errorf("opening access package: %w", ErrPackage)
	}
	return &File{damaged{r}, int64(z.File[i].UncompressedSize64), kind}, nil
}

// checkDirectory bounds what archive/zip would hold of the directory: the end of it, as Write leaves it, tells where it begins.
func checkDirectory(p io.ReaderAt, size int64) error {
	end := make([]byte, endBytes)
	if size < endBytes {
		return fmt.Errorf("opening access package: %w", ErrPackage)
	}
	if _, err := p.ReadAt(end, size-endBytes); err != nil {
		return fmt.Errorf("opening access package: %w", err)
	}
	begin := int64(binary.LittleEndian.Uint32(end[16:]))
	if string(end[:4]) != "PK\x05\x06" || int(binary.LittleEndian.Uint16(end[10:])) != len(files()) ||
		begin < size-endBytes-directoryBytes || begin > size-endBytes {
		return fmt.Errorf("opening access package: %w", ErrPackage)
	}
	return nil
}

// damaged names what is wrong with a file. archive/zip ends it at its stated size, and checks its sum.
type damaged struct{ io.ReadCloser }

func (d damaged) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("reading access package: %w", ErrPackage)
	}
	return n, err
}
