package export

import (
	"io"

	"github.com/octroi/octroi/pseudonymize"
)

// EncodeRows writes rows as one Parquet file, zstd compressed, schema "octroi.events.v1" (see deploy/warehouse). It returns w's error.
func EncodeRows(w io.Writer, rows []pseudonymize.Row) error { panic("skeleton") }

// DecodeRows reads a Parquet file of EncodeRows, calling fn with slices of rows that are valid until it returns. A file of another
// schema, or damaged, is an error, never a panic.
func DecodeRows(r io.ReaderAt, size int64, fn func([]pseudonymize.Row) error) error {
	panic("skeleton")
}
